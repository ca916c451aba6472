"""Whose noise the lanes of a plan have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float, UInt32

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath

from .imperfections.contract import Deviates
from .imperfections.draws import normals

if TYPE_CHECKING:
    from hwsim.kernels import Noise


@final
@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Whose noise it is.

    Args:
        path: address that the plan shares.
        ids: [B] sample ids.
        repeats: [B] repeats per lane, added to the path's own; None adds none.
        units: N.
    """

    path: NoisePath
    ids: UInt32[np.ndarray, " B"]
    repeats: UInt32[np.ndarray, " B"] | None
    units: int

    @property
    def common(self) -> NoisePath:
        """The address of what all lanes share: that of the lowest repeat among them."""
        return self.path if self.repeats is None or not len(self.ids) else self.path.repeated(int(self.repeats.min()))

    def alone(self, b: int) -> Lanes:
        """Lane b by itself."""
        one = slice(b, b + 1)
        repeats = None if self.repeats is None else self.repeats[one]
        return Lanes(path=self.path, ids=self.ids[one], repeats=repeats, units=self.units)

    def noise(self, stream: int, phase: int, first: int = 0) -> Noise:
        """Where a kernel takes deviates of a stream from, from step `first` of a phase on."""
        from hwsim.kernels import Noise

        return Noise(path=self.path, stream=int(stream), phase=phase, ids=self.ids, repeats=self.repeats, first=first)

    def deviates(self, base: int, *, first: int = 0, phase: int = 0, every: int = 1) -> Deviates:
        """Draws of streams `base` to `base + 15`, from step `first` on, every `every`-th of them."""

        def draw(component: int, steps: int) -> Float[np.ndarray, "steps B N"]:
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
