"""Steps of Euler, Heun and exponential kind against what is known of them: exact solutions, orders, covariances."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_continuous_lyapunov, solve_discrete_lyapunov

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.contracts.scale import BOLTZMANN
from hwsim.devices import Euler, Exponential, Heun, Integrator, SimulatedDevice, ThermalNoise
from hwsim.devices.imperfections import Mismatch
from hwsim.substrates import GROUND, Identity, LeakyNetwork, ResistiveNetwork

SIGMA = 0.7
NON_NORMAL = np.array([[1.0, 3.0, 0.0], [0.0, 1.5, -2.0], [0.1, 0.0, 0.8]])
"""A of dz = -A z: eigenvalues with positive real parts, far from normal."""


def linear(A, integrator, eps, *, sigma=SIGMA):
    """A device that settles by F = -A z + b."""
    units = len(A)
    network = LeakyNetwork.dense(units, 1, Identity())
    noise = [ThermalNoise(sigma)] if sigma else []
    device = SimulatedDevice(network, horizon=1, step_size=eps, integrator=integrator, imperfections=noise)
    b = np.linspace(-1.0, 2.0, units)
    device.program(Parameters({"W": np.eye(units) - A, "U": np.zeros((units, 1)), "b": b}))
    return device, b


def run(device, steps, lanes, start=None, noise=NoisePath(seed=5), **phase):
    plan = Plan(
        inputs=np.zeros((lanes, 1)),
        ids=np.arange(lanes),
        phases=(Phase(steps=steps, **phase),),
        **({} if start is None else {"start": At(start)}),
    )
    return device.relax(plan, noise=noise)[0]


def slope(sizes, errors):
    """Of log error against log size."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


@pytest.mark.parametrize(("integrator", "order"), [(Euler, 1), (Heun, 2), (Exponential, 1)])
def test_order_without_noise(integrator, order):
    network = LeakyNetwork.dense(6, 2)
    theta, x = network.initial(3, gain=1.2, input_gain=1.0), np.array([[1.0, -0.5]])
    tight = solve_ivp(
        lambda _, z: network.field(z[None], x, theta)[0], (0.0, 2.0), np.zeros(6), rtol=1e-12, atol=1e-12
    ).y[:, -1]
    sizes, errors = (0.1, 0.05, 0.025, 0.0125), []
    for eps in sizes:
        device = SimulatedDevice(network, horizon=1, step_size=eps, integrator=integrator)
        device.program(theta)
        plan = Plan(inputs=x, ids=np.zeros(1, int), phases=(Phase(steps=round(2.0 / eps)),))
        errors.append(np.abs(device.relax(plan, noise=NoisePath(seed=0))[0].final[0] - tight).max())
    assert slope(sizes, errors) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("eps", [0.05, 1.0, 5.0])
def test_exponential_step_is_exact_where_the_field_is_linear(eps):
    # M of LeakyNetwork is its leak alone, exact where W = 0; with a matrix for M: test_resistive, test_langevin
    device, b = linear(np.eye(4), Exponential, eps, sigma=0.0)
    z0 = np.array([[1.0, -2.0, 0.5, 3.0]])
    found = run(device, 3, 1, start=z0).final
    assert found == pytest.approx(b + np.exp(-3 * eps) * (z0 - b), abs=1e-13)


def test_exponential_step_of_independent_units_has_the_variance_of_the_process_at_any_step():
    lanes = 4000
    for eps, steps in ((0.05, 60), (2.0, 2)):
        device, b = linear(np.eye(2), Exponential, eps)
        z = run(device, steps, lanes, start=np.tile(b, (lanes, 1))).final
        expected = SIGMA**2 * (1 - np.exp(-2 * eps * steps))
        # the relative standard error of a variance over n draws is sqrt(2 / n)
        assert np.var(z - b) == pytest.approx(expected, rel=4 * np.sqrt(2 / z.size))


@pytest.mark.parametrize("A", [NON_NORMAL, np.diag([0.5, 1.0, 2.0])], ids=["non-normal", "normal"])
def test_euler_settles_to_the_discrete_lyapunov_solution_and_not_to_the_continuous_one(A):
    eps, lanes = 0.25, 20000
    device, b = linear(A, Euler, eps)
    mean = np.linalg.solve(A, b)
    z = run(device, 120, lanes, start=np.tile(mean, (lanes, 1))).final
    M = np.eye(3) - eps * A
    discrete = solve_discrete_lyapunov(M, 2 * eps * SIGMA**2 * np.eye(3))
    continuous = solve_continuous_lyapunov(A, 2 * SIGMA**2 * np.eye(3))
    found = np.cov(z.T)
    spread = np.sqrt((discrete**2 + np.outer(np.diag(discrete), np.diag(discrete))) / lanes)  # of a sample covariance
    assert np.abs((found - discrete) / spread).max() < 4.0
    assert np.abs((found - continuous) / spread).max() > 6.0
    assert np.abs(z.mean(axis=0) - mean).max() < 4.5 * np.sqrt(np.diag(discrete).max() / lanes)


@pytest.mark.parametrize("integrator", [Euler, Heun])
def test_strong_order_on_coarsened_noise_paths(integrator):
    network = LeakyNetwork.dense(4, 1)
    theta = network.initial(2, gain=1.5, input_gain=1.0)
    fine, lanes, steps = 2**-9, 200, 2**9
    path = NoisePath(seed=11)

    def end(coarse, kind):
        device = SimulatedDevice(
            network, horizon=1, step_size=fine * coarse, integrator=kind, imperfections=[ThermalNoise(0.5)]
        )
        device.program(theta)
        return run(device, steps // coarse, lanes, noise=path.coarsen(coarse)).final

    truth, sizes = end(1, Heun), (8, 16, 32, 64)
    errors = [np.sqrt(np.mean((end(coarse, integrator) - truth) ** 2)) for coarse in sizes]
    # additive noise: order 1 for Euler-Maruyama as well, not 1/2 (Kloeden and Platen, section 10.3)
    assert slope(sizes, errors) == pytest.approx(1.0, abs=0.15)


def test_weak_order_of_euler_maruyama():
    # E |z|^2 of an OU process is known for the process and, by common paths, estimated with little variance
    A, lanes, time = np.array([[1.0, 0.8], [0.0, 1.3]]), 3000, 1.0
    fine = 2**-8
    path, errors, sizes = NoisePath(seed=4), [], (8, 16, 32, 64)
    exact_device, _ = linear(A, Heun, fine)
    truth = run(exact_device, 2**8, lanes, noise=path).final
    for coarse in sizes:
        device, _ = linear(A, Euler, fine * coarse)
        z = run(device, round(time / (fine * coarse)), lanes, noise=path.coarsen(coarse)).final
        difference = np.sum(z * z, axis=1) - np.sum(truth * truth, axis=1)
        error, standard_error = abs(difference.mean()), difference.std() / np.sqrt(lanes)
        assert error > 5 * standard_error  # the slope is of a bias, not of noise
        errors.append(error)
    assert slope(sizes, errors) == pytest.approx(1.0, abs=0.15)


def test_thermal_noise_of_a_node_is_kT_over_C_times_the_euler_inflation():
    eps, lanes = 0.3, 5000
    for integrator, inflation in ((Euler, 2 / (2 - eps)), (Exponential, 1.0)):
        device, b = linear(np.eye(2), integrator, eps)
        z = run(device, 60, lanes, start=np.tile(b, (lanes, 1))).final
        assert np.var(z - b) == pytest.approx(SIGMA**2 * inflation, rel=4 * np.sqrt(2 / z.size))


def test_linear_response_of_an_exponential_step_is_that_of_its_transpose():
    A = np.eye(5)
    device, _ = linear(A, Exponential, 0.7, sigma=0.0)
    a = np.random.default_rng(0).standard_normal((1, 5))
    plan = Plan(inputs=np.zeros((1, 1)), ids=np.zeros(1, int), phases=(Phase(steps=2, displace=a),))
    (found,) = device.relax_transpose(np.zeros((1, 5)), plan, noise=NoisePath(seed=0))
    assert found.final == pytest.approx(a @ expm(-A * 1.4), abs=1e-13)


def test_steps_that_make_no_integrator():
    for eps in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="positive, finite step eps"):
            Euler(eps)


def test_another_step_is_the_same_kind():
    heun: Integrator = Heun(0.1)
    assert heun.at(0.2) == Heun(0.2)


# --- A network of resistors: noise that belongs to the resistors ---------------------------------------------------

RC = ResistiveNetwork(
    units=3,
    inputs=1,
    edges=((0, 3), (0, 1), (1, 2), (2, GROUND), (0, GROUND)),
    capacitance=(1e-12, 2e-12, 0.5e-12),
    time_constant=1e-6,
)
CONDUCTANCES = Parameters({"g": np.array([2e-6, 1e-6, 0.3e-6, 0.5e-6, 1e-6])})
ROOM = ThermalNoise(temperature=300.0)


def covariance(device, steps, lanes=20000):
    """Of the voltages after so many steps from their operating point, and the spread of each entry."""
    v = RC.operating_point(np.full((1, 1), 0.5), CONDUCTANCES)
    plan = Plan(
        inputs=np.full((lanes, 1), 0.5),
        ids=np.arange(lanes),
        phases=(Phase(steps=steps),),
        start=At(np.repeat(v, lanes, axis=0)),
    )
    final = device.relax(plan, noise=NoisePath(seed=8))[0].final
    found = np.cov(final.T)
    diagonal = np.diag(found)
    return found, np.sqrt((found**2 + np.outer(diagonal, diagonal)) / lanes)


@pytest.mark.parametrize("eps", [0.2, 5.0])
def test_exact_steps_of_a_resistor_network_settle_to_kT_over_C_at_any_step(eps):
    device = SimulatedDevice(RC, horizon=1, step_size=eps, integrator=Exponential, imperfections=[ROOM])
    device.program(CONDUCTANCES)
    found, spread = covariance(device, steps=round(25 / eps))
    expected = np.diag(BOLTZMANN * 300.0 / np.array(RC.capacitance))
    assert np.abs((found - expected) / spread).max() < 4.0


def test_euler_steps_of_a_resistor_network_settle_to_the_discrete_lyapunov_solution():
    eps = 0.3
    device = SimulatedDevice(RC, horizon=1, step_size=eps, imperfections=[ROOM])
    device.program(CONDUCTANCES)
    found, spread = covariance(device, steps=90)
    B = RC.diffusion(CONDUCTANCES)
    M = np.eye(3) + eps * RC.linear_part(CONDUCTANCES)
    expected = solve_discrete_lyapunov(M, 2 * eps * BOLTZMANN * 300.0 * B @ B.T)
    assert np.abs((found - expected) / spread).max() < 4.0
    exact = np.diag(BOLTZMANN * 300.0 / np.array(RC.capacitance))
    assert np.abs((found - exact) / spread).max() > 10.0


def test_an_exact_step_of_a_linear_network_is_exact_and_so_is_its_transpose():
    device = SimulatedDevice(RC, horizon=1, step_size=2.0, integrator=Exponential)
    device.program(CONDUCTANCES)
    x, J = np.full((1, 1), 0.5), RC.linear_part(CONDUCTANCES)
    v = RC.operating_point(x, CONDUCTANCES)
    kick = np.array([[0.1, -0.2, 0.05]])
    plan = Plan(inputs=x, ids=np.zeros(1, int), phases=(Phase(steps=3),), start=At(v + kick))
    (run,) = device.relax(plan, noise=NoisePath(seed=0))
    assert run.final == pytest.approx(v + kick @ expm(6.0 * J).T, abs=1e-12)
    plan = Plan(inputs=x, ids=np.zeros(1, int), phases=(Phase(steps=3, displace=kick),))
    (back,) = device.relax_transpose(v, plan, noise=NoisePath(seed=0))
    assert back.final == pytest.approx(kick @ expm(6.0 * J), abs=1e-12)


def test_mismatch_of_capacitances_moves_kT_over_C_as_it_should():
    device = SimulatedDevice(
        RC, horizon=1, step_size=1.0, integrator=Exponential, imperfections=[ROOM, Mismatch(time_constant=0.3)]
    )
    device.program(CONDUCTANCES)
    found, spread = covariance(device, steps=40)
    # time constants spread because capacitances do: C_i = C / rate_i
    expected = np.diag(BOLTZMANN * 300.0 * device.chip.rate / np.array(RC.capacitance))
    assert np.abs((found - expected) / spread).max() < 4.0
