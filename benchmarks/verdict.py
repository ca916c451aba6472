"""The main job: the whole default `hwsim verdict`, from start to end."""

from __future__ import annotations

import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .figures import Answer, Bar, Sheet
from .processes import Command, run

LONGEST = 180.0
"""Seconds that the default verdict may take on two cores."""


def measure(options: Sequence[str] = ()) -> Answer:
    """Once; `options` are added to the command line (fewer steps, to try this out)."""
    hwsim = str(Path(sysconfig.get_path("scripts")) / "hwsim")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (hwsim, "verdict", "--quiet", "--out", str(Path(folder) / "verdict"), *options)
        wall, cpu, _ = run(Command(arguments=arguments, environment={}))
    sheet = Sheet("Verdict: by default 5 methods, 1 seed, 4000 steps", "", "command", "wall s", "CPU s")
    command = " ".join(("hwsim", "verdict", *options))
    sheet.add(command, f"{wall:.1f}", f"{cpu:.1f}")
    return Answer(
        rows=[{"command": command, "wall_s": wall, "cpu_s": cpu}],
        sheets=[sheet],
        bars=[Bar(name=f"{command}, wall time", figure=wall, limit=LONGEST, unit="s")],
    )
