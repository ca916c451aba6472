"""The drive of a batch of inputs, kept for the further settlings of the same batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array


@final
class Drives:
    """What inputs contribute to the field, computed once for all settlings of one batch under the same parameters.

    A rule settles freely and then, as twins or under a nudge, further copies of the same lanes: inputs that repeat
    those seen last, once or several times over, get the same bits again. They are known by their values, so that nobody
    has to say that they are the same.

    Cost: one comparison of the inputs, B M reads, in place of 2 B N M flop; memory B (M + N).
    """

    def __init__(self) -> None:
        self._x: Array | None = None
        self._drive: Array | None = None

    @property
    def empty(self) -> bool:
        """Whether no inputs have been seen yet."""
        return self._x is None

    def of(
        self, x: Float[Array, "B M"], compute: Callable[[Float[Array, "B M"]], Float[Array, "B N"]]
    ) -> Float[Array, "B N"]:
        """`compute(x)`, or what it was."""
        if self._x is not None and self._drive is not None:
            lanes = len(self._x)
            copies, rest = divmod(len(x), lanes) if lanes else (0, 1)
            if copies and not rest and bool((x.reshape(copies, lanes, -1) == self._x).all()):
                return self._drive if copies == 1 else np.tile(self._drive, (copies, 1))
        self._x, self._drive = x.copy(), compute(x)  # the inputs are the caller's to write into
        return self._drive
