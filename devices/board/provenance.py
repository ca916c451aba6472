"""Where a measured result comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from hwsim.contracts.plan import Relaxation


class BoardWarning(UserWarning):
    """The run goes on, and its result is not what an undisturbed run would have given."""


@final
@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a result comes from.

    Args:
        uid: of the board.
        boot_id: of the boot in which it was measured.
        network: SHA-256 of the network that was sent, hexadecimal.
        held: SHA-256 of what the board said that it holds.
        jobs: numbers of the jobs.
        clipped: reads that met the end of the converter.
        lanes_limited: lanes in which something that was put in was beyond its converter.
        parallel: lanes that run at the same time; the others of a batch ran one after another.
        reads: averaged for each state.
        resent: frames that had to be sent again for it.
        reconnects: times that the port was opened anew for it.
        restored: boots since the device was opened after which the board was programmed again.
        temperature: degrees C; NaN where the board does not measure it.
    """

    uid: str
    boot_id: int
    network: str
    held: str
    jobs: tuple[int, ...]
    clipped: int
    lanes_limited: int
    parallel: int
    reads: int
    resent: int
    reconnects: int
    restored: int
    temperature: float


@final
@dataclass(frozen=True, kw_only=True)
class Measured(Relaxation):
    """A relaxation that was measured on a board.

    Args:
        provenance: of the plan that it belongs to.
    """

    provenance: Provenance
