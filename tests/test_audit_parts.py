"""The parts of an audit: the perfect device, and the record with its JSON and table."""

import dataclasses
import json

import numpy as np
import pytest
from audit_setting import EPS, EVERYTHING, FH_EP, NOISE, UNITS, bench

from hwsim.audit import Audit, PerfectDevice, audit
from hwsim.contracts.errors import InputError
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.devices.imperfections import ADC, Crosstalk, Mismatch, Rails

# --- the perfect device -----------------------------------------------------------------------------------------------


def test_the_perfect_device_is_the_quiet_chip_without_time_constants_of_its_own():
    """A simulated chip with gains, offsets, crosstalk and rails settles the same; kicks, forces, corrections too."""
    chip = (Mismatch(gain=0.1, offset=0.1), Crosstalk(0.05), Rails(low=-0.5, high=0.5))
    machine = bench(*chip, horizon=7)
    device = machine.make(chip)
    theta = machine.network.initial(1, gain=0.8, input_gain=1.0)
    device.program(theta)
    perfect = PerfectDevice(device.model, device.spec)
    perfect.program(theta)
    draw = np.random.default_rng(0).standard_normal
    lanes = 3
    at = 0.3 * draw((lanes, UNITS))
    phases = (
        Phase(steps=4, record=1),
        Phase(steps=3, force=0.2 * draw((lanes, UNITS)), displace=0.1 * draw((lanes, UNITS)), record=2),
        Phase(steps=2, force=0.2 * draw((2, lanes, UNITS)), correct_at=at, record=1),
        Phase(steps=2, clamp=(np.array([1, 4]), 0.2 * draw((lanes, 2)))),
        Phase(steps=0),
    )
    inputs, ids = draw((lanes, 8)), np.arange(lanes)
    plan = Plan(inputs=inputs, ids=ids, phases=phases, start=At(at))
    for one, other in zip(device.relax(plan, noise=NOISE), perfect.relax(plan, noise=NOISE), strict=True):
        np.testing.assert_allclose(other.final, one.final, atol=1e-13)
        np.testing.assert_allclose(other.residual, one.residual, atol=1e-12)
        if one.states is not None:
            np.testing.assert_allclose(other.states, one.states, atol=1e-13)
    linear = Plan(inputs=inputs, ids=ids, phases=(Phase(steps=5, displace=at, force=0.1 * at, record=1),))
    for around in (at, 0.3 * draw((6, lanes, UNITS))):
        (one,), (other,) = (each.relax_transpose(around, linear, noise=NOISE) for each in (device, perfect))
        np.testing.assert_allclose(other.states, one.states, atol=1e-13)


def test_the_perfect_device_transposes_time_constants_as_well():
    machine = bench(Mismatch(time_constant=0.2), horizon=5)
    device = machine.make(machine.imperfections)
    theta = machine.network.initial(1, gain=0.8, input_gain=1.0)
    device.program(theta)
    perfect = PerfectDevice(device.model, device.spec)
    perfect.program(theta)
    at, inputs = np.full((1, UNITS), 0.2), np.zeros((1, 8))
    kicks = np.eye(UNITS)
    plan = Plan(inputs=np.zeros((UNITS, 8)), ids=np.arange(UNITS), phases=(Phase(steps=1, displace=kicks),))
    (run,) = perfect.relax_transpose(np.repeat(at, UNITS, axis=0), plan, noise=NOISE)
    step = np.eye(UNITS) + EPS * device.model.jacobian(at, inputs, theta)[0]
    np.testing.assert_allclose(run.final, step, atol=1e-14)  # row i is D^T e_i


def test_the_perfect_device_refuses_what_it_cannot_do():
    device = bench().make(())
    perfect = PerfectDevice(device.nominal, device.spec)
    plan = Plan(inputs=np.zeros((1, 8)), ids=np.arange(1), phases=(Phase(steps=1),))
    with pytest.raises(InputError, match="nothing is programmed"):
        perfect.relax(plan, noise=NOISE)


# --- the record -------------------------------------------------------------------------------------------------------


def test_json_round_trip_and_table():
    found = dataclasses.replace(
        bench(*EVERYTHING, horizon=4).audit(FH_EP, repeats=2), settings={"task": "x", "seed": 1}
    )
    again = Audit.from_json(found.to_json())
    assert again == found
    assert again.to_json() == found.to_json()
    assert json.loads(found.to_json())["advice"] == found.advice
    lines = found.table.splitlines()
    assert max(map(len, lines)) < 140
    for rung in found.rungs:
        assert any(line.strip().startswith(rung.name) for line in lines)
    assert [line for line in lines if line in ("the rule", "the chip", "the machine")] == [
        "the rule", "the chip", "the machine",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 7}', '{"schema": 1, "advice": ""}'])
def test_what_is_no_audit_is_refused(text):
    with pytest.raises(InputError, match="audit"):
        Audit.from_json(text)


def test_progress_counts_to_the_end():
    ladder, held = bench(ADC(8), horizon=5).taken_apart
    here, told = bench(horizon=5), []
    audit(
        ladder, FH_EP, task=here.task, theta=held, batch=here.batch, noise=NOISE, repeats=2,
        report=lambda done, count: told.append((done, count)),
    )  # fmt: skip
    assert told == [(k + 1, 8) for k in range(8)]
