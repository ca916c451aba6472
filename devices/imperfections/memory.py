"""Memory cells: how conductances that hold weights miss their target, drift and flicker.

A weight is held by two cells, `w ~ g_plus - g_minus`. Only the weight is kept; what happens to the cells afterwards is
worked out for the pair that stands for it: the cell of its sign carries it, the other rests at g_min.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import Scale
from hwsim.contracts.units import engineering

from .contract import Context, Realisation, Seeds, WriteReport, WriteStage
from .write import concerns, within

_NONE = 1e-7
"""g / g_max below which a cell counts as empty, so that its logarithm exists."""


@final
@dataclass(frozen=True, kw_only=True)
class ConductancePair:
    """A weight as the difference of two conductances:

        g_plus = g_min + (g_max - g_min) max(w, 0) / w_max,    g_minus = g_min + (g_max - g_min) max(-w, 0) / w_max
        w = w_max (g_plus - g_minus) / (g_max - g_min)

    Args:
        w_max: largest |w|, in the units of the parameters.
        g_max, g_min: largest and smallest conductance of a cell, siemens.

    Raises:
        InputError: values that make no pair.
    """

    w_max: float
    g_max: float
    g_min: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.w_max < math.inf:
            raise InputError(f"a pair needs w_max > 0 and finite; found {self.w_max}")
        if not 0 <= self.g_min < self.g_max < math.inf:
            raise InputError(f"a pair needs 0 <= g_min < g_max, siemens; found {self.g_min} and {self.g_max}")

    def conductances(self, w: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """(g_plus, g_minus), siemens."""
        slope = (self.g_max - self.g_min) / self.w_max
        return self.g_min + slope * np.maximum(w, 0.0), self.g_min + slope * np.maximum(-w, 0.0)

    def weight(self, plus: Float[Array, "*shape"], minus: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """w of two conductances."""
        return self.w_max * (plus - minus) / (self.g_max - self.g_min)

    def describe(self) -> str:
        """`w_max` and the conductances that hold it."""
        return f"w_max = {self.w_max:g} on {engineering(self.g_min, 'S')} to {engineering(self.g_max, 'S')}"


class ProgrammingNoise(WriteStage):
    """Both cells of a pair miss their target by a fresh draw: `g = max(g_target + sigma(g_target) xi, 0)`."""

    pair: ConductancePair
    blocks: tuple[str, ...] | None

    @abstractmethod
    def sd(self, g: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """sigma(g), siemens."""

    def limits(self, name: str) -> tuple[float, float] | None:
        return (-self.pair.w_max, self.pair.w_max) if concerns(self.blocks, name) else None

    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        if not concerns(self.blocks, name):
            return values, WriteReport()
        w_max = self.pair.w_max
        within(name, values, -w_max, w_max, "what its cells hold", "raise w_max or put Range(clip=True) before it")
        plus, minus = (
            np.maximum(g + self.sd(g) * at.program.normal(f"{name}/{side}", g.shape), 0.0)
            for side, g in zip(("plus", "minus"), self.pair.conductances(values), strict=True)
        )
        return self.pair.weight(plus, minus), WriteReport()

    def describe(self, scale: Scale) -> str:
        middle, top = (self.sd(np.array([part * self.pair.g_max]))[0] for part in (0.5, 1.0))
        return (
            f"sd {engineering(float(middle), 'S')} at half and {engineering(float(top), 'S')} at full conductance, "
            f"{self.pair.describe()}"
        )


@final
@dataclass(frozen=True, kw_only=True)
class PolynomialProgrammingNoise(ProgrammingNoise):
    """`sigma(g) = g_max / g_reference sum_k c_k r^k`, `r = g / g_max`, nowhere below 0; see `ProgrammingNoise`.

    Args:
        pair: of cells.
        coefficients: c_0, c_1, ..., siemens.
        reference: g_reference at which they were fitted, siemens; g_max unless told.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: no coefficients, or a reference that is not positive; from `write` RangeError beyond w_max.
    """

    pair: ConductancePair
    coefficients: tuple[float, ...]
    reference: float | None = None
    blocks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require_pair(self, self.pair)
        if not self.coefficients or not np.isfinite(self.coefficients).all():
            raise InputError(f"programming noise needs finite coefficients, siemens; found {self.coefficients}")
        if self.reference is not None and not 0 < self.reference < math.inf:
            raise InputError(f"the reference conductance must be > 0 siemens; found {self.reference}")

    def sd(self, g: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        scale = 1.0 if self.reference is None else self.pair.g_max / self.reference
        return scale * np.maximum(np.polynomial.polynomial.polyval(g / self.pair.g_max, self.coefficients), 0.0)


@final
@dataclass(frozen=True, kw_only=True)
class SaturatingProgrammingNoise(ProgrammingNoise):
    """`sigma(g) = A (1 - exp(-g / B))`; see `ProgrammingNoise`.

    Args:
        pair: of cells.
        amplitude: A, siemens.
        knee: B, siemens.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: values that are not positive; from `write` RangeError beyond w_max.
    """

    pair: ConductancePair
    amplitude: float
    knee: float
    blocks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require_pair(self, self.pair)
        if not (0 < self.amplitude < math.inf and 0 < self.knee < math.inf):
            raise InputError(f"a saturating noise needs A > 0 and B > 0; found {self.amplitude} and {self.knee}")

    def sd(self, g: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.amplitude * -np.expm1(-g / self.knee)


def pcm_programming(
    w_max: float, *, g_max: float = 25e-6, blocks: tuple[str, ...] | None = None
) -> PolynomialProgrammingNoise:
    """Phase-change memory: `sigma = g_max / 25 uS (0.26348 + 1.9650 r - 1.1731 r^2)` uS.

    Source: S. Nandakumar et al., Phase-change memory models for deep learning training and inference, ICECS 2019.
    """
    return _polynomial(w_max, g_max, (0.26348, 1.9650, -1.1731), 25.0, blocks)


def hermes_programming(
    w_max: float, *, cells: int = 2, blocks: tuple[str, ...] | None = None
) -> PolynomialProgrammingNoise:
    """Phase-change memory of the HERMES chip, one or two cells for each sign: 10.35 uS or 20.7 uS at most.

    Source: R. Khaddam-Aljameh et al., IEEE J. Solid-State Circuits 57:1027 (2022); M. Le Gallo et al., Nature
    Electronics 6:680 (2023); cubic fits of aihwkit.
    """
    fits = {
        1: (10.35, (0.15781817, 2.32443916, -2.16310839, 0.68841818)),
        2: (20.7, (0.16603222, 4.71806468, -8.48101252, 4.68961419)),
    }
    if cells not in fits:
        raise InputError(f"HERMES holds each sign of a weight in 1 or 2 cells; asked for {cells}")
    top, coefficients = fits[cells]
    return _polynomial(w_max, top * 1e-6, coefficients, top, blocks)


def reram_programming(
    w_max: float, *, g_max: float = 40e-6, blocks: tuple[str, ...] | None = None
) -> PolynomialProgrammingNoise:
    """Filamentary ReRAM one second after programming: `0.348 + 16.03 r - 43.853 r^2 + 45.393 r^3 - 16.815 r^4` uS.

    Source: W. Wan et al., A compute-in-memory chip based on resistive random-access memory, Nature 608:504 (2022),
    Extended Data Fig. 3; quartic fit of aihwkit at 40 uS.
    """
    return _polynomial(w_max, g_max, (0.348, 16.030, -43.853, 45.393, -16.815), 40.0, blocks)


def cmo_reram_programming(
    w_max: float, *, acceptance: float = 2.0, blocks: tuple[str, ...] | None = None
) -> PolynomialProgrammingNoise:
    """CMO / HfOx ReRAM, 9 to 88.19 uS, after write-verify to 0.2 % or 2 % of the target: sigma linear in g.

        0.2 %   sigma = 0.00081107 uS + 0.00106879 g          2 %   sigma = 0.0112185391 uS + 0.01129027418 g

    Args:
        w_max: largest |w|.
        acceptance: 0.2 or 2, per cent.
        blocks: where.

    Raises:
        InputError: another acceptance; nothing stands in for what was not measured.

    Source: D. Falcone et al., All-in-one analog AI hardware, arXiv:2502.04524; fits of aihwkit.
    """
    fits = {0.2: (0.00081107, 0.00106879), 2.0: (0.0112185391, 0.01129027418)}
    if acceptance not in fits:
        raise InputError(f"CMO ReRAM was measured at acceptance 0.2 and 2 per cent; asked for {acceptance}")
    constant, slope = fits[acceptance]
    pair = ConductancePair(w_max=w_max, g_max=88.19e-6, g_min=9e-6)
    return PolynomialProgrammingNoise(pair=pair, coefficients=(constant * 1e-6, slope * pair.g_max), blocks=blocks)


def sonos_programming(w_max: float, *, blocks: tuple[str, ...] | None = None) -> SaturatingProgrammingNoise:
    """SONOS charge trap, up to 16 uS (1600 nA at 0.1 V): `sigma = A (1 - exp(-I / B))`, A 19.88665, B 176.3115 nA.

    Source: V. Agrawal et al., Subthreshold operation of SONOS analog memory to enable accurate low-power neural
    network inference, IEDM 2022, Fig. 10a; fit of CrossSim, at the time of programming.
    """
    pair = ConductancePair(w_max=w_max, g_max=16e-6)
    return SaturatingProgrammingNoise(pair=pair, amplitude=0.1988665e-6, knee=1.763115e-6, blocks=blocks)


@final
@dataclass(frozen=True, kw_only=True)
class ClippedLog:
    """`clip(a ln r + b, low, high)`, r = g / g_max: how a property of a cell goes with its conductance."""

    a: float
    b: float
    low: float
    high: float

    def __call__(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return np.clip(self.a * np.log(np.maximum(r, _NONE)) + self.b, self.low, self.high)


@final
@dataclass(frozen=True, kw_only=True)
class Drift(Realisation):
    """Conductance falls as a power of the time since programming, each cell with its own exponent.

        g(t) = g_p ((t + t0) / t0)^-nu,    nu = |mu(r) + s(r) xi|,    r = g_p / g_max

    The exponents are drawn at every programming, for both cells of a pair: that of the weight's sign carries it, the
    other is at g_min. `compensated` multiplies each block by one digital factor, `sum g(0) / sum g(t)` over all its
    cells, as read of the whole array.

    Args:
        pair: of cells.
        t0: time of the first read after programming, s.
        mean: mu(r).
        spread: s(r).
        compensated: global drift compensation.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: a time that is not positive.

    Source: Nandakumar et al., ICECS 2019 (exponents of phase-change memory); V. Joshi et al., Accurate deep neural
    network inference using computational phase-change memory, Nature Communications 11:2473 (2020) (compensation).
    """

    pair: ConductancePair
    t0: float = 20.0
    mean: ClippedLog = ClippedLog(a=-0.0155, b=0.0244, low=0.049, high=0.1)
    spread: ClippedLog = ClippedLog(a=-0.0125, b=-0.0059, low=0.008, high=0.045)
    compensated: bool = False
    blocks: tuple[str, ...] | None = None
    seeds: ClassVar[Seeds] = Seeds.PROGRAM

    def __post_init__(self) -> None:
        _require_pair(self, self.pair)
        if not 0 < self.t0 < math.inf:
            raise InputError(f"drift needs the time of the first read, t0 > 0 s; found {self.t0}")

    def realise(self, name: str, values: Float[Array, "*shape"], at: Context) -> Float[Array, "*shape"]:
        if not concerns(self.blocks, name) or at.elapsed == 0.0:
            return values
        programmed = self.pair.conductances(values)
        plus, minus = (
            g * (1.0 + at.elapsed / self.t0) ** -self._exponent(g, at.program.normal(f"{name}/{side}", g.shape))
            for side, g in zip(("plus", "minus"), programmed, strict=True)
        )
        drifted = self.pair.weight(plus, minus)
        left = float(np.sum(plus) + np.sum(minus))
        if not self.compensated or left == 0.0:
            return drifted
        return drifted * (float(np.sum(programmed[0]) + np.sum(programmed[1])) / left)

    def describe(self, scale: Scale) -> str:
        nu, spread = (float(law(np.array([0.5]))[0]) for law in (self.mean, self.spread))
        digital = ", globally compensated" if self.compensated else ""
        t0 = engineering(self.t0, "s")
        return f"exponent {nu:.3g} +- {spread:.3g} at half conductance after {t0}{digital}, {self.pair.describe()}"

    def _exponent(self, g: Float[Array, "*shape"], xi: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        r = g / self.pair.g_max
        return np.abs(self.mean(r) + self.spread(r) * xi)


@final
@dataclass(frozen=True, kw_only=True)
class ReadNoise(Realisation):
    """1/f noise of the cells, accumulated since programming, drawn anew for every settling and held while it lasts:

        g = max(g_p (1 + Q(r) sqrt(ln((t + t0 + t_read) / (2 t_read))) xi), 0),    Q = min(q / max(r^0.65, 1e-3), Q_max)

    for both cells of a pair, the one that rests at g_min included. Q is that of the conductance as programmed: put it
    before `Drift` in the list.

    Args:
        pair: of cells.
        q: Q of a full cell.
        limit: Q_max.
        t0: time of the first read after programming, s.
        t_read: duration of a read, s.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: values that are not positive.

    Source: Nandakumar et al., ICECS 2019 (phase-change memory).
    """

    pair: ConductancePair
    q: float = 0.0088
    limit: float = 0.2
    t0: float = 20.0
    t_read: float = 250e-9
    blocks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require_pair(self, self.pair)
        for name in ("q", "limit", "t0", "t_read"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"read noise needs {name} > 0 and finite; found {getattr(self, name)}")
        if self.t0 <= self.t_read:
            raise InputError(f"a read of {self.t_read} s must be shorter than the time before it, t0 = {self.t0} s")

    def sd(self, g: Float[Array, "*shape"], elapsed: float) -> Float[Array, "*shape"]:
        """sigma(g) after `elapsed` seconds, siemens."""
        strength = np.minimum(self.q / np.maximum((g / self.pair.g_max) ** 0.65, 1e-3), self.limit)
        return g * strength * math.sqrt(math.log((elapsed + self.t0 + self.t_read) / (2.0 * self.t_read)))

    def realise(self, name: str, values: Float[Array, "*shape"], at: Context) -> Float[Array, "*shape"]:
        if not concerns(self.blocks, name):
            return values
        plus, minus = (
            np.maximum(g + self.sd(g, at.elapsed) * at.read.normal(f"{name}/{side}", g.shape), 0.0)
            for side, g in zip(("plus", "minus"), self.pair.conductances(values), strict=True)
        )
        return self.pair.weight(plus, minus)

    def describe(self, scale: Scale) -> str:
        sd = float(self.sd(np.array([self.pair.g_max]), 0.0)[0])
        return f"sd {engineering(sd, 'S')} at full conductance just after programming, {self.pair.describe()}"


def _require_pair(owner: object, pair: ConductancePair) -> None:
    if not isinstance(pair, ConductancePair):
        raise InputError(f"{type(owner).__name__} needs pair=ConductancePair(...); found {pair!r}")


def _polynomial(
    w_max: float, g_max: float, micro: tuple[float, ...], reference: float, blocks: tuple[str, ...] | None
) -> PolynomialProgrammingNoise:
    """A fit in microsiemens at a reference in microsiemens."""
    return PolynomialProgrammingNoise(
        pair=ConductancePair(w_max=w_max, g_max=g_max),
        coefficients=tuple(1e-6 * c for c in micro),
        reference=reference * 1e-6,
        blocks=blocks,
    )
