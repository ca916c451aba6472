"""What a fresh process of `first_call` runs: `python -m benchmarks.fresh ENGINE N B`, a few relaxations.

Prints JSON: seconds of the first call, of the fastest of the following ones, and MiB of memory at its peak.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from .job import NOISE, Job
from .peers import installed

CALLS = 6


def _peak() -> float:
    """MiB. Linux counts what the parent held before this program began into ru_maxrss, and not into VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(name: str, units: int, lanes: int) -> None:
    """Settle six times."""
    (kind,) = installed((name,)).kinds
    engine = kind(Job(units=units, lanes=lanes, sigma=NOISE), 1)
    seconds = []
    with engine.settings():
        for _ in range(CALLS):
            begin = time.perf_counter()
            engine.relax()
            seconds.append(time.perf_counter() - begin)
    peak = _peak()
    print(json.dumps({"first": seconds[0], "steady": min(seconds[1:]), "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
