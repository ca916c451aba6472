"""The relaxation of board firmware, bit for bit: the twin of `devices/board/firmware/emulated_f32.c` and `maths.c`.

float32 in a stated order, nothing fused and nothing reordered (no `fastmath` at all), so that a Cortex-M, a PC and this
kernel come to the same states:

    forwards    total_i = sum_j W_ij r(z_j)  (j upwards, one sum)  - z_i + drive_i  [- J v + J^T v]  + force_i
    backwards   total_i = gain_i (sum_j W_ji a_j) - a_i  + force_i
    both        z_i <- z_i + eps total_i,  then z_i <- z_i + amplitude_i xi_i

Sums over j are taken for all i at once, which changes no bit and lets the units run side by side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ._check import Address, FloatArray, Noise, check_force, frozen, given, noise_address, writable
from ._compile import Scalar, kernel
from .elementwise import rational_slope32, rational_tanh32
from .noise import GROUP, box_muller32, padded, philox

_STRICT: frozenset[str] = frozenset()
_0F = np.float32(0)
_LANES = 8


class Firmware(NamedTuple):
    """What the firmware holds. All float32.

    Args:
        weights: [N, N] W.
        weights_t: [N, N] W^T, contiguous.
        drive: [B, N] U x + b, see `firmware_drive`; [0, 0] backwards.
        eps: step.
        amplitude: [N] of the noise of one step, or [0].
        force: [K, B, N], K = 1 constant, `steps` a waveform, 0 none.
        at: [B, N] point of the asymmetric-EP dynamics, or [0, 0].
        gains: [K, B, N] r' where the couplings are driven backwards (K = 1 or `steps`, in the order of the steps), or
            [1, B, N] r'(at), or [0, 0, 0].
    """

    weights: FloatArray
    weights_t: FloatArray
    drive: FloatArray
    eps: Scalar
    amplitude: FloatArray
    force: FloatArray
    at: FloatArray
    gains: FloatArray


@kernel(fastmath=_STRICT)
def _slopes(z: FloatArray, out: FloatArray) -> None:
    for i in range(z.size):
        out[i] = rational_slope32(z[i])


@kernel(fastmath=_STRICT)
def _drive(u: FloatArray, b: FloatArray, x: FloatArray, out: FloatArray) -> None:
    for lane in range(x.shape[0]):
        for i in range(b.size):
            total = _0F
            for j in range(x.shape[1]):
                total += u[i, j] * x[lane, j]
            out[lane, i] = total + b[i]


@kernel(fastmath=_STRICT, inline=True)
def _product(rows: FloatArray, v: FloatArray, out: FloatArray) -> None:
    """out_i = sum_j rows_ji v_j, j upwards."""
    out[:] = _0F
    for j in range(v.size):
        factor = v[j]
        for i in range(v.size):
            out[i] += rows[j, i] * factor


@kernel(fastmath=_STRICT)
def _normals(out: FloatArray, address: Address, row: int, time: int) -> None:
    """The deviates of one lane at one time step, in the firmware's arithmetic; out is padded to whole groups."""
    k0, k1, coarse = np.uint64(address.seed), np.uint64(address.step), address.coarse
    sample, word = np.uint64(address.ids[row]), np.uint64(address.words[row])
    for fine in range(coarse):
        c0 = np.uint64((address.first + time) * coarse + fine)
        for group in range(out.size // GROUP):
            base = group * GROUP
            for lane in range(_LANES):
                block = np.uint64(group * _LANES + lane)
                x0, x1, x2, x3 = philox(c0, block, sample, word, k0, k1)
                n0, n1 = box_muller32(x0, x1)
                n2, n3 = box_muller32(x2, x3)
                at = base + lane
                if fine > 0:
                    n0, n1, n2, n3 = n0 + out[at], n1 + out[at + 8], n2 + out[at + 16], n3 + out[at + 24]
                out[at], out[at + 8], out[at + 16], out[at + 24] = n0, n1, n2, n3
    if coarse > 1:
        root = np.float32(math.sqrt(np.float32(coarse)))
        for i in range(out.size):
            out[i] /= root


@kernel(fastmath=_STRICT, inline=True)
def _copy(source: FloatArray, target: FloatArray) -> None:
    for i in range(source.size):
        target[i] = source[i]


@kernel(fastmath=_STRICT)
def _relax(
    z: FloatArray,
    before: FloatArray,
    states: FloatArray,
    steps: int,
    every: int,
    net: Firmware,
    backwards: bool,
    address: Address,
    room: FloatArray,
) -> None:
    lanes, units = z.shape
    total, rate, back, moved, xi = room[0, :units], room[1, :units], room[2, :units], room[3, :units], room[4]
    corrected, noisy = net.at.shape[0] > 0, net.amplitude.size > 0
    for lane in range(lanes):
        now = z[lane]
        if every > 0:
            _copy(now, states[0, lane])
        for t in range(steps):
            if t + 1 == steps:
                _copy(now, before[lane])
            if backwards:
                gain = net.gains[t if net.gains.shape[0] > 1 else 0, lane]
                _product(net.weights, now, back)
                for i in range(units):
                    total[i] = gain[i] * back[i] - now[i]
            else:
                for i in range(units):
                    rate[i] = rational_tanh32(now[i])
                _product(net.weights_t, rate, total)
                for i in range(units):
                    total[i] = total[i] - now[i] + net.drive[lane, i]
                if corrected:
                    gain = net.gains[0, lane]
                    for i in range(units):
                        moved[i] = now[i] - net.at[lane, i]
                        rate[i] = gain[i] * moved[i]
                    _product(net.weights_t, rate, back)
                    for i in range(units):
                        total[i] -= back[i]
                    _product(net.weights, moved, back)
                    for i in range(units):
                        total[i] += gain[i] * back[i]
            if net.force.shape[0] > 0:
                row = t if net.force.shape[0] > 1 else 0
                for i in range(units):
                    total[i] += net.force[row, lane, i]
            for i in range(units):
                now[i] += net.eps * total[i]
            if noisy:
                _normals(xi, address, lane, t)
                for i in range(units):
                    now[i] += net.amplitude[i] * xi[i]
            if every > 0 and (t + 1) % every == 0:
                _copy(now, states[(t + 1) // every, lane])


def relax_firmware(
    z: FloatArray,
    net: Firmware,
    *,
    steps: int,
    every: int,
    backwards: bool,
    noise: Noise,
) -> tuple[FloatArray, FloatArray]:
    """Run one phase as the firmware would.

    Args:
        z: [B, N] float32, the state, overwritten by the last one.
        net: what it holds.
        steps, every: as in `Phase`.
        backwards: the transposed linear response around `net.gains`.
        noise: the address.

    Returns:
        The state one step before the last [B, N], and the recorded states [1 + steps // every, B, N] ([0, B, N] where
        nothing is recorded).

    Cost: N^2 multiply-adds per lane and step, twice that backwards or (three times) corrected; no BLAS.
    """
    before, like = writable("z", z, 2).copy(), np.empty((0, 0), np.float32)
    lanes, units = z.shape
    states = np.empty((1 + steps // every if every else 0, lanes, units), np.float32)
    noisy = noise if net.amplitude.size else None
    checked = Firmware(
        weights=given("weights", net.weights, like, (units, units)),
        weights_t=given("weights_t", net.weights_t, like, (units, units)),
        drive=given("drive", net.drive, like, z.shape, (0, 0)),
        eps=np.float32(net.eps),
        amplitude=given("amplitude", net.amplitude, like, (units,), (0,)),
        force=check_force(net.force, z, steps),
        at=given("at", net.at, like, z.shape, (0, 0)),
        gains=given("gains", net.gains, like, (1, *z.shape), (steps, *z.shape), (0, 0, 0)),
    )
    room = np.empty((5, padded(units)), np.float32)
    _relax(z, before, states, steps, every, checked, backwards, noise_address(noisy, lanes, steps), room)
    return before, states


def firmware_drive(u: FloatArray, b: FloatArray, x: FloatArray) -> FloatArray:
    """`U x + b` [B, N] of float32 [N, M], [N] and [B, M], summed as the firmware does."""
    out = np.empty((len(x), len(b)), np.float32)
    _drive(frozen(u), frozen(b), frozen(x), out)
    return out


def firmware_slope(z: FloatArray) -> FloatArray:
    """r'(z) of float32 of any shape."""
    out = np.empty(z.size, np.float32)
    _slopes(frozen(np.ascontiguousarray(z, np.float32).ravel()), out)
    return out.reshape(z.shape)


def firmware_normals(noise: Noise, *, units: int, time: int) -> FloatArray:
    """Deviates [B, units] float32 of one time step, in the firmware's arithmetic."""
    lanes = len(noise.ids)
    address = noise_address(noise, lanes, 1)
    out = np.empty((lanes, padded(units)), np.float32)
    for lane in range(lanes):
        _normals(out[lane], address, lane, time)
    return out[:, :units]
