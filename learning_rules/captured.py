"""Finite-horizon EP on a device that keeps its transients and forms the credit by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.arrays import namespace
from hwsim.contracts.capture import CreditProbe, Weighted
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan, Relaxation, Rest
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Judged, Task, judge

from .checks import positive
from .probing import direction


@final
@dataclass(frozen=True, kw_only=True)
class CapturedFiniteHorizonEP(LearningRule):
    """`FiniteHorizonEP` with couplings driven backwards, centered, its recordings kept and paired on the device:

        h_0 = c,    h_{j+1} = (1 + eps J(z_T)^T) h_j,      g = L_theta + eps sum_k credit(h_{T-1-k}, z_k)

    What comes back for a batch are the final states and one sum per parameter, in place of T recorded states per sample
    and run. The same estimate up to rounding; the free phase runs once more, since it is recorded on the device, and
    what it ended in is what c is taken from.

    Args:
        kick: length of the kick of one sample, state units.

    Source: as `FiniteHorizonEP`. Cost on top of the free phase: for each sample a settle of T recorded steps and two of
    T - 1; no recorded state is read.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    kick: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "kick", self.kick)

    @property
    def needs(self) -> Needs:
        needed = {Capability.CAPTURE_CREDIT, Capability.TRANSPOSE, Capability.DISPLACE, Capability.RECORD}
        return Needs(capabilities=frozenset(needed), known_start=True, final_loss=True)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        spec, runs = device.spec, 2
        steps, judged = spec.horizon, list[Judged]()
        plan = Plan(inputs=batch.inputs, ids=batch.ids, start=spec.start, phases=(Phase(steps=steps, record=1),))

        def probe(settled: Relaxation) -> CreditProbe:
            judged[:] = [judge(task, settled, batch, theta, steps)]
            unit, _, length = direction(judged[0].final)
            xp = namespace(unit)
            weights = xp.broadcast_to(length / (2.0 * self.kick), unit.shape)
            return CreditProbe(
                runs=tuple(
                    Weighted(
                        plan=Plan(
                            inputs=batch.inputs,
                            ids=batch.ids,
                            repeats=np.full(len(batch), 1 + k),
                            start=Rest(),
                            phases=(Phase(steps=steps - 1, displace=sign * self.kick * unit, record=1),),
                        ),
                        weights=sign * weights,
                        at=settled.final,
                    )
                    for k, sign in enumerate((1.0, -1.0))
                ),
                scale=spec.step_size,
                along=True,
            )

        _, credit = device.form_credit(plan, probe, noise=noise)
        lanes = len(batch)
        cost = Cost(
            settles=(1 + runs) * lanes,
            steps=(steps + runs * (steps - 1)) * lanes,
            reads=(1 + runs) * lanes,
        )
        return Estimate(gradients=credit | judged[0].readout, loss=judged[0].loss, cost=cost)
