"""Equilibrium propagation: the gradient of the equilibrium loss from nudged settlings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.arrays import namespace
from hwsim.contracts.device import Device
from hwsim.contracts.ladder import Ladder
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task, judge

from .adjoints import nudging_ladder
from .checks import positive
from .contrast import Centered, Contrast
from .probes import Corrected, Form, Probe, Stimulus, VectorField
from .stopping import Settling


@final
@dataclass(frozen=True, kw_only=True)
class EquilibriumPropagation(LearningRule):
    """Equilibrium propagation, `g = L_theta + credit(a, z_T)`, centered unless another contrast is told:

        a = (z_{+} - z_{-}) / (2 beta),      z_{+-}: settle t2 steps from z_T under a force +- beta c,  c = dL/dz(z_T)

    (the force here is +beta c, so that a -> -J^-T c is the adjoint itself). It estimates the gradient of `L(z*)`, not
    of the deployed `L(z_T)`. beta differs per sample: `beta = nudge / |c|`, so that every nudge has the same length.

        probe           with the centered contrast this is
        Corrected()     centered asymmetric EP, any couplings
        Natural()       EP on reciprocal couplings, through their metric
        Transposed()    dyadic EP: exact at any nudge
        VectorField()   vector-field EP: biased where J is not symmetric

    `contrast=Contour(count=n)` makes it holomorphic EP (with `Natural`) or holomorphic asymmetric EP (`Corrected`).

    Args:
        nudge: length of the nudging force of one sample, state units per time constant. The bias of a nonlinear probe
            is that of the contrast: O(nudge^2) centered, O(nudge) one-sided, O(nudge^n) on a contour of n points. The
            noise in `a` falls as 1 / nudge.
        steps: t2, nudged Euler steps; T of the device where None; `Settling(...)` goes on until a has settled.
        probe: road to the transposed response.
        contrast: which multiples of the nudge run, and how the response is read.

    With `Settling` the diagnostics hold `nudged_steps`, their mean over samples, and `adjoint_residual`, the largest
    relative residual left (see `Settling`).

    Sources: Scellier and Bengio, arXiv:1602.05179; centered and random sign: Laborieux et al., arXiv:2006.03824;
    holomorphic: arXiv:2209.00530; vector field: arXiv:1808.04873; asymmetric and dyadic: arXiv:2602.03670. Cost on top
    of the free phase: for each sample as many settles of t2 steps as the contrast has runs.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    nudge: float = 1.0
    steps: int | Settling | None = None
    probe: Probe = Corrected()
    contrast: Contrast = Centered()

    def __post_init__(self) -> None:
        positive(self, "nudge", self.nudge)
        if self.steps is not None and not isinstance(self.steps, Settling):
            positive(self, "steps", self.steps)

    @property
    def needs(self) -> Needs:
        stop = self.steps.needs if isinstance(self.steps, Settling) else Needs()
        return self.probe.needs | self.contrast.needs | stop | Needs(final_loss=True)

    @property
    def ladder(self) -> Ladder:
        return nudging_ladder(
            steps=self.steps,
            transposed=not isinstance(self.probe, VectorField),
            finite="finite nudge",
            advice="nudge less (nudge=...), or read from more points (Contour(...)); dyadic EP has no such error",
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        z, judged = free.final, judge(task, free, batch, theta, device.spec.horizon)
        nudge = Stimulus(
            signal=judged.final,
            form=Form.NUDGE,
            amplitude=self.nudge,
            steps=device.spec.horizon if self.steps is None else self.steps,
            contrast=self.contrast,
        )
        response = self.probe.respond(device, theta, batch, z, nudge, noise)
        diagnostics = {}
        if response.residual is not None:
            diagnostics["nudged_steps"] = float(np.mean(response.steps))
            diagnostics["adjoint_residual"] = float(namespace(response.residual).max(response.residual))
        return Estimate(
            gradients=device.synapses.credit(response.final, z, batch.inputs, theta) | judged.readout,
            loss=judged.loss,
            cost=response.cost,
            diagnostics=diagnostics,
        )
