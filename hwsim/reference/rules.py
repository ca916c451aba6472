"""The references as rules, so that a trainer can run them beside the local ones. Never a way to train hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task, judge

from .gradients import bptt_along, equilibrium_adjoint
from .place import Place


@final
@dataclass(frozen=True)
class BPTT(LearningRule):
    """The gradient of the deployed loss along the trajectory that the device took (see `bptt_along`).

    Args:
        place: where it is computed.
    """

    kind: ClassVar[Kind] = Kind.REFERENCE

    place: Place = Place()

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.MODEL}), record=1)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        return Estimate(
            gradients=bptt_along(
                device.model, theta, batch, task, free.recorded, device.spec.step_size, place=self.place
            ),
            loss=judge(task, free, batch, theta, device.spec.horizon).loss,
        )


@final
@dataclass(frozen=True)
class EquilibriumAdjoint(LearningRule):
    """The gradient of the equilibrium loss `L(z*)`, z* refined from z_T (see `equilibrium_adjoint`).

    The diagnostics hold `certified`, the fraction of samples with a certificate. A sample without one is still used:
    leaving it out would be a remedy, and this is the judge.

    Args:
        place: where it is computed.
    """

    kind: ClassVar[Kind] = Kind.REFERENCE

    place: Place = Place()

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.MODEL}), final_loss=True)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        found = equilibrium_adjoint(device.model, theta, batch, task, free.final, place=self.place)
        return Estimate(
            gradients=found.gradients,
            loss=float(task.loss(free.final, batch.targets, theta)),
            diagnostics={"certified": float(np.mean(found.certified)), "loss_equilibrium": found.loss},
        )
