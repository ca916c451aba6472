"""Physics with an energy: the energy network rolls downhill, the Langevin machine has the covariance of theory."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.reference import finite_differences
from hwsim.substrates import (
    Convolutional,
    Dense,
    EnergyNetwork,
    Hard,
    Identity,
    Layered,
    LinearLangevin,
    Logistic,
    Masked,
    Reciprocal,
    ReLU,
    Softplus,
    Tanh,
)
from hwsim.testing import check_substrate

NONLINEARITIES = {type(r).__name__: r for r in (Tanh(), Identity(), Logistic(), Softplus(), ReLU(), Hard())}
COUPLINGS = {
    "all": Reciprocal(6),
    "layered": Layered((2, 3, 1), True),
    "grid": Masked.grid(2, 3, reciprocal=True),
    "convolutional": Convolutional(1, 2, 3, reciprocal=True),
}


def point(network, seed, lanes=3, gain=1.0):
    """(theta, z, x) of standard normal numbers."""
    numbers = np.random.default_rng(seed)
    theta = {name: gain * numbers.standard_normal(shape) for name, shape in network.shapes().items()}
    z, x = numbers.standard_normal((lanes, network.units)), numbers.standard_normal((lanes, network.inputs))
    return Parameters(theta), z, x


# --- energy network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coupling", "nonlinearity"),
    [*(("all", r) for r in NONLINEARITIES), *((coupling, "Tanh") for coupling in COUPLINGS if coupling != "all")],
)
def test_energy_networks_are_held_to_the_suite(coupling, nonlinearity):
    network = EnergyNetwork(units=6, inputs=4, coupling=COUPLINGS[coupling], nonlinearity=NONLINEARITIES[nonlinearity])
    for seed in (0, 1):
        check_substrate(lambda: network, seed=seed)
    check_substrate(lambda: network.unshared())


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_the_field_is_the_slope_of_the_energy_and_energy_credit_its_derivative(nonlinearity):
    network = EnergyNetwork.symmetric(5, 3, NONLINEARITIES[nonlinearity])
    theta, z, x = point(network, 0)
    there = Parameters({"z": z})
    slope = finite_differences(lambda at: float(network.energy(at["z"], x, theta).sum()), there, step=1e-5)["z"]
    assert network.field(z, x, theta) == pytest.approx(-slope, rel=1e-8, abs=1e-8)
    # the energy is linear in its parameters, so that even a long step is exact
    expected = finite_differences(lambda at: float(network.energy(z, x, at).sum()), theta, step=0.1)
    for name, block in network.energy_credit(z, x, theta).items():
        assert block == pytest.approx(expected[name], rel=1e-11, abs=1e-11)


def test_energy_is_per_lane_over_leading_axes():
    network = EnergyNetwork.symmetric(4, 2)
    theta, _, x = point(network, 0)
    states = np.random.default_rng(1).standard_normal((5, 3, 4))
    found = network.energy(states, x, theta)
    assert found.shape == (5, 3)
    assert found[2, 1] == pytest.approx(network.energy(states[2, 1:2], x[1:2], theta)[0], rel=1e-14)


smooth = st.sampled_from(["Tanh", "Logistic", "Identity"])
seeds = st.integers(0, 2**32 - 1)


@given(nonlinearity=smooth, units=st.integers(1, 6), gain=st.floats(0.0, 8.0), seed=seeds)
def test_no_curvature_lies_above_the_bound(nonlinearity, units, gain, seed):
    network = EnergyNetwork.symmetric(units, 2, NONLINEARITIES[nonlinearity])
    theta, z, x = point(network, seed, lanes=20, gain=gain)
    bound = network.curvature_bound(x, theta)
    hessian = -network.jacobian(z, x, theta)
    assert np.linalg.eigvalsh(hessian).max() <= bound * (1.0 + 1e-12)


def test_the_bound_is_reached():
    # one linear unit: E = (1 - w) z^2 / 2; one tanh unit driven by b alone: max of 1 - b r'' at r = 1 / sqrt 3
    linear = EnergyNetwork.symmetric(1, 1, Identity())
    theta, x = Parameters({"W": [[-3.0]], "U": [[0.0]], "b": [0.0]}).map(np.asarray), np.ones((1, 1))
    assert linear.curvature_bound(x, theta) == pytest.approx(4.0)
    driven = Parameters({"W": [[0.0]], "U": [[2.0]], "b": [1.0]}).map(np.asarray)
    network, z = EnergyNetwork.symmetric(1, 1), np.array([[math.atanh(1.0 / math.sqrt(3.0))]])
    assert network.curvature_bound(x, driven) == pytest.approx(-network.jacobian(z, x, driven).item(), rel=1e-12)


@given(nonlinearity=smooth, gain=st.floats(0.0, 8.0), fraction=st.floats(0.01, 0.999), seed=seeds)
def test_noise_free_euler_below_the_bound_never_raises_the_energy(nonlinearity, gain, fraction, seed):
    network = EnergyNetwork.symmetric(6, 2, NONLINEARITIES[nonlinearity])
    theta, z, x = point(network, seed, gain=gain)
    step = fraction * 2.0 / network.curvature_bound(x, theta)
    before = network.energy(z, x, theta)
    for _ in range(40):
        z = z + step * network.field(z, x, theta)
        after = network.energy(z, x, theta)
        if not np.isfinite(after).all() or np.abs(after).max() > 1e12:
            return  # a linear network without a minimum runs away downhill
        assert (after <= before + 1e-13 * (1.0 + np.abs(before)) * 10).all()
        before = after


def test_above_the_bound_the_energy_can_rise():
    # eps = 0.5 and couplings of gain 4: what the bound is for
    network = EnergyNetwork.symmetric(16, 2)
    theta, z, x = point(network, 0, lanes=20)
    theta = theta | {"W": 4.0 * theta["W"] / math.sqrt(16)}
    rises = 0
    for _ in range(40):
        before, z = network.energy(z, x, theta), z + 0.5 * network.field(z, x, theta)
        rises += int((network.energy(z, x, theta) > before + 1e-9).sum())
    assert rises > 0
    assert 2.0 / network.curvature_bound(x, theta) < 0.5


@pytest.mark.parametrize("r", [Softplus(), ReLU(), Hard()])
def test_without_a_bound_in_closed_form_there_is_a_sentence(r):
    network = EnergyNetwork.symmetric(3, 2, r)
    theta, _, x = point(network, 0)
    with pytest.raises(InputError, match=rf"smooth r that is bounded or linear, such as Tanh or Logistic; found {r}"):
        network.curvature_bound(x, theta)


def test_an_energy_needs_reciprocal_couplings():
    with pytest.raises(InputError, match=r"reciprocal couplings, such as Reciprocal\(3\), unless split; found Dense"):
        EnergyNetwork(units=3, inputs=2, coupling=Dense(3))
    with pytest.raises(InputError, match=r"found Reciprocal\(units=3\) with split=True"):
        EnergyNetwork(units=3, inputs=2, coupling=Reciprocal(3), split=True)
    apart = EnergyNetwork.symmetric(3, 2).unshared()
    theta, z, x = point(apart, 0)
    assert not apart.reciprocal
    assert apart.metric(z, theta) is apart.energy_credit(z, x, theta) is None
    with pytest.raises(InputError, match=r"a split energy network has no energy"):
        apart.energy(z, x, theta)


# --- Langevin machine ----------------------------------------------------------------------------------------------


def langevin(coupling, seed=0):
    """A stable machine whose A is `coupling`'s draw with 3 added to its diagonal, and its parameters."""
    machine = LinearLangevin(units=coupling.units, inputs=2, coupling=coupling)
    theta = point(machine, seed)[0]
    return machine, theta | {"A": theta["A"] + 3.0 * np.eye(coupling.units)}


@pytest.mark.parametrize("coupling", [Dense(6), *COUPLINGS.values(), Masked.grid(2, 3), Layered((2, 4))])
def test_langevin_machines_are_held_to_the_suite(coupling):
    for seed in (0, 1):
        check_substrate(lambda: LinearLangevin(units=6, inputs=4, coupling=coupling), seed=seed)


def test_energy_credit_of_a_machine_is_that_of_its_energy():
    machine, theta = langevin(Reciprocal(4))
    _, z, x = point(machine, 1)

    def energy(at):
        return float(np.sum(z * (z @ machine.coupling.matrix(at["A"]) / 2.0 - machine.drive(x, at))))

    expected = finite_differences(energy, theta, step=0.1)
    for name, block in machine.energy_credit(z, x, theta).items():
        assert block == pytest.approx(expected[name], rel=1e-11, abs=1e-11)


def test_the_mean_solves_the_linear_system():
    machine, theta = langevin(Dense(5))
    x = np.random.default_rng(0).standard_normal((4, 2))
    mean = machine.stationary_mean(x, theta)
    assert machine.field(mean, x, theta) == pytest.approx(np.zeros((4, 5)), abs=1e-13)


def test_a_symmetric_machine_inverts_its_matrix():
    machine, theta = langevin(Reciprocal(5))
    A = machine.coupling.matrix(theta["A"])
    inverse = np.linalg.inv(A)
    assert machine.stationary_covariance(theta, sigma=0.3) == pytest.approx(0.09 * inverse, rel=1e-12)
    # M and A commute, so S (1 - M^2) = 2 eps sigma^2: the step inflates the covariance by (1 - eps A / 2)^-1
    eps = 0.1
    expected = 0.09 * inverse @ np.linalg.inv(np.eye(5) - eps * A / 2.0)
    assert machine.discrete_covariance(theta, sigma=0.3, step_size=eps) == pytest.approx(expected, rel=1e-11)


def test_both_covariances_solve_their_equations_and_meet_as_the_step_shrinks():
    machine, theta = langevin(Dense(5))
    A, S = theta["A"], machine.stationary_covariance(theta, sigma=0.7)
    inflow = A @ S + S @ A.T
    assert inflow == pytest.approx(2.0 * 0.49 * np.eye(5), abs=1e-12)
    errors = []
    for eps in (0.02, 0.01, 0.005):
        discrete, M = machine.discrete_covariance(theta, sigma=0.7, step_size=eps), np.eye(5) - eps * A
        assert M @ discrete @ M.T + 2.0 * eps * 0.49 * np.eye(5) == pytest.approx(discrete, abs=1e-12)
        errors.append(np.abs(discrete - S).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)  # first order
    assert np.log2(errors[1] / errors[2]) == pytest.approx(1.0, abs=0.05)


def test_the_euler_step_has_the_discrete_covariance():
    # A is not normal: what is exact for normal A only would be some per cent off
    machine, draw = LinearLangevin(units=4, inputs=2, coupling=Dense(4)), np.random.default_rng(0)
    eps, sigma, lanes = 0.2, 0.5, 40_000
    A = 1.5 * np.eye(4) + np.triu(draw.standard_normal((4, 4)), 1)
    theta = Parameters({"A": A, "U": np.ones((4, 2)), "b": np.ones(4)})
    x, z = np.broadcast_to(np.array([[0.5, -0.2]]), (lanes, 2)), np.zeros((lanes, 4))
    for _ in range(120):  # 0.7^120 = 3e-19 of the start is left, times a power of 120
        z = z + eps * machine.field(z, x, theta) + sigma * math.sqrt(2.0 * eps) * draw.standard_normal(z.shape)
    S = machine.discrete_covariance(theta, sigma=sigma, step_size=eps)
    # standard errors of a covariance and of a mean over independent normal lanes
    error = np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / lanes)
    assert (np.abs(np.cov(z.T) - S) < 4.5 * error).all()
    mean = machine.stationary_mean(x[:1], theta)[0]
    assert (np.abs(z.mean(axis=0) - mean) < 4.5 * np.sqrt(np.diag(S) / lanes)).all()
    # and the test can tell the two covariances apart
    assert (np.abs(machine.stationary_covariance(theta, sigma=sigma) - S) > 9.0 * error).any()


def test_machines_without_a_stationary_state_say_so():
    machine = LinearLangevin(units=2, inputs=1, coupling=Dense(2))
    theta = Parameters({"A": np.diag([1.0, -0.5]), "U": np.zeros((2, 1)), "b": np.zeros(2)})
    with pytest.raises(InputError, match=r"positive real part; found -0\.5: add to its diagonal"):
        machine.stationary_mean(np.ones((1, 1)), theta)
    stiff = theta | {"A": np.diag([1.0, 30.0])}
    with pytest.raises(InputError, match=r"\|1 - eps A\| < 1; found spectral radius 2: lower eps"):
        machine.discrete_covariance(stiff, sigma=1.0, step_size=0.1)
