"""The verdict in the terminal: a table of the runs, one row per method, then the decision in words.

Everything here is a rich renderable; the caller prints it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hwsim.contracts.units import engineering
from hwsim.verdict.decision import ADJOINT, REFERENCE, headline, remedies, survivors
from hwsim.verdict.record import Choice, MethodRun, Sweep, Verdict, methods_of

from .options import condition_words

Figure: TypeAlias = Callable[[MethodRun], float]

COLOUR: dict[Choice, str] = {"a": "green", "b": "magenta", "undecided": "yellow"}


def summary(verdict: Verdict) -> RenderableType:
    """The tables, then the verdict in words; 100 columns wide while names of methods are not long."""
    return Group(table(verdict.runs), "", costs(verdict.runs), "", words(verdict))


def table(runs: Sequence[MethodRun]) -> Table:
    """One row per method; where it ran from several seeds the median over them, with the lowest and highest below.

    Columns, at the last evaluation unless said otherwise: deployed loss L(z_T), its best evaluation, loss and residual
    after 20 T steps, residual at z_T (state units per time constant), rho mean and maximum over samples, cosines of the
    method's gradient to BPTT's and to the transpose relaxation's, the step of divergence with its seed, and seconds.
    A loss that is no longer a number at the end of a run that diverged is shown as inf; every other figure is that of
    the last evaluation at which it is finite, "-" where there is none.
    """
    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, header_style="bold")
    grid.add_column("method", no_wrap=True)
    for heading, _, _ in _COLUMNS:
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("diverged\nat (seed)", justify="right", no_wrap=True)
    grid.add_column("time\n[s]", justify="right", no_wrap=True)
    for method in methods_of(runs):
        if own := sorted((run for run in runs if run.method == method), key=lambda run: run.seed):
            grid.add_row(*_row(method, own), end_section=len(own) > 1)
    return grid


def costs(runs: Sequence[MethodRun]) -> Table:
    """One row per method: what it may look at, its last accuracy, and what an update takes on the device.

    Medians over seeds; "-" where nothing is known. Settles count every sample of a batch; the device time is that of
    samples settled one after another, reading and writing not counted. Energy is shown where the device's power is
    known.
    """
    grid = _grid("method", *(heading for heading, _, _ in _costs_shown(runs)))
    for method in methods_of(runs):
        own = [run for run in runs if run.method == method]
        grid.add_row(
            Text(method, style="bold"), *(_cell_of(own, figure, show) for _, figure, show in _costs_shown(runs))
        )
    return grid


def sweep_summary(sweep: Sweep) -> RenderableType:
    """One block per condition, see `sweep_table`; under each what it decides, where the deciding methods ran."""
    parts: list[RenderableType] = []
    for condition in sweep.conditions:
        verdict = condition.verdict
        parts += [Text(condition_words(condition.values), style="bold underline"), sweep_table(verdict.runs)]
        if {REFERENCE, ADJOINT} <= {run.method for run in verdict.runs}:
            parts.append(Padding(Text(headline(verdict.decision), style=COLOUR[verdict.decision]), (0, 1)))
        parts.append("")
    return Group(*parts[:-1])


def sweep_table(runs: Sequence[MethodRun]) -> Table:
    """One row per method, medians over seeds: the last deployed loss, its ratio to BPTT's of the same seeds (over the
    last tenth of the evaluations), accuracy, mean rho, how many seeds diverged, and the columns of `costs`."""
    ratios = {REFERENCE: 1.0, **remedies(runs)}
    shown = [column for column in _costs_shown(runs) if column[0] != "kind"]
    grid = _grid(
        "method", "kind", "final\nloss", "times\nBPTT's", "rho\nmean", "di-\nverged", *(name for name, _, _ in shown)
    )
    for method in methods_of(runs):
        own = [run for run in runs if run.method == method]
        lost, ratio = sum(run.diverged_at is not None for run in own), ratios.get(method, math.nan)
        grid.add_row(
            Text(method, style="bold red" if lost else "bold"),
            _cell_of(own, lambda run: run.kind, _kind),
            _cell([_final("loss_deployed")(run) for run in own], _loss, spread=False),
            _cell([ratio], _ratio, spread=False),
            _cell([_last("rho_mean")(run) for run in own], _ratio, spread=False),
            Text(f"{lost}/{len(own)}", style="red" if lost else ""),
            *(_cell_of(own, figure, show) for _, figure, show in shown),
        )
    return grid


def _grid(first: str, *others: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    grid.add_column(first, no_wrap=True)
    for heading in others:
        grid.add_column(heading, justify="left" if heading == "kind" else "right", no_wrap=True)
    return grid


def _costs_shown(runs: Sequence[MethodRun]) -> list[tuple[str, Known, Callable[[Any], str]]]:
    powered = any(run.update is not None and run.update.joules is not None for run in runs)
    return [column for column in _COSTS if powered or "energy" not in column[0]]


def _cell_of(runs: Sequence[MethodRun], figure: Known, show: Callable[[Any], str]) -> Text:
    """The median of what is known (the first, where it is a word); "-" where nothing is."""
    known = [value for run in runs if (value := figure(run)) is not None and value == value]
    if not known:
        return Text("-")
    return Text(show(known[0] if isinstance(known[0], str) else statistics.median(known)))


def _kind(kind: str) -> str:
    return kind.replace("_", "-")


def words(verdict: Verdict) -> RenderableType:
    """The verdict in words: its headline, the reason with the numbers, and which methods survive."""
    lines: list[RenderableType] = [Text(headline(verdict.decision), style=f"bold {COLOUR[verdict.decision]}")]
    lines.append(Text(verdict.reason))
    if told := survivors(verdict.runs):
        lines.append(Text(told))
    return Padding(Group(*lines), (0, 1))


def _row(method: str, runs: Sequence[MethodRun]) -> list[Text]:
    spread = len(runs) > 1
    lost = [run for run in runs if run.diverged_at is not None]
    style = "red" if lost else ""
    name = Text(method, style=f"bold {style}".strip())
    if spread:
        name.append("\n  lowest\n  highest", style="not bold dim")
    cells = [_cell([figure(run) for run in runs], show, spread) for _, figure, show in _COLUMNS]
    when = Text("\n".join(f"{run.diverged_at} ({run.seed})" for run in lost) or "never", style=style)
    return [name, *cells, when, _cell([run.seconds for run in runs], _seconds, spread)]


def _cell(values: Sequence[float], show: Callable[[float], str], spread: bool) -> Text:
    """Median of the values that are no NaN, above their lowest and highest where there is a spread."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Text("-")
    cell = Text(show(statistics.median(known)))
    if spread:
        cell.append(f"\n{show(min(known))}\n{show(max(known))}", style="dim")
    return cell


def _last(name: str) -> Figure:
    """The last finite value of a series, NaN where there is none."""
    return lambda run: next((value for value in reversed(run.series(name)) if math.isfinite(value)), math.nan)


def _final(name: str) -> Figure:
    """The last value of a series of losses; infinite where a run that diverged has no finite one there."""

    def figure(run: MethodRun) -> float:
        value = run.series(name)[-1] if run.step else math.nan
        return math.inf if run.diverged_at is not None and not math.isfinite(value) else value

    return figure


def _best(run: MethodRun) -> float:
    return min((value for value in run.loss_deployed if math.isfinite(value)), default=math.nan)


def _loss(value: float) -> str:
    """Five characters at most: 2.069, 12.34, 123.4, 1e+06."""
    if not math.isfinite(value):
        return str(value)
    for decimals, limit in ((3, 9.9995), (2, 99.995), (1, 999.95)):
        if abs(value) < limit:
            return f"{value:.{decimals}f}"
    return f"{value:.0e}"


def _residual(value: float) -> str:
    """Two digits and a short exponent, 1.2e-6, 0, inf."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 9.9995 else _loss(value)


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


_COLUMNS: tuple[tuple[str, Figure, Callable[[float], str]], ...] = (
    ("final\nloss", _final("loss_deployed"), _loss),
    ("best\nloss", _best, _loss),
    ("loss\n20 T", _final("loss_long"), _loss),
    ("resid.\nT", _last("residual_deployed"), _residual),
    ("resid.\n20 T", _last("residual_long"), _residual),
    ("rho\nmean", _last("rho_mean"), _ratio),
    ("rho\nmax", _last("rho_max"), _ratio),
    ("cos\nBPTT", _last("cosine_to_bptt"), _ratio),
    ("cos\ntransp", _last("cosine_to_transpose"), _ratio),
)

Known: TypeAlias = Callable[[MethodRun], Any]
"""A figure of a run, None or NaN where it is not known."""

_COSTS: tuple[tuple[str, Known, Callable[[Any], str]], ...] = (
    ("kind", lambda run: run.kind, _kind),
    ("accu-\nracy", _last("accuracy"), lambda value: f"{value:.3f}"),
    ("settles\nan update", lambda run: run.update and run.update.settles, lambda value: f"{value:.6g}"),
    ("device time\nan update", lambda run: run.update and run.update.seconds, lambda value: engineering(value, "s")),
    ("energy\nan update", lambda run: run.update and run.update.joules, lambda value: engineering(value, "J")),
)
