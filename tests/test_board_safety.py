"""The firmware in this process, frame by frame: the safe state, and credit formed on the board."""

import numpy as np
import pytest
from board_setting import ANALOG, NEEDS_LIBRARY, RNG, B, M, N, U, W, X, long_job, refusal, talking
from board_talk import Job, frames_of

from hwsim.devices.board import protocol
from hwsim.devices.board.codes import (
    Capture,
    Cause,
    CreditMode,
    ErrorCode,
    EventKind,
    JobKind,
    JobState,
    ResetCause,
    RunFlag,
    Slot,
    StartKind,
    State,
    Type,
)

pytestmark = NEEDS_LIBRARY


class TestSafety:
    """Every road to the safe state: within the stated time, outputs at nothing, latched."""

    def latched(self, board, talk, cause, job=JobState.FAILED):
        status = talk.status()
        assert (status.state, status.latched, status.cause, status.job_state) == (State.SAFE, 1, cause, job)
        assert not board.driven
        assert board.switch == 0
        for kind, record, more in (
            (Type.RUN, *Job(X).phase(3).run(talk)),
            (Type.CREDIT, protocol.Credit(scale=1, mode=0, flags=0, reserved=0), b""),
            (Type.BLOB_COMMIT, protocol.BlobAsk(slot=Slot.DATA), b""),
            (Type.SELFTEST, None, b""),
        ):
            assert refusal(talk, kind, record, more).code == ErrorCode.LATCHED
        wrong = protocol.ClearFault(cause=cause + 1)
        assert refusal(talk, Type.CLEAR_FAULT, wrong).code == ErrorCode.ARGUMENT
        record = protocol.ErrorRecord.unpack(talk.ask(Type.NEXT_ERROR))
        talk.ask(Type.CLEAR_FAULT, protocol.ClearFault(cause=cause))
        assert Job(X).phase(3).go(talk, N)[0]["final"].shape == (2, N)
        return ErrorCode(record.detail)

    @pytest.mark.parametrize("lease", [100, 300])
    def test_silence_ends_the_lease(self, lease):
        board, talk = talking(ANALOG, lease_ms=lease)
        run, more = Job(X[:1]).phase(1_000_000).run(talk)
        board.feed(talk.frame(Type.RUN, run.pack() + more))
        said, began = board.poll(2), board.milliseconds
        talk.seq += 1
        assert board.driven
        while not any(each.header.type == Type.EVENT for each in frames_of(said)):
            said = board.advance(1)
            assert board.milliseconds - began < 2 * lease
        assert lease - 5 <= board.milliseconds - began <= lease + protocol.SAFE_MS
        events = [protocol.Event.unpack(each.payload) for each in frames_of(said)]
        assert [event.kind for event in events] == [EventKind.JOB_ENDED, EventKind.SAFE]
        board.advance(3 * lease)  # it stays so
        assert self.latched(board, talk, Cause.LEASE) == ErrorCode.LEASE_EXPIRED

    def test_a_flood_does_not_hold_up_the_lease(self):
        """One frame, or as many bytes, per turn of the loop: then lease and jobs have theirs."""
        board, talk = talking(lease_ms=100)
        pings = [talk.frame(Type.PING, bytes(8), seq=talk.seq + k) for k in range(4)]
        board.feed(b"".join(pings))
        assert [len(frames_of(board.poll(1))) for _ in range(4)] == [1, 1, 1, 1]
        talk.seq += 4
        long_job(board, talk)
        said, began = b"", board.milliseconds
        while EventKind.SAFE not in [protocol.Event.unpack(each.payload).kind for each in frames_of(said)]:
            board.feed(b"\x55" * 2000)  # whoever it is, it is not the host
            said = board.advance(1)
            assert board.milliseconds - began <= 100 + protocol.SAFE_MS

    def test_a_ping_keeps_the_lease(self):
        board, talk = talking(ANALOG, lease_ms=100)
        for _ in range(10):
            board.advance(60)
            talk.ask(Type.PING, protocol.Ping(nonce=0, board_ms=0))
        assert talk.status().latched == 0
        talk.ask(Type.CLOSE_SESSION)
        board.advance(1000)
        assert talk.status().latched == 0  # nobody to lose

    @pytest.mark.parametrize("session", [0, None, 12345])
    def test_anybody_may_abort(self, session):
        board, talk = talking(ANALOG)
        run, more = Job(X[:1]).phase(1_000_000).run(talk)
        board.feed(talk.frame(Type.RUN, run.pack() + more))
        board.poll(2)
        talk.seq += 1
        began = board.milliseconds
        board.feed(talk.frame(Type.ABORT, session=session))
        talk.seq += session is None
        board.poll(1)
        assert board.milliseconds - began <= protocol.SAFE_MS
        assert self.latched(board, talk, Cause.ABORT) == ErrorCode.ABORTED

    def test_safe_by_command(self):
        board, talk = talking(ANALOG)
        talk.loose(Type.SAFE)
        assert self.latched(board, talk, Cause.COMMANDED, JobState.NONE) == ErrorCode.COMMANDED_SAFE

    def test_a_dead_converter(self):
        board, talk = talking(ANALOG)
        run, more = Job(X).phase(3).run(talk)
        board.break_after(1)
        board.exchange(talk.frame(Type.RUN, run.pack() + more))
        talk.seq += 1
        status = talk.status()
        assert (status.state, status.latched, status.cause) == (State.SAFE, 1, Cause.HARDWARE)

    @pytest.mark.parametrize("reset", [ResetCause.WATCHDOG, ResetCause.FAULT])
    def test_a_watchdog_reset_boots_latched(self, reset):
        board, talk = talking(ANALOG)
        board.power_cycle(reset)
        talk.open()
        status = talk.status()
        assert (status.state, status.latched, status.cause, status.programmed) == (State.SAFE, 1, Cause.WATCHDOG, 0)
        assert protocol.ErrorRecord.unpack(talk.ask(Type.NEXT_ERROR)).detail == ErrorCode.WATCHDOG_RESET
        talk.ask(Type.CLEAR_FAULT, protocol.ClearFault(cause=Cause.WATCHDOG))
        talk.network(W, U, B)

    def test_boot_is_safe_and_not_latched(self):
        board, talk = talking(ANALOG, programmed=False)
        assert (talk.status().state, talk.status().latched) == (State.SAFE, 0)
        assert not board.driven
        assert board.switch == 0

    def test_a_job_that_ends_leaves_nothing_driven(self):
        board, talk = talking(ANALOG)
        Job(X).phase(5, force=np.ones((2, N))).go(talk, N)
        assert not board.driven

    def test_the_error_queue_holds_the_last_sixteen(self):
        _, talk = talking()
        for _ in range(20):
            talk.loose(Type.SAFE)
            talk.ask(Type.CLEAR_FAULT, protocol.ClearFault(cause=Cause.COMMANDED))
        assert talk.status().errors == 16
        remaining = [protocol.ErrorRecord.unpack(talk.ask(Type.NEXT_ERROR)).remaining for _ in range(17)]
        assert remaining == [*range(15, -1, -1), 0]

    def test_reset_asks_for_one_after_its_reply(self):
        board, talk = talking()
        talk.ask(Type.RESET, protocol.Reset(key=protocol.RESET_KEY))
        assert board.reset_wanted


class TestCredit:
    """What the board sums is what the host would form from its recordings."""

    def sums(self, talk):
        flat = np.frombuffer(talk.read(Slot.CREDIT), "<f4")
        return flat[: N * N].reshape(N, N), flat[N * N : N * (N + M)].reshape(N, M), flat[N * (N + M) :]

    def credit(self, talk, **how):
        talk.ask(Type.CREDIT, protocol.Credit(**({"scale": 1.0, "mode": 0, "flags": 1, "reserved": 0} | how)))
        assert talk.finish().state == JobState.DONE

    def test_finite_horizon(self):
        """eps sum_k h_{T-1-k} r(z_k)^T, h from two kicks of opposite sign."""
        _, talk = talking()
        T, kick, scale = 12, RNG.normal(size=(2, N)), RNG.uniform(0.5, 2, size=(2, 1))
        z = Job(X).phase(T, record=1).go(talk, N, capture=Capture.PRE)[0]
        h = []
        for sign, flags in ((1, RunFlag.CLEAR_POST), (-1, 0)):
            job = Job(X).phase(T - 1, displace=sign * kick, record=1)
            how = {"kind": JobKind.TRANSPOSE, "at": z["final"], "capture": Capture.POST, "flags": int(flags)}
            h.append(job.go(talk, N, weights=np.repeat(sign * scale / 2, N, 1), **how)[0]["states"])
        self.credit(talk, mode=CreditMode.REVERSED, scale=0.1)
        response = (h[0] - h[1]) / 2 * scale
        w, u, b = self.sums(talk)
        back, rate = response[::-1].astype(np.float64), np.tanh(z["states"][:T].astype(np.float64))
        assert np.allclose(w, 0.1 * np.einsum("kbi,kbj->ij", back, rate), atol=3e-4)  # r is not tanh
        assert np.allclose(u, 0.1 * np.einsum("kbi,bj->ij", back, X), atol=1e-5)
        assert np.allclose(b, 0.1 * back.sum((0, 1)), atol=1e-5)

    def test_equilibrium(self):
        """((z+ - z-) / 2) r(z)^T from final states alone."""
        _, talk = talking()
        force = 0.1 * RNG.normal(size=(2, N))
        z = Job(X).phase(60).go(talk, N, capture=Capture.PRE)[0]["final"]
        ends = []
        for sign, flags in ((1, RunFlag.CLEAR_POST), (-1, 0)):
            job, half = Job(X).phase(60, force=sign * force), np.full((2, N), sign / 2)
            how = {"start": StartKind.STATE, "state": z, "capture": Capture.POST, "flags": int(flags)}
            ends.append(job.go(talk, N, weights=half, **how)[0]["final"])
        self.credit(talk)
        w, u, _ = self.sums(talk)
        post = (ends[0].astype(np.float64) - ends[1]) / 2
        assert np.allclose(w, post.T @ np.tanh(z.astype(np.float64)), atol=1e-4)
        assert np.allclose(u, post.T @ X, atol=1e-6)
        self.credit(talk, flags=0)
        assert np.allclose(self.sums(talk)[0], 2 * w, rtol=1e-6)  # adds up until it is cleared

    def test_tape_only_leaves_the_recording_out_of_the_result(self):
        _, talk = talking()
        both = Job(X).phase(9, record=3).go(talk, N, capture=Capture.PRE)[0]
        job = Job(X).phase(9, record=3)
        alone = job.go(talk, N, capture=Capture.PRE, flags=int(RunFlag.TAPE_ONLY))[0]
        assert alone["states"].size == 0
        assert np.array_equal(alone["final"], both["final"])

    def test_a_recording_on_the_tape_is_played_back(self):
        """TAPE and RECORDING are the same thing."""
        _, talk = talking()
        states = Job(X).phase(8, record=1).go(talk, N, capture=Capture.PRE)[0]["states"]
        kick = RNG.normal(size=(2, N))
        job = {"kind": JobKind.TRANSPOSE}
        tape = Job(X).phase(8, displace=kick, record=1).go(talk, N, at_kind=2, **job)[0]["states"]
        told = Job(X).phase(8, displace=kick, record=1).go(talk, N, at_kind=1, at=states, **job)[0]["states"]
        assert np.array_equal(tape, told)

    def test_tapes_that_do_not_fit(self):
        _, talk = talking()
        for mode in CreditMode:
            ask = protocol.Credit(scale=1.0, mode=mode, flags=0, reserved=0)
            assert refusal(talk, Type.CREDIT, ask).code == ErrorCode.TAPES
        Job(X).phase(3, record=1).go(talk, N, capture=Capture.PRE)
        Job(X).phase(5, record=1).go(talk, N, capture=Capture.POST, weights=np.ones((2, N)), flags=1)
        ask = protocol.Credit(scale=1.0, mode=CreditMode.REVERSED, flags=0, reserved=0)
        assert refusal(talk, Type.CREDIT, ask).code == ErrorCode.TAPES
        ask = protocol.Credit(scale=float("nan"), mode=0, flags=0, reserved=0)
        assert refusal(talk, Type.CREDIT, ask).code == ErrorCode.NOT_FINITE
        run, more = Job(X[:1]).phase(5, record=1).run(talk, capture=Capture.POST, weights=np.ones((1, N)))
        assert refusal(talk, Type.RUN, run, more).code == ErrorCode.TAPES
