"""One relaxation: the whole `SimulatedDevice.relax` beside the same loop in torch and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np

from .engines import Engine, Hwsim, Numpy, States
from .figures import Answer, Bar, Sheet, milliseconds, times
from .job import NOISE, Job
from .timing import Contender, Ratio, Timing, interleaved
from .torch_loop import Torch

FASTER = 2.0
"""How many times as fast as torch eager the free relaxation must be at N = 64, B = 64, T = 30, float32, noise on."""
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Largest difference of two noise-free trajectories, relative to the largest state."""
KINDS: tuple[type[Engine], ...] = (Hwsim, Torch, Numpy)
THREADS = (1, 2)
PEERS = ("torch", "numpy")
CASE = "N, B, T, type, noise"
DRAWS = 2048
"""Noisy final states per engine whose moments are compared, all lanes together."""


class Mismatch(Exception):  # noqa: N818  # not an error of the program: two engines do different jobs
    """Two engines do not do the same job, so that their times cannot be compared."""


def jobs() -> list[Job]:
    """All that is timed: float32 at both sizes, float64 at the small one."""
    sizes = [(64, "float32"), (256, "float32"), (64, "float64")]
    return [
        Job(units=units, lanes=lanes, steps=steps, dtype=dtype, sigma=sigma)
        for (units, dtype), lanes, steps, sigma in product(sizes, (1, 64), (30, 150), (NOISE, 0.0))
    ]


def measure(rounds: int, *, selected: Sequence[Job] | None = None) -> Answer:
    """Check that all engines agree, then time them in turns.

    Raises:
        Mismatch: they do not agree.
    """
    rows, measured = [], []
    for job in jobs() if selected is None else selected:
        timings = _timings(job, rounds)
        measured.append((job, timings))
        rows.append(_row(job, timings))
    return Answer(rows=rows, sheets=[_times(measured), _ratio_sheet(measured)], bars=_bars(measured))


def _timings(job: Job, rounds: int) -> dict[str, Timing]:
    engines = [kind(job, threads) for kind in KINDS for threads in THREADS]
    try:
        check_parity(job, engines)
        return interleaved({engine.label: _contender(engine) for engine in engines}, rounds)
    finally:
        for engine in engines:
            engine.close()


def _contender(engine: Engine) -> Contender:
    return Contender(call=engine.relax, settings=engine.settings, optional=engine.threads > 1)


def check_parity(job: Job, engines: Sequence[Engine]) -> None:
    """Without noise all engines must give the first one's trajectory; with noise, its mean and standard deviation.

    The means over repeated settlings of each unit and lane must differ as those of the same distribution do: rms of
    `(mean - mean') / (sd sqrt(2 / K))` near 1. Pooled standard deviations must agree within 5 %. One thread is enough
    for that, as the number of threads has no part in the noise.

    Raises:
        Mismatch: they do not.
    """
    judge = engines[0]
    if job.sigma:
        wanted = _draws(judge)
        for engine in engines[1:]:
            if engine.threads == 1:
                _check_moments(engine, _draws(engine), wanted)
        return
    trajectory = judge.trajectory()
    for engine in engines[1:]:
        with engine.settings():
            error = float(np.abs(engine.trajectory() - trajectory).max() / np.abs(trajectory).max())
        if not error <= TOLERANCE[job.dtype]:
            raise Mismatch(f"{engine.label} leaves the trajectory of {judge.label} by {error:.1e} ({job.describe()})")


def _draws(engine: Engine) -> States:
    """Final states of repeated settlings, [K, B, N]."""
    count = max(8, DRAWS // engine.job.lanes)
    with engine.settings():
        return np.stack([engine.relax().copy() for _ in range(count)])


def _check_moments(engine: Engine, found: States, wanted: States) -> None:
    spread = float(np.sqrt(wanted.var(axis=0, ddof=1).mean()))
    ratio = float(np.sqrt(found.var(axis=0, ddof=1).mean())) / spread
    miss = (found.mean(axis=0) - wanted.mean(axis=0)) / (spread * np.sqrt(2.0 / len(wanted)))
    off = float(np.sqrt(np.mean(miss * miss)))
    if not (0.95 < ratio < 1.05 and off < 1.5):
        raise Mismatch(
            f"{engine.label}: standard deviation {ratio:.3f} of that of hwsim, means {off:.2f} standard errors away "
            f"({engine.job.describe()})"
        )


def _best(timings: dict[str, Timing], name: str) -> Timing:
    """The faster of one and two threads, by the median of the wall times."""
    found = [timing for label, timing in timings.items() if label.startswith(name)]
    return min(found, key=lambda timing: timing.median)


def _ratios(timings: dict[str, Timing]) -> dict[str, Ratio]:
    """The time of each peer over that of hwsim: the better number of threads of either, and one thread of either."""
    found = {}
    for peer in PEERS:
        found[peer] = _best(timings, peer).over(_best(timings, "hwsim"))
        found[f"{peer} 1t"] = timings[f"{peer} 1t"].over(timings["hwsim 1t"])
    return found


def _row(job: Job, timings: dict[str, Timing]) -> dict[str, Any]:
    return {
        "units": job.units,
        "lanes": job.lanes,
        "steps": job.steps,
        "dtype": job.dtype,
        "sigma": job.sigma,
        "times": {label: timing.to_json() for label, timing in timings.items()},
        "over_hwsim": {peer: asdict(ratio) for peer, ratio in _ratios(timings).items()},
    }


def _times(measured: Sequence[tuple[Job, dict[str, Timing]]]) -> Sheet:
    labels = [f"{kind.name} {threads}t" for kind in KINDS for threads in THREADS]
    caption = "No figure: given up, its threads spinning for want of a free core."
    sheet = Sheet("Relaxation: ms per call, median (minimum); 1t and 2t are threads", caption, CASE, *labels)
    for job, timings in measured:
        cells = (milliseconds(timings[label]) if label in timings else "" for label in labels)
        sheet.add(_case(job), *cells)
    return sheet


def _ratio_sheet(measured: Sequence[tuple[Job, dict[str, Timing]]]) -> Sheet:
    sheet = Sheet(
        "Relaxation: time of the peer over time of hwsim",
        "Each first with the better number of threads of either, by the median wall time, then with one thread of "
        "either, by the minima of the wall times and by CPU time.",
        CASE,
        *(f"{peer}, {how}" for peer in PEERS for how in ("wall", "minima", "CPU")),
    )
    for job, timings in measured:
        ratios = _ratios(timings)
        cells = [
            times(value)
            for peer in PEERS
            for value in (ratios[peer].wall, ratios[f"{peer} 1t"].minima, ratios[f"{peer} 1t"].cpu)
        ]
        sheet.add(_case(job), *cells)
    return sheet


def _case(job: Job) -> str:
    return f"{job.units}, {job.lanes}, {job.steps}, {job.dtype.replace('float', 'f')}, {'on' if job.sigma else 'off'}"


def _bars(measured: Sequence[tuple[Job, dict[str, Timing]]]) -> list[Bar]:
    barred = Job(units=64, lanes=64, steps=30, sigma=NOISE)
    ratios = [_ratios(timings) for job, timings in measured if job == barred]
    return [
        Bar(name=f"free relaxation against torch eager, {how}", figure=figure, limit=FASTER, unit="x", at_least=True)
        for found in ratios
        for how, figure in (
            ("wall", found["torch"].wall),
            ("minima, 1 thread", found["torch 1t"].minima),
            ("CPU, 1 thread", found["torch 1t"].cpu),
        )
    ]
