"""Spectral radius of one relaxation step."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate

from .equilibrium import DIRECT_LIMIT, in_float64


def spectral_radius(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z: Float[Array, "B N"],
    step_size: float,
) -> Float[Array, " B"]:
    """`rho = max |eigenvalue of 1 + eps J(z)|` for each lane: how fast the slowest mode settles, per step.

    All eigenvalues of the dense matrix for small N; above `DIRECT_LIMIT` units Arnoldi iteration (ARPACK), which finds
    the largest modulus of complex pairs as well, where a power iteration would turn in circles. A lane that is not
    finite, or an Arnoldi run that does not converge, gives NaN.

    Args:
        substrate, theta, x: the network, [B, M] inputs.
        z: [B, N] states at which to linearise.
        step_size: eps.
    """
    theta, x, z = in_float64(theta), np.asarray(x, np.float64), np.asarray(z, np.float64)
    radius = np.full(len(z), np.nan)
    finite = np.flatnonzero(np.isfinite(z).all(axis=1))
    if not finite.size:
        return radius
    if substrate.units <= DIRECT_LIMIT:
        steps = np.eye(substrate.units) + step_size * substrate.jacobian(z[finite], x[finite], theta)
        radius[finite] = np.abs(np.linalg.eigvals(steps)).max(axis=1)
        return radius
    for lane in finite:
        radius[lane] = _arnoldi(substrate, theta, x[lane : lane + 1], z[lane : lane + 1], step_size)
    return radius


def _arnoldi(
    substrate: Substrate, theta: Parameters, x: Float[Array, "1 M"], z: Float[Array, "1 N"], step_size: float
) -> float:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

    def step(v: Float[Array, " N"]) -> Float[Array, " N"]:
        return v.ravel() + step_size * substrate.tangent(v.reshape(1, -1), z, x, theta)[0]

    operator = LinearOperator((substrate.units, substrate.units), matvec=step, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(substrate.units)
    try:
        # a few values beyond the first, since nearly equal moduli (complex pairs) slow a single one down
        values = eigs(operator, k=6, which="LM", v0=start, return_eigenvectors=False, tol=1e-10, maxiter=3000)
    except ArpackNoConvergence as error:
        values = error.eigenvalues
    return float(np.abs(values).max()) if len(values) else float("nan")
