"""The digital head: a linear readout under a softmax cross-entropy."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch, Task


class Classification(Task):
    """A task with classes: `logits = V z + c`, `L = mean_b -log softmax(logits)_y`, in nats.

    Blocks "readout.V" [classes, N] and "readout.c" [classes]. The delta rule `p - onehot(y)` is all that is ever needed
    of the head: the signal to the units is `(p - onehot) V / B`, its own credit `(p - onehot)^T z / B`.
    """

    classes: int

    @property
    @abstractmethod
    def validation(self) -> Batch: ...

    @property
    def chance(self) -> float:
        return math.log(self.classes)

    def initial_readout(self, seed: int, gain: float) -> Parameters:
        draw = np.random.default_rng([seed, 1])
        weights = gain * draw.standard_normal((self.classes, self.units)) / np.sqrt(self.units)
        return Parameters({"readout.V": weights, "readout.c": np.zeros(self.classes)})

    def logits(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B classes"]:
        """`V z + c`."""
        return z @ theta["readout.V"].T + theta["readout.c"]

    def losses(self, z: Float[Array, "B N"], targets: Int[Array, " B"], theta: Parameters) -> Float[Array, " B"]:
        xp = namespace(z)
        logits = self.logits(z, theta)
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(shifted), axis=1))
        return log_sum - xp.take_along_axis(shifted, targets[:, None], axis=1)[:, 0]

    def accuracy(self, z: Float[Array, "B N"], targets: Int[Array, " B"], theta: Parameters) -> float:
        """Fraction of samples whose largest logit is the target's."""
        xp = namespace(z)
        return float(xp.mean(xp.astype(xp.argmax(self.logits(z, theta), axis=1) == targets, z.dtype)))

    def signal(self, z: Float[Array, "B N"], targets: Int[Array, " B"], theta: Parameters) -> Float[Array, "B N"]:
        return self._delta(z, targets, theta) @ theta["readout.V"]

    def readout_credit(self, z: Float[Array, "B N"], targets: Int[Array, " B"], theta: Parameters) -> Parameters:
        delta = self._delta(z, targets, theta)
        return Parameters({"readout.V": delta.T @ z, "readout.c": namespace(z).sum(delta, axis=0)})

    def _delta(self, z: Float[Array, "B N"], targets: Int[Array, " B"], theta: Parameters) -> Float[Array, "B classes"]:
        """`(softmax(logits) - onehot(y)) / B`: dL/dlogits."""
        xp = namespace(z)
        logits = self.logits(z, theta)
        odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        classes = xp.arange(self.classes, device=z.device)
        hit = xp.astype(classes[None, :] == targets[:, None], z.dtype)
        return (odds / xp.sum(odds, axis=1, keepdims=True) - hit) / len(targets)
