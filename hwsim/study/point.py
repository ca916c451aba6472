"""Where a study measures: a programmed device in front of a fixed batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Device
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, Phase, Plan, Relaxation, Rest
from hwsim.contracts.rule import Estimate, LearningRule
from hwsim.contracts.task import Batch, Task
from hwsim.diagnostics import Equilibrium, find_equilibrium, residual, spectral_radius
from hwsim.reference import bptt_along, transpose_gradient

LONG = 20
"""The relaxation from which the equilibrium is refined takes this many horizons."""
RADIUS_SAMPLES = 32
"""Samples of the batch on which the spectral radius is taken."""


@final
@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Parameters on a device, and all that is asked about them.

    Gradients are those of the analog blocks alone: the readout learns by the same delta rule under every rule, and its
    agreement would hide the disagreement of the others. Judges differentiate `device.model`.

    Args:
        device: its own, programmed with `theta`; capabilities `model` and `record`.
        task: what is learned.
        theta: what the device read back, `readout.*` included.
        batch: samples, B of them.
        noise: address of everything random here.
    """

    device: Device
    task: Task
    theta: Parameters
    batch: Batch
    noise: NoisePath

    @staticmethod
    def programmed(device: Device, task: Task, theta: Parameters, batch: Batch, noise: NoisePath) -> OperatingPoint:
        """Program `device` and stand there."""
        return OperatingPoint(device=device, task=task, theta=device.program(theta), batch=batch, noise=noise)

    @property
    def step_size(self) -> float:
        """eps."""
        return self.device.spec.step_size

    @property
    def horizon(self) -> int:
        """T."""
        return self.device.spec.horizon

    def settle(
        self, *phases: Phase, batch: Batch | None = None, noise: NoisePath | None = None
    ) -> tuple[Relaxation, ...]:
        """Settle as deployed. Under `Carry` every lane first sees the sample before its own, from rest."""
        batch, noise = self.batch if batch is None else batch, self.noise if noise is None else noise
        start = self.device.spec.start
        if isinstance(start, Carry):
            before = Plan(
                inputs=np.roll(batch.inputs, 1, axis=0),
                ids=batch.ids,
                start=Rest(),
                phases=(Phase(steps=self.horizon),),
            )
            self.device.relax(before, noise=noise.repeated(1))
        return self.device.relax(Plan(inputs=batch.inputs, ids=batch.ids, start=start, phases=phases), noise=noise)

    def deployed(self, batch: Batch | None = None, noise: NoisePath | None = None) -> Relaxation:
        """The T deployed steps, every one recorded."""
        return self.settle(Phase(steps=self.horizon, record=1), batch=batch, noise=noise)[0]

    @cached_property
    def free(self) -> Relaxation:
        """The T deployed steps of this batch under this noise, every one recorded."""
        return self.deployed()

    def estimate(
        self,
        rule: LearningRule,
        *,
        free: Relaxation | None = None,
        batch: Batch | None = None,
        noise: NoisePath | None = None,
    ) -> Estimate:
        """What a rule says, after the free phase of this point unless another is given."""
        return rule.estimate(
            self.device,
            self.theta,
            self.batch if batch is None else batch,
            self.task,
            self.free if free is None else free,
            self.noise if noise is None else noise,
        )

    def bptt(self, states: Float[Array, "T1 B N"], batch: Batch | None = None) -> Parameters:
        """The exact gradient of the deployed loss along recorded states, for a horizon of as many steps."""
        batch = self.batch if batch is None else batch
        return bptt_along(self.device.model, self.theta, batch, self.task, states, self.step_size).analog

    def transpose(self, z: Float[Array, "B N"], steps: int | None = None) -> Parameters:
        """The transpose relaxation at z after `steps` steps, or its limit."""
        model = self.device.model
        return transpose_gradient(
            model, self.theta, self.batch, self.task, z, step_size=self.step_size, steps=steps
        ).analog

    def residual(self, z: Float[Array, "B N"]) -> float:
        """|F| at z: rms over units, mean over samples; state units per time constant."""
        return float(np.mean(residual(self.device.model, self.theta, self.batch.inputs, z)))

    def loss(self, z: Float[Array, "B N"]) -> float:
        """L at z, task units."""
        return float(self.task.loss(z, self.batch.targets, self.theta))

    @cached_property
    def equilibrium(self) -> Equilibrium:
        """z* of the first `RADIUS_SAMPLES` samples, refined from where 20 T steps lead."""
        (settled,) = self.settle(Phase(steps=LONG * self.horizon), batch=self._few)
        return find_equilibrium(self.device.model, self.theta, self._few.inputs, settled.final)

    @cached_property
    def radius(self) -> tuple[float, float]:
        """Spectral radius of 1 + eps J at the refined equilibrium: mean and largest over `RADIUS_SAMPLES` samples.

        Samples on which none was found count with the last iterate, as in the verdict; see `converged`.
        """
        model, z = self.device.model, self.equilibrium.z
        radius = spectral_radius(model, self.theta, self._few.inputs, z, self.step_size)
        return float(np.mean(radius)), float(np.max(radius))

    @property
    def converged(self) -> float:
        """The fraction of those samples on which an equilibrium was found."""
        return float(np.mean(self.equilibrium.converged))

    @property
    def _few(self) -> Batch:
        return self.batch.take(slice(RADIUS_SAMPLES))
