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
_HALF_F, _UNIT_F, _2F = np.float32(0.5), np.float32(2.0**-32), np.float32(-2)
_HALF_D, _UNIT_D, _2D = 0.5, 2.0**-32, -2.0
_THREE_QUARTERS = np.uint32(3 << 30)
_ROOT_HALF, _MANTISSA = np.int32(0x3F3504F3), np.int32(23)
_0F, _1F = np.float32(0), np.float32(1)


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
    """Two float32 deviates from two words, within 1e-6 of the float64 ones.

    `u = (even + 1/2) 2^-32` would round to 1 near the top, where r is small; there ln u = ln(1 - v) with v from the
    complement of the word.
    """
    even, odd = np.uint32(even), np.uint32(odd)
    bits = np.float32((np.float32(even) + _HALF_F) * _UNIT_F).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF) >> _MANTISSA)
    excess = np.int32(bits - np.int32(exponent << _MANTISSA)).view(np.float32) - _1F
    near_one = even >= _THREE_QUARTERS
    excess = -(np.float32(np.uint32(~even)) + _HALF_F) * _UNIT_F if near_one else excess
    radius = np.sqrt(_2F * log_scaled32(_0F if near_one else np.float32(exponent), excess))
    sine, cosine = sincos_turns32(np.float32(np.int32(odd)) * _UNIT_F)
    return radius * cosine, radius * sine


@kernel(inline=True)
def box_muller64(even: Scalar, odd: Scalar) -> tuple[Scalar, Scalar]:
    """Two float64 deviates from two words, within 1e-14 of exact arithmetic."""
    radius = np.sqrt(_2D * log64((np.float64(np.uint32(even)) + _HALF_D) * _UNIT_D))
    sine, cosine = sincos_turns64(np.float64(np.int32(np.uint32(odd))) * _UNIT_D)
    return radius * cosine, radius * sine


def box_muller(even: Scalar, odd: Scalar, like: Scalar) -> tuple[Scalar, Scalar]:
    """Two deviates of the type of `like`."""
    return box_muller32(even, odd) if isinstance(like, np.float32) else box_muller64(even, odd)


@overload(box_muller, jit_options={"forceinline": True})
def _box_muller(even: Scalar, odd: Scalar, like: Scalar) -> Scalar:
    chosen = box_muller32 if like == types.float32 else box_muller64

    def implementation(even: Scalar, odd: Scalar, like: Scalar) -> Scalar:
        return chosen(even, odd)

    return implementation


@kernel()
def normal_tile(
    out: FloatArray, seed: int, step: int, time: int, coarse: int, ids: WordArray, words: WordArray
) -> None:
    """Fill `out` with the deviates of some lanes at one time step.

    Args:
        out: [lanes, N rounded up by `padded`], float32 or float64.
        seed, step: key words, see `hwsim.contracts.noise`.
        time: in steps of `coarse` fine steps.
        coarse: fine time steps to sum, divided by its root.
        ids, words: [lanes], counter words c2 and c3.

    Cost: 1.1 ns (float32) or 1.8 ns (float64) per deviate and fine step, AVX-512 at 2.6 GHz.
    """
    k0, k1 = np.uint64(seed), np.uint64(step)
    if coarse > 1:
        out[:] = 0
    for fine in range(coarse):
        c0 = np.uint64(time * coarse + fine)
        for row in range(out.shape[0]):
            c2, c3 = np.uint64(ids[row]), np.uint64(words[row])
            for group in range(out.shape[1] // GROUP):
                base = group * GROUP
                block = np.uint64(group * _LANES)
                for lane in range(_LANES):
                    x0, x1, x2, x3 = philox(c0, block + np.uint64(lane), c2, c3, k0, k1)
                    n0, n1 = box_muller(x0, x1, out[0, 0])
                    n2, n3 = box_muller(x2, x3, out[0, 0])
                    if coarse > 1:
                        n0 += out[row, base + lane]
                        n1 += out[row, base + lane + _LANES]
                        n2 += out[row, base + lane + _2_LANES]
                        n3 += out[row, base + lane + _3_LANES]
                    out[row, base + lane] = n0
                    out[row, base + lane + _LANES] = n1
                    out[row, base + lane + _2_LANES] = n2
                    out[row, base + lane + _3_LANES] = n3
    if coarse > 1:
        out /= out.dtype.type(math.sqrt(coarse))


@kernel()
def _fill(out: FloatArray, seed: int, step: int, first: int, coarse: int, ids: WordArray, words: WordArray) -> None:
    tile = np.empty((out.shape[1], padded(out.shape[2])), out.dtype)
    for k in range(out.shape[0]):
        normal_tile(tile, seed, step, first + k, coarse, ids, words)
        for lane in range(out.shape[1]):
            for unit in range(out.shape[2]):
                out[k, lane, unit] = tile[lane, unit]


@kernel(inline=True)
def padded(units: int) -> int:
    """Units rounded up to whole groups."""
    return (units + GROUP - 1) // GROUP * GROUP


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
    steps, lanes, _ = writable("out", out, 3).shape
    _fill(out, *noise_address(noise, lanes, steps))
