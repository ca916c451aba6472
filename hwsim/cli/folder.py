"""The folder of a command's results: made, taken up again, or replaced, and never mixed with another run's."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwsim.contracts.errors import InputError, ResumeError


def open_folder(
    command: str,
    out: Path,
    asked: dict[str, Any],
    *,
    resume: bool,
    overwrite: bool,
    results: Sequence[str],
    earlier: Mapping[str, Any] | None = None,
    free: Callable[[dict[str, Any]], Collection[str]] = lambda held: (),
) -> bool:
    """Make the folder, or take up the one that is there. Returns whether there is something to resume.

    Args:
        command: as it is called on the screen.
        out: the folder; its runs go to `runs`, what was asked for to `settings.json`.
        asked: the settings, as JSON.
        resume, overwrite: what to do with results that it holds.
        results: files of an earlier run that go with it, or an interrupted run would stand beside another's result.
        earlier: settings that came later, with what runs before them had.
        free: which settings may differ from those held.

    Raises:
        InputError: it cannot be written, or holds results and neither was asked for.
        ResumeError: it holds a run with other settings.
    """
    record = out / "settings.json"
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "runs"):
            pass
        if record.exists():
            if resume:
                held = {**(earlier or {}), **_held(record)}
                _same(out, held, asked, free(held))
                return True
            if not overwrite:
                raise InputError(
                    f"{out} already holds results; add --resume to go on with them, --overwrite to replace them, or "
                    "give another --out"
                )
            shutil.rmtree(out / "runs")
            (out / "runs").mkdir()
            for stale in results:
                (out / stale).unlink(missing_ok=True)
        elif resume:
            print(f"hwsim {command}: nothing to resume in {out}; starting afresh", file=sys.stderr)
        record.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write results to {out}: {error.strerror}; give another --out") from None
    return False


def _held(record: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResumeError(f"cannot read {record} ({error}); give another --out, or --overwrite") from None
    return held


def _same(out: Path, held: dict[str, Any], asked: dict[str, Any], free: Collection[str]) -> None:
    changed = sorted(key for key in asked.keys() | held.keys() if key not in free and asked.get(key) != held.get(key))
    if changed:
        differences = "; ".join(f"{key} was {held.get(key)}, is {asked.get(key)}" for key in changed)
        raise ResumeError(
            f"{out} holds a run with other settings ({differences}); resume with the same command, or give another "
            "--out"
        )
