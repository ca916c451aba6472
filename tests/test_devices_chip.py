"""A device with the imperfections of a chip: what acts, what is reported, what its judge sees, what is saved."""

import json

import numpy as np
import pytest
from chip_setting import DENSE, PCM, SCALE, SYMMETRIC, final, made
from device_setting import EPS, INPUTS, NOISE, UNITS, T, draw, plan
from hypothesis import given, strategies as st

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError, RangeError, ResumeError
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import PHYSICAL, NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import At, Outcome, Phase
from hwsim.contracts.rule import settle_free
from hwsim.devices import PRESETS, Heun, SimulatedDevice, Stepwise
from hwsim.devices.imperfections import (
    ADC,
    DAC,
    KINDS,
    Asymmetry,
    Crosstalk,
    DeadUnits,
    Drift,
    FlickerNoise,
    LineResistance,
    Mismatch,
    Quantise,
    Rails,
    Range,
    ReadNoise,
    ReadoutNoise,
    SampleSkew,
    SlewRate,
    StuckAt,
    TelegraphNoise,
    ThermalNoise,
    ecram,
    from_json,
    to_json,
)
from hwsim.reference import bptt_along, finite_differences
from hwsim.substrates import LeakyNetwork
from hwsim.testing import RandomClasses

STATIC = {
    "mismatch": (Mismatch(gain=0.1, offset=0.05, time_constant=0.2),),
    "log-normal mismatch, twice": (Mismatch(gain=0.1, log_normal=True), Mismatch(gain=0.1, blocks=("W",))),
    "asymmetry": (Asymmetry(sigma=0.1),),
    "crosstalk": (Crosstalk(0.05), Mismatch(gain=0.1)),
    "stuck": (StuckAt(low_fraction=0.1, high_fraction=0.1, low=-0.1, high=0.1),),
    "dead units": (DeadUnits(units=(1, 5), value=0.2),),
    "rails": (Rails(low=-0.4, high=0.4),),
    "slew": (SlewRate(volts_per_second=0.5 * 0.1 / 1e-6),),
    "wires": (LineResistance(30.0),),
}
SMOOTH = {name: chip for name, chip in STATIC.items() if name != "wires"}
every_chip = pytest.mark.parametrize("imperfections", STATIC.values(), ids=STATIC.keys())
every_network = pytest.mark.parametrize("network", [DENSE, SYMMETRIC], ids=["dense", "symmetric"])


@every_network
@every_chip
def test_the_model_is_what_is_deployed(network, imperfections):
    device, held = made(network, imperfections)
    (run,) = device.relax(plan(6), noise=NOISE)
    model, x, z = device.model, draw(6, INPUTS), run.recorded[0]
    for step in range(T):
        z = z + EPS * model.field(z, x, held)
        if model.rails is not None:
            z = np.clip(z, *model.rails)
        assert run.recorded[step + 1] == pytest.approx(z, abs=1e-12)


@every_network
@every_chip
def test_every_imperfection_acts_and_another_die_is_another_chip(network, imperfections):
    def seen(imperfections, seed):
        device, _ = made(network, imperfections, die_seed=seed)
        asked = plan(6, Phase(steps=T, force=draw(6, UNITS)))
        back = device.relax_transpose(draw(6, UNITS), asked, noise=NOISE)[0]
        return np.concatenate([final(device), back.final])

    ideal, first, again, other = seen((), 1), *(seen(imperfections, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first - ideal).max() > 1e-4
    drawn = not isinstance(imperfections[0], Rails | SlewRate | LineResistance) and not (
        isinstance(imperfections[0], DeadUnits)
    )
    assert np.array_equal(first, other) != drawn


@every_network
@pytest.mark.parametrize("imperfections", SMOOTH.values(), ids=SMOOTH.keys())
def test_bptt_on_the_drawn_chip_is_the_gradient_of_what_is_deployed(network, imperfections):
    task = RandomClasses(units=UNITS, inputs=INPUTS, classes=3)
    device, _ = made(network, imperfections)
    theta = network.initial(0, gain=0.9, input_gain=1.0) | task.initial_readout(0, 1.0)
    batch = task.training_batch(0, 4, 0)

    def loss(at):
        held = device.program(theta | at)
        free, _ = settle_free(device, batch, Needs(), NOISE)
        return float(task.loss(free.final, batch.targets, held))

    few = {name: theta[name][:2] for name in ("W", "U", "b")}
    expected = finite_differences(
        lambda at: loss({name: np.concatenate([at[name], theta[name][2:]]) for name in few}), Parameters(few)
    )
    held = device.program(theta)
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)
    found = bptt_along(device.model, held, batch, task, free.recorded, EPS)
    stuck = device.chip.stuck
    for name, block in expected.items():
        # the hardware does not move a stuck parameter, whatever its gradient
        free_rows = np.isnan(stuck[name][:2]) if name in stuck else np.ones(block.shape, bool)
        scale = np.abs(expected[name]).max() + 1e-6
        assert found[name][:2][free_rows] == pytest.approx(block[free_rows], abs=2e-6 * scale + 1e-9)


def test_the_judge_holds_what_wires_do_fixed_and_is_nearly_right():
    task = RandomClasses(units=UNITS, inputs=INPUTS, classes=3)
    device, _ = made(DENSE, STATIC["wires"])
    theta = DENSE.initial(0, gain=0.9, input_gain=1.0) | task.initial_readout(0, 1.0)
    batch = task.training_batch(0, 4, 0)

    def loss(at):
        held = device.program(theta | {"b": at["b"], "W": np.concatenate([at["W"], theta["W"][2:]])})
        return float(task.loss(settle_free(device, batch, Needs(), NOISE)[0].final, batch.targets, held))

    expected = finite_differences(loss, Parameters({"W": theta["W"][:2], "b": theta["b"]}))
    held = device.program(theta)
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)
    found = bptt_along(device.model, held, batch, task, free.recorded, EPS)
    assert found["b"] == pytest.approx(expected["b"], rel=1e-5, abs=1e-9)
    assert cosine(Parameters({"W": found["W"][:2]}), Parameters({"W": expected["W"]})) > 0.999


@pytest.mark.parametrize(
    ("imperfection", "phase"),
    [
        (Rails(low=-0.3, high=0.3), {}),
        (SlewRate(volts_per_second=0.2 * 0.1 / 1e-6), {}),
        (ADC(8, full_scale=0.5), {}),
        (DAC(8, full_scale=0.5), {}),
    ],
    ids=["rails", "slew", "ADC", "DAC"],
)
def test_saturation_is_always_reported_and_only_where_it_happens(imperfection, phase):
    device, _ = made(DENSE, [imperfection])
    inputs = draw(2, INPUTS)
    inputs[1] *= 1e-4
    (run,) = device.relax(plan(2, Phase(steps=T, **phase), inputs=inputs), noise=NOISE)
    assert list(run.outcome) == [Outcome.SATURATED, Outcome.UNSETTLED] or run.outcome[1] == Outcome.SETTLED
    assert run.outcome[0] == Outcome.SATURATED


def test_a_clamp_holds_its_units_is_no_saturation_and_is_felt():
    device, _ = made(DENSE, [Rails(low=-5.0, high=5.0), ThermalNoise(0.1)])
    units, values = np.array([3, 7]), draw(4, 2)
    (run,) = device.relax(plan(4, Phase(steps=T, clamp=(units, values), record=1)), noise=NOISE)
    assert np.array_equal(run.recorded[:, :, units], np.broadcast_to(values, (T + 1, 4, 2)))
    assert (run.outcome != Outcome.SATURATED).all()
    (other,) = device.relax(plan(4, Phase(steps=T, clamp=(units, values + 1.0))), noise=NOISE)
    free = np.setdiff1d(np.arange(UNITS), units)
    assert np.abs(run.final - other.final)[:, free].max(axis=1).min() > 0.01
    for bad in ((np.array([UNITS]), draw(4, 1)), (units, draw(3, 2)), (np.array([-1]), draw(4, 1))):
        with pytest.raises(InputError, match="clamp"):
            device.relax(plan(4, Phase(steps=1, clamp=bad)), noise=NOISE)


def test_noise_processes_give_the_state_the_variance_that_their_spectrum_says():
    # telegraph noise of rms a / 2 and rate k through one leaky unit: var = (a / 2)^2 / (1 + k), k per time constant
    tau, amplitude = SCALE.second, 0.5
    network = LeakyNetwork.dense(1, 1)
    noise = TelegraphNoise(amplitude=amplitude, capture=tau, emission=tau)
    device = SimulatedDevice(network, horizon=1, step_size=0.02, scale=SCALE, imperfections=[noise])
    device.program(Parameters({"W": np.zeros((1, 1)), "U": np.zeros((1, 1)), "b": np.zeros(1)}))
    lanes = 4000
    (run,) = device.relax(plan(lanes, Phase(steps=400), inputs=np.zeros((lanes, 1))), noise=NOISE)
    expected = (amplitude / 2) ** 2 / (1 + 2.0)  # the two rates add up to 2 per time constant
    # 1 % for the Euler step; the relative standard error of a variance is at most sqrt(2 / n) for a bounded variable
    assert np.var(run.final) == pytest.approx(expected, rel=0.02 + 4 * np.sqrt(2 / lanes))


def test_noise_with_a_memory_goes_on_from_phase_to_phase():
    slow = FlickerNoise(sigma=1.0, lowest=1.0, highest=10.0)  # hertz: constant over a plan of microseconds
    device, _ = made(DENSE, [slow])
    first, second = device.relax(plan(4, Phase(steps=40), Phase(steps=40)), noise=NOISE)
    moved = np.abs(second.final - first.final).max()
    fresh = np.abs(final(device, NOISE.repeated(1)) - final(device)).max()
    assert moved < 0.2 * fresh


@pytest.mark.parametrize(
    "imperfections",
    [
        (PCM, ReadNoise(pair=PCM.pair), ThermalNoise(0.05)),
        (FlickerNoise(sigma=0.1, lowest=1e3, highest=1e6), TelegraphNoise(amplitude=0.1, capture=1e-6, emission=2e-6)),
        (ReadoutNoise(0.01), ADC(10)),
    ],
    ids=["cells", "processes", "readout"],
)
def test_the_same_address_is_the_same_noise_and_physical_noise_is_always_fresh(imperfections):
    device, _ = made(DENSE, imperfections)
    first = final(device)
    assert np.array_equal(final(device), first)
    assert not np.array_equal(final(device, NOISE.repeated(1)), first)
    assert not np.array_equal(final(device, PHYSICAL), final(device, PHYSICAL))
    assert np.array_equal(final(device), first)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_twins_on_one_chip_stay_together(name):
    device = PRESETS[name]().device(DENSE, horizon=T, step_size=EPS)
    device.program(DENSE.initial(0, gain=0.9, input_gain=1.0))
    inputs, ids = np.tile(draw(3, INPUTS), (2, 1)), np.tile(np.arange(3), 2)
    (run,) = device.relax(plan(6, Phase(steps=T), inputs=inputs, ids=ids), noise=NOISE)
    assert np.array_equal(run.final[:3], run.final[3:])


def test_drift_waits_for_time_and_stops_at_programming():
    device, held = made(DENSE, [PCM, Drift(pair=PCM.pair)])
    before, young = final(device), device.real["W"]
    device.wait(0.0)
    assert np.array_equal(final(device), before)
    device.wait(1e4)
    assert np.abs(device.real["W"]).sum() < 0.9 * np.abs(young).sum()  # also before it settles again
    later = final(device)
    assert np.abs(later - before).max() > 1e-3
    assert np.abs(device.real["W"]).sum() < 0.9 * np.abs(held["W"]).sum()
    device.program(held)
    assert np.abs(device.real["W"]).sum() == pytest.approx(np.abs(held["W"]).sum(), rel=0.1)
    with pytest.raises(InputError, match="finite time of at least 0 s; found -1"):
        device.wait(-1.0)


def test_skewed_reads_are_states_of_a_moment_ago_also_in_thinned_recordings():
    dt = EPS * SCALE.second
    skew = SampleSkew(per_unit=dt / (2 * UNITS))
    plain, _ = made(DENSE, [])
    device, _ = made(DENSE, [skew])
    (all_states,) = plain.relax(plan(4), noise=NOISE)
    (thinned,) = device.relax(plan(4, Phase(steps=T, record=3)), noise=NOISE)
    z = all_states.recorded
    ago = np.arange(UNITS - 1, -1, -1) / (2 * UNITS)
    for k in range(1, len(thinned.recorded)):
        assert thinned.recorded[k] == pytest.approx(z[3 * k] - ago * (z[3 * k] - z[3 * k - 1]), abs=1e-12)
    assert thinned.final == pytest.approx(z[-1] - ago * (z[-1] - z[-2]), abs=1e-12)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_says_what_it_is_made_of_and_survives_a_file(name):
    preset = PRESETS[name]()
    device = preset.device(SYMMETRIC, horizon=T)
    text = device.describe()
    for imperfection in preset.imperfections:
        assert type(imperfection).__name__ in text
        assert imperfection.describe(preset.scale) in text
    assert preset.name == name
    assert bool(preset.sources) == bool(preset.imperfections)
    assert from_json(json.loads(json.dumps(to_json(preset.imperfections))), KINDS) == preset.imperfections


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_device_is_saved_and_goes_on_bit_for_bit(name):
    preset, theta = PRESETS[name](), DENSE.initial(0, gain=0.9, input_gain=1.0)
    first, second = (preset.device(DENSE, horizon=T, die_seed=3, seed=5) for _ in range(2))
    first.program(theta)
    first.program(theta * 1.1)
    final(first, PHYSICAL)
    first.wait(7.0)
    second.restore({name: np.array(value) for name, value in first.save().items()})
    assert np.array_equal(final(first, PHYSICAL), final(second, PHYSICAL))
    assert first.written == second.written
    for device in (first, second):
        if Capability.ADJUST in device.spec.capabilities:
            device.adjust(theta.map(lambda block: np.rint(20 * block)))
        else:
            device.program(theta * 0.9)
    assert np.array_equal(final(first), final(second))
    assert all(np.array_equal(block, second.real[key]) for key, block in first.real.items())


def test_a_saved_run_is_not_continued_on_another_chip():
    saved = made(DENSE, [Mismatch(gain=0.1)], die_seed=1)[0].save()
    with pytest.raises(ResumeError, match=r"chip with \(die_seed, program_seed\) = \(1, 0\)"):
        made(DENSE, [Mismatch(gain=0.1)], die_seed=2)[0].restore(saved)
    with pytest.raises(ResumeError, match="imperfections"):
        made(DENSE, [Mismatch(gain=0.2)], die_seed=1)[0].restore(saved)
    with pytest.raises(ResumeError, match="lacks"):
        made(DENSE, [])[0].restore({"held": np.zeros(3)})


def test_what_is_held_is_what_the_write_chain_gives():
    chain = [Range(low=-0.2, high=0.2, clip=True), Quantise(low=-0.2, high=0.2, levels=5)]
    device, held = made(DENSE, chain)
    asked = DENSE.initial(0, gain=0.9, input_gain=1.0)
    assert set(np.unique(held["W"]).round(6)) <= {-0.2, -0.1, 0.0, 0.1, 0.2}
    assert device.written.clipped == sum(int((np.abs(block) > 0.2).sum()) for block in asked.values())
    assert device.written.written == sum(block.size for block in asked.values())
    strict, _ = made(DENSE, [Range(low=-50.0, high=50.0)])
    with pytest.raises(RangeError, match=r"block W spans .* outside"):
        strict.program(asked | {"W": np.full((UNITS, UNITS), 60.0)})
    assert strict.spec.ranges == dict.fromkeys(("W", "U", "b"), (-50.0, 50.0))
    assert device.spec.ranges == {}
    assert device.spec.exact_writes
    assert not made(DENSE, [PCM])[0].spec.exact_writes


def test_stuck_parameters_stay_and_are_counted():
    device, held = made(DENSE, [StuckAt(low_fraction=0.15, high_fraction=0.15, low=-1.0, high=1.0, blocks=("W",))])
    stuck = ~np.isnan(device.chip.stuck["W"])
    assert np.array_equal(held["W"][stuck], device.chip.stuck["W"][stuck])
    assert device.written.stuck == stuck.sum()
    again = device.program(held | {"W": held["W"] * 0.5})
    assert np.array_equal(again["W"][stuck], held["W"][stuck])
    assert np.array_equal(again["W"][~stuck], 0.5 * held["W"][~stuck])


def test_pulses_move_what_is_held_and_nothing_else_does():
    device, held = made(DENSE, ecram(), gain=0.5)
    pulses = held.zeros() | {"W": np.eye(UNITS) * 10.0}
    moved = device.adjust(pulses)
    change = moved["W"] - held["W"]
    assert np.array_equal(change != 0, np.eye(UNITS, dtype=bool))
    assert np.diag(change) == pytest.approx(10 * 0.002, rel=0.9)
    assert np.array_equal(moved["U"], held["U"])
    assert device.written.pulses == 10 * UNITS
    with pytest.raises(InputError, match="whole numbers"):
        device.adjust(pulses * 0.25)
    with pytest.raises(CapabilityError, match="adjust"):
        made(DENSE, [])[0].adjust(pulses)


def test_the_metric_survives_what_leaves_the_couplings_reciprocal_and_is_withheld_otherwise():
    spread, _ = made(SYMMETRIC, [Mismatch(gain=0.1, time_constant=0.3)])
    assert spread.model.reciprocal
    z, x = draw(3, UNITS), draw(3, INPUTS)
    theta = SYMMETRIC.initial(0, gain=0.9, input_gain=1.0)
    J, S = spread.model.jacobian(z, x, theta), spread.model.metric(z, theta)
    assert S[:, :, None] * J / S[:, None, :] == pytest.approx(J.transpose(0, 2, 1), abs=1e-12)
    for imperfection in (Asymmetry(sigma=0.1), Crosstalk(0.1, blocks=("W",)), LineResistance(10.0)):
        broken, _ = made(SYMMETRIC, [imperfection])
        assert not broken.model.reciprocal
        assert broken.spec.reciprocal  # a rule goes by the drawing, and is wrong by as much as the chip is


@pytest.mark.parametrize("integrator", [Heun], ids=lambda kind: kind.__name__)
def test_rails_and_slew_hold_under_every_integrator(integrator):
    limits = [Rails(low=-0.3, high=0.3), SlewRate(volts_per_second=0.5 * 0.1 / 1e-6)]
    device, _ = made(DENSE, limits, integrator=integrator)
    (run,) = device.relax(plan(6), noise=NOISE)
    assert np.abs(run.recorded).max() <= 0.3
    assert np.abs(np.diff(run.recorded, axis=0)).max() <= 0.5 * EPS * (1 + 1e-12)
    assert (run.outcome == Outcome.SATURATED).all()


@given(seed=st.integers(0, 2**32 - 1), event=st.integers(0, 5))
def test_what_is_fixed_does_not_depend_on_what_is_written(seed, event):
    device = SimulatedDevice(
        DENSE, horizon=T, scale=SCALE, die_seed=seed, imperfections=[Mismatch(gain=0.1, offset=0.1), PCM]
    )
    theta = DENSE.initial(0, gain=0.5, input_gain=0.5)
    chip = {name: np.array(array) for name, array in device.chip.arrays().items()}
    held = [device.program(theta) for _ in range(event + 1)]
    assert all(np.array_equal(array, chip[name]) for name, array in device.chip.arrays().items())
    assert all(not np.array_equal(one["W"], held[0]["W"]) for one in held[1:])


def test_engines_agree_on_a_chip_with_everything():
    everything = [Mismatch(gain=0.1, offset=0.1, time_constant=0.1), Asymmetry(sigma=0.05), Rails(low=-1.0, high=1.0)]
    everything += [SlewRate(volts_per_second=0.9 * 0.1 / 1e-6), ThermalNoise(0.05), ADC(12), DAC(10, 4.0)]
    fast, _ = made(SYMMETRIC, everything)
    plain, _ = made(SYMMETRIC, everything, engine=Stepwise())
    force = draw(6, UNITS, seed=1)
    asked = plan(6, Phase(steps=T, force=force, record=2), start=At(draw(6, UNITS)))
    for first, second in zip(fast.relax(asked, noise=NOISE), plain.relax(asked, noise=NOISE), strict=True):
        step = ADC(12).lsb  # rounding may tip a read over a border between two codes
        assert np.abs(first.recorded - second.recorded).max() <= step
        assert np.mean(first.recorded != second.recorded) < 1e-3
        assert np.array_equal(first.outcome, second.outcome)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([{"kind": "Mismatches"}], "there is no imperfection 'Mismatches'; there are ADC, Asymmetry"),
        ([{"kind": "Mismatch", "gian": 0.1}], r"Mismatch has no field \['gian'\]; it has gain, offset, time_constant"),
        ([{"gain": 0.1}], 'names its class as "kind"'),
        ([{"kind": "ADC"}], "ADC cannot be made of"),
        ([{"kind": "ADC", "bits": 99}], "1 to 24 bits; found bits=99"),
        ([{"kind": "ConductancePair", "w_max": 1.0, "g_max": 1e-6}], "is none by itself"),
    ],
)
def test_imperfections_from_a_file_that_make_no_chip(values, sentence):
    with pytest.raises(InputError, match=sentence):
        from_json(values, KINDS)


def test_the_noise_of_one_imperfection_is_not_that_of_another():
    pair = [TelegraphNoise(amplitude=0.1, capture=1e-6, emission=1e-6)] * 2
    one, two = (final(made(DENSE, pair[:count])[0]) - final(made(DENSE, [])[0]) for count in (1, 2))
    # the same draws twice would double the response
    assert np.abs(two - 2 * one).max() > 0.1 * np.abs(one).max()
    assert NoisePath(seed=1) != NoisePath(seed=2)
