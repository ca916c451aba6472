"""The options of `hwsim spice`, and the form of a circuit of the user's own. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import count, level, natural, size

SUBSTRATES = ("leaky", "energy", "langevin", "oscillator", "resistive")
NONLINEARITIES = ("identity", "tanh", "logistic", "softplus", "relu", "hard")

CIRCUIT_FORMAT = """\
a circuit of your own (--circuit FILE.json):
  {
    "inputs":     {"in": 0.5},                              volt of every source terminal
    "nodes":      {"a": 1e-12, "b": 1e-12},                 farad from every node to ground, above 0
    "conductors": [["in", "a", 1e-6], ["a2", "b", 2e-6],    siemens between two of them, at least 0
                   ["b", "ground", 1e-6]],
    "diodes":     [{"anode": "a", "cathode": "ground",      Shockley: ampere, above 0; ideality, above 0 (1 unless
                    "saturation_current": 1e-12,            told); kelvin, above 0 (300 unless told)
                    "ideality": 1, "temperature": 300},
                   {"anode": "ground", "cathode": "b",      ideal: siemens, above 0, beyond a threshold in volt
                    "conductance_on": 1e-4,                 (0 unless told)
                    "threshold": 0.2}],
    "amplifiers": [{"node": "a", "output": "a2",            output at gain V(node), gain not 0; a current I drawn
                    "gain": 2, "current_gain": 2}],         there draws current_gain I from the node (gain unless told)
    "time_constant": 1e-6                                   second, above 0: what --step-size counts in; the fastest
  }                                                         one of the circuit at its operating point unless told
Names are letters, digits and _ . + - and differ from each other and from "ground". "diodes", "amplifiers" and
"time_constant" may be left out. Every node needs a path of conductors to a source terminal or to ground.
"""


def add_spice_options(parser: argparse.ArgumentParser) -> None:
    """All options of `hwsim spice`."""
    device = parser.add_argument_group("the device")
    which = device.add_mutually_exclusive_group()
    which.add_argument("--substrate", choices=SUBSTRATES, help="a usual one with random parameters (leaky)")
    which.add_argument("--circuit", type=Path, metavar="FILE", help="your own resistive network instead; see below")
    device.add_argument("--nonlinearity", choices=NONLINEARITIES, help="of leaky and energy networks (tanh)")
    device.add_argument("--units", type=count, metavar="N", help="of --substrate (8)")
    device.add_argument("--inputs", type=count, metavar="M", help="of --substrate (4)")
    device.add_argument("--seed", type=natural, default=1, metavar="S", help="of parameters, inputs and the die")

    chip = parser.add_argument_group("the die, drawn from --seed")
    chip.add_argument("--mismatch", type=level, default=0.0, metavar="SD", help="relative sd of every parameter")
    chip.add_argument("--time-constant-mismatch", type=level, default=0.0, metavar="SD", help="relative sd per unit")
    chip.add_argument(
        "--offset", type=level, default=0.0, metavar="SD", help="sd per unit, state units per time constant"
    )

    settling = parser.add_argument_group("settling, from 0 V")
    settling.add_argument("--step-size", type=size, default=0.1, metavar="EPS", help="dt / time constant, as deployed")
    length = settling.add_mutually_exclusive_group()
    length.add_argument("--horizon", type=count, metavar="T", help="steps (ten of the slowest time constants)")
    length.add_argument("--time", type=size, metavar="SECOND", help="the same in seconds")
    settling.add_argument(
        "--tolerance", type=size, default=1e-4, metavar="VOLT", help="largest difference that is fine"
    )

    results = parser.add_argument_group("results")
    results.add_argument(
        "--out", type=Path, metavar="DIR", help="write deck.cir, spice.json, settling.csv and .png here"
    )
    results.add_argument("--deck-only", action="store_true", help="write the deck, to --out or stdout; run nothing")
