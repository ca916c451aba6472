"""Continual equilibrium propagation: the parameters move while the network is nudged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.ladder import Ladder
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task, judge

from .adjoints import nudging_ladder
from .checks import positive
from .contrast import Centered, Contrast, times
from .probes import Corrected, Form, Probe, Stimulus, VectorField
from .probing import Probing


@final
@dataclass(frozen=True, kw_only=True)
class ContinualEP(LearningRule):
    """Continual EP: every stretch of the nudged phase updates the parameters at once, by what moved in it,

        theta <- theta - eta credit(a_{t+1} - a_t, z_t)          t = 0, every, 2 every, ... t2
        g      = (theta_0 - theta_end) / eta

    with a as in `EquilibriumPropagation`, and z_t the nudged state itself, of either sign: synapses need no memory of
    the free state. What was read back counts as theta. As eta -> 0 the updates add up to those of EP at the same nudge,
    but for O(nudge^2) (centered) or O(nudge) (one-sided) from taking z_t instead of z_T, and for what moves without a
    nudge where z_T has not settled; with `Transposed`, whose z stands still, to dyadic EP exactly. At a finite eta the
    network that is nudged is no longer the one that settled: the estimate is off by O(eta). The theta from before is
    programmed again at the end.

    Args:
        nudge: length of the nudging force of one sample, state units per time constant.
        learning_rate: eta, parameter units squared per loss unit. The estimate is off by O(eta), and by a rounding (or
            a writing step) of the parameters over eta.
        steps: t2, nudged Euler steps; T of the device where None.
        every: steps between two updates; as many more as it takes where the 255 noise addresses that a rule has for a
            sample would not suffice for its runs (t2 above 127, centered).
        together: move the parameters of all samples together, by their mean; the estimate of a batch is then not the
            mean of estimates of its samples, at O(eta). A device has one set of parameters, so that by default each
            sample is nudged alone and starts from the same theta.
        probe: road to the transposed response.
        contrast: as in `EquilibriumPropagation`; the runs of a sample see the same parameters.

    Raises:
        InputError: a value out of range, or a contrast in the complex plane.

    Source: Ernoult et al., Equilibrium Propagation with Continual Weight Updates, arXiv:2005.04168, there one-sided;
    the form with z_t at the synapse is its vector-field variant (C-VF). Cost on top of the free phase: the steps of EP,
    in `t2 / every` stretches for each of the contrast's runs, and for each sample (once for all, `together`)
    `t2 / every + 1` programmings. Simulated, the samples run one after another: B t2 / every relaxations of few lanes.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    nudge: float = 1.0
    learning_rate: float = 1e-3
    steps: int | None = None
    every: int = 1
    together: bool = False
    probe: Probe = Corrected()
    contrast: Contrast = Centered()

    def __post_init__(self) -> None:
        positive(self, "nudge", self.nudge)
        positive(self, "learning_rate", self.learning_rate)
        whole("ContinualEP", "every", self.every, least=1)
        if self.steps is not None:
            whole("ContinualEP", "steps", self.steps, least=1)
        if Capability.COMPLEX in self.contrast.needs.capabilities:
            raise InputError(
                f"parameters that move with the states are real, and so must the states be; found {self.contrast}: use "
                "Centered(), OneSided() or RandomSign()"
            )

    @property
    def needs(self) -> Needs:
        load = Needs(capabilities=frozenset({Capability.LOAD_STATE}), final_loss=True)
        return self.probe.needs | self.contrast.needs | load

    @property
    def ladder(self) -> Ladder:
        return nudging_ladder(
            steps=self.steps,
            transposed=not isinstance(self.probe, VectorField),
            finite="finite nudge and learning rate",
            advice="lower the learning rate that acts while nudging, or the nudge",
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        judged, lanes = judge(task, free, batch, theta, device.spec.horizon), len(batch)
        steps = device.spec.horizon if self.steps is None else self.steps
        nudge = Stimulus(
            signal=judged.final, form=Form.NUDGE, amplitude=self.nudge, steps=steps, contrast=self.contrast
        )
        probing = self.probe.begin(device, theta, batch, free.final, nudge, noise)
        groups = [np.arange(lanes)] if self.together else [np.array([b]) for b in range(lanes)]
        total, cost = theta.analog.zeros(), Cost()
        for group in groups:
            share = len(group) / lanes  # the signals are those of the mean over the batch
            moved, spent = self._moved(probing.taken(group), theta, steps, self.learning_rate / share)
            total, cost = total + moved * (share / self.learning_rate), cost + spent
        return Estimate(gradients=total | judged.readout, loss=judged.loss, cost=cost)

    def _moved(self, probing: Probing, theta: Parameters, steps: int, rate: float) -> tuple[Parameters, Cost]:
        """`theta_0 - theta_end` of some samples, and what it took; theta_0 is programmed again."""
        device, held, cost, after = probing.device, theta.analog, Cost(), None
        programming, every = Cost(writes=len(held)), max(self.every, -(-steps // probing.stretches))
        try:
            for stretch, done in enumerate(range(0, steps, every)):
                run, spent = probing.step(min(every, steps - done), after=after, stretch=stretch)
                before = probing.begun() if after is None else after
                gradient = self._credit(probing, held, before, run.final)
                held = device.program(_within(device, held - gradient * rate)).analog
                after, cost = run.final, cost + spent + programming
        finally:
            device.program(theta.analog)
        return theta.analog - held, cost + programming

    def _credit(self, probing: Probing, theta: Parameters, before: Array, after: Array) -> Parameters:
        """`sum_k credit(weights[k] (z_k' - z_k) scale, z_k)` over the runs."""
        lanes, moved, total = len(probing.batch), after - before, theta.zeros()
        for k, weight in enumerate(probing.points.weights):
            mine = slice(k * lanes, (k + 1) * lanes)
            post = times(weight, moved[mine]) * probing.scale
            pre = probing.at if probing.backwards else before[mine]
            total = total + probing.device.synapses.credit(post, pre, probing.batch.inputs, theta)
        return total


def _within(device: Device, theta: Parameters) -> Parameters:
    """What the device can hold of it."""
    ranges = device.spec.ranges
    clipped = {
        name: namespace(block).clip(block, *ranges[name]) if name in ranges else block for name, block in theta.items()
    }
    return Parameters(clipped)
