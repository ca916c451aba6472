"""One relaxation: the whole `SimulatedDevice.relax` beside the same loop in every peer that is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from .engines import Engine
from .figures import Answer, Bar, Sheet, milliseconds, times
from .job import NOISE, Job
from .parity import JUDGED, check_all, check_final
from .peers import Peers, installed
from .roofline import Roofline
from .timing import Contender, Timing, interleaved

UNITS, LANES = (16, 64, 256, 1024, 4096), (1, 64, 256)
COMMON = ((16, 1), (64, 1), (256, 1), (1024, 1), (64, 64), (256, 64), (1024, 64), (4096, 64))
"""(N, B) timed by default, with noise."""
COMPARED = ((64, 64), (256, 64), (1024, 64))
"""(N, B) timed by default without noise, and as twins, as well."""
FEW = ((64, 1), (64, 64), (256, 64))
"""(N, B) timed with --quick."""
HEAVY = 1e11
"""flop from which only the engines that may win are timed, unless everything is asked for."""
SWIFT = frozenset({"hwsim", "torch", "jax scan"})
BUDGET, BUDGET_FULL = 8.0, 30.0
"""Seconds that the rounds of one job should take."""
ONE_VARIANT = frozenset({"torch.compile", "torchsde"})
"""Timed on one number of threads only: dear to compile, or slow in any case (and then slower on two)."""
DEAR = frozenset({"torch.compile"})
"""Takes so long to compile that it is timed at `COMPARED` with noise only, and checked without twins, unless everything
is asked for."""

FASTER = {(64, 1): {"torch": 15.0, "jax scan": 6.0}, (64, 64): {"": 3.0}, (256, 64): {"": 2.0}}
"""(N, B) -> peer ("" for the best) -> how many times as fast hwsim must be, with noise."""
AHEAD = ((1024, 64), (4096, 64))
"""(N, B) at which it must be ahead of the best peer, at this fraction of the roofline:"""
FRACTION = 0.85
PAIR = 1.9
"""Singles that a pair of twins may cost."""
SCALING = ((1024, 64), 1.7)
"""Where, and by what factor, two threads must be faster than one."""


@dataclass(kw_only=True)
class Measured:
    """One job and what was found.

    Args:
        job: what ran.
        timings: label -> its times.
        bound: seconds of the roofline, on one thread and on all.
        given_up: labels without a figure -> why.
    """

    job: Job
    timings: dict[str, Timing]
    bound: dict[int, float]
    given_up: dict[str, str] = field(default_factory=dict)

    def own(self) -> dict[str, Timing]:
        """hwsim's, by number of threads."""
        return {label: timing for label, timing in self.timings.items() if label.startswith("hwsim")}

    def of(self, peer: str) -> dict[str, Timing]:
        """Those of a peer, or of all peers ("")."""
        return {
            label: timing
            for label, timing in self.timings.items()
            if not label.startswith("hwsim") and (not peer or label == peer or label.startswith(f"{peer} "))
        }

    def ratio(self, peer: str = "") -> tuple[float, float] | None:
        """(by medians, by minima): the best of a peer, or of all, over the best of hwsim."""
        theirs, ours = self.of(peer).values(), self.own().values()
        if not theirs or not ours:
            return None
        return (
            min(timing.median for timing in theirs) / min(timing.median for timing in ours),
            min(timing.minimum for timing in theirs) / min(timing.minimum for timing in ours),
        )

    def best_peer(self) -> str:
        """The label of the fastest peer, by minima."""
        found = self.of("")
        return min(found, key=lambda label: found[label].minimum) if found else ""

    def fraction(self) -> float:
        """The roofline over the minimum of hwsim, the better number of threads."""
        return max(self.bound[int(label.split()[1][:-1])] / timing.minimum for label, timing in self.own().items())


def grid(*, quick: bool = False, full: bool = False, sizes: Sequence[tuple[int, int]] = ()) -> list[Job]:
    """What is timed."""
    if full or sizes:
        chosen = sizes or tuple(product(UNITS, LANES))
        return [
            Job(units=units, lanes=lanes, sigma=sigma, twins=twins)
            for (units, lanes), sigma, twins in product(chosen, (NOISE, 0.0), (False, True))
        ]
    if quick:
        return [Job(units=units, lanes=lanes, sigma=NOISE) for units, lanes in FEW]
    noisy = [Job(units=units, lanes=lanes, sigma=NOISE) for units, lanes in COMMON]
    quiet = [Job(units=units, lanes=lanes) for units, lanes in COMPARED]
    return [*noisy, *quiet, *(Job(units=units, lanes=lanes, sigma=NOISE, twins=True) for units, lanes in COMPARED)]


def measure(
    rounds: int, roofline: Roofline, jobs: Sequence[Job], *, full: bool = False, peers: Peers | None = None
) -> tuple[Answer, list[Measured]]:
    """Check that all engines agree, then time them in turns.

    Raises:
        Mismatch: they do not agree.
    """
    peers = installed() if peers is None else peers
    made = check_all(peers.kinds, [job for job in JUDGED if full or not job.twins])
    if not full:
        made += check_all([kind for kind in peers.kinds if kind.name not in DEAR], [job for job in JUDGED if job.twins])
    found = []
    for job in jobs:
        print(f"  {job.describe()}", file=sys.stderr, flush=True)
        found.append(_measured(job, peers, rounds, roofline, full=full))
    note = f"Checked before timing: {made} comparisons of trajectories and moments. {peers.note()}"
    return (
        Answer(
            rows=[_row(one) for one in found], sheets=[_times(found, peers, note), _ratios(found)], bars=_bars(found)
        ),
        found,
    )


def _measured(job: Job, peers: Peers, rounds: int, roofline: Roofline, *, full: bool) -> Measured:
    given_up: dict[str, str] = {}
    engines: list[Engine] = []
    for kind in peers.kinds:
        if not (kind.serves(job) and (full or _wanted(kind.name, job))):
            continue
        for threads in _variants(kind):
            try:
                engines.append(kind(job, threads))
            except (RuntimeError, MemoryError) as error:  # no compiler, no memory
                given_up[kind.name] = str(error).splitlines()[0]
    try:
        judge, found = engines[0], engines[0].relax().copy()
        for engine in engines[1:]:
            if engine.threads == _variants(type(engine))[0]:
                with engine.settings():
                    check_final(judge, found, engine, engine.relax())
        contenders = {
            engine.label: Contender(
                call=engine.relax,
                settings=engine.settings,
                optional=engine.threads > 1 and len(_variants(type(engine))) > 1,
            )
            for engine in engines
        }
        timings = interleaved(contenders, rounds, budget=BUDGET_FULL if full else BUDGET)
    finally:
        for engine in engines:
            engine.close()
    bound = {threads: roofline.bound(job, threads) for threads in (1, _cores())}
    return Measured(job=job, timings=timings, bound=bound, given_up=given_up)


def _wanted(name: str, job: Job) -> bool:
    """Whether an engine is timed where not everything is asked for."""
    if name in DEAR and ((job.units, job.lanes) not in COMPARED or job.twins or not job.sigma):
        return False
    return job.flop <= HEAVY or name in SWIFT


def _variants(kind: type[Engine]) -> tuple[int, ...]:
    """Numbers of threads that an engine is timed on."""
    cores = _cores()
    if not kind.threaded:
        return (cores,)
    if kind.name in ONE_VARIANT:
        return (cores if kind.name in DEAR else 1,)
    return (1, cores) if cores > 1 else (1,)


def _cores() -> int:
    """Threads of the many-threaded variant: two where there are two cores."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, count)


def _row(one: Measured) -> dict[str, Any]:
    job, ratio = one.job, one.ratio()
    return {
        "units": job.units,
        "lanes": job.lanes,
        "steps": job.steps,
        "dtype": job.dtype,
        "sigma": job.sigma,
        "twins": job.twins,
        "times": {label: timing.to_json() for label, timing in one.timings.items()},
        "roofline_ms": {str(threads): 1e3 * bound for threads, bound in one.bound.items()},
        "fraction_of_roofline": one.fraction(),
        "best_peer": one.best_peer(),
        "best_peer_over_hwsim": None if ratio is None else {"median": ratio[0], "minimum": ratio[1]},
        "given_up": one.given_up,
    }


CASE = "N, B, noise, lanes"


def _times(found: Sequence[Measured], peers: Peers, note: str) -> Sheet:
    labels: dict[str, None] = {}
    for kind in peers.kinds:
        for one in found:
            labels |= dict.fromkeys(label for label in one.timings if label == kind.name or label[:-3] == kind.name)
    sheet = Sheet("Relaxation: ms per call, median (minimum); T = 150, float32; 1t, 2t: threads", note, CASE, *labels)
    for one in found:
        cells = (milliseconds(one.timings[label]) if label in one.timings else "" for label in labels)
        sheet.add(one.job.case, *cells)
    return sheet


def _ratios(found: Sequence[Measured]) -> Sheet:
    sheet = Sheet(
        "Relaxation: beside the best peer and beside the roofline",
        "Time of the best peer over that of hwsim, the better number of threads of either. Roofline: what "
        "products at this machine's sgemm peak (or W streamed from memory) and its cheapest normal deviates would take "
        "alone. First: the very first call in this process, which compiles what is not yet compiled for this job.",
        *(CASE, "best peer", "by medians", "by minima", "roofline, 1t", "of roofline", "first: hwsim", "best peer"),
    )
    for one in found:
        ratio, best, bound = one.ratio(), one.best_peer(), 1e3 * one.bound[1]
        ours = one.own()["hwsim 1t"].first
        cells = ("", "") if ratio is None else (times(ratio[0]), times(ratio[1]))
        theirs = f"{one.timings[best].first:.2f} s" if best else ""
        share = f"{100 * one.fraction():.0f} %"
        sheet.add(one.job.case, best, *cells, f"{bound:.3g} ms", share, f"{ours:.2f} s", theirs)
    return sheet


def _bars(found: Sequence[Measured]) -> list[Bar]:
    bars = []
    for one in found:
        size, single = (one.job.units, one.job.lanes), not one.job.twins and one.job.sigma > 0.0
        if single:
            wanted = dict(FASTER.get(size, {}))
            if size in AHEAD:
                wanted[""] = 1.0
            for peer, limit in wanted.items():
                if (ratio := one.ratio(peer)) is None:
                    continue
                name = f"{size[0]} x {size[1]} against {peer or 'the best peer'}"
                for how, figure in zip(("medians", "minima"), ratio, strict=True):
                    bars.append(Bar(name=f"{name}, {how}", figure=figure, limit=limit, unit="x", at_least=True))
            if size in AHEAD:
                name = f"{size[0]} x {size[1]}, fraction of the roofline"
                bars.append(Bar(name=name, figure=one.fraction(), limit=FRACTION, unit="", at_least=True))
            if size == SCALING[0] and len(one.own()) > 1:
                alone, both = (timing.minimum for timing in one.own().values())
                name = f"{size[0]} x {size[1]}, 1 thread over 2, minima"
                bars.append(Bar(name=name, figure=alone / both, limit=SCALING[1], unit="x", at_least=True))
        if one.job.twins and one.job.sigma:
            alone_job = [
                other for other in found if other.job == Job(units=size[0], lanes=size[1], sigma=one.job.sigma)
            ]
            for other in alone_job:
                figure = one.own()["hwsim 1t"].minimum / other.own()["hwsim 1t"].minimum
                bars.append(Bar(name=f"{size[0]} x {size[1]}, twins over singles", figure=figure, limit=PAIR, unit="x"))
    return bars
