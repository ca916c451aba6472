"""Converters between the analog and the digital side, and how a read is taken."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import Scale
from hwsim.contracts.units import engineering

from .contract import Context, Deviates, Drive, Readout, Seeds, Source

MOST_LEVELS = 2**24
"""Drawn levels that one imperfection keeps, over all its converters (128 MiB)."""


@final
@dataclass(frozen=True)
class ADC(Readout):
    """A uniform mid-tread converter: `read = LSB clip(round(v / LSB), -2^(bits-1), 2^(bits-1) - 1)`,

        v = z / (1 + 1 / (A beta)) + offset xi,       LSB = 2 full_scale / 2^bits

    Within range the error of an ideal one is at most LSB / 2 (rms LSB / sqrt(12)). A read that clips is reported as
    `Outcome.SATURATED`. Only what the digital side sees is quantised: the analog state goes on unrounded.

    With `dnl` its 2^bits - 1 transition levels are those of a string of resistors between two references: code widths
    LSB (1 + dnl xi), scaled so that first and last transition are where they should be. DNL then has standard deviation
    dnl, and INL, a random walk tied at both ends, at most `dnl sqrt(2^bits) / 2` in the middle, both in LSB.

    Args:
        bits: 1 .. 24, with `dnl` up to 16.
        full_scale: state units; the range is [-full_scale, full_scale - LSB].
        offset: standard deviation of the comparator's offset, state units, drawn once per converter.
        gain: A, open-loop gain of the amplifier before it.
        feedback: beta, the part of the output that is fed back, in (0, 1].
        dnl: standard deviation of the differential nonlinearity, LSB, at most 0.5.
        shared: one converter reads all units; one per unit otherwise.

    Raises:
        InputError: values out of range, or more drawn levels than 2^24.

    Sources: definitions: IEEE Std 1241-2010; gain and offset: Spear et al., IEEE J. Explor. Solid-State Comput.
    Devices Circuits 9 (2023), section II. Cost: one rounding per read; with `dnl` a binary search.
    """

    seeds: ClassVar[Seeds] = Seeds.FIXED

    bits: int
    full_scale: float = 8.0
    offset: float = 0.0
    gain: float = math.inf
    feedback: float = 1.0
    dnl: float = 0.0
    shared: bool = False

    def __post_init__(self) -> None:
        _check_converter(self.bits, self.full_scale, self.dnl)
        _check_amplifier(self.offset, self.gain, self.feedback)

    @property
    def lsb(self) -> float:
        """One step of the converter, state units."""
        return 2.0 * self.full_scale / 2**self.bits

    @property
    def error(self) -> float:
        count = 2**self.bits  # mean over codes of the variance of a random walk tied at both ends
        walk = self.dnl**2 * max(count - 1, 0) * max(count - 3, 0) / (6.0 * count)
        short = (1.0 - self._amplification) * self.full_scale
        return math.sqrt(self.lsb**2 * (1.0 / 12.0 + walk) + self.offset**2 + short**2 / 3.0)

    def read(
        self, z: Float[Array, "K B N"], before: Float[Array, "K B N"], deviates: Deviates, at: Context
    ) -> tuple[Float[Array, "K B N"], Bool[Array, "K B N"]]:
        arrived = z * self._amplification
        converters = 1 if self.shared else z.shape[-1]
        if self.offset:
            arrived = arrived + self.offset * at.fixed.normal("offset", (converters,))
        code = np.round(arrived / self.lsb)
        half = 2 ** (self.bits - 1)
        held = np.clip(code, -half, half - 1)
        clipped = (held != code) & ~np.isnan(code)
        if self.dnl:
            levels = _string(at.fixed, converters, 2**self.bits - 1, self.dnl) - (half - 0.5)
            held = _counted(arrived / self.lsb, levels) - half
        return (held * self.lsb).astype(z.dtype), clipped

    def describe(self, scale: Scale) -> str:
        return (
            f"{_range(self.bits, self.full_scale, self.lsb, scale)}{_amplifier(self.offset, self.gain, scale)}"
            f"{_nonlinearity(self.dnl)}{', shared' if self.shared else ''}"
        )

    @property
    def _amplification(self) -> float:
        return 1.0 / (1.0 + 1.0 / (self.gain * self.feedback))


@final
@dataclass(frozen=True)
class SARADC(Readout):
    """A converter that finds its code bit by bit, highest first, against binary-weighted capacitors:

        bit n stays   where   v + offset xi >= V(code with bit n) - LSB / 2
        V(code) = full_scale (2 Q / C_f - 1) / (1 + 1 / (A beta)),    Q = sum of C_n over the bits that are set
        C_n = 2^n + mismatch 2^(n/2) xi_n,    C_f = C_bits,    beta = C_f / (C_f + Q)

    Without mismatch and with infinite gain this is `ADC`, code for code. A step that sets bit n and clears all below
    has DNL of standard deviation `mismatch sqrt(2^(n+1) - 1)` LSB: most in the middle of the range, n = bits - 1. Where
    levels are not in order codes are missing. What lies more than one LSB beyond the first or last transition is
    clipped and reported.

    Args:
        bits: 1 .. 24.
        full_scale: state units; the range is [-full_scale, full_scale - LSB].
        mismatch: standard deviation of a unit capacitor, relative.
        offset: standard deviation of the comparator's offset, state units.
        gain: A, open-loop gain of the amplifier behind the capacitors.
        shared: one converter reads all units; one per unit otherwise.

    Raises:
        InputError: values out of range.

    Source: the non-split capacitor converter of Spear et al., IEEE J. Explor. Solid-State Comput. Devices Circuits 9
    (2023), as CrossSim has it. Cost: `bits` comparisons per read.
    """

    seeds: ClassVar[Seeds] = Seeds.FIXED

    bits: int
    full_scale: float = 8.0
    mismatch: float = 0.0
    offset: float = 0.0
    gain: float = math.inf
    shared: bool = False

    def __post_init__(self) -> None:
        _check_converter(self.bits, self.full_scale, 0.0)
        _check_amplifier(self.offset, self.gain, 1.0)
        if not 0 <= self.mismatch <= 0.5:
            raise InputError(f"capacitors need 0 <= mismatch <= 0.5; found mismatch={self.mismatch}")

    @property
    def lsb(self) -> float:
        """One step of the converter, state units."""
        return 2.0 * self.full_scale / 2**self.bits

    @property
    def error(self) -> float:
        # mean over codes of var(Q / C_f); and of u^2 (3 + u)^2 / 4, the loss A (V_ideal - V) / full scale, squared
        capacitors = self.mismatch**2 * 2**self.bits * 5.0 / 6.0
        short = 0.8 * (self.full_scale / self.gain) ** 2
        return math.sqrt(self.lsb**2 * (1.0 / 12.0 + capacitors) + self.offset**2 + short)

    def capacitors(self, at: Context, converters: int) -> Float[Array, "C bits1"]:
        """C_n of every converter, that of the amplifier last, in nominal unit capacitors."""
        size = 2.0 ** np.arange(self.bits + 1)
        xi = at.fixed.normal("capacitors", (converters, self.bits + 1))
        return size + self.mismatch * np.sqrt(size) * xi

    def read(
        self, z: Float[Array, "K B N"], before: Float[Array, "K B N"], deviates: Deviates, at: Context
    ) -> tuple[Float[Array, "K B N"], Bool[Array, "K B N"]]:
        converters = 1 if self.shared else z.shape[-1]
        capacitors = self.capacitors(at, converters)
        full = capacitors[:, -1]
        arrived = z + 0.5 * self.lsb
        if self.offset:
            arrived = arrived + self.offset * at.fixed.normal("offset", (converters,))
        charge, code = np.zeros(z.shape), np.zeros(z.shape)
        for bit in reversed(range(self.bits)):
            tried = charge + capacitors[:, bit]
            stays = arrived >= self._level(tried, full)
            charge, code = np.where(stays, tried, charge), code + stays * 2.0**bit
        first, last = self._level(capacitors[:, 0], full), self._level(capacitors[:, :-1].sum(axis=1), full)
        clipped = ((arrived < first - self.lsb) | (arrived >= last + self.lsb)) & np.isfinite(z)
        read = np.where(np.isnan(z), z, (code - 2 ** (self.bits - 1)) * self.lsb)
        return read.astype(z.dtype), clipped

    def describe(self, scale: Scale) -> str:
        capacitors = f", capacitors {100 * self.mismatch:g} % rms" if self.mismatch else ""
        return (
            f"successive approximation, {_range(self.bits, self.full_scale, self.lsb, scale)}"
            f"{_amplifier(self.offset, self.gain, scale)}{capacitors}{', shared' if self.shared else ''}"
        )

    def _level(self, charge: Array, full: Array) -> Array:
        return self.full_scale * (2.0 * charge / full - 1.0) / (1.0 + (full + charge) / (full * self.gain))


@final
@dataclass(frozen=True)
class ReadoutNoise(Readout):
    """`read = z + sigma xi`, fresh for every read of every unit: noise of the amplifier or of sampling (kT/C).

    Put it before the converter; behind it, it would be noise of the digital side.

    Args:
        sigma: rms, state units, >= 0.

    Raises:
        InputError: a sigma out of range.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"readout noise needs a finite sigma >= 0; found sigma={self.sigma}")

    @property
    def error(self) -> float:
        return self.sigma

    def read(
        self, z: Float[Array, "K B N"], before: Float[Array, "K B N"], deviates: Deviates, at: Context
    ) -> tuple[Float[Array, "K B N"], Bool[Array, "K B N"]]:
        noise = self.sigma * deviates(0, len(z))
        return z + noise.astype(z.dtype), np.zeros(z.shape, bool)

    def describe(self, scale: Scale) -> str:
        return f"{engineering(self.sigma * scale.volt, 'V')} rms per read"


@final
@dataclass(frozen=True)
class SampleSkew(Readout):
    """One converter reads N units one after the other, the last at the instant of the read: unit i is seen

        read_i = z_i - (N - 1 - i) (per_unit / dt) (z_i - before_i)

    as it was (N - 1 - i) per_unit seconds earlier, on the straight line of the last Euler step of dt seconds. It
    biases differences of runs that have not settled. Put it before the converter.

    Args:
        per_unit: seconds from one unit to the next, >= 0; (N - 1) per_unit must fit into dt.

    Raises:
        InputError: a per_unit out of range, here or, where it does not fit into dt, when reading.
    """

    seeds: ClassVar[Seeds] = Seeds.FIXED
    looks_back: ClassVar[bool] = True

    per_unit: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_unit) and self.per_unit >= 0):
            raise InputError(f"sample skew needs a finite per_unit >= 0 in seconds; found per_unit={self.per_unit}")

    @property
    def error(self) -> float:
        return 0.0

    def read(
        self, z: Float[Array, "K B N"], before: Float[Array, "K B N"], deviates: Deviates, at: Context
    ) -> tuple[Float[Array, "K B N"], Bool[Array, "K B N"]]:
        units, dt = z.shape[-1], at.step_size * at.scale.second
        if (units - 1) * self.per_unit > dt:
            raise InputError(
                f"reading {units} units {self.per_unit:.4g} s apart takes longer than a step of {dt:.4g} s; "
                f"SampleSkew(per_unit) must be at most {dt / (units - 1):.4g} s here"
            )
        ago = np.arange(units - 1, -1, -1) * (self.per_unit / dt)
        return z - ago.astype(z.dtype) * (z - before), np.zeros(z.shape, bool)

    def describe(self, scale: Scale) -> str:
        return f"units read {engineering(self.per_unit, 's')} apart"


@final
@dataclass(frozen=True)
class DAC(Drive):
    """Inputs leave a uniform mid-tread converter: `x -> LSB clip(round(x / LSB), -2^(bits-1), 2^(bits-1) - 1)`,

        LSB = 2 full_scale / 2^bits

    With `dnl` its 2^bits output levels are the taps of a string of resistors whose ends are right, as for `ADC`.
    An input that clips is reported as `Outcome.SATURATED`.

    Args:
        bits: 1 .. 24, with `dnl` up to 16.
        full_scale: units of the input; the range is [-full_scale, full_scale - LSB].
        dnl: standard deviation of the differential nonlinearity, LSB, at most 0.5.
        shared: one converter drives all inputs; one per input otherwise.

    Raises:
        InputError: values out of range, or more drawn levels than 2^24.
    """

    bits: int
    full_scale: float
    dnl: float = 0.0
    shared: bool = False

    def __post_init__(self) -> None:
        _check_converter(self.bits, self.full_scale, self.dnl)

    @property
    def lsb(self) -> float:
        """One step of the converter, units of the input."""
        return 2.0 * self.full_scale / 2**self.bits

    def drive(self, x: Float[Array, "B M"], at: Context) -> tuple[Float[Array, "B M"], Bool[Array, "B M"]]:
        code = np.round(x / self.lsb)
        half = 2 ** (self.bits - 1)
        held = np.clip(code, -half, half - 1)
        clipped = (held != code) & ~np.isnan(code)
        if self.dnl:
            levels = _string(at.fixed, 1 if self.shared else x.shape[-1], 2**self.bits, self.dnl)
            tap = np.where(np.isnan(x), 0, held + half).astype(int)
            held = np.where(np.isnan(x), x, levels[np.arange(len(levels)), tap] - half)
        return (held * self.lsb).astype(x.dtype), clipped

    def describe(self, scale: Scale) -> str:
        return (
            f"{_range(self.bits, self.full_scale, self.lsb, scale)}{_nonlinearity(self.dnl)}"
            f"{', shared' if self.shared else ''}"
        )


@functools.lru_cache(maxsize=8)
def _string(source: Source, converters: int, levels: int, dnl: float) -> Float[Array, "C levels"]:
    """Taps of strings of resistors `1 + dnl xi` in order, both ends right: about 0, 1, ... levels - 1."""
    if converters * levels > MOST_LEVELS:
        raise InputError(
            f"{converters} converters of {levels} drawn levels exceed {MOST_LEVELS} in all; "
            f"use fewer bits or shared=True"
        )
    if levels < 3:
        return np.tile(np.arange(levels, dtype=np.float64), (converters, 1))
    taps = np.zeros((converters, levels))
    taps[:, 1:] = np.cumsum(1.0 + dnl * source.normal("string", (converters, levels - 1)), axis=1)
    taps *= (levels - 1) / taps[:, -1:]
    taps.sort(axis=1)  # a resistor drawn negative only swaps neighbours: a thermometer code counts what is below
    taps.flags.writeable = False
    return taps


def _counted(v: Float[Array, "K B N"], levels: Float[Array, "C levels"]) -> Float[Array, "K B N"]:
    """How many levels of its converter each value has reached; NaN passes through."""
    if len(levels) == 1:
        return np.where(np.isnan(v), v, np.searchsorted(levels[0], v, side="right"))
    each = [np.searchsorted(taps, v[..., i], side="right") for i, taps in enumerate(levels)]
    return np.where(np.isnan(v), v, np.stack(each, axis=-1))


def _check_converter(bits: int, full_scale: float, dnl: float) -> None:
    whole("a converter", "bits", bits, least=1)
    if bits > 24:
        raise InputError(f"a converter has 1 to 24 bits; found bits={bits}")
    if not (math.isfinite(full_scale) and full_scale > 0):
        raise InputError(f"a converter needs a positive, finite full scale; found full_scale={full_scale}")
    if not 0 <= dnl <= 0.5:
        raise InputError(f"a converter needs 0 <= dnl <= 0.5 LSB; found dnl={dnl}")
    if dnl and bits > 16:
        raise InputError(f"levels are drawn for at most 16 bits; found bits={bits} with dnl={dnl}")


def _check_amplifier(offset: float, gain: float, feedback: float) -> None:
    if not (math.isfinite(offset) and offset >= 0):
        raise InputError(f"a converter needs a finite offset >= 0; found offset={offset}")
    if not (gain > 0 and 0 < feedback <= 1):
        raise InputError(f"an amplifier needs gain > 0 and 0 < feedback <= 1; found gain={gain}, feedback={feedback}")


def _range(bits: int, full_scale: float, lsb: float, scale: Scale) -> str:
    low, high, step = (engineering(value * scale.volt, "V") for value in (-full_scale, full_scale - lsb, lsb))
    return f"{bits} bits over {low} to {high}, LSB {step}"


def _amplifier(offset: float, gain: float, scale: Scale) -> str:
    first = f", offset {engineering(offset * scale.volt, 'V')} rms" if offset else ""
    return first + (f", gain {gain:g}" if math.isfinite(gain) else "")


def _nonlinearity(dnl: float) -> str:
    return f", DNL {dnl:g} LSB rms" if dnl else ""
