"""One table of substrates, devices and rules, each held to its suite. That the suites bite: test_conformance_teeth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import PHYSICAL, NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, Phase, Plan, RandomStart
from hwsim.contracts.rule import LearningRule
from hwsim.contracts.substrate import Substrate
from hwsim.devices import ADC, PRESETS, SIMULATED, Preset, SimulatedDevice, Stepwise, ThermalNoise
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
from hwsim.learning_rules import (
    ContractionHomeostat,
    Corrected,
    CoupledLearning,
    EquilibriumPropagation,
    FiniteHorizonEP,
    Natural,
    Transposed,
)
from hwsim.reference import BPTT, EquilibriumAdjoint
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
from hwsim.testing import LimitedDevice, MeteredDevice, RandomRegression, check_device, check_rule, check_substrate

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

RULES: dict[str, Callable[[], LearningRule]] = {
    "EP": EquilibriumPropagation,
    "EP, reciprocal": lambda: EquilibriumPropagation(probe=Natural()),
    "EP, transposed": lambda: EquilibriumPropagation(probe=Transposed(), steps=15),
    "EP, shared noise": lambda: EquilibriumPropagation(probe=Corrected(shared_noise=True)),
    "finite horizon": FiniteHorizonEP,
    "finite horizon, reciprocal": lambda: FiniteHorizonEP(probe=Natural()),
    "finite horizon, corrected": lambda: FiniteHorizonEP(probe=Corrected()),
    "homeostat": ContractionHomeostat,
    "EP + homeostat": lambda: EquilibriumPropagation() + 10 * ContractionHomeostat(),
    "coupled": CoupledLearning,
    "BPTT": BPTT,
    "adjoint": EquilibriumAdjoint,
}
DEVICE_ROWS = [
    *((device, "dense") for device in DEVICES),
    *(("float64", substrate) for substrate in SUBSTRATES if substrate != "dense"),
    *(("stepwise", substrate) for substrate in ("energy", "oscillators", "resistors and diodes")),
    *(("noisy float32", substrate) for substrate in ("energy", "Langevin", "oscillators", "resistors")),
    *((device, "symmetric") for device in ("natural", "mismatch", "asymmetry", "wires", "cells")),
    *(("mismatch", substrate) for substrate in ("oscillators", "resistors and diodes", "grid")),
    ("stepwise float32", "symmetric"),
]
RULE_ROWS: dict[tuple[str, str], Iterable[str]] = {
    ("float64", "dense"): RULES,
    ("without load_state", "symmetric"): ("EP", "EP, reciprocal", "finite horizon, corrected", "homeostat"),
    ("natural", "symmetric"): RULES,
    ("float32", "symmetric"): ("EP", "finite horizon, reciprocal", "homeostat"),
    ("noisy float32", "dense"): ("EP, shared noise", "finite horizon", "BPTT"),
    ("converter, noisy", "dense"): ("EP", "finite horizon", "EP + homeostat", "adjoint"),
    ("random start", "symmetric"): ("EP", "finite horizon", "finite horizon, reciprocal", "homeostat", "BPTT"),
    ("carry", "dense"): ("EP", "finite horizon", "EP + homeostat", "adjoint"),
    ("own noise", "dense"): ("EP, shared noise", "homeostat"),
    ("without twins", "dense"): ("EP", "EP, shared noise"),
    ("stepwise", "dense"): ("EP", "finite horizon", "homeostat"),
    ("float64", "identity"): ("finite horizon", "adjoint"),
    ("float64", "energy"): ("EP, reciprocal", "finite horizon, corrected", "BPTT"),
    ("bare, noisy", "dense"): ("EP",),
    ("mismatch", "symmetric"): ("EP", "EP, reciprocal", "finite horizon", "homeostat", "BPTT"),
    ("asymmetry", "symmetric"): ("EP, reciprocal", "finite horizon", "BPTT"),
    ("cells", "dense"): ("EP", "finite horizon", "BPTT"),
    ("wires", "dense"): ("EP", "BPTT"),
    ("float64", "resistors and diodes"): ("EP, reciprocal", "finite horizon, reciprocal", "coupled", "BPTT"),
    ("float64", "oscillators"): ("EP, reciprocal", "finite horizon, corrected", "BPTT"),
    ("float64", "Langevin"): ("finite horizon", "adjoint"),
    ("preset pcm_crossbar", "dense"): ("EP", "finite horizon", "homeostat"),
}


def rule_rows() -> list[Any]:
    return [pytest.param(rule, device, substrate) for (device, substrate), rules in RULE_ROWS.items() for rule in rules]


@pytest.mark.parametrize("substrate", SUBSTRATES)
def test_substrate(substrate: str) -> None:
    check_substrate(SUBSTRATES[substrate])
    check_substrate(SUBSTRATES[substrate], seed=1)


@pytest.mark.parametrize(("device", "substrate"), DEVICE_ROWS)
def test_device(device: str, substrate: str) -> None:
    check_device(lambda: DEVICES[device](SUBSTRATES[substrate]()))


@pytest.mark.parametrize(("rule", "device", "substrate"), rule_rows())
def test_rule(rule: str, device: str, substrate: str) -> None:
    def make() -> Device:
        return DEVICES[device](SUBSTRATES[substrate]())

    if RULES[rule]().needs.met_by(make().spec):
        check_rule(RULES[rule], make)
    else:
        with pytest.raises(CapabilityError, match="Rules that would work on it"):
            check_rule(RULES[rule], make)


@pytest.mark.parametrize(("device", "units"), [("float64", 1), ("float32", 17), ("noisy", 17), ("stepwise", 64)])
def test_device_of_another_size(device: str, units: int) -> None:
    check_device(lambda: DEVICES[device](LeakyNetwork.dense(units, 3)), seed=units)


@pytest.mark.parametrize(
    ("group", "known"),
    [
        ("hwsim.learning_rules", {type(make()).__name__ for make in RULES.values()}),
        ("hwsim.substrates", {type(make()).__name__ for make in SUBSTRATES.values()}),
        ("hwsim.devices", {type(make(LeakyNetwork.dense(UNITS, INPUTS))).__name__ for make in DEVICES.values()}),
    ],
)
def test_whatever_is_registered_is_in_the_table(group: str, known: set[str]) -> None:
    assert {entry.name for entry in entry_points(group=group)} <= known


def test_the_regression_task_states_its_own_derivatives() -> None:
    task = RandomRegression(units=4, inputs=2)
    batch, theta = task.training_batch(0, 3, 0), task.initial_readout(0, 1.0)
    z = np.random.default_rng(0).standard_normal((3, 4))
    direction, h = np.random.default_rng(1).standard_normal(z.shape), 1e-6
    slope = (
        task.loss(z + h * direction, batch.targets, theta) - task.loss(z - h * direction, batch.targets, theta)
    ) / 2
    assert np.sum(task.signal(z, batch.targets, theta) * direction) == pytest.approx(slope / h, rel=1e-7)
    for name, credit in task.readout_credit(z, batch.targets, theta).items():
        moved = [theta | {name: theta[name] + sign * h} for sign in (1.0, -1.0)]
        ahead, behind = (task.loss(z, batch.targets, one) for one in moved)
        assert credit.sum() == pytest.approx((ahead - behind) / (2 * h), rel=1e-7)


def test_a_limited_device_is_no_more_than_its_capabilities() -> None:
    device = LimitedDevice(simulated(LeakyNetwork.symmetric(3, 2), imperfections=[NOISE]), (), reciprocal=False)
    held = device.program(Parameters({"W": np.eye(3), "U": np.ones((3, 2)), "b": np.zeros(3)}))
    plan = Plan(inputs=np.ones((2, 2)), ids=np.array([4, 4]), phases=(Phase(steps=3),))
    first, again = (device.relax(plan, noise=NoisePath(seed=1))[0].final for _ in range(2))
    assert not np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert device.synapses.metric(first, held) is None
    for asked in (
        lambda: device.model,
        lambda: device.adjust(held),
        lambda: device.relax_transpose(first, plan, noise=PHYSICAL),
    ):
        with pytest.raises(CapabilityError):
            asked()
    with pytest.raises(InputError, match="which it does not have"):
        LimitedDevice(device, {C.MODEL})
    with pytest.raises(InputError, match="reciprocal"):
        LimitedDevice(device, (), reciprocal=True)


def test_a_meter_counts_lanes_steps_reads_and_writes() -> None:
    with MeteredDevice(simulated(LeakyNetwork.dense(3, 2))) as device:
        device.program(Parameters({"W": np.eye(3), "U": np.ones((3, 2)), "b": np.zeros(3), "readout.V": np.ones(3)}))
        assert device.observed == Cost(writes=3)
        phases = (Phase(steps=5), Phase(steps=7, record=3))
        plan = Plan(inputs=np.ones((2, 2)), ids=np.arange(2), repeats=np.array([1, 4]), phases=phases)
        device.relax(plan, noise=NoisePath(seed=0, repeat=10))
        assert device.observed == Cost(writes=3) + Cost.of(phases, 2)
        assert device.observed.reads == 2 * (1 + 1 + 3)
        assert device.repeats == {11, 14}
        assert (device.looks, device.model.units, device.looks) == (0, 3, 1)
