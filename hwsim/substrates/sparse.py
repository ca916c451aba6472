"""Couplings between some units only: layer by layer, or pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar, final

import numpy as np
from jaxtyping import Bool, Float, Inexact, Integer

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError

from .coupling import Coupling, flat, outer

_Masked = TypeVar("_Masked", bound="Masked")
_WHOLE = 2048
"""Units up to which a credit is picked from post pre^T, all N^2 of it."""
_TOGETHER = 2**22
"""Products of a credit that are formed at once where it is not: 32 MB."""
_SHOWN = 1000
"""Pairs up to which they are shown."""


@final
@dataclass(frozen=True)
class Layered(Coupling):
    """Units in consecutive layers, each coupled to the next layer and the one before, not within.

    The block is a vector: for each pair of neighbouring layers `W_{l+1,l}` [n_{l+1}, n_l] row by row; then, unless
    reciprocal, for each pair `W_{l,l+1}^T`, of the same shape. So entry k of either half joins the same two units.
    Reciprocal: `W_{l,l+1} = W_{l+1,l}^T`, one conductance per pair of units.

    Args:
        sizes: units of every layer, two layers or more.
        reciprocal: whether the two directions share a conductance.

    Raises:
        InputError: fewer than two layers, or an empty one.

    Cost of `apply`: B times the number of couplings, as one product for each pair of layers and direction.
    """

    sizes: tuple[int, ...]
    reciprocal: bool = False

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise InputError(f"layered couplings need two layers or more, each of one unit or more; found {self.sizes}")

    @property
    def units(self) -> int:  # type: ignore[override]
        return sum(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        pairs = sum(below * above for below, above in pairwise(self.sizes))
        return (pairs if self.reciprocal else 2 * pairs,)

    @property
    def fan_in(self) -> Float[Array, "*shape"]:
        """The mean over the two units that a coupling joins."""
        around = (0, *self.sizes, 0)
        inputs = [below + above for below, above in zip(around, around[2:], strict=False)]
        means = [
            np.full(n * m, (f + g) / 2.0) for (n, m), (f, g) in zip(pairwise(self.sizes), pairwise(inputs), strict=True)
        ]
        return np.concatenate(means if self.reciprocal else means + means)

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        up, down = self._matrices(block)
        xp, starts = namespace(block), np.cumsum((0, *self.sizes)).tolist()

        def nothing(rows: int, columns: int) -> Array:
            return xp.zeros((rows, columns), dtype=block.dtype, device=block.device)

        bands = []
        for layer, size in enumerate(self.sizes):
            row = [nothing(size, starts[max(layer - 1, 0)])]
            if layer > 0:
                row.append(up[layer - 1])
            row.append(nothing(size, size))
            if layer < len(down):
                row.append(down[layer].mT)
            row.append(nothing(size, self.units - starts[min(layer + 2, len(self.sizes))]))
            bands.append(xp.concat(row, axis=1))
        return xp.concat(bands, axis=0)

    def entries(
        self, block: Array
    ) -> tuple[Integer[np.ndarray, " E"], Integer[np.ndarray, " E"], Float[Array, " E"]] | None:
        posts, pres = self._places
        return posts, pres, namespace(block).concat([block, block]) if self.reciprocal else block

    @cached_property
    def _places(self) -> tuple[Integer[np.ndarray, " E"], Integer[np.ndarray, " E"]]:
        """(post, pre) of every entry of the unshared block."""
        starts = np.cumsum((0, *self.sizes))
        places = [
            np.indices((above, below)).reshape(2, -1) + np.array([[starts[layer + 1]], [starts[layer]]])
            for layer, (below, above) in enumerate(pairwise(self.sizes))
        ]
        up = np.concatenate(places, axis=1)
        return np.concatenate([up[0], up[1]]), np.concatenate([up[1], up[0]])

    def diagonal(self, block: Array) -> Float[Array, " N"]:
        return namespace(block).zeros(self.units, dtype=block.dtype, device=block.device)

    def apply(self, block: Array, rates: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        up, down = self._matrices(block)
        return self._flow(up, down, rates)

    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        up, down = self._matrices(block)
        return self._flow(down, up, signal)

    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        posts, pres = self._layers(post), self._layers(pre)
        up = [outer(above, below, per_sample=per_sample) for above, below in zip(posts[1:], pres, strict=False)]
        down = [outer(above, below, per_sample=per_sample) for above, below in zip(pres[1:], posts, strict=False)]
        xp = namespace(post)
        both = xp.concat([flat(part, 2) for part in up + down], axis=-1)
        return self.share(both) if self.reciprocal else both

    def unshared(self) -> Coupling:
        return Layered(self.sizes) if self.reciprocal else self

    def unshare(self, block: Array) -> Array:
        return namespace(block).concat([block, block], axis=-1) if self.reciprocal else block

    def share(self, gradient: Array) -> Array:
        if not self.reciprocal:
            return gradient
        pairs = self.shape[0]
        return gradient[..., :pairs] + gradient[..., pairs:]

    def _layers(self, rates: Array) -> list[Array]:
        starts = np.cumsum((0, *self.sizes))
        return [rates[..., int(first) : int(last)] for first, last in pairwise(starts)]

    def _matrices(self, block: Array) -> tuple[list[Array], list[Array]]:
        """(W_{l+1,l}, W_{l,l+1}^T), both [n_{l+1}, n_l] for every pair of layers."""
        xp, found, start = namespace(block), [], 0
        for below, above in [*pairwise(self.sizes)] * (1 if self.reciprocal else 2):
            found.append(xp.reshape(block[start : start + below * above], (above, below)))
            start += below * above
        pairs = len(self.sizes) - 1
        return found[:pairs], found[-pairs:]

    def _flow(self, up: list[Array], down: list[Array], rates: Array) -> Array:
        layers = self._layers(rates)
        rising = [below @ weights.mT for below, weights in zip(layers, up, strict=False)]
        falling = [above @ weights for above, weights in zip(layers[1:], down, strict=True)]
        inner = [rise + fall for rise, fall in zip(rising, falling[1:], strict=False)]
        return namespace(rates).concat([falling[0], *inner, rising[-1]], axis=-1)


@final
@dataclass(frozen=True, init=False, eq=False, repr=False)
class Masked(Coupling):
    """Only the couplings that exist: `W_ij = block_k` for `pairs[k] = (i, j)`, post before pre, and 0 elsewhere.

    Reciprocal: `W_ij = W_ji = block_k`, every pair listed once in either order; a unit may be coupled to itself.
    `unshared()` then lists `pairs` followed by the same pairs turned round, those of a unit with itself left out.

    Args:
        units: N.
        pairs: (post, pre) of each of K couplings, `block` [K]: pairs of numbers, or an array [K, 2].
        reciprocal: whether the two directions share a conductance.

    Raises:
        InputError: no pairs, pairs that are none, a unit that does not exist, or a coupling that is listed twice.

    Cost of `apply`: N^2 to lay W out, then B N^2 multiply-adds. Of a settling on compiled kernels: K multiply-adds for
    each lane and step while K is below a tenth of N^2. Of `credit`: post pre^T, from which it picks, or B K
    multiply-adds where that is too large.
    """

    units: int
    pairs: Integer[np.ndarray, "K 2"]
    reciprocal: bool = False

    def __init__(
        self,
        units: int,
        pairs: Sequence[tuple[int, int]] | Integer[np.ndarray, "K 2"],
        reciprocal: bool = False,
    ) -> None:
        found = np.array(pairs)
        listed = np.empty((0, 2), np.int64) if found.size == 0 else found
        if listed.ndim != 2 or listed.shape[1] != 2 or listed.dtype.kind not in "iu":
            raise InputError(
                f"pairs are (post, pre), whole numbers [K, 2]; found {listed.dtype} of shape {list(listed.shape)}"
            )
        listed = listed.astype(np.int64)
        listed.flags.writeable = False
        for name, value in (("units", units), ("pairs", listed), ("reciprocal", reciprocal)):
            object.__setattr__(self, name, value)
        if not len(self.pairs):
            raise InputError("masked couplings need at least one (post, pre) pair; found none")
        posts, pres = self._directed
        if min(posts.min(), pres.min()) < 0 or max(posts.max(), pres.max()) >= self.units:
            raise InputError(
                f"masked couplings of {self.units} units name units 0 .. {self.units - 1}; "
                f"found {int(min(posts.min(), pres.min()))} .. {int(max(posts.max(), pres.max()))}"
            )
        places, counts = np.unique(posts * self.units + pres, return_counts=True)
        if counts.max() > 1:
            post, pre = divmod(int(places[counts.argmax()]), self.units)
            raise InputError(
                f"masked couplings list each pair once{' in either order' if self.reciprocal else ''}; "
                f"found ({post}, {pre}) {counts.max()} times"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masked):
            return NotImplemented
        same = (self.units, self.reciprocal) == (other.units, other.reciprocal)
        return same and np.array_equal(self.pairs, other.pairs)

    def __hash__(self) -> int:
        return hash((self.units, self.reciprocal, self.pairs.tobytes()))

    def __repr__(self) -> str:
        pairs = repr(tuple(map(tuple, self.pairs.tolist()))) if len(self.pairs) <= _SHOWN else f"<{len(self.pairs)}>"
        return f"Masked(units={self.units}, pairs={pairs}, reciprocal={self.reciprocal})"

    @classmethod
    def of(cls: type[_Masked], mask: Bool[np.ndarray, "N N"], *, reciprocal: bool = False) -> _Masked:
        """The couplings where a matrix [post, pre] is true, row by row (with `reciprocal`, its upper triangle).

        Raises:
            InputError: `reciprocal` with a mask that is not symmetric.
        """
        if reciprocal and not np.array_equal(mask, mask.T):
            raise InputError("reciprocal couplings exist in both directions; found a mask that is not symmetric")
        return cls(len(mask), np.argwhere(np.triu(mask) if reciprocal else mask), reciprocal)

    @classmethod
    def grid(cls: type[_Masked], height: int, width: int, radius: int = 1, *, reciprocal: bool = False) -> _Masked:
        """Units on a grid, row by row, each coupled to the (2 radius + 1)^2 around it, itself included."""
        rows, columns = np.divmod(np.arange(height * width), width)
        apart = np.maximum(abs(rows[:, None] - rows), abs(columns[:, None] - columns))
        return cls.of(apart <= radius, reciprocal=reciprocal)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.pairs),)

    @property
    def fan_in(self) -> float:
        return len(self._directed[0]) / self.units

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        entries = pick(padded(self.unshare(block)), self._places)
        return namespace(block).reshape(entries, (self.units, self.units))

    def entries(self, block: Array) -> tuple[Integer[np.ndarray, " E"], Integer[np.ndarray, " E"], Float[Array, " E"]]:
        posts, pres = self._directed
        return posts, pres, self.unshare(block)

    def diagonal(self, block: Array) -> Float[Array, " N"]:
        return pick(padded(self.unshare(block)), self._places[:: self.units + 1])

    def apply(self, block: Array, rates: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        return rates @ self.matrix(block).mT

    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        return signal @ self.matrix(block)

    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        posts, pres = self._directed
        if self.units <= _WHOLE:
            full = flat(outer(post, pre, per_sample=per_sample), 2)
            return self.share(pick(full, posts * self.units + pres))
        xp, lanes = namespace(post, pre), post.shape[-2]
        post, pre = (xp.reshape(each, (-1, lanes, self.units)) for each in (post, pre))
        axes = 0 if per_sample else (0, 1)
        some = max(1, _TOGETHER // (post.shape[0] * lanes))
        parts = [
            xp.sum(pick(post, posts[first : first + some]) * pick(pre, pres[first : first + some]), axis=axes)
            for first in range(0, len(posts), some)
        ]
        return self.share(xp.concat(parts, axis=-1))

    def unshared(self) -> Coupling:
        return self._unshared

    def unshare(self, block: Array) -> Array:
        return namespace(block).concat([block, pick(block, self._turned)]) if self.reciprocal else block

    def share(self, gradient: Array) -> Array:
        if not self.reciprocal:
            return gradient
        there = gradient[..., : len(self.pairs)]
        return there + pick(padded(gradient[..., len(self.pairs) :]), self._back)

    @cached_property
    def _turned(self) -> Integer[np.ndarray, " turned"]:
        """The pairs that have another direction."""
        return np.flatnonzero(self.pairs[:, 0] != self.pairs[:, 1])

    @cached_property
    def _back(self) -> Integer[np.ndarray, " K"]:
        """Where each pair stands among those turned round; behind the last where it has one direction only."""
        places = np.full(len(self.pairs), len(self._turned))
        places[self._turned] = np.arange(len(self._turned))
        return places

    @cached_property
    def _directed(self) -> tuple[Integer[np.ndarray, " places"], Integer[np.ndarray, " places"]]:
        """(post, pre) of every place of W that is not empty."""
        posts, pres = self.pairs.T
        if not self.reciprocal:
            return posts, pres
        return np.concatenate([posts, pres[self._turned]]), np.concatenate([pres, posts[self._turned]])

    @cached_property
    def _places(self) -> Integer[np.ndarray, " places"]:
        """For each entry of W, row by row, its parameter in the unshared block; behind the last where it has none."""
        posts, pres = self._directed
        places = np.full((self.units, self.units), len(posts))
        places[posts, pres] = np.arange(len(posts))
        return places.ravel()

    @cached_property
    def _unshared(self) -> Coupling:
        if not self.reciprocal:
            return self
        posts, pres = self._directed
        return Masked(self.units, np.stack([posts, pres], axis=1))


def padded(block: Array) -> Array:
    """With one more entry along the last axis, zero."""
    xp = namespace(block)
    zero = xp.zeros((*block.shape[:-1], 1), dtype=block.dtype, device=block.device)
    return xp.concat([block, zero], axis=-1)


def pick(block: Array, places: Integer[np.ndarray, " places"]) -> Array:
    """Entries along the last axis."""
    xp = namespace(block)
    return xp.take(block, xp.asarray(places, device=block.device), axis=-1)
