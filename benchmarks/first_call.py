"""The first relaxation of a fresh process, with an empty and with a filled cache of compiled kernels."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .figures import Answer, Sheet
from .processes import Command, run

COLD, WARM = 3, 7
"""Fresh processes measured; with an empty cache each compiles for seconds."""


@dataclass(frozen=True, kw_only=True)
class _Fresh:
    """One fresh process: seconds from its start to its end, of CPU, of its first call, of a steady one."""

    process: float
    cpu: float
    first: float
    steady: float


def measure() -> Answer:
    """N = 64, B = 64, T = 30, float32, noise on, one thread, each time in a fresh process; engines in turns."""
    found: dict[str, list[_Fresh]] = {"hwsim, empty cache": [], "hwsim, filled cache": [], "torch": [], "numpy": []}
    with tempfile.TemporaryDirectory() as folder:
        filled = {"NUMBA_CACHE_DIR": folder}
        for _ in range(COLD):
            with tempfile.TemporaryDirectory() as empty:
                found["hwsim, empty cache"].append(_fresh("hwsim", {"NUMBA_CACHE_DIR": empty}))
        for name in ("hwsim", "torch", "numpy"):  # fills the cache of kernels and the cache of files
            _fresh(name, filled)
        for _ in range(WARM):
            found["hwsim, filled cache"].append(_fresh("hwsim", filled))
            found["torch"].append(_fresh("torch", {}))
            found["numpy"].append(_fresh("numpy", {}))
    return _answer(found)


def _fresh(engine: str, environment: Mapping[str, str]) -> _Fresh:
    command = Command(arguments=(sys.executable, "-m", "benchmarks.fresh", engine), environment=environment)
    wall, cpu, printed = run(command)
    return _Fresh(process=wall, cpu=cpu, **json.loads(printed))


def _answer(found: Mapping[str, list[_Fresh]]) -> Answer:
    sheet = Sheet(
        "First call: N = 64, B = 64, T = 30, float32, noise on, one thread; medians",
        "The process counts from its start to its end: imports, setting up, six relaxations.",
        *("engine", "process s", "its CPU s", "first relaxation ms", "steady relaxation ms"),
    )
    rows: list[dict[str, Any]] = []
    for name, taken in found.items():
        medians = {key: statistics.median(getattr(one, key) for one in taken) for key in _Fresh.__dataclass_fields__}
        sheet.add(
            name,
            f"{medians['process']:.2f}",
            f"{medians['cpu']:.2f}",
            f"{1e3 * medians['first']:.1f}",
            f"{1e3 * medians['steady']:.2f}",
        )
        rows.append({"engine": name, "processes": len(taken), **{f"{key}_s": value for key, value in medians.items()}})
    return Answer(rows=rows, sheets=[sheet])
