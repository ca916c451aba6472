"""Relaxation of units that drive each other through one matrix, and of the transposed linear response, on a tile.

One compiled function each, for float32 and float64.  A step is one product over some lanes (two where the response is
corrected) and a few passes over arrays that stay in the cache.  Lanes do not mix, and each does the same sums in the
same order wherever it lies: neither tiles nor threads change a bit, and lanes that hold the same numbers keep the same
bits.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from hwsim.contracts.errors import InputError

from ._check import Address, FloatArray, Noise, given
from ._compile import kernel
from ._product import Weights, given_weights, multiply
from ._step import (
    Arguments,
    Motion,
    Room,
    Run,
    Tiles,
    Trajectory,
    advance,
    as_given,
    bring,
    checked,
    copy,
    draw,
    keep,
    lanes_of,
    part,
    place,
    run_tiles,
)
from .elementwise import logistic, rational_slope, rational_tanh, softplus, tanh_fast

IDENTITY, TANH, LOGISTIC, SOFTPLUS, RELU, HARD, RATIONAL_TANH = range(7)
"""Codes of the nonlinearity r: z, tanh z, 1 / (1 + exp(-z)), log(1 + exp z), max(z, 0), clip(z, 0, 1), and the tanh of
board firmware."""


class Coupled(NamedTuple):
    """Units that drive each other through one matrix.

        current:   F = -leak z + W r(z)                     (leaky; with W = -A, leak = 0 and r(z) = z linear)
        gradient:  F = -leak z + r'(z) * (W r(z) + drive)   (descends an energy where W = W^T)

    to which `Motion.steady` adds the drive of the former.

    With `at` the asymmetric-EP term -(J - J^T)(z - at) is added, J being the Jacobian at `at`: with v = z - at and
    g = r'(at) it is `-W (g v) + g (W^T v)` where currents add, and `-g ((W - W^T)(g v))` where r' multiplies.

    Args:
        weights: W, laid out.
        drive: [B, N], constant, where r' multiplies; else [0, 0].
        nonlinearity: IDENTITY, TANH, LOGISTIC, SOFTPLUS, RELU, HARD or RATIONAL_TANH.
        leak: 1 or 0.
        gradient: whether r' multiplies what the couplings bring.
        at, gain: [B, N] point of the correction and r' there, or both [0, 0] for none.
        back: what multiplies v or g v in the correction, laid out: W^T where currents add, W^T - W where r'
            multiplies; or a matrix of no rows without correction.
    """

    weights: Weights
    drive: FloatArray
    nonlinearity: int
    leak: float
    gradient: bool
    at: FloatArray
    gain: FloatArray
    back: Weights


class Response(NamedTuple):
    """The transposed linear response, `J^T a = diagonal * a + post * (W^T (pre * a))`.

    Args:
        weights: W^T, laid out.
        post: [K, L, N]; K = 1 around one state, `steps` along a recording that is played backwards; L = B, or 1 where
            it is the same for all lanes.
        diagonal: alike, with a K and an L of its own.
        pre: alike, or [0, 0, 0] for ones.
    """

    weights: Weights
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
                rate[row, unit] = tanh_fast(z[row, unit])
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
    elif nonlinearity == RATIONAL_TANH:
        for row in range(z.shape[0]):
            for unit in range(z.shape[1]):
                rate[row, unit] = rational_tanh(z[row, unit])
    else:
        copy(z, rate)


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
        elif nonlinearity == RATIONAL_TANH:
            for unit in range(z.shape[1]):
                slope[row, unit] = rational_slope(z[row, unit])
        else:
            for unit in range(z.shape[1]):
                slope[row, unit] = one


@cache
def _relaxation(nonlinearity: int, sparse: bool) -> Callable[..., None]:
    """The kernel of one nonlinearity and one kind of couplings: one for all of them takes twice as long to compile."""

    @kernel()
    def relax(out: Trajectory, motion: Motion, noise: Address, net: Coupled, room: Room, low: int, high: int) -> None:
        z = out.z
        units = z.shape[1]
        corrected, leak = net.at.shape[0] > 0, z.dtype.type(net.leak)
        for lo in range(low, high, room.together):
            hi = min(lo + room.together, high)
            lanes = hi - lo
            now, here = z[lo:hi], lanes_of(noise, lo, hi)
            current, rate, inflow = part(room, 0, lanes), part(room, 2, lanes), part(room, 3, lanes)
            slope, away, returned = part(room, 4, lanes), part(room, 5, lanes), part(room, 6, lanes)
            keep(now, out, -1, lo, hi)
            for t in range(out.steps):
                _activate(now, rate, nonlinearity)
                if net.gradient:
                    _slope(now, rate, slope, nonlinearity)
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
                    multiply(away, net.back, room.turned, returned, sparse)
                multiply(rate, net.weights, room.turned, inflow, sparse)
                if net.gradient:
                    for row in range(lanes):
                        for unit in range(units):
                            inflow[row, unit] = slope[row, unit] * (inflow[row, unit] + net.drive[lo + row, unit])
                if corrected:
                    for row in range(lanes):
                        for unit in range(units):
                            inflow[row, unit] += net.gain[lo + row, unit] * returned[row, unit]
                bring(current, motion, t, lo)
                xi = draw(room, motion, here, t, out.steps)
                advance(now, inflow, current, leak, motion, xi, out, t, lo)
                keep(now, out, t, lo, hi)

    return relax


@cache
def _response(sparse: bool) -> Callable[..., None]:
    """The kernel of one kind of couplings."""

    @kernel()
    def relax(out: Trajectory, motion: Motion, noise: Address, net: Response, room: Room, low: int, high: int) -> None:
        a = out.z
        units = a.shape[1]
        weighed, leak = net.pre.shape[0] > 0, a.dtype.type(0)
        for lo in range(low, high, room.together):
            hi = min(lo + room.together, high)
            lanes = hi - lo
            now, here = a[lo:hi], lanes_of(noise, lo, hi)
            current, signal, inflow = part(room, 0, lanes), part(room, 2, lanes), part(room, 3, lanes)
            keep(now, out, -1, lo, hi)
            for t in range(out.steps):
                copy(now, signal)
                if weighed:
                    k = place(t, net.pre.shape[0])
                    for row in range(lanes):
                        lane = place(lo + row, net.pre.shape[1])
                        for unit in range(units):
                            signal[row, unit] *= net.pre[k, lane, unit]
                multiply(signal, net.weights, room.turned, inflow, sparse)
                k, kd = place(t, net.post.shape[0]), place(t, net.diagonal.shape[0])
                for row in range(lanes):
                    lane, ld = place(lo + row, net.post.shape[1]), place(lo + row, net.diagonal.shape[1])
                    for unit in range(units):
                        passed = net.post[k, lane, unit] * inflow[row, unit]
                        inflow[row, unit] = passed + net.diagonal[kd, ld, unit] * now[row, unit]
                bring(current, motion, t, lo)
                xi = draw(room, motion, here, t, out.steps)
                advance(now, inflow, current, leak, motion, xi, out, t, lo)
                keep(now, out, t, lo, hi)

    return relax


def relax_coupled(
    trajectory: Trajectory,
    motion: Motion,
    noise: Noise,
    net: Coupled,
    tiles: Tiles,
    run: Run = map,
    *,
    trusted: bool = False,
) -> None:
    """Relaxation in place.

    Args:
        trajectory, motion, noise, net: what they say.
        tiles: of lanes; each is one call of the compiled function.
        run: how they run.
        trusted: what is given was made to fit: nothing but the noise address is looked at.

    Raises:
        InputError: a shape, a type or a part of the noise address does not fit.

    Numbers that are not finite stay so: a lane that diverges ends as infinity or NaN.

    Source: the correction is that of Scurria et al., arXiv:2602.03670.
    Cost: per step, lane and unit, N multiply-adds (2 N with `at`, N more with a noise matrix) at nine tenths of the
    machine's peak, 1.2 ns for tanh and update, 2.3 ns for the noise (float32, AVX2 at 2.3 GHz); 15 us per tile, and 50
    more for the checks.  Scratch of 4 to 8 times 64 lanes of states; nothing is allocated in the loop.
    """
    if trusted:
        _run_coupled(as_given(trajectory, motion, noise), net, tiles, run)
        return
    z = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    if not 0 <= net.nonlinearity <= RATIONAL_TANH:
        raise InputError(
            f"asked for nonlinearity {net.nonlinearity}; the codes are those from IDENTITY = 0 to "
            f"RATIONAL_TANH = {RATIONAL_TANH}"
        )
    shape = z.shape
    checked_net = Coupled(
        weights=given_weights("weights", net.weights, z, z.shape[1], sparse=True),
        drive=given("drive", net.drive, z, shape if net.gradient else (0, 0)),
        nonlinearity=int(net.nonlinearity),
        leak=float(net.leak),
        gradient=bool(net.gradient),
        at=given("at", net.at, z, (0, 0), shape),
        gain=given("gain", net.gain, z, net.at.shape),
        back=_given_back(net, z),
    )
    _run_coupled(arguments, checked_net, tiles, run)


def relax_response(
    trajectory: Trajectory,
    motion: Motion,
    noise: Noise,
    net: Response,
    tiles: Tiles,
    run: Run = map,
    *,
    trusted: bool = False,
) -> None:
    """Linear relaxation `a <- a + push (J^T a + force) + amplitude xi`, in place.

    With J around one state it settles at the adjoint -J^{-T} force; along a recording it plays that backwards.

    Args:
        trajectory: its z is a.
        motion, noise, net, tiles, run, trusted: as in `relax_coupled`.

    Raises:
        InputError: a shape, a type or a part of the noise address does not fit.

    Cost: as `relax_coupled`, without the tanh.
    """
    if trusted:
        _run_response(as_given(trajectory, motion, noise), net, tiles, run)
        return
    a = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    units = a.shape[1]
    along = [(k, lanes, units) for k in (1, int(trajectory.steps)) for lanes in (1, len(a))]
    checked_net = Response(
        weights=given_weights("weights", net.weights, a, units, sparse=True),
        post=given("post", net.post, a, *along),
        diagonal=given("diagonal", net.diagonal, a, *along),
        pre=given("pre", net.pre, a, *along, (0, 0, 0)),
    )
    _run_response(arguments, checked_net, tiles, run)


def _run_coupled(arguments: Arguments, net: Coupled, tiles: Tiles, run: Run) -> None:
    run_tiles(_relaxation(net.nonlinearity, net.weights.start.size > 0), arguments, net, tiles, run, passes=5)


def _run_response(arguments: Arguments, net: Response, tiles: Tiles, run: Run) -> None:
    run_tiles(_response(net.weights.start.size > 0), arguments, net, tiles, run, passes=2)


def _given_back(net: Coupled, z: FloatArray) -> Weights:
    """What multiplies in the correction, if it fits and is sparse where the couplings are."""
    if len(net.at) == 0:
        return given_weights("back", net.back, z, 0)
    if len(net.weights.start) > 0 and len(net.back.start) == 0:
        raise InputError("back must be sparse_weights where weights are")
    return given_weights("back", net.back, z, z.shape[1], sparse=len(net.weights.start) > 0)
