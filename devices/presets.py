"""Machines that a reader knows, as lists of imperfections with numbers that say where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from hwsim.contracts.plan import Rest, Start
from hwsim.contracts.scale import BOLTZMANN, ELEMENTARY_CHARGE, ROOM_TEMPERATURE, Scale
from hwsim.contracts.substrate import Substrate

from .imperfections import (
    ADC,
    DAC,
    Drift,
    FlickerNoise,
    Imperfection,
    LineResistance,
    Mismatch,
    Quantise,
    Rails,
    Range,
    ReadNoise,
    ReadoutNoise,
    ShotNoise,
    ThermalNoise,
    ecram,
    pcm_programming,
    pelgrom,
    reram_programming,
    subthreshold_mismatch,
)
from .simulated import SimulatedDevice


@final
@dataclass(frozen=True, kw_only=True)
class Preset:
    """A kind of machine, to be drawn from as often as one likes: one die for every `die_seed`.

    Args:
        name: as in `PRESETS`.
        summary: one line.
        scale: of its nodes.
        imperfections: in the order in which they act.
        sources: where each number comes from, and which are assumptions.
    """

    name: str
    summary: str
    scale: Scale
    imperfections: tuple[Imperfection, ...]
    sources: tuple[str, ...]

    def device(
        self,
        substrate: Substrate,
        *,
        horizon: int,
        step_size: float = 0.1,
        start: Start = Rest(),
        dtype: type[np.floating[Any]] = np.float64,
        threads: int = 1,
        die_seed: int = 0,
        program_seed: int = 0,
        seed: int = 0,
    ) -> SimulatedDevice:
        """One die of it; the arguments are those of `SimulatedDevice`.

        Raises:
            InputError: values that make no device, or a substrate in volts and seconds of its own.
        """
        return SimulatedDevice(
            substrate,
            horizon=horizon,
            step_size=step_size,
            scale=self.scale,
            start=start,
            imperfections=self.imperfections,
            dtype=dtype,
            threads=threads,
            die_seed=die_seed,
            program_seed=program_seed,
            seed=seed,
        )


def ideal() -> Preset:
    """The equations and nothing else."""
    return Preset(name="ideal", summary="the equations and nothing else", scale=Scale(), imperfections=(), sources=())


def discrete_board_12bit(w_max: float = 4.0) -> Preset:
    """Op-amps, 1 % resistors and film capacitors on a board, between 12-bit converters.

    Args:
        w_max: largest |parameter|, held by 12-bit multiplying converters; larger ones are clipped and counted.
    """
    tolerance = 1.0 / np.sqrt(3.0)  # sd of a part that is uniform within its tolerance
    return Preset(
        name="discrete_board_12bit",
        summary="op-amps, 1 % resistors and 5 % capacitors on a board, between 12-bit converters",
        scale=Scale(volt=1.0, siemens=1e-4, second=100e-6),
        imperfections=(
            Range(low=-w_max, high=w_max, clip=True),
            Quantise.bits(12, low=-w_max, high=w_max),
            Mismatch(gain=0.01 * tolerance, offset=3e-3, time_constant=0.05 * tolerance),
            Rails(low=-10.0, high=10.0),
            ThermalNoise(temperature=ROOM_TEMPERATURE),
            DAC(12, 8.0, dnl=0.02),
            ReadoutNoise(0.5e-3),
            ADC(12, 8.0, dnl=0.02, shared=True),
        ),
        sources=(
            "resistors of 1 % and capacitors of 5 %, uniform within their tolerance: letters F and J of IEC 60062",
            "offset 3 mV: TL072 data sheet (Texas Instruments SLOS080), typical input offset at 25 C",
            "converters of 12 bits with INL near 1 LSB: MCP3208 data sheet (Microchip DS21298); a string of 4096 steps "
            "with a DNL of 0.02 LSB has an INL of 0.6 LSB rms in its middle",
            "assumed: 10 kOhm and 10 nF per node, one state unit 1 V, supplies that clip at 10 V, 0.5 mV rms per read",
        ),
    )


def subthreshold_cmos(w_max: float = 4.0) -> Preset:
    """Differential pairs in weak inversion, `I = I_b tanh(dV / 2 n U_T)`, on picofarad nodes.

    Args:
        w_max: largest |parameter|, in 8-bit current mirrors; larger ones are clipped and counted.
    """
    slope, bias, capacitance = 1.4, 10e-9, 1e-12
    volt = 2.0 * slope * BOLTZMANN * ROOM_TEMPERATURE / ELEMENTARY_CHARGE
    siemens = bias / volt
    threshold = pelgrom(5e-9, 4e-6, 4e-6)
    spread = subthreshold_mismatch(threshold, slope_factor=slope)
    # white noise 2 q 2 I_b meets 1/f noise at the corner; between lowest and highest that is this much current
    corner, lowest, highest = 1e3, 1.0, 1e5
    flicker = np.sqrt(4.0 * ELEMENTARY_CHARGE * bias * corner * np.log(highest / lowest)) / bias
    return Preset(
        name="subthreshold_cmos",
        summary="0.18 um CMOS in weak inversion, 10 nA per branch on 1 pF",
        scale=Scale(volt=volt, siemens=siemens, second=capacitance / siemens),
        imperfections=(
            Range(low=-w_max, high=w_max, clip=True),
            Quantise.bits(8, low=-w_max, high=w_max),
            Mismatch(gain=spread, offset=threshold / volt, time_constant=spread, log_normal=True),
            Rails(low=-0.6 / volt, high=0.6 / volt),
            ShotNoise(bias=2.0 * bias),
            FlickerNoise(sigma=float(flicker), lowest=lowest, highest=highest),
            DAC(10, 4.0),
            ADC(10, 8.0, shared=True),
        ),
        sources=(
            "A_VT = 5 mV um for 0.18 um CMOS, and sigma(dI / I) = sigma(V_T) / n U_T: Kinget, JSSC 40:1212 (2005); "
            "transistors of 4 um x 4 um assumed",
            "noise in weak inversion is shot noise, 2 q I for each branch, and thermal noise is the same thing: "
            "Sarpeshkar, Delbruck, Mead, IEEE Circuits and Devices 9:23 (1993)",
            "assumed: n = 1.4, 10 nA per branch, 1 pF per node, a 1/f corner of 1 kHz, rails 0.6 V from the middle, "
            "8-bit weights, 10-bit converters",
        ),
    )


def reram_crossbar(w_max: float = 2.0) -> Preset:
    """A crossbar of filamentary ReRAM, differential pairs up to 40 uS, read through its wires.

    Args:
        w_max: weight that a full conductance stands for; larger ones are clipped and counted.
    """
    return Preset(
        name="reram_crossbar",
        summary="filamentary ReRAM in differential pairs up to 40 uS, one ohm of wire per cell",
        scale=Scale(volt=0.1, siemens=40e-6 / w_max, second=1e-6),
        imperfections=(
            Range(low=-w_max, high=w_max, clip=True),
            reram_programming(w_max),
            LineResistance(1.0, blocks=("W", "U")),
            ThermalNoise(temperature=ROOM_TEMPERATURE),
            DAC(8, 8.0),
            ADC(8, 8.0),
        ),
        sources=(
            "g_max = 40 uS, programming error one second after write-verify, converters of up to 8 bits: Wan et al., "
            "Nature 608:504 (2022)",
            "assumed: 1 ohm of wire per cell, one state unit 0.1 V, a time constant of 1 us",
        ),
    )


def pcm_crossbar(w_max: float = 2.0) -> Preset:
    """A crossbar of phase-change memory, differential pairs up to 25 uS, with drift (`SimulatedDevice.wait`).

    Args:
        w_max: weight that a full conductance stands for; larger ones are clipped and counted.
    """
    programming = pcm_programming(w_max)
    return Preset(
        name="pcm_crossbar",
        summary="phase-change memory in differential pairs up to 25 uS, with 1/f read noise and compensated drift",
        scale=Scale(volt=0.1, siemens=25e-6 / w_max, second=1e-6),
        imperfections=(
            Range(low=-w_max, high=w_max, clip=True),
            programming,
            ReadNoise(pair=programming.pair),
            Drift(pair=programming.pair, compensated=True),
            ThermalNoise(temperature=ROOM_TEMPERATURE),
            DAC(8, 8.0),
            ADC(8, 8.0),
        ),
        sources=(
            "programming error, drift and read noise: Nandakumar et al., ICECS 2019",
            "converters of 8 bits, one global factor against drift: Joshi et al., Nature Communications 11:2473 (2020)",
            "assumed: one state unit 0.1 V, a time constant of 1 us",
        ),
    )


def ecram_crossbar() -> Preset:
    """A crossbar of electrochemical memory, trained in place by open-loop pulses (`Device.adjust`) of about 0.002.

    Weights lie between -0.8276 and 1.1724; programming beyond clips and is counted.
    """
    (update,) = ecram()
    return Preset(
        name="ecram_crossbar",
        summary="electrochemical memory, some 1000 nearly linear pulses from end to end",
        scale=Scale(volt=0.1, siemens=1e-6, second=10e-6),
        imperfections=(
            Range(low=-0.8276, high=1.1724, clip=True),
            update,
            ThermalNoise(temperature=ROOM_TEMPERATURE),
            DAC(7, 8.0),
            ADC(9, 8.0),
        ),
        sources=(
            "steps, bounds and their spread: Tang et al., IEDM 2018, in the fit of aihwkit (EcRam)",
            "7 bits in, 9 bits out: Gokmen and Vlasov, Frontiers in Neuroscience 10:333 (2016)",
            "assumed: one state unit 0.1 V, one microsiemens per unit of weight, a time constant of 10 us",
        ),
    )


PRESETS: Mapping[str, Callable[[], Preset]] = {
    make.__name__: make
    for make in (ideal, discrete_board_12bit, subthreshold_cmos, reram_crossbar, pcm_crossbar, ecram_crossbar)
}
"""Name -> preset with its own defaults."""
