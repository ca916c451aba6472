"""`replay://FILE`: a board that says again what it said in a recorded session, and fails on any difference in what it
is asked. pyserial finds this module by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serial.serialutil import PortNotOpenError, SerialBase

from .recording import Replay, read_session


class Serial(SerialBase):  # type: ignore[misc]  # pyserial is untyped
    """A recorded session as a port."""

    def open(self) -> None:
        """Read the file."""
        self.replay = Replay(read_session(Path(self.portstr.removeprefix("replay://"))))
        self._asked, self._answers = b"", bytearray()
        self.is_open = True

    def close(self) -> None:
        """Nothing is held."""
        self.is_open = False

    def read(self, size: int = 1) -> bytes:
        """What was answered; there is nothing to wait for."""
        if not self.is_open:
            raise PortNotOpenError
        data = bytes(self._answers[:size])
        del self._answers[:size]
        return data

    def write(self, data: Any) -> int:
        """Answers what is asked.

        Raises:
            ReplayMismatch: it was not asked that when it was recorded.
        """
        if not self.is_open:
            raise PortNotOpenError
        *frames, self._asked = (self._asked + bytes(data)).split(b"\0")
        for frame in frames:
            if frame:
                self._answers += self.replay.answer(frame)
        return len(data)

    @property
    def in_waiting(self) -> int:
        """Bytes that were answered."""
        return len(self._answers)

    def reset_input_buffer(self) -> None:
        """Forget what was answered."""
        self._answers.clear()

    def reset_output_buffer(self) -> None:
        """Nothing waits to go out."""

    def _reconfigure_port(self, *_: Any, **__: Any) -> None:
        """There is no port."""
