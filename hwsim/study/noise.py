"""Bias and variance of rules against the noise of the device and the number of repeats that are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import LearningRule

from .point import OperatingPoint
from .statistics import averaged_cosine, doublings, flat, spread

REFERENCE = "bptt"
"""The exact gradient along the noisy trajectories, beside the rules: the spread that the free phase itself has."""


@final
@dataclass(frozen=True, kw_only=True)
class NoisyEstimate:
    """One rule at one noise level, averaged over some repeats. Relative figures are against the mean exact gradient.

    Args:
        noise: sigma of the device, state units.
        rule: its name; "bptt" is the exact gradient along the same noisy trajectories.
        repeats: k, estimates averaged, each after a free phase of its own.
        cosine: of such an average to the exact gradient of the expected deployed loss, mean over groups.
        bias: relative, of the rule (the same for all k).
        bias_floor: what draws without a bias would show for one by chance, two standard errors.
        variance_probe: relative, of what one estimate adds to the exact gradient along its own free phase.
        variance: relative, of one estimate with all that is random; an average of k has 1 / k of it.
        draws: R.
    """

    knob: ClassVar[str] = "noise"

    noise: float
    rule: str
    repeats: int
    cosine: float
    bias: float
    bias_floor: float
    variance_probe: float
    variance: float
    draws: int


def noisy_estimates(
    point: OperatingPoint, rules: Mapping[str, LearningRule], *, noise: float, draws: int
) -> list[NoisyEstimate]:
    """Draw every rule R times, each time after a free phase with new noise, which all rules and BPTT share.

    BPTT along a noisy trajectory is an unbiased estimate of the gradient of the *expected* deployed loss, so its mean
    is the target, and a rule's difference to it along the same trajectory is what the rule itself adds. The target is a
    mean of R draws: single estimates, which are part of it, look better by O(1 / R) than they are.

    Args:
        point: on a device with that noise.
        rules: name -> rule that the device can serve.
        noise: sigma, for the record.
        draws: R >= 1.

    Cost: R free phases, each with one estimate of every rule and a BPTT; R gradients held at a time.
    """
    addresses = [aside(point.noise, r) for r in range(draws)]
    free: list[Relaxation] = [point.deployed(noise=address) for address in addresses]
    exact = np.stack([flat(point.bptt(run.recorded)) for run in free])
    target = exact.mean(axis=0)
    rows = []
    for name, rule in {REFERENCE: None, **rules}.items():
        drawn = (
            exact
            if rule is None
            else np.stack(
                [
                    flat(point.estimate(rule, free=run, noise=address).gradients.analog)
                    for run, address in zip(free, addresses, strict=True)
                ]
            )
        )
        found = spread(drawn, exact)
        rows += [
            NoisyEstimate(
                noise=noise,
                rule=name,
                repeats=k,
                cosine=averaged_cosine(drawn, target, k),
                bias=found.bias,
                bias_floor=found.bias_floor,
                variance_probe=found.variance_probe,
                variance=found.variance,
                draws=draws,
            )
            for k in doublings(draws)
        ]
    return rows


def aside(noise: NoisePath, k: int) -> NoisePath:
    """The k-th address beside this one: that of an earlier experiment step, so that rules keep their repeats."""
    return noise.at_step(noise.step - 1 - k)
