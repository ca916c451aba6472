"""`hwsim board`: find boards, look at them, test them, emulate them, write down what they say."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hwsim.contracts.errors import HwsimError, InputError
from hwsim.contracts.units import engineering
from hwsim.devices.board import LinkLost, NoAnswer, SerialBoard, SerialOpener
from hwsim.devices.board.codes import Bit, Cause, ResetCause, State
from hwsim.devices.board.descriptor import Descriptor
from hwsim.devices.board.protocol import MAJOR, MINOR, Status
from hwsim.devices.board.session import Session

WIDTH = 110


def run_board(options: argparse.Namespace) -> int:
    """Do what was asked.

    Returns:
        0; 1 where a self-test or a replay failed.

    Raises:
        HwsimError: it cannot be done.
    """
    if options.action == "list":
        return _list(options)
    if options.action == "info":
        return _info(options)
    if options.action == "emulate":
        return _emulate(options)
    if options.action == "selftest":
        from .board_selftest import run_selftest

        return run_selftest(options)
    if options.action == "monitor":
        from .board_monitor import run_monitor

        return run_monitor(options)
    from .board_wire import run_record, run_replay

    return run_record(options) if options.action == "record" else run_replay(options)


def console() -> Console:
    """stdout, wide enough for a table where it is no terminal."""
    found = Console()
    if not found.is_terminal:
        found.width = max(found.width, WIDTH)
    return found


def _list(options: argparse.Namespace) -> int:
    from serial.tools.list_ports import comports

    ports = {port.device: port.description or "" for port in sorted(comports(), key=lambda port: str(port.device))}
    ports |= dict.fromkeys(options.urls, "")
    rows = [
        {"port": url, "is": told, "answers": None if options.no_ask else _answer(url, options.baud)}
        for url, told in ports.items()
    ]
    if options.json == "-":
        json.dump(rows, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    if not rows:
        print("no serial ports here; hwsim board emulate makes one")
        return 0
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, header_style="bold")
    for heading in ("port", "is", *(() if options.no_ask else ("answers",))):
        grid.add_column(heading, overflow="fold")
    for row in rows:
        grid.add_row(*(str(row[key]) for key in ("port", "is", *(() if options.no_ask else ("answers",)))))
    console().print(grid)
    return 0


def _answer(url: str, baud: int) -> str:
    """What is on a port, in a few words."""
    session = Session(SerialOpener(url, baud=baud), greetings=1, patience=1.0)
    try:
        hello = session.look()
    except NoAnswer:
        return "nothing"
    except LinkLost as error:
        return f"cannot be opened: {str(error).split(':', 1)[-1].split(';')[0].strip()}"
    except HwsimError as error:
        return str(error)
    board = session.descriptor
    held = ", in use" if hello.session else ""
    return f"{board.uid}: {board.backend}, {board.units} units, {board.inputs} inputs, {board.firmware}{held}"


def _info(options: argparse.Namespace) -> int:
    with SerialBoard(options.url, baud=options.baud) as board:
        status, hello, told = board.status(), board.session.hello, board.descriptor
    if options.json == "-":
        document = {
            "protocol": f"{hello.major}.{hello.minor}",
            "boot_id": hello.boot_id,
            "reset_cause": _named(ResetCause, hello.reset_cause),
            "descriptor": dict(told.raw),
            "status": {name: _plain(value) for name, value in asdict(status).items()},
        }
        json.dump(document, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in _lines(told, status, hello.reset_cause, f"{hello.major}.{hello.minor}", hello.boot_id):
        grid.add_row(name, value)
    console().print(grid)
    return 0


def _lines(told: Descriptor, status: Status, reset_cause: int, protocol: str, boot_id: int) -> list[tuple[str, str]]:
    able = ", ".join(bit.name.lower() for bit in Bit if bit & told.bits and bit.name)
    low, high = told.ranges["W"]
    levels = f"{told.levels} levels" if told.levels else "continuous"
    adc = f"{told.adc_bits} bits over [{told.adc_lo:g}, {told.adc_hi:g}]" if told.adc_bits else "continuous"
    noise = "not known" if told.noise is None else f"{told.noise:g} per step"
    warmth = "not measured" if math.isnan(status.temperature) else f"{status.temperature:.1f} C"
    safe = f", safe because of {_named(Cause, status.cause)}" if status.state == State.SAFE else ""
    return [
        ("board", f"{told.uid} ({told.backend}), firmware {told.firmware}, protocol {protocol} (host {MAJOR}.{MINOR})"),
        ("network", f"{told.units} units, {told.inputs} inputs, {told.topology}, {told.nonlinearity}"),
        (
            "settling",
            f"{told.horizon} steps of {engineering(told.dt, 's')}, time constant "
            f"{engineering(told.time_constant, 's')}, settled at {told.tolerance:g}",
        ),
        ("weights", f"[{low:g}, {high:g}], {levels}"),
        ("readout", f"{adc}; noise {noise}"),
        ("lanes", f"{told.lanes} in one run, {told.parallel} at the same time"),
        ("can", able or "settle, and nothing else"),
        ("memory", f"data {told.data}, result {told.result}, tape {told.tape} bytes"),
        ("when safe", told.safe_state),
        ("booted", f"{_named(ResetCause, reset_cause)}, boot {boot_id:08x}, {status.board_ms / 1e3:.1f} s ago"),
        ("state", f"{_named(State, status.state)}{safe}{', latched' if status.latched else ''}"),
        ("holds", "a network" if status.programmed else "nothing"),
        (
            "link",
            f"{status.frames} frames, {status.bad_frames} damaged, {status.replays} replies sent again, "
            f"{status.overruns} overruns",
        ),
        ("reads", f"{status.clipped_reads} met the end of the converter; {status.refused_outputs} outputs refused"),
        ("temperature", warmth),
    ]


def _named(kind: Any, value: int) -> str:
    return next((str(each.name).lower().replace("_", " ") for each in kind if each == value), str(value))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _emulate(options: argparse.Namespace) -> int:
    from hwsim.devices.board.emulator import Emulated, HostBoard, Machine, QemuBoard

    analog = options.backend == "analog"
    emulated = Emulated(
        units=options.units,
        inputs=options.inputs,
        horizon=options.horizon,
        backend=options.backend,
        noise=options.noise,
        read_noise=options.read_noise,
        adc_bits=options.adc_bits or 12 * analog,
        dac_bits=12 * analog,
        weight_bits=12 * analog,
        seed=options.seed,
    )
    if options.target == "m4f":
        if options.tcp or options.baud:
            raise InputError("--tcp and --baud are for --target host; leave them out")
        with _ending_on_sigterm(), QemuBoard(emulated, Machine.M4F) as controller:
            return _serve(controller.url, options.link)
    with _ending_on_sigterm(), HostBoard(emulated, tcp=options.tcp, baud=options.baud) as board:
        return _serve(board.url, options.link)


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, or the emulated board would outlive it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(url: str, link: Path | None) -> int:
    """Say where, and wait for Ctrl-C."""
    shown = url
    if link is not None:
        if "://" in url:
            raise InputError("--link names a terminal; leave it out with --tcp")
        try:
            made = link.with_name(f".{link.name}.new")
            made.unlink(missing_ok=True)
            made.symlink_to(url)
            os.replace(made, link)
        except OSError as error:
            raise InputError(f"cannot make {link}: {error.strerror}; give another --link") from None
        shown = str(link)
    print(shown, flush=True)
    print("Ctrl-C ends it", file=sys.stderr)
    ended = threading.Event()
    try:
        while not ended.wait(1.0):
            if "://" not in url and not Path(url).exists():  # a terminal goes with its process
                print("hwsim board emulate: the firmware ended by itself", file=sys.stderr)
                return 1
    except KeyboardInterrupt:
        return 0
    finally:
        if link is not None:
            link.unlink(missing_ok=True)
    return 0
