"""A device around another device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar

from jaxtyping import Float

from .arrays import Array
from .capture import CreditProbe
from .device import Device
from .noise import NoisePath, PhysicalNoise
from .parameters import Parameters
from .plan import Plan, Relaxation
from .substrate import Substrate

_Wrapper = TypeVar("_Wrapper", bound="WrappedDevice")


class WrappedDevice(Device):
    """A device around another one: opening, closing, saving and restoring go through; the rest is for subclasses.

    Args:
        device: the one inside, which this one opens and closes.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    @abstractmethod
    def adjust(self, pulses: Parameters) -> Parameters: ...

    @abstractmethod
    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]: ...

    @abstractmethod
    def form_credit(
        self, free: Plan, probe: Callable[[Relaxation], CreditProbe], *, noise: NoisePath | PhysicalNoise
    ) -> tuple[Relaxation, Parameters]: ...

    @property
    @abstractmethod
    def model(self) -> Substrate: ...

    @property
    @abstractmethod
    def nominal(self) -> Substrate: ...

    def save(self) -> Mapping[str, Array]:
        return self._device.save()

    def restore(self, saved: Mapping[str, Array]) -> None:
        self._device.restore(saved)

    def close(self) -> None:
        self._device.close()

    def __enter__(self: _Wrapper) -> _Wrapper:
        self._device.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._device.__exit__(kind, error, trace)
