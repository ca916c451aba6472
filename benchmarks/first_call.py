"""The first relaxation of a fresh process, its memory, and the second run of a command.

Compiled kernels are kept in a cache: once it is empty, else filled.
"""

from __future__ import annotations

import json
import statistics
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .figures import Answer, Bar, Sheet
from .peers import installed
from .processes import Command, run

COLD, WARM = 1, 2
"""Fresh processes measured; with an empty cache each compiles for seconds."""
SIZES = ((64, 64), (1024, 64))
"""(N, B) at which memory is compared."""
LARGE = frozenset({"hwsim", "numpy", "torch", "jax scan"})
"""Engines of which the larger size is measured."""
COLDEST, AGAIN = 10.0, 2.0
"""Seconds that a first result may take with an empty cache, and a command's second run."""
COMMAND = ("audit", "--task", "digits", "--units", "16", "--train", "1", "--quiet")
"""The command whose second run is timed."""


@dataclass(frozen=True, kw_only=True)
class _Fresh:
    """One fresh process: seconds from its start to its end, of CPU, of its first call, of a steady one; peak MiB."""

    process: float
    cpu: float
    first: float
    steady: float
    peak: float


def measure() -> Answer:
    """T = 150, float32, noise on, one thread, each time in a fresh process; engines in turns."""
    peers = installed()
    names = [kind.name for kind in peers.kinds]
    found: dict[tuple[str, int, int], list[_Fresh]] = {}
    with tempfile.TemporaryDirectory() as folder:
        filled = {"NUMBA_CACHE_DIR": folder}
        for _ in range(COLD):
            with tempfile.TemporaryDirectory() as empty:
                cold = _fresh("hwsim", *SIZES[0], {"NUMBA_CACHE_DIR": empty})
            found.setdefault(("hwsim, empty cache", *SIZES[0]), []).append(cold)
        _fresh("hwsim", *SIZES[0], filled)
        for units, lanes in SIZES:
            small = (units, lanes) == SIZES[0]
            for _ in range(WARM if small else 1):
                for name in names if small else [name for name in names if name in LARGE]:
                    print(f"  {name}, N = {units}, B = {lanes}", file=sys.stderr, flush=True)
                    found.setdefault((name, units, lanes), []).append(_fresh(name, units, lanes, filled))
    command = _command()
    return _answer(found, command, peers.note())


def _fresh(engine: str, units: int, lanes: int, environment: Mapping[str, str]) -> _Fresh:
    arguments = (sys.executable, "-m", "benchmarks.fresh", engine, str(units), str(lanes))
    wall, cpu, printed = run(Command(arguments=arguments, environment=environment))
    return _Fresh(process=wall, cpu=cpu, **json.loads(printed.splitlines()[-1]))


def _command() -> tuple[float, float]:
    """Seconds of a command with an empty cache, and again."""
    hwsim = str(Path(sysconfig.get_path("scripts")) / "hwsim")
    with tempfile.TemporaryDirectory() as folder:
        command = Command(
            arguments=(hwsim, *COMMAND, "--out", str(Path(folder) / "out")),
            environment={"NUMBA_CACHE_DIR": str(Path(folder) / "cache")},
        )
        return run(command)[0], run(command)[0]


def _answer(found: Mapping[tuple[str, int, int], list[_Fresh]], command: tuple[float, float], note: str) -> Answer:
    sheet = Sheet(
        "First call: T = 150, float32, noise on, one thread; medians",
        f"The process counts from its start to its end: imports, setting up, six relaxations. {note}",
        *("engine", "N, B", "process s", "its CPU s", "first relaxation ms", "steady relaxation ms", "peak MiB"),
    )
    rows: list[dict[str, Any]] = []
    for (name, units, lanes), taken in found.items():
        medians = {key: statistics.median(getattr(one, key) for one in taken) for key in _Fresh.__dataclass_fields__}
        sheet.add(
            name,
            f"{units}, {lanes}",
            f"{medians['process']:.2f}",
            f"{medians['cpu']:.2f}",
            f"{1e3 * medians['first']:.1f}",
            f"{1e3 * medians['steady']:.2f}",
            f"{medians['peak']:.0f}",
        )
        rows.append(
            {"engine": name, "units": units, "lanes": lanes, "processes": len(taken)}
            | {f"{key}{'_mib' if key == 'peak' else '_s'}": value for key, value in medians.items()}
        )
    cold = found[("hwsim, empty cache", *SIZES[0])][0]
    told = " ".join(("hwsim", *COMMAND))
    bars = [
        Bar(name="cold start to first result, process", figure=cold.process, limit=COLDEST, unit="s"),
        Bar(name=f"{told}, second run, process", figure=command[1], limit=AGAIN, unit="s"),
    ]
    rows.append({"command": told, "first_run_s": command[0], "second_run_s": command[1]})
    return Answer(rows=rows, sheets=[sheet], bars=bars)
