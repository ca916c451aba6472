"""One training step of every method, in units of one free relaxation measured in the same turns."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hwsim import (
    Adam,
    ContractionHomeostat,
    Digits,
    EquilibriumPropagation,
    FiniteHorizonEP,
    LeakyNetwork,
    LearningRule,
    NextCharacter,
    NoisePath,
    Phase,
    Plan,
    SimulatedDevice,
    ThermalNoise,
    Trainer,
)
from hwsim.contracts.threads import one_blas_thread
from hwsim.reference import BPTT, EquilibriumAdjoint
from hwsim.tasks import Classification, python_documentation

from .figures import Answer, Bar, Sheet, milliseconds, times
from .job import GAIN, NOISE, SEED, STEP_SIZE
from .timing import Contender, Ratio, Timing, interleaved

UNITS, LANES, STEPS = 64, 64, 30
GROWTH, GROWTH_FULL = (16, 64, 256), (16, 64, 256, 1024)
"""N over which the cost of a step is followed."""
DIRECT = 64
"""N up to which the equilibrium adjoint, which factorises J of every sample, is timed."""
BUDGET = 12.0
"""Seconds for the rounds of one N."""
WARMUP = 20
"""Updates before the clock starts, so that the step timed is one of a run and not its first."""
LONGEST = 10.0
"""Free relaxations that a barred training step may take."""

FREE = "free relaxation"
RULES: dict[str, LearningRule] = {
    "BPTT": BPTT(),
    "EP": EquilibriumPropagation(),
    "finite-horizon EP": FiniteHorizonEP(),
    "EP + homeostat": EquilibriumPropagation() + 10.0 * ContractionHomeostat(),
    "equilibrium adjoint": EquilibriumAdjoint(),
}
BARRED = ("finite-horizon EP", "EP + homeostat")

TASKS: dict[str, Callable[[], Classification]] = {
    "digits": lambda: Digits(units=UNITS),
    "text": lambda: NextCharacter(text=python_documentation(), units=UNITS),
}


def measure(rounds: int, *, dtype: str = "float32", sigma: float = NOISE) -> Answer:
    """Time `Trainer.advance` for every rule on 64 dense inputs (digits) and on one-hot inputs (text)."""
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    sheet = _sheet(dtype, sigma)
    for name, make in TASKS.items():
        task = make()
        timings = interleaved(contenders(task, dtype, sigma), rounds)
        for rule, timing in timings.items():
            units = timing.over(timings[FREE])
            cells = (times(units.wall), times(units.minima), times(units.cpu))
            sheet.add(f"{name}, {task.inputs} inputs", rule, milliseconds(timing), *cells)
            rows.append(_row(name, task.inputs, rule, timing, units))
            if rule in BARRED:
                bars += _bars(f"{rule}, {task.inputs} inputs", units)
    return Answer(rows=rows, sheets=[sheet], bars=bars)


def growth(rounds: int, *, full: bool = False, dtype: str = "float32", sigma: float = NOISE) -> Answer:
    """Every rule's step on digits in units of one free relaxation, from N = 16 on, and how it grows with N."""
    sizes = GROWTH_FULL if full else GROWTH
    timings = {}
    for units in sizes:
        print(f"  N = {units}", file=sys.stderr, flush=True)
        task = Digits(units=units)
        rules = {name: rule for name, rule in RULES.items() if units <= DIRECT or name != "equilibrium adjoint"}
        timings[units] = interleaved(contenders(task, dtype, sigma, rules), rounds, budget=BUDGET)
    sheet = Sheet(
        f"Training step against N, free relaxations by minima: B = {LANES}, T = {STEPS}, {dtype}, digits, one thread",
        f"growth: p of time ~ N^p, fitted over the two largest N. {FREE}: ms.",
        *("step of", *(f"N = {units}" for units in sizes), "growth"),
    )
    rows = []
    for name in (FREE, *RULES):
        own = {units: found[name].minimum for units, found in timings.items() if name in found}
        cells = {
            units: times(own[units] / timings[units][FREE].minimum) if name != FREE else f"{1e3 * own[units]:.3g} ms"
            for units in own
        }
        exponent = growth_exponent(own)
        sheet.add(name, *(cells.get(units, "") for units in sizes), "" if exponent is None else f"{exponent:.2f}")
        rows.append({"step_of": name, "minimum_s": {str(units): one for units, one in own.items()}, "growth": exponent})
    return Answer(rows=rows, sheets=[sheet])


def growth_exponent(seconds: dict[int, float]) -> float | None:
    """p of seconds ~ N^p between the two largest N; None for fewer than two."""
    if len(seconds) < 2:
        return None
    (small, before), (large, after) = sorted(seconds.items())[-2:]
    return math.log(after / before) / math.log(large / small)


def contenders(
    task: Classification, dtype: str, sigma: float, rules: Mapping[str, LearningRule] = RULES
) -> dict[str, Contender]:
    """The free relaxation and every rule's step, all under one BLAS thread, as the trainer has it."""
    found = {FREE: Contender(call=_relaxation(task, dtype, sigma), settings=one_blas_thread)}
    for name, rule in rules.items():
        found[name] = Contender(call=step_of(rule, task, dtype, sigma), settings=one_blas_thread)
    return found


def step_of(rule: LearningRule, task: Classification, dtype: str, sigma: float) -> Callable[[], object]:
    """One `Trainer.advance` from the state that `WARMUP` of them reach, always the same one."""
    network = LeakyNetwork.dense(task.units, task.inputs)
    trainer = Trainer(
        device=_device(network, dtype, sigma),
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=3e-3),
        batch_size=LANES,
        seed=SEED,
        noise=NoisePath(seed=SEED),
    )
    analog = network.initial(SEED, gain=GAIN, input_gain=1.0)
    state = trainer.start(analog | task.initial_readout(SEED, gain=1.0))
    for _ in range(WARMUP):
        state, _ = trainer.advance(state)
    if state.diverged:
        raise RuntimeError(f"{rule} diverged in the warm-up: its step would not be a whole one")
    return lambda: trainer.advance(state)


def _relaxation(task: Classification, dtype: str, sigma: float) -> Callable[[], object]:
    network = LeakyNetwork.dense(task.units, task.inputs)
    device = _device(network, dtype, sigma)
    device.program(network.initial(SEED, gain=GAIN, input_gain=1.0))
    batch = task.training_batch(0, LANES, SEED)
    plan = Plan(inputs=batch.inputs, ids=batch.ids, phases=(Phase(steps=STEPS),))
    return lambda: device.relax(plan, noise=NoisePath(seed=SEED))


def _device(network: LeakyNetwork, dtype: str, sigma: float) -> SimulatedDevice:
    return SimulatedDevice(
        network,
        horizon=STEPS,
        step_size=STEP_SIZE,
        imperfections=[ThermalNoise(sigma)] if sigma else [],
        dtype=np.dtype(dtype).type,
    )


def _sheet(dtype: str, sigma: float) -> Sheet:
    return Sheet(
        f"Training step: N = {UNITS}, B = {LANES}, T = {STEPS}, {dtype}, noise {'on' if sigma else 'off'}, one thread",
        "In units of one free relaxation timed in the same rounds: by medians and minima of wall times, by CPU time.",
        *("task", "step of", "ms, median (minimum)", "in free relaxations", "by minima", "by CPU time"),
    )


def _row(task: str, inputs: int, rule: str, timing: Timing, units: Ratio) -> dict[str, Any]:
    return {
        "task": task,
        "inputs": inputs,
        "step_of": rule,
        **timing.to_json(),
        "free_relaxations": asdict(units),
    }


def _bars(name: str, units: Ratio) -> list[Bar]:
    return [
        Bar(name=f"step of {name}, {how}", figure=figure, limit=LONGEST, unit="free relaxations")
        for how, figure in asdict(units).items()
    ]
