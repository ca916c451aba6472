"""A probe that is under way: the runs of a contrast side by side as lanes, stepped and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jaxtyping import Float, Inexact, Int

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import BRANCH_REPEATS, NoisePath
from hwsim.contracts.plan import At, Phase, Plan, Relaxation, Rest, Start
from hwsim.contracts.task import Batch

from .contrast import Points, times


def direction(
    signal: Float[Array, "B N"], earlier: Float[Array, "steps B N"] | None = None
) -> tuple[Float[Array, "B N"], Float[Array, "steps B N"] | None, Float[Array, "B 1"]]:
    """Each sample's signals over the length of its longest one, and that length; what is zero stays zero."""
    xp = namespace(signal)
    length = xp.sqrt(xp.sum(signal * signal, axis=1, keepdims=True))
    if earlier is not None and len(earlier):
        along = xp.sqrt(xp.sum(earlier * earlier, axis=2, keepdims=True))
        length = xp.maximum(length, xp.max(along, axis=0))
    guarded = xp.maximum(length, xp.full_like(length, xp.finfo(length.dtype).tiny))
    return signal / guarded, None if earlier is None else earlier / guarded, length


@final
@dataclass(frozen=True, kw_only=True)
class Probing:
    """The runs of one probe around a free state. A value: stepping gives what was read and changes nothing here.

    Args:
        device: programmed.
        batch: the B samples.
        at: [B, N] the free state.
        points: the K runs of every sample.
        stimulus: [B, N] at its length: a force, state units per time constant, where `nudged`, else a displacement.
        earlier: [steps, B, N] force that follows a displacement, or None.
        nudged: whether the stimulus is a force.
        scale: [B, 1] or [B, N], by which what is read is multiplied.
        corrected: whether it settles under the asymmetric-EP dynamics.
        backwards: whether the couplings are driven backwards.
        shared_noise: whether all runs of a sample have the same noise.
        noise: the rule's noise path.
    """

    device: Device
    batch: Batch
    at: Float[Array, "B N"]
    points: Points
    stimulus: Float[Array, "B N"]
    earlier: Float[Array, "steps B N"] | None
    nudged: bool
    scale: Float[Array, "B S"]
    corrected: bool
    backwards: bool
    shared_noise: bool
    noise: NoisePath

    @property
    def runs(self) -> int:
        """K."""
        return len(self.points.factors)

    @property
    def stretches(self) -> int:
        """How often it can be stepped: so many noise addresses a rule has for a sample."""
        return (BRANCH_REPEATS - 1) // (1 if self.shared_noise else self.runs)

    def taken(self, chosen: Int[Array, " C"]) -> Probing:
        """The same for some of the samples."""
        return Probing(
            device=self.device,
            batch=self.batch.take(chosen),
            at=self.at[chosen],
            points=self.points.taken(chosen),
            stimulus=self.stimulus[chosen],
            earlier=None if self.earlier is None else self.earlier[:, chosen],
            nudged=self.nudged,
            scale=self.scale[chosen],
            corrected=self.corrected,
            backwards=self.backwards,
            shared_noise=self.shared_noise,
            noise=self.noise,
        )

    def begun(self) -> Float[Array, "KB N"]:
        """The states of all runs before the first step (and before the kick)."""
        return self._each(namespace(self.at).zeros_like(self.at) if self.backwards else self.at)

    def step(
        self, steps: int, *, after: Inexact[Array, "KB N"] | None = None, stretch: int = 0, record: int = 0
    ) -> tuple[Relaxation, Cost]:
        """Run all lanes on for some steps.

        Args:
            steps: Euler steps.
            after: states to go on from (capability `load_state`). None is the beginning: the free state, which a device
                that cannot load one settles to again, at a cost that is counted.
            stretch: how many times it was stepped before: part of the noise address.
            record: as in `Phase`.

        Raises:
            InputError: the noise addresses of a rule do not suffice for so many stretches.
        """
        device, xp = self.device, namespace(self.batch.ids)
        phase = self._phase(steps, record, first=after is None)
        start: Start = At(self.begun() if after is None else after)
        phases: tuple[Phase, ...] = (phase,)
        if after is None and self.backwards:
            start = Rest()
        elif after is None and Capability.LOAD_STATE not in device.spec.capabilities:
            start, phases = device.spec.start, (Phase(steps=device.spec.horizon), phase)
        ones = xp.ones_like(self.batch.ids)
        repeats = [self._repeat(stretch, k) * ones for k in range(self.runs)]
        plan = Plan(
            inputs=self._each(self.batch.inputs),
            ids=self._each(self.batch.ids),
            repeats=xp.concat(repeats),
            start=start,
            phases=phases,
        )
        if self.backwards:
            runs = device.relax_transpose(self._each(self.at), plan, noise=self.noise)
        else:
            runs = device.relax(plan, noise=self.noise)
        return runs[-1], Cost.of(phases, plan.lanes)

    def response(self, states: Inexact[Array, "*T KB N"]) -> Float[Array, "*T B N"]:
        """The linear response to the signal itself, from the states of all runs."""
        return self.points.read(states, None if self.backwards else self.at) * self.scale

    def _each(self, array: Array) -> Array:
        """One copy for every run, along the lanes."""
        return namespace(array).concat([array] * self.runs)

    def _times(self, array: Array) -> Array:
        """`factors[k] array` for every run, along the lanes."""
        return namespace(array).concat([times(factor, array) for factor in self.points.factors], axis=-2)

    def _phase(self, steps: int, record: int, *, first: bool) -> Phase:
        if self.nudged:
            force, displace = self._times(self.stimulus), None
        else:
            force = None if self.earlier is None else self._times(self.earlier)
            displace = self._times(self.stimulus) if first else None
        at = self._each(self.at) if self.corrected else None
        return Phase(steps=steps, force=force, displace=displace, correct_at=at, record=record)

    def _repeat(self, stretch: int, run: int) -> int:
        if stretch >= self.stretches:
            raise InputError(
                f"a probe has {BRANCH_REPEATS - 1} noise addresses for each sample, enough for {self.stretches} "
                f"stretches of {self.runs} runs; asked for one more: take longer stretches (every=...)"
            )
        return 1 + stretch if self.shared_noise else 1 + stretch * self.runs + run
