"""Timing several runs of the same job in turns, so that a change of the machine's load meets them all alike."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

SHORTEST = 3e-3
"""Seconds that one sample lasts at least; shorter calls are repeated within it."""
PATIENCE = 0.3
"""Seconds that the samples of an optional contender may take on average."""
LAGGING, FEWEST, LONG, HOPELESS = 8.0, 3, 1.0, 30.0
"""Under a budget: how many times slower than the fastest one is lagging, the fewest rounds, and the seconds from which
one round (without an untimed call) will do. And how many times slower than the fastest an optional one is given up."""
PATIENT = 60.0
"""Seconds from which a first call is not followed by another one just to know how long it takes."""
NAP, NAPS, ASLEEP = 0.005, 100, 0.1
"""Before a sample: seconds of one nap, the most naps, and the share of a nap in CPU time below which all threads
count as asleep. Idle threads of OpenBLAS go on spinning for 0.1 s."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something to be timed.

    Args:
        call: the job, once.
        settings: what holds while it runs (numbers of threads), entered before the clock starts.
        optional: whether it may be given up, see `interleaved`.
    """

    call: Callable[[], object]
    settings: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One time in units of another, read in three ways that agree on a machine that does nothing else.

    Args:
        wall: median over rounds of the ratio within the round. Under load a long call is interrupted more often than a
            short one, so that it errs to the disadvantage of the long one.
        minima: of the shortest wall times.
        cpu: as `wall`, in CPU time of all threads together.
    """

    wall: float
    minima: float
    cpu: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds per call, one entry for each round.

    Args:
        wall: as the clock on the wall tells.
        cpu: as the process was charged, all threads together: what other programs take is not in it.
        first: the very first call, which may compile.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    first: float = 0.0

    @property
    def median(self) -> float:
        """Of the wall times."""
        return statistics.median(self.wall)

    @property
    def minimum(self) -> float:
        """Of the wall times."""
        return min(self.wall)

    @property
    def cpu_median(self) -> float:
        """Of the CPU times."""
        return statistics.median(self.cpu)

    def over(self, other: Timing) -> Ratio:
        """This time in units of the other's, taken in the same rounds, as far as both took part."""
        return Ratio(
            wall=statistics.median(a / b for a, b in zip(self.wall, other.wall, strict=False)),
            minima=self.minimum / other.minimum,
            cpu=statistics.median(a / b for a, b in zip(self.cpu, other.cpu, strict=False)),
        )

    def to_json(self) -> dict[str, float | int]:
        """In milliseconds."""
        return {
            "median_ms": 1e3 * self.median,
            "minimum_ms": 1e3 * self.minimum,
            "cpu_median_ms": 1e3 * self.cpu_median,
            "first_s": self.first,
            "rounds": len(self.wall),
        }


def interleaved(contenders: Mapping[str, Contender], rounds: int, *, budget: float | None = None) -> dict[str, Timing]:
    """Time all contenders once in every round, each round beginning with another one.

    Before each sample stands a pause until the predecessor's threads are asleep, and one untimed call, so that the
    contender finds its own data in the caches and its own threads awake. The garbage collector rests.

    Args:
        contenders: what is timed.
        rounds: samples of each.
        budget: seconds that all rounds together should take: fewer rounds then, and fewest for who is `LAGGING`, but
            never less than `FEWEST` (one of a call that takes seconds).

    An optional contender that takes longer than `PATIENCE` is given up and missing from the result: on a busy machine,
    threads that wait for each other by spinning can take a thousand times as long as they need.
    """
    firsts, lasting = {}, {}
    for name, contender in contenders.items():
        firsts[name], lasting[name] = _tried(contender)
    calls = {name: max(1, math.ceil(SHORTEST / lasting[name])) for name in contenders}
    planned = _rounds(lasting, calls, rounds, budget)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    given_up: set[str] = set()
    with _no_garbage_collection():
        for turn in range(max(planned.values(), default=0)):
            going = [name for name in contenders if turn < planned[name] and name not in given_up]
            first = turn % max(1, len(going))
            for name in going[first:] + going[:first]:
                samples[name].append(_sample(contenders[name], calls[name], lasting[name]))
                fastest = min(lasting.values())
                mean = statistics.fmean(wall for wall, _ in samples[name])
                if contenders[name].optional and calls[name] * mean > max(PATIENCE, HOPELESS * fastest):
                    given_up.add(name)
    return {
        name: Timing(wall=tuple(wall for wall, _ in taken), cpu=tuple(cpu for _, cpu in taken), first=firsts[name])
        for name, taken in samples.items()
        if name not in given_up
    }


def _tried(contender: Contender) -> tuple[float, float]:
    """Seconds of the first call, which may compile, and of a later one."""
    with contender.settings():
        first, _ = _timed(contender.call, 1)
        if first > PATIENT:
            return first, first
        seconds, _ = _timed(contender.call, 1)
        if seconds < SHORTEST:
            seconds = min(_timed(contender.call, 1)[0] for _ in range(3))
    return first, seconds


def _rounds(
    lasting: Mapping[str, float], calls: Mapping[str, int], rounds: int, budget: float | None
) -> dict[str, int]:
    """Rounds of each contender."""
    if budget is None:
        return dict.fromkeys(lasting, rounds)
    fastest = min(lasting.values(), default=0.0)
    fewest = {name: 1 if seconds > LONG else FEWEST for name, seconds in lasting.items()}
    slow = {name for name, seconds in lasting.items() if seconds > LAGGING * fastest and seconds > SHORTEST}
    cost = {name: (calls[name] + 1) * seconds + NAP for name, seconds in lasting.items()}
    rest = budget - sum(fewest[name] * cost[name] for name in slow)
    each = sum(cost[name] for name in lasting if name not in slow)
    fit = int(rest / each) if each else 0
    return {
        name: min(rounds, fewest[name]) if name in slow else min(rounds, max(fewest[name], fit)) for name in lasting
    }


def _sample(contender: Contender, calls: int, lasting: float) -> tuple[float, float]:
    with contender.settings():
        _until_idle()
        if lasting < LONG:
            contender.call()
        wall, cpu = _timed(contender.call, calls)
    return wall / calls, cpu / calls


def _until_idle() -> None:
    """Wait for the predecessor's threads to fall asleep."""
    for _ in range(NAPS):
        begin = time.process_time()
        time.sleep(NAP)
        if time.process_time() - begin < ASLEEP * NAP:
            return


def _timed(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """(wall, CPU) seconds of `calls` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    return time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
