"""The firmware's builds, and the firmware as a process: pty, TCP, pacing, sanitizers, a host that dies."""

import re
import subprocess
import time

import numpy as np
import pytest
from board_line import Line
from board_talk import Job, Talk, frames_of

from hwsim.contracts.errors import InputError
from hwsim.devices.board import protocol
from hwsim.devices.board.build import FIRMWARE, BuildError, Target, available, build
from hwsim.devices.board.codes import Capture, Cause, CreditMode, JobKind, JobState, Slot, StartKind, State, Type
from hwsim.devices.board.emulator import BACKENDS, Emulated, HostBoard, Machine, QemuBoard

NEEDS_GCC = pytest.mark.skipif(available(Target.HOST) is not None, reason=f"{available(Target.HOST)}")
NEEDS_ARM = pytest.mark.skipif(available(Target.M4F) is not None, reason=f"{available(Target.M4F)}")
N, M = 5, 3
SMALL = Emulated(units=N, inputs=M, lanes=4)
RNG = np.random.default_rng(1)
W, U, B, X = RNG.normal(size=(N, N)) / 3, RNG.normal(size=(N, M)), RNG.normal(size=N), RNG.uniform(-1, 1, (2, M))


def opened(line, **how):
    talk = Talk(line.exchange)
    talk.open(**how)
    talk.network(W, U, B)
    return talk


def _frame_from(stream):
    """The next frame of a byte stream."""
    said = b""
    while not (said.strip(b"\0") and said.endswith(b"\0")):
        said += stream.read(1)
    return frames_of(said)[0]


class TestBuilds:
    def test_a_missing_compiler_is_named_with_its_package(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(BuildError, match=r"apt-get install .* gcc-arm-none-eabi libnewlib-arm-none-eabi"):
            build(Target.M4F)

    @NEEDS_GCC
    def test_products_are_kept_by_what_they_are_made_of(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HWSIM_CACHE", str(tmp_path))
        first = build(Target.LIBRARY)
        made = first.stat().st_mtime_ns
        assert build(Target.LIBRARY) == first
        assert first.stat().st_mtime_ns == made
        assert build(Target.LIBRARY, defines=("HW_MAX_UNITS=8u",)) != first
        with pytest.raises(BuildError, match="refused the firmware"):
            build(Target.LIBRARY, defines=("HW_MAX_UNITS=many",))

    @NEEDS_ARM
    @pytest.mark.parametrize("target", [Target.M4F, Target.M3, Target.SKELETON])
    def test_images_allocate_nothing(self, target):
        names = subprocess.run(["arm-none-eabi-nm", build(target)], capture_output=True, text=True, check=True).stdout
        symbols = {line.split()[-1] for line in names.splitlines()}
        assert "hw_board_poll" in symbols
        assert not symbols & {"malloc", "_malloc_r", "free", "_sbrk", "printf", "tanhf"}

    def test_core_knows_no_machine(self):
        """What only a port may: registers, operating systems, the heap."""
        for path in FIRMWARE.glob("*.[ch]"):
            text = path.read_text()
            assert text.isascii(), path
            for word in ("malloc", "volatile uint32_t", "unistd.h", "stdio.h", "__asm", "0x4000"):
                assert word not in text, (path, word)


@NEEDS_GCC
class TestProcess:
    @pytest.mark.parametrize("tcp", [False, True], ids=["pty", "tcp"])
    def test_answers_and_lets_hosts_come_and_go(self, tcp):
        with HostBoard(SMALL, tcp=tcp, boot_id=42) as board:
            for expected in (0, 1, 1):
                with Line(board.url) as line:
                    assert protocol.Hello.unpack(Talk(line.exchange).loose(Type.HELLO)).boot_id == 42
                    assert Talk(line.exchange).status().programmed == expected
                    opened(line)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_a_whole_session_under_sanitizers(self, backend):
        bits = {"weight_bits": 12, "dac_bits": 12, "adc_bits": 12} if backend == "analog" else {}
        emulated = Emulated(units=N, inputs=M, lanes=4, backend=backend, noise=0.01, **bits)
        with HostBoard(emulated, sanitized=True, tcp=True) as board, Line(board.url) as line:
            talk = opened(line, lease_ms=60000)
            assert protocol.Selftest.unpack(talk.ask(Type.SELFTEST)).failed == 0
            kick = 0.5 * np.ones((2, N))
            z = Job(X).phase(9, force=kick, record=1).go(talk, N, capture=Capture.PRE)[0]
            how = {"kind": JobKind.TRANSPOSE, "at": z["final"], "capture": Capture.POST, "weights": kick, "flags": 1}
            Job(X).phase(8, displace=kick, record=1).go(talk, N, **how)
            credit = protocol.Credit(scale=0.1, mode=CreditMode.REVERSED, flags=1, reserved=0)
            talk.ask(Type.CREDIT, credit)
            assert talk.finish().state == JobState.DONE
            assert np.abs(np.frombuffer(talk.read(Slot.CREDIT), "<f4")).max() > 0
            if backend != "analog":
                Job(X).phase(3).go(talk, N, start=StartKind.RANDOM, sigma=0.3, reads=4)
            talk.loose(Type.ABORT)
            talk.ask(Type.CLEAR_FAULT, protocol.ClearFault(cause=Cause.ABORT))
            talk.ask(Type.RESET, protocol.Reset(key=protocol.RESET_KEY))
            assert line.heard().header.type == Type.HELLO
            assert talk.status().programmed == 0

    def test_a_killed_host_leaves_a_safe_board(self):
        with HostBoard(SMALL, time_scale=200.0, tcp=True) as board:
            with Line(board.url) as line:
                talk = opened(line, lease_ms=60000)
                run, more = Job(X).phase(1_000_000).phase(1_000_000).run(talk)
                talk.ask(Type.RUN, run, more)
                talk.open(lease_ms=1000)  # five thousandths of a second of ours
            with Line(board.url) as line:
                other = Talk(line.exchange, session=8)
                deadline = time.monotonic() + 30
                while not other.status().latched:
                    assert time.monotonic() < deadline
                status = other.status()
                assert (status.state, status.cause, status.job_state) == (State.SAFE, Cause.LEASE, JobState.FAILED)
                other.open()  # the lease is over: nobody need be driven out

    def test_a_paced_line_is_as_slow_as_it_says(self):
        with HostBoard(SMALL, baud=100_000.0, tcp=True) as board, Line(board.url) as line:
            talk = Talk(line.exchange)
            talk.open(lease_ms=60000)
            began = time.monotonic()
            talk.put(bytes(range(1, 201)) * 10)
            assert time.monotonic() - began > 0.15  # 2000 bytes of ten bits

    @pytest.mark.parametrize(("emulated", "said"), [(Emulated(units=4000), "no such board"), (SMALL, "whole number")])
    def test_boards_that_cannot_be_do_not_start(self, emulated, said):
        board = HostBoard(emulated, boot_id=1)
        if said == "whole number":
            board._options += ["--units", "-1"]
        with pytest.raises(InputError, match=said), board:
            pass

    def test_speaks_on_standard_input_and_output(self):
        command = [build(Target.HOST), "--stdio", *SMALL.options()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            hello = _frame_from(process.stdout)
            process.stdin.write(Talk(lambda _: b"").frame(Type.STATUS, session=0))
            process.stdin.flush()
            status = _frame_from(process.stdout)
            process.stdin.close()  # and it ends
            assert process.wait(timeout=30) == 0
        assert hello.header.type == Type.HELLO
        assert protocol.Status.unpack(status.payload).programmed == 0

    def test_an_unknown_option_is_refused(self):
        done = subprocess.run([build(Target.HOST), "--speed", "3"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "unknown option --speed" in done.stderr


def test_a_controller_takes_no_analog_and_no_large_board():
    with pytest.raises(InputError, match="analog"):
        QemuBoard(Emulated(backend="analog", weight_bits=8, dac_bits=8, adc_bits=8), Machine.M4F)
    with pytest.raises(InputError, match="M4F"):
        QemuBoard(Emulated(units=65), Machine.M3)


def test_the_porting_guide_runs_and_names_what_there_is():
    guide = (FIRMWARE.parents[2] / "docs" / "porting-a-board.md").read_text()
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", guide, re.M | re.S)
    names: dict = {}
    exec(compile(snippet, "porting-a-board.md", "exec"), names)
    assert np.isfinite(names["read"].final).all()
    declared = set(re.findall(r"^\w+ \*?(hw_\w+)\(", (FIRMWARE / "hardware.h").read_text(), re.M))
    assert declared == set(re.findall(r"^\| `(hw_\w+)\(", guide, re.M))
