"""When the lanes of a plan run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import Scale
from hwsim.contracts.units import engineering

from .contract import Schedule


@final
@dataclass(frozen=True)
class OneByOne(Schedule):
    """One chip serves a batch lane by lane: lane b begins b (T dt + pause) seconds after the plan.

    Cells then drift between lanes and are read anew in each (lanes with one sample id and repeat share that draw), so
    that a + nudge and its - nudge, two repeats, no longer see the same conductances. The model of the device is that of
    the last lane. Without it all lanes of a plan run at one moment, as on as many chips with the same cells. Rounding
    aside it changes nothing where nothing drifts and no cell is noisy.

    Args:
        seconds: from the end of one lane's plan to the beginning of the next: loading, link and converters.

    Raises:
        InputError: a negative time.

    Cost: a plan of B lanes runs as B plans, and drawn anew for each.
    """

    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise InputError(f"lanes can run a finite time of at least 0 s apart; found {self.seconds}")

    @property
    def pause(self) -> float:
        return self.seconds

    def describe(self, scale: Scale) -> str:
        return f"lanes one after another, {engineering(self.seconds, 's')} apart"
