"""Finite-horizon equilibrium propagation: the deployed loss's gradient from a kick and a recorded transient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from hwsim.contracts.arrays import namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task

from .checks import positive
from .probes import Form, Probe, Stimulus, Transposed


@final
@dataclass(frozen=True, kw_only=True)
class FiniteHorizonEP(LearningRule):
    """A kick response, played backwards against the recorded free transient:

        h_0 = c = dL/dz(z_T),   h_{j+1} = D(z_T)^T h_j,   D = 1 + eps J
        g   = L_theta + eps sum_{k=0}^{T-1} credit(h_{T-1-k}, z_k)

    This estimates the gradient of the deployed `L(z_T)`. It is exact where J is constant along the trajectory (linear
    substrates) and first order in the change of J otherwise. Memory: T states per unit, none per synapse.

    Args:
        kick: length of the kick of one sample, state units. Without noise a linear probe is exact at any length; the
            noise in h falls as 1 / kick.
        probe: road to the transposed response.

    Source: this project; the exact gradient that it approximates is BPTT's product of Jacobians with every factor taken
    at z_T. Cost on top of the recorded free phase: 2 settles of T - 1 recorded steps per sample.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    kick: float = 1.0
    probe: Probe = Transposed()

    def __post_init__(self) -> None:
        positive(self, "kick", self.kick)

    @property
    def needs(self) -> Needs:
        return self.probe.needs | Needs(capabilities=frozenset({Capability.DISPLACE}), record=1, final_loss=True)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        z = free.final
        transient = free.recorded[:-1]
        kick = Stimulus(
            signal=task.signal(z, batch.targets, theta),
            form=Form.KICK,
            amplitude=self.kick,
            steps=len(transient) - 1,
            record=1,
        )
        response = self.probe.respond(device, theta, batch, z, kick, noise)
        backwards = namespace(z).flip(response.states, axis=0)
        gradients = device.synapses.credit(device.spec.step_size * backwards, transient, batch.inputs, theta)
        return Estimate(
            gradients=gradients | task.readout_credit(z, batch.targets, theta),
            loss=float(task.loss(z, batch.targets, theta)),
            cost=response.cost,
        )
