"""Equilibria and linear solves around them, at the place where references are computed.

In NumPy those of `hwsim.diagnostics`. In torch the same Newton's method with direct solves at every size, as many lanes
at a time as fit `ENTRIES`: where a GPU is worth asking for, a factorisation beats GMRES lane by lane.
"""

from __future__ import annotations

from dataclasses import fields

from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate
from hwsim.diagnostics import Equilibrium, find_equilibrium, newton, solve_linearised

from .place import Place

ENTRIES = 2**27
"""Largest number of entries of the Jacobians that are held at a time in torch, 1 GiB in float64."""


def find_equilibrium_at(
    place: Place,
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z0: Float[Array, "B N"],
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 30,
) -> Equilibrium:
    """`diagnostics.find_equilibrium`, computed at `place`; takes and gives NumPy."""
    if place.torch is None:
        return find_equilibrium(substrate, theta, x, z0, tolerance=tolerance, max_iterations=max_iterations)
    with place.active():
        found = newton(
            substrate,
            place.parameters(theta),
            place.array(x),
            place.array(z0),
            _solve,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
    return Equilibrium(**{field.name: place.back(getattr(found, field.name)) for field in fields(found)})


def solve_linearised_at(
    place: Place,
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z: Float[Array, "B N"],
    rhs: Float[Array, "B N"],
    *,
    transpose: bool = False,
) -> Float[Array, "B N"]:
    """`diagnostics.solve_linearised` with arrays that are at `place` already; NaN in the lane of a singular J."""
    if place.torch is None:
        return solve_linearised(substrate, theta, x, z, rhs, transpose=transpose)
    return _solve(substrate, theta, x, z, rhs, transpose=transpose)


def _solve(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z: Float[Array, "B N"],
    rhs: Float[Array, "B N"],
    *,
    transpose: bool = False,
) -> Float[Array, "B N"]:
    """Direct solves in torch."""
    import torch

    at_once = max(1, ENTRIES // substrate.units**2)
    parts = []
    for first in range(0, len(rhs), at_once):
        some = slice(first, first + at_once)
        jacobian = substrate.jacobian(z[some], x[some], theta)
        matrices = jacobian.mT if transpose else jacobian
        found, singular = torch.linalg.solve_ex(matrices, rhs[some][:, :, None])
        parts.append(torch.where((singular != 0)[:, None], torch.nan, found[:, :, 0]))
    return torch.cat(parts)
