"""Substrates that have settled in front of a task, and the members of three-factor eligibility. No torch here."""

import dataclasses

import numpy as np
from rule_setting import EPS, NOISE, T
from tables import DEVICES, SUBSTRATES

from hwsim.contracts.needs import Needs
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import settle_free
from hwsim.contracts.task import judge
from hwsim.learning_rules.eligibility import Eligibility
from hwsim.learning_rules.influence import Recording
from hwsim.learning_rules.influence_confined import RTRL, Blockwise, SnAp
from hwsim.learning_rules.influence_kronecker import KFRTRL, LowRank
from hwsim.learning_rules.influence_local import RFLO, EProp
from hwsim.learning_rules.influence_projected import UORO
from hwsim.reference import bptt_along
from hwsim.tasks import Windowed
from hwsim.testing import RandomRegression
from hwsim.testing.draws import draw_parameters

MEMBERS = {
    "rtrl": RTRL(),
    "snap1": SnAp(),
    "snap2": SnAp(order=2),
    "rflo": RFLO(),
    "eprop": EProp(),
    "uoro": UORO(),
    "kf": KFRTRL(),
    "low_rank": LowRank(),
    "blockwise": Blockwise(groups=3),
}
LOSSES = {
    "final": lambda task: task,
    "late half": lambda task: Windowed(task=task, first=T // 2),
    "one state": lambda task: Windowed(task=task, first=3, last=3),
    "all but the last": lambda task: Windowed(task=task, first=0, last=T - 1),
}
NO_TORCH = [name for name in SUBSTRATES if name != "a field of one's own"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A substrate that has settled in front of a task."""

    substrate: object
    device: object
    theta: Parameters
    task: object
    batch: object
    free: Relaxation

    @property
    def eps(self):
        return self.device.spec.step_size

    def gradient(self, member, noise=NOISE):
        rule = Eligibility(influence=member)
        return rule.estimate(self.device, self.theta, self.batch, self.task, self.free, noise).gradients

    @property
    def exact(self):
        return bptt_along(self.substrate, self.theta, self.batch, self.task, self.free.recorded, self.eps)


def run(substrate, loss="final", *, device="float64", lanes=3, seed=0):
    if isinstance(substrate, str):
        substrate = SUBSTRATES[substrate]()
    made = DEVICES[device](substrate)
    task = RandomRegression(units=substrate.units, inputs=substrate.inputs)
    theta = made.program(draw_parameters(made.spec, seed) | task.initial_readout(seed, 1.0))
    batch = task.training_batch(0, lanes, seed)
    free, _ = settle_free(made, batch, Needs(record=1), NOISE)
    return Run(substrate, made, theta, LOSSES[loss](task), batch, free)


def recording_of(here, free, model):
    judged = judge(here.task, free, here.batch, here.theta, T)
    return Recording(
        synapses=model,
        physics=model,
        theta=here.theta,
        inputs=here.batch.inputs,
        states=free.recorded,
        signals=np.concatenate([np.zeros((T, *judged.final.shape)), judged.final[None]]),
        step_size=EPS,
        ids=here.batch.ids,
    )
