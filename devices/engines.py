"""How a simulated device steps: one engine per way of computing the same trajectory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase
from hwsim.contracts.substrate import Substrate
from hwsim.substrates import LeakyNetwork

TILE, WIDE_TILE, WIDE = 64, 32, 128
"""Lanes per tile up to 128 units, and above, where two threads pay from 64 lanes on. Borders never depend on the number
of threads, so that the same sums run in the same order on any."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One phase as an engine runs it: all that changes the trajectory.

    Args:
        x: [B, M] inputs.
        phase: steps, force, correct_at and record (its displacement is already in the state).
        index: position of the phase in its plan, part of the noise address.
        eps: step size.
        sigma: thermal noise, state units; 0 for none.
        noise: the address of the noise.
        ids: [B] sample ids.
        repeats: [B] repeats per lane.
    """

    x: Float[Array, "B M"]
    phase: Phase
    index: int
    eps: float
    sigma: float
    noise: NoisePath
    ids: Int[Array, " B"]
    repeats: Int[Array, " B"]


class Engine(ABC):
    """Runs phases of one substrate. All states are [B, N] in `dtype` and C-contiguous; BLAS is held to one thread."""

    @abstractmethod
    def program(self, substrate: Substrate, theta: Parameters, dtype: np.dtype[Any]) -> None:
        """Take up new parameters."""

    @abstractmethod
    def relax(self, z: Array, stretch: Stretch) -> tuple[Array, Array, Array | None]:
        """Run one phase from z.

        Returns:
            (final [B, N], the state one step earlier [B, N], recorded states [K + 1, B, N] or None)
        """

    @abstractmethod
    def relax_transpose(self, a: Array, at: Array, stretch: Stretch) -> tuple[Array, Array, Array | None]:
        """Run one phase of the linear transposed response around `at` ([B, N], or [steps + 1, B, N] played back)."""

    def close(self) -> None:
        """Let go of threads."""


@final
class Stepwise(Engine):
    """One call of the substrate per step, in NumPy: any substrate, no compilation; the plain text of the contract.

    Lanes that are twins agree to rounding here, and to the bit only where the BLAS treats their rows alike.
    """

    def program(self, substrate: Substrate, theta: Parameters, dtype: np.dtype[Any]) -> None:
        self._substrate, self._theta = substrate, theta

    def relax(self, z: Array, stretch: Stretch) -> tuple[Array, Array, Array | None]:
        return _step(z, lambda z, step: self._flow(z, stretch), stretch)

    def relax_transpose(self, a: Array, at: Array, stretch: Stretch) -> tuple[Array, Array, Array | None]:
        last, rest = stretch.phase.steps - 1, (stretch.x, self._theta)
        gains = at if at.ndim == 3 else np.broadcast_to(at, (last + 1, *at.shape))
        return _step(a, lambda a, step: self._substrate.cotangent(a, gains[last - step], *rest), stretch)

    def _flow(self, z: Array, stretch: Stretch) -> Array:
        """F, or F - (J - J^T)(z - at) under the asymmetric-EP dynamics."""
        total = self._substrate.field(z, stretch.x, self._theta)
        at = stretch.phase.correct_at
        if at is None:
            return total
        v, rest = z - at, (at, stretch.x, self._theta)
        return total - self._substrate.tangent(v, *rest) + self._substrate.cotangent(v, *rest)


def _step(z: Array, flow: Callable[[Array, int], Array], stretch: Stretch) -> tuple[Array, Array, Array | None]:
    phase, before, kept = stretch.phase, z, [z]
    amplitude = stretch.sigma * np.sqrt(2.0 * stretch.eps)
    for step in range(phase.steps):
        total = flow(z, step)
        if phase.force is not None:
            total = total + (phase.force if phase.force.ndim == 2 else phase.force[step])
        before, z = z, z + stretch.eps * total
        if amplitude > 0:
            deviates = stretch.noise.normals(
                Stream.THERMAL,
                stretch.ids,
                units=z.shape[1],
                first=step,
                phase=stretch.index,
                repeats=stretch.repeats,
            )
            z = z + amplitude * deviates[0]
        z = z.astype(before.dtype, copy=False)
        if phase.record and (step + 1) % phase.record == 0:
            kept.append(z)
    return z, before, np.stack(kept) if phase.record else None


@final
class FusedLeaky(Engine):
    """The fused Numba kernels for dense leaky networks: one GEMM and one pass over the units per step.

    Lanes that are twins keep the same bits (in float64 up to 256 units; above, OpenBLAS may round their rows apart).

    Args:
        threads: lanes run in tiles of 64 (32 above 128 units) on this many; the bits do not depend on it.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def program(self, substrate: Substrate, theta: Parameters, dtype: np.dtype[Any]) -> None:
        if not isinstance(substrate, LeakyNetwork):
            raise TypeError(f"FusedLeaky runs LeakyNetwork; found {type(substrate).__name__}: use Stepwise()")
        self._substrate, self._theta, self._dtype = substrate, theta, dtype
        matrix = substrate.coupling.matrix(theta["W"])
        self._weights = np.ascontiguousarray(matrix, dtype)
        self._weights_t = np.ascontiguousarray(matrix.T, dtype)

    def relax(self, z: Array, stretch: Stretch) -> tuple[Array, Array, Array | None]:
        from hwsim.kernels import relax_leaky

        phase, nonlinearity = stretch.phase, self._substrate.nonlinearity
        none = np.empty((0, 0), self._dtype)
        at = none if phase.correct_at is None else np.ascontiguousarray(phase.correct_at, self._dtype)
        gain = none if phase.correct_at is None else nonlinearity.slope(at)
        drive = self._drive(stretch.x)
        z, before, states = self._buffers(z, phase)
        head = (z, before, drive, self._force(phase), self._weights_t, self._weights, nonlinearity.code)
        self._tiles(relax_leaky, (*head, stretch.eps, phase.steps, at, gain), stretch, states)
        return z, before, states if phase.record else None

    def relax_transpose(self, a: Array, at: Array, stretch: Stretch) -> tuple[Array, Array, Array | None]:
        from hwsim.kernels import relax_transpose

        phase = stretch.phase
        gain = self._substrate.nonlinearity.slope(np.ascontiguousarray(at, self._dtype))
        # a recording is played backwards; its last state z_T gains nothing, since Phi is not applied to it
        gain = gain[None] if at.ndim == 2 else np.ascontiguousarray(gain[:-1][::-1])
        a, before, states = self._buffers(a, phase)
        head = (a, before, self._force(phase), self._weights, gain, stretch.eps, phase.steps)
        self._tiles(relax_transpose, head, stretch, states)
        return a, before, states if phase.record else None

    def _drive(self, x: Array) -> Array:
        """U x + b on whole tiles: a BLAS sums odd rows in another order, and lanes that are twins must not differ."""
        lanes = len(x)
        whole = np.zeros((-(-lanes // TILE) * TILE, x.shape[1]), self._dtype)
        whole[:lanes] = x
        return np.ascontiguousarray(self._substrate.drive(whole, self._theta)[:lanes], self._dtype)

    def _buffers(self, z: Array, phase: Phase) -> tuple[Array, Array, Array]:
        count = 1 + phase.steps // phase.record if phase.record else 0
        shape = (count, *z.shape) if count else (0, 0, 0)
        return np.array(z, self._dtype, order="C"), np.empty(z.shape, self._dtype), np.empty(shape, self._dtype)

    def _force(self, phase: Phase) -> Array:
        if phase.force is None:
            return np.empty((0, 0, 0), self._dtype)
        force = np.ascontiguousarray(phase.force, self._dtype)
        return force[None] if force.ndim == 2 else force

    def _tiles(self, kernel: Callable[..., None], head: tuple[Any, ...], stretch: Stretch, states: Array) -> None:
        noise, lanes = stretch.noise, len(stretch.ids)
        amplitude = self._dtype.type(stretch.sigma * np.sqrt(2.0 * stretch.eps))
        address = (noise.seed, noise.step, int(Stream.THERMAL), stretch.index, noise.repeat)
        lane_address = (stretch.ids.astype(np.uint32), stretch.repeats.astype(np.uint32))
        tail = (amplitude, *address, *lane_address, noise.coarse, 0, stretch.phase.record, states)

        size = TILE if self._substrate.units <= WIDE else WIDE_TILE
        tiles = [(lo, min(lo + size, lanes)) for lo in range(0, lanes, size)]
        if self._threads == 1:
            for lo, hi in tiles:
                kernel(*head, *tail, lo, hi)
        else:
            self._pool = self._pool or ThreadPoolExecutor(self._threads, thread_name_prefix="hwsim-relax")
            list(self._pool.map(lambda tile: kernel(*head, *tail, *tile), tiles))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def engine_for(substrate: Substrate, threads: int) -> Engine:
    """The fastest engine that runs this substrate."""
    return FusedLeaky(threads) if isinstance(substrate, LeakyNetwork) else Stepwise()
