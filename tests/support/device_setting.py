"""Small simulated devices and plans, for the tests of the devices."""

import numpy as np
import pytest

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan
from hwsim.devices import SimulatedDevice
from hwsim.substrates import Identity, LeakyNetwork, Tanh

UNITS, INPUTS, EPS, T = 24, 5, 0.2, 30
SIGMA = 0.1
NOISE = NoisePath(seed=3, step=2)
KINDS = {
    f"{coupling.__name__}-{type(r).__name__}": coupling(UNITS, INPUTS, r)
    for coupling in (LeakyNetwork.dense, LeakyNetwork.symmetric)
    for r in (Identity(), Tanh())
}
every_kind = pytest.mark.parametrize("network", KINDS.values(), ids=KINDS.keys())


def device(network=KINDS["dense-Tanh"], *, gain=0.9, seed=0, **options):
    made = SimulatedDevice(network, **{"horizon": T, "step_size": EPS, **options})
    made.program(network.initial(seed, gain=gain, input_gain=1.0))
    return made


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def plan(lanes, *phases, ids=None, inputs=None, **options):
    return Plan(
        inputs=draw(lanes, INPUTS) if inputs is None else inputs,
        ids=np.arange(lanes) if ids is None else ids,
        phases=phases or (Phase(steps=T, record=1),),
        **options,
    )


def largest(found, expected):
    """Largest difference, relative to the rms of what was expected."""
    return float(np.abs(found - expected).max() / np.sqrt(np.mean(np.square(expected))))
