"""Physics: every derivative that a substrate writes down is the derivative of its field, on any shape."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import LocalSynapses, Substrate
from hwsim.reference import finite_differences, to_torch
from hwsim.substrates import Dense, Identity, LeakyNetwork, Reciprocal, Tanh
from hwsim.substrates.coupling import outer

H = 1e-5
"""Step of the differences: their error is about H^2, rounding 1e-16 / H."""

cases = st.builds(
    dict,
    units=st.integers(1, 5),
    inputs=st.integers(1, 4),
    lanes=st.integers(1, 4),
    coupling=st.sampled_from((Dense, Reciprocal)),
    nonlinearity=st.sampled_from((Identity(), Tanh())),
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
    assert seen.energy_credit(z, x, theta) is None
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


def test_sizes_that_make_no_network():
    with pytest.raises(InputError, match=r"units >= 1 and inputs >= 1; found 0 and 3"):
        LeakyNetwork.dense(0, 3)
    with pytest.raises(InputError, match=r"4 units need couplings of shape \(4, 4\); found \(5, 5\)"):
        LeakyNetwork(units=4, inputs=3, coupling=Dense(5))
