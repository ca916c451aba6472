"""The substrates and devices that the suites are run on: the two axes of every table in the tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.plan import Carry, RandomStart
from hwsim.contracts.substrate import Substrate
from hwsim.devices import (
    ADC,
    PRESETS,
    SIMULATED,
    Preset,
    Recordings,
    SeparateFeedback,
    SimulatedDevice,
    Stepwise,
    ThermalNoise,
    TorchEngine,
)
from hwsim.devices.imperfections import (
    DAC,
    Asymmetry,
    Crosstalk,
    Drift,
    FlickerNoise,
    LineResistance,
    Mismatch,
    Quantise,
    Rails,
    Range,
    ReadNoise,
    ReadoutNoise,
    StuckAt,
    TelegraphNoise,
    ecram,
    pcm_programming,
)
from hwsim.substrates import (
    GROUND,
    Convolutional,
    Dense,
    Diode,
    EnergyNetwork,
    FieldSubstrate,
    IdealDiode,
    Identity,
    Layered,
    LeakyNetwork,
    LinearLangevin,
    Logistic,
    Masked,
    OscillatorNetwork,
    Reciprocal,
    ResistiveNetwork,
)
from hwsim.testing import LimitedDevice, MeteredDevice

C = Capability
UNITS, INPUTS = 8, 5


def ring(**parts: Any) -> ResistiveNetwork:
    """Resistors around a ring of nodes, one farad each, from which every source and ground is reached."""
    edges = (
        [(k, (k + 1) % UNITS) for k in range(UNITS)] + [(k, UNITS + k) for k in range(INPUTS)] + [(UNITS - 1, GROUND)]
    )
    return ResistiveNetwork(units=UNITS, inputs=INPUTS, edges=tuple(edges), capacitance=1.0, time_constant=1.0, **parts)


CLIPPERS = (
    Diode(anode=0, cathode=GROUND, law=IdealDiode(conductance_on=0.5, threshold=0.3)),
    Diode(anode=GROUND, cathode=3, law=IdealDiode(conductance_on=0.5, threshold=0.2)),
)
SUBSTRATES: dict[str, Callable[[], Substrate]] = {
    "dense": lambda: LeakyNetwork.dense(UNITS, INPUTS),
    "symmetric": lambda: LeakyNetwork.symmetric(UNITS, INPUTS),
    "identity": lambda: LeakyNetwork.dense(UNITS, INPUTS, Identity()),
    "logistic": lambda: LeakyNetwork.symmetric(UNITS, INPUTS, Logistic()),
    "layered": lambda: LeakyNetwork(units=UNITS, inputs=INPUTS, coupling=Layered((3, 3, 2), reciprocal=True)),
    "grid": lambda: LeakyNetwork(units=UNITS, inputs=INPUTS, coupling=Masked.grid(2, 4)),
    "convolution": lambda: LeakyNetwork(
        units=UNITS, inputs=INPUTS, coupling=Convolutional(channels=2, height=2, width=2)
    ),
    "energy": lambda: EnergyNetwork.symmetric(UNITS, INPUTS),
    "Langevin": lambda: LinearLangevin(units=UNITS, inputs=INPUTS, coupling=Dense(UNITS)),
    "oscillators": lambda: OscillatorNetwork(units=UNITS, inputs=INPUTS, coupling=Reciprocal(UNITS), locking=0.1),
    "resistors": ring,
    "resistors and diodes": lambda: ring(diodes=CLIPPERS),
    "a field of one's own": lambda: FieldSubstrate(
        function=lambda z, x, theta: theta["b"] - z - 0.1 * z * z * z + x @ theta["U"].T,
        units=UNITS,
        inputs=INPUTS,
        blocks={"U": (UNITS, INPUTS), "b": (UNITS,)},
    ),
}

simulated = partial(SimulatedDevice, horizon=20)
NOISE, CONVERTER, PCM = ThermalNoise(0.05), ADC(8), pcm_programming(2.0)


def _preset(make: Callable[[], Preset], substrate: Substrate) -> SimulatedDevice:
    return make().device(substrate, horizon=20)


DEVICES: dict[str, Callable[[Substrate], Device]] = {
    "float64": simulated,
    "float32": partial(simulated, dtype=np.float32),
    "stepwise": lambda substrate: simulated(substrate, engine=Stepwise()),
    "stepwise float32": lambda substrate: simulated(substrate, engine=Stepwise(), dtype=np.float32),
    "torch": lambda substrate: simulated(substrate, engine=TorchEngine()),
    "torch, noisy float32": lambda substrate: simulated(
        substrate, engine=TorchEngine(), imperfections=[CONVERTER, NOISE], dtype=np.float32
    ),
    "on disk": partial(simulated, recordings=Recordings(most_bytes=0)),
    "noisy": partial(simulated, imperfections=[NOISE]),
    "noisy float32": partial(simulated, imperfections=[NOISE], dtype=np.float32),
    "converter": partial(simulated, imperfections=[CONVERTER]),
    "converter, noisy": partial(simulated, imperfections=[CONVERTER, NOISE]),
    "own noise": partial(simulated, imperfections=[NOISE], capabilities=SIMULATED - {C.REPLAYABLE_NOISE}),
    "ranges": partial(simulated, ranges={"W": (-0.2, 0.3), "U": (0.1, 5.0), "b": (-2.0, -1.0)}),
    "threads": lambda substrate: simulated(substrate, threads=2),
    "random start": partial(simulated, start=RandomStart(1.0)),
    "carry": partial(simulated, start=Carry()),
    "without load_state": partial(simulated, capabilities=SIMULATED - {C.LOAD_STATE}),
    "without twins": partial(simulated, capabilities=SIMULATED - {C.TWINS}),
    "natural": partial(simulated, capabilities=SIMULATED - {C.TRANSPOSE, C.PLAYBACK, C.CORRECT, C.MODEL}),
    "bare": partial(simulated, capabilities=frozenset()),
    "bare, noisy": partial(simulated, capabilities=frozenset(), imperfections=[NOISE]),
    "limited": lambda substrate: LimitedDevice(simulated(substrate), {C.RECORD, C.TRANSPOSE}, reciprocal=False),
    "limited, noisy": lambda substrate: LimitedDevice(simulated(substrate, imperfections=[NOISE]), {C.DISPLACE}),
    "separate feedback": lambda substrate: SeparateFeedback(simulated(substrate), simulated(substrate)),
    "metered": lambda substrate: MeteredDevice(simulated(substrate)),
    "mismatch": partial(simulated, imperfections=[Mismatch(gain=0.1, offset=0.1, time_constant=0.2)]),
    "asymmetry": partial(simulated, imperfections=[Asymmetry(sigma=0.1)]),
    "stuck": partial(simulated, imperfections=[StuckAt(low_fraction=0.2, low=-0.1, blocks=("U",))]),
    "wires": partial(simulated, imperfections=[Crosstalk(0.05), LineResistance(1e3)]),
    "wide rails": partial(simulated, imperfections=[Rails(low=-50.0, high=50.0)]),
    "cells": partial(simulated, imperfections=[PCM, ReadNoise(pair=PCM.pair), Drift(pair=PCM.pair)]),
    "written": partial(simulated, imperfections=[Range(low=-1.0, high=1.0), Quantise(low=-1.0, high=1.0, levels=63)]),
    "clipping": partial(simulated, imperfections=[Range(low=-0.3, high=0.3, clip=True)]),
    "pulsed": partial(simulated, imperfections=ecram()),
    "processes": partial(
        simulated, imperfections=[FlickerNoise(0.1, 1e3, 1e6), TelegraphNoise(0.1, 1e-6, 2e-6), NOISE]
    ),
    "readout": partial(simulated, imperfections=[ReadoutNoise(0.01), ADC(10, dnl=0.1), DAC(10, 8.0)]),
    **{f"preset {name}": partial(_preset, make) for name, make in PRESETS.items()},
}
