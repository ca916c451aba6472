"""The leaky network: units that leak towards zero and drive each other through a nonlinearity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate

from .coupling import Coupling, Dense, Reciprocal
from .nonlinearity import Nonlinearity, Tanh


@final
@dataclass(frozen=True, kw_only=True)
class LeakyNetwork(Substrate):
    """`F(z, x) = -z + W r(z) + U x + b`, time in time constants.

        z    state, [B, N]            state units (dimensionless here)
        x    inputs, [B, M]
        W    couplings between units, block "W" (shape from `coupling`)
        U    input couplings, block "U", [N, M]
        b    bias, block "b", [N]
        J    = -1 + W R,  R = diag r'(z)

    Credit: `W_ij` post_i r(z_j), `U_ij` post_i x_j, `b_i` post_i. With reciprocal couplings the metric is `S = r'(z)`:
    J^T = R J R^-1. It is positive wherever the slope is.

    Args:
        units: N.
        inputs: M.
        coupling: between units; `Dense(units)` or `Reciprocal(units)`.
        nonlinearity: r.

    Raises:
        InputError: sizes that are not positive, or a coupling of another size.
    """

    units: int
    inputs: int
    coupling: Coupling
    nonlinearity: Nonlinearity = Tanh()

    def __post_init__(self) -> None:
        if self.units < 1 or self.inputs < 1:
            raise InputError(f"a network needs units >= 1 and inputs >= 1; found {self.units} and {self.inputs}")
        if self.coupling.shape != (self.units, self.units):
            raise InputError(
                f"{self.units} units need couplings of shape {(self.units,) * 2}; found {self.coupling.shape}"
            )

    @property
    def reciprocal(self) -> bool:
        return self.coupling.reciprocal

    @classmethod
    def dense(cls, units: int, inputs: int, nonlinearity: Nonlinearity = Tanh()) -> LeakyNetwork:
        """All-to-all couplings, independent in the two directions."""
        return cls(units=units, inputs=inputs, coupling=Dense(units), nonlinearity=nonlinearity)

    @classmethod
    def symmetric(cls, units: int, inputs: int, nonlinearity: Nonlinearity = Tanh()) -> LeakyNetwork:
        """All-to-all couplings, one conductance per pair."""
        return cls(units=units, inputs=inputs, coupling=Reciprocal(units), nonlinearity=nonlinearity)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"W": self.coupling.shape, "U": (self.units, self.inputs), "b": (self.units,)}

    def initial(self, seed: int, *, gain: float, input_gain: float, input_fan_in: int | None = None) -> Parameters:
        """Fresh analog blocks: `W ~ gain N(0, 1) / sqrt(N)`, `U ~ input_gain N(0, 1) / sqrt(fan-in)`, `b = 0`.

        Args:
            seed: of the draw; the same seed gives the same network.
            gain: sd of W times sqrt(N): near 1 the network is close to its edge of stability.
            input_gain: sd of U times the square root of the fan-in.
            input_fan_in: inputs that are on at a time; M unless told (for one-hot inputs it is far smaller).
        """
        draw = np.random.default_rng([seed, 0])
        fan_in = self.inputs if input_fan_in is None else input_fan_in
        return Parameters(
            {
                "W": gain * draw.standard_normal(self.coupling.shape) / np.sqrt(self.units),
                "U": input_gain * draw.standard_normal((self.units, self.inputs)) / np.sqrt(fan_in),
                "b": np.zeros(self.units),
            }
        )

    def drive(self, x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N"]:
        """`U x + b`: what the inputs contribute, constant while settling."""
        return x @ theta["U"].T + theta["b"]

    def field(self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "*T B N"]:
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
        weights = self.coupling.matrix(theta["W"])
        return weights * self.nonlinearity.slope(z)[:, None, :] - namespace(z).eye(self.units, dtype=z.dtype)

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        xp = namespace(post)
        x = xp.astype(x, post.dtype, copy=False)  # or a float32 device would pay for a product in float64
        # the inputs stand still, so their pre-synaptic side needs the time sum of post only
        total = xp.sum(xp.reshape(post, (-1, *post.shape[-2:])), axis=0)
        return Parameters(
            {
                "W": self.coupling.credit(post, self.nonlinearity(z), per_sample=per_sample),
                "U": total[:, :, None] * x[:, None, :] if per_sample else total.T @ x,
                "b": total if per_sample else xp.sum(total, axis=0),
            }
        )

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        ones = namespace(z).ones_like(z)
        return {"W": (ones, self.nonlinearity(z)), "U": (ones, x), "b": (ones, ones[:, :1])}

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return self.nonlinearity.slope(z) if self.coupling.reciprocal else None
