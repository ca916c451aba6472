"""Bytes into the slots of a board and out of them, in as many frames as the wire wants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain

from .codes import BlobPhase, ErrorCode, Slot, Type
from .errors import BoardRefused, TransferBroken
from .link import Request
from .protocol import BlobAsk, BlobBegin, BlobData, BlobState, Chunk, Read
from .session import Session


def upload(session: Session, slot: Slot, data: bytes) -> bool:
    """Put bytes into a slot, by their SHA-256: what the board holds already is not sent again, and a transfer that
    was cut goes on where it was.

    Returns:
        Whether anything had to be sent.

    Raises:
        BoardRefused: the board cannot hold it. TransferBroken: it arrived damaged, twice.
    """
    begin = Request(
        type=Type.BLOB_BEGIN,
        payload=BlobBegin(slot=slot, length=len(data), sha=hashlib.sha256(data).digest()).pack(),
        expect=BlobState.size,
    )
    commit = Request(type=Type.BLOB_COMMIT, payload=BlobAsk(slot=slot).pack(), expect=BlobState.size)
    for _ in range(2):
        begun = BlobState.unpack(session.one(begin))
        if begun.phase == BlobPhase.COMMITTED:
            return False
        try:
            session.all(chain(_pieces(session, Type.BLOB_DATA, slot, data, begun.received, len(data)), (commit,)))
            return True
        except BoardRefused as error:
            if error.detail not in (ErrorCode.BLOB_SHA, ErrorCode.BLOB_SHORT, ErrorCode.BLOB_GAP):
                raise
    raise TransferBroken(f"{slot.name} arrived damaged twice, though every frame was right: the board's memory is bad")


def puts(session: Session, slot: Slot, data: bytes, stretches: Iterable[tuple[int, int]]) -> Iterator[Request]:
    """Requests that write these stretches (start, end) of a slot."""
    for start, end in stretches:
        yield from _pieces(session, Type.PUT, slot, data, start, end)


def _pieces(session: Session, kind: Type, slot: Slot, data: bytes, start: int, end: int) -> Iterator[Request]:
    while start < end:
        size = min(session.link.chunk(BlobData.size), end - start)
        head = BlobData(slot=slot, offset=start).pack()
        yield Request(type=kind, payload=head + data[start : start + size], expect=4)
        start += size


def download(session: Session, slot: Slot, length: int) -> bytes:
    """The first `length` bytes of a slot.

    Raises:
        TransferBroken: the board gives something else than it was asked for.
    """

    def stretches() -> Iterator[Request]:
        at = 0
        while at < length:
            size = min(session.link.chunk(Chunk.size), length - at)
            yield Request(
                type=Type.READ, payload=Read(slot=slot, offset=at, length=size).pack(), expect=Chunk.size + size
            )
            at += size

    held = bytearray()
    for payload in session.all(stretches()):
        if Chunk.unpack(payload).offset != len(held):
            raise TransferBroken(f"READ {slot.name} from {len(held)} on answered for {Chunk.unpack(payload).offset}")
        held += payload[Chunk.size :]
    if len(held) != length:
        raise TransferBroken(f"READ {slot.name} gave {len(held)} bytes of {length}; the firmware is at fault")
    return bytes(held)


def verified(session: Session, slot: Slot) -> bytes:
    """All of a slot, checked by its SHA-256.

    Raises:
        TransferBroken: what arrived is something else.
    """
    state = state_of(session, slot)
    data = download(session, slot, state.length)
    if hashlib.sha256(data).digest() != state.sha:
        raise TransferBroken(f"{slot.name} does not have the SHA-256 that the board states for it")
    return data


def state_of(session: Session, slot: Slot) -> BlobState:
    """Length and SHA-256 of a slot."""
    ask = Request(type=Type.BLOB_STATE, payload=BlobAsk(slot=slot).pack(), expect=BlobState.size)
    return BlobState.unpack(session.one(ask))
