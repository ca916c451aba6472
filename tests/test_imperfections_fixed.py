"""Fixed imperfections: mismatch, asymmetry and faults have the sizes they are told, and stay what they are."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections.contract import Context, Source
from hwsim.devices.imperfections.faults import DeadUnits, Rails, SlewRate, StuckAt
from hwsim.devices.imperfections.mismatch import (
    Asymmetry,
    Mismatch,
    couplings,
    pelgrom,
    shared_normal,
    split_blocks,
    subthreshold_mismatch,
)
from hwsim.substrates import (
    Chip,
    Convolutional,
    DrawnSubstrate,
    EnergyNetwork,
    Layered,
    LeakyNetwork,
    Masked,
    Reciprocal,
)
from hwsim.substrates.resistive import ResistiveNetwork

SCALE = Scale(volt=0.5, siemens=2e-6, second=1e-6)


def context(die=1, event=0, position=0):
    path = NoisePath(seed=2, step=event)
    return Context(
        scale=SCALE,
        fixed=Source(path=NoisePath(seed=die), stream=Stream.FIXED, position=position),
        program=Source(path=path, stream=Stream.PROGRAM, position=position),
        read=Source(path=path, stream=Stream.CELL, position=position),
        elapsed=0.0,
        step_size=0.1,
    )


def made(drawing, *imperfections, die=1, event=0):
    chip = Chip.as_drawn(drawing.units)
    for position, one in enumerate(imperfections):
        chip = one.fabricate(chip, drawing, context(die, event, position))
    return chip


def check_normal(xi, sd, mean=0.0):
    """Mean and sd within four standard errors of a normal sample."""
    xi = np.ravel(xi)
    assert abs(xi.mean() - mean) < 4 * sd / math.sqrt(xi.size)
    assert abs(xi.std() - sd) < 4 * sd / math.sqrt(2 * xi.size)


WIDE = LeakyNetwork.dense(units=400, inputs=300)
RECIPROCAL = {
    "dense": LeakyNetwork.symmetric(6, 6),
    "energy": EnergyNetwork(units=6, inputs=6, coupling=Reciprocal(6)),
    "layered": LeakyNetwork(units=6, inputs=2, coupling=Layered((2, 3, 1), reciprocal=True)),
    "masked": LeakyNetwork(units=4, inputs=2, coupling=Masked(4, ((0, 1), (2, 1), (3, 0), (2, 2)), reciprocal=True)),
    "kernel": LeakyNetwork(units=18, inputs=2, coupling=Convolutional(2, 3, 3, reciprocal=True)),
}


# --- mismatch -------------------------------------------------------------------------------------------------------


def test_gains_of_every_block_have_their_sd():
    gain = made(WIDE, Mismatch(gain=0.05)).gain
    assert gain.keys() == WIDE.shapes().keys()
    for name in ("W", "U"):
        check_normal(gain[name] - 1.0, 0.05)
    assert abs(np.corrcoef(gain["W"][:, :300].ravel(), gain["U"].ravel())[0, 1]) < 4 / math.sqrt(120_000)


def test_gains_act_only_on_the_blocks_named():
    assert made(WIDE, Mismatch(gain=0.05, blocks=("U",))).gain.keys() == {"U"}


def test_log_normal_factors_are_positive_and_their_logarithm_has_the_sd():
    chip = made(LeakyNetwork.dense(20_000, 1), Mismatch(gain=0.8, time_constant=0.8, blocks=("b",), log_normal=True))
    for factor in (chip.gain["b"], chip.rate):
        assert (factor > 0).all()
        check_normal(np.log(factor), 0.8)


def test_offsets_and_time_constants_have_their_sd():
    chip = made(LeakyNetwork.dense(20_000, 1), Mismatch(offset=0.2, time_constant=0.1))
    assert chip.gain == {}
    check_normal(chip.offset, 0.2)
    check_normal(1.0 / chip.rate - 1.0, 0.1)


def test_two_mismatches_multiply_and_add():
    small = LeakyNetwork.dense(5, 2)
    first, second = Mismatch(gain=0.1, offset=0.1, time_constant=0.1), Mismatch(gain=0.2, offset=0.3)
    both, one = made(small, first, second), made(small, first)
    other = second.fabricate(Chip.as_drawn(5), small, context(position=1))
    for name in small.shapes():
        assert both.gain[name] == pytest.approx(one.gain[name] * other.gain[name], rel=1e-15)
        assert not np.array_equal(one.gain[name], other.gain[name])
    assert both.offset == pytest.approx(one.offset + other.offset, rel=1e-15)
    assert np.array_equal(both.rate, one.rate)


def test_a_die_stays_what_it_is():
    every = (Mismatch(gain=0.1, offset=0.1, time_constant=0.1), StuckAt(low_fraction=0.2), DeadUnits(fraction=0.3))
    small = LeakyNetwork.symmetric(8, 3)
    one, again, other = made(small, *every), made(small, *every, event=7), made(small, *every, die=9)
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    assert not np.array_equal(one.gain["W"], other.gain["W"])
    assert not np.array_equal(one.offset, other.offset)


def test_a_time_constant_at_or_below_zero_is_refused():
    with pytest.raises(InputError, match="log_normal=True"):
        made(LeakyNetwork.dense(2000, 1), Mismatch(time_constant=0.5))


def test_an_unknown_block_is_refused_with_the_known_ones():
    for one in (Mismatch(gain=0.1, blocks=("V",)), Mismatch(blocks=("V",)), StuckAt(low_fraction=0.1, blocks=("V",))):
        with pytest.raises(InputError, match=r"\['V'\]; LeakyNetwork has \['U', 'W', 'b'\]"):
            made(WIDE, one)


@pytest.mark.parametrize("field", ["gain", "offset", "time_constant"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_spread_below_zero_is_refused(field, value):
    with pytest.raises(InputError, match=f"{field} must be >= 0"):
        Mismatch(**{field: value})


@pytest.mark.parametrize("name", RECIPROCAL)
def test_what_is_one_conductance_has_one_gain_whether_the_chip_is_split_or_not(name):
    drawing = RECIPROCAL[name]
    numbers = np.random.default_rng(3)
    theta = Parameters({block: numbers.standard_normal(shape) for block, shape in drawing.shapes().items()})
    z, x = numbers.standard_normal((2, drawing.units)), numbers.standard_normal((2, drawing.inputs))
    whole = made(drawing, Mismatch(gain=0.3))
    tiny = made(drawing, Mismatch(gain=0.3), Asymmetry(sigma=1e-12))
    late = made(drawing, Asymmetry(sigma=1e-12), Mismatch(gain=0.3))
    assert not whole.split
    assert tiny.split
    field = DrawnSubstrate(drawing=drawing, chip=whole).field(z, x, theta)
    assert np.abs(field - drawing.field(z, x, theta)).max() > 1e-2
    assert DrawnSubstrate(drawing=drawing, chip=tiny).field(z, x, theta) == pytest.approx(field, rel=1e-9, abs=1e-9)
    assert late.split  # the same mismatch from another place in the list is another draw, but still no asymmetry
    J = DrawnSubstrate(drawing=drawing, chip=late).physics.jacobian(
        z, x, DrawnSubstrate(drawing=drawing, chip=late).real(theta)
    )
    S = drawing.metric(z, theta)
    assert S[:, :, None] * J / S[:, None, :] == pytest.approx(J.transpose(0, 2, 1), abs=1e-9)


def test_a_pair_that_is_stored_twice_has_the_full_spread():
    drawing = LeakyNetwork.symmetric(400, 1)
    gain = made(drawing, Mismatch(gain=0.1, blocks=("W",))).gain["W"]
    np.testing.assert_array_equal(gain, gain.T)
    check_normal(gain[np.triu_indices(400)] - 1.0, 0.1)


@pytest.mark.parametrize("name", RECIPROCAL)
def test_shared_deviates_are_standard_normal(name):
    drawing = RECIPROCAL[name]
    drawn = [shared_normal(context(die).fixed, "W/gain", drawing, "W") for die in range(200)]
    standard = np.sqrt(np.mean(np.square(drawn), axis=0))
    # every parameter by itself, 200 draws; 5 standard errors (0.25), for there are up to 36 of them: a mean without its
    # sqrt(2) would be 0.3 too small
    assert np.abs(standard - 1.0).max() < 5 / math.sqrt(2 * 200)


# --- laws of area ----------------------------------------------------------------------------------------------------


@given(area=st.floats(1e-14, 1e-8), ratio=st.floats(0.1, 10))
def test_mismatch_falls_with_the_root_of_the_area(area, ratio):
    width = math.sqrt(area * ratio)
    # slope of log sigma against log(W L) is -1/2, whatever the shape
    small = pelgrom(3e-9, width, area / width)
    large = pelgrom(3e-9, 4 * width, 4 * area / width)
    assert math.log(large / small) / math.log(16.0) == pytest.approx(-0.5, rel=1e-12)
    assert small == pytest.approx(3e-9 / math.sqrt(area), rel=1e-12)


def test_distance_adds_in_square():
    # 3 mV um on 1 um x 1 um is 3 mV; 4 uV/um over 1 mm is 4 mV
    assert pelgrom(3e-9, 1e-6, 1e-6, 4.0, 1e-3) == pytest.approx(5e-3, rel=1e-12)


def test_two_parts_differ_by_the_law_of_area():
    one = Mismatch.pelgrom(1e-8, 1e-6, 0.25e-6, blocks=("b",))  # 1 % um on a quarter of a square micrometre: 2 %
    gain = made(LeakyNetwork.dense(40_000, 1), one).gain["b"]
    check_normal(gain[::2] - gain[1::2], 0.02)


def test_weak_inversion_turns_thresholds_into_currents():
    # U_T = 25.85 mV at 300 K: 3.36 mV with n = 1.3 is 10 %
    assert subthreshold_mismatch(3.361e-3) == pytest.approx(0.1, rel=1e-3)
    assert subthreshold_mismatch(1e-3, slope_factor=1.0, temperature=150.0) == pytest.approx(
        2 * subthreshold_mismatch(1e-3, slope_factor=1.0, temperature=300.0)
    )


def test_laws_refuse_what_is_no_part():
    with pytest.raises(InputError, match="width and a length"):
        pelgrom(1e-9, 0.0, 1e-6)
    with pytest.raises(InputError, match="distance_coefficient"):
        pelgrom(1e-9, 1e-6, 1e-6, -1.0)
    with pytest.raises(InputError, match="n >= 1"):
        subthreshold_mismatch(1e-3, slope_factor=0.5)


# --- asymmetry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPROCAL)
def test_couplings_between_units_are_found(name):
    assert couplings(RECIPROCAL[name]) == couplings(RECIPROCAL[name].unshared()) == {"W"}
    assert split_blocks(RECIPROCAL[name]) == {"W"}


@pytest.mark.parametrize("name", RECIPROCAL)
def test_asymmetry_makes_the_directions_of_a_pair_differ(name):
    drawing = RECIPROCAL[name]
    numbers = np.random.default_rng(4)
    theta = Parameters({block: numbers.standard_normal(shape) for block, shape in drawing.shapes().items()})
    z, x = 0.3 * numbers.standard_normal((1, drawing.units)), numbers.standard_normal((1, drawing.inputs))
    chip = made(drawing, Asymmetry(sigma=0.1))
    drawn = DrawnSubstrate(drawing=drawing, chip=chip)
    assert chip.split
    assert not drawn.reciprocal
    assert chip.gain.keys() == chip.backward.keys() == {"W"}
    S, J = drawing.metric(z, theta), drawn.jacobian(z, x, theta)
    wrong = S[:, :, None] * J / S[:, None, :] - J.transpose(0, 2, 1)
    assert np.abs(wrong).max() > 1e-2
    back = DrawnSubstrate(drawing=drawing, chip=chip, driven_backwards=True).jacobian(z, x, theta)
    assert np.abs(back - J).max() > 1e-2


def test_asymmetry_has_its_sd_in_each_direction():
    chip = made(LeakyNetwork.symmetric(300, 1), Asymmetry(sigma=0.1))
    check_normal(chip.gain["W"] - 1.0, 0.1)
    check_normal(chip.backward["W"] - 1.0, 0.1)
    apart = (chip.gain["W"] - chip.gain["W"].T)[np.triu_indices(300, 1)]
    check_normal(apart, 0.1 * math.sqrt(2.0))


def test_no_asymmetry_leaves_the_chip_alone():
    chip = Chip.as_drawn(6)
    assert Asymmetry(sigma=0.0).fabricate(chip, RECIPROCAL["dense"], context()) is chip


def test_independent_directions_differ_only_when_driven_backwards():
    chip = made(LeakyNetwork.dense(4, 4), Asymmetry(sigma=0.1))
    assert not chip.split
    assert chip.gain == {}
    assert chip.backward.keys() == {"W"}


def test_a_resistor_has_one_conductance_from_both_sides():
    circuit = ResistiveNetwork.lattice(3, 3, sources=((0, 0),), capacitance=1e-12)
    assert couplings(circuit)
    with pytest.raises(InputError, match="the same seen from either"):
        made(circuit, Asymmetry(sigma=0.1))


def test_units_by_themselves_have_no_directions():
    with pytest.raises(InputError, match="no coupling between units"):
        made(LeakyNetwork.dense(1, 2), Asymmetry(sigma=0.1))


# --- faults ----------------------------------------------------------------------------------------------------------


def test_stuck_parameters_are_as_many_as_told():
    stuck = made(WIDE, StuckAt(low_fraction=0.02, high_fraction=0.09, low=-1.0, high=1.0)).stuck
    for name in ("W", "U"):
        n = stuck[name].size
        for value, p in ((-1.0, 0.02), (1.0, 0.09)):
            found = np.count_nonzero(stuck[name] == value)
            assert abs(found - n * p) < 4 * math.sqrt(n * p * (1 - p))
        assert np.isnan(stuck[name]).sum() == n - np.count_nonzero(np.abs(stuck[name]) == 1.0)


def test_both_entries_of_a_shared_conductance_are_stuck():
    stuck = made(LeakyNetwork.symmetric(50, 1), StuckAt.rram(low=0.0, high=1.0)).stuck["W"]
    np.testing.assert_array_equal(stuck, stuck.T)
    assert np.isfinite(stuck).any()


def test_an_earlier_fault_stays():
    first = StuckAt(low_fraction=0.5, low=1.0)
    once, twice = made(WIDE, first).stuck["W"], made(WIDE, first, StuckAt(high_fraction=1.0, high=2.0)).stuck["W"]
    np.testing.assert_array_equal(twice, np.where(np.isnan(once), 2.0, 1.0))


def test_dead_units_are_those_named_and_a_fraction_of_the_others():
    drawing = LeakyNetwork.dense(10_000, 1)
    chip = made(drawing, DeadUnits(units=(3, 5), fraction=0.1, value=0.25))
    dead = np.isfinite(chip.low)
    np.testing.assert_array_equal(chip.low[dead], 0.25)
    np.testing.assert_array_equal(chip.high[dead], 0.25)
    assert dead[3]
    assert dead[5]
    assert np.isinf(chip.high[~dead]).all()
    assert abs(dead.sum() - 1000) < 4 * math.sqrt(900) + 2


def test_rails_hold_what_is_within_and_refuse_the_dead_beyond():
    small = LeakyNetwork.dense(4, 1)
    chip = made(small, Rails(low=-1.0, high=1.0), Rails(high=0.5), DeadUnits(units=(2,)))
    np.testing.assert_array_equal(chip.low, [-1.0, -1.0, 0.0, -1.0])
    np.testing.assert_array_equal(chip.high, [0.5, 0.5, 0.0, 0.5])
    dead = DeadUnits(units=(2,), value=0.75)
    for order in ((dead, Rails(high=0.5)), (Rails(high=0.5), dead)):
        with pytest.raises(InputError, match="unit 2 has nothing between its rails"):
            made(small, *order)


def test_slew_goes_through_the_scale():
    # 1 V/us at 0.5 V and 1 us: two state units per time constant
    chip = made(LeakyNetwork.dense(3, 1), SlewRate(volts_per_second=1e6), SlewRate(volts_per_second=2e6))
    assert chip.slew == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: StuckAt(low_fraction=0.6, high_fraction=0.6), "at most 1 together"),
        (lambda: StuckAt(low_fraction=-0.1), "at most 1 together"),
        (lambda: StuckAt(low_fraction=0.1, low=math.nan), "sticks at a finite value"),
        (lambda: DeadUnits(fraction=1.5), "from 0 to 1; found 1.5"),
        (lambda: DeadUnits(value=math.inf), "finite value; found inf"),
        (lambda: made(WIDE, DeadUnits(units=(400,))), r"\[400\] are not among the 400"),
        (lambda: Rails(low=1.0, high=1.0), "low < high"),
        (lambda: SlewRate(volts_per_second=0.0), "> 0 volt per second"),
        (lambda: Asymmetry(sigma=-1.0), "sigma must be >= 0"),
    ],
)
def test_faults_refuse_what_makes_no_sense(make, match):
    with pytest.raises(InputError, match=match):
        make()


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Mismatch(gain=0.05, offset=0.01, time_constant=0.1), "offset 10 nA, time constant 100 ns of 1 us"),
        (Asymmetry(sigma=0.02), "relative sd 0.02"),
        (StuckAt(low_fraction=0.01, low=1.0, high=2.0), "0.01 of every block stuck at 2 uS, 0 at 4 uS"),
        (DeadUnits(units=(1,), value=0.2), "units 1 and 0 of all units stay at 100 mV"),
        (Rails(low=-1.0, high=1.0), "states between -500 mV and 500 mV"),
        (SlewRate(volts_per_second=5e5), "500 kV/s (1 state units per time constant)"),
    ],
)
def test_descriptions_are_one_line_in_physical_units(one, expected):
    line = one.describe(SCALE)
    assert expected in line
    assert "\n" not in line
