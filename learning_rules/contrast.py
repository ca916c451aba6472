"""How a probe is contrasted: which multiples of a stimulus run, and how the linear response is read from them."""

from __future__ import annotations

import cmath
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Inexact, Int, Real

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath, Stream

Factor: TypeAlias = float | complex | Real[Array, "B 1"]
"""One number for all samples, or one for each."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """The runs of one probe, `z_k` the state under `factors[k]` times the stimulus:

        response = Re sum_k weights[k] z_k - anchor z_0,      z_0 the state without stimulus, where it is known

    Args:
        factors: K of them.
        weights: K of them.
        anchor: weight of z_0; None where the weights add up to nothing (their real parts, for complex ones).
    """

    factors: tuple[Factor, ...]
    weights: tuple[Factor, ...]
    anchor: Factor | None = None

    def taken(self, chosen: Int[Array, " C"]) -> Points:
        """The points of some of the samples."""

        def of(factor: Any) -> Any:
            return factor if isinstance(factor, float | complex) else factor[chosen]

        return Points(
            factors=tuple(of(factor) for factor in self.factors),
            weights=tuple(of(weight) for weight in self.weights),
            anchor=None if self.anchor is None else of(self.anchor),
        )

    def read(self, states: Inexact[Array, "*T KB N"], still: Real[Array, "B N"] | None) -> Real[Array, "*T B N"]:
        """The response to the stimulus as it ran, from the states of all runs, one after another along the lanes.

        Args:
            states: z_k.
            still: z_0; None where it is zero.
        """
        xp, lanes = namespace(states), states.shape[-2] // len(self.factors)
        parts = [times(weight, states[..., k * lanes : (k + 1) * lanes, :]) for k, weight in enumerate(self.weights)]
        total = parts[0]
        for part in parts[1:]:
            if isinstance(total, np.ndarray) and total.dtype == part.dtype:
                total += part  # a product of its own, which nobody else holds: no further array for a recording
            else:
                total = total + part
        if xp.isdtype(total.dtype, "complex floating"):
            total = xp.real(total)
        return total if self.anchor is None or still is None else total - times(self.anchor, still)


class Contrast(ABC):
    """Which multiples `f_k` of a small stimulus run, and how the response is read from where they end.

    With `z(f) = z_0 + a f + a_2 f^2 + ...` the state as a function of the multiple f, every contrast reads a plus what
    its points cannot tell from a.
    """

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What it needs of a device."""

    @abstractmethod
    def points(self, ids: Int[Array, " B"], noise: NoisePath, *, known: bool) -> Points:
        """The runs for these samples.

        Args:
            ids: sample ids.
            noise: address of what is drawn, stream PROBE, repeat 1.
            known: whether the state without stimulus is known, so that it need not run.
        """


@final
@dataclass(frozen=True, kw_only=True)
class Centered(Contrast):
    """`(z(+1) - z(-1)) / 2`: error O(f^2). 2 runs (Laborieux et al., arXiv:2006.03824)."""

    @property
    def needs(self) -> Needs:
        return Needs()

    def points(self, ids: Int[Array, " B"], noise: NoisePath, *, known: bool) -> Points:
        return Points(factors=(1.0, -1.0), weights=(0.5, -0.5))


@final
@dataclass(frozen=True, kw_only=True)
class OneSided(Contrast):
    """`z(1) - z(0)`: error O(f) (Scellier and Bengio, arXiv:1602.05179).

    z(0) is the free state, which is right where the network has settled: 1 run. Elsewhere it moves by itself and needs
    a run of its own, a twin without stimulus: 2 runs. Kicks are always compared with a twin, and so is what shares its
    noise. Driven backwards the response to nothing is nothing: 1 run.

    Args:
        twin: compare with a twin in any case, so that a free state that still moves does not look like a response.
    """

    twin: bool = False

    @property
    def needs(self) -> Needs:
        return Needs()

    def points(self, ids: Int[Array, " B"], noise: NoisePath, *, known: bool) -> Points:
        return _against_nothing(1.0, twin=self.twin or not known)


@final
@dataclass(frozen=True, kw_only=True)
class RandomSign(Contrast):
    """`s (z(s) - z(0))` with a sign s = +-1 drawn for each sample: error `s a_2`, which averages out over draws.

    What is left on average is O(f^2), as for `Centered`, at half the runs (Laborieux et al., arXiv:2006.03824, section
    3.1). z(0) as in `OneSided`.

    Args:
        twin: compare with a twin without stimulus in any case.
    """

    twin: bool = False

    @property
    def needs(self) -> Needs:
        return Needs()

    def points(self, ids: Int[Array, " B"], noise: NoisePath, *, known: bool) -> Points:
        xp = namespace(ids)
        drawn = noise.repeated(1).normals(Stream.PROBE, ids, units=1)[0]
        sign = xp.where(xp.asarray(drawn) < 0.0, -1.0, 1.0)
        return _against_nothing(sign, twin=self.twin or not known)


@final
@dataclass(frozen=True, kw_only=True)
class Contour(Contrast):
    """Holomorphic EP: points on a circle in the complex plane, `f_k = e^{2 pi i k / n}`, k = 0 .. n - 1,

        (1 / n) sum_k z(f_k) / f_k  =  a + a_{n+1} + a_{2n+1} + ...

    by Cauchy's formula: error O(r^n) in the length r of the stimulus, as long as z(f) has no singularity inside. Runs
    at conjugate points are conjugates of each other, so that n // 2 + 1 of them say it all. n = 2 is `Centered`, and
    needs no complex state. Noise is a^-1 as large as that of the centered contrast: the points are an average.

    Args:
        count: n, at least 2.

    Raises:
        InputError: fewer than 2 points.

    Source: Laborieux and Zenke, arXiv:2209.00530, equation 10.
    """

    count: int = 4

    def __post_init__(self) -> None:
        whole("Contour", "count", self.count, least=2)

    @property
    def needs(self) -> Needs:
        return Needs() if self.count == 2 else Needs(capabilities=frozenset({Capability.COMPLEX}))

    def points(self, ids: Int[Array, " B"], noise: NoisePath, *, known: bool) -> Points:
        n = self.count
        if n == 2:
            return Points(factors=(1.0, -1.0), weights=(0.5, -0.5))
        factors = [cmath.exp(2j * math.pi * k / n) for k in range(n // 2 + 1)]
        # each point strictly above the real line stands for its conjugate as well
        alone = [k == 0 or 2 * k == n for k in range(len(factors))]
        weights = [(1.0 if one else 2.0) / n * f.conjugate() for f, one in zip(factors, alone, strict=True)]
        return Points(factors=tuple(factors), weights=tuple(weights))


def times(factor: Factor, array: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
    """`factor array`, in the precision of the array."""
    if not isinstance(factor, float | complex):
        factor = namespace(array).asarray(factor, dtype=array.dtype, device=array.device)
    return factor * array


def _against_nothing(sign: float | Real[Array, "B 1"], *, twin: bool) -> Points:
    if twin:
        return Points(factors=(sign, 0.0), weights=(sign, -sign))
    return Points(factors=(sign,), weights=(sign,), anchor=sign)
