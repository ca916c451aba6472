"""Finite-horizon equilibrium propagation: the deployed loss's gradient from a kick and a recorded transient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.ladder import Ideal, Ladder, Snapshot
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task, judge

from .checks import positive
from .contrast import Centered, Contrast
from .playback import kicks_along, recalled, swept
from .probes import Form, Probe, Stimulus, Transposed, VectorField
from .transient import Transient, Whole


@final
@dataclass(frozen=True, kw_only=True)
class FiniteHorizonEP(LearningRule):
    """A kick response, played backwards against the recorded free transient:

        h_0 = w_T c_T,    h_{j+1} = D(z_T)^T h_j + w_k c_k at k = T - 1 - j,    D = 1 + eps J,  c_k = dL/dz(z_k)
        g   = L_theta + eps sum_{k=0}^{T-1} credit(h_{T-1-k}, z_k)

    with the task's weights w. Where the task looks at z_T alone, h is the response to the one kick c; where it looks
    along the way, further kicks follow as a force (capability `waveform`).

    This estimates the gradient of the deployed loss. It is exact where J is constant along the trajectory (linear
    substrates) and first order in the change of J otherwise. Couplings driven backwards (`Transposed`) hold J at z_T;
    on the network's own dynamics (`Corrected`, `Natural`) a network that has not settled moves on while it is probed,
    and J with it. Memory: T states per unit, none per synapse, or what
    `transient` makes of them.

    Args:
        kick: length of the longest kick of one sample, state units. Without noise a linear probe is exact at any
            length; the noise in h falls as 1 / kick.
        probe: road to the transposed response.
        contrast: which multiples of the kick run, and how the response is read from them.
        transient: what a unit keeps of z_0 .. z_T, and of the response.

    Source: this project; the exact gradient that it approximates is BPTT's product of Jacobians with every factor taken
    at z_T. Cost on top of the recorded free phase: a settle of T - 1 recorded steps per sample for each run of the
    contrast, 2 of them centered.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    kick: float = 1.0
    probe: Probe = Transposed()
    contrast: Contrast = Centered()
    transient: Transient = Whole()

    def __post_init__(self) -> None:
        positive(self, "kick", self.kick)

    @property
    def needs(self) -> Needs:
        recorded = Needs(capabilities=frozenset({Capability.DISPLACE, Capability.RECORD}))
        return self.probe.needs | self.contrast.needs | self.transient.needs | recorded

    @property
    def ladder(self) -> Ladder:
        frozen = Ideal(
            name="Jacobian frozen at z_T",
            advice="settle longer, drive less far into the nonlinearity, or play the gains back (AdjointPlayback)",
            gradient=lambda snapshot: swept(snapshot, gains=_held(snapshot), states=snapshot.states),
        )
        remembered = Ideal(
            name="what the units remember of the transient",
            advice="keep more of the transient (transient=Whole(), records closer together, more traces)",
            gradient=lambda snapshot: swept(
                snapshot, gains=_held(snapshot), states=recalled(self.transient, snapshot), transient=self.transient
            ),
        )
        forwards = Ideal(
            name="J in place of its transpose",
            advice="another road: probe=Transposed() or Corrected(), or Natural() on reciprocal couplings",
            gradient=lambda snapshot: swept(
                snapshot,
                gains=_held(snapshot),
                states=recalled(self.transient, snapshot),
                transient=self.transient,
                forwards=True,
            ),
        )
        ideals = (frozen,) if isinstance(self.transient, Whole) else (frozen, remembered)
        return Ladder(
            ideals=(*ideals, forwards) if isinstance(self.probe, VectorField) else ideals,
            finite="finite kick" if self.probe.backwards else "finite kick, of a network that moves on",
            advice="a smaller kick, or probe=Transposed(), which is linear",
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        steps, eps = device.spec.horizon, device.spec.step_size
        judged = judge(task, free, batch, theta, steps)
        states = self.transient.recall(free.recorded, free.final, steps=steps, step_size=eps)
        kick = Stimulus(
            signal=judged.final,
            form=Form.KICK,
            amplitude=self.kick,
            steps=steps - 1,
            record=self.transient.every,
            earlier=kicks_along(judged),
            contrast=self.contrast,
        )
        response = self.probe.respond(device, theta, batch, free.final, kick, noise)
        h = self.transient.respond(response.states, response.final, steps=steps - 1)
        backwards = eps * namespace(h).flip(h, axis=0)
        gradients = device.synapses.credit(backwards, states[:-1], batch.inputs, theta)
        return Estimate(gradients=gradients | judged.readout, loss=judged.loss, cost=response.cost)


def _held(snapshot: Snapshot) -> Array:
    """z_T at every step."""
    xp = namespace(snapshot.states)
    return xp.broadcast_to(snapshot.states[-1], snapshot.states.shape)
