"""The training loop as a pure step on a state that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Device
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Estimate, LearningRule, require, settle_free
from hwsim.contracts.task import Task
from hwsim.contracts.threads import one_blas_thread

from .optimiser import Adam, AdamState
from .writing import Reprogram, Writer, require_writer


@final
@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that a run needs to go on bit for bit.

    Args:
        step: updates done.
        theta: the shadow copy of the parameters (float64).
        moments: the optimiser's.
        device: the device's volatile state, from `Device.save`.
        cost: device time used so far.
        diverged: the last gradient was not finite; theta is the last finite one.
    """

    step: int
    theta: Parameters
    moments: AdamState
    device: Mapping[str, Array]
    cost: Cost = Cost()
    diverged: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class Trainer:
    """inputs -> task -> plan -> relax -> rule -> estimate -> optimiser -> writer, one batch at a time.

    Everything random is a function of (seed, step), so a state is all there is to save.

    Args:
        device: what learns. The rule must be served by it.
        rule: how it learns.
        task: what it learns.
        optimiser: turns gradients into updates of the shadow copy.
        batch_size: samples per update.
        seed: of the order of the samples.
        noise: of the device and the probes; its experiment step is set to the training step.
        writer: how updates reach the device.

    Raises:
        CapabilityError: at construction, where the device cannot serve the rule or the writer, or the task the rule.
    """

    device: Device
    rule: LearningRule
    task: Task
    optimiser: Adam
    batch_size: int
    seed: int
    noise: NoisePath
    writer: Writer = Reprogram()

    def __post_init__(self) -> None:
        require(self.rule, self.device.spec, self.task)
        require_writer(self.writer, self.device.spec)

    def start(self, theta: Parameters) -> TrainingState:
        """A fresh state at these parameters."""
        theta = self.writer.begin(self.device, theta)
        return TrainingState(step=0, theta=theta, moments=self.optimiser.start(theta), device=self.device.save())

    def advance(self, state: TrainingState) -> tuple[TrainingState, Estimate]:
        """One update. A gradient that is not finite ends the run: the state comes back unchanged, marked diverged."""
        batch = self.task.training_batch(state.step, self.batch_size, self.seed)
        noise = self.noise.at_step(state.step)
        # a blow-up is a result of the run, not a floating-point warning
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            held = self.writer.hold(self.device, state.theta)
            free, settled = settle_free(self.device, batch, self.rule.needs, noise)
            estimate = self.rule.estimate(self.device, held, batch, self.task, free, noise)
            wanted, moments = self.optimiser.update(state.theta, estimate.gradients, state.moments)
            theta = self.writer.write(self.device, state.theta, wanted, noise)
        cost = state.cost + settled + estimate.cost + Cost(writes=len(held.analog))
        if not (estimate.gradients.finite() and theta.finite()):
            return replace(state, diverged=True, cost=cost), estimate
        moved = TrainingState(step=state.step + 1, theta=theta, moments=moments, device=self.device.save(), cost=cost)
        return moved, estimate

    def resume(self, state: TrainingState) -> TrainingState:
        """Put the device back where `state` left it."""
        self.device.restore(state.device)
        return state
