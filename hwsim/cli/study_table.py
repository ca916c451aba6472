"""A study in the terminal: one row per value of the knob, medians over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.table import Table

from hwsim.study import Row, Study

Show = Callable[[float], str]


def _cosine(value: float) -> str:
    """Enough digits to tell it from 1: 0.742, 0.99998, 1.000000."""
    for decimals in (3, 4, 5, 6):
        if abs(1.0 - value) >= 5.0 * 10.0**-decimals:
            return f"{value:.{decimals}f}"
    return f"{value:.6f}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _radius(value: float) -> str:
    return f"{value:.3f}"


def _residual(value: float) -> str:
    return f"{value:.1e}"


COLUMNS: dict[str, tuple[tuple[str, str, Show], ...]] = {
    "t2": (
        ("cosine_transpose", "cos to its\nlimit", _cosine),
        ("cosine_truncated", "cos to transpose,\nalso t2 steps", _cosine),
        ("cosine_bptt", "cos to\nBPTT", _cosine),
        ("rho", "rho", _radius),
        ("residual", "residual", _residual),
    ),
    "radius": (
        ("cosine_transpose", "cos to its\nlimit", _cosine),
        ("cosine_truncated", "cos to transpose,\nalso t2 steps", _cosine),
        ("cosine_bptt", "cos to\nBPTT", _cosine),
        ("rho", "rho", _radius),
        ("residual", "residual", _residual),
    ),
    "residual": (
        ("residual", "residual", _residual),
        ("cosine", "cos of transpose\nto BPTT", _cosine),
        ("loss", "L(z_T)", _number),
        ("rho", "rho", _radius),
    ),
    "damping": (
        ("rho_mean", "rho\nmean", _radius),
        ("rho_max", "rho\nmax", _radius),
        ("converged", "z*\nfound", lambda value: f"{value:.2f}"),
        ("rho_leak", "1 - eps c", _radius),
        ("residual", "residual", _number),
        ("loss", "L(z_T)", _number),
    ),
    "approach": (
        ("loss", "L(z_T)", _number),
        ("residual", "residual", _number),
        ("rho_mean", "rho\nmean", _radius),
        ("rho_max", "rho\nmax", _radius),
        ("converged", "z*\nfound", lambda value: f"{value:.2f}"),
        ("cosine_bptt", "cos EP\nto BPTT", _cosine),
        ("cosine_transpose", "cos EP to\ntranspose", _cosine),
        ("cosine_transpose_bptt", "cos transpose\nto BPTT", _cosine),
    ),
    "noise": (
        ("cosine", "cos of\none", _cosine),
        ("bias", "bias", _number),
        ("bias_floor", "told apart\nfrom", _number),
        ("variance_probe", "variance\nof probes", _number),
        ("variance", "variance", _number),
    ),
    "horizon": (
        ("samples", "samples", lambda value: f"{value:.0f}"),
        ("cosine", "cos", _cosine),
        ("variance", "variance", _number),
        ("variance_seconds", "seconds to\nvariance 1", _number),
        ("loss", "L(z_T)", _number),
        ("residual", "residual", _number),
    ),
}
"""Study -> (field, heading, how it is shown) of each column of figures."""

KNOBS = {"t2": "t2", "radius": "nudge", "residual": "T", "damping": "c", "noise": "noise", "horizon": "T"}


def table(study: Study) -> Table:
    """Medians over seeds, one row per training update, rule or free phase, and value of the knob.

    Of the noise study the single estimates are shown and the averages left to the JSON.
    """
    rows = [row for row in study.rows if getattr(row.figures, "repeats", 1) == 1]
    leads = {name: heading for name, heading in LEADS.items() if rows and hasattr(rows[0].figures, name)}
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, header_style="bold")
    grid.add_column("update", justify="right")
    for heading in leads.values():
        grid.add_column(heading, no_wrap=True)
    if study.name in KNOBS:
        grid.add_column(KNOBS[study.name], justify="right")
    for _, heading, _ in COLUMNS[study.name]:
        grid.add_column(heading, justify="right", no_wrap=True)
    for after, *lead in curves(rows):
        own = [row for row in rows if curve_of(row) == (after, *lead)]
        values = sorted({row.value for row in own})
        for value in values:
            here = [row for row in own if row.value == value]
            cells = [str(after), *(str(part) for part in lead)]
            cells += [f"{value:g}"] if study.name in KNOBS else []
            cells += [_median(here, name, show) for name, _, show in COLUMNS[study.name]]
            grid.add_row(*cells, end_section=study.name in KNOBS and value == values[-1])
    return grid


LEADS = {"rule": "rule", "free_steps": "free\nsteps", "nudged_steps": "nudged\nsteps"}
"""Fields that tell one curve of a study from another, beside the training update."""


def curve_of(row: Row) -> tuple[Any, ...]:
    """The curve that a measurement is on: training update, then what `LEADS` names."""
    return (row.after, *(getattr(row.figures, name) for name in LEADS if hasattr(row.figures, name)))


def curves(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """All curves, those of the same update together, in the order in which they were measured first."""
    found = list(dict.fromkeys(curve_of(row) for row in rows))
    return sorted(found, key=lambda curve: curve[0])


def rule_of(row: Row) -> str:
    """The rule of a row; empty where a study looks at one alone."""
    return str(getattr(row.figures, "rule", ""))


def _median(rows: Sequence[Row], name: str, show: Show) -> str:
    known = [value for row in rows if math.isfinite(value := float(getattr(row.figures, name)))]
    return show(statistics.median(known)) if known else "-"
