"""The gradient audit: with exactly one thing wrong, its own rung rises and no other."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from audit_setting import (
    EP_CORRECTED,
    EP_DYADIC,
    EPS,
    EVERYTHING,
    FH_EP,
    FLOOR,
    LONG,
    NOISE,
    PAIR,
    RULES,
    UNITS,
    T,
    bench,
    risen,
)

from hwsim.audit import ANALOG, FEEDBACK, NOMINAL, Audit, DeviceLadder, DeviceRung, Floor, audit
from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Needs
from hwsim.contracts.parameters import cosine
from hwsim.contracts.plan import At, Carry, Phase, Plan, RandomStart
from hwsim.contracts.rule import settle_free
from hwsim.devices import SIMULATED, Heun
from hwsim.devices.imperfections import (
    ADC,
    DAC,
    Asymmetry,
    Crosstalk,
    Drift,
    FlickerNoise,
    LineResistance,
    Mismatch,
    OneByOne,
    Quantise,
    ReadNoise,
    ReadoutNoise,
    SampleSkew,
    ShotNoise,
    StuckAt,
    TelegraphNoise,
    ThermalNoise,
    pcm_programming,
)
from hwsim.devices.imperfections.contract import Seeds
from hwsim.devices.ladder import BACKWARDS, WRITES
from hwsim.learning_rules import (
    ContractionHomeostat,
    Corrected,
    EquilibriumPropagation,
    FiniteHorizonEP,
    Natural,
    Transposed,
)
from hwsim.reference import bptt_along
from hwsim.substrates import EnergyNetwork
from hwsim.tasks import Windowed
from hwsim.testing import LimitedDevice

# --- one thing wrong --------------------------------------------------------------------------------------------------

ONE = {  # imperfection -> rungs of (dyadic EP, corrected EP, finite-horizon EP)
    "nothing": ((), "", "", ""),
    "gains": ((Mismatch(gain=0.05),), NOMINAL, NOMINAL, NOMINAL),
    "offsets": ((Mismatch(offset=0.1),), "", "", ""),
    # forces go through the time constants as well, so that a settled nudge shows nothing of them; kicks do not
    "time constants": ((Mismatch(time_constant=0.05),), "", "", NOMINAL),
    "asymmetry": ((Asymmetry(sigma=0.05),), BACKWARDS, "", BACKWARDS),
    "crosstalk": ((Crosstalk(0.05),), NOMINAL, NOMINAL, NOMINAL),
    "stuck": ((StuckAt(low_fraction=0.1, low=-0.1),), "", "", ""),
    "wires": ((LineResistance(200.0),), "", "", ""),
    "DAC": ((DAC(6, 8.0),), "DAC", "DAC", "DAC"),
    "ADC": ((ADC(12),), "ADC", "ADC", "ADC"),
    # what has settled is read the same at any moment; a kick's response is not
    "sample skew": ((SampleSkew(1e-10),), "", "", "sample skew"),
    "readout noise": ((ReadoutNoise(1e-3),), *3 * ("readout noise",)),
    "thermal noise": ((ThermalNoise(1e-3),), *3 * ("thermal noise",)),
    "shot noise": ((ShotNoise(bias=1e-9),), *3 * ("shot noise",)),
    "flicker noise": ((FlickerNoise(sigma=1e-3, lowest=1.0, highest=1e5),), *3 * ("flicker noise",)),
    "telegraph noise": ((TelegraphNoise(amplitude=1e-3, capture=1e-6, emission=1e-6),), *3 * ("telegraph noise",)),
    "read noise of cells": ((ReadNoise(pair=PAIR),), *3 * ("read noise",)),
    "drift": ((Drift(pair=PAIR),), "", "", ""),
    "quantised weights": ((Quantise.bits(6, low=-2.0, high=2.0),), "", "", ""),
    "programming noise": ((pcm_programming(2.0),), "", "", ""),
    "one by one": ((OneByOne(1.0),), "", "", ""),
}


@pytest.fixture(scope="module")
def benches():
    return {name: bench(*some, waited=1e3) for name, (some, *_) in ONE.items()}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ONE)
def test_one_imperfection_raises_its_own_rung_alone(name, rule, benches):
    expected = ONE[name][1 + list(RULES).index(rule)]
    noisy = any(one.seeds in (Seeds.READ, Seeds.TEMPORAL) for one in ONE[name][0])
    found = benches[name].audit(RULES[rule], repeats=2 if noisy else 1)
    assert risen(found) == ({expected} if expected else set())
    if expected:
        (own,) = [rung.shares[ANALOG] for rung in found.rungs if rung.name == expected]
        assert max(own.bias, own.noise) > 1e-5
        assert expected in found.advice or found.total[ANALOG].bias < 0.01


@pytest.mark.parametrize("name", ["offsets", "stuck", "wires", "drift", "programming noise"])
def test_what_no_rung_shows_moves_the_judge(name, benches):
    """Nothing rises there because judge and rule look at the same chip, not because the imperfection does nothing."""
    found, plain = (benches[one].audit(EP_DYADIC, repeats=1) for one in (name, "nothing"))
    assert abs(found.norms[ANALOG] / plain.norms[ANALOG] - 1.0) > 1e-5


def test_cells_that_drift_between_lanes():
    found = bench(Drift(pair=PAIR), OneByOne(50.0)).audit(EP_DYADIC, repeats=1)
    assert {rung.name for rung in found.rungs if rung.shares[ANALOG].bias > FLOOR} == {"one by one"}


FH_CORRECTED = FiniteHorizonEP(probe=Corrected(), kick=0.5)
IDEALS = [ideal.name for ideal in EP_DYADIC.ladder.ideals]


@pytest.mark.parametrize(
    ("rule", "horizon", "expected"),
    [
        # too short a settling: z* is not where it is, and z_T is not where it says; nudged for long
        (EP_DYADIC, 6, set(IDEALS[:2])),
        # and a network that has not settled moves on while it is nudged, however little
        (EP_CORRECTED, 4, {*IDEALS[:2], EP_CORRECTED.ladder.finite}),
        (dataclasses.replace(EP_DYADIC, steps=5), T, {IDEALS[2]}),
        (dataclasses.replace(EP_CORRECTED, steps=5), T, {IDEALS[2]}),
        (dataclasses.replace(EP_CORRECTED, nudge=0.5), T, {EP_CORRECTED.ladder.finite}),
        (FH_EP, 6, {FH_EP.ladder.ideals[0].name}),
        (FH_CORRECTED, T, {FH_CORRECTED.ladder.finite}),
        (FiniteHorizonEP(probe=Corrected(), kick=1e-4), T, set()),
    ],
)
def test_what_a_rule_gives_up_by_itself(rule, horizon, expected):
    found = bench(horizon=horizon).audit(rule, repeats=1)
    assert {rung.name for rung in found.rungs if rung.shares[ANALOG].bias > FLOOR} == expected
    assert all(rung.floor is Floor.RULE for rung in found.rungs if rung.name in expected)


def test_reciprocal_couplings_that_are_not():
    """A metric that the drawn chip does not have: its perfect version cannot be run, and the audit says so."""
    rule = EquilibriumPropagation(probe=Natural(), steps=100, nudge=1e-4)
    machine = dataclasses.replace(bench(horizon=100, step_size=0.4), network=EnergyNetwork.symmetric(UNITS, 8))
    assert risen(machine.audit(rule, repeats=1)) == set()
    found = dataclasses.replace(machine, imperfections=(Asymmetry(sigma=0.05),)).audit(rule, repeats=1)
    (missing,) = found.missing
    assert "reciprocal" in missing
    (own,) = risen(found)
    assert own == f"{rule.ladder.finite}; {NOMINAL}"


# --- sums, statistics, independence -----------------------------------------------------------------------------------


def test_rungs_add_up_to_what_an_independent_computation_finds():
    machine = bench(*EVERYTHING, horizon=6)
    found = machine.audit(FH_EP, repeats=5)
    assert [rung.name for rung in found.rungs][-7:] == [
        NOMINAL, BACKWARDS, "DAC", "ADC", "readout noise", "thermal noise", "read noise", WRITES,
    ][-7:]  # fmt: skip
    # the judge and the machine, by hand: each device made for itself
    theta = machine.network.initial(1, gain=0.06, input_gain=1.0) | machine.task.initial_readout(1, 1.0)
    delivered = machine.make(EVERYTHING)
    held = delivered.program(theta)
    quiet = machine.make(EVERYTHING[:2])
    quiet.program(held)
    free, _ = settle_free(quiet, machine.batch, Needs(record=1), NOISE)
    exact = bptt_along(quiet.model, held, machine.batch, machine.task, free.recorded, EPS)
    estimates = []
    for r in range(5):
        path = NOISE.at_step(r)
        free, _ = settle_free(delivered, machine.batch, FH_EP.needs, path)
        estimates.append(FH_EP.estimate(delivered, held, machine.batch, machine.task, free, path).gradients)
    mean = functools.reduce(lambda a, b: a + b, estimates) / 5
    scale = exact.analog.norm()
    total = found.total[ANALOG]
    assert found.norms[ANALOG] == pytest.approx(scale, rel=1e-12)
    assert total.bias == pytest.approx((mean - exact).analog.norm() / scale, rel=1e-9)
    variance = sum((one - mean).analog.norm() ** 2 for one in estimates) / 4
    assert total.variance == pytest.approx(variance / scale**2, rel=1e-9)
    assert total.error == pytest.approx(math.sqrt(variance / 5) / scale, rel=1e-9)
    assert total.cosine == pytest.approx(cosine(mean.analog, exact.analog), rel=1e-12)
    single = np.mean([cosine(one.analog, exact.analog) for one in estimates])
    assert found.single[ANALOG] == pytest.approx(single, rel=1e-12)
    for name in held:
        assert sum(rung.shares[name].variance for rung in found.rungs) == pytest.approx(
            found.total[name].variance, rel=1e-9, abs=1e-18
        )
        assert found.total[name].bias <= sum(rung.shares[name].bias for rung in found.rungs) * (1 + 1e-9)


def test_shares_of_the_blocks_make_up_the_whole():
    found = bench(*EVERYTHING, horizon=6).audit(EP_DYADIC)
    blocks = ("W", "U", "b")
    for share in [rung.shares for rung in found.rungs] + [found.total]:
        squares = sum((share[name].bias * found.norms[name]) ** 2 for name in blocks)
        assert math.sqrt(squares) == pytest.approx(share[ANALOG].bias * found.norms[ANALOG], rel=1e-9, abs=1e-15)


def test_noise_of_reading_scatters_as_theory_says():
    """Dyadic EP divides the difference of two reads by 2 A: sd(b) = sigma / (sqrt(2) A) sqrt(N sum_b |c_b|^2)."""
    sigma, amplitude, repeats = 1e-3, 1e-4, 30
    machine = bench(ReadoutNoise(sigma), horizon=3)
    rule = EquilibriumPropagation(probe=Transposed(), nudge=amplitude)
    found = machine.audit(rule, repeats=repeats)
    ladder, held = machine.taken_apart
    free, _ = settle_free(ladder.judge, machine.batch, Needs(), NOISE)
    signal = machine.task.signal(free.final, machine.batch.targets, held)
    expected = sigma**2 / (2.0 * amplitude**2) * UNITS * np.sum(signal**2)
    measured = found.total["b"].variance * found.norms["b"] ** 2
    # the variance of N sums of normal deviates over R repeats is known to sqrt(2 / N (R - 1))
    assert measured / expected == pytest.approx(1.0, abs=4.0 * math.sqrt(2.0 / (UNITS * (repeats - 1))))
    (noisy,) = [rung for rung in found.rungs if rung.name == "readout noise"]
    assert found.noisiest is noisy
    assert not noisy.shares[ANALOG].resolved or noisy.shares[ANALOG].bias < 4.0 * noisy.shares[ANALOG].error
    assert "readout noise" in found.advice
    assert "estimates" in found.advice


def test_the_same_seed_gives_the_same_text():
    texts = {bench(*EVERYTHING, horizon=4).audit(FH_EP, repeats=2).to_json() for _ in range(2)}
    assert len(texts) == 1


# --- deployments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [RandomStart(1.0), Carry()])
def test_other_starts(start):
    quiet = bench(horizon=4, start=start).audit(FH_EP, repeats=2)
    assert risen(quiet) == {FH_EP.ladder.ideals[0].name}  # rungs after it see the very same starts
    noisy = bench(ThermalNoise(1e-3), horizon=4, start=start).audit(FH_EP, repeats=2)
    assert "thermal noise" in risen(noisy)
    assert NOMINAL not in risen(noisy)


def test_a_carried_start_is_that_of_the_lane_before():
    machine = bench(horizon=4, start=Carry())
    _ladder, held = machine.taken_apart
    found = machine.audit(FH_EP, repeats=1)
    order = np.roll(np.arange(machine.lanes), 1)
    plan = Plan(inputs=machine.batch.inputs[order], ids=machine.batch.ids[order], phases=(Phase(steps=4),))
    device = bench(horizon=4).make(())
    device.program(held)
    (before,) = device.relax(plan, noise=NOISE)
    phases = (Phase(steps=4, record=1),)
    plan = Plan(inputs=machine.batch.inputs, ids=machine.batch.ids, start=At(before.final), phases=phases)
    (free,) = device.relax(plan, noise=NOISE)
    exact = bptt_along(device.model, held, machine.batch, machine.task, free.recorded, EPS)
    assert found.norms[ANALOG] == pytest.approx(exact.analog.norm(), rel=1e-12)


def test_one_sample_and_one_step():
    found = bench(horizon=1, lanes=1).audit(FH_EP, repeats=1)
    assert risen_single(found) == set()  # one step has one Jacobian, and none is used
    assert math.isnan(found.total[ANALOG].variance)
    assert math.isnan(found.total[ANALOG].error)
    assert found.total[ANALOG].cosine == pytest.approx(1.0)
    assert risen_single(bench(horizon=1, lanes=1).audit(EP_DYADIC, repeats=1)) >= {IDEALS[0], IDEALS[1]}


def risen_single(found):
    return {rung.name for rung in found.rungs if rung.shares[ANALOG].bias > FLOOR}


def test_float32_is_a_matter_of_the_chip():
    found = bench(horizon=5, dtype=np.float32).audit(FH_EP, repeats=1)
    shares = {rung.name: rung.shares[ANALOG].bias for rung in found.rungs}
    assert 1e-9 < shares[NOMINAL] < 1e-5
    assert shares[FH_EP.ladder.finite] < 1e-12


def test_continuous_time_is_a_matter_of_the_chip():
    found = bench(horizon=5, integrator=Heun).audit(FH_EP, repeats=1)
    assert risen_single(found) == {FH_EP.ladder.ideals[0].name, NOMINAL}


def test_without_a_signal_there_is_nothing_to_say():
    found = dataclasses.replace(bench(ThermalNoise(1e-2), horizon=10), readout_gain=0.0).audit(FH_EP)
    assert found.norms[ANALOG] == 0.0
    assert math.isnan(found.total[ANALOG].bias)
    assert "zero" in found.advice
    assert "-" in found.table
    assert Audit.from_json(found.to_json()).to_json() == found.to_json()


def test_a_window_of_states():
    task = Windowed(task=bench().task, first=2)
    found = bench(horizon=8).audit(FH_EP, task=task, repeats=1)
    assert risen_single(found) == {FH_EP.ladder.ideals[0].name}
    assert found.norms[ANALOG] != bench(horizon=8).audit(FH_EP, repeats=1).norms[ANALOG]
    with pytest.raises(CapabilityError, match="z_T alone"):
        bench(horizon=8).audit(EP_DYADIC, task=task)


def test_a_settling_that_diverges_is_told_and_not_raised():
    machine = dataclasses.replace(bench(horizon=250, step_size=30.0))
    found = machine.audit(FH_EP, repeats=1)
    assert "not finite" in found.advice
    assert "null" in found.to_json()
    assert found.table


# --- what is audited --------------------------------------------------------------------------------------------------


def test_scaled_clipped_and_chosen_rules_are_looked_through():
    machine = bench(ADC(8), horizon=6)
    plain = machine.audit(FH_EP, repeats=2)
    for rule in (3.0 * FH_EP, FH_EP.clipped(1e-6), 2.0 * FH_EP.clipped(1e-6)):
        assert machine.audit(rule, repeats=2) == plain
    some = machine.audit(FH_EP.only("W", "readout"), repeats=2)
    assert set(some.norms) == {"W", "readout.V", "readout.c", ANALOG}
    assert some.total["W"] == plain.total["W"] == some.total[ANALOG]


@pytest.mark.parametrize(
    "rule", [ContractionHomeostat(), FH_EP + ContractionHomeostat(), FH_EP + EP_DYADIC], ids=["alone", "sum", "two"]
)
def test_what_has_no_ladder_is_refused_in_words(rule):
    with pytest.raises(InputError, match="one by one"):
        bench(horizon=5).audit(rule)


def test_no_repeats_and_no_analog_block_are_refused():
    with pytest.raises(InputError, match="repeats"):
        bench(horizon=5).audit(FH_EP, repeats=0)
    with pytest.raises(InputError, match="analog block"):
        bench(horizon=5).audit(FH_EP.only("readout"))


def test_a_board_beside_its_twin():
    """The machine itself needs no model: its twin has one, and the last rung is what the twin does not know."""
    twin, held = bench(Mismatch(gain=0.03), horizon=12).taken_apart
    inside = bench(Mismatch(gain=0.03), Mismatch(gain=0.05), horizon=12).make((Mismatch(gain=0.03), ADC(9)))
    inside.program(held)
    board = LimitedDevice(inside, inside.spec.capabilities - {Capability.MODEL})
    ladder = DeviceLadder(judge=twin.judge, rungs=(DeviceRung(name="the board", advice="fit it again", device=board),))
    here = bench(horizon=12)
    found = audit(ladder, FH_EP, task=here.task, theta=held, batch=here.batch, noise=NOISE, repeats=2)
    assert [rung.name for rung in found.rungs][-2:] == [NOMINAL, "the board"]
    assert found.rungs[-1].shares[ANALOG].bias > 1e-4
    alone = DeviceLadder(judge=board)
    with pytest.raises(CapabilityError, match="model"):
        audit(alone, FH_EP, task=here.task, theta=held, batch=here.batch, noise=NOISE)


def test_the_machine_must_serve_the_rule():
    machine = bench(horizon=5, capabilities=SIMULATED - {Capability.TRANSPOSE})
    with pytest.raises(CapabilityError, match="transpose"):
        machine.audit(FH_EP)


def test_devices_are_left_as_they_were():
    ladder, held = bench(*EVERYTHING, horizon=6).taken_apart
    before = [dict(device.save()) for device in ladder]
    here = bench(horizon=6)
    audit(ladder, FH_EP, task=here.task, theta=held, batch=here.batch, noise=NOISE, repeats=2)
    for device, saved in zip(ladder, before, strict=True):
        after = device.save()
        held_before = {name for name in saved if name.startswith("held/")}
        assert held_before
        for name in held_before:
            np.testing.assert_array_equal(after[name], saved[name])
    ladder.close()


def test_all_devices_are_one_die_and_hold_the_same():
    imperfections = (Mismatch(gain=0.1), ThermalNoise(0.01), pcm_programming(2.0), ADC(8), Mismatch(offset=0.1))
    ladder, held = bench(*imperfections).taken_apart
    whole = bench().make(imperfections).chip
    for device in ladder:
        np.testing.assert_array_equal(device.chip.gain["W"], whole.gain["W"])
        np.testing.assert_array_equal(device.chip.offset, whole.offset)
        for name in ("W", "U", "b"):
            np.testing.assert_array_equal(np.asarray(device.save()[f"held/{name}"]), held[name])


def test_feedback_array():
    from hwsim.devices.feedback import SeparateFeedback
    from hwsim.learning_rules.kolen_pollack import KolenPollack

    here = bench(horizon=30)
    device = SeparateFeedback(here.make(()), here.make(()))
    theta = here.network.initial(1, gain=0.06, input_gain=1.0) | here.task.initial_readout(1, 1.0)
    crooked = theta | {"feedback.W": 0.5 * theta["W"]}
    held = device.program(crooked)
    options = {"task": here.task, "theta": held, "batch": here.batch, "noise": NOISE, "repeats": 1}
    found = audit(DeviceLadder(judge=device), EquilibriumPropagation(probe=Transposed(), steps=LONG), **options)
    assert FEEDBACK in risen_single(found)
    assert NOMINAL not in risen_single(found)
    assert "feedback.W" not in found.norms
    own = audit(DeviceLadder(judge=device), KolenPollack(decay=0.0), **options)
    assert [rung.name for rung in own.rungs].count(FEEDBACK) == 1  # the rule's own rung, and not ours beside it
    assert NOMINAL not in risen_single(own)
