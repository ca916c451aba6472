"""How an update reaches the hardware: by programming the new values, or by pulses on top of what is there."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters


class Writer(ABC):
    """Keeps the parameters of a training state and those of a device together."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Capability]:
        """What the device must offer."""

    @property
    @abstractmethod
    def shadow(self) -> bool:
        """Whether a digital shadow copy is what gets programmed; else the device holds the only copy."""

    @abstractmethod
    def begin(self, device: Device, theta: Parameters) -> Parameters:
        """The parameters with which training starts."""

    @abstractmethod
    def hold(self, device: Device, theta: Parameters) -> Parameters:
        """What the device holds in the coming step, read back."""

    @abstractmethod
    def write(self, device: Device, theta: Parameters, wanted: Parameters, noise: NoisePath) -> Parameters:
        """The parameters of the next training state.

        Args:
            device: what learns.
            theta: of this training state.
            wanted: where the optimiser wants them.
            noise: address of whatever is random in the update.
        """


@final
@dataclass(frozen=True)
class Reprogram(Writer):
    """Every step programs all values of a digital shadow copy, which the optimiser moves in full precision."""

    @property
    def needs(self) -> frozenset[Capability]:
        return frozenset()

    @property
    def shadow(self) -> bool:
        return True

    def begin(self, device: Device, theta: Parameters) -> Parameters:
        return theta

    def hold(self, device: Device, theta: Parameters) -> Parameters:
        return device.program(theta)

    def write(self, device: Device, theta: Parameters, wanted: Parameters, noise: NoisePath) -> Parameters:
        return wanted


@final
@dataclass(frozen=True, kw_only=True)
class OpenLoopPulses(Writer):
    """The device holds the only copy; an update is a whole number of pulses that nobody verifies (`Device.adjust`):

        pulses = floor((wanted - theta) / step + u),    u ~ U(0, 1), at most `most` either way

    so that an update smaller than one pulse is still right on average (stochastic rounding). theta is what was read
    back. The readout.* blocks stay digital.

    Args:
        step: parameter units that one pulse is meant to change (dw_min of the device).
        most: pulses per parameter and update.

    Raises:
        InputError: not positive.

    Source: stochastic pulse updates, Gokmen and Vlasov, Frontiers in Neuroscience 10:333 (2016).
    """

    step: float
    most: int = 31

    def __post_init__(self) -> None:
        if not (np.isfinite(self.step) and self.step > 0 and self.most >= 1):
            raise InputError(f"pulses need step > 0 and most >= 1; found step={self.step} and most={self.most}")

    @property
    def needs(self) -> frozenset[Capability]:
        return frozenset({Capability.ADJUST})

    @property
    def shadow(self) -> bool:
        return False

    def begin(self, device: Device, theta: Parameters) -> Parameters:
        return theta | device.program(theta)  # what is frozen is known to theta, not to a device

    def hold(self, device: Device, theta: Parameters) -> Parameters:
        return theta

    def write(self, device: Device, theta: Parameters, wanted: Parameters, noise: NoisePath) -> Parameters:
        change = {name: np.asarray(wanted[name]) - np.asarray(block) for name, block in theta.analog.items()}
        if not all(np.isfinite(block).all() for block in change.values()):
            return wanted  # not to be had in pulses: the trainer sees that the run has diverged
        pulses = {name: self._pulses(name, block, noise) for name, block in change.items()}
        return theta | device.adjust(Parameters(pulses)) | wanted.readout

    def _pulses(self, name: str, change: Float[Array, "*shape"], noise: NoisePath) -> Float[Array, "*shape"]:
        from scipy.special import ndtr

        rows = len(change)
        drawn = noise.normals(
            Stream.UPDATE, np.arange(rows), units=change.size // rows, first=zlib.crc32(name.encode()) >> 1
        )
        counts = np.floor(change / self.step + ndtr(drawn[0].reshape(change.shape)))
        return np.clip(counts, -self.most, self.most)


def require_writer(writer: Writer, spec: DeviceSpec) -> None:
    """Raise CapabilityError where the device cannot be written like this."""
    spec.require(writer.needs, type(writer).__name__)
