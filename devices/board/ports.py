"""Bytes to and from a board: pyserial, wrapped thinly. Every way in which a port can die becomes `LinkLost`."""

from __future__ import annotations

import contextlib
import os
import select
import time
from abc import ABC, abstractmethod
from typing import Any, final

from hwsim.contracts.errors import InputError

from .errors import LinkLost

SLICE = 0.02
"""Seconds for which a port that cannot be waited for in another way is asked at a time."""
WRITE_TIMEOUT = 5.0
"""Seconds after which a port that takes no bytes counts as lost."""
CHUNK = 65536


class Port(ABC):
    """A wire with a clock of its own, which in tests need not be that of the wall."""

    baud: int
    """Bits per second, ten to a byte; what a frame takes to cross is computed from it."""

    @abstractmethod
    def now(self) -> float:
        """Seconds on the port's clock, which never goes back."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Hand over all bytes.

        Raises:
            LinkLost: the port went away.
        """

    @abstractmethod
    def read(self, seconds: float) -> bytes:
        """What has arrived; waits up to `seconds` for the first byte, and answers b"" where none came.

        Raises:
            LinkLost: the port went away.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the port; idempotent, and silent about a port that is already gone."""


@final
class SerialPort(Port):
    """A port that pyserial opens: a device path, `socket://`, `rfc2217://`, `loop://`, `fault://`, `replay://`.

    Args:
        url: of the port.
        baud: bits per second.

    Raises:
        InputError: a URL that means nothing.
        LinkLost: there is no such port, or somebody else holds it.
    """

    def __init__(self, url: str, *, baud: int) -> None:
        self.baud = baud
        self._url = url
        self._serial = opened(url, baud)
        # a file descriptor can be waited for as long as one likes; pyserial's own timeout is set once, since setting
        # it again configures the port anew (9 us on POSIX, 100 ms over RFC 2217)
        self._descriptor = descriptor_of(self._serial)

    def now(self) -> float:
        return time.monotonic()

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except OSError as error:  # SerialException is one; a vanished terminal raises the bare one
            raise self._lost(error) from None

    def read(self, seconds: float) -> bytes:
        try:
            if self._descriptor is not None:
                return received(self._descriptor, seconds)
            return self._read_in_slices(seconds)
        except (OSError, ValueError, TypeError) as error:  # select and pyserial on a descriptor that is closed
            raise self._lost(error) from None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._serial.close()

    def _read_in_slices(self, seconds: float) -> bytes:
        end = time.monotonic() + seconds
        while True:
            data: bytes = self._serial.read(max(1, self._serial.in_waiting))
            if data or time.monotonic() >= end:
                return data

    def _lost(self, error: Exception) -> LinkLost:
        return LinkLost(f"{self._url} went away ({error}); {_AGAIN}")


_AGAIN = "plug the board in again, or give the port that it has now (`hwsim board list` shows them)"


def opened(url: str, baud: int) -> Any:
    """A pyserial port, open.

    Raises:
        InputError: a URL that means nothing.
        LinkLost: there is no such port, or somebody else holds it.
    """
    import serial

    register()
    try:
        return serial.serial_for_url(url, baudrate=baud, timeout=SLICE, **options_of(url))
    except ValueError as error:
        raise InputError(f"asked for a board at {url!r}: {error}; {_FORMS}") from None
    except (OSError, ImportError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else str(error)
        raise LinkLost(
            f"cannot open {url}: {why}; is the board plugged in, and does nobody else hold the port?"
        ) from None


_FORMS = "give a path such as /dev/ttyACM0, or socket://HOST:PORT, rfc2217://HOST:PORT, fault://URL?drop=0.002, replay://FILE"


def register() -> None:
    """Let pyserial find our own `fault://` and `replay://`; idempotent."""
    import serial

    if __package__ not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.append(__package__)


def options_of(url: str) -> dict[str, float | bool]:
    """What pyserial is told beside the rate: a lock, advisory and on real ports alone, so that two hosts do not talk to
    one board; and when a write is given up, which RFC 2217 does not know."""
    told: dict[str, float | bool] = {"exclusive": True} if "://" not in url and os.name == "posix" else {}
    return told if url.lower().startswith("rfc2217://") else told | {"write_timeout": WRITE_TIMEOUT}


def descriptor_of(port: Any) -> int | None:
    """The file descriptor to wait for; None where pyserial (or a handler on top of it) must do the reading."""
    if os.name != "posix":
        return None
    import serial
    from serial.urlhandler import protocol_socket

    return int(port.fileno()) if type(port) in (serial.Serial, protocol_socket.Serial) else None


def received(descriptor: int, seconds: float) -> bytes:
    """What has arrived; waits up to `seconds` for the first byte. (Of a socket pyserial knows one byte at a time.)

    Raises:
        OSError: the other end is gone.
    """
    ready, _, _ = select.select([descriptor], [], [], seconds)
    data = os.read(descriptor, CHUNK) if ready else b""
    if ready and not data:
        raise OSError("closed at its other end")
    return data


class Opener(ABC):
    """Where a board is, and how to get at it again after it was unplugged."""

    name: str
    """For people."""
    realtime: bool
    """Whether the clock is that of the wall, so that a lease must be renewed in the background."""

    @abstractmethod
    def open(self) -> Port:
        """The port, anew.

        Raises:
            InputError: a URL that means nothing.
            LinkLost: there is no such port now.
        """

    @abstractmethod
    def now(self) -> float:
        """Seconds on the clock of the ports."""

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Wait before trying again."""


@final
class SerialOpener(Opener):
    """A board on a port of pyserial's.

    Args:
        url: of the port.
        baud: bits per second.
    """

    realtime = True

    def __init__(self, url: str, *, baud: int) -> None:
        self.name, self._baud = url, baud

    def open(self) -> Port:
        return SerialPort(self.name, baud=self._baud)

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
