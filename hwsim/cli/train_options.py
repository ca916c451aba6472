"""The options of `hwsim train`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from .arguments import bits_or_none, count, level, natural, several, size

SIMULATED_ONLY = ("units", "horizon", "step_size", "noise", "adc_bits", "adc_range", "mismatch")
"""Options that describe the simulated device; a board says of itself what it is."""
DEFAULTS: dict[str, Any] = {
    "units": 64,
    "horizon": 30,
    "step_size": 0.1,
    "noise": 0.0,
    "adc_bits": None,
    "adc_range": 8.0,
    "mismatch": 0.0,
}

EPILOG = """\
examples:
  hwsim train --rule finite_horizon_ep --seeds 1,2,3 --out digits
  hwsim train --device /dev/ttyACM0 --rule finite_horizon_ep --out on-the-board
  hwsim train --device fault:///dev/ttyACM0?drop=0.001 --steps 100 --out bad-wire
  hwsim train --device /dev/ttyACM0 --out on-the-board --resume
The same command with --resume goes on where it was stopped, bit for bit; a second Ctrl-C does not wait for the step.
"""


@final
@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A simulated device, as `hwsim verdict` has it.

    Args:
        units, horizon, step_size: N, T, eps.
        noise: thermal noise sigma, state units.
        adc_bits, adc_range: of the readout converter; None bits for an ideal readout. Range in state units.
        mismatch: relative sd of couplings and time constants; the seed of a run draws its chip.
    """

    units: int
    horizon: int
    step_size: float
    noise: float
    adc_bits: int | None
    adc_range: float
    mismatch: float


@final
@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """All that decides the numbers of a training run; two runs with the same settings give the same bits.

    Args:
        task: "digits".
        rule: as `hwsim.cli.rules.rule_named` reads it.
        seeds: of parameters, samples and noise; one run for each.
        steps, batch, learning_rate: updates, samples per update, of Adam.
        clip: Euclidean norm at which the gradient is clipped; None for no clipping.
        amplitude: length of nudges and kicks, state units; None for the rule's own.
        every: updates between evaluations.
        held_out: samples that are evaluated; None for all that are held out.
        device: URL of a board; None for a simulated device.
        baud: of the board's port.
        simulated: the simulated device; None with a board, which says of itself what it is.
    """

    task: str
    rule: str
    seeds: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float
    clip: float | None
    amplitude: float | None
    every: int
    held_out: int | None
    device: str | None
    baud: int
    simulated: Simulated | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def train_settings(options: argparse.Namespace) -> TrainSettings:
    """What was asked.

    Raises:
        InputError: an option of the simulated device beside --device.
    """
    from hwsim.contracts.errors import InputError

    given = vars(options)
    told = [name for name in SIMULATED_ONLY if name in given]
    if options.device is not None and told:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in told)
        raise InputError(f"a board says of itself what it is: leave out {names} beside --device")
    simulated = Simulated(**{name: given.get(name, DEFAULTS[name]) for name in SIMULATED_ONLY})
    return TrainSettings(
        task=options.task,
        rule=options.rule,
        seeds=options.seeds,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        clip=options.clip,
        amplitude=options.amplitude,
        every=options.every,
        held_out=options.held_out,
        device=options.device,
        baud=options.baud,
        simulated=simulated if options.device is None else None,
    )


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim train`."""
    what = parser.add_argument_group("what is learned, and how")
    what.add_argument("--task", choices=("digits",), default="digits")
    what.add_argument("--rule", default="finite_horizon_ep", metavar="RULE", help="by name, or a sum; see hwsim rules")
    what.add_argument("--steps", type=count, default=600, metavar="K", help="updates")
    what.add_argument("--batch", type=count, default=64, metavar="B", help="samples per update")
    what.add_argument("--learning-rate", type=size, default=3e-3, metavar="LR", help="of Adam")
    what.add_argument("--clip", type=_norm, default="1", metavar="NORM", help='of the gradient; "none" leaves it')
    what.add_argument("--amplitude", type=size, default=None, metavar="A", help="of nudge or kick (the rule's own)")
    what.add_argument("--seeds", type=several(_seed), default="1", metavar="LIST", help="comma-separated")

    where = parser.add_argument_group("the device: a board, or else a simulated one")
    where.add_argument(
        "--device", default=None, metavar="URL", help="a board: a path, socket://HOST:PORT, fault://URL?drop=0.001"
    )
    where.add_argument("--baud", type=count, default=115200, metavar="RATE", help="of the board's port")
    simulated = {
        "units": (count, "N", "units"),
        "horizon": (count, "T", "Euler steps of a settling"),
        "step_size": (size, "EPS", "dt / time constant"),
        "noise": (level, "SIGMA", "thermal noise, sd of a free unit"),
        "adc_bits": (bits_or_none, "BITS", "readout converter"),
        "adc_range": (size, "R", "the converter reads -R .. R"),
        "mismatch": (level, "SD", "relative, of couplings and time constants; each seed is another chip"),
    }
    for name, (kind, shown, words) in simulated.items():
        default = "none" if DEFAULTS[name] is None else f"{DEFAULTS[name]:g}"
        where.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=argparse.SUPPRESS,  # so that what was told can be told from what was not
            metavar=shown,
            help=f"simulated: {words} ({default})",
        )

    running = parser.add_argument_group("running")
    running.add_argument("--every", type=count, default=50, metavar="K", help="updates between evaluations")
    running.add_argument("--held-out", type=count, default=None, metavar="S", help="samples evaluated (all)")
    running.add_argument("--out", type=Path, default=Path("train-digits"), metavar="DIR", help="folder of results")
    running.add_argument("--resume", action="store_true", help="go on with what --out holds of the same command")
    running.add_argument("--overwrite", action="store_true", help="replace the results that --out holds")
    running.add_argument("--json", choices=("-",), default=None, help="print the JSON alone on stdout")
    running.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _norm(text: str) -> float | None:
    """A norm, or "none"."""
    return None if text == "none" else size(text)


def _seed(text: str) -> int:
    value = natural(text)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"must be below 2^32; found {text}")
    return value
