"""The options of `hwsim verdict`: what can be asked, and the settings that come out. Imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .arguments import bits, count, level, natural, rate, size

METHOD_NAMES = ("bptt", "equilibrium_adjoint", "ep", "ep_homeostat", "finite_horizon_ep")
"""As in `hwsim.verdict.METHODS`; written again (and compared in a test) so that --help loads no numerics."""

StartName = Literal["rest", "random", "carry"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a task is run with unless told.

    Args:
        steps: updates.
        learning_rate: Adam's.
        start: of every settling.
        warmup: updates by BPTT before the methods part.
        clip: Euclidean norm at which the task gradient is clipped; None for no clipping.
        homeostat_target: set-point of the contraction homeostat, growth per time constant. Transients that start far
            from rest need a lower one: over the horizon they shrink by exp(target T eps).
        gain, input_gain, readout_gain: sd of W, U, V times the square root of their fan-in.
    """

    steps: int
    learning_rate: float
    start: StartName
    warmup: int
    clip: float | None
    homeostat_target: float
    gain: float
    input_gain: float
    readout_gain: float


PRESETS = {
    "text": Preset(
        steps=4000,
        learning_rate=5e-3,
        start="rest",
        warmup=0,
        clip=None,
        homeostat_target=-0.3,
        gain=0.8,
        input_gain=1.0,
        readout_gain=1.0,
    ),
    "digits": Preset(
        steps=600,
        learning_rate=3e-3,
        start="random",
        warmup=50,
        clip=1.0,
        homeostat_target=-0.8,
        gain=0.5,
        input_gain=0.5,
        readout_gain=0.5,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides the numbers of a verdict; two runs with the same settings give the same bits.

    Args:
        task: "text" or "digits".
        text: path of the corpus, None for CPython's documentation.
        methods, seeds: what is run.
        units: N.
        horizon: T, Euler steps of the deployed settling.
        step_size: eps.
        start: of every settling, in training and deployed.
        start_sigma: sd per unit of a random start, state units.
        steps, warmup, every: updates; updates by BPTT first; updates between evaluations.
        batch: samples per update.
        learning_rate, clip: of Adam, of the task gradient.
        homeostat_target, homeostat_weight: of the contraction homeostat.
        gain, input_gain, readout_gain: of the initial weights.
        noise: thermal noise sigma, state units.
        adc_bits, adc_range: of the readout converter; None bits for an ideal readout. Range in state units.
        amplitude: length of nudges and kicks, state units.
    """

    task: str
    text: str | None
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    units: int
    horizon: int
    step_size: float
    start: StartName
    start_sigma: float
    steps: int
    warmup: int
    every: int
    batch: int
    learning_rate: float
    clip: float | None
    homeostat_target: float
    homeostat_weight: float
    gain: float
    input_gain: float
    readout_gain: float
    noise: float
    adc_bits: int | None
    adc_range: float
    amplitude: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def settings_of(options: argparse.Namespace) -> Settings:
    """Fill what was not told from the task's preset."""
    preset = PRESETS[options.task]

    def told(name: str) -> Any:
        value = getattr(options, name)
        return getattr(preset, name) if value is None else value

    return Settings(
        task=options.task,
        text=None if options.text is None else str(options.text),
        methods=options.methods,
        seeds=options.seeds,
        units=options.units,
        horizon=options.horizon,
        step_size=options.step_size,
        start=told("start"),
        start_sigma=options.start_sigma,
        steps=told("steps"),
        warmup=told("warmup"),
        every=options.every,
        batch=options.batch,
        learning_rate=told("learning_rate"),
        clip=preset.clip,
        homeostat_target=told("homeostat_target"),
        homeostat_weight=options.homeostat_weight,
        gain=preset.gain,
        input_gain=preset.input_gain,
        readout_gain=preset.readout_gain,
        noise=options.noise,
        adc_bits=options.adc_bits,
        adc_range=options.adc_range,
        amplitude=options.amplitude,
    )


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim verdict`."""
    per_task = "the task's own"
    what = parser.add_argument_group("what is learned")
    what.add_argument("--task", choices=sorted(PRESETS, reverse=True), default="text")
    what.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 corpus instead of the Python documentation")
    what.add_argument("--methods", type=_methods, default=METHOD_NAMES, metavar="LIST", help="comma-separated")
    what.add_argument("--seeds", type=_seeds, default=(1,), metavar="LIST", help="comma-separated; three for a verdict")

    deployed = parser.add_argument_group("the device, and how it is deployed")
    deployed.add_argument("--units", type=count, default=64, metavar="N")
    deployed.add_argument("--horizon", type=count, default=30, metavar="T", help="Euler steps of a settling")
    deployed.add_argument("--step-size", type=size, default=0.1, metavar="EPS", help="dt / time constant")
    deployed.add_argument(
        "--start", choices=("rest", "random", "carry"), default=None, help=f"of every settling ({per_task})"
    )
    deployed.add_argument("--start-sigma", type=size, default=4.0, metavar="S", help="sd of a random start")
    deployed.add_argument("--noise", type=level, default=0.0, metavar="SIGMA", help="thermal noise, sd of a free unit")
    deployed.add_argument("--adc-bits", type=bits, default=None, metavar="BITS", help="readout converter (ideal)")
    deployed.add_argument("--adc-range", type=size, default=8.0, metavar="R", help="the converter reads -R .. R")

    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=count, default=None, metavar="K", help=f"updates ({per_task})")
    training.add_argument(
        "--warmup",
        type=natural,
        default=None,
        metavar="K",
        help=f"updates by BPTT first, in common ({per_task})",
    )
    training.add_argument("--learning-rate", type=size, default=None, metavar="LR", help=f"of Adam ({per_task})")
    training.add_argument("--batch", type=count, default=64, metavar="B", help="samples per update")
    training.add_argument(
        "--amplitude", type=size, default=1.0, metavar="A", help="length of nudges and kicks, state units"
    )
    training.add_argument(
        "--homeostat-target", type=rate, default=None, metavar="G", help=f"growth per time constant, < 0 ({per_task})"
    )
    training.add_argument("--homeostat-weight", type=size, default=10.0, metavar="W", help="against the task gradient")
    training.add_argument("--every", type=count, default=100, metavar="K", help="updates between evaluations")

    running = parser.add_argument_group("running")
    running.add_argument("--out", type=Path, default=None, metavar="DIR", help="folder of results (verdict-TASK)")
    running.add_argument("--resume", action="store_true", help="go on with what --out holds of the same command")
    running.add_argument("--overwrite", action="store_true", help="replace the results that --out holds")
    running.add_argument("--jobs", type=count, default=None, metavar="J", help="runs side by side (one per core)")
    running.add_argument("--json", choices=("-",), default=None, help="print the JSON alone on stdout")
    running.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(natural(part) for part in text.split(","))
    if len(set(seeds)) < len(seeds) or max(seeds) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be different numbers below 2^32; found {text}")
    return seeds


def _methods(text: str) -> tuple[str, ...]:
    methods = tuple(part.strip() for part in text.split(","))
    for method in methods:
        if method not in METHOD_NAMES:
            raise argparse.ArgumentTypeError(f"unknown method {method!r}; choose from {', '.join(METHOD_NAMES)}")
    if len(set(methods)) < len(methods):
        raise argparse.ArgumentTypeError(f"name each method once; found {text}")
    return methods
