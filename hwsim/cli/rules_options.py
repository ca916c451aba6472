"""The options of `hwsim rules`. Imports nothing heavy."""

from __future__ import annotations

import argparse

from .arguments import count, size

CAPABILITIES = (
    "load_state",
    "displace",
    "clamp",
    "record",
    "waveform",
    "transpose",
    "correct",
    "playback",
    "complex",
    "adjust",
    "twins",
    "replayable_noise",
    "capture_credit",
    "model",
)
"""As in `hwsim.contracts.device.Capability`; written again (a test compares them) so that --help loads no numerics."""

EPILOG = "capabilities: " + ", ".join(CAPABILITIES) + "\n`hwsim rules --have record,displace` says what each is for."


def add_rules_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim rules`."""
    machine = parser.add_argument_group("your machine")
    which = machine.add_mutually_exclusive_group()
    which.add_argument("--have", type=_capabilities, metavar="LIST", help="all that it can do, comma-separated")
    which.add_argument("--without", type=_capabilities, metavar="LIST", help="all but this (a simulator's)")
    machine.add_argument("--reciprocal", action="store_true", help="its couplings are the same in both directions")
    machine.add_argument("--feedback", action="store_true", help="it has a feedback array of its own")
    machine.add_argument("--horizon", type=count, default=30, metavar="T", help="steps of a settling")
    machine.add_argument("--dt", type=size, default=1e-7, metavar="SECONDS", help="of one step")
    machine.add_argument("--power", type=size, default=None, metavar="WATT", help="while settling")
    parser.add_argument("--json", choices=("-",), default=None, help="print JSON alone on stdout")


def _capabilities(text: str) -> tuple[str, ...]:
    named = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in named:
        if name not in CAPABILITIES:
            raise argparse.ArgumentTypeError(f"unknown capability {name!r}; choose from {', '.join(CAPABILITIES)}")
    return named
