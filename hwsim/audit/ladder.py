"""A machine taken apart: the drawn chip alone, and then with one more of its imperfections at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar, final

from hwsim.contracts.device import Device

from .record import Floor

_Ladder = TypeVar("_Ladder", bound="DeviceLadder")


@final
@dataclass(frozen=True, kw_only=True)
class DeviceRung:
    """A device that is worse than the one before it in one thing.

    Args:
        name: that thing, such as "thermal noise".
        advice: what to change where this rung is the largest.
        device: programmed with the same parameters as all others of its ladder.
        detail: its size, in physical units.
        floor: whose fault it is.
    """

    name: str
    advice: str
    device: Device
    detail: str = ""
    floor: Floor = Floor.MACHINE


@final
@dataclass(frozen=True, kw_only=True)
class DeviceLadder:
    """Devices from the quiet drawn chip to the whole machine, all programmed with the same parameters.

    `devices.audit_ladder` makes one of a simulated device. For a board, `judge` is its fitted twin without noise, and
    the last rung is the board itself: what it does to the gradient beyond what its twin knows.

    Args:
        judge: the drawn chip with exact converters, without noise and with couplings that are exactly transposed when
            driven backwards (capability `model`). Its `model` is what the judge differentiates.
        rungs: one more imperfection each, the last one the machine that learns; none where the chip is all there is.
    """

    judge: Device
    rungs: tuple[DeviceRung, ...] = ()

    @property
    def machine(self) -> Device:
        """What learns."""
        return self.rungs[-1].device if self.rungs else self.judge

    def __iter__(self) -> Iterator[Device]:
        return iter((self.judge, *(rung.device for rung in self.rungs)))

    def close(self) -> None:
        """Let go of all devices."""
        for device in self:
            device.close()

    def __enter__(self: _Ladder) -> _Ladder:
        for device in self:
            device.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
