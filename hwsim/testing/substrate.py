"""The laws of a substrate: a field, its first derivatives, and how synapses turn signals into credit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate

from .draws import draw_block, normals
from .laws import blocks_close, close, demand, largest, run_laws

LANES, TIMES = 3, 4
ROUNDING = 1e-12
"""Relative, for what must agree up to the order of sums in float64."""
STEP = 1e-5
"""h of central differences, relative to the size of what moves."""
DIFFERENCE = 1e-7
"""Relative error allowed to central differences with `STEP`: h^2 F''' / 6 + rounding / h."""


@final
@dataclass(frozen=True, kw_only=True)
class _Point:
    """A substrate somewhere in the middle of its state space, all in float64."""

    substrate: Substrate
    seed: int
    size: float
    z: Float[Array, "B N"]
    x: Float[Array, "B M"]
    theta: Parameters

    @property
    def step(self) -> float:
        return STEP * self.size

    def normal(self, key: int, *leading: int) -> Float[Array, "*T B N"]:
        """A signal of size 1."""
        return normals(self.seed, key, *leading, *self.z.shape)

    def states(self, key: int, *leading: int) -> Float[Array, "*T B N"]:
        return self.size * self.normal(key, *leading)

    def direction(self, key: int) -> Parameters:
        """A random direction in parameter space."""
        return _direction(self.substrate, self.seed, key)


def check_substrate(make_substrate: Callable[[], Substrate], *, seed: int = 0, size: float = 1.0) -> None:
    """Hold a substrate to its contract, at one random point in float64 (v, a, post and d are random):

        says        units and inputs are positive whole numbers, ranges hold (lowest, highest), scale is a Scale or
                    None, rails are two [N] with low <= high or None
        tangent     J v = (F(z + h v) - F(z - h v)) / 2 h
        cotangent   <a, J v> = <J^T a, v>;     jacobian: J[b] v[b] = tangent, and jacobian_diagonal holds J[b]_ii
        leading     field, tangent, cotangent and jacobian_diagonal over leading axes are the stack of their slices
        credit      <credit(post), d> = d/ds <post, F(z, x; theta + s d)>, block by block; per_sample is that of each
                    sample alone; over leading axes it is the sum over time
        influence   for the blocks it speaks of, with G = sum_b (post gain) (x) pre: <G, credit(p)> =
                    <credit(post), credit(p)> for every p, which is G = credit where nothing is shared, and equality of
                    its shared part otherwise
        metric      S > 0 and J^T S = S J where `reciprocal`; None otherwise
        energy      (dE/dtheta(z + h v) - dE/dtheta(z - h v)) / 2 h = -credit(S v), where offered, and then S is too
        unshared    F(z, x; theta) = unshared().F(z, x; unshare(theta)), <g, unshare(d)> = <share(g), d>, and
                    share(unshared().credit) = credit, per sample as well; what is unshared has nothing left to unshare
        linear part M is [N] or [N, N]; J itself where J is the same at two states, unless None
        diffusion   B is [N, N] and finite, unless None
        engines     the same numbers from NumPy and (where it can be imported) torch to 1e-12; float32 in, float32 out
        stateless   the same call twice gives the same bits and leaves its arguments alone

    Args:
        make_substrate: makes the substrate, the same one each time. Its field must be smooth near the point drawn.
        seed: of the point. Parameters are drawn inside `ranges`.
        size: sd of the states drawn, state units: about that of a state in use, such as 0.1 for a circuit in volts.

    Raises:
        AssertionError: the first law that is broken, what it demands and what was found.

    Cost: milliseconds for N below 100.
    """
    substrate = make_substrate()
    demand(
        isinstance(substrate.units, int) and substrate.units > 0 and substrate.inputs > 0,
        "a substrate has whole numbers of units and inputs",
        "units > 0 and inputs > 0",
        f"{substrate.units!r} and {substrate.inputs!r}",
    )
    ranges = _said(substrate)
    theta = {
        name: draw_block(seed, 10 + index, shape, ranges.get(name, (-np.inf, np.inf)))
        for index, (name, shape) in enumerate(substrate.shapes().items())
    }
    point = _Point(
        substrate=substrate,
        seed=seed,
        size=size,
        z=size * normals(seed, 1, LANES, substrate.units),
        x=normals(seed, 2, LANES, substrate.inputs),
        theta=Parameters(theta),
    )
    derivatives = (_field, _tangent, _cotangent, _jacobian, _credit, _per_sample, _credit_over_time, _influence)
    physics = (_metric, _energy, _unshared, _linear_part, _diffusion)
    run_laws("check_substrate", (*derivatives, *physics, _stateless, _single_precision, _torch), point)
    again = make_substrate().field(point.z, point.x, point.theta)
    close("every substrate that is made is the same", again, substrate.field(point.z, point.x, point.theta))


def _said(substrate: Substrate) -> Mapping[str, tuple[float, float]]:
    scale, rails = substrate.scale, substrate.rails
    demand(scale is None or isinstance(scale, Scale), "scale is a Scale or None", "either", type(scale).__name__)
    if rails is not None:
        found, law = [list(np.shape(rail)) for rail in rails], "rails are two [N] with low <= high"
        demand(found == 2 * [[substrate.units]], law, 2 * [[substrate.units]], found)
        demand(bool((rails[0] <= rails[1]).all()), law, "low <= high", "a unit where it is not")
    shapes, ranges = substrate.shapes(), substrate.ranges()
    demand(ranges.keys() <= shapes.keys(), "ranges speak of blocks", sorted(shapes), sorted(ranges))
    for name, (low, high) in ranges.items():
        demand(low <= high, f"the range of block {name} is (lowest, highest)", "low <= high", f"({low}, {high})")
    return ranges


def _direction(substrate: Substrate, seed: int, key: int) -> Parameters:
    return Parameters(
        {
            name: normals(seed, key + 100 * index, *shape)
            for index, (name, shape) in enumerate(substrate.shapes().items())
        }
    )


def _over_time(point: _Point, key: int) -> tuple[Array, Array]:
    """A signal and states [T, B, N]."""
    return point.normal(key, TIMES), point.states(key + 1, TIMES)


def _field(point: _Point) -> None:
    s, x, theta = point.substrate, point.x, point.theta
    law = "field is finite and [B, N]"
    found = s.field(point.z, x, theta)
    demand(found.shape == point.z.shape, law, f"shape {list(point.z.shape)}", f"shape {list(found.shape)}")
    demand(bool(np.isfinite(found).all()), law, "finite numbers", "some that are not")
    _, states = _over_time(point, 20)
    stacked = np.stack([s.field(z, x, theta) for z in states])
    close(
        "field over leading axes is the stack of its slices",
        s.field(states, x, theta),
        stacked,
        ROUNDING * largest(stacked),
    )


def _tangent(point: _Point) -> None:
    s, x, theta, v, h = point.substrate, point.x, point.theta, point.normal(3), point.step
    difference = (s.field(point.z + h * v, x, theta) - s.field(point.z - h * v, x, theta)) / (2 * h)
    law = "tangent J v is the directional derivative of the field (central differences)"
    close(law, s.tangent(v, point.z, x, theta), difference, DIFFERENCE * (1 + largest(difference)))
    vs, states = _over_time(point, 22)
    stacked = np.stack([s.tangent(one, z, x, theta) for one, z in zip(vs, states, strict=True)])
    close(
        "tangent over leading axes is the stack of its slices",
        s.tangent(vs, states, x, theta),
        stacked,
        ROUNDING * largest(stacked),
    )


def _cotangent(point: _Point) -> None:
    s, x, theta = point.substrate, point.x, point.theta
    a, v = point.normal(4), point.normal(3)
    # lane by lane, so that a mix-up of lanes cannot hide in the sum
    forward = np.sum(a * s.tangent(v, point.z, x, theta), axis=1)
    backward = np.sum(s.cotangent(a, point.z, x, theta) * v, axis=1)
    scale = float(np.linalg.norm(a) * np.linalg.norm(v))
    law = "cotangent is the transpose of tangent, <a, J v> = <J^T a, v>"
    close(law, backward, forward, ROUNDING * scale)
    signals, states = _over_time(point, 24)
    stacked = np.stack([s.cotangent(one, z, x, theta) for one, z in zip(signals, states, strict=True)])
    close(
        "cotangent over leading axes is the stack of its slices",
        s.cotangent(signals, states, x, theta),
        stacked,
        ROUNDING * largest(stacked),
    )


def _jacobian(point: _Point) -> None:
    s, v = point.substrate, point.normal(3)
    expected = s.tangent(v, point.z, point.x, point.theta)
    found = np.einsum("bij,bj->bi", s.jacobian(point.z, point.x, point.theta), v)
    close("jacobian holds the matrices of tangent, J[b] v[b]", found, expected, ROUNDING * largest(expected))
    _, states = _over_time(point, 28)
    diagonals = np.stack([np.linalg.diagonal(s.jacobian(z, point.x, point.theta)) for z in states])
    law = "jacobian_diagonal is the diagonal of jacobian, also over leading axes"
    near = ROUNDING * (1 + largest(diagonals))
    close(law, s.jacobian_diagonal(states[0], point.x, point.theta), diagonals[0], near)
    close(law, s.jacobian_diagonal(states, point.x, point.theta), diagonals, near)


def _credit(point: _Point) -> None:
    s, z, x, theta, post = point.substrate, point.z, point.x, point.theta, point.normal(5)
    credit = s.credit(post, z, x, theta)
    law = "credit has the analog blocks of theta and no others"
    demand(credit.keys() == theta.keys(), law, sorted(theta), sorted(credit))
    direction = point.direction(30)
    for name, block in theta.items():
        law = f"credit of block {name} has the block's shape"
        demand(credit[name].shape == block.shape, law, block.shape, credit[name].shape)
        sides = [
            float(np.sum(post * s.field(z, x, theta | {name: block + sign * STEP * direction[name]})))
            for sign in (1.0, -1.0)
        ]
        difference = (sides[0] - sides[1]) / (2 * STEP)
        size = float(np.linalg.norm(credit[name]) * np.linalg.norm(direction[name]))
        law = f"credit of block {name} is post^T dF/dtheta, <credit, d> = d/ds <post, F(theta + s d)>"
        close(law, np.sum(credit[name] * direction[name]), difference, DIFFERENCE * (1 + size + abs(difference)))
    withheld = s.credit(post, z, x, theta | {"readout.V": np.ones((2, s.units))})
    law = "credit has the analog blocks of theta and no others, readout blocks left out"
    demand(withheld.keys() == theta.keys(), law, sorted(theta), sorted(withheld))


def _per_sample(point: _Point) -> None:
    s, z, x, theta, post = point.substrate, point.z, point.x, point.theta, point.normal(5)
    each = s.credit(post, z, x, theta, per_sample=True)
    law = "credit with per_sample sums to the credit of the batch"
    blocks_close(law, each.map(lambda block: block.sum(axis=0)), s.credit(post, z, x, theta), ROUNDING)
    for lane in range(LANES):
        one = slice(lane, lane + 1)
        alone = s.credit(post[one], z[one], x[one], theta)
        law = f"credit with per_sample gives each sample its own, sample {lane}"
        blocks_close(law, Parameters({name: block[lane] for name, block in each.items()}), alone, ROUNDING)


def _credit_over_time(point: _Point) -> None:
    s, x, theta = point.substrate, point.x, point.theta
    posts, states = _over_time(point, 26)
    for per_sample in (False, True):
        parts = [s.credit(post, z, x, theta, per_sample=per_sample) for post, z in zip(posts, states, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        law = f"credit over leading axes is the sum over time of credits (per_sample={per_sample})"
        blocks_close(law, s.credit(posts, states, x, theta, per_sample=per_sample), total, 10 * ROUNDING)


def _influence(point: _Point) -> None:
    s, z, x, theta, post = point.substrate, point.z, point.x, point.theta, point.normal(5)
    factors = s.influence(z, x, theta)
    demand(factors.keys() <= theta.keys(), "influence speaks of analog blocks only", sorted(theta), sorted(factors))
    law = "influence speaks of all analog blocks but the unfactored ones"
    demand(factors.keys() == theta.keys() - s.unfactored, law, sorted(theta.keys() - s.unfactored), sorted(factors))
    credit = s.credit(post, z, x, theta)
    probes = [s.credit(point.normal(40 + k), point.states(50 + k), x, theta) for k in range(4)]
    for name, (gain, pre) in factors.items():
        law = f"influence of block {name} is (gain [B, N], pre [B, K])"
        fits = gain.shape == z.shape and pre.ndim == 2 and len(pre) == LANES
        demand(fits, law, f"{list(z.shape)} and [{LANES}, K]", f"{list(gain.shape)} and {list(pre.shape)}")
        full = (post * gain).T @ pre
        full = full[:, 0] if theta[name].ndim == pre.shape[1] == 1 else full
        if full.shape != theta[name].shape:
            continue  # shared in a way that only `credit` knows: the factors have another shape
        for probe in probes:
            size = float(np.linalg.norm(full) * np.linalg.norm(probe[name]))
            law = f"influence of block {name} reproduces credit, <(post gain) (x) pre, d> = <credit, d>"
            close(law, np.sum(full * probe[name]), np.sum(credit[name] * probe[name]), 10 * ROUNDING * size)


def _energy(point: _Point) -> None:
    s, z, x, theta, v, h = point.substrate, point.z, point.x, point.theta, point.normal(3), point.step
    ahead, behind = s.energy_credit(z + h * v, x, theta), s.energy_credit(z - h * v, x, theta)
    if ahead is None or behind is None:
        law = "energy_credit is offered at every state or at none"
        demand(ahead is None and behind is None, law, "None twice", "None once")
        return
    metric = s.metric(z, theta)
    demand(metric is not None, "an energy needs a metric, F = -S^-1 dE/dz", "a metric beside energy_credit", "none")
    difference, credit = (ahead - behind) / (2 * h), -s.credit(metric * v, z, x, theta)
    law = "energy_credit belongs to F = -dE/dz, through the metric: d/ds dE/dtheta(z + s v) = -credit(S v)"
    demand(difference.keys() == credit.keys(), law, sorted(credit), sorted(difference))
    for name, block in credit.items():
        close(f"{law}, block {name}", difference[name], block, DIFFERENCE * (1 + largest(block)))


def _metric(point: _Point) -> None:
    s, z, x, theta = point.substrate, point.z, point.x, point.theta
    metric = s.metric(z, theta)
    law = "reciprocal says whether metric is offered"
    demand(s.reciprocal == (metric is not None), law, f"reciprocal={metric is not None}", f"reciprocal={s.reciprocal}")
    if metric is None:
        return
    demand(metric.shape == z.shape, "metric is one number per unit", list(z.shape), list(metric.shape))
    demand(bool((metric > 0).all()), "metric is positive", "S > 0", f"a smallest entry of {metric.min():.3g}")
    jacobian = s.jacobian(z, x, theta)
    expected = metric[:, :, None] * jacobian
    close("metric obeys J^T S = S J", jacobian.mT * metric[:, None, :], expected, ROUNDING * (1 + largest(expected)))


def _unshared(point: _Point) -> None:
    s, z, x, theta, post = point.substrate, point.z, point.x, point.theta, point.normal(5)
    apart, there = s.unshared(), s.unshare(theta)
    law = "unshare gives parameters of unshared()"
    shapes = {name: tuple(shape) for name, shape in apart.shapes().items()}
    found = {name: tuple(block.shape) for name, block in there.items()}
    demand(found == shapes, law, shapes, found)
    law = "what is unshared has nothing left to unshare"
    demand(apart.unshared().shapes() == apart.shapes(), law, dict(apart.shapes()), dict(apart.unshared().shapes()))
    expected = s.field(z, x, theta)
    law = "unshared physics gives the same field, F(theta) = unshared().F(unshare(theta))"
    close(law, apart.field(z, x, there), expected, ROUNDING * (1 + largest(expected)))
    direction, gradients = point.direction(60), _direction(apart, point.seed, 70)
    shared, moved = s.share(gradients), s.unshare(direction)
    law = "share is the adjoint of unshare, <g, unshare(d)> = <share(g), d>"
    demand(shared.keys() == theta.keys(), law, sorted(theta), sorted(shared))
    for name in theta:
        size = float(np.linalg.norm(gradients[name]) * np.linalg.norm(moved[name]))
        back = np.sum(shared[name] * direction[name])
        close(f"{law}, block {name}", back, np.sum(gradients[name] * moved[name]), ROUNDING * size)
    for per_sample in (False, True):
        law = f"credit of unshared physics, shared, is credit (per_sample={per_sample})"
        found_credit = s.share(apart.credit(post, z, x, there, per_sample=per_sample))
        blocks_close(law, found_credit, s.credit(post, z, x, theta, per_sample=per_sample), 10 * ROUNDING)


def _linear_part(point: _Point) -> None:
    s, x, theta, n = point.substrate, point.x, point.theta, point.substrate.units
    if (part := s.linear_part(theta)) is None:
        return
    law = "linear_part is a diagonal [N] or a matrix [N, N] of finite numbers"
    demand(part.shape in {(n,), (n, n)}, law, f"[{n}] or [{n}, {n}]", list(part.shape))
    demand(part.dtype.kind == "f" and bool(np.isfinite(part).all()), law, "finite floats", str(part.dtype))
    here, there = (s.jacobian(z, x, theta) for z in (point.z, point.states(6)))
    near = ROUNDING * (1 + largest(here))
    if bool((np.abs(here - here[:1]) <= near).all() and (np.abs(there - here) <= near).all()):
        matrix = np.diag(part) if part.ndim == 1 else part
        close("linear_part of a linear substrate is its Jacobian", matrix, here[0], near)


def _diffusion(point: _Point) -> None:
    n = point.substrate.units
    if (found := point.substrate.diffusion(point.theta)) is not None:
        demand(found.shape == (n, n), "diffusion is [N, N]", f"[{n}, {n}]", list(found.shape))
        demand(bool(np.isfinite(found).all()), "diffusion is finite", "finite numbers", "some that are not")


def _answers(point: _Point, xp: ModuleType | None = None) -> Mapping[str, Array]:
    """Everything the substrate says at the point, in NumPy or, with torch as `xp`, in torch."""

    def give(array: Array) -> Array:
        return np.array(array) if xp is None else xp.from_numpy(np.array(array))

    s, z, x = point.substrate, give(point.z), give(point.x)
    theta, v, post = point.theta.map(give), give(point.normal(3)), give(point.normal(5))
    states, posts = give(point.states(27, TIMES)), give(point.normal(26, TIMES))
    answers: dict[str, Array] = {
        "field": s.field(z, x, theta),
        "tangent": s.tangent(v, z, x, theta),
        "cotangent": s.cotangent(v, z, x, theta),
        "jacobian": s.jacobian(z, x, theta),
        "jacobian_diagonal": s.jacobian_diagonal(states, x, theta),
    }
    answers |= {f"credit of block {name}": block for name, block in s.credit(posts, states, x, theta).items()}
    each = s.credit(post, z, x, theta, per_sample=True)
    answers |= {f"credit per sample of block {name}": block for name, block in each.items()}
    for name, (gain, pre) in s.influence(z, x, theta).items():
        answers |= {f"influence of block {name}, gain": gain, f"influence of block {name}, pre": pre}
    told = {"metric": s.metric(z, theta), "linear_part": s.linear_part(theta), "diffusion": s.diffusion(theta)}
    answers |= {name: array for name, array in told.items() if array is not None}
    if (energy := s.energy_credit(z, x, theta)) is not None:
        answers |= {f"energy_credit of block {name}": block for name, block in energy.items()}
    given = {"z": (z, point.z), "x": (x, point.x), "v": (v, point.normal(3)), "post": (post, point.normal(5))}
    given |= {name: (block, point.theta[name]) for name, block in theta.items()}
    for name, (after, before) in given.items():
        close(f"a substrate leaves its arguments alone, {name}", after, before)
    return answers


def _stateless(point: _Point) -> None:
    first, second = _answers(point), _answers(point)
    for name, answer in first.items():
        close(f"a substrate is stateless, {name} asked twice", second[name], answer)


def _single_precision(point: _Point) -> None:
    def give(array: Array) -> Array:
        return np.asarray(array, np.float32)

    s, theta = point.substrate, point.theta.map(give)
    z, x, v = give(point.z), give(point.x), give(point.normal(3))
    for name, found, expected in (
        ("field", s.field(z, x, theta), s.field(point.z, point.x, point.theta)),
        ("tangent", s.tangent(v, z, x, theta), s.tangent(point.normal(3), point.z, point.x, point.theta)),
        ("cotangent", s.cotangent(v, z, x, theta), s.cotangent(point.normal(3), point.z, point.x, point.theta)),
    ):
        law = f"{name} keeps float32"
        demand(found.dtype == np.float32, law, "float32 from float32", str(found.dtype))
        close(law, found, expected, 1e-4 * (1 + largest(expected)))


def _torch(point: _Point) -> None:
    try:
        import torch
    except ImportError:
        return  # the other laws hold without it
    for (name, expected), found in zip(_answers(point).items(), _answers(point, torch).values(), strict=True):
        law = f"NumPy and torch agree, {name}"
        demand(isinstance(found, torch.Tensor), law, "a tensor from tensors", type(found).__name__)
        close(law, found.detach().numpy(), expected, ROUNDING * (1 + largest(expected)))
