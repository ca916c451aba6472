"""Exactly once, whatever the wire does: the real firmware behind bad wires, by seed, on a clock of its own."""

from dataclasses import replace

import numpy as np
import pytest
from board_memory import NEEDS_GCC, MemoryOpener, in_memory

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan
from hwsim.devices.board.codes import Capture, CreditMode, Slot, Type
from hwsim.devices.board.emulator import Emulated
from hwsim.devices.board.errors import NoAnswer
from hwsim.devices.board.faults import BadWire, Faults
from hwsim.devices.board.link import Request
from hwsim.devices.board.plans import Tape, Task, jobs
from hwsim.devices.board.protocol import Accepted, Credit, Read
from hwsim.devices.board.session import Session
from hwsim.devices.board.transfers import puts, upload, verified

NOISY = Emulated(units=5, inputs=3, lanes=4, horizon=10, noise=0.1)


def say(session, commands, seed):
    """Commands of all kinds in which a repetition, a loss or a change of order would show; all that came back."""
    rng = np.random.default_rng(seed)
    said = []
    upload(session, Slot.NETWORK, rng.uniform(-1, 1, 45).astype("<f4").tobytes())
    inputs = rng.uniform(-1, 1, (1, 3))
    plan = Plan(inputs=inputs, ids=np.array([1]), phases=(Phase(steps=2, record=1),))
    post = Tape(capture=Capture.POST, phase=0, weights=np.ones((1, 5)), clear=False, only=False)
    tapes = {
        "pre": Tape(capture=Capture.PRE, phase=0, only=False),
        "first": replace(post, clear=True),
        "post": post,
    }
    numbers = {Type.RUN: 0, Type.CREDIT: 0}
    # something must be on both tapes before anything is paired
    kinds = ["pre", "first", *rng.choice(["pre", "post", "credit", "read", "put"], commands)]
    for index, kind in enumerate(kinds):
        if kind in tapes:
            task = Task(board=session.descriptor, noise=NoisePath(seed=seed, step=index), tape=tapes[kind])
            (job,) = jobs(plan, task)
            session.all(puts(session, Slot.DATA, job.data, [(0, len(job.data))]))
            reply = session.one(Request(type=Type.RUN, payload=job.run, expect=8))
            numbers[Type.RUN] += 1
            said.append(reply)
            assert Accepted.unpack(reply).job == sum(numbers.values()), "a RUN was executed twice, or not at all"
        elif kind == "credit":
            asked = Credit(scale=0.5, mode=CreditMode.ALIGNED, flags=0, reserved=0).pack()
            reply = session.one(Request(type=Type.CREDIT, payload=asked, expect=8))
            numbers[Type.CREDIT] += 1
            assert Accepted.unpack(reply).job == sum(numbers.values()), "a CREDIT was executed twice, or not at all"
        elif kind == "read":
            slot = Slot.CREDIT if index % 2 else Slot.RESULT
            reads = [Read(slot=slot, offset=4 * k, length=16) for k in range(3)]
            said += session.all(Request(type=Type.READ, payload=read.pack(), expect=24) for read in reads)
        else:
            data = rng.bytes(24)
            said += session.all(puts(session, Slot.DATA, data, [(0, 24)]))
    said.append(verified(session, Slot.CREDIT))
    return said


def over(faults, commands, seed=1, **options):
    opener = MemoryOpener(in_memory(NOISY), faults)
    session = Session(opener, session=7, **options)
    session.connect()
    try:
        return say(session, commands, seed), session.counters
    finally:
        session.close()


LIGHT = Faults(drop=2e-4, flip=2e-4, duplicate=0.02, delay=0.02, truncate=1e-3, seed=11)
HEAVY = Faults(drop=2e-3, flip=2e-3, duplicate=0.02, delay=0.02, truncate=1e-3, seed=12)
AWFUL = Faults(drop=1e-2, flip=1e-2, duplicate=0.05, delay=0.05, truncate=1e-2, seed=13)


@NEEDS_GCC
@pytest.mark.parametrize(("faults", "commands"), [(LIGHT, 3000), (HEAVY, 1000)], ids=["0.02 %", "0.2 %"])
def test_every_command_is_executed_once_and_every_answer_is_the_faultless_one(faults, commands):
    clean, counters = over(Faults(), commands)
    assert counters.resent == counters.damaged == 0
    found, counters = over(faults, commands)
    assert found == clean
    assert counters.sent > 1.8 * commands, "each of them is one request or more"
    assert counters.resent > 20
    assert counters.replayed > 5
    assert counters.damaged > 20


@NEEDS_GCC
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("faults", [LIGHT, HEAVY], ids=["0.02 %", "0.2 %"])
def test_a_hundred_thousand_commands(faults, seed):
    """Over the four seeds, on either wire."""
    clean, _ = over(Faults(), 25_000, seed)
    found, _ = over(replace(faults, seed=100 + seed), 25_000, seed)
    assert found == clean


@NEEDS_GCC
def test_a_wire_that_is_too_bad_is_slow_or_given_up_in_words_and_never_lies():
    clean, _ = over(Faults(), 40)
    ends = []
    for seed in range(4):
        try:
            found, _ = over(replace(AWFUL, seed=seed), 40, patience=60.0, lease_ms=60_000)
        except NoAnswer as error:
            ends.append(str(error))
        else:
            assert found == clean
            ends.append("right")
    assert "right" in ends
    assert all(end == "right" or "the wire is too bad" in end or "nothing there answers" in end for end in ends)


def test_a_bad_wire_is_a_function_of_its_seed_alone():
    def through(seed, pieces):
        wire = BadWire(faults=Faults(drop=0.01, flip=0.01, duplicate=0.1, truncate=0.1, seed=seed), direction=0)
        came = b""
        for piece in pieces:
            wire.push(piece, 0.0)
            came += wire.pull(0.0)
        return came

    rng = np.random.default_rng(0)
    data = b"\0".join(bytes(rng.integers(1, 256, 50, dtype=np.uint8)) for _ in range(40)) + b"\0"
    whole = through(1, [data])
    assert through(1, [data[k : k + 7] for k in range(0, len(data), 7)]) == whole
    assert through(2, [data]) != whole
    assert through(1, [data]) != data


def test_a_good_wire_changes_nothing_and_rates_are_what_they_say():
    rng = np.random.default_rng(1)
    frames = [bytes(rng.integers(1, 256, 100, dtype=np.uint8)) + b"\0" for _ in range(2000)]
    good = BadWire(faults=Faults(), direction=1)
    for frame in frames:
        good.push(frame, 0.0)
    assert good.pull(0.0) == b"".join(frames)
    bad = BadWire(faults=Faults(drop=0.003, flip=0.002, duplicate=0.05, delay=0.04, seed=3), direction=1)
    for frame in frames:
        bad.push(frame, 0.0)
    counts, size = bad.counts, 202_000
    assert counts.bytes == size
    for found, expected in (
        (counts.dropped, 0.003 * size),
        (counts.flipped, 0.002 * size),
        (counts.duplicated, 0.05 * 2000),
        (counts.delayed, 0.04 * 2000),
    ):
        assert abs(found - expected) < 5 * np.sqrt(1.1 * expected)


def test_what_is_late_keeps_its_order_and_a_paced_wire_its_pace():
    late = BadWire(faults=Faults(delay=1.0, seconds=0.5), direction=0)
    late.push(b"a\0", 0.0)
    late.push(b"b\0", 0.1)
    assert late.pull(0.4) == b""
    assert late.pull(10.0) == b"a\0b\0"
    paced = BadWire(faults=Faults(baud=1000), direction=0)
    paced.push(b"123456789\0" * 2, 0.0)
    assert [paced.pull(t) for t in (0.05, 0.11, 0.15, 0.21)] == [b"", b"123456789\0", b"", b"123456789\0"]


@pytest.mark.parametrize(
    ("query", "words"),
    [("drop=2", "between 0 and 1"), ("lose=0.1", "knows drop"), ("flip=much", "is a number"), ("baud=-1", "baud >= 0")],
)
def test_faults_that_are_none_are_refused(query, words):
    with pytest.raises(InputError, match=words):
        Faults.of_query(query)
