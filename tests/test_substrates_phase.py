"""Oscillators: derivatives and energy by differences, locking and synchronisation by their exact solutions."""

import math

import numpy as np
import pytest

from hwsim.contracts.parameters import Parameters
from hwsim.reference import finite_differences
from hwsim.substrates import Convolutional, Dense, Layered, Masked, OscillatorNetwork, Reciprocal, order_parameter
from hwsim.testing import check_substrate

COUPLINGS = {
    "dense": Dense(6),
    "reciprocal": Reciprocal(6),
    "layered": Layered((2, 4)),
    "grid, reciprocal": Masked.grid(2, 3, reciprocal=True),
    "convolutional, reciprocal": Convolutional(1, 2, 3, reciprocal=True),
}


def settle(network, theta, phi, x, *, step, steps):
    """Runge-Kutta of fourth order: what is tested is the field, not a step."""
    for _ in range(steps):
        one = network.field(phi, x, theta)
        two = network.field(phi + step / 2.0 * one, x, theta)
        three = network.field(phi + step / 2.0 * two, x, theta)
        four = network.field(phi + step * three, x, theta)
        phi = phi + step / 6.0 * (one + 2.0 * two + 2.0 * three + four)
    return phi


def free(units, K, omega, locking=0.0):
    """Oscillators without references: (network, theta, x)."""
    network = OscillatorNetwork(units=units, inputs=1, coupling=Dense(units), locking=locking)
    return network, Parameters({"K": K, "H": np.zeros((units, 1)), "omega": omega}), np.zeros((1, 1))


@pytest.mark.parametrize("locking", [0.0, 0.7])
@pytest.mark.parametrize("name", COUPLINGS)
def test_oscillators_are_held_to_the_suite(name, locking):
    network = OscillatorNetwork(units=6, inputs=4, coupling=COUPLINGS[name], locking=locking)
    for seed in (0, 1):
        check_substrate(lambda: network, seed=seed)


def test_the_field_is_the_sum_it_is_written_as():
    network = OscillatorNetwork(units=3, inputs=2, coupling=Dense(3), locking=0.4)
    numbers = np.random.default_rng(0)
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in network.shapes().items()})
    phi, x = numbers.standard_normal((1, 3)), numbers.standard_normal((1, 2))
    expected = [
        theta["omega"][i]
        + sum(theta["K"][i, j] * math.sin(phi[0, j] - phi[0, i]) for j in range(3))
        + sum(theta["H"][i, m] * math.sin(x[0, m] - phi[0, i]) for m in range(2))
        + 0.4 * math.sin(2.0 * phi[0, i])
        for i in range(3)
    ]
    assert network.field(phi, x, theta)[0] == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", [name for name in COUPLINGS if COUPLINGS[name].reciprocal])
def test_reciprocal_oscillators_descend_on_their_energy(name):
    network = OscillatorNetwork(units=6, inputs=2, coupling=COUPLINGS[name], locking=0.4)
    numbers = np.random.default_rng(0)
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in network.shapes().items()})
    phi, x = numbers.standard_normal((3, 6)), numbers.standard_normal((3, 2))
    K = network.coupling.matrix(theta["K"])
    apart, toward = phi[:, None, :] - phi[:, :, None], x[:, None, :] - phi[:, :, None]
    expected = (
        -np.sum(K * np.cos(apart), axis=(1, 2)) / 2.0
        - np.sum(theta["H"] * np.cos(toward), axis=(1, 2))
        - phi @ theta["omega"]
        + 0.2 * np.cos(2.0 * phi).sum(axis=1)
    )
    assert network.energy(phi, x, theta) == pytest.approx(expected, rel=1e-13)
    there = Parameters({"phi": phi})
    slope = finite_differences(lambda at: float(network.energy(at["phi"], x, theta).sum()), there, step=1e-5)["phi"]
    assert network.field(phi, x, theta) == pytest.approx(-slope, rel=1e-8, abs=1e-8)
    expected = finite_differences(lambda at: float(network.energy(phi, x, at).sum()), theta, step=0.1)
    for block, found in network.energy_credit(phi, x, theta).items():
        assert found == pytest.approx(expected[block], rel=1e-11, abs=1e-11)


def test_order_parameter():
    assert order_parameter(np.full((2, 5), 0.3)) == pytest.approx(np.ones(2))
    assert order_parameter(2.0 * np.pi * np.arange(8)[None, None] / 8.0) == pytest.approx(np.zeros((1, 1)), abs=1e-15)
    assert order_parameter(np.array([[0.0, np.pi / 2.0]])) == pytest.approx(np.array([math.sqrt(0.5)]))


def pairs(detuning, strength):
    """Pairs of oscillators side by side, each coupled by its own strength [P] and apart by its own detuning [P]."""
    K = np.kron(np.diag(strength), 1.0 - np.eye(2))
    return free(2 * len(strength), K, np.ravel(np.stack([detuning / 2.0, -detuning / 2.0], axis=1)))


def test_two_oscillators_lock_at_the_exact_phase_difference():
    # psi = phi_1 - phi_2 obeys dpsi/dt = dw - 2 K sin psi: it rests at asin(dw / 2 K), and decays there at 2 K cos psi,
    # here at least 2 * 0.5 * 0.24: e^-30 is left
    ratio, strength = np.linspace(-0.97, 0.97, 31), np.random.default_rng(0).uniform(0.5, 3.0, 31)
    network, theta, x = pairs(ratio * 2.0 * strength, strength)
    phi = settle(network, theta, np.zeros((1, 62)), x, step=0.1, steps=1250)
    assert phi[0, ::2] - phi[0, 1::2] == pytest.approx(np.arcsin(ratio), abs=1e-9)


def test_two_oscillators_that_are_too_far_apart_slip_with_the_exact_period():
    # the same equation with dw > 2 K: psi gains 2 pi in 2 pi / sqrt(dw^2 - 4 K^2), here 1, wherever it starts
    excess = np.linspace(1.03, 4.0, 20)
    strength = np.pi / np.sqrt(excess**2 - 1.0)
    network, theta, x = pairs(excess * 2.0 * strength, strength)
    start = np.random.default_rng(0).uniform(-3.0, 3.0, (1, 40))
    turned = settle(network, theta, start, x, step=1e-3, steps=1000) - start
    assert turned[0, ::2] - turned[0, 1::2] == pytest.approx(np.full(20, 2.0 * math.pi), abs=1e-6)


@pytest.mark.parametrize(("locking", "rest"), [(0.8, math.pi / 2.0), (-0.8, 0.0)])
def test_injection_at_twice_the_frequency_leaves_two_phases(locking, rest):
    network, theta, x = free(5, np.zeros((5, 5)), np.zeros(5), locking)
    start = np.array([[-2.4, -1.0, 0.3, 1.2, 2.9]])
    phi = settle(network, theta, start, x, step=0.1, steps=400)
    turns = (phi - rest) / math.pi
    assert turns == pytest.approx(np.round(turns), abs=1e-9)
    assert np.abs(phi - start).max() <= math.pi / 2.0  # each falls into the nearer one


def test_a_reference_pulls_an_oscillator_to_its_phase():
    network = OscillatorNetwork(units=1, inputs=1, coupling=Dense(1))
    theta = Parameters({"K": np.zeros((1, 1)), "H": np.ones((1, 1)), "omega": np.array([0.5])})
    x = np.array([[0.2], [-1.0]])
    phi = settle(network, theta, np.zeros((2, 1)), x, step=0.1, steps=400)
    assert phi - x == pytest.approx(np.full((2, 1), math.asin(0.5)), abs=1e-9)


@pytest.mark.parametrize("ratio", [0.5, 1.5, 2.0, 4.0])
def test_kuramoto_threshold_for_lorentzian_frequencies(ratio):
    """`r = sqrt(1 - K_c / K)` above `K_c = 2 Delta`, 0 below (Kuramoto 1984, chapter 5).

    N = 400 quantiles of the Lorentzian in place of draws, so that the locked part of r has no sampling error, only that
    of the mid-point rule. What drifts adds about sqrt(N / 2) phasors of random phase: at one instant r moves by
    1 / sqrt(2 N) = 0.035, times a susceptibility of up to 1 / |1 - K_c / K| = 3 here; over 40 time constants, some 40
    correlation times of 1 / Delta, this averages to 0.035 * 3 / sqrt(40) = 0.017. Below the threshold r is not averaged
    to zero, as it is a modulus: it stays below 3 * 0.035 * sqrt(2).
    """
    units, delta = 400, 1.0
    quantiles = (np.arange(units) + 0.5) / units
    omega = delta * np.tan(np.pi * (quantiles - 0.5))
    network, theta, x = free(units, np.full((units, units), ratio * 2.0 * delta / units), omega)
    phi = np.random.default_rng(0).uniform(-0.5, 0.5, (1, units))  # not far from order: it decays, or stays
    phi, seen = settle(network, theta, phi, x, step=0.05, steps=400), []
    for _ in range(200):
        phi = settle(network, theta, phi, x, step=0.05, steps=4)
        seen.append(order_parameter(phi)[0])
    if ratio < 1.0:
        assert np.mean(seen) < 3 * 0.035 * math.sqrt(2.0)
    else:
        assert np.mean(seen) == pytest.approx(math.sqrt(1.0 - 1.0 / ratio), abs=3 * 0.017)
