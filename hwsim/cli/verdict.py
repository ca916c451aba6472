"""`hwsim verdict`: run all methods and seeds side by side, then print, draw and save what they show."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hwsim.contracts.errors import HwsimError, InputError

from .folder import open_folder
from .options import Setup, setups_of, swept_json
from .runner import Job, run_all

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hwsim.verdict import MethodRun, Verdict

TABLE_WIDTH = 118

FURTHER_SETTINGS = {"mismatch": 0.0, "reference_device": "cpu", "engine": "fused"}
"""Settings that came later, with what runs before them had."""


def run_verdict(options: argparse.Namespace) -> int:
    """Run, print and save.

    Returns:
        0.

    Raises:
        InputError, CapabilityError, ResumeError: what was asked cannot be done; nothing was started.
        Interrupted: stopped half-way; everything done so far is saved.
    """
    from hwsim.contracts.threads import one_blas_thread

    from .methods import check_methods, task_of

    setups = setups_of(options)
    for setup in setups:  # what cannot be run is refused before a folder is made
        task = task_of(setup.settings)
        with one_blas_thread():
            check_methods(task, setup.settings)
    settings = setups[0].settings
    out = Path(f"verdict-{settings.task}") if options.out is None else options.out
    sha256 = getattr(task, "sha256", None)
    asked = {**swept_json(setups), "text_sha256": sha256}
    resume = open_folder(
        "verdict",
        out,
        asked,
        resume=options.resume,
        overwrite=options.overwrite,
        results=("verdict.json", "verdict.png"),
        earlier=FURTHER_SETTINGS,
    )
    jobs = [
        Job(method, seed, setup, out, resume)
        for setup in setups
        for method in settings.methods
        for seed in settings.seeds
    ]
    for job in jobs:
        _make(job.checkpoint.parent)
    runs = run_all(jobs, options.jobs, quiet=options.quiet)
    each = len(jobs) // len(setups)
    verdicts = [_conclude(setup, sha256, runs[k * each : (k + 1) * each]) for k, setup in enumerate(setups)]
    if len(verdicts) == 1:
        _publish_verdict(verdicts[0], out, json_only=options.json == "-")
    else:
        _publish_sweep(setups, verdicts, out, json_only=options.json == "-")
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write results to {folder}: {error.strerror}; give another --out") from None


def _conclude(setup: Setup, sha256: str | None, runs: list[MethodRun]) -> Verdict:
    from hwsim import __version__
    from hwsim.verdict import conclude

    return conclude(text_sha256=sha256, settings={**setup.settings.to_json(), "hwsim": __version__}, runs=runs)


def _publish_verdict(verdict: Verdict, out: Path, *, json_only: bool) -> None:
    from hwsim.verdict import to_json

    from .figure import draw
    from .table import summary

    _publish(to_json(verdict), lambda path: draw(verdict, path), lambda: summary(verdict), out, json_only=json_only)


def _publish_sweep(setups: tuple[Setup, ...], verdicts: list[Verdict], out: Path, *, json_only: bool) -> None:
    from hwsim.verdict import Condition, Sweep, sweep_to_json

    from .figure import draw
    from .sweep_figure import draw_sweep
    from .table import sweep_summary

    sweep = Sweep(
        axes={name: tuple(dict.fromkeys(setup.values[name] for setup in setups)) for name in setups[0].values},
        conditions=tuple(
            Condition(values=setup.values, verdict=verdict) for setup, verdict in zip(setups, verdicts, strict=True)
        ),
    )

    def pictures(path: Path) -> None:
        draw_sweep(sweep, path)
        for setup, verdict in zip(setups, verdicts, strict=True):
            draw(verdict, out / "runs" / setup.slug / "verdict.png")

    _publish(sweep_to_json(sweep), pictures, lambda: sweep_summary(sweep), out, json_only=json_only)


def _publish(
    document: str,
    draw: Callable[[Path], None],
    summary: Callable[[], RenderableType],
    out: Path,
    *,
    json_only: bool,
) -> None:
    from rich.console import Console

    try:
        (out / "verdict.json").write_text(document, encoding="utf-8")
        draw(out / "verdict.png")
    except OSError as error:
        raise HwsimError(
            f"cannot write the verdict to {out}: {error.strerror}; the runs are saved in {out / 'runs'}: make room and "
            f"give the same command with --resume"
        ) from None
    if json_only:
        sys.stdout.write(document)
        return
    console, told = Console(), summary()
    if not console.is_terminal:
        # a file or pipe has no edge to wrap at
        wide = console.options.update(width=1000)
        console.width = max(console.width, TABLE_WIDTH, console.measure(told, options=wide).minimum)
    console.print(told)
    console.print(f"\nSaved: {out / 'verdict.json'}, {out / 'verdict.png'}", highlight=False, soft_wrap=True)
