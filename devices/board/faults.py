"""A bad wire, by seed: bytes that are lost or flipped, frames that are cut, late or come twice. Knows no port.

What happens to a byte depends on the seed and on how many bytes went before it in its direction, never on the clock.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field, fields
from typing import final
from urllib.parse import parse_qsl

from hwsim.contracts.errors import InputError

LATEST = 4
"""A frame that comes twice comes again after at most so many others."""


@final
@dataclass(frozen=True, kw_only=True)
class Faults:
    """How bad a wire is, the same in both directions.

    Args:
        drop: probability that a byte is lost.
        flip: probability that one bit of a byte is turned.
        truncate: probability that a frame loses its tail.
        duplicate: probability that a frame comes again, up to `LATEST` frames later.
        delay: probability that a frame, and all that follows it, arrives `seconds` late.
        seconds: how late.
        baud: bits per second at which frames cross, ten to a byte; 0 for at once.
        seed: of all draws.

    Raises:
        InputError: a probability outside [0, 1], or a time that is negative or not finite.
    """

    drop: float = 0.0
    flip: float = 0.0
    truncate: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    seconds: float = 0.02
    baud: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drop", "flip", "truncate", "duplicate", "delay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"a wire has {name} between 0 and 1; found {getattr(self, name)}")
        if not (math.isfinite(self.seconds) and self.seconds >= 0.0):
            raise InputError(f"a wire delays by a finite time of at least 0 s; found {self.seconds}")
        if self.baud < 0:
            raise InputError(f"a wire has baud >= 0 (0: at once); found {self.baud}")

    @classmethod
    def of_query(cls, query: str) -> Faults:
        """From the query of a URL: `drop=0.002&flip=0.002&seed=5`.

        Raises:
            InputError: an unknown name, or a value that is no number.
        """
        known = {each.name: (int if each.name in ("baud", "seed") else float) for each in fields(cls)}
        told: dict[str, float | int] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in known:
                raise InputError(f"a fault:// URL knows {', '.join(known)}; found {name!r}")
            try:
                told[name] = known[name](value)
            except ValueError:
                raise InputError(f"{name} in a fault:// URL is a number; found {value!r}") from None
        return cls(**told)  # type: ignore[arg-type]  # as `known` made them


@final
@dataclass
class Counts:
    """What happened on one direction of a wire so far."""

    bytes: int = 0
    dropped: int = 0
    flipped: int = 0
    truncated: int = 0
    duplicated: int = 0
    delayed: int = 0


@final
@dataclass
class BadWire:
    """One direction of a bad wire: bytes go in, and come out when they are due.

    Args:
        faults: how bad it is.
        direction: 0 or 1, so that the two directions differ.
    """

    faults: Faults
    direction: int
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        # a generator for each kind of fault, so that turning one on moves no other
        self._draws = {
            name: random.Random(f"{self.faults.seed}/{self.direction}/{name}")
            for name in ("drop", "flip", "bit", "truncate", "tail", "duplicate", "after", "delay")
        }
        self._next_drop = self._gap("drop", self.faults.drop)
        self._next_flip = self._gap("flip", self.faults.flip)
        self._frame = bytearray()
        self._due: deque[tuple[float, bytes]] = deque()
        self._again: list[tuple[int, bytes]] = []
        self._late = 0.0

    def push(self, data: bytes, now: float) -> None:
        """Put bytes in. A frame ends at its zero byte, and goes through as a whole."""
        for piece in data.split(b"\0")[:-1]:
            self._frame += piece
            self._frame.append(0)
            self._through(bytes(self._frame), now)
            self._frame.clear()
        self._frame += data.rsplit(b"\0", 1)[-1]

    def pull(self, now: float) -> bytes:
        """What has arrived by now."""
        arrived = bytearray()
        while self._due and self._due[0][0] <= now:
            arrived += self._due.popleft()[1]
        return bytes(arrived)

    @property
    def next_due(self) -> float:
        """When something arrives next; infinite where nothing is under way."""
        return self._due[0][0] if self._due else math.inf

    def clear(self) -> None:
        """Lose what is under way."""
        self._frame.clear()
        self._due.clear()
        self._again.clear()

    def _through(self, frame: bytes, now: float) -> None:
        faults, counts, draws = self.faults, self.counts, self._draws
        counts.bytes += len(frame)
        again = [held for left, held in self._again if left <= 0]
        self._again = [(left - 1, held) for left, held in self._again if left > 0]
        if len(frame) > 1:  # a delimiter alone is no frame
            if draws["duplicate"].random() < faults.duplicate:
                counts.duplicated += 1
                self._again.append((draws["after"].randrange(LATEST), frame))
            if draws["truncate"].random() < faults.truncate:
                counts.truncated += 1
                frame = frame[: draws["tail"].randrange(len(frame))]
            if draws["delay"].random() < faults.delay:
                counts.delayed += 1
                self._late = max(self._late, now + faults.seconds)
        for each in (frame, *again):
            due = max(self._late, now)
            if faults.baud:  # the wire is busy until the last byte is over
                due = self._late = due + len(each) * 10.0 / faults.baud
            self._due.append((due, self._damaged(each)))

    def _damaged(self, frame: bytes) -> bytes:
        damaged, start = bytearray(frame), len(frame)
        while self._next_flip < start:
            at = self._next_flip
            damaged[at] ^= 1 << self._draws["bit"].randrange(8)
            self.counts.flipped += 1
            self._next_flip = at + 1 + self._gap("flip", self.faults.flip)
        self._next_flip -= start
        lost = []
        while self._next_drop < start:
            lost.append(self._next_drop)
            self.counts.dropped += 1
            self._next_drop += 1 + self._gap("drop", self.faults.drop)
        self._next_drop -= start
        for at in reversed(lost):
            del damaged[at]
        return bytes(damaged)

    def _gap(self, name: str, probability: float) -> int:
        """How many bytes go by before the next fault: geometric."""
        if probability <= 0.0:
            return 1 << 62
        if probability >= 1.0:
            return 0
        return int(math.log(1.0 - self._draws[name].random()) / math.log1p(-probability))
