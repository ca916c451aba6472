"""What a rule needs of a device and what it costs, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .device import Capability, DeviceSpec
from .plan import Carry, Phase, Rest


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a rule needs of a device.

    Args:
        capabilities: must all be in the spec.
        record: the free phase must be recorded every `record`-th step; 0 where no recording is needed.
        reciprocal: the synapses must offer a metric.
        from_free: probes begin at the free state. A device that cannot load it must come to it again by settling from
            rest; from any other start it would come to another state.
        feedback: the device must have a feedback array that is programmed apart.
        known_start: the deployed settling is run again, so that its start must be one that can be had again; a carried
            state is not.
        factored: the immediate influence of every block must be a product of a gain and a presynaptic quantity.
        final_loss: the rule looks at z_T alone and cannot serve a task that looks at states before it.
    """

    capabilities: frozenset[Capability] = frozenset()
    record: int = 0
    reciprocal: bool = False
    from_free: bool = False
    feedback: bool = False
    known_start: bool = False
    factored: bool = False
    final_loss: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            capabilities=self.capabilities | other.capabilities,
            record=math.gcd(self.record, other.record),
            reciprocal=self.reciprocal or other.reciprocal,
            from_free=self.from_free or other.from_free,
            feedback=self.feedback or other.feedback,
            known_start=self.known_start or other.known_start,
            factored=self.factored or other.factored,
            final_loss=self.final_loss or other.final_loss,
        )

    def met_by(self, spec: DeviceSpec) -> bool:
        """Whether a device with this spec can serve."""
        return not self.lacking(spec)

    def lacking(self, spec: DeviceSpec) -> list[str]:
        """What a device with this spec lacks, in words."""
        lacking = [f"{c.name.lower()} ({c.value})" for c in spec.missing(self.on(spec))]
        if self.reciprocal and not spec.reciprocal:
            lacking.append("reciprocal couplings (a metric S with J^T = S J S^-1)")
        if self.feedback and not spec.feedback:
            lacking.append("a feedback array (couplings of its own that relax_transpose drives)")
        if self.known_start and isinstance(spec.start, Carry):
            lacking.append("a start that can be had again (Rest or RandomStart, not Carry)")
        if self.factored and spec.unfactored:
            blocks = ", ".join(sorted(spec.unfactored))
            lacking.append(f"a factored influence, gain times presynaptic quantity, of the blocks {blocks}")
        return sorted(lacking)

    def on(self, spec: DeviceSpec) -> frozenset[Capability]:
        """All capabilities that are needed on a device that is deployed like this one."""
        needed = self.capabilities
        if self.record:
            needed |= {Capability.RECORD}
        if self.from_free and not isinstance(spec.start, Rest):
            needed |= {Capability.LOAD_STATE}
        return needed


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an estimate used, counted per lane: a batch of B counts B.

    Args:
        settles: phases run.
        steps: Euler steps run; `steps * dt` seconds if the lanes run one after another.
        reads: state vectors read (a recording counts each state).
        writes: parameter blocks programmed.
    """

    settles: int = 0
    steps: int = 0
    reads: int = 0
    writes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            settles=self.settles + other.settles,
            steps=self.steps + other.steps,
            reads=self.reads + other.reads,
            writes=self.writes + other.writes,
        )

    def seconds(self, spec: DeviceSpec) -> float:
        """Device time if the lanes run one after another, reads and writes not counted: steps times dt, in seconds."""
        return self.steps * spec.dt

    def joules(self, spec: DeviceSpec) -> float | None:
        """Energy of the settling, `seconds` times the spec's power, in joule; None where the power is not known."""
        return None if spec.power is None else self.seconds(spec) * spec.power

    @staticmethod
    def of(phases: tuple[Phase, ...], lanes: int) -> Cost:
        """The cost of running `phases` on `lanes` lanes."""
        reads = sum(2 + p.steps // p.record if p.record else 1 for p in phases)
        return Cost(settles=len(phases) * lanes, steps=sum(p.steps for p in phases) * lanes, reads=reads * lanes)
