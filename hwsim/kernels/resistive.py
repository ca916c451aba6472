"""Relaxation of the nodes of a circuit of resistors and diodes on a tile of lanes."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwsim.contracts.errors import InputError

from ._check import Address, FloatArray, Noise, frozen, given
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
    run_tiles,
    scratch,
    turning,
    whole,
)
from .elementwise import expm1

SHOCKLEY, IDEAL = range(2)
"""Codes of the diode law: `a (exp(u / b) - 1)`, linear above `u = 60 b`, and `a max(u - b, 0)`."""
_LINEAR_ABOVE = 60.0

IndexArray: TypeAlias = NDArray[np.int64]


class Circuit(NamedTuple):
    """Nodes that exchange currents through resistors (a matrix) and diodes (one by one):

        F = W v + sum_d I_d(u_d) into_d,    u_d = gain_d1 v_first_d + gain_d2 v_second_d + bias_d

    to which `Motion.steady` adds what the sources bring through resistors.  Diodes of the same law stand together.

    Args:
        weights_t, weights: [N, N], W^T and W, 1 / time constant.
        ends: [2, D] int64, the first and the second node of each diode; any where its gain and return are 0.
        gain, into: [2, D], what the voltage of each of them adds to u_d, and what the current adds to each of their F.
        bias: [B, D], what the sources add to u_d.
        until: [L] int64, the diodes of law l are those from until[l - 1] (0 for the first) to until[l] - 1.
        law: [L] int64, SHOCKLEY or IDEAL.
        parameters: [L, 2], a and b.
    """

    weights_t: FloatArray
    weights: FloatArray
    ends: IndexArray
    gain: FloatArray
    into: FloatArray
    bias: FloatArray
    until: IndexArray
    law: IndexArray
    parameters: FloatArray


@kernel(inline=True)
def _conduct(v: FloatArray, inflow: FloatArray, u: FloatArray, net: Circuit, lo: int) -> None:
    """inflow += the currents of all diodes at v.  `u` [D] is scratch."""
    ends, gain, into, bias, parameters = net.ends, net.gain, net.into, net.bias, net.parameters
    one, highest = v.dtype.type(1), v.dtype.type(_LINEAR_ABOVE)
    for row in range(v.shape[0]):
        for d in range(u.size):
            u[d] = gain[0, d] * v[row, ends[0, d]] + gain[1, d] * v[row, ends[1, d]] + bias[lo + row, d]
        begin = 0
        for each in range(net.law.size):
            end, a, b = net.until[each], parameters[each, 0], parameters[each, 1]
            if net.law[each] == SHOCKLEY:
                per_knee = one / b
                for d in range(begin, end):
                    exponent = u[d] * per_knee
                    below = highest if exponent > highest else exponent  # in this order a NaN stays
                    rise = expm1(below)
                    u[d] = a * (rise + (rise + one) * (exponent - below))
            else:
                for d in range(begin, end):
                    over = u[d] - b
                    u[d] = v.dtype.type(0) if over < 0 else a * over
            begin = end
        for d in range(u.size):
            inflow[row, ends[0, d]] += into[0, d] * u[d]
            inflow[row, ends[1, d]] += into[1, d] * u[d]


@kernel()
def _relax_circuit(out: Trajectory, motion: Step, noise: Address, net: Circuit, lo: int, hi: int) -> None:
    v = out.z
    lanes, units = hi - lo, v.shape[1]
    rows = whole(lanes, v.shape[0])
    now = v[lo:hi]
    voltage = np.zeros((rows, units), v.dtype)
    inflow = np.empty((rows, units), v.dtype)
    current = np.empty((lanes, units), v.dtype)
    junction = np.empty(net.ends.shape[1], v.dtype)
    turned = turning(rows, units, motion.group, v)
    noisy = scratch(motion, rows, units)
    leak = v.dtype.type(0)
    keep(now, out, -1, lo, hi)
    for t in range(out.steps):
        copy(now, voltage[:lanes])
        multiply(voltage, net.weights_t, net.weights, turned, inflow)
        if junction.size > 0:
            _conduct(now, inflow, junction, net, lo)
        bring(current, motion, t, lo)
        draw(noisy, motion, noise, t, lo, hi)
        advance(now, inflow, current, leak, motion, noisy, out, t, lo)
        keep(now, out, t, lo, hi)


def relax_circuit(
    trajectory: Trajectory, motion: Motion, noise: Noise, net: Circuit, tiles: Tiles, run: Run = map
) -> None:
    """Relaxation in place; arguments, errors and bits as in `relax_coupled`.

    Cost: per step and lane, N^2 multiply-adds, 10 ns per Shockley diode, 6 ns per ideal one (AVX2), and the noise.
    """
    v = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    shape, square = v.shape, (v.shape[1],) * 2
    diodes, laws = net.ends.shape[-1], net.law.shape[-1]
    checked_net = Circuit(
        weights_t=given("weights_t", net.weights_t, v, square),
        weights=given("weights", net.weights, v, square),
        ends=_indices("ends", net.ends, (2, diodes), shape[1]),
        gain=given("gain", net.gain, v, (2, diodes)),
        into=given("into", net.into, v, (2, diodes)),
        bias=given("bias", net.bias, v, (len(v), diodes)),
        until=_indices("until", net.until, (laws,), diodes + 1),
        law=_indices("law", net.law, (laws,), IDEAL + 1),
        parameters=given("parameters", net.parameters, v, (laws, 2)),
    )
    if np.any(np.diff(net.until, prepend=0) < 0):
        raise InputError(f"the diodes of each law must follow those of the law before; found until={net.until}")
    run_tiles(_relax_circuit, arguments, checked_net, tiles, run)


def _indices(name: str, array: NDArray[Any], shape: tuple[int, ...], limit: int) -> IndexArray:
    """The array, if it is int64 of that shape with values from 0 to limit - 1."""
    if array.dtype != np.int64 or array.shape != shape or not array.flags.c_contiguous:
        raise InputError(f"{name} must be C-contiguous int64 {list(shape)}; found {array.dtype} {list(array.shape)}")
    if array.size and not (array.min() >= 0 and array.max() < limit):
        raise InputError(f"{name} must be from 0 to {limit - 1}; found {array.min()} to {array.max()}")
    return frozen(array)
