"""What the figures were measured on. Names no host."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("hwsim", "numba", "numpy", "scipy", "torch", "jax", "jaxlib", "diffrax", "torchsde")
"""Those of them that are installed are named."""
IDLE = 0.3
"""Load average below which the machine counts as this benchmark's own."""


def describe() -> dict[str, Any]:
    """Date, processor, cores, versions and load, as JSON values."""
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "load_before": load(),
    }


def headline(described: dict[str, Any]) -> str:
    """What `describe` found, in a line or two."""
    packages = ", ".join(f"{name} {number}" for name, number in described["packages"].items())
    busy = described["load_before"]
    return (
        f"{described['date']}, {described['processor']}, {described['cores']} cores, Python {described['python']}, "
        f"{packages}; load before the start {'unknown' if busy is None else f'{busy:.1f}'}"
    )


def load() -> float | None:
    """Processes that wanted a core over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
