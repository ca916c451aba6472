"""What a question answers: rows for the JSON file, a table for the eye, and the bars that were set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .timing import Timing


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure beside what was asked of it.

    Args:
        name: what is measured.
        figure: what was found.
        limit: what was asked.
        at_least: whether the figure must reach the limit; otherwise it must not exceed it.
        unit: of both.
    """

    name: str
    figure: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side. Nothing depends on it: a benchmark is not a test."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        wanted = "at least" if self.at_least else "at most"
        return {
            "name": self.name,
            "figure": self.figure,
            "wanted": wanted,
            "limit": self.limit,
            "unit": self.unit,
            "met": self.met,
        }


class Sheet:
    """A table with a title above and a note below, printed as Markdown, so that it can go into README.md as it is.

    Args:
        title: of the table.
        note: how to read it; may be empty.
        columns: headings; the first column is flush left, the others flush right.
    """

    def __init__(self, title: str, note: str, *columns: str) -> None:
        self._title, self._note = title, note
        self._table = Table(box=box.MARKDOWN)
        for index, column in enumerate(columns):
            self._table.add_column(column, justify="right" if index else "left", no_wrap=True)

    def add(self, *cells: str) -> None:
        """One row."""
        self._table.add_row(*cells)

    def show(self, console: Console) -> None:
        """Print it."""
        console.print(f"\n### {self._title}", highlight=False)
        console.print(self._table)  # this kind of table brings its own empty lines
        if self._note:
            console.print(self._note, highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one question found.

    Args:
        rows: JSON values.
        sheets: to be printed.
        bars: to be printed after all sheets.
    """

    rows: list[dict[str, Any]]
    sheets: list[Sheet]
    bars: list[Bar] = field(default_factory=list)


def milliseconds(timing: Timing) -> str:
    """`median (minimum)` of the wall times, in ms."""
    return f"{_digits(1e3 * timing.median)} ({_digits(1e3 * timing.minimum)})"


def _digits(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def times(ratio: float) -> str:
    """A ratio, readable."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def bars(found: list[Bar]) -> Sheet:
    """All bars, and whether they are met."""
    sheet = Sheet("Bars", "", "bar", "figure", "wanted", "")
    for bar in found:
        wanted = f"{'at least' if bar.at_least else 'at most'} {bar.limit:g} {bar.unit}"
        sheet.add(bar.name, f"{bar.figure:.3g} {bar.unit}", wanted, "[green]met[/]" if bar.met else "[red]not met[/]")
    return sheet
