"""Relaxation of coupled phase oscillators on a tile of lanes."""

from typing import NamedTuple

from ._check import Address, FloatArray, Noise, given
from ._compile import kernel
from ._product import Weights, given_weights, multiply_dense
from ._step import (
    Motion,
    Room,
    Run,
    Tiles,
    Trajectory,
    advance,
    as_given,
    bring,
    checked,
    draw,
    keep,
    lanes_of,
    part,
    run_tiles,
)
from .elementwise import sincos


class Oscillators(NamedTuple):
    """Phases that pull each other:

        F_i = sum_j K_ij sin(z_j - z_i) + across_i cos z_i - along_i sin z_i + s sin 2 z_i
            = cos z_i ((K sin z)_i + across_i) - sin z_i ((K cos z)_i + along_i) + 2 s sin z_i cos z_i

    to which `Motion.steady` adds natural frequencies.

    Args:
        weights: K, laid out.
        across, along: [B, N], constant: sums of `H sin x` and `H cos x` over reference phases x.
        locking: s.
    """

    weights: Weights
    across: FloatArray
    along: FloatArray
    locking: float


@kernel()
def _relax_oscillators(
    out: Trajectory, motion: Motion, noise: Address, net: Oscillators, room: Room, low: int, high: int
) -> None:
    z = out.z
    units = z.shape[1]
    leak, twice = z.dtype.type(0), z.dtype.type(2 * net.locking)
    for lo in range(low, high, room.together):
        hi = min(lo + room.together, high)
        lanes = hi - lo
        now, here, current = z[lo:hi], lanes_of(noise, lo, hi), part(room, 0, lanes)
        waves, pulls = part(room, 2, 2 * lanes), part(room, 4, 2 * lanes)
        sine, cosine, across, along = waves[:lanes], waves[lanes:], pulls[:lanes], pulls[lanes:]
        keep(now, out, -1, lo, hi)
        for t in range(out.steps):
            for row in range(lanes):
                for unit in range(units):
                    sine[row, unit], cosine[row, unit] = sincos(now[row, unit])
            multiply_dense(waves, net.weights.panels, net.weights.span, pulls)
            for row in range(lanes):
                for unit in range(units):
                    s, c = sine[row, unit], cosine[row, unit]
                    toward = c * (across[row, unit] + net.across[lo + row, unit])
                    away = s * (along[row, unit] + net.along[lo + row, unit])
                    across[row, unit] = toward - away + twice * s * c
            bring(current, motion, t, lo)
            xi = draw(room, motion, here, t, out.steps)
            advance(now, across, current, leak, motion, xi, out, t, lo)
            keep(now, out, t, lo, hi)


def relax_oscillators(
    trajectory: Trajectory,
    motion: Motion,
    noise: Noise,
    net: Oscillators,
    tiles: Tiles,
    run: Run = map,
    *,
    trusted: bool = False,
) -> None:
    """Relaxation in place; arguments, errors and bits as in `relax_coupled`.

    Cost: per step, lane and unit, 2 N multiply-adds, 2 ns for sine, cosine and update (float32), and the noise.
    """
    if trusted:
        run_tiles(_relax_oscillators, as_given(trajectory, motion, noise), net, tiles, run, passes=4)
        return
    z = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    shape = z.shape
    checked_net = Oscillators(
        weights=given_weights("weights", net.weights, z, shape[1]),
        across=given("across", net.across, z, shape),
        along=given("along", net.along, z, shape),
        locking=float(net.locking),
    )
    run_tiles(_relax_oscillators, arguments, checked_net, tiles, run, passes=4)
