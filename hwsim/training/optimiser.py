"""Optimisers, as pure functions on parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters


@final
@dataclass(frozen=True, kw_only=True)
class AdamState:
    """First and second moments of the gradients, and how many updates they hold; no blocks where nothing is kept."""

    first: Parameters
    second: Parameters
    count: int


class Optimiser(ABC):
    """Turns gradients into updates of the digital shadow copy of the parameters, in float64. Frozen blocks stay."""

    @abstractmethod
    def start(self, theta: Parameters) -> AdamState:
        """What is remembered before the first update."""

    @abstractmethod
    def update(self, theta: Parameters, gradients: Parameters, state: AdamState) -> tuple[Parameters, AdamState]:
        """One update: (new parameters, what is remembered)."""


@final
@dataclass(frozen=True, kw_only=True)
class SGD(Optimiser):
    """`theta <- theta - lr g`: no memory. Frozen blocks stay as they are.

    Args:
        learning_rate: parameter units per gradient unit.

    Cost: one pass over the parameters, where Adam takes a dozen.
    """

    learning_rate: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"SGD needs a positive, finite learning_rate; found {self.learning_rate}")

    def start(self, theta: Parameters) -> AdamState:
        return AdamState(first=Parameters({}), second=Parameters({}), count=0)

    def update(self, theta: Parameters, gradients: Parameters, state: AdamState) -> tuple[Parameters, AdamState]:
        moved = {
            name: _descended(block, gradients[name], self.learning_rate)
            for name, block in theta.items()
            if name not in theta.frozen
        }
        return theta | Parameters.owning(moved), replace(state, count=state.count + 1)


@final
@dataclass(frozen=True, kw_only=True)
class Adam(Optimiser):
    """`m <- b1 m + (1 - b1) g`, `q <- b2 q + (1 - b2) g^2`, `theta <- theta - lr m^ / (sqrt(q^) + eps)`.

    `m^`, `q^` are corrected for their start at zero. Frozen blocks stay as they are. Works on the digital shadow copy
    of the parameters, in float64.

    Args:
        learning_rate: step per update, parameter units.
        decay_first, decay_second: b1, b2.
        epsilon: added to the root, gradient units.

    Source: Kingma and Ba, arXiv:1412.6980.
    """

    learning_rate: float
    decay_first: float = 0.9
    decay_second: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"Adam needs a positive, finite learning_rate; found {self.learning_rate}")

    def start(self, theta: Parameters) -> AdamState:
        return AdamState(first=theta.zeros(), second=theta.zeros(), count=0)

    def update(self, theta: Parameters, gradients: Parameters, state: AdamState) -> tuple[Parameters, AdamState]:
        count = state.count + 1
        first = state.first.zip(gradients, lambda m, g: _decayed(m, g, self.decay_first))
        second = state.second.zip(gradients, lambda q, g: _decayed(q, g * g, self.decay_second))
        scale = self.learning_rate / (1 - self.decay_first**count)
        correction = 1 - self.decay_second**count
        moved = {
            name: self._moved(block, first[name], second[name], scale, correction)
            for name, block in theta.items()
            if name not in theta.frozen
        }
        return theta | Parameters.owning(moved), AdamState(first=first, second=second, count=count)

    def _moved(self, block: Array, first: Array, second: Array, scale: float, correction: float) -> Array:
        # in place as far as it goes: the temporaries of large blocks cost more than the arithmetic
        xp, root = namespace(block), second / correction
        xp.sqrt(root, out=root)
        root += self.epsilon
        xp.divide(first, root, out=root)
        root *= scale
        return xp.subtract(block, root, out=root)


def _descended(block: Array, gradient: Array, rate: float) -> Array:
    """`block - rate * gradient`."""
    if not isinstance(gradient, np.ndarray):
        return block - rate * gradient
    step = gradient.astype(np.result_type(block, gradient))  # a mixed product is cast piece by piece, and slowly
    step *= -rate
    step += block
    return step


def _decayed(moment: Array, new: Array, decay: float) -> Array:
    """`decay * moment + (1 - decay) * new`."""
    total = (1 - decay) * new
    total += decay * moment
    return total
