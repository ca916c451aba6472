"""Physics: every derivative that a substrate writes down is the derivative of its field, on any shape."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import LocalSynapses, Substrate
from hwsim.reference import finite_differences, to_torch
from hwsim.substrates import (
    Convolutional,
    Dense,
    Hard,
    Identity,
    Layered,
    LeakyNetwork,
    Logistic,
    Masked,
    Reciprocal,
    ReLU,
    Softplus,
    Tanh,
)
from hwsim.substrates.coupling import outer
from hwsim.testing import check_substrate

H = 1e-5
"""Step of the differences: their error is about H^2, rounding 1e-16 / H."""

NONLINEARITIES = {type(r).__name__: r for r in (Identity(), Tanh(), Logistic(), Softplus(), ReLU(), Hard())}
COUPLINGS = {
    "dense": Dense(6),
    "reciprocal": Reciprocal(6),
    "layered": Layered((2, 3, 1)),
    "layered, reciprocal": Layered((2, 3, 1), True),
    "grid": Masked.grid(2, 3),
    "grid, reciprocal": Masked.grid(2, 3, reciprocal=True),
    "convolutional": Convolutional(1, 2, 3),
    "convolutional, reciprocal": Convolutional(2, 1, 3, reciprocal=True),
}
TABLE = [*((coupling, "Tanh") for coupling in COUPLINGS), *(("dense", r) for r in NONLINEARITIES if r != "Tanh")]
TABLE += [("reciprocal", r) for r in NONLINEARITIES if r != "Tanh"]

cases = st.builds(
    dict,
    units=st.integers(1, 5),
    inputs=st.integers(1, 4),
    lanes=st.integers(1, 4),
    coupling=st.sampled_from((Dense, Reciprocal)),
    nonlinearity=st.sampled_from((Identity(), Tanh(), Logistic(), Softplus())),
    seed=st.integers(0, 2**32 - 1),
)
"""Any sizes, coupling and nonlinearity. Plain values: what is built of them is built in the test."""


def build(case):
    """(network, theta, where numbers come from, B)."""
    units, inputs = case["units"], case["inputs"]
    coupling, numbers = case["coupling"](units), np.random.default_rng(case["seed"])
    network = LeakyNetwork(units=units, inputs=inputs, coupling=coupling, nonlinearity=case["nonlinearity"])
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in network.shapes().items()})
    return network, theta, numbers, case["lanes"]


def differences(network, theta, x, z):
    """J [..., B, N, N] by central differences of the field, one unit of all lanes at a time."""
    columns = []
    for unit in range(network.units):
        shift = H * np.eye(network.units)[unit]
        columns.append((network.field(z + shift, x, theta) - network.field(z - shift, x, theta)) / (2.0 * H))
    return np.stack(columns, axis=-1)


@given(case=cases, time=st.sampled_from([(), (3,)]))
def test_tangent_and_cotangent_are_differences_of_the_field(case, time):
    network, theta, numbers, lanes = build(case)
    x = numbers.standard_normal((lanes, network.inputs))
    z, v = numbers.standard_normal((2, *time, lanes, network.units))
    J = differences(network, theta, x, z)
    assert network.tangent(v, z, x, theta) == pytest.approx(np.einsum("...ij,...j->...i", J, v), rel=1e-7, abs=1e-8)
    assert network.cotangent(v, z, x, theta) == pytest.approx(np.einsum("...ij,...i->...j", J, v), rel=1e-7, abs=1e-8)
    if not time:
        assert network.jacobian(z, x, theta) == pytest.approx(J, rel=1e-7, abs=1e-8)
        # what a substrate gets that does not write its matrix down
        assert Substrate.jacobian(network, z, x, theta) == pytest.approx(network.jacobian(z, x, theta), abs=1e-14)


@given(case=cases)
def test_many_signals_around_one_state(case):
    network, theta, numbers, lanes = build(case)
    x = numbers.standard_normal((lanes, network.inputs))
    z, signals = numbers.standard_normal((lanes, network.units)), numbers.standard_normal((3, lanes, network.units))
    for derivative in (network.tangent, network.cotangent):
        one_by_one = np.stack([derivative(signal, z, x, theta) for signal in signals])
        assert derivative(signals, z, x, theta) == pytest.approx(one_by_one, abs=1e-14)


@given(case=cases, time=st.sampled_from([(), (2,)]))
def test_credit_is_differences_of_the_field_in_every_block(case, time):
    network, theta, numbers, lanes = build(case)
    x = numbers.standard_normal((lanes, network.inputs))
    z, post = numbers.standard_normal((2, *time, lanes, network.units))
    found = network.credit(post, z, x, theta)
    expected = finite_differences(lambda at: float(np.sum(post * network.field(z, x, at))), theta, step=0.1)
    assert found.keys() == expected.keys() == network.shapes().keys()
    for name, block in found.items():
        # the field is linear in its parameters, so that even a long step is exact
        assert block == pytest.approx(expected[name], rel=1e-11, abs=1e-11)


@given(case=cases, time=st.sampled_from([(), (2,)]))
def test_credit_per_sample_is_the_credit_of_each_sample(case, time):
    network, theta, numbers, lanes = build(case)
    x = numbers.standard_normal((lanes, network.inputs))
    z, post = numbers.standard_normal((2, *time, lanes, network.units))
    each = network.credit(post, z, x, theta, per_sample=True)
    for lane in range(lanes):
        one = slice(lane, lane + 1)
        alone = network.credit(post[..., one, :], z[..., one, :], x[one], theta)
        for name, block in alone.items():
            assert each[name][lane] == pytest.approx(block, abs=1e-13)


@given(case=cases)
def test_influence_holds_the_factors_of_credit(case):
    network, theta, numbers, lanes = build(case)
    x = numbers.standard_normal((lanes, network.inputs))
    z, post = numbers.standard_normal((2, lanes, network.units))
    credit = network.credit(post, z, x, theta)
    for name, (gain, pre) in network.influence(z, x, theta).items():
        unshared = outer(post * gain, pre, per_sample=False).reshape(credit[name].shape)
        if name == "W" and network.reciprocal:
            unshared = (unshared + unshared.T) / 2.0  # the two directions of a pair share one conductance
        assert credit[name] == pytest.approx(unshared, abs=1e-13)


def test_reciprocal_credit_is_the_exact_gradient_of_the_block():
    # one conductance per pair: the block need not be symmetric, the matrix and the gradient are
    network = LeakyNetwork.symmetric(3, 2)
    numbers = np.random.default_rng(0)
    theta = network.initial(0, gain=1.0, input_gain=1.0)
    assert np.abs(theta["W"] - theta["W"].T).max() > 0.1
    matrix = network.coupling.matrix(theta["W"])
    assert np.array_equal(matrix, matrix.T)
    x, z, post = numbers.standard_normal((4, 2)), numbers.standard_normal((4, 3)), numbers.standard_normal((4, 3))
    credit = network.credit(post, z, x, theta)["W"]
    full = post.T @ np.tanh(z)
    assert credit == pytest.approx((full + full.T) / 2.0, abs=1e-14)
    exact = finite_differences(
        lambda at: float(np.sum(post * network.field(z, x, theta | at))), Parameters({"W": theta["W"]})
    )
    assert credit == pytest.approx(exact["W"], abs=1e-9)


@given(case=cases)
def test_metric_turns_the_jacobian_into_its_transpose(case):
    network, theta, numbers, lanes = build(case)
    x, z = numbers.standard_normal((lanes, network.inputs)), numbers.standard_normal((lanes, network.units))
    S = network.metric(z, theta)
    if not network.reciprocal:
        assert S is None
        return
    J = network.jacobian(z, x, theta)
    assert (S > 0).all()
    assert S[:, :, None] * J / S[:, None, :] == pytest.approx(J.transpose(0, 2, 1), rel=1e-12, abs=1e-12)


@given(case=cases)
def test_numpy_and_torch_run_the_same_field(case):
    network, theta, numbers, lanes = build(case)
    x = numbers.standard_normal((lanes, network.inputs))
    z, v = numbers.standard_normal((2, 2, lanes, network.units))
    there = to_torch(theta)
    xt, zt, vt = (torch.tensor(array) for array in (x, z, v))
    assert network.field(zt, xt, there).numpy() == pytest.approx(network.field(z, x, theta), abs=1e-13)
    assert network.tangent(vt, zt, xt, there).numpy() == pytest.approx(network.tangent(v, z, x, theta), abs=1e-13)
    assert network.cotangent(vt, zt, xt, there).numpy() == pytest.approx(network.cotangent(v, z, x, theta), abs=1e-13)
    for name, block in network.credit(vt, zt, xt, there).items():
        assert block.numpy() == pytest.approx(network.credit(v, z, x, theta)[name], abs=1e-12)


def test_local_synapses_show_what_a_rule_may_see_and_no_more():
    network = LeakyNetwork.symmetric(4, 2)
    theta, numbers = network.initial(0, gain=1.0, input_gain=1.0), np.random.default_rng(0)
    x, z, post = numbers.standard_normal((3, 2)), numbers.standard_normal((3, 4)), numbers.standard_normal((3, 4))
    seen = LocalSynapses(network)
    for name, block in network.credit(post, z, x, theta, per_sample=True).items():
        assert np.array_equal(seen.credit(post, z, x, theta, per_sample=True)[name], block)
    assert np.array_equal(seen.metric(z, theta), network.metric(z, theta))
    assert seen.influence(z, x, theta).keys() == network.shapes().keys()
    for name, block in network.energy_credit(z, x, theta).items():
        assert np.array_equal(seen.energy_credit(z, x, theta)[name], block)
    assert not any(hasattr(seen, name) for name in ("field", "tangent", "cotangent", "jacobian"))


def test_initial_weights_have_the_stated_spread():
    network = LeakyNetwork.dense(100, 50)
    theta = network.initial(3, gain=0.8, input_gain=0.5, input_fan_in=6)
    for block, spread in (("W", 0.8 / np.sqrt(100)), ("U", 0.5 / np.sqrt(6))):
        # the standard error of a standard deviation over n draws is sd / sqrt(2 n)
        assert np.std(theta[block]) == pytest.approx(spread, rel=4.0 / np.sqrt(2.0 * theta[block].size))
    assert not theta["b"].any()
    again = network.initial(3, gain=0.8, input_gain=0.5, input_fan_in=6)
    assert all(np.array_equal(again[name], block) for name, block in theta.items())
    assert not np.array_equal(network.initial(4, gain=0.8, input_gain=0.5)["W"], theta["W"])


@pytest.mark.parametrize("name", COUPLINGS)
def test_initial_weights_go_by_the_inputs_of_a_unit(name):
    coupling = COUPLINGS[name]
    network = LeakyNetwork(units=6, inputs=2, coupling=coupling)
    draws = [network.initial(seed, gain=0.8, input_gain=0.5)["W"] * np.sqrt(coupling.fan_in) for seed in range(200)]
    assert draws[0].shape == coupling.shape
    assert np.std(draws) == pytest.approx(0.8, rel=4.0 / np.sqrt(2.0 * np.size(draws)))


@pytest.mark.parametrize(("coupling", "nonlinearity"), TABLE)
def test_leaky_networks_are_held_to_the_suite(coupling, nonlinearity):
    network = LeakyNetwork(units=6, inputs=4, coupling=COUPLINGS[coupling], nonlinearity=NONLINEARITIES[nonlinearity])
    check_substrate(lambda: network)
    check_substrate(lambda: network, seed=1)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_slope_and_curvature_are_derivatives(name):
    r, z = NONLINEARITIES[name], np.linspace(-4.03, 4.05, 203)  # no corner within H of a point
    assert r.slope(z) == pytest.approx((r(z + H) - r(z - H)) / (2.0 * H), rel=1e-9, abs=1e-10)
    assert r.curvature(z) == pytest.approx((r.slope(z + H) - r.slope(z - H)) / (2.0 * H), rel=1e-9, abs=1e-10)
    assert r.increasing == bool((r.slope(z) > 0.0).all())


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_slope_is_that_of_autograd_at_rest_and_at_corners_too(name):
    r, z = NONLINEARITIES[name], torch.tensor([-2.0, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(r(z).sum(), z)
    assert r.slope(z.detach()).numpy() == pytest.approx(expected.numpy(), abs=1e-15)
    assert r.slope(z.detach())[1] > 0.0  # a unit at rest can be moved


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities_are_safe_far_out(name, dtype):
    r, z = NONLINEARITIES[name], np.linspace(-1000.0, 1000.0, 8001).astype(dtype)
    epsilon = float(np.finfo(dtype).eps)
    for function in (r, r.slope, r.curvature):
        found, wide = function(z), function(z.astype(np.float64))
        assert found.dtype == dtype
        assert found == pytest.approx(wide, rel=4 * epsilon, abs=2 * epsilon)
    assert (np.diff(r(z)) >= 0.0).all()


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities_know_their_bounds(name):
    r, z = NONLINEARITIES[name], np.linspace(-40.0, 40.0, 80001)
    for bound, found in ((r.highest, r(z)), (r.steepest, r.slope(z)), (r.sharpest, r.curvature(z))):
        if math.isfinite(bound):  # the least one: approached on a mesh of 1e-3 to second order
            assert bound * (1.0 - 1e-6) <= np.abs(found).max() <= bound
    assert math.isinf(r.highest) == (np.abs(r(z)).max() > 10.0)
    assert math.isinf(r.sharpest) == (name in ("ReLU", "Hard"))


def test_nonlinearities_keep_their_codes():
    assert [r.code for r in NONLINEARITIES.values()] == [0, 1, 2, 3, 4, 5]


def test_logistic_and_softplus_are_what_their_names_say():
    z = np.linspace(-30.0, 30.0, 601)
    assert Logistic()(z) == pytest.approx(1.0 / (1.0 + np.exp(-z)), abs=4e-16)
    assert Softplus()(z) == pytest.approx(np.log1p(np.exp(z)), rel=1e-14)


@pytest.mark.parametrize("coupling", ["reciprocal", "layered, reciprocal", "convolutional, reciprocal"])
def test_a_reciprocal_leaky_network_descends_on_its_energy_through_its_metric(coupling):
    # E = -1/2 r^T W r - r^T (U x + b) + sum_i int^z_i s r'(s) ds, the integral being z tanh z - log cosh z
    network, numbers = LeakyNetwork(units=6, inputs=2, coupling=COUPLINGS[coupling]), np.random.default_rng(0)
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in network.shapes().items()})
    z, x = numbers.standard_normal((3, 6)), numbers.standard_normal((3, 2))

    def energy(z, theta):
        r, W = np.tanh(z), network.coupling.matrix(theta["W"])
        storage = z * r - np.log(np.cosh(z))
        return float(np.sum(storage - r * (r @ W.T / 2.0 + network.drive(x, theta))))

    gradient = finite_differences(lambda at: energy(at["z"], theta), Parameters({"z": z}), step=H)["z"]
    assert network.field(z, x, theta) == pytest.approx(-gradient / network.metric(z, theta), rel=1e-7, abs=1e-7)
    expected = finite_differences(lambda at: energy(z, at), theta, step=0.1)  # E is linear in its parameters
    for name, block in network.energy_credit(z, x, theta).items():
        assert block == pytest.approx(expected[name], rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("nonlinearity", [ReLU(), Hard()])
def test_a_network_of_flat_units_has_no_metric(nonlinearity):
    network = LeakyNetwork.symmetric(4, 2, nonlinearity)
    theta, z = network.initial(0, gain=1.0, input_gain=1.0), np.ones((1, 4))
    assert not network.reciprocal
    assert network.metric(z, theta) is None
    assert network.energy_credit(z, np.ones((1, 2)), theta) is None


def test_the_linear_part_is_the_leak_or_all_of_a_linear_network():
    theta = LeakyNetwork.dense(3, 2).initial(0, gain=1.0, input_gain=1.0)
    assert np.array_equal(LeakyNetwork.dense(3, 2).linear_part(theta), -np.ones(3))
    linear = LeakyNetwork.dense(3, 2, Identity())
    assert np.array_equal(linear.linear_part(theta), linear.jacobian(np.zeros((1, 3)), np.zeros((1, 2)), theta)[0])


def test_unshared_parameters_are_those_of_both_directions():
    network = LeakyNetwork.symmetric(3, 2)
    theta = network.initial(0, gain=1.0, input_gain=1.0) | {"readout.V": np.ones(2)}
    apart = network.unshared()
    assert apart == LeakyNetwork.dense(3, 2)
    assert apart.unshared() is apart
    there = network.unshare(theta)
    assert there["W"][0, 1] == there["W"][1, 0] == (theta["W"][0, 1] + theta["W"][1, 0]) / 2.0
    assert np.array_equal(there["readout.V"], np.ones(2))


def test_sizes_that_make_no_network():
    with pytest.raises(InputError, match=r"units >= 1 and inputs >= 1; found 0 and 3"):
        LeakyNetwork.dense(0, 3)
    with pytest.raises(InputError, match=r"4 units need a coupling between 4; found Dense\(units=5\)"):
        LeakyNetwork(units=4, inputs=3, coupling=Dense(5))
