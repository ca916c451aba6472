"""Talking to a board behind a port, for tests: sends, then waits for one whole reply."""

import serial
from board_talk import frames_of

from hwsim.devices.board.codes import Flag

PATIENCE = 60.0
"""Seconds after which a reply will not come any more, on a loaded machine."""


class Line:
    """A port; a context manager."""

    def __init__(self, url):
        self._port = serial.serial_for_url(url, timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._port.close()

    def exchange(self, data):
        """Send, and give all that comes up to the end of the next reply."""
        self._port.write(data)
        said = b""
        while not self._replied(said):
            more = self._port.read_until(b"\0")
            assert more, f"no reply in {PATIENCE} s; heard {said.hex()}"
            said += more
        return said

    def heard(self):
        """The next frame that is no reply (a hello, an event)."""
        said = b""
        while not said.strip(b"\0"):
            said = self._port.read_until(b"\0")
            assert said, f"nothing heard in {PATIENCE} s"
        return frames_of(said)[0]

    @staticmethod
    def _replied(said):
        return said.endswith(b"\0") and any(each.header.flags & Flag.REPLY for each in frames_of(said))
