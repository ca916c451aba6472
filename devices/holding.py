"""What a simulated device holds, and how it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields, replace
from typing import final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters

from .imperfections.contract import WriteReport

KEYS = frozenset({"event", "wrote", "elapsed", "report"})
"""What `Holding.save` always gives."""
_HELD = "held/"


@final
@dataclass(frozen=True, kw_only=True)
class Holding:
    """A value; writing gives another one.

    Args:
        held: the analog parameters; None before anything was written.
        event: how often the hardware was written.
        wrote: which of those times wrote what is held: the address of its draws.
        elapsed: seconds since.
        report: what happened in all writes.
    """

    held: Parameters | None = None
    event: int = 0
    wrote: int = 0
    elapsed: float = 0.0
    report: WriteReport = WriteReport()

    @property
    def parameters(self) -> Parameters:
        """What is held.

        Raises:
            InputError: nothing is.
        """
        if self.held is None:
            raise InputError("nothing is programmed: call device.program(parameters) before relaxing")
        return self.held

    def written(self, held: Parameters, report: WriteReport) -> Holding:
        """After another write."""
        return Holding(held=held, event=self.event + 1, wrote=self.event, report=self.report + report)

    def later(self, seconds: float) -> Holding:
        """After a wait.

        Raises:
            InputError: a time that is negative or not finite.
        """
        if not (np.isfinite(seconds) and seconds >= 0):
            raise InputError(f"a device can wait a finite time of at least 0 s; found {seconds}")
        return replace(self, elapsed=self.elapsed + seconds)

    def save(self) -> dict[str, Array]:
        """As arrays by name."""
        saved = {
            "event": np.array(self.event),
            "wrote": np.array(self.wrote),
            "elapsed": np.array(self.elapsed),
            "report": np.array(astuple(self.report)),
        }
        return saved if self.held is None else saved | {f"{_HELD}{name}": block for name, block in self.held.items()}

    def restored(self, saved: Mapping[str, Array]) -> Holding:
        """What `save` gave; where nothing had been written, what is held stays."""
        counts = dict(zip((each.name for each in fields(WriteReport)), saved["report"].tolist(), strict=True))
        held = {name.removeprefix(_HELD): block for name, block in saved.items() if name.startswith(_HELD)}
        event, report = int(saved["event"]), WriteReport(**counts)
        if not held:
            return replace(self, event=event, report=report)
        return Holding(
            held=Parameters(held),
            event=event,
            wrote=int(saved["wrote"]),
            elapsed=float(saved["elapsed"]),
            report=report,
        )
