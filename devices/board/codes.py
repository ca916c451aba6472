"""The numbers of the board protocol: enums and error codes, one half of its table (`protocol` is the other)."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Flag(enum.IntFlag):
    """Bits of a frame's header."""

    REPLY = 1
    REPLAY = 2
    EVENT = 4


class State(enum.IntEnum):
    """What a board is doing with its outputs."""

    IDLE = 0
    RUNNING = 1
    SAFE = 2


class Cause(enum.IntEnum):
    """Why a board is, or was last, in its safe state."""

    BOOT = 0
    LEASE = 1
    WATCHDOG = 2
    ABORT = 3
    COMMANDED = 4
    RANGE = 5
    HARDWARE = 6


class ResetCause(enum.IntEnum):
    """Why a board booted."""

    POWER_ON = 0
    REQUESTED = 1
    WATCHDOG = 2
    FAULT = 3


class JobState(enum.IntEnum):
    """Where a job is; from DONE on it has ended."""

    NONE = 0
    RUNNING = 1
    DONE = 2
    CANCELLED = 3
    FAILED = 4


class JobKind(enum.IntEnum):
    """What a RUN relaxes."""

    RELAX = 0
    TRANSPOSE = 1


class StartKind(enum.IntEnum):
    """Where the first phase begins."""

    REST = 0
    RANDOM = 1
    CARRY = 2
    STATE = 3


class NoiseKind(enum.IntEnum):
    """Whose noise it is."""

    ADDRESSED = 0
    PHYSICAL = 1


class ForceKind(enum.IntEnum):
    """The force of a phase."""

    NONE = 0
    CONSTANT = 1
    WAVEFORM = 2


class AtKind(enum.IntEnum):
    """The gains of a TRANSPOSE."""

    VECTOR = 0
    RECORDING = 1
    TAPE = 2


class Capture(enum.IntEnum):
    """On which tape a RUN keeps the states of one phase."""

    NONE = 0
    PRE = 1
    POST = 2


class CreditMode(enum.IntEnum):
    """How the two tapes are paired."""

    FINAL = 0
    REVERSED = 1
    ALIGNED = 2


class RunFlag(enum.IntFlag):
    """Bits of `Run.flags`."""

    CLEAR_POST = 1
    TAPE_ONLY = 2


class PhaseFlag(enum.IntFlag):
    """Bits of `RunPhase.flags`."""

    DISPLACE = 1
    CORRECT = 2


class CreditFlag(enum.IntFlag):
    """Bits of `Credit.flags`."""

    CLEAR = 1


class SessionFlag(enum.IntFlag):
    """Bits of `OpenSession.flags`."""

    TAKE_OVER = 1


class Slot(enum.IntEnum):
    """Named stretches of a board's memory."""

    NETWORK = 1
    DATA = 2
    RESULT = 3
    CREDIT = 4
    HELD = 5


class BlobPhase(enum.IntEnum):
    """How far a slot is."""

    EMPTY = 0
    RECEIVING = 1
    COMMITTED = 2


class Bit(enum.IntFlag):
    """Capabilities, the `capabilities` of the descriptor. Names up to CAPTURE_CREDIT are those of
    `hwsim.contracts.device.Capability`."""

    LOAD_STATE = 1 << 0
    DISPLACE = 1 << 1
    RECORD = 1 << 2
    WAVEFORM = 1 << 3
    TRANSPOSE = 1 << 4
    CORRECT = 1 << 5
    PLAYBACK = 1 << 6
    TWINS = 1 << 7
    REPLAYABLE_NOISE = 1 << 8
    CAPTURE_CREDIT = 1 << 9
    AVERAGE = 1 << 10
    RANDOM_START = 1 << 11
    CARRY = 1 << 12


class EventKind(enum.IntEnum):
    """What an EVENT tells."""

    JOB_ENDED = 1
    SAFE = 2


class ErrorClass(enum.IntEnum):
    """`status` of a reply."""

    OK = 0
    LINK = 1
    PROTOCOL = 2
    ARGUMENT = 3
    STATE = 4
    BUSY = 5
    HARDWARE = 6
    RANGE = 7
    TIMEOUT = 8


class Problem(NamedTuple):
    """What an error code means; text and remedy are for people, `{arg}` is the number that comes with it."""

    kind: ErrorClass
    retryable: bool
    text: str


class ErrorCode(enum.IntEnum):
    """`detail` of an error."""

    SCHEMA = 0x0101
    NO_SESSION = 0x0102
    STALE = 0x0103
    GAP = 0x0104
    REUSED = 0x0105
    SESSION_TAKEN = 0x0106
    UNKNOWN_TYPE = 0x0201
    LENGTH = 0x0202
    ARGUMENT = 0x0301
    SLOT = 0x0302
    OFFSET = 0x0303
    TOO_LARGE = 0x0304
    DATA_CRC = 0x0305
    NOT_OFFERED = 0x0306
    BLOB_SHA = 0x0307
    BLOB_GAP = 0x0308
    BLOB_SHORT = 0x0309
    NOT_PROGRAMMED = 0x0401
    LATCHED = 0x0402
    NO_JOB = 0x0403
    NO_RESULT = 0x0404
    NO_TRANSFER = 0x0405
    TAPES = 0x0406
    NO_CARRY = 0x0407
    JOB_RUNNING = 0x0501
    CONVERTER = 0x0601
    SELFTEST = 0x0602
    NOT_FINITE = 0x0701
    OUT_OF_RANGE = 0x0702
    LEASE_EXPIRED = 0x0801
    WATCHDOG_RESET = 0x0802
    ABORTED = 0x0803
    COMMANDED_SAFE = 0x0804


PROBLEMS: dict[ErrorCode, Problem] = {
    ErrorCode.SCHEMA: Problem(ErrorClass.LINK, False, "frame of another schema"),
    ErrorCode.NO_SESSION: Problem(ErrorClass.LINK, False, "no such session"),
    ErrorCode.STALE: Problem(ErrorClass.LINK, False, "reply no longer kept"),
    ErrorCode.GAP: Problem(ErrorClass.LINK, True, "an earlier request is missing"),
    ErrorCode.REUSED: Problem(ErrorClass.LINK, False, "sequence number used for another request"),
    ErrorCode.SESSION_TAKEN: Problem(ErrorClass.BUSY, True, "another session holds the board"),
    ErrorCode.UNKNOWN_TYPE: Problem(ErrorClass.PROTOCOL, False, "unknown message type"),
    ErrorCode.LENGTH: Problem(ErrorClass.PROTOCOL, False, "payload of another length"),
    ErrorCode.ARGUMENT: Problem(ErrorClass.ARGUMENT, False, "argument out of bounds"),
    ErrorCode.SLOT: Problem(ErrorClass.ARGUMENT, False, "no such slot for this"),
    ErrorCode.OFFSET: Problem(ErrorClass.ARGUMENT, False, "outside the slot"),
    ErrorCode.TOO_LARGE: Problem(ErrorClass.ARGUMENT, False, "does not fit the board's memory"),
    ErrorCode.DATA_CRC: Problem(ErrorClass.ARGUMENT, True, "DATA slot holds something else"),
    ErrorCode.NOT_OFFERED: Problem(ErrorClass.ARGUMENT, False, "capability not offered"),
    ErrorCode.BLOB_SHA: Problem(ErrorClass.ARGUMENT, True, "SHA-256 differs"),
    ErrorCode.BLOB_GAP: Problem(ErrorClass.ARGUMENT, True, "earlier bytes are missing"),
    ErrorCode.BLOB_SHORT: Problem(ErrorClass.ARGUMENT, True, "transfer is not complete"),
    ErrorCode.NOT_PROGRAMMED: Problem(ErrorClass.STATE, False, "no network is programmed"),
    ErrorCode.LATCHED: Problem(ErrorClass.STATE, False, "safe state is latched"),
    ErrorCode.NO_JOB: Problem(ErrorClass.STATE, False, "no such job"),
    ErrorCode.NO_RESULT: Problem(ErrorClass.STATE, False, "no result is kept"),
    ErrorCode.NO_TRANSFER: Problem(ErrorClass.STATE, False, "no transfer has begun"),
    ErrorCode.TAPES: Problem(ErrorClass.STATE, False, "tapes do not fit each other"),
    ErrorCode.NO_CARRY: Problem(ErrorClass.STATE, False, "other number of lanes ran last"),
    ErrorCode.JOB_RUNNING: Problem(ErrorClass.BUSY, True, "a job is running"),
    ErrorCode.CONVERTER: Problem(ErrorClass.HARDWARE, False, "a converter does not answer"),
    ErrorCode.SELFTEST: Problem(ErrorClass.HARDWARE, False, "self-test failed"),
    ErrorCode.NOT_FINITE: Problem(ErrorClass.RANGE, False, "a value is not finite"),
    ErrorCode.OUT_OF_RANGE: Problem(ErrorClass.RANGE, False, "a value is out of range"),
    ErrorCode.LEASE_EXPIRED: Problem(ErrorClass.TIMEOUT, False, "host fell silent: lease expired"),
    ErrorCode.WATCHDOG_RESET: Problem(ErrorClass.TIMEOUT, False, "firmware hung: watchdog reset"),
    ErrorCode.ABORTED: Problem(ErrorClass.TIMEOUT, False, "aborted by the host"),
    ErrorCode.COMMANDED_SAFE: Problem(ErrorClass.TIMEOUT, False, "safe state by command"),
}


class Type(enum.IntEnum):
    """Message types."""

    HELLO = 0x01
    GET_DESCRIPTOR = 0x02
    OPEN_SESSION = 0x03
    CLOSE_SESSION = 0x04
    PING = 0x05
    STATUS = 0x06
    BLOB_BEGIN = 0x10
    BLOB_DATA = 0x11
    BLOB_COMMIT = 0x12
    BLOB_STATE = 0x13
    READ = 0x14
    PUT = 0x15
    RUN = 0x20
    JOB_STATUS = 0x21
    CREDIT = 0x22
    CANCEL = 0x23
    ABORT = 0x24
    SAFE = 0x30
    CLEAR_FAULT = 0x31
    NEXT_ERROR = 0x32
    SELFTEST = 0x33
    RESET = 0x34
    HANG = 0x3F
    EVENT = 0x40


ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = (
    Flag,
    State,
    Cause,
    ResetCause,
    JobState,
    JobKind,
    StartKind,
    NoiseKind,
    ForceKind,
    AtKind,
    Capture,
    CreditMode,
    RunFlag,
    PhaseFlag,
    CreditFlag,
    SessionFlag,
    Slot,
    BlobPhase,
    Bit,
    EventKind,
    ErrorClass,
    ErrorCode,
    Type,
)
