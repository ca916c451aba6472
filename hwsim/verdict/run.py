"""One run of the verdict: train one method from one seed, evaluate as it goes, save as it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hwsim.contracts.device import DeviceSpec
from hwsim.contracts.parameters import Parameters
from hwsim.training import Trainer, TrainingState, load_state, save_state

from .document import run_document, run_from
from .evaluation import Evaluator
from .record import KINDS, MethodRun, Metrics, UpdateCost

Report = Callable[[int, float, float], None]
"""Told (step, last deployed loss, last mean rho) after every step."""


def run_method(
    run: MethodRun,
    *,
    trainer: Trainer,
    evaluator: Evaluator,
    begin: Callable[[], Parameters],
    steps: int,
    every: int,
    checkpoint: Path,
    resume: bool,
    report: Report = lambda step, loss, rho: None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[MethodRun, bool]:
    """Train for `steps` updates; evaluate at 0, `every`, 2 `every`, ... and at the end.

    A run diverges at the first evaluation whose deployed loss is not finite, or lies above chance after having been
    below it; it goes on (the blow-up is part of the picture) until a gradient is not finite.

    Args:
        run: the empty record, with method and seed.
        trainer: what advances.
        evaluator: what measures.
        begin: gives the initial parameters; asked only where nothing is saved, since they may take long to make.
        steps: updates in all.
        every: updates between two evaluations.
        checkpoint: file that holds the run; written at every evaluation and when stopped.
        resume: go on from `checkpoint` where it exists.
        report: called after every update.
        stopped: asked after every update; when true the run is saved and left.

    Returns:
        The record, and whether it is finished.

    Raises:
        ResumeError: the checkpoint cannot be read.
        OSError: the checkpoint cannot be written.
    """
    began = time.monotonic()
    run = replace(run, kind=KINDS[trainer.rule.kind])
    if resume and checkpoint.exists():
        state, notes = load_state(checkpoint)
        run = run_from(notes, str(checkpoint))
        state = trainer.resume(state)
    else:
        state = trainer.start(begin())
    earlier = run.seconds

    def save() -> None:
        save_state(checkpoint, state, run_document(run))

    def loss_and_rho() -> tuple[float, float]:
        return (run.loss_deployed[-1], run.rho_mean[-1]) if run.step else (math.nan, math.nan)

    while True:
        due = state.step % every == 0 or state.step == steps or state.diverged
        if due and (not run.step or run.step[-1] < state.step):
            run = _evaluated(run, state, evaluator(state.theta), evaluator.task.chance)
            run = replace(run, update=_update(state, trainer.device.spec))
            run = replace(run, seconds=earlier + time.monotonic() - began)
            save()
        if state.diverged and run.diverged_at is None:
            run = replace(run, diverged_at=state.step)
            save()
        report(state.step, *loss_and_rho())
        if state.diverged or state.step >= steps:
            return run, True
        if stopped():
            run = replace(run, seconds=earlier + time.monotonic() - began)
            save()
            return run, False
        state, _ = trainer.advance(state)


def _evaluated(run: MethodRun, state: TrainingState, metrics: Metrics, chance: float) -> MethodRun:
    learned = any(loss < chance for loss in run.loss_deployed)
    lost = not math.isfinite(metrics.loss_deployed) or (learned and metrics.loss_deployed > chance)
    run = run.append(state.step, metrics)
    return replace(run, diverged_at=state.step) if lost and run.diverged_at is None else run


def _update(state: TrainingState, spec: DeviceSpec) -> UpdateCost | None:
    """What one update took, the mean over all that were tried; None before the first."""
    tried = state.step + state.diverged
    if not tried:
        return None
    cost, joules = state.cost, state.cost.joules(spec)
    return UpdateCost(
        settles=cost.settles / tried,
        steps=cost.steps / tried,
        reads=cost.reads / tried,
        writes=cost.writes / tried,
        seconds=cost.seconds(spec) / tried,
        joules=None if joules is None else joules / tried,
    )
