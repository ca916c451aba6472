"""Means and scatter of gradients that come one after another, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Float

Blocks: TypeAlias = Mapping[str, Float[np.ndarray, "..."]]
"""Block -> gradient, float64."""


@final
class Moments:
    """Mean m and total variance `v = sum_p E (g_p - m_p)^2` of R gradients g, without holding them.

    Taken about the first of them, so that gradients which are all the same have exactly their own mean and variance 0.
    """

    def __init__(self) -> None:
        self._first: dict[str, np.ndarray] = {}
        self._sum: dict[str, np.ndarray] = {}
        self._squares: dict[str, float] = {}
        self._count = 0

    def add(self, blocks: Blocks) -> None:
        """One more gradient."""
        if not self._count:
            self._first = {name: np.array(block) for name, block in blocks.items()}
            self._sum = {name: np.zeros_like(block) for name, block in self._first.items()}
            self._squares = dict.fromkeys(self._first, 0.0)
        self._count += 1
        for name, block in blocks.items():
            shift = block - self._first[name]
            self._sum[name] += shift
            self._squares[name] += float(np.sum(shift * shift))

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """m."""
        return {name: first + self._sum[name] / self._count for name, first in self._first.items()}

    def variance(self, names: Iterable[str]) -> float:
        """v over some blocks, unbiased; NaN for a single gradient."""
        if self._count < 2:
            return math.nan
        scattered = sum(self._squares[name] - float(np.sum(self._sum[name] ** 2)) / self._count for name in names)
        return scattered / (self._count - 1) if math.isnan(scattered) else max(scattered, 0.0) / (self._count - 1)


def norm(blocks: Blocks, names: Iterable[str]) -> float:
    """Euclidean norm over some blocks."""
    return math.sqrt(dot(blocks, blocks, names))


def dot(a: Blocks, b: Blocks, names: Iterable[str]) -> float:
    """Euclidean inner product over some blocks."""
    return sum((float(np.sum(a[name] * b[name])) for name in names), 0.0)


def cosine(a: Blocks, b: Blocks, names: Iterable[str]) -> float:
    """cos of the angle between two gradients over some blocks; NaN where either is zero or not finite."""
    names = tuple(names)
    return over(dot(a, b, names), norm(a, names) * norm(b, names))


def over(value: float, scale: float) -> float:
    """value / scale; NaN where the scale is zero or not finite."""
    return value / scale if scale > 0.0 and math.isfinite(scale) else math.nan
