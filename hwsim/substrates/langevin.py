"""The linear Langevin machine of thermodynamic computing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters

from .coupled import Driven, drive_credit


@final
@dataclass(frozen=True, kw_only=True)
class LinearLangevin(Driven):
    """`F = -A z + U x + b`: coupled oscillators or RC cells that fluctuate, time in time constants,

        dz = (-A z + U x + b) dt + sqrt(2 T) dW

    The field is this substrate; the noise is the device's: its `ThermalNoise(sigma)` with `sigma = sqrt(T)`. With A
    symmetric and positive definite z samples `N(A^-1 (U x + b), T A^-1)`, whose mean solves a linear system and whose
    covariance inverts A.

        A    couplings between units, block "A" (shape from `coupling`), leak on its diagonal
        U    input couplings, block "U", [N, M];    b    bias, block "b", [N]
        J    = -A

    Credit: `A_ij` -post_i z_j, `U_ij` post_i x_j, `b_i` post_i. With reciprocal couplings the metric is 1 and
    `E = 1/2 z^T A z - z^T (U x + b)`.

    Args:
        units: N.
        inputs: M.
        coupling: between units.

    Raises:
        InputError: sizes that are not positive, or a coupling of another size.

    Source: Aifer et al., Thermodynamic linear algebra, arXiv:2308.05660, in the overdamped limit.
    """

    between: ClassVar[str] = "A"

    @property
    def reciprocal(self) -> bool:
        return self.coupling.reciprocal

    @property
    def holomorphic(self) -> bool:
        return True

    def stationary_mean(self, x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N"]:
        """`A^-1 (U x + b)`, for any noise and any step.

        Raises:
            InputError: A lets the state grow.
        """
        return np.linalg.solve(self._stable(theta), self.drive(x, theta).T).T

    def stationary_covariance(self, theta: Parameters, *, sigma: float) -> Float[Array, "N N"]:
        """S of continuous time, `A S + S A^T = 2 sigma^2 1`: sigma^2 A^-1 for a symmetric A. Cost: N^3.

        Raises:
            InputError: A lets the state grow.
        """
        from scipy.linalg import solve_continuous_lyapunov

        return solve_continuous_lyapunov(self._stable(theta), 2.0 * sigma**2 * np.eye(self.units))

    def discrete_covariance(self, theta: Parameters, *, sigma: float, step_size: float) -> Float[Array, "N N"]:
        """S of the steps `z <- z + eps F + sigma sqrt(2 eps) xi`: `S = M S M^T + 2 eps sigma^2 1`, `M = 1 - eps A`.

        Cost: N^3.

        Raises:
            InputError: A, or the step, lets the state grow.
        """
        from scipy.linalg import solve_discrete_lyapunov

        step = np.eye(self.units) - step_size * self._stable(theta)
        if (radius := np.abs(np.linalg.eigvals(step)).max()) >= 1.0:
            raise InputError(f"a stationary state needs |1 - eps A| < 1; found spectral radius {radius:.6g}: lower eps")
        return solve_discrete_lyapunov(step, 2.0 * step_size * sigma**2 * np.eye(self.units))

    def linear_part(self, theta: Parameters) -> Float[Array, "N N"]:
        """`-A`: the whole field but its constant."""
        return -self.coupling.matrix(theta["A"])

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        return self.drive(x, theta) - self.coupling.apply(theta["A"], z)

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return -self.coupling.apply(theta["A"], v)

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return -self.coupling.apply_transpose(theta["A"], a)

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        between = -self.coupling.credit(post, z, per_sample=per_sample)
        return Parameters({"A": between, **drive_credit(post, x, per_sample=per_sample)})

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        ones = namespace(z).ones_like(z)
        return {"A": (-ones, z), "U": (ones, x), "b": (ones, ones[:, :1])}

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        """`A_ij` z_i z_j / 2, `U_ij` -z_i x_j, `b_i` -z_i, where reciprocal."""
        if not self.reciprocal:
            return None
        return Parameters({"A": self.coupling.credit(z, z, per_sample=False) / 2.0, **drive_credit(-z, x)})

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return namespace(z).ones_like(z) if self.reciprocal else None

    def _stable(self, theta: Parameters) -> Float[np.ndarray, "N N"]:
        matrix = np.asarray(self.coupling.matrix(theta["A"]), np.float64)
        if (slowest := np.linalg.eigvals(matrix).real.min()) <= 0.0:
            raise InputError(
                f"a stationary state needs an A whose eigenvalues all have a positive real part; found {slowest:.6g}: "
                "add to its diagonal"
            )
        return matrix
