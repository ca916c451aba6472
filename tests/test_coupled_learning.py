"""Coupled learning and equilibrium propagation on resistive networks, against the adjoint of the equilibrium."""

from dataclasses import dataclass

import numpy as np
import pytest

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import require, settle_free
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.task import Batch, Task
from hwsim.devices import SimulatedDevice, Stepwise
from hwsim.devices.simulated import SIMULATED
from hwsim.learning_rules import CoupledLearning, EquilibriumPropagation, Natural
from hwsim.reference import equilibrium_adjoint
from hwsim.substrates import FieldSubstrate, LeakyNetwork
from hwsim.substrates.resistive import ResistiveNetwork, Shockley
from hwsim.tasks import Iris, NodeTask
from hwsim.testing import RandomClasses

NOISE = NoisePath(seed=5)
LAW = Shockley(saturation_current=1e-8, ideality=2.0)
HIDDEN, T, EPS = 4, 250, 0.3
"""75 time constants of 0.1 us: the slowest rate here is 0.37, so that exp(-27) = 1e-12 is left; the fastest is 4.9."""
KINDS = {
    "linear": {},
    "diodes": {"diodes": LAW},
    "amplifiers": {"diodes": LAW, "amplification": 2.0},
    "inverse current gain": {"diodes": LAW, "amplification": 2.0, "current_gain": 0.5},
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@dataclass(frozen=True, kw_only=True)
class OneNode(NodeTask):
    """Random voltages in, a random voltage of one node out."""

    units: int
    plus: tuple[int, ...]
    minus: tuple[int, ...] = ()
    inputs: int = 10
    chance: float = 0.5

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        draw = np.random.default_rng([seed, step])
        return Batch(
            inputs=0.2 * draw.standard_normal((size, self.inputs)),
            targets=0.1 * draw.standard_normal((size, 1)),
            ids=np.arange(size),
        )

    @property
    def validation(self) -> Batch:
        return self.training_batch(0, 8, 99)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A programmed network in front of a task, settled."""

    substrate: Substrate
    device: Device
    task: Task
    theta: Parameters
    batch: Batch
    free: Relaxation

    def estimate(self, rule):
        return rule.estimate(self.device, self.theta, self.batch, self.task, self.free, NOISE)

    def adjoint(self):
        found = equilibrium_adjoint(self.substrate, self.theta, self.batch, self.task, self.free.final)
        assert found.certified.all()
        assert found.equilibrium.z == pytest.approx(self.free.final, abs=1e-10)
        return found.gradients

    def held(self):
        """(A l')^T dv*/dtheta by dense linear algebra, and A [B, O, O]: what the docstring of the rule derives."""
        z, x, theta, outputs = self.free.final, self.batch.inputs, self.theta, self.task.output_units
        S = self.substrate.metric(z, theta)
        H = -S[:, :, None] * self.substrate.jacobian(z, x, theta)
        A = np.linalg.inv(np.linalg.inv(H)[:, outputs][:, :, outputs])
        currents = np.zeros_like(z)
        signal = self.task.signal(z, self.batch.targets, theta)
        currents[:, outputs] = np.einsum("bij,bj->bi", A, signal[:, outputs])
        adjoint = S * np.linalg.solve(H, currents[:, :, None])[:, :, 0]  # dv*/dtheta = H^-1 S dF/dtheta
        return self.substrate.credit(adjoint, z, x, theta), A


def setting(substrate, task, theta, *, lanes=5, **options):
    device = SimulatedDevice(substrate, **{"horizon": T, "step_size": EPS, **options})
    theta = device.program(theta)
    batch = task.training_batch(0, lanes, 3)
    free, _ = settle_free(device, batch, Needs(), NOISE)
    return Setting(substrate=substrate, device=device, task=task, theta=theta, batch=batch, free=free)


def circuit(kind, *, outputs=3, **options):
    """Microsiemens and picofarads, with Iris or one random output."""
    network = ResistiveNetwork.layered(
        (HIDDEN, outputs), inputs=10, capacitance=1e-12, bias=(8, 9), time_constant=1e-7, **kind
    )
    nodes = tuple(range(HIDDEN, HIDDEN + outputs))
    if outputs == 1:
        task = OneNode(units=network.units, plus=nodes)
    else:
        task = Iris(units=network.units, plus=nodes[:3], minus=nodes[3:], volt_per_sd=0.2)
    return setting(network, task, network.initial(3, low=3e-7, high=3e-6), **options)


def relative(found, expected):
    return (found - expected).norm() / expected.norm()


@every_kind
@pytest.mark.parametrize("outputs", [3, 6])
def test_what_coupled_learning_estimates(kind, outputs):
    here = circuit(kind, outputs=outputs)
    expected, _ = here.held()
    errors = [relative(here.estimate(CoupledLearning(nudge=eta)).gradients, expected) for eta in (0.04, 0.02, 0.01)]
    assert errors[-1] < 0.05
    # bias O(eta): it halves with eta, but for its own O(eta)
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.2)
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("kind", ["linear", "diodes"])
def test_one_output_gives_the_gradient_times_its_conductance(kind):
    here = circuit(KINDS[kind], outputs=1)
    exact, (_, A) = here.adjoint(), here.held()
    found = here.estimate(CoupledLearning(nudge=1e-4)).gradients
    spread = np.ptp(A) / A.mean()
    if kind == "linear":
        assert spread < 1e-12  # a linear network shows every sample the same conductance
    # bias about eta, and as much as the conductance differs between samples
    assert relative(found / float(A.mean()), exact) < 1e-3 + spread
    assert cosine(found, exact) > 1.0 - (1e-3 + spread) ** 2


@every_kind
def test_equilibrium_propagation_is_the_adjoint_through_the_metric(kind):
    here = circuit(kind, outputs=6)
    errors = [
        relative(here.estimate(EquilibriumPropagation(nudge=size, probe=Natural())).gradients, here.adjoint())
        for size in (0.08, 0.04)
    ]
    if kind:
        assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.2)  # O(nudge^2), from the diodes
        assert errors[1] < 0.01
    else:
        assert max(errors) < 1e-8


def test_a_device_that_cannot_load_the_free_state_settles_again():
    full, bare = (circuit(KINDS["diodes"], capabilities=SIMULATED - lost) for lost in (set(), {Capability.LOAD_STATE}))
    rule = CoupledLearning(steps=T // 2)
    expected, found = full.estimate(rule), bare.estimate(rule)
    assert relative(found.gradients, expected.gradients) < 1e-9
    assert expected.cost == Cost(settles=5, steps=5 * T // 2, reads=5)
    assert found.cost == Cost(settles=10, steps=5 * (T + T // 2), reads=10)
    assert found.loss == pytest.approx(float(full.task.loss(full.free.final, full.batch.targets, full.theta)))


def test_every_unit_an_output_and_a_head_beside_it():
    # a leaky network with symmetric couplings: S = r'(z), and what is held is z - eta l' itself, A = H
    task = RandomClasses(units=8, inputs=4, classes=3)
    network = LeakyNetwork.symmetric(8, 4)
    theta = network.initial(2, gain=0.5, input_gain=1.0) | task.initial_readout(2, 1.0)
    here = setting(network, task, theta, lanes=4, engine=Stepwise())
    expected, _ = here.held()
    errors = [relative(here.estimate(CoupledLearning(nudge=eta)).gradients.analog, expected) for eta in (1e-2, 5e-3)]
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)
    head = task.readout_credit(here.free.final, here.batch.targets, here.theta)
    assert relative(here.estimate(CoupledLearning()).gradients.readout, head) == 0.0


def test_a_metric_without_an_energy_serves_as_well():
    pytest.importorskip("torch")  # differentiates the field
    told = circuit(KINDS["amplifiers"])
    network = told.substrate
    silent = FieldSubstrate(
        function=network.field,
        units=network.units,
        inputs=network.inputs,
        blocks=network.shapes(),
        metric_function=network.metric,
    )
    here = setting(silent, told.task, told.theta)
    expected, _ = told.held()
    errors = [relative(here.estimate(CoupledLearning(nudge=eta)).gradients, expected) for eta in (0.04, 0.02)]
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("rule", [CoupledLearning(), EquilibriumPropagation(nudge=0.05, probe=Natural())])
def test_both_rules_learn_a_voltage(rule):
    # one linear output, as many conductances as needed: the loss falls at every step of plain gradient descent
    here = circuit(KINDS["linear"], outputs=1)
    losses, theta, free = [], here.theta, here.free
    scale = 1.0 if isinstance(rule, EquilibriumPropagation) else 1.0 / float(here.held()[1].mean())
    step = None
    for _ in range(8):
        found = rule.estimate(here.device, theta, here.batch, here.task, free, NOISE)
        losses.append(found.loss)
        step = 2e-7 / np.abs(found.gradients["g"] * scale).max() if step is None else step
        moved = np.maximum(theta["g"] - step * scale * found.gradients["g"], 0.0)
        theta = here.device.program(Parameters({"g": moved}))
        free, _ = settle_free(here.device, here.batch, Needs(), NOISE)
    assert np.all(np.diff(losses) < 0)
    assert losses[-1] < 0.85 * losses[0]


def test_what_it_needs():
    network = ResistiveNetwork.layered((2, 1), inputs=2, capacitance=1e-12)
    options = {"horizon": 10, "step_size": 0.1}
    require(CoupledLearning(), SimulatedDevice(network, **options).spec)
    no_clamp = SimulatedDevice(network, capabilities=SIMULATED - {Capability.CLAMP}, **options)
    with pytest.raises(CapabilityError, match="CoupledLearning needs clamp"):
        require(CoupledLearning(), no_clamp.spec)
    with pytest.raises(CapabilityError, match="reciprocal"):
        require(CoupledLearning(), SimulatedDevice(LeakyNetwork.dense(3, 2), **options).spec)
    for nudge in (0.0, -0.1, 1.5, np.nan):
        with pytest.raises(InputError, match="0 < nudge <= 1"):
            CoupledLearning(nudge=nudge)
    with pytest.raises(InputError, match="steps >= 1"):
        CoupledLearning(steps=0)
