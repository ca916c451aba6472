"""What all relaxations share: their arguments, and one step once the field is known.

Inside the kernels some lanes at a time run through all steps, as arrays [lanes, N] that stay in the cache; every lane
does the same operations in the same order whatever lies beside it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hwsim.contracts.errors import InputError

from ._check import (
    Address,
    FlagArray,
    FloatArray,
    Noise,
    check_force,
    check_tiles,
    flags,
    given,
    noise_address,
    recording,
    same,
    writable,
)
from ._compile import Scalar, kernel
from ._product import Weights, given_weights, multiply_dense, turning, wide
from .noise import normal_tile, padded

_SOME, _MANY = 128, 512  # units
_AHEAD = 16  # rows of deviates that are drawn at once, at least, since one alone costs more


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
        amplitude: [1, N] standard deviations of the noise of one step; [0, 0] for none.
        mixing: [N, N] laid out, what multiplies independent deviates before that; `no_weights` for nothing.
        slew: [N] largest change of one step, or [0] for no limit.
        low, high: [1, N] or [B, N] rails, or both [0, 0] for none.
    """

    push: FloatArray
    steady: FloatArray
    force: FloatArray
    amplitude: FloatArray
    mixing: Weights
    slew: FloatArray
    low: FloatArray
    high: FloatArray


Tiles: TypeAlias = Sequence[tuple[int, int]]
"""(lo, hi) of lanes lo to hi - 1, disjoint; lanes in none are left alone."""
Run: TypeAlias = Callable[[Callable[[tuple[int, int]], None], Tiles], Iterable[None]]
"""How to run the tiles, in any order: `map`, or that of an executor."""


Arguments: TypeAlias = tuple[Trajectory, Motion, Address]
"""The first three of every kernel: inputs read-only, noise as counter words."""


def checked(trajectory: Trajectory, motion: Motion, noise: Noise, tiles: Tiles) -> Arguments:
    """The first three as a kernel takes them.

    Raises:
        InputError: a shape, a type, a tile or a part of the noise address does not fit.
    """
    z, steps, every = writable("z", trajectory.z, 2), int(trajectory.steps), int(trajectory.every)
    if steps < 0 or every < 0:
        raise InputError(f"asked for {steps} steps, every {every}-th of them recorded; both must be at least 0")
    shape = lanes, units = z.shape
    check_tiles(tiles, lanes)
    rails = ((0, 0),) if 0 in (len(motion.low), len(motion.high)) else ((1, units), shape)
    amplitude = given("amplitude", motion.amplitude, z, (1, units), (0, 0))
    mixed = len(motion.mixing.panels) > 0 and len(amplitude) > 0
    same("before", writable("before", trajectory.before, 2), z, shape)
    recording(trajectory.states, z, steps, every)
    flags("limited", trajectory.limited, lanes)
    return (
        trajectory._replace(steps=steps, every=every),
        Motion(
            push=given("push", motion.push, z, (units,)),
            steady=given("steady", motion.steady, z, (1, units), shape),
            force=check_force(motion.force, z, steps),
            amplitude=amplitude,
            mixing=given_weights("mixing", motion.mixing, z, units if mixed else 0),
            slew=given("slew", motion.slew, z, (units,), (0,)),
            low=given("low", motion.low, z, *rails),
            high=given("high", motion.high, z, *rails),
        ),
        noise_address(noise if len(amplitude) else None, lanes, steps),
    )


def as_given(trajectory: Trajectory, motion: Motion, noise: Noise) -> Arguments:
    """The same without a look at the arrays: read-only inputs as `checked` gives them."""
    lanes = len(trajectory.z) if len(motion.amplitude) else 0
    return trajectory, motion, noise_address(noise if lanes else None, lanes, trajectory.steps)


def run_tiles(
    kernel: Callable[..., None],
    arguments: Arguments,
    net: Any,
    tiles: Tiles,
    run: Run,
    *,
    passes: int,
) -> None:
    """The kernel on every tile, with memory for `passes` passes of its own over the lanes that run together."""
    trajectory, motion, _ = arguments
    if trajectory.steps == 0:
        for lo, hi in tiles:
            trajectory.before[lo:hi] = trajectory.z[lo:hi]

    def settle(tile: tuple[int, int]) -> None:
        low, high = tile
        if low < high:
            kernel(*arguments, net, room(passes, trajectory.z, motion, net.weights, high - low), low, high)

    if len(tiles) == 1:
        settle(tiles[0])
        return
    for _ in run(settle, tiles):
        pass


@kernel(inline=True)
def place(index: int, count: int) -> int:
    """The place of an index on an axis that may have one entry for all."""
    return index if count > 1 else 0


def together(lanes: int, units: int, *, sparse: bool = False) -> int:
    """How many of some lanes run through all steps together, in equal parts: up to 128 of few units, so that twins meet
    and share their noise; up to 32 where couplings and states then just fit into a second cache, or where couplings
    are sparse, which meet 32 lanes at a time; else up to 64."""
    most = 128 if units <= _SOME else 32 if units < _MANY or sparse else 64
    return -(-lanes // max(1, -(-lanes // most)))


@kernel(inline=True)
def copy(source: FloatArray, target: FloatArray) -> None:
    """target = source, which may be smaller."""
    for row in range(source.shape[0]):
        for unit in range(source.shape[1]):
            target[row, unit] = source[row, unit]


class Room(NamedTuple):
    """Memory in which some lanes run through all steps, overwritten.

    Args:
        together: how many lanes at a time.
        rows: [(2 + passes) together, N and more]: the constant part of the field, noise that a matrix mixes, and then
            the passes of the kernel.
        turned: scratch of `multiply`.
        deviates: [K together, N padded] of K time steps, or no rows where nothing is noisy.
    """

    together: int
    rows: FloatArray
    turned: FloatArray
    deviates: FloatArray


def room(passes: int, z: FloatArray, motion: Motion, weights: Weights, lanes: int) -> Room:
    """Memory for a tile of `lanes` lanes of z; pages that no pass touches cost nothing."""
    units = z.shape[1]
    most = together(lanes, units, sparse=len(weights.start) > 0)
    ahead = -(-_AHEAD // most) if motion.amplitude.size else 0
    return Room(
        together=most,
        rows=np.empty(((2 + passes) * most, wide(units, z)), z.dtype),
        turned=turning(most, units, weights, z),
        deviates=np.zeros((ahead * most, padded(units)), z.dtype),
    )


@kernel(inline=True)
def part(here: Room, index: int, lanes: int) -> FloatArray:
    """Rows of the memory, [lanes, N and more]: 0 and 1 belong to the step, 2 and more to the kernel."""
    return here.rows[index * here.together : index * here.together + lanes]


@kernel(inline=True)
def lanes_of(noise: Address, lo: int, hi: int) -> Address:
    """The address of some lanes."""
    return Address(noise.seed, noise.step, noise.first, noise.coarse, noise.ids[lo:hi], noise.words[lo:hi])


@kernel(inline=True)
def draw(here: Room, motion: Motion, noise: Address, t: int, steps: int) -> FloatArray:
    """The noise of step t, [lanes, N and more], or no rows."""
    lanes, deviates = noise.ids.size, here.deviates
    xi = deviates
    if deviates.shape[0] > 0:
        ahead = deviates.shape[0] // here.together
        later = t % ahead
        if later == 0:
            rows = deviates[: min(ahead, steps - t) * lanes]
            normal_tile(rows, noise.seed, noise.step, noise.first + t, noise.coarse, noise.ids, noise.words)
        xi = deviates[later * lanes : (later + 1) * lanes]
        if motion.mixing.panels.size > 0:
            multiply_dense(xi, motion.mixing.panels, motion.mixing.span, part(here, 1, lanes))
            xi = part(here, 1, lanes)
    return xi


@kernel(inline=True)
def keep(now: FloatArray, out: Trajectory, t: int, lo: int, hi: int) -> None:
    """Record the state after step t (-1: the first state), if it is to be recorded."""
    if out.every > 0 and (t + 1) % out.every == 0:
        copy(now, out.states[(t + 1) // out.every, lo:hi])


@kernel(inline=True)
def bring(current: FloatArray, motion: Motion, t: int, lo: int) -> None:
    """current = steady + force, where step t differs from the step before."""
    steady, force = motion.steady, motion.force
    if t == 0 or force.shape[0] > 1:
        for row in range(current.shape[0]):
            lane = place(lo + row, steady.shape[0])
            for unit in range(steady.shape[1]):
                current[row, unit] = steady[lane, unit]
            if force.shape[0] > 0:
                for unit in range(steady.shape[1]):
                    current[row, unit] += force[t, lo + row, unit]


@kernel(inline=True)
def advance(
    z: FloatArray,
    inflow: FloatArray,
    current: FloatArray,
    leak: Scalar,
    motion: Motion,
    xi: FloatArray,
    out: Trajectory,
    t: int,
    lo: int,
) -> None:
    """Step t of a tile z by `F + steady + force = inflow - leak z + current`.  `inflow` may be overwritten."""
    if t == out.steps - 1:
        copy(z, out.before[lo : lo + z.shape[0]])
    if motion.slew.shape[0] > 0:
        _change(z, inflow, current, leak, motion.push, motion.slew, out.limited, lo)
        _add(z, inflow, xi, motion.amplitude)
    elif xi.shape[0] > 0:
        _move_noisily(z, inflow, current, leak, motion.push, xi, motion.amplitude)
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
    amplitude: FloatArray,
) -> None:
    for row in range(z.shape[0]):
        for unit in range(z.shape[1]):
            old = z[row, unit]
            change = push[unit] * (inflow[row, unit] - leak * old + current[row, unit])
            z[row, unit] = old + change + amplitude[0, unit] * xi[row, unit]


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
def _add(z: FloatArray, change: FloatArray, xi: FloatArray, amplitude: FloatArray) -> None:
    """z = z + change + amplitude xi."""
    for row in range(z.shape[0]):
        for unit in range(z.shape[1]):
            z[row, unit] += change[row, unit]
        if xi.shape[0] > 0:
            for unit in range(z.shape[1]):
                z[row, unit] += amplitude[0, unit] * xi[row, unit]


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
