"""What all pictures of docs/physics have in common: look, colours, and how they are kept."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

HEAVIEST, COLOURS = 80_000, 64
"""Bytes of the largest picture that is accepted, and colours of each."""
INK, FAINT = "#1b1b1b", "#6b6b6b"
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
"""The Okabe-Ito set, which stays apart under colour blindness."""


def sheet(
    columns: int = 2, rows: int = 1, *, width: float = 7.4, height: float = 3.0, **ratios: Any
) -> tuple[Figure, list[Axes]]:
    """An empty picture with panels side by side."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(rows, columns, **ratios)).ravel())


def frame(ax: Axes, title: str, x: str, y: str) -> None:
    """Title and axes in the manner of all pictures."""
    ax.set_title(title, loc="left", fontsize=9.5, color=INK)
    ax.set_xlabel(x, fontsize=9, color=FAINT)
    ax.set_ylabel(y, fontsize=9, color=FAINT)
    ax.tick_params(labelsize=8, colors=FAINT, length=3)
    ax.grid(True, color="#ebebeb", linewidth=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b5b5b5")


def legend(ax: Axes, *entries: Any, **where: Any) -> None:
    """A legend in the manner of all pictures."""
    ax.legend(*entries, **{"fontsize": 8, "frameon": False, "labelcolor": INK, "handlelength": 1.7, **where})


def draw(folder: Path, names: Iterable[str], pictures: Mapping[str, Callable[[], Figure]]) -> None:
    """Write these pictures as PNG, and refuse one that is too heavy for a page."""
    for name in names:
        path, whole = folder / f"{name}.png", io.BytesIO()
        pictures[name]().savefig(whole, format="png")
        # few colours keep it light; text carries no version, so that the same picture is the same file
        Image.open(whole).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        size = path.stat().st_size
        sys.stderr.write(f"{path}: {size / 1000:.0f} kB\n")
        if size > HEAVIEST:
            raise SystemExit(f"{path} is larger than {HEAVIEST} bytes: draw fewer points")
