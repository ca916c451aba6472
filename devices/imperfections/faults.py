"""What is broken or limited on one die: stuck parameters, dead units, rails, slew."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.units import engineering
from hwsim.substrates.chip import Chip

from .contract import Context, Fabrication
from .mismatch import chosen, shared_normal


@final
@dataclass(frozen=True, kw_only=True)
class StuckAt(Fabrication):
    """Parameters that hold one value whatever is written: `low` with probability p_low, `high` with p_high.

    Independent for every parameter (entries of a block that share one conductance share their fate). A parameter that
    an earlier fault holds stays as it was.

    Args:
        low_fraction, high_fraction: p_low and p_high, together at most 1.
        low, high: values, in the units of the parameters.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: fractions that are none, or a value that is not finite; from `fabricate` an unknown block.
    """

    low_fraction: float = 0.0
    high_fraction: float = 0.0
    low: float = 0.0
    high: float = 0.0
    blocks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        parts = (self.low_fraction, self.high_fraction)
        if not (min(parts) >= 0 and sum(parts) <= 1):
            raise InputError(f"fractions of stuck parameters must be >= 0 and at most 1 together; found {parts}")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise InputError(f"a parameter sticks at a finite value; found low={self.low}, high={self.high}")

    @classmethod
    def rram(cls, *, low: float, high: float, blocks: tuple[str, ...] | None = None) -> StuckAt:
        """Cells of an early 4 Mb HfO2 array: 1.75 % stuck at low conductance, 9.04 % at high.

        Source: C.-Y. Chen et al., RRAM defect modeling and failure analysis based on March test and a novel
        squeeze-search scheme, IEEE Trans. Computers 64:180 (2015), with the rates as later work quotes them.
        """
        return cls(low_fraction=0.0175, high_fraction=0.0904, low=low, high=high, blocks=blocks)

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        from scipy.special import ndtr

        stuck = dict(chip.stuck)
        for name in chosen(self.blocks, drawing):
            u = ndtr(shared_normal(at.fixed, f"{name}/stuck", drawing, name))
            fault = np.full(u.shape, np.nan)
            fault[u < self.low_fraction] = self.low
            fault[u > 1.0 - self.high_fraction] = self.high
            earlier = stuck.get(name, np.full(u.shape, np.nan))
            stuck[name] = np.where(np.isnan(earlier), fault, earlier)
        return replace(chip, stuck=stuck)

    def describe(self, scale: Scale) -> str:
        low, high = (engineering(value * scale.parameter_siemens, "S") for value in (self.low, self.high))
        where = "every block" if self.blocks is None else ", ".join(self.blocks)
        return f"{self.low_fraction:.3g} of {where} stuck at {low}, {self.high_fraction:.3g} at {high}"


@final
@dataclass(frozen=True, kw_only=True)
class DeadUnits(Fabrication):
    """Units that stay at one value: `low_i = high_i = value`, for those named and for each other with probability p.

    Args:
        units: indices.
        fraction: p.
        value: state units.

    Raises:
        InputError: values out of range; from `fabricate` a unit that the drawing lacks, or a value beyond its rails.
    """

    units: tuple[int, ...] = ()
    fraction: float = 0.0
    value: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise InputError(f"the fraction of dead units must be from 0 to 1; found {self.fraction}")
        if not math.isfinite(self.value):
            raise InputError(f"a dead unit stays at a finite value; found {self.value}")

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        if unknown := [unit for unit in self.units if not 0 <= unit < drawing.units]:
            raise InputError(f"dead units {unknown} are not among the {drawing.units} of {type(drawing).__name__}")
        dead = at.fixed.uniform("dead", (drawing.units,)) < self.fraction
        dead[list(self.units)] = True
        value = np.full(drawing.units, self.value)
        return _between_rails(chip, np.where(dead, value, -np.inf), np.where(dead, value, np.inf))

    def describe(self, scale: Scale) -> str:
        named = f"units {', '.join(map(str, self.units))} and " if self.units else ""
        return f"{named}{self.fraction:.3g} of all units stay at {engineering(self.value * scale.volt, 'V')}"


@final
@dataclass(frozen=True, kw_only=True)
class Rails(Fabrication):
    """Every state is held between two rails, `low <= z_i <= high`. Narrower ones win.

    Args:
        low, high: state units, low < high; one may be infinite.

    Raises:
        InputError: rails that leave nothing between them; from `fabricate` a dead unit beyond them.
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"rails need low < high; found low={self.low}, high={self.high}")

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        units = (drawing.units,)
        return _between_rails(chip, np.full(units, self.low), np.full(units, self.high))

    def describe(self, scale: Scale) -> str:
        low, high = (engineering(value * scale.volt, "V") for value in (self.low, self.high))
        return f"states between {low} and {high}"


@final
@dataclass(frozen=True, kw_only=True)
class SlewRate(Fabrication):
    """No state changes faster: `|dz_i/dt| <= slew`, `slew = volts_per_second * second / volt` state units per time
    constant, through the scale of the device. The slower one wins.

    Args:
        volts_per_second: as in the data sheet of an amplifier (1 V/us is 1e6).

    Raises:
        InputError: a rate that is not positive.
    """

    volts_per_second: float

    def __post_init__(self) -> None:
        if not self.volts_per_second > 0:
            raise InputError(f"a slew rate must be > 0 volt per second; found {self.volts_per_second}")

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        return replace(chip, slew=np.minimum(chip.slew, self._dimensionless(at.scale)))

    def describe(self, scale: Scale) -> str:
        rate = engineering(self.volts_per_second, "V/s")
        return f"{rate} ({self._dimensionless(scale):.3g} state units per time constant)"

    def _dimensionless(self, scale: Scale) -> float:
        return self.volts_per_second * scale.second / scale.volt


def _between_rails(chip: Chip, low: Float[Array, " N"], high: Float[Array, " N"]) -> Chip:
    """The chip with its rails no wider than these."""
    low, high = np.maximum(chip.low, low), np.minimum(chip.high, high)
    if (crossed := np.flatnonzero(low > high)).size:
        first = crossed[0]
        raise InputError(
            f"unit {first} has nothing between its rails [{low[first]:g}, {high[first]:g}]: a dead unit must stay at a "
            "value between the rails"
        )
    return replace(chip, low=low, high=high)
