"""Converters: transfer curves, nonlinearity as defined and as drawn, saturation, skew."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections.contract import Context, Source
from hwsim.devices.imperfections.converters import ADC, DAC, SARADC, ReadoutNoise, SampleSkew
from hwsim.devices.imperfections.linearity import inl_dnl, transitions


def die(seed=0, step_size=0.1):
    path = NoisePath(seed=seed)
    source = Source(path=path, stream=5, position=0)
    return Context(scale=Scale(), fixed=source, program=source, read=source, elapsed=0.0, step_size=step_size)


def read(converter, z, at=None, before=None):
    """Values [..., N] through a readout, and where they clipped."""
    z = np.asarray(z)
    stacked = z.reshape(-1, 1, z.shape[-1])
    drawn = np.random.default_rng(3)
    earlier = stacked if before is None else before.reshape(stacked.shape)
    out, clipped = converter.read(
        stacked, earlier, lambda component, steps: drawn.standard_normal((steps, *stacked.shape[1:])), at or die()
    )
    return out.reshape(z.shape), clipped.reshape(z.shape)


BOTH = pytest.mark.parametrize("kind", [ADC, SARADC])

# --- Ideal --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_an_ideal_converter_has_the_transfer_curve_of_a_mid_tread_quantiser(kind, bits):
    adc = kind(bits, full_scale=2.0)
    assert adc.lsb == 4.0 / 2**bits
    z = np.linspace(-3.0, 3.0, 6001)[:, None] + 1e-7
    out, clipped = read(adc, z)
    lowest, highest = -2.0, 2.0 - adc.lsb
    # every level is a whole number of steps, 2^bits of them from -full scale to one step below full scale
    assert np.unique(out) == pytest.approx(lowest + adc.lsb * np.arange(2**bits))
    inside = (z > lowest - adc.lsb / 2) & (z < highest + adc.lsb / 2)
    assert np.abs(out - z)[inside].max() <= adc.lsb / 2 + 1e-12
    assert np.array_equal(clipped, ~inside)
    assert (out[z > highest + adc.lsb / 2] == highest).all()
    assert (out[z < lowest - adc.lsb / 2] == lowest).all()
    assert read(adc, np.zeros((1, 1)))[0].item() == 0.0


@given(
    bits=st.integers(1, 24),
    full_scale=st.floats(1e-3, 1e3),
    z=st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=20),
)
def test_successive_approximation_is_the_ideal_converter_code_for_code(bits, full_scale, z):
    values = full_scale * np.array(z)[:, None]
    straight, approximating = ADC(bits, full_scale), SARADC(bits, full_scale)
    # at a border between codes rounding decides: keep 1e-6 LSB away
    away = np.abs(values / straight.lsb % 1.0 - 0.5) > 1e-6
    (plain, clipped), (found, clipped_too) = read(straight, values), read(approximating, values)
    assert np.array_equal(plain[away], found[away])
    assert np.array_equal(clipped[away], clipped_too[away])


@pytest.mark.parametrize(
    "converter",
    [
        ADC(6),
        ADC(6, offset=0.1, gain=50.0, dnl=0.2),
        SARADC(6, mismatch=0.02, offset=0.1, gain=50.0),
        ReadoutNoise(0.1),
    ],
)
def test_precision_and_nan_are_kept(converter):
    z = np.array([[0.3, np.nan, -2.0]])
    for dtype in (np.float32, np.float64):
        out, clipped = read(converter, z.astype(dtype))
        assert out.dtype == dtype
        assert np.array_equal(np.isnan(out), np.isnan(z))
        assert not clipped.any()


@BOTH
def test_infinite_values_read_as_the_ends(kind):
    assert read(kind(4, 1.0), np.array([[np.inf, -np.inf]]))[0].tolist() == [[1.0 - 0.125, -1.0]]


# --- Definitions --------------------------------------------------------------------------------------------------


def test_inl_and_dnl_of_known_levels():
    inl, dnl = inl_dnl(np.array([0.0, 1.0, 2.5, 3.0, 4.0]))
    assert dnl == pytest.approx([0.0, 0.5, -0.5, 0.0])
    assert inl == pytest.approx([0.0, 0.0, 0.5, 0.0, 0.0])


@given(widths=st.lists(st.floats(0.2, 2.0), min_size=1, max_size=30), scale=st.floats(0.1, 10), start=st.floats(-5, 5))
def test_inl_is_the_sum_of_dnl_and_neither_sees_gain_or_offset(widths, scale, start):
    levels = np.concatenate([[0.0], np.cumsum(widths)])
    inl, dnl = inl_dnl(levels)
    assert np.concatenate([[0.0], np.cumsum(dnl)]) == pytest.approx(inl, abs=1e-9)
    assert abs(inl[-1]) < 1e-9
    for seen, plain in zip(inl_dnl(start + scale * levels), (inl, dnl), strict=True):
        assert seen == pytest.approx(plain, abs=1e-9)


@BOTH
def test_the_servo_finds_the_transitions_of_an_ideal_converter(kind):
    adc = kind(5, full_scale=1.0)
    found = transitions(adc, die(), 2)
    assert found == pytest.approx(np.tile((np.arange(1, 32) - 16.5) / 16.0, (2, 1)), abs=1e-12)
    assert np.abs(np.concatenate([part.ravel() for part in inl_dnl(found)])).max() < 1e-11


@pytest.mark.parametrize("converter", [ADC(6, 1.0), ADC(6, 1.0, dnl=0.25), SARADC(6, 1.0, mismatch=0.03)])
def test_a_uniform_ramp_hits_each_code_as_often_as_it_is_wide(converter):
    samples = 1000  # per LSB
    z = (np.arange(-40 * samples, 40 * samples) + 0.5)[:, None] / samples * converter.lsb
    out, clipped = read(converter, z)
    counts = np.bincount(np.rint(out[~clipped] / converter.lsb).astype(int) + 32, minlength=64)[1:-1]
    levels = transitions(converter, die(), 1)[0]
    widths = np.diff(levels) / converter.lsb
    assert np.abs(counts / samples - widths).max() <= 1.0 / samples + 1e-9
    if converter == ADC(6, 1.0):
        assert np.abs(counts - samples).max() == 0


# --- Drawn levels -------------------------------------------------------------------------------------------------


def test_a_string_has_the_dnl_it_is_told_and_an_inl_tied_at_both_ends():
    units, bits, dnl = 2000, 6, 0.1
    levels = transitions(ADC(bits, 1.0, dnl=dnl), die(), units)
    inl, found = inl_dnl(levels)
    widths = 2**bits - 2
    assert found.std() == pytest.approx(dnl * np.sqrt(1.0 - 1.0 / widths), rel=4.0 / np.sqrt(2.0 * found.size))
    assert np.abs(inl[:, [0, -1]]).max() < 1e-9
    # a random walk of `widths` steps tied at both ends: variance dnl^2 k (widths - k) / widths
    middle = widths // 2
    assert inl[:, middle].std() == pytest.approx(dnl * np.sqrt(widths) / 2.0, rel=4.0 / np.sqrt(2.0 * units))
    assert inl.std(axis=0).argmax() == pytest.approx(middle, abs=widths / 4)
    # first and last transition are where they should be
    assert levels[:, [0, -1]] == pytest.approx(np.tile([-31.5 / 32, 30.5 / 32], (units, 1)), abs=1e-12)


def test_successive_approximation_is_worst_where_most_capacitors_change():
    units, bits, mismatch = 2000, 6, 0.01
    converter = SARADC(bits, 1.0, mismatch=mismatch)
    levels = transitions(converter, die(), units)
    assert (np.diff(levels, axis=1) > 0).all()  # no missing codes at this mismatch
    # the step to code c is T_c - T_(c - 1), c >= 2
    steps = np.diff(levels, axis=1) / converter.lsb - 1.0
    for bit in range(1, bits):
        spread = np.sqrt(2.0 ** (bit + 1) - 1.0) * mismatch
        found = steps[:, 2**bit - 2].std()  # sets this bit, clears those below
        assert found == pytest.approx(spread, rel=4.0 / np.sqrt(2.0 * units) + mismatch)
    assert steps.std(axis=0).argmax() == 2 ** (bits - 1) - 2


def test_a_badly_matched_converter_misses_codes():
    converter = SARADC(8, 1.0, mismatch=0.2)
    z = np.linspace(-1.0, 1.0, 100_001)[:, None] + np.zeros(8)
    out, _ = read(converter, z)
    assert all(len(np.unique(out[:, unit])) < 2**8 for unit in range(8))
    assert (np.diff(out, axis=0) >= 0).all()  # a binary search cannot lose its way back


@pytest.mark.parametrize("make", [lambda shared: ADC(6, dnl=0.2, offset=0.3, shared=shared),
                                  lambda shared: SARADC(6, mismatch=0.1, offset=0.3, shared=shared)])  # fmt: skip
def test_one_converter_each_or_one_for_all(make):
    shared, own = transitions(make(True), die(), 3), transitions(make(False), die(), 3)
    assert np.array_equal(shared[0], shared[2])
    assert np.abs(own[0] - own[2]).max() > 0.01
    assert np.array_equal(transitions(make(False), die(), 3), own)  # the die is what it is
    assert np.abs(transitions(make(False), die(seed=1), 3) - own).max() > 0.01


# --- Amplifier ----------------------------------------------------------------------------------------------------


def test_a_finite_gain_shrinks_what_is_read():
    adc = ADC(8, 1.0, gain=100.0, feedback=0.5)
    assert transitions(adc, die(), 1) == pytest.approx(1.02 * transitions(ADC(8, 1.0), die(), 1), rel=1e-12)


def test_a_finite_gain_behind_the_capacitors_depends_on_the_code():
    converter, n = SARADC(8, 1.0, gain=100.0), 256
    code = np.arange(1, n)
    beta = n / (n + code)
    expected = (2.0 * code / n - 1.0) / (1.0 + 1.0 / (100.0 * beta)) - converter.lsb / 2.0
    assert transitions(converter, die(), 1)[0] == pytest.approx(expected, abs=1e-12)


@BOTH
def test_offsets_have_the_spread_they_are_told(kind):
    units = 4000
    first = transitions(kind(1, 1.0, offset=0.02), die(), units)[:, 0] + 0.5
    assert first.std() == pytest.approx(0.02, rel=4.0 / np.sqrt(2.0 * units))
    assert abs(first.mean()) < 4.0 * 0.02 / np.sqrt(units)


@pytest.mark.parametrize(
    "converter",
    [
        ADC(6, 4.0),
        ADC(6, 1.0, dnl=0.3),
        ADC(8, 1.0, offset=0.01, gain=200.0),
        ADC(4, 1.0, offset=0.02, dnl=0.1, shared=False),
        SARADC(8, 1.0, mismatch=0.05),
        SARADC(8, 1.0, offset=0.004, gain=300.0),
    ],
)
def test_the_stated_error_is_that_of_many_dies(converter):
    units = 3000
    z = np.random.default_rng(2).uniform(-1.0, 1.0, (150, units)) * converter.full_scale * (1 - 1 / 2**converter.bits)
    out, _ = read(converter, z)
    squares = ((out - z) ** 2).mean(axis=0)
    error = squares.std() / np.sqrt(units)
    assert error < 0.03 * squares.mean()
    # 1 %: sums over codes are taken for integrals
    assert converter.error**2 == pytest.approx(squares.mean(), rel=0.01, abs=4.0 * error)


# --- Reads --------------------------------------------------------------------------------------------------------


def test_readout_noise_is_drawn_for_each_read_of_each_unit():
    out, clipped = read(ReadoutNoise(0.2), np.ones((5000, 4)))
    noise = out - 1.0
    assert noise.std() == pytest.approx(0.2, rel=4.0 / np.sqrt(2.0 * noise.size))
    assert np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 4.0 / np.sqrt(5000)
    assert not clipped.any()
    assert ReadoutNoise(0.2).error == 0.2


@given(units=st.integers(1, 9), part=st.floats(0.0, 1.0), slope=st.floats(-10, 10))
def test_skew_on_a_ramp_is_the_ramp_at_each_units_own_time(units, part, slope):
    dt = 0.1 * 1e-6
    per_unit = part * dt / max(units - 1, 1)
    now = 3.0 * dt
    when = now - per_unit * np.arange(units - 1, -1, -1)
    z, before = np.full((1, units), slope * now / dt), np.full((1, units), slope * (now - dt) / dt)
    out, clipped = read(SampleSkew(per_unit), z, before=before)
    assert out[0] == pytest.approx(slope * when / dt, abs=1e-12)
    assert not clipped.any()


def test_skew_must_fit_into_a_step():
    with pytest.raises(InputError, match=r"5 units 3e-08 s apart .* step of 1e-07 s; .* at most 2\.5e-08"):
        read(SampleSkew(3e-8), np.zeros((1, 5)))


# --- Inputs -------------------------------------------------------------------------------------------------------


def test_an_ideal_dac_rounds_clips_and_reports():
    x = np.array([[0.1, 0.9, -3.0], [0.49, np.nan, 0.0]])
    for dtype in (np.float32, np.float64):
        out, clipped = DAC(2, 1.0).drive(x.astype(dtype), die())
        assert out.dtype == dtype
        assert np.array_equal(out, [[0.0, 0.5, -1.0], [0.5, np.nan, 0.0]], equal_nan=True)
        assert clipped.tolist() == [[False, True, True], [False, False, False]]


def test_a_drawn_dac_has_the_levels_of_a_string():
    inputs, dnl = 2000, 0.1
    dac = DAC(6, 1.0, dnl=dnl)
    x = np.tile(-1.0 + dac.lsb * np.arange(64.0)[:, None], (1, inputs))
    levels, clipped = dac.drive(x, die())
    assert not clipped.any()
    inl, found = inl_dnl(levels.T)
    assert found.std() == pytest.approx(dnl * np.sqrt(1.0 - 1.0 / 63), rel=4.0 / np.sqrt(2.0 * found.size))
    assert inl[:, 32].std() == pytest.approx(dnl * np.sqrt(63) / 2.0, rel=4.0 / np.sqrt(2.0 * inputs) + 0.001)
    assert levels[[0, -1]] == pytest.approx(np.tile([[-1.0], [1.0 - dac.lsb]], (1, inputs)), abs=1e-12)
    # each input has its own, unless shared
    assert levels[:, 0] != pytest.approx(levels[:, 1])
    shared, _ = DAC(6, 1.0, dnl=dnl, shared=True).drive(x, die())
    assert np.array_equal(shared[:, 0], shared[:, 1])
    assert np.isnan(dac.drive(np.full((1, inputs), np.nan), die())[0]).all()


# --- Words --------------------------------------------------------------------------------------------------------


def test_converters_say_their_size_in_volts():
    scale = Scale(volt=0.5)
    assert ADC(10, 8.0).describe(scale) == "10 bits over -4 V to 3.99 V, LSB 7.81 mV"
    assert ADC(10, 8.0, offset=0.01, gain=1e3, dnl=0.2, shared=True).describe(scale) == (
        "10 bits over -4 V to 3.99 V, LSB 7.81 mV, offset 5 mV rms, gain 1000, DNL 0.2 LSB rms, shared"
    )
    assert SARADC(4, 1.0, mismatch=0.02).describe(scale) == (
        "successive approximation, 4 bits over -500 mV to 438 mV, LSB 62.5 mV, capacitors 2 % rms"
    )
    assert ReadoutNoise(0.002).describe(scale) == "1 mV rms per read"
    assert SampleSkew(2e-9).describe(scale) == "units read 2 ns apart"
    assert DAC(8, 1.0, dnl=0.1).describe(scale).endswith("LSB 3.91 mV, DNL 0.1 LSB rms")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ADC(0), "bits >= 1; found bits=0"),
        (lambda: SARADC(25), "1 to 24 bits"),
        (lambda: ADC(8, 0.0), "positive, finite full scale"),
        (lambda: ADC(8, offset=-1.0), "offset >= 0"),
        (lambda: ADC(8, gain=0.0), "gain > 0"),
        (lambda: ADC(8, feedback=1.5), "0 < feedback <= 1"),
        (lambda: ADC(8, dnl=0.7), "0 <= dnl <= 0.5 LSB"),
        (lambda: ADC(17, dnl=0.1), "at most 16 bits"),
        (lambda: SARADC(8, mismatch=-0.1), "0 <= mismatch <= 0.5"),
        (lambda: DAC(8, -1.0), "full_scale=-1"),
        (lambda: ReadoutNoise(-0.1), "finite sigma >= 0"),
        (lambda: SampleSkew(-1e-9), "per_unit >= 0 in seconds"),
        (lambda: inl_dnl(np.ones((2, 1))), "at least two levels; found 1"),
        (lambda: read(ADC(16, dnl=0.1), np.zeros((1, 300))), "exceed 16777216 in all; use fewer bits or shared=True"),
    ],
)
def test_converters_out_of_range_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
