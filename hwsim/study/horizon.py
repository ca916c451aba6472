"""What a longer settling is worth where device time is what is given: quality and variance per device second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import LearningRule
from hwsim.contracts.task import Batch

from .noise import REFERENCE, aside
from .point import OperatingPoint
from .statistics import averaged_cosine, flat, total_variance


@final
@dataclass(frozen=True, kw_only=True)
class Budgeted:
    """One rule at one horizon under a budget of device time.

    Args:
        horizon: T.
        rule: its name; "bptt" is the exact gradient, which pays for its free phase alone (and for a digital twin).
        samples: n, that the budget pays for, 0 where it does not pay for one; figures below are then NaN.
        steps_per_sample: free phase and probes, Euler steps.
        seconds: device time of an estimate over n samples, lanes one after another; at most the budget.
        cosine: of an estimate over n samples to the exact gradient of the deployed loss at this T over all samples,
            mean over groups.
        variance: relative, of an estimate over n samples.
        variance_seconds: variance times seconds: the device seconds that bring the noise of the estimate down to the
            size of the gradient. It does not depend on the budget.
        loss: L(z_T) over all samples.
        residual: |F(z_T)|, rms over units, mean over samples; state units per time constant.
    """

    knob: ClassVar[str] = "horizon"

    horizon: int
    rule: str
    samples: int
    steps_per_sample: float
    seconds: float
    cosine: float
    variance: float
    variance_seconds: float
    loss: float
    residual: float


def at_horizon(
    point: OperatingPoint, rules: Mapping[str, LearningRule], *, budget: int, groups: int, seed: int
) -> list[Budgeted]:
    """What each rule makes of the same device time at the horizon of this point's device.

    The budget is device time, `steps * dt`, for free phases and probes together, as one device needs it that runs its
    samples one after another. A sample costs T free steps and what the rule's probes take (2 T for a pair of nudged
    settlings of T steps), so n = budget // cost samples are drawn (with replacement), `groups` times, each time under
    noise of its own. The target is BPTT over all B samples of the point, which stand for the population.

    Args:
        point: on a device with this T. A rule whose probes take T steps follows it.
        rules: name -> rule that the device can serve.
        budget: Euler steps.
        groups: estimates from which the variance is taken, at least 2.
        seed: of the draws of samples.

    Cost: `groups` estimates of n samples per rule.
    """
    z = point.free.final
    target = flat(point.bptt(point.free.recorded))
    loss, residual = point.loss(z), point.residual(z)
    rows = []
    for name, rule in {REFERENCE: None, **rules}.items():
        extra = 0 if rule is None else _probe_steps(point, rule)
        cost = point.horizon + extra
        n = budget // cost
        cosine = variance = seconds = math.nan
        if n:
            draws = np.stack([flat(_group(point, rule, n, seed, group)) for group in range(groups)])
            size = float(target @ target)
            cosine = averaged_cosine(draws, target, 1)
            variance = total_variance(draws) / size if size > 0.0 else math.nan
            seconds = n * cost * point.device.spec.dt
        rows.append(
            Budgeted(
                horizon=point.horizon,
                rule=name,
                samples=n,
                steps_per_sample=float(cost),
                seconds=seconds,
                cosine=cosine,
                variance=variance,
                variance_seconds=variance * seconds,
                loss=loss,
                residual=residual,
            )
        )
    return rows


def _probe_steps(point: OperatingPoint, rule: LearningRule) -> int:
    """Euler steps per sample that a rule takes beyond the free phase, as it states them for one sample."""
    one = point.batch.take(slice(1))
    return point.estimate(rule, free=point.deployed(one), batch=one).cost.steps


def _group(point: OperatingPoint, rule: LearningRule | None, n: int, seed: int, group: int) -> Parameters:
    """The gradient over n samples drawn from the batch; ids are fresh, so that a sample drawn twice has two noises."""
    index = np.random.default_rng([seed, 4, group]).integers(0, len(point.batch), n)
    drawn = Batch(inputs=point.batch.inputs[index], targets=point.batch.targets[index], ids=np.arange(n))
    noise = aside(point.noise, group)
    free = point.deployed(drawn, noise)
    if rule is None:
        return point.bptt(free.recorded, drawn)
    return point.estimate(rule, free=free, batch=drawn, noise=noise).gradients.analog
