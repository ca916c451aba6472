"""The protocol: its table, what is made from it, and frames, in Python and in C."""

import ctypes
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, strategies as st

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import InputError
from hwsim.devices.board import protocol
from hwsim.devices.board.build import Target, available, build
from hwsim.devices.board.codes import ENUMS, PROBLEMS, Bit, ErrorCode, Type
from hwsim.devices.board.framing import MAX_FRAME, Frame
from hwsim.devices.board.generate import VECTORS, outputs
from hwsim.devices.board.protocol import MESSAGES, RECORDS, Header

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((ROOT / VECTORS).read_text())
NEEDS_GCC = pytest.mark.skipif(available(Target.LIBRARY) is not None, reason=f"{available(Target.LIBRARY)}")
AWKWARD = st.binary(max_size=800) | st.lists(st.sampled_from([0, 1, 255]), max_size=800).map(bytes)


@pytest.fixture(scope="module")
def firmware():
    return ctypes.CDLL(str(build(Target.LIBRARY)))


@pytest.mark.parametrize(
    ("path", "text"), list(outputs(ROOT)), ids=lambda each: each.name if isinstance(each, Path) else ""
)
def test_what_is_made_from_the_table_is_up_to_date(path, text):
    assert path.read_text() == text, "run: python -m hwsim.devices.board.generate"


def test_records_need_no_padding_in_c():
    for record in RECORDS:
        at, widest = 0, 1
        for _, form in record.columns:
            size = struct.calcsize("<" + form)
            aligned = 1 if form.endswith("s") else size
            assert at % aligned == 0, record
            at, widest = at + size, max(widest, aligned)
        assert at == record.size, record
        assert at % widest == 0, record


def test_table_is_complete():
    assert set(MESSAGES) == set(Type)
    assert set(PROBLEMS) == set(ErrorCode)
    named = {each for message in MESSAGES.values() for each in (message.request, message.reply) if each}
    assert named | {Header, protocol.Failure, protocol.RunPhase} == set(RECORDS)
    assert all(len(problem.text) <= 40 for problem in PROBLEMS.values())
    for bit in Bit:  # the first ten are the device's own words
        assert hasattr(Capability, bit.name) == (bit <= Bit.CAPTURE_CREDIT)


def test_schema_hash_sees_every_number_and_field():
    text = protocol.schema_text()
    assert len(set(text.splitlines())) == len(text.splitlines())
    for record in RECORDS:
        assert re.search(rf"^{record.__name__}: .*\b{record.columns[-1][0]} {record.columns[-1][1]}$", text, re.M)
    assert sum(len(kind) for kind in ENUMS) == len(re.findall(r"^\w+\.\w+ = ", text, re.M))


def test_crc_is_the_common_one():
    assert zlib.crc32(b"123456789") == 0xCBF43926


@pytest.mark.parametrize("golden", GOLDEN, ids=[each["name"] for each in GOLDEN])
def test_golden_vectors_in_python(golden):
    frame = Frame.decode(bytes.fromhex(golden["frame"])[1:-1])
    assert frame.payload == bytes.fromhex(golden["payload"])
    assert frame.encode().hex() == golden["frame"]
    for record in RECORDS:
        if record.__name__ == golden["name"]:
            assert record.unpack(frame.payload).pack() == frame.payload


@NEEDS_GCC
def test_golden_vectors_in_c(firmware):
    for golden in GOLDEN:
        frame = bytes.fromhex(golden["frame"])
        body = cobs.decode(frame[1:-1])
        assert firmware.hw_crc32(0, body, len(body) - 4) & 0xFFFFFFFF == golden["crc"]
        assert _c_encode(firmware, body) == frame[1:-1]
        assert _c_parse(firmware, frame) == [body[:-4]]


@NEEDS_GCC
@given(AWKWARD)
def test_stuffing_is_the_same_in_both_languages(data):
    firmware = ctypes.CDLL(str(build(Target.LIBRARY)))
    stuffed = cobs.encode(data)
    assert 0 not in stuffed
    assert cobs.decode(stuffed) == data
    assert len(stuffed) <= len(data) + len(data) // 254 + 1
    assert _c_encode(firmware, data) == stuffed
    for coded in (stuffed, stuffed + b"\x01") if len(data) % 254 == 0 and data and 0 not in data else (stuffed,):
        buffer, count = ctypes.create_string_buffer(coded, len(coded)), ctypes.c_uint32(len(coded))
        firmware.hw_cobs_decode.restype = ctypes.c_bool
        assert firmware.hw_cobs_decode(buffer, ctypes.byref(count))
        assert buffer.raw[: count.value] == data
        assert cobs.decode(coded) == data


@NEEDS_GCC
@given(st.binary(max_size=300), st.integers(0, 2**31), st.integers(1, 255))
def test_a_changed_byte_is_noticed_by_both(payload, where, change):
    """CRC-32 finds every error burst of up to 32 bits."""
    firmware = ctypes.CDLL(str(build(Target.LIBRARY)))
    head = Header(version=1, flags=0, type=5, status=0, session=1, seq=2, schema=3)
    frame = bytearray(Frame(header=head, payload=payload).encode())
    frame[1 + where % (len(frame) - 2)] ^= change
    for body in bytes(frame).split(b"\0"):
        if body:
            with pytest.raises(InputError, match="damaged"):
                Frame.decode(body)
    assert _c_parse(firmware, bytes(frame)) == []


@NEEDS_GCC
def test_frames_too_long_or_short_are_dropped(firmware):
    for length in (0, 1, 15, 1041, 5000):
        body = bytes(range(1, 256)) * 20
        body = body[:length]
        stuffed = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))
        assert _c_parse(firmware, b"\0" + stuffed + b"\0") == ([body] if 12 <= length <= 1036 else [])
        if not 12 <= length <= 1036:
            with pytest.raises(InputError, match="damaged"):
                Frame.decode(stuffed)
    with pytest.raises(InputError, match="chunks"):
        Frame(header=Header.unpack(bytes(12)), payload=bytes(1025)).encode()
    assert len(Frame(header=Header.unpack(bytes(12)), payload=b"\1" * 1024).encode()) <= MAX_FRAME + 2


def test_records_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="bytes"):
        Header.unpack(bytes(11))
    with pytest.raises(InputError, match="cannot hold"):
        protocol.Reset(key=2**32).pack()
    with pytest.raises(InputError, match="cannot hold"):
        protocol.Credit(scale=1e300, mode=0, flags=0, reserved=0).pack()


@NEEDS_GCC
def test_digests_in_c(firmware):
    import hashlib

    rng = np.random.default_rng(0)
    for length in (0, 1, 55, 56, 63, 64, 65, 119, 120, 1000):
        data, digest = rng.bytes(length), ctypes.create_string_buffer(32)
        firmware.hw_sha256(data, length, digest)
        assert digest.raw == hashlib.sha256(data).digest()


def _c_encode(firmware, data):
    out = ctypes.create_string_buffer(len(data) + len(data) // 254 + 1)
    count = firmware.hw_cobs_encode(data, len(data), out)
    return out.raw[:count]


def _c_parse(firmware, data):
    """Headers and payloads that the firmware's parser takes."""
    parser, count, found = ctypes.create_string_buffer(4096), ctypes.c_uint32(), []
    for byte in data:
        if firmware.hw_parse(parser, ctypes.c_uint8(byte), ctypes.byref(count)) == 1:
            found.append(parser.raw[: count.value])
    return found
