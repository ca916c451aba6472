"""The firmware in this process, frame by frame: what it refuses, transfers, power cuts."""

import hashlib
import zlib

import numpy as np
import pytest
from board_setting import ANALOG, NEEDS_LIBRARY, B, M, N, U, W, X, network, refusal, talking
from board_talk import Job, Refused, Talk, frames_of, payload_of

from hwsim.contracts.errors import InputError
from hwsim.devices.board import protocol
from hwsim.devices.board.codes import (
    BlobPhase,
    Capture,
    Cause,
    ErrorCode,
    Flag,
    JobKind,
    JobState,
    SessionFlag,
    Slot,
    StartKind,
    Type,
)
from hwsim.devices.board.emulator import Emulated, InProcessBoard

pytestmark = NEEDS_LIBRARY


class TestArguments:
    @pytest.mark.parametrize(("change", "code"), [
        ({"lanes": 0}, ErrorCode.ARGUMENT), ({"lanes": 9}, ErrorCode.ARGUMENT), ({"reads": 0}, ErrorCode.ARGUMENT),
        ({"reads": 300}, ErrorCode.ARGUMENT), ({"coarse": 0}, ErrorCode.ARGUMENT), ({"kind": 7}, ErrorCode.ARGUMENT),
        ({"start": 9}, ErrorCode.ARGUMENT), ({"at_kind": 3}, ErrorCode.ARGUMENT), ({"noise": 2}, ErrorCode.ARGUMENT),
        ({"phases": 2}, ErrorCode.LENGTH), ({"phases": 0}, ErrorCode.ARGUMENT), ({"capture": 3}, ErrorCode.ARGUMENT),
        ({"capture_phase": 1}, ErrorCode.ARGUMENT), ({"data_crc": 0}, ErrorCode.DATA_CRC),
        ({"data_length": 2**31}, ErrorCode.ARGUMENT), ({"data_length": 3}, ErrorCode.ARGUMENT),
        ({"inputs": 2**32 - 1}, ErrorCode.OFFSET), ({"addresses": 2**30}, ErrorCode.OFFSET),
        ({"start": StartKind.STATE, "state": 2**31}, ErrorCode.OFFSET),
        ({"start": StartKind.RANDOM}, ErrorCode.OUT_OF_RANGE),
        ({"start": StartKind.RANDOM, "sigma": float("nan")}, ErrorCode.OUT_OF_RANGE),
        ({"kind": JobKind.TRANSPOSE, "start": StartKind.CARRY}, ErrorCode.ARGUMENT),
        ({"kind": JobKind.TRANSPOSE, "at": 2**31}, ErrorCode.OFFSET),
        ({"kind": JobKind.TRANSPOSE, "at_kind": 2}, ErrorCode.TAPES),
        ({"capture": Capture.POST, "weights": 0}, ErrorCode.TAPES),
        ({"capture": Capture.POST, "weights": 2**31}, ErrorCode.OFFSET),
    ])  # fmt: skip
    def test_a_run_that_makes_no_sense_is_refused_whole(self, change, code):
        _, talk = talking()
        run, more = Job(X).phase(3).run(talk)
        changed = protocol.Run(**{name: change.get(name, getattr(run, name)) for name, _ in run.columns})
        assert refusal(talk, Type.RUN, changed, more).code == code
        assert talk.status().job == 0
        assert talk.status().job_state == JobState.NONE
        talk.ask(Type.RUN, run, more)

    @pytest.mark.parametrize(("change", "code"), [
        ({"steps": 2_000_000}, ErrorCode.ARGUMENT), ({"force_kind": 3}, ErrorCode.ARGUMENT),
        ({"force_kind": 1, "force": 2**31}, ErrorCode.OFFSET), ({"flags": 1, "displace": 2**31}, ErrorCode.OFFSET),
        ({"force_kind": 2, "steps": 1_000_000}, ErrorCode.OFFSET), ({"flags": 2, "correct": 2**31}, ErrorCode.OFFSET),
        ({"steps": 1_000_000, "record": 1}, ErrorCode.TOO_LARGE),
    ])  # fmt: skip
    def test_a_phase_that_makes_no_sense_is_refused(self, change, code):
        _, talk = talking()
        job = Job(X).phase(3)
        run, _ = job.run(talk)
        phase = job.phases[0]
        changed = protocol.RunPhase(**{name: change.get(name, getattr(phase, name)) for name, _ in phase.columns})
        assert refusal(talk, Type.RUN, run, changed.pack()).code == code

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 8.001, -8.001, 3e38])
    def test_a_value_out_of_range_is_never_driven(self, value):
        _board, talk = talking(ANALOG)
        x = X.copy()
        x[1, 2] = value
        error = refusal(talk, Type.RUN, *Job(x).phase(3).run(talk))
        assert error.code in (ErrorCode.NOT_FINITE, ErrorCode.OUT_OF_RANGE)
        assert error.arg == M + 2
        weights = W.copy()
        weights[1, 0] = value
        with pytest.raises(Refused, match=f"arg={N}"):
            talk.network(weights, U, B)
        assert talk.status().refused_outputs == 2
        assert talk.status().programmed == 1
        assert np.allclose(np.frombuffer(talk.read(Slot.HELD), "<f4")[: N * N].reshape(N, N), W, atol=1e-3)

    def test_unknown_types_and_lengths(self):
        _, talk = talking(programmed=False)
        assert refusal(talk, 0x77).code == ErrorCode.UNKNOWN_TYPE
        assert refusal(talk, Type.STATUS, protocol.Reset(key=1)).code == ErrorCode.LENGTH
        assert refusal(talk, Type.READ, protocol.Reset(key=1)).code == ErrorCode.LENGTH
        assert refusal(talk, Type.RESET, protocol.Reset(key=1)).code == ErrorCode.ARGUMENT
        assert (
            refusal(talk, Type.HANG, protocol.Hang(key=1)).code == ErrorCode.UNKNOWN_TYPE
        )  # in builds for tests alone
        assert refusal(talk, Type.JOB_STATUS, protocol.AskJob(job=5)).code == ErrorCode.NO_JOB
        assert refusal(talk, Type.READ, protocol.Read(slot=3, offset=0, length=9)).code == ErrorCode.NO_RESULT
        assert refusal(talk, Type.READ, protocol.Read(slot=5, offset=0, length=9)).code == ErrorCode.NOT_PROGRAMMED
        assert refusal(talk, Type.READ, protocol.Read(slot=9, offset=0, length=9)).code == ErrorCode.SLOT

    def test_nothing_runs_before_a_network_is_programmed(self):
        _, talk = talking(programmed=False)
        assert refusal(talk, Type.RUN, *Job(X).phase(3).run(talk)).code == ErrorCode.NOT_PROGRAMMED

    def test_a_second_job_waits(self):
        _, talk = talking()
        run, more = Job(X).phase(3).run(talk)
        talk.exchange(talk.frame(Type.RUN, run.pack() + more))
        talk.seq += 1
        talk.finish()
        board, talk = talking()
        run, more = Job(X).phase(900_000).run(talk)
        board.feed(talk.frame(Type.RUN, run.pack() + more) + talk.frame(Type.RUN, run.pack() + more, seq=talk.seq + 1))
        replies = [each for each in frames_of(board.poll(3)) if each.header.flags & Flag.REPLY]
        assert replies[0].header.status == 0
        with pytest.raises(Refused, match="JOB_RUNNING"):
            payload_of(replies[1])

    def test_boards_that_cannot_be_are_refused(self):
        with pytest.raises(InputError, match="cannot be"):
            InProcessBoard(Emulated(units=1000))
        with pytest.raises(InputError, match="cannot be"):
            InProcessBoard(Emulated(backend="analog"))
        with pytest.raises(InputError, match="back ends"):
            Emulated(backend="quantum")


class TestTransfers:
    def test_what_is_read_back_is_what_was_sent(self):
        _, talk = talking()
        assert talk.read(Slot.HELD) == network()
        state = protocol.BlobState.unpack(talk.ask(Type.BLOB_STATE, protocol.BlobAsk(slot=Slot.HELD)))
        assert state.sha == hashlib.sha256(network()).digest()
        assert talk.status().network_crc == zlib.crc32(network())

    def test_unchanged_weights_are_skipped(self):
        _, talk = talking()
        begin = protocol.BlobBegin(slot=Slot.NETWORK, length=len(network()), sha=hashlib.sha256(network()).digest())
        assert protocol.BlobState.unpack(talk.ask(Type.BLOB_BEGIN, begin)).phase == BlobPhase.COMMITTED

    def test_a_broken_transfer_goes_on_where_it_was_also_in_another_session(self):
        _, talk = talking()
        data = network(2.0)
        begin = protocol.BlobBegin(slot=Slot.NETWORK, length=len(data), sha=hashlib.sha256(data).digest())
        talk.ask(Type.BLOB_BEGIN, begin)
        talk.ask(Type.BLOB_DATA, protocol.BlobData(slot=Slot.NETWORK, offset=0), data[:50])
        error = refusal(talk, Type.BLOB_DATA, protocol.BlobData(slot=Slot.NETWORK, offset=51), data[51:60])
        assert (error.code, error.arg) == (ErrorCode.BLOB_GAP, 50)
        assert refusal(talk, Type.BLOB_COMMIT, protocol.BlobAsk(slot=Slot.NETWORK)).code == ErrorCode.BLOB_SHORT
        other = Talk(talk.exchange, session=4711)
        other.open(flags=SessionFlag.TAKE_OVER)
        assert protocol.BlobState.unpack(other.ask(Type.BLOB_BEGIN, begin)).received == 50
        other.ask(Type.BLOB_DATA, protocol.BlobData(slot=Slot.NETWORK, offset=30), data[30:])  # overlaps: no harm
        other.ask(Type.BLOB_COMMIT, protocol.BlobAsk(slot=Slot.NETWORK))
        assert other.read(Slot.HELD) == data

    def test_a_wrong_digest_leaves_the_old_network(self):
        _, talk = talking()
        data = network(2.0)
        talk.ask(Type.BLOB_BEGIN, protocol.BlobBegin(slot=Slot.NETWORK, length=len(data), sha=bytes(32)))
        talk.ask(Type.BLOB_DATA, protocol.BlobData(slot=Slot.NETWORK, offset=0), data)
        assert refusal(talk, Type.BLOB_COMMIT, protocol.BlobAsk(slot=Slot.NETWORK)).code == ErrorCode.BLOB_SHA
        assert refusal(talk, Type.BLOB_COMMIT, protocol.BlobAsk(slot=Slot.NETWORK)).code == ErrorCode.NO_TRANSFER
        assert talk.read(Slot.HELD) == network()
        assert talk.status().programmed == 1

    def test_sizes(self):
        _, talk = talking()
        for length, code in ((5, ErrorCode.ARGUMENT), (10**9, ErrorCode.TOO_LARGE)):
            begin = protocol.BlobBegin(slot=Slot.NETWORK, length=length, sha=bytes(32))
            assert refusal(talk, Type.BLOB_BEGIN, begin).code == code
        put = protocol.BlobData(slot=Slot.DATA, offset=2**32 - 4)
        assert refusal(talk, Type.PUT, put, bytes(8)).code == ErrorCode.OFFSET
        assert refusal(talk, Type.PUT, protocol.BlobData(slot=Slot.NETWORK, offset=0)).code == ErrorCode.SLOT
        talk.upload(Slot.DATA, bytes(range(256)) * 9)
        read = protocol.Read(slot=Slot.HELD, offset=len(network()) + 1, length=1)
        assert refusal(talk, Type.READ, read).code == ErrorCode.OFFSET
        assert len(talk.ask(Type.READ, protocol.Read(slot=Slot.HELD, offset=len(network()) - 3, length=500))) == 8 + 3

    def test_power_cut_at_every_byte_leaves_no_network_or_a_whole_one(self):
        """After each prefix of a transfer the network in use is the old or the new one; after a reboot none is."""
        data, old = network(2.0), network()
        wanted = {zlib.crc32(old): old, zlib.crc32(data): data}
        seen = set()
        length = len(_transfer(Talk(lambda _: b""), data))
        for cut in range(length + 1):
            board, talk = talking()
            stream = _transfer(talk, data)
            # the zero in front of whatever comes next ends a frame that lacked only its last byte
            replies = frames_of(board.exchange(stream[:cut]) + board.exchange(b"\0"))
            talk.seq += sum(1 for each in replies if each.header.flags & Flag.REPLY)
            status = talk.status()
            assert status.programmed == 1
            assert wanted[status.network_crc] == talk.read(Slot.HELD)
            seen.add(status.network_crc)
            board.power_cycle()
            talk.open()
            assert talk.status().programmed == 0
            assert talk.status().network_crc == 0
        assert seen == set(wanted)

    def test_converters_that_fail_while_cells_are_written_leave_nothing_in_use(self):
        for writes in (0, 1, N * N, N * (N + M + 1) - 1):
            board, talk = talking(ANALOG)
            board.break_after(writes)
            with pytest.raises(Refused, match="CONVERTER"):
                talk.network(2 * W, U, B)
            status = talk.status()
            assert (status.programmed, status.latched, status.cause) == (0, 1, Cause.HARDWARE)
            assert refusal(talk, Type.READ, protocol.Read(slot=5, offset=0, length=4)).code == ErrorCode.NOT_PROGRAMMED


def _transfer(talk, data):
    """All frames of a transfer, one after another."""
    begin = protocol.BlobBegin(slot=Slot.NETWORK, length=len(data), sha=hashlib.sha256(data).digest())
    parts = [(Type.BLOB_BEGIN, begin.pack())]
    for at in range(0, len(data), 50):
        head = protocol.BlobData(slot=Slot.NETWORK, offset=at)
        parts.append((Type.BLOB_DATA, head.pack() + data[at : at + 50]))
    parts.append((Type.BLOB_COMMIT, protocol.BlobAsk(slot=Slot.NETWORK).pack()))
    return b"".join(talk.frame(kind, payload, seq=talk.seq + k) for k, (kind, payload) in enumerate(parts))
