"""The job that every engine runs: settle a noisy leaky tanh network for T steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwsim import LeakyNetwork, Parameters

INPUTS, GAIN, STEP_SIZE, SEED = 64, 0.8, 0.1, 1
NOISE = 0.05
"""sigma where noise is on, state units."""
STEPS = 150
"""T of the grid."""
KICK = 0.1
"""By how much every unit of a twin is displaced at the start, state units."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """`z <- z + eps (-z + W tanh z + U x + b) + sigma sqrt(2 eps) xi` for T steps from z = 0, on B lanes of N units.

    With twins every lane has a second one beside it, `rows` = 2 B of them: same input, same xi, started `KICK` away.

    Args:
        units, lanes, steps: N, B, T.
        dtype: "float32" or "float64", of everything.
        sigma: thermal noise, state units; 0 for none.
        twins: whether every lane has one.
    """

    units: int
    lanes: int
    steps: int = STEPS
    dtype: str = "float32"
    sigma: float = 0.0
    twins: bool = False

    @property
    def step_size(self) -> float:
        """eps, in time constants."""
        return STEP_SIZE

    @property
    def amplitude(self) -> float:
        """Standard deviation of the noise of one step, state units."""
        return self.sigma * float(np.sqrt(2.0 * self.step_size))

    @property
    def rows(self) -> int:
        """Trajectories: B, or 2 B with twins."""
        return self.lanes * self.copies

    @property
    def copies(self) -> int:
        """Trajectories with the same noise."""
        return 2 if self.twins else 1

    @cached_property
    def network(self) -> LeakyNetwork:
        """All-to-all couplings, 64 inputs."""
        return LeakyNetwork.dense(self.units, INPUTS)

    @cached_property
    def theta(self) -> Parameters:
        """W, U and b."""
        return self.network.initial(SEED, gain=GAIN, input_gain=1.0).map(lambda block: block.astype(self.dtype))

    @cached_property
    def inputs(self) -> NDArray[np.floating]:
        """x, [rows, M]."""
        x = np.random.default_rng(SEED).standard_normal((self.lanes, INPUTS)).astype(self.dtype)
        return np.concatenate([x] * self.copies)

    @cached_property
    def start(self) -> NDArray[np.floating]:
        """z_0, [rows, N]."""
        start = np.zeros((self.rows, self.units), self.dtype)
        start[self.lanes :] = KICK
        return start

    @property
    def flop(self) -> float:
        """Multiplications and additions of all products with W."""
        return 2.0 * self.rows * self.units**2 * self.steps

    @property
    def deviates(self) -> float:
        """Normal deviates, which twins share."""
        return float(self.lanes * self.units * self.steps) if self.sigma else 0.0

    @property
    def case(self) -> str:
        """In a table."""
        noise = "on" if self.sigma else "off"
        return f"{self.units}, {self.lanes}, {noise}, {'twins' if self.twins else 'single'}"

    def describe(self) -> str:
        """In a few words."""
        noise = "noise on" if self.sigma else "noise off"
        twins = ", twins" if self.twins else ""
        return f"N = {self.units}, B = {self.lanes}, T = {self.steps}, {self.dtype}, {noise}{twins}"
