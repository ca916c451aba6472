"""Couplings between units: how a parameter block becomes a matrix, and how credit flows back into the block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Inexact, Integer

from hwsim.contracts.arrays import Array, namespace


class Coupling(ABC):
    """A linear map W between units that one parameter block programs, linearly. Hashable, a value.

    Where one parameter serves several places of W (both directions of a pair, all places of a kernel), `unshared()` is
    the coupling that has one for each place; `unshare` copies parameters there, and `share`, its adjoint, sums
    gradients back.
    """

    units: int

    @property
    @abstractmethod
    def reciprocal(self) -> bool:
        """Whether `W = W^T` whatever is programmed."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter block."""

    @property
    @abstractmethod
    def fan_in(self) -> float | Float[Array, "*shape"]:
        """Inputs of a unit through this coupling: their mean, or a number for each parameter."""

    @abstractmethod
    def matrix(self, block: Array) -> Float[Array, "N N"]:
        """The dense matrix W that the block programs (what a fused kernel multiplies by), differentiable in torch."""

    def diagonal(self, block: Array) -> Float[Array, " N"]:
        """`W_ii`, the coupling of every unit with itself."""
        return namespace(block).linalg.diagonal(self.matrix(block))

    def entries(
        self, block: Array
    ) -> tuple[Integer[np.ndarray, " E"], Integer[np.ndarray, " E"], Float[Array, " E"]] | None:
        """(post, pre, value) of every entry of W that is not empty; None where W is not known to have empty ones."""
        return None

    @abstractmethod
    def apply(self, block: Array, rates: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        """`W r` for every lane."""

    @abstractmethod
    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        """`W^T a` for every lane."""

    @abstractmethod
    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        """`d(post . W pre)/d block`, summed over leading axes and batch ([B, ...] with `per_sample`)."""

    def unshared(self) -> Coupling:
        """The coupling with one parameter for each direction and place; self if nothing is shared."""
        return self

    def unshare(self, block: Array) -> Array:
        """The block of `unshared()` that programs the same W."""
        return block

    def share(self, gradient: Array) -> Array:
        """The adjoint of `unshare`: a gradient for `unshared()` ([...] or [B, ...]) as one for this block."""
        return gradient


@final
@dataclass(frozen=True)
class Dense(Coupling):
    """Every unit drives every unit through its own coupling: `W = block`, [N, N], in general `W != W^T`.

    Credit of `W_ij` is `post_i pre_j`. Cost of `apply`: B N^2 multiply-adds.
    """

    units: int

    @property
    def reciprocal(self) -> bool:
        return False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.units, self.units)

    @property
    def fan_in(self) -> float:
        return self.units

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        return block

    def apply(self, block: Array, rates: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        return rates @ block.T

    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        return signal @ block

    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        return outer(post, pre, per_sample=per_sample)


@final
@dataclass(frozen=True)
class Reciprocal(Coupling):
    """One conductance per pair: `W = (block + block^T) / 2`, so `W = W^T` whatever is programmed.

    Credit is the symmetric part of `post pre^T`, which is the exact gradient with respect to the block.
    """

    units: int

    @property
    def reciprocal(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.units, self.units)

    @property
    def fan_in(self) -> float:
        return self.units

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        return (block + block.T) / 2.0

    def diagonal(self, block: Array) -> Float[Array, " N"]:
        return namespace(block).linalg.diagonal(block)

    def apply(self, block: Array, rates: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        return rates @ self.matrix(block)

    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        return signal @ self.matrix(block)

    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        return self.share(outer(post, pre, per_sample=per_sample))

    def unshared(self) -> Coupling:
        return Dense(self.units)

    def unshare(self, block: Array) -> Array:
        return self.matrix(block)

    def share(self, gradient: Array) -> Array:
        return (gradient + gradient.mT) / 2.0


def outer(post: Float[Array, "*T B N"], pre: Float[Array, "*T B K"], *, per_sample: bool) -> Array:
    """`sum post_i pre_j` over leading axes and batch: [N, K], or [B, N, K] with `per_sample`."""
    xp = namespace(post, pre)
    if per_sample:
        lanes = post.shape[-2]
        posts = xp.reshape(post, (-1, lanes, post.shape[-1]))
        pres = xp.reshape(pre, (-1, lanes, pre.shape[-1]))
        return xp.permute_dims(posts, (1, 2, 0)) @ xp.permute_dims(pres, (1, 0, 2))
    return xp.reshape(post, (-1, post.shape[-1])).T @ xp.reshape(pre, (-1, pre.shape[-1]))


def flat(blocks: Array, axes: int) -> Array:
    """The last `axes` axes as one."""
    return namespace(blocks).reshape(blocks, (*blocks.shape[:-axes], -1))
