"""The training loop as a pure step on a state that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.constraint import Constraint
from hwsim.contracts.device import Device
from hwsim.contracts.errors import InputError, ResumeError
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Estimate, LearningRule, require, settle_free
from hwsim.contracts.task import Task
from hwsim.contracts.threads import one_blas_thread

from .optimiser import AdamState, Optimiser
from .writing import Reprogram, Writer, require_writer


@final
@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that a run needs to go on bit for bit.

    Args:
        step: updates done.
        theta: what is programmed: the shadow copy of the parameters (float64).
        moments: the optimiser's.
        device: the device's volatile state, from `Device.save`.
        cost: device time used so far.
        diverged: the last gradient was not finite; theta is the last finite one.
        free: under a constraint, the free parameters phi that the optimiser moves; theta is then theta(phi).
    """

    step: int
    theta: Parameters
    moments: AdamState
    device: Mapping[str, Array]
    cost: Cost = Cost()
    diverged: bool = False
    free: Parameters | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Trainer:
    """inputs -> task -> plan -> relax -> rule -> estimate -> optimiser -> writer, one batch at a time.

    Everything random is a function of (seed, step), so a state is all there is to save.

    Under a constraint the optimiser moves the free parameters phi, and theta(phi) is programmed. The rule estimates the
    gradient at what the device read back, and it is pulled back at what was asked, `(d theta / d phi)^T` at phi, as if
    both were the same (straight through): an error of first order in what the device holds against what was asked,
    which is also how it is applied without a constraint. The constraint holds for what is asked.

    Args:
        device: what learns. The rule must be served by it.
        rule: how it learns.
        task: what it learns.
        optimiser: turns gradients into updates of the shadow copy.
        batch_size: samples per update.
        seed: of the order of the samples.
        noise: of the device and the probes; its experiment step is set to the training step.
        writer: how updates reach the device.
        constraint: keeps what is programmed in a set; None leaves the parameters free.

    Raises:
        CapabilityError: at construction, where the device cannot serve the rule or the writer, or the task the rule.
        InputError: at construction, a constraint with a writer that keeps no shadow copy.
    """

    device: Device
    rule: LearningRule
    task: Task
    optimiser: Optimiser
    batch_size: int
    seed: int
    noise: NoisePath
    writer: Writer = Reprogram()
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        require(self.rule, self.device.spec, self.task)
        require_writer(self.writer, self.device.spec)
        if self.constraint is not None and not self.writer.shadow:
            raise InputError(
                f"{type(self.constraint).__name__} holds for what is programmed, and {type(self.writer).__name__} "
                "programs no values: train with writer=Reprogram(), or without the constraint"
            )

    def start(self, theta: Parameters) -> TrainingState:
        """A fresh state at these parameters, or at those of the constraint's set that it makes of them."""
        free = None
        if self.constraint is not None:
            free = self.constraint.free(theta)
            theta = self.constraint.theta(free)
        theta = self.writer.begin(self.device, theta)
        moved = theta if free is None else free
        moments = self.optimiser.start(moved)
        return TrainingState(step=0, theta=theta, moments=moments, device=self.device.save(), free=free)

    def advance(self, state: TrainingState) -> tuple[TrainingState, Estimate]:
        """One update. A gradient that is not finite ends the run: the state comes back unchanged, marked diverged.

        Raises:
            ResumeError: the state was made with another constraint, or without one.
        """
        self._check(state)
        batch = self.task.training_batch(state.step, self.batch_size, self.seed)
        noise = self.noise.at_step(state.step)
        # a blow-up is a result of the run, not a floating-point warning
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            held = self.writer.hold(self.device, state.theta)
            free, settled = settle_free(self.device, batch, self.rule.needs, noise)
            estimate = self.rule.estimate(self.device, held, batch, self.task, free, noise)
            phi, wanted, moments = self._moved(state, estimate.gradients)
            theta = self.writer.write(self.device, state.theta, wanted, noise)
        cost = state.cost + settled + estimate.cost + Cost(writes=len(held.analog))
        if not (estimate.gradients.finite() and theta.finite()):
            return replace(state, diverged=True, cost=cost), estimate
        moved = TrainingState(
            step=state.step + 1, theta=theta, moments=moments, device=self.device.save(), cost=cost, free=phi
        )
        return moved, estimate

    def resume(self, state: TrainingState) -> TrainingState:
        """Put the device back where `state` left it.

        Raises:
            ResumeError: the state was made with another constraint, or without one.
        """
        self._check(state)
        if self.constraint is not None and state.free is not None:
            made = self.constraint.theta(state.free)
            apart = made.keys() != state.theta.keys() or (made - state.theta).norm() > 1e-9 * (1.0 + made.norm())
            if apart:
                raise ResumeError(
                    f"this state is not in the set of {self.constraint}: resume it with its own constraint"
                )
        self.device.restore(state.device)
        return state

    def _moved(self, state: TrainingState, gradients: Parameters) -> tuple[Parameters | None, Parameters, AdamState]:
        """One step of the optimiser: phi where there is a constraint, the parameters wanted, the moments."""
        if self.constraint is None or state.free is None:
            return None, *self.optimiser.update(state.theta, gradients, state.moments)
        pulled = self.constraint.pull_back(state.free, gradients)
        phi, moments = self.optimiser.update(state.free, pulled, state.moments)
        # what is not finite has no decomposition: it is handed on for the caller to see that the run has diverged
        return phi, self.constraint.theta(phi) if phi.finite() else state.theta * np.nan, moments

    def _check(self, state: TrainingState) -> None:
        if (self.constraint is None) != (state.free is None):
            found, made = (
                ("no constraint", "with one") if self.constraint is None else (f"{self.constraint}", "without one")
            )
            raise ResumeError(
                f"this trainer has {found}, and the state was made {made}: train with the same constraint"
            )
