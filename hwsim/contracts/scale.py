"""From dimensionless numbers to volt, siemens and second, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import final

from .errors import InputError

BOLTZMANN = 1.380649e-23
"""k, joule per kelvin (exact in the SI since 2019)."""
ELEMENTARY_CHARGE = 1.602176634e-19
"""q, coulomb (exact in the SI since 2019)."""
ROOM_TEMPERATURE = 300.0
"""kelvin."""


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """What one dimensionless unit is worth on the hardware.

        one state unit       volt      V
        one coupling unit    siemens   S
        one time constant    second    s

    from which follow the capacitance of a node whose leak is one coupling unit, `farad = siemens * second`, the current
    `ampere = siemens * volt` and the energy `joule = farad * volt^2`. A force of one state unit per time constant is
    one `ampere` into such a node.

    Args:
        volt, siemens, second: all positive and finite.
        parameter: siemens that one unit of a parameter stands for; `siemens` unless told (1 where parameters are
            conductances already).

    Raises:
        InputError: one is not.
    """

    volt: float = 1.0
    siemens: float = 1e-6
    second: float = 1e-6
    parameter: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"a scale needs {each.name} > 0 and finite; found {each.name}={value}")

    @property
    def parameter_siemens(self) -> float:
        """What one unit of a parameter is worth, S."""
        return self.siemens if self.parameter is None else self.parameter

    @property
    def farad(self) -> float:
        """Capacitance of a node whose leak is one coupling unit, F."""
        return self.siemens * self.second

    @property
    def ampere(self) -> float:
        """Current of one volt scale through one siemens scale, A."""
        return self.siemens * self.volt

    @property
    def joule(self) -> float:
        """Energy of a node at one state unit, doubled: `farad * volt^2`, J."""
        return self.farad * self.volt**2

    def thermal_sigma(self, temperature: float) -> float:
        """`sqrt(kT / C)` of an isolated node at `temperature` kelvin, in state units."""
        return math.sqrt(BOLTZMANN * temperature / self.joule)
