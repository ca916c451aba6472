"""One table of substrates, devices and rules, each held to its suite. That the suites bite: test_conformance_teeth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.noise import PHYSICAL, NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, Phase, Plan, RandomStart
from hwsim.contracts.rule import Cost, LearningRule
from hwsim.contracts.substrate import Substrate
from hwsim.devices import SIMULATED, ReadoutADC, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.learning_rules import (
    ContractionHomeostat,
    Corrected,
    EquilibriumPropagation,
    FiniteHorizonEP,
    Natural,
    Transposed,
)
from hwsim.reference import BPTT, EquilibriumAdjoint
from hwsim.substrates import Identity, LeakyNetwork
from hwsim.testing import LimitedDevice, MeteredDevice, RandomRegression, check_device, check_rule, check_substrate

C = Capability
UNITS, INPUTS = 8, 5


@dataclass(frozen=True)
class Hopfield(Substrate):
    """A field with an energy, `E = |z|^2 / 2 - r^T W r / 2 - r^T (U x + b)`, W its own symmetric part, r = tanh z."""

    units: int = UNITS
    inputs: int = INPUTS

    @property
    def reciprocal(self) -> bool:
        return True

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"W": (self.units, self.units), "U": (self.units, self.inputs), "b": (self.units,)}

    def _parts(self, z: Any, x: Any, theta: Parameters) -> tuple[Any, Any, Any, Any]:
        rate = z.tanh() if hasattr(z, "tanh") else np.tanh(z)
        symmetric = (theta["W"] + theta["W"].T) / 2.0
        return rate, 1.0 - rate * rate, symmetric, rate @ symmetric + x @ theta["U"].T + theta["b"]

    def field(self, z: Any, x: Any, theta: Parameters) -> Any:
        _, slope, _, inflow = self._parts(z, x, theta)
        return slope * inflow - z

    def tangent(self, v: Any, z: Any, x: Any, theta: Parameters) -> Any:
        rate, slope, symmetric, inflow = self._parts(z, x, theta)
        return slope * ((slope * v) @ symmetric) - 2.0 * rate * slope * inflow * v - v

    def cotangent(self, a: Any, z: Any, x: Any, theta: Parameters) -> Any:
        return self.tangent(a, z, x, theta)

    def credit(self, post: Any, z: Any, x: Any, theta: Parameters, *, per_sample: bool = False) -> Parameters:
        leaky = LeakyNetwork.symmetric(self.units, self.inputs)
        return leaky.credit(self._parts(z, x, theta)[1] * post, z, x, theta, per_sample=per_sample)

    def influence(self, z: Any, x: Any, theta: Parameters) -> Mapping[str, tuple[Any, Any]]:
        rate, slope, _, _ = self._parts(z, x, theta)
        return {"W": (slope, rate), "U": (slope, x), "b": (slope, 0.0 * z[:, :1] + 1.0)}

    def energy_credit(self, z: Any, x: Any, theta: Parameters) -> Parameters:
        rate = self._parts(z, x, theta)[0]
        return Parameters({"W": -rate.T @ rate / 2.0, "U": -rate.T @ x, "b": -rate.sum(0)})

    def metric(self, z: Any, theta: Parameters) -> Any:
        return 0.0 * z + 1.0


SUBSTRATES: dict[str, Callable[[], Substrate]] = {
    "dense": lambda: LeakyNetwork.dense(UNITS, INPUTS),
    "symmetric": lambda: LeakyNetwork.symmetric(UNITS, INPUTS),
    "identity": lambda: LeakyNetwork.dense(UNITS, INPUTS, Identity()),
    "energy": Hopfield,
}

simulated = partial(SimulatedDevice, horizon=20)
NOISE, ADC = ThermalNoise(0.05), ReadoutADC(8)
DEVICES: dict[str, Callable[[Substrate], Device]] = {
    "float64": simulated,
    "float32": partial(simulated, dtype=np.float32),
    "stepwise": lambda substrate: simulated(substrate, engine=Stepwise()),
    "stepwise float32": lambda substrate: simulated(substrate, engine=Stepwise(), dtype=np.float32),
    "noisy": partial(simulated, imperfections=[NOISE]),
    "noisy float32": partial(simulated, imperfections=[NOISE], dtype=np.float32),
    "converter": partial(simulated, imperfections=[ADC]),
    "converter, noisy": partial(simulated, imperfections=[ADC, NOISE]),
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
    "BPTT": BPTT,
    "adjoint": EquilibriumAdjoint,
}
DEVICE_ROWS = [
    *((device, "dense") for device in DEVICES),
    *(("float64", substrate) for substrate in ("symmetric", "identity", "energy")),
    ("natural", "symmetric"),
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
        ("hwsim.devices", {type(make(Hopfield())).__name__ for make in DEVICES.values()}),
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
