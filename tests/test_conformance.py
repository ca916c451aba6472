"""One table of substrates, devices and rules, each held to its suite. That the suites bite: test_conformance_teeth."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
from tables import DEVICES, INPUTS, NOISE, SUBSTRATES, UNITS, C, simulated

from hwsim.contracts.device import Device
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import PHYSICAL, NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.rule import LearningRule, registered_rules
from hwsim.learning_rules import (
    ContractionHomeostat,
    Corrected,
    EquilibriumPropagation,
)
from hwsim.reference import BPTT, EquilibriumAdjoint
from hwsim.substrates import (
    LeakyNetwork,
)
from hwsim.testing import LimitedDevice, MeteredDevice, RandomRegression, check_device, check_rule, check_substrate

RULES: dict[str, LearningRule] = {
    **registered_rules(),
    "bptt": BPTT(),
    "equilibrium_adjoint": EquilibriumAdjoint(),
    "ep + homeostat": EquilibriumPropagation() + 10 * ContractionHomeostat(),
    "ep, shared noise": EquilibriumPropagation(probe=Corrected(shared_noise=True)),
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
    ("natural", "symmetric"): RULES,
    ("float64", "symmetric"): ("ep_reciprocal", "ep_holomorphic", "finite_horizon_ep_reciprocal", "eligibility_kf"),
    ("separate feedback", "dense"): ("kolen_pollack", "finite_horizon_ep", "ep_dyadic"),
    ("without load_state", "symmetric"): (
        "ep",
        "ep_one_sided",
        "ep_reciprocal",
        "finite_horizon_ep_corrected",
        "homeostat",
    ),
    ("float32", "symmetric"): ("ep", "finite_horizon_ep_reciprocal", "homeostat", "eligibility_uoro"),
    ("noisy float32", "dense"): ("ep, shared noise", "finite_horizon_ep", "bptt", "node_perturbation"),
    ("converter, noisy", "dense"): (
        "ep",
        "ep_random_sign",
        "finite_horizon_ep",
        "finite_horizon_ep_traces",
        "ep + homeostat",
        "adjoint_playback",
        "equilibrium_adjoint",
        "jacobian_regularisation",
        "residual_regulariser",
        "random_directions",
    ),
    ("random start", "symmetric"): (
        "ep",
        "finite_horizon_ep",
        "finite_horizon_ep_reciprocal",
        "homeostat",
        "bptt",
        "random_directions",
        "node_perturbation",
        "eligibility_rflo",
    ),
    ("carry", "dense"): ("ep", "finite_horizon_ep", "ep + homeostat", "equilibrium_adjoint", "adjoint_playback"),
    ("own noise", "dense"): ("ep, shared noise", "homeostat", "finite_horizon_ep"),
    ("without twins", "dense"): ("ep", "ep, shared noise"),
    ("stepwise", "dense"): ("ep", "finite_horizon_ep", "homeostat"),
    ("float64", "identity"): ("finite_horizon_ep", "equilibrium_adjoint"),
    ("float64", "energy"): ("ep_reciprocal", "finite_horizon_ep_corrected", "bptt", "eligibility_eprop"),
    ("bare, noisy", "dense"): ("ep", "ep_vector_field", "random_directions"),
    ("mismatch", "symmetric"): ("ep", "ep_reciprocal", "finite_horizon_ep", "homeostat", "bptt", "eligibility_snap1"),
    ("asymmetry", "symmetric"): ("ep_reciprocal", "finite_horizon_ep", "bptt"),
    ("cells", "dense"): ("ep", "finite_horizon_ep", "bptt"),
    ("wires", "dense"): ("ep", "bptt"),
    ("float64", "resistors and diodes"): (
        "ep_reciprocal",
        "finite_horizon_ep_reciprocal",
        "coupled",
        "bptt",
        "eligibility_kf",
    ),
    ("float64", "oscillators"): ("ep_reciprocal", "finite_horizon_ep_corrected", "bptt", "eligibility_eprop"),
    ("float64", "Langevin"): ("finite_horizon_ep", "equilibrium_adjoint"),
    ("preset pcm_crossbar", "dense"): ("ep", "finite_horizon_ep", "homeostat"),
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

    if RULES[rule].needs.met_by(make().spec):
        check_rule(lambda: RULES[rule], make)
    else:
        with pytest.raises(CapabilityError, match="Rules that would work on it"):
            check_rule(lambda: RULES[rule], make)


@pytest.mark.parametrize(("device", "units"), [("float64", 1), ("float32", 17), ("noisy", 17), ("stepwise", 64)])
def test_device_of_another_size(device: str, units: int) -> None:
    check_device(lambda: DEVICES[device](LeakyNetwork.dense(units, 3)), seed=units)


@pytest.mark.parametrize(
    ("group", "known"),
    [
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
