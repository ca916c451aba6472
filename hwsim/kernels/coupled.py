"""Relaxation of units that drive each other through one matrix, and of the transposed linear response, on a tile.

One compiled function each, for float32 and float64.  A step is one GEMM over the tile (two where the response is
corrected) and a few passes over arrays that stay in the cache.  Lanes do not mix: calls on disjoint tiles may run on
any threads at once, and as every call does the same sums in the same order, the number of threads does not matter (with
a single-threaded BLAS, which the caller sees to).  Lanes that hold the same numbers keep the same bits wherever they
lie in tiles of up to 32, as far as the BLAS treats the rows of whole groups alike: OpenBLAS does in float64, and in
float32 on AVX-512; its float32 products for AVX2 do not, and there such lanes agree to rounding.
"""

from typing import NamedTuple

import numpy as np

from hwsim.contracts.errors import InputError

from ._check import Address, FloatArray, Noise, given
from ._compile import kernel
from ._step import (
    Motion,
    Run,
    Step,
    Tiles,
    Trajectory,
    advance,
    bring,
    checked,
    copy,
    draw,
    keep,
    multiply,
    place,
    run_tiles,
    scratch,
    turning,
    whole,
)
from .elementwise import logistic, softplus, tanh

IDENTITY, TANH, LOGISTIC, SOFTPLUS, RELU, HARD = range(6)
"""Codes of the nonlinearity r: z, tanh z, 1 / (1 + exp(-z)), log(1 + exp z), max(z, 0), clip(z, 0, 1)."""


class Coupled(NamedTuple):
    """Units that drive each other through one matrix.

        current:   F = -leak z + W r(z)                     (leaky; with W = -A, leak = 0 and r(z) = z linear)
        gradient:  F = -leak z + r'(z) * (W r(z) + drive)   (descends an energy where W = W^T)

    to which `Motion.steady` adds the drive of the former.

    With `at` the asymmetric-EP term -(J - J^T)(z - at) is added, J being the Jacobian at `at`: with v = z - at and
    g = r'(at) it is `-W (g v) + g (W^T v)` where currents add, and `-g ((W - W^T)(g v))` where r' multiplies.

    Args:
        weights_t, weights: [N, N], W^T and W.
        drive: [B, N], constant, where r' multiplies; else [0, 0].
        nonlinearity: IDENTITY, TANH, LOGISTIC, SOFTPLUS, RELU or HARD.
        leak: 1 or 0.
        gradient: whether r' multiplies what the couplings bring.
        at, gain: [B, N] point of the correction and r' there, or both [0, 0] for none.
        back, back_t: [N, N], what multiplies v^T or (g v)^T from the right in the correction and its transpose: W and
            W^T where currents add, W - W^T and W^T - W where r' multiplies; or both [0, 0] without correction.
    """

    weights_t: FloatArray
    weights: FloatArray
    drive: FloatArray
    nonlinearity: int
    leak: float
    gradient: bool
    at: FloatArray
    gain: FloatArray
    back: FloatArray
    back_t: FloatArray


class Response(NamedTuple):
    """The transposed linear response, `J^T a = diagonal * a + post * (W^T (pre * a))`.

    Args:
        weights_t, weights: [N, N], W^T and W.
        post: [K, L, N]; K = 1 around one state, `steps` along a recording that is played backwards; L = B, or 1 where
            it is the same for all lanes.
        diagonal: alike, with a K and an L of its own.
        pre: alike, or [0, 0, 0] for ones.
    """

    weights_t: FloatArray
    weights: FloatArray
    post: FloatArray
    diagonal: FloatArray
    pre: FloatArray


@kernel(inline=True)
def _activate(z: FloatArray, rate: FloatArray, nonlinearity: int) -> None:
    """rate = r(z)."""
    one, zero = z.dtype.type(1), z.dtype.type(0)
    if nonlinearity == TANH:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                rate[row, unit] = tanh(z[row, unit])
    elif nonlinearity == LOGISTIC:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                rate[row, unit] = logistic(z[row, unit])
    elif nonlinearity == SOFTPLUS:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                rate[row, unit] = softplus(z[row, unit])
    elif nonlinearity == RELU:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                old = z[row, unit]
                rate[row, unit] = zero if old < zero else old  # a NaN stays
    elif nonlinearity == HARD:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                old = z[row, unit]
                old = zero if old < zero else old
                rate[row, unit] = one if old > one else old
    else:
        copy(z, rate[: z.shape[0]])


@kernel(inline=True)
def _slope(z: FloatArray, rate: FloatArray, slope: FloatArray, nonlinearity: int) -> None:
    """slope = r'(z), from z and r(z)."""
    one, zero = z.dtype.type(1), z.dtype.type(0)
    for row in range(z.shape[0]):
        if nonlinearity == TANH:
            for unit in range(z.shape[1]):
                slope[row, unit] = one - rate[row, unit] * rate[row, unit]
        elif nonlinearity == LOGISTIC:
            for unit in range(z.shape[1]):
                slope[row, unit] = rate[row, unit] * (one - rate[row, unit])
        elif nonlinearity == SOFTPLUS:
            for unit in range(z.shape[1]):
                slope[row, unit] = logistic(z[row, unit])
        elif nonlinearity == RELU:
            for unit in range(z.shape[1]):
                slope[row, unit] = one if z[row, unit] >= zero else zero
        elif nonlinearity == HARD:
            for unit in range(z.shape[1]):
                slope[row, unit] = one if (z[row, unit] >= zero) & (z[row, unit] <= one) else zero
        else:
            for unit in range(z.shape[1]):
                slope[row, unit] = one


@kernel()
def _relax_coupled(out: Trajectory, motion: Step, noise: Address, net: Coupled, lo: int, hi: int) -> None:
    z = out.z
    lanes, units = hi - lo, z.shape[1]
    corrected = net.at.shape[0] > 0
    rows = whole(lanes, z.shape[0])
    now = z[lo:hi]
    rate = np.zeros((rows, units), z.dtype)
    inflow = np.empty((rows, units), z.dtype)
    slope = np.empty((lanes if net.gradient else 0, units), z.dtype)
    current = np.empty((lanes, units), z.dtype)
    away = np.zeros((rows if corrected else 0, units), z.dtype)
    returned = np.empty((rows if corrected else 0, units), z.dtype)
    turned = turning(rows, units, motion.group, z)
    noisy = scratch(motion, rows, units)
    leak = z.dtype.type(net.leak)
    keep(now, out, -1, lo, hi)
    for t in range(out.steps):
        _activate(now, rate, net.nonlinearity)
        if net.gradient:
            _slope(now, rate, slope, net.nonlinearity)
        if corrected:
            for row in range(lanes):
                for unit in range(units):
                    v = now[row, unit] - net.at[lo + row, unit]
                    weighed = net.gain[lo + row, unit] * v
                    if net.gradient:
                        away[row, unit] = weighed
                    else:
                        away[row, unit] = v
                        rate[row, unit] -= weighed
            multiply(away, net.back, net.back_t, turned, returned)
        multiply(rate, net.weights_t, net.weights, turned, inflow)
        if net.gradient:
            for row in range(lanes):
                for unit in range(units):
                    inflow[row, unit] = slope[row, unit] * (inflow[row, unit] + net.drive[lo + row, unit])
        if corrected:
            for row in range(lanes):
                for unit in range(units):
                    inflow[row, unit] += net.gain[lo + row, unit] * returned[row, unit]
        bring(current, motion, t, lo)
        draw(noisy, motion, noise, t, lo, hi)
        advance(now, inflow, current, leak, motion, noisy, out, t, lo)
        keep(now, out, t, lo, hi)


@kernel()
def _relax_response(out: Trajectory, motion: Step, noise: Address, net: Response, lo: int, hi: int) -> None:
    a = out.z
    lanes, units = hi - lo, a.shape[1]
    weighed = net.pre.shape[0] > 0
    rows = whole(lanes, a.shape[0])
    now = a[lo:hi]
    signal = np.zeros((rows, units), a.dtype)
    inflow = np.empty((rows, units), a.dtype)
    current = np.empty((lanes, units), a.dtype)
    leak = a.dtype.type(0)
    turned = turning(rows, units, motion.group, a)
    noisy = scratch(motion, rows, units)
    keep(now, out, -1, lo, hi)
    for t in range(out.steps):
        copy(now, signal[:lanes])
        if weighed:
            k = place(t, net.pre.shape[0])
            for row in range(lanes):
                lane = place(lo + row, net.pre.shape[1])
                for unit in range(units):
                    signal[row, unit] *= net.pre[k, lane, unit]
        multiply(signal, net.weights, net.weights_t, turned, inflow)
        k, kd = place(t, net.post.shape[0]), place(t, net.diagonal.shape[0])
        for row in range(lanes):
            lane, ld = place(lo + row, net.post.shape[1]), place(lo + row, net.diagonal.shape[1])
            for unit in range(units):
                passed = net.post[k, lane, unit] * inflow[row, unit]
                inflow[row, unit] = passed + net.diagonal[kd, ld, unit] * now[row, unit]
        bring(current, motion, t, lo)
        draw(noisy, motion, noise, t, lo, hi)
        advance(now, inflow, current, leak, motion, noisy, out, t, lo)
        keep(now, out, t, lo, hi)


def relax_coupled(
    trajectory: Trajectory, motion: Motion, noise: Noise, net: Coupled, tiles: Tiles, run: Run = map
) -> None:
    """Relaxation in place.

    Args:
        trajectory, motion, noise, net: what they say.
        tiles: of lanes; each is one call of the compiled function.
        run: how they run.

    Raises:
        InputError: a shape, a type or a part of the noise address does not fit.

    Numbers that are not finite stay so: a lane that diverges ends as infinity or NaN.

    Source: the correction is that of Scurria et al., arXiv:2602.03670.
    Cost: per step, lane and unit, N multiply-adds (2 N with `at`, N more with a noise matrix), 0.6 ns for tanh and
    update, 1.5 ns for the noise (float32, N = 64, AVX-512); 50 us per call.  Scratch of 4 tiles, up to 8.
    """
    z = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    if not 0 <= net.nonlinearity <= HARD:
        raise InputError(
            f"asked for nonlinearity {net.nonlinearity}; the codes are those from IDENTITY = 0 to HARD = {HARD}"
        )
    shape, square = z.shape, (z.shape[1],) * 2
    back = square if len(net.at) else (0, 0)
    checked_net = Coupled(
        weights_t=given("weights_t", net.weights_t, z, square),
        weights=given("weights", net.weights, z, square),
        drive=given("drive", net.drive, z, shape if net.gradient else (0, 0)),
        nonlinearity=int(net.nonlinearity),
        leak=float(net.leak),
        gradient=bool(net.gradient),
        at=given("at", net.at, z, (0, 0), shape),
        gain=given("gain", net.gain, z, net.at.shape),
        back=given("back", net.back, z, back),
        back_t=given("back_t", net.back_t, z, back),
    )
    run_tiles(_relax_coupled, arguments, checked_net, tiles, run)


def relax_response(
    trajectory: Trajectory, motion: Motion, noise: Noise, net: Response, tiles: Tiles, run: Run = map
) -> None:
    """Linear relaxation `a <- a + push (J^T a + force) + amplitude xi`, in place.

    With J around one state it settles at the adjoint -J^{-T} force; along a recording it plays that backwards.

    Args:
        trajectory: its z is a.
        motion, noise, net, tiles, run: as in `relax_coupled`.

    Raises:
        InputError: a shape, a type or a part of the noise address does not fit.

    Cost: as `relax_coupled`, without the tanh.
    """
    a = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    square = (a.shape[1],) * 2
    units = a.shape[1]
    along = [(k, lanes, units) for k in (1, int(trajectory.steps)) for lanes in (1, len(a))]
    checked_net = Response(
        weights_t=given("weights_t", net.weights_t, a, square),
        weights=given("weights", net.weights, a, square),
        post=given("post", net.post, a, *along),
        diagonal=given("diagonal", net.diagonal, a, *along),
        pre=given("pre", net.pre, a, *along, (0, 0, 0)),
    )
    run_tiles(_relax_response, arguments, checked_net, tiles, run)
