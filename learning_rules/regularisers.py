"""Rules that know no loss and keep the network fit for settling. Add one to a rule that learns: `EP() + 10 * rule`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.substrate import Synapses
from hwsim.contracts.task import Batch, Task

from .checks import positive


@dataclass(frozen=True, kw_only=True)
class Descent:
    """What a regulariser found out.

    Args:
        gradients: dR/dtheta at fixed states, analog blocks.
        cost: on top of the free phase.
        diagnostics: as in `Estimate`.
    """

    gradients: Parameters
    cost: Cost = Cost()
    diagnostics: Mapping[str, float] = field(default_factory=dict)


class Regulariser(LearningRule):
    """Descends a penalty R of the settled network, R a mean over samples that each docstring defines.

    The gradient is taken with all states that were read held fixed: that makes it local, and a descent direction of R
    rather than its whole gradient, since the states depend on theta as well. A regulariser says nothing about the
    readout, and its loss is NaN.
    """

    @abstractmethod
    def descent(self, device: Device, theta: Parameters, batch: Batch, free: Relaxation, noise: NoisePath) -> Descent:
        """dR/dtheta at fixed states. Arguments as in `estimate`."""

    @final
    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        found = self.descent(device, theta, batch, free, noise)
        return Estimate(
            gradients=found.gradients | theta.readout.zeros(),
            loss=math.nan,
            cost=found.cost,
            diagnostics=found.diagnostics,
        )


@final
@dataclass(frozen=True, kw_only=True)
class JacobianRegularisation(Regulariser):
    """Keep the Jacobian small, measured along one random direction v of length 1 per sample:

        R         = mean_b relu(|u_b|^2 - target),    u = leak v + J(z_T) v,    E_v |u|^2 = |leak + J|_F^2 / N
        dR/dtheta = mean_b 2 [credit(u, z_T + s v) - credit(u, z_T - s v)] / (2 s)     over the samples above target

    J v is measured by one step of two twins from z_T +- s v under the same noise, `[F(z_T + s v) - F(z_T - s v)] / 2 s`
    up to O(s^2), and the gradient at fixed states is exact for what was measured.

    Why the leak: the network settles at a fixed point of the map `f(z) = z + F(z) / leak`, whose Jacobian, times the
    leak, is `leak + J` (W r' in a leaky network). This is the Jacobian of a deep equilibrium model, and where it is
    small the network contracts. With `leak=0` the field's own J is made small instead, which makes a network *slow*:
    its steps 1 + eps J then approach 1. With `leak = 1 / eps` it is the Jacobian of a step, over eps.

    Args:
        target: set-point of |u|^2, (1 / time constant)^2; 0 always acts.
        leak: decay rate of an uncoupled unit, 1 / time constant.
        separation: s, Euclidean distance of a twin from z_T, state units.

    Diagnostics: `jacobian`, mean |u|^2.

    Raises:
        InputError: separation not positive, target or leak negative.

    Source: Bai, Koltun and Kolter, arXiv:2106.14342, there with normal v, autograd and the whole gradient. Cost: 2
    settles of one step per sample.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    target: float = 0.0
    leak: float = 1.0
    separation: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "separation", self.separation)
        _at_least_zero(self, "target", self.target)
        _at_least_zero(self, "leak", self.leak)

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.TWINS, Capability.LOAD_STATE}))

    def descent(self, device: Device, theta: Parameters, batch: Batch, free: Relaxation, noise: NoisePath) -> Descent:
        z = free.final
        v = unit_vectors(z, batch, noise)
        response, cost = _response(device, batch, z, v, self.separation, noise)
        u = self.leak * v + response
        post, size = _gated(u, self.target)
        gradients = credit_along(device.synapses, 2.0 * post, v, z, batch, theta, self.separation)
        return Descent(gradients=gradients, cost=cost, diagnostics={"jacobian": size})


@final
@dataclass(frozen=True, kw_only=True)
class SymmetryHomeostasis(Regulariser):
    """Keep J symmetric, so that the natural response of the network is the transposed one that equilibrium propagation
    needs, measured along one random direction v of length 1 per sample:

        R         = mean_b relu(|q_b|^2 / 2 - target),    q = J v - J^T v,    E_v |q|^2 / 2 = |J - J^T|_F^2 / (2 N)
        dR/dtheta = mean_b [d_v credit(q, z_T) - d_q credit(v, z_T)],    d_w credit(p, z) = p^T (dJ/dtheta) w

    over the samples above target. Its mean over v is that of the paper's `|J v|^2 - v^T J J v` (over N), of which a
    single draw can be negative. J v is measured as in `JacobianRegularisation`, J^T v by one step of the couplings
    driven backwards. d_v credit is `[credit(q, z + s v) - credit(q, z - s v)] / 2 s`, and d_q credit the same along the
    direction of q, times its length: no second derivative of the field is needed.

    A q within the rounding of the two reads that it is made of counts as zero: J is symmetric as far as can be told.
    A leaky network with symmetric W is not symmetric in this sense (J = -1 + W r'), unless its gains are alike.

    Args:
        target: set-point of |q|^2 / 2, (1 / time constant)^2; 0 always acts.
        separation: s, Euclidean distance of a twin from z_T, state units. Bias O(s^2).

    Diagnostics: `asymmetry`, mean |q|^2 / 2.

    Raises:
        InputError: separation not positive, target negative.
        CapabilityError: from `estimate`, where `relax_transpose` drives a feedback array, whose response is not J^T v.

    Source: Laborieux and Zenke, arXiv:2309.02214. Cost: 4 settles of one step per sample.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    target: float = 0.0
    separation: float = 0.1

    def __post_init__(self) -> None:
        positive(self, "separation", self.separation)
        _at_least_zero(self, "target", self.target)

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.TWINS, Capability.LOAD_STATE, Capability.TRANSPOSE}))

    def descent(self, device: Device, theta: Parameters, batch: Batch, free: Relaxation, noise: NoisePath) -> Descent:
        if device.spec.feedback:
            raise CapabilityError(
                f"SymmetryHomeostasis compares J with the couplings driven backwards; this device drives the feedback "
                f"array {sorted(device.spec.feedback)} instead: align that array with the couplings"
            )
        z = free.final
        v = unit_vectors(z, batch, noise)
        forwards, cost = _response(device, batch, z, v, self.separation, noise)
        backwards, more = _response(device, batch, z, v, self.separation, noise, transposed=True)
        q = _above_rounding(forwards - backwards, z, self.separation, device.spec.step_size)
        post, size = _gated(q, 2.0 * self.target)
        synapses = device.synapses
        gradients = credit_along(synapses, post, v, z, batch, theta, self.separation)
        direction, length = _unit(post)  # the length holds the gate and the mean as well
        gradients = gradients - credit_along(synapses, v * length, direction, z, batch, theta, self.separation)
        return Descent(gradients=gradients, cost=cost + more, diagnostics={"asymmetry": size / 2.0})


@final
@dataclass(frozen=True, kw_only=True)
class ResidualRegulariser(Regulariser):
    """Keep the network settled by the time it is read:

        R         = mean_b relu(|F_b|^2 / N - target^2),    F = (z_T - z_{T-1}) / eps = F(z_{T-1})
        dR/dtheta = mean_b (2 / N) credit(F, z_{T-1})       over the samples above target

    F is read off the recorded free phase, and the gradient at fixed states is exact for it. Holding the state fixed, it
    moves the equilibrium to where the state is rather than the state to the equilibrium. Alone it lowers the residual
    all the same; beside a rule that drives a network to its edge, a weight that is too small may leave the residual
    larger than none at all, and the contraction homeostat is the better means. It needs no probe, but it
    sees two reads in a difference over eps: noise of the device adds to R, and to the gradient only where it is in
    z_{T-1} as well.

    Args:
        target: set-point of the rms residual of a sample, state units per time constant; 0 always acts.

    Diagnostics: `residual_rms`, the root of the mean |F|^2 / N, state units per time constant.

    Raises:
        InputError: target negative; and from `estimate`, a device of horizon 0.

    Cost: nothing beyond the recorded free phase.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    target: float = 0.0

    def __post_init__(self) -> None:
        _at_least_zero(self, "target", self.target)

    @property
    def needs(self) -> Needs:
        return Needs(record=1)

    def descent(self, device: Device, theta: Parameters, batch: Batch, free: Relaxation, noise: NoisePath) -> Descent:
        before, after = free.recorded[-2], free.recorded[-1]
        moving = (after - before) / device.spec.step_size
        units = moving.shape[1]
        post, size = _gated(moving, self.target**2 * units)
        gradients = device.synapses.credit((2.0 / units) * post, before, batch.inputs, theta)
        return Descent(gradients=gradients, diagnostics={"residual_rms": math.sqrt(size / units)})


def unit_vectors(z: Float[Array, "B N"], batch: Batch, noise: NoisePath) -> Float[Array, "B N"]:
    """A direction of length 1 for every sample, uniform on the sphere and part of the sample's own noise.

    The compiled kernel draws it: the reference `NoisePath.normals` took a tenth of a training step.
    """
    from hwsim.kernels import draw_normals

    drawn = draw_normals(replace(noise, coarse=1), Stream.PROBE, np.asarray(batch.ids), units=z.shape[1])[0]
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return namespace(z).asarray(unit, dtype=z.dtype, device=z.device)


def credit_along(
    synapses: Synapses,
    post: Float[Array, "*T B N"],
    direction: Float[Array, "*T B N"],
    z: Float[Array, "*#T B N"],
    batch: Batch,
    theta: Parameters,
    length: float,
) -> Parameters:
    """The change of a credit along a direction w, `[credit(p, z + s w) - credit(p, z - s w)] / 2 s`.

    This is `p^T (dJ/dtheta) w` up to O(s^2), the gradient of `p^T J w`: a post-synaptic signal times a pre-synaptic
    difference. Cost: a credit of twice as many states.
    """
    shift = length * direction
    return credit_between(synapses, post, z + shift, z - shift, batch, theta) / (2.0 * length)


def credit_between(
    synapses: Synapses,
    post: Float[Array, "*T B N"],
    ahead: Float[Array, "*T B N"],
    behind: Float[Array, "*T B N"],
    batch: Batch,
    theta: Parameters,
) -> Parameters:
    """`credit(post, ahead) - credit(post, behind)`, the two side by side in one call.

    Each signal stands next to its negative, so that what does not depend on the state (inputs, biases) cancels to the
    bit when it is summed along the time axis. Cost: one credit of twice as many states.
    """
    xp, shape = namespace(post), (-1, *post.shape[-2:])
    posts = xp.stack([xp.reshape(post, shape), xp.reshape(-post, shape)], axis=1)
    states = xp.stack([xp.reshape(ahead, shape), xp.reshape(behind, shape)], axis=1)
    return synapses.credit(xp.reshape(posts, shape), xp.reshape(states, shape), batch.inputs, theta)


def _response(
    device: Device,
    batch: Batch,
    z: Float[Array, "B N"],
    v: Float[Array, "B N"],
    separation: float,
    noise: NoisePath,
    *,
    transposed: bool = False,
) -> tuple[Float[Array, "B N"], Cost]:
    """`J(z) v`, or `J(z)^T v`, from one step of twins under the same noise, and what it cost."""
    xp, spec, lanes = namespace(z), device.spec, len(batch)
    kick = separation * v
    addresses = namespace(batch.ids)  # NumPy, whatever the states are
    both, repeat = xp.concat([z, z]), addresses.ones_like(batch.ids)
    plan = Plan(
        inputs=xp.concat([batch.inputs, batch.inputs]),
        ids=addresses.concat([batch.ids, batch.ids]),
        repeats=addresses.concat([repeat, repeat]),
        start=At(xp.concat([kick, -kick]) if transposed else xp.concat([z + kick, z - kick])),
        phases=(Phase(steps=1),),
    )
    (run,) = device.relax_transpose(both, plan, noise=noise) if transposed else device.relax(plan, noise=noise)
    step = (run.final[:lanes] - run.final[lanes:]) / (2.0 * separation)
    return (step - v) / spec.step_size, Cost.of(plan.phases, plan.lanes)


def _gated(u: Float[Array, "B N"], target: float) -> tuple[Float[Array, "B N"], float]:
    """u / B of the samples with |u|^2 above target, zero in the others; and the mean |u|^2."""
    xp = namespace(u)
    squared = xp.sum(u * u, axis=1, keepdims=True)
    acts = xp.astype(squared > target, u.dtype) if target > 0.0 else xp.ones_like(squared)
    return u * acts / len(u), float(xp.mean(squared))


def _above_rounding(
    q: Float[Array, "B N"], z: Float[Array, "B N"], separation: float, step_size: float
) -> Float[Array, "B N"]:
    """q, or zero for a sample in which |q| is no more than the rounding of its reads."""
    xp = namespace(z)
    squared, size = (xp.sum(a * a, axis=1, keepdims=True) for a in (q, z))
    heard = 16.0 * float(xp.finfo(z.dtype).eps) / step_size * (1.0 + xp.sqrt(size) / separation)
    return xp.where(squared <= heard * heard, xp.zeros_like(q), q)


def _unit(u: Float[Array, "B N"]) -> tuple[Float[Array, "B N"], Float[Array, "B 1"]]:
    """Every sample's direction and its length; zero has none."""
    xp = namespace(u)
    length = xp.sqrt(xp.sum(u * u, axis=1, keepdims=True))
    return u / xp.maximum(length, xp.full_like(length, xp.finfo(length.dtype).tiny)), length


def _at_least_zero(owner: object, name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise InputError(f"{type(owner).__name__} needs {name} >= 0 and finite; found {name}={value}")
