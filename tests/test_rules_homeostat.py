"""The contraction homeostat. Runs where torch cannot be imported."""

import dataclasses
import math

import numpy as np
import pytest
from rule_setting import EPS, NOISE, setting

from hwsim.contracts.device import Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.rule import settle_free
from hwsim.diagnostics import spectral_radius
from hwsim.learning_rules import (
    ContractionHomeostat,
    EquilibriumPropagation,
    FiniteHorizonEP,
)
from hwsim.reference import finite_differences
from hwsim.substrates import LeakyNetwork
from hwsim.training import Adam

# --- The contraction homeostat ------------------------------------------------------------------------------------


def twins(here, rule, free, noise=NOISE):
    """The twins that the rule runs, (z, z') each [K + 1, B, N]."""
    (run,) = here.device.relax(rule._plan(free.final, here.batch, noise), noise=noise)
    return run.recorded[:, : len(here.batch)], run.recorded[:, len(here.batch) :]


@pytest.mark.parametrize("coupling", [LeakyNetwork.dense, LeakyNetwork.symmetric])
def test_homeostat_is_finite_differences_of_its_penalty_at_fixed_states(coupling):
    here = setting(6, coupling=coupling, seed=5, gain=1.5)
    rule = ContractionHomeostat(target=-2.0, steps=8, burn_in=3)
    free = here.free()
    z, twin = twins(here, rule, free)
    pair = ContractionHomeostat(target=rule.target, steps=1, burn_in=0)
    x = np.repeat(here.batch.inputs[None], rule.steps - rule.burn_in, axis=0).reshape(-1, 8)

    def penalty(theta):
        """R with the states before each counted step held and the states after it recomputed."""
        step = here.device.spec.step_size
        before = [states[rule.burn_in : -1].reshape(-1, 6) for states in (z, twin)]
        after = [states + step * here.network.field(states, x, theta) for states in before]
        return float(pair.penalty(*(np.stack(both) for both in zip(before, after, strict=True)), step))

    assert penalty(here.theta) == pytest.approx(float(rule.penalty(z, twin, EPS)), rel=1e-9)
    expected = finite_differences(penalty, here.theta.analog, step=1e-6)
    found = here.gradient(rule, free)
    assert np.linalg.norm(found["W"] - expected["W"]) < 1e-4 * np.linalg.norm(expected["W"])
    # inputs and bias drive both twins alike
    for block in ("U", "b"):
        assert np.abs(found[block]).max() < 1e-12
        assert np.abs(expected[block]).max() < 1e-6
    assert found.readout.norm() == 0.0
    assert np.isnan(rule.estimate(here.device, here.theta, here.batch, here.task, free, NOISE).loss)


def test_homeostat_rests_while_trajectories_approach_fast_enough():
    calm = setting(seed=1, gain=0.3)
    estimate = ContractionHomeostat().estimate(calm.device, calm.theta, calm.batch, calm.task, calm.free(), NOISE)
    assert estimate.diagnostics["growth"] < -0.3
    assert estimate.gradients.norm() == 0.0
    tense = setting(seed=1, gain=1.3, input_gain=0.1)
    estimate = ContractionHomeostat().estimate(tense.device, tense.theta, tense.batch, tense.task, tense.free(), NOISE)
    assert estimate.diagnostics["growth"] > -0.3
    assert estimate.gradients.norm() > 0.0


def test_homeostat_growth_is_that_of_a_known_separation():
    # twins that part by a factor 1.1 per step for four steps and stand still for four
    rule = ContractionHomeostat(target=-1.0, steps=8, burn_in=4, smallest=1e-6, largest=100.0)
    sizes = 1e-2 * 1.1 ** np.minimum(np.arange(9), 4)
    z = np.zeros((9, 1, 3))
    twin = z + sizes[:, None, None] * np.array([0.6, 0.0, 0.8])
    grows, stands = (np.log(1.1) / EPS + 1.0) ** 2, 1.0
    assert float(rule.penalty(z, twin, EPS)) == pytest.approx(stands)  # the burn-in hides the growth
    early = dataclasses.replace(rule, burn_in=0)
    assert float(early.penalty(z, twin, EPS)) == pytest.approx((grows + stands) / 2.0)
    assert float(early.penalty(z, z + 1e3 * (twin - z), EPS)) == pytest.approx((grows + stands) / 2.0)
    # only separations inside [smallest, largest] are trusted: here the growing, then the standing ones
    assert float(dataclasses.replace(early, largest=sizes[3] * 1.01).penalty(z, twin, EPS)) == pytest.approx(grows)
    assert float(dataclasses.replace(early, smallest=sizes[4] * 0.99).penalty(z, twin, EPS)) == pytest.approx(stands)


@pytest.mark.parametrize("outside", [{"separation": 1e-5}, {"separation": 1e3, "steps": 2, "burn_in": 0}])
def test_homeostat_does_not_act_on_separations_that_it_does_not_trust(outside):
    here = setting(seed=1, gain=1.3, input_gain=0.1)
    rule = ContractionHomeostat(**outside)
    estimate = rule.estimate(here.device, here.theta, here.batch, here.task, here.free(), NOISE)
    assert estimate.gradients.norm() == 0.0
    assert math.isnan(estimate.diagnostics["growth"])
    assert estimate.diagnostics["twin_steps_counted"] == 0.0


class Floored(Device):
    """A device that states a noise floor."""

    def __init__(self, device, floor):
        self._device, self._floor = device, floor

    @property
    def spec(self):
        return dataclasses.replace(self._device.spec, noise_floor=self._floor)

    @property
    def synapses(self):
        return self._device.synapses

    def program(self, parameters):
        return self._device.program(parameters)

    def relax(self, plan, *, noise):
        return self._device.relax(plan, noise=noise)


def test_homeostat_raises_its_threshold_to_the_noise_floor():
    here = setting(seed=1, gain=1.3, input_gain=0.1)
    rule = ContractionHomeostat()
    free = here.free()
    z, twin = twins(here, rule, free)
    sizes = np.linalg.norm(twin - z, axis=2)[rule.burn_in :]
    # a floor above which half of the separations lie: four times the noise of a difference of 16 units read twice
    floor = float(np.median(sizes)) / (4.0 * math.sqrt(2.0 * 16))

    def counted(device):
        return rule.estimate(device, here.theta, here.batch, here.task, free, NOISE).diagnostics["twin_steps_counted"]

    trusted = sizes >= np.median(sizes)
    assert counted(here.device) == 1.0
    assert counted(Floored(here.device, 1e-9)) == 1.0
    assert counted(Floored(here.device, floor)) == pytest.approx(np.mean(trusted[1:] & trusted[:-1]), abs=0.02)


def test_homeostat_pulls_a_network_below_its_set_point():
    here = setting(24, seed=1, gain=1.4, input_gain=0.02, lanes=16, horizon=30, step_size=0.1)
    rule, optimiser = ContractionHomeostat(), Adam(learning_rate=5e-3)
    probe = here.task.validation

    def rho(theta):
        here.device.program(theta)
        free, _ = settle_free(here.device, probe, rule.needs, NOISE)
        return float(spectral_radius(here.network, theta, probe.inputs, free.final, 0.1).mean())

    theta, moments = here.theta, optimiser.start(here.theta)
    assert rho(theta) == pytest.approx(1.02, abs=0.002)
    for step in range(120):
        batch = here.task.training_batch(step, 16, 0)
        noise, held = NOISE.at_step(step), here.device.program(theta)
        free, _ = settle_free(here.device, batch, rule.needs, noise)
        gradients = rule.estimate(here.device, held, batch, here.task, free, noise).gradients
        theta, moments = optimiser.update(theta, gradients, moments)
    assert rho(theta) < math.exp(rule.target * 0.1)
    # it acts on the couplings alone
    assert np.abs(theta["U"] - here.theta["U"]).max() == np.abs(theta["b"]).max() == 0.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"target": 0.1}, "ContractionHomeostat needs target < 0 per time constant; found 0.1"),
        ({"burn_in": 20}, "0 <= burn_in < steps; found 20 and 20"),
        ({"separation": 0.0}, "ContractionHomeostat needs separation > 0 and finite; found separation=0.0"),
        ({"largest": math.inf}, "needs largest > 0 and finite"),
    ],
)
def test_homeostat_refuses_what_makes_no_sense(wrong, says):
    with pytest.raises(InputError, match=says):
        ContractionHomeostat(**wrong)


def test_rules_refuse_what_makes_no_sense():
    with pytest.raises(InputError, match=r"EquilibriumPropagation needs nudge > 0 and finite; found nudge=-1\.0"):
        EquilibriumPropagation(nudge=-1.0)
    with pytest.raises(InputError, match="EquilibriumPropagation needs steps > 0 and finite; found steps=0"):
        EquilibriumPropagation(steps=0)
    with pytest.raises(InputError, match="FiniteHorizonEP needs kick > 0 and finite; found kick=nan"):
        FiniteHorizonEP(kick=math.nan)
