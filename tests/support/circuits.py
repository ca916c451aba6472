"""Random resistive networks, connected by construction, for the tests of the physics and of its SPICE export."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from hwsim.contracts.parameters import Parameters
from hwsim.substrates.resistive import GROUND, Amplifier, Diode, IdealDiode, ResistiveNetwork, Shockley

LAWS = {
    "shockley": Shockley(saturation_current=1e-9, ideality=2.0),
    "ideal": IdealDiode(conductance_on=3e-5, threshold=0.1),
}
"""The two kinds; the first leaks and bends softly enough that 0.3 V is far inside its exponential."""


@dataclass(frozen=True)
class Circuit:
    """A network with numbers to put in: volts, siemens, farads of usual size."""

    network: ResistiveNetwork
    theta: Parameters
    x: np.ndarray
    v: np.ndarray
    numbers: np.random.Generator


def circuits(*, laws=("shockley", "ideal"), units=(3, 20), diodes=(0, 6), amplifiers=(None,)):
    """Any topology. Plain values: `build` makes the circuit of them, in the test.

    amplifiers: None (none), "conserving" (current gain = gain), "inverse" (current gain = 1 / gain).
    """
    return st.builds(
        dict,
        units=st.integers(*units),
        inputs=st.integers(1, 3),
        loops=st.integers(0, 12),
        diodes=st.integers(*diodes),
        law=st.sampled_from(laws),
        amplifiers=st.sampled_from(amplifiers),
        lanes=st.integers(1, 3),
        seed=st.integers(0, 2**32 - 1),
    )


def build(case):
    """A tree that hangs on the terminals and ground, loops on top of it, and diodes between any two endpoints.

    Amplifiers sit on half of the nodes and drive only nodes after their own, as between layers.
    """
    numbers = np.random.default_rng(case["seed"])
    units, inputs, law = case["units"], case["inputs"], LAWS[case["law"]]
    fixed = [GROUND, *range(units, units + inputs)]
    edges = [(fixed[numbers.integers(len(fixed))], 0)]
    edges += [(int(numbers.choice([*fixed, *range(node)])), node) for node in range(1, units)]
    edges += [two(numbers, units + inputs) for _ in range(case["loops"])]
    diodes = [Diode(anode=a, cathode=c, law=law) for a, c in (two(numbers, units) for _ in range(case["diodes"]))]
    amplifiers = ()
    if case["amplifiers"] is not None:
        gains = numbers.uniform(1.5, 3.0, units // 2)
        reflect = None if case["amplifiers"] == "conserving" else 1.0
        amplifiers = tuple(
            Amplifier(node=node, gain=float(a), current_gain=reflect and reflect / float(a))
            for node, a in enumerate(gains)
        )
        # every connection between nodes runs from the output of the earlier one's amplifier, if it has one
        edges = [behind(*sorted(ends), units, inputs, len(amplifiers)) for ends in edges]
        diodes = [d for d in diodes if GROUND in (d.anode, d.cathode)]
    network = ResistiveNetwork(
        units=units,
        inputs=inputs,
        edges=tuple(edges),
        capacitance=tuple(float(c) for c in numbers.uniform(0.5e-12, 2e-12, units)),
        diodes=tuple(diodes),
        amplifiers=amplifiers,
        time_constant=1e-6,
    )
    theta = Parameters({"g": 10.0 ** numbers.uniform(-7, -5, len(edges))})
    return Circuit(
        network=network,
        theta=theta,
        x=numbers.uniform(-0.5, 0.5, (case["lanes"], inputs)),
        v=numbers.uniform(-0.3, 0.3, (case["lanes"], units)),
        numbers=numbers,
    )


def two(numbers, endpoints):
    """Two different endpoints, ground among them."""
    a, b = numbers.choice(np.arange(GROUND, endpoints), 2, replace=False)
    return int(a), int(b)


def behind(a, b, units, inputs, amplifiers):
    """The branch (a, b), a < b, from the output of a's amplifier where it has one and b is another node."""
    return (units + inputs + a, b) if 0 <= a < amplifiers and b < units else (a, b)


def network(edges, *, units, inputs=1, capacitance=1e-12, **rest):
    """A small circuit written down by hand."""
    return ResistiveNetwork(units=units, inputs=inputs, edges=tuple(edges), capacitance=capacitance, **rest)


def conductances(*g):
    return Parameters({"g": np.array(g)})
