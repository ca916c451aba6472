"""A small board in the test's own process, and a host that talks to it."""

import numpy as np
import pytest
from board_talk import Job, Refused, Talk

from hwsim.devices.board.build import Target, available
from hwsim.devices.board.codes import Type
from hwsim.devices.board.emulator import Emulated, InProcessBoard

NEEDS_LIBRARY = pytest.mark.skipif(available(Target.LIBRARY) is not None, reason=f"{available(Target.LIBRARY)}")

N, M = 4, 3
SMALL = Emulated(units=N, inputs=M, lanes=8)
ANALOG = Emulated(units=N, inputs=M, lanes=8, backend="analog", weight_bits=14, dac_bits=14, adc_bits=14)
RNG = np.random.default_rng(7)
W, U, B = RNG.normal(size=(N, N)) / 3, RNG.normal(size=(N, M)) / 2, RNG.normal(size=N) / 5
X = RNG.uniform(-1, 1, size=(2, M))


def talking(emulated=SMALL, *, lease_ms=2000, programmed=True):
    board = InProcessBoard(emulated)
    talk = Talk(board.exchange)
    board.poll(3)
    talk.open(lease_ms=lease_ms)
    if programmed:
        talk.network(W, U, B)
    return board, talk


def network(scale=1.0):
    return b"".join(np.asarray(scale * each, "<f4").tobytes() for each in (W, U, B))


def refusal(talk, kind, record=None, more=b""):
    with pytest.raises(Refused) as caught:
        talk.ask(kind, record, more)
    return caught.value


def long_job(board, talk, x=X[:1]):
    """A job that has begun and goes on for a second of the board's clock."""
    run, more = Job(x).phase(1_000_000).run(talk)
    board.feed(talk.frame(Type.RUN, run.pack() + more))
    board.poll(2)
    talk.seq += 1
