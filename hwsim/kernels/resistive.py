"""Relaxation of the nodes of a circuit of resistors and diodes on a tile of lanes."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwsim.contracts.errors import InputError

from ._check import Address, FloatArray, IndexArray, Noise, frozen, given
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
    copy,
    draw,
    keep,
    lanes_of,
    part,
    run_tiles,
)
from .elementwise import expm1

SHOCKLEY, IDEAL = range(2)
"""Codes of the diode law: `a (exp(u / b) - 1)`, linear above `u = 60 b`, and `a max(u - b, 0)`."""
_LINEAR_ABOVE = 60.0


class Circuit(NamedTuple):
    """Nodes that exchange currents through resistors (a matrix) and diodes (one by one):

        F = W v + sum_d I_d(u_d) into_d,    u_d = gain_d1 v_first_d + gain_d2 v_second_d + bias_d

    to which `Motion.steady` adds what the sources bring through resistors.  Diodes of the same law stand together.

    Args:
        weights: W, laid out, 1 / time constant.
        ends: [2, D] int64, the first and the second node of each diode; any where its gain and return are 0.
        gain, into: [2, D], what the voltage of each of them adds to u_d, and what the current adds to each of their F.
        bias: [B, D], what the sources add to u_d.
        until: [L] int64, the diodes of law l are those from until[l - 1] (0 for the first) to until[l] - 1.
        law: [L] int64, SHOCKLEY or IDEAL.
        parameters: [L, 2], a and b.
    """

    weights: Weights
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
def _relax_circuit(
    out: Trajectory, motion: Motion, noise: Address, net: Circuit, room: Room, low: int, high: int
) -> None:
    v = out.z
    leak = v.dtype.type(0)
    junction = room.rows[4 * room.together :].reshape(-1)[: net.ends.shape[1]]
    for lo in range(low, high, room.together):
        hi = min(lo + room.together, high)
        lanes = hi - lo
        now, here = v[lo:hi], lanes_of(noise, lo, hi)
        current, voltage, inflow = part(room, 0, lanes), part(room, 2, lanes), part(room, 3, lanes)
        keep(now, out, -1, lo, hi)
        for t in range(out.steps):
            copy(now, voltage)
            multiply_dense(voltage, net.weights.panels, net.weights.span, inflow)
            if junction.size > 0:
                _conduct(now, inflow, junction, net, lo)
            bring(current, motion, t, lo)
            xi = draw(room, motion, here, t, out.steps)
            advance(now, inflow, current, leak, motion, xi, out, t, lo)
            keep(now, out, t, lo, hi)


def relax_circuit(
    trajectory: Trajectory,
    motion: Motion,
    noise: Noise,
    net: Circuit,
    tiles: Tiles,
    run: Run = map,
    *,
    trusted: bool = False,
) -> None:
    """Relaxation in place; arguments, errors and bits as in `relax_coupled`.

    Cost: per step and lane, N^2 multiply-adds, 10 ns per Shockley diode, 6 ns per ideal one (AVX2), and the noise.
    """
    if trusted:
        run_tiles(_relax_circuit, as_given(trajectory, motion, noise), net, tiles, run, passes=_passes(net, trajectory))
        return
    v = trajectory.z
    arguments = checked(trajectory, motion, noise, tiles)
    shape = v.shape
    diodes, laws = net.ends.shape[-1], net.law.shape[-1]
    checked_net = Circuit(
        weights=given_weights("weights", net.weights, v, shape[1]),
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
    run_tiles(_relax_circuit, arguments, checked_net, tiles, run, passes=_passes(checked_net, trajectory))


def _passes(net: Circuit, trajectory: Trajectory) -> int:
    """Voltages, currents, and room for the voltage across every diode."""
    return 2 + -(-net.ends.shape[1] // trajectory.z.shape[1])


def _indices(name: str, array: NDArray[Any], shape: tuple[int, ...], limit: int) -> IndexArray:
    """The array, if it is int64 of that shape with values from 0 to limit - 1."""
    if array.dtype != np.int64 or array.shape != shape or not array.flags.c_contiguous:
        raise InputError(f"{name} must be C-contiguous int64 {list(shape)}; found {array.dtype} {list(array.shape)}")
    if array.size and not (array.min() >= 0 and array.max() < limit):
        raise InputError(f"{name} must be from 0 to {limit - 1}; found {array.min()} to {array.max()}")
    return frozen(array)
