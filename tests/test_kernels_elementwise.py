"""Elementary functions of circuits, oscillators and nonlinearities, to the errors that their table states."""

import math

import mpmath
import numba
import numpy as np
import pytest

from hwsim.kernels import elementwise

TYPES = [np.float32, np.float64]
BOTH = pytest.mark.parametrize("dtype", TYPES)
LARGEST = {np.float32: 88.0, np.float64: 709.0}
"""Arguments up to which exp is finite."""


CONTRACTED = {flag: numba.njit(error_model="numpy", fastmath={"contract"} if flag else False) for flag in (True, False)}
"""With multiply-adds fused, as in the kernels, where the machine has them; and without."""


def in_a_loop(function, contracted):
    """The function over an array, as kernels call it."""

    @CONTRACTED[contracted]
    def over(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    def call(x):
        out = np.empty_like(x)
        over(x, out)
        return out

    return call


NAMES = ("exp", "expm1", "logistic", "softplus", "tanh", "tanh_fast")
FOUND = {
    (name, contracted): in_a_loop(getattr(elementwise, name), contracted) for name in NAMES for contracted in CONTRACTED
}
TRUTH = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "tanh": mpmath.tanh,
    "tanh_fast": mpmath.tanh,
}
ULPS = {
    "exp": (2, 2),
    "expm1": (2, 2),
    "logistic": (4, 4),
    "softplus": (4, 4),
    "tanh": (2, 4),
    "tanh_fast": (5, 4),
}
"""In float32 and in float64."""


def sincos_over(x, sine, cosine):
    for i in range(x.size):
        sine[i], cosine[i] = elementwise.sincos(x[i])


SINCOS = {contracted: decorate(sincos_over) for contracted, decorate in CONTRACTED.items()}


def exact(function, x):
    """(high, low): the value in 60 digits as a double and what that leaves over."""
    with mpmath.workdps(60):
        values = [function(mpmath.mpf(float(v))) for v in x]
        high = np.array([float(v) for v in values])
        return high, np.array([float(v - h) for v, h in zip(values, high, strict=True)])


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_exponentials_are_accurate(name, dtype):
    """Within so many units of the last place wherever the result is a normal number, near 0 and in both tails."""
    draw, most = np.random.default_rng(1), LARGEST[dtype]
    near_zero = draw.normal(size=2000) * 10 ** draw.uniform(-12, 0, 2000)
    x = np.concatenate([draw.uniform(-most, most, 4000), draw.uniform(-2, 2, 4000), near_zero]).astype(dtype)
    high, low = exact(TRUTH[name], x)
    normal = np.abs(high) >= np.finfo(dtype).tiny
    unit = np.spacing(np.abs(high[normal]).astype(dtype)).astype(np.float64)
    for contracted in CONTRACTED:
        found = FOUND[name, contracted](x).astype(np.float64)[normal]
        assert (np.abs((found - high[normal]) - low[normal]) / unit).max() <= ULPS[name][TYPES.index(dtype)]


def test_the_fast_tanh_stays_below_one_and_near_the_exact_one():
    """Everywhere, so that 1 - tanh^2 stays positive; odd; monotonic to its error."""
    x = np.concatenate([np.linspace(-12, 12, 200001), np.geomspace(1e-38, 12, 20001)]).astype(np.float32)
    found, exact = FOUND["tanh_fast", True](x), np.tanh(x.astype(np.float64))
    assert np.abs(found).max() < 1
    away = exact != 0
    assert (np.abs(found - exact)[away] / np.abs(exact[away])).max() < 3e-7
    np.testing.assert_array_equal(FOUND["tanh_fast", True](-x), -found)
    ends = FOUND["tanh_fast", True](np.array([math.nan, math.inf, -math.inf] * 20, np.float32))
    assert np.isnan(ends[0])
    assert ends[1] == -ends[2] == pytest.approx(1, abs=3e-7)


@BOTH
def test_small_exponentials_round_gradually_to_zero(dtype):
    """Below the normal numbers to one of the subnormal steps."""
    smallest = math.log(float(np.finfo(dtype).smallest_subnormal))
    x = np.linspace(math.log(float(np.finfo(dtype).tiny)), 1.1 * smallest, 500).astype(dtype)
    high, _ = exact(mpmath.exp, x)
    found = FOUND["exp", True](x)
    assert np.abs(found.astype(np.float64) - high).max() <= 1.01 * float(np.finfo(dtype).smallest_subnormal)
    assert found[-1] == 0


@BOTH
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", 0, math.inf), ("expm1", -1, None), ("logistic", 0, 1), ("softplus", 0, math.inf), ("tanh", -1, 1)],
)
def test_exponentials_keep_nan_and_end_where_they_must(name, dtype, low, high):
    x = np.array([math.nan, -math.inf, -1e30, math.inf, 1e30], dtype)
    for width in (len(x), 40 * len(x)):  # scalar remainder and vector body
        nan, *tails = FOUND[name, True](np.resize(x, width))[: len(x)]
        assert np.isnan(nan)
        assert tails[:2] == [low, low]
        if high is not None:
            assert tails[2:] == [high, high if name != "softplus" else dtype(1e30)]


@pytest.mark.parametrize(("dtype", "limit", "reach"), [(np.float32, 3e-7, 1e4), (np.float64, 1e-15, 1e6)])
def test_sine_and_cosine_are_accurate(dtype, limit, reach):
    """Over the stated range, and closest to multiples of a quarter turn, where a reduction loses most."""
    draw = np.random.default_rng(2)
    quarters = np.rint(draw.uniform(-1, 1, 3000) * reach * 2 / math.pi) * math.pi / 2
    x = np.concatenate([draw.uniform(-reach, reach, 3000), draw.uniform(-4, 4, 3000), quarters]).astype(dtype)
    sine, cosine = np.empty_like(x), np.empty_like(x)
    sines, cosines = exact(mpmath.sin, x)[0], exact(mpmath.cos, x)[0]
    for over in SINCOS.values():
        over(x, sine, cosine)
        assert np.abs(sine.astype(np.float64) - sines).max() <= limit
        assert np.abs(cosine.astype(np.float64) - cosines).max() <= limit


@BOTH
def test_sine_and_cosine_keep_nan(dtype):
    x = np.array([math.nan, math.inf, -math.inf] * 20, dtype)
    sine, cosine = np.empty_like(x), np.empty_like(x)
    SINCOS[True](x, sine, cosine)
    assert np.isnan(sine).all()
    assert np.isnan(cosine).all()


@pytest.mark.parametrize("name", [*NAMES, "sincos"])
def test_they_can_be_called_from_python(name):
    truth = (mpmath.sin, mpmath.cos) if name == "sincos" else (TRUTH[name],)
    for dtype, limit in ((np.float32, 4e-7), (np.float64, 1e-15)):
        found = np.atleast_1d(getattr(elementwise, name)(dtype(0.71875)))
        np.testing.assert_allclose(found, [float(f(mpmath.mpf("0.71875"))) for f in truth], rtol=limit)
