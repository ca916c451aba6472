"""One evaluation of what has been learned: the deployed loss, and why it is what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from hwsim.contracts.device import Device
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import Carry, Phase, Plan, Relaxation, Rest
from hwsim.contracts.rule import LearningRule
from hwsim.contracts.task import Batch, Task
from hwsim.diagnostics import find_equilibrium, residual, spectral_radius
from hwsim.reference import bptt_along, equilibrium_adjoint, transpose_gradient

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
    """

    device: Device
    task: Task
    rule: LearningRule
    noise: NoisePath
    gradient_samples: int = 256
    radius_samples: int = 32

    def __call__(self, theta: Parameters) -> Metrics:
        """All figures at `theta`. Cost: a relaxation of 20 T over the validation batch, and a few gradients."""
        device, task, batch = self.device, self.task, self.task.validation
        held = device.program(theta)
        horizon = device.spec.horizon
        deployed, settled = self._settle(batch, (Phase(steps=horizon), Phase(steps=(LONG - 1) * horizon)))
        # a diverged network gives figures that are not finite, which is what is to be recorded
        with np.errstate(all="ignore"):
            return Metrics(
                loss_deployed=float(task.loss(deployed.final, batch.targets, held)),
                loss_long=float(task.loss(settled.final, batch.targets, held)),
                residual_deployed=self._residual(held, batch, deployed),
                residual_long=self._residual(held, batch, settled),
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

    def _radius(self, held: Parameters, batch: Batch, settled: Relaxation) -> dict[str, float]:
        few = slice(self.radius_samples)
        model, x = self.device.model, batch.inputs[few]
        equilibrium = find_equilibrium(model, held, x, settled.final[few])
        radius = spectral_radius(model, held, x, equilibrium.z, self.device.spec.step_size)
        return {"rho_mean": float(np.mean(radius)), "rho_max": float(np.max(radius))}

    def _gradients(self, held: Parameters, batch: Batch) -> dict[str, float]:
        """Cosines over the analog blocks alone: the readout learns by the same delta rule under every method."""
        device, task, model = self.device, self.task, self.device.model
        step_size = device.spec.step_size
        (free,) = self._settle(batch, (Phase(steps=device.spec.horizon, record=1),))
        estimate = self.rule.estimate(device, held, batch, task, free, self.noise).gradients.analog
        deployed = bptt_along(model, held, batch, task, free.recorded, step_size).analog
        transposed = transpose_gradient(model, held, batch, task, free.final, step_size=step_size).analog
        adjoint = equilibrium_adjoint(model, held, batch, task, free.final)
        return {
            "adjoint_certificate": float(np.mean(adjoint.certified)),
            "cosine_to_bptt": cosine(estimate, deployed),
            "cosine_to_transpose": cosine(estimate, transposed),
        }
