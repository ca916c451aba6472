"""A machine to be audited, for the tests of the audit."""

import dataclasses
import functools

from hwsim.audit import audit
from hwsim.contracts.noise import NoisePath
from hwsim.devices import SimulatedDevice
from hwsim.devices.imperfections import (
    ADC,
    DAC,
    Asymmetry,
    ConductancePair,
    Mismatch,
    Quantise,
    ReadNoise,
    ReadoutNoise,
    ThermalNoise,
)
from hwsim.devices.ladder import audit_ladder
from hwsim.learning_rules import Corrected, EquilibriumPropagation, FiniteHorizonEP, Transposed
from hwsim.substrates import LeakyNetwork
from hwsim.testing import RandomClasses

UNITS, T, EPS = 6, 12, 0.9
LONG = 12
"""Nudged steps and horizon after which nothing is left of a transient."""
NOISE = NoisePath(seed=5)
FLOOR = 1e-7
"""Rounding, amplified by a tiny nudge."""

EP_DYADIC = EquilibriumPropagation(probe=Transposed(), steps=LONG)
EP_CORRECTED = EquilibriumPropagation(probe=Corrected(), steps=LONG, nudge=1e-4)
FH_EP = FiniteHorizonEP()
RULES = {"dyadic": EP_DYADIC, "corrected": EP_CORRECTED, "finite": FH_EP}
PAIR = ConductancePair(w_max=4.0, g_max=25e-6)


EVERYTHING = (
    Mismatch(gain=0.03, time_constant=0.03, offset=0.02),
    Asymmetry(sigma=0.02),
    ThermalNoise(0.01),
    DAC(6, 8.0),
    ReadoutNoise(0.01),
    ADC(9),
    ReadNoise(pair=PAIR),
    Quantise.bits(10, low=-2.0, high=2.0),
)


@dataclasses.dataclass(frozen=True)
class Bench:
    """A machine to be audited."""

    imperfections: tuple = ()
    horizon: int = T
    lanes: int = 3
    options: tuple = ()
    waited: float = 0.0
    network: object = LeakyNetwork.dense(UNITS, 8)
    readout_gain: float = 1.0

    def make(self, some):
        options = {"horizon": self.horizon, "step_size": EPS, "die_seed": 3, **dict(self.options)}
        return SimulatedDevice(self.network, imperfections=some, **options)

    @property
    def task(self):
        return RandomClasses(units=UNITS, inputs=8, classes=4)

    @property
    def batch(self):
        return self.task.training_batch(0, self.lanes, 0)

    @functools.cached_property
    def taken_apart(self):
        theta = self.network.initial(1, gain=0.06, input_gain=1.0)
        theta = theta | self.task.initial_readout(1, self.readout_gain)
        return audit_ladder(self.make, self.imperfections, theta, waited=self.waited)

    def audit(self, rule, *, repeats=3, task=None, batch=None):
        ladder, held = self.taken_apart
        return audit(
            ladder,
            rule,
            task=self.task if task is None else task,
            theta=held,
            batch=self.batch if batch is None else batch,
            noise=NOISE,
            repeats=repeats,
        )


def bench(*imperfections, horizon=T, lanes=3, waited=0.0, **options):
    return Bench(imperfections, horizon, lanes, tuple(options.items()), waited)


def risen(found, floor=FLOOR):
    """Rungs that are more than rounding, in bias or noise, in any block."""
    return {
        rung.name
        for rung in found.rungs
        if any(not share.bias < floor or abs(share.variance) >= floor**2 for share in rung.shares.values())
    }
