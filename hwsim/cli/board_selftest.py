"""`hwsim board selftest`: the board's own tests, and ours of it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import final

import numpy as np

from hwsim.contracts.errors import HwsimError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.devices.board import BoardRefused, SerialBoard
from hwsim.devices.board.codes import Cause, ErrorCode, Slot, Type
from hwsim.devices.board.link import Request
from hwsim.devices.board.modelled import simulated_twin
from hwsim.devices.board.protocol import Ping
from hwsim.devices.board.transfers import upload
from hwsim.testing.draws import draw_parameters

ECHOES, LANES = 64, 8
OWN_TESTS = ("CRC", "SHA-256", "Philox", "tanh", "memory", "converters")
"""What the bits of the board's own self-test stand for."""


@final
@dataclass(frozen=True, kw_only=True)
class Check:
    """One test.

    Args:
        name: in a word or two.
        passed: whether it did.
        found: what was found.
    """

    name: str
    passed: bool
    found: str


class _Failed(Exception):  # noqa: N818
    """What a test found wrong."""


def run_selftest(options: argparse.Namespace) -> int:
    """Test, print.

    Returns:
        0 when all is well, 1 where something failed.

    Raises:
        HwsimError: there is no board to test.
    """
    with SerialBoard(options.url, baud=options.baud) as board:
        checks = tested(board, options.seed, options.tolerance)
        uid = board.descriptor.uid
    failed = [check for check in checks if not check.passed]
    if options.json == "-":
        json.dump(
            {"board": uid, "passed": not failed, "checks": [asdict(check) for check in checks]}, sys.stdout, indent=1
        )
        sys.stdout.write("\n")
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name:{width}}  {check.found}")
        names = ", ".join(check.name for check in failed)
        print(f"{uid}: {'all is well' if not failed else f'failed: {names}'}")
    return 1 if failed else 0


def tested(board: SerialBoard, seed: int, tolerance: float) -> list[Check]:
    """All tests, each by itself."""
    parameters = draw_parameters(board.spec, seed)
    tests: dict[str, Callable[[], str]] = {
        "its own tests": lambda: _own(board),
        "link": lambda: _link(board),
        "programming": lambda: _programming(board, parameters),
        "settling": lambda: _settling(board, parameters, seed, tolerance),
        "range check": lambda: _range_check(board, parameters),
        "safe state": lambda: _safe(board),
    }
    checks = []
    for name, test in tests.items():
        try:
            checks.append(Check(name=name, passed=True, found=test()))
        except (_Failed, HwsimError) as error:
            checks.append(Check(name=name, passed=False, found=str(error)))
    return checks


def _own(board: SerialBoard) -> str:
    result = board.selftest()
    ran = [name for bit, name in enumerate(OWN_TESTS) if result.ran >> bit & 1]
    failed = [name for bit, name in enumerate(OWN_TESTS) if result.failed >> bit & 1]
    if failed:
        raise _Failed(f"{', '.join(failed)} failed on the board")
    return ", ".join(ran)


def _link(board: SerialBoard) -> str:
    before = asdict(board.counters)
    pings = [Request(type=Type.PING, payload=Ping(nonce=n, board_ms=0).pack(), expect=Ping.size) for n in range(ECHOES)]
    for n, payload in enumerate(board.session.all(pings)):
        if Ping.unpack(payload).nonce != n:
            raise _Failed(f"echo {n} came back as {Ping.unpack(payload).nonce}")
    after = asdict(board.counters)
    resent, damaged = (after[name] - before[name] for name in ("resent", "damaged"))
    trip = board.session.link.round_trip
    said = "" if math.isnan(trip) else f", round trip {1e3 * trip:.2f} ms beside the bytes"
    return f"{ECHOES} echoes, {resent} sent again, {damaged} damaged{said}"


def _programming(board: SerialBoard, parameters: Parameters) -> str:
    held = board.program(parameters)
    low, high = board.spec.ranges["W"]
    step = (high - low) / board.descriptor.levels if board.descriptor.levels else 1e-6 * (high - low)
    off = max(float(np.abs(np.asarray(held[name]) - block).max()) for name, block in parameters.items())
    if off > step:
        raise _Failed(f"what is read back is up to {off:.3g} off what was sent; one level is {step:.3g}")
    return f"read back within {off:.2g} of what was sent"


def _settling(board: SerialBoard, parameters: Parameters, seed: int, tolerance: float) -> str:
    spec = board.spec
    inputs = np.random.default_rng(seed).uniform(-0.5, 0.5, (LANES, spec.inputs))
    plan = Plan(inputs=inputs, ids=np.arange(LANES), phases=(Phase(steps=spec.horizon),))
    held, path = board.program(parameters), NoisePath(seed=seed)
    (found,) = board.relax(plan, noise=path)
    with simulated_twin(board.descriptor, spec) as model:
        model.program(held)
        (expected,) = model.relax(plan, noise=path)
    if np.array_equal(found.final, expected.final):
        return f"{LANES} lanes of {spec.horizon} steps, the model's very bits"
    off = np.linalg.norm(found.final - expected.final) / np.linalg.norm(expected.final)
    if not off <= tolerance:
        raise _Failed(f"{off:.2g} off the model, relative; allowed is {tolerance:g} (--tolerance)")
    return f"{LANES} lanes of {spec.horizon} steps, {off:.2g} off the model, relative"


def _range_check(board: SerialBoard, parameters: Parameters) -> str:
    """The board itself must refuse what the host would never send."""
    beyond = dict(parameters.items())
    beyond["b"] = np.full_like(np.asarray(beyond["b"]), 2.0 * board.spec.ranges["b"][1])
    network = b"".join(np.asarray(beyond[name], "<f4").tobytes() for name in ("W", "U", "b"))
    try:
        upload(board.session, Slot.NETWORK, network)
    except BoardRefused as refusal:
        if refusal.detail == ErrorCode.OUT_OF_RANGE:
            return "the board refuses a bias beyond its range"
        raise
    raise _Failed("the board took a bias beyond its range")


def _safe(board: SerialBoard) -> str:
    board.session.link.ask(Request(type=Type.SAFE, expect=56))
    status = board.status()
    if not status.latched or status.cause != Cause.COMMANDED:
        raise _Failed(f"told to be safe, the board says state {status.state}, cause {status.cause}, not latched")
    board.clear_fault()
    if board.status().latched:
        raise _Failed("the safe state does not end with CLEAR_FAULT")
    return "entered, latched, and left again"
