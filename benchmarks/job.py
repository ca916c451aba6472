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


@dataclass(frozen=True, kw_only=True)
class Job:
    """`z <- z + eps (-z + W tanh z + U x + b) + sigma sqrt(2 eps) xi` for T steps from z = 0, on B lanes of N units.

    Args:
        units, lanes, steps: N, B, T.
        dtype: "float32" or "float64", of everything.
        sigma: thermal noise, state units; 0 for none.
    """

    units: int
    lanes: int
    steps: int
    dtype: str = "float32"
    sigma: float = 0.0

    @property
    def step_size(self) -> float:
        """eps, in time constants."""
        return STEP_SIZE

    @property
    def amplitude(self) -> float:
        """Standard deviation of the noise of one step, state units."""
        return self.sigma * float(np.sqrt(2.0 * self.step_size))

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
        """x, [B, M]."""
        return np.random.default_rng(SEED).standard_normal((self.lanes, INPUTS)).astype(self.dtype)

    def describe(self) -> str:
        """In a few words."""
        noise = "noise on" if self.sigma else "noise off"
        return f"N = {self.units}, B = {self.lanes}, T = {self.steps}, {self.dtype}, {noise}"
