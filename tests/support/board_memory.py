"""The real firmware inside the test's own process, behind a bad wire, with a clock that goes when it is told to."""

import functools
import itertools
import math
import shutil
import tempfile
from pathlib import Path

import pytest

from hwsim.devices.board import SerialBoard
from hwsim.devices.board.build import Target, available, build
from hwsim.devices.board.codes import ResetCause
from hwsim.devices.board.emulator import Emulated, InProcessBoard, qemu_missing
from hwsim.devices.board.errors import LinkLost
from hwsim.devices.board.faults import BadWire, Faults
from hwsim.devices.board.ports import Opener, Port

NEEDS_GCC = pytest.mark.skipif(available(Target.LIBRARY) is not None, reason=f"{available(Target.LIBRARY)}")
NO_QEMU = available(Target.M4F) or available(Target.LIBRARY) or qemu_missing()
"""Why no microcontroller is emulated here, or None."""
NEEDS_QEMU = pytest.mark.skipif(NO_QEMU is not None, reason=f"{NO_QEMU}")
SMALL = Emulated(units=6, inputs=4, lanes=16, horizon=20)
_COPIES = itertools.count()


@functools.cache
def _folder():
    """For copies of the library: each holds the state of one board."""
    return tempfile.TemporaryDirectory(prefix="hwsim-boards-")


@functools.cache
def _library():
    return build(Target.LIBRARY)


def in_memory(emulated=SMALL, boot_id=1):
    """A board in this process, one of many."""
    copy = Path(_folder().name) / f"board-{next(_COPIES)}.so"
    shutil.copy(_library(), copy)
    return InProcessBoard(emulated, boot_id=boot_id, library=copy)


class MemoryOpener(Opener):
    """A board in memory, again and again, and what can happen to it.

    Args:
        board: which.
        faults: of the wire.
        baud: of the timers.
    """

    realtime = False

    def __init__(self, board, faults=Faults(), baud=1_000_000):
        self.name, self.board, self.baud = "memory", board, baud
        self.wires = BadWire(faults=faults, direction=0), BadWire(faults=faults, direction=1)
        self.time = 0.0
        self.port = None
        self.plug_at = -math.inf
        self.writes = 0
        self.before_write = {}
        """Number of a write to the port -> what happens just before it."""

    def open(self):
        if self.time < self.plug_at:
            raise LinkLost("memory is unplugged; plug it in again")
        self.port = MemoryPort(self)
        return self.port

    def now(self):
        return self.time

    def pause(self, seconds):
        self.pass_time(seconds)

    def pass_time(self, seconds):
        """The clock goes on, for the board as well."""
        self.time += seconds
        self.wires[1].push(self.board.advance(1e3 * seconds), self.time)

    def unplug(self, seconds=0.02):
        """Pull the cable, and put it back after a while."""
        self.plug_at, self.port = self.time + seconds, None
        for wire in self.wires:
            wire.clear()

    def reboot(self, cause=ResetCause.POWER_ON):
        """The board loses its memory."""
        for wire in self.wires:
            wire.clear()
        self.board.power_cycle(cause)


class MemoryPort(Port):
    """A wire to a board in memory."""

    def __init__(self, opener):
        self.opener, self.baud = opener, opener.baud

    def now(self):
        return self.opener.time

    def write(self, data):
        opener = self.opener
        opener.writes += 1
        opener.before_write.pop(opener.writes, lambda: None)()
        self._check()
        opener.wires[0].push(data, self.now())

    def read(self, seconds):
        opener, end = self.opener, self.now() + seconds
        while True:
            self._check()
            opener.wires[1].push(opener.board.exchange(opener.wires[0].pull(self.now())), self.now())
            if opener.board.reset_wanted:
                opener.reboot(ResetCause.REQUESTED)
            if data := opener.wires[1].pull(self.now()):
                return data
            if self.now() >= end:
                return b""
            due = min(end, opener.wires[0].next_due, opener.wires[1].next_due, self.now() + 0.05)
            opener.pass_time(max(due - self.now(), 1e-6))

    def close(self):
        if self.opener.port is self:
            self.opener.port = None

    def _check(self):
        if self.opener.port is not self:
            raise LinkLost("memory was unplugged; plug it in again")


def board(emulated=SMALL, faults=Faults(), **options):
    """A board in memory as a device, and the wire to it."""
    opener = MemoryOpener(in_memory(emulated), faults)
    return SerialBoard(opener, **options), opener
