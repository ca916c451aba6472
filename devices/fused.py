"""The engine on compiled kernels, for every substrate whose field they know."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import Stream
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.chip import DrawnSubstrate

from .engines import Deployment, Engine, Settled, Stepwise, Stretch, largest_change
from .integrators import Euler, Exponential, Propagator
from .plants import PLANTS, TILE, Plant, constant

WIDE_TILE, WIDE = 32, 128
"""Lanes run in tiles of 64 up to 128 units, and of 32 above, where two threads pay from 64 lanes on. Borders never
depend on the number of threads, so that the same sums run in the same order on any."""


@final
class Fused(Engine):
    """Compiled kernels: one product with the couplings and one pass over the units per step.

    Lanes that are twins keep the same bits where the BLAS treats rows alike: OpenBLAS does in float64 up to 256 units,
    and in float32 on machines with AVX-512 (on those with AVX2 alone they agree to rounding).
    What no kernel serves goes step by step: a push that is a matrix and the two fields of `Heun`; corrected dynamics
    and transposed responses of oscillators and resistive networks.

    Args:
        threads: lanes run in tiles on this many; the bits do not depend on it.
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
        from hwsim.kernels import Noise, Trajectory

        dtype, shape = self._deployment.dtype, z.shape
        count = 1 + stretch.steps // stretch.record if stretch.record else 0
        trajectory = Trajectory(
            z=np.array(z, dtype, order="C"),
            before=np.empty(shape, dtype),
            states=np.empty((count, *shape) if count else (0, 0, 0), dtype),
            limited=np.zeros(len(z), bool),
            steps=stretch.steps,
            every=stretch.record,
        )
        noise = Noise(
            path=stretch.noise,
            stream=int(Stream.THERMAL),
            phase=stretch.index,
            ids=stretch.ids.astype(np.uint32),
            repeats=stretch.repeats.astype(np.uint32),
        )
        size = TILE if shape[1] <= WIDE else WIDE_TILE
        tiles = [(lo, min(lo + size, len(z))) for lo in range(0, len(z), size)]
        if self._threads > 1 and len(tiles) > 1:
            self._pool = self._pool or ThreadPoolExecutor(self._threads, thread_name_prefix="hwsim-relax")
            kernel(trajectory, motion, noise, net, tiles, self._pool.map)
        else:
            kernel(trajectory, motion, noise, net, tiles)
        return Settled(
            final=trajectory.z,
            before=trajectory.before,
            states=trajectory.states if stretch.record else None,
            limited=trajectory.limited,
        )


def _serves(deployment: Deployment, propagator: Propagator) -> bool:
    return propagator.push.ndim == 1 and isinstance(deployment.integrator, Euler | Exponential)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """What a deployment makes of one direction, forwards or backwards: the plant, and all of a step but the phase.

    Args:
        plant: the substrate.
        driven: whether the field has a constant part (the transposed response has none).
        push: [N].
        amplitude: [1, N], [N, N], or [0, 0] without noise.
        slew: [N] largest change of a step, or [0].
        offset: [N], or None where there is none.
    """

    plant: Plant
    driven: bool
    push: Array
    amplitude: Array
    slew: Array
    offset: Array | None

    @classmethod
    def forwards(cls, deployment: Deployment) -> _Side:
        chip, dtype = deployment.drawn.chip, deployment.dtype
        slew = deployment.integrator.eps * chip.slew if np.isfinite(chip.slew).any() else np.empty(0)
        return cls(
            plant=_plant(deployment, deployment.drawn),
            driven=True,
            push=constant(deployment.propagator.push, dtype),
            amplitude=_amplitude(deployment.propagator, dtype),
            slew=constant(slew, dtype),
            offset=constant(chip.offset, dtype) if chip.offset.any() else None,
        )

    @classmethod
    def backwards(cls, deployment: Deployment) -> _Side:
        dtype = deployment.dtype
        return cls(
            plant=_plant(deployment, deployment.backwards),
            driven=False,
            push=constant(deployment.backward_propagator.push, dtype),
            amplitude=_amplitude(deployment.backward_propagator, dtype),
            slew=constant(np.empty(0), dtype),
            offset=None,
        )

    def motion(self, stretch: Stretch) -> tuple[Any, ...]:
        """One phase of it."""
        from hwsim.kernels import Motion

        dtype = self.plant.dtype
        steady = self.plant.steady(stretch.x) if self.driven else np.zeros((1, len(self.push)), dtype)
        return Motion(
            push=self.push,
            steady=steady if self.offset is None else steady + self.offset,
            force=_force(stretch.force, dtype),
            amplitude=self.amplitude,
            slew=largest_change(self.slew, stretch) if self.slew.size else self.slew,
            low=_rail(stretch.low, dtype),
            high=_rail(stretch.high, dtype),
        )


def _plant(deployment: Deployment, drawn: DrawnSubstrate) -> Plant:
    return PLANTS[type(drawn.physics)](drawn.physics, drawn.real(deployment.theta), deployment.dtype)


def _force(force: Array | None, dtype: np.dtype[Any]) -> Array:
    if force is None:
        return np.empty((0, 0, 0), dtype)
    return constant(force if force.ndim == 3 else force[None], dtype)


def _amplitude(propagator: Propagator, dtype: np.dtype[Any]) -> Array:
    amplitude = propagator.amplitude
    if amplitude is None or not amplitude.any():
        return constant(np.empty((0, 0)), dtype)
    return constant(amplitude if amplitude.ndim == 2 else amplitude[None], dtype)


def _rail(rail: Array | None, dtype: np.dtype[Any]) -> Array:
    return constant(np.empty((0, 0)) if rail is None else rail, dtype)


def engine_for(substrate: Substrate, threads: int) -> Engine:
    """The fastest engine that runs this substrate."""
    return Fused(threads) if type(substrate) in PLANTS else Stepwise()
