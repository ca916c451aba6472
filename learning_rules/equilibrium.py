"""Equilibrium propagation: the gradient of the equilibrium loss from nudged settlings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from hwsim.contracts.device import Device
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task

from .checks import positive
from .probes import Corrected, Form, Probe, Stimulus


@final
@dataclass(frozen=True, kw_only=True)
class EquilibriumPropagation(LearningRule):
    """Centered equilibrium propagation, `g = L_theta + credit(a, z_T)`, with

        a = (z_{+} - z_{-}) / (2 beta),      z_{+-}: settle t2 steps from z_T under a force +- beta c,  c = dL/dz(z_T)

    (the force here is +beta c, so that a -> -J^-T c is the adjoint itself). It estimates the gradient of `L(z*)`, not
    of the deployed `L(z_T)`. beta differs per sample: `beta = nudge / |c|`, so that every nudge has the same length.
    With `probe=Corrected()` this is centered asymmetric EP, with `Natural()` EP on symmetric couplings, and with
    `Transposed()` dyadic EP.

    Args:
        nudge: length of the nudging force of one sample, state units per time constant. Bias O(nudge^2) where the probe
            is nonlinear; the noise in `a` falls as 1 / nudge.
        steps: t2, nudged Euler steps; T of the device where None.
        probe: road to the transposed response.

    Sources: Scellier and Bengio, arXiv:1602.05179; centered: Laborieux et al., arXiv:2006.03824; asymmetric and dyadic:
    arXiv:2602.03670. Cost on top of the free phase: 2 settles of t2 steps per sample.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    nudge: float = 1.0
    steps: int | None = None
    probe: Probe = Corrected()

    def __post_init__(self) -> None:
        positive(self, "nudge", self.nudge)
        if self.steps is not None:
            positive(self, "steps", self.steps)

    @property
    def needs(self) -> Needs:
        return self.probe.needs | Needs(final_loss=True)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        z = free.final
        nudge = Stimulus(
            signal=task.signal(z, batch.targets, theta),
            form=Form.NUDGE,
            amplitude=self.nudge,
            steps=device.spec.horizon if self.steps is None else self.steps,
        )
        response = self.probe.respond(device, theta, batch, z, nudge, noise)
        gradients = device.synapses.credit(response.final, z, batch.inputs, theta)
        return Estimate(
            gradients=gradients | task.readout_credit(z, batch.targets, theta),
            loss=float(task.loss(z, batch.targets, theta)),
            cost=response.cost,
        )
