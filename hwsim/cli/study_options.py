"""The options of `hwsim study`: what can be asked, and the settings that come out. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwsim.contracts.errors import InputError

from .arguments import bits, count, level, natural, several, size
from .options import PRESETS, Settings, settings_of


@dataclass(frozen=True, kw_only=True)
class StudyPreset:
    """What a study is run with unless told.

    Args:
        about: one line for --help.
        knob: what --values are.
        one: reads one of them.
        values: of the knob.
        after: training updates after which it measures.
        seeds: of the initial weights.
        samples: of the validation batch.
        noise: thermal noise sigma, state units.
        draws: estimates behind a variance.
    """

    about: str
    knob: str
    one: Callable[[str], float]
    values: tuple[float, ...] = ()
    after: tuple[int, ...] = (900,)
    seeds: tuple[int, ...] = (1, 2, 3)
    samples: int = 256
    noise: float = 0.0
    draws: int = 32


STUDIES = {
    "t2": StudyPreset(
        about="EP against its limit and BPTT, by nudged steps t2",
        knob="nudged steps t2",
        one=count,
        values=(10, 20, 40, 80, 160),
        after=(900, 1500),
    ),
    "radius": StudyPreset(
        about="EP against its limit and BPTT, by length of the nudge",
        knob="lengths of the nudge, state units per time constant",
        one=size,
        values=(0.04, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4),
    ),
    "residual": StudyPreset(
        about="the transpose relaxation against BPTT, by what is left of the transient",
        knob="horizons T",
        one=count,
        values=(3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 260, 400, 600),
        after=(900, 1500),
        samples=128,
    ),
    "damping": StudyPreset(
        about="spectral radius, by leak c",
        knob="leaks c, 1 as trained",
        one=size,
        values=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0),
        after=(0, 900, 2100, 2700),
    ),
    "approach": StudyPreset(
        about="gradient quality, residual and spectral radius along a training run into the wall",
        knob="nothing: the knob is training, see --after",
        one=level,
        after=tuple(range(0, 4001, 200)),
    ),
    "noise": StudyPreset(
        about="bias and variance of rules, by noise and repeats",
        knob="thermal noise sigma, state units",
        one=level,
        values=(0.0, 0.01, 0.03, 0.1, 0.3),
        seeds=(1,),
        samples=32,
        draws=16,
    ),
    "horizon": StudyPreset(
        about="gradient quality of rules at a fixed device time, by horizon",
        knob="horizons T",
        one=count,
        values=(5, 10, 15, 20, 30, 45, 60, 90, 120, 180),
        seeds=(1,),
        samples=512,
        noise=0.03,
        draws=16,
    ),
}
"""Names as in `hwsim.study.STUDIES`; written again (and compared in a test) so that --help loads no numerics."""

BY_VALUE = frozenset({"noise", "horizon"})
"""Studies that measure (and save) each value of their knob by itself."""


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """All that decides the numbers of a study.

    Args:
        name: of the study.
        machine: task, device and training, as in a verdict.
        values: of the knob, rising.
        after: training updates, rising.
        rules: names, None for all local ones that the device serves.
        samples: of the validation batch on which gradients are compared.
        nudge: length of the nudge of t2, state units per time constant.
        nudged_steps: t2 of the radius study.
        free_steps: of the free phases from which t2 and radius nudge.
        draws: R of noise, groups of horizon.
        budget: device time of horizon, Euler steps.
    """

    name: str
    machine: Settings
    values: tuple[float, ...]
    after: tuple[int, ...]
    rules: tuple[str, ...] | None
    samples: int
    nudge: float
    nudged_steps: tuple[int, ...]
    free_steps: tuple[int, ...]
    draws: int
    budget: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        machine = self.machine.to_json()
        own = {key: value for key, value in vars(self).items() if key not in ("machine", "name")}
        return {
            **{key: list(value) if isinstance(value, tuple) else value for key, value in own.items()},
            **{key: value for key, value in machine.items() if key not in ("steps", "every")},
        }


def study_settings_of(options: argparse.Namespace) -> StudySettings:
    """Fill what was not told from the study's preset.

    Raises:
        InputError: a value that the study cannot use.
    """
    preset = STUDIES[options.study]
    after = preset.after if options.after is None else options.after
    if options.draws == 1:
        raise InputError("a variance takes at least two draws; found --draws 1")
    machine = settings_of(
        argparse.Namespace(
            **{key: value for key, value in vars(options).items() if key not in ("after", "values", "rules")}
            | {
                "methods": (options.method,),
                "seeds": preset.seeds if options.seeds is None else options.seeds,
                "noise": preset.noise if options.noise is None else options.noise,
                "steps": max(after),
                "every": 100,
                "mismatch": 0.0,
            }
        )
    )
    return StudySettings(
        name=options.study,
        machine=machine,
        values=preset.values if options.values is None else _values(options.values, options.study),
        after=tuple(sorted(after)),
        rules=options.rules,
        samples=preset.samples if options.samples is None else options.samples,
        nudge=options.nudge,
        nudged_steps=(options.horizon, 160) if options.nudged_steps is None else options.nudged_steps,
        free_steps=_free_steps(options),
        draws=preset.draws if options.draws is None else options.draws,
        budget=options.budget,
    )


def _free_steps(options: argparse.Namespace) -> tuple[int, ...]:
    """Settled, as equilibrium propagation supposes; and in t2 as deployed, too."""
    if options.free_steps is not None:
        steps: tuple[int, ...] = options.free_steps
        return steps
    return (20 * options.horizon, options.horizon) if options.study == "t2" else (20 * options.horizon,)


def _values(text: str, study: str) -> tuple[float, ...]:
    preset = STUDIES[study]
    if not preset.values:
        raise InputError(f"study {study} takes no --values; say with --after when it measures")
    try:
        return tuple(sorted(several(preset.one)(text)))
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--values of study {study} are {preset.knob}: {error}") from None


def add_study_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim study`."""
    own = "the study's own"
    parser.add_argument("study", choices=tuple(STUDIES), metavar="NAME", help=", ".join(STUDIES))
    what = parser.add_argument_group("what is measured")
    what.add_argument("--values", default=None, metavar="LIST", help=f"of the knob, comma-separated ({own})")
    what.add_argument(
        "--after", type=several(natural), default=None, metavar="LIST", help=f"training updates first ({own})"
    )
    what.add_argument("--seeds", type=_seeds, default=None, metavar="LIST", help=f"comma-separated ({own})")
    what.add_argument("--samples", type=count, default=None, metavar="B", help=f"of the validation batch ({own})")
    what.add_argument(
        "--rules", type=_rules, default=None, metavar="LIST", help="for noise, horizon (all local ones that serve)"
    )
    what.add_argument("--draws", type=count, default=None, metavar="R", help=f"estimates behind a variance ({own})")
    what.add_argument(
        "--budget", type=count, default=2880, metavar="STEPS", help="device time of an estimate in horizon"
    )
    what.add_argument("--nudge", type=size, default=0.1, metavar="A", help="length of the nudge in t2")
    what.add_argument(
        "--nudged-steps", type=several(count), default=None, metavar="LIST", help="t2 in radius (T and 160)"
    )
    what.add_argument(
        "--free-steps",
        type=several(count),
        default=None,
        metavar="LIST",
        help="free phases that t2 and radius nudge from (20 T, settled; in t2 also T, deployed)",
    )

    deployed = parser.add_argument_group("the device, and how it was trained")
    deployed.add_argument("--task", choices=sorted(PRESETS, reverse=True), default="text")
    deployed.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 corpus instead of the Python documentation")
    deployed.add_argument("--method", default="ep", metavar="RULE", help="trains first, named as in hwsim verdict")
    deployed.add_argument("--units", type=count, default=64, metavar="N")
    deployed.add_argument("--horizon", type=count, default=30, metavar="T", help="Euler steps of a settling")
    deployed.add_argument("--step-size", type=size, default=0.1, metavar="EPS", help="dt / time constant")
    deployed.add_argument(
        "--start", choices=("rest", "random", "carry"), default=None, help="of every settling (the task's own)"
    )
    deployed.add_argument("--start-sigma", type=size, default=4.0, metavar="S", help="sd of a random start")
    deployed.add_argument(
        "--noise", type=level, default=None, metavar="SIGMA", help=f"thermal, sd of a free unit ({own})"
    )
    deployed.add_argument("--adc-bits", type=bits, default=None, metavar="BITS", help="readout converter (ideal)")
    deployed.add_argument("--adc-range", type=size, default=8.0, metavar="R", help="the converter reads -R .. R")
    deployed.add_argument("--warmup", type=natural, default=None, metavar="K", help="updates by BPTT (the task's own)")
    deployed.add_argument("--learning-rate", type=size, default=None, metavar="LR", help="of Adam (the task's own)")
    deployed.add_argument("--batch", type=count, default=64, metavar="B", help="samples per update")
    deployed.add_argument("--amplitude", type=size, default=1.0, metavar="A", help="of nudges and kicks in training")
    parser.set_defaults(homeostat_target=None, homeostat_weight=10.0)

    running = parser.add_argument_group("running")
    running.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of NAME.json and NAME.png")
    running.add_argument("--resume", action="store_true", help="go on with what --out holds of the same command")
    running.add_argument("--overwrite", action="store_true", help="replace the results that --out holds")
    running.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _seeds(text: str) -> tuple[int, ...]:
    seeds = several(natural)(text)
    if max(seeds) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be below 2^32; found {text}")
    return seeds


def _rules(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"name each rule once; found {text}")
    return names


EPILOG = "\n".join(f"  {name:10} {preset.about}" for name, preset in STUDIES.items())
"""The studies, one a line."""
