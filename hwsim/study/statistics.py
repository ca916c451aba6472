"""Bias and variance of gradient estimates that were drawn several times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hwsim.contracts.parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class Spread:
    """R draws g_r of an estimate against R draws b_r of the exact gradient, paired; relative to `m = |mean b|`.

    Args:
        bias: `|mean (g - b)| / m`, freed of what the spread of the R differences adds to it (at least 0).
        bias_floor: the bias that draws without one would show by chance, at two standard errors; NaN for a single draw.
        variance_probe: `tr Var(g - b) / m^2`: what the rule adds to the noise of the free phase that it shares with b.
        variance: `tr Var(g) / m^2`, all of it. Variances are sample variances, NaN for a single draw.
    """

    bias: float
    bias_floor: float
    variance_probe: float
    variance: float


def flat(gradients: Parameters) -> Float[np.ndarray, " P"]:
    """All blocks as one vector, in the order of their names."""
    return np.concatenate([np.asarray(gradients[name], np.float64).ravel() for name in sorted(gradients)])


def spread(estimates: Float[np.ndarray, "R P"], exact: Float[np.ndarray, "R P"]) -> Spread:
    """Bias and variance of paired draws.

    `E |mean d|^2 = |E d|^2 + tr Var(d) / R`, so the bias is the root of `|mean d|^2 - tr Var(d) / R`, which is the mean
    of `<d_r, d_s>` over all pairs of different draws. Where it comes out negative the bias is given as 0. Without a
    bias that mean has the variance `2 E <d_r, d_s>^2 / R (R - 1)`, from which the floor follows.
    """
    size = float(np.sum(exact.mean(axis=0) ** 2))
    difference = estimates - exact
    probe, R = total_variance(difference), len(estimates)
    excess = 0.0 if math.isnan(probe) else probe / R
    squared = float(np.sum(difference.mean(axis=0) ** 2)) - excess
    if size == 0.0:
        return Spread(bias=math.nan, bias_floor=math.nan, variance_probe=math.nan, variance=math.nan)
    floor = math.nan
    if R > 1:
        centred = difference - difference.mean(axis=0)
        products = (centred @ centred.T)[~np.eye(R, dtype=bool)]
        # centring leaves products a mean of -tr Var / R, which is none of their spread
        floor = 2.0 * math.sqrt(2.0 * float(np.var(products)) / (R * (R - 1)))
    return Spread(
        bias=math.sqrt(max(squared, 0.0) / size) if not math.isnan(squared) else math.nan,
        bias_floor=math.sqrt(floor / size),
        variance_probe=probe / size,
        variance=total_variance(estimates) / size,
    )


def total_variance(draws: Float[np.ndarray, "R P"]) -> float:
    """`tr Var`, the sum over entries of the sample variance; NaN for a single draw."""
    if len(draws) < 2:
        return math.nan
    centred = draws - draws.mean(axis=0)
    return float(np.sum(centred * centred)) / (len(draws) - 1)


def averaged_cosine(draws: Float[np.ndarray, "R P"], target: Float[np.ndarray, " P"], repeats: int) -> float:
    """Mean cosine to `target` of averages of `repeats` draws, over the R // repeats disjoint groups; NaN for none."""
    groups = len(draws) // repeats
    if not groups:
        return math.nan
    means = draws[: groups * repeats].reshape(groups, repeats, -1).mean(axis=1)
    sizes = np.linalg.norm(means, axis=1) * np.linalg.norm(target)
    if not (sizes > 0.0).all():
        return math.nan
    return float(np.mean(means @ target / sizes))


def doublings(most: int) -> Sequence[int]:
    """1, 2, 4, ... up to `most`."""
    return [2**k for k in range(most.bit_length())]
