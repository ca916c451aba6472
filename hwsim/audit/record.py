"""What an audit found: numbers, a table, advice, JSON."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, final

from hwsim.contracts.errors import InputError

ANALOG = "analog"
"""Stands for all analog blocks together."""
GOOD = 0.01
"""An error of this size, relative to the exact gradient, needs no advice."""
SIGMAS = 2.0
"""A mean is told from zero when it is at least so many standard errors away."""
SCHEMA = 1

_Audit = TypeVar("_Audit", bound="Audit")


class Floor(enum.Enum):
    """Whose fault a rung is."""

    RULE = "the rule"
    """What it gives up on a perfect device."""
    CHIP = "the chip"
    """What it does not know of the die."""
    MACHINE = "the machine"
    """Converters, noise, cells."""


@final
@dataclass(frozen=True, kw_only=True)
class Share:
    """What one rung does to one block (or to all analog ones), in units of the exact gradient's norm |J| there.

    Args:
        bias: `|mean d| / |J|`, d the difference that this rung makes. Noise alone makes it about `error`.
        error: standard error of that, `sqrt(var d / R) / |J|`; NaN from a single repeat.
        variance: what it adds to the variance of one estimate, over |J|^2. Those of all rungs add up to that of the
            machine; one that lowers it is negative. NaN from a single repeat.
        cosine: between the mean gradient after this rung and the exact one.
    """

    bias: float
    error: float
    variance: float
    cosine: float

    @property
    def noise(self) -> float:
        """sd that it adds to one estimate, over |J|; 0 where it adds none."""
        return math.sqrt(max(self.variance, 0.0)) if not math.isnan(self.variance) else math.nan

    @property
    def resolved(self) -> bool:
        """Whether its bias can be told from zero."""
        return self.bias > (SIGMAS * self.error if math.isfinite(self.error) else 0.0)


@final
@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step down the ladder.

    Args:
        name: what is given up.
        floor: whose fault it is.
        advice: what to change where it is the largest.
        detail: its size in physical units, where there is one.
        shares: block -> what it does there; `ANALOG` for all analog blocks.
    """

    name: str
    floor: Floor
    advice: str
    detail: str
    shares: Mapping[str, Share]


@final
@dataclass(frozen=True, kw_only=True)
class Audit:
    """The way from the exact gradient of the deployed loss to what the machine delivers.

    Args:
        rule: its name.
        repeats: R, estimates under independent noise.
        norms: block -> |J|, the norm of the exact gradient; `ANALOG` for all analog blocks.
        rungs: in order; the differences that they make add up to that between the machine and the judge.
        total: block -> the whole way: bias, its error, the variance of one estimate, the cosine of their mean.
        single: block -> mean cosine of one estimate to the exact gradient.
        missing: rungs that could not be told apart, and why.
        settings: how it was made, for files.
    """

    rule: str
    repeats: int
    norms: Mapping[str, float]
    rungs: tuple[Rung, ...]
    total: Mapping[str, Share]
    single: Mapping[str, float]
    missing: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def largest_bias(self) -> Rung:
        """The rung with the largest bias that can be told from zero (any, where none can), over all analog blocks."""
        return max(self.rungs, key=lambda rung: (rung.shares[ANALOG].resolved, _number(rung.shares[ANALOG].bias)))

    @property
    def noisiest(self) -> Rung:
        """The rung that adds the most to the variance of an estimate, over all analog blocks."""
        return max(self.rungs, key=lambda rung: _number(rung.shares[ANALOG].variance))

    @property
    def advice(self) -> str:
        """What to change first, in words."""
        total, worst, noisy = self.total[ANALOG], self.largest_bias, self.noisiest
        if self.norms[ANALOG] == 0.0:
            return "The exact gradient is zero: there is nothing to learn here, and nothing to compare with."
        if not (math.isfinite(total.bias) and math.isfinite(self.norms[ANALOG])):
            return "A gradient is not finite: the settling or the probe diverges. Shrink the couplings or the step."
        bias = worst.shares[ANALOG].bias if worst.shares[ANALOG].resolved else 0.0
        noise = total.noise if math.isfinite(total.noise) else 0.0
        if max(bias, noise) <= GOOD:
            return f"Nothing to do: no rung is larger than {_percent(max(bias, noise, 1e-4))} of the exact gradient."
        if bias >= noise:
            first = f"The largest rung is {_quoted(worst)}, {_percent(bias)} of the exact gradient: {worst.advice}."
            if noise > GOOD:
                first += f" Noise is smaller: one estimate scatters by {_percent(noise)}."
            if total.bias < bias / 1.5:
                first += f" Other rungs undo a part of it: {_percent(total.bias)} are left in the end."
            return first
        after = max(bias, GOOD)
        repeats = math.ceil((noise / after) ** 2)
        goal = f"as little as {_quoted(worst)} biases them" if bias > GOOD else f"by {_percent(GOOD)}"
        return (
            f"Noise is the largest: one estimate scatters by {_percent(noise)} of the exact gradient, most of it from "
            f"{_quoted(noisy)}: {noisy.advice}. Averaging alone would take {_count(repeats)} whole estimates, "
            f"free phases included, to scatter {goal}."
        )

    @property
    def table(self) -> str:
        """One line per rung: bias, noise and cosine over all analog blocks, then the bias of every block.

        A bias in brackets cannot be told from zero.
        """
        blocks = [name for name in self.norms if name != ANALOG]
        heads = ["bias", "noise", "cosine", *blocks]
        rows = [(rung.name, rung.shares) for rung in self.rungs]
        width = max(len(name) for name, _ in [*rows, ("what the machine delivers", None)]) + 2
        lines = [f"{'':{width}}" + "".join(f"{head:>{_wide(head)}}" for head in heads)]
        floor = None
        for rung in self.rungs:
            if rung.floor is not floor:
                lines.append(rung.floor.value)
                floor = rung.floor
            lines.append(_line(f"  {rung.name}", width, rung.shares, blocks))
        lines.append("-" * len(lines[0]))
        lines.append(_line("what the machine delivers", width, self.total, blocks))
        lines += [f"not told apart: {why}" for why in self.missing]
        return "\n".join(lines)

    def to_json(self) -> str:
        """As text; equal audits give the same. What is no number is null."""
        told = asdict(self)
        for rung in told["rungs"]:
            rung["floor"] = rung["floor"].value
        return json.dumps({"schema": SCHEMA, **_plain(told), "advice": self.advice}, indent=1) + "\n"

    @classmethod
    def from_json(cls: type[_Audit], text: str) -> _Audit:
        """What `to_json` wrote.

        Raises:
            InputError: something else.
        """
        try:
            told = json.loads(text)
            if told.pop("schema") != SCHEMA:
                raise InputError(f"this version reads audits of schema {SCHEMA}")
            told.pop("advice")
            rungs = tuple(
                Rung(**{**rung, "floor": Floor(rung["floor"]), "shares": _shares(rung["shares"])})
                for rung in told.pop("rungs")
            )
            return cls(
                rungs=rungs,
                norms={name: _value(one) for name, one in told.pop("norms").items()},
                single={name: _value(one) for name, one in told.pop("single").items()},
                total=_shares(told.pop("total")),
                missing=tuple(told.pop("missing")),
                **told,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"this is no audit as Audit.to_json writes it: {error}") from None


def _shares(told: Mapping[str, Mapping[str, float | None]]) -> dict[str, Share]:
    return {name: Share(**{key: _value(one) for key, one in share.items()}) for name, share in told.items()}


def _value(told: float | None) -> float:
    return math.nan if told is None else float(told)


def _plain(value: Any) -> Any:
    """JSON values, null for what is no number."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _number(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _quoted(rung: Rung) -> str:
    return f'"{rung.name}"'


def _percent(value: float) -> str:
    percent = 100.0 * value
    return f"{percent:.0f} %" if percent >= 9.5 else f"{percent:.2g} %"


def _count(value: int) -> str:
    return str(value) if value < 10_000 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def _wide(head: str) -> int:
    return max(11, len(head) + 2)


def _line(name: str, width: int, shares: Mapping[str, Share], blocks: list[str]) -> str:
    whole = shares[ANALOG]
    cells = [_bias(whole), _size(whole.noise), "-" if math.isnan(whole.cosine) else f"{whole.cosine:.4f}"]
    cells += [_bias(shares[block]) for block in blocks]
    return f"{name:{width}}" + "".join(
        f"{cell:>{_wide(head)}}" for cell, head in zip(cells, ["", "", "", *blocks], strict=True)
    )


def _bias(share: Share) -> str:
    return _size(share.bias) if share.resolved or not share.bias > 0.0 else f"({_size(share.bias)})"


def _size(value: float) -> str:
    """Two digits and a short exponent: 0, 1.2e-6, 0.25, -."""
    if math.isnan(value):
        return "-"
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= value < 999.5:
        return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
