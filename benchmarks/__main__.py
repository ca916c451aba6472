"""`python -m benchmarks`: measure, print tables, write the figures as JSON with --json FILE."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .figures import Answer

QUESTIONS = ("relaxation", "first-call", "training", "start")
LEAST_ROUNDS = 7


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked.

    Returns:
        0 whatever the figures, 1 where two engines do not do the same job, 2 on bad options.
    """
    options = _options(argv)
    from rich.console import Console

    from . import machine
    from .figures import bars
    from .relaxation import Mismatch

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file or pipe has no edge to wrap at
    document: dict[str, Any] = {"schema": 1, "machine": machine.describe(), "rounds": options.rounds}
    console.print(machine.headline(document["machine"]), highlight=False, soft_wrap=True)
    found = []
    for name, measure in _measures(options):
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        try:
            answer = measure()
        except Mismatch as mismatch:
            print(f"benchmarks: {mismatch}", file=sys.stderr)
            return 1
        document[name] = answer.rows
        found += answer.bars
        for sheet in answer.sheets:
            sheet.show(console)
    if found:
        bars(found).show(console)
    document["bars"] = [bar.to_json() for bar in found]
    _close(document, options.json)
    return 0


def _measures(options: argparse.Namespace) -> list[tuple[str, Callable[[], Answer]]]:
    """The questions asked, each with what answers it. The quick and quiet ones come first."""
    from . import first_call, relaxation, start, training, verdict

    every: dict[str, Callable[[], Answer]] = {
        "start": start.measure,
        "relaxation": lambda: relaxation.measure(options.rounds),
        "training": lambda: training.measure(options.rounds),
        "first-call": first_call.measure,
    }
    asked = [(name, measure) for name, measure in every.items() if name in options.only]
    return [*asked, ("verdict", verdict.measure)] if options.verdict else asked


def _close(document: dict[str, Any], path: Path | None) -> None:
    """Say how busy the machine was, and write the figures."""
    from . import machine

    load = document["machine"]["load_after"] = machine.load()
    before = document["machine"]["load_before"]
    if before is not None and before > machine.IDLE:
        print(
            f"The machine was busy before this began (load {before:.1f}, {load:.1f} after): wall times are too long. "
            f"Trust minima, CPU times and ratios more than medians."
        )
    if path is not None:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast is hwsim, and beside what?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--only", type=_questions, default=QUESTIONS, metavar="LIST", help=f"of {', '.join(QUESTIONS)}; all unless told"
    )
    parser.add_argument("--rounds", type=_rounds, default=15, metavar="K", help="samples of each figure (15)")
    parser.add_argument("--verdict", action="store_true", help="also the whole default `hwsim verdict`: minutes")
    options = parser.parse_args(argv)
    if options.json is not None:
        try:
            options.json.open("a").close()
        except OSError as error:
            parser.error(f"cannot write {options.json}: {error.strerror}")
    return options


def _questions(text: str) -> tuple[str, ...]:
    asked = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in asked:
        if name not in QUESTIONS:
            raise argparse.ArgumentTypeError(f"unknown question {name!r}; choose from {', '.join(QUESTIONS)}")
    return asked


def _rounds(text: str) -> int:
    try:
        rounds = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number; found {text!r}") from None
    if rounds < LEAST_ROUNDS:
        raise argparse.ArgumentTypeError(f"must be at least {LEAST_ROUNDS}; found {text}")
    return rounds


if __name__ == "__main__":
    sys.exit(main())
