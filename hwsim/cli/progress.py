"""Progress of runs that go side by side, on stderr: live bars on a terminal, a short line now and then elsewhere.

The caller reports each run by its label:

    with Progress(["bptt, seed 1", "ep, seed 1"], 4000) as progress:
        progress.update("ep, seed 1", 100, loss=2.9, rho=0.95)
        progress.update("ep, seed 1", 2300, loss=3.2, rho=1.04, state=State.DIVERGED)

Nothing is written where it is told to be quiet.
"""

from __future__ import annotations

import enum
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Protocol, cast, final, runtime_checkable

REPORTS = 10
"""A run is reported this many times between its first and its last step where there is no terminal."""


@runtime_checkable
class Stream(Protocol):
    """What progress is written to: stderr, or anything with these three methods of a text file."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


class State(enum.Enum):
    """Where a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be expected of the run."""
        return self not in (State.WAITING, State.RUNNING)


_STYLE = {
    State.WAITING: "dim",
    State.RUNNING: "",
    State.DONE: "green",
    State.DIVERGED: "red",
    State.INTERRUPTED: "yellow",
}


@dataclass
class _Run:
    """What is known of one run. The clock starts at the first report that it is running, from `begun_step` on."""

    state: State = State.WAITING
    step: int = 0
    loss: float = math.nan
    rho: float = math.nan
    begun_step: int = 0
    begun_time: float | None = None
    reported: int = -1

    def left(self, total: int, now: float) -> float:
        """Seconds until `total` at the mean speed since the run began here, (t - t0) (total - k) / (k - k0).

        NaN where no step has been seen to pass, or the run is not running.
        """
        if self.state is not State.RUNNING or self.begun_time is None or self.step <= self.begun_step:
            return math.nan
        return (now - self.begun_time) * (total - self.step) / (self.step - self.begun_step)

    def figures(self) -> str:
        """The live L(z_T) and rho, as far as they are known."""
        known = (("L", self.loss, ".3f" if abs(self.loss) < 1e4 else ".1e"), ("rho", self.rho, ".3f"))
        return "  ".join(f"{name} {value:{form}}" for name, value, form in known if not math.isnan(value))

    def standing(self) -> str:
        """The state in words."""
        return f"diverged at step {self.step}" if self.state is State.DIVERGED else self.state.value


@final
class Progress:
    """A context manager that shows how far each of several runs is.

    On a terminal: one bar per run with its state, time left and the live L(z_T) and rho; where there are more runs than
    lines, only those that run have a bar and those that ended scroll up. Elsewhere: a plain line per run at most every
    tenth of its steps, and one when it ends. Left by an exception, runs that had not ended count as interrupted.

    Args:
        labels: one name per run, each different.
        total: training steps of each run, > 0.
        quiet: show nothing.
        stream: where to write; stderr unless told.
        clock: seconds from some fixed point, for the time left.

    Raises:
        ValueError: labels repeat or `total` is not positive; from `update`, a label that was not announced.
    """

    def __init__(
        self,
        labels: Sequence[str],
        total: int,
        *,
        quiet: bool = False,
        stream: Stream | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(set(labels)) < len(labels):
            raise ValueError(f"asked for labels that differ; found {list(labels)}")
        if total <= 0:
            raise ValueError(f"asked for a total of at least one step; found {total}")
        self._total = total
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._runs = {label: _Run() for label in labels}
        self._live = (
            _LiveView(self._stream, self._runs, total, clock) if not quiet and _is_terminal(self._stream) else None
        )

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for label, run in self._runs.items():
                if not run.state.ended:
                    self.update(label, run.step, state=State.INTERRUPTED)
        if self._live is not None:
            self._live.stop()

    def update(
        self, label: str, step: int, loss: float = math.nan, rho: float = math.nan, state: State = State.RUNNING
    ) -> None:
        """Tell where a run stands.

        The first update that says RUNNING starts the run's clock: give it when the run starts, with the step it starts
        or resumes from, so that steps which were not made now do not count as speed.

        Args:
            label: one of the labels.
            step: training steps made, those before a resume included; the step of divergence with DIVERGED.
            loss: L(z_T) at the last evaluation; NaN leaves the one that was told before.
            rho: mean spectral radius there; NaN leaves the one that was told before.
            state: where the run stands.
        """
        if label not in self._runs:
            raise ValueError(f"asked for progress of one of {list(self._runs)}; found {label!r}")
        run = self._runs[label]
        if state is State.RUNNING and run.begun_time is None:
            run.begun_step, run.begun_time = step, self._clock()
        run.state, run.step = state, step
        run.loss = run.loss if math.isnan(loss) else loss
        run.rho = run.rho if math.isnan(rho) else rho
        if self._live is not None:
            self._live.show(label)
        elif not self._quiet:
            self._report(label, run)

    def _report(self, label: str, run: _Run) -> None:
        tenth = run.step * REPORTS // self._total
        due = run.state is State.RUNNING and run.reported < tenth < REPORTS
        if not (due or run.state.ended):
            return
        run.reported = tenth
        left = run.left(self._total, self._clock())
        parts = [
            f"{label}:",
            f"step {run.step} of {self._total}",
            run.figures(),
            f"{duration(left)} left" if not math.isnan(left) else "",
            "" if run.state is State.RUNNING else run.standing(),
        ]
        self._stream.write("  ".join(part for part in parts if part) + "\n")
        self._stream.flush()


class _LiveView:
    """One bar per run, drawn by rich."""

    def __init__(self, stream: Stream, runs: dict[str, _Run], total: int, clock: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress as Bars, TextColumn

        self._console = Console(file=cast("IO[str]", stream), force_terminal=True)
        self._runs, self._total, self._clock = runs, total, clock
        self._bars = Bars(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", justify="right"),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            refresh_per_second=4,
            redirect_stdout=False,
        )
        self._crowded = len(runs) > self._console.height - 2
        self._tasks = {
            label: self._bars.add_task(
                label, total=total, start=False, visible=not self._crowded, note=_note(run, math.nan), figures=""
            )
            for label, run in runs.items()
        }

    def start(self) -> None:
        self._bars.start()

    def stop(self) -> None:
        self._bars.stop()

    def show(self, label: str) -> None:
        run = self._runs[label]
        note = _note(run, run.left(self._total, self._clock()))
        self._bars.update(
            self._tasks[label],
            completed=run.step,
            visible=not self._crowded or run.state is State.RUNNING,
            note=note,
            figures=run.figures(),
        )
        if self._crowded and run.state.ended:
            from rich.markup import escape

            self._console.print(f"[bold]{escape(label)}[/]  {note}  {run.figures()}", highlight=False)


def _note(run: _Run, left: float) -> str:
    """State or time left, in rich's markup."""
    words = run.standing() if run.state is not State.RUNNING else "" if math.isnan(left) else f"{duration(left)} left"
    style = _STYLE[run.state]
    return f"[{style}]{words}[/]" if style and words else words


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss, rounded up to the second: 0:07, 12:05, 1:02:03."""
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _is_terminal(stream: Stream) -> bool:
    """Whether bars can be drawn: a terminal that understands cursor movement."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
