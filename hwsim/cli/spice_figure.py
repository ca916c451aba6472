"""A settling as a picture: node voltages by ngspice and by hwsim over time, and their difference below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hwsim.contracts.units import engineering

if TYPE_CHECKING:
    from .spice import Comparison

SIZE = (1400, 950)
"""Pixels."""

NAMED = 10
"""Nodes up to this many are named beside their curves."""

_DPI = 100
_INK, _FAINT = "#1b1b1b", "#6b6b6b"
_LEAST, _MOST = 1e-12, 1e6
"""Volt, between which a difference is drawn; steps that diverge leave the picture."""


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture as a PNG of `SIZE` pixels.

    Raises:
        OSError: `path` cannot be written.
    """
    figure(comparison).savefig(path, format="png", dpi=_DPI)


def figure(comparison: Comparison) -> Figure:
    """The picture, on an Agg canvas. Artists carry an id: "ngspice:node", "exact:node", "difference:node", ..."""
    from .spice import words

    sheet = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(sheet)
    upper, lower = sheet.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    sheet.subplots_adjust(left=0.075, right=0.93, top=0.84, bottom=0.075, hspace=0.16)
    for k, line in enumerate(words(comparison)):
        sheet.text(0.02, 0.965 - 0.032 * k, line, fontsize=12, color=_INK, va="top", parse_math=False, gid="words")
    factor, unit = _unit(float(comparison.time[-1]), "s")
    time = comparison.time * factor
    colours = matplotlib.colormaps["turbo"](np.linspace(0.08, 0.92, len(comparison.nodes)))
    for i, (node, colour) in enumerate(zip(comparison.nodes, colours, strict=True)):
        upper.plot(time, comparison.ngspice[:, i], color=colour, linewidth=3.0, alpha=0.55, gid=f"ngspice:{node}")
        upper.plot(time, comparison.exact[:, i], color=_INK, linewidth=1.1, dashes=(4, 3), gid=f"exact:{node}")
        deployed = np.where(np.abs(comparison.deployed[:, i]) < _MOST, comparison.deployed[:, i], np.nan)
        upper.plot(time, deployed, color=colour, linestyle=":", linewidth=1.6, gid=f"deployed:{node}")
        for kind, values, style in (
            ("difference", comparison.ngspice - comparison.exact, "-"),
            ("integration", comparison.deployed - comparison.exact, ":"),
        ):
            size = np.abs(values[:, i])
            size = np.where((size > _LEAST) & (size < _MOST), size, np.nan)
            lower.plot(time, size, color=colour, linestyle=style, linewidth=1.4, gid=f"{kind}:{node}")
    _names(comparison, upper, colours, time)
    _frame(upper, "Node voltage [V]")
    span = comparison.exact.min(), comparison.exact.max()
    room = 0.08 * (span[1] - span[0]) or 1e-3
    upper.set_ylim(span[0] - room, span[1] + room)
    _frame(lower, "Difference from the exact solution [V]: ngspice (lines), deployed steps (dots)")
    lower.set_yscale("log")
    lower.axhline(comparison.tolerance, color=_FAINT, linewidth=1.2, dashes=(6, 3), gid="tolerance")
    known = np.nan_to_num(comparison.integration, posinf=0.0).max()
    lower.set_ylim(_LEAST, 4.0 * max(comparison.tolerance, float(comparison.difference.max()), min(known, 10.0)))
    lower.set_xlim(0.0, float(time[-1]))
    lower.set_xlabel(f"time [{unit}]", fontsize=11.5, color=_FAINT)
    handles = [
        Line2D([], [], color=_FAINT, linewidth=4, alpha=0.6, label="ngspice"),
        Line2D([], [], color=_INK, linewidth=1.1, dashes=(4, 3), label="hwsim, exact"),
        Line2D(
            [], [], color=_FAINT, linewidth=1.6, linestyle=":", label=f"hwsim, steps of eps = {comparison.step_size:g}"
        ),
        Line2D(
            [],
            [],
            color=_FAINT,
            linewidth=1.2,
            dashes=(6, 3),
            label=f"tolerance {engineering(comparison.tolerance, 'V')}",
        ),
    ]
    sheet.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.013, 0.912), ncols=4, frameon=False, fontsize=11.5
    )
    return sheet


def _names(comparison: Comparison, ax: Axes, colours: np.ndarray, time: np.ndarray) -> None:
    """Names at the right ends of the curves, pushed apart where they would cover each other."""
    if len(comparison.nodes) > NAMED:
        return
    ends = comparison.exact[-1]
    low, high = float(comparison.exact.min()), float(comparison.exact.max())
    step, at = 0.05 * ((high - low) or 1.0), -np.inf
    for i in np.argsort(ends):
        at = max(float(ends[i]), at + step)
        ax.text(1.008 * time[-1], at, comparison.nodes[i], color=colours[i], fontsize=11, va="center", parse_math=False)


def _frame(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=13, color=_INK, pad=6)
    ax.grid(True, axis="y", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=11, colors=_FAINT, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b5b5b5")


def _unit(value: float, unit: str) -> tuple[float, str]:
    """A factor and its prefixed unit, in which `value` is between 1 and 1000."""
    prefixed = engineering(value, unit)
    number, name = prefixed.split(" ")
    return float(number) / value if value else 1.0, name
