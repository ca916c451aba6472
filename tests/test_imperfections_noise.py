"""Noise while settling: sizes from first principles, spectra, dwell times, and continuation over phases."""

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.signal
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import BOLTZMANN, ELEMENTARY_CHARGE, Scale
from hwsim.devices.imperfections.noise import FlickerNoise, ShotNoise, TelegraphNoise, ThermalNoise

SCALE = Scale(volt=0.1, siemens=2e-7, second=3e-6)


def independent(lanes, units, seed=1):
    """Deviates of 16 independent streams; the call asks for the steps that come next."""
    streams = [np.random.default_rng([seed, k]) for k in range(16)]
    return lambda component, steps: streams[component].standard_normal((steps, lanes, units))


def run(process, steps, dt, lanes, units=1, seed=1):
    """[steps, B, N] from a stationary start."""
    deviates = independent(lanes, units, seed)
    return process.advance(process.begin(deviates, SCALE), steps, dt, deviates, SCALE)[0]


# --- White noise --------------------------------------------------------------------------------------------------


def test_thermal_noise_is_kt_over_c_or_what_it_is_told():
    assert ThermalNoise(0.05).variance(SCALE) == 0.05**2
    farad, volt = 2e-7 * 3e-6, 0.1
    assert ThermalNoise(temperature=300.0).variance(SCALE) * volt**2 == pytest.approx(1.380649e-23 * 300 / farad)
    assert ThermalNoise(temperature=300.0).variance(SCALE) == pytest.approx(SCALE.thermal_sigma(300.0) ** 2)
    assert ThermalNoise.thermal
    assert not ShotNoise.thermal


def test_shot_noise_is_its_current_through_the_node():
    # the integral of 2 q I / (G^2 + (2 pi f C)^2) over all f > 0, in units of the corner frequency
    bias, corner = 3e-9, 1.0 / (2.0 * np.pi * SCALE.second)
    area, _ = scipy.integrate.quad(lambda f: 1.0 / (1.0 + f**2), 0.0, np.inf)
    volts = 2.0 * ELEMENTARY_CHARGE * bias / SCALE.siemens**2 * corner * area
    assert ShotNoise(bias).variance(SCALE) * SCALE.volt**2 == pytest.approx(volts, rel=1e-9)


def test_shot_noise_of_both_currents_of_a_diode_at_rest_is_thermal_noise():
    bias = 2.0 * BOLTZMANN * 300.0 * SCALE.siemens / ELEMENTARY_CHARGE
    assert ShotNoise(bias).variance(SCALE) == pytest.approx(ThermalNoise(temperature=300.0).variance(SCALE))


def test_white_noise_says_its_size_in_volts():
    assert ThermalNoise(temperature=300.0).describe(Scale()) == "64.4 uV rms (kT/C at 300 K, 1 pF)"
    assert ThermalNoise(0.05).describe(Scale()) == "50 mV rms"
    assert ShotNoise(1e-9).describe(Scale()) == "8.95 uV rms on an isolated node (2 q I of 1 nA)"


# --- 1/f ----------------------------------------------------------------------------------------------------------

FLICKER = FlickerNoise(0.3, 1.0, 1e5, per_decade=2)
LANES, SEGMENT, RATE = 24, 2**17, 4e5


@pytest.fixture(scope="module")
def spectrum():
    """Frequencies and a periodogram per lane."""
    current = run(FLICKER, SEGMENT, 1.0 / RATE, LANES)[:, :, 0]
    frequency, power = scipy.signal.welch(current, RATE, window="hann", nperseg=SEGMENT, axis=0)
    return frequency, power.T


def test_flicker_noise_falls_as_one_over_f_over_three_decades(spectrum):
    frequency, power = spectrum
    band = (frequency > 10.0) & (frequency < 1e4)
    x = np.log(frequency[band])
    # the logarithm of a periodogram has the same bias at every frequency; weights f^-1/2, between equal steps of f,
    # where the last decade decides, and equal steps of log f, where the few lowest points do
    both = np.log(np.concatenate([power[:, band], FLICKER.density(frequency[band])[None]]))
    *slopes, stated = np.polynomial.polynomial.polyfit(x, both.T, 1, w=np.exp(-x / 4.0))[1]
    error = np.std(slopes, ddof=1) / np.sqrt(LANES)
    assert error < 0.01
    assert np.mean(slopes) == pytest.approx(stated, abs=4.0 * error + 0.003)  # 0.003: aliases add 1 % at 10 kHz
    assert stated == pytest.approx(-1.0, abs=0.025)  # the band ends one decade further on, which bends it by 6 %


def test_flicker_noise_has_the_density_that_it_states(spectrum):
    frequency, power = spectrum
    for low, high in ((30.0, 100.0), (100.0, 1e3), (1e3, 1e4)):
        band = (frequency > low) & (frequency < high)
        ratio = (power[:, band] / FLICKER.density(frequency[band])).mean(axis=1)
        error = ratio.std(ddof=1) / np.sqrt(LANES)
        assert ratio.mean() == pytest.approx(1.0, abs=4.0 * error + 0.01)


@pytest.mark.parametrize(("per_decade", "ripple"), [(1, 0.055), (2, 0.00076)])
def test_flat_to_the_stated_ripple_inside_the_band(per_decade, ripple):
    flicker = FlickerNoise(0.3, 1.0, 1e8, per_decade=per_decade)
    frequency = np.geomspace(3e3, 3e4, 1000)  # four decades from either end
    flat = flicker.density(frequency) * frequency * np.log(1e8) / 0.3**2
    # what lies beyond either end is missing: 2 / pi of 1 / 3e3 at one border of the window, 1 / 3e4 at the other
    assert np.ptp(flat) / 2.0 == pytest.approx(ripple, rel=0.02, abs=1e-4)
    assert (flat.max() + flat.min()) / 2.0 == pytest.approx(1.0, abs=5e-3)
    edges = flicker.density(np.array([1.0, 1e8])) * np.array([1.0, 1e8]) * np.log(1e8) / 0.3**2
    assert edges == pytest.approx([0.5, 0.5], abs=0.06)


def test_its_density_integrates_to_its_variance():
    frequency = np.geomspace(1e-5, 1e10, 100_001)
    assert np.trapezoid(FLICKER.density(frequency), frequency) == pytest.approx(0.3**2, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 40])
def test_flicker_noise_is_stationary_from_the_first_step(steps):
    units = 20_000
    last = run(FLICKER, steps, 1e-3, 1, units)[-1].ravel()
    assert last.var() == pytest.approx(0.3**2, rel=4.0 * np.sqrt(2.0 / units))
    assert abs(last.mean()) < 4.0 * 0.3 / np.sqrt(units)


@given(dt=st.floats(1e-7, 1e-1), parts=st.integers(2, 20))
def test_the_law_of_flicker_noise_does_not_depend_on_dt(dt, parts):
    """From a given state, mean and variance after parts steps of dt are those after one of parts * dt."""

    def moments(steps, dt):
        start = np.ones((FLICKER.components, steps, 1))
        # lane k sees one impulse, at step k: the sum of squared responses is the variance
        pulses = np.eye(steps)[:, :, None]
        none = FLICKER.advance(start, steps, dt, lambda m, n: np.zeros_like(pulses), SCALE)[1]
        pulsed = FLICKER.advance(start, steps, dt, lambda m, n: pulses, SCALE)[1]
        return none[:, 0, 0], ((pulsed - none) ** 2).sum(axis=(1, 2))

    for fine, coarse in zip(moments(parts, dt), moments(1, parts * dt), strict=True):
        # differences of nearly equal numbers: rounding 1e-16 of 1, in units of the smallest variance that occurs
        assert fine == pytest.approx(coarse, rel=1e-9, abs=1e-14)


# --- Random telegraph ---------------------------------------------------------------------------------------------

TRAP = TelegraphNoise(0.2, capture=3e-4, emission=1e-4)


def transition(trap, dt):
    """P(now, after) of the two-state chain from its generator."""
    rates = np.array([[-1.0 / trap.capture, 1.0 / trap.capture], [1.0 / trap.emission, -1.0 / trap.emission]])
    return scipy.linalg.expm(rates * dt)


@pytest.mark.parametrize("dt", [1e-6, 3e-5, 1e-3])
def test_a_trap_follows_its_master_equation_for_any_step(dt):
    full = run(TRAP, 400, dt, 1, 3000)[:, 0, :] > 0.0
    now, after = full[:-1].ravel(), full[1:].ravel()
    for before in (False, True):
        p, visits = transition(TRAP, dt)[int(before), 1], np.count_nonzero(now == before)
        found = after[now == before].mean()
        assert found == pytest.approx(p, abs=4.0 * np.sqrt(p * (1.0 - p) / visits))


def test_dwell_times_are_exponential():
    dt = 1e-6
    full = run(TRAP, 60_000, dt, 1, 20)[:, 0, :] > 0.0
    for state, mean in ((True, TRAP.emission), (False, TRAP.capture)):
        dwells = []
        for unit in full.T:
            edges = np.flatnonzero(np.diff(unit.astype(int)))
            lengths, first = np.diff(edges), unit[edges[0] + 1]
            dwells.append(lengths[(0 if first == state else 1) :: 2] * dt)
        times = np.concatenate(dwells)
        # seen every dt, visits to the other state shorter than that are missed: 1 / P(leave) steps instead of mean / dt
        seen = dt / transition(TRAP, dt)[int(state), int(not state)]
        assert seen == pytest.approx(mean, rel=0.01)
        error = mean / np.sqrt(len(times))
        assert times.mean() == pytest.approx(seen, abs=4.0 * error)
        assert times.std() == pytest.approx(mean, abs=4.0 * np.sqrt(2.0) * error)


@pytest.mark.parametrize("steps", [1, 50])
def test_telegraph_noise_is_stationary_from_the_first_step(steps):
    units = 40_000
    full = run(TRAP, steps, 2e-5, 1, units)[-1] / 0.2
    assert set(np.unique(full)) <= {0.0, 1.0}
    assert full.mean() == pytest.approx(0.25, abs=4.0 * np.sqrt(0.25 * 0.75 / units))


def test_telegraph_noise_has_a_lorentzian_spectrum():
    dt, lanes, segment = 2e-6, 64, 2**14
    current = run(TRAP, segment, dt, lanes)[:, :, 0]
    frequency, power = scipy.signal.welch(current, 1.0 / dt, window="hann", nperseg=segment, axis=0)
    rate = 1.0 / TRAP.capture + 1.0 / TRAP.emission
    density = 4.0 * 0.2**2 / ((TRAP.capture + TRAP.emission) * (rate**2 + (2.0 * np.pi * frequency) ** 2))
    for low, high in ((100.0, 1e3), (1e3, 5e3), (5e3, 2e4)):
        band = (frequency > low) & (frequency < high)
        ratio = (power[band] / density[band, None]).mean(axis=0)
        error = ratio.std(ddof=1) / np.sqrt(lanes)
        assert ratio.mean() == pytest.approx(1.0, abs=4.0 * error + 0.01)  # 0.01: aliases at 20 kHz of 500 kHz


def test_traps_are_independent_of_each_other():
    units = 40_000
    current = run(TelegraphNoise(1.0, 1e-3, 1e-3, traps=4), 1, 1e-5, 1, units).ravel()
    counts = np.bincount(current.astype(int), minlength=5) / units
    binomial = np.array([1, 4, 6, 4, 1]) / 16
    assert np.abs(counts - binomial).max() < 4.0 * np.sqrt(0.25 / units)


# --- Both ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [FLICKER, TelegraphNoise(0.2, 3e-5, 1e-5, traps=3)])
@pytest.mark.parametrize("cut", [0, 1, 7, 20])
def test_two_phases_continue_each_other(process, cut):
    dt, steps = 1e-5, 20
    drawn = np.random.default_rng(4).standard_normal((16, steps, 2, 3))
    start = process.begin(lambda component, count: drawn[component, :count] * 0.7, SCALE)

    def advance(state, first, last):
        return process.advance(state, last - first, dt, lambda k, n: drawn[k, first : first + n], SCALE)

    whole, end = advance(start, 0, steps)
    early, middle = advance(start, 0, cut)
    late, end_again = advance(middle, cut, steps)
    assert np.array_equal(np.concatenate([early, late]), whole)
    assert np.array_equal(end_again, end)
    # the current at a step is that of the state at its beginning
    assert process.advance(end, 1, dt, lambda k, n: drawn[k, :n], SCALE)[0].shape == (1, 2, 3)
    assert whole[0] == pytest.approx(start.sum(axis=0) * (0.2 if isinstance(process, TelegraphNoise) else 1.0))


def test_processes_say_their_size_in_amperes():
    assert FLICKER.describe(Scale()) == "300 nA rms from 1 Hz to 100 kHz (10 processes)"
    assert TRAP.describe(Scale()) == "1 x 200 nA, filled after 300 us, emptied after 100 us"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ThermalNoise(), "one of the two; found sigma=None and temperature=None"),
        (lambda: ThermalNoise(0.1, 300.0), "one of the two"),
        (lambda: ThermalNoise(-1.0), "finite sigma >= 0; found sigma=-1"),
        (lambda: ThermalNoise(temperature=0.0), "temperature > 0 and finite"),
        (lambda: ShotNoise(float("inf")), "bias >= 0 in ampere"),
        (lambda: FlickerNoise(-0.1, 1.0, 10.0), "finite sigma >= 0"),
        (lambda: FlickerNoise(0.1, 0.0, 10.0), "lowest > 0"),
        (lambda: FlickerNoise(0.1, 10.0, 10.0), "lowest < highest"),
        (lambda: FlickerNoise(0.1, 1.0, 1e9, per_decade=2), "18 processes, at most 16"),
        (lambda: TelegraphNoise(float("nan"), 1.0, 1.0), "finite amplitude"),
        (lambda: TelegraphNoise(0.1, 0.0, 1.0), "capture > 0"),
        (lambda: TelegraphNoise(0.1, 1.0, 1.0, traps=17), "1 to 16 traps"),
    ],
)
def test_noise_out_of_range_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
