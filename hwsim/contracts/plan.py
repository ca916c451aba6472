"""What a device is asked to do (`Plan`) and what it answers (`Relaxation`). Values only: nothing here acts."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Inexact, Int, UInt32

from .arrays import Array, namespace
from .checks import whole
from .errors import InputError
from .noise import check_ids, check_repeats


@dataclass(frozen=True)
class Rest:
    """Start at z_0 = 0."""


@dataclass(frozen=True)
class RandomStart:
    """Start at z_0 ~ sigma N(0, I), drawn afresh for each sample from the noise path (stream START).

    Args:
        sigma: standard deviation per unit, in state units.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(f"a random start needs a positive, finite sigma; found {self.sigma}")


@dataclass(frozen=True)
class Carry:
    """Start where the lane was left by the last sample (a constant in gradients); at rest on the first."""


@dataclass(frozen=True)
class At:
    """Start at a state that the digital side loads (capability `load_state`).

    Args:
        state: [B, N], state units; may be complex (capability `complex`).
    """

    state: Inexact[Array, "B N"]


Start: TypeAlias = Rest | RandomStart | Carry | At
"""How a settling begins. Part of what is deployed and evaluated, not a detail of training."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of `steps` Euler steps `z <- z + eps (F(z, x) + force)` under fixed conditions.

    Force, displacement and clamped values may be complex (capability `complex`): the states then are, in all lanes.

    Args:
        steps: number of steps, >= 0.
        force: [B, N], or [steps, B, N] (capability `waveform`): a current added to F, state units per time constant.
        displace: [B, N] added to the state before the first step: a kick (capability `displace`).
        clamp: (units, values): unit indices held at `values` [B, len(units)] (capability `clamp`).
        correct_at: [B, N]: asymmetric-EP dynamics `F(z) - (J - J^T)(z - at)` with J frozen at `at` (capability
            `correct`; Scurria et al., arXiv:2602.03670).
        record: keep every `record`-th state, the first included (capability `record`); 0 keeps none.

    Raises:
        InputError: a number of steps that is none, or a complex `correct_at`: the point is a free state.
    """

    steps: int
    force: Inexact[Array, "B N"] | Inexact[Array, "steps B N"] | None = None
    displace: Inexact[Array, "B N"] | None = None
    clamp: tuple[Int[Array, " C"], Inexact[Array, "B C"]] | None = None
    correct_at: Float[Array, "B N"] | None = None
    record: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "record"):
            whole("a phase", name, getattr(self, name), least=0)
        if _is_complex(self.correct_at):
            raise InputError("correct_at is the free state around which J is frozen, and real; found complex numbers")

    @property
    def is_complex(self) -> bool:
        """Whether something complex is put in."""
        return _is_complex(self.force, self.displace, None if self.clamp is None else self.clamp[1])

    def lane(self, b: int) -> Phase:
        """The phase of lane b alone."""

        def of(array: Array | None) -> Array | None:
            return None if array is None else array[..., b : b + 1, :]

        clamp = None if self.clamp is None else (self.clamp[0], self.clamp[1][b : b + 1])
        kick, at = of(self.displace), of(self.correct_at)
        return replace(self, force=of(self.force), displace=kick, clamp=clamp, correct_at=at)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Phases run back to back on a batch of lanes, each lane one input.

    Lanes with the same sample id and repeat see the same temporal noise where the device can share it (capability
    `twins`): that is how a rule asks for twins, and how it puts +/- nudges side by side as further lanes of one batch.

    Args:
        inputs: [B, M] drive x, held constant.
        ids: [B] sample ids, part of every noise address.
        phases: at least one.
        start: how the first phase begins.
        repeats: [B] repeat per lane, added to the noise path's own; all zero unless told.
    """

    inputs: Float[Array, "B M"]
    ids: Int[Array, " B"]
    phases: tuple[Phase, ...]
    start: Start = Rest()
    repeats: Int[Array, " B"] | None = None

    def __post_init__(self) -> None:
        lanes = len(self.inputs)
        if not self.phases:
            raise InputError("a plan needs at least one phase")
        if len(self.ids) != lanes or (self.repeats is not None and len(self.repeats) != lanes):
            raise InputError(
                f"a plan over {lanes} inputs needs {lanes} sample ids (and repeats); found {len(self.ids)}"
            )
        if _is_complex(self.inputs):
            raise InputError("inputs are real, also where states are complex; found complex numbers")

    @property
    def lanes(self) -> int:
        """B, the number of lanes."""
        return len(self.inputs)

    @cached_property
    def words(self) -> UInt32[np.ndarray, " B"]:
        """The sample ids as words of a noise address.

        Raises:
            InputError: they are not whole numbers, or one does not fit into 32 bits.
        """
        return check_ids(self.ids)

    @cached_property
    def repeat_words(self) -> UInt32[np.ndarray, " B"] | None:
        """The repeats of its lanes as words; None where there are none.

        Raises:
            InputError: they are not whole numbers, or one does not fit into 16 bits.
        """
        return None if self.repeats is None else check_repeats(self.repeats)

    @cached_property
    def is_complex(self) -> bool:
        """Whether it starts at, or puts in, something complex."""
        start = self.start.state if isinstance(self.start, At) else None
        return _is_complex(start) or any(phase.is_complex for phase in self.phases)

    def lane(self, b: int) -> Plan:
        """The plan of lane b alone."""
        one = slice(b, b + 1)
        start = At(self.start.state[one]) if isinstance(self.start, At) else self.start
        return replace(
            self,
            inputs=self.inputs[one],
            ids=self.ids[one],
            repeats=None if self.repeats is None else self.repeats[one],
            start=start,
            phases=tuple(phase.lane(b) for phase in self.phases),
        )

    @property
    def fresh(self) -> bool:
        """Whether it presents new samples, so that its end is what `Carry` carries on; a probe from `At` does not."""
        return not isinstance(self.start, At)


def _is_complex(*arrays: Array | None) -> bool:
    return any(array is not None and _complex_type(array.dtype) for array in arrays)


def _complex_type(dtype: object) -> bool:
    return dtype.kind == "c" if isinstance(dtype, np.dtype) else "complex" in str(dtype)


class Outcome(enum.IntEnum):
    """How a settling ended, the worst last. Physics never raises: this is its answer."""

    SETTLED = 0
    UNSETTLED = 1
    SATURATED = 2
    DIVERGED = 3

    @property
    def remedy(self) -> str:
        """What to change."""
        return _REMEDY[self]


_REMEDY = {
    Outcome.SETTLED: "nothing: the residual is below the device's settling tolerance",
    Outcome.UNSETTLED: "give it more steps, or train with a rule that knows the horizon (finite-horizon EP)",
    Outcome.SATURATED: "a converter or rail clipped: widen its range or scale the inputs and couplings down",
    Outcome.DIVERGED: "the state left the finite numbers: shrink the couplings or the step size dt / time constant",
}


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """What was read after (and during) one phase.

    Args:
        final: [B, N] state after the last step, as read; complex where the plan was.
        states: [K + 1, B, N] recorded states, the state before the first step included; None if not recorded.
        residual: [B] rms over units of (z_T - z_{T-1}) / eps, noise included: state units per time constant.
        outcome: [B] of `Outcome` codes.
    """

    final: Inexact[Array, "B N"]
    states: Inexact[Array, "K1 B N"] | None
    residual: Float[Array, " B"]
    outcome: Int[Array, " B"]

    @staticmethod
    def joined(lanes: Sequence[Relaxation]) -> Relaxation:
        """Relaxations of the same phase, their lanes one after another."""
        states = [lane.states for lane in lanes if lane.states is not None]
        xp = namespace(lanes[0].final)
        return Relaxation(
            final=xp.concat([lane.final for lane in lanes]),
            states=xp.concat(states, axis=1) if states else None,
            residual=xp.concat([lane.residual for lane in lanes]),
            outcome=xp.concat([lane.outcome for lane in lanes]),
        )

    @property
    def recorded(self) -> Inexact[Array, "K1 B N"]:
        """The recorded states; raises InputError where the phase recorded none."""
        if self.states is None:
            raise InputError("these states were not recorded: run the phase with record=1 (see LearningRule.needs)")
        return self.states

    @property
    def worst(self) -> Outcome:
        """The worst outcome among the lanes."""
        return Outcome(int(np.max(np.asarray(self.outcome)))) if len(self.outcome) else Outcome.SETTLED
