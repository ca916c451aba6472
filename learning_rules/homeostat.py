"""The contraction homeostat: keep nearby trajectories approaching each other at a set rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import BRANCH_REPEATS, NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation
from hwsim.contracts.rule import Kind
from hwsim.contracts.task import Batch

from .checks import positive
from .regularisers import Descent, Regulariser, credit_along, credit_between, unit_vectors


@final
@dataclass(frozen=True, kw_only=True)
class ContractionHomeostat(Regulariser):
    """Descend `R = mean relu(gamma - target)^2`, over steps and then samples, from one kicked twin per sample:

        delta = z' - z before a step, delta' after it;   gamma = ln(|delta'| / |delta|) / eps    per time constant
        dR/dtheta = mean 2 relu(gamma - target) [credit(u, z') - credit(u, z)],      u = delta' / |delta'|^2

    both trajectories read under the same noise, states held fixed: one pre-synaptic difference, one post-synaptic
    difference, one broadcast scalar. A descent direction of R, not its full gradient (the states depend on theta). It
    acts only while the growth rate exceeds its set-point, and knows nothing of the loss: add it to a rule that does.

    The twin starts `separation` away from z_T in a random direction; steps count from `burn_in` on, once the direction
    has turned towards the slowest mode, and while the separation lies in [smallest, largest]. It is left alone and
    recorded, or, with `renormalise`, loaded again at `separation` from the other one after every step (Benettin's way):
    the separation then neither sinks into the noise floor nor leaves the linear range, however long it takes.

    Args:
        target: set-point of gamma, per time constant, < 0.
        separation: Euclidean distance of the kicked twin at the start, state units.
        steps: K, Euler steps of the twins.
        burn_in: first step that counts.
        smallest: separation below which a step is not trusted, state units; raised to four times the noise of a
            difference of two reads where the spec states a noise floor.
        largest: separation above which the response is not taken for linear, state units.
        renormalise: bring the separation back to its length after every step; K is then 255 at most.

    Diagnostics: `growth`, mean gamma of the steps that counted, per time constant; `twin_steps_counted`, their share.

    Raises:
        InputError: target not below 0, burn_in not below steps, a length that is not positive, or too many steps.

    Sources: growth of nearby trajectories: Benettin et al., Meccanica 15:9 (1980); the homeostat is this project's.
    Cost: 2 settles of K recorded steps per sample; renormalised 2 K settles of one step.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    target: float = -0.3
    separation: float = 1.0
    steps: int = 20
    burn_in: int = 10
    smallest: float = 1e-4
    largest: float = 10.0
    renormalise: bool = False

    def __post_init__(self) -> None:
        for name in ("separation", "steps", "smallest", "largest"):
            positive(self, name, getattr(self, name))
        _check_growth(self, self.target, self.burn_in, self.steps)
        if self.renormalise and self.steps >= BRANCH_REPEATS:
            raise InputError(f"renormalised twins take at most {BRANCH_REPEATS - 1} steps; found steps={self.steps}")

    @property
    def needs(self) -> Needs:
        twins = frozenset({Capability.TWINS, Capability.LOAD_STATE})
        left_alone = frozenset({Capability.DISPLACE, Capability.RECORD})
        return Needs(capabilities=twins if self.renormalise else twins | left_alone)

    def descent(self, device: Device, theta: Parameters, batch: Batch, free: Relaxation, noise: NoisePath) -> Descent:
        run = self._renormalised if self.renormalise else self._left_alone
        z, twin, delta, cost = run(device, batch, free.final, noise)
        post, growth, counted = self._post(twin - z, delta, device.spec.step_size, self._trusted(device))
        return Descent(
            gradients=credit_between(device.synapses, post, twin, z, batch, theta),
            cost=cost,
            diagnostics={"growth": growth, "twin_steps_counted": counted},
        )

    def penalty(self, z: Array, twin: Array, step_size: float) -> Array:
        """R from recorded twins [K + 1, B, N]: what `estimate` descends at fixed states (a scalar array)."""
        delta = (twin - z)[self.burn_in :]
        gamma, counts, _ = self._growth(delta[:-1], delta[1:], step_size, self.smallest)
        xp = namespace(z)
        excess = xp.maximum(gamma - self.target, xp.zeros_like(gamma))
        return xp.sum(excess * excess * self._shares(counts))

    def _left_alone(self, device: Device, batch: Batch, z: Array, noise: NoisePath) -> tuple[Array, Array, Array, Cost]:
        """Both states [K, B, N] before every step from `burn_in` on, their difference after it, and the cost."""
        plan, lanes = self._plan(z, batch, noise), len(batch)
        (run,) = device.relax(plan, noise=noise)
        late = run.recorded[self.burn_in :]
        z, twin = late[:, :lanes], late[:, lanes:]
        return z[:-1], twin[:-1], (twin - z)[1:], Cost.of(plan.phases, plan.lanes)

    def _plan(self, z: Array, batch: Batch, noise: NoisePath) -> Plan:
        xp = namespace(z)
        kick = self.separation * unit_vectors(z, batch, noise)
        phase = Phase(steps=self.steps, displace=xp.concat([xp.zeros_like(kick), kick]), record=1)
        return _twins(batch, z, z, phase, repeat=1)

    def _renormalised(
        self, device: Device, batch: Batch, z: Array, noise: NoisePath
    ) -> tuple[Array, Array, Array, Cost]:
        """As `_left_alone`, the twin loaded again before every step. What is loaded is known exactly."""
        xp, lanes = namespace(z), len(batch)
        delta = self.separation * unit_vectors(z, batch, noise)
        before, beside, after, cost = [], [], [], Cost()
        for step in range(self.steps):
            plan = _twins(batch, z, z + delta, Phase(steps=1), repeat=step + 1)
            (run,) = device.relax(plan, noise=noise)
            cost = cost + Cost.of(plan.phases, plan.lanes)
            parted = run.final[lanes:] - run.final[:lanes]
            if step >= self.burn_in:
                before.append(z)
                beside.append(z + delta)
                after.append(parted)
            length = _length(parted)[..., None]
            z, delta = run.final[:lanes], self.separation * parted / length
        return xp.stack(before), xp.stack(beside), xp.stack(after), cost

    def _trusted(self, device: Device) -> float:
        floor = device.spec.noise_floor
        if floor is None:
            return self.smallest
        return max(self.smallest, 4.0 * floor * math.sqrt(2.0 * device.spec.units))

    def _growth(self, delta: Array, after: Array, step_size: float, smallest: float) -> tuple[Array, Array, Array]:
        """gamma [K, B], which of them count [K, B], and |delta'| [K, B]."""
        xp = namespace(delta)
        size, grown = _length(delta), _length(after)
        gamma = (xp.log(grown) - xp.log(size)) / step_size
        counts = (grown >= smallest) & (size >= smallest) & (size <= self.largest)
        return gamma, xp.astype(counts, delta.dtype), grown

    def _post(self, delta: Array, after: Array, step_size: float, smallest: float) -> tuple[Array, float, float]:
        """The post-synaptic signal [K, B, N], the mean growth rate, and the fraction of steps that count."""
        xp = namespace(delta)
        gamma, counts, grown = self._growth(delta, after, step_size, smallest)
        total = float(xp.sum(counts))
        if total == 0.0:
            return xp.zeros_like(delta), math.nan, 0.0
        excess = xp.maximum(gamma - self.target, xp.zeros_like(gamma)) * self._shares(counts)
        counted, squared = counts[:, :, None] > 0, (grown * grown)[:, :, None]
        u = xp.where(counted, after, xp.zeros_like(after)) / xp.where(counted, squared, xp.ones_like(squared))
        growth = float(xp.sum(gamma * counts)) / total
        return 2.0 * excess[:, :, None] * u, growth, total / math.prod(counts.shape)

    @staticmethod
    def _shares(counts: Array) -> Array:
        """Weight of every step [K, B] in R: those of a sample share 1 / B."""
        xp = namespace(counts)
        return counts / (xp.maximum(xp.sum(counts, axis=0), xp.ones_like(counts[0])) * counts.shape[1])


@final
@dataclass(frozen=True, kw_only=True)
class ContractionHomeostatJVP(Regulariser):
    """The contraction homeostat on the nominal model: exact tangents in place of twins, states held at z_T.

        v_{k+1} = D v_k / |D v_k|,    D = 1 + eps J(z_T),    gamma_k = ln |D v_k| / eps -> ln rho(D) / eps on average
        R         = mean relu(gamma_k - target)^2     over the steps from `burn_in` on, and then samples
        dR/dtheta = mean 2 relu(gamma_k - target) u_k^T (dJ/dtheta) v_k,     u_k = D v_k / |D v_k|^2,    v_k held fixed

    The derivative of J is a difference of two credits a fourth root of the rounding apart, relative error about 1e-8
    (float64): exact tangents, but no exact second derivative. It takes no device time and has no noise floor, and knows
    the physics as designed only: mismatch, drift and noise of the chip are not in it, and a transient that has not
    ended by z_T is not either.

    Args:
        target: set-point of gamma, per time constant, < 0.
        steps: K, applications of D.
        burn_in: first step that counts.

    Diagnostics: `growth`, mean gamma of the steps that count, per time constant.

    Raises:
        InputError: target not below 0, or burn_in not below steps.

    Sources: as `ContractionHomeostat`. Cost: no settles; K tangents and 2 credits of K - burn_in states of the model.
    """

    kind: ClassVar[Kind] = Kind.MODEL_ASSISTED

    target: float = -0.3
    steps: int = 20
    burn_in: int = 10

    def __post_init__(self) -> None:
        positive(self, "steps", self.steps)
        _check_growth(self, self.target, self.burn_in, self.steps)

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.MODEL}))

    def descent(self, device: Device, theta: Parameters, batch: Batch, free: Relaxation, noise: NoisePath) -> Descent:
        model, step_size, z = device.nominal, device.spec.step_size, free.final
        xp = namespace(z)
        v, directions, moved = unit_vectors(z, batch, noise), [], []
        for _ in range(self.steps):
            directions.append(v)
            moved.append(v + step_size * model.tangent(v, z, batch.inputs, theta))
            v = moved[-1] / _length(moved[-1])[..., None]
        v, after = xp.stack(directions[self.burn_in :]), xp.stack(moved[self.burn_in :])
        length = _length(after)
        gamma = xp.log(length) / step_size
        excess = xp.maximum(gamma - self.target, xp.zeros_like(gamma)) / math.prod(gamma.shape)
        # where D v is zero the excess is too; a step that small is divided by something that has a square
        u = after / length[..., None] / length[..., None]
        post = 2.0 * excess[..., None] * u
        apart = float(xp.finfo(z.dtype).eps) ** 0.25
        return Descent(
            gradients=credit_along(model, post, v, z, batch, theta, apart),
            diagnostics={"growth": float(xp.mean(gamma))},
        )


def _twins(batch: Batch, z: Array, twin: Array, phase: Phase, *, repeat: int) -> Plan:
    """Two trajectories per sample, from z and from the twin, under the same noise."""
    xp, addresses = namespace(z), namespace(batch.ids)  # addresses are NumPy, whatever the states are
    repeats = repeat * addresses.ones_like(batch.ids)
    return Plan(
        inputs=xp.concat([batch.inputs, batch.inputs]),
        ids=addresses.concat([batch.ids, batch.ids]),
        repeats=addresses.concat([repeats, repeats]),
        start=At(xp.concat([z, twin])),
        phases=(phase,),
    )


def _length(delta: Array) -> Array:
    """|delta| over units [...], at least what has a logarithm and an inverse."""
    xp = namespace(delta)
    squared = xp.sum(delta * delta, axis=-1)
    return xp.sqrt(xp.maximum(squared, xp.full_like(squared, xp.finfo(squared.dtype).tiny)))


def _check_growth(owner: object, target: float, burn_in: int, steps: int) -> None:
    name = type(owner).__name__
    if not (math.isfinite(target) and target < 0):
        raise InputError(f"{name} needs target < 0 per time constant; found {target}")
    whole(name, "steps", steps, least=1)
    if not 0 <= burn_in < steps:
        raise InputError(f"{name} needs 0 <= burn_in < steps; found {burn_in} and {steps}")
