"""A substrate around another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jaxtyping import Float, Inexact

from .arrays import Array
from .parameters import Parameters
from .scale import Scale
from .substrate import Substrate


@dataclass(frozen=True, kw_only=True, eq=False)
class WrappedSubstrate(Substrate):
    """Everything as in the substrate inside: a subclass says what it changes.

    Args:
        substrate: the one inside.
    """

    substrate: Substrate

    def own(self, theta: Parameters) -> Parameters:
        """What the substrate inside takes of these parameters; all of them, unless a subclass adds some."""
        return theta

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.substrate.units

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.substrate.inputs

    @property
    def reciprocal(self) -> bool:
        return self.substrate.reciprocal

    @property
    def unfactored(self) -> frozenset[str]:
        return self.substrate.unfactored

    @property
    def holomorphic(self) -> bool:
        return self.substrate.holomorphic

    @property
    def scale(self) -> Scale | None:
        return self.substrate.scale

    @property
    def rails(self) -> tuple[Float[Array, " N"], Float[Array, " N"]] | None:
        return self.substrate.rails

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.substrate.shapes()

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        return self.substrate.ranges()

    def linear_part(self, theta: Parameters) -> Float[Array, " N"] | Float[Array, "N N"] | None:
        return self.substrate.linear_part(self.own(theta))

    def diffusion(self, theta: Parameters) -> Float[Array, "N N"] | None:
        return self.substrate.diffusion(self.own(theta))

    def unshared(self) -> Substrate:
        apart = self.substrate.unshared()
        return self if apart is self.substrate else replace(self, substrate=apart)

    def unshare(self, theta: Parameters) -> Parameters:
        return self.substrate.unshare(self.own(theta))

    def share(self, gradients: Parameters) -> Parameters:
        return self.substrate.share(self.own(gradients))

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        return self.substrate.field(z, x, self.own(theta))

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self.substrate.tangent(v, z, x, self.own(theta))

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self.substrate.cotangent(a, z, x, self.own(theta))

    def jacobian(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N N"]:
        return self.substrate.jacobian(z, x, self.own(theta))

    def jacobian_diagonal(
        self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self.substrate.jacobian_diagonal(z, x, self.own(theta))

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        return self.substrate.credit(post, z, x, self.own(theta), per_sample=per_sample)

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        return self.substrate.influence(z, x, self.own(theta))

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        return self.substrate.energy_credit(z, x, self.own(theta))

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return self.substrate.metric(z, self.own(theta))
