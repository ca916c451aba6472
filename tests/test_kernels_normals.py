"""The quality of the deviates of the compiled kernels: a seeded battery over many addresses.

Every statistic has a known law under the null hypothesis; limits lie where a good generator fails once in 1e5 or so,
and the seeds are fixed, so that what passes once passes always.
"""

import math

import numpy as np
import pytest
from scipy import stats

from hwsim.contracts.noise import NoisePath, Stream, philox
from hwsim.kernels import Noise, fill_normals

STEPS, LANES, UNITS = 64, 64, 256
COUNT = STEPS * LANES * UNITS
"""A million deviates."""
LIMIT = 4.5
"""Standard errors: once in 150 000."""


def deviates(dtype, *, seed=1, step=0, repeat=0, phase=0, first=0):
    """[steps, lanes, units] of neighbouring addresses."""
    out = np.empty((STEPS, LANES, UNITS), dtype)
    ids = np.arange(LANES, dtype=np.uint32)
    path = NoisePath(seed=seed, step=step, repeat=repeat)
    fill_normals(out, Noise(path, int(Stream.THERMAL), phase, ids, np.zeros(LANES, np.uint32), first))
    return out


@pytest.fixture(scope="module", params=[np.float32, np.float64])
def sample(request):
    return deviates(request.param).astype(np.float64)


def test_moments_are_those_of_the_normal_law(sample):
    """E x^k = (k - 1)!! for even k, 0 for odd; variance of the mean (E x^2k - (E x^k)^2) / n."""
    factorial = lambda k: math.prod(range(k - 1, 0, -2)) if k % 2 == 0 else 0  # noqa: E731
    for k in range(1, 9):
        spread = math.sqrt((factorial(2 * k) - factorial(k) ** 2) / COUNT)
        assert abs((sample**k).mean() - factorial(k)) < LIMIT * spread


def test_the_distribution_is_normal(sample):
    """Kolmogorov-Smirnov and Anderson-Darling against N(0, 1), all parameters known."""
    x = np.sort(sample.ravel())
    assert stats.kstest(x, "norm").pvalue > 1e-4
    n, index = len(x), np.arange(1, len(x) + 1)
    squared = -n - np.mean((2 * index - 1) * (stats.norm.logcdf(x) + stats.norm.logsf(x[::-1])))
    assert squared < 8.0  # p = 2e-4 of the case in which nothing is fitted


def test_tails_hold_as_many_as_they_should(sample):
    """Counts beyond k are binomial."""
    for k in (1.0, 2.0, 3.0, 4.0, 4.5):
        for tail in (sample > k, sample < -k):
            expected = COUNT * stats.norm.sf(k)
            assert abs(tail.sum() - expected) < LIMIT * math.sqrt(expected) + 1


@pytest.mark.parametrize("power", [1, 2])
def test_neighbouring_addresses_are_uncorrelated(sample, power):
    """x and x^2 of units, lanes and steps 1, 2, 7, 8, 16, 31, 32 apart (words, lanes and blocks of Philox, Box-Muller
    partners among them): a correlation of n pairs has standard error 1 / sqrt(n)."""
    x = sample**power
    x = (x - x.mean()) / x.std()
    for axis in range(3):
        for apart in (1, 2, 7, 8, 16, 24, 31, 32):
            size = x.shape[axis] - apart
            one, other = x.take(range(size), axis), x.take(range(apart, size + apart), axis)
            assert abs((one * other).mean()) < LIMIT / math.sqrt(one.size)


@pytest.mark.parametrize("power", [1, 2])
def test_other_words_of_the_address_give_independent_deviates(power):
    """Seed, experiment step, repeat and phase one apart."""
    x = deviates(np.float32).astype(np.float64) ** power
    for change in ({"seed": 2}, {"step": 1}, {"repeat": 1}, {"phase": 1}, {"first": 1 << 31}):
        y = deviates(np.float32, **change).astype(np.float64) ** power
        assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < LIMIT / math.sqrt(COUNT)


def test_pairs_fill_the_plane_evenly(sample):
    """Box-Muller partners (units 8 apart): radius and angle are uniform and independent; chi-square over 16 x 16."""
    pairs = sample.reshape(-1, 2, 8)
    x, y = pairs[:, 0].ravel(), pairs[:, 1].ravel()
    ring = np.minimum((16 * np.exp(-(x * x + y * y) / 2)).astype(int), 15)
    sector = np.minimum((16 * (np.arctan2(y, x) / math.tau + 0.5)).astype(int), 15)
    counts = np.bincount(16 * ring + sector, minlength=256)
    assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4


def test_bits_are_even():
    """Of the words behind them: each bit is one half of the time, and bytes are uniform (chi-square), over counters
    that differ in one low word each, as neighbouring addresses do."""
    for place in range(4):
        counter = np.zeros((4, 1 << 16), np.uint32)
        counter[place] = np.arange(1 << 16)
        words = philox(counter, (1, 0))
        ones = np.unpackbits(words.view(np.uint8).reshape(4, -1, 4), axis=2).mean(axis=1)
        assert (np.abs(ones - 0.5) < LIMIT * 0.5 / math.sqrt(1 << 16)).all()
        for byte in words.view(np.uint8).reshape(4, -1, 4).transpose(0, 2, 1).reshape(16, -1):
            assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > 1e-5
