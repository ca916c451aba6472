"""Newton's method for the operating point of a circuit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError

STEPS, HALVINGS = 200, 60
CURRENT, VOLTAGE = 1e-12, 1e-12
"""Ampere left over at a node, and volt of the last step, at which a lane is done."""


def damped_newton(
    current: Callable[[Float[Array, "B N"]], Float[Array, "B N"]],
    conductance: Callable[[Float[Array, "B N"]], Float[Array, "B N N"]],
    v: Float[Array, "B N"],
) -> Float[Array, "B N"]:
    """v with `current(v) = 0`: `v <- v + l K(v)^-1 current(v)`, K = -d current/dv, lane by lane, in float64.

    l is halved until the largest current does not grow, which keeps a diode from being thrown far up its exponential.
    A lane is done when less than 1e-12 A is left over and a step moves less than 1e-12 V, or rounding lets the current
    shrink no further.

    Raises:
        InputError: K is singular, or no solution after 200 steps.

    Cost: one factorisation of [B, N, N] per step: two steps for a linear circuit, about ten with diodes.
    """
    left = current(v)
    for _ in range(STEPS):
        try:
            step = np.linalg.solve(conductance(v), left[..., None])[..., 0]
        except np.linalg.LinAlgError:
            raise InputError(
                "the conductance matrix is singular: amplifiers cancel the conductances of a node"
            ) from None
        before, length = _largest(left), np.ones((len(v), 1))
        for _ in range(HALVINGS):
            left = current(v + length * step)
            worse = _largest(left) > np.maximum(before, CURRENT)
            if not worse.any():
                break
            length = np.where(worse, length / 2.0, length)
        v = v + length * step
        stalled = (_largest(step) < VOLTAGE) | (_largest(left) > before / 2.0)
        if np.all((_largest(left) < CURRENT) & stalled):
            return v
    raise InputError(
        f"no operating point after {STEPS} Newton steps: {_largest(left).max():.3g} A are left over; begin nearer "
        f"to it (start), or look for amplifiers in a loop"
    )


def _largest(values: Float[Array, "B N"]) -> Float[Array, "B 1"]:
    return np.abs(values).max(axis=1, keepdims=True)
