"""Noise while settling: white (thermal, shot), and with a memory (1/f, random telegraph)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import BOLTZMANN, ELEMENTARY_CHARGE, Scale
from hwsim.contracts.units import engineering

from .contract import Deviates, Diffusion, Process

MOST_COMPONENTS = 16
"""Independent processes that one imperfection may sum: the streams of deviates that it has."""


@final
@dataclass(frozen=True)
class ThermalNoise(Diffusion):
    """`dz = F dt + sqrt(2) sigma dW`, t in time constants, `sigma^2 = kT / C` for a capacitor: Johnson-Nyquist noise.

    An isolated leaky unit fluctuates with standard deviation sigma. An Euler step `sqrt(2 eps) sigma xi` inflates the
    variance by 2 / (2 - eps), 5 % at eps = 0.1; the exponential integrator makes it exact. Where resistors join the
    nodes of a network the noise belongs to the resistors, and `Substrate.diffusion` says how it is correlated.

    Args:
        sigma: rms, state units, >= 0.
        temperature: kelvin, > 0, in place of sigma; C is the scale's capacitance.

    Raises:
        InputError: neither or both are given, or one is out of range.

    Sources: Johnson, Phys. Rev. 32:97 (1928); Nyquist, Phys. Rev. 32:110 (1928), eq. 1.
    """

    thermal: ClassVar[bool] = True

    sigma: float | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if (self.sigma is None) == (self.temperature is None):
            raise InputError(
                f"thermal noise has a sigma or a temperature, one of the two; "
                f"found sigma={self.sigma} and temperature={self.temperature}"
            )
        if self.sigma is not None and not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"thermal noise needs a finite sigma >= 0; found sigma={self.sigma}")
        if self.temperature is not None:
            _check_positive("thermal noise", "temperature", self.temperature)

    def variance(self, scale: Scale) -> float:
        if self.temperature is not None:
            return BOLTZMANN * self.temperature / scale.joule
        assert self.sigma is not None
        return self.sigma**2

    def describe(self, scale: Scale) -> str:
        size = f"{engineering(math.sqrt(self.variance(scale)) * scale.volt, 'V')} rms"
        if self.temperature is None:
            return size
        return f"{size} (kT/C at {self.temperature:g} K, {engineering(scale.farad, 'F')})"


@final
@dataclass(frozen=True)
class ShotNoise(Diffusion):
    """Full shot noise of a bias current I through the node: a white current of one-sided density `2 q I`, A^2/Hz.

    On a node of capacitance C that leaks through G the voltage then has the density `2 q I / (G^2 + (2 pi f C)^2)`,
    of which the integral over f > 0 is

        var(v) = q I / (2 G C),       sigma^2 = q I / (2 second ampere^2)      in state units,

    second and ampere of the scale. With `I = 2 kT G / q`, the forward and backward currents of a diode at rest, this is
    kT / C: thermal noise is two-sided shot noise.

    Args:
        bias: I, ampere, >= 0. The transistors of a current mirror count each.

    Raises:
        InputError: a bias out of range.

    Sources: Schottky, Ann. Phys. 57:541 (1918); for MOS transistors below threshold Sarpeshkar, Delbruck and Mead,
    IEEE Circuits and Devices 9(6):23 (1993).
    """

    bias: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bias) and self.bias >= 0):
            raise InputError(f"shot noise needs a finite bias >= 0 in ampere; found bias={self.bias}")

    def variance(self, scale: Scale) -> float:
        return ELEMENTARY_CHARGE * self.bias / (2.0 * scale.second * scale.ampere**2)

    def describe(self, scale: Scale) -> str:
        size = engineering(math.sqrt(self.variance(scale)) * scale.volt, "V")
        return f"{size} rms on an isolated node (2 q I of {engineering(self.bias, 'A')})"


@final
@dataclass(frozen=True)
class FlickerNoise(Process):
    """1/f noise: a current into every unit, the sum of M Ornstein-Uhlenbeck processes of equal variance,

        i = sum_m s_m,   s_m <- rho_m s_m + sqrt(1 - rho_m^2) sigma / sqrt(M) xi,   rho_m = exp(-2 pi f_m dt)
        S(f) = sum_m (sigma^2 / M) (2 / pi) f_m / (f_m^2 + f^2)  ~  sigma^2 / (f ln(highest / lowest))     one-sided

    with corner frequencies f_m in the middle of M equal steps of ln f between lowest and highest. The update is exact,
    so the density does not depend on dt (below the Nyquist frequency 1 / 2 dt). Well inside the band f S(f) ripples by
    2 / cosh(pi^2 / h) around its mean, h = ln(highest / lowest) / M: 5.5 % with one process per decade, 0.08 % with
    two. At both ends of the band S has fallen to half; below it is white, above it falls as 1 / f^2.

    What is slower than a plan is an offset, drawn anew for each sample and repeat.

    Args:
        sigma: rms over the band, state units per time constant (one is the scale's `ampere`), >= 0.
        lowest, highest: Hz, 0 < lowest < highest.
        per_decade: processes per decade; at most 16 in all.

    Raises:
        InputError: values out of range, or more than 16 processes.

    Sources: sum of relaxation processes: McWhorter, in Semiconductor Surface Physics, 207 (1957); exact update:
    Gillespie, Phys. Rev. E 54:2084 (1996), eq. 1.9. Cost: M deviates per unit and step.
    """

    sigma: float
    lowest: float
    highest: float
    per_decade: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(f"1/f noise needs a finite sigma >= 0; found sigma={self.sigma}")
        _check_positive("1/f noise", "lowest", self.lowest)
        _check_positive("1/f noise", "highest", self.highest)
        whole("1/f noise", "per_decade", self.per_decade, least=1)
        if not self.lowest < self.highest:
            raise InputError(f"1/f noise needs lowest < highest; found {self.lowest} Hz and {self.highest} Hz")
        if self.components > MOST_COMPONENTS:
            raise InputError(
                f"1/f noise from {self.lowest} Hz to {self.highest} Hz with per_decade={self.per_decade} sums "
                f"{self.components} processes, at most {MOST_COMPONENTS}: narrow the band or lower per_decade"
            )

    @property
    def components(self) -> int:
        """M."""
        return max(1, round(self.per_decade * math.log10(self.highest / self.lowest)))

    @property
    def corners(self) -> Float[Array, " M"]:
        """f_m, Hz."""
        places = (np.arange(self.components) + 0.5) / self.components
        return self.lowest * (self.highest / self.lowest) ** places

    def density(self, frequency: Float[Array, " F"]) -> Float[Array, " F"]:
        """S(f), one-sided, (state units per time constant)^2 per Hz."""
        corners = self.corners[:, None]
        each = self.sigma**2 / self.components * (2.0 / np.pi)
        return (each * corners / (corners**2 + frequency**2)).sum(axis=0)

    def begin(self, deviates: Deviates, scale: Scale) -> Float[Array, "K B N"]:
        each = self.sigma / math.sqrt(self.components)
        return each * np.stack([deviates(m, 1)[0] for m in range(self.components)])

    def advance(
        self, state: Float[Array, "K B N"], steps: int, dt: float, deviates: Deviates, scale: Scale
    ) -> tuple[Float[Array, "steps B N"], Float[Array, "K B N"]]:
        current, after = np.zeros((steps, *state.shape[1:])), np.array(state)
        if steps == 0:
            return current, after
        from scipy.signal import lfilter

        each = self.sigma / math.sqrt(self.components)
        for m, corner in enumerate(self.corners):
            decay = math.exp(-2.0 * math.pi * corner * dt)
            kick = each * math.sqrt(-math.expm1(-4.0 * math.pi * corner * dt))
            later, _ = lfilter([kick], [1.0, -decay], deviates(m, steps), axis=0, zi=decay * state[m : m + 1])
            current[0] += state[m]
            current[1:] += later[:-1]
            after[m] = later[-1]
        return current, after

    def describe(self, scale: Scale) -> str:
        return (
            f"{engineering(self.sigma * scale.ampere, 'A')} rms from {engineering(self.lowest, 'Hz')} "
            f"to {engineering(self.highest, 'Hz')} ({self.components} processes)"
        )


@final
@dataclass(frozen=True)
class TelegraphNoise(Process):
    """Random telegraph noise: in every unit traps that each hold a carrier or not, a Markov process in time.

        i = amplitude * (traps that are full),    P(full after dt) = p + (now - p) exp(-r dt),   now = 0 or 1
        r = 1 / capture + 1 / emission,           p = emission / (capture + emission)
        S(f) = 4 amplitude^2 / ((capture + emission) (r^2 + (2 pi f)^2))       one-sided, for each trap

    Exact for any dt. Dwell times are exponential with means `capture` (empty) and `emission` (full); the mean current
    `amplitude * p` per trap is an offset. A plan begins in the stationary distribution, drawn for each sample.

    Args:
        amplitude: of one carrier, state units per time constant (one is the scale's `ampere`), of either sign.
        capture, emission: mean times until an empty trap fills and until a full one empties, s, > 0.
        traps: per unit, all alike, 1 to 16.

    Raises:
        InputError: values out of range.

    Source: Machlup, J. Appl. Phys. 25:341 (1954). Cost: one deviate per trap, unit and step.
    """

    amplitude: float
    capture: float
    emission: float
    traps: int = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.amplitude):
            raise InputError(f"telegraph noise needs a finite amplitude; found amplitude={self.amplitude}")
        _check_positive("telegraph noise", "capture", self.capture)
        _check_positive("telegraph noise", "emission", self.emission)
        whole("telegraph noise", "traps", self.traps, least=1)
        if self.traps > MOST_COMPONENTS:
            raise InputError(f"telegraph noise has 1 to {MOST_COMPONENTS} traps per unit; found traps={self.traps}")

    @property
    def occupation(self) -> float:
        """p, the part of the time that a trap is full."""
        return self.emission / (self.capture + self.emission)

    def begin(self, deviates: Deviates, scale: Scale) -> Float[Array, "K B N"]:
        from scipy.special import ndtri

        threshold = ndtri(self.occupation)
        return np.stack([(deviates(trap, 1)[0] < threshold).astype(np.float64) for trap in range(self.traps)])

    def advance(
        self, state: Float[Array, "K B N"], steps: int, dt: float, deviates: Deviates, scale: Scale
    ) -> tuple[Float[Array, "steps B N"], Float[Array, "K B N"]]:
        from scipy.special import ndtri

        # the events are those of uniform draws below P(full), seen as normal deviates below ndtri(P)
        change = -math.expm1(-(1.0 / self.capture + 1.0 / self.emission) * dt)
        fills = ndtri(self.occupation * change)
        stays = -ndtri((1.0 - self.occupation) * change)
        current, after = np.zeros((steps, *state.shape[1:])), np.array(state)
        for trap in range(self.traps):
            xi, full = deviates(trap, steps), state[trap] > 0.5
            for k in range(steps):
                current[k] += self.amplitude * full
                full = xi[k] < np.where(full, stays, fills)
            after[trap] = full
        return current, after

    def describe(self, scale: Scale) -> str:
        return (
            f"{self.traps} x {engineering(self.amplitude * scale.ampere, 'A')}, "
            f"filled after {engineering(self.capture, 's')}, emptied after {engineering(self.emission, 's')}"
        )


def _check_positive(what: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{what} needs {name} > 0 and finite; found {name}={value}")
