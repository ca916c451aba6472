"""The options of `hwsim board`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import count, level, natural, size

BAUD = 115200
BACKENDS = ("emulated-f32", "emulated-q15", "analog")
TARGETS = ("host", "m4f")
"""As in `hwsim.devices.board`; written again (and compared in a test) so that --help loads no numerics."""

EPILOG = """\
examples:
  hwsim board emulate --units 64 --inputs 64 --horizon 30
  hwsim board list
  hwsim board info /dev/ttyACM0
  hwsim board selftest fault:///dev/ttyACM0?drop=0.001
  hwsim board record /dev/ttyACM0 session.board
A board is a path, socket://HOST:PORT, rfc2217://HOST:PORT, fault://URL?drop=0.002&flip=0.002&seed=5,
record://URL?file=NAME or replay://FILE.
"""


def add_board_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim board`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=summary,
            description=description or summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    own = action("list", "list the serial ports, and what answers on each")
    own.add_argument("urls", nargs="*", metavar="URL", help="further places to look at")
    own.add_argument("--no-ask", action="store_true", help="open no port (opening one resets some boards)")
    _baud(own)
    _json(own)

    own = action("info", "say what a board is and how it does")
    _url(own)
    _json(own)

    own = action(
        "selftest",
        "let a board test itself, and test it; status 1 with what failed",
        "Run the board's own tests, then talk to it, program it, settle it, and send it to its safe state. What it "
        "held is gone afterwards.",
    )
    _url(own)
    own.add_argument("--seed", type=natural, default=0, metavar="S", help="of what is programmed and put in")
    own.add_argument("--tolerance", type=size, default=0.05, metavar="R", help="of a settling, relative to the model's")
    _json(own)

    own = action(
        "emulate",
        "run the firmware here; the first line on stdout is the URL to connect to",
        "Build the firmware and run it: as a process of this machine, or as a Cortex-M4F image in QEMU. Ends with "
        "Ctrl-C.",
    )
    own.add_argument("--target", choices=TARGETS, default="host", help="what it is built for")
    own.add_argument("--backend", choices=BACKENDS, default="emulated-f32", help="what relaxes (host)")
    own.add_argument("--units", type=count, default=64, metavar="N")
    own.add_argument("--inputs", type=count, default=64, metavar="M")
    own.add_argument("--horizon", type=count, default=30, metavar="T", help="steps of the deployed settling")
    own.add_argument("--noise", type=level, default=0.0, metavar="SIGMA", help="per step and unit, state units (host)")
    own.add_argument("--read-noise", type=level, default=0.0, metavar="SIGMA", help="per read, state units (host)")
    own.add_argument("--adc-bits", type=natural, default=0, metavar="BITS", help="0 is continuous (host)")
    own.add_argument("--seed", type=natural, default=1, metavar="S", help="of its own noise (host)")
    own.add_argument("--baud", type=natural, default=0, metavar="RATE", help="pace the line; 0 does not (host)")
    own.add_argument("--tcp", action="store_true", help="listen on TCP in place of a terminal (host)")
    own.add_argument("--link", type=Path, default=None, metavar="PATH", help="a name for the port that stays the same")

    own = action(
        "monitor",
        "watch the units of a board settle",
        "Settle what the board holds under random inputs, again and again, and draw its units as they go.",
    )
    _url(own)
    own.add_argument("--settlings", type=natural, default=0, metavar="K", help="how many; 0 goes on until Ctrl-C")
    own.add_argument("--units", type=count, default=16, metavar="N", help="units that are drawn")
    own.add_argument("--frames", type=count, default=30, metavar="K", help="pictures per settling")
    own.add_argument("--pause", type=level, default=0.05, metavar="SECOND", help="between two pictures")
    own.add_argument("--seed", type=natural, default=0, metavar="S", help="of the inputs")

    own = action(
        "record",
        "write down what a host and a board say; the first line on stdout is the URL for the host",
        "Stand between one host and a board, and write every frame to a file. Ends when the host has gone, or with "
        "Ctrl-C.",
    )
    _url(own)
    own.add_argument("file", type=Path, metavar="FILE")

    own = action(
        "replay",
        "answer as a board did in a recorded session; the first line on stdout is the URL for the host",
        "Serve a recorded session to one host; status 1 where it says anything else than it did. replay://FILE does "
        "the same without a second process.",
    )
    own.add_argument("file", type=Path, metavar="FILE")


def _url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="where the board is")
    _baud(parser)


def _baud(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baud", type=count, default=BAUD, metavar="RATE", help="of the port, bits per second")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", choices=("-",), default=None, help="print JSON alone on stdout")
