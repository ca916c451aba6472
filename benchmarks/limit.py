"""One lane of few units: how far a call is from the sums alone, piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from hwsim.contracts.noise import NoisePath
from hwsim.kernels import TANH, Coupled, Motion, Noise, Trajectory, dense_weights, no_weights, relax_coupled
from hwsim.kernels._check import frozen, noise_address
from hwsim.kernels._product import multiply_dense, wide
from hwsim.kernels.elementwise import tanh_fast
from hwsim.kernels.noise import normal_tile, padded

from .engines import Hwsim
from .figures import Answer, Sheet
from .job import NOISE, STEP_SIZE, STEPS, Job
from .roofline import shortest

UNITS = 64
_AHEAD = 16


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False)
def _products(rate: Any, panels: Any, span: Any, out: Any, steps: int) -> None:
    for _ in range(steps):
        multiply_dense(rate, panels, span, out)


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False)
def _tanhs(z: Any, rate: Any, steps: int) -> None:
    for _ in range(steps):
        for unit in range(z.shape[1]):
            rate[0, unit] = tanh_fast(z[0, unit])


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False)
def _deviates(tile: Any, seed: int, step: int, ids: Any, words: Any, steps: int) -> None:
    for t in range(0, steps, tile.shape[0]):
        normal_tile(tile[: min(tile.shape[0], steps - t)], seed, step, t, 1, ids, words)


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False)
def _loop(
    z: Any, rate: Any, panels: Any, span: Any, inflow: Any, steady: Any, tile: Any, key: tuple[int, int, Any, Any]
) -> None:
    """All three and the update, for this one job: no option, no check, nothing recorded."""
    seed, step, ids, words = key
    for t in range(STEPS):
        row = t % tile.shape[0]
        if row == 0:
            normal_tile(tile[: min(tile.shape[0], STEPS - t)], seed, step, t, 1, ids, words)
        for unit in range(z.shape[1]):
            rate[0, unit] = tanh_fast(z[0, unit])
        multiply_dense(rate, panels, span, inflow)
        for unit in range(z.shape[1]):
            old = z[0, unit]
            change = np.float32(STEP_SIZE) * (inflow[0, unit] - old + steady[0, unit])
            z[0, unit] = old + change + np.float32(NOISE * (2 * STEP_SIZE) ** 0.5) * tile[row, unit]


def measure() -> Answer:
    """Microseconds of one settling of 64 units, one lane, T = 150, noise on, float32: shortest of many."""
    job = Job(units=UNITS, lanes=1, sigma=NOISE)
    draw = np.random.default_rng(0)
    weights = dense_weights((0.8 / UNITS**0.5 * draw.standard_normal((UNITS, UNITS))).astype(np.float32))
    z, steady = (draw.standard_normal((1, UNITS)).astype(np.float32) for _ in range(2))
    rate, inflow = (np.zeros((1, wide(UNITS, z)), np.float32) for _ in range(2))
    tile = np.zeros((_AHEAD, padded(UNITS)), np.float32)
    noise = Noise(path=NoisePath(seed=1), stream=0, phase=0, ids=np.zeros(1, np.uint32), repeats=np.zeros(1, np.uint32))
    at = noise_address(noise, 1, STEPS)
    key = (at.seed, at.step, at.ids, at.words)
    device = Hwsim(job, 1)
    calls: dict[str, Callable[[], object]] = {
        "products alone": lambda: _products(rate, weights.panels, weights.span, inflow, STEPS),
        "tanh alone": lambda: _tanhs(z, rate, STEPS),
        "deviates alone": lambda: _deviates(tile, *key, STEPS),
        "a loop of these and the update, for this job only": lambda: _loop(
            z, rate, weights.panels, weights.span, inflow, steady, tile, key
        ),
        "the kernel with all options, called": _kernel(z.copy(), steady, weights, noise),
        "`SimulatedDevice.relax`": device.relax,
    }
    sheet = Sheet(f"One lane of {UNITS} units, T = {STEPS}, noise on, float32: us, shortest of many", "", "what", "us")
    found = {name: 1e6 * shortest(call) for name, call in calls.items()}
    for name, cost in found.items():
        sheet.add(name, f"{cost:.1f}")
    device.close()
    return Answer(rows=[found], sheets=[sheet], bars=[])


def _kernel(z: Any, steady: Any, weights: Any, noise: Noise) -> Callable[[], None]:
    none, no_noise = frozen(np.empty((0, 0), np.float32)), no_weights(z.dtype)
    trajectory = Trajectory(
        z=z,
        before=np.empty_like(z),
        states=np.empty((0, 0, 0), np.float32),
        limited=np.zeros(1, bool),
        steps=STEPS,
        every=0,
    )
    motion = Motion(
        push=frozen(np.full(UNITS, STEP_SIZE, np.float32)),
        steady=frozen(steady),
        force=frozen(np.empty((0, 0, 0), np.float32)),
        amplitude=frozen(np.full((1, UNITS), NOISE * (2 * STEP_SIZE) ** 0.5, np.float32)),
        mixing=no_noise,
        slew=frozen(np.empty(0, np.float32)),
        low=none,
        high=none,
    )
    net = Coupled(
        weights=weights, drive=none, nonlinearity=TANH, leak=1.0, gradient=False, at=none, gain=none, back=no_noise
    )
    return lambda: relax_coupled(trajectory, motion, noise, net, [(0, 1)], trusted=True)
