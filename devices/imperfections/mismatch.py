"""Mismatch: parts that were drawn alike and are not, for as long as the die lives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import BOLTZMANN, ELEMENTARY_CHARGE, ROOM_TEMPERATURE, Scale
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.units import engineering
from hwsim.substrates.chip import Chip

from .contract import Context, Fabrication, Source


def pelgrom(
    area_coefficient: float,
    width: float,
    length: float,
    distance_coefficient: float = 0.0,
    distance: float = 0.0,
) -> float:
    """`sigma(dP) = sqrt(A^2 / (W L) + S^2 D^2)`: sd of the difference dP of a quantity P between two equal parts.

    Args:
        area_coefficient: A, unit of P times metre (a threshold: 3 mV um is 3e-9 V m).
        width, length: W and L of the active area, metre.
        distance_coefficient: S, unit of P per metre.
        distance: D between the two, metre.

    Raises:
        InputError: a width or length that is not positive, or another argument below zero.

    Source: M. Pelgrom, A. Duinmaijer, A. Welbers, Matching properties of MOS transistors, IEEE J. Solid-State Circuits
    24:1433 (1989), eq. 5.
    """
    if not (0 < width < math.inf and 0 < length < math.inf):
        raise InputError(f"a part needs a width and a length > 0 and finite, metre; found {width} and {length}")
    _not_negative(area_coefficient=area_coefficient, distance_coefficient=distance_coefficient, distance=distance)
    return math.hypot(area_coefficient / math.sqrt(width * length), distance_coefficient * distance)


def subthreshold_mismatch(
    threshold: float, *, slope_factor: float = 1.3, temperature: float = ROOM_TEMPERATURE
) -> float:
    """`sigma(ln I) = sigma(V_T) / (n U_T)`, `U_T = k T / q`: sd of the current of a MOS transistor in weak inversion.

    There `I ~ exp((V_G - V_T) / (n U_T))`, so that normal thresholds make log-normal currents: give it to
    `Mismatch(log_normal=True)`. For small values it is `sigma(dI / I)`.

    Args:
        threshold: sd of the threshold V_T, volt; for a current mirror that of the difference of its two transistors.
        slope_factor: n, 1 .. 2, of the process.
        temperature: kelvin.

    Raises:
        InputError: a value out of range.

    Source: P. Kinget, Device mismatch and tradeoffs in the design of analog circuits, IEEE J. Solid-State Circuits
    40:1212 (2005), `sigma(dI / I) = (g_m / I) sigma(V_T)` with g_m / I = 1 / (n U_T).
    """
    _not_negative(threshold=threshold)
    if not (slope_factor >= 1.0 and 0 < temperature < math.inf):
        raise InputError(f"weak inversion needs n >= 1 and a temperature > 0; found {slope_factor} and {temperature}")
    return threshold / (slope_factor * BOLTZMANN * temperature / ELEMENTARY_CHARGE)


@final
@dataclass(frozen=True, kw_only=True)
class Mismatch(Fabrication):
    """Every parameter, unit and time constant is off by its own fixed factor or offset, xi ~ N(0, 1) for each.

        gain_j = 1 + s_g xi,    offset_i = s_o xi,    rate_i = 1 / (1 + s_tau xi)
        gain_j = exp(s_g xi),                         rate_i = exp(-s_tau xi)            where log_normal

    A parameter is one physical thing: where one block holds both entries of a pair that share a conductance, they
    share a draw. Several of a kind multiply (gain, rate) and add (offset).

    Args:
        gain: s_g, relative sd of every parameter of `blocks` (sd of its logarithm where log_normal).
        offset: s_o, sd of the offset of every unit, state units per time constant.
        time_constant: s_tau, relative sd of the time constant of every unit (sd of its logarithm where log_normal).
        blocks: whose parameters; all analog blocks unless told.
        log_normal: gains and time constants are then positive whatever the sd.

    Raises:
        InputError: a negative sd; from `fabricate` an unknown block, or a time constant drawn at or below zero.
    """

    gain: float = 0.0
    offset: float = 0.0
    time_constant: float = 0.0
    blocks: tuple[str, ...] | None = None
    log_normal: bool = False

    def __post_init__(self) -> None:
        _not_negative(gain=self.gain, offset=self.offset, time_constant=self.time_constant)

    @classmethod
    def pelgrom(
        cls,
        area_coefficient: float,
        width: float,
        length: float,
        *,
        distance_coefficient: float = 0.0,
        distance: float = 0.0,
        blocks: tuple[str, ...] | None = None,
        log_normal: bool = False,
    ) -> Mismatch:
        """A gain mismatch by `pelgrom`, with A relative (1 % um is 1e-8 m) and S in 1 / metre.

        The law is about the difference between two parts; each then differs from their mean by `sigma(dP) / sqrt(2)`.
        """
        difference = pelgrom(area_coefficient, width, length, distance_coefficient, distance)
        return cls(gain=difference / math.sqrt(2.0), blocks=blocks, log_normal=log_normal)

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        if self.gain:
            names = chosen(self.blocks, drawing)
            drawn = {
                name: self._factor(self.gain, shared_normal(at.fixed, f"{name}/gain", drawing, name)) for name in names
            }
            chip = replace(chip, gain=product(chip.gain, unshared_gain(chip, drawing, drawn)))
        else:
            chosen(self.blocks, drawing)
        units = (drawing.units,)
        if self.offset:
            chip = replace(chip, offset=chip.offset + self.offset * at.fixed.normal("offset", units))
        if self.time_constant:
            stretch = self._factor(self.time_constant, at.fixed.normal("rate", units))
            if (stretch <= 0.0).any():
                raise InputError(
                    f"time constants of relative sd {self.time_constant:g} reach down to {stretch.min():.3g} of the "
                    "drawn one; they must stay positive: give a smaller time_constant, or log_normal=True"
                )
            chip = replace(chip, rate=chip.rate / stretch)
        return chip

    def describe(self, scale: Scale) -> str:
        kind = "log-normal" if self.log_normal else "normal"
        where = "every parameter" if self.blocks is None else ", ".join(self.blocks)
        return (
            f"gain {self.gain:.3g} of {where}, offset {engineering(self.offset * scale.ampere, 'A')}, "
            f"time constant {engineering(self.time_constant * scale.second, 's')} of "
            f"{engineering(scale.second, 's')} ({kind} sd)"
        )

    def _factor(self, sd: float, xi: Array) -> Array:
        return np.exp(sd * xi) if self.log_normal else 1.0 + sd * xi


@final
@dataclass(frozen=True, kw_only=True)
class Asymmetry(Fabrication):
    """The two directions of a coupling differ: `gain = 1 + s xi` for each, `backward = 1 + s xi` when driven backwards.

    A coupling that two units share is split into one parameter for each direction (`Chip.split`), each with its own
    gain: what was reciprocal is not any more. A coupling that is independent in its two directions anyway has nothing
    to split; it differs only in what it does when driven backwards (its factors `backward`). Nothing happens at s = 0.

    Args:
        sigma: s, relative sd.

    Raises:
        InputError: a negative sigma; from `fabricate`, a drawing whose couplings cannot differ in their directions.
    """

    sigma: float

    def __post_init__(self) -> None:
        _not_negative(sigma=self.sigma)

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        physics = drawing.unshared()
        if physics is drawing and drawing.reciprocal:
            raise InputError(
                f"the couplings of {type(drawing).__name__} cannot differ in their two directions: each is one element "
                "between two units, the same seen from either; leave Asymmetry out, or use Mismatch for its size"
            )
        between = couplings(physics)
        if not between:
            raise InputError(f"{type(drawing).__name__} has no coupling between units; leave Asymmetry out")
        if not self.sigma:
            return chip
        shapes = physics.shapes()
        factors = {
            way: {name: 1.0 + self.sigma * at.fixed.normal(f"{name}/{way}", shapes[name]) for name in names}
            for way, names in (("gain", between & split_blocks(drawing)), ("backward", between))
        }
        if factors["gain"] and not chip.split:
            chip = replace(chip, split=True)
            chip = replace(chip, gain=unshared_gain(chip, drawing, chip.gain) if chip.gain else {})
        return replace(
            chip,
            gain=product(chip.gain, factors["gain"]),
            backward=product(chip.backward, factors["backward"]),
        )

    def describe(self, scale: Scale) -> str:
        return f"relative sd {self.sigma:.3g} between the two directions of a coupling, and when driven backwards"


def chosen(blocks: Iterable[str] | None, drawing: Substrate) -> list[str]:
    """The blocks that an imperfection acts on, all unless told.

    Raises:
        InputError: a name that the drawing does not have.
    """
    shapes = drawing.shapes()
    names = list(shapes) if blocks is None else list(blocks)
    if unknown := set(names) - shapes.keys():
        raise InputError(f"asked for the blocks {sorted(unknown)}; {type(drawing).__name__} has {sorted(shapes)}")
    return names


def shared_normal(source: Source, key: str, drawing: Substrate, name: str) -> Float[Array, "*shape"]:
    """Normal deviates for one block, one for each physical thing.

    Where the block holds a conductance twice, as [N, N] of a reciprocal coupling does (W is the mean of both entries),
    both get `(xi_1 + xi_2) / sqrt(2)`.
    """
    shape = tuple(drawing.shapes()[name])
    if drawing.unshared() is drawing:
        return source.normal(key, shape)
    index = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)

    def copies(block: Array) -> Array:
        return drawing.share(drawing.unshare(_with(drawing, {name: block})))[name]

    def mean(block: Array) -> Array:
        return copies(block) / np.maximum(copies(np.ones(shape)), 1.0)  # a kernel may have places beyond a small grid

    return mean(source.normal(key, shape)) * np.where(mean(index) == index, 1.0, math.sqrt(2.0))


def unshared_gain(chip: Chip, drawing: Substrate, gain: Mapping[str, Array]) -> Mapping[str, Array]:
    """Factors of the programmed parameters, as factors of the real ones: those of `unshared()` where the chip is split.

    Sharing copies parameters (and takes the mean of copies), so that their factors go the same way.
    """
    return dict(drawing.unshare(_with(drawing, gain))) if chip.split else dict(gain)


def product(old: Mapping[str, Array], new: Mapping[str, Array]) -> dict[str, Array]:
    """Factors of blocks multiplied, where a missing block has 1."""
    return dict(old) | {name: old[name] * factor if name in old else factor for name, factor in new.items()}


def couplings(physics: Substrate) -> frozenset[str]:
    """The blocks through which one unit acts on another: those on which the Jacobian beside its diagonal depends.

    Found by changing one block after the other. Signals on the units whose index has bit k, for every k, and on the
    others, read where they are not: any two units differ in a bit.
    """

    def some(*shape: int, at: float) -> Array:
        return 0.5 + 0.25 * np.sin(at + np.arange(math.prod(shape), dtype=np.float64)).reshape(shape)

    bits = np.arange(physics.units) >> np.arange((physics.units - 1).bit_length())[:, None] & 1
    on = np.concatenate([bits, 1 - bits])[:, None, :].astype(np.float64)
    z, x = some(1, physics.units, at=1.0), some(1, physics.inputs, at=2.0)
    theta = Parameters({name: some(*shape, at=3.0) for name, shape in physics.shapes().items()})

    def passed(theta: Parameters) -> Array:
        return physics.tangent(on, z, x, theta) * (1.0 - on)

    changed = {name: theta | {name: block * some(*block.shape, at=4.0)} for name, block in theta.items()}
    return frozenset(name for name, other in changed.items() if not np.allclose(passed(theta), passed(other), atol=0.0))


def split_blocks(drawing: Substrate) -> frozenset[str]:
    """The blocks of `drawing.unshared()` that are no blocks of the drawing, or not as they were programmed."""
    if drawing.unshared() is drawing:
        return frozenset()
    numbered = {
        name: np.arange(math.prod(shape), dtype=np.float64).reshape(shape) for name, shape in drawing.shapes().items()
    }
    real = drawing.unshare(Parameters(numbered))
    return frozenset(
        name
        for name, block in real.items()
        if name not in numbered or block.shape != numbered[name].shape or not np.array_equal(block, numbered[name])
    )


def _with(drawing: Substrate, some: Mapping[str, Array]) -> Parameters:
    return Parameters({name: some.get(name, np.ones(shape)) for name, shape in drawing.shapes().items()})


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{name} must be >= 0 and finite; found {value}")
