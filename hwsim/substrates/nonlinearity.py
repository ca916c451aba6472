"""Unit nonlinearities r(z) with their slopes r'(z) and curvatures r''(z)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from hwsim.contracts.arrays import Array, namespace


class Nonlinearity(ABC):
    """An elementwise r(z), dimensionless in and out.

    At a corner the slope is that of the side where r grows, so that a unit at rest can leave it.
    """

    code: ClassVar[int]
    """The integer by which fused kernels know it."""
    increasing: ClassVar[bool] = True
    """Whether r' > 0 everywhere."""
    highest: ClassVar[float] = 1.0
    """The least upper bound of |r|."""
    steepest: ClassVar[float] = 1.0
    """The largest r'."""
    sharpest: ClassVar[float]
    """The largest |r''|; infinite at a corner."""
    holomorphic: ClassVar[bool] = False
    """Whether r takes complex numbers and is analytic around the real line."""

    @abstractmethod
    def __call__(self, z: Array) -> Array:
        """`r(z)`, elementwise."""

    @abstractmethod
    def slope(self, z: Array) -> Array:
        """`r'(z)`, elementwise."""

    @abstractmethod
    def curvature(self, z: Array) -> Array:
        """`r''(z)`, elementwise; 0 at a corner."""


@final
@dataclass(frozen=True)
class Identity(Nonlinearity):
    """`r(z) = z`: a linear network, for which much is known in closed form."""

    code: ClassVar[int] = 0
    highest: ClassVar[float] = math.inf
    sharpest: ClassVar[float] = 0.0
    holomorphic: ClassVar[bool] = True

    def __call__(self, z: Array) -> Array:
        return z

    def slope(self, z: Array) -> Array:
        return namespace(z).ones_like(z)

    def curvature(self, z: Array) -> Array:
        return namespace(z).zeros_like(z)


@final
@dataclass(frozen=True)
class Tanh(Nonlinearity):
    """`r(z) = tanh z`, `r' = 1 - tanh^2 z`, `r'' = -2 r r'`; |r''| is largest, 4 / (3 sqrt 3), where r^2 = 1/3.

    Analytic but for poles at `i pi (k + 1/2)`.
    """

    code: ClassVar[int] = 1
    holomorphic: ClassVar[bool] = True
    sharpest: ClassVar[float] = 4.0 / (3.0 * math.sqrt(3.0))

    def __call__(self, z: Array) -> Array:
        return namespace(z).tanh(z)

    def slope(self, z: Array) -> Array:
        rate = namespace(z).tanh(z)
        return 1.0 - rate * rate

    def curvature(self, z: Array) -> Array:
        rate = namespace(z).tanh(z)
        return -2.0 * rate * (1.0 - rate * rate)


@final
@dataclass(frozen=True)
class Logistic(Nonlinearity):
    """`r(z) = 1 / (1 + e^-z) = (1 + tanh z/2) / 2`, `r' = r (1 - r)`, `r'' = r' (1 - 2 r)`, |r''| <= 1 / (6 sqrt 3).

    Through tanh, nothing overflows. Absolute error of one rounding: in the tails r' is 0 beyond |z| = 38 (float32: 18).
    Analytic but for poles at `i pi (2 k + 1)`.
    """

    code: ClassVar[int] = 2
    holomorphic: ClassVar[bool] = True
    steepest: ClassVar[float] = 0.25
    sharpest: ClassVar[float] = 1.0 / (6.0 * math.sqrt(3.0))

    def __call__(self, z: Array) -> Array:
        return 0.5 + 0.5 * namespace(z).tanh(0.5 * z)

    def slope(self, z: Array) -> Array:
        half = namespace(z).tanh(0.5 * z)
        return 0.25 * (1.0 - half * half)

    def curvature(self, z: Array) -> Array:
        half = namespace(z).tanh(0.5 * z)
        return -0.25 * half * (1.0 - half * half)


@final
@dataclass(frozen=True)
class Softplus(Nonlinearity):
    """`r(z) = log(1 + e^z)`, `r' = logistic z`, `r'' = logistic' z`: a smooth ReLU.

    Analytic where |Im z| < pi, with branch points at +-i pi.
    """

    code: ClassVar[int] = 3
    holomorphic: ClassVar[bool] = True
    highest: ClassVar[float] = math.inf
    sharpest: ClassVar[float] = 0.25

    def __call__(self, z: Array) -> Array:
        xp = namespace(z)
        if not xp.isdtype(z.dtype, "complex floating"):
            return xp.logaddexp(z, xp.zeros_like(z))
        right = xp.real(z) > 0.0  # where e^z could overflow, log(1 + e^z) = z + log(1 + e^-z)
        return xp.where(right, z, xp.zeros_like(z)) + xp.log1p(xp.exp(xp.where(right, -z, z)))

    def slope(self, z: Array) -> Array:
        return Logistic()(z)

    def curvature(self, z: Array) -> Array:
        return Logistic().slope(z)


@final
@dataclass(frozen=True)
class ReLU(Nonlinearity):
    """`r(z) = max(z, 0)`, `r' = 1` where z >= 0 and 0 elsewhere."""

    code: ClassVar[int] = 4
    increasing: ClassVar[bool] = False
    highest: ClassVar[float] = math.inf
    sharpest: ClassVar[float] = math.inf

    def __call__(self, z: Array) -> Array:
        return namespace(z).clip(z, min=0.0)

    def slope(self, z: Array) -> Array:
        return namespace(z).astype(z >= 0.0, z.dtype)

    def curvature(self, z: Array) -> Array:
        return namespace(z).zeros_like(z)


@final
@dataclass(frozen=True)
class Hard(Nonlinearity):
    """The hard sigmoid `r(z) = min(max(z, 0), 1)`, `r' = 1` where 0 <= z <= 1 and 0 elsewhere.

    Source: Scellier and Bengio, arXiv:1602.05179, the rho of their experiments.
    """

    code: ClassVar[int] = 5
    increasing: ClassVar[bool] = False
    sharpest: ClassVar[float] = math.inf

    def __call__(self, z: Array) -> Array:
        return namespace(z).clip(z, 0.0, 1.0)

    def slope(self, z: Array) -> Array:
        return namespace(z).astype((z >= 0.0) & (z <= 1.0), z.dtype)

    def curvature(self, z: Array) -> Array:
        return namespace(z).zeros_like(z)
