"""References in torch are those in NumPy: same formulas, another place. On a GPU where there is one."""

import dataclasses

import numpy as np
import pytest
import torch

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import RandomStart
from hwsim.contracts.rule import settle_free
from hwsim.devices import SimulatedDevice, ThermalNoise
from hwsim.devices.imperfections import Asymmetry, Crosstalk, Mismatch, Rails, SlewRate
from hwsim.diagnostics import find_equilibrium
from hwsim.learning_rules import EquilibriumPropagation
from hwsim.reference import (
    BPTT,
    EquilibriumAdjoint,
    Place,
    bptt_along,
    equilibrium_adjoint,
    find_equilibrium_at,
    rtrl,
    solves,
    transpose_gradient,
)
from hwsim.substrates import EnergyNetwork, Identity, LeakyNetwork, OscillatorNetwork, Reciprocal
from hwsim.tasks import Windowed
from hwsim.testing import RandomClasses
from hwsim.verdict import Evaluator

EPS, T, LANES, INPUTS = 0.1, 12, 4, 3

PLACES = [
    pytest.param(Place(torch="cpu"), id="torch on the CPU"),
    pytest.param(
        "cuda",
        id="cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    ),
]


@pytest.fixture(params=PLACES)
def place(request):
    return Place(torch="cuda") if request.param == "cuda" else request.param


def chip(network, *imperfections):
    return SimulatedDevice(network, horizon=T, step_size=EPS, imperfections=imperfections, die_seed=3)


SUBSTRATES = {
    "leaky": lambda: LeakyNetwork.dense(8, INPUTS),
    "symmetric": lambda: LeakyNetwork.symmetric(8, INPUTS),
    "energy": lambda: EnergyNetwork.symmetric(8, INPUTS),
    "drawn": lambda: chip(
        LeakyNetwork.dense(8, INPUTS), Mismatch(gain=0.1, offset=0.05, time_constant=0.1), Crosstalk(fraction=0.02)
    ),
    "railed and slow": lambda: chip(
        LeakyNetwork.dense(8, INPUTS), Rails(low=-0.6, high=0.6), SlewRate(volts_per_second=8e5)
    ),
    "oscillators": lambda: OscillatorNetwork(units=8, inputs=INPUTS, coupling=Reciprocal(8), locking=0.1),
    "split": lambda: chip(LeakyNetwork.symmetric(8, INPUTS), Asymmetry(sigma=0.1)),
}


def problem(make, *, seed=0, gain=0.8, lanes=LANES):
    """(model, theta, batch, task, states that no noise-free map would reach)."""
    made = make()
    draw = np.random.default_rng(seed)
    spec = made.spec if isinstance(made, SimulatedDevice) else made
    shapes = spec.shapes if isinstance(made, SimulatedDevice) else made.shapes()
    task = RandomClasses(units=8, inputs=INPUTS)
    theta = Parameters({name: gain * draw.standard_normal(shape) / 3.0 for name, shape in shapes.items()})
    if "omega" in theta:  # oscillators that lock
        theta = theta | {"omega": 0.05 * theta["omega"]}
    theta = theta | task.initial_readout(seed, 1.0)
    if isinstance(made, SimulatedDevice):
        theta, made = made.program(theta), made.model
    states = 0.5 * draw.standard_normal((T + 1, lanes, 8))
    if made.rails is not None:
        states = np.clip(states, *made.rails)
    return made, theta, task.training_batch(0, lanes, seed), task, states


def assert_same(found, expected, *, within=1e-12):
    assert found.keys() == expected.keys()
    for name, block in expected.items():
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], block, rtol=0.0, atol=within * max(np.abs(block).max(), 1e-30))


@pytest.mark.parametrize("make", SUBSTRATES.values(), ids=SUBSTRATES.keys())
@pytest.mark.parametrize("window", [False, True], ids=["final", "window"])
def test_bptt_is_the_same_everywhere(make, window, place):
    model, theta, batch, task, states = problem(make)
    task = Windowed(task=task, first=5) if window else task
    along = bptt_along(model, theta, batch, task, states, EPS)
    assert along.analog.norm() > 0.0
    assert_same(bptt_along(model, theta, batch, task, states, EPS, place=place), along)


@pytest.mark.parametrize("name", ["leaky", "railed and slow", "split"])
def test_rtrl_is_the_same_everywhere(name, place):
    model, theta, batch, task, states = problem(SUBSTRATES[name], lanes=2)
    run = {"z0": states[0], "step_size": EPS, "steps": 5}
    task = Windowed(task=task, first=3)
    forward = rtrl(model, theta, batch, task, **run)
    assert forward.analog.norm() > 0.0
    assert_same(rtrl(model, theta, batch, task, **run, place=place), forward)


@pytest.mark.parametrize("make", SUBSTRATES.values(), ids=SUBSTRATES.keys())
def test_gradients_at_a_state_are_the_same_everywhere(make, place):
    model, theta, batch, task, states = problem(make)
    z = states[-1]
    for steps in (None, 7):
        expected = transpose_gradient(model, theta, batch, task, z, step_size=EPS, steps=steps)
        found = transpose_gradient(model, theta, batch, task, z, step_size=EPS, steps=steps, place=place)
        assert_same(found, expected, within=1e-11 if steps is None else 1e-12)
    for _ in range(300):  # near an equilibrium: Newton's leaps from afar amplify rounding without bound
        z = z + EPS * model.field(z, batch.inputs, theta)
        z = z if model.rails is None else np.clip(z, *model.rails)
    expected = equilibrium_adjoint(model, theta, batch, task, z)
    found = equilibrium_adjoint(model, theta, batch, task, z, place=place)
    assert np.array_equal(found.certified, expected.certified)
    some = expected.equilibrium.converged
    np.testing.assert_allclose(found.equilibrium.z[some], expected.equilibrium.z[some], rtol=0.0, atol=1e-11)
    if expected.certified.all():
        assert_same(found.gradients, expected.gradients, within=1e-10)
        assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert expected.certified.all() or model.rails is not None


def test_one_lane_one_step_and_no_signal(place):
    model, theta, batch, task, states = problem(SUBSTRATES["leaky"], lanes=1)
    for steps in (0, 1):
        expected = bptt_along(model, theta, batch, task, states[: steps + 1], EPS)
        assert_same(bptt_along(model, theta, batch, task, states[: steps + 1], EPS, place=place), expected)
    dumb = theta | {"readout.V": np.zeros_like(theta["readout.V"])}
    found = bptt_along(model, dumb, batch, task, states, EPS, place=place)
    assert found.analog.norm() == 0.0
    assert not equilibrium_adjoint(model, dumb, batch, task, states[-1], place=place).certified.any()


def test_float32_is_taken_to_float64(place):
    model, theta, batch, task, states = problem(SUBSTRATES["leaky"])
    single = theta.map(lambda block: block.astype(np.float32))
    expected = bptt_along(model, single, batch, task, states.astype(np.float32), EPS)
    assert_same(bptt_along(model, single, batch, task, states.astype(np.float32), EPS, place=place), expected)


def test_singular_lanes_and_lanes_that_run_away_spoil_no_others(place):
    # F = -z + z + drive: J = 0; and one lane that begins at infinity
    network = LeakyNetwork.dense(5, INPUTS)
    task = RandomClasses(units=5, inputs=INPUTS)
    theta = network.initial(0, gain=0.6, input_gain=1.0) | task.initial_readout(0, 1.0)
    batch = task.training_batch(0, LANES, 0)
    z0 = np.zeros((LANES, 5))
    z0[1] = np.inf
    with np.errstate(invalid="ignore"):
        expected = find_equilibrium(network, theta, batch.inputs, z0)
    found = find_equilibrium_at(place, network, theta, batch.inputs, z0)
    assert found.converged.tolist() == expected.converged.tolist() == [True, False, True, True]
    some = found.converged
    np.testing.assert_allclose(found.z[some], expected.z[some], rtol=0.0, atol=1e-12)
    np.testing.assert_allclose(found.residual[some], expected.residual[some], rtol=0.0, atol=1e-14)
    flat = LeakyNetwork.dense(5, INPUTS, Identity())
    adjoint = equilibrium_adjoint(flat, theta | {"W": np.eye(5)}, batch, task, np.zeros((LANES, 5)), place=place)
    assert not adjoint.certified.any()


def test_a_direct_solve_in_pieces_above_the_limit_of_numpy(place, monkeypatch):
    # NumPy goes over to GMRES here, torch still factorises, a few lanes at a time
    import hwsim.diagnostics.equilibrium as equilibrium_module

    model, theta, batch, task, states = problem(SUBSTRATES["leaky"])
    expected = equilibrium_adjoint(model, theta, batch, task, states[-1])
    monkeypatch.setattr(equilibrium_module, "DIRECT_LIMIT", 0)
    monkeypatch.setattr(equilibrium_module, "_gmres", None)
    monkeypatch.setattr(solves, "ENTRIES", 3 * 8**2)
    found = equilibrium_adjoint(model, theta, batch, task, states[-1], place=place)
    assert found.certified.all()
    assert_same(found.gradients, expected.gradients, within=1e-10)


def test_the_rules_and_the_evaluator_take_a_place(place):
    network = LeakyNetwork.dense(8, INPUTS)
    task = RandomClasses(units=8, inputs=INPUTS)
    device = SimulatedDevice(
        network,
        horizon=T,
        step_size=EPS,
        start=RandomStart(1.0),
        imperfections=[Mismatch(gain=0.1, log_normal=True), ThermalNoise(0.1)],
        dtype=np.float32,
    )
    theta = network.initial(0, gain=0.8, input_gain=1.0) | task.initial_readout(0, 1.0)
    held, batch, noise = device.program(theta), task.training_batch(0, LANES, 0), NoisePath(seed=1)
    for rule in (BPTT, EquilibriumAdjoint):
        free, _ = settle_free(device, batch, rule().needs, noise)
        expected = rule().estimate(device, held, batch, task, free, noise)
        found = rule(place=place).estimate(device, held, batch, task, free, noise)
        assert_same(found.gradients, expected.gradients, within=1e-9)
        assert found.loss == expected.loss
        assert found.diagnostics.get("certified") == expected.diagnostics.get("certified")
    evaluator = Evaluator(device=device, task=task, rule=EquilibriumPropagation(), noise=noise)
    here, there = evaluator(theta), dataclasses.replace(evaluator, place=place)(theta)
    for name, value in dataclasses.asdict(here).items():
        assert getattr(there, name) == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name


def test_what_torch_does_not_see_is_refused_by_name():
    assert Place.named("cpu") == Place()
    with pytest.raises(InputError, match=r"torch devices cpu, cuda or cuda:0 .*found 'mps'"):
        Place(torch="mps")
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with pytest.raises(InputError, match=r"references on cuda:99; torch .* sees (no CUDA device|cuda:0)"):
        Place.named("cuda:99")
    if not seen:
        with pytest.raises(InputError, match="sees no CUDA device: use cpu"):
            Place.named("cuda")


def test_torch_is_left_as_it_was(place):
    before = torch.zeros(1).device
    with place.active():
        assert torch.zeros(1).device.type == torch.device(place.torch).type
    assert torch.zeros(1).device == before


@pytest.mark.parametrize("make", SUBSTRATES.values(), ids=SUBSTRATES.keys())
def test_no_formula_mixes_devices(make, monkeypatch):
    """Torch's meta device has shapes and no numbers, and most of its operations (not all products of matrices) refuse
    arrays of another device: a stand-in for a GPU, no proof."""
    monkeypatch.setattr("hwsim.reference.place._check", lambda device: None)
    monkeypatch.setattr(Place, "back", lambda place, array: np.full(tuple(array.shape), array.device.type == "meta"))
    elsewhere = Place(torch="meta")
    with pytest.raises(RuntimeError, match="device"):
        torch.zeros(2, device="meta") @ torch.zeros(2)
    model, theta, batch, task, states = problem(make)
    late = Windowed(task=task, first=5)
    for found in (
        bptt_along(model, theta, batch, late, states, EPS, place=elsewhere),
        rtrl(model, theta, batch, task, z0=states[0], step_size=EPS, steps=2, place=elsewhere),
        transpose_gradient(model, theta, batch, task, states[-1], step_size=EPS, steps=2, place=elsewhere),
        transpose_gradient(model, theta, batch, task, states[-1], step_size=EPS, place=elsewhere),
    ):
        assert found.keys() == theta.keys()
        assert all(block.all() for block in found.values())
