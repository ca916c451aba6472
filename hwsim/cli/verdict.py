"""`hwsim verdict`: run all methods and seeds side by side, then print, draw and save what they show."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from hwsim.contracts.errors import HwsimError, InputError, ResumeError

from .options import Settings, settings_of

if TYPE_CHECKING:
    from hwsim.verdict import MethodRun, Verdict

    from .progress import Progress

TABLE_WIDTH = 100

LINE_STEPS = 10
"""Training steps between two messages from a run to the progress bars."""


class Interrupted(Exception):  # noqa: N818  # a wish, not an error
    """Stopped by the user, with everything saved."""


@dataclass(frozen=True)
class _Job:
    method: str
    seed: int
    settings: Settings
    out: Path
    resume: bool

    @property
    def label(self) -> str:
        return f"{self.method}, seed {self.seed}"

    @property
    def checkpoint(self) -> Path:
        return self.out / "runs" / f"{self.method}-{self.seed}.npz"


def run_verdict(options: argparse.Namespace) -> None:
    """Run, print and save.

    Raises:
        InputError, ResumeError: what was asked cannot be done; nothing was started.
        Interrupted: stopped half-way; everything done so far is saved.
    """
    from .methods import task_of

    settings = settings_of(options)
    task = task_of(settings)  # bad text is refused before a folder is made
    out = Path(f"verdict-{settings.task}") if options.out is None else options.out
    sha256 = getattr(task, "sha256", None)
    asked = {**settings.to_json(), "text_sha256": sha256}
    resume = _open_folder(out, asked, resume=options.resume, overwrite=options.overwrite)
    jobs = [_Job(method, seed, settings, out, resume) for method in settings.methods for seed in settings.seeds]
    runs = _run_all(jobs, options.jobs, quiet=options.quiet)
    verdict = _conclude(settings, sha256, runs)
    _publish(verdict, out, json_only=options.json == "-")


def _conclude(settings: Settings, sha256: str | None, runs: list[MethodRun]) -> Verdict:
    from hwsim import __version__
    from hwsim.verdict import conclude

    return conclude(text_sha256=sha256, settings={**settings.to_json(), "hwsim": __version__}, runs=runs)


def _publish(verdict: Verdict, out: Path, *, json_only: bool) -> None:
    from rich.console import Console

    from hwsim.verdict import to_json

    from .figure import draw
    from .table import summary

    document = to_json(verdict)
    try:
        (out / "verdict.json").write_text(document, encoding="utf-8")
        draw(verdict, out / "verdict.png")
    except OSError as error:
        raise HwsimError(
            f"cannot write the verdict to {out}: {error.strerror}; the runs are saved in {out / 'runs'}: make room and "
            f"give the same command with --resume"
        ) from None
    if json_only:
        sys.stdout.write(document)
        return
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, TABLE_WIDTH)  # a file or pipe has no edge to wrap at
    console.print(summary(verdict))
    console.print(f"\nSaved: {out / 'verdict.json'}, {out / 'verdict.png'}", highlight=False, soft_wrap=True)


def _open_folder(out: Path, asked: dict[str, Any], *, resume: bool, overwrite: bool) -> bool:
    """Make the folder, or take up the one that is there. Returns whether there is something to resume."""
    record = out / "settings.json"
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "runs"):
            pass
        if record.exists():
            if resume:
                _same_settings(record, asked)
                return True
            if not overwrite:
                raise InputError(
                    f"{out} already holds results; add --resume to go on with them, --overwrite to replace them, "
                    f"or give another --out"
                )
            shutil.rmtree(out / "runs")
            (out / "runs").mkdir()
            for stale in ("verdict.json", "verdict.png"):  # or an interrupted run would stand beside another's verdict
                (out / stale).unlink(missing_ok=True)
        elif resume:
            print(f"hwsim verdict: nothing to resume in {out}; starting afresh", file=sys.stderr)
        record.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write results to {out}: {error.strerror}; give another --out") from None
    return False


def _same_settings(record: Path, asked: dict[str, Any]) -> None:
    try:
        held = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResumeError(f"cannot read {record} ({error}); give another --out, or --overwrite") from None
    changed = sorted(key for key in asked.keys() | held.keys() if asked.get(key) != held.get(key))
    if changed:
        differences = "; ".join(f"{key} was {held.get(key)}, is {asked.get(key)}" for key in changed)
        raise ResumeError(
            f"{record.parent} holds a run with other settings ({differences}); resume with the same command, "
            f"or give another --out"
        )


# --- side by side ------------------------------------------------------------------------------------------------


def _run_all(jobs: list[_Job], workers: int | None, *, quiet: bool) -> list[MethodRun]:
    from .progress import Progress, State

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    stop, messages = context.Event(), context.Queue()
    with (
        _one_thread_each(),
        _stop_on_signal(stop) as stopped,
        ProcessPoolExecutor(
            min(workers or cores, len(jobs)), context, initializer=_begin_worker, initargs=(stop, messages)
        ) as pool,
        Progress([job.label for job in jobs], jobs[0].settings.steps, quiet=quiet) as progress,
    ):
        with _deaf_to_ctrl_c():
            futures = {pool.submit(_work, job): job for job in jobs}
        try:
            _watch(futures, messages, progress)
        except BrokenProcessPool:
            raise HwsimError(
                f"a run's process was ended from outside (out of memory?); what was measured is saved in "
                f"{jobs[0].out}: go on with --resume, perhaps with fewer --jobs"
            ) from None
        except BaseException:
            stop.set()
            raise
        finished = []
        for future, job in futures.items():
            run, complete = future.result()
            finished.append((run, complete))
            if run is not None and not complete:
                progress.update(job.label, run.step[-1] if run.step else 0, state=State.INTERRUPTED)
    if stopped() and not all(complete for _, complete in finished):
        saved = sum(run is not None for run, _ in finished)
        raise Interrupted(
            f"interrupted; {saved} of {len(jobs)} runs are begun or done and saved in {jobs[0].out}; "
            f"the same command with --resume goes on"
        )
    return [run for run, _ in finished if run is not None]


def _watch(futures: dict[Future[Any], _Job], messages: Any, progress: Progress) -> None:
    """Pass on what the runs say until all have ended; the first error ends the watch."""
    from .progress import State

    while True:
        ended = all(future.done() for future in futures)
        for future in futures:
            if future.done() and future.exception() is not None:
                raise future.exception()  # type: ignore[misc]  # not None, as just asked
        try:
            while True:
                label, step, loss, rho, state = messages.get(timeout=0.0 if ended else 0.1)
                progress.update(label, step, loss=loss, rho=rho, state=State[state])
        except queue.Empty:
            if ended:
                return


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Runs share the cores by process; BLAS threads inside them would only get in each other's way."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextlib.contextmanager
def _stop_on_signal(stop: Any) -> Iterator[Any]:
    """Ctrl-C and SIGTERM ask the runs to save and end; yields a function that tells whether they were asked."""

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started in here are born deaf to Ctrl-C, so that none dies of it before it can say so itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_STOP: Any = None
_MESSAGES: Any = None


def _begin_worker(stop: Any, messages: Any) -> None:
    """Worker processes leave Ctrl-C to their parent, which asks them to save."""
    global _STOP, _MESSAGES
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _STOP, _MESSAGES = stop, messages


def _work(job: _Job) -> tuple[MethodRun | None, bool]:
    """One run, in a worker process: its record (None if it was stopped before it began) and whether it is finished."""
    from hwsim.verdict import MethodRun, run_method

    from .methods import compose, task_of

    if _STOP.is_set():
        return None, False
    composition = compose(job.method, job.seed, task_of(job.settings), job.settings)

    def report(step: int, loss: float, rho: float) -> None:
        if step % LINE_STEPS == 0 or step == job.settings.steps:
            _MESSAGES.put((job.label, step, loss, rho, "RUNNING"))

    _MESSAGES.put((job.label, 0, float("nan"), float("nan"), "WAITING"))
    try:
        run, finished = run_method(
            MethodRun(method=job.method, seed=job.seed),
            trainer=composition.trainer,
            evaluator=composition.evaluator,
            theta=composition.theta,
            steps=job.settings.steps,
            every=job.settings.every,
            checkpoint=job.checkpoint,
            resume=job.resume,
            report=report,
            stopped=_STOP.is_set,
        )
    except OSError as error:
        raise HwsimError(f"cannot save {job.label} to {job.checkpoint}: {error.strerror}") from None
    state = ("DONE" if run.diverged_at is None else "DIVERGED") if finished else "INTERRUPTED"
    step = run.diverged_at if finished and run.diverged_at is not None else run.step[-1]
    _MESSAGES.put((job.label, step, run.loss_deployed[-1], run.rho_mean[-1], state))
    return run, finished
