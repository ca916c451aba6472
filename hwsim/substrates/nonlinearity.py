"""Unit nonlinearities r(z) with their slopes r'(z) and curvatures r''(z)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

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


def _tanh(z: Array) -> Array:
    """tanh, of real NumPy arrays by the compiled kernel: five times as fast in float64.

    Where it saturates neighbouring values may stand in the wrong order by a rounding, so that `Logistic`, which is to
    rise everywhere, leaves tanh to NumPy.
    """
    if isinstance(z, np.ndarray) and z.dtype.kind == "f":
        from hwsim.kernels import tanh_array

        return tanh_array(z)
    return namespace(z).tanh(z)


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
        return _tanh(z)

    def slope(self, z: Array) -> Array:
        rate = _tanh(z)
        return 1.0 - rate * rate

    def curvature(self, z: Array) -> Array:
        rate = _tanh(z)
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


@final
@dataclass(frozen=True)
class RationalTanh(Nonlinearity):
    """The tanh of board firmware, in five multiplications and a division:

        r(z) = p / q,   p = z (135135 + 17325 z^2 + 378 z^4 + z^6),   q = 135135 + 62370 z^2 + 3150 z^4 + 28 z^6

    with z held to +-4.97 (the continued fraction of tanh, cut after seven terms: Lambert, 1761). Within 9.7e-5 of tanh.
    In float32 the operations and their order are those of `devices/board/firmware/maths.c`, and so are the bits.
    `r' = (p' - r q') / q` and `r'' = (p'' - 2 r' q' - r q'') / q`; 0 where z is held.
    """

    code: ClassVar[int] = 6
    increasing: ClassVar[bool] = False
    sharpest: ClassVar[float] = 0.7698003589174294
    flat: ClassVar[float] = 4.97
    """Where it goes on as a constant, 6e-7 below 1."""

    def __call__(self, z: Array) -> Array:
        top, bottom, _ = self._parts(z)
        return top / bottom

    def slope(self, z: Array) -> Array:
        top, bottom, square = self._parts(z)
        rise, fall = self._rises(z, square)
        return self._inside(z, (rise - (top / bottom) * fall) / bottom)

    def curvature(self, z: Array) -> Array:
        top, bottom, square = self._parts(z)
        rise, fall = self._rises(z, square)
        rate = top / bottom
        slope = (rise - rate * fall) / bottom
        bend = z * (103950.0 + square * (7560.0 + square * 42.0))
        sag = 124740.0 + square * (37800.0 + square * 840.0)
        return self._inside(z, (bend - 2.0 * slope * fall - rate * sag) / bottom)

    def _parts(self, z: Array) -> tuple[Array, Array, Array]:
        """p, q and z^2 of the z that is held."""
        z = namespace(z).clip(z, -self.flat, self.flat)
        square = z * z
        top = z * (135135.0 + square * (17325.0 + square * (378.0 + square)))
        bottom = 135135.0 + square * (62370.0 + square * (3150.0 + square * 28.0))
        return top, bottom, square

    def _rises(self, z: Array, square: Array) -> tuple[Array, Array]:
        """p' and q'."""
        rise = 135135.0 + square * (51975.0 + square * (1890.0 + square * 7.0))
        return rise, z * (124740.0 + square * (12600.0 + square * 168.0))

    def _inside(self, z: Array, value: Array) -> Array:
        xp = namespace(z)
        return xp.where(xp.abs(z) > self.flat, xp.zeros_like(value), value)
