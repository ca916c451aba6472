"""The judges judge each other: autograd, written-out derivatives, forward mode and finite differences agree."""

import numpy as np
import pytest
import torch

import hwsim.diagnostics.equilibrium as equilibrium_module
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At
from hwsim.contracts.rule import settle_free
from hwsim.devices import SimulatedDevice, Stepwise, ThermalNoise
from hwsim.diagnostics import find_equilibrium, residual, spectral_radius
from hwsim.learning_rules import ContractionHomeostat
from hwsim.reference import (
    BPTT,
    EquilibriumAdjoint,
    bptt,
    bptt_along,
    equilibrium_adjoint,
    finite_differences,
    rtrl,
    to_numpy,
    to_torch,
    transpose_gradient,
    unroll,
)
from hwsim.substrates import Identity, LeakyNetwork, Tanh
from hwsim.testing import RandomClasses

UNITS, INPUTS, LANES = 5, 3, 4
EPS, T = 0.2, 12


NETWORKS = {
    f"{coupling.__name__}-{type(r).__name__}": coupling(UNITS, INPUTS, r)
    for coupling in (LeakyNetwork.dense, LeakyNetwork.symmetric)
    for r in (Tanh(), Identity())
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def problem(network, *, seed=0, gain=0.9, lanes=LANES, **sizes):
    """(theta, batch, task, random z0), the bias drawn too."""
    task = RandomClasses(**{"units": network.units, "inputs": INPUTS, **sizes})
    draw = np.random.default_rng(seed)
    theta = network.initial(seed, gain=gain, input_gain=1.0) | task.initial_readout(seed, 1.0)
    theta = theta | {"b": 0.3 * draw.standard_normal(network.units)}
    return theta, task.training_batch(0, lanes, seed), task, draw.standard_normal((lanes, network.units))


def settled(network, theta, x, z, *, steps=T, eps=EPS, increments=None):
    """z_0 .. z_T, one plain Euler step after the other."""
    states = [z]
    for step in range(steps):
        z = z + eps * network.field(z, x, theta) + (0.0 if increments is None else increments[step])
        states.append(z)
    return np.stack(states)


def relative(found, expected):
    """Largest relative error of a block."""
    assert found.keys() == expected.keys()
    return max(float(np.linalg.norm(found[n] - expected[n]) / np.linalg.norm(expected[n])) for n in expected)


def test_finite_differences_have_order_two():
    theta = Parameters({"a": np.array([0.3, -1.1]), "b": np.array([[0.7]])})

    def loss(at):
        return float(np.sum(np.sin(3.0 * at["a"])) * np.exp(at["b"][0, 0]))

    a, grown = 3.0 * theta["a"], np.exp(0.7)
    exact = Parameters({"a": 3.0 * np.cos(a) * grown, "b": np.full((1, 1), np.sum(np.sin(a)) * grown)})
    steps = np.geomspace(1e-3, 1e-1, 7)  # well above 1e-5, where rounding takes over
    errors = [(finite_differences(loss, theta, step=h) - exact).norm() for h in steps.tolist()]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.01)
    assert relative(finite_differences(loss, theta), exact) < 1e-8


@every_network
def test_bptt_is_rtrl_is_finite_differences(network):
    theta, batch, task, z0 = problem(network)
    run = {"z0": z0, "step_size": EPS, "steps": T}
    reverse = bptt(network, theta, batch, task, **run)
    assert relative(rtrl(network, theta, batch, task, **run), reverse) < 1e-10

    def deployed(at):
        return float(task.loss(settled(network, at, batch.inputs, z0)[-1], batch.targets, at))

    assert relative(finite_differences(deployed, theta), reverse) < 1e-6


@every_network
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_bptt_along_recorded_states_is_autograd(network, sigma):
    theta, batch, task, z0 = problem(network, seed=1)
    increments = sigma * np.random.default_rng(1).standard_normal((T, *z0.shape)) if sigma else None
    expected = bptt(network, theta, batch, task, z0=z0, step_size=EPS, steps=T, increments=increments)
    states = settled(network, theta, batch.inputs, z0, increments=increments)
    assert relative(bptt_along(network, theta, batch, task, states, EPS), expected) < 1e-10


def test_no_steps_leave_the_readout_alone_to_learn():
    network = NETWORKS["dense-Tanh"]
    theta, batch, task, z0 = problem(network)
    for found in (
        bptt(network, theta, batch, task, z0=z0, step_size=EPS, steps=0),
        rtrl(network, theta, batch, task, z0=z0, step_size=EPS, steps=0),
        bptt_along(network, theta, batch, task, z0[None], EPS),
    ):
        assert found.analog.norm() == 0.0
        assert relative(found.readout, task.readout_credit(z0, batch.targets, theta)) < 1e-14


def test_parameters_go_to_torch_and_back():
    theta, *_ = problem(NETWORKS["dense-Tanh"])
    there = to_torch(theta, requires_grad=True)
    assert all(block.requires_grad and block.dtype == torch.float64 for block in there.values())
    assert all(np.array_equal(back, theta[name]) for name, back in to_numpy(there).items())


def test_the_reference_rules_follow_what_the_device_did():
    network = NETWORKS["dense-Tanh"]
    theta, batch, task, z0 = problem(network, seed=2)
    sigma, noise = 0.1, NoisePath(seed=5, step=3)
    device = SimulatedDevice(
        network, horizon=T, step_size=EPS, start=At(z0), imperfections=[ThermalNoise(sigma)], engine=Stepwise()
    )
    held = device.program(theta)
    free, _ = settle_free(device, batch, BPTT().needs, noise)
    xi = noise.normals(Stream.THERMAL, batch.ids, units=UNITS, steps=T)
    increments = sigma * np.sqrt(2.0 * EPS) * xi
    expected = bptt(network, theta, batch, task, z0=z0, step_size=EPS, steps=T, increments=increments)
    found = BPTT().estimate(device, held, batch, task, free, noise)
    assert relative(found.gradients, expected) < 1e-10
    assert found.loss == pytest.approx(float(task.loss(free.final, batch.targets, theta)))

    adjoint = EquilibriumAdjoint().estimate(device, held, batch, task, free, noise)
    exact = equilibrium_adjoint(network, theta, batch, task, free.final)
    assert relative(adjoint.gradients, exact.gradients) == 0.0
    assert adjoint.diagnostics == {"certified": 1.0, "loss_equilibrium": exact.loss}


@every_network
def test_equilibrium_adjoint_is_finite_differences_of_the_equilibrium_loss(network):
    theta, batch, task, z0 = problem(network, seed=3, gain=0.6)
    found = equilibrium_adjoint(network, theta, batch, task, z0)
    z_star = found.equilibrium.z
    assert found.certified.all()
    assert residual(network, theta, batch.inputs, z_star).max() < 1e-12

    def at_equilibrium(at):
        z = find_equilibrium(network, at, batch.inputs, z_star).z
        return float(task.loss(z, batch.targets, at))

    assert found.loss == pytest.approx(at_equilibrium(theta), rel=1e-14)
    assert relative(finite_differences(at_equilibrium, theta), found.gradients) < 1e-6


def test_no_certificate_where_there_is_no_equilibrium():
    # F = -z + z + drive = drive: nothing vanishes and J = 0 cannot be solved
    network = NETWORKS["dense-Identity"]
    theta, batch, task, z0 = problem(network)
    found = equilibrium_adjoint(network, theta | {"W": np.eye(UNITS)}, batch, task, z0)
    assert not found.certified.any()


def test_no_certificate_where_newton_gets_lost():
    # strong couplings: Newton's steps leap about, and only some lanes find one of the many equilibria
    network = LeakyNetwork.dense(40, INPUTS)
    theta, batch, task, z0 = problem(network, gain=2.5, lanes=24)
    found = equilibrium_adjoint(network, theta, batch, task, 3.0 * z0)
    reached = residual(network, theta, batch.inputs, found.equilibrium.z) < 1e-9
    assert 0 < reached.sum() < len(batch)
    assert np.array_equal(found.certified, reached)


def test_gmres_finds_what_the_direct_solve_finds(monkeypatch):
    network = LeakyNetwork.dense(24, INPUTS)
    theta, batch, task, z0 = problem(network, seed=4, lanes=3)
    direct = equilibrium_adjoint(network, theta, batch, task, z0)
    transposed = transpose_gradient(network, theta, batch, task, z0, step_size=EPS)
    monkeypatch.setattr(equilibrium_module, "DIRECT_LIMIT", 0)
    monkeypatch.setattr(np.linalg, "solve", None)  # the direct road is closed
    krylov = equilibrium_adjoint(network, theta, batch, task, z0)
    assert direct.certified.all()
    assert krylov.certified.all()
    assert np.abs(krylov.equilibrium.z - direct.equilibrium.z).max() < 1e-10
    assert relative(krylov.gradients, direct.gradients) < 1e-9
    assert relative(transpose_gradient(network, theta, batch, task, z0, step_size=EPS), transposed) < 1e-9


# networks whose slowest mode is alone, so that 60 steps leave nothing else
@pytest.mark.parametrize(("coupling", "seed"), [(LeakyNetwork.symmetric, 5), (LeakyNetwork.dense, 8)])
def test_transpose_relaxation_reaches_the_adjoint_at_rate_rho(coupling, seed):
    network = coupling(12, INPUTS)
    theta, batch, task, z0 = problem(network, seed=seed, lanes=1)
    adjoint = equilibrium_adjoint(network, theta, batch, task, z0)
    z_star = adjoint.equilibrium.z
    (rho,) = spectral_radius(network, theta, batch.inputs, z_star, EPS)
    steps = np.arange(60, 180, 5)
    errors = [
        (transpose_gradient(network, theta, batch, task, z_star, step_size=EPS, steps=t2) - adjoint.gradients).norm()
        for t2 in steps.tolist()
    ]
    assert np.exp(np.polyfit(steps, np.log(errors), 1)[0]) == pytest.approx(rho, rel=1e-3)
    limit = transpose_gradient(network, theta, batch, task, z_star, step_size=EPS)
    assert relative(limit, adjoint.gradients) < 1e-12


def test_transpose_relaxation_is_the_recursion_it_says():
    # three steps by hand, at a state that is no equilibrium
    network = NETWORKS["dense-Tanh"]
    theta, batch, task, z0 = problem(network, seed=6)
    jacobian, c = network.jacobian(z0, batch.inputs, theta), task.signal(z0, batch.targets, theta)
    a = np.zeros_like(z0)
    for _ in range(3):
        a = a + EPS * (np.einsum("bij,bi->bj", jacobian, a) + c)
    expected = network.credit(a, z0, batch.inputs, theta) | task.readout_credit(z0, batch.targets, theta)
    found = transpose_gradient(network, theta, batch, task, z0, step_size=EPS, steps=3)
    assert relative(found, expected) < 1e-13


@pytest.mark.parametrize("network", [NETWORKS["dense-Tanh"], NETWORKS["symmetric-Tanh"]], ids=["dense", "symmetric"])
def test_homeostat_is_autograd_of_its_penalty_at_fixed_states(network):
    theta, batch, task, z0 = problem(network, seed=7, gain=1.5)
    rule = ContractionHomeostat(target=-2.0, steps=8, burn_in=3)
    device = SimulatedDevice(network, horizon=T, step_size=EPS, start=At(z0), engine=Stepwise())
    held = device.program(theta)
    free, _ = settle_free(device, batch, rule.needs, NoisePath(seed=1))
    estimate = rule.estimate(device, held, batch, task, free, NoisePath(seed=1))

    # the same twins again, each counted step cut out as a pair of its own: (states before, Phi of them)
    plan = rule._plan(free.final, batch, NoisePath(seed=1))
    (run,) = device.relax(plan, noise=NoisePath(seed=1))
    before = run.recorded[rule.burn_in : -1].transpose(1, 0, 2).reshape(2, -1, UNITS)
    x = torch.tensor(np.repeat(batch.inputs, rule.steps - rule.burn_in, axis=0))
    leaves = to_torch(theta.analog, requires_grad=True)
    z, twin = (unroll(network, leaves, x, torch.tensor(s), step_size=EPS, steps=1) for s in before)
    penalty = ContractionHomeostat(target=rule.target, steps=1, burn_in=0).penalty(z, twin, EPS)
    whole = rule.penalty(run.recorded[:, :LANES], run.recorded[:, LANES:], EPS)
    assert penalty.item() == pytest.approx(float(whole), rel=1e-12)
    assert penalty.item() > 0.0
    found = torch.autograd.grad(penalty, list(leaves.values()), materialize_grads=True, allow_unused=True)
    expected = to_numpy(dict(zip(leaves, found, strict=True)))
    # the inputs and the bias are the same for both twins, so that they cannot pull them apart
    for block in ("U", "b"):
        assert not expected[block].any()
        assert np.abs(estimate.gradients[block]).max() < 1e-12
    difference = estimate.gradients["W"] - expected["W"]
    assert np.linalg.norm(difference) / np.linalg.norm(expected["W"]) < 1e-4
    assert estimate.gradients.readout.norm() == 0.0
