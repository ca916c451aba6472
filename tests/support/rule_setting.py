"""A programmed device in front of a task, for the tests of the learning rules. No torch here."""

from dataclasses import dataclass

import numpy as np

from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import settle_free
from hwsim.contracts.task import Batch
from hwsim.devices import SimulatedDevice, Stepwise
from hwsim.diagnostics import find_equilibrium
from hwsim.substrates import LeakyNetwork
from hwsim.testing import RandomClasses

EPS, T = 0.2, 20
NOISE = NoisePath(seed=7)


@dataclass(frozen=True)
class Setting:
    """A programmed device in front of a task."""

    network: LeakyNetwork
    device: SimulatedDevice
    task: RandomClasses
    theta: Parameters
    batch: Batch

    def free(self, noise=NOISE, *, record=1):
        return settle_free(self.device, self.batch, Needs(record=record), noise)[0]

    def gradient(self, rule, free=None, noise=NOISE):
        free = self.free() if free is None else free
        return rule.estimate(self.device, self.theta, self.batch, self.task, free, noise).gradients

    def equilibrium(self):
        """The free phase of a device that settled to rounding."""
        z0 = np.zeros((len(self.batch), self.network.units))
        found = find_equilibrium(self.network, self.theta, self.batch.inputs, z0)
        assert found.residual.max() < 1e-12
        return settled(found.z)


def setting(units=16, *, coupling=LeakyNetwork.dense, seed=0, gain=0.9, lanes=4, input_gain=1.0, **device):
    task = RandomClasses(units=units, inputs=8, classes=4)
    network = coupling(units, task.inputs)
    theta = network.initial(seed, gain=gain, input_gain=input_gain) | task.initial_readout(seed, 1.0)
    simulated = SimulatedDevice(network, **{"horizon": T, "step_size": EPS, "engine": Stepwise(), **device})
    return Setting(network, simulated, task, simulated.program(theta), task.training_batch(0, lanes, seed))


def settled(z):
    return Relaxation(final=z, states=None, residual=np.zeros(len(z)), outcome=np.zeros(len(z), np.int64))


def relative(found, expected):
    return (found - expected).norm() / expected.norm()
