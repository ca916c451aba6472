"""A task whose loss looks at a window of states, as a readout does that averages over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError
from hwsim.contracts.wrapped_task import WrappedTask


@final
@dataclass(frozen=True, kw_only=True)
class Windowed(WrappedTask):
    """Another task, with the mean of its losses at z_first .. z_last deployed, `L = sum_k L(z_k) / (last - first + 1)`.

    Args:
        task: whose data, readout and loss these are.
        first: first state of the window, counted from z_0 = 0.
        last: last state of the window; z_T where None.

    Raises:
        InputError: a window that ends before it begins, or (from `weights`) beyond the horizon.
    """

    first: int
    last: int | None = None

    def __post_init__(self) -> None:
        whole("Windowed", "first", self.first, least=0)
        if self.last is not None:
            whole("Windowed", "last", self.last, least=self.first)

    def weights(self, horizon: int) -> Float[Array, " T1"]:
        last = horizon if self.last is None else self.last
        if not self.first <= last <= horizon:
            raise InputError(
                f"a window from z_{self.first} to z_{last} needs a horizon of at least {max(self.first, last)} steps; "
                f"the device settles for {horizon}"
            )
        weights = np.zeros(horizon + 1)
        weights[self.first : last + 1] = 1.0 / (last + 1 - self.first)
        return weights
