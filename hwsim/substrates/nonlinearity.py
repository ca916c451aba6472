"""Unit nonlinearities r(z) and their slopes r'(z)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from hwsim.contracts.arrays import Array, namespace


class Nonlinearity(ABC):
    """An elementwise r(z), dimensionless in and out."""

    code: ClassVar[int]
    """The integer by which fused kernels know it."""

    @abstractmethod
    def __call__(self, z: Array) -> Array:
        """`r(z)`, elementwise."""

    @abstractmethod
    def slope(self, z: Array) -> Array:
        """`r'(z)`, elementwise."""


@final
@dataclass(frozen=True)
class Identity(Nonlinearity):
    """`r(z) = z`: a linear network, for which much is known in closed form."""

    code: ClassVar[int] = 0

    def __call__(self, z: Array) -> Array:
        return z

    def slope(self, z: Array) -> Array:
        return namespace(z).ones_like(z)


@final
@dataclass(frozen=True)
class Tanh(Nonlinearity):
    """`r(z) = tanh z`, `r'(z) = 1 - tanh^2 z`."""

    code: ClassVar[int] = 1

    def __call__(self, z: Array) -> Array:
        return namespace(z).tanh(z)

    def slope(self, z: Array) -> Array:
        rate = namespace(z).tanh(z)
        return 1.0 - rate * rate
