"""Equilibria and linear solves around them, in float64. For judging and drawing, never for training hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array, namespace
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
    return _rms(substrate.field(z, x, theta))


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
    theta, x, z0 = in_float64(theta), np.asarray(x, np.float64), np.asarray(z0, np.float64)
    # a lane that left the finite numbers is an answer, not a floating-point warning
    with np.errstate(over="ignore", invalid="ignore"):
        return newton(substrate, theta, x, z0, solve_linearised, tolerance=tolerance, max_iterations=max_iterations)


def newton(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z0: Float[Array, "B N"],
    solve: Callable[..., Float[Array, "K N"]],
    *,
    tolerance: float,
    max_iterations: int,
) -> Equilibrium:
    """`find_equilibrium` in the arrays and the precision that it is given.

    Args:
        solve: `solve(substrate, theta, x, z, rhs)` gives `J(z)^-1 rhs`, as `solve_linearised` does.
    """
    xp = namespace(z0)
    z = xp.asarray(z0, copy=True)
    done = xp.zeros(z.shape[0], dtype=xp.bool)
    for _ in range(max_iterations):
        left = xp.nonzero(~done)[0]
        rate = substrate.field(z[left], x[left], theta)
        size = _rms(rate)
        # what left the finite numbers is given up, so that it does not spoil the solves of the others
        ended = (size <= tolerance * (1.0 + _rms(z[left]))) | ~xp.isfinite(size)
        done[left[ended]] = True
        if bool(xp.all(ended)):
            break
        lanes = left[~ended]
        z[lanes] -= solve(substrate, theta, x[lanes], z[lanes], rate[~ended])
    final = residual(substrate, theta, x, z)
    converged = xp.isfinite(final) & (final <= 100.0 * tolerance * (1.0 + _rms(z)))
    return Equilibrium(z=z, residual=final, converged=converged)


def _rms(values: Float[Array, "K N"]) -> Float[Array, " K"]:
    """Root of the mean square over units."""
    xp = namespace(values)
    return xp.sqrt(xp.mean(values * values, axis=1))


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
