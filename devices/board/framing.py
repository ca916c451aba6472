"""Frames: `00 | COBS(header, payload, CRC-32) | 00`.

Sources: COBS: S. Cheshire and M. Baker, IEEE/ACM Trans. Networking 7:159 (1999); CRC-32/ISO-HDLC, that of `zlib.crc32`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cobs import cobs

from hwsim.contracts.errors import InputError

from .protocol import MAX_PAYLOAD, Header

_CRC = 4
MAX_FRAME = Header.size + MAX_PAYLOAD + _CRC + (Header.size + MAX_PAYLOAD + _CRC) // 254 + 1
"""Longest frame between its two zeros, bytes."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A header and the bytes that it announces."""

    header: Header
    payload: bytes = b""

    def encode(self) -> bytes:
        """What goes over the wire, a zero in front and behind.

        Raises:
            InputError: the payload is longer than a frame holds, or a header field does not fit.
        """
        if len(self.payload) > MAX_PAYLOAD:
            raise InputError(f"a frame holds {MAX_PAYLOAD} bytes; found {len(self.payload)}: send them in chunks")
        body = self.header.pack() + self.payload
        return b"\0" + cobs.encode(body + zlib.crc32(body).to_bytes(_CRC, "little")) + b"\0"

    @staticmethod
    def decode(stuffed: bytes) -> Frame:
        """The frame whose bytes between two zeros these are.

        Raises:
            InputError: damaged: COBS, length or CRC is wrong.
        """
        try:
            body = cobs.decode(stuffed)
        except cobs.DecodeError as error:
            raise InputError(f"a damaged frame: {error}") from None
        if not Header.size + _CRC <= len(body) <= Header.size + MAX_PAYLOAD + _CRC:
            raise InputError(f"a damaged frame: {len(body)} bytes is no length of one")
        found = int.from_bytes(body[-_CRC:], "little")
        if found != zlib.crc32(body[:-_CRC]):
            raise InputError(f"a damaged frame: its CRC is {found:08x}, its bytes have {zlib.crc32(body[:-_CRC]):08x}")
        return Frame(header=Header.unpack(body), payload=body[Header.size : -_CRC])
