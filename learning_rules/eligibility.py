"""Three-factor eligibility: the deployed loss's gradient carried forward in time, from the free transient alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.ladder import Ideal, Ladder, Snapshot
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Judged, Task, judge

from .influence import Influence, Recording
from .influence_local import RFLO


@final
@dataclass(frozen=True, kw_only=True)
class Eligibility(LearningRule):
    """`g = L_theta + sum_k w_k c_k^T M_k` with the influence `M_k = dz_k/dtheta` carried along the free phase:

        M_{k+1} = D(z_k) M_k + eps F_theta(z_k),    M_0 = 0,    D = 1 + eps J,    c_k = dL/dz(z_k)

    A pre-synaptic quantity and a post-synaptic gain make the trace, the loss's signal reads it: three factors. The
    device runs the recorded free phase and nothing else; there is no second phase, and the loss may look at any state.
    z_0 is a constant (of M, under `Carry` and random starts too). M has N P numbers: `influence` says what is kept.

        RTRL                    all of it: exact
        SnAp, Blockwise         what stays near where it entered; biased
        RFLO, EProp             what stays in the unit; biased, LOCAL
        UORO, KFRTRL, LowRank   a random sketch of all of it: unbiased

    Members that need the nominal model (`kind`) follow the states as they were read, noise and all, and take the model
    for the chip.

    Args:
        influence: the member.

    Raises:
        InputError: from `estimate`, a free phase that was not recorded at every step.
        CapabilityError: from `estimate`, a member that this substrate's synapses cannot serve; it says which could.

    Sources: with each member. Cost on the device, on top of the recorded free phase: none.
    """

    influence: Influence = RFLO()

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # that of the member
        return self.influence.kind

    @property
    def needs(self) -> Needs:
        assisted = self.influence.kind is not Kind.LOCAL
        return Needs(
            capabilities=frozenset({Capability.MODEL} if assisted else ()), record=1, factored=self.influence.factored
        )

    @property
    def ladder(self) -> Ladder:
        influence = self.influence
        ideals: tuple[Ideal, ...] = ()
        if influence.given_up is not None:
            name, advice = influence.given_up
            ideals = (Ideal(name=name, advice=advice, gradient=partial(_expected, influence)),)
        return Ladder(ideals=ideals, finite=influence.finite, advice=influence.advice)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        steps = device.spec.horizon
        if len(free.recorded) != steps + 1:
            raise InputError(
                f"eligibility needs every state of the {steps} steps (Phase(record=1)); found {len(free.recorded)}"
            )
        judged = judge(task, free, batch, theta, steps)
        recording = Recording(
            synapses=device.synapses,
            physics=None if self.influence.kind is Kind.LOCAL else device.nominal,
            theta=theta,
            inputs=batch.inputs,
            states=free.recorded,
            signals=_signals(judged, steps),
            step_size=device.spec.step_size,
            ids=batch.ids,
            silent=frozenset(device.spec.feedback),
        )
        found = self.influence.gradient(recording, noise)
        return Estimate(gradients=theta.zeros() | found | judged.readout, loss=judged.loss)


def _signals(judged: Judged, steps: int) -> Float[Array, "T1 B N"]:
    """`w_k dL/dz(z_k)`, k = 0 .. T."""
    xp, final_ = namespace(judged.final), judged.final[None]
    if judged.earlier is not None:
        return xp.concat([judged.earlier, final_])
    return xp.concat([xp.zeros((steps, *judged.final.shape), dtype=final_.dtype, device=final_.device), final_])


def _expected(influence: Influence, snapshot: Snapshot) -> Parameters:
    """What a biased member delivers from exact states and the right model."""
    lanes, states, batch = snapshot.states.shape[1], snapshot.states, snapshot.batch
    free = Relaxation(
        final=states[-1], states=states, residual=np.zeros(lanes), outcome=np.zeros(lanes, dtype=np.int64)
    )
    judged = judge(snapshot.task, free, batch, snapshot.theta, len(states) - 1)
    recording = Recording(
        synapses=snapshot.model,
        physics=snapshot.model,
        theta=snapshot.theta,
        inputs=batch.inputs,
        states=states,
        signals=_signals(judged, len(states) - 1),
        step_size=snapshot.step_size,
        ids=batch.ids,
    )
    found = influence.gradient(recording, NoisePath(seed=0))  # a biased member draws nothing
    return snapshot.theta.zeros() | found | judged.readout
