"""Relaxation of coupled phase oscillators on a tile of lanes."""

from typing import NamedTuple

import numpy as np

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
    draw,
    keep,
    multiply,
    run_tiles,
    scratch,
    turning,
    whole,
)
from .elementwise import sincos


class Oscillators(NamedTuple):
    """Phases that pull each other:

        F_i = sum_j K_ij sin(z_j - z_i) + across_i cos z_i - along_i sin z_i + s sin 2 z_i
            = cos z_i ((K sin z)_i + across_i) - sin z_i ((K cos z)_i + along_i) + 2 s sin z_i cos z_i

    to which `Motion.steady` adds natural frequencies.

    Args:
        weights_t, weights: [N, N], K^T and K.
        across, along: [B, N], constant: sums of `H sin x` and `H cos x` over reference phases x.
        locking: s.
    """

    weights_t: FloatArray
    weights: FloatArray
    across: FloatArray
    along: FloatArray
    locking: float


@kernel()
def _relax_oscillators(out: Trajectory, motion: Step, noise: Address, net: Oscillators, lo: int, hi: int) -> None:
    z = out.z
    lanes, units = hi - lo, z.shape[1]
    rows = whole(lanes, z.shape[0])
    now = z[lo:hi]
    waves = np.zeros((2 * rows, units), z.dtype)  # sines, then cosines
    pulls = np.empty((2 * rows, units), z.dtype)
    sine, cosine, across, along = waves[:rows], waves[rows:], pulls[:rows], pulls[rows:]
    current = np.empty((lanes, units), z.dtype)
    turned = turning(2 * rows, units, motion.group, z)
    noisy = scratch(motion, rows, units)
    leak, twice = z.dtype.type(0), z.dtype.type(2 * net.locking)
    keep(now, out, -1, lo, hi)
    for t in range(out.steps):
        for row in range(lanes):
            for unit in range(units):
                sine[row, unit], cosine[row, unit] = sincos(now[row, unit])
        multiply(waves, net.weights_t, net.weights, turned, pulls)
        for row in range(lanes):
            for unit in range(units):
                s, c = sine[row, unit], cosine[row, unit]
                toward = c * (across[row, unit] + net.across[lo + row, unit])
                away = s * (along[row, unit] + net.along[lo + row, unit])
                across[row, unit] = toward - away + twice * s * c
        bring(current, motion, t, lo)
        draw(noisy, motion, noise, t, lo, hi)
        advance(now, across, current, leak, motion, noisy, out, t, lo)
        keep(now, out, t, lo, hi)


def relax_oscillators(
    trajectory: Trajectory, motion: Motion, noise: Noise, net: Oscillators, tiles: Tiles, run: Run = map
) -> None:
    """Relaxation in place; arguments, errors and bits as in `relax_coupled`.

    Cost: per step, lane and unit, 2 N multiply-adds, 2 ns for sine, cosine and update (float32), and the noise.
    """
    z = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    shape, square = z.shape, (z.shape[1],) * 2
    checked_net = Oscillators(
        weights_t=given("weights_t", net.weights_t, z, square),
        weights=given("weights", net.weights, z, square),
        across=given("across", net.across, z, shape),
        along=given("along", net.along, z, shape),
        locking=float(net.locking),
    )
    run_tiles(_relax_oscillators, arguments, checked_net, tiles, run)
