"""What a fresh process of `first_call` runs: a few relaxations with one engine, `python -m benchmarks.fresh ENGINE`.

Prints JSON: seconds of the first call and of the fastest of the following ones.
"""

from __future__ import annotations

import json
import sys
import time

from .engines import Engine, Hwsim, Numpy
from .job import NOISE, Job


def main(name: str) -> None:
    """Settle six times."""
    engine = _engine(name)
    seconds = []
    with engine.settings():
        for _ in range(6):
            begin = time.perf_counter()
            engine.relax()
            seconds.append(time.perf_counter() - begin)
    print(json.dumps({"first": seconds[0], "steady": min(seconds[1:])}))


def _engine(name: str) -> Engine:
    job = Job(units=64, lanes=64, steps=30, sigma=NOISE)
    if name == "torch":
        from .torch_loop import Torch  # here, so that the others do not pay for importing it

        return Torch(job, 1)
    return {"hwsim": Hwsim, "numpy": Numpy}[name](job, 1)


if __name__ == "__main__":
    main(sys.argv[1])
