"""The arrays that an engine works on: NumPy, or another library's on one of its devices."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from dataclasses import replace
from types import ModuleType
from typing import Any, final

import numpy as np

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation


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
    def answers(self, runs: tuple[Relaxation, ...], plan: Plan) -> tuple[Relaxation, ...]:
        """What was read, in the arrays of the plan as it was asked."""

    def plan(self, plan: Plan, dtype: np.dtype[Any], states: np.dtype[Any]) -> Plan:
        """A plan with everything but its addresses here: inputs in `dtype`, states and forces in `states`."""
        inputs, start = self.array(plan.inputs, dtype), plan.start
        if isinstance(start, At):
            start = At(self.array(start.state, states))
        phases = tuple(self._phase(phase, dtype, states) for phase in plan.phases)
        same = inputs is plan.inputs and start is plan.start and all(map(operator.is_, phases, plan.phases))
        return plan if same else replace(plan, inputs=inputs, start=start, phases=phases)

    def _phase(self, phase: Phase, dtype: np.dtype[Any], states: np.dtype[Any]) -> Phase:
        if phase.force is None and phase.displace is None and phase.correct_at is None and phase.clamp is None:
            return phase

        def here(values: Array | None, of: np.dtype[Any]) -> Array | None:
            return None if values is None else self.array(values, of)

        clamp = None if phase.clamp is None else (host(phase.clamp[0]), self.array(phase.clamp[1], states))
        return replace(
            phase,
            force=here(phase.force, states),
            displace=here(phase.displace, states),
            correct_at=here(phase.correct_at, dtype),
            clamp=clamp,
        )


@final
class HostArrays(Arrays):
    """NumPy, which takes whatever NumPy takes."""

    xp = np

    def array(self, values: Array, dtype: np.dtype[Any]) -> Array:
        return np.asarray(values, dtype)

    def copy(self, values: Array) -> Array:
        return values.copy()

    def holds(self, parameters: Parameters) -> bool:
        return False

    def answers(self, runs: tuple[Relaxation, ...], plan: Plan) -> tuple[Relaxation, ...]:
        return runs


HOST = HostArrays()
"""The arrays of every engine that does not say otherwise."""
