"""The learning-rule contract: probe a device, form post-synaptic signals, hand them to the synapses."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from itertools import accumulate
from typing import ClassVar, final

from .device import Capability, Device, DeviceSpec
from .errors import CapabilityError, InputError
from .noise import NoisePath
from .parameters import Parameters
from .plan import Phase, Plan, Relaxation, Rest
from .task import Batch, Task

RULES = "hwsim.learning_rules"
"""Entry-point group in which rules (ours and other people's) are found."""


class Kind(enum.IntEnum):
    """What a rule may look at, the most modest first."""

    LOCAL = 0
    """Programs, drives and reads: runs on any hardware that has the capabilities."""
    MODEL_ASSISTED = 1
    """Needs the nominal model while it learns: simulators only."""
    REFERENCE = 2
    """Differentiates the model itself: a judge, never a way to train hardware."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a rule needs of a device.

    Args:
        capabilities: must all be in the spec.
        record: the free phase must be recorded every `record`-th step; 0 where no recording is needed.
        reciprocal: the synapses must offer a metric.
        from_free: probes begin at the free state. A device that cannot load it must come to it again by settling from
            rest; from any other start it would come to another state.
    """

    capabilities: frozenset[Capability] = frozenset()
    record: int = 0
    reciprocal: bool = False
    from_free: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            capabilities=self.capabilities | other.capabilities,
            record=math.gcd(self.record, other.record),
            reciprocal=self.reciprocal or other.reciprocal,
            from_free=self.from_free or other.from_free,
        )

    def met_by(self, spec: DeviceSpec) -> bool:
        """Whether a device with this spec can serve."""
        return not self.lacking(spec)

    def lacking(self, spec: DeviceSpec) -> list[str]:
        """What a device with this spec lacks, in words."""
        lacking = [f"{c.name.lower()} ({c.value})" for c in spec.missing(self.on(spec))]
        if self.reciprocal and not spec.reciprocal:
            lacking.append("reciprocal couplings (a metric S with J^T = S J S^-1)")
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

    @staticmethod
    def of(phases: tuple[Phase, ...], lanes: int) -> Cost:
        """The cost of running `phases` on `lanes` lanes."""
        reads = sum(2 + p.steps // p.record if p.record else 1 for p in phases)
        return Cost(settles=len(phases) * lanes, steps=sum(p.steps for p in phases) * lanes, reads=reads * lanes)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a rule found out.

    Args:
        gradients: one block per block of theta, zeros where the rule says nothing.
        loss: batch mean of L(z_T) as read; NaN for rules that have no loss.
        cost: on top of the free phase, which the caller runs and counts.
        diagnostics: named scalars, dimensionless unless the rule's docstring says otherwise.
    """

    gradients: Parameters
    loss: float
    cost: Cost = Cost()
    diagnostics: Mapping[str, float] = field(default_factory=dict)


class LearningRule(ABC):
    """Frozen hyper-parameters and one verb. Rules add and scale; a sum shares one free phase."""

    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What a device must offer."""

    @abstractmethod
    def estimate(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        task: Task,
        free: Relaxation,
        noise: NoisePath,
    ) -> Estimate:
        """Probe the device after its free phase and estimate the gradient.

        Args:
            device: programmed with `theta`.
            theta: what the device read back, `readout.*` included.
            batch: the samples.
            task: loss and readout.
            free: the free phase of this batch, recorded as `needs` says.
            noise: address of everything random in the probes. Repeats 1 to 255 beyond its own are the rule's; the free
                phase used repeat 0.
        """

    @property
    def branches(self) -> int:
        """How many rules draw noise in here, so that a sum can give each its own range of repeats."""
        return 1

    def __add__(self, other: LearningRule) -> LearningRule:
        return Sum((*_terms(self), *_terms(other)))

    def __mul__(self, weight: float) -> LearningRule:
        return Scaled(rule=self, weight=float(weight))

    __rmul__ = __mul__

    def clipped(self, norm: float) -> LearningRule:
        """This rule with its gradient shortened to Euclidean norm `norm` where it is longer."""
        return Clipped(rule=self, norm=norm)


def _terms(rule: LearningRule) -> tuple[LearningRule, ...]:
    return rule.terms if isinstance(rule, Sum) else (rule,)


@final
@dataclass(frozen=True)
class Sum(LearningRule):
    """`g = sum_i g_i` over one shared free phase; the loss is that of the first term that has one."""

    terms: tuple[LearningRule, ...]

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # a sum is as demanding as its most demanding term
        return max(term.kind for term in self.terms)

    @property
    def needs(self) -> Needs:
        total = Needs()
        for term in self.terms:
            total = total | term.needs
        return total

    @property
    def branches(self) -> int:
        return sum(term.branches for term in self.terms)

    def estimate(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        task: Task,
        free: Relaxation,
        noise: NoisePath,
    ) -> Estimate:
        # every term draws from its own range of repeats, so that no two share noise by accident
        offsets = accumulate((term.branches for term in self.terms), initial=0)
        parts = [
            term.estimate(device, theta, batch, task, free, noise.branch(offset))
            for term, offset in zip(self.terms, offsets, strict=False)
        ]
        gradients, cost = parts[0].gradients, parts[0].cost
        for part in parts[1:]:
            gradients, cost = gradients + part.gradients, cost + part.cost
        losses = [part.loss for part in parts if not math.isnan(part.loss)]
        diagnostics = {name: value for part in parts for name, value in part.diagnostics.items()}
        return Estimate(gradients=gradients, loss=losses[0] if losses else math.nan, cost=cost, diagnostics=diagnostics)


@dataclass(frozen=True, kw_only=True)
class _Reshaped(LearningRule):
    """Another rule's estimate with its gradient changed as a whole; loss and cost stay as they are."""

    rule: LearningRule

    @abstractmethod
    def _reshape(self, estimate: Estimate) -> Estimate:
        """The estimate with its new gradient."""

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # that of the rule inside
        return self.rule.kind

    @property
    def needs(self) -> Needs:
        return self.rule.needs

    @property
    def branches(self) -> int:
        return self.rule.branches

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        return self._reshape(self.rule.estimate(device, theta, batch, task, free, noise))


@final
@dataclass(frozen=True, kw_only=True)
class Scaled(_Reshaped):
    """`g = weight * g_rule`."""

    weight: float

    def _reshape(self, estimate: Estimate) -> Estimate:
        return replace(estimate, gradients=estimate.gradients * self.weight)


@final
@dataclass(frozen=True, kw_only=True)
class Clipped(_Reshaped):
    """`g = g_rule * min(1, norm / |g_rule|)`, the Euclidean norm over all blocks (Pascanu et al., arXiv:1211.5063).

    The diagnostics gain `gradient_norm`, before clipping.

    Raises:
        InputError: norm is not positive and finite.
    """

    norm: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.norm) and self.norm > 0):
            raise InputError(f"a gradient can be clipped at a positive, finite norm; found {self.norm}")

    def _reshape(self, estimate: Estimate) -> Estimate:
        size = estimate.gradients.norm()
        scale = self.norm / size if size > self.norm else 1.0
        return replace(
            estimate,
            gradients=estimate.gradients * scale,
            diagnostics={**estimate.diagnostics, "gradient_norm": size},
        )


def require(rule: LearningRule, spec: DeviceSpec) -> None:
    """Refuse a rule that the device cannot serve, before the first settle.

    Raises:
        CapabilityError: names what is missing and the registered rules that would work on this device.
    """
    if lacking := rule.needs.lacking(spec):
        working = ", ".join(rules_for(spec)) or "none of the registered ones"
        raise CapabilityError(
            f"{type(rule).__name__} needs {'; '.join(lacking)}, which this device does not offer. "
            f"Rules that would work on it: {working}"
        )


def rules_for(spec: DeviceSpec) -> list[str]:
    """Names of the registered rules, with their default settings, that a device with this spec can serve."""
    found = {entry.name: entry.load()() for entry in entry_points(group=RULES)}
    return sorted(name for name, rule in found.items() if rule.needs.met_by(spec))


def settle_free(
    device: Device, batch: Batch, needs: Needs, noise: NoisePath, *, horizon: int | None = None
) -> tuple[Relaxation, Cost]:
    """The deployed settling of a batch: T steps from the spec's start, recorded as far as `needs` asks.

    Returns:
        The relaxation to z_T, and its cost.
    """
    steps = device.spec.horizon if horizon is None else horizon
    phases = (Phase(steps=steps, record=needs.record),)
    plan = Plan(inputs=batch.inputs, ids=batch.ids, start=device.spec.start, phases=phases)
    (free,) = device.relax(plan, noise=noise)
    return free, Cost.of(phases, len(batch))
