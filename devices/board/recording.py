"""Sessions as files: what host and board said to each other, frame by frame, and what must be said again in a replay.

A file is text, one line per frame: `> SECONDS HEX` from the host, `< SECONDS HEX` from the board, HEX being the frame
between its zeros; the first line is a JSON header.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

from hwsim.contracts.errors import InputError

from .codes import Flag, Type
from .errors import ReplayMismatch
from .framing import Frame
from .protocol import MAJOR, SCHEMA, BlobData, Chunk, Read

HEADER = "hwsim board session"
_PIECES = (Type.BLOB_DATA, Type.PUT)
_UNSAID = (Type.PING, Type.CLOSE_SESSION, Type.OPEN_SESSION)
"""What depends on time, or on the number of the session."""


@final
class Recorder:
    """Writes frames to a file as they pass.

    Args:
        file: open for writing.
        url: of the port, for readers of the file.
    """

    def __init__(self, file: IO[str], url: str) -> None:
        self._file, self._began = file, time.monotonic()
        self._rest = {">": b"", "<": b""}
        file.write(json.dumps({HEADER: 1, "url": url, "schema": f"{SCHEMA:016x}"}) + "\n")

    @classmethod
    def to(cls, name: str, url: str) -> Recorder:
        """To a new file.

        Raises:
            InputError: it cannot be written.
        """
        try:
            return cls(Path(name).open("w", encoding="ascii"), url)
        except OSError as error:
            raise InputError(f"cannot record to {name}: {error.strerror}; give another file") from None

    def said(self, by: str, data: bytes) -> None:
        """Bytes that went by."""
        *frames, self._rest[by] = (self._rest[by] + data).split(b"\0")
        now = time.monotonic() - self._began
        self._file.writelines(f"{by} {now:.6f} {frame.hex()}\n" for frame in frames if frame)

    def close(self) -> None:
        """Nothing more to come."""
        self._file.close()


@final
@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was asked and answered: a request, or bytes that went in pieces.

    Args:
        type: of the message.
        payload: of the request; for pieces, all bytes that were written.
        status, reply: of the answer; for READ, all bytes that were read.
        slot, start: of pieces and reads; -1 for other requests.
        total: of the slot that is read.
    """

    type: int
    payload: bytes
    status: int
    reply: bytes
    slot: int = -1
    start: int = 0
    total: int = 0

    @property
    def length(self) -> int:
        """Bytes that go in pieces."""
        return len(self.reply if self.type == Type.READ else self.payload)


@final
@dataclass(frozen=True, kw_only=True)
class Session:
    """What is in a file.

    Args:
        free: (type, payload) of a request without a session -> payload of its reply.
        steps: of the session, in order.
    """

    free: dict[tuple[int, bytes], bytes]
    steps: tuple[Step, ...]


def read_session(path: Path) -> Session:
    """Read a file.

    Raises:
        InputError: it is missing, no session, or one of another message table.
    """
    try:
        first, *lines = path.read_text(encoding="ascii").splitlines()
        header = json.loads(first)
        if header[HEADER] != 1:
            raise ValueError(f"version {header[HEADER]}")
        said = [(line[0], bytes.fromhex(line.split()[2])) for line in lines]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is no recorded board session ({error}); make one with hwsim board record") from None
    if header["schema"] != f"{SCHEMA:016x}":
        raise InputError(
            f"{path} was recorded with the message table {header['schema']}, this host has {SCHEMA:016x}: replay it "
            "with the hwsim that recorded it"
        )
    asked: dict[tuple[int, int], Frame] = {}
    answered: dict[tuple[int, int], Frame] = {}
    free: dict[tuple[int, bytes], bytes] = {}
    for by, stuffed in said:
        try:
            frame = Frame.decode(stuffed)
        except InputError:
            continue  # damaged on the way: it was sent again
        key = frame.header.session, frame.header.seq
        if by == ">":
            asked.setdefault(key, frame)
            if frame.header.session == 0:
                asked[key] = frame
        elif frame.header.flags & Flag.REPLY and key in asked:
            if frame.header.session == 0 or frame.header.type == Type.OPEN_SESSION:
                free[frame.header.type, asked[key].payload] = frame.payload
            else:
                answered.setdefault(key, frame)
    # a dict keeps its order, which is that of the first sending
    pairs = [(asked[key], answered[key]) for key in asked if key in answered]
    return Session(free=free, steps=tuple(_merged(pairs)))


def _merged(pairs: Iterable[tuple[Frame, Frame]]) -> list[Step]:
    """Requests with their replies, pieces of one transfer put together: how long they are depends on the wire."""
    steps: list[Step] = []
    for request, reply in pairs:
        if request.header.type in _UNSAID:
            continue
        step = _step(request, reply)
        last = steps[-1] if steps else None
        joins = (
            last is not None
            and step.slot >= 0
            and (last.type, last.slot, last.start + last.length) == (step.type, step.slot, step.start)
            and step.status == last.status == 0
        )
        if joins and last is not None:
            steps[-1] = Step(
                type=last.type,
                payload=last.payload + step.payload if step.type != Type.READ else b"",
                status=0,
                reply=last.reply + step.reply if step.type == Type.READ else step.reply,
                slot=last.slot,
                start=last.start,
                total=last.total,
            )
        else:
            steps.append(step)
    return steps


def _step(request: Frame, reply: Frame) -> Step:
    kind, status = request.header.type, reply.header.status
    if kind in _PIECES and not status:
        head = BlobData.unpack(request.payload)
        return Step(
            type=kind,
            payload=request.payload[BlobData.size :],
            status=status,
            reply=reply.payload,
            slot=head.slot,
            start=head.offset,
        )
    if kind == Type.READ and not status:
        wanted, chunk = Read.unpack(request.payload), Chunk.unpack(reply.payload)
        return Step(
            type=kind,
            payload=b"",
            status=status,
            reply=reply.payload[Chunk.size :],
            slot=wanted.slot,
            start=chunk.offset,
            total=chunk.total,
        )
    return Step(type=kind, payload=request.payload, status=status, reply=reply.payload)


@final
class Replay:
    """A board that knows one session by heart, and nothing else.

    Args:
        session: which.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._at, self._done = 0, 0
        self._given: dict[tuple[int, int], bytes] = {}

    @property
    def finished(self) -> bool:
        """Whether everything was said again."""
        return self._at == len(self._session.steps)

    def answer(self, stuffed: bytes) -> bytes:
        """The frame that answers one from the host; b"" to one that is damaged.

        Raises:
            ReplayMismatch: the host says something else than it did.
        """
        try:
            frame = Frame.decode(stuffed)
        except InputError:
            return b""
        header = frame.header
        key = header.session, header.seq
        if header.session and key in self._given and header.type != Type.OPEN_SESSION:
            return self._given[key]
        status, payload = self._reply(frame)
        reply = Frame(
            header=type(header)(
                version=MAJOR,
                flags=Flag.REPLY,
                type=header.type,
                status=status,
                session=header.session,
                seq=header.seq,
                schema=SCHEMA & 0xFFFF,
            ),
            payload=payload,
        ).encode()
        self._given[key] = reply
        return reply

    def _reply(self, frame: Frame) -> tuple[int, bytes]:
        kind, payload = frame.header.type, frame.payload
        if kind == Type.PING:
            return 0, payload
        if kind == Type.CLOSE_SESSION:
            return 0, b""
        if frame.header.session == 0 or kind == Type.OPEN_SESSION:
            if kind == Type.GET_DESCRIPTOR:
                return 0, self._descriptor(payload)
            if (kind, payload) not in self._session.free:
                raise ReplayMismatch(f"the host asks {_named(kind)}, which the recorded session did not")
            return 0, self._session.free[kind, payload]
        if self.finished:
            raise ReplayMismatch(f"the recorded session has ended, and the host goes on with {_named(kind)}")
        step = self._session.steps[self._at]
        if step.slot >= 0:
            return 0, self._piece(step, kind, payload)
        if (kind, payload) != (step.type, step.payload):
            raise ReplayMismatch(
                f"at step {self._at} of the recorded session the host said {_named(step.type)} with "
                f"{len(step.payload)} bytes; now it says {_named(kind)} with {len(payload)}"
                + ("" if kind != step.type else f", the first difference at byte {_differs(payload, step.payload)}")
            )
        self._at += 1
        return step.status, step.reply

    def _piece(self, step: Step, kind: int, payload: bytes) -> bytes:
        at = step.start + self._done
        if kind == step.type == Type.READ:
            wanted = Read.unpack(payload)
            if (wanted.slot, wanted.offset) == (step.slot, at) and self._done + wanted.length <= step.length:
                piece = step.reply[self._done : self._done + wanted.length]
                self._went(step, wanted.length)
                return Chunk(offset=at, total=step.total).pack() + piece
        elif kind == step.type:
            head, data = BlobData.unpack(payload), payload[BlobData.size :]
            held = step.payload[self._done : self._done + len(data)]
            if (head.slot, head.offset) == (step.slot, at) and data == held:
                self._went(step, len(data))
                return (at + len(data)).to_bytes(4, "little")
        raise ReplayMismatch(
            f"at step {self._at} of the recorded session, byte {at} of slot {step.slot}, the host went on with "
            f"{_named(step.type)}; now it says something else ({_named(kind)}, {len(payload)} bytes)"
        )

    def _went(self, step: Step, length: int) -> None:
        self._done += length
        if self._done == step.length:
            self._at, self._done = self._at + 1, 0

    def _descriptor(self, payload: bytes) -> bytes:
        whole = bytearray()
        pieces = sorted(
            (Chunk.unpack(reply).offset, reply[Chunk.size :])
            for (kind, _), reply in self._session.free.items()
            if kind == Type.GET_DESCRIPTOR
        )
        for offset, piece in pieces:
            whole[offset : offset + len(piece)] = piece
        at, length = int.from_bytes(payload[:4], "little"), int.from_bytes(payload[4:8], "little")
        return Chunk(offset=at, total=len(whole)).pack() + bytes(whole[at : at + length])


def _named(kind: int) -> str:
    return Type(kind).name if kind in set(Type) else f"type {kind:#04x}"


def _differs(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
