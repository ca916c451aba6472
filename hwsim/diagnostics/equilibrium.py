"""Equilibria and linear solves around them, in float64. For judging and drawing, never for training hardware."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate

DIRECT_LIMIT = 256
"""Largest N for which Jacobians are formed and factorised; above it GMRES works matrix-free."""


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """Where the field vanishes, found by Newton's method.

    Args:
        z: [B, N] refined states (the last iterate where not converged).
        residual: [B] rms over units of F(z), state units per time constant.
        converged: [B].
    """

    z: Float[Array, "B N"]
    residual: Float[Array, " B"]
    converged: Bool[Array, " B"]


def residual(
    substrate: Substrate, theta: Parameters, x: Float[Array, "B M"], z: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """rms over units of F(z, x): [B], state units per time constant."""
    rate = substrate.field(z, x, theta)
    return np.sqrt(np.mean(rate * rate, axis=1))


def find_equilibrium(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z0: Float[Array, "B N"],
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 30,
) -> Equilibrium:
    """Refine z0 to z* with F(z*) = 0 by Newton's method, `z <- z - J^-1 F`, lane by lane until each has converged.

    Args:
        substrate, theta, x: the network, [B, M] inputs.
        z0: [B, N] where to begin; a settled state for the equilibrium that the device approaches.
        tolerance: on the rms of F, relative to 1 + rms of z.
        max_iterations: Newton steps.

    Cost: one factorisation of [B, N, N] per iteration (GMRES above `DIRECT_LIMIT` units); quadratic near z*.
    """
    theta, x, z = in_float64(theta), np.asarray(x, np.float64), np.array(z0, np.float64)
    done = np.zeros(len(z), bool)
    # a lane that left the finite numbers is an answer, not a floating-point warning
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(max_iterations):
            left = np.flatnonzero(~done)
            rate = substrate.field(z[left], x[left], theta)
            size = np.sqrt(np.mean(rate * rate, axis=1))
            small = size <= tolerance * (1.0 + np.sqrt(np.mean(z[left] ** 2, axis=1)))
            # and given up, so that it does not spoil the solves of the others
            done[left[small | ~np.isfinite(size)]] = True
            go = ~small & np.isfinite(size)
            if not go.any():
                break
            lanes = left[go]
            z[lanes] -= solve_linearised(substrate, theta, x[lanes], z[lanes], rate[go])
        final = residual(substrate, theta, x, z)
        scale = 1.0 + np.sqrt(np.mean(z * z, axis=1))
    converged = np.isfinite(final) & (final <= 100.0 * tolerance * scale)
    return Equilibrium(z=z, residual=final, converged=converged)


def solve_linearised(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z: Float[Array, "B N"],
    rhs: Float[Array, "B N"],
    *,
    transpose: bool = False,
) -> Float[Array, "B N"]:
    """`J(z)^-1 rhs`, or `J(z)^-T rhs` with `transpose`: a direct solve for small N, GMRES above `DIRECT_LIMIT`.

    A singular J gives NaN in its lane, for the caller's certificate to refuse.
    """
    if substrate.units > DIRECT_LIMIT:
        return _gmres(substrate, theta, x, z, rhs, transpose=transpose)
    jacobian = substrate.jacobian(z, x, theta)
    matrices = np.swapaxes(jacobian, 1, 2) if transpose else jacobian
    try:
        return np.linalg.solve(matrices, rhs[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return np.stack([_solve_one(matrix, right) for matrix, right in zip(matrices, rhs, strict=True)])


def _solve_one(matrix: Float[Array, "N N"], right: Float[Array, " N"]) -> Float[Array, " N"]:
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)


def _gmres(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z: Float[Array, "B N"],
    rhs: Float[Array, "B N"],
    *,
    transpose: bool,
) -> Float[Array, "B N"]:
    from scipy.sparse.linalg import LinearOperator, gmres

    product = substrate.cotangent if transpose else substrate.tangent
    solution = np.empty_like(rhs)
    for lane in range(len(rhs)):
        one = slice(lane, lane + 1)

        def apply(v: Float[Array, " N"], one: slice = one) -> Float[Array, " N"]:
            return product(v.reshape(1, -1), z[one], x[one], theta)[0]

        operator = LinearOperator((substrate.units, substrate.units), matvec=apply, dtype=np.float64)
        solution[lane], _ = gmres(operator, rhs[lane], rtol=1e-12, atol=0.0, restart=100, maxiter=20)
    return solution


def in_float64(theta: Parameters) -> Parameters:
    """The same values in float64."""
    return theta.map(lambda block: np.asarray(block, np.float64))
