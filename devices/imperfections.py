"""How a drawn chip differs from its drawing. Each imperfection is a frozen dataclass; a list of them makes a chip."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError


class Imperfection(ABC):
    """One way in which hardware differs from its equations."""


@final
@dataclass(frozen=True)
class ThermalNoise(Imperfection):
    """White noise while settling: `dz = F dt + sqrt(2) sigma dW`, per Euler step `sigma sqrt(2 eps) xi`, xi ~ N(0, 1).

    A temporal imperfection: fresh at every step of every settling. An isolated leaky unit then fluctuates with standard
    deviation sigma (sigma sqrt(2 / (2 - eps)) under Euler steps): `sigma^2 = kT / C` for a capacitor.

    Args:
        sigma: state units, >= 0.

    Source: Johnson-Nyquist noise of an RC node, discretised by Euler-Maruyama.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"thermal noise needs a finite sigma >= 0; found {self.sigma}")


@final
@dataclass(frozen=True)
class ReadoutADC(Imperfection):
    """Reads pass a uniform mid-tread converter: `read = LSB clip(round(z / LSB), -2^(bits-1), 2^(bits-1) - 1)`.

    `LSB = 2 full_scale / 2^bits`; within range the error is at most LSB / 2 (rms LSB / sqrt(12)). A read that clips is
    reported as `Outcome.SATURATED`. Only what the digital side sees is quantised: the analog state goes on unrounded.

    Args:
        bits: 1 .. 24.
        full_scale: state units; the range is [-full_scale, full_scale - LSB].
    """

    bits: int
    full_scale: float = 8.0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 24:
            raise InputError(f"a converter has 1 to 24 bits; found {self.bits}")
        if not (np.isfinite(self.full_scale) and self.full_scale > 0):
            raise InputError(f"a converter needs a positive, finite full scale; found {self.full_scale}")

    @property
    def lsb(self) -> float:
        """One step of the converter, state units."""
        return 2.0 * self.full_scale / 2**self.bits

    def read(self, z: Float[Array, "*S N"]) -> tuple[Float[Array, "*S N"], Bool[Array, "*S N"]]:
        """The value read for each analog value, and where it clipped. NaN passes through."""
        code = np.round(z / self.lsb)
        half = 2 ** (self.bits - 1)
        held = np.clip(code, -half, half - 1)
        return (held * self.lsb).astype(z.dtype), (held != code) & np.isfinite(code)
