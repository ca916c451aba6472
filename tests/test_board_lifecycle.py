"""Boards that are unplugged, restarted, taken over or exchanged: never used in silence, and otherwise gone on with."""

import contextlib
import socket
import threading
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
from board_memory import NEEDS_GCC, SMALL, MemoryOpener, board, in_memory

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Carry, Phase, Plan
from hwsim.devices.board import (
    BoardChanged,
    BoardRebooted,
    BoardSafe,
    BoardWarning,
    LinkLost,
    NoAnswer,
    SerialBoard,
    VersionMismatch,
)
from hwsim.devices.board.codes import Type
from hwsim.devices.board.emulator import Emulated, HostBoard
from hwsim.devices.board.errors import SessionLost
from hwsim.devices.board.framing import Frame
from hwsim.devices.board.keeper import Keeper
from hwsim.devices.board.link import Request
from hwsim.devices.board.ports import Opener, Port
from hwsim.devices.board.protocol import RESET_KEY, Hello, Reset
from hwsim.devices.board.session import Session
from hwsim.learning_rules import CapturedFiniteHorizonEP, FiniteHorizonEP
from hwsim.testing import RandomRegression
from hwsim.testing.draws import draw_parameters
from hwsim.training import Adam, ClippedReprogram, Trainer

pytestmark = NEEDS_GCC
NOISE = NoisePath(seed=3)
NOISY = replace(SMALL, noise=0.05)


def plan_of(device, seed=0, **phase):
    inputs = np.random.default_rng(seed).uniform(-1, 1, (4, device.spec.inputs))
    return Plan(inputs=inputs, ids=np.arange(4), phases=(Phase(steps=20, **phase),))


def trained(device, steps, rule=FiniteHorizonEP()):
    """The parameters after some updates, and the state of the trainer at the end."""
    task = RandomRegression(units=device.spec.units, inputs=device.spec.inputs)
    trainer = Trainer(
        device=device,
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=1e-2),
        batch_size=4,
        seed=1,
        noise=NoisePath(seed=1),
        writer=ClippedReprogram(),
    )
    state = trainer.start(draw_parameters(device.spec, 2) | task.initial_readout(2, 0.5))
    for _ in range(steps):
        state, _ = trainer.advance(state)
    return state.theta


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def disturbed(kind, happen, times, steps, rule=FiniteHorizonEP(), **options):
    """Parameters of an undisturbed run, of one in which something happens many times, and the disturbed device."""
    calm, opener = board(kind)
    with calm:
        expected = trained(calm, steps, rule)
        writes = opener.writes
    device, opener = board(kind, **options)
    at = np.random.default_rng(5).choice(np.arange(12, writes), times, replace=False)
    opener.before_write = {int(k): lambda: happen(opener) for k in at}
    with device:
        found = trained(device, steps, rule)
    assert len(opener.before_write) == 0 or max(opener.before_write) > opener.writes, "something did not happen"
    return expected, found, device


@pytest.mark.parametrize("kind", [SMALL, NOISY], ids=["quiet", "noisy"])
def test_twenty_unplugs_leave_a_training_run_as_it_would_have_been(kind):
    expected, found, device = disturbed(kind, lambda wire: wire.unplug(0.05), times=20, steps=8)
    assert same(found, expected)
    assert device.remarks == ()


@pytest.mark.slow
def test_a_hundred_unplugs_leave_a_training_run_as_it_would_have_been():
    expected, found, _ = disturbed(NOISY, lambda wire: wire.unplug(0.05), times=100, steps=40)
    assert same(found, expected)


def test_reboots_leave_a_run_as_it_would_have_been_where_noise_can_be_replayed():
    expected, found, device = disturbed(NOISY, MemoryOpener.reboot, times=6, steps=8)
    assert same(found, expected)
    assert 1 <= len(device.remarks) <= 6
    assert all("started again" in remark and "ran again" in remark for remark in device.remarks)


@pytest.mark.slow
def test_a_hundred_reboots_leave_a_run_as_it_would_have_been():
    expected, found, device = disturbed(NOISY, MemoryOpener.reboot, times=100, steps=40)
    assert same(found, expected)
    assert all("started again" in remark and "ran again" in remark for remark in device.remarks)


def test_reboots_and_unplugs_leave_credit_formed_on_the_board_as_it_would_have_been():
    def happen(wire):
        if wire.writes % 2:
            wire.reboot()
        else:
            wire.unplug(0.03)

    expected, found, _ = disturbed(SMALL, happen, times=8, steps=8, rule=CapturedFiniteHorizonEP())
    assert same(found, expected)


def test_a_silence_longer_than_the_lease_is_cleared_and_said():
    expected, found, device = disturbed(
        SMALL, lambda wire: wire.unplug(0.6), times=3, steps=6, lease_ms=500, patience=5.0
    )
    assert same(found, expected)
    assert device.remarks
    assert all("silent for longer than its lease" in remark for remark in device.remarks)


def test_a_reboot_of_a_board_whose_noise_is_its_own_goes_on_and_says_so():
    device, opener = board(replace(SMALL, backend="analog", weight_bits=12, dac_bits=12, adc_bits=12))
    with device:
        device.program(draw_parameters(device.spec, 0))
        (before,) = device.relax(plan_of(device), noise=NOISE)
        opener.reboot()
        with pytest.warns(BoardWarning, match="other noise than an undisturbed one"):
            (after,) = device.relax(plan_of(device), noise=NOISE)
        assert (before.provenance.restored, after.provenance.restored) == (0, 1)
        assert before.provenance.boot_id != after.provenance.boot_id
        assert "other noise" in device.remarks[0]


def test_who_wants_no_reboot_in_his_results_gets_none():
    device, opener = board(restore=False)
    with device:
        held = device.program(draw_parameters(device.spec, 0))
        opener.reboot()
        with pytest.raises(BoardRebooted, match="program it again"):
            device.relax(plan_of(device), noise=NOISE)
        with pytest.raises(Exception, match="nothing is programmed"):
            device.relax(plan_of(device), noise=NOISE)
        device.program(held)
        device.relax(plan_of(device), noise=NOISE)


def test_a_board_that_resets_itself_is_noticed():
    device, _ = board()
    with device:
        device.program(draw_parameters(device.spec, 0))
        (before,) = device.relax(plan_of(device), noise=NOISE)
        with pytest.raises(BoardRebooted, match="requested"):
            device.session.one(Request(type=Type.RESET, payload=Reset(key=RESET_KEY).pack()))
        (after,) = device.relax(plan_of(device), noise=NOISE)
        np.testing.assert_array_equal(before.final, after.final)
        assert "started again" in device.remarks[0]


def test_lanes_that_are_carried_survive_a_reboot():
    finals = []
    for happens in (False, True):
        device, opener = board()
        with device:
            device.program(draw_parameters(device.spec, 0))
            device.relax(plan_of(device), noise=NOISE)
            if happens:
                opener.reboot()
            (run,) = device.relax(replace(plan_of(device), start=Carry()), noise=NOISE)
            finals.append(run.final)
    np.testing.assert_array_equal(*finals)


def test_a_board_that_somebody_else_programmed_is_not_used():
    device, opener = board()
    with device:
        held = device.program(draw_parameters(device.spec, 0))
        thief = Session(MemoryOpener(opener.board), take_over=True)
        thief.connect()
        other = SerialBoard(MemoryOpener(opener.board), take_over=True)
        with other:
            other.program(draw_parameters(other.spec, 1))
        with pytest.raises(BoardChanged, match="somebody else programmed the board"):
            device.relax(plan_of(device), noise=NOISE)
        device.program(held)
        device.relax(plan_of(device), noise=NOISE)


def test_a_session_that_somebody_else_ended_goes_on_where_nothing_was_changed():
    device, opener = board()
    with device:
        device.program(draw_parameters(device.spec, 0))
        (before,) = device.relax(plan_of(device), noise=NOISE)
        with SerialBoard(MemoryOpener(opener.board), take_over=True) as other:
            other.status()
        (after,) = device.relax(plan_of(device), noise=NOISE)
        np.testing.assert_array_equal(before.final, after.final)
        assert "ended by another host" in device.remarks[0]


def test_a_board_that_is_held_is_not_taken_unasked():
    device, opener = board()
    with device:
        device.status()
        with pytest.raises(BoardChanged, match="another host holds the board"), SerialBoard(MemoryOpener(opener.board)):
            pass


def test_a_board_in_its_safe_state_is_left_there_until_somebody_looked():
    device, _ = board()
    with device:
        device.program(draw_parameters(device.spec, 0))
        device.session.link.ask(Request(type=Type.SAFE, expect=56))
        with pytest.raises(BoardSafe, match="told to be safe"):
            device.relax(plan_of(device), noise=NOISE)
        device.clear_fault()
        device.relax(plan_of(device), noise=NOISE)


def test_a_port_that_does_not_come_back_is_given_up_in_words():
    device, opener = board(patience=0.5)
    with device:
        device.program(draw_parameters(device.spec, 0))
        opener.unplug(1e9)
        with pytest.raises(LinkLost, match="plug it in again"):
            device.relax(plan_of(device), noise=NOISE)
        opener.plug_at = opener.time
        device.relax(plan_of(device), noise=NOISE)


def test_another_board_that_comes_back_on_the_port_is_refused():
    device, opener = board()
    with device:
        device.program(draw_parameters(device.spec, 0))
        opener.board = in_memory(replace(SMALL, units=7))
        opener.unplug()
        with pytest.raises(VersionMismatch, match="another board came back"):
            device.relax(plan_of(device), noise=NOISE)


class Tampered(Opener):
    """The real firmware, with its HELLO rewritten on the way."""

    realtime = False

    def __init__(self, inside, **changes):
        self.inside, self.changes, self.name = inside, changes, "tampered"

    def open(self):
        return TamperedPort(self.inside.open(), self.changes)

    def now(self):
        return self.inside.now()

    def pause(self, seconds):
        self.inside.pause(seconds)


class TamperedPort(Port):
    def __init__(self, inside, changes):
        self.inside, self.changes, self.baud = inside, changes, inside.baud
        self.now, self.write, self.close = inside.now, inside.write, inside.close

    def read(self, seconds):
        frames = self.inside.read(seconds).split(b"\0")
        return b"\0".join(self._changed(frame) for frame in frames)

    def _changed(self, stuffed):
        frame = Frame.decode(stuffed) if stuffed else None
        if frame is None or frame.header.type != Type.HELLO:
            return stuffed
        hello = replace(Hello.unpack(frame.payload), **self.changes)
        return replace(frame, payload=hello.pack()).encode().strip(b"\0")

    def now(self):
        raise NotImplementedError

    def write(self, data):
        raise NotImplementedError

    def close(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"major": 2}, "speaks protocol 2.0, this host 1.0: update the firmware"),
        ({"magic": 1}, "speaks protocol"),
        ({"schema": 99}, "message table 0000000000000063"),
    ],
)
def test_a_board_of_another_version_is_refused(change, words):
    opener = Tampered(MemoryOpener(in_memory()), **change)
    with pytest.raises(VersionMismatch, match=words), SerialBoard(opener):
        pass


def test_a_smaller_window_and_payload_are_kept_to():
    device = SerialBoard(Tampered(MemoryOpener(in_memory()), max_payload=64, window=1, rx_buffer=128))
    plain, _ = board()
    finals = []
    for one in (device, plain):
        with one:
            one.program(draw_parameters(one.spec, 0))
            finals.append(one.relax(plan_of(one, record=1), noise=NOISE)[0].states)
    np.testing.assert_array_equal(*finals)


class Deaf(Port):
    """A port on which nobody is."""

    baud = 115200

    def __init__(self, opener):
        self.opener = opener

    def now(self):
        return self.opener.time

    def write(self, data):
        self.opener.sent.append(self.opener.time)

    def read(self, seconds):
        self.opener.time += max(seconds, 1e-6)
        return b""

    def close(self):
        pass


class DeafOpener(Opener):
    realtime, name = False, "deaf"

    def __init__(self):
        self.time, self.sent = 0.0, []

    def open(self):
        return Deaf(self)

    def now(self):
        return self.time

    def pause(self, seconds):
        self.time += seconds


def test_silence_is_given_up_in_words_after_waits_that_double():
    opener = DeafOpener()
    with pytest.raises(NoAnswer, match="nothing there answers as a board does"), SerialBoard(opener):
        pass
    waits = np.diff(opener.sent)
    assert waits[0] >= 0.05
    np.testing.assert_allclose(waits[1] / waits[0], 2.0, rtol=0.01)
    assert opener.time < 10.0


def test_a_process_that_is_cut_off_and_comes_back_is_gone_on_with():
    """The real thing: a TCP connection that breaks under a training run."""
    kind = Emulated(units=6, inputs=4, lanes=16, horizon=20)
    calm, _ = board(kind)
    with calm:
        expected = trained(calm, 4)
    with HostBoard(kind, tcp=True) as process, SerialBoard(process.url) as device:
        port, count = device.session.link, 0
        write = type(device.session.link.port).write

        def cut_now_and_then(self, data):
            nonlocal count
            count += 1
            if count % 15 == 0:
                self._serial.close()
            write(self, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(port.port), "write", cut_now_and_then)
            found = trained(device, 4)
        assert device.counters.reconnects >= 2
    assert same(found, expected)


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial 3.5's
def test_a_board_behind_rfc_2217_and_a_bad_wire_gives_the_same_states():
    """pyserial's own server for remote ports, in front of the process."""
    import serial
    from serial.rfc2217 import PortManager

    class Terminal(serial.Serial):
        """A pty has no modem lines."""

        cts = dsr = cd = True
        ri = False

        def _update_rts_state(self):
            pass

        def _update_dtr_state(self):
            pass

    finals = []
    with (
        HostBoard(SMALL) as process,
        Terminal(process.url, timeout=0.01) as port,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):

        def serve():
            host, _ = server.accept()
            with host, contextlib.suppress(OSError):
                manager = PortManager(port, types.SimpleNamespace(write=host.sendall))
                host.settimeout(0.005)
                while True:
                    with contextlib.suppress(TimeoutError):
                        if not (data := host.recv(4096)):
                            return
                        port.write(b"".join(manager.filter(data)))
                    if waiting := port.in_waiting:
                        host.sendall(b"".join(manager.escape(port.read(waiting))))

        remote = threading.Thread(target=serve, daemon=True)
        remote.start()
        url = f"rfc2217://127.0.0.1:{server.getsockname()[1]}"
        with SerialBoard(f"fault://{url}?drop=0.0005&flip=0.0005&seed=1") as device:
            device.program(draw_parameters(device.spec, 0))
            finals.append(device.relax(plan_of(device, record=1), noise=NOISE)[0].states)
        remote.join(10.0)
    device, _ = board()
    with device:
        device.program(draw_parameters(device.spec, 0))
        finals.append(device.relax(plan_of(device, record=1), noise=NOISE)[0].states)
    np.testing.assert_array_equal(*finals)


def test_a_killed_process_is_a_lost_link_in_one_sentence():
    with HostBoard(SMALL) as process, SerialBoard(process.url, patience=0.3) as device:
        device.program(draw_parameters(device.spec, 0))
        process.kill()
        with pytest.raises(LinkLost, match=r"plug the board in again|is the board plugged in"):
            device.relax(plan_of(device), noise=NOISE)


def test_a_silent_host_renews_its_lease():
    """What the background thread calls, on the board's own clock."""
    for renews in (True, False):
        opener = MemoryOpener(in_memory())
        session = Session(opener, lease_ms=300)
        session.connect()
        for _ in range(12):
            opener.pass_time(0.1)
            if renews:
                session.keep()
        assert session.status().latched == (not renews)
        session.close()


def test_the_lease_is_renewed_by_a_thread_that_ends():
    called = threading.Event()
    keeper = Keeper(called.set, 0.001)
    assert called.wait(10.0)
    keeper.stop()
    before = {thread.name for thread in threading.enumerate()}
    assert "board-lease" not in before
    with HostBoard(SMALL) as process, SerialBoard(process.url) as device:
        device.status()
        assert "board-lease" in {thread.name for thread in threading.enumerate()}
    assert "board-lease" not in {thread.name for thread in threading.enumerate()}


def test_warnings_are_only_where_they_are_due():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        device, opener = board(NOISY)
        with device:
            device.program(draw_parameters(device.spec, 0))
            opener.reboot()
            device.relax(plan_of(device), noise=NOISE)


def test_a_lost_session_is_an_error_of_its_own_for_who_talks_without_a_device():
    opener = MemoryOpener(in_memory())
    session = Session(opener)
    session.connect()
    thief = Session(MemoryOpener(opener.board), take_over=True)
    thief.connect()
    thief.close()
    with pytest.raises(SessionLost, match="ended by another host"):
        session.status()
    session.status()
    session.close()
