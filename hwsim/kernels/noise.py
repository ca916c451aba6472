"""Normal deviates by address, the same ones as `hwsim.contracts.noise.NoisePath.normals`, inside compiled loops.

The layout (frozen, documented there) lets eight Philox blocks run in the lanes of a vector machine: an iteration of
the lane loop has no call, no branch and no memory but its four results.
"""

import math
from typing import TypeAlias

import numpy as np
from numba import types
from numba.extending import overload

from ._check import FloatArray, Noise, WordArray, noise_address, writable
from ._compile import Scalar, kernel
from .elementwise import log64, log_scaled32, sincos_turns32, sincos_turns64

Words: TypeAlias = tuple[Scalar, Scalar, Scalar, Scalar]

GROUP = 32
"""Units that eight Philox blocks serve; rows of deviates are drawn in whole groups."""

_LANES, _2_LANES, _3_LANES = 8, 16, 24
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_UNIT_F, _HALF_UNIT_F, _1F, _2F = np.float32(2.0**-32), np.float32(2.0**-33), np.float32(1), np.float32(2)
_HALF_F, _MINUS_2F, _THREE_QUARTERS, _0F = np.float32(0.5), np.float32(-2), np.uint32(3 << 30), np.float32(0)
_HALF_D, _UNIT_D, _2D = 0.5, 2.0**-32, -2.0
_0I, _1I, _SIGN, _SIGN_BIT = np.int32(0), np.int32(1), np.int32(31), np.int32(-(2**31))
_ROOT_HALF, _MANTISSA = np.int32(0x3F3504F3), np.int32(23)
_LN2_F = np.float32(-2 * math.log(2))
# least largest errors (Remez): of -4 artanh(s) / s in s^2, |s| <= 1/3, 4e-9 relative; of sin(2 pi x) / x, 3e-9 absolute
# in the sine, and of cos(2 pi x), 5e-8, in x^2, |x| <= 1/4
_LOG_F = tuple(-2 * np.float32(v) for v in (2, 0.666663101441, 0.400251143613, 0.279576652596, 0.281915496104))
_SIN_F = tuple(np.float32(v) for v in (6.28318516009, -41.3416550313, 81.6010040689, -76.54978222, 39.5367056145))
_COS_F = tuple(np.float32(v) for v in (0.999999953467, -19.7391714349, 64.9345906385, -85.2403306344, 56.2423830237))


@kernel(inline=True)
def philox_round(c0: Scalar, c1: Scalar, c2: Scalar, c3: Scalar, k0: Scalar, k1: Scalar) -> Words:
    """One round of Philox4x32 on 32-bit words held in 64-bit lanes."""
    product0, product1 = _M0 * c0, _M1 * c2
    return (product1 >> _32) ^ c1 ^ k0, product1 & _LOW, (product0 >> _32) ^ c3 ^ k1, product0 & _LOW


@kernel(inline=True)
def philox(c0: Scalar, c1: Scalar, c2: Scalar, c3: Scalar, k0: Scalar, k1: Scalar) -> Words:
    """Philox4x32-10: counter and key words, each a uint64 below 2^32, to four random words of the same kind."""
    for turn in range(10):
        key0 = (k0 + np.uint64(turn) * _W0) & _LOW
        key1 = (k1 + np.uint64(turn) * _W1) & _LOW
        c0, c1, c2, c3 = philox_round(c0, c1, c2, c3, key0, key1)
    return c0, c1, c2, c3


@kernel(inline=True)
def box_muller32(even: Scalar, odd: Scalar) -> tuple[Scalar, Scalar]:
    """Two float32 deviates from two words, within 1e-6 of the float64 ones, as board firmware computes them.

    `u = (even + 1/2) 2^-32` would round to 1 near the top, where r is small; there ln u = ln(1 - v) with v from the
    complement of the word.
    """
    even, odd = np.uint32(even), np.uint32(odd)
    bits = np.float32((np.float32(even) + _HALF_F) * _UNIT_F).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF) >> _MANTISSA)
    excess = np.int32(bits - np.int32(exponent << _MANTISSA)).view(np.float32) - _1F
    near_one = even >= _THREE_QUARTERS
    excess = -(np.float32(np.uint32(~even)) + _HALF_F) * _UNIT_F if near_one else excess
    radius = np.sqrt(_MINUS_2F * log_scaled32(_0F if near_one else np.float32(exponent), excess))
    sine, cosine = sincos_turns32(np.float32(np.int32(odd)) * _UNIT_F)
    return radius * cosine, radius * sine


@kernel(inline=True)
def box_muller_fast32(even: Scalar, odd: Scalar) -> tuple[Scalar, Scalar]:
    """Two float32 deviates from two words, within 1e-6 of the float64 ones: `box_muller32` in fewer operations.

    With u = (even + 1/2) 2^-32, the radius comes from ln u below 1/2, and from ln(1 - v) with v = 1 - u, of the
    complement of the word, above, where u itself would round to 1 and the radius be lost.  Either is below 2^31, so
    that it converts as a signed number, in one instruction.  The logarithm is `e ln 2 + 2 artanh(f / (2 + f))`.

    The angle is taken within a quarter turn of 0 or of half a turn.  Half a turn changes the signs of both sine and
    cosine: the radius takes it instead.
    """
    first, second = np.int32(np.uint32(even)), np.int32(np.uint32(odd))
    above = np.int32(first >> _SIGN)
    v = np.float32(np.int32(first ^ above)) * _UNIT_F + _HALF_UNIT_F
    bits = np.float32(v).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF) >> _MANTISSA)
    excess = np.int32(bits - np.int32(exponent << _MANTISSA)).view(np.float32) - _1F
    excess = -v if first < _0I else excess
    exponent = _0I if first < _0I else exponent
    s = excess / (excess + _2F)
    square = s * s
    series = _LOG_F[4]
    for n in (3, 2, 1, 0):
        series = series * square + _LOG_F[n]
    radius = np.sqrt(np.float32(exponent) * _LN2_F + s * series)
    twice = np.int32(second << _1I)
    side = np.int32(np.int32(second ^ twice) & _SIGN_BIT)
    radius = np.int32(np.float32(radius).view(np.int32) ^ side).view(np.float32)
    turn = np.float32(twice) * _HALF_UNIT_F
    square = turn * turn
    sine, cosine = _SIN_F[4], _COS_F[4]
    for n in (3, 2, 1, 0):
        sine = sine * square + _SIN_F[n]
        cosine = cosine * square + _COS_F[n]
    return radius * cosine, radius * (sine * turn)


@kernel(inline=True)
def box_muller64(even: Scalar, odd: Scalar) -> tuple[Scalar, Scalar]:
    """Two float64 deviates from two words, within 1e-14 of exact arithmetic."""
    radius = np.sqrt(_2D * log64((np.float64(np.uint32(even)) + _HALF_D) * _UNIT_D))
    sine, cosine = sincos_turns64(np.float64(np.int32(np.uint32(odd))) * _UNIT_D)
    return radius * cosine, radius * sine


def box_muller(even: Scalar, odd: Scalar, like: Scalar) -> tuple[Scalar, Scalar]:
    """Two deviates of the type of `like`."""
    return box_muller_fast32(even, odd) if isinstance(like, np.float32) else box_muller64(even, odd)


@overload(box_muller, jit_options={"forceinline": True})
def _box_muller(even: Scalar, odd: Scalar, like: Scalar) -> Scalar:
    chosen = box_muller_fast32 if like == types.float32 else box_muller64

    def implementation(even: Scalar, odd: Scalar, like: Scalar) -> Scalar:
        return chosen(even, odd)

    return implementation


@kernel()
def normal_tile(
    out: FloatArray, seed: int, step: int, time: int, coarse: int, ids: WordArray, words: WordArray
) -> None:
    """Fill `out` with the deviates of some lanes at one time step after the other.

    Args:
        out: [K lanes, N rounded up by `padded`], float32 or float64: all lanes at `time`, then at `time + 1`, ...
        seed, step: key words, see `hwsim.contracts.noise`.
        time: the first, in steps of `coarse` fine steps.
        coarse: fine time steps to sum, divided by its root.
        ids, words: [lanes], counter words c2 and c3.

    Cost: 2 ns (float32) or 4.7 ns (float64) per deviate and fine step, AVX2 at 2.3 GHz; more for a row alone, whose
    computations nothing overlaps with.  A twin as far from its partner as the first lane from its own copies it.
    """
    k0, k1 = np.uint64(seed), np.uint64(step)
    lanes, apart = ids.size, 1
    while apart < lanes and (ids[apart] != ids[0] or words[apart] != words[0]):
        apart += 1  # up to the twin of the first lane
    if coarse > 1:
        out[:] = 0
    for fine in range(coarse):
        for row in range(out.shape[0]):
            later = row // lanes
            lane = row - later * lanes
            if lane >= apart and ids[lane] == ids[lane - apart] and words[lane] == words[lane - apart]:
                for unit in range(out.shape[1]):
                    out[row, unit] = out[row - apart, unit]
                continue
            c0 = np.uint64((time + later) * coarse + fine)
            c2, c3 = np.uint64(ids[lane]), np.uint64(words[lane])
            for group in range(out.shape[1] // GROUP):
                base = group * GROUP
                block = np.uint64(group * _LANES)
                for place in range(_LANES):
                    x0, x1, x2, x3 = philox(c0, block + np.uint64(place), c2, c3, k0, k1)
                    n0, n1 = box_muller(x0, x1, out[0, 0])
                    n2, n3 = box_muller(x2, x3, out[0, 0])
                    if coarse > 1:
                        n0 += out[row, base + place]
                        n1 += out[row, base + place + _LANES]
                        n2 += out[row, base + place + _2_LANES]
                        n3 += out[row, base + place + _3_LANES]
                    out[row, base + place] = n0
                    out[row, base + place + _LANES] = n1
                    out[row, base + place + _2_LANES] = n2
                    out[row, base + place + _3_LANES] = n3
    if coarse > 1:
        out /= out.dtype.type(math.sqrt(coarse))


@kernel()
def _fill(
    out: FloatArray,
    tile: FloatArray,
    seed: int,
    step: int,
    first: int,
    coarse: int,
    ids: WordArray,
    words: WordArray,
) -> None:
    for k in range(out.shape[0]):
        normal_tile(tile, seed, step, first + k, coarse, ids, words)
        for lane in range(out.shape[1]):
            for unit in range(out.shape[2]):
                out[k, lane, unit] = tile[lane, unit]


def padded(units: int) -> int:
    """Units rounded up to whole groups."""
    return -(-units // GROUP) * GROUP


def fill_normals(out: FloatArray, noise: Noise) -> None:
    """Fill an array with the deviates of `NoisePath(seed, step, repeat, coarse).normals(...)`.

    Args:
        out: [K, B, N] float32 or float64, C-contiguous, overwritten: time steps `first` to `first + K - 1`.
        noise: the address.

    Raises:
        InputError: a part of the address, a shape or a type does not fit.

    Cost: as `normal_tile`, for N rounded up to a multiple of 32.  Agrees with the reference to 2e-6 (float32) and 1e-13
    (float64).
    """
    steps, lanes, units = writable("out", out, 3).shape
    tile = np.empty((lanes, padded(units)), out.dtype)
    _fill(out, tile, *noise_address(noise, lanes, steps))
