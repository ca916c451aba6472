"""The engine on compiled kernels, for every substrate whose field they know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import Stream
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.threads import one_blas_thread
from hwsim.substrates.chip import DrawnSubstrate

from .engines import Deployment, Engine, Settled, Stepwise, Stretch, largest_change
from .integrators import Euler, Exponential, Propagator
from .plants import PLANTS, Plant, constant, nothing

WORTH = 3e5
"""Nanoseconds that a relaxation takes on one thread where another one begins to pay."""


@final
class Fused(Engine):
    """Compiled kernels: one product with the couplings and one pass over the units per step.

    Every lane does the same sums in the same order wherever it lies in the batch: lanes that are twins keep the same
    bits, and neither the batch nor the number of threads changes one.
    What no kernel serves goes step by step: a push that is a matrix and the two fields of `Heun`; corrected dynamics
    and transposed responses of oscillators and resistive networks.

    Args:
        threads: lanes are shared out to this many where that pays; the bits do not depend on it.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def program(self, deployment: Deployment) -> None:
        kind = type(deployment.drawn.physics)
        if kind not in PLANTS:
            raise InputError(
                f"no kernel knows the field of {kind.__name__}, only those of "
                f"{sorted(known.__name__ for known in PLANTS)}: use engine=Stepwise()"
            )
        self._deployment = deployment
        self._forwards: _Side | None = None
        self._backwards: _Side | None = None
        self._plain: Stepwise | None = None

    def relax(self, z: Float[Array, "B N"], stretch: Stretch) -> Settled:
        deployment = self._deployment
        side = net = None
        if _serves(deployment, deployment.propagator):
            side = self._forwards = self._forwards or _Side.forwards(deployment)
            net = side.plant.net(stretch.x, stretch.correct_at)
        if side is None or net is None:
            return self._stepwise().relax(z, stretch)
        return self._run(side.plant.kernel, z, net, side.motion(stretch), stretch)

    def relax_transpose(
        self, a: Float[Array, "B N"], at: Float[Array, "B N"] | Float[Array, "T1 B N"], stretch: Stretch
    ) -> Settled:
        from hwsim.kernels import relax_response

        deployment = self._deployment
        side = net = None
        if _serves(deployment, deployment.backward_propagator):
            side = self._backwards = self._backwards or _Side.backwards(deployment)
            # a recording is played backwards; its last state z_T gains nothing, since Phi is not applied to it
            net = side.plant.response(stretch.x, at[None] if at.ndim == 2 else at[:-1][::-1])
        if side is None or net is None:
            return self._stepwise().relax_transpose(a, at, stretch)
        return self._run(relax_response, a, net, side.motion(stretch), stretch)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _stepwise(self) -> Stepwise:
        if self._plain is None:
            self._plain = Stepwise()
            self._plain.program(self._deployment)
        return self._plain

    def _run(
        self, kernel: Callable[..., None], z: Array, net: tuple[Any, ...], motion: tuple[Any, ...], stretch: Stretch
    ) -> Settled:
        from hwsim.kernels import Trajectory

        dtype, shape = self._deployment.dtype, z.shape
        count = 1 + stretch.steps // stretch.record if stretch.record else 0
        trajectory = Trajectory(
            z=np.array(z, dtype, order="C"),
            before=np.empty(shape, dtype),
            states=stretch.recordings.empty((count, *shape), dtype) if count else np.empty((0, 0, 0), dtype),
            limited=np.zeros(len(z), bool),
            steps=stretch.steps,
            every=stretch.record,
        )
        noise = stretch.lanes.noise(Stream.THERMAL, stretch.index)
        kernel(trajectory, motion, noise, net, self._shares(shape, stretch.steps), self._run_shares, trusted=True)
        return Settled(
            final=trajectory.z,
            before=trajectory.before,
            states=trajectory.states if stretch.record else None,
            limited=trajectory.limited,
        )

    def _shares(self, shape: tuple[int, ...], steps: int) -> list[tuple[int, int]]:
        """The lanes of each thread, (lo, hi)."""
        lanes, units = shape
        nanoseconds = lanes * units * steps * (4.0 + units / 40.0)
        count = min(self._threads, lanes) if nanoseconds > WORTH else 1
        if count == 1:
            return [(0, lanes)]
        borders = [round(lanes * part / count) for part in range(count + 1)]
        return list(pairwise(borders))

    def _run_shares(self, relax: Callable[[tuple[int, int]], None], shares: Sequence[tuple[int, int]]) -> list[None]:
        """The first here and the others on the pool."""
        self._pool = self._pool or ThreadPoolExecutor(self._threads - 1, thread_name_prefix="hwsim-relax")
        others = [self._pool.submit(relax, share) for share in shares[1:]]
        relax(shares[0])
        return [other.result() for other in others]


def _serves(deployment: Deployment, propagator: Propagator) -> bool:
    return propagator.push.ndim == 1 and isinstance(deployment.integrator, Euler | Exponential)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """What a deployment makes of one direction, forwards or backwards: the plant, and all of a step but the phase.

    Args:
        plant: the substrate.
        driven: whether the field has a constant part (the transposed response has none).
        push: [N].
        amplitude: [1, N], or [0, 0] without noise.
        mixing: what multiplies the deviates before, laid out.
        slew: [N] largest change of a step, or [0].
        offset: [N], or None where there is none.
    """

    plant: Plant
    driven: bool
    push: Array
    amplitude: Array
    mixing: Any
    slew: Array
    offset: Array | None

    @classmethod
    def forwards(cls, deployment: Deployment) -> _Side:
        chip, dtype = deployment.drawn.chip, deployment.dtype
        slew = deployment.integrator.eps * chip.slew if np.isfinite(chip.slew).any() else np.empty(0)
        amplitude, mixing = _noise(deployment.propagator, dtype)
        return cls(
            plant=_plant(deployment, deployment.drawn),
            driven=True,
            push=constant(deployment.propagator.push, dtype),
            amplitude=amplitude,
            mixing=mixing,
            slew=constant(slew, dtype),
            offset=constant(chip.offset, dtype) if chip.offset.any() else None,
        )

    @classmethod
    def backwards(cls, deployment: Deployment) -> _Side:
        dtype = deployment.dtype
        amplitude, mixing = _noise(deployment.backward_propagator, dtype)
        return cls(
            plant=_plant(deployment, deployment.backwards),
            driven=False,
            push=constant(deployment.backward_propagator.push, dtype),
            amplitude=amplitude,
            mixing=mixing,
            slew=constant(np.empty(0), dtype),
            offset=None,
        )

    def motion(self, stretch: Stretch) -> tuple[Any, ...]:
        """One phase of it."""
        from hwsim.kernels import Motion

        dtype = self.plant.dtype
        steady = self.plant.steady(stretch.x) if self.driven else constant(np.zeros((1, len(self.push))), dtype)
        return Motion(
            push=self.push,
            steady=steady if self.offset is None else constant(steady + self.offset, dtype),
            force=_force(stretch.force, dtype),
            amplitude=self.amplitude,
            mixing=self.mixing,
            slew=constant(largest_change(self.slew, stretch), dtype) if self.slew.size else self.slew,
            low=_rail(stretch.low, dtype),
            high=_rail(stretch.high, dtype),
        )


@one_blas_thread()
def _plant(deployment: Deployment, drawn: DrawnSubstrate) -> Plant:
    return PLANTS[type(drawn.physics)](drawn.physics, drawn.real(deployment.theta), deployment.dtype)


def _force(force: Array | None, dtype: np.dtype[Any]) -> Array:
    if force is None:
        return nothing((0, 0, 0), dtype)
    return constant(force if force.ndim == 3 else force[None], dtype)


def _noise(propagator: Propagator, dtype: np.dtype[Any]) -> tuple[Array, Any]:
    """(amplitude, mixing) of a `Motion`."""
    from hwsim.kernels import dense_weights, no_weights

    amplitude = propagator.amplitude
    if amplitude is None or not amplitude.any():
        return nothing((0, 0), dtype), no_weights(dtype)
    if amplitude.ndim == 1:
        return constant(amplitude[None], dtype), no_weights(dtype)
    return constant(np.ones((1, len(amplitude))), dtype), dense_weights(constant(amplitude, dtype))


def _rail(rail: Array | None, dtype: np.dtype[Any]) -> Array:
    return nothing((0, 0), dtype) if rail is None else constant(rail, dtype)


def engine_for(substrate: Substrate, threads: int) -> Engine:
    """The fastest engine that runs this substrate."""
    return Fused(threads) if type(substrate) in PLANTS else Stepwise()
