"""Boards: machines that answer the board protocol over a serial link."""

from .codes import AtKind, CreditMode
from .descriptor import Descriptor
from .device import BAUD, SerialBoard
from .errors import (
    BoardChanged,
    BoardError,
    BoardRebooted,
    BoardRefused,
    BoardSafe,
    LinkLost,
    NoAnswer,
    ReplayMismatch,
    SessionLost,
    TransferBroken,
    VersionMismatch,
)
from .faults import BadWire, Faults
from .ports import Opener, Port, SerialOpener
from .provenance import BoardWarning, Measured, Provenance

__all__ = [
    "BAUD",
    "AtKind",
    "BadWire",
    "BoardChanged",
    "BoardError",
    "BoardRebooted",
    "BoardRefused",
    "BoardSafe",
    "BoardWarning",
    "CreditMode",
    "Descriptor",
    "Faults",
    "LinkLost",
    "Measured",
    "NoAnswer",
    "Opener",
    "Port",
    "Provenance",
    "ReplayMismatch",
    "SerialBoard",
    "SerialOpener",
    "SessionLost",
    "TransferBroken",
    "VersionMismatch",
]
