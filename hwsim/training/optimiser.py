"""Adam, as a pure function on parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters


@final
@dataclass(frozen=True, kw_only=True)
class AdamState:
    """First and second moments of the gradients, and how many updates they hold."""

    first: Parameters
    second: Parameters
    count: int


@final
@dataclass(frozen=True, kw_only=True)
class Adam:
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
        """Moments at zero."""
        return AdamState(first=theta.zeros(), second=theta.zeros(), count=0)

    def update(self, theta: Parameters, gradients: Parameters, state: AdamState) -> tuple[Parameters, AdamState]:
        """One update: (new parameters, new moments)."""
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
        return theta | moved, AdamState(first=first, second=second, count=count)

    def _moved(self, block: Array, first: Array, second: Array, scale: float, correction: float) -> Array:
        # in place as far as it goes: the temporaries of large blocks cost more than the arithmetic
        root = second / correction
        np.sqrt(root, out=root)
        root += self.epsilon
        np.divide(first, root, out=root)
        root *= scale
        return np.subtract(block, root, out=root)


def _decayed(moment: Array, new: Array, decay: float) -> Array:
    """`decay * moment + (1 - decay) * new`."""
    total = (1 - decay) * new
    total += decay * moment
    return total
