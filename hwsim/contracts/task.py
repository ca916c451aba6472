"""What is to be learned: data, a digital readout and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from .arrays import Array, namespace
from .errors import InputError
from .parameters import Parameters
from .plan import Relaxation


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

    `L` is the mean over the batch, and `signal` is its exact derivative: the 1/B is applied once, here. What is
    deployed is `sum_k w_k L(z_k)` over the states of a settling, w = `weights(T)`: L(z_T) unless a task says otherwise.
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

    def weights(self, horizon: int) -> Float[Array, " T1"]:
        """Weight of the loss at each of the states z_0 .. z_T, float64, with sum 1: all of it at z_T unless told."""
        weights = np.zeros(horizon + 1)
        weights[horizon] = 1.0
        return weights

    @abstractmethod
    def losses(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, " B"]:
        """The loss of every sample (nats for a cross-entropy)."""

    @final
    def loss(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Array:
        """L, the mean of `losses`, a scalar array."""
        return namespace(z).mean(self.losses(z, targets, theta))

    @abstractmethod
    def signal(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Float[Array, "B N"]:
        """`c = dL/dz`, loss units per state unit."""

    @abstractmethod
    def readout_credit(self, z: Float[Array, "B N"], targets: Array, theta: Parameters) -> Parameters:
        """`dL/d(readout.*)` at fixed z: the head's own delta rule."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a task says of one deployed settling of a batch: `L = sum_k w_k L(z_k)` and its derivatives.

    Args:
        losses: [B], L of every sample.
        final: [B, N], `w_T dL/dz(z_T)`: the signal c.
        earlier: [T, B, N], `w_k dL/dz(z_k)` for k = 0 .. T - 1; None where only z_T counts.
        readout: dL/d(readout.*).
    """

    losses: Float[Array, " B"]
    final: Float[Array, "B N"]
    earlier: Float[Array, "T B N"] | None
    readout: Parameters

    @property
    def loss(self) -> float:
        """L, the mean over the batch."""
        return float(namespace(self.losses).mean(self.losses))


def judge(task: Task, free: Relaxation, batch: Batch, theta: Parameters, horizon: int) -> Judged:
    """Look at a settling with the eyes of a task, at the states as they were read.

    Args:
        task: whose loss.
        free: the settling; recorded at every step (record=1) where the task looks at states before z_T.
        batch: its samples.
        theta: with the `readout.*` blocks.
        horizon: T, the steps of the settling.

    Raises:
        InputError: the task looks along the way and the states were not all recorded.
    """
    weights, z = task.weights(horizon), free.final
    signal, readout = task.signal(z, batch.targets, theta), task.readout_credit(z, batch.targets, theta)
    losses = task.losses(z, batch.targets, theta)
    if only_final(weights):
        return Judged(losses=losses, final=signal, earlier=None, readout=readout)
    states, w = free.recorded, [float(weight) for weight in weights]
    if len(states) != horizon + 1:
        raise InputError(
            f"{type(task).__name__} looks at states before z_T: record every one of the {horizon} steps; found a "
            f"recording of {len(states)} states"
        )

    def along(of: Callable[[Float[Array, "B N"], Array, Parameters], Array], k: int) -> Array:
        return of(states[k], batch.targets, theta) * w[k]

    losses, readout = losses * w[-1], readout * w[-1]
    for k in range(horizon):
        if w[k] != 0.0:
            losses = losses + along(task.losses, k)
            readout = readout + task.readout_credit(states[k], batch.targets, theta) * w[k]
    earlier = namespace(z).stack(
        [along(task.signal, k) if w[k] != 0.0 else namespace(z).zeros_like(z) for k in range(horizon)]
    )
    return Judged(losses=losses, final=signal * w[-1], earlier=earlier, readout=readout)


def only_final(weights: Float[Array, " T1"]) -> bool:
    """Whether the loss looks at z_T alone."""
    return bool((weights[:-1] == 0.0).all())
