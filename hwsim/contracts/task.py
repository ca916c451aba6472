"""What is to be learned: data, a digital readout and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .arrays import Array
from .parameters import Parameters


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of a task.

    Args:
        inputs: [B, M] drive.
        targets: [B] class index or [B, ...] value, as the task reads it.
        ids: [B] sample ids, distinct within the batch: part of every noise address, so that a sample keeps its noise
            when the batch is reordered.
    """

    inputs: Float[Array, "B M"]
    targets: Array
    ids: Int[Array, " B"]

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Int[Array, " K"] | slice) -> Batch:
        """The samples at `index`, ids kept."""
        return Batch(inputs=self.inputs[index], targets=self.targets[index], ids=self.ids[index])


class Task(ABC):
    """A loss `L(z, y; theta)` through a digital head (the `readout.*` blocks), and the data behind it.

    `L` is the mean over the batch, and `signal` is its exact derivative: the 1/B is applied once, here.
    """

    inputs: int
    units: int

    @property
    def output_units(self) -> Int[Array, " K"]:
        """Indices of the units that the loss looks at, ascending; all of them unless told."""
        return np.arange(self.units)

    @abstractmethod
    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        """The batch of one training step, a pure function of its arguments."""

    @property
    @abstractmethod
    def validation(self) -> Batch:
        """The fixed held-out batch on which everything is evaluated."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The loss of the best constant guess under equal classes: a run that ends above it has learned nothing."""

    @abstractmethod
    def initial_readout(self, seed: int, gain: float) -> Parameters:
        """Fresh `readout.*` blocks, weights drawn with standard deviation gain / sqrt(fan-in)."""

    @abstractmethod
    def loss(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Array:
        """L, a scalar array (nats for a cross-entropy)."""

    @abstractmethod
    def signal(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, "B N"]:
        """`c = dL/dz`, loss units per state unit."""

    @abstractmethod
    def readout_credit(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Parameters:
        """`dL/d(readout.*)` at fixed z: the head's own delta rule."""
