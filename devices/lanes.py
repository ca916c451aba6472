"""Whose noise the lanes of a plan have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath

from .imperfections.contract import Deviates
from .imperfections.draws import normals


@final
@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Whose noise it is.

    Args:
        path: address that the plan shares.
        ids: [B] sample ids.
        repeats: [B] repeats per lane.
        units: N.
    """

    path: NoisePath
    ids: Int[Array, " B"]
    repeats: Int[Array, " B"]
    units: int

    @property
    def common(self) -> NoisePath:
        """The address of what all lanes share: that of the lowest repeat among them."""
        return self.path.repeated(int(np.min(self.repeats, initial=2**16))) if len(self.repeats) else self.path

    def alone(self, b: int) -> Lanes:
        """Lane b by itself."""
        one = slice(b, b + 1)
        return Lanes(path=self.path, ids=self.ids[one], repeats=self.repeats[one], units=self.units)

    def deviates(self, base: int, *, first: int = 0, phase: int = 0, every: int = 1) -> Deviates:
        """Draws of streams `base` to `base + 15`, from step `first` on, every `every`-th of them."""

        def draw(component: int, steps: int) -> Float[Array, "steps B N"]:
            if not 0 <= component < 16:
                raise InputError(f"an imperfection has 16 streams of noise, 0 to 15; asked for {component}")
            drawn = normals(
                self.path,
                base + component,
                self.ids,
                units=self.units,
                steps=(steps - 1) * every + 1 if steps else 0,
                first=first,
                phase=phase,
                repeats=self.repeats,
            )
            return drawn[::every]

        return draw
