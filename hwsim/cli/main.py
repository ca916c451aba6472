"""`hwsim`: the command line. Heavy imports wait until a command runs, so that `--help` is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import final

from .audit_options import EPILOG as AUDITS_SHOWN, add_audit_options
from .board_options import EPILOG as BOARDS_SHOWN, add_board_options
from .options import METHOD_NAMES, add_verdict_options
from .rules_options import EPILOG, add_rules_options
from .spice_options import CIRCUIT_FORMAT, add_spice_options
from .study_options import EPILOG as STUDIES_LISTED, add_study_options
from .train_options import EPILOG as TRAININGS_SHOWN, add_train_options

BAD_INPUT = 2
INTERRUPTED = 130


@final
@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of `hwsim`.

    Args:
        name: as typed.
        summary: one line, in `hwsim --help`.
        description, epilog: paragraphs above and below the options in its own --help.
        add_options: adds them to its parser.
        run: does it and returns the exit status; imports what is heavy.
    """

    name: str
    summary: str
    description: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        What the command returns, 0 when it did what was asked; 2 on bad input (one sentence on stderr), 130 when
        interrupted.
    """
    options = _parser().parse_args(argv)
    from hwsim.contracts.errors import HwsimError

    command: Command = options.command
    try:
        return command.run(options)
    except KeyboardInterrupt as stop:
        print(f"\nhwsim {command.name}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except HwsimError as error:
        print(f"hwsim {command.name}: error: {error}", file=sys.stderr)
        return BAD_INPUT


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """The function of a module beside this one, imported when it is called."""

    def run(options: argparse.Namespace) -> int:
        status: int = getattr(import_module(f"{__package__}.{module}"), name)(options)
        return status

    return run


COMMANDS = (
    Command(
        name="rules",
        summary="say which learning rules a machine can run, what each costs, and what it lacks for the others",
        description=(
            "List the registered learning rules for a machine with the capabilities that are told: those that it can "
            "run, with their cost per sample on top of the free phase, and what it lacks for the others."
        ),
        epilog=EPILOG,
        add_options=add_rules_options,
        run=_later("choosing", "run_rules"),
    ),
    Command(
        name="board",
        summary="find, look at, test, emulate, watch, record or replay a board",
        description="Boards are machines that answer hwsim's board protocol over a serial line, or emulate doing so.",
        epilog=BOARDS_SHOWN,
        add_options=add_board_options,
        run=_later("board", "run_board"),
    ),
    Command(
        name="train",
        summary="train a board, or a simulated device, by one rule; save as it goes, go on where it stopped",
        description=(
            "Train on the digits by one rule, on a board that answers the board protocol (--device) or on a simulated "
            "device, and evaluate the deployed loss as it goes. Writes settings.json, train.json and a checkpoint for "
            "each seed."
        ),
        epilog=TRAININGS_SHOWN,
        add_options=add_train_options,
        run=_later("train", "run_train"),
    ),
    Command(
        name="verdict",
        summary="train with several methods from the same start; say which survive the finite settling time, and why",
        description=(
            "Train one modelled analog device from the same initial weights with each of "
            f"{', '.join(METHOD_NAMES)}, evaluate the deployed loss L(z_T) after exactly T steps, and say whether the "
            "exact equilibrium gradient survives (a), does not (b), or neither can be said."
        ),
        add_options=add_verdict_options,
        run=_later("verdict", "run_verdict"),
    ),
    Command(
        name="study",
        summary="vary one quantity behind the verdict, hold everything else, and draw what the gradients do",
        description=(
            "Train a network, stop after stated numbers of updates, and there vary one knob: how long or how far EP is "
            "nudged, how far the network has settled, how much it leaks, how noisy it is, or how its device time is "
            "spent. Writes NAME.json and NAME.png."
        ),
        epilog=STUDIES_LISTED,
        add_options=add_study_options,
        run=_later("study", "run_study"),
    ),
    Command(
        name="audit",
        summary="take a rule's gradient apart on a machine: how much each idealisation and each imperfection costs",
        description=(
            "Compare what a learning rule delivers on a machine with the exact gradient of the deployed loss on its "
            "drawn chip, rung by rung: what the rule gives up by itself, what it does not know of the die, and what "
            "converters and noise add. Says what to change first."
        ),
        epilog=AUDITS_SHOWN,
        add_options=add_audit_options,
        run=_later("audit", "run_audit"),
    ),
    Command(
        name="spice",
        summary="let ngspice settle the same drawn device; print its node voltages beside ours",
        description=(
            "Draw a device, write it as a SPICE deck, let ngspice settle it, and compare every node voltage along the "
            "whole settling with an accurate solution of hwsim's equations and with the deployed steps "
            "z <- z + eps F(z, x). Ends with status 1 where ngspice and the accurate solution differ by more than "
            "--tolerance."
        ),
        epilog=CIRCUIT_FORMAT,
        add_options=add_spice_options,
        run=_later("spice", "run_spice"),
    ),
)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there are any, and keeps the lines of an epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _parser() -> argparse.ArgumentParser:
    from hwsim import __version__

    parser = argparse.ArgumentParser(
        prog="hwsim",
        description="Can this analog machine learn, at this noise, in this settling time, with rules it can run?",
    )
    parser.add_argument("--version", action="version", version=f"hwsim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=command.epilog,
            formatter_class=_Help,
        )
        own.set_defaults(command=command)
        command.add_options(own)
    return parser
