"""What a study measures at, assembled: a trained network on devices that differ in one knob."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import DeviceSpec
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind, LearningRule, registered_rules, require, rules_for
from hwsim.contracts.threads import one_blas_thread
from hwsim.learning_rules import Corrected, EquilibriumPropagation, Form, Stimulus
from hwsim.study import (
    Approach,
    Budgeted,
    Damping,
    NoisyEstimate,
    Nudge,
    NudgedRun,
    OperatingPoint,
    Residual,
    Truncation,
    approach,
    at_horizon,
    damped,
    damping,
    noisy_estimates,
    nudges,
    residuals,
    truncation,
)
from hwsim.study.record import Figures
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Classification

from .methods import EVALUATION, device_of
from .rules import rule_named
from .study_options import StudySettings


@final
@dataclass(frozen=True, kw_only=True)
class Stage:
    """A network after some training, from which operating points are made.

    Args:
        settings: of the study.
        task: what it learned.
        seed: of everything drawn.
        theta: what it learned.
        rule: whose gradient is looked at along training.
        rules: name -> rule, of the studies of rules.
    """

    settings: StudySettings
    task: Classification
    seed: int
    theta: Parameters
    rule: LearningRule
    rules: Mapping[str, LearningRule]

    def point(self, theta: Parameters | None = None, **changes: Any) -> OperatingPoint:
        """The network on a device of its own, whose settings are changed as told."""
        network = LeakyNetwork.dense(self.settings.machine.units, self.task.inputs)
        device = device_of(network, replace(self.settings.machine, **changes), seed=self.seed)
        return OperatingPoint.programmed(
            device,
            self.task,
            self.theta if theta is None else theta,
            self.task.validation.take(slice(self.settings.samples)),
            NoisePath(seed=self.seed, step=EVALUATION),
        )

    def measure(self, value: float) -> list[Figures]:
        """What the study measures here; `value` of its knob where each is measured by itself."""
        # an operating point beyond the wall gives figures that are not finite, which is what is to be recorded
        with one_blas_thread(), np.errstate(all="ignore"):
            return list(_MEASURE[self.settings.name](self, value))


def nudged_run(amplitude: float) -> NudgedRun:
    """A pair of nudged settlings of centered asymmetric EP, recorded at every step."""

    def run(point: OperatingPoint, z: Float[Array, "B N"], steps: int) -> Float[Array, "K1 B N"]:
        signal = point.task.signal(z, point.batch.targets, point.theta)
        nudge = Stimulus(signal=signal, form=Form.NUDGE, amplitude=amplitude, steps=steps, record=1)
        return Corrected().respond(point.device, point.theta, point.batch, z, nudge, point.noise).states

    return run


def _truncation(stage: Stage, value: float) -> list[Truncation]:
    steps, run = [int(k) for k in stage.settings.values], nudged_run(stage.settings.nudge)
    point = stage.point()
    return [row for K in stage.settings.free_steps for row in truncation(point, run, steps, free_steps=K)]


def _nudged(steps: int, length: float) -> EquilibriumPropagation:
    return EquilibriumPropagation(nudge=length, steps=steps)


def _nudges(stage: Stage, value: float) -> list[Nudge]:
    point, rows = stage.point(), []
    for free_steps in stage.settings.free_steps:
        for steps in stage.settings.nudged_steps:
            rule = partial(_nudged, steps)
            rows += nudges(point, rule, stage.settings.values, steps=steps, free_steps=free_steps)
    return rows


def _residuals(stage: Stage, value: float) -> list[Residual]:
    return residuals(stage.point(), [int(T) for T in stage.settings.values])


def _damping(stage: Stage, value: float) -> list[Damping]:
    eps = stage.settings.machine.step_size
    return [damping(stage.point(damped(stage.theta, c), step_size=c * eps), c, eps) for c in stage.settings.values]


def _approach(stage: Stage, value: float) -> list[Approach]:
    return [approach(stage.point(), stage.rule)]


def _noise(stage: Stage, value: float) -> list[NoisyEstimate]:
    return noisy_estimates(stage.point(noise=value), stage.rules, noise=value, draws=stage.settings.draws)


def _horizon(stage: Stage, value: float) -> list[Budgeted]:
    settings = stage.settings
    point = stage.point(horizon=int(value))
    return at_horizon(point, stage.rules, budget=settings.budget, groups=settings.draws, seed=stage.seed)


_MEASURE: Mapping[str, Callable[[Stage, float], Any]] = {
    "t2": _truncation,
    "radius": _nudges,
    "residual": _residuals,
    "damping": _damping,
    "approach": _approach,
    "noise": _noise,
    "horizon": _horizon,
}


def chosen_rules(settings: StudySettings, task: Classification) -> dict[str, LearningRule]:
    """The rules that a study of rules looks at: those that were named, or all registered local ones that the device and
    the task serve and that estimate a loss's gradient.

    Raises:
        InputError: a name that is not registered.
        CapabilityError: a named rule that cannot be served.
    """
    if settings.name not in ("noise", "horizon"):
        if settings.rules is not None:
            raise InputError(f"study {settings.name} looks at EP alone; leave out --rules")
        return {}
    network = LeakyNetwork.dense(settings.machine.units, task.inputs)
    device = device_of(network, settings.machine)
    if settings.rules is not None:
        named = {name: rule_named(name) for name in settings.rules}
        for rule in named.values():
            require(rule, device.spec, task)
        return named
    return _all_local(device.spec, task, lambda rule: _estimates_a_loss(rule, settings, task))


def _all_local(
    spec: DeviceSpec, task: Classification, wanted: Callable[[LearningRule], bool]
) -> dict[str, LearningRule]:
    served = set(rules_for(spec, task))
    return {
        name: rule
        for name, rule in registered_rules().items()
        if name in served and rule.kind is Kind.LOCAL and wanted(rule)
    }


def _estimates_a_loss(rule: LearningRule, settings: StudySettings, task: Classification) -> bool:
    """Whether a rule states a ladder from BPTT or, asked on two samples, answers with a loss."""
    if rule.ladder is not None:
        return True
    network = LeakyNetwork.dense(settings.machine.units, task.inputs)
    theta = network.initial(0, gain=0.5, input_gain=0.5) | task.initial_readout(0, 0.5)
    device, batch = device_of(network, settings.machine), task.validation.take(slice(2))
    point = OperatingPoint.programmed(device, task, theta, batch, NoisePath(seed=0, step=EVALUATION))
    return not np.isnan(point.estimate(rule).loss)
