"""All imperfections of one device, each called at its place on the way of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Inexact

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.chip import Chip, DrawnSubstrate

from .imperfections.contract import (
    Context,
    Diffusion,
    Drive,
    Fabrication,
    Imperfection,
    Process,
    Readout,
    Realisation,
    Schedule,
    Source,
    Update,
    WriteReport,
    WriteStage,
)
from .imperfections.files import to_json
from .imperfections.write import WriteVerify
from .integrators import symmetric_root
from .lanes import Lanes

_PLACES = (Fabrication, WriteStage, Update, Realisation, Diffusion, Process, Drive, Readout, Schedule)
READ_AT_ONCE = 2**22
"""Numbers of a recording that are read at once."""
_BEGIN = 2**31
"""Time step of the draws with which a process begins, beyond every step of a settling."""


@final
class Hardware:
    """The imperfections of a device in the order of their list. Holds no state: every draw has an address.

    Args:
        imperfections: any number of any kind; those at one place act in the order of the list.
        drawing: the physics as designed.
        scale: of the device.
        step_size: eps.
        die_seed, program_seed: of what is fixed, and of what is drawn at every programming.

    Raises:
        InputError: something that is no imperfection, more than fit their noise addresses, or one that does not fit
            the substrate.
    """

    def __init__(
        self,
        imperfections: Sequence[Imperfection],
        drawing: Substrate,
        *,
        scale: Scale,
        step_size: float,
        die_seed: int,
        program_seed: int,
    ) -> None:
        for one in imperfections:
            if not isinstance(one, _PLACES):
                known = ", ".join(place.__name__ for place in _PLACES)
                raise InputError(f"an imperfection is one of {known}; found {type(one).__name__}")
            named = one.stage.blocks if isinstance(one, WriteVerify) else one.blocks
            if unknown := set(named or ()) - drawing.shapes().keys():
                raise InputError(
                    f"{type(one).__name__} names blocks {sorted(unknown)}; {type(drawing).__name__} has "
                    f"{sorted(drawing.shapes())}"
                )
        numbered = tuple(enumerate(imperfections))
        self.imperfections = tuple(imperfections)
        self._fabrications = [(k, one) for k, one in numbered if isinstance(one, Fabrication)]
        self._writes = [(k, one) for k, one in numbered if isinstance(one, WriteStage)]
        self._updates = [(k, one) for k, one in numbered if isinstance(one, Update)]
        self._realisations = [(k, one) for k, one in numbered if isinstance(one, Realisation)]
        self._diffusions = [one for _, one in numbered if isinstance(one, Diffusion)]
        self._processes = [one for _, one in numbered if isinstance(one, Process)]
        self._drives = [(k, one) for k, one in numbered if isinstance(one, Drive)]
        self._readouts = [(k, one) for k, one in numbered if isinstance(one, Readout)]
        self._schedules = [one for one in imperfections if isinstance(one, Schedule)]
        for name, found, most in (
            ("imperfections", len(numbered), 256),
            ("noise processes", len(self._processes), 7),
            ("readout stages", len(self._readouts), 8),
            ("kinds of pulsed update", len(self._updates), 1),
            ("schedules", len(self._schedules), 1),
        ):
            if found > most:
                raise InputError(f"a device has at most {most} {name}; found {found}")
        self._drawing, self._scale, self._step_size = drawing, scale, step_size
        self._die, self._program = NoisePath(seed=die_seed), NoisePath(seed=program_seed)
        chip = Chip.as_drawn(drawing.units)
        if any(stage.splits for _, stage in self._realisations):
            chip = replace(chip, split=True)
        for index, one in self._fabrications:
            chip = one.fabricate(chip, drawing, self._context(index, self._die))
        for name, (low, high) in drawing.ranges().items():
            if low >= 0.0 and name in chip.gain and chip.gain[name].min() < 0.0:
                raise InputError(
                    f"block {name} of {type(drawing).__name__} lies in [{low:g}, {high:g}], and a gain drawn for it is "
                    f"{chip.gain[name].min():.3g}: use Mismatch(..., log_normal=True) or a smaller gain"
                )
        self.chip = chip

    @property
    def adjustable(self) -> bool:
        """Whether pulses change what is held."""
        return bool(self._updates)

    @property
    def restless(self) -> bool:
        """Whether what acts in a settling is not simply what is held."""
        return bool(self._realisations)

    @property
    def pause(self) -> float | None:
        """Seconds between one lane and the next; None where all run at once."""
        return self._schedules[0].pause if self._schedules else None

    @property
    def exact_writes(self) -> bool:
        """Whether writing what is held changes nothing."""
        return all(stage.idempotent for _, stage in self._writes)

    @property
    def mismatch(self) -> float:
        """The largest relative difference of a rate, or of a coupling driven backwards, from what is drawn."""
        factors = (self.chip.rate, *self.chip.backward.values())
        return max(float(np.abs(factor - 1.0).max(initial=0.0)) for factor in factors)

    def ranges(self, told: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """What programming refuses: the narrowest of all ranges, none for a block that the write chain clips.

        Args:
            told: block -> (lowest, highest) besides those of the substrate and of the write chain.
        """
        ranges: dict[str, tuple[float, float]] = dict(self._drawing.ranges())
        for name in dict.fromkeys([*self._drawing.shapes(), *told]):
            narrower = [told[name]] if name in told else []
            narrower += [limits for _, stage in self._writes if (limits := stage.limits(name)) is not None]
            if any(stage.clips(name) for _, stage in self._writes):
                ranges.pop(name, None)
            else:
                for low, high in narrower:
                    before = ranges.get(name, (-np.inf, np.inf))
                    ranges[name] = (max(low, before[0]), min(high, before[1]))
        return ranges

    def read_error(self) -> float | None:
        """rms error that reading adds, state units; None where reading is exact."""
        squares = [stage.error**2 for _, stage in self._readouts]
        return float(np.sqrt(sum(squares))) if squares else None

    @property
    def looks_back(self) -> bool:
        """Whether reading needs the state one step earlier."""
        return any(stage.looks_back for _, stage in self._readouts)

    @property
    def reads(self) -> bool:
        """Whether what is read differs from the analog state."""
        return bool(self._readouts)

    @property
    def drives(self) -> bool:
        """Whether what arrives differs from the inputs."""
        return bool(self._drives)

    @property
    def writes(self) -> bool:
        """Whether what is held differs from what was asked for."""
        return bool(self._writes or self.chip.stuck)

    def write(
        self, asked: Parameters, held: Parameters | None, event: int
    ) -> tuple[dict[str, Float[Array, "*shape"]], WriteReport]:
        """What the hardware holds after writing the analog blocks, float64, and what happened on the way."""
        report = WriteReport(written=sum(block.size for block in asked.values()))
        out = {}
        for name, block in asked.items():
            values = np.array(block, np.float64)
            before = None if held is None else np.asarray(host(held[name]), np.float64)
            for index, stage in self._writes:
                at = self._context(index, self._program, event=event)
                values, happened = stage.write(name, values, before, at)
                report += happened
            if not self.exact_writes:
                low, high = self._drawing.ranges().get(name, (-np.inf, np.inf))
                inside = np.clip(values, low, high)
                report += WriteReport(clipped=int(np.count_nonzero(inside != values)))
                values = inside
            out[name], stuck = self._unstuck(name, values)
            report += WriteReport(stuck=stuck)
        return out, report

    def adjust(
        self, held: Parameters, pulses: Parameters, event: int
    ) -> tuple[dict[str, Float[Array, "*shape"]], WriteReport]:
        """What the hardware holds after open-loop pulses, float64."""
        ((index, update),) = self._updates
        report, out = WriteReport(), {}
        at = self._context(index, self._program, event=event)
        for name, block in held.items():
            counts = np.asarray(pulses[name], np.float64)
            before = np.asarray(host(block), np.float64)
            values, happened = update.adjust(name, before, counts, at)
            for place, stage in self._writes:
                if stage.by_pulses:
                    values, worn = stage.write(name, values, before, self._context(place, self._program, event=event))
                    happened += worn
            out[name], stuck = self._unstuck(name, values)
            report += happened + WriteReport(stuck=stuck)
        return out, report

    def deviation(
        self, drawn: DrawnSubstrate, held: Parameters, path: NoisePath, event: int, elapsed: float, lane: int
    ) -> dict[str, Float[Array, "*shape"]]:
        """What drift, cells and wires add to the real parameters in this settling, float64.

        Args:
            drawn: the chip.
            held: what was programmed.
            path: the address of the settling.
            event: the write that programmed it.
            elapsed: seconds since.
            lane: sample id of the lane that settles alone, -1 for all lanes together.
        """
        real = drawn.linear_map(held.map(lambda block: np.asarray(host(block), np.float64)))
        blocks = {}
        for name, block in real.items():
            values = np.asarray(block)
            for index, stage in self._realisations:
                at = self._context(index, path, event=event, elapsed=elapsed, lane=lane)
                values = stage.realise(name, values, at)
            low, high = self._drawing.ranges().get(name, (-np.inf, np.inf))
            blocks[name] = np.clip(values, low, high) - block  # noise makes no negative conductance
        return blocks

    def noise_root(self, drawn: DrawnSubstrate, theta: Parameters) -> Float[Array, " N"] | Float[Array, "N N"] | None:
        """A root of the covariance rate of all white noise, state units: `dz = ... + sqrt(2) root dW`."""
        thermal = sum((one.variance(self._scale) for one in self._diffusions if one.thermal), 0.0)
        other = sum((one.variance(self._scale) for one in self._diffusions if not one.thermal), 0.0)
        if thermal == 0.0 and other == 0.0:
            return None
        rate = drawn.chip.rate
        joined = drawn.diffusion(theta) if thermal else None
        if joined is None:
            return rate * np.sqrt(thermal + other)
        joined = np.asarray(host(joined), np.float64)
        covariance = thermal * self._scale.joule * joined @ joined.T + other * np.diag(rate**2)
        return symmetric_root(covariance)

    def begin(self, lanes: Lanes) -> list[Array]:
        """The states [K, B, N] of all noise processes at the first step of a plan."""
        return [
            process.begin(lanes.deviates(Stream.PROCESS + 16 * k, first=_BEGIN), self._scale)
            for k, process in enumerate(self._processes)
        ]

    def advance(
        self, states: list[Array], steps: int, lanes: Lanes, phase: int
    ) -> tuple[Float[Array, "steps B N"] | None, list[Array]]:
        """The current of all noise processes over a phase, state units per time constant, and their states after it."""
        if not states:
            return None, states
        dt, total, after = self._step_size * self._scale.second, 0.0, []
        for k, process in enumerate(self._processes):
            deviates = lanes.deviates(Stream.PROCESS + 16 * k, phase=phase)
            current, state = process.advance(states[k], steps, dt, deviates, self._scale)
            total = total + current
            after.append(state)
        return total, after

    def drive(self, x: Float[Array, "B M"], path: NoisePath) -> tuple[Float[Array, "B M"], Bool[Array, " B"]]:
        """The inputs that arrive, and the lanes in which one clipped."""
        clipped = np.zeros(len(x), bool)
        for index, stage in self._drives:
            x, over = stage.drive(x, self._context(index, path))
            clipped |= over.any(axis=1)
        return x, clipped

    def read(
        self,
        z: Inexact[Array, "K B N"],
        before: Inexact[Array, "K B N"],
        lanes: Lanes,
        phase: int,
        first: int,
        every: int,
    ) -> tuple[Inexact[Array, "K B N"], Bool[Array, " B"]]:
        """States `first`, `first + every`, ... of a phase as they are read, and the lanes in which a read clipped.

        Stages read real states; complex ones pass where there are none.
        """
        clipped = np.zeros(z.shape[1], bool)
        for k, (index, stage) in enumerate(self._readouts):
            deviates = lanes.deviates(Stream.READOUT + 16 * k, first=first, phase=phase, every=every)
            z, over = stage.read(z, before, deviates, self._context(index, lanes.path))
            clipped |= over.any(axis=(0, 2))
        return z, clipped

    def read_recording(
        self, states: Inexact[Array, "K B N"], lanes: Lanes, phase: int, every: int
    ) -> tuple[Inexact[Array, "L B N"], Bool[Array, " B"]]:
        """Recorded states of a phase as they are read, and the lanes in which a read clipped.

        A moderate number of states is read at a time and put back where the analog ones were, so that no more memory
        is needed than the recording takes.

        Args:
            states: every `every`-th analog state; where reading looks back, all of them.
            lanes, phase: of the noise address.
            every: steps between two reads.
        """
        clipped = np.zeros(states.shape[1], bool)
        if not self._readouts:
            return states, clipped
        thin = every if self.looks_back else 1
        kept = states[::thin]
        at_once = max(1, READ_AT_ONCE // max(1, states[0].size))
        for first in reversed(range(0, len(kept), at_once)):  # the later first: they look back at earlier ones
            some = slice(first, first + at_once)
            back = np.maximum(np.arange(first, min(first + at_once, len(kept))) * thin - 1, 0)
            earlier = states[back] if self.looks_back else kept[some]
            kept[some], over = self.read(kept[some], earlier, lanes, phase, first * every, every)
            clipped |= over
        return kept, clipped

    @cached_property
    def fingerprint(self) -> str:
        """What a saved run knows its device again by, as JSON text."""
        told = {
            "substrate": type(self._drawing).__name__,
            "shapes": {name: list(shape) for name, shape in self._drawing.shapes().items()},
            "step_size": self._step_size,
            "scale": asdict(self._scale),
            "imperfections": to_json(self.imperfections),
        }
        return json.dumps(told, default=repr)

    def describe(self) -> list[tuple[str, str, str]]:
        """(name, when it is drawn, its size in physical units) of every imperfection."""
        return [(type(one).__name__, one.seeds.value, one.describe(self._scale)) for one in self.imperfections]

    def _context(self, index: int, path: NoisePath, *, event: int = 0, elapsed: float = 0.0, lane: int = -1) -> Context:
        return Context(
            scale=self._scale,
            fixed=Source(path=self._die, stream=Stream.FIXED, position=index),
            program=Source(path=self._program.at_step(event), stream=Stream.PROGRAM, position=index),
            read=Source(path=replace(path, coarse=1), stream=Stream.CELL, position=index, lane=lane),
            elapsed=elapsed,
            step_size=self._step_size,
        )

    def _unstuck(self, name: str, values: Array) -> tuple[Array, int]:
        """The values with stuck ones put back, and how many were meant to be another."""
        if name not in self.chip.stuck:
            return values, 0
        stuck = self.chip.stuck[name]
        held = ~np.isnan(stuck)
        return np.where(held, stuck, values), int(np.count_nonzero(held & (values != stuck)))
