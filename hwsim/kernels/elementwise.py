"""Elementary functions that LLVM can vectorise: tanh, exponential and its kin, logarithm, sine and cosine.

Numba's wheels come without a vector mathematics library, so that a call of `math.tanh` is one scalar call of libm per
element.  These are straight-line polynomials without branches or calls, for float32 and float64 scalars inside a loop.

| function | argument | largest error, float32 | float64 |
|---|---|---|---|
| `tanh(x)` | any; NaN stays NaN, infinities give -1 and 1 | 2 ulp | 4 ulp |
| `tanh_fast(x)` | as `tanh`, but 2.4e-7 short of -1 and 1 | 5 ulp, 3e-7 relative | as `tanh` |
| `exp(x)` | any; below and above the range of the type 0 and infinity | 2 ulp | 2 ulp |
| `expm1(x)` = exp(x) - 1 | up to 88 (float32), 709 (not checked) | 2 ulp | 2 ulp |
| `logistic(x)` = 1 / (1 + exp(-x)) | any | 4 ulp | 4 ulp |
| `softplus(x)` = log(1 + exp(x)) | any | 4 ulp | 4 ulp |
| `log(x)` | positive and normal (not checked) | 2 ulp, 5e-7 for 1/50 < x < 50 | 2 ulp, 1e-14 for 1e-14 < x < 1e14 |
| `sincos_turns(x)` | signed turns, -1/2 <= x <= 1/2 | 2e-7 | 1e-15 |
| `rational_tanh(x)`, `rational_slope(x)` | any | as `hwsim.substrates.RationalTanh` | alike |
| `sincos(x)` | radians, abs(x) < 1e4 (float32), 1e6 (float64) | 3e-7 | 1e-15 |

NaN stays NaN.  Outside its range `sincos` loses accuracy as the argument itself does.

Coefficients are those of the power series unless a comment says otherwise.  Multiply-adds may be fused (LLVM's flag
`contract`) and nothing else may change: the rounding trick below needs `(x + c) - c` to survive.
"""

import math
from collections.abc import Callable

import numpy as np
from numba import types
from numba.extending import overload

from ._compile import Scalar, kernel

# Adding 1.5 * 2^23 (or 2^52) leaves the nearest integer in the low bits of the sum: no call, and no conversion of a
# NaN to an integer, which LLVM leaves undefined.
_SHIFT_F, _SHIFT_D = np.float32(1.5 * 2**23), np.float64(1.5 * 2**52)
_SHIFT_BITS_F, _SHIFT_BITS_D = np.int32(0x4B400000), np.int64(0x4338000000000000)
_BIAS_F, _BIAS_D = np.int32(127), np.int64(1023)
_1I, _1L = np.int32(1), np.int64(1)
_MANTISSA_F, _MANTISSA_D = np.int32(23), np.int64(52)  # bits
_ROOT_HALF_F, _ROOT_HALF_D = np.int32(0x3F3504F3), np.int64(0x3FE6A09E667F3BCD)  # bits of sqrt(1/2)

_1F, _2F, _4F = np.float32(1), np.float32(2), np.float32(4)
_1D, _2D, _4D = 1.0, 2.0, 4.0
_QUARTER_F, _QUARTER_D = np.float32(0.25), 0.25

_0F, _0D = np.float32(0), 0.0
_HALF_F, _HALF_D = np.float32(0.5), 0.5

_LOG2E_F, _LOG2E_D = np.float32(1 / math.log(2)), np.float64(1 / math.log(2))
# ln 2 in two parts, the first with enough zero bits that its product with an exponent is exact (Cody and Waite, 1980)
_LN2_HIGH_F, _LN2_LOW_F = np.float32(0.693359375), np.float32(-2.1219444005469058e-4)
_LN2_HIGH_D, _LN2_LOW_D = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")

_EXP_LOW_F, _EXP_HIGH_F = np.float32(-104), np.float32(89)  # beyond, exp rounds to 0 or overflows
_EXP_LOW_D, _EXP_HIGH_D = np.float64(-746), np.float64(710)
_FLAT_F, _FLAT_D = np.float32(-18), np.float64(-40)  # below, exp(x) - 1 rounds to -1
_ROOT2_F, _ROOT2_D = np.float32(math.sqrt(2) - 1), math.sqrt(2) - 1
# a quarter turn in three parts, the first two short, so that their products with a count of quarter turns are exact
_QUARTERS_F, _QUARTERS_D = np.float32(2 / math.pi), 2 / math.pi
_PIO2_F = tuple(np.float32(v) for v in (1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8))
_PIO2_D = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_TURNS_F, _TURNS_D = np.float32(1 / math.tau), 1 / math.tau

_EXP_F = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
_EXP_D = tuple(1 / math.factorial(n) for n in range(14))
_ATANH_F = tuple(np.float32(2 / (2 * n + 1)) for n in range(5))
_ATANH_D = tuple(2 / (2 * n + 1) for n in range(11))
_SIN_F = tuple(np.float32((-1) ** n * math.tau ** (2 * n + 1) / math.factorial(2 * n + 1)) for n in range(5))
_COS_F = tuple(np.float32((-1) ** n * math.tau ** (2 * n) / math.factorial(2 * n)) for n in range(6))
_SIN_D = tuple((-1) ** n * math.tau ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(9))
_COS_D = tuple((-1) ** n * math.tau ** (2 * n) / math.factorial(2 * n) for n in range(10))

_TANH_FLAT_F, _TANH_FLAT_D = np.float32(9.1), np.float64(19.1)  # beyond, tanh rounds to 1
_TANH_SMALL_F = np.float32(0.55)
# (tanh(x) - x) / x^3 in powers of x^2 for abs(x) < 0.55, least largest relative error 1e-9 (weighted least squares)
_TANH_F = tuple(np.float32(v) for v in (-0.3333331756, 0.1333258614, -0.05385230996, 0.02107167928, -0.006274239857))
_FAST_FLAT_F = np.float32(7.90531110763549805)
# times 2^8, so that the products of a small x do not underflow
_FAST_P = (4.89352455891786e-3, 6.37261928875436e-4, 1.48572235717979e-5, 5.12229709037114e-8)
_FAST_P_F = tuple(
    np.float32(256 * v) for v in (*_FAST_P, -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16)
)
_FAST_Q_F = tuple(
    np.float32(256 * v) for v in (4.89352518554385e-3, 2.26843463243900e-3, 1.18534705686654e-4, 1.19825839466702e-6)
)

# the tanh of board firmware, and its slope: numerator, denominator and their derivatives in powers of x^2
_FLAT_R_F, _FLAT_R_D = np.float32(4.97), 4.97
_P_D, _Q_D = (135135.0, 17325.0, 378.0), (135135.0, 62370.0, 3150.0, 28.0)
_DP_D, _DQ_D = (135135.0, 51975.0, 1890.0, 7.0), (124740.0, 12600.0, 168.0)
_P_F, _Q_F = tuple(np.float32(v) for v in _P_D), tuple(np.float32(v) for v in _Q_D)
_DP_F, _DQ_F = tuple(np.float32(v) for v in _DP_D), tuple(np.float32(v) for v in _DQ_D)


@kernel(inline=True)
def _exponential32(x: Scalar) -> tuple[Scalar, Scalar]:
    """(n, t) with `exp(x) = 2^n (1 + t)`, n an int32 and t small, of a float32 below 2^21 in size."""
    shifted = x * _LOG2E_F + _SHIFT_F
    whole = shifted - _SHIFT_F
    rest = (x - whole * _LN2_HIGH_F) - whole * _LN2_LOW_F
    series = _EXP_F[7]
    for n in (6, 5, 4, 3, 2):
        series = series * rest + _EXP_F[n]
    return np.int32(np.float32(shifted).view(np.int32) - _SHIFT_BITS_F), series * (rest * rest) + rest


@kernel(inline=True)
def _exponential64(x: Scalar) -> tuple[Scalar, Scalar]:
    """(n, t) with `exp(x) = 2^n (1 + t)` of a float64, as `_exponential32`."""
    shifted = x * _LOG2E_D + _SHIFT_D
    whole = shifted - _SHIFT_D
    rest = (x - whole * _LN2_HIGH_D) - whole * _LN2_LOW_D
    series = _EXP_D[13]
    for n in (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2):
        series = series * rest + _EXP_D[n]
    return np.int64(np.float64(shifted).view(np.int64) - _SHIFT_BITS_D), series * (rest * rest) + rest


@kernel(inline=True)
def _power32(exponent: Scalar) -> Scalar:
    """2^exponent of an int32 from -126 to 127."""
    return np.int32(np.int32(exponent + _BIAS_F) << _MANTISSA_F).view(np.float32)


@kernel(inline=True)
def _power64(exponent: Scalar) -> Scalar:
    """2^exponent of an int64 from -1022 to 1023."""
    return np.int64((exponent + _BIAS_D) << _MANTISSA_D).view(np.float64)


@kernel(inline=True)
def tanh32(x: Scalar) -> Scalar:
    """tanh of a float32: an odd polynomial below 0.55, else `1 - 2 / (exp(2 abs(x)) + 1)`.  About 0.5 ns."""
    size = abs(x)
    size = _TANH_FLAT_F if size > _TANH_FLAT_F else size  # in this order a NaN stays
    square = size * size
    small = _TANH_F[4]
    for n in (3, 2, 1, 0):
        small = small * square + _TANH_F[n]
    small = small * (square * size) + size
    exponent, series = _exponential32(size + size)
    scale = _power32(exponent)
    large = _1F - _2F / (scale * series + scale + _1F)
    return math.copysign(small if size < _TANH_SMALL_F else large, x)


@kernel(inline=True)
def tanh_fast32(x: Scalar) -> Scalar:
    """tanh of a float32 within 5 ulp (3e-7 of itself), in half the time of `tanh32`: `x P(x^2) / Q(x^2)`.

    From abs(x) = 7.9 on it stays at 1 - 2.4e-7: never 1, so that 1 - tanh^2 stays positive.

    Source: the coefficients are those of Eigen, `ptanh_float` (Eigen/src/Core/MathFunctionsImpl.h).
    """
    x = _FAST_FLAT_F if x > _FAST_FLAT_F else x  # in this order a NaN stays
    x = -_FAST_FLAT_F if x < -_FAST_FLAT_F else x
    square = x * x
    above, below = _FAST_P_F[6], _FAST_Q_F[3]
    for n in (5, 4, 3, 2, 1, 0):
        above = above * square + _FAST_P_F[n]
    for n in (2, 1, 0):
        below = below * square + _FAST_Q_F[n]
    return x * above / below


@kernel(inline=True)
def tanh64(x: Scalar) -> Scalar:
    """tanh of a float64: `t / (t + 2)` with `t = exp(2 abs(x)) - 1`.  About 2 ns."""
    size = abs(x)
    size = _TANH_FLAT_D if size > _TANH_FLAT_D else size
    exponent, series = _exponential64(size + size)
    scale = _power64(exponent)
    t = scale * series + (scale - _1D)
    return math.copysign(t / (t + _2D), x)


@kernel(inline=True)
def rational_tanh32(x: Scalar) -> Scalar:
    """The firmware's tanh of a float32, operation by operation."""
    x = _FLAT_R_F if x > _FLAT_R_F else x
    x = -_FLAT_R_F if x < -_FLAT_R_F else x
    s = x * x
    return x * (_P_F[0] + s * (_P_F[1] + s * (_P_F[2] + s))) / (_Q_F[0] + s * (_Q_F[1] + s * (_Q_F[2] + s * _Q_F[3])))


@kernel(inline=True)
def rational_tanh64(x: Scalar) -> Scalar:
    """The firmware's tanh of a float64."""
    x = _FLAT_R_D if x > _FLAT_R_D else x
    x = -_FLAT_R_D if x < -_FLAT_R_D else x
    s = x * x
    return x * (_P_D[0] + s * (_P_D[1] + s * (_P_D[2] + s))) / (_Q_D[0] + s * (_Q_D[1] + s * (_Q_D[2] + s * _Q_D[3])))


@kernel(inline=True)
def rational_slope32(x: Scalar) -> Scalar:
    """The slope of `rational_tanh32`, 0 where x is held."""
    s = x * x
    q = _Q_F[0] + s * (_Q_F[1] + s * (_Q_F[2] + s * _Q_F[3]))
    rate = x * (_P_F[0] + s * (_P_F[1] + s * (_P_F[2] + s))) / q
    rise = _DP_F[0] + s * (_DP_F[1] + s * (_DP_F[2] + s * _DP_F[3]))
    return _0F if abs(x) > _FLAT_R_F else (rise - rate * (x * (_DQ_F[0] + s * (_DQ_F[1] + s * _DQ_F[2])))) / q


@kernel(inline=True)
def rational_slope64(x: Scalar) -> Scalar:
    """The slope of `rational_tanh64`, 0 where x is held."""
    s = x * x
    q = _Q_D[0] + s * (_Q_D[1] + s * (_Q_D[2] + s * _Q_D[3]))
    rate = x * (_P_D[0] + s * (_P_D[1] + s * (_P_D[2] + s))) / q
    rise = _DP_D[0] + s * (_DP_D[1] + s * (_DP_D[2] + s * _DP_D[3]))
    return _0D if abs(x) > _FLAT_R_D else (rise - rate * (x * (_DQ_D[0] + s * (_DQ_D[1] + s * _DQ_D[2])))) / q


@kernel(inline=True)
def exp32(x: Scalar) -> Scalar:
    """Exponential of a float32.  Two factors make the power of two, so that small results round gradually."""
    x = _EXP_LOW_F if x < _EXP_LOW_F else x
    x = _EXP_HIGH_F if x > _EXP_HIGH_F else x
    exponent, series = _exponential32(x)
    half = np.int32(exponent >> _1I)
    scale = _power32(half)
    return (scale * series + scale) * _power32(np.int32(exponent - half))


@kernel(inline=True)
def exp64(x: Scalar) -> Scalar:
    """Exponential of a float64, as `exp32`."""
    x = _EXP_LOW_D if x < _EXP_LOW_D else x
    x = _EXP_HIGH_D if x > _EXP_HIGH_D else x
    exponent, series = _exponential64(x)
    half = exponent >> _1L
    scale = _power64(half)
    return (scale * series + scale) * _power64(exponent - half)


@kernel(inline=True)
def expm1_32(x: Scalar) -> Scalar:
    """`exp(x) - 1` of a float32 up to 88, -1 from -18 down."""
    x = _FLAT_F if x < _FLAT_F else x
    exponent, series = _exponential32(x)
    scale = _power32(exponent)
    return scale * series + (scale - _1F)


@kernel(inline=True)
def expm1_64(x: Scalar) -> Scalar:
    """`exp(x) - 1` of a float64 up to 709, -1 from -40 down."""
    x = _FLAT_D if x < _FLAT_D else x
    exponent, series = _exponential64(x)
    scale = _power64(exponent)
    return scale * series + (scale - _1D)


@kernel(inline=True)
def logistic32(x: Scalar) -> Scalar:
    """`1 / (1 + exp(-x))` of a float32, from exp(-abs(x)), which does not overflow."""
    small = exp32(-abs(x))
    return (small if x < _0F else _1F) / (_1F + small)


@kernel(inline=True)
def logistic64(x: Scalar) -> Scalar:
    """`1 / (1 + exp(-x))` of a float64, as `logistic32`."""
    small = exp64(-abs(x))
    return (small if x < _0D else _1D) / (_1D + small)


@kernel(inline=True)
def softplus32(x: Scalar) -> Scalar:
    """`log(1 + exp(x)) = max(x, 0) + log(1 + u)` of a float32, u = exp(-abs(x)); above sqrt(2), 1 + u is halved."""
    u = exp32(-abs(x))
    high = u > _ROOT2_F
    return (x if x > _0F else _0F) + log_scaled32(_1F if high else _0F, _HALF_F * (u - _1F) if high else u)


@kernel(inline=True)
def softplus64(x: Scalar) -> Scalar:
    """`log(1 + exp(x))` of a float64, as `softplus32`."""
    u = exp64(-abs(x))
    high = u > _ROOT2_D
    return (x if x > _0D else _0D) + log_scaled64(_1D if high else _0D, _HALF_D * (u - _1D) if high else u)


@kernel(inline=True)
def log_scaled32(exponent: Scalar, excess: Scalar) -> Scalar:
    """`exponent ln 2 + ln(1 + excess)` in float32, for a whole exponent and -0.3 < excess < 0.42.

    With `s = excess / (2 + excess)`, `ln(1 + excess) = 2 s + 2 s^3 / 3 + ...`: full relative accuracy near 0.
    """
    s = excess / (_2F + excess)
    square = s * s
    series = _ATANH_F[4]
    for n in (3, 2, 1):
        series = series * square + _ATANH_F[n]
    return exponent * _LN2_HIGH_F + (exponent * _LN2_LOW_F + (series * square * s + (s + s)))


@kernel(inline=True)
def log_scaled64(exponent: Scalar, excess: Scalar) -> Scalar:
    """`exponent ln 2 + ln(1 + excess)` in float64, as `log_scaled32`."""
    s = excess / (_2D + excess)
    square = s * s
    series = _ATANH_D[10]
    for n in (9, 8, 7, 6, 5, 4, 3, 2, 1):
        series = series * square + _ATANH_D[n]
    return exponent * _LN2_HIGH_D + (exponent * _LN2_LOW_D + (series * square * s + (s + s)))


@kernel(inline=True)
def log32(x: Scalar) -> Scalar:
    """Natural logarithm of a positive, normal float32."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF_F) >> _MANTISSA_F)
    mantissa = np.int32(bits - np.int32(exponent << _MANTISSA_F)).view(np.float32)  # in [sqrt(1/2), sqrt(2))
    return log_scaled32(np.float32(exponent), mantissa - _1F)


@kernel(inline=True)
def log64(x: Scalar) -> Scalar:
    """Natural logarithm of a positive, normal float64, as `log32`."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _ROOT_HALF_D) >> _MANTISSA_D
    mantissa = np.int64(bits - (exponent << _MANTISSA_D)).view(np.float64)
    return log_scaled64(np.float64(exponent), mantissa - _1D)


@kernel(inline=True)
def sincos_turns32(x: Scalar) -> tuple[Scalar, Scalar]:
    """(sin(2 pi x), cos(2 pi x)) of a float32, -1/2 <= x <= 1/2, by series over an eighth of a turn."""
    shifted = _4F * x + _SHIFT_F
    quarter = np.float32(shifted).view(np.int32)  # its low bits count quarter turns
    rest = x - (shifted - _SHIFT_F) * _QUARTER_F  # exact
    return _by_quarter32(quarter, rest)


@kernel(inline=True)
def _by_quarter32(quarter: Scalar, rest: Scalar) -> tuple[Scalar, Scalar]:
    """(sin, cos) of `quarter / 4 + rest` turns, abs(rest) <= 1/8.  Only the two lowest bits of `quarter` matter."""
    square = rest * rest
    sine = _SIN_F[4]
    for n in (3, 2, 1, 0):
        sine = sine * square + _SIN_F[n]
    sine = sine * rest
    cosine = _COS_F[5]
    for n in (4, 3, 2, 1, 0):
        cosine = cosine * square + _COS_F[n]
    odd = (quarter & np.int32(1)) != np.int32(0)
    first, second = (cosine, sine) if odd else (sine, cosine)
    first = -first if (quarter & np.int32(2)) != np.int32(0) else first
    second = -second if ((quarter + np.int32(1)) & np.int32(2)) != np.int32(0) else second
    return first, second


@kernel(inline=True)
def sincos_turns64(x: Scalar) -> tuple[Scalar, Scalar]:
    """(sin(2 pi x), cos(2 pi x)) of a float64, as `sincos_turns32`."""
    shifted = _4D * x + _SHIFT_D
    quarter = np.float64(shifted).view(np.int64)
    rest = x - (shifted - _SHIFT_D) * _QUARTER_D
    return _by_quarter64(quarter, rest)


@kernel(inline=True)
def _by_quarter64(quarter: Scalar, rest: Scalar) -> tuple[Scalar, Scalar]:
    """(sin, cos) of `quarter / 4 + rest` turns, abs(rest) <= 1/8.  Only the two lowest bits of `quarter` matter."""
    square = rest * rest
    sine = _SIN_D[8]
    for n in (7, 6, 5, 4, 3, 2, 1, 0):
        sine = sine * square + _SIN_D[n]
    sine = sine * rest
    cosine = _COS_D[9]
    for n in (8, 7, 6, 5, 4, 3, 2, 1, 0):
        cosine = cosine * square + _COS_D[n]
    odd = (quarter & np.int64(1)) != np.int64(0)
    first, second = (cosine, sine) if odd else (sine, cosine)
    first = -first if (quarter & np.int64(2)) != np.int64(0) else first
    second = -second if ((quarter + np.int64(1)) & np.int64(2)) != np.int64(0) else second
    return first, second


@kernel(inline=True)
def sincos32(x: Scalar) -> tuple[Scalar, Scalar]:
    """(sin x, cos x) of a float32 in radians, less the nearest whole number of quarter turns."""
    shifted = x * _QUARTERS_F + _SHIFT_F
    whole = shifted - _SHIFT_F
    rest = ((x - whole * _PIO2_F[0]) - whole * _PIO2_F[1]) - whole * _PIO2_F[2]
    return _by_quarter32(np.float32(shifted).view(np.int32), rest * _TURNS_F)


@kernel(inline=True)
def sincos64(x: Scalar) -> tuple[Scalar, Scalar]:
    """(sin x, cos x) of a float64 in radians, as `sincos32`."""
    shifted = x * _QUARTERS_D + _SHIFT_D
    whole = shifted - _SHIFT_D
    rest = ((x - whole * _PIO2_D[0]) - whole * _PIO2_D[1]) - whole * _PIO2_D[2]
    return _by_quarter64(np.float64(shifted).view(np.int64), rest * _TURNS_D)


def tanh(x: Scalar) -> Scalar:
    """tanh of a float32 or float64."""
    return tanh32(x) if isinstance(x, np.float32) else tanh64(x)


def tanh_fast(x: Scalar) -> Scalar:
    """tanh of a float32 within 5 ulp, or of a float64 as `tanh`."""
    return tanh_fast32(x) if isinstance(x, np.float32) else tanh64(x)


def rational_tanh(x: Scalar) -> Scalar:
    """The firmware's tanh of a float32 or float64."""
    return rational_tanh32(x) if isinstance(x, np.float32) else rational_tanh64(x)


def rational_slope(x: Scalar) -> Scalar:
    """Its slope."""
    return rational_slope32(x) if isinstance(x, np.float32) else rational_slope64(x)


def exp(x: Scalar) -> Scalar:
    """Exponential of a float32 or float64."""
    return exp32(x) if isinstance(x, np.float32) else exp64(x)


def expm1(x: Scalar) -> Scalar:
    """`exp(x) - 1` of a float32 up to 88 or float64 up to 709."""
    return expm1_32(x) if isinstance(x, np.float32) else expm1_64(x)


def logistic(x: Scalar) -> Scalar:
    """`1 / (1 + exp(-x))` of a float32 or float64."""
    return logistic32(x) if isinstance(x, np.float32) else logistic64(x)


def softplus(x: Scalar) -> Scalar:
    """`log(1 + exp(x))` of a float32 or float64."""
    return softplus32(x) if isinstance(x, np.float32) else softplus64(x)


def log(x: Scalar) -> Scalar:
    """Natural logarithm of a positive, normal float32 or float64."""
    return log32(x) if isinstance(x, np.float32) else log64(x)


def sincos_turns(x: Scalar) -> tuple[Scalar, Scalar]:
    """(sin(2 pi x), cos(2 pi x)) of a float32 or float64, -1/2 <= x <= 1/2."""
    return sincos_turns32(x) if isinstance(x, np.float32) else sincos_turns64(x)


def sincos(x: Scalar) -> tuple[Scalar, Scalar]:
    """(sin x, cos x) of a float32 or float64 in radians."""
    return sincos32(x) if isinstance(x, np.float32) else sincos64(x)


def _by_type(generic: Callable[[Scalar], Scalar], single: Scalar, double: Scalar) -> None:
    """Let kernels that call `generic` call `single` or `double`, by the type of the argument."""

    @overload(generic, jit_options={"forceinline": True})
    def choose(x: Scalar) -> Scalar:
        chosen = single if x == types.float32 else double

        def implementation(x: Scalar) -> Scalar:
            return chosen(x)

        return implementation


_by_type(tanh, tanh32, tanh64)
_by_type(tanh_fast, tanh_fast32, tanh64)
_by_type(rational_tanh, rational_tanh32, rational_tanh64)
_by_type(rational_slope, rational_slope32, rational_slope64)
_by_type(exp, exp32, exp64)
_by_type(expm1, expm1_32, expm1_64)
_by_type(logistic, logistic32, logistic64)
_by_type(softplus, softplus32, softplus64)
_by_type(log, log32, log64)
_by_type(sincos_turns, sincos_turns32, sincos_turns64)
_by_type(sincos, sincos32, sincos64)
