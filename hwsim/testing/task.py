"""Tasks with nothing behind them, for suites and tests that need one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch, Task
from hwsim.tasks import Classification


@final
@dataclass(frozen=True, kw_only=True)
class RandomRegression(Task):
    """Random inputs to random targets through a linear readout, `L = mean_b |V z + c - y|^2 / 2`.

        signal           c = V^T (V z + c - y) / B
        readout_credit   (V z + c - y) z^T / B,   (V z + c - y) / B

    Args:
        units, inputs: N and M of the device.
        outputs: components of a target.
        seed: of the data.
    """

    units: int
    inputs: int
    outputs: int = 3
    seed: int = 0

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        draw = np.random.default_rng([self.seed, seed, step])
        return Batch(
            inputs=draw.standard_normal((size, self.inputs)),
            targets=draw.standard_normal((size, self.outputs)),
            ids=np.arange(size),
        )

    @property
    def validation(self) -> Batch:
        return self.training_batch(0, 32, self.seed + 1)

    @property
    def chance(self) -> float:
        """The expected loss of the answer 0."""
        return self.outputs / 2.0

    def initial_readout(self, seed: int, gain: float) -> Parameters:
        weights = np.random.default_rng([seed, 1]).standard_normal((self.outputs, self.units))
        return Parameters({"readout.V": gain * weights / np.sqrt(self.units), "readout.c": np.zeros(self.outputs)})

    def losses(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Float[Array, " B"]:
        error = self._error(z, targets, theta)
        return namespace(z).sum(error * error, axis=1) / 2.0

    def signal(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Float[Array, "B N"]:
        return self._error(z, targets, theta) @ theta["readout.V"] / len(targets)

    def readout_credit(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Parameters:
        delta = self._error(z, targets, theta) / len(targets)
        return Parameters({"readout.V": delta.T @ z, "readout.c": namespace(z).sum(delta, axis=0)})

    def _error(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Float[Array, "B K"]:
        return z @ theta["readout.V"].T + theta["readout.c"] - targets


@final
@dataclass(frozen=True, kw_only=True)
class RandomClasses(Classification):
    """Random inputs with random labels under a softmax cross-entropy.

    Args:
        units, inputs: N and M of the device.
        classes: number of labels.
        lanes: samples of the validation batch.
    """

    units: int
    inputs: int = 4
    classes: int = 3
    lanes: int = 8

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        draw = np.random.default_rng([seed, step])
        return Batch(
            inputs=draw.standard_normal((size, self.inputs)),
            targets=draw.integers(0, self.classes, size),
            ids=np.arange(size),
        )

    @property
    def validation(self) -> Batch:
        return self.training_batch(0, self.lanes, 99)
