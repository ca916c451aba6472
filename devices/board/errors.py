"""What goes wrong between the host and a board, as types. Each message says what was found and what to do.

BoardError
├── LinkLost          the port went away: unplugged, cut, or its process ended
├── NoAnswer          the port is there, and nothing on it answers as a board does
├── VersionMismatch   the board speaks another major version, or another message table
├── BoardRebooted     the board is not the one that was programmed: it started again
├── BoardChanged      somebody else programmed or opened the board meanwhile
├── SessionLost       another host ended our session; the device looks at what it left behind, and goes on or says so
├── BoardSafe         the board is in its safe state, for a reason that somebody should look at
├── BoardRefused      the board answered with an error; `detail` is its code
├── TransferBroken    what arrived is not what was sent (SHA-256)
└── ReplayMismatch    a recorded session is replayed, and the host says something else than it did
"""

# ruff: noqa: N818  # they are named after what happened

from __future__ import annotations

from hwsim.contracts.errors import HwsimError


class BoardError(HwsimError):
    """Base of what goes wrong with a board."""


class LinkLost(BoardError):
    """The port went away."""


class NoAnswer(BoardError):
    """Nothing on the port answers as a board does."""


class VersionMismatch(BoardError):
    """The board speaks another version of the protocol."""


class BoardRebooted(BoardError):
    """The board started again since it was programmed: what it held is gone."""


class BoardChanged(BoardError):
    """The board holds something else than this session programmed."""


class SessionLost(BoardError):
    """The board is the same and did not reboot, but our session is over."""


class BoardSafe(BoardError):
    """The board is in its safe state, for a reason that somebody should look at."""


class BoardRefused(BoardError):
    """The board answered with an error.

    Args:
        message: in words.
        detail: the board's error code.
    """

    def __init__(self, message: str, detail: int = 0) -> None:
        super().__init__(message)
        self.detail = detail


class TransferBroken(BoardError):
    """What arrived is not what was sent."""


class ReplayMismatch(BoardError):
    """The host says something else than it did when the session was recorded."""
