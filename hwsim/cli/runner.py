"""Runs side by side in processes of their own, watched, and stopped with everything saved."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hwsim.contracts.errors import HwsimError

from .options import Setup

if TYPE_CHECKING:
    from hwsim.verdict import MethodRun

    from .progress import Progress

LINE_STEPS = 10
"""Training steps between two messages from a run to the progress bars."""


class Interrupted(KeyboardInterrupt):
    """Stopped by the user, with everything saved: where, and how to go on."""


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        method, seed: which.
        setup: under which condition.
        out: folder of the results.
        resume: go on from what is saved there.
    """

    method: str
    seed: int
    setup: Setup
    out: Path
    resume: bool

    @property
    def label(self) -> str:
        """As it is called on the screen."""
        name = f"{self.method}, seed {self.seed}"
        return f"{self.setup.words}: {name}" if self.setup.values else name

    @property
    def checkpoint(self) -> Path:
        """Where it is saved: a name that every file system takes, different for different methods."""
        folder = self.out / "runs"
        return (
            folder / self.setup.slug if self.setup.values else folder
        ) / f"{quote(self.method, safe='+')}-{self.seed}.npz"


def run_all(jobs: list[Job], workers: int | None, *, quiet: bool) -> list[MethodRun]:
    """The records of all jobs, in their order.

    Args:
        jobs: with equally many steps each.
        workers: processes side by side; one per core unless told.
        quiet: no progress on stderr.

    Raises:
        Interrupted: asked to stop; all runs are saved.
        HwsimError: a run failed, or its process was ended from outside.
    """
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
        Progress([job.label for job in jobs], jobs[0].setup.settings.steps, quiet=quiet) as progress,
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


def _watch(futures: dict[Future[Any], Job], messages: Any, progress: Progress) -> None:
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


def _work(job: Job) -> tuple[MethodRun | None, bool]:
    """One run, in a worker process: its record (None if it was stopped before it began) and whether it is finished."""
    from hwsim.verdict import MethodRun, run_method

    from .methods import compose, task_of

    if _STOP.is_set():
        return None, False
    composition = compose(job.method, job.seed, task_of(job.setup.settings), job.setup.settings)

    def report(step: int, loss: float, rho: float) -> None:
        if step % LINE_STEPS == 0 or step == job.setup.settings.steps:
            _MESSAGES.put((job.label, step, loss, rho, "RUNNING"))

    _MESSAGES.put((job.label, 0, float("nan"), float("nan"), "WAITING"))
    try:
        run, finished = run_method(
            MethodRun(method=job.method, seed=job.seed),
            trainer=composition.trainer,
            evaluator=composition.evaluator,
            begin=composition.begin,
            steps=job.setup.settings.steps,
            every=job.setup.settings.every,
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
