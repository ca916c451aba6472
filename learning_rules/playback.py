"""Adjoint playback: the deployed loss's own gradient, from unit gains played backwards while the couplings run back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.ladder import Ideal, Ladder, Snapshot
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan, Relaxation, Rest
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Judged, Task, judge

from .checks import positive
from .contrast import Centered, Contrast
from .probing import direction
from .transient import Transient, Whole


@final
@dataclass(frozen=True, kw_only=True)
class AdjointPlayback(LearningRule):
    """Back-propagation through time as a settling: couplings driven backwards, every unit's own gains played back.

        h_0 = w_T c_T,    h_{j+1} = D(z_{T-1-j})^T h_j + w_k c_k at k = T - 1 - j,    D = 1 + eps J,  c_k = dL/dz(z_k)
        g   = L_theta + eps sum_{k=0}^{T-1} credit(h_{T-1-k}, z_k)

    with the task's weights w (all of it at z_T unless it looks along the way, which takes capability `waveform` as
    well). The recursion is BPTT's, so that on a device that does exactly this the gradient is that of the deployed
    loss to rounding. The response is linear: the longest signal of each sample is brought to the stated length and the
    response scaled back. Memory: T states per unit, none per synapse.

    It forgives a recording that is a little off. Dense tanh network of 64 units, gain 1.5, T = 20, eps = 0.2, recorded
    through a converter of 16 state units and played back by a perfect device, against BPTT: relative error and
    1 - cosine of the analog gradient, medians over nine networks (finite-horizon EP on the perfect recording: 0.15,
    0.011). The error halves with every bit and is proportional to read noise:

        4 bits    0.21    2e-2        8 bits                             0.0061   1.8e-5
        5 bits    0.087   4e-3        10 bits                            0.0015   1.1e-6
        6 bits    0.032   5e-4        12 bits                            0.0004   7e-8
        7 bits    0.014   1e-4        8 bits, read noise 0.1 per unit    0.035    6e-4

    Where the response is read through the same 8 bits, kicks of length 1 drown (0.11) and those of 8 do not (0.011).

    Args:
        kick: Euclidean length of the longest signal put into one sample, state units. What noise does to h falls as
            1 / kick; nothing else depends on it.
        shared_noise: both signs under the same noise (capability `twins`), which then cancels altogether.
        contrast: which multiples of the stimulus run. All are exact; `OneSided()` costs half of `Centered()`, at four
            times the variance where there is noise (twice that of two of its runs averaged).
        transient: what a unit keeps of its states.

    Source: this project; the recursion is Werbos's, Proc. IEEE 78:1550 (1990). Cost on top of the recorded free phase:
    a settle of T - 1 recorded steps per sample for each run of the contrast, 2 of them centered.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    kick: float = 1.0
    shared_noise: bool = False
    contrast: Contrast = Centered()
    transient: Transient = Whole()

    def __post_init__(self) -> None:
        positive(self, "kick", self.kick)

    @property
    def needs(self) -> Needs:
        capabilities = {Capability.TRANSPOSE, Capability.PLAYBACK, Capability.DISPLACE, Capability.RECORD}
        if self.shared_noise:
            capabilities |= {Capability.TWINS}
        return Needs(capabilities=frozenset(capabilities)) | self.contrast.needs | self.transient.needs

    @property
    def ladder(self) -> Ladder:
        def remembered(snapshot: Snapshot) -> Parameters:
            states = recalled(self.transient, snapshot)
            return swept(snapshot, gains=states, states=states, transient=self.transient)

        form = Ideal(
            name="what the units remember of the transient",
            advice="keep more of the transient (transient=Whole(), records closer together, more traces)",
            gradient=remembered,
        )
        return Ladder(
            ideals=() if isinstance(self.transient, Whole) else (form,),
            finite="finite kick",
            advice="nothing: the response is linear at any length of the kick",
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        steps, eps = device.spec.horizon, device.spec.step_size
        judged = judge(task, free, batch, theta, steps)
        states = self.transient.recall(free.recorded, free.final, steps=steps, step_size=eps)
        kick, along, length = direction(judged.final, kicks_along(judged))
        xp, amplitude = namespace(kick), self.kick
        # driven backwards, the response to nothing is nothing; its noise is known only if it is the same
        points = self.contrast.points(batch.ids, noise, known=not self.shared_noise)

        def each(array: Array) -> Array:
            return xp.concat([array] * len(points.factors), axis=-2)

        def times(array: Array) -> Array:
            return xp.concat([amplitude * factor * array for factor in points.factors], axis=-2)

        phase = Phase(
            steps=steps - 1,
            displace=times(kick),
            force=None if along is None else times(along / eps),  # eps times a force is what a step adds
            record=self.transient.every,
        )
        addresses = namespace(batch.ids)  # NumPy, whatever the states are
        ones = addresses.ones_like(batch.ids)
        repeats = [ones if self.shared_noise else (1 + run) * ones for run in range(len(points.factors))]
        plan = Plan(
            inputs=each(batch.inputs),
            ids=addresses.concat([batch.ids] * len(repeats)),
            repeats=addresses.concat(repeats),
            start=Rest(),
            phases=(phase,),
        )
        (run,) = device.relax_transpose(each(states[1:]), plan, noise=noise)
        scale = length / amplitude
        h = self.transient.respond(
            points.read(run.recorded, None) * scale, points.read(run.final, None) * scale, steps=steps - 1
        )
        gradients = device.synapses.credit(eps * xp.flip(h, axis=0), states[:-1], batch.inputs, theta)
        cost = Cost.of(plan.phases, plan.lanes)
        return Estimate(gradients=gradients | judged.readout, loss=judged.loss, cost=cost)


def kicks_along(judged: Judged) -> Float[Array, "steps B N"] | None:
    """What is to be added after each step backwards, `w_k c_k` at k = T - 1 .. 1; None where there is nothing.

    The signal at z_0 reaches no parameter, since z_0 is given.
    """
    if judged.earlier is None or len(judged.earlier) < 2:
        return None
    return namespace(judged.earlier).flip(judged.earlier[1:], axis=0)


def swept(
    snapshot: Snapshot,
    *,
    gains: Float[Array, "T1 B N"],
    states: Float[Array, "T1 B N"],
    transient: Transient = Whole(),
    forwards: bool = False,
) -> Parameters:
    """`L_theta + eps sum_k credit(h_{k+1}, states_k)`, `h_k = h_{k+1} + eps J(gains_k)^T h_{k+1} + w_k c_k`.

    BPTT where both are the states that the network went through; the loss is always judged on those. A unit at a rail
    answers like any other, as it does where couplings are driven backwards.

    Args:
        snapshot: what was deployed.
        gains: states at which the Jacobian is taken.
        states: states that the synapses see.
        transient: what is kept of h.
        forwards: take J in place of J^T, as natural dynamics do that nobody turns round.
    """
    model, theta, x, eps = snapshot.model, snapshot.theta, snapshot.batch.inputs, snapshot.step_size
    judged = judged_along(snapshot)
    product = model.tangent if forwards else model.cotangent
    signal, h = judged.final, np.empty_like(states[1:])
    for j, k in enumerate(reversed(range(len(h)))):
        h[j] = signal
        signal = signal + eps * product(signal, gains[k], x, theta)
        if judged.earlier is not None:
            signal = signal + judged.earlier[k]
    h = transient.respond(h[:: transient.every], h[-1], steps=len(h) - 1)
    return model.credit(eps * h[::-1], states[:-1], x, theta) | judged.readout


def judged_along(snapshot: Snapshot) -> Judged:
    """The task's word on a snapshot's states."""
    states = snapshot.states
    lanes = states.shape[1]
    free = Relaxation(
        final=states[-1], states=states, residual=np.zeros(lanes), outcome=np.zeros(lanes, dtype=np.int64)
    )
    return judge(snapshot.task, free, snapshot.batch, snapshot.theta, len(states) - 1)


def recalled(transient: Transient, snapshot: Snapshot) -> Float[Array, "T1 B N"]:
    """A snapshot's states as units remember them."""
    states, record = snapshot.states, transient.needs.record
    return transient.recall(states[::record], states[-1], steps=len(states) - 1, step_size=snapshot.step_size)
