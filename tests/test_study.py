"""The sweeps of hwsim.study: their shapes, and each figure against its definition."""

import dataclasses
import math

import numpy as np
import pytest
from rule_setting import EPS, NOISE, T, setting

from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Needs
from hwsim.contracts.parameters import cosine
from hwsim.contracts.plan import Carry, Phase, RandomStart
from hwsim.contracts.rule import settle_free
from hwsim.devices import ThermalNoise
from hwsim.learning_rules import Corrected, EquilibriumPropagation, FiniteHorizonEP, Form, Stimulus
from hwsim.reference import BPTT, bptt_along
from hwsim.study import (
    STUDIES,
    OperatingPoint,
    Row,
    Study,
    approach,
    at_horizon,
    averaged_cosine,
    damped,
    damping,
    doublings,
    flat,
    from_json,
    noisy_estimates,
    nudges,
    residuals,
    spread,
    to_json,
    total_variance,
    truncation,
)
from hwsim.substrates import LeakyNetwork
from hwsim.substrates.nonlinearity import Identity

ADDRESS = NOISE.at_step(1000)


def point(units=16, **device):
    here = setting(units, **{"engine": None, **device})
    return OperatingPoint(device=here.device, task=here.task, theta=here.theta, batch=here.batch, noise=ADDRESS)


def nudged(point, z, steps):
    signal = point.task.signal(z, point.batch.targets, point.theta)
    nudge = Stimulus(signal=signal, form=Form.NUDGE, amplitude=0.05, steps=steps, record=1)
    return Corrected().respond(point.device, point.theta, point.batch, z, nudge, point.noise).states


# --- nudged steps -----------------------------------------------------------------------------------------------------


def test_ep_rises_to_its_limit_with_the_nudged_steps():
    rows = truncation(point(gain=1.2), nudged, [1, 3, 10, 30, 60], free_steps=1000)
    found = [row.cosine_transpose for row in rows]
    assert found == sorted(found)
    assert found[0] < 0.9
    assert found[-1] > 0.9999
    # truncation is all that is wrong with a nudged run from a settled state
    assert min(row.cosine_truncated for row in rows) > 0.99999
    assert rows[0].residual < 1e-9
    # the limit is not BPTT of 20 steps: the cosine to it passes through a maximum below 1
    assert max(row.cosine_bptt for row in rows) < 0.9999


def test_every_step_of_the_tracked_run_is_what_the_rule_finds_in_as_many_steps():
    here = point()
    (free,) = here.settle(Phase(steps=T))
    limit = here.transpose(free.final)
    for row in truncation(here, nudged, [2, 7], free_steps=T):
        alone = here.estimate(EquilibriumPropagation(nudge=0.05, steps=row.steps), free=free).gradients.analog
        assert row.cosine_transpose == pytest.approx(cosine(alone, limit), abs=1e-12)


def test_nudged_from_an_unsettled_state_ep_stays_off_the_transpose_there():
    settled, deployed = (truncation(point(gain=1.2), nudged, [100], free_steps=K)[0] for K in (1000, 5))
    assert deployed.residual > 0.01
    assert 1.0 - deployed.cosine_truncated > 100.0 * (1.0 - settled.cosine_truncated)


# --- length of the nudge ----------------------------------------------------------------------------------------------


def test_the_length_of_the_nudge_changes_nothing_until_it_leaves_the_linear_range():
    def rule(length):
        return EquilibriumPropagation(nudge=length, steps=20)

    rows = nudges(point(gain=1.2), rule, [0.01, 0.02, 0.04, 0.08, 8.0], steps=20, free_steps=1000)
    short, long = rows[:4], rows[4]
    assert np.ptp([row.cosine_transpose for row in short]) < 1e-4
    assert short[0].cosine_transpose < 0.9995  # what truncation costs stays
    assert long.cosine_truncated < 0.99 < 0.99999 < short[3].cosine_truncated
    # the bias is of second order in the gradient, so of fourth in the cosine
    misses = [1.0 - row.cosine_truncated for row in short[1:]]
    assert misses[2] / misses[1] == pytest.approx(16.0, rel=0.1)


# --- residual ---------------------------------------------------------------------------------------------------------


def test_the_transpose_becomes_bptt_as_the_residual_vanishes():
    rows = residuals(point(gain=0.9), [10, 20, 40, 80, 160, 320, 640])
    left, miss = [row.residual for row in rows], [1.0 - row.cosine for row in rows]
    assert left == sorted(left, reverse=True)
    assert miss == sorted(miss, reverse=True)
    assert miss[0] > 0.1
    assert left[-1] < 1e-9
    assert miss[-1] < 1e-9


def test_every_horizon_of_the_tracked_run_is_a_device_with_that_horizon():
    rows = residuals(point(), [1, 7])
    for row in rows:
        alone = point(horizon=row.horizon)
        z = alone.free.final
        assert row.loss == pytest.approx(alone.loss(z), rel=1e-12)
        assert row.cosine == pytest.approx(cosine(alone.transpose(z), alone.bptt(alone.free.recorded)), abs=1e-12)


# --- damping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.5, 2.0])
def test_a_damped_network_takes_the_steps_of_a_leak_of_c(c):
    plain = setting()
    here = setting(step_size=c * EPS, engine=None)
    held = here.device.program(damped(plain.theta, c))
    free = settle_free(here.device, here.batch, Needs(record=1), NOISE)[0]
    W, U, b, x = (np.asarray(a) for a in (plain.theta["W"], plain.theta["U"], plain.theta["b"], here.batch.inputs))
    z = np.zeros((len(x), 16))
    for step in range(T):
        np.testing.assert_allclose(free.recorded[step], z, rtol=0, atol=1e-13)
        z = z + EPS * (-c * z + np.tanh(z) @ W.T + x @ U.T + b)
    rate = -c * z + np.tanh(z) @ W.T + x @ U.T + b
    found = damping(
        OperatingPoint(device=here.device, task=here.task, theta=held, batch=here.batch, noise=ADDRESS), c, EPS
    )
    assert found.residual == pytest.approx(np.mean(np.sqrt(np.mean(rate**2, axis=1))), rel=1e-9)
    assert found.rho_leak == pytest.approx(abs(1 - c * EPS))
    # rho of the damped network by hand, where it ends up in the long run
    for _ in range(4000):
        z = z + EPS * (-c * z + np.tanh(z) @ W.T + x @ U.T + b)
    D = (1 - EPS * c) * np.eye(16) + EPS * W * (1 - np.tanh(z) ** 2)[:, None, :]
    assert found.rho_mean == pytest.approx(np.mean(np.abs(np.linalg.eigvals(D)).max(axis=1)), rel=1e-7)


def test_rho_rises_as_damping_falls():
    plain = setting()
    found = []
    for c in (2.0, 1.5, 1.0, 0.8):
        device = setting(step_size=c * EPS, engine=None).device
        found.append(
            damping(OperatingPoint.programmed(device, plain.task, damped(plain.theta, c), plain.batch, ADDRESS), c, EPS)
        )
    assert [row.rho_mean for row in found] == sorted(row.rho_mean for row in found)
    assert all(row.rho_mean > row.rho_leak for row in found)
    assert [row.residual for row in found] == sorted(row.residual for row in found)
    with pytest.raises(InputError, match="a leak must be positive; found 0"):
        damped(plain.theta, 0.0)


# --- one look at training ---------------------------------------------------------------------------------------------


def test_bptt_agrees_with_itself_along_the_way():
    here = point()
    found = approach(here, BPTT())
    assert found.cosine_bptt == pytest.approx(1.0, abs=1e-12)
    assert found.cosine_transpose == pytest.approx(found.cosine_transpose_bptt, abs=1e-12)
    assert found.loss == pytest.approx(float(here.task.loss(here.free.final, here.batch.targets, here.theta)))
    assert found.rho_mean <= found.rho_max
    assert found.converged == 1.0


# --- statistics -------------------------------------------------------------------------------------------------------


def test_bias_and_variance_of_known_draws():
    draw = np.random.default_rng(3)
    R, P, sd, bias = 400, 50, 0.5, 0.1
    exact = np.ones((R, P)) + 0.2 * draw.standard_normal((R, P))
    found = spread(exact + bias + sd * draw.standard_normal((R, P)), exact)
    size = float(np.sum(exact.mean(axis=0) ** 2))
    # sums of R P independent squares: relative error sqrt(2 / (R P)); four of them
    slack = 4.0 * math.sqrt(2.0 / (R * P))
    assert found.variance_probe == pytest.approx(P * sd**2 / size, rel=slack)
    assert found.variance == pytest.approx(P * (sd**2 + 0.2**2) / size, rel=slack)
    # |mean d|^2 = P bias^2 +- 2 bias sd sqrt(P / R)
    assert found.bias**2 * size == pytest.approx(P * bias**2, abs=4 * (2 * bias * sd * math.sqrt(P / R) + sd**2 / R))


def test_the_spread_of_few_draws_is_not_taken_for_bias():
    draw = np.random.default_rng(4)
    biases = []
    for _ in range(200):
        exact = np.ones((8, 100))
        biases.append(spread(exact + draw.standard_normal((8, 100)), exact).bias)
    # without the correction every one would be sqrt(1 / 8)
    assert np.mean(np.square(biases)) < 0.2 / 8
    assert min(biases) == 0.0
    floors = [spread(exact + draw.standard_normal((8, 100)), exact).bias_floor for _ in range(200)]
    # two standard errors of sqrt(2 / (100 R (R - 1))) in the square, where E <d_r, d_s>^2 = P and |m|^2 = P
    assert np.mean(np.square(floors)) == pytest.approx(2.0 * math.sqrt(2.0 / (100 * 8 * 7)), rel=0.2)
    assert np.mean(np.array(biases) > np.array(floors)) < 0.06


def test_the_spread_of_one_draw_is_unknown():
    found = spread(np.full((1, 3), 1.5), np.ones((1, 3)))
    assert math.isnan(found.variance)
    assert found.bias == pytest.approx(0.5)
    assert math.isnan(total_variance(np.ones((1, 3))))
    assert math.isnan(spread(np.ones((3, 2)), np.zeros((3, 2))).bias)


def test_averages_are_taken_over_disjoint_groups():
    draws = np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 1.0], [2.0, -1.0], [9.0, 9.0]])
    target = np.array([1.0, 0.0])
    assert averaged_cosine(draws, target, 2) == pytest.approx(1.0)
    assert averaged_cosine(draws[:2], target, 1) == pytest.approx(math.sqrt(0.5))
    assert math.isnan(averaged_cosine(draws, target, 6))
    assert list(doublings(1)) == [1]
    assert list(doublings(9)) == [1, 2, 4, 8]


# --- noise ------------------------------------------------------------------------------------------------------------

RULES = {"ep": EquilibriumPropagation(nudge=0.5), "finite_horizon_ep": FiniteHorizonEP(kick=0.5)}


def noisy(sigma, rules=RULES, draws=16, **device):
    quiet = {} if sigma == 0.0 else {"imperfections": [ThermalNoise(sigma)]}
    rows = noisy_estimates(point(**quiet, **device), rules, noise=sigma, draws=draws)
    return {(row.rule, row.repeats): row for row in rows}


def test_without_noise_a_rule_has_its_bias_alone():
    here, rows = point(), noisy(0.0, draws=2)
    exact = here.bptt(here.free.recorded)
    for name, rule in RULES.items():
        error = here.estimate(rule).gradients.analog - exact
        assert rows[name, 1].bias == pytest.approx(error.norm() / exact.norm(), rel=1e-9)
        assert rows[name, 1].variance_probe < 1e-20
        assert rows[name, 1].cosine == pytest.approx(rows[name, 2].cosine, abs=1e-12)
    assert rows["bptt", 1].bias == rows["bptt", 1].variance_probe == 0.0
    assert rows["bptt", 1].cosine == pytest.approx(1.0, abs=1e-12)


def test_variance_grows_as_the_square_of_the_noise_and_averages_are_better():
    low, high = noisy(0.01), noisy(0.04)
    for name in RULES:
        # two sample variances over some 400 parameters of about ten effective directions: 4 standard errors
        assert high[name, 1].variance_probe / low[name, 1].variance_probe == pytest.approx(16.0, rel=0.5)
        assert high[name, 16].cosine > high[name, 4].cosine > high[name, 1].cosine
        assert low[name, 1].cosine > high[name, 1].cosine
        assert low[name, 1].variance >= low[name, 1].variance_probe * 0.5
    assert high["bptt", 1].variance > 0.0


def test_a_rule_that_is_exact_on_a_linear_network_has_no_bias_there():
    def linear(units, inputs):
        return LeakyNetwork.dense(units, inputs, Identity())

    rows = noisy(0.03, draws=32, coupling=linear, gain=0.5)
    finite, ep = rows["finite_horizon_ep", 1], rows["ep", 1]
    assert finite.bias < 2.0 * finite.bias_floor
    assert ep.bias > 2.0 * ep.bias_floor
    assert finite.bias < 0.2 * ep.bias


def test_the_same_seed_gives_the_same_numbers():
    assert noisy(0.1, draws=3) == noisy(0.1, draws=3)


def test_draws_under_a_random_start_and_a_carried_one_are_independent_of_what_ran_before():
    for start in (RandomStart(1.0), Carry()):
        here = point(start=start)
        first = noisy_estimates(here, RULES, noise=0.0, draws=2)
        assert noisy_estimates(here, RULES, noise=0.0, draws=2) == first
        varied = {row.rule: row.variance for row in first}["bptt"]
        assert (varied > 1e-3) == isinstance(start, RandomStart)


# --- device time ------------------------------------------------------------------------------------------------------


def budgeted(budget, groups=8, **device):
    here = setting(lanes=40, engine=None, imperfections=[ThermalNoise(0.05)], **device)
    there = OperatingPoint(device=here.device, task=here.task, theta=here.theta, batch=here.batch, noise=ADDRESS)
    return {row.rule: row for row in at_horizon(there, RULES, budget=budget, groups=groups, seed=1)}, there


def test_the_budget_pays_for_free_phases_and_probes():
    rows, here = budgeted(600)
    dt = here.device.spec.dt
    # T free steps; EP nudges twice for T, finite-horizon EP kicks twice for T - 1
    assert {name: row.steps_per_sample for name, row in rows.items()} == {
        "bptt": T,
        "ep": 3 * T,
        "finite_horizon_ep": T + 2 * (T - 1),
    }
    for row in rows.values():
        assert row.samples == 600 // row.steps_per_sample
        assert row.seconds == pytest.approx(row.samples * row.steps_per_sample * dt)
        assert row.seconds <= 600 * dt
        assert row.variance_seconds == pytest.approx(row.variance * row.seconds)


def test_variance_seconds_do_not_depend_on_the_budget():
    few, many = budgeted(300, groups=16)[0], budgeted(1200, groups=16)[0]
    for name in few:
        assert few[name].variance > 2.0 * many[name].variance
        assert many[name].variance_seconds == pytest.approx(few[name].variance_seconds, rel=0.6)
        assert many[name].cosine > few[name].cosine


def test_what_a_budget_cannot_pay_for_is_said():
    rows, _ = budgeted(T)
    assert rows["bptt"].samples == 1
    assert rows["ep"].samples == 0
    assert math.isnan(rows["ep"].cosine)
    assert math.isnan(rows["ep"].variance_seconds)


def test_the_shortest_settling_of_one_sample():
    here = point(horizon=1, lanes=1)
    assert at_horizon(here, {"ep": RULES["ep"]}, budget=3, groups=2, seed=0)[1].samples == 1
    assert residuals(here, [1])[0].horizon == 1
    assert truncation(here, nudged, [1], free_steps=1)[0].steps == 1
    # one step from rest: BPTT and the kick agree, whatever the network
    exact = bptt_along(here.device.model, here.theta, here.batch, here.task, here.free.recorded, EPS).analog
    kicked = here.estimate(FiniteHorizonEP()).gradients.analog
    assert cosine(kicked, exact) == pytest.approx(1.0, abs=1e-9)


def test_a_signal_of_zero_has_no_direction():
    here = point()
    silent = dataclasses.replace(here, theta=here.theta | here.theta.readout.zeros())
    assert math.isnan(truncation(silent, nudged, [5], free_steps=T)[0].cosine_transpose)
    assert math.isnan(approach(silent, RULES["ep"]).cosine_bptt)
    rows = noisy_estimates(silent, RULES, noise=0.0, draws=2)
    assert all(math.isnan(row.bias) and math.isnan(row.cosine) for row in rows)


def test_float32_devices_are_judged_as_well():
    here, exact = (residuals(point(dtype=dtype), [T])[0].cosine for dtype in (np.float32, np.float64))
    assert here == pytest.approx(exact, abs=1e-5)


def test_blocks_are_laid_out_by_name():
    theta = setting(4).theta.analog
    assert np.array_equal(flat(theta), np.concatenate([np.ravel(theta[name]) for name in ("U", "W", "b")]))


# --- JSON -------------------------------------------------------------------------------------------------------------


def study(**changes):
    figures = residuals(point(), [1, 7])
    rows = tuple(Row(seed=1, after=5, figures=each) for each in figures)
    rows += (Row(seed=2, after=5, figures=dataclasses.replace(figures[0], cosine=math.nan, loss=math.inf)),)
    known = {"name": "residual", "settings": {"units": 16, "rules": []}, "rows": rows, "diverged": {3: 70}}
    return Study(**{**known, "complete": True, **changes})


def test_a_study_comes_back_bit_for_bit():
    held = study()
    back = from_json(to_json(held))
    assert back.rows[:2] == held.rows[:2]
    assert math.isnan(back.rows[2].figures.cosine)
    assert math.isnan(back.rows[2].figures.loss)  # infinities do not survive as such
    assert (back.name, back.settings, back.diverged, back.complete) == ("residual", held.settings, {3: 70}, True)
    assert to_json(back) == to_json(held)
    assert "NaN" not in to_json(held)
    assert to_json(study(rows=()))


def test_what_is_no_study_is_refused():
    text = to_json(study())
    for broken, words in (
        ("", "this is no study"),
        ("[]", "this is no study"),
        (text.replace('"schema": 1', '"schema": 2'), "schema 1; found 2"),
        (text.replace('"residual": ', '"rest": '), "a row of Residual has"),
        (text.replace("null", "NaN"), "strict JSON; found NaN"),
        (text.replace('"study": "residual"', '"study": "t2"'), "a row of Truncation has"),
        (text.replace('"study": "residual"', '"study": "t3"'), "this is no study"),
    ):
        with pytest.raises(InputError, match=words):
            from_json(broken)
    with pytest.raises(InputError, match="there is no study 't3'"):
        study(name="t3")
    with pytest.raises(InputError, match="study damping has rows of Damping; found Residual"):
        study(name="damping")


def test_every_kind_of_row_says_where_its_knob_stood():
    for kind in STUDIES.values():
        names = {field.name for field in dataclasses.fields(kind)}
        assert not kind.knob or kind.knob in names
    row = Row(seed=1, after=300, figures=approach(point(), BPTT()))
    assert row.value == 300.0
