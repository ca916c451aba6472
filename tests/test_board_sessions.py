"""The firmware in this process, frame by frame: hello, descriptor, sessions, exactly once."""

import hashlib

import pytest
from board_setting import NEEDS_LIBRARY, SMALL, M, N, X, long_job, talking
from board_talk import Job, Refused, Talk, frames_of, payload_of

from hwsim.devices.board import protocol
from hwsim.devices.board.codes import (
    Flag,
    JobState,
    SessionFlag,
    State,
    Type,
)
from hwsim.devices.board.emulator import InProcessBoard
from hwsim.devices.board.framing import Frame

pytestmark = NEEDS_LIBRARY


class TestHello:
    def test_boot_says_hello_unasked(self):
        board = InProcessBoard(SMALL, boot_id=77)
        (frame,) = frames_of(board.poll(3))
        hello = protocol.Hello.unpack(frame.payload)
        assert frame.header.flags == Flag.EVENT
        assert frame.header.session == 0
        assert (hello.magic, hello.boot_id, hello.schema) == (protocol.MAGIC, 77, protocol.SCHEMA)
        assert hello.state == State.SAFE
        assert hello.session == 0

    def test_hello_answers_any_schema_and_version(self):
        board, _ = talking(programmed=False)
        head = protocol.Header(version=9, flags=0, type=Type.HELLO, status=0, session=3, seq=4, schema=0xDEAD)
        (reply,) = frames_of(board.exchange(Frame(header=head).encode()))
        assert protocol.Hello.unpack(reply.payload).schema == protocol.SCHEMA
        other = protocol.Header(version=1, flags=0, type=Type.STATUS, status=0, session=0, seq=4, schema=0xDEAD)
        (reply,) = frames_of(board.exchange(Frame(header=other).encode()))
        with pytest.raises(Refused, match="SCHEMA"):
            payload_of(reply)

    def test_descriptor_in_chunks_has_its_digest(self):
        import cbor2

        _board, talk = talking(programmed=False)
        hello = protocol.Hello.unpack(talk.loose(Type.HELLO))
        data = b""
        while len(data) < hello.descriptor_length:
            data += talk.loose(Type.GET_DESCRIPTOR, protocol.Stretch(offset=len(data), length=100))[8:]
        assert hashlib.sha256(data).digest() == hello.descriptor_sha
        told = cbor2.loads(data)
        assert (told["units"], told["inputs"], told["backend"]) == (N, M, "emulated-f32")
        assert told["memory"]["network"] == 4 * N * (N + M + 1)
        with pytest.raises(Refused, match="OFFSET"):
            talk.loose(Type.GET_DESCRIPTOR, protocol.Stretch(offset=len(data) + 1, length=1))

    def test_noise_before_a_frame_does_no_harm(self):
        board, talk = talking(programmed=False)
        assert payload_of(frames_of(board.exchange(b"\x07garbage" + talk.frame(Type.PING, bytes(8))))[0])
        assert talk.status().bad_frames == 1


class TestExactlyOnce:
    def test_a_repeated_request_is_answered_again_and_not_executed_again(self):
        _board, talk = talking()
        run, more = Job(X).phase(3).run(talk)
        frame = talk.frame(Type.RUN, run.pack() + more)
        first = talk.answer(frame)
        for _ in range(3):
            again = talk.answer(frame)
            assert again.payload == first.payload
            assert again.header.flags == Flag.REPLY | Flag.REPLAY
        assert talk.status().job == 1
        assert talk.status().replays == 3

    def test_all_four_last_replies_are_kept_and_no_more(self):
        _, talk = talking(programmed=False)
        frames = []
        for k in range(6):
            frames.append(talk.frame(Type.PING, protocol.Ping(nonce=k, board_ms=0).pack()))
            talk.answer(frames[-1])
            talk.seq += 1
        for k in (2, 3, 4, 5):
            assert protocol.Ping.unpack(payload_of(talk.answer(frames[k]))).nonce == k
        for k in (0, 1):
            with pytest.raises(Refused, match=f"STALE arg={talk.seq}"):
                payload_of(talk.answer(frames[k]))

    def test_a_lost_request_is_asked_for(self):
        _, talk = talking(programmed=False)
        ahead = talk.frame(Type.PING, bytes(8), seq=talk.seq + 1)
        with pytest.raises(Refused, match=f"GAP arg={talk.seq}"):
            payload_of(talk.answer(ahead))
        talk.ask(Type.PING, protocol.Ping(nonce=1, board_ms=0))
        assert payload_of(talk.answer(ahead))  # its number is due now

    def test_another_request_under_a_used_number_is_refused(self):
        _, talk = talking(programmed=False)
        talk.ask(Type.PING, protocol.Ping(nonce=1, board_ms=0))
        other = talk.frame(Type.PING, protocol.Ping(nonce=2, board_ms=0).pack(), seq=talk.seq - 1)
        with pytest.raises(Refused, match="REUSED"):
            payload_of(talk.answer(other))

    def test_numbers_wrap_around(self):
        _, talk = talking(programmed=False)
        for _ in range(65540):  # past 2^16 in one session
            talk.exchange(talk.frame(Type.JOB_STATUS, bytes(4)))
            talk.seq = talk.seq + 1 & 0xFFFF
        assert talk.status().job == 0
        assert talk.seq == 65541 % 65536
        assert payload_of(talk.answer(talk.frame(Type.JOB_STATUS, bytes(4), seq=talk.seq - 2 & 0xFFFF)))

    def test_opening_again_goes_on_where_it_was(self):
        _, talk = talking()
        seq = talk.seq
        assert talk.open().next_seq == seq
        assert talk.status().programmed == 1

    def test_requests_of_another_session_change_nothing(self):
        board, talk = talking()
        stranger = Talk(talk.exchange, session=99)
        with pytest.raises(Refused, match="NO_SESSION"):
            stranger.ask(Type.CANCEL)
        with pytest.raises(Refused, match="SESSION_TAKEN"):
            stranger.open()
        long_job(board, talk)
        stranger.open(flags=SessionFlag.TAKE_OVER)
        assert stranger.finish().state == JobState.CANCELLED
        with pytest.raises(Refused, match="NO_SESSION"):
            talk.ask(Type.CANCEL)
        stranger.ask(Type.CLOSE_SESSION)
        with pytest.raises(Refused, match="NO_SESSION"):
            stranger.ask(Type.CANCEL)

    def test_replies_and_events_are_never_answered(self):
        board, talk = talking(programmed=False)
        (reply,) = frames_of(board.exchange(talk.frame(Type.STATUS, session=0)))
        assert board.exchange(reply.encode()) == b""

    def test_a_lost_reply_in_a_full_window_is_had_again(self):
        board, talk = talking(programmed=False)
        sent = [talk.frame(Type.PING, protocol.Ping(nonce=k, board_ms=0).pack(), seq=1 + k) for k in range(4)]
        assert len(frames_of(board.exchange(b"".join(sent)))) == 4
        again = frames_of(board.exchange(b"".join(sent)))
        assert [protocol.Ping.unpack(each.payload).nonce for each in again] == [0, 1, 2, 3]
        assert all(each.header.flags & Flag.REPLAY for each in again)
