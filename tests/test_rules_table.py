"""One table of every registered rule on every substrate, against central finite differences of the deployed loss.

The loss is moved along a few random directions of all parameters together, which costs a table of this size what it can
afford: a wrong gradient agrees with none of them.

The devices are perfect and settle until nothing moves, so that L(z_T) and L(z*) are one loss and every rule that
estimates the gradient of either must find the same numbers. What a rule is expected to find there is its column.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

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
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    AdjointPlayback,
    Blockwise,
    CapturedFiniteHorizonEP,
    ContinualEP,
    Contour,
    ContractionHomeostat,
    ContractionHomeostatJVP,
    Corrected,
    CoupledLearning,
    Eligibility,
    EProp,
    EquilibriumPropagation,
    FiniteHorizonEP,
    JacobianRegularisation,
    LowPass,
    LowRank,
    Natural,
    NodePerturbation,
    OneSided,
    RandomDirections,
    RandomSign,
    ResidualRegulariser,
    SnAp,
    SymmetryHomeostasis,
    Transposed,
    VectorField,
)
from hwsim.reference import BPTT, EquilibriumAdjoint, bptt_along
from hwsim.testing import RandomRegression
from hwsim.testing.draws import draw_parameters

LANES, EPS = 4, 0.2
SETTLED, SHORT = 600, 25
"""Horizons: one at which nothing moves any more, and one at which everything still does."""
DIRECTIONS, STEP = 5, 1e-4
NOISE = NoisePath(seed=11)
DRAWS, COPIES = 12, 16
"""Estimates that are averaged, and how often each holds every sample, each time under an id of its own."""
SMALL = 1e-4
"""Length of nudges and kicks, state units: their bias is its square."""
TINY = 1e-6
"""The same for those of one sign, whose bias is the length itself."""


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
    "ep_one_sided": (EquilibriumPropagation(nudge=TINY, contrast=OneSided(twin=True)), Finds.SETTLED),
    "ep_random_sign": (EquilibriumPropagation(nudge=TINY, contrast=RandomSign(twin=True)), Finds.SETTLED),
    "ep_continual": (ContinualEP(nudge=SMALL, learning_rate=1e-6, every=20), Finds.SETTLED),
    "ep_holomorphic": (EquilibriumPropagation(nudge=0.1, probe=Natural(), contrast=Contour(count=8)), Finds.SETTLED),
    "ep_holomorphic_asymmetric": (EquilibriumPropagation(nudge=0.1, contrast=Contour(count=8)), Finds.SETTLED),
    "ep_vector_field": (EquilibriumPropagation(nudge=SMALL, probe=VectorField()), Finds.PART),
    "ep_dyadic": (EquilibriumPropagation(probe=Transposed()), Finds.SETTLED),
    "ep_reciprocal": (EquilibriumPropagation(nudge=SMALL, probe=Natural()), Finds.SETTLED),
    "kolen_pollack": (registered_rules()["kolen_pollack"], Finds.ANOTHER),
    "coupled": (CoupledLearning(), Finds.ANOTHER),
    "finite_horizon_ep": (FiniteHorizonEP(), Finds.SETTLED),
    "finite_horizon_ep_corrected": (FiniteHorizonEP(kick=SMALL, probe=Corrected()), Finds.SETTLED),
    "finite_horizon_ep_reciprocal": (FiniteHorizonEP(kick=SMALL, probe=Natural()), Finds.SETTLED),
    "finite_horizon_ep_traces": (FiniteHorizonEP(transient=LowPass()), Finds.PART),
    "finite_horizon_ep_captured": (CapturedFiniteHorizonEP(), Finds.SETTLED),
    "adjoint_playback": (AdjointPlayback(), Finds.DEPLOYED),
    "eligibility_rtrl": (Eligibility(influence=RTRL()), Finds.DEPLOYED),
    "eligibility_snap1": (Eligibility(influence=SnAp(order=1)), Finds.PART),
    "eligibility_snap2": (Eligibility(influence=SnAp(order=2)), Finds.PART),
    "eligibility_rflo": (Eligibility(influence=RFLO()), Finds.PART),
    "eligibility_eprop": (Eligibility(influence=EProp()), Finds.PART),
    "eligibility_uoro": (Eligibility(influence=UORO()), Finds.MEAN),
    "eligibility_kf": (Eligibility(influence=KFRTRL()), Finds.MEAN),
    "eligibility_low_rank": (Eligibility(influence=LowRank(rank=4)), Finds.MEAN),
    "eligibility_blockwise": (Eligibility(influence=Blockwise(groups=4)), Finds.PART),
    "random_directions": (RandomDirections(directions=8, length=SMALL), Finds.MEAN),
    "node_perturbation": (NodePerturbation(deviation=1e-3), Finds.MEAN),
    "homeostat": (ContractionHomeostat(), Finds.ANOTHER),
    "homeostat_jvp": (ContractionHomeostatJVP(), Finds.ANOTHER),
    "jacobian_regularisation": (JacobianRegularisation(), Finds.ANOTHER),
    "symmetry_homeostasis": (SymmetryHomeostasis(), Finds.ANOTHER),
    "residual_regulariser": (ResidualRegulariser(), Finds.ANOTHER),
}
PARAMETERS: dict[str, Callable[[Parameters], Parameters]] = {
    # drawn at random, the one runs away and the others never lock
    "Langevin": lambda theta: theta | {"A": np.eye(8) + 0.5 * theta["A"]},
    "oscillators": lambda theta: theta | {"K": 0.2 + np.abs(theta["K"]), "omega": 0.1 * theta["omega"]},
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A programmed device that has settled in front of a task.

    Args:
        directions: of unit length in the space of the analog parameters.
        slopes: of the deployed loss along them, by central differences.
        gradient: by `bptt_along`, which the slopes judge in the table as well.
    """

    device: SimulatedDevice
    task: RandomRegression
    batch: Batch
    theta: Parameters
    free: Relaxation
    directions: list[Parameters]
    slopes: list[float]
    gradient: Parameters

    def estimate(self, rule: LearningRule, noise: NoisePath = NOISE) -> Parameters:
        found = rule.estimate(self.device, self.theta, self.batch, self.task, self.free, noise)
        return found.gradients.analog

    def error(self, found: Parameters) -> float:
        """Largest difference between a slope and what a gradient says of it, for a gradient of length 1."""
        told = [found.dot(direction) for direction in self.directions]
        return max(np.abs(np.subtract(told, self.slopes))) / self.gradient.norm()


@functools.cache
def cell(substrate: str, horizon: int, copies: int = 1) -> Cell:
    physics = SUBSTRATES[substrate]()
    device = SimulatedDevice(physics, horizon=horizon, step_size=EPS)
    task = RandomRegression(units=physics.units, inputs=physics.inputs)
    batch = task.training_batch(0, LANES, 0).take(np.tile(np.arange(LANES), copies))
    batch = replace(batch, ids=np.arange(len(batch)))
    theta = PARAMETERS.get(substrate, lambda theta: theta)(draw_parameters(device.spec, 0))
    held = device.program(theta | task.initial_readout(0, 1.0))

    def loss(at: Parameters) -> float:
        device.program(at | held.readout)
        settled, _ = settle_free(device, batch, Needs(), NOISE)
        return float(task.loss(settled.final, batch.targets, held))

    draw = np.random.default_rng(5)
    drawn = [held.analog.map(lambda block: draw.standard_normal(block.shape)) for _ in range(DIRECTIONS)]
    directions = [one / one.norm() for one in drawn]
    ahead, behind = ([loss(held.analog + one * step) for one in directions] for step in (STEP, -STEP))
    device.program(held)
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)
    if horizon == SETTLED:
        assert free.residual.max() < 1e-7
    return Cell(
        device=device,
        task=task,
        batch=batch,
        theta=held,
        free=free,
        directions=directions,
        slopes=[(a - b) / (2.0 * STEP) for a, b in zip(ahead, behind, strict=True)],
        gradient=bptt_along(physics, held, batch, task, free.recorded, device.spec.step_size).analog,
    )


def test_every_registered_rule_is_in_the_table() -> None:
    assert registered_rules().keys() <= TABLE.keys()


@pytest.mark.parametrize("substrate", SUBSTRATES)
@pytest.mark.parametrize("name", TABLE)
def test_rule_on_substrate(name: str, substrate: str) -> None:
    rule, finds = TABLE[name]
    copies = COPIES if finds is Finds.MEAN else 1
    here = cell(substrate, SETTLED if finds is Finds.SETTLED else SHORT, copies)
    if rule.needs.lacking(here.device.spec):
        with pytest.raises(CapabilityError, match="Rules that would work on it"):
            require(rule, here.device.spec)
        return
    exact = here.gradient
    match finds:
        case Finds.DEPLOYED:
            assert here.error(here.estimate(rule)) < 1e-6
        case Finds.SETTLED:
            assert here.error(here.estimate(rule)) < 1e-4
        case Finds.MEAN:
            drawn = [here.estimate(rule, NOISE.at_step(step)) for step in range(DRAWS)]
            along = np.array([one.dot(exact) for one in drawn]) / exact.norm() ** 2
            error = along.std(ddof=1) / np.sqrt(DRAWS)
            assert error < 0.3
            assert along.mean() == pytest.approx(1.0, abs=4.0 * error + 1e-6)
        case Finds.PART:
            assert cosine(here.estimate(rule), exact) > 0.3
        case Finds.ANOTHER:
            assert here.estimate(rule).finite()
