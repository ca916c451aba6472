"""`python -m benchmarks`: measure, print tables; figures as JSON with --json FILE, as a picture with --picture FILE."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .figures import Answer

QUESTIONS = ("start", "roofline", "relaxation", "limit", "sparse", "layered", "training", "growth", "first-call")
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
    from .parity import Mismatch

    console = Console()
    if not console.is_terminal:
        console.width = 260  # a file or pipe has no edge to wrap at
    document: dict[str, Any] = {"schema": 2, "machine": machine.describe(), "rounds": options.rounds}
    console.print(machine.headline(document["machine"]), highlight=False, soft_wrap=True)
    found = []
    for name, measure in _measures(options):
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        try:
            answer = measure()
        except Mismatch as mismatch:
            print(f"benchmarks: {mismatch}", file=sys.stderr)
            return 1
        print(f"  {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        document[name] = answer.rows
        found += answer.bars
        for sheet in answer.sheets:
            sheet.show(console)
        _write(document, options.json)  # what is there is kept if a later one is interrupted
    if found:
        bars(found).show(console)
    document["bars"] = [bar.to_json() for bar in found]
    _close(document, options.json)
    return 0


def _measures(options: argparse.Namespace) -> list[tuple[str, Callable[[], Answer]]]:
    """The questions asked, each with what answers it. The quick and quiet ones come first."""
    from . import brian, first_call, layered, limit, picture, relaxation, roofline, sparse, start, training, verdict

    rates: list[roofline.Roofline] = []

    def roof() -> roofline.Roofline:
        if not rates:
            rates.append(roofline.measured())
        return rates[0]

    def relax() -> Answer:
        jobs = relaxation.grid(quick=options.quick, full=options.full, sizes=options.sizes)
        answer, measured = relaxation.measure(options.rounds, roof(), jobs, full=options.full)
        if options.picture is not None:
            picture.draw(measured, options.picture)
        return answer

    every: dict[str, Callable[[], Answer]] = {
        "start": start.measure,
        "roofline": lambda: roofline.answer(roof()),
        "relaxation": relax,
        "limit": limit.measure,
        "sparse": lambda: sparse.measure(options.rounds, full=options.full),
        "layered": lambda: layered.measure(options.rounds),
        "training": lambda: training.measure(options.rounds),
        "growth": lambda: training.growth(options.rounds, full=options.full),
        "first-call": first_call.measure,
    }
    asked = [(name, measure) for name, measure in every.items() if name in options.only]
    if options.brian is not None:
        asked.append(("brian", lambda: brian.measure(options.brian)))
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
    _write(document, path)


def _write(document: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast is hwsim, and beside what?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the relaxations there (.png, .svg, .pdf)")
    parser.add_argument(
        "--only", type=_questions, default=QUESTIONS, metavar="LIST", help=f"of {', '.join(QUESTIONS)}; all unless told"
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--sizes", type=_sizes, default=(), metavar="LIST", help="relaxations, as 64x64,1024x1 (N x B)")
    extent.add_argument("--quick", action="store_true", help="three relaxations only")
    extent.add_argument("--full", action="store_true", help="the whole grid, up to 4096 x 256: an hour or more")
    parser.add_argument("--rounds", type=_rounds, default=15, metavar="K", help="samples of each figure at most (15)")
    parser.add_argument("--brian", metavar="PYTHON", help="an interpreter with brian2: time it as well")
    parser.add_argument("--verdict", action="store_true", help="also the whole default `hwsim verdict`: minutes")
    options = parser.parse_args(argv)
    for path in (options.json, options.picture):
        if path is not None:
            try:
                path.open("a").close()
            except OSError as error:
                parser.error(f"cannot write {path}: {error.strerror}")
    return options


def _questions(text: str) -> tuple[str, ...]:
    asked = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in asked:
        if name not in QUESTIONS:
            raise argparse.ArgumentTypeError(f"unknown question {name!r}; choose from {', '.join(QUESTIONS)}")
    return asked


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.split(","):
        units, _, lanes = part.strip().partition("x")
        if not (units.isdigit() and lanes.isdigit() and int(units) > 0 and int(lanes) > 0):
            raise argparse.ArgumentTypeError(f"sizes are N x B such as 64x64,1024x1; found {part.strip()!r}")
        found.append((int(units), int(lanes)))
    return tuple(found)


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
