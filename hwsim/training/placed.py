"""A task whose samples are where a device computes, so that training never goes over the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch
from hwsim.contracts.wrapped_task import WrappedTask
from hwsim.reference import Place

from .optimiser import AdamState
from .trainer import TrainingState


@final
@dataclass(frozen=True, kw_only=True)
class Placed(WrappedTask):
    """Another task, its samples and readout as arrays of a place and of one type.

    On a device with `TorchEngine` at the same place everything in a training step is then a tensor there: states,
    signals, gradients, moments and what is programmed. Only sample ids stay in NumPy. Tensors of two types do not mix,
    so take the type of the device: its shadow copy of the parameters is then of that type too, where NumPy's would be
    float64.

    Args:
        task: the one inside.
        place: where; `Place(torch="cuda")`.
        dtype: float32 or float64, as the device has it.

    Raises:
        InputError: another type.
    """

    place: Place
    dtype: type[np.floating[Any]] = np.float64

    def __post_init__(self) -> None:
        if np.dtype(self.dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise InputError(f"a placed task is of float32 or float64; found {np.dtype(self.dtype)}")

    def array(self, values: Array) -> Array:
        """Values here; real numbers in the type of this task."""
        placed = self.place.array(values)
        if "float64" not in str(placed.dtype) or self.dtype is np.float64:
            return placed
        return placed.astype(self.dtype) if isinstance(placed, np.ndarray) else placed.float()

    def parameters(self, theta: Parameters) -> Parameters:
        """The same blocks here."""
        return theta.map(self.array)

    def state(self, state: TrainingState) -> TrainingState:
        """A state that was read from a file, here, to go on with."""
        moments = state.moments
        return replace(
            state,
            theta=self.parameters(state.theta),
            moments=AdamState(
                first=self.parameters(moments.first), second=self.parameters(moments.second), count=moments.count
            ),
            free=None if state.free is None else self.parameters(state.free),
        )

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        return self._placed(self.task.training_batch(step, size, seed))

    @cached_property
    def validation(self) -> Batch:
        return self._placed(self.task.validation)

    def initial_readout(self, seed: int, gain: float) -> Parameters:
        return self.parameters(self.task.initial_readout(seed, gain))

    def _placed(self, batch: Batch) -> Batch:
        return replace(batch, inputs=self.array(batch.inputs), targets=self.array(batch.targets))
