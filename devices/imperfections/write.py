"""The write chain: what becomes of a parameter between the value asked for and the value held."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError, RangeError
from hwsim.contracts.scale import Scale
from hwsim.contracts.units import engineering

from .contract import Context, WriteReport, WriteStage


@final
@dataclass(frozen=True, kw_only=True)
class Range(WriteStage):
    """`low <= w <= high`: a value outside is refused, or with `clip` held at the border and counted.

    Args:
        low, high: in the units of the parameters, low < high.
        clip: hold instead of refuse.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: nothing between low and high; from `write` RangeError.
    """

    low: float
    high: float
    clip: bool = False
    blocks: tuple[str, ...] | None = None
    idempotent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"a range needs low < high; found low={self.low}, high={self.high}")

    def limits(self, name: str) -> tuple[float, float] | None:
        return (self.low, self.high) if concerns(self.blocks, name) and not self.clip else None

    def clips(self, name: str) -> bool:
        return self.clip and concerns(self.blocks, name)

    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        if not concerns(self.blocks, name):
            return values, WriteReport()
        if not self.clip:
            within(name, values, self.low, self.high, "the range", "scale it down, or hold it with Range(clip=True)")
            return values, WriteReport()
        inside = np.clip(values, self.low, self.high)
        return inside, WriteReport(clipped=int(np.count_nonzero(inside != values)))

    def describe(self, scale: Scale) -> str:
        beyond = "held at the border" if self.clip else "refused"
        return f"{_span(self.low, self.high, scale)}, values beyond {beyond}"


@final
@dataclass(frozen=True, kw_only=True)
class Quantise(WriteStage):
    """The nearest of n equally spaced levels: `w = low + q round((w - low) / q)`, `q = (high - low) / (n - 1)`.

    The error is at most q / 2. With `low = -high` an odd n has a level at exactly zero.

    Args:
        low, high: first and last level, in the units of the parameters.
        levels: n, at least 2.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: values that make no levels; from `write` RangeError for a value beyond the last level.
    """

    low: float
    high: float
    levels: int
    blocks: tuple[str, ...] | None = None
    idempotent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise InputError(f"levels need low < high, both finite; found low={self.low}, high={self.high}")
        whole("a quantised parameter", "levels", self.levels, least=2)

    @classmethod
    def bits(cls, bits: int, *, low: float, high: float, blocks: tuple[str, ...] | None = None) -> Quantise:
        """`2^bits` levels."""
        if not 1 <= bits <= 52:
            raise InputError(f"a parameter has 1 to 52 bits; found {bits}")
        return cls(low=low, high=high, levels=2**bits, blocks=blocks)

    @property
    def step(self) -> float:
        """q, distance of two levels."""
        return (self.high - self.low) / (self.levels - 1)

    def limits(self, name: str) -> tuple[float, float] | None:
        return (self.low, self.high) if concerns(self.blocks, name) else None

    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        if not concerns(self.blocks, name):
            return values, WriteReport()
        within(name, values, self.low, self.high, "the levels", "put Range(clip=True) before Quantise")
        index = np.round((values - self.low) / self.step)
        # counted from the middle, so that a level that should be zero is; rounding may lift the last above `high`
        level = (self.low + self.high) / 2.0 + (index - (self.levels - 1) / 2.0) * self.step
        return np.clip(level, self.low, self.high), WriteReport()

    def describe(self, scale: Scale) -> str:
        step = engineering(self.step * scale.parameter_siemens, "S")
        return f"{self.levels} levels in {_span(self.low, self.high, scale)}, {step} apart"


@final
@dataclass(frozen=True, kw_only=True)
class WriteVerify(WriteStage):
    """Write, read back, and write again what is further than `tolerance` from the value asked for: program and verify.

    Every attempt is another draw of the noisy stage, for those parameters only that are not there yet. After the last
    attempt the rest stays as it came out and is counted as unverified. What is read back here is exact.

    Args:
        stage: the write to repeat.
        tolerance: largest |held - asked| that is accepted, in the units of the parameters.
        attempts: at most so many writes of one parameter, 1 or more.

    Raises:
        InputError: values out of range; from `write` what the stage raises.

    Cost: each attempt draws for the whole block, so that what one parameter gets does not depend on the others.
    """

    stage: WriteStage
    tolerance: float
    attempts: int

    def __post_init__(self) -> None:
        if not isinstance(self.stage, WriteStage):
            raise InputError(f"write-verify repeats a stage of the write chain; found {self.stage!r}")
        if not 0 < self.tolerance < math.inf:
            raise InputError(f"write-verify needs a tolerance > 0 and finite; found {self.tolerance}")
        if not 1 <= self.attempts < 1 << 16:
            raise InputError(f"write-verify needs from 1 to 65535 attempts; found {self.attempts}")

    def limits(self, name: str) -> tuple[float, float] | None:
        return self.stage.limits(name)

    def clips(self, name: str) -> bool:
        return self.stage.clips(name)

    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        written, report = self.stage.write(name, values, held, at)
        if written is values:
            return values, report  # not a block of that stage
        made = values.size
        pending = np.abs(written - values) > self.tolerance
        for attempt in range(1, self.attempts):
            if not pending.any():
                break
            made += int(np.count_nonzero(pending))
            path = at.program.path.repeated(attempt)
            again, _ = self.stage.write(name, values, written, replace(at, program=replace(at.program, path=path)))
            written = np.where(pending, again, written)
            pending = np.abs(written - values) > self.tolerance
        return written, report + WriteReport(attempts=made, unverified=int(np.count_nonzero(pending)))

    def describe(self, scale: Scale) -> str:
        within = engineering(self.tolerance * scale.parameter_siemens, "S")
        return f"within {within} or {self.attempts} attempts: {self.stage.describe(scale)}"


@final
@dataclass(frozen=True, kw_only=True)
class Endurance(WriteStage):
    """A parameter wears out: it takes n writes and then stays at what it holds, `n = cycles exp(spread xi)`.

    The lifetimes are fixed draws. What counts is how often the device was written, by programming or by pulses: every
    write of an array is taken as one of each of its cells. Worn-out parameters are counted as stuck.

    Args:
        cycles: median lifetime in writes, at least 1.
        spread: sd of its logarithm between cells, >= 0.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: values out of range.

    Source: endurance as a limit of training on resistive synapses: P.-Y. Chen, S. Yu, Reliability perspective of
    resistive synaptic devices on the neuromorphic system performance, IRPS 2018. That lifetimes are log-normal is
    an assumption.
    """

    cycles: float
    spread: float = 0.0
    blocks: tuple[str, ...] | None = None
    idempotent: ClassVar[bool] = True
    by_pulses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (1 <= self.cycles < math.inf and 0 <= self.spread < math.inf):
            raise InputError(
                f"endurance needs cycles >= 1 and spread >= 0, finite; found {self.cycles} and {self.spread}"
            )

    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        if held is None or not concerns(self.blocks, name):
            return values, WriteReport()
        lifetime = self.cycles * np.exp(self.spread * at.fixed.normal(f"{name}/lifetime", values.shape))
        worn = at.program.path.step + 1 > lifetime
        out = np.where(worn, held, values)
        return out, WriteReport(stuck=int(np.count_nonzero(out != values)))

    def describe(self, scale: Scale) -> str:
        return f"{self.cycles:.3g} writes, log-normal with sd {self.spread:.3g} between cells"


def concerns(blocks: tuple[str, ...] | None, name: str) -> bool:
    """Whether a stage for these blocks (all, if None) acts on this one."""
    return blocks is None or name in blocks


def within(name: str, values: Float[Array, "*shape"], low: float, high: float, what: str, remedy: str) -> None:
    """Raise RangeError where a value of the block lies outside."""
    if values.size and not (values.min() >= low and values.max() <= high):
        raise RangeError(
            f"block {name} spans [{values.min():.6g}, {values.max():.6g}], outside {what} [{low:.6g}, {high:.6g}]; "
            f"{remedy}"
        )


def _span(low: float, high: float, scale: Scale) -> str:
    first, last = (engineering(value * scale.parameter_siemens, "S") for value in (low, high))
    return f"[{first}, {last}]"
