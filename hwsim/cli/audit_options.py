"""The options of `hwsim audit`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import bits, count, level, natural, size
from .options import PRESETS as TASKS

MACHINES = (
    "ideal",
    "discrete_board_12bit",
    "subthreshold_cmos",
    "reram_crossbar",
    "pcm_crossbar",
    "ecram_crossbar",
)
"""As in `hwsim.devices.PRESETS`; written again (and compared in a test) so that --help loads no numerics."""

OWN = ("noise", "read_noise", "adc_bits", "dac_bits", "mismatch", "asymmetry")
"""Options that make up a machine of the user's own, in place of --preset."""

EPILOG = """\
examples:
  hwsim audit --preset discrete_board_12bit --rule finite_horizon_ep --train 200 --out audit
  hwsim audit --noise 0.03 --adc-bits 10 --rule ep --amplitude 0.5
  hwsim audit --noise 0.03 --adc-bits 10 --rule ep --amplitude 0.5 --average 16
A bias in brackets cannot be told from zero: give more --repeats.
"""


def add_audit_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim audit`."""
    machine = parser.add_argument_group("the machine: a preset, or sources of error one by one")
    machine.add_argument("--preset", choices=MACHINES, default=None, help="a machine with figures from the literature")
    machine.add_argument("--noise", type=level, default=0.0, metavar="SIGMA", help="thermal noise, sd of a free unit")
    machine.add_argument("--read-noise", type=level, default=0.0, metavar="SIGMA", help="rms of every read")
    machine.add_argument("--adc-bits", type=bits, default=None, metavar="BITS", help="readout converter (ideal)")
    machine.add_argument("--adc-range", type=size, default=8.0, metavar="R", help="the converter reads -R .. R")
    machine.add_argument("--dac-bits", type=bits, default=None, metavar="BITS", help="converter of the inputs (ideal)")
    machine.add_argument("--dac-range", type=size, default=8.0, metavar="R", help="the converter gives -R .. R")
    machine.add_argument("--mismatch", type=level, default=0.0, metavar="SD", help="relative, of every parameter")
    machine.add_argument(
        "--asymmetry", type=level, default=0.0, metavar="SD", help="relative, of couplings driven backwards"
    )
    machine.add_argument("--wait", type=level, default=0.0, metavar="SECOND", help="since programming: drift")

    rule = parser.add_argument_group("the rule")
    rule.add_argument("--rule", default="finite_horizon_ep", metavar="RULE", help="a registered one, see hwsim rules")
    rule.add_argument("--amplitude", type=size, default=None, metavar="A", help="of its nudge or kick (its own)")
    rule.add_argument("--nudge-steps", type=count, default=None, metavar="T2", help="of its nudged phase (T)")
    rule.add_argument("--average", type=count, default=1, metavar="K", help="estimates over one free phase")

    deployed = parser.add_argument_group("what it computes")
    deployed.add_argument("--task", choices=sorted(TASKS, reverse=True), default="text")
    deployed.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 corpus instead of the Python documentation")
    deployed.add_argument("--units", type=count, default=64, metavar="N")
    deployed.add_argument("--horizon", type=count, default=30, metavar="T", help="Euler steps of a settling")
    deployed.add_argument("--step-size", type=size, default=0.1, metavar="EPS", help="dt / time constant")
    deployed.add_argument(
        "--start", choices=("rest", "random", "carry"), default=None, help="of every settling (the task's own)"
    )
    deployed.add_argument("--start-sigma", type=size, default=4.0, metavar="S", help="sd of a random start")
    deployed.add_argument("--train", type=natural, default=100, metavar="K", help="updates by BPTT on it first")
    deployed.add_argument("--batch", type=count, default=64, metavar="B", help="samples per estimate and update")
    deployed.add_argument("--seed", type=natural, default=1, metavar="S", help="of die, parameters and noise")

    running = parser.add_argument_group("running")
    running.add_argument("--repeats", type=count, default=16, metavar="R", help="estimates under independent noise")
    running.add_argument("--out", type=Path, default=None, metavar="DIR", help="write audit.json and audit.png here")
    running.add_argument("--json", choices=("-",), default=None, help="print the JSON alone on stdout")
    running.add_argument("--quiet", action="store_true", help="no progress on stderr")
