"""One table of every registered rule on every substrate, against central finite differences of the deployed loss.

The devices are perfect and settle until nothing moves, so that L(z_T) and L(z*) are one loss and every rule that
estimates the gradient of either must find the same numbers. What a rule is expected to find there is its column.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from tables import SUBSTRATES

from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import LearningRule, registered_rules, require, settle_free
from hwsim.contracts.task import Batch
from hwsim.devices import SimulatedDevice
from hwsim.learning_rules import (
    ContractionHomeostat,
    Corrected,
    CoupledLearning,
    EquilibriumPropagation,
    FiniteHorizonEP,
    Natural,
    Transposed,
)
from hwsim.reference import BPTT, EquilibriumAdjoint, finite_differences
from hwsim.testing import RandomRegression
from hwsim.testing.draws import draw_parameters

LANES, EPS = 4, 0.2
SETTLED, SHORT = 600, 25
"""Horizons: one at which nothing moves any more, and one at which everything still does."""
NOISE = NoisePath(seed=11)
DRAWS = 300
SMALL = 1e-4
"""Length of nudges and kicks, state units: their bias is its square."""


class Finds(enum.Enum):
    """What a rule is expected to find of the gradient."""

    DEPLOYED = "the gradient of L(z_T) at any horizon"
    SETTLED = "the gradient of L(z_T) where the network has settled"
    MEAN = "the gradient of L(z_T) at any horizon, on average over draws"
    PART = "a part of it, in about the right direction"
    ANOTHER = "the gradient of something else, tested in its own file"


TABLE: dict[str, tuple[LearningRule, Finds]] = {
    "bptt": (BPTT(), Finds.DEPLOYED),
    "equilibrium_adjoint": (EquilibriumAdjoint(), Finds.SETTLED),
    "ep": (EquilibriumPropagation(nudge=SMALL), Finds.SETTLED),
    "ep_dyadic": (EquilibriumPropagation(probe=Transposed()), Finds.SETTLED),
    "ep_reciprocal": (EquilibriumPropagation(nudge=SMALL, probe=Natural()), Finds.SETTLED),
    "finite_horizon_ep": (FiniteHorizonEP(), Finds.SETTLED),
    "finite_horizon_ep_corrected": (FiniteHorizonEP(kick=SMALL, probe=Corrected()), Finds.SETTLED),
    "finite_horizon_ep_reciprocal": (FiniteHorizonEP(kick=SMALL, probe=Natural()), Finds.SETTLED),
    "homeostat": (ContractionHomeostat(), Finds.ANOTHER),
    "coupled": (CoupledLearning(), Finds.ANOTHER),
}
PARAMETERS: dict[str, Callable[[Parameters], Parameters]] = {
    # drawn at random, the one runs away and the others never lock
    "Langevin": lambda theta: theta | {"A": np.eye(8) + 0.5 * theta["A"]},
    "oscillators": lambda theta: theta | {"K": 0.2 + np.abs(theta["K"]), "omega": 0.1 * theta["omega"]},
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A programmed device that has settled in front of a task, and the gradient by central differences."""

    device: SimulatedDevice
    task: RandomRegression
    batch: Batch
    theta: Parameters
    free: Relaxation
    gradient: Parameters

    def estimate(self, rule: LearningRule, noise: NoisePath = NOISE) -> Parameters:
        found = rule.estimate(self.device, self.theta, self.batch, self.task, self.free, noise)
        return found.gradients.analog


@functools.cache
def cell(substrate: str, horizon: int) -> Cell:
    physics = SUBSTRATES[substrate]()
    device = SimulatedDevice(physics, horizon=horizon, step_size=EPS)
    task = RandomRegression(units=physics.units, inputs=physics.inputs)
    batch = task.training_batch(0, LANES, 0)
    theta = PARAMETERS.get(substrate, lambda theta: theta)(draw_parameters(device.spec, 0))
    held = device.program(theta | task.initial_readout(0, 1.0))

    def loss(at: Parameters) -> float:
        device.program(at)
        settled, _ = settle_free(device, batch, Needs(), NOISE)
        return float(task.loss(settled.final, batch.targets, at))

    gradient = finite_differences(loss, held)
    device.program(held)
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)
    if horizon == SETTLED:
        assert free.residual.max() < 1e-7
    return Cell(device=device, task=task, batch=batch, theta=held, free=free, gradient=gradient.analog)


def test_every_registered_rule_is_in_the_table() -> None:
    assert registered_rules().keys() <= TABLE.keys()


@pytest.mark.parametrize("substrate", SUBSTRATES)
@pytest.mark.parametrize("name", TABLE)
def test_rule_on_substrate(name: str, substrate: str) -> None:
    rule, finds = TABLE[name]
    here = cell(substrate, SETTLED if finds is Finds.SETTLED else SHORT)
    if rule.needs.lacking(here.device.spec):
        with pytest.raises(CapabilityError, match="Rules that would work on it"):
            require(rule, here.device.spec)
        return
    exact = here.gradient
    match finds:
        case Finds.DEPLOYED | Finds.SETTLED:
            found = here.estimate(rule)
            assert (found - exact).norm() < 1e-5 * exact.norm()
        case Finds.MEAN:
            drawn = [here.estimate(rule, NOISE.at_step(step)) for step in range(DRAWS)]
            along = np.array([one.dot(exact) for one in drawn]) / exact.norm() ** 2
            error = along.std(ddof=1) / np.sqrt(DRAWS)
            assert error < 0.25
            assert along.mean() == pytest.approx(1.0, abs=4.0 * error)
        case Finds.PART:
            assert cosine(here.estimate(rule), exact) > 0.3
        case Finds.ANOTHER:
            assert here.estimate(rule).finite()
