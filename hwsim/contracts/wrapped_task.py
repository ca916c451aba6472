"""A task around another one."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int

from .arrays import Array
from .parameters import Parameters
from .task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class WrappedTask(Task):
    """Everything as in the task inside: a subclass says what it changes.

    Args:
        task: the one inside.
    """

    task: Task

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.task.inputs

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.task.units

    @property
    def output_units(self) -> Int[Array, " K"]:
        return self.task.output_units

    @property
    def chance(self) -> float:
        return self.task.chance

    @property
    def validation(self) -> Batch:
        return self.task.validation

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        return self.task.training_batch(step, size, seed)

    def weights(self, horizon: int) -> Float[Array, " T1"]:
        return self.task.weights(horizon)

    def initial_readout(self, seed: int, gain: float) -> Parameters:
        return self.task.initial_readout(seed, gain)

    def losses(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, " B"]:
        return self.task.losses(z, targets, theta)

    def signal(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, "B N"]:
        return self.task.signal(z, targets, theta)

    def readout_credit(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Parameters:
        return self.task.readout_credit(z, targets, theta)
