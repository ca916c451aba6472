"""A rule's way down from the exact gradient of the deployed loss to what it delivers, for audits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float

from .arrays import Array
from .parameters import Parameters
from .substrate import Substrate
from .task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that an exact gradient needs to know of one deployed batch.

    Args:
        model: the physics that is differentiated.
        theta: what it is programmed with, `readout.*` included.
        batch, task: what it is to do.
        states: [T + 1, B, N] z_0 .. z_T, float64, without noise and read errors.
        step_size: eps.
    """

    model: Substrate
    theta: Parameters
    batch: Batch
    task: Task
    states: Float[Array, "T1 B N"]
    step_size: float


@dataclass(frozen=True, kw_only=True)
class Ideal:
    """What a rule would deliver if all that is left to come on its ladder were perfect.

    Args:
        name: what this rung gives up against the one before, such as "equilibrium instead of T steps".
        advice: what to change where this rung is the largest.
        gradient: of a snapshot, analog blocks and readout.
    """

    name: str
    advice: str
    gradient: Callable[[Snapshot], Parameters]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A rule's way down from BPTT of the deployed loss: every rung gives up one more thing.

    Args:
        ideals: exact gradients, the most ideal first; BPTT comes before them.
        finite: what the rule itself, on a perfect device, gives up beyond the last of them ("finite nudge").
        advice: what to change where that is the largest.
    """

    ideals: tuple[Ideal, ...]
    finite: str
    advice: str
