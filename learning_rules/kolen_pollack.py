"""Kolen-Pollack learning: a feedback array that is learned along with the couplings, until it is their transpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.ladder import Ideal, Ladder, Snapshot
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task
from hwsim.contracts.wrapped_substrate import WrappedSubstrate

from .finite_horizon import FiniteHorizonEP
from .playback import AdjointPlayback, swept

FEEDBACK = "feedback."
"""How the name of a feedback block begins; the rest of it is the block that it mirrors."""


@final
@dataclass(frozen=True, kw_only=True)
class KolenPollack(LearningRule):
    """Another rule whose transposed response runs through a feedback array B, with one update for both arrays:

        g_W = g + decay W,     g_B = g + decay B,     g the rule's estimate for W

    The update reaches a coupling and its mirror alike, since pre- and post-synaptic signals are the same two. Under
    plain gradient descent at rate lr the difference is forgotten whatever g is,

        W - B  <-  (1 - lr decay) (W - B)

    and the response backwards becomes the transpose. (Momentum and Adam move the two alike as well, but by laws of
    their own.) Until then g is an estimate through wrong feedback, which trains nonetheless where B is within 90
    degrees of W (feedback alignment). The price is weight decay on the couplings themselves.

    The diagnostic `misalignment` is the angle between all B and all W as read back, in radians; NaN where either is 0.

    Args:
        rule: probes by driving the couplings backwards (`Transposed`, or adjoint playback).
        decay: loss units per squared parameter unit, >= 0. With 0 a difference stays for ever.

    Raises:
        InputError: a decay out of range, or a rule that does not drive couplings backwards.

    Sources: Kolen and Pollack, Proc. ICNN 3:1375 (1994); Akrout et al., arXiv:1904.05391. Cost: the rule's.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    rule: LearningRule = FiniteHorizonEP()
    decay: float = 1e-3

    def __post_init__(self) -> None:
        if not (math.isfinite(self.decay) and self.decay >= 0):
            raise InputError(f"KolenPollack needs a finite decay >= 0; found decay={self.decay}")
        if self.rule.kind is not Kind.LOCAL or Capability.TRANSPOSE not in self.rule.needs.capabilities:
            raise InputError(
                "KolenPollack needs a local rule that drives the couplings backwards, such as "
                f"FiniteHorizonEP(probe=Transposed()); found {type(self.rule).__name__}, which would never use B"
            )

    @property
    def needs(self) -> Needs:
        return self.rule.needs | Needs(feedback=True)

    @property
    def branches(self) -> int:
        return self.rule.branches

    @property
    def ladder(self) -> Ladder:
        """Wrong feedback first, then what the rule inside gives up, with that feedback, then decay and B's update.

        Only rules with a finite horizon have rungs of their own in here; all that another one gives up is its last.
        """
        inner = self.rule.ladder if isinstance(self.rule, FiniteHorizonEP | AdjointPlayback) else None
        wrong = Ideal(
            name="feedback array instead of the transpose",
            advice="let the arrays align: a larger decay, or more training before it is judged",
            gradient=_through_feedback(lambda snapshot: swept(snapshot, gains=snapshot.states, states=snapshot.states)),
        )
        own = () if inner is None else inner.ideals
        ideals = (wrong, *(replace(ideal, gradient=_through_feedback(ideal.gradient)) for ideal in own))
        last = ideals[-1].gradient
        both = Ideal(
            name="decay, and the update of the feedback array",
            advice="a smaller decay",
            gradient=lambda snapshot: self._updated(last(snapshot), snapshot.theta, mirrors(snapshot.theta)),
        )
        return Ladder(
            ideals=(*ideals, both),
            finite="what the rule inside gives up" if inner is None else inner.finite,
            advice="see the rule inside on its own" if inner is None else inner.advice,
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        found = self.rule.estimate(device, theta, batch, task, free, noise)
        pairs = device.spec.feedback
        B = Parameters({name: theta[name] for name in pairs})
        W = Parameters({name: theta[mirrored] for name, mirrored in pairs.items()})
        aligned = cosine(B, W)
        return replace(
            found,
            gradients=self._updated(found.gradients, theta, pairs),
            diagnostics={**found.diagnostics, "misalignment": math.acos(min(max(aligned, -1.0), 1.0))},
        )

    def _updated(self, gradients: Parameters, theta: Parameters, pairs: Mapping[str, str]) -> Parameters:
        both = {
            block: gradients[mirrored] + self.decay * theta[block]
            for name, mirrored in pairs.items()
            for block in (name, mirrored)
        }
        return gradients | both


def mirrors(theta: Parameters) -> dict[str, str]:
    """Feedback block -> block that it mirrors, by their names: "feedback.W" mirrors "W"."""
    named = {name: name.removeprefix(FEEDBACK) for name in theta if name.startswith(FEEDBACK)}
    return {name: block for name, block in named.items() if block in theta}


def _through_feedback(gradient: Callable[[Snapshot], Parameters]) -> Callable[[Snapshot], Parameters]:
    """The gradient that comes of driving the feedback array in place of the couplings backwards."""

    def driven(snapshot: Snapshot) -> Parameters:
        pairs = mirrors(snapshot.theta)
        return gradient(replace(snapshot, model=_Driven(substrate=snapshot.model, pairs=tuple(pairs.items()))))

    return driven


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Driven(WrappedSubstrate):
    """A substrate whose cotangent alone is taken with the feedback blocks in place of those that they mirror."""

    pairs: tuple[tuple[str, str], ...]

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        mirrored = {block: theta[name] for name, block in self.pairs}
        return self.substrate.cotangent(a, z, x, theta | mirrored)
