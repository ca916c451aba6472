"""Regularisers: their penalties, the gradients at fixed states, and what they do to a network. No torch here."""

import dataclasses
import math

import numpy as np
import pytest
from rule_setting import NOISE, setting
from tables import DEVICES, SUBSTRATES

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.rule import Kind, settle_free
from hwsim.contracts.wrapped_device import WrappedDevice
from hwsim.devices import SimulatedDevice, Stepwise
from hwsim.diagnostics import spectral_radius
from hwsim.learning_rules.equilibrium import EquilibriumPropagation
from hwsim.learning_rules.homeostat import ContractionHomeostat, ContractionHomeostatJVP
from hwsim.learning_rules.regularisers import (
    JacobianRegularisation,
    ResidualRegulariser,
    SymmetryHomeostasis,
    unit_vectors,
)
from hwsim.testing import RandomRegression, check_rule
from hwsim.testing.draws import draw_parameters
from hwsim.training import Adam

LANES, STEP = 3, 0.2


class Bench:
    """A programmed device of any substrate after its free phase."""

    def __init__(self, substrate, *, horizon=4, **parts):
        self.model = SUBSTRATES[substrate]()
        self.device = SimulatedDevice(self.model, horizon=horizon, step_size=STEP, engine=Stepwise(), **parts)
        self.task = RandomRegression(units=self.model.units, inputs=self.model.inputs)
        self.batch = self.task.training_batch(0, LANES, 0)
        drawn = draw_parameters(self.device.spec, 0) | self.task.initial_readout(0, 1.0)
        self.theta = self.device.program(drawn)
        self.free, _ = settle_free(self.device, self.batch, Needs(record=1), NOISE)
        self.z, self.x = self.free.final, self.batch.inputs
        self.v = unit_vectors(self.z, self.batch, NOISE)

    def estimate(self, rule, noise=NOISE):
        return rule.estimate(self.device, self.theta, self.batch, self.task, self.free, noise)


def renormalised(bench, rule, theta):
    """R of the renormalised twins, every state before a step held as it is at `bench.theta`."""

    def step(z, at):
        return z + STEP * bench.model.field(z, bench.x, at)

    z, delta, total = bench.z, rule.separation * bench.v, 0.0
    for k in range(rule.steps):
        if k >= rule.burn_in:
            after = step(z + delta, theta) - step(z, theta)
            gamma = np.log(np.linalg.norm(after, axis=1) / rule.separation) / STEP
            total += np.mean(np.maximum(gamma - rule.target, 0.0) ** 2) / (rule.steps - rule.burn_in)
        z, twin = step(z, bench.theta), step(z + delta, bench.theta)
        delta = rule.separation * (twin - z) / np.linalg.norm(twin - z, axis=1, keepdims=True)
    return float(total)


def by_tangents(bench, rule, theta):
    """R of the tangents around z_T, the directions held as they are at `bench.theta`."""

    def step(v, at):
        return v + STEP * bench.model.tangent(v, bench.z, bench.x, at)

    v, total = bench.v, 0.0
    for k in range(rule.steps):
        if k >= rule.burn_in:
            gamma = np.log(np.linalg.norm(step(v, theta), axis=1)) / STEP
            total += np.mean(np.maximum(gamma - rule.target, 0.0) ** 2) / (rule.steps - rule.burn_in)
        v = step(v, bench.theta)
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
    return float(total)


def jacobian_squared(bench, rule, theta):
    """R from the field at two states, as the device measures it."""
    ahead, behind = (
        bench.model.field(bench.z + sign * rule.separation * bench.v, bench.x, theta) for sign in (1.0, -1.0)
    )
    u = rule.leak * bench.v + (ahead - behind) / (2.0 * rule.separation)
    return float(np.mean(np.maximum(np.sum(u * u, axis=1) - rule.target, 0.0)))


def asymmetry(bench, rule, theta):
    q = bench.model.tangent(bench.v, bench.z, bench.x, theta) - bench.model.cotangent(bench.v, bench.z, bench.x, theta)
    return float(np.mean(np.maximum(np.sum(q * q, axis=1) / 2.0 - rule.target, 0.0)))


def residual(bench, rule, theta):
    force = bench.model.field(bench.free.recorded[-2], bench.x, theta)
    return float(np.mean(np.maximum(np.mean(force**2, axis=1) - rule.target**2, 0.0)))


PENALTIES = {
    "homeostat, renormalised": (
        ContractionHomeostat(renormalise=True, steps=6, burn_in=2, target=-3.0, separation=0.5),
        renormalised,
        1e-6,
    ),
    "homeostat_jvp": (ContractionHomeostatJVP(steps=6, burn_in=2, target=-3.0), by_tangents, 1e-6),
    "jacobian_regularisation": (JacobianRegularisation(), jacobian_squared, 1e-6),
    "jacobian_regularisation, own leak": (JacobianRegularisation(leak=5.0, separation=0.1), jacobian_squared, 1e-6),
    "symmetry_homeostasis": (SymmetryHomeostasis(separation=1e-3), asymmetry, 1e-4),
    "residual_regulariser": (ResidualRegulariser(), residual, 1e-6),
}


@pytest.mark.parametrize("substrate", ["dense", "symmetric", "grid", "energy", "oscillators", "resistors and diodes"])
@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_is_finite_differences_of_the_penalty_at_fixed_states(name, substrate):
    rule, penalty, tolerance = PENALTIES[name]
    bench = Bench(substrate)
    estimate, draw, h = bench.estimate(rule), np.random.default_rng(1), 1e-5
    for block in bench.theta.analog:
        v = {block: draw.standard_normal(bench.theta[block].shape)}
        moved = [bench.theta | {block: bench.theta[block] + sign * h * v[block]} for sign in (1.0, -1.0)]
        ahead, behind = (penalty(bench, rule, theta) for theta in moved)
        size = float(np.linalg.norm(estimate.gradients[block]) * np.linalg.norm(v[block]))
        slope = (ahead - behind) / (2.0 * h)
        # where J is symmetric, or a block not in it, there is nothing to descend
        assert np.sum(estimate.gradients[block] * v[block]) == pytest.approx(slope, abs=tolerance * size + 1e-8)
    assert estimate.gradients.readout.norm() == 0.0
    assert math.isnan(estimate.loss)


def test_a_symmetric_jacobian_leaves_nothing_to_say():
    estimate = Bench("resistors and diodes").estimate(SymmetryHomeostasis())
    assert estimate.gradients.norm() == estimate.diagnostics["asymmetry"] == 0.0


@pytest.mark.parametrize("name", PENALTIES)
def test_a_small_step_lowers_the_penalty_by_the_square_of_the_gradient(name):
    rule, penalty, _ = PENALTIES[name]
    bench = Bench("dense")
    gradients = bench.estimate(rule).gradients
    before, rate = penalty(bench, rule, bench.theta), 1e-5
    after = penalty(bench, rule, bench.theta - gradients * rate)
    assert before - after == pytest.approx(rate * gradients.norm() ** 2, rel=1e-2)


@pytest.mark.parametrize(
    ("rule", "diagnostic"),
    [
        (JacobianRegularisation(separation=1e-3), "jacobian"),
        (SymmetryHomeostasis(separation=1e-3), "asymmetry"),
    ],
)
def test_what_one_direction_sees_is_on_average_a_norm_of_the_jacobian(rule, diagnostic):
    bench = Bench("dense")
    jacobian = bench.model.jacobian(bench.z, bench.x, bench.theta)
    transposed = jacobian.transpose(0, 2, 1)
    if diagnostic == "jacobian":
        expected = np.sum((np.eye(8) + jacobian) ** 2) / (8 * LANES)
    else:
        expected = np.sum((jacobian - transposed) ** 2) / (2 * 8 * LANES)
        # which is also the mean of |J v|^2 - v^T J J v
        paper = np.sum(jacobian**2) - np.sum(jacobian * transposed)
        assert paper / (8 * LANES) == pytest.approx(expected, rel=1e-12)
    found = [bench.estimate(rule, NOISE.at_step(k)).diagnostics[diagnostic] for k in range(100)]
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert error < 0.1 * expected
    assert np.mean(found) == pytest.approx(expected, abs=4.0 * error)


@pytest.mark.parametrize(
    ("rule", "diagnostic", "scale"),
    [
        (JacobianRegularisation(), "jacobian", 1.0),
        (SymmetryHomeostasis(), "asymmetry", 1.0),
        (ResidualRegulariser(), "residual_rms", 1.0),
    ],
)
def test_set_points(rule, diagnostic, scale):
    bench = Bench("dense")
    found = bench.estimate(rule)
    size = found.diagnostics[diagnostic]
    assert size > 0.0
    quiet = bench.estimate(dataclasses.replace(rule, target=100.0 * size))
    assert quiet.gradients.norm() == 0.0
    assert quiet.diagnostics == found.diagnostics
    # at the mean some samples act and others do not
    partly = bench.estimate(dataclasses.replace(rule, target=size)).gradients.norm()
    assert partly > 0.0
    assert (bench.estimate(dataclasses.replace(rule, target=size)).gradients - found.gradients).norm() > 0.0


@pytest.mark.parametrize(
    "rule", [ContractionHomeostat(renormalise=True, separation=1e-5, smallest=1e-6), ContractionHomeostatJVP()]
)
def test_growth_is_that_of_the_slowest_mode(rule):
    bench = Bench("dense", horizon=600)
    assert bench.free.residual.max() < 1e-6
    rule = dataclasses.replace(rule, steps=250, burn_in=50)
    growth = bench.estimate(rule).diagnostics["growth"]
    rho = spectral_radius(bench.model, bench.theta, bench.x, bench.z, STEP)
    assert growth == pytest.approx(np.mean(np.log(rho)) / STEP, rel=0.02)


def test_renormalised_twins_do_not_sink_into_the_noise_floor():
    """Left alone they approach until no step counts any more; renormalised every step counts."""
    calm = setting(seed=1, gain=0.3)
    left = ContractionHomeostat(steps=200, burn_in=150)
    for renormalise, share in ((False, 0.0), (True, 1.0)):
        rule = dataclasses.replace(left, renormalise=renormalise)
        estimate = rule.estimate(calm.device, calm.theta, calm.batch, calm.task, calm.free(), NOISE)
        assert estimate.diagnostics["twin_steps_counted"] == share


def test_costs():
    bench = Bench("dense")
    lanes = LANES
    assert bench.estimate(JacobianRegularisation()).cost == Cost(settles=2 * lanes, steps=2 * lanes, reads=2 * lanes)
    assert bench.estimate(SymmetryHomeostasis()).cost == Cost(settles=4 * lanes, steps=4 * lanes, reads=4 * lanes)
    assert bench.estimate(ResidualRegulariser()).cost == Cost()
    assert bench.estimate(ContractionHomeostatJVP()).cost == Cost()
    steps = 2 * lanes * 20
    assert bench.estimate(ContractionHomeostat(renormalise=True)).cost == Cost(settles=steps, steps=steps, reads=steps)


# --- What they do to a network that learns -------------------------------------------------------------------------


def trained(rule, here, steps=60):
    """rho, residual and asymmetry on held-out samples, before and after training with the rule."""
    optimiser, probe = Adam(learning_rate=1e-2), here.task.validation
    theta, moments = here.theta, optimiser.start(here.theta)

    def seen(theta):
        here.device.program(theta)
        free, _ = settle_free(here.device, probe, Needs(), NOISE)
        jacobian = here.network.jacobian(free.final, probe.inputs, theta)
        rho = spectral_radius(here.network, theta, probe.inputs, free.final, here.device.spec.step_size).mean()
        apart = np.sum((jacobian - jacobian.transpose(0, 2, 1)) ** 2) / np.sum(jacobian**2)
        return np.array([rho, free.residual.mean(), apart])

    before = seen(theta)
    for step in range(steps):
        batch = here.task.training_batch(step, 16, 0)
        noise, held = NOISE.at_step(step), here.device.program(theta)
        free, _ = settle_free(here.device, batch, rule.needs, noise)
        estimate = rule.estimate(here.device, held, batch, here.task, free, noise)
        theta, moments = optimiser.update(theta, estimate.gradients, moments)
    return before, seen(theta)


RHO, RESIDUAL, ASYMMETRY = 0, 1, 2
PULLS = {
    "homeostat": (10.0 * ContractionHomeostat(), RHO),
    "homeostat, renormalised": (10.0 * ContractionHomeostat(renormalise=True, steps=8, burn_in=4), RHO),
    "homeostat_jvp": (10.0 * ContractionHomeostatJVP(), RHO),
    "jacobian_regularisation": (1.0 * JacobianRegularisation(), RHO),
    "symmetry_homeostasis": (1.0 * SymmetryHomeostasis(), ASYMMETRY),
    "residual_regulariser": (100.0 * ResidualRegulariser(), RESIDUAL),
}


@pytest.fixture(scope="module")
def alone():
    here = setting(16, seed=1, gain=1.2, input_gain=0.3, lanes=16, horizon=25)
    return here, trained(EquilibriumPropagation(), here)


@pytest.mark.parametrize("name", PULLS)
def test_a_regulariser_beside_equilibrium_propagation_pulls_its_way(name, alone):
    regulariser, index = PULLS[name]
    here, (before, without) = alone
    _, beside = trained(EquilibriumPropagation() + regulariser, here)
    assert beside[index] < before[index]
    assert beside[index] < without[index]


def test_making_the_field_s_own_jacobian_small_slows_the_network_down():
    here = setting(16, seed=1, gain=0.9, input_gain=0.3, lanes=16, horizon=25)
    before, fast = trained(JacobianRegularisation(), here, steps=60)
    _, slow = trained(JacobianRegularisation(leak=0.0), here, steps=60)
    assert fast[RHO] < before[RHO] - 0.01
    assert slow[RHO] > before[RHO] + 0.005


# --- The contract --------------------------------------------------------------------------------------------------

RULES = {
    "renormalised": ContractionHomeostat(renormalise=True, steps=8, burn_in=4, target=-3.0),
    "jvp": ContractionHomeostatJVP(steps=8, burn_in=4, target=-3.0),
    "jacobian": JacobianRegularisation(),
    "symmetry": SymmetryHomeostasis(),
    "residual": ResidualRegulariser(target=0.01),
    "ep + residual": EquilibriumPropagation() + ResidualRegulariser(),
}
ROWS = [
    *((rule, device) for rule in RULES for device in ("float64", "float32", "noisy float32", "carry")),
    *((rule, "mismatch") for rule in ("jvp", "jacobian", "symmetry")),
    ("renormalised", "random start"),
    ("jacobian", "random start"),
    ("symmetry", "stepwise"),
    ("symmetry", "random start"),
    ("residual", "bare"),
    ("renormalised", "converter, noisy"),
    ("jacobian", "converter, noisy"),
    ("symmetry", "readout"),
    ("residual", "readout"),
    ("jacobian", "own noise"),
    ("renormalised", "own noise"),
]


@pytest.mark.parametrize(("rule", "device"), ROWS)
def test_regularisers_keep_the_contract_of_a_rule(rule, device):
    if RULES[rule].needs.lacking(DEVICES[device](SUBSTRATES["dense"]()).spec):
        with pytest.raises(CapabilityError, match="Rules that would work on it"):
            check_rule(lambda: RULES[rule], lambda: DEVICES[device](SUBSTRATES["dense"]()))
        return
    check_rule(lambda: RULES[rule], lambda: DEVICES[device](SUBSTRATES["dense"]()))


@pytest.mark.parametrize(
    "rule", [rule for name, rule in RULES.items() if "+" not in name], ids=lambda rule: type(rule).__name__
)
def test_one_sample_one_step_and_single_precision(rule):
    here = setting(5, seed=2, lanes=1, horizon=1)
    assert here.gradient(rule).finite()
    single = setting(5, seed=2, lanes=2, dtype=np.float32)
    double = setting(5, seed=2, lanes=2)
    found, expected = single.gradient(rule), double.gradient(rule)
    assert (found - expected).norm() < 1e-2 * expected.norm()
    assert found["W"].dtype == np.float32


def test_what_is_local_and_what_is_not():
    assert ContractionHomeostatJVP().kind is Kind.MODEL_ASSISTED
    assert ContractionHomeostatJVP().needs == Needs(capabilities=frozenset({Capability.MODEL}))
    for rule in (ContractionHomeostat(), JacobianRegularisation(), SymmetryHomeostasis(), ResidualRegulariser()):
        assert rule.kind is Kind.LOCAL
        assert rule.ladder is None
    assert ResidualRegulariser().needs == Needs(record=1)


class Fed(WrappedDevice):
    """A device that says it has a feedback array."""

    @property
    def spec(self):
        spec = self._device.spec
        shapes = {**spec.shapes, "B": spec.shapes["W"]}
        return dataclasses.replace(spec, shapes=shapes, feedback={"B": "W"})

    @property
    def synapses(self):
        return self._device.synapses

    model = nominal = property(lambda self: self._device.nominal)

    def program(self, parameters):
        return self._device.program(parameters)

    def adjust(self, pulses):
        return self._device.adjust(pulses)

    def relax(self, plan, *, noise):
        return self._device.relax(plan, noise=noise)

    def relax_transpose(self, at, plan, *, noise):
        return self._device.relax_transpose(at, plan, noise=noise)

    def form_credit(self, free, probe, *, noise):
        return self._device.form_credit(free, probe, noise=noise)


def test_symmetry_homeostasis_refuses_a_feedback_array():
    bench = Bench("dense")
    bench.device = Fed(bench.device)
    with pytest.raises(CapabilityError, match=r"drives the feedback array \['B'\] instead"):
        bench.estimate(SymmetryHomeostasis())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: JacobianRegularisation(target=-1.0), "JacobianRegularisation needs target >= 0 and finite"),
        (lambda: JacobianRegularisation(leak=math.nan), "JacobianRegularisation needs leak >= 0 and finite"),
        (lambda: JacobianRegularisation(separation=0.0), "JacobianRegularisation needs separation > 0"),
        (lambda: SymmetryHomeostasis(separation=-1.0), "SymmetryHomeostasis needs separation > 0"),
        (lambda: SymmetryHomeostasis(target=math.inf), "SymmetryHomeostasis needs target >= 0 and finite"),
        (lambda: ResidualRegulariser(target=-0.1), "ResidualRegulariser needs target >= 0 and finite"),
        (lambda: ContractionHomeostatJVP(target=0.0), "ContractionHomeostatJVP needs target < 0"),
        (lambda: ContractionHomeostatJVP(steps=4, burn_in=4), "0 <= burn_in < steps; found 4 and 4"),
        (lambda: ContractionHomeostat(renormalise=True, steps=256), "at most 255 steps; found steps=256"),
    ],
)
def test_regularisers_refuse_what_makes_no_sense(make, says):
    with pytest.raises(InputError, match=says):
        make()
