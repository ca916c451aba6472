"""An audit as a picture in the manner of a noise budget: one bar of bias and one of noise for every rung."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hwsim.audit import ANALOG, Audit, Floor, Share

from .audit import machine_of, setting_of

WIDTH, ROW, HEAD, FOOT = 1400, 60, 252, 78
"""Pixels: of the picture, of a rung, of what stands above the first and below the last."""

COLOUR = {Floor.RULE: "#0072b2", Floor.CHIP: "#d55e00", Floor.MACHINE: "#009e73"}
"""One colour per floor, from the Okabe-Ito set, which stays apart under colour blindness."""

_DPI = 100
_INK, _FAINT, _PALE = "#1b1b1b", "#6b6b6b", "#e4e4e4"
_LEAST, _MOST = 1e-4, 1e3
_MARKERS = "osD^vP*Xhd"
_BAR, _GAP = 0.3, 0.17


def draw(found: Audit, path: Path) -> None:
    """Write the picture as a PNG of `WIDTH` pixels, as high as there are rungs.

    Raises:
        OSError: `path` cannot be written.
    """
    figure(found).savefig(path, format="png", dpi=_DPI)


def figure(found: Audit) -> Figure:
    """The picture, on an Agg canvas. Bars carry an id: "bias:NAME", "noise:NAME", dots "block:NAME:BLOCK"."""
    rows = len(found.rungs) + 1
    height = HEAD + FOOT + ROW * (rows + 0.7)
    sheet = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(sheet)
    ax = sheet.add_axes((0.285, FOOT / height, 0.63, 1 - (HEAD + FOOT) / height))
    blocks = [name for name in found.norms if name != ANALOG and any(_drawn(r.shares[name].bias) for r in found.rungs)]
    markers = {name: _MARKERS[k % len(_MARKERS)] for k, name in enumerate(blocks)}
    least, most = _range(found)
    names: list[tuple[float, str, str, str]] = []
    for k, rung in enumerate(found.rungs):
        colour = COLOUR[rung.floor]
        _bars(ax, k, rung.name, rung.shares[ANALOG], colour, least)
        for name in blocks:
            share = rung.shares[name]
            if _drawn(share.bias) and share.resolved and share.bias >= least:
                dot: dict[str, Any] = {
                    "marker": markers[name],
                    "markersize": 6.5,
                    "markeredgecolor": "white",
                    "markeredgewidth": 0.8,
                }
                ax.plot(
                    [share.bias],
                    [k - _shift(rung.shares[ANALOG])],
                    color=_INK,
                    zorder=4,
                    gid=f"block:{rung.name}:{name}",
                    **dot,
                )
        names.append((k, rung.name, rung.detail, colour))
    total = rows - 0.4
    ax.axhline(rows - 0.93, color=_FAINT, linewidth=0.8)
    _bars(ax, total, "total", found.total[ANALOG], _INK, least)
    names.append((total, "what the machine delivers", f"one estimate: cosine {found.single[ANALOG]:.4f}", _INK))
    for at, name, detail, colour in names:
        _label(ax, at, name, detail, colour)
    cosines = [(float(k), rung.shares[ANALOG]) for k, rung in enumerate(found.rungs)]
    for at, share in [*cosines, (total, found.total[ANALOG])]:
        text = "-" if math.isnan(share.cosine) else f"{share.cosine:.4f}"
        ax.text(1.08, at, text, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=11.5, color=_INK)
    ax.text(1.08, -0.66, "cosine after it", transform=ax.get_yaxis_transform(), ha="right", fontsize=11, color=_FAINT)
    _frame(ax, least, most, rows)
    _words(sheet, found, height)
    _legend(sheet, found, markers, height)
    return sheet


def _bars(ax: Axes, at: float, name: str, share: Share, colour: str, least: float) -> None:
    """Bias above, noise below; hollow where the bias cannot be told from zero, and a line of one standard error."""
    up = _shift(share)
    if _drawn(share.bias) and share.bias >= least:
        face = colour if share.resolved else "white"
        ax.barh(
            at - up,
            share.bias - least,
            _BAR,
            least,
            color=face,
            edgecolor=colour,
            linewidth=1.2,
            zorder=3,
            gid=f"bias:{name}",
        )
        if _drawn(share.error) and share.resolved:
            low = max(share.bias - share.error, least)
            ax.plot([low, share.bias + share.error], 2 * [at - up], color=_INK, linewidth=1.4, zorder=5)
    elif share.bias < least:
        ax.text(1.06 * least, at - up, _nothing(share.bias), fontsize=10, color=_FAINT, va="center")
    if _drawn(share.noise) and share.noise >= least:
        ax.barh(at + _GAP, share.noise - least, _BAR, least, color=colour, alpha=0.28, zorder=2, gid=f"noise:{name}")


def _shift(share: Share) -> float:
    """How far above the middle of its row a bias stands: there may be noise below it."""
    return _GAP if _drawn(share.noise) else 0.0


def _nothing(bias: float) -> str:
    """What is said where a bar would be too short to be seen."""
    if bias == 0.0:
        return "none"
    return "rounding" if bias < 1e-11 else f"{bias:.0e}"


def _drawn(value: float) -> bool:
    return math.isfinite(value) and value > 0.0


def _range(found: Audit) -> tuple[float, float]:
    """Decades that hold all bars, at least two and at most from 1e-4 to 1e3."""
    shares = [*(rung.shares[ANALOG] for rung in found.rungs), found.total[ANALOG]]
    sizes = [size for share in shares for size in (share.bias, share.noise) if _drawn(size) and size >= _LEAST]
    sizes = sizes or [1e-2]
    low = min(max(10.0 ** math.floor(math.log10(min(sizes)) - 0.15), _LEAST), 1e-2)
    high = min(max(10.0 ** math.ceil(math.log10(max(sizes)) + 0.05), 1.0), _MOST)
    return low, max(high, 100.0 * low)


def _label(ax: Axes, at: float, name: str, detail: str, colour: str) -> None:
    shift = 0.13 if detail else 0.0
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center", "parse_math": False}
    ax.text(-0.015, at - shift, name, fontsize=12.5, color=colour, fontweight="bold", **place)
    if detail:
        short = textwrap.shorten(detail, 52, placeholder=" ...")
        ax.text(-0.015, at + 0.2, short, fontsize=9.5, color=_FAINT, **place)


def _frame(ax: Axes, least: float, most: float, rows: int) -> None:
    ax.set_xscale("log")
    ax.set_xlim(least, most)
    ax.set_ylim(rows + 0.15, -0.55)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_locator(LogLocator(base=10.0, numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{100.0 * size:g} %"))
    ax.grid(True, axis="x", color=_PALE, linewidth=0.9)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=11, colors=_FAINT, length=3)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#b5b5b5")
    ax.set_xlabel(
        "share of the norm of the exact gradient: of all analog blocks (bars), of one block (dots)",
        fontsize=11.5,
        color=_FAINT,
    )
    if least < 1.0 < most:
        ax.axvline(1.0, color=_FAINT, linewidth=1.0, dashes=(6, 3), zorder=1)


def _words(sheet: Figure, found: Audit, height: float) -> None:
    style: dict[str, Any] = {"color": _INK, "va": "top", "parse_math": False}
    sheet.text(0.02, 1 - 20 / height, f"{found.settings['rule']} on {machine_of(found)}", fontsize=16,
               fontweight="bold", **style)  # fmt: skip
    sheet.text(0.02, 1 - 54 / height, setting_of(found), fontsize=11.5, **{**style, "color": _FAINT})
    advice = textwrap.fill(found.advice, 152)
    sheet.text(0.02, 1 - 84 / height, advice, fontsize=12, linespacing=1.4, gid="advice", **style)


def _legend(sheet: Figure, found: Audit, markers: dict[str, str], height: float) -> None:
    shares = [*(rung.shares[ANALOG] for rung in found.rungs), found.total[ANALOG]]
    handles: list[Patch | Line2D] = [
        Patch(
            color=COLOUR[floor],
            label=f"given up by {floor.value}" if floor is Floor.RULE else f"added by {floor.value}",
        )
        for floor in Floor
        if any(rung.floor is floor for rung in found.rungs)
    ]
    kinds: list[Patch | Line2D] = [Patch(facecolor=_FAINT, label="bias")]
    if any(_drawn(share.bias) and not share.resolved for share in shares):
        kinds.append(Patch(facecolor="white", edgecolor=_FAINT, label="bias not told from zero"))
    if any(_drawn(share.noise) for share in shares):
        kinds.append(Patch(facecolor=_FAINT, alpha=0.28, label="noise of one estimate"))
    dots: list[Patch | Line2D] = [
        Line2D([], [], color=_INK, marker=marker, linestyle="", markersize=6.5, label=name)
        for name, marker in markers.items()
    ]
    for k, line in enumerate((handles, [*kinds, *dots])):
        legend = sheet.legend(
            handles=line,
            loc="upper left",
            bbox_to_anchor=(0.012, 1 - (158 + 25 * k) / height),
            ncols=len(line),
            frameon=False,
            fontsize=11,
            columnspacing=1.6,
            handletextpad=0.5,
        )
        sheet.add_artist(legend)
