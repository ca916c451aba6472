"""Relaxation of the leaky network, and of its transpose, on a tile of lanes.

Two compiled functions, each for float32 and float64.  A step is one GEMM over the tile and a few passes over arrays
that stay in the cache.  Lanes do not mix: calls on disjoint tiles may run on any threads at once, and as every call
does the same sums in the same order, lanes that hold the same numbers keep the same bits wherever they lie in tiles of
up to 32, and the number of threads does not matter (with a single-threaded BLAS, which the caller sees to).
"""

import numpy as np

# np.dot calls this library in a kernel; it is loaded here, so that a thread limit set before the first call reaches it
import scipy.linalg.cython_blas  # noqa: F401

from hwsim.contracts.errors import InputError

from ._check import (
    FloatArray,
    WordArray,
    check_tile,
    force_shapes,
    frozen,
    noise_words,
    recording,
    same,
    writable,
)
from ._compile import kernel
from .elementwise import tanh
from .noise import normal_tile, padded

IDENTITY, TANH = 0, 1
"""Codes of the nonlinearity r."""

# From this many units on, in float32 and for a short batch, OpenBLAS (0.3.30, AVX-512) needs 13 % (N = 256) to 40 %
# (N = 1024) less time for W r^T than for r W^T, the turning of its result in cache-sized blocks included.  In float64
# it needs more.
_WIDE = 256
_BLOCK = 64

# A matrix product takes its rows in whole groups of this many, the rest zeros: on other numbers of rows a BLAS may sum
# in another order, and then two lanes with the same numbers, one in a full tile and one in the last, would drift apart.
_ROWS = 32


@kernel(inline=True)
def _whole(lanes: int, batch: int) -> int:
    """Rows of the products of a tile; a lane that is alone in its batch has no twin to agree with."""
    return 1 if batch == 1 else (lanes + _ROWS - 1) // _ROWS * _ROWS


@kernel(inline=True)
def _copy(source: FloatArray, target: FloatArray) -> None:
    for row in range(target.shape[0]):
        for unit in range(target.shape[1]):
            target[row, unit] = source[row, unit]


@kernel(inline=True)
def _activate(z: FloatArray, rate: FloatArray, nonlinearity: int) -> None:
    """rate = r(z)."""
    if nonlinearity == TANH:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                rate[row, unit] = tanh(z[row, unit])
    else:
        _copy(z, rate)


@kernel(inline=True)
def _advance(z: FloatArray, inflow: FloatArray, push: FloatArray, xi: FloatArray, eps: float, sigma: float) -> None:
    """z <- z + eps (inflow - z + push) + sigma xi."""
    eps, sigma = z.dtype.type(eps), z.dtype.type(sigma)
    noisy = xi.shape[0] > 0
    for row in range(z.shape[0]):
        if noisy:
            for unit in range(z.shape[1]):
                old = z[row, unit]
                z[row, unit] = old + eps * (inflow[row, unit] - old + push[row, unit]) + sigma * xi[row, unit]
        else:
            for unit in range(z.shape[1]):
                old = z[row, unit]
                z[row, unit] = old + eps * (inflow[row, unit] - old + push[row, unit])


@kernel(inline=True)
def _multiply(left: FloatArray, right: FloatArray, right_t: FloatArray, turned: FloatArray, out: FloatArray) -> None:
    """out = left right, by way of `turned` = out^T where that is given."""
    if turned.shape[0] == 0:
        np.dot(left, right, out)
    else:
        np.dot(right_t, left.T, turned)
        for block in range(0, out.shape[1], _BLOCK):
            for row in range(out.shape[0]):
                for unit in range(block, min(block + _BLOCK, out.shape[1])):
                    out[row, unit] = turned[unit, row]


@kernel()
def _relax_leaky(
    z: FloatArray,
    before: FloatArray,
    drive: FloatArray,
    force: FloatArray,
    weights_t: FloatArray,
    weights: FloatArray,
    nonlinearity: int,
    eps: float,
    steps: int,
    at: FloatArray,
    gain: FloatArray,
    sigma: float,
    seed: int,
    step: int,
    first: int,
    coarse: int,
    ids: WordArray,
    words: WordArray,
    every: int,
    states: FloatArray,
    lo: int,
    hi: int,
) -> None:
    lanes, units = hi - lo, z.shape[1]
    corrected = at.shape[0] > 0
    rows = _whole(lanes, z.shape[0])
    now = z[lo:hi]
    rate = np.zeros((rows, units), z.dtype)
    inflow = np.empty((rows, units), z.dtype)
    push = np.empty((lanes, units), z.dtype)
    offset = np.zeros((rows if corrected else 0, units), z.dtype)
    back = np.empty((rows if corrected else 0, units), z.dtype)
    turned = np.empty((units if z.itemsize == 4 and units >= _WIDE else 0, rows), z.dtype)
    xi = np.empty((lanes if sigma != 0 else 0, padded(units)), z.dtype)
    _copy(now, before[lo:hi])
    if every > 0:
        _copy(now, states[0, lo:hi])
    for t in range(steps):
        _activate(now, rate, nonlinearity)
        if corrected:
            for row in range(lanes):
                for unit in range(units):
                    offset[row, unit] = now[row, unit] - at[lo + row, unit]
                    rate[row, unit] -= gain[lo + row, unit] * offset[row, unit]
            _multiply(offset, weights, weights_t, turned, back)
        _multiply(rate, weights_t, weights, turned, inflow)
        if corrected:
            for row in range(lanes):
                for unit in range(units):
                    inflow[row, unit] += gain[lo + row, unit] * back[row, unit]
        if t == 0 or force.shape[0] > 1:
            for row in range(lanes):
                for unit in range(units):
                    push[row, unit] = drive[lo + row, unit]
            if force.shape[0] > 0:
                for row in range(lanes):
                    for unit in range(units):
                        push[row, unit] += force[t, lo + row, unit]
        if sigma != 0:
            normal_tile(xi, seed, step, first + t, coarse, ids, words)
        if t == steps - 1:
            _copy(now, before[lo:hi])
        _advance(now, inflow, push, xi, eps, sigma)
        if every > 0 and (t + 1) % every == 0:
            _copy(now, states[(t + 1) // every, lo:hi])


@kernel()
def _relax_transpose(
    a: FloatArray,
    before: FloatArray,
    force: FloatArray,
    weights: FloatArray,
    gain: FloatArray,
    eps: float,
    steps: int,
    sigma: float,
    seed: int,
    step: int,
    first: int,
    coarse: int,
    ids: WordArray,
    words: WordArray,
    every: int,
    states: FloatArray,
    lo: int,
    hi: int,
) -> None:
    lanes, units = hi - lo, a.shape[1]
    rows = _whole(lanes, a.shape[0])
    now = a[lo:hi]
    signal = np.zeros((rows, units), a.dtype)
    inflow = np.empty((rows, units), a.dtype)
    push = np.zeros((lanes, units), a.dtype)
    xi = np.empty((lanes if sigma != 0 else 0, padded(units)), a.dtype)
    _copy(now, before[lo:hi])
    if every > 0:
        _copy(now, states[0, lo:hi])
    for t in range(steps):
        _copy(now, signal)
        np.dot(signal, weights, inflow)
        k = t if gain.shape[0] > 1 else 0
        for row in range(lanes):
            for unit in range(units):
                inflow[row, unit] *= gain[k, lo + row, unit]
        if force.shape[0] > 1 or (t == 0 and force.shape[0] > 0):
            _copy(force[t, lo:hi], push)
        if sigma != 0:
            normal_tile(xi, seed, step, first + t, coarse, ids, words)
        if t == steps - 1:
            _copy(now, before[lo:hi])
        _advance(now, inflow, push, xi, eps, sigma)
        if every > 0 and (t + 1) % every == 0:
            _copy(now, states[(t + 1) // every, lo:hi])


def relax_leaky(
    z: FloatArray,
    before: FloatArray,
    drive: FloatArray,
    force: FloatArray,
    weights_t: FloatArray,
    weights: FloatArray,
    nonlinearity: int,
    eps: float,
    steps: int,
    at: FloatArray,
    gain: FloatArray,
    sigma: float,
    seed: int,
    step: int,
    stream: int,
    phase: int,
    repeat: int,
    ids: WordArray,
    repeats: WordArray,
    coarse: int,
    first: int,
    every: int,
    states: FloatArray,
    lo: int,
    hi: int,
) -> None:
    """Euler relaxation of lanes lo to hi - 1 of the leaky network, in place.

        F = -z + W r(z) + drive + force
        z <- z + eps F + sigma xi

    With `at`, the asymmetric-EP term is added: F - (J - J^T)(z - at), with J the Jacobian at `at`, that is
    `-z + W (r(z) - g v) + g (W^T v) + drive + force` with `v = z - at` and `g = r'(at)`.

    Args:
        z: [B, N] float32 or float64, the state, read and overwritten.  All other real arrays have its type.
        before: [B, N], overwritten by the state one step before the last (`z` where steps is 0).
        drive: [B, N], constant: U x + b, state units per time constant.
        force: [K, B, N]; K = 1 for a constant, `steps` for a waveform, 0 (or shape [0, 0, 0]) for none.
        weights_t, weights: [N, N], W^T and W, both C-contiguous.
        nonlinearity: IDENTITY or TANH.
        eps: step size in time constants.
        steps: number of steps.
        at, gain: [B, N] point and r'(at) of the correction, or both of shape [0, 0] for none.
        sigma: standard deviation of the noise that one step adds, state units; at 0 none is drawn.
        seed, step, stream, phase, repeat, ids [B], repeats [B], coarse, first: the address of the noise, see
            `fill_normals`; step t of this call is time step `first + t`.
        every: record each `every`-th state, the first included; 0 records none.
        states: [1 + steps // every, B, N], overwritten, or [0, 0, 0].
        lo, hi: the tile of lanes; others are left alone.

    Raises:
        InputError: a shape, a type or a part of the noise address does not fit.

    Numbers that are not finite stay so: a lane that diverges ends as infinity or NaN.

    Source: the correction is that of Scurria et al., arXiv:2602.03670.
    Cost: per step, lane and unit, N multiply-adds (2 N with `at`), 0.6 ns for tanh and update, 1.5 ns for the noise
    (float32, N = 64, AVX-512); 20 us per call.  Scratch of 4 tiles (6 with `at`, one more where N >= 256 in float32).
    """
    shape = check_tile("z", z, lo, hi, steps)
    if nonlinearity not in (IDENTITY, TANH):
        raise InputError(f"asked for nonlinearity {nonlinearity}; the codes are IDENTITY = 0 and TANH = 1")
    square = (shape[1], shape[1])
    noise = noise_words(sigma, shape[0], seed, step, stream, phase, repeat, first, ids, repeats, coarse, steps, lo, hi)
    _relax_leaky(
        z,
        same("before", writable("before", before, 2), z, shape),
        frozen(same("drive", drive, z, shape)),
        frozen(same("force", force, z, *force_shapes(shape, steps))),
        frozen(same("weights_t", weights_t, z, square)),
        frozen(same("weights", weights, z, square)),
        int(nonlinearity),
        float(eps),
        int(steps),
        frozen(same("at", at, z, (0, 0), shape)),
        frozen(same("gain", gain, z, at.shape)),
        float(sigma),
        *noise,
        int(every),
        recording(states, z, steps, every),
        int(lo),
        int(hi),
    )


def relax_transpose(
    a: FloatArray,
    before: FloatArray,
    force: FloatArray,
    weights: FloatArray,
    gain: FloatArray,
    eps: float,
    steps: int,
    sigma: float,
    seed: int,
    step: int,
    stream: int,
    phase: int,
    repeat: int,
    ids: WordArray,
    repeats: WordArray,
    coarse: int,
    first: int,
    every: int,
    states: FloatArray,
    lo: int,
    hi: int,
) -> None:
    """Linear relaxation of lanes lo to hi - 1 through the couplings driven backwards, in place.

        a <- a + eps (-a + gain_t * (W^T a) + force_t) + sigma xi

    which with `gain = r'(at)` settles at the adjoint -J(at)^{-T} force, and with `gain[t] = r'(z_{T-1-t})` plays a
    recording backwards.

    Args:
        a: [B, N] float32 or float64, read and overwritten.
        gain: [1, B, N] or [steps, B, N].
        before, force, weights, eps, steps, sigma, states and the rest: as in `relax_leaky`.

    Raises:
        InputError: a shape, a type or a part of the noise address does not fit.

    Cost: as `relax_leaky`, without the tanh.  Scratch of 4 tiles.
    """
    shape = check_tile("a", a, lo, hi, steps)
    noise = noise_words(sigma, shape[0], seed, step, stream, phase, repeat, first, ids, repeats, coarse, steps, lo, hi)
    _relax_transpose(
        a,
        same("before", writable("before", before, 2), a, shape),
        frozen(same("force", force, a, *force_shapes(shape, steps))),
        frozen(same("weights", weights, a, (shape[1], shape[1]))),
        frozen(same("gain", gain, a, (1, *shape), (steps, *shape))),
        float(eps),
        int(steps),
        float(sigma),
        *noise,
        int(every),
        recording(states, a, steps, every),
        int(lo),
        int(hi),
    )
