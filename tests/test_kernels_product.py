"""Products with matrices that were laid out: the sums of their definition, in one order whatever the rows."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.kernels import banded_entries, banded_weights, dense_weights, product, sparse_weights
from hwsim.kernels._product import multiply

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EPS = {np.float32: 2.0**-24, np.float64: 2.0**-53}
ROWS = [1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 32, 41, 64]


def padded(rows, units):
    """Rows in an array as kernels keep them: whole vectors of columns and one more, all that is unused not finite."""
    whole = np.full((len(rows), (units + 15) // 16 * 16 + 16), np.nan, rows.dtype)
    whole[:, : rows.shape[1]] = rows
    return whole


def times(rows, weights, shape):
    """rows W^T through `multiply`."""
    out = padded(np.empty((len(rows), 0), rows.dtype), shape[0])
    lanes = 128 // rows.itemsize
    turned = np.full((2 * ((max(shape) + 7) // 8 * 8) if len(rows) >= 4 else 0, lanes), np.nan, rows.dtype)
    left = padded(rows, shape[1])
    left.flags.writeable = False
    multiply(left, weights, turned, out, weights.start.size > 0)
    return out[:, : shape[0]]


def sparse(draw, units, dtype, share):
    """(entries, the same as a matrix): some units without entries, some entries in a column of their own."""
    mask = draw.random((units, units)) < share
    mask[units // 2] = False
    post, pre = np.nonzero(mask)
    order = draw.permutation(len(post))
    value = draw.standard_normal(len(post)).astype(dtype)
    matrix = np.zeros((units, units), dtype)
    matrix[post[order], pre[order]] = value
    return (post[order], pre[order], value), matrix


def assert_sums(found, rows, matrix, dtype):
    """To the error of summing in any order, of the sum of sizes."""
    wide, size = rows.astype(np.float64) @ matrix.T.astype(np.float64), np.abs(rows) @ np.abs(matrix.T)
    assert (np.abs(found - wide) <= (matrix.shape[1] + 1) * EPS[dtype] * size + 1e-30).all()


@BOTH
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (16, 3), (37, 37), (64, 64), (65, 130), (20, 300), (300, 600)])
def test_dense_product_is_its_definition(dtype, shape):
    draw = np.random.default_rng(sum(shape))
    matrix = draw.standard_normal(shape).astype(dtype)
    weights = dense_weights(matrix)
    for count in ROWS:
        rows = draw.standard_normal((count, shape[1])).astype(dtype)
        assert_sums(times(rows, weights, shape), rows, matrix, dtype)
        np.testing.assert_array_equal(product(rows, weights)[:, : shape[0]], times(rows, weights, shape))


@BOTH
@pytest.mark.parametrize(("units", "share"), [(1, 1.0), (7, 0.3), (37, 0.1), (300, 0.05), (2100, 0.002), (4500, 1e-4)])
def test_sparse_product_is_its_definition(dtype, units, share):
    """Also where columns are taken in several parts."""
    draw = np.random.default_rng(units)
    entries, matrix = sparse(draw, units, dtype, share)
    weights = sparse_weights(units, *entries)
    for count in ROWS if units < 2000 else (1, 33):
        rows = draw.standard_normal((count, units)).astype(dtype)
        assert_sums(times(rows, weights, (units, units)), rows, matrix, dtype)


@st.composite
def banded(draw):
    """A matrix [N, N] of blocks, most of them empty; zeros and whole panels without an entry among them."""
    units = draw(st.integers(1, 700))
    values = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = np.zeros((units, units))
    for _ in range(draw(st.integers(0, 4))):
        top, left = values.integers(0, units, 2)
        block = matrix[top : top + values.integers(1, 80), left : left + values.integers(1, 400)]
        block[:] = values.standard_normal(block.shape) * (values.random(block.shape) < 0.9)
    return matrix


@BOTH
@given(matrix=banded(), count=st.sampled_from(ROWS), seed=st.integers(0, 99))
def test_a_banded_matrix_gives_the_bits_of_the_whole_one(dtype, matrix, count, seed):
    """What is left out are products with zero, which change no sum."""
    matrix, units = matrix.astype(dtype), len(matrix)
    rows = np.random.default_rng(seed).standard_normal((count, units)).astype(dtype)
    post, pre = np.nonzero(matrix)
    whole, weights = dense_weights(matrix), banded_weights(units, post, pre, matrix[post, pre])
    np.testing.assert_array_equal(*(times(rows, each, matrix.shape) for each in (weights, whole)))
    lanes = weights.panels.shape[2]
    assert banded_entries(units, post, pre, dtype(0).itemsize) == lanes * np.diff(weights.span, axis=1).sum()


@BOTH
@pytest.mark.parametrize("few", [False, True])
def test_a_row_has_the_same_bits_among_any_others(dtype, few):
    draw = np.random.default_rng(5)
    entries, matrix = sparse(draw, 300, dtype, 0.05)
    weights = sparse_weights(300, *entries) if few else dense_weights(matrix)
    rows = draw.standard_normal((64, 300)).astype(dtype)
    wanted = times(rows, weights, (300, 300))
    for count in ROWS:
        for first in (0, 64 - count):
            part = slice(first, first + count)
            np.testing.assert_array_equal(times(rows[part], weights, (300, 300)), wanted[part])


def test_what_is_listed_twice_adds_up():
    ends, value = np.array([1, 1, 0]), np.array([2.0, 3.0, 7.0])
    for lay_out in (sparse_weights, banded_weights):
        found = times(np.eye(3), lay_out(3, ends, np.array([2, 2, 0]), value), (3, 3))
        np.testing.assert_array_equal(found.T, [[7, 0, 0], [0, 0, 5], [0, 0, 0]])


@pytest.mark.parametrize(("post", "pre"), [([0, 3], [0, 0]), ([0, -1], [0, 0]), ([0, 0], [0, 3]), ([0], [0, 0])])
def test_places_that_do_not_exist_are_refused(post, pre):
    for lay_out in (sparse_weights, banded_weights):
        with pytest.raises(ValueError, match=r"entries of a matrix \[3, 3\] need a row and a column"):
            lay_out(3, np.array(post), np.array(pre), np.ones(2))


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit weights of 4 float64"):
        product(np.ones((2, 3)), dense_weights(np.ones((5, 4))))
