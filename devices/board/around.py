"""A pyserial port around another one: what `fault://` and `record://` share."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

import serial
from serial.serialutil import PortNotOpenError, SerialBase

from .ports import descriptor_of, options_of, received

SLICE = 0.01
"""Seconds for which the port inside is asked at a time."""


class Around(SerialBase):  # type: ignore[misc]  # pyserial is untyped
    """Opens the port inside and passes bytes through two hooks."""

    @abstractmethod
    def begin(self, url: str) -> str:
        """Take up the URL's own options; the URL of the port inside."""

    @abstractmethod
    def leaving(self, data: bytes) -> bytes:
        """What goes out now of what was written (and was held back before)."""

    @abstractmethod
    def arriving(self, data: bytes) -> bytes:
        """What comes in now of what was read (and was held back before)."""

    def held_back(self) -> float:
        """Seconds until something that was held back is due; at most SLICE."""
        return SLICE

    def open(self) -> None:
        """Open the port inside."""
        inside = self.begin(self.portstr)
        self._inside = serial.serial_for_url(inside, baudrate=self._baudrate, timeout=SLICE, **options_of(inside))
        self._descriptor = descriptor_of(self._inside)
        self._arrived = bytearray()
        self.is_open = True

    def close(self) -> None:
        """Close the port inside."""
        if self.is_open:
            self.is_open = False
            self._inside.close()

    def read(self, size: int = 1) -> bytes:
        """Up to `size` bytes, those that came through."""
        end = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            self._advance()
            if self._arrived or (end is not None and time.monotonic() >= end):
                data = bytes(self._arrived[:size])
                del self._arrived[:size]
                return data
            self._arrived += self.arriving(self._from_inside(self.held_back()))

    def write(self, data: Any) -> int:
        """Send bytes."""
        if not self.is_open:
            raise PortNotOpenError
        self._send(self.leaving(bytes(data)))
        return len(data)

    @property
    def in_waiting(self) -> int:
        """Bytes that have come through."""
        self._advance()
        return len(self._arrived)

    def reset_input_buffer(self) -> None:
        """Lose what is on its way here."""
        self._inside.reset_input_buffer()
        self._arrived.clear()

    def reset_output_buffer(self) -> None:
        """Lose what is on its way out."""
        self._inside.reset_output_buffer()

    def _advance(self) -> None:
        if not self.is_open:
            raise PortNotOpenError
        self._send(self.leaving(b""))
        self._arrived += self.arriving(self._from_inside(0.0))

    def _from_inside(self, seconds: float) -> bytes:
        if self._descriptor is not None:
            return received(self._descriptor, seconds)
        waiting = self._inside.in_waiting
        return bytes(self._inside.read(max(1, waiting))) if waiting or seconds else b""

    def _send(self, data: bytes) -> None:
        if data:
            self._inside.write(data)

    def _reconfigure_port(self, *_: Any, **__: Any) -> None:
        """Settings of the port inside are those it was opened with."""


def split(url: str, scheme: str, example: str) -> tuple[str, str]:
    """The URL inside and the query of `scheme://INSIDE?QUERY`.

    Raises:
        ValueError: nothing inside.
    """
    inside, _, query = url[len(scheme) + 3 :].rpartition("?") if "?" in url else (url[len(scheme) + 3 :], "", "")
    if not inside:
        raise ValueError(f"a {scheme}:// URL holds another one, as in {example}")
    return inside, query
