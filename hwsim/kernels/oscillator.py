"""Relaxation of coupled phase oscillators on a tile of lanes."""

from typing import NamedTuple

import numpy as np

from ._check import Address, FloatArray, Noise, given
from ._compile import kernel
from ._product import Weights, given_weights, multiply, turning, wide
from ._step import (
    Motion,
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
    run_tiles,
    scratch,
    together,
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
def _relax_oscillators(out: Trajectory, motion: Motion, noise: Address, net: Oscillators, low: int, high: int) -> None:
    z = out.z
    units = z.shape[1]
    most, columns = together(high - low, units), wide(units, z)
    waves = np.empty((2 * most, columns), z.dtype)  # sines, then cosines
    pulls = np.empty((2 * most, columns), z.dtype)
    current = np.empty((most, units), z.dtype)
    turned = turning(2 * most, units, net.weights, z)
    noisy = scratch(motion, most, units)
    leak, twice = z.dtype.type(0), z.dtype.type(2 * net.locking)
    for lo in range(low, high, max(most, 1)):
        hi = min(lo + most, high)
        lanes = hi - lo
        now = z[lo:hi]
        sine, cosine = waves[:lanes], waves[lanes : 2 * lanes]
        across, along = pulls[:lanes], pulls[lanes : 2 * lanes]
        both, pulled = waves[: 2 * lanes], pulls[: 2 * lanes]
        currents, here = current[:lanes], lanes_of(noise, lo, hi)
        keep(now, out, -1, lo, hi)
        for t in range(out.steps):
            for row in range(lanes):
                for unit in range(units):
                    sine[row, unit], cosine[row, unit] = sincos(now[row, unit])
            multiply(both, net.weights, turned, pulled)
            for row in range(lanes):
                for unit in range(units):
                    s, c = sine[row, unit], cosine[row, unit]
                    toward = c * (across[row, unit] + net.across[lo + row, unit])
                    away = s * (along[row, unit] + net.along[lo + row, unit])
                    across[row, unit] = toward - away + twice * s * c
            bring(currents, motion, t, lo)
            xi = draw(noisy, motion, here, t, out.steps)
            advance(now, across, currents, leak, motion, xi, out, t, lo)
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
        run_tiles(_relax_oscillators, as_given(trajectory, motion, noise), net, tiles, run)
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
    run_tiles(_relax_oscillators, arguments, checked_net, tiles, run)
