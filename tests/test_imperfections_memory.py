"""Memory cells miss, drift and flicker as was measured, each from draws of its own kind."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError, RangeError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections.contract import Context, Source
from hwsim.devices.imperfections.memory import (
    ClippedLog,
    ConductancePair,
    Drift,
    PolynomialProgrammingNoise,
    ReadNoise,
    SaturatingProgrammingNoise,
    cmo_reram_programming,
    hermes_programming,
    pcm_programming,
    reram_programming,
    sonos_programming,
)

DRAWS = 200_000
US = 1e-6


def context(*, event=0, read=0, elapsed=0.0, position=0):
    return Context(
        scale=Scale(),
        fixed=Source(path=NoisePath(seed=1), stream=Stream.FIXED, position=position),
        program=Source(path=NoisePath(seed=2, step=event), stream=Stream.PROGRAM, position=position),
        read=Source(path=NoisePath(seed=3, step=read), stream=Stream.CELL, position=position),
        elapsed=elapsed,
        step_size=0.1,
    )


def check(found, *, mean, sd):
    """Mean and sd of a sample within four standard errors, its own fourth moment in that of the sd."""
    n, spread = found.size, found.std()
    kurtosis = np.mean((found - found.mean()) ** 4) / spread**4
    assert abs(found.mean() - mean) < 4 * sd / math.sqrt(n)
    assert abs(spread - sd) < 4 * sd * math.sqrt((kurtosis - 1.0) / (4 * n))


def clipped_normal(mean, sd):
    """(mean, sd) of `max(N(mean, sd^2), 0)`."""
    t = mean / sd
    below, density = math.erfc(-t / math.sqrt(2)) / 2, math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    first = mean * below + sd * density
    second = (mean**2 + sd**2) * below + mean * sd * density
    return first, math.sqrt(second - first**2)


# --- pairs -----------------------------------------------------------------------------------------------------------


@given(weights=st.lists(st.floats(-2, 2), min_size=1, max_size=9).map(np.array), g_min=st.floats(0, 0.9))
def test_a_pair_holds_its_weight(weights, g_min):
    pair = ConductancePair(w_max=2.0, g_max=1.0, g_min=g_min)
    plus, minus = pair.conductances(weights)
    for g in (plus, minus):
        assert g.min() >= pair.g_min
        assert g.max() <= pair.g_max * (1 + 1e-15)
    np.testing.assert_array_equal(np.minimum(plus, minus), pair.g_min)
    assert pair.weight(plus, minus) == pytest.approx(weights, abs=1e-14)


# --- programming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("r", "measured"), [(0.1, 0.4483), (0.5, 0.9510), (1.0, 1.0542)])
def test_phase_change_cells_miss_by_what_was_measured(r, measured):
    # A weight r w_max is g_plus - g_minus: the sd of g_plus is the law's (5 sd above 0, the clip does not show), and
    # g_minus = max(0.26348 xi, 0) uS is what the clip at 0 leaves of the noise of an empty cell.
    stage = pcm_programming(w_max=25.0)  # so that a weight is a conductance in uS
    sd = float(stage.sd(np.array([r * 25 * US]))[0]) / US
    assert sd == pytest.approx(0.26348 + 1.9650 * r - 1.1731 * r**2, rel=1e-12)
    # the number measured elsewhere with 2e5 draws of the same law
    assert abs(measured - sd) < 4 * sd / math.sqrt(2 * DRAWS)
    held, _ = stage.write("W", np.full(DRAWS, 25.0 * r), None, context())
    empty_mean, empty_sd = clipped_normal(0.0, 0.26348)
    check(held, mean=25.0 * r - empty_mean, sd=math.hypot(sd, empty_sd))


def test_the_two_cells_of_a_pair_miss_independently_and_never_below_zero():
    stage = pcm_programming(w_max=25.0)
    held, _ = stage.write("W", np.zeros(DRAWS), None, context())
    # two empty cells: a difference of two clipped normals, of which a quarter is exactly zero
    check(held, mean=0.0, sd=math.sqrt(2) * clipped_normal(0.0, 0.26348)[1])
    assert abs(np.mean(held == 0.0) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / DRAWS)


@pytest.mark.parametrize(
    ("stage", "g", "sd"),
    [
        (
            pcm_programming(1.0, g_max=50 * US),
            25.0,
            2 * (0.26348 + 1.9650 / 2 - 1.1731 / 4),
        ),  # twice the reference: twice the noise
        (reram_programming(1.0), 40.0, 0.348 + 16.030 - 43.853 + 45.393 - 16.815),
        (reram_programming(1.0), 0.0, 0.348),
        (hermes_programming(1.0, cells=1), 10.35, 0.15781817 + 2.32443916 - 2.16310839 + 0.68841818),
        (hermes_programming(1.0, cells=2), 20.7, 0.16603222 + 4.71806468 - 8.48101252 + 4.68961419),
        (cmo_reram_programming(1.0), 50.0, 0.0112185391 + 0.01129027418 * 50),
        (cmo_reram_programming(1.0, acceptance=0.2), 50.0, 0.00081107 + 0.00106879 * 50),
        (sonos_programming(1.0), 16.0, 0.1988665 * (1 - math.exp(-1600 / 176.3115))),
        (sonos_programming(1.0), 0.0, 0.0),
    ],
)
def test_families_have_their_published_sd(stage, g, sd):
    assert float(stage.sd(np.array([g * US]))[0]) / US == pytest.approx(sd, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "stage",
    [
        reram_programming(1.0),
        hermes_programming(1.0, cells=1),
        hermes_programming(1.0),
        cmo_reram_programming(1.0),
        sonos_programming(1.0),
    ],
)
def test_families_draw_with_their_sd(stage):
    w = 0.6
    held, _ = stage.write("W", np.full(DRAWS, -w), None, context())
    plus, minus = (float(g[0]) for g in stage.pair.conductances(np.array([-w])))
    parts = [clipped_normal(g, max(float(stage.sd(np.array([g]))[0]), 1e-18)) for g in (plus, minus)]
    (plus_mean, plus_sd), (minus_mean, minus_sd) = parts
    siemens = 1.0 / (stage.pair.g_max - stage.pair.g_min)
    check(held, mean=(plus_mean - minus_mean) * siemens, sd=math.hypot(plus_sd, minus_sd) * siemens)


def test_a_weight_beyond_the_cells_is_refused():
    with pytest.raises(RangeError, match=r"block W spans \[-1.2, 0.5\], outside what its cells hold \[-1, 1\]"):
        pcm_programming(1.0).write("W", np.array([0.5, -1.2]), None, context())
    assert pcm_programming(1.0, blocks=("W",)).limits("W") == (-1.0, 1.0)


def test_programming_acts_on_its_blocks_only():
    values = np.array([7.0])
    for stage in (pcm_programming(1.0, blocks=("W",)), sonos_programming(1.0, blocks=("W",))):
        assert stage.write("b", values, None, context())[0] is values
        assert stage.limits("b") is None
    pair = ConductancePair(w_max=1.0, g_max=1.0)
    for stage in (Drift(pair=pair, blocks=("W",)), ReadNoise(pair=pair, blocks=("W",))):
        assert stage.realise("b", values, context(elapsed=1.0)) is values


# --- drift -----------------------------------------------------------------------------------------------------------

PCM = ConductancePair(w_max=1.0, g_max=25 * US)


def folded(mu, s):
    """(mean, sd) of `|N(mu, s^2)|`."""
    t = mu / s
    mean = s * math.sqrt(2 / math.pi) * math.exp(-(t**2) / 2) + mu * math.erf(t / math.sqrt(2))
    return mean, math.sqrt(mu**2 + s**2 - mean**2)


@pytest.mark.parametrize("r", [0.02, 0.1, 0.5, 1.0])
def test_drift_exponents_have_their_mean_and_spread(r):
    mu = min(max(-0.0155 * math.log(r) + 0.0244, 0.049), 0.1)
    s = min(max(-0.0125 * math.log(r) - 0.0059, 0.008), 0.045)
    elapsed = 3600.0
    drifted = Drift(pair=PCM).realise("W", np.full(DRAWS, r), context(elapsed=elapsed))
    nu = -np.log(drifted / r) / math.log((elapsed + 20.0) / 20.0)
    mean, sd = folded(mu, s)
    check(nu, mean=mean, sd=sd)


def test_conductance_falls_as_a_power_of_time():
    times = np.array([1.0, 30.0, 1e3, 1e5, 1e7])
    weights = np.array([0.8, -0.3])
    paths = np.array([Drift(pair=PCM).realise("W", weights, context(elapsed=t)) for t in times])
    log_time = np.log((times + 20.0) / 20.0)
    for path, weight in zip(paths.T, weights, strict=True):
        slope, start = np.polyfit(log_time, np.log(path / weight), 1)
        assert start == pytest.approx(0.0, abs=1e-12)
        assert np.log(path / weight) == pytest.approx(slope * log_time, rel=1e-9)  # one exponent for all times
        assert -0.15 < slope < -0.02


def test_nothing_drifts_at_the_time_of_programming():
    values = np.array([0.3, -0.7])
    assert Drift(pair=PCM).realise("W", values, context()) is values


def test_compensation_restores_the_sum_of_conductances():
    weights = np.random.default_rng(1).uniform(-1, 1, (200, 100))
    at = context(elapsed=86400.0)
    plain, compensated = (Drift(pair=PCM, compensated=on).realise("W", weights, at) for on in (False, True))
    assert np.abs(plain).mean() < 0.75 * np.abs(weights).mean()
    # with g_min = 0 the sum over all cells is the sum of |w|
    assert np.abs(compensated).sum() == pytest.approx(np.abs(weights).sum(), rel=1e-12)
    factor = compensated / plain
    assert factor == pytest.approx(factor[0, 0], rel=1e-12)  # one digital number for the block


def test_the_cell_at_rest_drifts_by_itself():
    # two cells of equal conductance with exponents of their own: a weight of zero comes to something
    pair = ConductancePair(w_max=1.0, g_max=25 * US, g_min=5 * US)
    elapsed, n = 1e5, 50_000
    drifted = Drift(pair=pair).realise("W", np.zeros(n), context(elapsed=elapsed))
    mu, s = 0.0155 * math.log(5) + 0.0244, 0.0125 * math.log(5) - 0.0059
    x = math.log((elapsed + 20) / 20)
    sd = 0.25 * math.sqrt(2) * math.exp(-mu * x) * math.exp((s * x) ** 2 / 2) * math.sqrt(math.expm1((s * x) ** 2))
    check(drifted, mean=0.0, sd=sd)


# --- read noise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("r", "elapsed"), [(0.05, 0.0), (0.5, 0.0), (1.0, 0.0), (0.5, 1e6)])
def test_read_noise_has_its_sd(r, elapsed):
    q = min(0.0088 / r**0.65, 0.2)
    sd = q * math.sqrt(math.log((elapsed + 20 + 250e-9) / 500e-9))  # relative to g
    noisy = ReadNoise(pair=PCM).realise("W", np.full(DRAWS, r), context(elapsed=elapsed))
    mean, spread = clipped_normal(r, r * sd)
    check(noisy, mean=mean, sd=spread)
    assert float(ReadNoise(pair=PCM).sd(np.array([r * PCM.g_max]), elapsed)[0]) == pytest.approx(sd * r * PCM.g_max)


def test_an_empty_cell_is_silent_and_one_at_rest_is_not():
    silent = ReadNoise(pair=PCM).realise("W", np.zeros(5), context())
    np.testing.assert_array_equal(silent, 0.0)
    pair = ConductancePair(w_max=1.0, g_max=25 * US, g_min=12.5 * US)
    noisy = ReadNoise(pair=pair).realise("W", np.zeros(DRAWS), context())
    sd = 0.0088 / 0.5**0.65 * math.sqrt(math.log((20 + 250e-9) / 500e-9))
    check(noisy, mean=0.0, sd=math.sqrt(2) * sd)  # both cells at half of g_max, over a range of half g_max


# --- addresses -------------------------------------------------------------------------------------------------------


def test_each_imperfection_draws_when_it_should():
    w = np.linspace(0.1, 0.9, 30)
    drift, flicker, program = Drift(pair=PCM), ReadNoise(pair=PCM), pcm_programming(1.0)

    def drawn(**told):
        at = context(**{"elapsed": 100.0, **told})
        return [drift.realise("W", w, at), flicker.realise("W", w, at), program.write("W", w, None, at)[0]]

    first = drawn()
    for told, changed in (
        ({}, ()),
        ({"event": 1}, (0, 2)),  # drift and programming are drawn at every programming
        ({"read": 1}, (1,)),  # flicker at every read
        ({"position": 1}, (0, 1, 2)),
    ):
        for k, (one, other) in enumerate(zip(first, drawn(**told), strict=True)):
            assert np.array_equal(one, other) == (k not in changed)
            if k in changed:
                assert not np.any(one == other)
    die = replace(context(elapsed=100.0), fixed=Source(path=NoisePath(seed=9), stream=Stream.FIXED, position=0))
    np.testing.assert_array_equal(drift.realise("W", w, die), first[0])
    assert not np.any(drift.realise("U", w, context(elapsed=100.0)) == first[0])


# --- what is refused and said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ConductancePair(w_max=0.0, g_max=1.0), "w_max > 0"),
        (lambda: ConductancePair(w_max=1.0, g_max=1.0, g_min=1.0), "0 <= g_min < g_max"),
        (lambda: PolynomialProgrammingNoise(pair=PCM, coefficients=()), "finite coefficients"),
        (lambda: PolynomialProgrammingNoise(pair=PCM, coefficients=(1.0,), reference=0.0), "reference conductance"),
        (lambda: SaturatingProgrammingNoise(pair=PCM, amplitude=0.0, knee=1.0), "A > 0 and B > 0"),
        (lambda: cmo_reram_programming(1.0, acceptance=0.02), "measured at acceptance 0.2 and 2 per cent"),
        (lambda: hermes_programming(1.0, cells=3), "1 or 2 cells; asked for 3"),
        (lambda: Drift(pair=PCM, t0=0.0), "t0 > 0 s"),
        (lambda: ReadNoise(pair=PCM, q=-1.0), "needs q > 0"),
        (lambda: ReadNoise(pair=PCM, t_read=30.0), "must be shorter than"),
    ],
)
def test_cells_refuse_what_makes_no_sense(make, match):
    with pytest.raises(InputError, match=match):
        make()


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (pcm_programming(2.0), "sd 953 nS at half and 1.06 uS at full conductance, w_max = 2 on 0 S to 25 uS"),
        (sonos_programming(1.0), "w_max = 1 on 0 S to 16 uS"),
        (Drift(pair=PCM, compensated=True), "exponent 0.049 +- 0.008 at half conductance after 20 s, globally"),
        (ReadNoise(pair=PCM), "sd 920 nS at full conductance"),
    ],
)
def test_descriptions_are_one_line_in_physical_units(one, expected):
    line = one.describe(Scale())
    assert expected in line
    assert "\n" not in line


def test_a_clipped_logarithm_is_finite_for_an_empty_cell():
    law = ClippedLog(a=-0.0155, b=0.0244, low=0.049, high=0.1)
    np.testing.assert_array_equal(law(np.array([0.0, 1.0])), [0.1, 0.049])
