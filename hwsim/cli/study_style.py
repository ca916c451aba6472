"""How the pictures of studies are drawn: looks, curves, frames and the one legend."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from hwsim.study import REFERENCE, Row, Study

from .figure import SIZE
from .study_table import rule_of

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The Okabe-Ito set without black and yellow; with several dashes and markers it tells many rules apart."""
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = "osD^vP"

NEAREST = 1e-6
"""Smallest 1 - cosine that is drawn."""

DPI = 100
INK, FAINT = "#1b1b1b", "#6b6b6b"


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a curve is drawn."""

    label: str
    colour: str
    dash: Any = "solid"
    marker: str = "o"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Args:
        title: above it.
        x: below it.
        log_x, log_y: whether the axes are logarithmic.
        miss: 1 - y is drawn on a falling logarithmic axis, so that cosines near 1 can be told apart.
        ticks: whether the measured x are all marked, and nothing else.
    """

    title: str
    x: str
    log_x: bool = False
    log_y: bool = False
    miss: bool = False
    ticks: bool = False


# --- curves -----------------------------------------------------------------------------------------------------------


def curve(ax: Axes, panel: Panel, rows: Sequence[Row], name: str, look: Look) -> None:
    """Median over seeds against the knob, with a band where there are several."""
    _band(ax, rows, lambda row: row.value, lambda row: _shown(panel, float(getattr(row.figures, name))), name, look)


def seeds_median(ax: Axes, rows: Sequence[Row], name: str, across: str, look: Look) -> None:
    """`curve` against another field than the knob."""

    def x(row: Row) -> float:
        return float(getattr(row.figures, across))

    _band(ax, rows, x, lambda row: float(getattr(row.figures, name)), name, look)


def _shown(panel: Panel, value: float) -> float:
    """A cosine as its distance to 1 where that is what is drawn, no nearer than can be read."""
    return max(1.0 - value, NEAREST) if panel.miss else value


def _band(
    ax: Axes, rows: Sequence[Row], x: Callable[[Row], float], y: Callable[[Row], float], name: str, look: Look
) -> None:
    places = sorted({x(row) for row in rows})
    middle, low, high = [], [], []
    for place in places:
        values = [value for row in rows if x(row) == place and np.isfinite(value := y(row))]
        middle.append(statistics.median(values) if values else np.nan)
        low.append(min(values, default=np.nan))
        high.append(max(values, default=np.nan))
    rule = rule_of(rows[0]) if rows else ""
    gid = f"{name}:{rows[0].after if rows else ''}:{rule}"
    if len({row.seed for row in rows}) > 1:
        ax.fill_between(places, low, high, color=look.colour, alpha=0.13, linewidth=0, zorder=2)
    reference = rule == REFERENCE
    ax.plot(
        places,
        middle,
        color=look.colour,
        linestyle=look.dash,
        linewidth=1.8 if reference else 2.4,
        marker=None if reference else look.marker,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=2.5 if reference else 3,
        gid=gid,
    )


def seeds_apart(ax: Axes, rows: Sequence[Row], name: str, across: str, look: Look) -> None:
    """Each seed's own curve, where the abscissa itself was measured."""

    def figure(row: Row) -> float:
        return 1.0 - float(row.figures.cosine) if name == "miss" else float(getattr(row.figures, name))  # type: ignore[union-attr]

    for seed in sorted({row.seed for row in rows}):
        own = sorted((row for row in rows if row.seed == seed), key=lambda row: row.value)
        x = [max(float(getattr(row.figures, across)), 1e-16) for row in own]
        y = [max(figure(row), 1e-16) if name == "miss" else figure(row) for row in own]
        gid = f"{name}:{own[0].after}:{seed}"
        ax.plot(
            x,
            y,
            color=look.colour,
            linewidth=1.6,
            marker=look.marker,
            markersize=5.5,
            markeredgecolor="white",
            alpha=0.85,
            gid=gid,
        )


# --- the sheet --------------------------------------------------------------------------------------------------------


def sheet_of(
    study: Study, headline: str, words: str, *, columns: int, rows: int
) -> tuple[Figure, list[Axes], dict[int, Look]]:
    """An empty sheet under its heading, its panels, and how the stages of training are drawn."""
    height = SIZE[1] if rows > 1 else 620
    sheet = Figure(figsize=(SIZE[0] / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(sheet)
    per = 1.0 / height
    sheet.text(0.02, 1.0 - 24 * per, headline, fontsize=19, fontweight="bold", color=INK, va="top", gid="headline")
    sheet.text(0.02, 1.0 - 62 * per, words, fontsize=12.5, color="#3d3d3d", va="top", gid="words")
    axes = list(np.atleast_1d(sheet.subplots(rows, columns)).ravel())
    sheet.subplots_adjust(
        left=0.052, right=0.985, top=1.0 - 160 * per, bottom=62 * per, hspace=0.33, wspace=0.16 if columns > 2 else 0.13
    )
    return sheet, axes, _stage_looks(study)


def _stage_looks(study: Study) -> dict[int, Look]:
    looks = {}
    for k, after in enumerate(sorted({row.after for row in study.rows})):
        known = [
            float(getattr(row.figures, "rho", getattr(row.figures, "rho_mean", np.nan)))
            for row in study.rows
            if row.after == after and getattr(row.figures, "damping", 1.0) == 1.0
        ]
        known = [value for value in known if np.isfinite(value)]
        at = rf", $\rho$ = {statistics.median(known):.3f}" if known else ""
        label = f"after {after} updates{at}"
        looks[after] = Look(label=label, colour=PALETTE[k % len(PALETTE)], marker=MARKERS[k % len(MARKERS)])
    return looks


def rule_looks(study: Study) -> dict[str, Look]:
    """Colour first, then dashes, so that many rules stay apart; the exact gradient is black."""
    names = [name for name in dict.fromkeys(rule_of(row) for row in study.rows) if name != REFERENCE]
    looks = {REFERENCE: Look(label="exact gradient (BPTT)", colour=INK, dash=DASHES[1])}
    for k, name in enumerate(names):
        turn = k // len(PALETTE)
        looks[name] = Look(
            label=name,
            colour=PALETTE[k % len(PALETTE)],
            dash=DASHES[turn % len(DASHES)],
            marker=MARKERS[turn % len(MARKERS)],
        )
    return looks


def frame(ax: Axes, panel: Panel, rows: Iterable[Row], across: Callable[[Row], float] = lambda row: row.value) -> None:
    """Title, axes and grid; `across` is what is marked where a panel has ticks at what was measured."""
    ax.set_title(panel.title, loc="left", fontsize=14, color=INK, pad=8)
    ax.set_xlabel(panel.x, fontsize=11.5, color=FAINT, labelpad=2)
    if panel.log_x:
        ax.set_xscale("log")
    if panel.log_y or panel.miss:
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter(NullFormatter())
    if panel.miss:
        ax.invert_yaxis()
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1.0 - value:.9g}"))
        ax.tick_params(axis="y", which="minor", length=0)
    elif not panel.log_y:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    if panel.ticks:
        ax.xaxis.set_major_locator(FixedLocator(sorted({across(row) for row in rows})))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.grid(True, axis="y", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=11.5, colors=FAINT, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b5b5b5")


def share_limits(axes: Sequence[Axes]) -> None:
    """The same ordinate in all panels, so that they can be compared by eye."""
    limits = [ax.get_ylim() for ax in axes]
    for k, ax in enumerate(axes):
        ax.set_ylim(max(low for low, _ in limits), min(high for _, high in limits))
        ax.tick_params(labelleft=k == 0)


def keep_between(ax: Axes, values: Sequence[float], *, spare: float) -> None:
    """Limits that neither the first fall of a loss nor a blow-up decides."""
    known = [value for value in values if np.isfinite(value)]
    if known:
        low, high = min(known), float(np.quantile(known, 0.9))
        span = max(high - low, 1e-3)
        ax.set_ylim(low - 0.1 * span, high + spare * span)


def own_legend(ax: Axes, looks: Sequence[Look]) -> None:
    ax.legend(handles=[_handle(look) for look in looks], frameon=False, fontsize=11.5, loc="best", handlelength=2.2)


def _handle(look: Look) -> Line2D:
    return Line2D(
        [],
        [],
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markeredgecolor="white",
        linewidth=2.4,
        label=look.label,
    )


def legend_below(sheet: Figure, looks: Iterable[Look], study: Study, *also: Line2D) -> None:
    """The one legend of the sheet, below its heading."""
    handles = [_handle(look) for look in looks] + list(also)
    seeds = len({row.seed for row in study.rows})
    if seeds > 1:
        several = Line2D([], [], color=FAINT, linewidth=8, alpha=0.25, label=f"median and range of {seeds} seeds")
        if study.name == "residual":
            several = Line2D([], [], linestyle="none", label=f"one curve for each of {seeds} seeds")
        handles.append(several)
    if not handles:
        return
    height = sheet.get_figheight() * DPI
    for columns in range(min(len(handles), 8), 0, -1):
        legend = sheet.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.013, 1.0 - 80 / height),
            ncols=columns,
            frameon=False,
            fontsize=12 if len(handles) <= 10 else 10.5,
            handlelength=2.2,
            columnspacing=1.7,
            labelspacing=0.3,
        )
        if columns == 1 or legend.get_window_extent().x1 < SIZE[0]:
            break
        legend.remove()
    sheet.subplots_adjust(top=1.0 - (136 + 24 * -(-len(handles) // columns)) / height)
