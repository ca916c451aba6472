"""What all relaxations share: their arguments, and one step once the field is known.

Inside the kernels a tile of lanes is [lanes, N], its products are taken on whole groups of rows, and a step runs row by
row, so that what it needs stays in the cache.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

# np.dot calls this library in a kernel; it is loaded here, so that a thread limit set before the first call reaches it
import scipy.linalg.cython_blas  # noqa: F401

from hwsim.contracts.errors import InputError
from hwsim.contracts.threads import one_blas_thread

from ._check import (
    Address,
    FlagArray,
    FloatArray,
    Noise,
    check_force,
    check_tiles,
    flags,
    frozen,
    given,
    noise_address,
    recording,
    same,
    writable,
)
from ._compile import Scalar, kernel
from .noise import normal_tile, padded

# From this many units on, in float32 and for a short batch, OpenBLAS (0.3.30, AVX-512) needs 13 % (N = 256) to 40 %
# (N = 1024) less time for W r^T than for r W^T, the turning of its result in cache-sized blocks included.  In float64
# it needs more.
_WIDE = 256
_BLOCK = 64

# A matrix product takes its rows in whole groups of this many, the rest zeros: on other numbers of rows a BLAS may sum
# in another order, and then two lanes with the same numbers, one in a full tile and one in the last, would drift apart.
_ROWS = 32

# Where a BLAS sums rows of one product in different orders (OpenBLAS's float32 kernel for AVX2 does), the product is
# taken over fewer lanes at a time, as columns: 16 at a time cost 5 to 20 % more (N = 64 to 1024).
_GROUPS = (0, 16, 8, 4, 1)


class Trajectory(NamedTuple):
    """Where a relaxation runs, and what it leaves behind.

    Args:
        z: [B, N] float32 or float64, the state, read and overwritten.  All other real arrays have its type.
        before: [B, N], overwritten by the state one step before the last (`z` where steps is 0).
        states: [1 + steps // every, B, N], overwritten by recorded states, or [0, 0, 0].
        limited: [B] bool, set where a rail or a slew limit held a unit with low < high; otherwise left as it is.
        steps: number of steps.
        every: record each `every`-th state, the first included; 0 records none.
    """

    z: FloatArray
    before: FloatArray
    states: FloatArray
    limited: FlagArray
    steps: int
    every: int


class Motion(NamedTuple):
    """What a step makes of the field F [B, N]:

        change = push * (F + steady + force),  held to |change| <= slew
        z <- clip(z + change + amplitude xi, low, high)

    Args:
        push: [N], step size times rate.
        steady: [1, N] or [B, N], the constant part of the field: offsets and drives.
        force: [K, B, N]; K = 1 for a constant, `steps` for a waveform, 0 (or shape [0, 0, 0]) for none.
        amplitude: [1, N] standard deviations of the noise of one step, or [N, N], a matrix that multiplies independent
            deviates; [0, 0] for none.
        slew: [N] largest change of one step, or [0] for no limit.
        low, high: [1, N] or [B, N] rails, or both [0, 0] for none.
    """

    push: FloatArray
    steady: FloatArray
    force: FloatArray
    amplitude: FloatArray
    slew: FloatArray
    low: FloatArray
    high: FloatArray


class Step(NamedTuple):
    """`Motion` as kernels take it: amplitude taken apart into what multiplies the noise unit by unit, [N] or [0] for no
    noise, and a matrix [N padded, N] that multiplies rows of deviates before, or [0, 0]; and how many lanes go into one
    matrix product, 0 for all of a tile."""

    push: FloatArray
    steady: FloatArray
    force: FloatArray
    scale: FloatArray
    matrix: FloatArray
    slew: FloatArray
    low: FloatArray
    high: FloatArray
    group: int


Tiles: TypeAlias = Sequence[tuple[int, int]]
"""(lo, hi) of lanes lo to hi - 1, disjoint; lanes in none are left alone."""
Run: TypeAlias = Callable[[Callable[[tuple[int, int]], None], Tiles], Iterable[None]]
"""How to run the tiles, in any order: `map`, or that of an executor."""


def checked(trajectory: Trajectory, motion: Motion, noise: Noise, tiles: Tiles) -> tuple[Trajectory, Step, Address]:
    """The first three as a kernel takes them: inputs read-only, noise as counter words.

    Raises:
        InputError: a shape, a type, a tile or a part of the noise address does not fit.
    """
    z, steps, every = writable("z", trajectory.z, 2), int(trajectory.steps), int(trajectory.every)
    if steps < 0 or every < 0:
        raise InputError(f"asked for {steps} steps, every {every}-th of them recorded; both must be at least 0")
    shape = lanes, units = z.shape
    check_tiles(tiles, lanes)
    rails = ((0, 0),) if 0 in (len(motion.low), len(motion.high)) else ((1, units), shape)
    scale, matrix = _taken_apart(same("amplitude", motion.amplitude, z, (1, units), (units, units), (0, 0)))
    before = same("before", writable("before", trajectory.before, 2), z, shape)
    if steps == 0:
        for lo, hi in tiles:
            before[lo:hi] = z[lo:hi]
    return (
        Trajectory(
            z=z,
            before=before,
            states=recording(trajectory.states, z, steps, every),
            limited=flags("limited", trajectory.limited, lanes),
            steps=steps,
            every=every,
        ),
        Step(
            push=given("push", motion.push, z, (units,)),
            steady=given("steady", motion.steady, z, (1, units), shape),
            force=check_force(motion.force, z, steps),
            scale=frozen(scale),
            matrix=frozen(matrix),
            slew=given("slew", motion.slew, z, (units,), (0,)),
            low=given("low", motion.low, z, *rails),
            high=given("high", motion.high, z, *rails),
            group=product_group(z.dtype),
        ),
        noise_address(noise if len(scale) else None, lanes, steps),
    )


def run_tiles(
    kernel: Callable[..., None], arguments: tuple[Any, ...], net: tuple[Any, ...], tiles: Tiles, run: Run
) -> None:
    """The kernel on every tile."""
    for _ in run(lambda tile: kernel(*arguments, net, int(tile[0]), int(tile[1])), tiles):
        pass


def _taken_apart(amplitude: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(scale, matrix) of a `Step`."""
    if len(amplitude) < 2:
        return amplitude.reshape(-1), np.empty((0, 0), amplitude.dtype)
    units = len(amplitude)
    matrix = np.zeros((padded(units), units), amplitude.dtype)
    matrix[:units] = amplitude.T
    return np.ones(units, amplitude.dtype), matrix


@kernel(inline=True)
def place(index: int, count: int) -> int:
    """The place of an index on an axis that may have one entry for all."""
    return index if count > 1 else 0


@kernel(inline=True)
def whole(lanes: int, batch: int) -> int:
    """Rows of the products of a tile; a lane that is alone in its batch has no twin to agree with."""
    return 1 if batch == 1 else (lanes + _ROWS - 1) // _ROWS * _ROWS


@kernel(inline=True)
def copy(source: FloatArray, target: FloatArray) -> None:
    """target = source, as far as the rows of `target` go."""
    for row in range(target.shape[0]):
        for unit in range(target.shape[1]):
            target[row, unit] = source[row, unit]


@kernel(inline=True)
def turning(rows: int, units: int, group: int, like: FloatArray) -> FloatArray:
    """Scratch by which `multiply` goes where it must or that is faster; empty where it need not."""
    columns = min(group, rows) if group > 0 else rows
    needed = group > 0 or (like.itemsize == 4 and units >= _WIDE)
    return np.empty((units if needed else 0, max(columns, 1)), like.dtype)


@kernel(inline=True)
def multiply(left: FloatArray, right: FloatArray, right_t: FloatArray, turned: FloatArray, out: FloatArray) -> None:
    """out = left right, by way of `turned` = out^T of some rows at a time where that is given."""
    if turned.shape[0] == 0:
        np.dot(left, right, out)
    else:
        columns = turned.shape[1]
        for first in range(0, out.shape[0], columns):
            np.dot(right_t, left[first : first + columns].T, turned)
            for block in range(0, out.shape[1], _BLOCK):
                for row in range(columns):
                    for unit in range(block, min(block + _BLOCK, out.shape[1])):
                        out[first + row, unit] = turned[unit, row]


@kernel()
def _product(left: FloatArray, right: FloatArray, right_t: FloatArray, group: int, out: FloatArray) -> None:
    multiply(left, right, right_t, turning(left.shape[0], right.shape[1], group, left), out)


@cache
def product_group(dtype: np.dtype[Any]) -> int:
    """The largest group of lanes over which this machine's BLAS gives equal lanes equal bits; 0 is a whole tile.

    Found by products of equal rows; alone, a lane is always equal to itself. Cost: milliseconds, once per process.
    """
    draw = np.random.default_rng(0)
    for group in _GROUPS:
        alike = True
        for units in (17, 64, 100, _WIDE):
            right = draw.standard_normal((units, units)).astype(dtype)
            left = np.repeat(draw.standard_normal((1, units)).astype(dtype), 2 * _ROWS, axis=0)
            out = np.empty_like(left)
            with one_blas_thread():
                _product(frozen(left), frozen(right), frozen(np.ascontiguousarray(right.T)), group, out)
            alike = alike and bool((out == out[0]).all())
        if alike:
            return group
    return _GROUPS[-1]


class Scratch(NamedTuple):
    """Memory for the noise of a tile: deviates [rows, N padded], what a matrix makes of them [rows, N], each with no
    rows where there is none, and what that takes."""

    deviates: FloatArray
    spread: FloatArray
    turned: FloatArray


@kernel(inline=True)
def scratch(motion: Step, rows: int, units: int) -> Scratch:
    """Memory for the noise."""
    deviates = np.zeros((rows if motion.scale.size > 0 else 0, padded(units)), motion.push.dtype)
    spread = np.empty((rows if motion.matrix.size > 0 else 0, units), motion.push.dtype)
    return Scratch(deviates, spread, turning(spread.shape[0], units, motion.group, motion.push))


@kernel(inline=True)
def draw(noisy: Scratch, motion: Step, noise: Address, t: int, lo: int, hi: int) -> None:
    """The noise of step t."""
    if noisy.deviates.shape[0] > 0:
        tile, ids, words = noisy.deviates[: hi - lo], noise.ids[lo:hi], noise.words[lo:hi]
        normal_tile(tile, noise.seed, noise.step, noise.first + t, noise.coarse, ids, words)
        if noisy.spread.shape[0] > 0:
            multiply(noisy.deviates, motion.matrix, motion.matrix.T, noisy.turned, noisy.spread)


@kernel(inline=True)
def keep(now: FloatArray, out: Trajectory, t: int, lo: int, hi: int) -> None:
    """Record the state after step t (-1: the first state), if it is to be recorded."""
    if out.every > 0 and (t + 1) % out.every == 0:
        copy(now, out.states[(t + 1) // out.every, lo:hi])


@kernel(inline=True)
def bring(current: FloatArray, motion: Step, t: int, lo: int) -> None:
    """current = steady + force, where step t differs from the step before."""
    steady, force = motion.steady, motion.force
    if t == 0 or force.shape[0] > 1:
        for row in range(current.shape[0]):
            lane = place(lo + row, steady.shape[0])
            for unit in range(current.shape[1]):
                current[row, unit] = steady[lane, unit]
            if force.shape[0] > 0:
                for unit in range(current.shape[1]):
                    current[row, unit] += force[t, lo + row, unit]


@kernel(inline=True)
def advance(
    z: FloatArray,
    inflow: FloatArray,
    current: FloatArray,
    leak: Scalar,
    motion: Step,
    noisy: Scratch,
    out: Trajectory,
    t: int,
    lo: int,
) -> None:
    """Step t of a tile z by `F + steady + force = inflow - leak z + current`.  `inflow` may be overwritten."""
    if t == out.steps - 1:
        copy(z, out.before[lo : lo + z.shape[0]])
    xi = noisy.spread if noisy.spread.shape[0] > 0 else noisy.deviates
    if motion.slew.shape[0] > 0:
        _change(z, inflow, current, leak, motion.push, motion.slew, out.limited, lo)
        _add(z, inflow, xi, motion.scale)
    elif xi.shape[0] > 0:
        _move_noisily(z, inflow, current, leak, motion.push, xi, motion.scale)
    else:
        _move(z, inflow, current, leak, motion.push)
    if motion.low.shape[0] > 0:
        _hold(z, motion.low, motion.high, out.limited, lo)


@kernel(inline=True)
def _move(z: FloatArray, inflow: FloatArray, current: FloatArray, leak: Scalar, push: FloatArray) -> None:
    for row in range(z.shape[0]):
        for unit in range(z.shape[1]):
            old = z[row, unit]
            z[row, unit] = old + push[unit] * (inflow[row, unit] - leak * old + current[row, unit])


@kernel(inline=True)
def _move_noisily(
    z: FloatArray,
    inflow: FloatArray,
    current: FloatArray,
    leak: Scalar,
    push: FloatArray,
    xi: FloatArray,
    scale: FloatArray,
) -> None:
    for row in range(z.shape[0]):
        for unit in range(z.shape[1]):
            old = z[row, unit]
            change = push[unit] * (inflow[row, unit] - leak * old + current[row, unit])
            z[row, unit] = old + change + scale[unit] * xi[row, unit]


@kernel(inline=True)
def _change(
    z: FloatArray,
    inflow: FloatArray,
    current: FloatArray,
    leak: Scalar,
    push: FloatArray,
    slew: FloatArray,
    limited: FlagArray,
    lo: int,
) -> None:
    """inflow = the change that the slew limit allows."""
    for row in range(z.shape[0]):
        over = np.int32(0)
        for unit in range(z.shape[1]):
            change = push[unit] * (inflow[row, unit] - leak * z[row, unit] + current[row, unit])
            beyond = abs(change) > slew[unit]
            inflow[row, unit] = math.copysign(slew[unit], change) if beyond else change
            over |= np.int32(beyond)
        if over != 0:
            limited[lo + row] = True


@kernel(inline=True)
def _add(z: FloatArray, change: FloatArray, xi: FloatArray, scale: FloatArray) -> None:
    """z = z + change + scale xi."""
    for row in range(z.shape[0]):
        for unit in range(z.shape[1]):
            z[row, unit] += change[row, unit]
        if xi.shape[0] > 0:
            for unit in range(z.shape[1]):
                z[row, unit] += scale[unit] * xi[row, unit]


@kernel(inline=True)
def _hold(z: FloatArray, low: FloatArray, high: FloatArray, limited: FlagArray, lo: int) -> None:
    """z = clip(z, low, high)."""
    for row in range(z.shape[0]):
        below, above = place(lo + row, low.shape[0]), place(lo + row, high.shape[0])
        over = np.int32(0)
        for unit in range(z.shape[1]):
            free = z[row, unit]
            held = low[below, unit] if free < low[below, unit] else free  # in this order a NaN stays
            held = high[above, unit] if free > high[above, unit] else held
            z[row, unit] = held
            over |= np.int32((held != free) & (low[below, unit] < high[above, unit]) & (free == free))
        if over != 0:
            limited[lo + row] = True
