"""`fault://URL?drop=0.002&flip=0.002&seed=5`: any port behind a bad wire. pyserial finds this module by its name.

URL                                     the port inside: a path, socket://HOST:PORT, ...
drop, flip, truncate, duplicate, delay  probabilities, see `Faults`; the first two per byte, the others per frame
seconds                                 by which what is delayed is late
baud                                    bits per second at which frames cross; 0 for at once
seed                                    of all draws
"""

from __future__ import annotations

import time

from .around import SLICE, Around, split
from .faults import BadWire, Faults


class Serial(Around):
    """A port behind a bad wire in each direction."""

    def begin(self, url: str) -> str:
        """Two wires."""
        inside, query = split(url, "fault", "fault:///dev/ttyACM0?drop=0.002")
        faults = Faults.of_query(query)
        self.wires = BadWire(faults=faults, direction=0), BadWire(faults=faults, direction=1)
        return inside

    def leaving(self, data: bytes) -> bytes:
        """Through the wire out."""
        now = time.monotonic()
        self.wires[0].push(data, now)
        return self.wires[0].pull(now)

    def arriving(self, data: bytes) -> bytes:
        """Through the wire in."""
        now = time.monotonic()
        self.wires[1].push(data, now)
        return self.wires[1].pull(now)

    def held_back(self) -> float:
        """Until the next frame comes out of a wire."""
        due = min(wire.next_due for wire in self.wires)
        return max(0.0, min(SLICE, due - time.monotonic()))
