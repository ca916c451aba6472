"""What the diagnostics measure, on networks whose answer is known."""

import numpy as np
import pytest

import hwsim.diagnostics.equilibrium as equilibrium_module
import hwsim.diagnostics.spectrum as spectrum_module
from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.task import Batch
from hwsim.devices import SIMULATED, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.diagnostics import find_equilibrium, residual, solve_linearised, spectral_radius, twin_exponent
from hwsim.substrates import Identity, LeakyNetwork

UNITS, INPUTS, EPS = 40, 3, 0.2


def problem(*, units=UNITS, gain=0.9, lanes=4, seed=0, linear=False):
    network = LeakyNetwork.dense(units, INPUTS, Identity()) if linear else LeakyNetwork.dense(units, INPUTS)
    theta = network.initial(seed, gain=gain, input_gain=1.0)
    return network, theta, np.random.default_rng([seed, 9]).standard_normal((lanes, INPUTS))


def turning(*, radii, angles, eps=EPS, seed=0):
    """A linear network whose step `1 + eps J` turns planes by `angles` and shrinks them to `radii`: its eigenvalues are
    `radius exp(+- i angle)`, in a basis that mixes all units.
    """
    units = 2 * len(radii)
    step = np.zeros((units, units))
    for k, (radius, angle) in enumerate(zip(radii, angles, strict=True)):
        c, s = radius * np.cos(angle), radius * np.sin(angle)
        step[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[c, -s], [s, c]]
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((units, units)))
    step = basis @ step @ basis.T
    network = LeakyNetwork.dense(units, INPUTS, Identity())
    theta = network.initial(seed, gain=1.0, input_gain=1.0)
    return network, theta | {"W": np.eye(units) + (step - np.eye(units)) / eps}


def rotation(fastest=0.97):
    """A pair at modulus `fastest` that turns by a right angle, above a crowd of others."""
    radii = np.concatenate([[fastest], np.linspace(0.3, 0.9, 9)])
    return turning(radii=radii, angles=np.concatenate([[np.pi / 2], np.linspace(0.1, 3.0, 9)]))


# --- Spectral radius ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False], ids=["dense", "arnoldi"])
@pytest.mark.parametrize("fastest", [0.97, 1.03])
def test_spectral_radius_of_complex_pairs(direct, fastest, monkeypatch):
    # a real part would be 0 here, and a power iteration would turn in circles
    network, theta = rotation(fastest)
    if not direct:
        monkeypatch.setattr(spectrum_module, "DIRECT_LIMIT", 0)
        monkeypatch.setattr(np.linalg, "eigvals", None)  # the direct road is closed
    found = spectral_radius(network, theta, np.zeros((3, INPUTS)), np.zeros((3, network.units)), EPS)
    assert found == pytest.approx(fastest, rel=1e-9)


def test_arnoldi_finds_what_all_eigenvalues_say(monkeypatch):
    network, theta, x = problem()
    z = np.random.default_rng(1).standard_normal((4, UNITS))
    dense = spectral_radius(network, theta, x, z, EPS)
    assert np.ptp(dense) > 1e-3  # each lane has its own
    monkeypatch.setattr(spectrum_module, "DIRECT_LIMIT", 0)
    assert spectral_radius(network, theta, x, z, EPS) == pytest.approx(dense, rel=1e-8)


@pytest.mark.parametrize("direct", [True, False], ids=["dense", "arnoldi"])
def test_spectral_radius_of_a_lost_lane_is_nan_and_the_others_stay(direct, monkeypatch):
    network, theta, x = problem()
    z = np.zeros((4, UNITS))
    clean = spectral_radius(network, theta, x, z, EPS)
    if not direct:
        monkeypatch.setattr(spectrum_module, "DIRECT_LIMIT", 0)
    z[2, 7] = np.inf
    found = spectral_radius(network, theta, x, z, EPS)
    assert np.isnan(found[2])
    assert np.delete(found, 2) == pytest.approx(np.delete(clean, 2), rel=1e-8)
    z[:] = np.nan
    assert np.isnan(spectral_radius(network, theta, x, z, EPS)).all()


# --- Growth of twins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 0.1], ids=["quiet", "noisy"])
@pytest.mark.parametrize("fastest", [0.97, 1.03])
def test_twins_part_at_the_rate_of_the_slowest_mode(sigma, fastest):
    network, theta = rotation(fastest)
    thermal = [ThermalNoise(sigma)] if sigma else []
    device = SimulatedDevice(network, horizon=30, step_size=EPS, imperfections=thermal, engine=Stepwise())
    device.program(theta)
    x = np.random.default_rng(0).standard_normal((3, INPUTS))
    batch = Batch(inputs=x, targets=np.zeros(3, np.int64), ids=np.arange(3))
    growth = twin_exponent(device, batch, np.zeros((3, network.units)), noise=NoisePath(seed=2), steps=160, burn_in=80)
    (rho,) = spectral_radius(network, theta, x[:1], np.zeros((1, network.units)), EPS)
    # the second modulus is 0.9: after the burn-in (0.9 / 0.97)^80 = 0.2 % of it is left
    assert growth == pytest.approx(np.log(rho) / EPS, rel=0.01)
    assert np.log(rho) / EPS == pytest.approx(np.log(fastest) / EPS, rel=1e-6)


def test_twins_need_the_same_noise():
    network, theta = rotation()
    x = np.zeros((2, INPUTS))
    batch = Batch(inputs=x, targets=np.zeros(2, np.int64), ids=np.arange(2))
    for lacking in (Capability.TWINS, Capability.LOAD_STATE):
        device = SimulatedDevice(network, horizon=30, capabilities=SIMULATED - {lacking}, engine=Stepwise())
        device.program(theta)
        with pytest.raises(CapabilityError, match=f"twin_exponent needs {lacking.name.lower()}"):
            twin_exponent(device, batch, np.zeros((2, network.units)), noise=NoisePath(seed=0))


# --- Residual and equilibrium -------------------------------------------------------------------------------------


def test_residual_is_the_rms_of_the_field():
    network, theta, x = problem()
    z = np.random.default_rng(2).standard_normal((4, UNITS))
    by_hand = -z + np.tanh(z) @ theta["W"].T + x @ theta["U"].T + theta["b"]
    assert residual(network, theta, x, z) == pytest.approx(np.linalg.norm(by_hand, axis=1) / np.sqrt(UNITS), rel=1e-13)


def test_a_linear_network_has_a_known_equilibrium():
    network, theta, x = problem(linear=True)
    theta = theta | {"b": np.linspace(-1.0, 1.0, UNITS)}
    drive = x @ theta["U"].T + theta["b"]
    known = np.linalg.solve(np.eye(UNITS) - theta["W"], drive.T).T
    found = find_equilibrium(network, theta, x, np.ones((4, UNITS)))
    assert found.converged.all()
    assert found.z == pytest.approx(known, rel=1e-10, abs=1e-10)
    assert found.residual.max() < 1e-12 * (1.0 + np.abs(known).max())


def test_the_device_settles_where_newton_says():
    network, theta, x = problem(gain=0.6)
    device = SimulatedDevice(network, horizon=400, step_size=EPS, engine=Stepwise())
    device.program(theta)
    (run,) = device.relax(Plan(inputs=x, ids=np.arange(4), phases=(Phase(steps=400),)), noise=NoisePath(seed=0))
    assert find_equilibrium(network, theta, x, np.zeros((4, UNITS))).z == pytest.approx(run.final, abs=1e-12)


def test_newton_converges_quadratically():
    network, theta, x = problem(lanes=1)
    z_star = find_equilibrium(network, theta, x, np.zeros((1, UNITS))).z
    start = z_star + 0.05 * np.random.default_rng(3).standard_normal((1, UNITS))
    errors = [
        np.linalg.norm(find_equilibrium(network, theta, x, start, max_iterations=k).z - z_star) for k in (0, 1, 2, 3)
    ]
    assert errors[3] > 1e-14  # rounding plays no part yet
    order = np.diff(np.log(errors))
    assert order[1:] / order[:-1] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200], ids=["nan", "inf", "huge"])
@pytest.mark.parametrize("linear", [False, True], ids=["tanh", "linear"])
def test_a_lane_that_diverged_does_not_spoil_the_others(value, linear):
    network, theta, x = problem(linear=linear)
    z = np.zeros((4, UNITS))
    clean = find_equilibrium(network, theta, x, z)
    z[1] = value
    found = find_equilibrium(network, theta, x, z)
    others = [0, 2, 3]
    # to rounding: some lanes are solved in a smaller batch, and a BLAS may then sum in another order
    assert found.z[others] == pytest.approx(clean.z[others], rel=1e-12)
    assert found.converged[others].all()
    # even an infinite residual is not small beside an infinite state
    assert not found.converged[1]


def test_an_unfinished_search_says_so():
    network, theta, x = problem()
    found = find_equilibrium(network, theta, x, np.full((4, UNITS), 3.0), max_iterations=1)
    assert not found.converged.any()
    assert found.residual == pytest.approx(residual(network, theta, x, found.z))
    assert found.residual.min() > 1e-9


def test_a_singular_jacobian_is_nan_in_its_lane_alone():
    # W = 1 is singular where every slope is 1, at z = 0, and nowhere else
    network, theta, x = problem()
    theta = theta | {"W": np.eye(UNITS)}
    z = np.ones((4, UNITS))
    z[2] = 0.0
    found = solve_linearised(network, theta, x, z, np.ones((4, UNITS)))
    assert np.isnan(found[2]).all()
    expected = -1.0 / np.tanh(1.0) ** 2  # J = -1 + sech^2 1
    assert found[[0, 1, 3]] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("transpose", [False, True])
def test_linearised_solves_agree_on_both_roads(transpose, monkeypatch):
    network, theta, x = problem()
    z, rhs = np.random.default_rng(4).standard_normal((2, 4, UNITS))
    direct = solve_linearised(network, theta, x, z, rhs, transpose=transpose)
    product = network.cotangent if transpose else network.tangent
    assert product(direct, z, x, theta) == pytest.approx(rhs, abs=1e-11)
    monkeypatch.setattr(equilibrium_module, "DIRECT_LIMIT", 0)
    assert solve_linearised(network, theta, x, z, rhs, transpose=transpose) == pytest.approx(direct, rel=1e-8, abs=1e-9)
