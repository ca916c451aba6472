"""`hwsim board record` and `replay`: stand on the wire between a host and a board, or in the board's place."""

from __future__ import annotations

import argparse
import select
import socket
import sys

from hwsim.contracts.errors import InputError
from hwsim.devices.board.errors import ReplayMismatch
from hwsim.devices.board.ports import Port, SerialPort
from hwsim.devices.board.recording import read_session

_SLICE = 0.002
"""Seconds for which each side is listened to."""


def run_record(options: argparse.Namespace) -> int:
    """Between one host and a board.

    Returns:
        0.

    Raises:
        InputError, LinkLost: no board, or no file.
    """
    if "?" in str(options.file) or "#" in str(options.file):
        raise InputError(f"a record is written to a plain file name; found {options.file}")
    port = SerialPort(f"record://{options.url}?file={options.file}", baud=options.baud)
    try:
        between(port)
    finally:
        port.close()
    session = read_session(options.file)
    print(f"{options.file}: {len(session.steps)} steps", file=sys.stderr)
    return 0


def run_replay(options: argparse.Namespace) -> int:
    """In place of a board.

    Returns:
        0 where the host said again all that it did; 1 where it did not.

    Raises:
        InputError: no such file.
    """
    read_session(options.file)  # what cannot be replayed is refused before anybody connects
    port = SerialPort(f"replay://{options.file}", baud=115200)
    try:
        between(port)
    except ReplayMismatch as mismatch:
        print(f"hwsim board replay: {mismatch}", file=sys.stderr)
        return 1
    finally:
        port.close()
    return 0


def between(port: Port) -> None:
    """Pass bytes between a port and the first host that connects, until it goes or Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"socket://127.0.0.1:{server.getsockname()[1]}", flush=True)
        try:
            host, _ = server.accept()
            with host:
                host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _pump(host, port)
        except KeyboardInterrupt:
            return


def _pump(host: socket.socket, port: Port) -> None:
    while True:
        ready, _, _ = select.select([host], [], [], 0.0)
        if ready:
            data = host.recv(65536)
            if not data:
                return
            port.write(data)
        if data := port.read(_SLICE):
            host.sendall(data)
