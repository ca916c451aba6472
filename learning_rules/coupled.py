"""Coupled learning: compare the free network with one whose outputs are held a little nearer to their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task, judge


@final
@dataclass(frozen=True, kw_only=True)
class CoupledLearning(LearningRule):
    """Coupled learning with E the energy of the network and O the output units, `task.output_units`:

        v_F     free state
        v_C     settled again with the outputs held at `v_F - eta l'`, l' = dl/dv(v_F) of the sample's own loss l
                (`B c` for the batch mean's signal c; `v_F + eta (target - v_F)` where l = |v - target|^2 / 2)
        g       = mean_b [dE/dtheta(v_C) - dE/dtheta(v_F)] / eta + O(eta)
                  resistor: `(u_C^2 - u_F^2) / (2 eta)`, u the voltage across it

    What it estimates: with H = d2E/dv2 at a settled v_F, holding the outputs takes the currents `-eta A l'`,
    `A = (H^-1)_OO^-1 = H_OO - H_Oh H_hh^-1 H_hO`, and so `v_C - v_F = -eta H^-1 A l'` and

        g -> mean_b (A l')^T dv*/dtheta        as eta -> 0,    where    dL/dtheta = mean_b l'^T dv*/dtheta

    It is the gradient of the loss with every output signal multiplied by A, the conductance matrix (siemens) of the
    network as seen from its outputs. For one output this is dL/dtheta times the output's conductance, which differs
    from sample to sample where diodes are about. For several outputs A mixes them: g is the gradient of `l'^T A l' / 2`
    with A held fixed, and in general no descent direction of L itself. `weight * CoupledLearning()` with a weight of
    about 1 / A (ohm) brings g to the size of dL/dtheta. Equilibrium propagation, which puts currents into the outputs
    instead of holding their voltages, has no A.

    Where the synapses know no energy but a metric S, `-credit(S (v_C - v_F)) / (eta B)` stands for the difference of
    energies; it is the same to lowest order.

    Args:
        nudge: eta, 0 < eta <= 1: the part of the way to its target that an output is moved (for a squared loss). Bias
            O(eta), even in a linear network, where it comes from the second order of E; noise falls as 1 / eta.
        steps: clamped Euler steps; T of the device where None.

    Raises:
        InputError: nudge or steps out of range.

    Source: Stern, Hexner, Rocks and Liu, Physical Review X 11:021045 (2021). Cost on top of the free
    phase: one settle per sample (and a free one where the device cannot load a state).
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    nudge: float = 0.1
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.nudge <= 1.0:
            raise InputError(f"CoupledLearning needs 0 < nudge <= 1; found nudge={self.nudge}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"CoupledLearning needs steps >= 1 (or None); found steps={self.steps}")

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.CLAMP}), reciprocal=True, from_free=True, final_loss=True)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        z, judged = free.final, judge(task, free, batch, theta, device.spec.horizon)
        outputs = task.output_units
        held = z - self.nudge * len(batch) * judged.final
        clamp = Phase(
            steps=device.spec.horizon if self.steps is None else self.steps,
            clamp=(outputs, held[:, outputs]),
        )
        plan = _from_free(device, batch, z, clamp)
        clamped = device.relax(plan, noise=noise)[-1].final
        return Estimate(
            gradients=self._contrast(device, theta, batch, z, clamped) | judged.readout,
            loss=judged.loss,
            cost=Cost.of(plan.phases, plan.lanes),
        )

    def _contrast(
        self, device: Device, theta: Parameters, batch: Batch, z: Float[Array, "B N"], clamped: Float[Array, "B N"]
    ) -> Parameters:
        synapses, x, scale = device.synapses, batch.inputs, 1.0 / (self.nudge * len(batch))
        energy, lower = (synapses.energy_credit(state, x, theta) for state in (clamped, z))
        if energy is not None and lower is not None:
            return (energy - lower) * scale
        response = synapses.metric(z, theta) * (z - clamped)
        return synapses.credit(response, z, x, theta) * scale


def _from_free(device: Device, batch: Batch, z: Float[Array, "B N"], phase: Phase) -> Plan:
    """One phase from the loaded free state; a device that cannot load one settles freely first."""
    loads = Capability.LOAD_STATE in device.spec.capabilities
    return Plan(
        inputs=batch.inputs,
        ids=batch.ids,
        repeats=namespace(batch.ids).ones_like(batch.ids),
        start=At(z) if loads else device.spec.start,
        phases=(phase,) if loads else (Phase(steps=device.spec.horizon), phase),
    )
