"""The one table of the board protocol: what host and firmware say to each other.

From it and `codes` come the records of the host (the classes here), the C header, the tables of the protocol document
(all three by `generate`) and the schema hash. `docs/board-protocol.md` says what the messages mean.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from .codes import ENUMS, Type
from .wire import F32, U8, U16, U32, U64, Record, Sha, Text

MAJOR, MINOR = 1, 0
"""Version: another major is refused, another minor only adds."""
MAGIC = 0x4D535748
"""`HWSM`, the first four bytes of every HELLO."""
RESET_KEY = 0x52455345
"""What RESET must say."""
WINDOW = 4
"""Requests under way at a time, and replies that a board keeps."""
MAX_PAYLOAD = 1024
"""Largest payload of a frame, bytes, unless HELLO says less."""
MAX_PHASES = 8
"""Phases of one RUN."""
LEASE_MS = (100, 60000)
"""Shortest and longest lease, milliseconds."""
DEFAULT_LEASE_MS = 2000
"""Lease where the host asks for 0."""
SAFE_MS = 20
"""A board is safe at most so many milliseconds after what makes it so."""


@dataclass(frozen=True, kw_only=True)
class Header(Record):
    """In front of every payload. `schema` is `SCHEMA & 0xFFFF`; `status` an ErrorClass in replies and 0 in requests."""

    version: U8
    flags: U8
    type: U8
    status: U8
    session: U32
    seq: U16
    schema: U16


@dataclass(frozen=True, kw_only=True)
class Hello(Record):
    """FROZEN: any host reads it from any board, whatever the schema."""

    magic: U32
    major: U8
    minor: U8
    reset_cause: U8
    state: U8
    schema: U64
    boot_id: U32
    descriptor_length: U32
    descriptor_sha: Sha
    rx_buffer: U32
    max_payload: U16
    window: U8
    reserved: U8
    session: U32
    lease_ms: U32


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """Payload of every reply whose status is not OK; `arg` is a number that helps (an offset, a limit, a seq)."""

    kind: U8
    retryable: U8
    detail: U16
    arg: U32
    text: Text


@dataclass(frozen=True, kw_only=True)
class Stretch(Record):
    """Bytes `offset` to `offset + length - 1` of the descriptor."""

    offset: U32
    length: U32


@dataclass(frozen=True, kw_only=True)
class Chunk(Record):
    """In front of bytes of the descriptor or a slot: where they lie, and how many there are in all."""

    offset: U32
    total: U32


@dataclass(frozen=True, kw_only=True)
class OpenSession(Record):
    """`lease_ms` 0 asks for the default."""

    lease_ms: U32
    flags: U32


@dataclass(frozen=True, kw_only=True)
class SessionOpened(Record):
    """`next_seq` is the sequence number that the board expects next."""

    boot_id: U32
    lease_ms: U32
    next_seq: U16
    state: U8
    cause: U8


@dataclass(frozen=True, kw_only=True)
class Ping(Record):
    """The same number comes back."""

    nonce: U32
    board_ms: U32


@dataclass(frozen=True, kw_only=True)
class Status(Record):
    """What a board knows of itself; counters since boot. `temperature` in degrees C, NaN where it is not measured."""

    board_ms: U32
    state: U8
    cause: U8
    latched: U8
    job_state: U8
    session: U32
    lease_left_ms: U32
    job: U32
    network_crc: U32
    programmed: U16
    errors: U16
    frames: U32
    bad_frames: U32
    replays: U32
    overruns: U32
    clipped_reads: U32
    refused_outputs: U32
    temperature: F32


@dataclass(frozen=True, kw_only=True)
class BlobBegin(Record):
    """A transfer of `length` bytes with this digest into a slot."""

    slot: U32
    length: U32
    sha: Sha


@dataclass(frozen=True, kw_only=True)
class BlobData(Record):
    """In front of bytes for `offset` of a slot (BLOB_DATA and PUT)."""

    slot: U32
    offset: U32


@dataclass(frozen=True, kw_only=True)
class BlobAsk(Record):
    """Names a slot."""

    slot: U32


@dataclass(frozen=True, kw_only=True)
class BlobState(Record):
    """How far a slot is: `received` is the next offset. `sha` is that of the transfer, or of the contents."""

    slot: U32
    phase: U32
    length: U32
    received: U32
    sha: Sha


@dataclass(frozen=True, kw_only=True)
class BlobEnd(Record):
    """`received` bytes lie in the slot without a gap."""

    received: U32


@dataclass(frozen=True, kw_only=True)
class Read(Record):
    """Bytes `offset` to `offset + length - 1` of a slot."""

    slot: U32
    offset: U32
    length: U32


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """A plan, `phases` records RunPhase behind it. `inputs`, `addresses`, `state`, `at` and `weights` are offsets in
    the DATA slot, in words of four bytes."""

    seed: U32
    step: U32
    data_length: U32
    data_crc: U32
    inputs: U32
    addresses: U32
    state: U32
    at: U32
    weights: U32
    sigma: F32
    lanes: U16
    reads: U16
    coarse: U16
    reserved: U16
    kind: U8
    start: U8
    phases: U8
    noise: U8
    at_kind: U8
    capture: U8
    capture_phase: U8
    flags: U8


@dataclass(frozen=True, kw_only=True)
class RunPhase(Record):
    """One phase; `force`, `displace` and `correct` are offsets in the DATA slot, in words."""

    steps: U32
    record: U32
    force: U32
    displace: U32
    correct: U32
    force_kind: U8
    flags: U8
    index: U8
    reserved: U8


@dataclass(frozen=True, kw_only=True)
class Accepted(Record):
    """A job has been taken up; its result will have `result_length` bytes."""

    job: U32
    result_length: U32


@dataclass(frozen=True, kw_only=True)
class AskJob(Record):
    """0 is the latest job."""

    job: U32


@dataclass(frozen=True, kw_only=True)
class JobStatus(Record):
    """How far a job is. `outcome` is the worst of all lanes, `clipped` the reads that met the end of a converter."""

    job: U32
    state: U8
    phase: U8
    lane: U16
    step: U32
    detail: U16
    kind: U8
    outcome: U8
    result_length: U32
    result_crc: U32
    network_crc: U32
    elapsed_us: U32
    clipped: U32


@dataclass(frozen=True, kw_only=True)
class Credit(Record):
    """Add `scale` times the pairs of the two tapes to the CREDIT slot."""

    scale: F32
    mode: U8
    flags: U8
    reserved: U16


@dataclass(frozen=True, kw_only=True)
class ClearFault(Record):
    """`cause` must be the one that the board reports: nobody clears what he has not seen."""

    cause: U32


@dataclass(frozen=True, kw_only=True)
class ErrorRecord(Record):
    """The oldest entry of the error queue, taken out; `remaining` are left. `detail` 0: the queue was empty."""

    remaining: U16
    detail: U16
    kind: U8
    retryable: U8
    reserved: U16
    arg: U32
    board_ms: U32
    text: Text


@dataclass(frozen=True, kw_only=True)
class Selftest(Record):
    """Bit i of `failed`: test i of those in `ran` failed (CRC, SHA-256, Philox, tanh, COBS, converters)."""

    ran: U32
    failed: U32


@dataclass(frozen=True, kw_only=True)
class Reset(Record):
    """`key` is RESET_KEY."""

    key: U32


@dataclass(frozen=True, kw_only=True)
class Event(Record):
    """Sent unasked, once, under the session that is open; may be lost."""

    kind: U8
    cause: U8
    state: U8
    job_state: U8
    job: U32


@dataclass(frozen=True, kw_only=True)
class Hang(Record):
    """Stop feeding the watchdog (builds for tests alone)."""

    key: U32


class Message(NamedTuple):
    """What a message carries.

    Args:
        request: record at the head of the request's payload; None for an empty payload.
        reply: record at the head of the reply's.
        free: whether it is also taken without a session; it then repeats without harm, and nothing is kept of it.
        more: what follows the record: "" nothing, "request" or "reply" bytes.
    """

    request: type[Record] | None
    reply: type[Record] | None
    free: bool = False
    more: str = ""


MESSAGES: dict[Type, Message] = {
    Type.HELLO: Message(None, Hello, free=True),
    Type.GET_DESCRIPTOR: Message(Stretch, Chunk, free=True, more="reply"),
    Type.OPEN_SESSION: Message(OpenSession, SessionOpened, free=True),
    Type.CLOSE_SESSION: Message(None, None),
    Type.PING: Message(Ping, Ping, free=True),
    Type.STATUS: Message(None, Status, free=True),
    Type.BLOB_BEGIN: Message(BlobBegin, BlobState),
    Type.BLOB_DATA: Message(BlobData, BlobEnd, more="request"),
    Type.BLOB_COMMIT: Message(BlobAsk, BlobState),
    Type.BLOB_STATE: Message(BlobAsk, BlobState),
    Type.READ: Message(Read, Chunk, more="reply"),
    Type.PUT: Message(BlobData, BlobEnd, more="request"),
    Type.RUN: Message(Run, Accepted, more="request"),
    Type.JOB_STATUS: Message(AskJob, JobStatus),
    Type.CREDIT: Message(Credit, Accepted),
    Type.CANCEL: Message(None, JobStatus),
    Type.ABORT: Message(None, Status, free=True),
    Type.SAFE: Message(None, Status, free=True),
    Type.CLEAR_FAULT: Message(ClearFault, Status),
    Type.NEXT_ERROR: Message(None, ErrorRecord),
    Type.SELFTEST: Message(None, Selftest),
    Type.RESET: Message(Reset, None),
    Type.HANG: Message(Hang, None),
    Type.EVENT: Message(None, Event, free=True),
}

RECORDS: tuple[type[Record], ...] = (
    Header,
    Hello,
    Failure,
    Stretch,
    Chunk,
    OpenSession,
    SessionOpened,
    Ping,
    Status,
    BlobBegin,
    BlobData,
    BlobAsk,
    BlobState,
    BlobEnd,
    Read,
    Run,
    RunPhase,
    Accepted,
    AskJob,
    JobStatus,
    Credit,
    ClearFault,
    ErrorRecord,
    Selftest,
    Reset,
    Event,
    Hang,
)


def schema_text() -> str:
    """The table as text, a line for each thing that both sides must agree on."""
    lines = [f"version {MAJOR}", f"window {WINDOW}", f"phases {MAX_PHASES}"]
    lines += [f"{kind.__name__}.{each.name} = {each.value}" for kind in ENUMS for each in kind]
    lines += [f"{kind.__name__}: " + ", ".join(f"{name} {form}" for name, form in kind.columns) for kind in RECORDS]
    for number, message in MESSAGES.items():
        parts = [kind.__name__ if kind else "-" for kind in (message.request, message.reply)]
        lines.append(f"{number.name}: {' -> '.join(parts)} free={message.free} more={message.more}")
    return "\n".join(lines) + "\n"


SCHEMA = int.from_bytes(hashlib.sha256(schema_text().encode()).digest()[:8], "little")
"""Hash of the table: two sides that differ in it do not understand each other."""
