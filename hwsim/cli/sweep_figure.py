"""A sweep as a picture: how each method fares against what is swept, median and spread over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hwsim.verdict.decision import REFERENCE, late_loss, ratios
from hwsim.verdict.record import Condition, MethodRun, Sweep, Value, methods_of

from .figure import colours, label
from .options import condition_words

_DPI = 100
_INK, _FAINT = "#1b1b1b", "#6b6b6b"
AXIS = {
    "noise": "thermal noise, sd of a free unit",
    "adc_bits": "bits of the readout converter",
    "mismatch": "relative sd of couplings and time constants",
    "units": "units",
}

HEADLINE = {
    "noise": "What thermal noise does to each method,",
    "adc_bits": "What the readout converter does to each method,",
    "mismatch": "What mismatch does to each method,",
    "units": "What the number of units does to each method,",
}

WIDE = 4.0
"""Ratio of the largest to the smallest figure from which on an axis is logarithmic."""


@dataclass(frozen=True)
class _Row:
    """One row of panels: a figure of every seed, and whether a log axis suits it."""

    title: str
    of: Callable[[Sequence[MethodRun], str], list[float]]
    log: bool = False


def _last(series: str) -> Callable[[Sequence[MethodRun], str], list[float]]:
    def figures(runs: Sequence[MethodRun], method: str) -> list[float]:
        own = [run.series(series) for run in runs if run.method == method]
        return [next((value for value in reversed(values) if math.isfinite(value)), math.nan) for values in own]

    return figures


def _losses(runs: Sequence[MethodRun], method: str) -> list[float]:
    return [late_loss(run) for run in runs if run.method == method]


_LOSS = _Row("Deployed loss $L(z_T)$", _losses, log=True)
_RATIO = _Row("Deployed loss over BPTT's", ratios, log=True)
_ACCURACY = _Row("Accuracy at $z_T$", _last("accuracy"))
_RHO = _Row(r"Spectral radius $\rho$ at $z^*$", _last("rho_mean"))


def draw_sweep(sweep: Sweep, path: str | Path) -> None:
    """Write the picture as a PNG.

    Raises:
        OSError: `path` cannot be written.
    """
    sweep_figure(sweep).savefig(path, format="png", dpi=_DPI)


def sweep_figure(sweep: Sweep) -> Figure:
    """One column of panels for each combination of what is swept beside the horizontal axis, which is the swept option
    with the most values. Rows: ratio to BPTT's loss (the loss itself where BPTT did not run), and accuracy (rho where
    there are no classes).

    A dot is a seed, a line joins the medians over seeds. An arrow at the upper edge stands for seeds that diverged, and
    a median that is infinite interrupts its line. Values stand evenly spaced, in the order in which they were given.
    Artists carry an id "row:column:method:median" or "row:column:method:seeds".
    """
    along = max(sweep.axes, key=lambda name: len(sweep.axes[name]))
    others = {name: values for name, values in sweep.axes.items() if name != along}
    columns = [dict(zip(others, point, strict=True)) for point in product(*others.values())]
    runs = [run for condition in sweep.conditions for run in condition.verdict.runs]
    methods = methods_of(runs)
    rows = [_RATIO if REFERENCE in methods and len(methods) > 1 else _LOSS]
    rows.append(_ACCURACY if any(map(math.isfinite, (v for run in runs for v in run.accuracy))) else _RHO)
    ink, seeds = colours(methods), {run.seed for run in runs}

    per_row = max(
        1, min(len(methods) + 2, int((11 if len(columns) == 1 else 14) / 0.115) // (8 + max(map(len, methods))))
    )
    lines = math.ceil((len(methods) + 2) / per_row)
    width, height = (11.0 if len(columns) == 1 else min(7.0 * len(columns), 21.0)), 8.6 + 0.28 * lines
    sheet = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    head = 0.5 + 0.28 * lines
    sheet.subplots_adjust(
        left=0.95 / width,
        right=1 - 0.2 / width,
        top=1 - (head + 0.45) / height,
        bottom=0.65 / height,
        hspace=0.12,
        wspace=0.08,
    )
    for i, row in enumerate(rows):
        log = row.log and _spread(sweep, row, methods) > WIDE
        for j, fixed in enumerate(columns):
            own = [each for each in sweep.conditions if all(each.values[name] == v for name, v in fixed.items())]
            _panel(axes[i, j], row, own, sweep.axes[along], along, methods, ink, f"{i}:{j}", log)
            if i == 0 and fixed:
                axes[i, j].set_title(condition_words(fixed), loc="left", fontsize=12.5, color=_INK, pad=8)
            if j == 0:
                axes[i, j].set_ylabel(row.title, fontsize=12, color=_INK)
            if i == len(rows) - 1:
                axes[i, j].set_xlabel(AXIS.get(along, along), fontsize=11.5, color=_FAINT)
    trained = max((run.step[-1] for run in runs if run.step), default=0)
    sheet.text(
        0.35 / width,
        1 - 0.22 / height,
        f"{HEADLINE.get(along, along)} after {trained} updates",
        fontsize=18,
        fontweight="bold",
        color=_INK,
        va="top",
        gid="headline",
    )
    handles = [Line2D([], [], color=ink[method], linewidth=4, label=label(method)) for method in methods]
    if len(seeds) > 1:
        handles.append(
            Line2D(
                [],
                [],
                color=_FAINT,
                marker="o",
                linestyle="none",
                markersize=5,
                label=f"one of {len(seeds)} seeds (line: median)",
            )
        )
    if any(run.diverged_at is not None for run in runs):
        handles.append(Line2D([], [], color=_FAINT, marker="^", linestyle="none", markersize=8, label="diverged"))
    sheet.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.25 / width, 1 - 0.6 / height),
        ncols=per_row,
        frameon=False,
        fontsize=11.5,
        handlelength=1.5,
        columnspacing=1.5,
    )
    return sheet


def _spread(sweep: Sweep, row: _Row, methods: Sequence[str]) -> float:
    """Largest figure over smallest, of those that are finite and positive; 1 where there is none."""
    found = [v for each in sweep.conditions for name in methods for v in row.of(each.verdict.runs, name)]
    kept = [value for value in found if 0.0 < value < math.inf]
    return max(kept) / min(kept) if kept else 1.0


def _panel(
    ax: Axes,
    row: _Row,
    conditions: Sequence[Condition],
    values: Sequence[Value],
    along: str,
    methods: Sequence[str],
    ink: Mapping[str, str],
    place: str,
    log: bool,
) -> None:
    at = {value: k for k, value in enumerate(values)}
    if log:
        ax.set_yscale("log")
    for rank, method in enumerate(methods):
        if row is _RATIO and method == REFERENCE:
            continue
        shift = 0.5 * ((rank + 0.5) / len(methods) - 0.5)  # side by side, or methods would hide each other
        where, middle, dots = [], [], []
        for condition in conditions:
            found = [value for value in row.of(condition.verdict.runs, method) if not math.isnan(value)]
            x = at[condition.values[along]] + shift
            where.append(x)
            middle.append(statistics.median(found) if found else math.nan)
            dots += [(x, value) for value in found]
        ax.plot(
            where,
            [value if math.isfinite(value) else math.nan for value in middle],
            color=ink[method],
            linewidth=2.4,
            marker="_",
            markersize=11,
            markeredgewidth=2.4,
            zorder=3,
            gid=f"{place}:{method}:median",
        )
        finite = [(x, value) for x, value in dots if math.isfinite(value)]
        ax.plot(
            [x for x, _ in finite],
            [value for _, value in finite],
            color=ink[method],
            marker="o",
            markersize=4.5,
            alpha=0.55,
            markeredgewidth=0,
            linestyle="none",
            zorder=4,
            gid=f"{place}:{method}:seeds",
        )
        lost = [x for x, value in dots if math.isinf(value)]
        ax.plot(
            lost,
            [0.98] * len(lost),
            transform=ax.get_xaxis_transform(),
            color=ink[method],
            marker="^",
            markersize=9,
            markeredgecolor="white",
            linestyle="none",
            zorder=5,
            gid=f"{place}:{method}:diverged",
        )
    if row is _RATIO:
        ax.axhline(1.0, color=_FAINT, linewidth=1.4, linestyle=(0, (6, 3)), zorder=1)
    if row is _RHO:
        ax.axhline(1.0, color=_FAINT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
    ax.set_xlim(-0.5, len(values) - 0.5)
    ax.set_xticks(range(len(values)), ["none" if value is None else f"{value:g}" for value in values])
    ax.grid(True, axis="y", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=11, colors=_FAINT, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b5b5b5")
    if log:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0), numticks=12))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
