"""Pulsed cells: steps, bounds, symmetry points and spreads are those of their formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections.contract import Context, Source, WriteReport
from hwsim.devices.imperfections.pulses import (
    ConstantStep,
    ExponentialStep,
    LinearStep,
    PulsedUpdate,
    SoftBounds,
    WriteNoise,
    ecram,
    idealised,
    reram_array,
    reram_soft_bounds,
    symmetry_point,
)

MANY = (400, 250)


def context(*, event=0, die=1, position=0):
    path = NoisePath(seed=2, step=event)
    return Context(
        scale=Scale(),
        fixed=Source(path=NoisePath(seed=die), stream=Stream.FIXED, position=position),
        program=Source(path=path, stream=Stream.PROGRAM, position=position),
        read=Source(path=path, stream=Stream.CELL, position=position),
        elapsed=0.0,
        step_size=0.1,
    )


AT = context()


def plain(law=SoftBounds(), **options):
    return PulsedUpdate(**{"law": law, "dw_min": 0.01, "w_max": 1.25, "w_min": -0.75, **options})


def move(update, w, pulses, at=AT):
    return update.adjust("W", np.asarray(w, np.float64), np.asarray(pulses, np.float64), at)


def check_normal(xi, sd, mean=0.0):
    """Mean and sd within four standard errors of a normal sample."""
    xi = np.ravel(xi)
    assert abs(xi.mean() - mean) < 4 * sd / math.sqrt(xi.size)
    assert abs(xi.std() - sd) < 4 * sd / math.sqrt(2 * xi.size)


# --- one pulse -------------------------------------------------------------------------------------------------------


@given(w=st.floats(-0.75, 1.25))
def test_soft_bounds_step_by_their_formula(w):
    held, report = move(plain(), [w, w, w], [1, -1, 0])
    assert held == pytest.approx([w + 0.01 * (1 - w / 1.25), w - 0.01 * (1 + w / 0.75), w], abs=1e-15)
    assert report == WriteReport(pulses=2)


@given(w=st.floats(-0.7, 1.2))
def test_linear_steps_shrink_by_gamma_at_the_bound(w):
    update = plain(LinearStep(gamma_up=0.2, gamma_down=0.5))
    held, _ = move(update, [w, w], [1, -1])
    assert held == pytest.approx([w + 0.01 * (1 - 0.2 * w / 1.25), w - 0.01 * (1 - 0.5 * w / -0.75)], abs=1e-15)


def test_linear_steps_of_gamma_one_are_soft_bounds():
    w, pulses = np.linspace(-0.7, 1.2, 20), np.resize([3, -5, 7], 20)
    linear = plain(LinearStep(gamma_up=1.0, gamma_down=1.0))
    assert move(linear, w, pulses)[0] == pytest.approx(move(plain(), w, pulses)[0], abs=1e-14)


@given(w=st.floats(-0.7, 1.2))
def test_exponential_steps_by_their_formula(w):
    law = ExponentialStep(A_up=0.1, A_down=0.2, gamma_up=2.0, gamma_down=3.0, a=0.5, b=0.1)
    u = 2 * 0.5 * w / 2.0 + 0.1
    up, down = max(1 - 0.1 * math.exp(2 * u), 0), max(1 - 0.2 * math.exp(-3 * u), 0)
    assert move(plain(law), [w, w], [1, -1])[0] == pytest.approx([w + 0.01 * up, w - 0.01 * down], abs=1e-15)


@given(up_down=st.floats(-0.9, 0.9))
def test_up_and_down_can_differ(up_down):
    cells = plain(up_down=up_down).cells("W", (1,), AT)
    assert cells.up[0] == pytest.approx(0.01 * min(1 + up_down, 1), abs=1e-15)
    assert cells.down[0] == pytest.approx(0.01 * min(1 - up_down, 1), abs=1e-15)


# --- many pulses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pulses", [1, 10, 200])
def test_soft_bounds_are_approached_exponentially(pulses):
    # 1 - w/b shrinks by 1 - a/b with every pulse
    held, report = move(plain(), [0.2, 0.2], [pulses, -pulses])
    up = 1.25 - (1.25 - 0.2) * (1 - 0.01 / 1.25) ** pulses
    down = -0.75 + (0.75 + 0.2) * (1 - 0.01 / 0.75) ** pulses
    assert held == pytest.approx([up, down], abs=1e-12)
    assert report.pulses == 2 * pulses


@pytest.mark.parametrize("law", [ConstantStep(), LinearStep(gamma_up=0.1, gamma_down=0.1), SoftBounds()])
def test_cells_saturate_at_their_own_bounds(law):
    update = plain(law, dw_min=0.05, max_spread=0.2, min_spread=0.2, cycle_noise=0.3)
    cells = update.cells("W", (50, 4), AT)
    top, bottom = (move(update, np.zeros((50, 4)), np.full((50, 4), count))[0] for count in (600, -600))
    assert (top <= cells.high).all()
    assert (bottom >= cells.low).all()
    # a creeping cell comes within its noise, 0.3 steps of at most 0.05, of the bound
    assert np.abs(top - cells.high).max() < 0.1
    assert np.abs(bottom - cells.low).max() < 0.1
    if isinstance(law, ConstantStep):
        assert np.median(np.abs(top - cells.high)) < 0.02


def test_pulses_of_each_parameter_do_not_depend_on_the_others():
    update = plain(cycle_noise=0.5, step_spread=0.3)
    one = move(update, [0.1, 0.2, 0.3], [5, 0, 0])[0]
    other = move(update, [0.1, 0.0, 0.3], [5, -40, 12])[0]
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1:], [0.2, 0.3])


def test_alternating_pulses_lead_to_the_symmetry_point():
    update = plain(up_down=0.4, dw_min=0.02, max_spread=0.1, min_spread=0.1)
    shape, cycles = (20,), 60
    cells = update.cells("W", shape, AT)
    exact = (cells.up - cells.down) / (cells.up / cells.high - cells.down / cells.low)
    found = symmetry_point(cells, update.law.response(cells, "W", update, AT))
    assert found == pytest.approx(exact, abs=1e-12)
    assert exact.min() > 0.1  # up pulses are larger
    w = np.full(shape, -0.5)
    for _ in range(cycles):
        w, _ = move(update, move(update, w, np.ones(shape))[0], -np.ones(shape))
    # an up and a down pulse are each affine in w: cycles are a geometric sequence, and w* lies within the last one
    rise, fall = 1 - cells.up / cells.high, 1 + cells.down / cells.low
    end = (fall * cells.up - cells.down) / (1 - rise * fall)
    assert w == pytest.approx(end + (rise * fall) ** cycles * (-0.5 - end), abs=1e-12)
    assert (end < exact).all()
    assert (exact < move(update, end, np.ones(shape))[0]).all()


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        (LinearStep(gamma_up=0.5, gamma_down=0.5), 0.4 / (0.5 / 1.25 + 0.6 * 0.5 / 0.75)),
        (ConstantStep(), 1.25),  # they cancel nowhere: up wins
    ],
)
def test_symmetry_points_of_other_laws(law, exact):
    update = plain(law, up_down=0.4)
    cells = update.cells("W", (1,), AT)
    assert symmetry_point(cells, law.response(cells, "W", update, AT)) == pytest.approx(exact, abs=1e-12)


# --- spreads ---------------------------------------------------------------------------------------------------------


def test_cells_have_their_spreads():
    cells = plain(step_spread=0.1, max_spread=0.05, min_spread=0.08).cells("W", MANY, AT)
    check_normal(cells.up / 0.01 - 1, 0.1)
    np.testing.assert_array_equal(cells.up, cells.down)
    check_normal(cells.high / 1.25 - 1, 0.05)
    check_normal(cells.low / -0.75 - 1, 0.08)
    apart = plain(up_down_spread=0.02).cells("W", MANY, AT)
    check_normal((apart.up - apart.down) / 0.01, 0.04)
    wide = plain(step_spread=0.8, log_normal=True).cells("W", MANY, AT)
    check_normal(np.log(wide.up / 0.01), 0.8)


@pytest.mark.parametrize(("additive", "sd"), [(True, 0.01 * 0.3), (False, 0.01 * 0.3 * 0.5)])
def test_noise_from_pulse_to_pulse_has_its_size(additive, sd):
    # at half of the upper bound, where the step is half as large
    update = plain(cycle_noise=0.3, additive=additive)
    held, _ = move(update, np.full(MANY, 0.625), np.ones(MANY))
    check_normal(held - 0.625, sd, mean=0.005)


def test_noise_of_many_pulses_adds_in_square():
    update = plain(ConstantStep(), cycle_noise=0.3)
    held, _ = move(update, np.zeros(MANY), np.full(MANY, 9))
    check_normal(held - 0.09, 0.01 * 0.3 * 3)


def test_subtracting_a_reference_puts_the_symmetry_point_at_zero():
    plainly = plain(up_down=0.4, step_spread=0.2, max_spread=0.1, min_spread=0.1)
    exactly = plain(up_down=0.4, step_spread=0.2, max_spread=0.1, min_spread=0.1, reference_error=0.0)
    cells = exactly.cells("W", (50,), AT)
    zero = np.zeros(50)
    up, down = move(exactly, zero, np.ones(50))[0], move(exactly, zero, -np.ones(50))[0]
    assert up == pytest.approx(-down, abs=1e-14)
    np.testing.assert_array_equal(plainly.cells("W", (50,), AT).high, cells.high)
    assert move(exactly, zero, np.full(50, 3000))[0] == pytest.approx(cells.high - cells.reference, abs=1e-6)
    off = plain(up_down=0.4, reference_error=0.05).cells("W", MANY, AT)
    check_normal(
        off.reference, 0.05, mean=float(plain(up_down=0.4, reference_error=0.0).cells("W", (1,), AT).reference[0])
    )


# --- presets ---------------------------------------------------------------------------------------------------------


def test_presets_hold_their_published_numbers():
    soft, soft_noise = reram_soft_bounds()
    array, array_noise = reram_array()
    (lithium,), (ideal,) = ecram(), idealised()
    assert [p.dw_min for p in (soft, array, lithium, ideal)] == [0.002, 0.0949, 0.002, 0.0002]
    assert [(p.w_max, p.w_min) for p in (soft, array, lithium, ideal)] == [
        (1.25, -0.75),
        (1.0, -1.0),
        (1.1724, -0.8276),
        (1.0, -1.0),
    ]
    assert [p.step_spread for p in (soft, array, lithium, ideal)] == [0.3, 0.7829, 0.1, 0.3]
    assert [p.cycle_noise for p in (soft, array, lithium, ideal)] == [3.75, 0.4158, 0.3, 0.3]
    assert soft.max_spread * soft.w_max == pytest.approx(0.3)
    assert soft.min_spread * -soft.w_min == pytest.approx(0.3)
    assert array.log_normal
    assert soft_noise.sigma == pytest.approx(0.112)
    assert array_noise.sigma == pytest.approx(0.1339, abs=1e-4)
    assert (lithium.law.gamma_up, lithium.law.gamma_down) == (0.1153, 0.5085)


def test_electrochemical_cells_are_nearly_linear():
    (preset,) = ecram()
    n, shape = 200, (200, 20)
    start = np.zeros(shape)
    up = move(preset, start, np.full(shape, n))[0].mean()
    # the mean step falls by 11.5 % over 1.1724: over 0.4 by 4 %, half of it on the way; 4 standard errors
    expected = 1.1724 / 0.1153 * (1 - (1 - 0.002 * 0.1153 / 1.1724) ** n)
    assert expected == pytest.approx(0.4, rel=0.025)
    assert abs(up - expected) < 4 * 0.4 * 0.1 / math.sqrt(start.size) + 0.001


def test_the_idealised_cell_counts():
    (preset,) = idealised()
    counts = np.array([[1, 10, 100, 500]] * 500)
    held, _ = move(preset, np.zeros(counts.shape), counts)
    error = 4 * np.sqrt((0.3 * counts[0]) ** 2 + 0.09 * counts[0]) * 0.0002 / math.sqrt(500)
    assert (np.abs(held.mean(axis=0) - 0.0002 * counts[0]) < error).all()


# --- write noise and addresses ---------------------------------------------------------------------------------------


def test_write_noise_shows_but_does_not_add_up():
    noise, held = WriteNoise(sigma=0.112), np.zeros(MANY)
    shown = noise.realise("W", held, AT)
    check_normal(shown, 0.112)
    np.testing.assert_array_equal(shown, noise.realise("W", held, AT))
    assert not np.any(shown == noise.realise("W", held, context(event=1)))
    assert noise.realise("b", held, AT) is not held
    assert WriteNoise(sigma=0.1, blocks=("W",)).realise("b", held, AT) is held


def test_cells_are_fixed_and_pulses_are_not():
    update = plain(step_spread=0.3, cycle_noise=0.3, max_spread=0.1)
    one, later, other_die = (update.cells("W", (9,), at) for at in (AT, context(event=5), context(die=2)))
    np.testing.assert_array_equal(one.up, later.up)
    np.testing.assert_array_equal(one.high, later.high)
    assert not np.any(one.up == other_die.up)
    w, pulses = np.zeros(9), np.full(9, 4)
    first = move(update, w, pulses)[0]
    np.testing.assert_array_equal(first, move(update, w, pulses)[0])
    for at in (context(event=1), context(position=1)):
        assert not np.any(first == move(update, w, pulses, at)[0])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: plain(dw_min=0.0), "dw_min > 0"),
        (lambda: plain(w_min=0.1), "w_min < 0 < w_max"),
        (lambda: plain(up_down=1.0), "between -1 and 1"),
        (lambda: plain(step_spread=-0.1), "PulsedUpdate needs step_spread >= 0"),
        (lambda: plain(reference_error=math.nan), "reference_error >= 0"),
        (lambda: LinearStep(gamma_up=-1.0, gamma_down=0.0), "LinearStep needs gamma_up >= 0"),
        (lambda: WriteNoise(sigma=-1.0), "sigma >= 0"),
        (lambda: move(plain(), [0.0], [0.5]), "whole numbers"),
        (lambda: move(plain(blocks=("U",)), [0.0], [1]), "block W has no cells that pulses move"),
    ],
)
def test_cells_refuse_what_makes_no_sense(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_a_block_without_pulsed_cells_may_be_left_alone():
    held = np.array([0.5])
    same, report = plain(blocks=("U",)).adjust("W", held, np.array([0.0]), AT)
    assert same is held
    assert report == WriteReport()


def test_descriptions_are_one_line_in_physical_units():
    for one in (*reram_soft_bounds(), *reram_array(), *ecram(), *idealised()):
        assert "\n" not in one.describe(Scale())
    assert "SoftBounds: 2 nS a pulse between -750 nS and 1.25 uS" in reram_soft_bounds()[0].describe(Scale())
