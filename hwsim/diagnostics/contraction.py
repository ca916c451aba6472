"""Logarithmic norms: at which rate nearby trajectories approach each other at the least, whatever their direction."""

from __future__ import annotations

import enum

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate

from .equilibrium import DIRECT_LIMIT, in_float64


class Norm(enum.Enum):
    """In which distances between states are measured."""

    EUCLIDEAN = "2"
    MAXIMUM = "inf"


def log_norm(
    substrate: Substrate,
    theta: Parameters,
    x: Float[Array, "B M"],
    z: Float[Array, "B N"],
    *,
    norm: Norm = Norm.EUCLIDEAN,
    weights: Float[Array, "B N"] | None = None,
) -> Float[Array, " B"]:
    """`mu(J) = lim_{h -> 0} (|1 + h J| - 1) / h` at a state, per time constant: [B].

        mu_2   = lambda_max((J + J^T) / 2),        mu_inf = max_i (J_ii + sum_{j != i} |J_ij|)

    Where mu <= -m at all states, any two trajectories under the same input obey `|delta(t)| <= exp(-m t) |delta(0)|`.
    An Euler step is looser for mu_2 and, while `1 + eps J_ii >= 0`, exact for mu_inf: `|1 + eps J|_inf = 1 + eps mu`.
    mu is never below the largest real part of J's eigenvalues, and may be far above it. A lane that is not finite gives
    NaN.

    Args:
        substrate, theta, x: the network, [B, M] inputs.
        z: [B, N] states at which to linearise.
        norm: 2 or maximum.
        weights: [B, N] positive d: the norm of `diag(d) v` instead, `mu(D J D^-1)`, with D held at that state.

    Raises:
        InputError: weights that are not positive.

    Source: Desoer and Vidyasagar, Feedback Systems (1975), II.8; Lohmiller and Slotine, Automatica 34:683 (1998).
    Cost: one Jacobian per lane and, for mu_2, its eigenvalues; above `DIRECT_LIMIT` units Lanczos without a Jacobian.
    """
    theta, x, z = in_float64(theta), np.asarray(x, np.float64), np.asarray(z, np.float64)
    weight = np.ones_like(z) if weights is None else np.asarray(weights, np.float64)
    if not (weight > 0.0).all():
        raise InputError(f"a weighted norm needs weights above 0; the smallest is {weight.min()}")
    found = np.full(len(z), np.nan)
    for lane in np.flatnonzero(np.isfinite(z).all(axis=1)):
        one = slice(lane, lane + 1)
        at = (z[one], x[one], theta)
        if norm is Norm.EUCLIDEAN and substrate.units > DIRECT_LIMIT:
            found[lane] = _lanczos(substrate, at, weight[lane])
            continue
        jacobian = substrate.jacobian(*at)[0] * (weight[lane][:, None] / weight[lane])
        if norm is Norm.EUCLIDEAN:
            found[lane] = np.linalg.eigvalsh((jacobian + jacobian.T) / 2.0)[-1]
        else:
            own = np.diagonal(jacobian)
            found[lane] = (own + abs(jacobian).sum(axis=1) - abs(own)).max()
    return found


def _lanczos(
    substrate: Substrate, at: tuple[Float[Array, "1 N"], Float[Array, "1 M"], Parameters], weight: Float[Array, " N"]
) -> float:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    def symmetric(v: Float[Array, " N"]) -> Float[Array, " N"]:
        v = v.reshape(1, -1)
        forwards = weight * substrate.tangent(v / weight, *at)
        return (forwards + substrate.cotangent(v * weight, *at) / weight)[0] / 2.0

    operator = LinearOperator((substrate.units, substrate.units), matvec=symmetric, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(substrate.units)
    try:
        values = eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False, tol=1e-10, maxiter=3000)
    except ArpackNoConvergence:
        return float("nan")  # the largest so far would be a lower bound, which nobody should take for mu
    return float(values[0])
