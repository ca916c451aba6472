"""Programming with a shadow copy that stays within what the hardware can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters

from .writing import Writer


@final
@dataclass(frozen=True)
class ClippedReprogram(Writer):
    """As `Reprogram`, with the shadow copy clipped to the device's ranges after every update:

        theta <- clip(wanted, low, high),   block by block

    A device refuses what it cannot hold (RangeError), so that training on one with ranges needs this, or weights that
    stay inside by themselves. Clipping the shadow copy, and not only what is written, lets a parameter come back from
    its bound at once. Blocks without a range pass through; what is not finite stays so, for the trainer to see.
    """

    @property
    def needs(self) -> frozenset[Capability]:
        return frozenset()

    @property
    def shadow(self) -> bool:
        return True

    def begin(self, device: Device, theta: Parameters) -> Parameters:
        return _clipped(theta, device.spec.ranges)

    def hold(self, device: Device, theta: Parameters) -> Parameters:
        return device.program(theta)

    def write(self, device: Device, theta: Parameters, wanted: Parameters, noise: NoisePath) -> Parameters:
        return _clipped(wanted, device.spec.ranges)


def _clipped(theta: Parameters, ranges: Mapping[str, tuple[float, float]]) -> Parameters:
    return theta | {name: np.clip(theta[name], low, high) for name, (low, high) in ranges.items()}
