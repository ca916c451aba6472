"""Coupled phase oscillators with injection locking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.parameters import Parameters

from .coupled import Coupled
from .coupling import Coupling, outer


@final
@dataclass(frozen=True, kw_only=True)
class OscillatorNetwork(Coupled):
    """Phases that pull each other, and are pulled by reference phases, time in time constants:

        F_i = omega_i + sum_j K_ij sin(phi_j - phi_i) + sum_m H_im sin(x_m - phi_i) + s sin 2 phi_i

        phi    phases, the state, [B, N]             radian (not wrapped)
        x      reference phases, the inputs, [B, M]  radian
        K      couplings between oscillators, block "K" (shape from `coupling`), rad per time constant
        H      couplings to the references, block "H", [N, M], rad per time constant
        omega  natural frequencies, block "omega", [N], rad per time constant, in the frame of the references
        s      strength of the injection at twice the frequency, which drives phases towards +-pi/2 (s > 0) or 0 and pi

    Credit: `K_ij` post_i sin(phi_j - phi_i), `H_im` post_i sin(x_m - phi_i), `omega_i` post_i. With reciprocal K the
    metric is 1 and `F = -dE/dphi`,

        E = -1/2 sum K_ij cos(phi_j - phi_i) - sum H_im cos(x_m - phi_i) - omega . phi + s/2 sum cos 2 phi_i

    (an energy that falls for ever where phases drift, since omega . phi has no bound).

    Args:
        units: N.
        inputs: M.
        coupling: between oscillators.
        locking: s.

    Raises:
        InputError: sizes that are not positive, or a coupling of another size.

    Source: Kuramoto, Chemical Oscillations, Waves, and Turbulence (Springer 1984), chapter 5; injection locking and
    the energy: Wang and Roychowdhury, arXiv:1709.08102.
    """

    locking: float = 0.0

    between: ClassVar[str] = "K"

    @property
    def reciprocal(self) -> bool:
        return self.coupling.reciprocal

    @property
    def unfactored(self) -> frozenset[str]:
        return frozenset({"K", "H"})

    @property
    def holomorphic(self) -> bool:
        return True

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"K": self.coupling.shape, "H": (self.units, self.inputs), "omega": (self.units,)}

    def _separated(self, coupling: Coupling) -> Coupled:
        return replace(self, coupling=coupling)

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        c, s = _cosine_sine(z)
        across, along = self._pull(c, s, x, theta)
        return theta["omega"] + c * across - s * along + 2.0 * self.locking * s * c

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        c, s = _cosine_sine(z)
        others = c * self.coupling.apply(theta["K"], c * v) + s * self.coupling.apply(theta["K"], s * v)
        return others + self._own(c, s, x, theta) * v

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        c, s = _cosine_sine(z)
        back = self.coupling.apply_transpose
        return c * back(theta["K"], c * a) + s * back(theta["K"], s * a) + self._own(c, s, x, theta) * a

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        xp, (c, s) = namespace(post), _cosine_sine(z)
        between = self.coupling.credit(post * c, s, per_sample=per_sample)
        between = between - self.coupling.credit(post * s, c, per_sample=per_sample)

        def over_time(array: Array) -> Array:
            return xp.sum(xp.reshape(array, (-1, *array.shape[-2:])), axis=0)

        total = over_time(post)
        return Parameters(
            {
                "K": between,
                "H": _toward(over_time(post * c), over_time(post * s), x, per_sample=per_sample),
                "omega": total if per_sample else xp.sum(total, axis=0),
            }
        )

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        """That of omega. `sin(phi_j - phi_i)` is a sum of two products: K and H have no factored form."""
        ones = namespace(z).ones_like(z)
        return {"omega": (ones, ones[:, :1])}

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        """`K_ij` -cos(phi_j - phi_i) / 2, `H_im` -cos(x_m - phi_i), `omega_i` -phi_i, where reciprocal."""
        if not self.reciprocal:
            return None
        c, s = _cosine_sine(z)
        between = self.coupling.credit(c, c, per_sample=False) + self.coupling.credit(s, s, per_sample=False)
        return Parameters(
            {
                "K": between / -2.0,
                "H": _toward(-s, c, x, per_sample=False),
                "omega": -namespace(z).sum(z, axis=0),
            }
        )

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return namespace(z).ones_like(z) if self.reciprocal else None

    def energy(self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "*T B"]:
        """E of every lane; the field descends on it where the coupling is reciprocal."""
        c, s = _cosine_sine(z)
        across, along = self.coupling.apply(theta["K"], s), self.coupling.apply(theta["K"], c)
        cx, sx = _cosine_sine(x)
        pull = c * (along / 2.0 + cx @ theta["H"].T) + s * (across / 2.0 + sx @ theta["H"].T)
        return namespace(z).sum(self.locking * (c * c - s * s) / 2.0 - pull - theta["omega"] * z, axis=-1)

    def _pull(self, c: Array, s: Array, x: Array, theta: Parameters) -> tuple[Array, Array]:
        """`sum_j K_ij sin phi_j + sum_m H_im sin x_m`, and the same of cosines."""
        cx, sx = _cosine_sine(x)
        across = self.coupling.apply(theta["K"], s) + sx @ theta["H"].T
        return across, self.coupling.apply(theta["K"], c) + cx @ theta["H"].T

    def _own(self, c: Array, s: Array, x: Array, theta: Parameters) -> Array:
        """The diagonal of J, less `K_ii`: that is in the sum over the others, and the two cancel."""
        across, along = self._pull(c, s, x, theta)
        return 2.0 * self.locking * (c * c - s * s) - c * along - s * across


def order_parameter(phi: Float[Array, "*T B N"]) -> Float[Array, "*T B"]:
    """Kuramoto's `r = |mean_i e^{i phi_i}|` of every lane: 1 in phase, about 1 / sqrt(N) for random phases."""
    xp, (c, s) = namespace(phi), _cosine_sine(phi)
    return xp.hypot(xp.mean(c, axis=-1), xp.mean(s, axis=-1))


def _cosine_sine(phase: Array) -> tuple[Array, Array]:
    xp = namespace(phase)
    return xp.cos(phase), xp.sin(phase)


def _toward(c: Array, s: Array, x: Array, *, per_sample: bool) -> Array:
    """`c_i sin x_m - s_i cos x_m` summed over the batch."""
    cx, sx = _cosine_sine(namespace(c).astype(x, c.dtype, copy=False))
    return outer(c, sx, per_sample=per_sample) - outer(s, cx, per_sample=per_sample)
