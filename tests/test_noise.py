"""Noise addresses: the generator, the law of the deviates, that no two addresses share one; and the elementary
functions that compiled kernels draw and settle with, against extended precision."""

import math

import mpmath
import numba
import numpy as np
import pytest
import scipy.stats

from hwsim.contracts.noise import PHYSICAL, NoisePath, PhysicalNoise, Stream, philox
from hwsim.kernels import elementwise

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PATH = NoisePath(seed=20_240_229)
DRAWS = 1_000_000

KNOWN_ANSWERS = [  # Random123, kat_vectors: philox4x32, 10 rounds
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def lanes(*ids):
    return np.array(ids, dtype=np.int64)


def flat(path=PATH, stream=Stream.THERMAL, **address):
    """1e6 deviates: 10 samples, 100 steps, 1000 units."""
    ids = address.pop("ids", np.arange(10))
    return path.normals(stream, ids, units=1000, steps=100, **address).ravel()


@pytest.fixture(scope="module")
def draws():
    return PATH.normals(Stream.THERMAL, np.arange(10), units=1000, steps=100)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, answer):
    k0, k1 = words(key)
    assert philox(np.array(words(counter), dtype=np.uint32), (k0, k1)).tolist() == words(answer)


def test_philox_works_on_arrays_of_counters():
    counters = np.array([words(counter) for counter, _, _ in KNOWN_ANSWERS[:1] * 3], dtype=np.uint32).T
    assert philox(counters, (0, 0)).tolist() == [[w] * 3 for w in words(KNOWN_ANSWERS[0][2])]


@pytest.mark.parametrize("unit", [0, 7, 8, 16, 31, 32, 77])
def test_each_unit_finds_its_words_where_the_frozen_layout_says(unit):
    path = NoisePath(seed=0xDEADBEEF, step=17, repeat=5)
    group, word, lane = unit // 32, (unit // 8) % 4, unit % 8
    counter = np.array([23, 8 * group + lane, 9, 2 << 24 | 3 << 16 | 6], dtype=np.uint32)
    block = [int(w) for w in philox(counter, (0xDEADBEEF, 17))]
    even, odd = block[word - word % 2], block[word - word % 2 + 1]
    radius = math.sqrt(-2 * math.log((even + 0.5) / 2**32))
    turn = (odd - 2**32 if odd >= 2**31 else odd) / 2**32
    expected = radius * (math.sin if word % 2 else math.cos)(2 * math.pi * turn)
    drawn = path.normals(Stream.START, lanes(9), units=100, first=23, phase=3, repeats=lanes(1))
    assert drawn.shape == (1, 1, 100)
    assert drawn[0, 0, unit] == pytest.approx(expected, abs=1e-14)


def test_some_deviates_are_what_they_have_always_been():
    """The layout is frozen: where this test fails, the change is wrong and not the test."""
    drawn = NoisePath(seed=1).normals(Stream.THERMAL, lanes(0), units=64)[0, 0]
    frozen = [0.38040073396898394, -0.29627788968647384, -0.24923342413101843, -1.003837251656572, -0.19762077525391392]
    np.testing.assert_allclose(drawn[[0, 8, 16, 24, 32]], frozen, rtol=0, atol=1e-13)


def test_moments_are_those_of_a_standard_normal(draws):
    sample = draws.ravel()
    limit = 4 / math.sqrt(sample.size)
    assert abs(sample.mean()) < limit
    assert abs(sample.var() - 1) < limit * math.sqrt(2)
    assert abs(scipy.stats.skew(sample)) < limit * math.sqrt(6)
    assert abs(scipy.stats.kurtosis(sample)) < limit * math.sqrt(24)


def test_law_is_normal_by_kolmogorov_and_smirnov(draws):
    assert scipy.stats.kstest(draws.ravel(), "norm").pvalue > 0.01


def test_every_sixteenth_of_the_law_is_hit_alike_in_every_word(draws):
    edges = scipy.stats.norm.ppf(np.arange(1, 16) / 16)
    for word in range(4):
        units = np.flatnonzero((np.arange(1000) // 8) % 4 == word)
        counts = np.bincount(np.searchsorted(edges, draws[:, :, units].ravel()), minlength=16)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("lag", [1, 2, 3, 10])
def test_noise_is_white_in_time_and_across_units_and_samples(draws, lag):
    for axis in range(3):
        early = np.take(draws, range(draws.shape[axis] - lag), axis) if lag < draws.shape[axis] else None
        if early is not None:
            late = np.take(draws, range(lag, draws.shape[axis]), axis)
            assert abs((early * late).mean()) < 4 / math.sqrt(early.size)


@pytest.mark.parametrize("offset", [8, 16, 24, 32])
def test_units_that_share_a_block_are_independent_beyond_correlation(draws, offset):
    """Box-Muller pairs share a radius: squares and signs must not show it."""
    left, right = draws[:, :, :-offset], draws[:, :, offset:]
    limit = 4 / math.sqrt(left.size)
    assert abs((left * right).mean()) < limit
    assert abs(((left**2 - 1) * (right**2 - 1)).mean()) < 2 * limit
    assert abs((np.abs(left) * right).mean()) < limit


OTHER_ADDRESSES = {
    "seed": lambda: flat(NoisePath(seed=PATH.seed + 1)),
    "experiment step": lambda: flat(PATH.at_step(1)),
    "repeat": lambda: flat(PATH.repeated(1)),
    "branch": lambda: flat(PATH.branch(1)),
    "repeat of a lane": lambda: flat(repeats=np.full(10, 3)),
    "stream": lambda: flat(stream=Stream.READ),
    "phase": lambda: flat(phase=1),
    "sample id": lambda: flat(ids=np.arange(10) + 10),
    "time": lambda: flat(first=100),
    "seed and step exchanged": lambda: flat(NoisePath(seed=0, step=PATH.seed)),
}


@pytest.mark.parametrize("axis", OTHER_ADDRESSES)
def test_another_address_is_independent_noise(draws, axis):
    other = OTHER_ADDRESSES[axis]()
    limit = 4 / math.sqrt(DRAWS)
    assert abs((draws.ravel() * other).mean()) < limit
    assert abs(((draws.ravel() ** 2 - 1) * (other**2 - 1)).mean()) < 2 * limit


def test_the_same_address_is_the_same_deviate_in_any_batch_order_and_window():
    all_of_them = PATH.normals(Stream.READ, np.arange(6), units=70, steps=5, phase=2)
    some = PATH.normals(Stream.READ, lanes(4, 1), units=33, steps=2, first=3, phase=2)
    np.testing.assert_array_equal(some, all_of_them[3:, [4, 1], :33])


def test_twins_share_noise_and_repeats_do_not():
    shared = PATH.normals(Stream.THERMAL, lanes(5, 5), units=16)
    np.testing.assert_array_equal(shared[:, 0], shared[:, 1])
    apart = PATH.normals(Stream.THERMAL, lanes(5, 5), units=16, repeats=lanes(0, 1))
    np.testing.assert_array_equal(apart[:, 1], PATH.repeated(1).normals(Stream.THERMAL, lanes(5), units=16)[:, 0])
    assert not np.any(apart[:, 0] == apart[:, 1])


@pytest.mark.parametrize("m", [2, 3, 8])
def test_coarse_increments_are_sums_of_fine_ones(m):
    fine = PATH.normals(Stream.THERMAL, lanes(3, 8), units=40, steps=6 * m)
    summed = fine.reshape(6, m, 2, 40).sum(axis=1) / math.sqrt(m)
    coarse = PATH.coarsen(m).normals(Stream.THERMAL, lanes(3, 8), units=40, steps=4, first=2)
    np.testing.assert_allclose(coarse, summed[2:], rtol=0, atol=1e-14)


def test_coarsening_twice_is_coarsening_by_the_product():
    assert PATH.coarsen(2).coarsen(3) == PATH.coarsen(6)


def test_a_path_is_a_value_that_drawing_does_not_change():
    path = NoisePath(seed=3, step=4, repeat=5)
    first = path.normals(Stream.PROBE, lanes(1), units=8)
    np.testing.assert_array_equal(path.normals(Stream.PROBE, lanes(1), units=8), first)
    assert path == NoisePath(seed=3, step=4, repeat=5)
    assert path.at_step(9) == NoisePath(seed=3, step=9, repeat=5)
    assert path.branch(2) == NoisePath(seed=3, step=4, repeat=5 + 512)


def test_streams_have_frozen_numbers():
    small = {"THERMAL": 0, "READ": 1, "START": 2, "PROBE": 3, "PROGRAM": 4, "FIXED": 5, "CELL": 6, "UPDATE": 7}
    assert {stream.name: int(stream) for stream in Stream} == small | {"PROCESS": 16, "READOUT": 128}
    assert PHYSICAL is PhysicalNoise.PHYSICAL


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": -1},
        {"seed": 1 << 32},
        {"seed": 0, "step": 1 << 32},
        {"seed": 0, "repeat": 1 << 16},
        {"seed": 0, "coarse": 0},
    ],
)
def test_a_path_out_of_range_is_refused(fields):
    with pytest.raises(ValueError, match="noise"):
        NoisePath(**fields)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"stream": 256}, "stream = 256"),
        ({"phase": 256}, "phase = 256"),
        ({"phase": -1}, "phase = -1"),
        ({"sample_ids": lanes(1 << 32)}, "sample id = 4294967296"),
        ({"sample_ids": lanes(-1)}, "sample id = -1"),
        ({"repeats": lanes(1 << 16)}, "repeat of a lane = 65536"),
        ({"first": 1 << 32}, "time step = 4294967296"),
        ({"first": (1 << 32) - 1, "steps": 2}, "time step = 4294967296"),
    ],
)
def test_an_address_out_of_range_is_refused_with_the_limit(asked, found):
    address = {"stream": Stream.THERMAL, "sample_ids": lanes(0), "units": 1} | asked
    with pytest.raises(ValueError, match=f"{found}; it must be at least 0 and below"):
        PATH.normals(**address)


def test_branching_too_far_is_refused():
    with pytest.raises(ValueError, match="repeat = 65536"):
        PATH.branch(256)


# --- elementary functions ------------------------------------------------------------------------------------------


@numba.njit
def map_tanh(x, out):
    for i in range(x.size):
        out[i] = elementwise.tanh(x[i])


@numba.njit
def map_log(x, out):
    for i in range(x.size):
        out[i] = elementwise.log(x[i])


@numba.njit
def map_sincos(x, sine, cosine):
    for i in range(x.size):
        sine[i], cosine[i] = elementwise.sincos_turns(x[i])


def ulps(found, x, function):
    """Largest error in units of the last place; the truth from extended precision, or mpmath where that is missing."""
    if np.finfo(np.longdouble).eps < np.finfo(found.dtype).eps:
        exact = function(x.astype(np.longdouble))
    else:
        x, found = x[::1000], found[::1000]
        exact = np.array([float(getattr(mpmath, function.__name__)(mpmath.mpf(float(v)))) for v in x])
    return float(np.max(np.abs(found - exact) / np.spacing(np.abs(exact).astype(found.dtype))))


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2), (np.float64, 4)])
def test_tanh_is_accurate(dtype, limit):
    draw = np.random.default_rng(5)
    x = np.concatenate(
        [np.linspace(-22, 22, 400_001), draw.uniform(-1, 1, 400_000), 10 ** draw.uniform(-30, 1, 200_000)]
    )
    x = x.astype(dtype)
    found = np.empty_like(x)
    map_tanh(x, found)
    assert ulps(found, x, np.tanh) <= limit
    assert np.abs(found).max() <= 1


@BOTH
def test_tanh_keeps_nan_infinity_and_the_sign_of_zero(dtype):
    x = np.array([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e30, -1e30, 1e-38, -1e-38], dtype)
    for width in (1, len(x), 40 * len(x)):  # scalar remainder and vector body
        long = np.resize(x, width)
        found = np.empty_like(long)
        map_tanh(long, found)
        expected = np.tanh(long)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found[long == 0]), np.signbit(long[long == 0]))


@pytest.mark.parametrize(("dtype", "absolute", "span"), [(np.float32, 5e-7, 50), (np.float64, 1e-14, 1e14)])
def test_logarithm_is_accurate(dtype, absolute, span):
    draw = np.random.default_rng(6)
    x = np.concatenate([10 ** draw.uniform(-30, 30, 300_000), 1 + 1e-4 * draw.normal(size=100_000)])
    x = np.concatenate([x, draw.uniform(1 / span, 4, 300_000)]).astype(dtype)
    found = np.empty_like(x)
    map_log(x, found)
    assert ulps(found, x, np.log) <= 2
    near = (x > 1 / span) & (x < span)
    assert np.abs(found - np.log(x.astype(np.longdouble)))[near].max() <= absolute


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-7), (np.float64, 1e-15)])
def test_sine_and_cosine_of_turns_are_accurate(dtype, limit):
    x = np.concatenate([np.linspace(-0.5, 0.5, 400_001), np.arange(-4, 5) / 8]).astype(dtype)
    sine, cosine = np.empty_like(x), np.empty_like(x)
    map_sincos(x, sine, cosine)
    angle = x.astype(np.longdouble) * 2 * np.arctan2(np.longdouble(0), np.longdouble(-1))
    assert np.abs(sine - np.sin(angle)).max() <= limit
    assert np.abs(cosine - np.cos(angle)).max() <= limit


@pytest.mark.parametrize("name", ["tanh", "log", "sincos_turns"])
def test_elementary_functions_agree_with_mpmath_at_some_points(name):
    for x in (0.03125, 0.21875, 0.4375):
        point = mpmath.mpf(x)
        exact = {
            "tanh": [mpmath.tanh(point)],
            "log": [mpmath.log(point)],
            "sincos_turns": [mpmath.sin(2 * mpmath.pi * point), mpmath.cos(2 * mpmath.pi * point)],
        }[name]
        for dtype, limit in ((np.float32, 2e-7), (np.float64, 4e-16)):
            found = np.atleast_1d(getattr(elementwise, name)(dtype(x)))
            np.testing.assert_allclose(found, [float(v) for v in exact], rtol=0, atol=limit * 8)
