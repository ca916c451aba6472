"""`import hwsim` and `hwsim --help` in a fresh process, beside a Python that does nothing."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from .figures import Answer, Bar, Sheet, milliseconds
from .processes import Command, interleaved

ROUNDS = 7
LONGEST = 0.3
"""Seconds that `import hwsim` and `hwsim --help` may take."""

PLAIN = "python -c pass"


def measure() -> Answer:
    """Wall time from the start of the process to its end."""
    commands = {
        PLAIN: (sys.executable, "-c", "pass"),
        "python -c 'import hwsim'": (sys.executable, "-c", "import hwsim"),
        "hwsim --help": (str(Path(sysconfig.get_path("scripts")) / "hwsim"), "--help"),
    }
    timings = interleaved(
        {name: Command(arguments=arguments, environment={}) for name, arguments in commands.items()}, ROUNDS
    )
    sheet = Sheet("Start: a fresh process", "", "command", "ms, median (minimum)", "CPU ms", f"beyond {PLAIN}")
    for name, timing in timings.items():
        beyond = f"{1e3 * (timing.median - timings[PLAIN].median):.0f} ms"
        sheet.add(name, milliseconds(timing), f"{1e3 * timing.cpu_median:.0f}", beyond)
    return Answer(
        rows=[{"command": name, **timing.to_json()} for name, timing in timings.items()],
        sheets=[sheet],
        bars=[
            Bar(name=f"{name}, median wall time", figure=timing.median, limit=LONGEST, unit="s")
            for name, timing in timings.items()
            if name != PLAIN
        ],
    )
