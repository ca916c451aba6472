"""The energy network: units that roll downhill on one energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters

from .coupled import Coupled, Driven, drive_credit, initial_blocks
from .coupling import Coupling, Reciprocal
from .leaky import rate_energy_credit
from .nonlinearity import Identity, Nonlinearity, Tanh


@final
@dataclass(frozen=True, kw_only=True)
class EnergyNetwork(Driven):
    """`F = -dE/dz = -z + r'(z) h`, `h = W r(z) + U x + b`, time in time constants, with the energy

        E(z, x) = |z|^2 / 2 - 1/2 r^T W r - r^T (U x + b),    W = W^T
        J       = -1 + diag(r'' h) + R W R,                   R = diag r'(z),    J = J^T

    z, x, W, U and b are those of `LeakyNetwork`; the metric is 1. Credit: `W_ij` post_i r'_i r_j, `U_ij` post_i r'_i
    x_j, `b_i` post_i r'_i; of the energy `W_ij` -r_i r_j / 2, `U_ij` -r_i x_j, `b_i` -r_i.

    Args:
        units: N.
        inputs: M.
        coupling: between units, reciprocal.
        nonlinearity: r.
        split: the field of a chip whose two directions of a pair differ, without an energy; then `coupling` is not
            reciprocal. Made by `unshared()`.

    Raises:
        InputError: sizes that do not fit, or couplings that are reciprocal or not against `split`.

    Source: Scellier and Bengio, arXiv:1602.05179, equation 1, here with inputs.
    """

    nonlinearity: Nonlinearity = Tanh()
    split: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coupling.reciprocal == self.split:
            raise InputError(
                f"an energy needs reciprocal couplings, such as Reciprocal({self.units}), unless split; "
                f"found {self.coupling} with split={self.split}"
            )

    @property
    def reciprocal(self) -> bool:
        return not self.split

    @property
    def holomorphic(self) -> bool:
        return self.nonlinearity.holomorphic

    @classmethod
    def symmetric(cls, units: int, inputs: int, nonlinearity: Nonlinearity = Tanh()) -> EnergyNetwork:
        """All-to-all couplings."""
        return cls(units=units, inputs=inputs, coupling=Reciprocal(units), nonlinearity=nonlinearity)

    def initial(self, seed: int, *, gain: float, input_gain: float, input_fan_in: int | None = None) -> Parameters:
        """Fresh analog blocks, those of a `LeakyNetwork` with the same coupling (see `LeakyNetwork.initial`)."""
        return initial_blocks(self, seed, gain=gain, input_gain=input_gain, input_fan_in=input_fan_in)

    def _separated(self, coupling: Coupling) -> Coupled:
        return replace(self, coupling=coupling, split=True)

    def energy(self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "*T B"]:
        """`E(z, x)` of every lane.

        Raises:
            InputError: the network is split and has none.
        """
        if self.split:
            raise InputError("a split energy network has no energy; ask the one that it was made from")
        r = self.nonlinearity(z)
        inflow = self.coupling.apply(theta["W"], r) / 2.0 + self.drive(x, theta)
        return namespace(z).sum(z * z / 2.0 - r * inflow, axis=-1)

    def curvature_bound(self, x: Float[Array, "B M"], theta: Parameters) -> float:
        """L, at least the largest eigenvalue of d^2E/dz^2 over all states and lanes: `F` descends where eps < 2 / L.

            H = 1 - diag(r'' h) - R W R,    |h_i| <= g_i = max|r| sum_j |W_ij| + |(U x + b)_i|
            L = 1 + max|r''| max_i g_i + max(r')^2 max(0, -lambda_min(W))

        since the three terms are symmetric and `v^T R W R v >= min(0, lambda_min(W)) |R v|^2`. From
        `E(z + eps F) <= E(z) - eps (1 - eps L / 2) |F|^2` follows that E never rises, without noise, for eps < 2 / L.

        Raises:
            InputError: no such bound: r has a corner, or neither r nor its slope stands still for large z.
        """
        r = self.nonlinearity
        if np.isinf(r.sharpest) or (np.isinf(r.highest) and r.sharpest):
            raise InputError(
                f"a curvature bound needs a smooth r that is bounded or linear, such as Tanh or Logistic; found {r}"
            )
        weights = np.asarray(self.coupling.matrix(theta["W"]), np.float64)
        bend = 0.0
        if r.sharpest:
            inflow = r.highest * np.abs(weights).sum(axis=1) + np.abs(np.asarray(self.drive(x, theta), np.float64))
            bend = r.sharpest * float(inflow.max())
        return 1.0 + bend + r.steepest**2 * max(0.0, -float(np.linalg.eigvalsh(weights)[0]))

    def linear_part(self, theta: Parameters) -> Float[Array, " N"] | Float[Array, "N N"]:
        """-1 for every unit; with r(z) = z all of it, `W - 1`."""
        xp, like = namespace(theta["b"]), theta["b"]
        if isinstance(self.nonlinearity, Identity):
            return self.coupling.matrix(theta["W"]) - xp.eye(self.units, dtype=like.dtype, device=like.device)
        return -xp.ones_like(like)

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        return self.nonlinearity.slope(z) * self._inflow(z, x, theta) - z

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        slope = self.nonlinearity.slope(z)
        return slope * self.coupling.apply(theta["W"], slope * v) + self._own(z, x, theta) * v

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        slope = self.nonlinearity.slope(z)
        return slope * self.coupling.apply_transpose(theta["W"], slope * a) + self._own(z, x, theta) * a

    def jacobian_diagonal(
        self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        """`W_ii r'(z_i)^2 - 1 + r''(z_i) h_i`. Cost: one field."""
        slope = self.nonlinearity.slope(z)
        return self.coupling.diagonal(theta["W"]) * slope * slope + self._own(z, x, theta)

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        post = self.nonlinearity.slope(z) * post
        between = self.coupling.credit(post, self.nonlinearity(z), per_sample=per_sample)
        return Parameters.owning({"W": between, **drive_credit(post, x, per_sample=per_sample)})

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        slope = self.nonlinearity.slope(z)
        ones = namespace(z).ones_like(z[:, :1])
        return {"W": (slope, self.nonlinearity(z)), "U": (slope, x), "b": (slope, ones)}

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        return None if self.split else rate_energy_credit(self, self.nonlinearity(z), x)

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return None if self.split else namespace(z).ones_like(z)

    def _inflow(self, z: Array, x: Array, theta: Parameters) -> Array:
        return self.coupling.apply(theta["W"], self.nonlinearity(z)) + self.drive(x, theta)

    def _own(self, z: Array, x: Array, theta: Parameters) -> Array:
        """The diagonal `-1 + r'' h` of J."""
        return self.nonlinearity.curvature(z) * self._inflow(z, x, theta) - 1.0
