"""Products of rows with a matrix that stays the same over a relaxation: dense, or of the entries that are not zero.

Numba's `np.dot` calls a BLAS, which may sum equal rows in different orders, and which costs more than the sums where
matrices are small.  Here a matrix is laid out once, in panels as wide as a cache line, and every entry of a product is

    fma(l_K, w_K, ... fma(l_2, w_2, l_1 w_1))

in this order, whatever the number of rows, the tile and the thread: equal rows have equal bits by construction.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from hwsim.contracts.errors import InputError

from ._check import FloatArray, IndexArray, frozen
from ._compile import kernel
from ._vector import BYTES, gather, multiplier, turn

_DEPTH = 256  # entries of a panel that meet all rows before the next ones do: 16 KB, half of a first cache
_COLUMNS = 2048  # of a sparse matrix that are done at a time: what they meet, 256 KB, stays in a second cache
_ALONE = 4  # fewer rows than this meet a sparse matrix one by one


_STARTS, _PLACES = frozen(np.empty((0, 0), np.int64)), frozen(np.empty(0, np.int32))


class Weights(NamedTuple):
    """A matrix W [N, K] laid out for `multiply`: see `dense_weights` and `sparse_weights`.

    Args:
        panels: [ceil(N / P), K, P], W^T in panels of P columns (64 bytes), the last filled up with zeros; or [0, K, P]
            where W is sparse.
        span: [ceil(N / P), 2] int64, the first row of each panel that counts and the one after the last; all others
            are zero.
        start: [parts, N + 1] int64, where the entries of each row of W begin that lie in the first 2048 columns, in the
            next, ...; [0, 0] where W is dense.
        place: [E] int32, the column of each entry.
        value: [E].
    """

    panels: FloatArray
    span: IndexArray
    start: IndexArray
    place: IndexArray
    value: FloatArray


def dense_weights(matrix: FloatArray) -> Weights:
    """A matrix [N, K], float32 or float64, laid out.  Cost: one copy."""
    rows, depth = matrix.shape
    lanes = BYTES // matrix.itemsize
    count = -(-rows // lanes)
    full = np.zeros((count * lanes, depth), matrix.dtype)
    full[:rows] = matrix
    panels = np.ascontiguousarray(full.reshape(count, lanes, depth).transpose(0, 2, 1))
    span = np.empty((count, 2), np.int64)
    span[:] = 0, depth
    return Weights(frozen(panels), frozen(span), _STARTS, _PLACES, frozen(np.empty(0, matrix.dtype)))


def banded_weights(units: int, post: IndexArray, pre: IndexArray, value: FloatArray) -> Weights:
    """The matrix of `sparse_weights` laid out as a dense one, each panel of which is multiplied from its first to its
    last row that is not empty: for couplings from layer to layer, or to neighbours.

    Raises:
        InputError: a place that does not exist.

    Cost: 4 N^2 bytes, a pass over the entries.
    """
    _check_places(units, post, pre, value)
    lanes = BYTES // value.itemsize
    span = _spans(units, post, pre, lanes)
    panels = np.zeros((len(span), units, lanes), value.dtype)
    np.add.at(panels.reshape(-1), (post // lanes * units + pre) * lanes + post % lanes, value)
    return Weights(frozen(panels), frozen(span), _STARTS, _PLACES, frozen(np.empty(0, value.dtype)))


def banded_entries(units: int, post: IndexArray, pre: IndexArray, itemsize: int) -> int:
    """How many entries `banded_weights` multiply by, those of the matrix and zeros between them."""
    lanes = BYTES // itemsize
    return lanes * int(np.diff(_spans(units, post, pre, lanes), axis=1).sum())


def _spans(units: int, post: IndexArray, pre: IndexArray, lanes: int) -> IndexArray:
    """`Weights.span`; of an empty panel one row."""
    span = np.empty((-(-units // lanes), 2), np.int64)
    span[:] = units, 0
    np.minimum.at(span[:, 0], post // lanes, pre)
    np.maximum.at(span[:, 1], post // lanes, pre + 1)
    span[span[:, 1] == 0] = 0, 1
    return span


def _check_places(units: int, post: IndexArray, pre: IndexArray, value: FloatArray) -> None:
    for side in (post, pre):
        if side.shape != value.shape or (side.size and not 0 <= side.min() <= side.max() < units):
            raise InputError(f"entries of a matrix [{units}, {units}] need a row and a column of it each")


def sparse_weights(units: int, post: IndexArray, pre: IndexArray, value: FloatArray) -> Weights:
    """The matrix [units, units] with `W[post[e], pre[e]] = value[e]`, a sum where a place comes again, 0 elsewhere.

    Raises:
        InputError: a place that does not exist.

    Cost: sorting the entries.
    """
    _check_places(units, post, pre, value)
    parts = -(-units // _COLUMNS)
    begins = pre // _COLUMNS * units + post
    order = np.lexsort((pre, begins))
    counts = np.bincount(begins, minlength=parts * units)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    start = np.stack([ends[part * units : (part + 1) * units + 1] for part in range(parts)])
    return Weights(
        panels=frozen(np.empty((0, units, BYTES // value.itemsize), value.dtype)),
        span=_STARTS,
        start=frozen(start),
        place=frozen(pre[order].astype(np.int32)),
        value=frozen(np.ascontiguousarray(value[order])),
    )


@cache
def no_weights(dtype: np.dtype[Any]) -> Weights:
    """Where there is no matrix."""
    return dense_weights(np.empty((0, 0), dtype))


def given_weights(name: str, weights: Weights, like: FloatArray, units: int, *, sparse: bool = False) -> Weights:
    """The weights, if they are of a matrix [units, units] of the type of `like`, dense or (where `sparse`) sparse.

    Raises:
        InputError: they are not.
    """
    panels, span, start, place, value = weights
    lanes = BYTES // like.itemsize
    count = 0 if len(start) else -(-units // lanes)
    fits = panels.dtype == like.dtype and panels.shape == (count, units, lanes)
    if not fits or start.shape not in ((0, 0), (-(-units // _COLUMNS), units + 1))[: 1 + sparse]:
        kinds = "dense_weights or sparse_weights" if sparse else "dense_weights"
        shape = "sparse" if len(start) else list(panels.shape)
        raise InputError(
            f"{name} must be {kinds} of a {like.dtype} matrix [{units}, {units}]; found {panels.dtype}, {shape}"
        )
    if count and (span.shape != (count, 2) or span.min() < 0 or span.max() > units):
        raise InputError(f"the spans of {name} must be [{count}, 2] from 0 to {units}; found {list(span.shape)}")
    return Weights(frozen(panels), frozen(span), frozen(start), frozen(place), frozen(value))


def product(rows: FloatArray, weights: Weights) -> FloatArray:
    """rows W^T, for rows [L, K] and dense weights [N, K] of one type: [L, N].

    Raises:
        InputError: they do not fit.
    """
    panels = weights.panels
    if rows.ndim != 2 or panels.dtype != rows.dtype or panels.shape[1] != rows.shape[1]:
        raise InputError(f"rows {list(rows.shape)} {rows.dtype} do not fit weights of {panels.shape[1]} {panels.dtype}")
    out = np.empty((len(rows), panels.shape[0] * panels.shape[2]), rows.dtype)
    if len(rows):
        multiply_dense(frozen(np.ascontiguousarray(rows)), panels, weights.span, out)
    return out


_6x1, _5x1, _4x1, _3x1, _2x1, _1x1 = (multiplier(rows, 1) for rows in (6, 5, 4, 3, 2, 1))
_2x2, _1x4 = multiplier(2, 2), multiplier(1, 4)


def wide(units: int, like: FloatArray) -> int:
    """Columns of arrays that `multiply` reads and writes: whole panels, and one more, so that rows of 2^n units do not
    all fall into the same places of a cache."""
    lanes = BYTES // like.itemsize
    return (-(-units // lanes) + 1) * lanes


def turning(rows: int, units: int, weights: Weights, like: FloatArray) -> FloatArray:
    """Scratch for products of `rows` rows or more with sparse weights, what goes in and what comes out with lanes side
    by side: [2 (units and more), 128 bytes]; else empty."""
    needed = weights.start.size > 0 and rows >= _ALONE
    return np.zeros((2 * (-(-units // 8) * 8) if needed else 0, 2 * BYTES // like.itemsize), like.dtype)


@kernel(inline=True)
def multiply(left: FloatArray, weights: Weights, turned: FloatArray, out: FloatArray, sparse: bool) -> None:
    """out = left W^T for rows [., K and more] and weights [N, K]; out has whole panels of columns, as `wide` gives.

    Where `sparse` is a constant, only the product that it asks for is compiled."""
    if sparse:
        _multiply_sparse(left, weights, turned, out)
    else:
        multiply_dense(left, weights.panels, weights.span, out)


@kernel()
def multiply_dense(left: FloatArray, right: FloatArray, span: IndexArray, out: FloatArray) -> None:
    """The same with the panels of dense weights and their spans."""
    rows, a, c = left.shape[0], left.shape[1], out.shape[1]
    panels, depth, lanes = right.shape
    b = depth * lanes
    blocks = (rows + 5) // 6  # of 6 rows or, so that none is much smaller, 5 or 4
    for k in range(0, depth, _DEPTH):
        panel = 0
        while panel < panels:
            begin, end = max(k, span[panel, 0]), min(k + _DEPTH, span[panel, 1])
            deep, fresh, some = end - begin, begin == span[panel, 0], 1
            place, there = panel * b + begin * lanes, panel * lanes
            if deep <= 0:
                pass
            elif rows == 1:
                some = _alike(span, panel, 4)
                if some == 4:
                    _1x4(left, begin, a, right, place, b, out, there, c, deep, fresh)
                else:
                    _1x1(left, begin, a, right, place, b, out, there, c, deep, fresh)
            elif rows == 2:
                some = _alike(span, panel, 2)
                if some == 2:
                    _2x2(left, begin, a, right, place, b, out, there, c, deep, fresh)
                else:
                    _2x1(left, begin, a, right, place, b, out, there, c, deep, fresh)
            else:
                first = 0
                for block in range(blocks):
                    size = (rows - first) // (blocks - block)
                    here, there = first * a + begin, first * c + panel * lanes
                    if size == 6:
                        _6x1(left, here, a, right, place, b, out, there, c, deep, fresh)
                    elif size == 5:
                        _5x1(left, here, a, right, place, b, out, there, c, deep, fresh)
                    elif size == 4:
                        _4x1(left, here, a, right, place, b, out, there, c, deep, fresh)
                    else:
                        _3x1(left, here, a, right, place, b, out, there, c, deep, fresh)
                    first += size
            panel += some


@kernel(inline=True)
def _alike(span: IndexArray, panel: int, count: int) -> int:
    """`count` if that many panels from this one on have one span, else 1."""
    alike = panel + count <= span.shape[0]
    for other in range(panel + 1, min(panel + count, span.shape[0])):
        alike &= (span[other, 0] == span[panel, 0]) & (span[other, 1] == span[panel, 1])
    return count if alike else 1


@kernel()
def _multiply_sparse(left: FloatArray, weights: Weights, turned: FloatArray, out: FloatArray) -> None:
    """Lanes stand side by side in vectors, so that an entry is one multiply-add for all of them."""
    parts, units = weights.start.shape[0], weights.start.shape[1] - 1
    if turned.shape[0] == 0:
        for row in range(out.shape[0]):
            out[row, :units] = 0
            for part in range(parts):
                for unit in range(units):
                    total = out[row, unit]
                    for entry in range(weights.start[part, unit], weights.start[part, unit + 1]):
                        total += weights.value[entry] * left[row, np.uint64(weights.place[entry])]
                    out[row, unit] = total
    else:
        lanes, sums = turned.shape[1], turned.shape[0] // 2
        for first in range(0, out.shape[0], lanes):
            count = min(lanes, out.shape[0] - first)
            whole = count // 8 * 8
            turned[sums:] = 0
            for base in range(0, units, 8):
                for lane in range(0, whole, 8):
                    turn(left, (first + lane) * left.shape[1] + base, left.shape[1], turned, base * lanes + lane, lanes)
                for unit in range(base, base + 8):
                    for lane in range(whole, count):
                        turned[unit, lane] = left[first + lane, unit]
            for part in range(parts):
                for unit in range(units):
                    begin, end = weights.start[part, unit], weights.start[part, unit + 1]
                    gather(turned, weights.place, weights.value, begin, end, (sums + unit) * lanes)
            for base in range(0, units, 8):
                for lane in range(0, whole, 8):
                    place = (first + lane) * out.shape[1] + base
                    turn(turned, (sums + base) * lanes + lane, lanes, out, place, out.shape[1])
                for lane in range(whole, count):
                    for unit in range(base, base + 8):
                        out[first + lane, unit] = turned[sums + unit, lane]
