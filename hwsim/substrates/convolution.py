"""Convolutional couplings: one kernel for all places of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError

from .coupling import Coupling, flat, outer
from .sparse import Masked


@final
@dataclass(frozen=True)
class Convolutional(Coupling):
    """Channels on a grid, coupled by one kernel wherever they are:

        (W r)_{o,y,x} = sum_{i,a,b} block_{o,i,a,b} r_{i, y + a - p, x + b - p},    p = (size - 1) / 2, r = 0 outside

    Unit `(c height + y) width + x` is channel c at row y and column x. Reciprocal: the kernel acts by its symmetric
    part, `(block_{o,i,a,b} + block_{i,o,size-1-a,size-1-b}) / 2`, and `W = W^T`. On a chip each place has its own
    conductance: `unshared()` lists them all.

    Args:
        channels, height, width: of the grid.
        size: of the kernel, odd.
        reciprocal: whether W is symmetric.

    Raises:
        InputError: an empty grid, or a kernel of even size.

    Cost of `apply`: B N channels size^2 multiply-adds, as one product.
    """

    channels: int
    height: int
    width: int
    size: int = 3
    reciprocal: bool = False

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1 or self.size < 1 or self.size % 2 == 0:
            raise InputError(
                "convolutional couplings need channels, height and width of 1 or more and an odd kernel size; "
                f"found {self.channels}, {self.height}, {self.width} and size {self.size}"
            )

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.channels * self.height * self.width

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.channels, self.size, self.size)

    @property
    def fan_in(self) -> float:
        return self.channels**2 * sum(self._counts) / self.units

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        xp = namespace(block)
        return self.apply_transpose(block, xp.eye(self.units, dtype=block.dtype, device=block.device))

    def apply(self, block: Array, rates: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        return self._convolved(self._kernel(block), rates)

    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        return self._convolved(_turned(self._kernel(block)), signal)

    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        xp = namespace(post)
        posts = xp.reshape(post, (-1, *post.shape[-2:-1], self.channels, self.height * self.width))
        pres = xp.reshape(self._windows(pre), (-1, *pre.shape[-2:-1], self.height * self.width, self._window))
        # places are summed over as times are, so they go in front of the batch
        posts, pres = xp.permute_dims(posts, (0, 3, 1, 2)), xp.permute_dims(pres, (0, 2, 1, 3))
        found = outer(posts, pres, per_sample=per_sample)
        kernel = xp.reshape(found, (*found.shape[:-1], self.channels, self.size, self.size))
        return _symmetric(kernel) if self.reciprocal else kernel

    def unshared(self) -> Coupling:
        return self._unshared

    def unshare(self, block: Array) -> Array:
        xp = namespace(block)
        by_shift = xp.permute_dims(self._kernel(block), (2, 3, 0, 1))
        entries = xp.reshape(by_shift, (self.size**2, self.channels**2, 1))
        return xp.concat(
            [
                xp.reshape(xp.broadcast_to(entry, (self.channels**2, count)), (-1,))
                for entry, count in zip(entries, self._counts, strict=True)
            ]
        )

    def share(self, gradient: Array) -> Array:
        xp, start, sums = namespace(gradient), 0, []
        lead = gradient.shape[:-1]
        for count in self._counts:
            part = gradient[..., start : start + self.channels**2 * count]
            sums.append(xp.sum(xp.reshape(part, (*lead, self.channels, self.channels, count)), axis=-1))
            start += self.channels**2 * count
        kernel = xp.reshape(xp.stack(sums, axis=-1), (*lead, *self.shape))
        return _symmetric(kernel) if self.reciprocal else kernel

    @property
    def _window(self) -> int:
        return self.channels * self.size**2

    @property
    def _shifts(self) -> list[tuple[int, int]]:
        """(dy, dx) from the post-synaptic place to the pre-synaptic one, in the order of the kernel."""
        reach = range(-(self.size // 2), self.size // 2 + 1)
        return [(dy, dx) for dy in reach for dx in reach]

    @property
    def _counts(self) -> list[int]:
        """For each shift, the places where both ends lie on the grid."""
        return [max(self.height - abs(dy), 0) * max(self.width - abs(dx), 0) for dy, dx in self._shifts]

    @cached_property
    def _unshared(self) -> Coupling:
        """Couplings shift by shift, in each all (out, in) channels, in each all places."""
        places = self.height * self.width
        channels = np.indices((self.channels, self.channels)).reshape(2, -1, 1) * places
        pairs = []
        for dy, dx in self._shifts:
            rows = np.arange(max(0, -dy), min(self.height, self.height - dy))
            columns = np.arange(max(0, -dx), min(self.width, self.width - dx))
            post = (rows[:, None] * self.width + columns).ravel()
            posts, pres = channels[0] + post, channels[1] + post + dy * self.width + dx
            pairs.append(np.stack([posts.ravel(), pres.ravel()], axis=1))
        return Masked(self.units, np.concatenate(pairs))

    def _kernel(self, block: Array) -> Array:
        return _symmetric(block) if self.reciprocal else block

    def _convolved(self, kernel: Array, rates: Array) -> Array:
        found = self._windows(rates) @ flat(kernel, 3).mT  # [..., B, height width, channels]
        return flat(found.mT, 2)

    def _windows(self, rates: Array) -> Array:
        """What each place sees: [..., B, height width, channels size^2]."""
        xp, lead = namespace(rates), rates.shape[:-1]
        grid = xp.reshape(rates, (*lead, self.channels, self.height, self.width))
        for axis in (-2, -1):
            edge = list(grid.shape)
            edge[axis] = self.size // 2
            nothing = xp.zeros(tuple(edge), dtype=grid.dtype, device=grid.device)
            grid = xp.concat([nothing, grid, nothing], axis=axis)
        views = [grid[..., a : a + self.height, b : b + self.width] for a in range(self.size) for b in range(self.size)]
        stacked = xp.stack(views, axis=-3)  # [..., channels, size^2, height, width]
        return xp.reshape(stacked, (*lead, self._window, self.height * self.width)).mT


def _turned(kernel: Array) -> Array:
    """The kernel of W^T: channels exchanged, both spatial axes reversed; leading axes are left alone."""
    xp, axes = namespace(kernel), len(kernel.shape)
    order = (*range(axes - 4), axes - 3, axes - 4, axes - 2, axes - 1)
    return xp.permute_dims(xp.flip(kernel, axis=(-2, -1)), order)


def _symmetric(kernel: Array) -> Array:
    return (kernel + _turned(kernel)) / 2.0
