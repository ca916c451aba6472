"""One evaluation of what has been learned: the deployed loss, and why it is what it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from hwsim.contracts.device import Device
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import Carry, Phase, Plan, Relaxation, Rest
from hwsim.contracts.rule import LearningRule
from hwsim.contracts.task import Batch, Task, judge, only_final
from hwsim.diagnostics import residual, spectral_radius
from hwsim.reference import Place, bptt_along, equilibrium_adjoint, find_equilibrium_at, transpose_gradient
from hwsim.tasks import Classification

from .record import Metrics

LONG = 20
"""The long relaxation takes this many horizons."""


@final
@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Measures parameters on the task's fixed validation batch, on a device of its own.

    Args:
        device: a simulator like the one that is trained, with the same imperfections (capability `model`).
        task: the task.
        rule: the rule whose gradient is compared with the references, without regularisers: they estimate another
            objective's gradient.
        noise: the address at which every evaluation happens, so that they differ in the parameters alone.
        gradient_samples: samples of the validation batch on which gradients are compared.
        radius_samples: samples on which the spectral radius is taken.
        place: where the references are computed.
    """

    device: Device
    task: Task
    rule: LearningRule
    noise: NoisePath
    gradient_samples: int = 256
    radius_samples: int = 32
    place: Place = Place()

    def __call__(self, theta: Parameters) -> Metrics:
        """All figures at `theta`. Cost: a relaxation of 20 T over the validation batch, and a few gradients."""
        device, task, batch = self.device, self.task, self.task.validation
        held = device.program(theta)
        horizon = device.spec.horizon
        record = 0 if only_final(task.weights(horizon)) else 1
        first = Phase(steps=horizon, record=record)
        deployed, settled = self._settle(batch, (first, Phase(steps=(LONG - 1) * horizon)))
        # a diverged network gives figures that are not finite, which is what is to be recorded
        with np.errstate(all="ignore"):
            return Metrics(
                loss_deployed=judge(task, deployed, batch, held, horizon).loss,
                loss_long=float(task.loss(settled.final, batch.targets, held)),
                residual_deployed=self._residual(held, batch, deployed),
                residual_long=self._residual(held, batch, settled),
                accuracy=self._accuracy(held, batch, deployed),
                **self._radius(held, batch, settled),
                **self._gradients(held, batch.take(slice(self.gradient_samples))),
            )

    def _settle(self, batch: Batch, phases: tuple[Phase, ...]) -> tuple[Relaxation, ...]:
        """Settle as deployed. Under `Carry` every lane first sees the sample before its own, from rest."""
        start = self.device.spec.start
        if isinstance(start, Carry):
            before = Phase(steps=self.device.spec.horizon)
            previous = Plan(inputs=np.roll(batch.inputs, 1, axis=0), ids=batch.ids, start=Rest(), phases=(before,))
            self.device.relax(previous, noise=self.noise.repeated(1))
        plan = Plan(inputs=batch.inputs, ids=batch.ids, start=start, phases=phases)
        return self.device.relax(plan, noise=self.noise)

    def _residual(self, held: Parameters, batch: Batch, relaxation: Relaxation) -> float:
        return float(np.mean(residual(self.device.model, held, batch.inputs, relaxation.final)))

    def _accuracy(self, held: Parameters, batch: Batch, deployed: Relaxation) -> float:
        if not isinstance(self.task, Classification):
            return math.nan
        return self.task.accuracy(deployed.final, batch.targets, held)

    def _radius(self, held: Parameters, batch: Batch, settled: Relaxation) -> dict[str, float]:
        few = slice(self.radius_samples)
        model, x = self.device.model, batch.inputs[few]
        equilibrium = find_equilibrium_at(self.place, model, held, x, settled.final[few])
        radius = spectral_radius(model, held, x, equilibrium.z, self.device.spec.step_size)
        return {"rho_mean": float(np.mean(radius)), "rho_max": float(np.max(radius))}

    def _gradients(self, held: Parameters, batch: Batch) -> dict[str, float]:
        """Cosines over the analog blocks alone: the readout learns by the same delta rule under every method."""
        device, task, model, place = self.device, self.task, self.device.model, self.place
        step_size = device.spec.step_size
        (free,) = self._settle(batch, (Phase(steps=device.spec.horizon, record=1),))
        estimate = self.rule.estimate(device, held, batch, task, free, self.noise).gradients.analog
        deployed = bptt_along(model, held, batch, task, free.recorded, step_size, place=place).analog
        z = free.final
        transposed = transpose_gradient(model, held, batch, task, z, step_size=step_size, place=place).analog
        adjoint = equilibrium_adjoint(model, held, batch, task, z, place=place)
        return {
            "adjoint_certificate": float(np.mean(adjoint.certified)),
            "cosine_to_bptt": cosine(estimate, deployed),
            "cosine_to_transpose": cosine(estimate, transposed),
        }
