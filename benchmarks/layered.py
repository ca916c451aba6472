"""One iteration of learning on 784-512-10: settle, nudge both ways, form the gradient, update, program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float

from hwsim import (
    EquilibriumPropagation,
    FiniteHorizonEP,
    LeakyNetwork,
    LearningRule,
    Natural,
    NoisePath,
    SimulatedDevice,
    Trainer,
)
from hwsim.contracts.arrays import Array
from hwsim.contracts.task import Batch
from hwsim.contracts.threads import one_blas_thread
from hwsim.substrates import Layered
from hwsim.tasks.nodes import NodeTask
from hwsim.training import SGD

from .figures import Answer, Bar, Sheet, milliseconds, times
from .job import SEED
from .timing import Contender, Timing, interleaved

PIXELS, HIDDEN, CLASSES = 784, 512, 10
LANES, FREE, NUDGED = 64, 30, 10
EPS, NUDGE, RATE = 0.1, 0.5, 0.05
LONGEST = 8e-3
"""Seconds that an iteration of centered EP may take."""
TWICE = 2.0
"""How many of those one of finite-horizon EP may take."""

OWN, FINITE = "hwsim, centered EP", "hwsim, finite-horizon EP"
BARE, AGAIN = "torch, bare loop, input term kept", "torch, bare loop, input term in every step"


@final
@dataclass(frozen=True, kw_only=True)
class Images(NodeTask):
    """Random pixels and random classes, read from the last ten units: what is timed does not depend on the data."""

    units: int = HIDDEN + CLASSES
    inputs: int = PIXELS
    plus: tuple[int, ...] = tuple(range(HIDDEN, HIDDEN + CLASSES))
    minus: tuple[int, ...] = ()

    @property
    def chance(self) -> float:
        return (1.0 - 1.0 / CLASSES) / 2.0

    @cached_property
    def validation(self) -> Batch:
        draw = np.random.default_rng(SEED)
        return Batch(
            inputs=draw.uniform(0.0, 1.0, (LANES, PIXELS)).astype(np.float32),
            targets=np.eye(CLASSES)[draw.integers(0, CLASSES, LANES)],
            ids=np.arange(LANES),
        )

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        return self.validation


def measure(rounds: int) -> Answer:
    """784-512-10, B = 64, 30 free and twice 10 nudged steps, float32, one thread, gradient and update included."""
    finite = Iteration(FiniteHorizonEP())
    calls: dict[str, Callable[[], object]] = {
        OWN: Iteration(EquilibriumPropagation(nudge=NUDGE, steps=NUDGED, probe=Natural())).advance,
        FINITE: finite.advance,
        BARE: Bare(keep=True).advance,
        AGAIN: Bare(keep=False).advance,
    }
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        contenders = {name: Contender(call=call, settings=one_blas_thread) for name, call in calls.items()}
        timings = interleaved(contenders, rounds)
    finally:
        torch.set_num_threads(before)
    return _answer(timings)


def _answer(timings: dict[str, Timing]) -> Answer:
    sheet = Sheet(
        f"An iteration on {PIXELS}-{HIDDEN}-{CLASSES}, B = {LANES}, {FREE} free and 2 x {NUDGED} nudged steps",
        "float32, one thread; gradient, update and (hwsim) programming included, plain gradient descent. "
        f"Finite-horizon EP: {FREE} free and 2 x {FREE - 1} kicked steps, all recorded. The last column is by minima.",
        *("iteration of", "ms, median (minimum)", "CPU ms", f"over {BARE}"),
    )
    rows: list[dict[str, Any]] = []
    for name, timing in timings.items():
        over = timing.over(timings[BARE])
        sheet.add(name, milliseconds(timing), f"{1e3 * timing.cpu_median:.1f}", times(over.minima))
        rows.append({"iteration_of": name, **timing.to_json(), "over_bare_loop": over.minima})
    own, finite = timings[OWN], timings[FINITE]
    bars = [
        Bar(name="784-512-10, centered EP, median", figure=1e3 * own.median, limit=1e3 * LONGEST, unit="ms"),
        Bar(name="784-512-10, centered EP, minimum", figure=1e3 * own.minimum, limit=1e3 * LONGEST, unit="ms"),
        Bar(name="784-512-10, finite-horizon EP", figure=finite.over(own).minima, limit=TWICE, unit="centered EP"),
    ]
    return Answer(rows=rows, sheets=[sheet], bars=bars)


@final
class Iteration:
    """`Trainer.advance` on the layered network, always from the same state."""

    def __init__(self, rule: LearningRule) -> None:
        coupling = Layered((HIDDEN, CLASSES), reciprocal=True)
        network = LeakyNetwork(units=HIDDEN + CLASSES, inputs=PIXELS, coupling=coupling)
        self._trainer = Trainer(
            device=SimulatedDevice(network, horizon=FREE, step_size=EPS, dtype=np.float32),
            rule=rule,
            task=Images(),
            optimiser=SGD(learning_rate=RATE),
            batch_size=LANES,
            seed=SEED,
            noise=NoisePath(seed=SEED),
        )
        self._state = self._trainer.start(network.initial(SEED, gain=0.5, input_gain=0.5))

    def advance(self) -> object:
        """One iteration."""
        state, _ = self._trainer.advance(self._state)
        if state.diverged:
            raise RuntimeError("the layered network diverged: its iteration would not be a whole one")
        return state


@final
class Bare:
    """Centered EP as a bare loop over tensors: layers apart, both nudges as one batch, everything in place.

    Args:
        keep: whether `U x + b` is computed once per iteration, or in every step as the published codes do.
    """

    def __init__(self, *, keep: bool) -> None:
        draw = torch.Generator().manual_seed(SEED)
        self._keep, batch = keep, Images().validation
        self._x = torch.tensor(batch.inputs, dtype=torch.float32)
        self._y = torch.tensor(batch.targets, dtype=torch.float32)
        self._u = 0.5 * torch.randn(PIXELS, HIDDEN, generator=draw) / PIXELS**0.5
        self._w = 0.5 * torch.randn(HIDDEN, CLASSES, generator=draw) / HIDDEN**0.5
        self._b, self._c = torch.zeros(HIDDEN), torch.zeros(CLASSES)

    @torch.inference_mode()
    def advance(self) -> Float[Array, ""]:
        """One iteration; answers the loss."""
        drive = torch.addmm(self._b, self._x, self._u)
        h, o = torch.zeros(LANES, HIDDEN), torch.zeros(LANES, CLASSES)
        for _ in range(FREE):
            h, o = self._step(h, o, drive, self._x, None)
        error = (o - self._y) / LANES
        force = NUDGE * error / error.norm(dim=1, keepdim=True)
        both = torch.cat([force, -force])
        x2, drive2 = torch.cat([self._x, self._x]), torch.cat([drive, drive])
        h2, o2 = torch.cat([h, h]), torch.cat([o, o])
        for _ in range(NUDGED):
            h2, o2 = self._step(h2, o2, drive2, x2, both)
        scale = error.norm(dim=1, keepdim=True) / (2.0 * NUDGE)
        dh, do = scale * (h2[:LANES] - h2[LANES:]), scale * (o2[:LANES] - o2[LANES:])
        rh, ro = torch.tanh(h), torch.tanh(o)
        self._u.addmm_(self._x.T, dh, alpha=-RATE)
        self._b.sub_(dh.sum(0), alpha=RATE)
        self._w.addmm_(dh.T, ro, alpha=-RATE).addmm_(rh.T, do, alpha=-RATE)
        self._c.sub_(do.sum(0), alpha=RATE)
        return (o - self._y).square().sum()

    def _step(
        self, h: torch.Tensor, o: torch.Tensor, drive: torch.Tensor, x: torch.Tensor, force: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rh, ro = torch.tanh(h), torch.tanh(o)
        into = drive if self._keep else torch.addmm(self._b, x, self._u)
        to_h, to_o = torch.addmm(into, ro, self._w.T), torch.addmm(self._c, rh, self._w)
        if force is not None:
            to_o += force
        return h.lerp_(to_h, EPS), o.lerp_(to_o, EPS)
