"""The options of `hwsim verdict`: what can be asked, and the settings that come out. Imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from .arguments import bits_or_none, count, engine, level, natural, rate, several, size, torch_device

METHOD_NAMES = ("bptt", "equilibrium_adjoint", "ep", "ep_homeostat", "finite_horizon_ep")
"""As in `hwsim.verdict.METHODS`; written again (and compared in a test) so that --help loads no numerics."""

SWEPT = ("units", "mismatch", "adc_bits", "noise")
"""Options that take several values; the last moves fastest through their cross product."""

METHODS_HELP = (
    "comma-separated: these, any registered rule by name, and sums of them with weights, such as "
    "eligibility_rflo or finite_horizon_ep+10*homeostat; homeostat without a weight has --homeostat-weight"
)

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
        amplitude: length of nudges and kicks, state units; None for each rule's own.
        mismatch: relative sd of couplings and of time constants from chip to chip; the seed of a run draws its chip.
        reference_device: where the references are computed: "cpu" (NumPy), "cuda" or "cuda:0" (torch).
        engine: what runs the steps of the device, "fused", "stepwise", "torch" or "torch:cuda".
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
    amplitude: float | None
    mismatch: float = 0.0
    reference_device: str = "cpu"
    engine: str = "fused"

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
        mismatch=getattr(options, "mismatch", 0.0),
        reference_device=getattr(options, "reference_device", "cpu"),
        engine=getattr(options, "engine", "fused"),
    )


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One condition of a verdict: its settings, and what sets it apart from the others of a sweep.

    Args:
        settings: all of them.
        values: what is swept -> its value here; empty where nothing is.
    """

    settings: Settings
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """ "units 64, noise 0.01"; empty where nothing is swept."""
        return condition_words(self.values)

    @property
    def slug(self) -> str:
        """As a file name."""
        return ",".join(f"{name}={_shown(value)}" for name, value in self.values.items())


def condition_words(values: Any) -> str:
    """A condition in words: "units 64, noise 0.01"."""
    return ", ".join(
        f"{name.replace('_', ' ').replace('adc', 'ADC')} {_shown(value)}" for name, value in values.items()
    )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def setups_of(options: argparse.Namespace) -> tuple[Setup, ...]:
    """The conditions that were asked for: the cross product of the options that have several values."""
    lists = {name: getattr(options, name) for name in SWEPT}
    swept = [name for name, values in lists.items() if len(values) > 1]
    setups = []
    for point in product(*lists.values()):
        values = dict(zip(lists, point, strict=True))
        settings = settings_of(argparse.Namespace(**{**vars(options), **values}))
        setups.append(Setup(settings=settings, values={name: values[name] for name in swept}))
    return tuple(setups)


def swept_json(setups: tuple[Setup, ...]) -> dict[str, Any]:
    """The settings of all conditions in one: a list where several values are run."""
    lists = {name: list(dict.fromkeys(setup.values[name] for setup in setups)) for name in setups[0].values}
    return setups[0].settings.to_json() | lists


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim verdict`."""
    per_task = "the task's own"
    what = parser.add_argument_group("what is learned")
    what.add_argument("--task", choices=sorted(PRESETS, reverse=True), default="text")
    what.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 corpus instead of the Python documentation")
    what.add_argument("--methods", type=_methods, default=",".join(METHOD_NAMES), metavar="LIST", help=METHODS_HELP)
    what.add_argument("--seeds", type=_seeds, default="1", metavar="LIST", help="comma-separated; three for a verdict")

    deployed = parser.add_argument_group(
        "the device, and how it is deployed",
        "--units, --noise, --adc-bits and --mismatch take comma-separated values: all combinations are then run",
    )
    deployed.add_argument("--units", type=several(count), default="64", metavar="N")
    deployed.add_argument("--horizon", type=count, default=30, metavar="T", help="Euler steps of a settling")
    deployed.add_argument("--step-size", type=size, default=0.1, metavar="EPS", help="dt / time constant")
    deployed.add_argument(
        "--start", choices=("rest", "random", "carry"), default=None, help=f"of every settling ({per_task})"
    )
    deployed.add_argument("--start-sigma", type=size, default=4.0, metavar="S", help="sd of a random start")
    deployed.add_argument(
        "--noise", type=several(level), default="0", metavar="SIGMA", help="thermal noise, sd of a free unit"
    )
    deployed.add_argument(
        "--adc-bits", type=several(bits_or_none), default="none", metavar="BITS", help="readout converter"
    )
    deployed.add_argument("--adc-range", type=size, default=8.0, metavar="R", help="the converter reads -R .. R")
    deployed.add_argument(
        "--mismatch",
        type=several(level),
        default="0",
        metavar="SD",
        help="relative sd of couplings and time constants (log-normal); each seed is another chip",
    )

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
        "--amplitude",
        type=size,
        default=None,
        metavar="A",
        help="length of nudges and kicks, state units (each rule's own)",
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
    running.add_argument(
        "--reference-device",
        type=torch_device,
        default="cpu",
        metavar="DEVICE",
        help="where references are computed: cpu (NumPy), cuda or cuda:0 (torch, float64)",
    )
    running.add_argument(
        "--engine",
        type=engine,
        default="fused",
        metavar="NAME",
        help="what runs the steps: fused (compiled kernels), stepwise (NumPy), torch, torch:cuda; equal to rounding",
    )
    running.add_argument("--json", choices=("-",), default=None, help="print the JSON alone on stdout")
    running.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(natural(part) for part in text.split(","))
    if len(set(seeds)) < len(seeds) or max(seeds) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be different numbers below 2^32; found {text}")
    return seeds


def _methods(text: str) -> tuple[str, ...]:
    """Names without blanks; whether there are such methods is found out when rules are loaded."""
    methods = tuple("".join(part.split()) for part in text.split(","))
    if not all(methods):
        raise argparse.ArgumentTypeError(f"must be names with commas between them; found {text!r}")
    if len(set(methods)) < len(methods):
        raise argparse.ArgumentTypeError(f"name each method once; found {text}")
    return methods
