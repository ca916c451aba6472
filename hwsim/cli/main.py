"""`hwsim`: the command line. Heavy imports wait until a command runs, so that `--help` is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .options import METHOD_NAMES, add_verdict_options

BAD_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when it did what was asked, 2 on bad input (one sentence on stderr), 130 when interrupted.
    """
    options = _parser().parse_args(argv)
    from hwsim.contracts.errors import HwsimError

    from .verdict import Interrupted, run_verdict

    try:
        run_verdict(options)
    except Interrupted as interruption:
        print(f"\nhwsim verdict: {interruption}", file=sys.stderr)
        return INTERRUPTED
    except HwsimError as error:
        print(f"hwsim verdict: error: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    from hwsim import __version__

    parser = argparse.ArgumentParser(
        prog="hwsim",
        description="Can this analog machine learn, at this noise, in this settling time, with rules it can run?",
    )
    parser.add_argument("--version", action="version", version=f"hwsim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    verdict = commands.add_parser(
        "verdict",
        help="train with five methods from the same start; say which survive the finite settling time, and why",
        description=(
            "Train one modelled analog device from the same initial weights with each of "
            f"{', '.join(METHOD_NAMES)}, evaluate the deployed loss L(z_T) after exactly T steps, and say whether the "
            "exact equilibrium gradient survives (a), does not (b), or neither can be said."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_verdict_options(verdict)
    return parser
