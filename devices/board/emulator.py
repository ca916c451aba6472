"""The firmware as a process on this machine, as a library in this process, or in QEMU."""

from __future__ import annotations

import ctypes
import enum
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, final

from hwsim.contracts.errors import InputError

from .build import BuildError, Target, build
from .codes import ResetCause

BACKENDS = ("emulated-f32", "emulated-q15", "analog")
"""Names of the back ends, as the descriptor has them."""
_CONFIG_AT, _SEED_AT = 0x20000100, 0x20000200  # where ports/mps2/port.c looks for them
_MOST_ON_M3 = 64
_ANALOG_LIMIT = 8.0  # of forces and kicks, state units: converters have a range
_RANGES = ("W", "U", "b", "x", "force", "displace", "state")


class Config(ctypes.Structure):
    """`hw_config_t`: what a board is told at boot."""

    _fields_: ClassVar[Sequence[tuple[str, type]]] = [  # ctypes wants a list
        *((name, ctypes.c_uint32) for name in ("magic", "backend", "units", "inputs", "lanes", "horizon")),
        *((name, ctypes.c_uint32) for name in ("weight_bits", "dac_bits", "adc_bits", "seed")),
        *((name, ctypes.c_double) for name in ("dt", "time_constant", "noise", "read_noise", "tolerance")),
        ("limits", ctypes.c_double * len(_RANGES)),
        ("adc_limit", ctypes.c_double),
    ]


@dataclass(frozen=True, kw_only=True)
class Emulated:
    """Which board to emulate; what is not told stays as `hw_config_default` has it.

    Args:
        units, inputs: N, M.
        backend: one of BACKENDS.
        lanes: most lanes in one RUN.
        horizon: steps of the deployed settling.
        dt, time_constant: seconds.
        noise, read_noise: standard deviations per step and per read, state units.
        weight_bits, dac_bits, adc_bits: 0 is continuous (not for `analog`).
        seed: of the noise of its own.
    """

    units: int = 64
    inputs: int = 64
    backend: str = "emulated-f32"
    lanes: int = 64
    horizon: int = 150
    dt: float = 1e-4
    time_constant: float = 1e-3
    noise: float = 0.0
    read_noise: float = 0.0
    weight_bits: int = 0
    dac_bits: int = 0
    adc_bits: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError(f"an emulated board has one of the back ends {BACKENDS}; found {self.backend!r}")

    def options(self) -> list[str]:
        """As options of the host process."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.backend == "analog":
            told |= {"force-limit": _ANALOG_LIMIT, "displace-limit": _ANALOG_LIMIT}
        return [word for name, value in told.items() for word in (f"--{name.replace('_', '-')}", str(value))]

    def config(self, default: Config) -> Config:
        """As the record that the firmware boots with."""
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            setattr(default, name, BACKENDS.index(value) if name == "backend" else value)
        if self.backend == "analog":
            for name in ("force", "displace"):
                default.limits[_RANGES.index(name)] = _ANALOG_LIMIT
        return default


@final
class InProcessBoard:
    """The firmware as a library: bytes in, bytes out, and a clock that stands still unless told to go on.

    One per process and library: the firmware's state is static. Ports of other boards are not needed for it.

    Args:
        emulated: which board.
        boot_id: of the first boot; each further one adds 1.
        library: built from Target.LIBRARY unless told.
    """

    def __init__(self, emulated: Emulated, *, boot_id: int = 1, library: Path | None = None) -> None:
        self._library = ctypes.CDLL(str(library or build(Target.LIBRARY)))
        self._config = _checked(emulated, self._library)
        self._boot_id = boot_id
        self.power_cycle()

    def power_cycle(self, cause: ResetCause = ResetCause.POWER_ON) -> None:
        """Everything in memory is lost; the board boots."""
        self._library.board_boot(ctypes.byref(self._config), ctypes.c_uint32(self._boot_id), ctypes.c_uint8(cause))
        self._boot_id += 1

    def exchange(self, data: bytes, *, polls: int = 1_000_000) -> bytes:
        """Send bytes, let the firmware run until it has nothing more to do, and take what it says."""
        taken = b""
        while data:
            sent = self._library.board_feed(data, len(data))
            data = data[sent:]
            self._library.board_poll(polls)
            taken += self._take()
        self._library.board_poll(polls)
        return taken + self._take()

    def poll(self, count: int) -> bytes:
        """Let the firmware run at most so many turns of its loop, and take what it says."""
        self._library.board_poll(count)
        return self._take()

    def feed(self, data: bytes) -> None:
        """Put bytes on the line without letting the firmware run."""
        self._library.board_feed(data, len(data))

    def advance(self, milliseconds: float) -> bytes:
        """Let time pass, and take what the board says meanwhile."""
        self._library.board_advance(ctypes.c_uint32(round(1e3 * milliseconds)))
        return self._take()

    @property
    def milliseconds(self) -> float:
        """Since boot, by the board's clock."""
        self._library.board_clock.restype = ctypes.c_uint64
        return float(self._library.board_clock()) / 1e3

    @property
    def reset_wanted(self) -> bool:
        """Whether the firmware asked to be restarted."""
        return bool(self._library.board_reset_wanted())

    @property
    def driven(self) -> bool:
        """Whether an input or a force of the simulated front end is other than nothing (back end `analog`)."""
        return bool(self._library.board_driven())

    @property
    def switch(self) -> int:
        """How its units are switched: 0 off, 1 reset, 2 settling, 3 backwards."""
        return int(self._library.board_switch())

    def break_after(self, writes: int) -> None:
        """Let the converters answer so many more writes, then no more."""
        self._library.board_break_after(ctypes.c_uint32(writes))

    def _take(self) -> bytes:
        buffer = ctypes.create_string_buffer(65536)
        count = self._library.board_take(buffer, len(buffer))
        return buffer.raw[:count]


@final
class HostBoard:
    """The firmware as a process; a context manager.

    Args:
        emulated: which board.
        tcp: listen on a TCP port of this machine in place of a pty.
        baud: pace the line; 0 does not.
        time_scale: the board's clock runs so many times as fast.
        sanitized: built with address and undefined-behaviour sanitizers.
        boot_id: of the first boot; drawn at random unless told.

    Attributes:
        url: where it speaks, known from `__enter__` on.
    """

    def __init__(
        self,
        emulated: Emulated,
        *,
        tcp: bool = False,
        baud: float = 0.0,
        time_scale: float = 1.0,
        sanitized: bool = False,
        boot_id: int | None = None,
    ) -> None:
        self._target = Target.HOST_SANITIZED if sanitized else Target.HOST
        first = secrets.randbelow(2**31) + 1 if boot_id is None else boot_id
        self._options = [*emulated.options(), "--baud", str(baud), "--time-scale", str(time_scale)]
        self._options += ["--boot-id", str(first), *(("--tcp", "0") if tcp else ())]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> HostBoard:
        command = [str(build(self._target)), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            said = self._process.stderr.read().strip()
            self.close()
            raise InputError(f"the firmware did not start as {command}: {said}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def kill(self) -> None:
        """End the process as a cut cable or a lost power supply would."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(timeout=10)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process = None


class Machine(enum.Enum):
    """Microcontroller boards that QEMU emulates: their name there."""

    M4F = "mps2-an386"
    M3 = "mps2-an385"


@final
class QemuBoard:
    """The firmware's microcontroller image in QEMU; a context manager. Back ends `emulated-f32` and `emulated-q15`.

    Time runs by instructions (32 ns each, about the speed of such a controller) while the firmware works, and with the
    clock of this machine while it waits.

    Args:
        emulated: which board.
        machine: which controller.
        seed: of the boot ids; drawn at random unless told.

    Attributes:
        url: the pty where it speaks, known from `__enter__` on.

    Raises:
        BuildError: QEMU or the compiler is not installed, or the firmware did not start.
    """

    def __init__(self, emulated: Emulated, machine: Machine, *, seed: int | None = None) -> None:
        if emulated.backend == "analog":
            raise InputError("the emulated controller has no analog front end; use HostBoard or InProcessBoard for it")
        if machine is Machine.M3 and max(emulated.units, emulated.inputs) > _MOST_ON_M3:
            raise InputError(
                f"without floating point a step of more than {_MOST_ON_M3} units or inputs takes longer than the safe "
                f"state may; found {emulated.units} and {emulated.inputs}: use Machine.M4F"
            )
        self._emulated, self._machine = emulated, machine
        self._seed = secrets.randbelow(2**31) if seed is None else seed
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.url = ""

    def __enter__(self) -> QemuBoard:
        if why := qemu_missing():
            raise BuildError(why)
        image = build(Target[self._machine.name])
        self._folder = tempfile.TemporaryDirectory()
        told = Path(self._folder.name) / "config.bin"
        told.write_bytes(bytes(_checked(self._emulated, ctypes.CDLL(str(build(Target.LIBRARY))))))
        command = ["qemu-system-arm", "-M", self._machine.value, "-kernel", str(image), "-display", "none"]
        command += ["-monitor", "none", "-serial", "pty", "-icount", "shift=5"]
        command += ["-device", f"loader,file={told},addr={_CONFIG_AT:#x},force-raw=on"]
        command += ["-device", f"loader,addr={_SEED_AT:#x},data={self._seed},data-len=4"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        self.url = next((word for word in said.split() if word.startswith("/dev/")), "")
        if not self.url:
            said += self._process.stdout.read()
            self.close()
            raise BuildError(f"QEMU did not start as {command}: {said.strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End QEMU; idempotent."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _checked(emulated: Emulated, library: ctypes.CDLL) -> Config:
    """The record, if the firmware can be this board."""
    default = Config()
    library.board_default(ctypes.byref(default))
    config = emulated.config(default)
    if not library.board_valid(ctypes.byref(config)):
        raise InputError(f"the firmware as it is built cannot be this board: {emulated}")
    return config


def qemu_missing() -> str | None:
    """None where QEMU for Arm is installed, else what to do."""
    if shutil.which("qemu-system-arm"):
        return None
    return "qemu-system-arm is not installed: apt-get install --no-install-recommends qemu-system-arm"
