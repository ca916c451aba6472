"""A plain host for tests of the firmware: one request at a time, no retries, so that a test sees each frame."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from hwsim.devices.board import codes, protocol
from hwsim.devices.board.codes import Capture, ErrorCode, Flag, ForceKind, JobKind, JobState, Slot, StartKind, Type
from hwsim.devices.board.framing import Frame
from hwsim.devices.board.protocol import Header, Run, RunPhase
from hwsim.devices.board.wire import Record

_R = TypeVar("_R", bound=Record)


class Refused(Exception):  # noqa: N818  # named after what happened
    """The board answered with an error."""

    def __init__(self, failure: protocol.Failure) -> None:
        self.code = ErrorCode(failure.detail)
        self.arg = failure.arg
        super().__init__(f"{self.code.name} arg={failure.arg}: {failure.text.rstrip(bytes(1)).decode()}")


def frames_of(data: bytes) -> list[Frame]:
    """The frames in a stretch of bytes; damaged ones raise."""
    return [Frame.decode(each) for each in data.split(b"\0") if each]


@dataclass
class Talk:
    """What a host says.

    Args:
        exchange: sends bytes, gives what came back.
        session: id.
    """

    exchange: Callable[[bytes], bytes]
    session: int = 0x5E551011
    seq: int = 1
    events: list[Frame] = field(default_factory=list)

    def frame(self, kind: Type, payload: bytes = b"", *, session: int | None = None, seq: int | None = None) -> bytes:
        """A request as bytes."""
        header = Header(
            version=protocol.MAJOR,
            flags=0,
            type=kind,
            status=0,
            session=self.session if session is None else session,
            seq=self.seq if seq is None else seq,
            schema=protocol.SCHEMA & 0xFFFF,
        )
        return Frame(header=header, payload=payload).encode()

    def answer(self, sent: bytes) -> Frame:
        """The one reply to some bytes; events are put aside."""
        found = frames_of(self.exchange(sent))
        self.events += [each for each in found if each.header.flags & Flag.EVENT]
        replies = [each for each in found if each.header.flags & Flag.REPLY]
        assert len(replies) == 1, found
        return replies[0]

    def ask(self, kind: Type, record: Record | None = None, more: bytes = b"") -> bytes:
        """A numbered request: the payload of its reply."""
        reply = self.answer(self.frame(kind, (record.pack() if record else b"") + more))
        self.seq = self.seq + 1 & 0xFFFF
        return payload_of(reply)

    def loose(self, kind: Type, record: Record | None = None) -> bytes:
        """A request without a session."""
        return payload_of(self.answer(self.frame(kind, record.pack() if record else b"", session=0, seq=0)))

    def open(self, *, lease_ms: int = 0, flags: int = 0) -> protocol.SessionOpened:
        """Open the session."""
        asked = protocol.OpenSession(lease_ms=lease_ms, flags=flags)
        opened = protocol.SessionOpened.unpack(
            payload_of(self.answer(self.frame(Type.OPEN_SESSION, asked.pack(), seq=0)))
        )
        self.seq = opened.next_seq
        return opened

    def status(self) -> protocol.Status:
        """The board's status, without a session."""
        return protocol.Status.unpack(self.loose(Type.STATUS))

    def upload(self, slot: Slot, data: bytes) -> None:
        """A whole transfer."""
        begin = protocol.BlobBegin(slot=slot, length=len(data), sha=hashlib.sha256(data).digest())
        state = protocol.BlobState.unpack(self.ask(Type.BLOB_BEGIN, begin))
        at = state.received
        while at < len(data) and state.phase == codes.BlobPhase.RECEIVING:
            chunk = data[at : at + protocol.MAX_PAYLOAD - 8]
            self.ask(Type.BLOB_DATA, protocol.BlobData(slot=slot, offset=at), chunk)
            at += len(chunk)
        self.ask(Type.BLOB_COMMIT, protocol.BlobAsk(slot=slot))

    def put(self, data: bytes) -> None:
        """Bytes for the DATA slot."""
        for at in range(0, len(data), protocol.MAX_PAYLOAD - 8):
            chunk = data[at : at + protocol.MAX_PAYLOAD - 8]
            self.ask(Type.PUT, protocol.BlobData(slot=Slot.DATA, offset=at), chunk)

    def read(self, slot: Slot) -> bytes:
        """A slot."""
        data, total = b"", 1
        while len(data) < total:
            got = self.ask(Type.READ, protocol.Read(slot=slot, offset=len(data), length=protocol.MAX_PAYLOAD))
            chunk = protocol.Chunk.unpack(got)
            total = chunk.total
            data += got[8:]
            if not total:
                break
        return data

    def finish(self) -> protocol.JobStatus:
        """Ask until the job has ended."""
        while True:
            status = protocol.JobStatus.unpack(self.ask(Type.JOB_STATUS, protocol.AskJob(job=0)))
            if status.state != JobState.RUNNING:
                return status

    def network(self, w: np.ndarray, u: np.ndarray, b: np.ndarray) -> None:
        """Program W, U, b."""
        self.upload(Slot.NETWORK, b"".join(np.asarray(each, "<f4").tobytes() for each in (w, u, b)))


def payload_of(reply: Frame) -> bytes:
    """Its payload; raises Refused on an error."""
    if reply.header.status:
        raise Refused(protocol.Failure.unpack(reply.payload))
    return reply.payload


@dataclass
class Job:
    """A RUN in the making: arrays go into DATA one behind the other.

    Args:
        x: [B, M].
        ids: [B, 2] sample ids and repeats.
    """

    x: np.ndarray
    ids: np.ndarray | None = None
    words: list[np.ndarray] = field(default_factory=list)
    phases: list[RunPhase] = field(default_factory=list)

    def place(self, array: np.ndarray | None, dtype: str = "<f4") -> int:
        """The offset of an array in DATA, words."""
        at = sum(each.size for each in self.words)
        if array is not None:
            self.words.append(np.ascontiguousarray(array, dtype).ravel().view("<u4"))
        return at

    def phase(
        self,
        steps: int,
        *,
        force: np.ndarray | None = None,
        displace: np.ndarray | None = None,
        correct: np.ndarray | None = None,
        record: int = 0,
        index: int | None = None,
    ) -> Job:
        """One more phase."""
        kind = ForceKind.NONE if force is None else ForceKind.CONSTANT if force.ndim == 2 else ForceKind.WAVEFORM
        flags = (codes.PhaseFlag.DISPLACE if displace is not None else 0) | (
            codes.PhaseFlag.CORRECT if correct is not None else 0
        )
        self.phases.append(
            RunPhase(
                steps=steps,
                record=record,
                force=self.place(force),
                displace=self.place(displace),
                correct=self.place(correct),
                force_kind=kind,
                flags=int(flags),
                index=len(self.phases) if index is None else index,
                reserved=0,
            )
        )
        return self

    def run(
        self,
        talk: Talk,
        *,
        seed: int = 0,
        step: int = 0,
        start: StartKind = StartKind.REST,
        state: np.ndarray | None = None,
        sigma: float = 0.0,
        kind: JobKind = JobKind.RELAX,
        at: np.ndarray | None = None,
        at_kind: codes.AtKind = codes.AtKind.VECTOR,
        capture: Capture = Capture.NONE,
        capture_phase: int = 0,
        weights: np.ndarray | None = None,
        flags: int = 0,
        reads: int = 1,
        coarse: int = 1,
        noise: codes.NoiseKind = codes.NoiseKind.ADDRESSED,
    ) -> tuple[Run, bytes]:
        """Put the data and give the request."""
        lanes = len(self.x)
        ids = np.stack([np.arange(lanes), np.zeros(lanes, int)], 1) if self.ids is None else self.ids
        places = [self.place(self.x), self.place(ids, "<u4"), self.place(state), self.place(at), self.place(weights)]
        data = np.concatenate(self.words).astype("<u4").tobytes()
        talk.put(data)
        run = Run(
            seed=seed,
            step=step,
            data_length=len(data),
            data_crc=zlib.crc32(data),
            inputs=places[0],
            addresses=places[1],
            state=places[2],
            at=places[3],
            weights=places[4],
            sigma=sigma,
            lanes=lanes,
            reads=reads,
            coarse=coarse,
            reserved=0,
            kind=kind,
            start=start,
            phases=len(self.phases),
            noise=noise,
            at_kind=at_kind,
            capture=capture,
            capture_phase=capture_phase,
            flags=flags,
        )
        return run, b"".join(phase.pack() for phase in self.phases)

    def go(self, talk: Talk, units: int, **how: object) -> list[dict[str, np.ndarray]]:
        """Run it to its end: one dictionary per phase."""
        run, more = self.run(talk, **how)  # type: ignore[arg-type]  # a test says what `run` takes
        talk.ask(Type.RUN, run, more)
        status = talk.finish()
        assert status.state == JobState.DONE, status
        result = talk.read(Slot.RESULT)
        assert len(result) == status.result_length
        assert zlib.crc32(result) == status.result_crc
        return self.parsed(result, units, run)

    def parsed(self, result: bytes, units: int, run: Run) -> list[dict[str, np.ndarray]]:
        """The result's phases."""
        lanes, at, parts = run.lanes, 0, []
        for index, phase in enumerate(self.phases):
            taped = run.capture and run.capture_phase == index and run.flags & codes.RunFlag.TAPE_ONLY
            kept = 0 if taped or not phase.record else 1 + phase.steps // phase.record
            part = {}
            for name, dtype, shape in (
                ("residual", "<f4", (lanes,)),
                ("outcome", "<u4", (lanes,)),
                ("final", "<f4", (lanes, units)),
                ("states", "<f4", (kept, lanes, units)),
            ):
                count = int(np.prod(shape))
                part[name] = np.frombuffer(result, dtype, count, at).reshape(shape)
                at += 4 * count
            parts.append(part)
        assert at == len(result)
        return parts
