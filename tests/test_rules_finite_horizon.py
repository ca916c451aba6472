"""Finite-horizon EP: where it is BPTT, how far it is from it elsewhere, and what a unit must remember for it."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from rule_setting import NOISE, T, relative, setting
from tables import INPUTS, SUBSTRATES, UNITS

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import InputError
from hwsim.contracts.ladder import Snapshot
from hwsim.contracts.needs import Needs
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Phase, Plan, RandomStart
from hwsim.contracts.rule import settle_free
from hwsim.devices import ADC, SIMULATED, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.learning_rules import Corrected, Natural, Transposed
from hwsim.learning_rules.contrast import OneSided
from hwsim.learning_rules.finite_horizon import FiniteHorizonEP
from hwsim.learning_rules.transient import Decimated, LowPass, Transient, Whole, interpolation
from hwsim.reference import bptt_along, rtrl
from hwsim.substrates import Dense, Identity, LeakyNetwork, LinearLangevin, Reciprocal
from hwsim.tasks import Windowed
from hwsim.testing import RandomRegression, check_rule
from hwsim.testing.draws import draw_parameters

WINDOWS = {"z_T alone": None, "from 4": (4, None), "3 to 7": (3, 7), "all": (0, None)}
LINEAR: dict[str, tuple[Any, Any]] = {
    "leaky, transposed": (SUBSTRATES["identity"], Transposed()),
    "leaky, corrected": (SUBSTRATES["identity"], Corrected()),
    "leaky, natural": (lambda: LeakyNetwork.symmetric(UNITS, INPUTS, Identity()), Natural()),
    "Langevin, transposed": (
        lambda: LinearLangevin(units=UNITS, inputs=INPUTS, coupling=Dense(UNITS)),
        Transposed(),
    ),
    "Langevin, natural": (
        lambda: LinearLangevin(units=UNITS, inputs=INPUTS, coupling=Reciprocal(UNITS)),
        Natural(),
    ),
    "resistors, natural": (SUBSTRATES["resistors"], Natural()),
}


def exact(here: Any, free: Any) -> Parameters:
    return bptt_along(here.network, here.theta, here.batch, here.task, free.recorded, here.device.spec.step_size)


def snapshot(here: Any, free: Any) -> Snapshot:
    return Snapshot(
        model=here.network,
        theta=here.theta,
        batch=here.batch,
        task=here.task,
        states=free.recorded,
        step_size=here.device.spec.step_size,
    )


def windowed(here: Any, window: Any) -> Any:
    if window is None:
        return here
    return dataclasses.replace(here, task=Windowed(task=here.task, first=window[0], last=window[1]))


# --- Against BPTT -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("kind", LINEAR)
def test_it_is_bptt_on_linear_substrates(kind: str, window: Any) -> None:
    make, probe = LINEAR[kind]
    network, horizon = make(), 10
    device = SimulatedDevice(network, horizon=horizon, step_size=0.2, engine=Stepwise(), start=RandomStart(1.0))
    task: Any = RandomRegression(units=UNITS, inputs=INPUTS)
    held = device.program(draw_parameters(device.spec, 3) | task.initial_readout(0, 1.0))
    task = task if window is None else Windowed(task=task, first=window[0], last=window[1])
    batch, rule = task.training_batch(0, 3, 0), FiniteHorizonEP(kick=2.0, probe=probe)
    free, _ = settle_free(device, batch, rule.needs, NOISE)
    judge = rtrl(network, held, batch, task, z0=free.recorded[0], step_size=0.2, steps=horizon)
    found = rule.estimate(device, held, batch, task, free, NOISE)
    assert judge.analog.norm() > 1e-3
    assert relative(found.gradients, judge) < 1e-10


def test_its_error_falls_with_the_square_of_the_curvature_that_it_meets() -> None:
    # r'(z) - 1 = -z^2 + ...: the Jacobian varies along the transient as the square of the drive
    drives = np.geomspace(0.02, 0.2, 5)
    errors = []
    for drive in drives.tolist():
        here = setting(16, seed=1, input_gain=drive)
        free = here.free()
        errors.append(relative(here.gradient(FiniteHorizonEP(), free).analog, exact(here, free).analog))
    assert np.polyfit(np.log(drives), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("window", [None, (5, None)])
def test_its_error_is_of_first_order_in_the_change_of_the_jacobian(window: Any) -> None:
    # a transient that is a small step from z_T: the Jacobian moves along with its size
    sizes, errors = np.geomspace(0.01, 0.1, 4), []
    near = setting(8, seed=2, horizon=400)
    rest = near.free(record=0).final
    direction = np.random.default_rng(0).standard_normal(rest.shape)
    for size in sizes.tolist():
        here = windowed(setting(8, seed=2, start=RandomStart(1.0)), window)
        (run,) = here.device.relax(_from(here, rest + size * direction), noise=NOISE)
        found, judge = here.gradient(FiniteHorizonEP(), run).analog, exact(here, run).analog
        errors.append(relative(found, judge))
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.1)


def _from(here: Any, state: Any) -> Plan:
    steps = here.device.spec.horizon
    return Plan(inputs=here.batch.inputs, ids=here.batch.ids, start=At(state), phases=(Phase(steps=steps, record=1),))


def test_a_nonlinear_probe_errs_as_the_square_of_its_kick_and_one_sided_as_its_kick() -> None:
    here = windowed(setting(8, seed=1), (5, None))
    free = here.free()
    limit = here.gradient(FiniteHorizonEP(kick=1e-4, probe=Corrected()), free).analog
    # which is not quite what couplings driven backwards answer: z_T has not settled, and J moves on with it
    assert 1e-5 < relative(limit, here.gradient(FiniteHorizonEP(), free).analog) < 0.05
    kicks = np.geomspace(0.01, 0.1, 4)
    for contrast, order in ((None, 2.0), (OneSided(), 1.0)):
        options: dict[str, Any] = {} if contrast is None else {"contrast": contrast}
        errors = [
            relative(here.gradient(FiniteHorizonEP(kick=kick, probe=Corrected(), **options), free).analog, limit)
            for kick in kicks.tolist()
        ]
        assert np.polyfit(np.log(kicks), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15)


def test_averages_lose_the_noise_of_the_kicks_as_one_over_their_number() -> None:
    here = setting(8, seed=1, imperfections=[ThermalNoise(0.1)], engine=None, horizon=6)
    free, draws = here.free(), 50
    variances, errors = [], []
    for repeats in (1, 8):
        rule = FiniteHorizonEP().averaged(repeats)
        found = [here.gradient(rule, free, NOISE.at_step(1 + k)).analog for k in range(draws)]
        rows = np.stack([np.concatenate([block.ravel() for block in one.values()]) for one in found])
        along = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
        variances.append(float(along.sum()) / (draws - 1))
        errors.append(math.sqrt(2.0 * float((along**2).sum()) / (draws - 1)) / float(along.sum()))
    slack = 4.0 * math.hypot(*errors)
    assert 8.0 * variances[1] / variances[0] == pytest.approx(1.0, abs=slack)
    assert slack < 0.9


# --- What a unit remembers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("steps", "every"), [(20, 5), (20, 7), (13, 4), (30, 10)])
def test_decimated_polynomials_are_found_again(degree: int, steps: int, every: int) -> None:
    times = np.arange(steps + 1)
    z = ((times / steps) ** degree - 0.3 * (times / steps) ** min(degree, 1))[:, None, None] * np.ones((1, 2, 3))
    memory = Decimated(every=every, degree=degree)
    found = memory.recall(z[::every], z[-1], steps=steps, step_size=0.1)
    assert np.abs(found - z).max() < 1e-12
    assert np.allclose(interpolation([*range(0, steps, every), steps], degree).sum(axis=1), 1.0)


def test_decimation_errs_as_its_degree_says() -> None:
    # at a fixed instant of a smooth motion, resolved ever more finely
    for degree in (1, 3):
        errors = []
        for every in (8, 16, 32):
            z = np.exp(-np.arange(193) / 60.0)[:, None, None]
            memory = Decimated(every=every, degree=degree)
            errors.append(np.abs(memory.recall(z[::every], z[-1], steps=192, step_size=0.1) - z).max())
        assert np.polyfit(np.log([8, 16, 32]), np.log(errors), 1)[0] == pytest.approx(degree + 1, abs=0.4)


def test_traces_are_enough_where_they_decay_like_the_response() -> None:
    """`sum_k h_{T-1-k} z_k` needs nothing of z but its traces where h is a sum of their decays."""
    device = SimulatedDevice(LeakyNetwork.dense(4, 3, Identity()), horizon=15, step_size=0.1, start=RandomStart(1.0))
    task = RandomRegression(units=4, inputs=3)
    rates = np.array([0.4, 0.9, 1.5, 1.5])
    held = device.program(draw_parameters(device.spec, 0) | {"W": np.diag(1.0 - rates)} | task.initial_readout(0, 1.0))
    batch, decays = task.training_batch(0, 3, 0), -np.log(1.0 - 0.1 * rates[:3]) / 0.1
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)

    def found(memory: Transient) -> Parameters:
        return FiniteHorizonEP(transient=memory).estimate(device, held, batch, task, free, NOISE).gradients

    whole = found(Whole())
    assert relative(found(LowPass(rates=tuple(decays.tolist()), ridge=1e-14)), whole) < 1e-7
    assert relative(found(LowPass(rates=(0.2, 3.0), ridge=0.0)), whole) > 1e-3
    # and the traces are all that is used: what is orthogonal to every decay is forgotten
    memory = LowPass(rates=(0.5, 1.0))
    smoother = memory.projection(15, 0.1)
    assert np.allclose(smoother @ smoother, smoother, atol=1e-6)
    assert np.linalg.matrix_rank(smoother, tol=1e-6) == 2
    shapes = np.exp(-0.1 * np.outer(np.arange(14, -1, -1), [0.5, 1.0]))
    assert np.allclose(shapes.T @ smoother, shapes.T, atol=1e-6)


def errors_against_the_whole(memories: list[Any]) -> list[float]:
    rows = []
    for seed in range(3):
        here = setting(32, seed=seed, horizon=30, step_size=0.1)
        whole = here.gradient(FiniteHorizonEP()).analog
        rows.append(
            [
                relative(here.gradient(FiniteHorizonEP(transient=m), here.free(record=m.needs.record)).analog, whole)
                for m in memories
            ]
        )
    return np.median(rows, axis=0).tolist()  # type: ignore[no-any-return]


def test_few_numbers_per_unit_are_enough() -> None:
    lines = errors_against_the_whole([Decimated(every=every, degree=1) for every in (2, 5, 10)])
    cubic = errors_against_the_whole([Decimated(every=every) for every in (2, 5, 10)])
    sets = ((1.0,), (0.3, 1.0), (0.1, 0.5, 2.0), (0.1, 0.4, 1.0, 2.0))
    traces = errors_against_the_whole([LowPass(rates=rates) for rates in sets])
    assert sorted(lines) == lines
    assert sorted(cubic) == cubic
    assert sorted(traces, reverse=True) == traces
    assert lines[0] < 0.01
    assert cubic[1] < 0.005
    assert traces[2] < 0.01
    assert LowPass().rates == sets[2]


def test_memories_that_make_no_sense_are_refused() -> None:
    for rates in ((), (1.0, 1.0), (0.0,), (-1.0,), (math.nan,)):
        with pytest.raises(InputError, match="different, positive, finite rates"):
            LowPass(rates=rates)
    with pytest.raises(InputError, match="ridge >= 0"):
        LowPass(ridge=-1.0)
    with pytest.raises(InputError, match="every >= 1"):
        Decimated(every=0)
    with pytest.raises(InputError, match="degree of at most 3"):
        Decimated(degree=4)


# --- Contract -----------------------------------------------------------------------------------------------------

MEMORIES = [Whole(), Decimated(every=3), Decimated(every=50, degree=0), LowPass()]


@pytest.mark.parametrize("memory", MEMORIES, ids=repr)
@pytest.mark.parametrize("window", [None, (4, 12)])
def test_its_ladder_ends_where_it_delivers(memory: Transient, window: Any) -> None:
    if window is not None and memory.needs.final_loss:
        pytest.skip("needs every state")
    here = windowed(setting(16, seed=1, gain=1.2), window)
    rule, free = FiniteHorizonEP(transient=memory), here.free()
    rungs = [ideal.gradient(snapshot(here, free)) for ideal in rule.ladder.ideals]
    assert len(rungs) == 1 + (memory != Whole())
    assert relative(rungs[0], here.gradient(FiniteHorizonEP(), free)) < 1e-12
    assert relative(rungs[-1], here.gradient(rule, here.free(record=memory.needs.record))) < 1e-12
    assert relative(rungs[0], exact(here, free)) > 1e-3


DEVICES: dict[str, dict[str, Any]] = {
    "float64": {},
    "noisy float32, random start": {
        "imperfections": [ThermalNoise(0.05)],
        "dtype": np.float32,
        "start": RandomStart(1.0),
    },
    "converter, noisy, carry": {"imperfections": [ADC(8), ThermalNoise(0.05)], "start": Carry()},
    "without load_state": {"capabilities": SIMULATED - {Capability.LOAD_STATE}},
}


@pytest.mark.parametrize("options", DEVICES.values(), ids=DEVICES)
def test_it_keeps_the_laws_of_rules(options: dict[str, Any]) -> None:
    device = partial(SimulatedDevice, SUBSTRATES["symmetric"](), horizon=20, **options)
    check_rule(lambda: FiniteHorizonEP(kick=3.0, transient=Decimated(every=7)), device)
    check_rule(lambda: FiniteHorizonEP(transient=LowPass(), contrast=OneSided()), device)
    check_rule(lambda: FiniteHorizonEP(probe=Natural(), kick=0.5), device)


def test_decimation_saves_reads() -> None:
    here = setting(lanes=4)

    def reads(memory: Transient) -> int:
        free = here.free(record=memory.needs.record)
        rule = FiniteHorizonEP(transient=memory)
        return rule.estimate(here.device, here.theta, here.batch, here.task, free, NOISE).cost.reads

    assert reads(Whole()) == 8 * (T + 1)
    assert reads(Decimated(every=5)) == 8 * (2 + (T - 1) // 5)
