"""The verdict as a picture: deployed loss, rho, residual and cosine to BPTT against the training step."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from hwsim.verdict.decision import headline, survivors
from hwsim.verdict.record import METHODS, MethodRun, Verdict, methods_of

COLOUR = {
    "bptt": "#1b1b1b",
    "equilibrium_adjoint": "#d55e00",
    "ep": "#cc79a7",
    "ep_homeostat": "#0072b2",
    "finite_horizon_ep": "#009e73",
}
"""One colour per method, from the Okabe-Ito set, which stays apart under colour blindness."""

OTHERS = (
    "#56b4e9", "#e69f00", "#882255", "#999933", "#332288", "#44aa99", "#661100", "#6699cc", "#aa4499", "#117733",
)  # fmt: skip
"""Colours of further methods in the order in which they are shown, over and over."""

LABEL = {
    "bptt": "BPTT (reference)",
    "equilibrium_adjoint": "equilibrium adjoint",
    "ep": "EP",
    "ep_homeostat": "EP + homeostat",
    "finite_horizon_ep": "finite-horizon EP",
}


def colours(methods: Sequence[str]) -> dict[str, str]:
    """Method -> colour: its own, or the next of `OTHERS`."""
    further = [method for method in methods if method not in COLOUR]
    return COLOUR | {method: OTHERS[k % len(OTHERS)] for k, method in enumerate(further)}


def label(method: str) -> str:
    """A method's name in a legend."""
    return LABEL.get(method, method.replace("*", " x ").replace("+", " + "))


SIZE = (1500, 1000)
"""Pixels."""

_DPI = 100
_LARGEST = 1e100
_INK, _FAINT = "#1b1b1b", "#6b6b6b"


@dataclass(frozen=True)
class _Panel:
    """One panel: which series it shows, and which value a run that diverged counts as in a median over seeds."""

    series: str
    title: str
    lost: float
    upper: str = ""
    log: bool = False


PANELS = (
    _Panel("loss_deployed", "Deployed loss $L(z_T)$", math.inf),
    _Panel(
        "rho_mean", r"Spectral radius $\rho$ at $z^*$ (thin dashes: largest of the samples)", math.inf, upper="rho_max"
    ),
    _Panel("residual_deployed", r"Residual $|F(z_T)|$ at the deployed horizon", math.inf, log=True),
    _Panel("cosine_to_bptt", "Cosine of the gradient to BPTT's", -math.inf),
)


def draw(verdict: Verdict, path: str | Path) -> None:
    """Write the picture as a PNG of `SIZE` pixels.

    Raises:
        OSError: `path` cannot be written.
    """
    figure(verdict).savefig(path, format="png", dpi=_DPI)


def figure(verdict: Verdict) -> Figure:
    """The picture, on an Agg canvas and without pyplot's global state.

    Where a method ran from several seeds, each seed is a faint line and their median a bold one; in that median a run
    counts as infinitely bad from its divergence on, so the bold line ends once half of the seeds are lost. A cross
    marks each divergence, at the edge where the curve has left the panel; an arrow marks where another curve leaves it.
    Artists carry an id: "series:method:seed" or "series:method:median", with ":diverged" or ":leaves" for a mark.
    """
    sheet = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots(2, 2)
    methods = methods_of(verdict.runs)
    runs = sorted(verdict.runs, key=lambda run: (methods.index(run.method), run.seed))
    ink = colours(methods)
    top = _heading(sheet, verdict, runs)
    sheet.subplots_adjust(left=0.052, right=0.985, top=top, bottom=0.06, hspace=0.27, wspace=0.13)
    end = max((run.step[-1] for run in runs if run.step), default=0) or 1
    for panel, ax in zip(PANELS, axes.flat, strict=True):
        _frame(panel, ax, end)
        ax.set_ylim(*_limits(panel, runs))
        for method in methods:
            _curves(panel, ax, [run for run in runs if run.method == method], ink[method])
        for run in runs:
            _marks(panel, ax, run, end, ink[run.method])
        if not ax.lines or not any(np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in ax.lines):
            ax.text(0.5, 0.5, "no figures", transform=ax.transAxes, ha="center", va="center", color=_FAINT, fontsize=13)
        if panel.series == "rho_mean":
            ax.axhline(1.0, color=_FAINT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1, gid="rho_one")
    return sheet


def _frame(panel: _Panel, ax: Axes, end: int) -> None:
    ax.set_title(panel.title, loc="left", fontsize=14, color=_INK, pad=8)
    if panel.log:
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(0.0, 1.02 * end)
    ax.set_xlabel("training step", fontsize=11.5, color=_FAINT, labelpad=2)
    ax.grid(True, axis="y", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=11.5, colors=_FAINT, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b5b5b5")
    if not panel.log:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


def _curves(panel: _Panel, ax: Axes, runs: Sequence[MethodRun], colour: str) -> None:
    """All lines of one method in one panel."""
    if not runs:
        return
    method, several = runs[0].method, len(runs) > 1
    above = 4.0 if method == "bptt" else 3.0
    for run in runs:
        ax.plot(
            run.step,
            _finite(run, panel.series),
            color=colour,
            linewidth=1.0 if several else 2.4,
            alpha=0.55 if several else 1.0,
            zorder=2.0 if several else above,
            solid_capstyle="round",
            gid=f"{panel.series}:{method}:{run.seed}",
        )
    if several:
        step, middle = median(runs, panel.series, lost=panel.lost)
        ax.plot(step, middle, color=colour, linewidth=2.8, zorder=above, gid=f"{panel.series}:{method}:median")
    if panel.upper:
        step, middle = median(runs, panel.upper, lost=panel.lost)
        ax.plot(
            step,
            middle,
            color=colour,
            linewidth=1.0,
            linestyle=(0, (4, 2)),
            zorder=1.5,
            gid=f"{panel.upper}:{method}:median",
        )


def median(runs: Sequence[MethodRun], series: str, *, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Median over runs of one figure, at every step that one of them was evaluated at.

    Args:
        runs: of one method, one per seed.
        series: the figure, as in `SERIES`.
        lost: what a run counts as from its divergence on, at every later step: +inf or -inf, whichever is bad.

    Returns:
        steps [K] and medians [K]; NaN where the median is not finite or no run has a figure.
    """
    steps = sorted({step for run in runs for step in run.step})
    rows = []
    for run in runs:
        known = dict(zip(run.step, _finite(run, series), strict=True))
        end = math.inf if run.diverged_at is None or len(runs) == 1 else run.diverged_at
        rows.append([lost if step >= end else known.get(step, math.nan) for step in steps])
    middle = [_median([row[k] for row in rows if not math.isnan(row[k])]) for k in range(len(steps))]
    return np.array(steps, dtype=float), np.array(middle, dtype=float)


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    if not ordered:
        return math.nan
    value = 0.5 * (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])
    return value if math.isfinite(value) else math.nan


def _finite(run: MethodRun, series: str) -> np.ndarray:
    """[K] what can be drawn of a series: NaN for what is not finite, and nothing beyond what an axis can take."""
    values = np.array(run.series(series), dtype=float)
    return np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), np.nan)


def _before(run: MethodRun, series: str) -> np.ndarray:
    """The finite figures of a run before it diverged."""
    values = _finite(run, series)
    end = math.inf if run.diverged_at is None else run.diverged_at
    kept: np.ndarray = values[np.isfinite(values) & (np.array(run.step, dtype=float) < end)]
    return kept


def _limits(panel: _Panel, runs: Sequence[MethodRun]) -> tuple[float, float]:
    """Limits of the value axis that neither the first fall of a loss nor a blow-up decides."""
    parts = [part for part in (_before(run, panel.series) for run in runs) if part.size]
    if panel.log:
        parts = [kept for part in parts if (kept := part[part > 1.0 / _LARGEST]).size]
    if not parts:
        return {"residual_deployed": (1e-3, 1.0), "rho_mean": (0.9, 1.05)}.get(panel.series, (0.0, 1.05))
    low = min(float(part.min()) for part in parts)
    if panel.log:
        high = max(float(np.quantile(part, 0.98)) for part in parts)
        room = 8.0 if any(run.diverged_at is not None for run in runs) else 1.5
        low, high = max(low, 1e-16 * high) / 1.5, high * room
        if high < 100.0 * low:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return low, high
    if panel.series == "cosine_to_bptt":
        low = max(-1.0, min(float(np.quantile(part, 0.02)) for part in parts))
        return low - 0.06 * (1.0 - low) - 1e-3, 1.0 + 0.05 * (1.0 - low) + 1e-3
    if panel.series == "rho_mean":
        low = min(float(np.quantile(part, 0.02)) for part in parts)
        tops = [float(np.quantile(part, 0.98)) for run in runs if (part := _before(run, panel.upper)).size]
        high = min(max([1.0, *tops]), 1.0 + 1.2 * max(1.0 - low, 0.02))
        low = min(low, 0.99)
        return low - 0.06 * (high - low), high + 0.08 * (high - low)
    whole = [part for run in runs if run.diverged_at is None and (part := _before(run, panel.series)).size] or parts
    spans = [float(np.quantile(part, 0.8)) - low for part in whole]
    ends = [float(part[-1]) - low for part in whole]
    least = max(0.02 * abs(low), 1e-6)
    high = low + max(min(max(spans + ends), 4.0 * max(min(spans), least)), least)
    return low - 0.06 * (high - low), high + 0.12 * (high - low)


def _marks(panel: _Panel, ax: Axes, run: MethodRun, end: int, colour: str) -> None:
    """A cross where the run diverged; an arrow where its curve leaves the panel for good or for a while."""
    low, high = ax.get_ylim()
    edge = high / (high / low) ** 0.03 if panel.log else high - 0.03 * (high - low)
    floor = low * (high / low) ** 0.03 if panel.log else low + 0.03 * (high - low)
    values, steps = _finite(run, panel.series), np.array(run.step, dtype=float)
    known = np.isfinite(values)
    if run.diverged_at is not None:
        earlier = values[known & (steps <= run.diverged_at)]
        height = float(np.clip(earlier[-1], floor, edge)) if earlier.size else edge
        ax.plot(
            [run.diverged_at],
            [height],
            marker="X",
            markersize=13,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=1.4,
            linestyle="none",
            zorder=6,
            clip_on=False,
            gid=f"{panel.series}:{run.method}:{run.seed}:diverged",
        )
        return
    for bound, marker, outside in ((edge, "^", values > high), (floor, "v", values < low)):
        left = np.flatnonzero(known[1:] & known[:-1] & outside[1:] & ~outside[:-1])
        if left.size:
            k = left[0]
            at = steps[k] + (steps[k + 1] - steps[k]) * (bound - values[k]) / (values[k + 1] - values[k])
            ax.plot(
                [np.clip(at, steps[k], steps[k + 1])],
                [bound],
                marker=marker,
                markersize=9,
                color=colour,
                markeredgecolor="white",
                linestyle="none",
                zorder=5,
                gid=f"{panel.series}:{run.method}:{run.seed}:leaves",
            )


def _heading(sheet: Figure, verdict: Verdict, runs: Sequence[MethodRun]) -> float:
    """Write the decision, its reason, who survives and the one legend; return how high the panels may reach, 0..1."""
    sheet.text(
        0.02, 0.975, headline(verdict.decision), fontsize=21, fontweight="bold", color=_INK, va="top", gid="headline"
    )
    lines = textwrap.wrap(verdict.reason, width=166, max_lines=3, placeholder=" ...")
    lines += textwrap.wrap(survivors(runs), width=166, max_lines=2, placeholder=" ...")
    below = 0.932
    for line in lines:
        sheet.text(0.02, below, line, fontsize=12, color="#3d3d3d", va="top", parse_math=False, gid="reason")
        below -= 0.0235

    shown = methods_of(runs)
    ink = colours(shown)
    handles = [Line2D([], [], color=ink[method], linewidth=4, label=label(method)) for method in shown]
    if any(run.diverged_at is not None for run in runs):
        handles.append(
            Line2D(
                [],
                [],
                color=_FAINT,
                marker="X",
                markersize=11,
                markeredgecolor="white",
                linestyle="none",
                label="diverged",
            )
        )
    if len({run.seed for run in runs}) > 1:
        handles.append(Line2D([], [], color=_FAINT, linewidth=1.0, alpha=0.6, label="one seed (bold: median)"))
    columns = (
        len(handles) if set(shown) <= set(METHODS) else max(1, 150 // (8 + max(len(label(name)) for name in shown)))
    )
    columns = max(1, min(columns, len(handles)))
    if handles:
        sheet.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.013, below - 0.003),
            ncols=columns,
            frameon=False,
            fontsize=13,
            handlelength=1.6,
            columnspacing=1.7,
        )
    return below - 0.06 - 0.025 * max(1, math.ceil(len(handles) / columns))
