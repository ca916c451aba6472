"""Amplitudes that a plan suggests, against laws that are known and against the exact gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import rule_setting

from hwsim.calibration import plan_probe, plan_separation
from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Phase, Plan, RandomStart
from hwsim.contracts.rule import Estimate, Kind, LearningRule, settle_free
from hwsim.devices import ADC, SIMULATED, ThermalNoise
from hwsim.learning_rules import ContractionHomeostat, EquilibriumPropagation, FiniteHorizonEP
from hwsim.reference import equilibrium_adjoint
from hwsim.testing import MeteredDevice

NOISE = NoisePath(seed=3)


def setting(**options):
    """On the fused engine: many short runs."""
    return rule_setting.setting(**{"engine": None, **options})


def plan_of(case, make_rule, **options):
    return plan_probe(case.device, case.theta, case.batch, case.task, make_rule, noise=NOISE, **options)


# --- Laws that are known ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Law(LearningRule):
    """`g + B a^p + (s / a) xi + sqrt(q) zeta + f eta`, xi and zeta fresh for every probe, eta for every free phase."""

    amplitude: float
    order: float = 2.0
    s: float = 0.0
    b: float = 0.0
    q: float = 0.0
    f: float = 0.0
    g: float = 1.0
    kind: ClassVar[Kind] = Kind.LOCAL

    @property
    def needs(self):
        return Needs()

    def estimate(self, device, theta, batch, task, free, noise):
        size = sum(block.size for block in theta.analog.values())
        draw = np.random.default_rng([noise.seed, noise.step, noise.repeat])
        fixed, free_phase = np.random.default_rng(11), np.random.default_rng([noise.seed, noise.step, 77])
        unit = [np.sqrt(1.0 / size) * d.standard_normal(size) for d in (fixed, fixed, draw, draw, free_phase)]
        g, bias = (vector / np.linalg.norm(vector) for vector in unit[:2])
        a = self.amplitude
        noisy = self.s / a * unit[2] + self.q * unit[3] + self.f * unit[4]
        total, blocks, start = self.g * g + self.b * a**self.order * bias + noisy, {}, 0
        for name, block in theta.analog.items():
            blocks[name] = total[start : start + block.size].reshape(block.shape)
            start += block.size
        return Estimate(gradients=Parameters(blocks) | theta.readout.zeros(), loss=0.0)


GRID = np.geomspace(0.1, 3.0, 6)


@pytest.mark.parametrize("order", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("q", "f"), [(0.0, 0.0), (0.1, 0.05)])
def test_the_fit_finds_the_law_within_its_error_bars(order, q, f):
    case, truth = setting(units=5, horizon=3), {"s": 0.1, "b": 0.05, "order": order, "q": q, "f": f}
    plan = plan_of(case, lambda a: Law(amplitude=a, **truth), amplitudes=GRID, repeats=12, orders=(1.0, 2.0, 4.0))
    assert plan.order == order
    assert plan.trusted.all()
    for found, value in ((plan.noise, 0.1), (plan.bias, 0.05), (plan.signal, 1.0)):
        assert abs(found.value - value) < 4 * found.error
        assert found.error < 0.1 * value
    best = (0.1**2 / (order * 0.05**2)) ** (1 / (2 * order + 2))
    assert abs(plan.amplitude.value - best) < 4 * plan.amplitude.error
    assert plan.amplitude.error < 0.1 * best
    assert plan.floor == pytest.approx(q, abs=0.02)
    assert plan.free == pytest.approx(f, abs=0.02)
    expected = plan.at(best)
    assert expected.bias == pytest.approx(0.05 * best**order, rel=0.1)
    assert expected.deviation == pytest.approx(math.sqrt((0.1 / best) ** 2 + q**2 + f**2), rel=0.1)
    assert expected.total == pytest.approx(math.hypot(expected.bias, expected.deviation))
    # the best amplitude is where the curve is lowest
    assert all(plan.at(plan.amplitude.value).total <= plan.at(a).total for a in np.geomspace(0.1, 3.0, 50))
    assert plan.optimum(16) == pytest.approx(plan.amplitude.value * 16 ** (-1 / (2 * order + 2)))


def test_the_error_bars_are_as_wide_as_the_scatter():
    case = setting(units=5, horizon=3)
    found = [
        plan_probe(
            case.device,
            case.theta,
            case.batch,
            case.task,
            lambda a: Law(amplitude=a, s=0.2, b=0.05, f=0.05),
            noise=NoisePath(seed=seed),
            amplitudes=GRID,
            orders=(2.0,),
        )
        for seed in range(12)
    ]
    for quantity in ("amplitude", "noise", "bias", "signal"):
        values = np.array([getattr(plan, quantity).value for plan in found])
        errors = np.array([getattr(plan, quantity).error for plan in found])
        assert 0.5 < np.sqrt(np.mean(errors**2)) / values.std(ddof=1) < 2.0


def test_no_bias_no_limit_and_no_bias_invented():
    case = setting(units=5, horizon=3)
    for seed in range(3):
        plan = plan_probe(
            case.device,
            case.theta,
            case.batch,
            case.task,
            lambda a: Law(amplitude=a, s=0.3),
            noise=NoisePath(seed=seed),
            amplitudes=GRID,
        )
        assert plan.bias.value == 0.0
        assert plan.edge == "largest"
        assert plan.amplitude.value == pytest.approx(3.0)
        assert "the largest trusted" in plan.table()


def test_what_is_bent_is_left_out():
    case = setting(units=5, horizon=3)

    @dataclass(frozen=True, kw_only=True)
    class Saturates(LearningRule):
        amplitude: float
        kind: ClassVar[Kind] = Kind.LOCAL

        @property
        def needs(self):
            return Needs()

        def estimate(self, *args):
            bent = Law(amplitude=self.amplitude, s=0.001)
            weight = 0.5 * math.tanh(0.4 * self.amplitude**2)
            estimate = bent.estimate(*args)
            unit = Law(amplitude=1.0, b=1.0).estimate(*args).gradients - Law(amplitude=1.0).estimate(*args).gradients
            return Estimate(gradients=estimate.gradients + unit * weight, loss=0.0)

    plan = plan_of(case, lambda a: Saturates(amplitude=a), amplitudes=np.geomspace(0.05, 20.0, 8), orders=(2.0,))
    assert not plan.trusted[-1]
    assert plan.trusted[:3].all()
    assert plan.bias.value == pytest.approx(0.2, rel=0.15)
    assert "beyond the power law" in plan.table()


# --- Against the exact gradient -----------------------------------------------------------------------------------


def noisy(sigma, **options):
    imperfections = [ThermalNoise(sigma)] if sigma else []
    return setting(units=12, gain=0.7, lanes=8, horizon=60, imperfections=imperfections, **options)


def nudged(a):
    return EquilibriumPropagation(nudge=a)


def squared_error(case, truth, rule, runs):
    """Mean square distance of the analog gradient from the truth over fresh free phases, and its standard error."""
    found = []
    for run in range(runs):
        path = NoisePath(seed=99).at_step(run)
        found.append((case.gradient(rule, case.free(path, record=0), path).analog - truth).norm() ** 2)
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(runs)


@pytest.mark.parametrize("sigma", [0.02, 0.06])
def test_the_suggested_amplitude_is_the_best_one_against_the_exact_gradient(sigma):
    case = noisy(sigma)
    truth = equilibrium_adjoint(case.network, case.theta, case.batch, case.task, case.free().final).gradients.analog
    plan = plan_of(case, nudged, amplitudes=np.geomspace(0.1, 4.0, 5), repeats=6)
    grid = plan.amplitude.value * 2.0 ** np.arange(-2, 2.5, 0.5)
    errors = [squared_error(case, truth, nudged(float(a)), 10) for a in grid]
    best = grid[np.argmin([error for error, _ in errors])]
    assert 0.5 <= plan.amplitude.value / best <= 2.0
    at_mine, doubt = errors[4]
    lowest = min(error for error, _ in errors)
    assert at_mine - 4 * doubt < 1.3 * lowest
    # and what it costs to be off by four is what the plan says it is for
    assert errors[0][0] > 2.0 * at_mine
    # the predicted error is nearly the one that is found: the bias at small amplitudes is lost in noise
    assert 0.67 < math.sqrt(at_mine) / plan.at(plan.amplitude.value).total < 1.5
    assert plan.resolution > 0.5 * sigma


def test_without_noise_the_smallest_amplitude_is_the_best_down_to_rounding():
    case = noisy(0.0)
    truth = case.gradient(nudged(1e-4)).analog
    plan = plan_of(case, nudged)
    assert plan.edge == "smallest"
    assert plan.amplitude.value == pytest.approx(plan.amplitudes[0])
    assert plan.order == 2.0
    found = (case.gradient(nudged(plan.amplitude.value)).analog - truth).norm()
    assert found == pytest.approx(plan.at(plan.amplitude.value).total, rel=0.1)
    assert found < 1e-4 * truth.norm()
    # where amplitudes reach down to rounding, the best is no longer the smallest: the converter here is float64 itself
    deep = plan_of(case, nudged, amplitudes=np.geomspace(1e-10, 1e-1, 10))
    assert 1e-7 < deep.amplitude.value < 1e-3
    assert deep.noise.value < 1e-14


def test_averaging_reaches_the_signal_to_noise_that_was_asked():
    case = noisy(0.06)
    plan = plan_of(case, nudged, amplitudes=np.geomspace(0.2, 2.0, 4))
    amplitude = 0.4
    single = plan.signal.value / plan.at(amplitude).deviation
    wanted = 2.0 * single
    averaging = plan.averaging(wanted, amplitude)
    assert 3 < averaging.repeats < 12
    found = []
    for run in range(24):
        path = NoisePath(seed=123).at_step(run)
        rule = nudged(amplitude).averaged(averaging.repeats)
        gradient = case.gradient(rule, case.free(path, record=0), path).analog
        found.append(np.concatenate([np.ravel(block) for block in gradient.values()]))
    found = np.array(found)
    variances = np.sum((found - found.mean(axis=0)) ** 2, axis=1) * len(found) / (len(found) - 1)
    deviation, doubt = np.sqrt(variances.mean()), variances.std(ddof=1) / np.sqrt(len(found)) / variances.mean() / 2
    signal = np.linalg.norm(found.mean(axis=0))
    achieved = signal / deviation
    assert deviation == pytest.approx(averaging.expected.deviation, rel=4 * doubt + 0.05)
    # k is whole, so that a little more than asked may come
    most = plan.signal.value / plan.at(amplitude, max(1, averaging.repeats - 1)).deviation
    assert wanted * (1 - 4 * doubt - 0.05) < achieved
    assert most <= wanted


def test_what_averaging_cannot_do_is_said():
    case = setting(units=5, horizon=3)
    plan = plan_of(case, lambda a: Law(amplitude=a, s=0.1, b=0.1, f=0.2), amplitudes=GRID)
    with pytest.raises(InputError, match=r"cannot be reached .* the free phase alone leaves [45]\.\d*; settle larger"):
        plan.averaging(20.0)
    with pytest.raises(InputError, match=r"needs .* probes at amplitude 0\.001; a noise address holds 256"):
        plan.averaging(4.0, 0.001)
    with pytest.raises(InputError, match="positive and finite; found 0"):
        plan.averaging(0.0)
    assert plan.averaging(0.5).repeats == 1
    assert not plan.averaging(3.0, 0.3).bias_limited
    biased = plan.averaging(3.0, 3.0)
    assert biased.bias_limited  # 0.9 of a signal of 1
    assert biased.expected.bias == pytest.approx(0.9, rel=0.1)


def test_a_linear_probe_has_no_bias_to_be_found():
    case = noisy(0.03)
    plan = plan_of(case, lambda a: FiniteHorizonEP(kick=a), amplitudes=np.geomspace(0.3, 3.0, 4), repeats=5)
    assert plan.bias.value == 0.0
    assert plan.edge == "largest"


# --- Through the contract alone -----------------------------------------------------------------------------------


def test_a_device_without_a_model_that_makes_its_own_noise_will_do():
    case = noisy(0.04, capabilities=frozenset({Capability.LOAD_STATE, Capability.CORRECT}), seed=5)
    plan = plan_of(case, nudged, amplitudes=np.geomspace(0.2, 3.0, 4), repeats=5)
    same = noisy(0.04)
    theirs = plan_of(same, nudged, amplitudes=np.geomspace(0.2, 3.0, 4), repeats=5)
    assert plan.noise.value == pytest.approx(theirs.noise.value, rel=0.15)
    assert 0.67 < plan.amplitude.value / theirs.amplitude.value < 1.5


def test_the_cost_is_what_the_device_counted():
    case = noisy(0.04)
    metered = MeteredDevice(case.device)
    plan = plan_probe(
        metered, case.theta, case.batch, case.task, nudged, noise=NOISE, amplitudes=(0.3, 1.0, 3.0), repeats=4
    )
    assert plan.cost == metered.observed
    per_estimate, lanes = 2, len(case.batch)
    assert plan.cost.settles == lanes * (8 + 4 + 4 * 2 * 3 * per_estimate)
    before = metered.observed
    twins = plan_separation(metered, case.batch, noise=NOISE, separations=(0.3, 1.0, 3.0), repeats=4)
    assert before + twins.cost == metered.observed


@pytest.mark.parametrize("start", [Carry(), RandomStart(0.5)], ids=["carry", "random"])
def test_other_starts_are_planned_for_and_what_lanes_carry_is_put_back(start):
    case = noisy(0.03, start=start)
    case.free()
    before = {name: np.array(array) for name, array in case.device.save().items()}
    plan = plan_of(case, nudged, amplitudes=(0.3, 1.0, 3.0), repeats=4)
    if isinstance(start, Carry):
        after = case.device.save()
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert plan.noise.value > 0.0


@pytest.mark.parametrize("options", [{"lanes": 1, "horizon": 1}, {"dtype": np.float32, "horizon": 20}])
def test_odd_devices(options):
    case = setting(units=6, imperfections=[ThermalNoise(0.02)], **options)
    for make in (nudged, lambda a: FiniteHorizonEP(kick=a)):
        plan = plan_of(case, make, repeats=4)
        assert np.isfinite(plan.at(plan.amplitude.value).total)
        assert plan.amplitudes[0] <= plan.amplitude.value <= plan.amplitudes[-1]


def test_converters_that_no_noise_dithers():
    coarse = {"imperfections": [ADC(bits=8, full_scale=8.0)]}
    case = setting(units=12, gain=0.7, lanes=8, horizon=60, **coarse)
    with pytest.raises(InputError, match=r"lost in the steps of this device's converter.*three above it are needed"):
        plan_of(case, nudged, amplitudes=(0.01, 0.1, 0.3))
    plan = plan_of(case, nudged)
    truth = noisy(0.0).gradient(nudged(1e-3)).analog
    found = {a: squared_error(case, truth, nudged(a), 2)[0] for a in (plan.amplitude.value, 0.1, 4.0)}
    assert min(found.values()) == found[plan.amplitude.value]


def test_errors_are_said_before_anything_else():
    case = setting(units=5, horizon=3)
    for amplitudes in ((0.1, 1.0), (0.1, 0.1, 1.0), (0.0, 1.0, 2.0), (1.0, 2.0, math.nan)):
        with pytest.raises(InputError, match="three different amplitudes or more, all positive"):
            plan_of(case, nudged, amplitudes=amplitudes)
    with pytest.raises(InputError, match="whole number repeats >= 4; found repeats=3"):
        plan_of(case, nudged, repeats=3)
    with pytest.raises(InputError, match="positive power"):
        plan_of(case, nudged, orders=(0.0,))
    with pytest.raises(InputError, match="branches of noise; an address holds 256"):
        plan_of(case, nudged, amplitudes=np.linspace(0.1, 1.0, 130))
    with pytest.raises(InputError, match="estimates zero for all analog blocks"):
        plan_of(case, lambda a: nudged(a).only("readout"), amplitudes=GRID)
    idle = setting(units=5, horizon=3, input_gain=0.0)
    with pytest.raises(InputError, match="the states are zero or not finite"):
        plan_of(idle, nudged)
    limited = setting(units=5, horizon=3, capabilities=SIMULATED - {Capability.CORRECT})
    with pytest.raises(CapabilityError, match="needs correct"):
        plan_of(limited, nudged, amplitudes=GRID)
    with pytest.raises(InputError, match=r"finite at 2 of the amplitudes .* try smaller ones"):
        plan_of(case, lambda a: Law(amplitude=a, g=math.inf if a > 0.5 else 1.0), amplitudes=(0.1, 0.3, 1.0, 2.0))


# --- Separations --------------------------------------------------------------------------------------------------


def read_coarsely(sigma=0.05, bits=10):
    return noisy(sigma), setting(
        units=12,
        gain=0.7,
        lanes=8,
        horizon=60,
        imperfections=[ThermalNoise(sigma), ADC(bits=bits, full_scale=8.0)],
    )


def growth(case, z, path, separation, *, steps=10, burn_in=4):
    """ln(|delta_K| / |delta_k0|) / (eps (K - k0)) of twins in the directions of `path`, [B]."""
    batch, lanes = case.batch, len(case.batch)
    direction = path.normals(Stream.PROBE, batch.ids, units=z.shape[1])[0]
    kick = separation * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    plan = Plan(
        inputs=np.concatenate([batch.inputs] * 2),
        ids=np.concatenate([batch.ids] * 2),
        repeats=np.ones(2 * lanes, np.int64),
        start=At(np.concatenate([z, z])),
        phases=(
            Phase(steps=burn_in, displace=np.concatenate([np.zeros_like(kick), kick])),
            Phase(steps=steps - burn_in),
        ),
    )
    first, last = (run.final[lanes:] - run.final[:lanes] for run in case.device.relax(plan, noise=path))
    ratio = np.linalg.norm(last, axis=1) / np.linalg.norm(first, axis=1)
    return np.log(ratio) / (case.device.spec.step_size * (steps - burn_in))


def test_the_suggested_separation_is_the_best_one_against_exact_growth():
    clean, coarse = read_coarsely()
    plan = plan_separation(
        coarse.device, coarse.batch, noise=NOISE, separations=np.geomspace(0.3, 6.0, 6), steps=10, burn_in=4
    )
    assert plan.edge == ""
    grid = plan.amplitude.value * 2.0 ** np.arange(-2, 2.5, 0.5)
    errors = np.zeros(len(grid))
    for run in range(24):
        path = NoisePath(seed=77).at_step(run)
        z = coarse.free(path, record=0).final
        # the same trajectories, read exactly, an infinitesimal way apart
        exact = growth(clean, z, path, 1e-6)
        errors += [np.mean((growth(coarse, z, path, float(d)) - exact) ** 2) / 24 for d in grid]
    best = grid[np.argmin(errors)]
    assert 0.5 <= plan.amplitude.value / best <= 2.0
    assert errors[4] < 1.6 * errors.min()
    assert errors[0] > 2.0 * errors[4]
    assert errors[-1] > 2.0 * errors[4]
    # growth of other directions and free phases is no error of the separation; the bias is underestimated, since it
    # levels off towards the large separations at which it is seen best
    expected = plan.at(plan.amplitude.value)
    assert 0.6 < math.sqrt(errors[4]) / math.sqrt(expected.total**2 - plan.free**2) < 1.8


def test_noise_that_twins_share_asks_for_the_smallest_separation():
    plan = plan_separation(noisy(0.0).device, noisy(0.0).batch, noise=NOISE)
    assert plan.edge == "smallest"
    assert plan.noise.value < 1e-12
    assert plan.bias.value > 0.0
    assert plan.order == 1.0  # of a single direction


def test_the_growth_is_that_of_the_homeostat():
    case = noisy(0.0)
    plan = plan_separation(case.device, case.batch, noise=NOISE, separations=(1e-4, 1e-3, 1e-2))
    rule = ContractionHomeostat(separation=1e-3, smallest=1e-12)
    found = []
    for repeat in range(8):
        path = NOISE.at_step(repeat)
        free, _ = settle_free(case.device, case.batch, Needs(), path)
        found.append(rule.estimate(case.device, case.theta, case.batch, case.task, free, path).diagnostics["growth"])
    # rms over samples and directions is the mean and the spread together
    spread = plan.free
    assert math.sqrt(np.mean(found) ** 2 + spread**2) == pytest.approx(math.hypot(plan.signal.value, spread), rel=0.1)


def test_separations_that_are_refused():
    case = noisy(0.0)
    lacking = setting(units=5, horizon=3, capabilities=SIMULATED - {Capability.TWINS})
    with pytest.raises(CapabilityError, match="plan_separation needs twins"):
        plan_separation(lacking.device, lacking.batch, noise=NOISE)
    with pytest.raises(InputError, match="whole number steps >= 11; found steps=10"):
        plan_separation(case.device, case.batch, noise=NOISE, steps=10, burn_in=10)
    with pytest.raises(InputError, match="whole number repeats >= 4"):
        plan_separation(case.device, case.batch, noise=NOISE, repeats=1)
    with pytest.raises(InputError, match="positive power"):
        plan_separation(case.device, case.batch, noise=NOISE, orders=())
    _, coarse = read_coarsely()
    with pytest.raises(InputError, match=r"well above the noise until the last step; three are needed: kick harder"):
        plan_separation(coarse.device, coarse.batch, noise=NOISE, separations=(0.01, 0.02, 0.04))
