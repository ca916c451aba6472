"""A chip on its bench: all phases of a plan, one after another, on the arrays that the engine computes with.

Imperfections draw and compute in NumPy. Those of the chip, white noise and what is programmed are laid out before the
first step and cost no copy. Converters and other readout stages, stages on the inputs, and noise processes with a
memory take arrays that are not NumPy's to the host and back, once per phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Inexact

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.device import DeviceSpec
from hwsim.contracts.plan import Outcome, Phase, Plan, Relaxation

from .arrays import Arrays
from .engines import Engine, Settled, Stretch, between
from .hardware import Hardware
from .lanes import Lanes
from .recordings import Recordings


@final
@dataclass(frozen=True, kw_only=True)
class Bench:
    """Runs plans whose arrays are already where the engine computes.

    Args:
        engine: programmed.
        hardware: the imperfections.
        spec: of the device.
        dtype: of real states.
        recordings: where recorded states are kept.
    """

    engine: Engine
    hardware: Hardware
    spec: DeviceSpec
    dtype: np.dtype[Any]
    recordings: Recordings

    @property
    def _arrays(self) -> Arrays:
        return self.engine.arrays

    @np.errstate(over="ignore", invalid="ignore")  # a blow-up is an outcome, not a warning
    def run(
        self, z: Inexact[Array, "B N"], plan: Plan, lanes: Lanes, at: Array | None, states: np.dtype[Any]
    ) -> tuple[Array, tuple[Relaxation, ...]]:
        """The analog end state, and what was read after each phase; all lanes at the same moment.

        Args:
            z: [B, N] where it begins.
            plan: with its arrays here.
            lanes: whose noise it is.
            at: state or recording of a response driven backwards, or None.
            states: type of the states, complex where the plan is.
        """
        x, drive_clipped = self._drive(plan.inputs, lanes)
        processes = self.hardware.begin(lanes)
        results = []
        for index, phase in enumerate(plan.phases):
            low, high = self._rails(phase, plan.lanes, states) if at is None else (None, None)
            if phase.displace is not None:
                z = z + phase.displace
            clipped = drive_clipped
            if low is not None and high is not None:
                z, over = between(z, low, high)
                clipped = clipped | over
            if phase.clamp is not None:
                values, over = self._clamped(phase.clamp, states)
                z = self._arrays.copy(z)
                z[:, phase.clamp[0]] = values  # a value that is no number makes the lane diverge
                clipped = clipped | over
            current, processes = self.hardware.advance(processes, phase.steps, lanes, index)
            stretch = Stretch(
                x=x,
                steps=phase.steps,
                force=self._force(phase.force, current, states),
                correct_at=phase.correct_at,
                low=low,
                high=high,
                record=1 if phase.record and self.hardware.looks_back else phase.record,
                index=index,
                lanes=lanes,
                recordings=self.recordings,
            )
            settled = self.engine.relax(z, stretch) if at is None else self.engine.relax_transpose(z, at, stretch)
            z = settled.final
            results.append(self._read(settled, phase, index, lanes, clipped))
        return z, tuple(results)

    def _drive(self, x: Float[Array, "B M"], lanes: Lanes) -> tuple[Float[Array, "B M"], Bool[Array, " B"]]:
        """The inputs that arrive, and the lanes in which one clipped."""
        if not self.hardware.drives:
            return x, self._flags(np.zeros(len(x), bool))
        arrived, clipped = self.hardware.drive(host(x), lanes.path)
        return self._arrays.array(arrived, self.dtype), self._flags(clipped)

    def _force(self, force: Array | None, current: Array | None, states: np.dtype[Any]) -> Array | None:
        """The force of a phase and the noise current, whichever there is."""
        if current is None:
            return force
        total = self._arrays.array(current, states)
        return total if force is None else total + force

    def _rails(self, phase: Phase, lanes: int, states: np.dtype[Any]) -> tuple[Array | None, Array | None]:
        """What keeps the state in: the chip's rails, and on clamped units their value from both sides."""
        chip = self.hardware.chip
        if not chip.railed and phase.clamp is None:
            return None, None
        low, high = (self._arrays.array(rail[None], states) for rail in (chip.low, chip.high))
        if phase.clamp is not None:
            low, high = (self._arrays.xp.repeat(rail, lanes, axis=0) for rail in (low, high))
            low[:, phase.clamp[0]] = high[:, phase.clamp[0]] = self._clamped(phase.clamp, states)[0]
        return low, high

    def _clamped(self, clamp: tuple[Array, Array], states: np.dtype[Any]) -> tuple[Array, Bool[Array, " B"]]:
        """The values at which units are clamped, no further than their rails, and the lanes in which one was."""
        units, asked = clamp
        if states != self.dtype:
            return asked, self._flags(np.zeros(len(asked), bool))  # complex: no rails
        xp, chip = self._arrays.xp, self.hardware.chip
        low, high = (self._arrays.array(rail[units], states) for rail in (chip.low, chip.high))
        values = xp.where(asked > high, high, xp.where(asked < low, low, asked))
        return values, xp.any((values != asked) & (asked == asked), axis=1)

    def _read(self, settled: Settled, phase: Phase, index: int, lanes: Lanes, clipped: Bool[Array, " B"]) -> Relaxation:
        """What the digital side sees. The residual is the analog one, which a simulator knows better than its ADC."""
        z, xp, hardware = settled.final, self._arrays.xp, self.hardware
        change = xp.abs(z - settled.before)
        residual = xp.sqrt(xp.sum(change * change, axis=1) / self.spec.units) / self.spec.step_size
        final, states, clipped = z, settled.states, clipped | settled.limited
        if hardware.reads:
            found, over = hardware.read(host(z)[None], host(settled.before)[None], lanes, index, phase.steps, 1)
            final, clipped = self._like(found[0], z), clipped | self._flags(over)
            if states is not None:
                kept, over = hardware.read_recording(host(states), lanes, index, phase.record)
                states, clipped = self._like(kept, z), clipped | self._flags(over)
        outcome = xp.astype(~(residual <= self.spec.tolerance), xp.int64)  # UNSETTLED is 1, SETTLED 0
        outcome = xp.where(clipped, int(Outcome.SATURATED), outcome)
        outcome = xp.where(xp.all(xp.isfinite(z), axis=1), outcome, int(Outcome.DIVERGED))
        return Relaxation(final=final, states=states, residual=residual, outcome=outcome)

    def _like(self, read: Array, z: Array) -> Array:
        """What was read, beside the states and of their type."""
        return self._arrays.xp.asarray(read, dtype=z.dtype, device=z.device)

    def _flags(self, flags: Bool[np.ndarray, " B"]) -> Array:
        return self._arrays.array(flags, np.dtype(bool))
