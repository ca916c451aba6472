"""A feedback array of its own: the laws of devices, and what the two arrays do and do not share."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import numpy as np
import pytest

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, InputError, RangeError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, Phase, Plan, RandomStart
from hwsim.devices import ADC, SIMULATED, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.feedback import SeparateFeedback
from hwsim.devices.imperfections import Mismatch, Quantise, Range, ecram, pcm_programming
from hwsim.reference import bptt_along, rtrl
from hwsim.substrates import Dense, LeakyNetwork, LinearLangevin
from hwsim.testing import MeteredDevice, RandomRegression, check_device, check_substrate
from hwsim.testing.draws import draw_parameters

C = Capability
UNITS, INPUTS = 6, 4
NOISE = NoisePath(seed=5)
LEVELS = [Range(low=-1.0, high=1.0), Quantise(low=-1.0, high=1.0, levels=63)]


def pair(substrate: Any = None, *, mismatch: float = 0.0, second: dict[str, Any] | None = None, **options: Any) -> Any:
    substrate = LeakyNetwork.dense(UNITS, INPUTS) if substrate is None else substrate
    blocks = ("A",) if isinstance(substrate, LinearLangevin) else ("W",)
    options = {"horizon": 12, **options}
    one, other = SimulatedDevice(substrate, **options), SimulatedDevice(substrate, **{**options, **(second or {})})
    return SeparateFeedback(one, other, blocks=blocks, mismatch=mismatch)


def langevin() -> LinearLangevin:
    return LinearLangevin(units=UNITS, inputs=INPUTS, coupling=Dense(UNITS))


PAIRS: dict[str, Any] = {
    "dense": pair,
    "symmetric, stepwise float32": lambda: pair(
        LeakyNetwork.symmetric(UNITS, INPUTS), engine=Stepwise(), dtype=np.float32, second={"engine": Stepwise()}
    ),
    "Langevin, carry": lambda: pair(langevin(), start=Carry()),
    "noisy, random start": partial(pair, imperfections=[ThermalNoise(0.05)], start=RandomStart(1.0)),
    "own noise, converter": partial(
        pair, imperfections=[ADC(8), ThermalNoise(0.05)], capabilities=SIMULATED - {C.REPLAYABLE_NOISE}
    ),
    "levels in ranges that overlap": partial(
        pair, imperfections=LEVELS, ranges={"W": (-0.2, 0.3)}, second={"ranges": {"W": (-0.1, 0.5)}}
    ),
    "cells": partial(pair, imperfections=[pcm_programming(2.0)]),
    "pulsed": partial(pair, imperfections=ecram()),
    "two dies": partial(pair, imperfections=[Mismatch(gain=0.1)], die_seed=1, second={"die_seed": 2}, mismatch=0.5),
    "metered, a feedback array that does little": lambda: MeteredDevice(
        pair(second={"capabilities": frozenset({C.TRANSPOSE, C.RECORD, C.DISPLACE})})
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_keeps_the_laws_of_devices(name: str) -> None:
    check_device(PAIRS[name])


def deaf() -> Device:
    """Drives the couplings that settle in place of the feedback array."""
    device = pair()
    device.relax_transpose = device._device.relax_transpose
    return device


def crossed() -> Device:
    """Settles with the feedback array."""
    device = pair()

    def relax(plan: Plan, *, noise: NoisePath) -> Any:
        device.spec.check_plan(plan)
        return device._feedback.relax(plan, noise=noise)

    device.relax = relax
    return device


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (deaf, r"block feedback\.W acts backwards"),
        (crossed, r"program reads back what is really held|block feedback\.W does not act forwards"),
        (lambda: pair(imperfections=[Mismatch(gain=0.1)], second={"die_seed": 2}), "drives the couplings backwards"),
    ],
    ids=["deaf", "crossed", "two dies that say they are one"],
)
def test_the_suite_sees_a_feedback_array_that_is_none(make: Any, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_device(make)


@pytest.mark.parametrize("network", [LeakyNetwork.dense(UNITS, INPUTS), LeakyNetwork.symmetric(UNITS, INPUTS)])
def test_the_model_is_the_physics_forwards(network: LeakyNetwork) -> None:
    nominal = pair(network).nominal
    assert dict(nominal.shapes()) == {**network.shapes(), "feedback.W": (UNITS, UNITS)}
    check_substrate(lambda: nominal)


# --- What the arrays do -------------------------------------------------------------------------------------------


def programmed(device: Device, seed: int = 0) -> Parameters:
    """W and B drawn apart."""
    drawn = draw_parameters(device.spec, seed)
    B = np.random.default_rng(seed + 1).standard_normal((UNITS, UNITS)) / np.sqrt(UNITS)
    return device.program(drawn | {"feedback.W": B})


def plan(*phases: Phase, lanes: int = 3, **options: Any) -> Plan:
    inputs = np.random.default_rng(7).standard_normal((lanes, INPUTS))
    return Plan(inputs=inputs, ids=np.arange(lanes), phases=phases, **options)


def test_the_response_backwards_is_that_of_the_feedback_array() -> None:
    device = pair()
    held = programmed(device)
    draw = np.random.default_rng(3).standard_normal((2, 3, UNITS))
    at, kick = draw[0], draw[1]
    (run,) = device.relax_transpose(at, plan(Phase(steps=5, displace=kick)), noise=NOISE)
    network, eps, a = device.nominal.substrate, device.spec.step_size, kick
    alone = held.analog | {"W": held["feedback.W"]}
    for _ in range(5):
        a = a + eps * network.cotangent(a, at, np.zeros((3, INPUTS)), alone)
    assert np.abs(run.final - a).max() < 1e-14
    # and the couplings that settle are the others
    (free,) = device.relax(plan(Phase(steps=5)), noise=NOISE)
    single = SimulatedDevice(network, horizon=12)
    single.program(Parameters({name: held[name] for name in network.shapes()}))
    assert np.array_equal(free.final, single.relax(plan(Phase(steps=5)), noise=NOISE)[0].final)


def test_the_judge_finds_that_feedback_does_not_matter() -> None:
    device = pair()
    task = RandomRegression(units=UNITS, inputs=INPUTS)
    held = programmed(device) | task.initial_readout(0, 1.0)
    batch, z0 = task.training_batch(0, 3, 0), np.zeros((3, UNITS))
    exact = rtrl(device.model, held, batch, task, z0=z0, step_size=0.1, steps=12)
    asked = Plan(inputs=batch.inputs, ids=batch.ids, phases=(Phase(steps=12, record=1),))
    (free,) = device.relax(asked, noise=NOISE)
    found = bptt_along(device.model, held, batch, task, free.recorded, 0.1)
    assert (found - exact).norm() < 1e-13 * exact.norm()
    assert not found["feedback.W"].any()
    assert found["W"].any()


def test_it_saves_and_restores_both_arrays() -> None:
    device = pair(imperfections=[pcm_programming(2.0)], start=Carry())
    programmed(device)
    at, kick = np.zeros((3, UNITS)), np.ones((3, UNITS))

    def say(one: Device) -> tuple[Any, Any]:
        carried = one.relax(plan(Phase(steps=2), start=Carry()), noise=NOISE)[0].final
        return carried, one.relax_transpose(at, plan(Phase(steps=4, displace=kick)), noise=NOISE)[0].final

    device.relax(plan(Phase(steps=5)), noise=NOISE)
    saved = dict(device.save())
    expected = say(device)
    other = pair(imperfections=[pcm_programming(2.0)], start=Carry())
    other.restore(saved)
    for found, wanted in zip(say(other), expected, strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("block", ["W", "feedback.W", "U"])
def test_what_one_array_refuses_is_written_to_neither(block: str) -> None:
    device = pair(dtype=np.float32)
    held = programmed(device)
    at, push = np.zeros((3, UNITS)), Phase(steps=4, force=np.ones((3, UNITS)))

    def say() -> list[Any]:
        return [device.relax(plan(push), noise=NOISE), device.relax_transpose(at, plan(push), noise=NOISE)]

    before = say()
    with pytest.raises(RangeError):  # there is no such number in float32, which only the array itself finds out
        device.program(2.0 * held | {block: np.full(held[block].shape, 1e300)})
    for (was,), (now,) in zip(before, say(), strict=True):
        assert np.array_equal(was.final, now.final)


def test_pulses_reach_the_array_that_they_are_for() -> None:
    device = pair(imperfections=ecram())
    held = device.program(draw_parameters(device.spec, 0))
    none = held.zeros()
    for block, other in (("W", "feedback.W"), ("feedback.W", "W")):
        before = device.adjust(none)
        after = device.adjust(none | {block: np.full((UNITS, UNITS), 3.0)})
        assert (after[block] > before[block]).mean() > 0.9
        assert np.array_equal(after[other], before[other])
    with pytest.raises(InputError, match="whole numbers"):
        device.adjust(none | {"feedback.W": np.full((UNITS, UNITS), 0.5)})


def test_the_spec_is_that_of_both() -> None:
    device = pair(power=2.0, second={"power": 3.0, "imperfections": [Mismatch(time_constant=0.1)]}, mismatch=0.01)
    spec = device.spec
    assert dict(spec.feedback) == {"feedback.W": "W"}
    assert not spec.reciprocal
    assert spec.power == 3.0
    assert spec.mismatch == max(device._feedback.spec.mismatch, 0.01) > 0.01
    neither = {C.CORRECT, C.CAPTURE_CREDIT}
    assert spec.capabilities == device._device.spec.capabilities & device._feedback.spec.capabilities - neither
    assert pair(second={"capabilities": frozenset({C.TRANSPOSE})}).spec.capabilities == {C.TRANSPOSE, C.CLAMP, C.MODEL}


def test_both_are_closed_whatever_happens() -> None:
    closed: list[str] = []
    device = pair()
    for name, part in (("first", device._device), ("second", device._feedback)):
        part.close = partial(closed.append, name)
    with contextlib.suppress(ZeroDivisionError), device as opened:
        assert opened is device
        raise ZeroDivisionError
    assert sorted(closed) == ["first", "second"]


def test_what_makes_no_pair_is_refused() -> None:
    network = LeakyNetwork.dense(UNITS, INPUTS)
    make = partial(SimulatedDevice, network, horizon=12)
    with pytest.raises(InputError, match=r"arrays of the blocks \['A'\]; the device holds \['U', 'W', 'b'\]"):
        SeparateFeedback(make(), make(), blocks=("A",))
    with pytest.raises(InputError, match=r"dt is 1e-07 and 2e-07"):
        SeparateFeedback(make(), make(step_size=0.2))
    with pytest.raises(InputError, match="units is 6 and 7"):
        SeparateFeedback(make(), SimulatedDevice(LeakyNetwork.dense(7, INPUTS), horizon=12))
    with pytest.raises(CapabilityError, match="needs transpose"):
        SeparateFeedback(make(), make(capabilities=frozenset()))
    with pytest.raises(InputError, match="two devices"):
        SeparateFeedback(one := make(), one)
    with pytest.raises(InputError, match="mismatch >= 0"):
        SeparateFeedback(make(), make(), mismatch=-1.0)
    apart = SeparateFeedback(make(ranges={"W": (-1.0, -0.5)}), make(ranges={"W": (0.5, 1.0)}))
    with pytest.raises(InputError, match="cannot mirror"):
        draw_parameters(apart.spec, 0)
