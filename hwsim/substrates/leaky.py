"""The leaky network: units that leak towards zero and drive each other through a nonlinearity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.parameters import Parameters

from .coupled import Driven, drive_credit, initial_blocks
from .coupling import Dense, Reciprocal
from .nonlinearity import Identity, Nonlinearity, Tanh


@final
@dataclass(frozen=True, kw_only=True)
class LeakyNetwork(Driven):
    """`F(z, x) = -z + W r(z) + U x + b`, time in time constants.

        z    state, [B, N]            state units (dimensionless here)
        x    inputs, [B, M]
        W    couplings between units, block "W" (shape from `coupling`)
        U    input couplings, block "U", [N, M]
        b    bias, block "b", [N]
        J    = -1 + W R,  R = diag r'(z)

    Credit: `W_ij` post_i r(z_j), `U_ij` post_i x_j, `b_i` post_i. With reciprocal couplings `F = -S^-1 dE/dz`, where

        E = -1/2 r^T W r - r^T (U x + b) + sum_i int^z_i s r'(s) ds,    S = r'(z),    J^T = S J S^-1

    The metric S must be positive, so a network whose r is flat somewhere (`ReLU`, `Hard`) is not `reciprocal` even
    where W = W^T: a unit on the flat part sends nothing, and no response of the others to it can be inferred.

    Args:
        units: N.
        inputs: M.
        coupling: between units; `Dense(units)`, `Reciprocal(units)` or another.
        nonlinearity: r.

    Raises:
        InputError: sizes that are not positive, or a coupling of another size.
    """

    nonlinearity: Nonlinearity = Tanh()

    @property
    def reciprocal(self) -> bool:
        return self.coupling.reciprocal and self.nonlinearity.increasing

    @property
    def holomorphic(self) -> bool:
        return self.nonlinearity.holomorphic

    @classmethod
    def dense(cls, units: int, inputs: int, nonlinearity: Nonlinearity = Tanh()) -> LeakyNetwork:
        """All-to-all couplings, independent in the two directions."""
        return cls(units=units, inputs=inputs, coupling=Dense(units), nonlinearity=nonlinearity)

    @classmethod
    def symmetric(cls, units: int, inputs: int, nonlinearity: Nonlinearity = Tanh()) -> LeakyNetwork:
        """All-to-all couplings, one conductance per pair."""
        return cls(units=units, inputs=inputs, coupling=Reciprocal(units), nonlinearity=nonlinearity)

    def initial(self, seed: int, *, gain: float, input_gain: float, input_fan_in: int | None = None) -> Parameters:
        """Fresh analog blocks: `W ~ gain N(0, 1) / sqrt(n)`, `U ~ input_gain N(0, 1) / sqrt(fan-in)`, `b = 0`.

        Args:
            seed: of the draw; the same seed gives the same network.
            gain: sd of W times sqrt(n), n the coupling's fan-in (N where all are coupled): near 1 the network is close
                to its edge of stability.
            input_gain: sd of U times the square root of the fan-in.
            input_fan_in: inputs that are on at a time; M unless told (for one-hot inputs it is far smaller).
        """
        return initial_blocks(self, seed, gain=gain, input_gain=input_gain, input_fan_in=input_fan_in)

    def linear_part(self, theta: Parameters) -> Float[Array, " N"] | Float[Array, "N N"]:
        """The leak, -1 for every unit; with r(z) = z all of it, `W - 1`."""
        xp, like = namespace(theta["b"]), theta["b"]
        if isinstance(self.nonlinearity, Identity):
            return self.coupling.matrix(theta["W"]) - xp.eye(self.units, dtype=like.dtype, device=like.device)
        return -xp.ones_like(like)

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        return self.coupling.apply(theta["W"], self.nonlinearity(z)) - z + self.drive(x, theta)

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self.coupling.apply(theta["W"], self.nonlinearity.slope(z) * v) - v

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self.nonlinearity.slope(z) * self.coupling.apply_transpose(theta["W"], a) - a

    def jacobian(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N N"]:
        """`-1 + W R`, written down rather than probed by N tangents. Cost: B N^2."""
        weights, leak = self.coupling.matrix(theta["W"]), namespace(z).eye(self.units, dtype=z.dtype, device=z.device)
        return weights * self.nonlinearity.slope(z)[:, None, :] - leak

    def jacobian_diagonal(
        self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        """`W_ii r'(z_i) - 1`. Cost: T B N."""
        return self.coupling.diagonal(theta["W"]) * self.nonlinearity.slope(z) - 1.0

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        between = self.coupling.credit(post, self.nonlinearity(z), per_sample=per_sample)
        return Parameters.owning({"W": between, **drive_credit(post, x, per_sample=per_sample)})

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        ones = namespace(z).ones_like(z)
        return {"W": (ones, self.nonlinearity(z)), "U": (ones, x), "b": (ones, ones[:, :1])}

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        """`W_ij` -r_i r_j / 2, `U_ij` -r_i x_j, `b_i` -r_i, where reciprocal."""
        return rate_energy_credit(self, self.nonlinearity(z), x) if self.reciprocal else None

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return self.nonlinearity.slope(z) if self.reciprocal else None


def rate_energy_credit(network: Driven, r: Float[Array, "B N"], x: Float[Array, "B M"]) -> Parameters:
    """`dE/dtheta` of `E = -1/2 r^T W r - r^T (U x + b) + ...`, W reciprocal."""
    between = network.coupling.credit(r, r, per_sample=False) / -2.0
    return Parameters({"W": between, **drive_credit(-r, x)})
