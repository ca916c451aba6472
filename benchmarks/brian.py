"""Brian2, which needs an older NumPy than hwsim: in an environment of its own, one lane, as a program of its own.

Run as `PYTHON brian.py FILE` by that interpreter it settles the job in FILE and prints JSON; imported here, it hands
the job over and reads the answer. Brian2 compiles its loops in C++ (cython), in float32.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

UNITS = (64, 256)
"""N that are timed: Brian2 has a synapse for each of the N^2 couplings."""
CALLS = 5


def measure(python: str) -> Any:
    """Brian2 on one lane with noise, beside hwsim in the same turn.

    Args:
        python: an interpreter with brian2.

    Raises:
        RuntimeError: it failed; the message holds what it wrote.
        Mismatch: it does not do the same job.
    """
    import numpy as np

    from .engines import Hwsim
    from .figures import Answer, Sheet, milliseconds, times
    from .job import NOISE, Job
    from .parity import Mismatch
    from .processes import Command, run
    from .timing import Contender, interleaved

    sheet = Sheet(
        "Relaxation: Brian2, one lane, noise on, T = 150, float32",
        "Brian2: Euler-Maruyama, each settling a `run` of a network that is restored; its own process.",
        *("N", "hwsim 1t", "Brian2, fastest", "Brian2 over hwsim", "Brian2, first"),
    )
    rows = []
    for units in UNITS:
        job = Job(units=units, lanes=1, sigma=NOISE)
        drive = (job.inputs @ job.theta["U"].T + job.theta["b"])[0]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.npz"
            np.savez(path, W=job.theta["W"], drive=drive, eps=job.step_size, steps=job.steps, sigma=job.sigma)
            _, _, printed = run(Command(arguments=(python, __file__, str(path)), environment={}))
        told = json.loads(printed.splitlines()[-1])
        quiet = Job(units=units, lanes=1)
        error = float(np.abs(np.array(told["final"]) - Hwsim(quiet, 1).relax()[0]).max())
        if not error <= 1e-4:
            raise Mismatch(f"Brian2 ends {error:.1e} away from hwsim ({quiet.describe()})")
        engine = Hwsim(job, 1)
        own = interleaved({"hwsim 1t": Contender(call=engine.relax)}, 7)["hwsim 1t"]
        ratio = told["steady"] / own.minimum
        sheet.add(str(units), milliseconds(own), f"{1e3 * told['steady']:.1f}", times(ratio), f"{told['first']:.1f} s")
        rows.append({"units": units, "brian2": told["version"], **{k: told[k] for k in ("first", "steady")}})
    return Answer(rows=rows, sheets=[sheet])


def main(file: str) -> None:
    """Settle with Brian2."""
    import brian2 as b2
    import numpy as np

    job = np.load(file)
    W, units, steps = job["W"], len(job["W"]), int(job["steps"])
    b2.prefs.core.default_float_dtype = np.float32
    b2.defaultclock.dt = float(job["eps"]) * b2.ms
    group = b2.NeuronGroup(
        units,
        """dz/dt = (total + drive - z) / ms + size * sqrt(2 / ms) * xi : 1
           rate = tanh(z) : 1
           total : 1
           drive : 1
           size : 1 (shared)""",
        method="euler",
    )
    group.drive = job["drive"]
    synapses = b2.Synapses(group, group, "w : 1\ntotal_post = w * rate_pre : 1 (summed)")
    synapses.connect()
    synapses.w = W[np.asarray(synapses.j), np.asarray(synapses.i)]
    network = b2.Network(group, synapses)
    network.store()

    def settle(sigma: float) -> float:
        network.restore()
        group.size = sigma
        begin = time.perf_counter()
        network.run(steps * b2.defaultclock.dt)
        return time.perf_counter() - begin

    seconds = [settle(float(job["sigma"])) for _ in range(1 + CALLS)]
    settle(0.0)
    answer = {
        "version": b2.__version__,
        "first": seconds[0],
        "steady": min(seconds[1:]),
        "final": np.asarray(group.z).tolist(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
