"""`hwsim board monitor`: the units of a board as they settle, in the terminal."""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from jaxtyping import Float
from rich.console import Group
from rich.live import Live
from rich.text import Text

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Outcome, Phase, Plan, Relaxation
from hwsim.devices.board import SerialBoard
from hwsim.devices.board.codes import Slot
from hwsim.devices.board.transfers import verified

from .board import console

HALF = 24
"""Characters on either side of zero."""


def run_monitor(options: argparse.Namespace) -> int:
    """Settle, draw, again.

    Returns:
        0.

    Raises:
        InputError: the board holds no network.
    """
    screen = console()
    with SerialBoard(options.url, baud=options.baud) as board:
        board.program(held(board))
        counted = range(options.settlings) if options.settlings else itertools.count()
        with Live(console=screen, refresh_per_second=20, transient=False) as live:
            try:
                for index in counted:
                    for step, states in _watched(board, options, index):
                        live.update(drawn(states, options.units, f"settling {index}, step {step}", board))
                        live.refresh()
                        time.sleep(options.pause if screen.is_terminal else 0.0)
            except KeyboardInterrupt:
                pass
    return 0


def held(board: SerialBoard) -> Parameters:
    """What the board holds.

    Raises:
        InputError: nothing.
    """
    if not board.status().programmed:
        raise InputError("this board holds no network: program it first (hwsim train --device does)")
    words, at, blocks = np.frombuffer(verified(board.session, Slot.HELD), "<f4"), 0, {}
    for name, shape in board.spec.shapes.items():
        size = int(np.prod(shape))
        blocks[name] = words[at : at + size].reshape(shape)
        at += size
    return Parameters(blocks)


def _watched(board: SerialBoard, options: argparse.Namespace, index: int) -> list[tuple[int, Relaxation]]:
    """(step, relaxation to it) along one settling: from its recording, or settled again and again."""
    spec, path = board.spec, NoisePath(seed=options.seed, step=index)
    low, high = board.descriptor.ranges["x"]
    inputs = np.random.default_rng([options.seed, index]).uniform(max(low, -1.0), min(high, 1.0), (1, spec.inputs))
    every = max(1, spec.horizon // options.frames)
    record = every if Capability.RECORD in spec.capabilities else 0
    plan = Plan(inputs=inputs, ids=np.array([0]), start=spec.start, phases=(Phase(steps=spec.horizon, record=record),))
    (run,) = board.relax(plan, noise=path)
    if run.states is None:
        return [(spec.horizon, run)]
    return [
        (
            k * every,
            Relaxation(final=states, states=None, residual=run.residual, outcome=run.outcome),
        )
        for k, states in enumerate(run.states)
    ]


def drawn(run: Relaxation, units: int, title: str, board: SerialBoard) -> Group:
    """One bar per unit, to the left or the right of zero."""
    low, high = board.descriptor.adc_lo, board.descriptor.adc_hi
    reach = min(max(abs(low), abs(high)), max(1.0, float(np.abs(run.final).max())))
    rows = [Text(f"{title}   {Outcome(int(run.outcome[0])).name.lower()}   full scale {reach:.3g}", style="bold")]
    rows += [_bar(index, value, reach) for index, value in enumerate(_first(run.final[0], units))]
    return Group(*rows)


def _first(states: Float[Array, " N"], units: int) -> list[float]:
    return [float(value) for value in states[:units]]


def _bar(index: int, value: float, reach: float) -> Text:
    length = min(HALF, round(HALF * abs(value) / reach))
    left = ("#" * length if value < 0 else "").rjust(HALF)
    right = ("#" * length if value >= 0 else "").ljust(HALF)
    text = Text(f"{index:4d} ")
    text.append(left, style="red")
    text.append("|")
    text.append(right, style="green")
    text.append(f" {value:+.4f}")
    return text
