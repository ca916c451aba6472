"""A task whose loss looks at a window of states, as a readout does that averages over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch, Task


@final
@dataclass(frozen=True, kw_only=True)
class Windowed(Task):
    """Another task, with the mean of its losses at z_first .. z_last deployed, `L = sum_k L(z_k) / (last - first + 1)`.

    Args:
        task: whose data, readout and loss these are.
        first: first state of the window, counted from z_0 = 0.
        last: last state of the window; z_T where None.

    Raises:
        InputError: a window that ends before it begins, or (from `weights`) beyond the horizon.
    """

    task: Task
    first: int
    last: int | None = None

    def __post_init__(self) -> None:
        whole("Windowed", "first", self.first, least=0)
        if self.last is not None:
            whole("Windowed", "last", self.last, least=self.first)

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.task.inputs

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.task.units

    @property
    def output_units(self) -> Int[Array, " K"]:
        return self.task.output_units

    def weights(self, horizon: int) -> Float[Array, " T1"]:
        last = horizon if self.last is None else self.last
        if not self.first <= last <= horizon:
            raise InputError(
                f"a window from z_{self.first} to z_{last} needs a horizon of at least {max(self.first, last)} steps; "
                f"the device settles for {horizon}"
            )
        weights = np.zeros(horizon + 1)
        weights[self.first : last + 1] = 1.0 / (last + 1 - self.first)
        return weights

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        return self.task.training_batch(step, size, seed)

    @property
    def validation(self) -> Batch:
        return self.task.validation

    @property
    def chance(self) -> float:
        return self.task.chance

    def initial_readout(self, seed: int, gain: float) -> Parameters:
        return self.task.initial_readout(seed, gain)

    def losses(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, " B"]:
        return self.task.losses(z, targets, theta)

    def signal(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, "B N"]:
        return self.task.signal(z, targets, theta)

    def readout_credit(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Parameters:
        return self.task.readout_credit(z, targets, theta)
