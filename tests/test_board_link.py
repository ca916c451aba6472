"""The link, and host against firmware: any order of doing things and of things that happen leaves both agreed."""

import math
import os
import pty
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from board_memory import NEEDS_GCC, SMALL, MemoryOpener, board, in_memory
from hypothesis import Phase as HypothesisPhase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import At, Carry, Phase, Plan, Rest
from hwsim.devices.board import LinkLost, SerialBoard
from hwsim.devices.board.codes import ErrorCode, Slot, Type
from hwsim.devices.board.errors import BoardRefused, NoAnswer
from hwsim.devices.board.faults import Faults
from hwsim.devices.board.link import CHUNK_FIRST, RTO_FLOOR, Link, Request
from hwsim.devices.board.modelled import simulated_twin
from hwsim.devices.board.ports import SerialPort
from hwsim.devices.board.protocol import Ping, Read
from hwsim.devices.board.session import Session
from hwsim.devices.board.transfers import puts, upload
from hwsim.testing.draws import draw_parameters

PING = Request(type=Type.PING, payload=Ping(nonce=3, board_ms=0).pack(), expect=Ping.size)


class HostAgainstFirmware(RuleBasedStateMachine):
    """A board behind a bad wire that is unplugged and restarted at any moment, beside a simulator that is not."""

    @initialize(seed=st.integers(0, 2**16), bad=st.sampled_from([0.0, 3e-4, 1e-3]))
    def begin(self, seed, bad):
        faults = Faults(drop=bad, flip=bad, duplicate=20 * bad, delay=20 * bad, truncate=bad, seed=seed)
        self.device, self.wire = board(replace(SMALL, noise=0.03), faults, patience=30.0, lease_ms=60_000)
        self.device.__enter__()
        self.twin = simulated_twin(self.device.descriptor, self.device.spec)
        self.program(seed=seed)
        self.step = 0

    @rule(seed=st.integers(0, 3))
    def program(self, seed):
        held = self.device.program(draw_parameters(self.device.spec, seed))
        self.twin.program(held)

    @rule(lanes=st.integers(1, 20), steps=st.integers(0, 12), start=st.sampled_from(["rest", "at"]), data=st.data())
    def relax(self, lanes, steps, start, data):
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        state = At(rng.standard_normal((lanes, 6)).astype(np.float32)) if start == "at" else Rest()
        push = rng.standard_normal((lanes, 6)) if data.draw(st.booleans()) else None
        phase = Phase(steps=steps, force=push, record=data.draw(st.integers(0, 3)))
        self._both(self._plan(lanes, rng, state, phase))

    @rule(steps=st.integers(0, 8))
    def carry_on(self, steps):
        lanes = len(self.twin.save().get("carried", np.zeros((3, 6))))
        self._both(self._plan(lanes, np.random.default_rng(steps), Carry(), Phase(steps=steps)))

    @rule(steps=st.integers(1, 8), seed=st.integers(0, 9))
    def respond(self, steps, seed):
        rng = np.random.default_rng(seed)
        at, kick = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
        plan = self._plan(4, rng, Rest(), Phase(steps=steps, displace=kick))
        path = NoisePath(seed=1, step=self.step)
        found, expected = (one.relax_transpose(at, plan, noise=path)[0] for one in (self.device, self.twin))
        np.testing.assert_array_equal(found.final, expected.final)

    @rule(after=st.integers(1, 12))
    def unplug_soon(self, after):
        self.wire.before_write[self.wire.writes + after] = self.wire.unplug

    @rule(after=st.integers(1, 12))
    def restart_soon(self, after):
        self.wire.before_write[self.wire.writes + after] = self.wire.reboot

    @rule()
    def let_the_lease_end(self):
        self.wire.pass_time(61.0)

    @rule()
    def look(self):
        assert self.device.status().board_ms >= 0

    def teardown(self):
        if hasattr(self, "device"):
            self.device.close()

    def _plan(self, lanes, rng, start, phase):
        self.step += 1
        inputs = rng.uniform(-1, 1, (lanes, 4))
        return Plan(inputs=inputs, ids=np.arange(lanes), start=start, phases=(Phase(steps=2), phase))

    def _both(self, plan):
        path = NoisePath(seed=1, step=self.step)
        found, expected = (one.relax(plan, noise=path) for one in (self.device, self.twin))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours.final, theirs.final)
            if theirs.states is not None:
                np.testing.assert_array_equal(ours.states, theirs.states)


@NEEDS_GCC
def test_host_and_firmware_agree_whatever_is_done_and_happens():
    long = settings.default.max_examples >= 1000
    run_state_machine_as_test(
        HostAgainstFirmware,
        settings=settings(
            settings.default,
            max_examples=200 if long else 8,
            stateful_step_count=12,
            phases=(HypothesisPhase.generate,),  # a board cannot be shrunk: it lives on
        ),
    )


def connected(faults=Faults(), **options):
    opener = MemoryOpener(in_memory(), faults)
    session = Session(opener, session=5, **options)
    session.connect()
    return session, opener


@NEEDS_GCC
def test_no_more_is_under_way_than_the_window_holds():
    session, _ = connected()
    most, asked = 0, 0

    def requests():
        nonlocal asked
        for _ in range(40):
            asked += 1
            yield PING

    link, answered = session.link, []
    heard = link._heard

    def watch(exchange, frame):
        nonlocal most
        most = max(most, len(exchange.flight))
        answered.append(asked)
        return heard(exchange, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(link), "_heard", lambda self, exchange, frame: watch(exchange, frame))
        assert len(session.all(requests())) == 40
    assert most == 4
    assert max(count - index for index, count in enumerate(answered)) <= 4
    session.close()


@NEEDS_GCC
@pytest.mark.slow
def test_numbers_go_round_after_65535():
    session, _ = connected()
    session.link.number(5, 1)
    for _ in range(3):
        replies = session.all(PING for _ in range(22_000))
        assert len(replies) == 22_000
    assert session.counters.resent == 0
    session.close()


@NEEDS_GCC
def test_a_refused_request_ends_an_exchange_and_the_next_one_goes_on():
    session, _ = connected()
    wrong = Request(type=Type.READ, payload=Read(slot=99, offset=0, length=4).pack())
    with pytest.raises(BoardRefused, match="the board refused READ: no such slot for this") as caught:
        session.all([PING, wrong, PING, PING, PING, PING, PING])
    assert caught.value.detail == ErrorCode.SLOT
    assert len(session.all([PING] * 3)) == 3
    session.close()


@NEEDS_GCC
def test_what_is_broken_off_leaves_the_session_usable():
    """An exception of the caller's in the middle of an exchange: numbers are used up that the board never saw."""
    session, _ = connected()

    def breaks():
        yield PING
        yield PING
        raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        session.all(breaks())
    assert len(session.all([PING] * 5)) == 5
    session.close()


@NEEDS_GCC
def test_frames_grow_on_a_good_wire_and_shrink_on_a_bad_one():
    sizes = []
    for faults in (Faults(), Faults(drop=2e-3, flip=2e-3, seed=1)):
        session, _ = connected(faults)
        upload(session, Slot.NETWORK, np.zeros(66, "<f4").tobytes())
        payload = bytes(40_000)
        session.all(puts(session, Slot.DATA, payload, [(0, len(payload))]))
        sizes.append(session.link.chunk(8))
        session.close()
    assert sizes[0] == 1016
    assert 32 <= sizes[1] <= CHUNK_FIRST


@NEEDS_GCC
def test_an_interrupted_transfer_goes_on_where_it_was():
    session, opener = connected(patience=1.0)
    network = np.random.default_rng(0).uniform(-1, 1, 66).astype("<f4").tobytes()
    opener.before_write[opener.writes + 2] = lambda: opener.unplug(1e9)
    with pytest.raises((LinkLost, NoAnswer)):
        upload(session, Slot.NETWORK, network)
    opener.plug_at = opener.time
    before = session.counters.bytes_out
    assert upload(session, Slot.NETWORK, network)
    assert not upload(session, Slot.NETWORK, network), "what is held is not sent again"
    assert session.counters.bytes_out - before < 2 * len(network) + 600
    session.close()


@NEEDS_GCC
def test_the_timer_follows_the_round_trip_and_never_falls_below_its_floor():
    session, _ = connected(Faults(delay=1.0, seconds=0.2))
    for _ in range(20):
        session.one(PING)
    assert session.link.round_trip == pytest.approx(0.4, rel=0.2)
    assert session.link.rto > 0.4
    session.close()
    session, _ = connected()
    session.one(PING)
    assert session.link.rto == RTO_FLOOR
    session.close()


def test_a_terminal_that_vanishes_is_a_lost_link():
    ours, theirs = pty.openpty()
    port = SerialPort(os.ttyname(theirs), baud=115200)
    os.close(theirs)
    port.write(b"hello")
    assert os.read(ours, 10) == b"hello"
    os.write(ours, b"there")
    assert port.read(1.0) == b"there"
    assert port.read(0.0) == b""
    os.close(ours)
    with pytest.raises(LinkLost, match="went away"):
        port.read(1.0)
    with pytest.raises(LinkLost, match="went away"):
        port.write(b"anybody")
    port.close()
    port.close()


def test_a_port_that_somebody_holds_is_not_opened_twice():
    ours, theirs = pty.openpty()
    first = SerialPort(os.ttyname(theirs), baud=115200)
    with pytest.raises(LinkLost, match="does nobody else hold the port"):
        SerialPort(os.ttyname(theirs), baud=115200)
    first.close()
    for each in (ours, theirs):
        os.close(each)


def test_an_echo_is_not_a_board():
    """loop:// gives back what it is sent: frames of ours, which are no replies."""
    with pytest.raises(NoAnswer, match="nothing there answers"), SerialBoard("loop://", patience=0.1):
        pass


def test_a_link_without_a_measurement_waits_longer_than_one_with():
    class Nowhere(SerialPort.__bases__[0]):
        baud = 115200

        def now(self):
            return 0.0

        def write(self, data):
            raise AssertionError

        def read(self, seconds):
            raise AssertionError

        def close(self):
            raise AssertionError

    link = Link(Nowhere())
    assert math.isnan(link.round_trip)
    assert link.rto >= RTO_FLOOR
    assert link.chunk(8) == CHUNK_FIRST


@NEEDS_GCC
def test_the_page_runs_and_prints_what_it_shows(capsys):
    page = Path(__file__).parents[1].joinpath("docs", "board.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", page, re.M | re.S)
    exec(compile(code, "board.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == shown
