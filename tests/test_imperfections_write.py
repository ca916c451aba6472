"""The write chain: ranges, levels and write-verify do what they say, count what they did, and draw from addresses."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError, RangeError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections.contract import Context, Source, WriteReport
from hwsim.devices.imperfections.memory import ConductancePair, PolynomialProgrammingNoise
from hwsim.devices.imperfections.write import Quantise, Range, WriteVerify

SCALE = Scale(volt=0.5, siemens=2e-6, second=1e-6)


def context(event=0, position=0, seed=2):
    path = NoisePath(seed=seed, step=event)
    return Context(
        scale=SCALE,
        fixed=Source(path=NoisePath(seed=1), stream=Stream.FIXED, position=position),
        program=Source(path=path, stream=Stream.PROGRAM, position=position),
        read=Source(path=path, stream=Stream.CELL, position=position),
        elapsed=0.0,
        step_size=0.1,
    )


AT = context()
blocks = st.lists(st.floats(-3, 3), min_size=1, max_size=20).map(np.array)


# --- range -----------------------------------------------------------------------------------------------------------


@given(values=blocks, low=st.floats(-2, 0), width=st.floats(0.1, 3))
def test_a_clipping_range_holds_at_the_border_and_counts_exactly(values, low, width):
    stage = Range(low=low, high=low + width, clip=True)
    held, report = stage.write("W", values, None, AT)
    outside = (values < stage.low) | (values > stage.high)
    assert report == WriteReport(clipped=int(outside.sum()))
    np.testing.assert_array_equal(held, np.clip(values, stage.low, stage.high))
    again, nothing = stage.write("W", held, held, AT)
    np.testing.assert_array_equal(again, held)
    assert nothing == WriteReport()


@given(values=blocks, low=st.floats(-2, 0), width=st.floats(0.1, 3))
def test_a_range_refuses_exactly_what_lies_outside(values, low, width):
    stage = Range(low=low, high=low + width)
    if ((values >= stage.low) & (values <= stage.high)).all():
        held, report = stage.write("W", values, None, AT)
        np.testing.assert_array_equal(held, values)
        assert report == WriteReport()
    else:
        with pytest.raises(RangeError, match=r"block W spans .* outside the range .*clip=True"):
            stage.write("W", values, None, AT)


def test_a_range_says_the_block_the_span_and_the_remedy():
    with pytest.raises(RangeError) as caught:
        Range(low=-1.0, high=1.0).write("U", np.array([[-0.5, 1.5]]), None, AT)
    assert str(caught.value) == (
        "block U spans [-0.5, 1.5], outside the range [-1, 1]; scale it down, or hold it with Range(clip=True)"
    )


def test_stages_leave_other_blocks_alone_and_say_their_limits():
    values = np.array([5.0])
    for stage in (Range(low=-1.0, high=1.0, blocks=("W",)), Quantise(low=-1.0, high=1.0, levels=3, blocks=("W",))):
        held, report = stage.write("b", values, None, AT)
        assert held is values
        assert report == WriteReport()
        assert stage.limits("b") is None
        assert stage.limits("W") == (-1.0, 1.0)
        assert not stage.clips("W")
        assert stage.idempotent
    clipping = Range(low=-1.0, high=1.0, clip=True, blocks=("W",))
    assert clipping.limits("W") is None
    assert clipping.clips("W")
    assert not clipping.clips("b")


# --- levels ----------------------------------------------------------------------------------------------------------


@given(
    levels=st.integers(2, 300),
    low=st.floats(-2, 1),
    width=st.floats(0.1, 3),
    places=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_levels_are_near_and_stay(levels, low, width, places):
    stage = Quantise(low=low, high=low + width, levels=levels)
    values = np.clip(stage.low + np.array(places) * (stage.high - stage.low), stage.low, stage.high)
    held, report = stage.write("W", values, None, AT)
    assert report == WriteReport()
    assert np.abs(held - values).max() <= stage.step / 2 * (1 + 1e-9)
    assert held.min() >= stage.low
    assert held.max() <= stage.high
    again, _ = stage.write("W", held, held, AT)
    np.testing.assert_array_equal(again, held)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bits_make_their_levels(bits):
    stage = Quantise.bits(bits, low=-1.0, high=1.0)
    held, _ = stage.write("W", np.linspace(-1.0, 1.0, 10_001), None, AT)
    found = np.unique(held)
    assert len(found) == 2**bits
    assert np.diff(found) == pytest.approx(stage.step, rel=1e-12)


@given(half=st.integers(1, 200), high=st.floats(0.01, 100))
def test_an_odd_number_of_levels_has_zero(half, high):
    held, _ = Quantise(low=-high, high=high, levels=2 * half + 1).write("W", np.array([1e-12 * high]), None, AT)
    assert held[0] == 0.0


def test_a_value_beyond_the_last_level_is_refused():
    with pytest.raises(RangeError, match=r"outside the levels \[-1, 1\]; put Range\(clip=True\) before"):
        Quantise(low=-1.0, high=1.0, levels=5).write("W", np.array([1.01]), None, AT)


# --- write-verify ----------------------------------------------------------------------------------------------------

SD = 0.05
PAIR = ConductancePair(w_max=1.0, g_max=1e-6)
NOISY = PolynomialProgrammingNoise(pair=PAIR, coefficients=(SD * 1e-6,))
"""The same noise at every conductance. Weights above 4 sd keep the upper cell from being clipped at 0."""


def asked(n=100_000):
    return np.linspace(0.3, 0.9, n)


def test_write_verify_brings_every_value_within_tolerance():
    target = asked(20_000)
    held, report = WriteVerify(stage=NOISY, tolerance=0.02, attempts=1000).write("W", target, None, AT)
    assert report.unverified == 0
    assert np.abs(held - target).max() <= 0.02
    # what is left of a density that is nearly flat there: sd tolerance / sqrt(3)
    assert (held - target).std() == pytest.approx(0.02 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_and_unverified_are_those_of_independent_draws(attempts):
    target, tolerance = asked(), 0.05
    held, report = WriteVerify(stage=NOISY, tolerance=tolerance, attempts=attempts).write("W", target, None, AT)
    # the error of a weight: N(0, sd) of the cell that carries it, minus max(N(0, sd), 0) of the other
    numbers = np.random.default_rng(0).standard_normal((2, 2_000_000))
    p = np.mean(np.abs(SD * (numbers[0] - np.maximum(numbers[1], 0.0))) > tolerance)
    missed = target.size * p**attempts
    assert abs(report.unverified - missed) < 5 * math.sqrt(missed)
    assert report.unverified == np.count_nonzero(np.abs(held - target) > tolerance)
    made = target.size * (1 - p**attempts) / (1 - p)
    assert abs(report.attempts - made) < 0.01 * target.size


def test_counts_of_attempts_add_up():
    target, tolerance = asked(5000), 0.05
    runs = [
        WriteVerify(stage=NOISY, tolerance=tolerance, attempts=k).write("W", target, None, AT)[1] for k in (1, 2, 3)
    ]
    # the first k attempts are the same ones: each further attempt is for what was unverified
    assert runs[0].attempts == target.size
    assert runs[1].attempts == target.size + runs[0].unverified
    assert runs[2].attempts == runs[1].attempts + runs[1].unverified


def test_one_parameter_is_written_alike_whatever_its_neighbours_need():
    stage = WriteVerify(stage=NOISY, tolerance=0.02, attempts=50)
    one, _ = stage.write("W", np.array([0.5, 0.5, 0.5]), None, AT)
    other, _ = stage.write("W", np.array([0.5, 0.4, 0.9]), None, AT)
    assert one[0] == other[0]
    assert len(set(one)) == 3


def test_a_verified_write_passes_on_what_its_stage_says():
    stage = WriteVerify(stage=Range(low=-1.0, high=1.0, clip=True, blocks=("W",)), tolerance=0.1, attempts=3)
    held, report = stage.write("W", np.array([2.0, 0.5]), None, AT)
    np.testing.assert_array_equal(held, [1.0, 0.5])
    assert report == WriteReport(clipped=1, attempts=4, unverified=1)
    assert stage.clips("W")
    assert WriteVerify(stage=NOISY, tolerance=0.1, attempts=3).limits("W") == (-1.0, 1.0)
    assert stage.write("b", np.array([2.0]), None, AT)[1] == WriteReport()


# --- addresses -------------------------------------------------------------------------------------------------------


def test_the_same_address_is_the_same_write_and_any_other_is_another():
    target = asked(50)
    once = NOISY.write("W", target, None, context())[0]
    np.testing.assert_array_equal(once, NOISY.write("W", target, None, context())[0])
    for other in (context(event=1), context(position=1), context(seed=3)):
        assert not np.any(once == NOISY.write("W", target, None, other)[0])
    assert not np.any(once == NOISY.write("U", target, None, context())[0])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Range(low=1.0, high=1.0), "low < high"),
        (lambda: Quantise(low=1.0, high=0.0, levels=4), "low < high, both finite"),
        (lambda: Quantise(low=0.0, high=math.inf, levels=4), "both finite"),
        (lambda: Quantise(low=0.0, high=1.0, levels=1), "levels >= 2; found levels=1"),
        (lambda: Quantise.bits(0, low=0.0, high=1.0), "1 to 52 bits; found 0"),
        (lambda: WriteVerify(stage=NOISY, tolerance=0.0, attempts=1), "tolerance > 0"),
        (lambda: WriteVerify(stage=NOISY, tolerance=0.1, attempts=0), "1 to 65535 attempts; found 0"),
    ],
)
def test_stages_refuse_what_makes_no_sense(make, match):
    with pytest.raises(InputError, match=match):
        make()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Range(low=-1.0, high=1.0, clip=True), "[-2 uS, 2 uS], values beyond held at the border"),
        (Range(low=-1.0, high=1.0), "refused"),
        (Quantise(low=-1.0, high=1.0, levels=5), "5 levels in [-2 uS, 2 uS], 1 uS apart"),
        (WriteVerify(stage=NOISY, tolerance=0.1, attempts=7), "within 200 nS or 7 attempts: sd 50 nS at half"),
    ],
)
def test_descriptions_are_one_line_in_physical_units(stage, expected):
    line = stage.describe(SCALE)
    assert expected in line
    assert "\n" not in line
