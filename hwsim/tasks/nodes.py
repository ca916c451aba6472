"""Tasks that are read directly from nodes: no digital head, the hardware answers in volts."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch, Task

from .shipped import shipped

HELD_OUT = 50
"""Flowers held out of 150: one of them is 2 % of accuracy."""
_SPLIT_SEED = 0


class NodeTask(Task):
    """A task whose K predictions are node voltages or differences of two, `L = mean_b |p_b - y_b|^2 / 2`, volt^2:

        p_k = z[plus_k] - z[minus_k],    or p_k = z[plus_k] where `minus` is empty
        c_plus_k = (p_k - y_k) / B = -c_minus_k                      signal, volt; zero at every other unit

    Differences give a network of positive conductances both signs. Targets are [B, K], volt; there are no `readout.*`
    blocks.
    """

    plus: tuple[int, ...]
    minus: tuple[int, ...]

    @property
    @abstractmethod
    def validation(self) -> Batch: ...

    def check_nodes(self) -> None:
        """Refuse nodes that do not exist or answer twice; to be called where the task is made.

        Raises:
            InputError: says which.
        """
        if not self.plus or (self.minus and len(self.minus) != len(self.plus)):
            raise InputError(
                f"predictions need one plus node each, and as many minus nodes or none; found plus={self.plus} and "
                f"minus={self.minus}"
            )
        nodes = (*self.plus, *self.minus)
        if len(set(nodes)) != len(nodes) or not (min(nodes) >= 0 and max(nodes) < self.units):
            raise InputError(
                f"plus and minus need different units from 0 to {self.units - 1}; found plus={self.plus} and "
                f"minus={self.minus}"
            )

    @property
    def output_units(self) -> Int[Array, " K"]:
        return np.array(sorted((*self.plus, *self.minus)))

    def prediction(self, z: Float[Array, "B N"]) -> Float[Array, "B K"]:
        """p, volt."""
        return z @ self._reader(z)

    def accuracy(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> float:
        """Fraction of samples whose largest prediction is where the target is largest (one-hot targets)."""
        xp = namespace(z)
        hit = xp.argmax(self.prediction(z), axis=1) == xp.argmax(targets, axis=1)
        return float(xp.mean(xp.astype(hit, z.dtype)))

    def initial_readout(self, seed: int, gain: float) -> Parameters:
        """No blocks."""
        return Parameters({})

    def losses(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Float[Array, " B"]:
        error = self._error(z, targets)
        return namespace(z).sum(error * error, axis=1) / 2.0

    def signal(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Float[Array, "B N"]:
        return self._error(z, targets) @ self._reader(z).T / len(targets)

    def readout_credit(self, z: Float[Array, "B N"], targets: Float[Array, "B K"], theta: Parameters) -> Parameters:
        """No blocks."""
        return Parameters({})

    def _error(self, z: Float[Array, "B N"], targets: Float[Array, "B K"]) -> Float[Array, "B K"]:
        return self.prediction(z) - namespace(z).asarray(targets, dtype=z.dtype, device=z.device)

    def _reader(self, z: Array) -> Float[Array, "N K"]:
        """+1 at plus_k, -1 at minus_k."""
        columns = np.arange(len(self.plus))
        reader = np.zeros((self.units, len(self.plus)))
        reader[list(self.plus), columns] = 1.0
        if self.minus:
            reader[list(self.minus), columns] = -1.0
        return namespace(z).asarray(reader, dtype=z.dtype, device=z.device)


@final
@dataclass(frozen=True, kw_only=True)
class Iris(NodeTask):
    """Three kinds of iris from four measurements, all in volts: sources in, nodes out.

        x = (s, -s, 1 V, -1 V) with s = volt_per_sd (measurement - mean) / sd          M = 10
        y = target * onehot(kind)

    Every measurement drives a pair of sources of opposite sign, and a pair of constant ones is the bias, so that
    positive conductances suffice. Mean and sd are those of the training set; 50 of the 150 flowers, drawn once, are
    held out.

    Data: R. A. Fisher, Annals of Eugenics 7:179 (1936), as scikit-learn ships it.

    Args:
        units: N of the network.
        plus, minus: nodes of the three predictions, see `NodeTask`.
        target: volt of the right kind; the others' is 0.
        volt_per_sd: source voltage of one standard deviation.

    Raises:
        InputError: nodes that do not exist, are named twice or are not three; voltages that are not positive.
    """

    units: int
    plus: tuple[int, ...]
    minus: tuple[int, ...] = ()
    target: float = 0.1
    volt_per_sd: float = 1.0
    inputs: int = 10
    kinds: int = 3

    def __post_init__(self) -> None:
        self.check_nodes()
        if len(self.plus) != self.kinds:
            raise InputError(f"Iris has {self.kinds} kinds and needs as many plus nodes; found plus={self.plus}")
        for name in ("target", "volt_per_sd"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"Iris needs {name} > 0 and finite; found {name}={value}")

    @property
    def chance(self) -> float:
        """The answer target / 3 everywhere: `target^2 (1 - 1/3) / 2`."""
        return self.target**2 * (1.0 - 1.0 / self.kinds) / 2.0

    @cached_property
    def _data(self) -> tuple[Float[Array, "S M"], Float[Array, "S K"]]:
        table = shipped("iris.csv", header=1)
        measured, kind = table[:, :-1], table[:, -1].astype(np.int64)
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(kind))
        measured, kind = measured[order], kind[order]
        trained = measured[HELD_OUT:]
        scaled = self.volt_per_sd * (measured - trained.mean(axis=0)) / trained.std(axis=0)
        bias = np.ones((len(kind), 1))
        return np.concatenate([scaled, -scaled, bias, -bias], axis=1), self.target * np.eye(self.kinds)[kind]

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        draw = np.random.default_rng([seed, 2, step])
        return self._at(HELD_OUT + draw.integers(0, len(self._data[0]) - HELD_OUT, size))

    @cached_property
    def validation(self) -> Batch:
        return self._at(np.arange(HELD_OUT))

    def _at(self, index: Int[Array, " B"]) -> Batch:
        inputs, targets = self._data
        return Batch(inputs=inputs[index], targets=targets[index], ids=np.arange(len(index)))
