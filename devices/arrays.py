"""The arrays that an engine works on: NumPy, or another library's on one of its devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Plan, Relaxation


class Arrays(ABC):
    """Brings values to where an engine computes, and answers back to where they were asked from."""

    xp: ModuleType
    """Their array-API namespace."""

    @abstractmethod
    def array(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """Values here, of a type; themselves where they are so already."""

    @abstractmethod
    def copy(self, values: Array) -> Array:
        """Values of here that nobody else holds."""

    @abstractmethod
    def holds(self, parameters: Parameters) -> bool:
        """Whether these are arrays of the engine's own library and not NumPy's, so that what is read back is too."""

    @abstractmethod
    def plan(self, plan: Plan, dtype: np.dtype[Any], states: np.dtype[Any]) -> Plan:
        """A plan with everything but its addresses here: inputs in `dtype`, states and forces in `states`."""

    @abstractmethod
    def answers(self, runs: tuple[Relaxation, ...], plan: Plan) -> tuple[Relaxation, ...]:
        """What was read, in the arrays of the plan as it was asked."""


@final
class HostArrays(Arrays):
    """NumPy, which takes whatever NumPy takes; a value is brought into its type where it is used."""

    xp = np

    def array(self, values: Array, dtype: np.dtype[Any]) -> Array:
        return np.asarray(values, dtype)

    def copy(self, values: Array) -> Array:
        return values.copy()

    def holds(self, parameters: Parameters) -> bool:
        return False

    def plan(self, plan: Plan, dtype: np.dtype[Any], states: np.dtype[Any]) -> Plan:
        return plan

    def answers(self, runs: tuple[Relaxation, ...], plan: Plan) -> tuple[Relaxation, ...]:
        return runs


HOST = HostArrays()
"""The arrays of every engine that does not say otherwise."""
