"""Whether all engines do the same job, so that their times can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .engines import Engine, States
from .job import NOISE, Job

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Largest difference of two noise-free trajectories, relative to the largest state."""
LONGER = 4.0
"""How many times that is allowed to z_T of networks as large as those timed, whose sums are longer."""
JUDGED = tuple(Job(units=64, lanes=64, sigma=sigma, twins=twins) for sigma in (0.0, NOISE) for twins in (False, True))
"""Where every engine is checked in full, before anything is timed."""
DRAWS = 8
"""Noisy settlings per engine whose moments are compared."""
SPREAD = 0.05
"""Relative difference allowed to standard deviations."""


class Mismatch(Exception):  # noqa: N818  # not an error of the program: two engines do different jobs
    """Two engines do not do the same job, so that their times cannot be compared."""


def check_all(kinds: Sequence[type[Engine]], jobs: Sequence[Job] = JUDGED) -> int:
    """Check every engine against the first one on some jobs.

    Without noise the whole trajectory must agree. With noise, the means over repeated settlings of each unit and lane
    must differ as those of one distribution do, rms of `(mean - mean') / (sd sqrt(2 / K))` near 1; pooled standard
    deviations must agree within 5 %; and twins must end as far apart as those of the first engine, since they see the
    same noise.

    Returns:
        How many comparisons were made.

    Raises:
        Mismatch: two do not agree.
    """
    made = 0
    for job in jobs:
        judge, *others = [kind(job, 1) for kind in kinds if kind.serves(job)]
        wanted = _draws(judge) if job.sigma else judge.trajectory()
        for engine in others:
            with engine.settings():
                if job.sigma:
                    _check_moments(engine, _draws(engine), wanted)
                else:
                    _check_trajectory(engine, engine.trajectory(), wanted)
            engine.close()
            made += 1
        judge.close()
    return made


def check_final(judge: Engine, found: States, engine: Engine, states: States) -> None:
    """A lighter check of every job that is timed: z_T itself without noise, its mean and standard deviation with it.

    Raises:
        Mismatch: two do not agree.
    """
    job, size = judge.job, float(np.abs(found).max())
    if not job.sigma:
        error = float(np.abs(states - found).max()) / size
        if not error <= LONGER * TOLERANCE[job.dtype]:
            raise Mismatch(f"{engine.label} ends {error:.1e} away from {judge.label} ({job.describe()})")
        return
    count = found.size
    room = SPREAD + 6.0 / np.sqrt(count)
    apart = abs(float(states.mean()) - float(found.mean())) / float(found.std())
    ratio = float(states.std()) / float(found.std())
    if not (apart < room and abs(ratio - 1.0) < room):
        raise Mismatch(
            f"{engine.label}: z_T has {ratio:.3f} of the standard deviation of {judge.label}, and a mean "
            f"{apart:.3f} of it away ({job.describe()})"
        )


def _check_trajectory(engine: Engine, found: States, wanted: States) -> None:
    error = float(np.abs(found - wanted[:: engine.every]).max() / np.abs(wanted).max())
    if not error <= TOLERANCE[engine.job.dtype]:
        raise Mismatch(f"{engine.label} leaves the trajectory of hwsim by {error:.1e} ({engine.job.describe()})")


def _draws(engine: Engine) -> States:
    """Final states of repeated settlings, [K, rows, N]."""
    return np.stack([engine.relax().copy() for _ in range(DRAWS)])


def _check_moments(engine: Engine, found: States, wanted: States) -> None:
    job = engine.job
    spread = float(np.sqrt(wanted.var(axis=0, ddof=1).mean()))
    ratio = float(np.sqrt(found.var(axis=0, ddof=1).mean())) / spread
    miss = (found.mean(axis=0) - wanted.mean(axis=0)) / (spread * np.sqrt(2.0 / len(wanted)))
    off = float(np.sqrt(np.mean(miss * miss)))
    if not (abs(ratio - 1.0) < SPREAD and 0.5 < off < 1.5):
        raise Mismatch(
            f"{engine.label}: standard deviation {ratio:.3f} of that of hwsim, means {off:.2f} standard errors away "
            f"({job.describe()})"
        )
    if job.twins:
        apart = [float(np.abs(z[:, : job.lanes] - z[:, job.lanes :]).mean()) for z in (found, wanted)]
        if not abs(apart[0] / apart[1] - 1.0) < SPREAD:
            raise Mismatch(f"{engine.label}: twins end {apart[0]:.2e} apart, those of hwsim {apart[1]:.2e}")
