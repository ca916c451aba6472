"""What substrates have in common whose units are joined by one coupling and driven by a product with the inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate

from .coupling import Coupling


@dataclass(frozen=True, kw_only=True)
class Coupled(Substrate):
    """A substrate with one block for the coupling between its units.

    Args:
        units: N.
        inputs: M.
        coupling: between units.

    Raises:
        InputError: sizes that are not positive, or a coupling of another size.
    """

    units: int
    inputs: int
    coupling: Coupling

    between: ClassVar[str] = "W"
    """Name of the block."""

    def __post_init__(self) -> None:
        if self.units < 1 or self.inputs < 1:
            raise InputError(f"a network needs units >= 1 and inputs >= 1; found {self.units} and {self.inputs}")
        if self.coupling.units != self.units:
            raise InputError(f"{self.units} units need a coupling between {self.units}; found {self.coupling}")

    @abstractmethod
    def _separated(self, coupling: Coupling) -> Coupled:
        """The same physics with another coupling, that of the unshared parameters."""

    def unshared(self) -> Substrate:
        separate = self.coupling.unshared()
        return self if separate is self.coupling else self._separated(separate)

    def unshare(self, theta: Parameters) -> Parameters:
        return theta | {self.between: self.coupling.unshare(theta[self.between])}

    def share(self, gradients: Parameters) -> Parameters:
        return gradients | {self.between: self.coupling.share(gradients[self.between])}


@dataclass(frozen=True, kw_only=True)
class Driven(Coupled):
    """A coupled substrate with the drive `U x + b`: blocks "U" [N, M] and "b" [N] beside that of the coupling."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {self.between: self.coupling.shape, "U": (self.units, self.inputs), "b": (self.units,)}

    def drive(self, x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N"]:
        """`U x + b`: what the inputs contribute, constant while settling."""
        return x @ theta["U"].T + theta["b"]

    def _separated(self, coupling: Coupling) -> Coupled:
        return replace(self, coupling=coupling)


def initial_blocks(
    network: Driven, seed: int, *, gain: float, input_gain: float, input_fan_in: int | None
) -> Parameters:
    """Coupling `gain N(0, 1) / sqrt(n)` with n its fan-in, `U ~ input_gain N(0, 1) / sqrt(fan-in)`, `b = 0`."""
    draw = np.random.default_rng([seed, 0])
    fan_in = network.inputs if input_fan_in is None else input_fan_in
    return Parameters(
        {
            network.between: gain * draw.standard_normal(network.coupling.shape) / np.sqrt(network.coupling.fan_in),
            "U": input_gain * draw.standard_normal((network.units, network.inputs)) / np.sqrt(fan_in),
            "b": np.zeros(network.units),
        }
    )


def drive_credit(post: Float[Array, "*T B N"], x: Float[Array, "B M"], *, per_sample: bool = False) -> dict[str, Array]:
    """Credit of `U x + b`: `U_ij` post_i x_j, `b_i` post_i."""
    xp = namespace(post)
    x = xp.astype(x, post.dtype, copy=False)  # or a float32 device would pay for a product in float64
    # the inputs stand still, so their pre-synaptic side needs the time sum of post only
    total = xp.sum(xp.reshape(post, (-1, *post.shape[-2:])), axis=0)
    return {
        "U": total[:, :, None] * x[:, None, :] if per_sample else total.T @ x,
        "b": total if per_sample else xp.sum(total, axis=0),
    }
