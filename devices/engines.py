"""How a simulated device steps: what an engine is told, what it answers, and the plain one that runs any physics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Bool, Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.noise import Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.threads import one_blas_thread
from hwsim.substrates.chip import DrawnSubstrate

from .arrays import HOST, Arrays
from .integrators import Flow, Integrator, Propagator
from .lanes import Lanes
from .recordings import Recordings


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What stays the same over a plan.

    Args:
        drawn: the physics of the chip.
        backwards: the same driven backwards.
        theta: what is programmed, in `dtype`.
        dtype: of all states.
        integrator: how one step is made of the field.
        propagator: its push and noise amplitude, in float64.
        backward_propagator: those of the transposed relaxation.
    """

    drawn: DrawnSubstrate
    backwards: DrawnSubstrate
    theta: Parameters
    dtype: np.dtype[Any]
    integrator: Integrator
    propagator: Propagator
    backward_propagator: Propagator


Rails: TypeAlias = Inexact[Array, "L N"] | None
"""[1, N] for all lanes or [B, N]; None for none."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One phase as an engine runs it (its displacement and its clamps are already in the state).

    Args:
        x: [B, M] inputs as they arrive.
        steps: number of steps.
        force: [B, N] or [steps, B, N], added to F; None for none.
        correct_at: [B, N] point of the asymmetric-EP dynamics, or None.
        low, high: the state is kept between them after every step. Where they are equal a unit is clamped.
        record: keep every `record`-th state; 0 keeps none.
        index: position of the phase in its plan, part of the noise address.
        lanes: whose noise it is.
        recordings: where recorded states are kept.
    """

    x: Float[Array, "B M"]
    steps: int
    force: Inexact[Array, "B N"] | Inexact[Array, "steps B N"] | None
    correct_at: Float[Array, "B N"] | None
    low: Rails
    high: Rails
    record: int
    index: int
    lanes: Lanes
    recordings: Recordings = Recordings()


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What an engine answers.

    Args:
        final: [B, N] after the last step.
        before: [B, N] one step earlier (`final` where there was none).
        states: [K + 1, B, N] recorded, or None.
        limited: [B] whether a rail or a slew limit held a unit that is not clamped, at any step.
    """

    final: Inexact[Array, "B N"]
    before: Inexact[Array, "B N"]
    states: Inexact[Array, "K1 B N"] | None
    limited: Bool[Array, " B"]


def largest_change(slew: Float[Array, " N"], stretch: Stretch) -> Float[Array, " N"]:
    """The most that a step may change each unit, of its type: `slew` (eps times the chip's), infinite where clamped."""
    if stretch.low is None or stretch.high is None:
        return slew
    return np.where((stretch.low == stretch.high).all(axis=0), np.inf, slew).astype(slew.dtype)


class Engine(ABC):
    """Runs phases on one chip, that of the one device it is given to. All states are [B, N] in the deployment's dtype;
    `Stepwise` and `TorchEngine` also run complex ones, of the same precision. Where an engine sums through NumPy's BLAS
    it holds it to one thread.

    One step, with the chip's rate, offset and slew and xi ~ N(0, I) from the noise path (stream THERMAL):

        dz = push (F(z, x; theta_real) + offset + force),   |dz_i| <= eps slew_i        push holds eps and the rates
        z  = clip(z + dz + amplitude xi, low, high)
    """

    @property
    def arrays(self) -> Arrays:
        """What it computes with: all arrays that it is given and gives. NumPy unless it says otherwise."""
        return HOST

    @abstractmethod
    def program(self, deployment: Deployment) -> None:
        """Take up a chip, its parameters and a way to step."""

    @abstractmethod
    def relax(self, z: Inexact[Array, "B N"], stretch: Stretch) -> Settled:
        """Run one phase from z."""

    @abstractmethod
    def relax_transpose(
        self, a: Inexact[Array, "B N"], at: Float[Array, "B N"] | Float[Array, "T1 B N"], stretch: Stretch
    ) -> Settled:
        """Run one phase of the linear transposed response around `at` ([B, N], or [steps + 1, B, N] played back):

        a <- a + push (J(at)^T a + force) + amplitude xi, J without the chip's rates, which are in push
        """

    def close(self) -> None:
        """Let go of threads."""


@final
class Stepwise(Engine):
    """One call of the substrate per step, in NumPy: any physics, any integrator; the plain text of the contract.

    Complex states run where the physics is holomorphic; J is taken at real states, and acts on their two parts apart.

    Lanes that are twins agree to rounding here, and to the bit only where the BLAS treats their rows alike.
    """

    def program(self, deployment: Deployment) -> None:
        self._deployment = deployment
        drawn = deployment.drawn
        self._real = drawn.real(deployment.theta)
        self._real_backwards = deployment.backwards.real(deployment.theta)
        self._offset = drawn.chip.offset.astype(deployment.dtype)
        self._slew = (deployment.integrator.eps * drawn.chip.slew).astype(deployment.dtype)

    def relax(self, z: Inexact[Array, "B N"], stretch: Stretch) -> Settled:
        def flow(z: Array, step: int) -> Array:
            return self._flow(z, stretch) + self._offset + _force(stretch, step)

        slew = largest_change(self._slew, stretch) if np.isfinite(self._slew).any() else None
        return self._run(z, flow, self._deployment.propagator, slew, stretch)

    def relax_transpose(
        self, a: Inexact[Array, "B N"], at: Float[Array, "B N"] | Float[Array, "T1 B N"], stretch: Stretch
    ) -> Settled:
        physics, last = self._deployment.backwards.physics, stretch.steps - 1
        gains = at if at.ndim == 3 else np.broadcast_to(at, (last + 1, *at.shape))

        def flow(a: Array, step: int) -> Array:
            transposed = _by_parts(physics.cotangent, a, gains[last - step], stretch.x, self._real_backwards)
            return transposed + _force(stretch, step)

        return self._run(a, flow, self._deployment.backward_propagator, None, stretch)

    def _flow(self, z: Array, stretch: Stretch) -> Array:
        """F, or F - (J - J^T)(z - at) under the asymmetric-EP dynamics."""
        physics, at = self._deployment.drawn.physics, stretch.correct_at
        total = physics.field(z, stretch.x, self._real)
        if at is None:
            return total
        v, rest = z - at, (at, stretch.x, self._real)
        return total - _by_parts(physics.tangent, v, *rest) + _by_parts(physics.cotangent, v, *rest)

    def _run(
        self,
        z: Array,
        flow: Callable[..., Array],
        propagator: Propagator,
        slew: Float[Array, " N"] | None,
        stretch: Stretch,
    ) -> Settled:
        before, states = z, None
        if stretch.record:
            states = stretch.recordings.empty((1 + stretch.steps // stretch.record, *z.shape), z.dtype)
            states[0] = z
        limited = np.zeros(len(z), bool)
        with one_blas_thread():
            for step in range(stretch.steps):
                noise = 0.0 if propagator.amplitude is None else propagator.spread(_deviates(z, step, stretch))
                before = z
                field: Flow = partial(flow, step=step)
                if propagator.push.ndim == 2 and stretch.low is not None and stretch.high is not None:
                    field = partial(_released, flow=field, low=stretch.low, high=stretch.high)
                within = partial(_within, stretch=stretch)
                z, held = self._deployment.integrator.step(z, field, propagator, noise, slew, within)
                limited |= held
                if stretch.low is not None:
                    z, railed = between(z, stretch.low, stretch.high)
                    limited |= railed
                z = z.astype(before.dtype, copy=False)
                if states is not None and (step + 1) % stretch.record == 0:
                    states[(step + 1) // stretch.record] = z
        return Settled(final=z, before=before, states=states, limited=limited)


def _by_parts(product: Callable[..., Array], v: Array, *rest: Any) -> Array:
    """A real linear map of v, complex or not."""
    if not np.iscomplexobj(v):
        return product(v, *rest)
    return product(v.real, *rest) + 1j * product(v.imag, *rest)


def _force(stretch: Stretch, step: int) -> Array | float:
    if stretch.force is None:
        return 0.0
    return stretch.force if stretch.force.ndim == 2 else stretch.force[step]


def _deviates(z: Array, step: int, stretch: Stretch) -> Array:
    lanes = stretch.lanes
    units, phase = z.shape[1], stretch.index
    return lanes.path.normals(Stream.THERMAL, lanes.ids, units=units, first=step, phase=phase, repeats=lanes.repeats)[0]


def _within(z: Array, stretch: Stretch) -> Array:
    return z if stretch.low is None or stretch.high is None else between(z, stretch.low, stretch.high)[0]


def _released(z: Array, flow: Flow, low: Array, high: Array) -> Array:
    """The field without what only presses against a rail or a clamp: a push that is a matrix would pass it on."""
    total = flow(z)
    pressed = low == high
    if not np.iscomplexobj(z):
        pressed = pressed | ((z >= high) & (total > 0)) | ((z <= low) & (total < 0))
    return np.where(pressed, 0.0, total).astype(total.dtype)


def between(z: Inexact[Array, "B N"], low: Array, high: Array) -> tuple[Inexact[Array, "B N"], Bool[Array, " B"]]:
    """z kept between the rails, and the lanes in which a unit that is not clamped met one. NaN stays.

    Complex states know clamps, and no rails.
    """
    xp = namespace(z)
    if xp.isdtype(z.dtype, "complex floating"):
        held = xp.where(low == high, high, z)
        return held, xp.zeros(len(z), dtype=xp.bool, device=z.device)
    held = xp.where(z > high, high, xp.where(z < low, low, z))
    return held, xp.any((held != z) & (low < high) & (z == z), axis=1)
