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

from .checks import whole
from .device import Device, DeviceSpec
from .errors import CapabilityError, InputError
from .ladder import Ladder
from .needs import Cost, Needs
from .noise import BRANCHES, NoisePath
from .parameters import Parameters
from .plan import Phase, Plan, Relaxation
from .task import Batch, Task, only_final

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

    @property
    def ladder(self) -> Ladder | None:
        """The idealisations between BPTT and what this rule delivers; None for a rule that estimates no loss's gradient
        or states none."""
        return None

    def clipped(self, norm: float) -> LearningRule:
        """This rule with its gradient shortened to Euclidean norm `norm` where it is longer."""
        return Clipped(rule=self, norm=norm)

    def only(self, *blocks: str) -> LearningRule:
        """This rule for these blocks alone ("readout" for the whole digital head), zero elsewhere: rules for different
        blocks add up to a choice of rule per block."""
        return Only(rule=self, blocks=blocks)

    def averaged(self, repeats: int) -> LearningRule:
        """The mean of `repeats` estimates of this rule over one free phase, each with noise of its own."""
        return Averaged(rule=self, repeats=repeats)


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

    @property
    def ladder(self) -> Ladder | None:
        return self.rule.ladder

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
class Only(_Reshaped):
    """`g = g_rule` in the named blocks, 0 in the others.

    `EquilibriumPropagation().only("W", "readout") + FiniteHorizonEP().only("U", "b")` learns its blocks by different
    rules over one shared free phase. All of each rule's probes run, whatever is kept of them.

    Args:
        blocks: names of blocks; "readout" stands for all `readout.*`.

    Raises:
        InputError: no block; and from `estimate`, a name that theta does not have.
    """

    blocks: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise InputError('a rule for some blocks needs their names: rule.only("W", "readout")')

    def _reshape(self, estimate: Estimate) -> Estimate:
        gradients = estimate.gradients
        kept = set(self.blocks) - {"readout"} | (set(gradients.readout) if "readout" in self.blocks else set())
        if unknown := kept - gradients.keys():
            raise InputError(f"asked for the blocks {sorted(unknown)} alone; theta has {sorted(gradients)}")
        dropped = {name: block * 0.0 for name, block in gradients.items() if name not in kept}
        loss = estimate.loss if kept & gradients.readout.keys() else math.nan
        return replace(estimate, gradients=gradients | dropped, loss=loss)


@final
@dataclass(frozen=True, kw_only=True)
class Averaged(LearningRule):
    """`g = mean_r g_rule(noise of branch r)` over one free phase: the variance of the probes falls as 1 / repeats.

    What the free phase's own noise adds to every estimate stays. Cost: `repeats` times the rule's.

    Args:
        rule: what is averaged.
        repeats: estimates, at least 1; 256 branches of noise is all that an address holds.

    Raises:
        InputError: repeats out of range.
    """

    rule: LearningRule
    repeats: int

    def __post_init__(self) -> None:
        whole("an average", "repeats", self.repeats, least=1)
        if self.branches > BRANCHES:
            raise InputError(
                f"{self.repeats} repeats of a rule with {self.rule.branches} branches of noise need {self.branches}; "
                f"an address holds {BRANCHES}"
            )

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # that of the rule inside
        return self.rule.kind

    @property
    def needs(self) -> Needs:
        return self.rule.needs

    @property
    def branches(self) -> int:
        return self.repeats * self.rule.branches

    @property
    def ladder(self) -> Ladder | None:
        return self.rule.ladder

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        estimate = Sum((self.rule,) * self.repeats).estimate(device, theta, batch, task, free, noise)
        return replace(estimate, gradients=estimate.gradients / self.repeats)


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


def require(rule: LearningRule, spec: DeviceSpec, task: Task | None = None) -> None:
    """Refuse a rule that the device or the task cannot serve, before the first settle.

    Raises:
        CapabilityError: names what is missing and the registered rules that would work on this device and task.
    """
    if lacking := rule.needs.lacking(spec):
        working = ", ".join(rules_for(spec, task)) or "none of the registered ones"
        raise CapabilityError(
            f"{type(rule).__name__} needs {'; '.join(lacking)}, which this device does not offer. "
            f"Rules that would work on it: {working}"
        )
    if task is not None and rule.needs.final_loss and not only_final(task.weights(spec.horizon)):
        working = ", ".join(rules_for(spec, task)) or "none of the registered ones"
        raise CapabilityError(
            f"{type(rule).__name__} looks at z_T alone, and {type(task).__name__} at states before it as well. "
            f"Rules that would work on it: {working}"
        )


def registered_rules() -> dict[str, LearningRule]:
    """All registered rules with their default settings, by name."""
    return {entry.name: entry.load()() for entry in sorted(entry_points(group=RULES), key=lambda entry: entry.name)}


def rules_for(spec: DeviceSpec, task: Task | None = None) -> list[str]:
    """Names of the registered rules, with their default settings, that this device and task can serve."""
    final = task is None or only_final(task.weights(spec.horizon))
    return [
        name
        for name, rule in registered_rules().items()
        if rule.needs.met_by(spec) and (final or not rule.needs.final_loss)
    ]


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
