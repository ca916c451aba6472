"""Couplings: whatever the pattern, one matrix; its transpose, its gradient and its unshared form belong to it."""

from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.substrates import Convolutional, Dense, Layered, Masked, Reciprocal, sparse


@st.composite
def cases(draw):
    """(class or constructor, arguments) of any coupling of up to some 30 units. Built in the test, not in here."""
    reciprocal = draw(st.booleans())
    small = st.integers(1, 4)
    kind = draw(st.sampled_from(("full", "layered", "masked", "grid", "convolutional")))
    if kind == "full":
        return (Reciprocal if reciprocal else Dense), (draw(small),)
    if kind == "layered":
        return Layered, (tuple(draw(st.lists(small, min_size=2, max_size=4))), reciprocal)
    if kind == "grid":
        return partial(Masked.grid, reciprocal=reciprocal), (draw(small), draw(small), draw(st.integers(0, 2)))
    if kind == "convolutional":
        size = draw(st.sampled_from((1, 3, 5)))
        return Convolutional, (draw(st.integers(1, 2)), draw(small), draw(small), size, reciprocal)
    units = draw(small)
    places = st.tuples(st.integers(0, units - 1), st.integers(0, units - 1))
    once = (lambda pair: tuple(sorted(pair))) if reciprocal else (lambda pair: pair)
    return Masked, (units, tuple(draw(st.lists(places, min_size=1, max_size=9, unique_by=once))), reciprocal)


def build(case):
    make, arguments = case
    return make(*arguments)


seeds = st.integers(0, 2**32 - 1)


def numbers(seed, *shapes):
    draw = np.random.default_rng(seed)
    return [draw.standard_normal(shape) for shape in shapes]


@given(case=cases(), seed=seeds)
def test_apply_and_its_transpose_are_one_matrix(case, seed):
    coupling = build(case)
    block, r = numbers(seed, coupling.shape, (2, 3, coupling.units))
    W = coupling.matrix(block)
    assert coupling.apply(block, r) == pytest.approx(r @ W.T, abs=1e-13)
    assert coupling.apply_transpose(block, r) == pytest.approx(r @ W, abs=1e-13)
    assert np.array_equal(coupling.diagonal(block), np.diag(W))
    if coupling.reciprocal:
        assert np.array_equal(W, W.T)
    single = coupling.matrix(block.astype(np.float32))
    assert single.dtype == np.float32
    assert single == pytest.approx(W, abs=1e-6)


@given(case=cases(), seed=seeds)
def test_credit_is_the_gradient_of_the_matrix(case, seed):
    coupling = build(case)
    block, post, pre = numbers(seed, coupling.shape, *2 * [(2, 3, coupling.units)])
    there = torch.tensor(block, requires_grad=True)
    each = coupling.credit(post, pre, per_sample=True)
    for lane in range(3):
        outer = torch.tensor(post[:, lane].T @ pre[:, lane])
        (expected,) = torch.autograd.grad((outer * coupling.matrix(there)).sum(), there)
        assert each[lane] == pytest.approx(expected.numpy(), abs=1e-12)
    assert coupling.credit(post, pre, per_sample=False) == pytest.approx(each.sum(axis=0), abs=1e-12)


@given(case=cases(), seed=seeds)
def test_torch_runs_the_same_coupling(case, seed):
    coupling = build(case)
    block, post, pre = numbers(seed, coupling.shape, *2 * [(2, 3, coupling.units)])
    there = [torch.tensor(array) for array in (block, post, pre)]
    assert coupling.matrix(there[0]).numpy() == pytest.approx(coupling.matrix(block), abs=0)
    assert coupling.apply(*there[:2]).numpy() == pytest.approx(coupling.apply(block, post), abs=1e-13)
    assert coupling.apply_transpose(*there[:2]).numpy() == pytest.approx(
        coupling.apply_transpose(block, post), abs=1e-13
    )
    for per_sample in (False, True):
        found = coupling.credit(*there[1:], per_sample=per_sample)
        assert found.numpy() == pytest.approx(coupling.credit(post, pre, per_sample=per_sample), abs=1e-12)


@given(case=cases(), seed=seeds)
def test_unshared_couplings_make_the_same_matrix_and_share_is_the_adjoint(case, seed):
    coupling = build(case)
    apart = coupling.unshared()
    block, gradients = numbers(seed, coupling.shape, (4, *apart.shape))
    assert apart.unshared() is apart
    assert apart.units == coupling.units
    assert np.array_equal(apart.matrix(coupling.unshare(block)), coupling.matrix(block))
    assert (apart is coupling) == (not coupling.reciprocal and not isinstance(coupling, Convolutional))
    shared = coupling.share(gradients)
    for gradient, each in zip(gradients, shared, strict=True):
        assert coupling.share(gradient) == pytest.approx(each, abs=0)
        assert np.sum(gradient * coupling.unshare(block)) == pytest.approx(np.sum(each * block), rel=1e-12, abs=1e-12)


@given(case=cases(), seed=seeds)
def test_every_unshared_parameter_is_one_entry_of_the_matrix(case, seed):
    coupling = build(case)
    apart = coupling.unshared()
    (block,) = numbers(seed, apart.shape)
    W = apart.matrix(block)
    assert sorted(W[W != 0.0]) == sorted(block.ravel())


@given(case=cases(), seed=seeds)
def test_fan_in_counts_the_inputs_of_a_unit(case, seed):
    coupling = build(case)
    apart = coupling.unshared()
    inputs = (apart.matrix(np.ones(apart.shape)) != 0.0).sum(axis=1)
    if not isinstance(coupling, Layered):
        assert coupling.fan_in == pytest.approx(inputs.mean())
        return
    # of each coupling the mean over its two ends: what that coupling alone touches
    for k, found in enumerate(coupling.fan_in):
        ends = np.argwhere(coupling.matrix(np.eye(*coupling.shape)[k]))[0]
        assert found == inputs[ends].mean()


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("per_sample", [False, True])
def test_credit_pair_by_pair_is_what_is_picked_from_the_outer_product(monkeypatch, reciprocal, per_sample):
    """Many units: nothing of N^2 numbers is formed."""
    mask = np.random.default_rng(1).random((30, 30)) < 0.2
    coupling = Masked.of(mask | mask.T, reciprocal=reciprocal)
    post, pre = numbers(2, (3, 4, 30), (3, 4, 30))
    picked = coupling.credit(post, pre, per_sample=per_sample)
    monkeypatch.setattr(sparse, "_WHOLE", 0)
    monkeypatch.setattr(sparse, "_TOGETHER", 12 * 7)  # seven pairs at a time
    assert coupling.credit(post, pre, per_sample=per_sample) == pytest.approx(picked, rel=1e-12)


def test_pairs_may_be_an_array_that_nobody_can_change():
    pairs = np.array([[0, 1], [2, 2]])
    coupling = Masked(3, pairs)
    pairs[0] = 7
    assert coupling == Masked(3, ((0, 1), (2, 2)))
    assert coupling != Masked(3, ((0, 1), (2, 1)))
    assert not coupling.pairs.flags.writeable
    many = Masked(2000, np.stack([np.arange(2000), np.zeros(2000, int)], axis=1))
    assert repr(many) == "Masked(units=2000, pairs=<2000>, reciprocal=False)"


@given(case=cases())
def test_couplings_are_values(case):
    coupling = build(case)
    again = eval(repr(coupling))
    assert again == coupling
    assert len({again, coupling}) == 1


def test_layers_are_coupled_to_their_neighbours_only():
    sizes = (2, 3, 1)
    layer = np.repeat(np.arange(3), sizes)
    expected = abs(layer[:, None] - layer) == 1
    for reciprocal in (False, True):
        coupling = Layered(sizes, reciprocal)
        assert np.array_equal(coupling.matrix(np.ones(coupling.shape)) != 0, expected)
        assert coupling.shape == ((9,) if reciprocal else (18,))
    # the documented order: from layer 0 to layer 1 row by row; the way back as the same pairs
    W = Layered(sizes).matrix(np.arange(18.0))
    assert np.array_equal(W[2:5, :2], np.arange(6.0).reshape(3, 2))
    assert np.array_equal(W[:2, 2:5], np.arange(9.0, 15.0).reshape(3, 2).T)


def test_a_grid_is_coupled_to_its_neighbourhood():
    coupling = Masked.grid(8, 8)
    reach = coupling.matrix(np.ones(coupling.shape)) != 0
    assert sorted(set(reach.sum(axis=1))) == [4, 6, 9]  # corner, edge, middle: itself included
    assert coupling.shape == (4 * 4 + 24 * 6 + 36 * 9,)
    assert set(np.flatnonzero(reach[27])) == {18, 19, 20, 26, 27, 28, 34, 35, 36}
    assert Masked.grid(8, 8, reciprocal=True).shape == ((484 - 64) // 2 + 64,)
    assert np.array_equal(Masked.grid(3, 5, 7).matrix(np.arange(225.0)), np.arange(225.0).reshape(15, 15))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_convolution_is_that_of_torch(size):
    coupling = Convolutional(3, 4, 6, size)
    kernel, r = numbers(0, coupling.shape, (5, coupling.units))
    expected = torch.nn.functional.conv2d(
        torch.tensor(r.reshape(5, 3, 4, 6)), torch.tensor(kernel), padding="same"
    ).numpy()
    assert coupling.apply(kernel, r) == pytest.approx(expected.reshape(5, -1), abs=1e-13)


def test_a_reciprocal_convolution_acts_by_the_symmetric_part_of_its_kernel():
    free, symmetric = Convolutional(2, 3, 4), Convolutional(2, 3, 4, reciprocal=True)
    (kernel,) = numbers(0, free.shape)
    W = free.matrix(kernel)
    assert symmetric.matrix(kernel) == pytest.approx((W + W.T) / 2.0, abs=1e-15)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Layered((3,)), r"two layers or more, each of one unit or more; found \(3,\)"),
        (lambda: Layered((3, 0)), r"found \(3, 0\)"),
        (lambda: Masked(3, ()), r"at least one \(post, pre\) pair; found none"),
        (lambda: Masked(3, np.zeros((2, 3), int)), r"whole numbers \[K, 2\]; found int64 of shape \[2, 3\]"),
        (lambda: Masked(3, np.array([[0.0, 1.5]])), r"whole numbers \[K, 2\]; found float64"),
        (lambda: Masked(3, ((0, 1), (3, 2))), r"name units 0 .. 2; found 0 .. 3"),
        (lambda: Masked(3, ((0, 1), (2, 1), (0, 1))), r"each pair once; found \(0, 1\) 2 times"),
        (lambda: Masked(3, ((0, 1), (1, 0)), True), r"each pair once in either order; found \(0, 1\) 2 times"),
        (lambda: Masked.of(np.array([[0, 1], [0, 0]]) > 0, reciprocal=True), r"found a mask that is not symmetric"),
        (lambda: Convolutional(1, 4, 4, 2), r"odd kernel size; found 1, 4, 4 and size 2"),
        (lambda: Convolutional(1, 0, 4), r"1 or more"),
    ],
)
def test_couplings_that_make_no_sense(monkeypatch, make, sentence):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside tests, where no shape is checked
    with pytest.raises(InputError, match=sentence):
        make()
