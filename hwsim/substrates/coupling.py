"""Couplings between units: how a parameter block becomes a matrix, and how credit flows back into the block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace


class Coupling(ABC):
    """A linear map between units that one parameter block programs."""

    reciprocal: ClassVar[bool]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter block."""

    @abstractmethod
    def matrix(self, block: Array) -> Float[Array, "N N"]:
        """The dense matrix W that the block programs (what a fused kernel multiplies by)."""

    @abstractmethod
    def apply(self, block: Array, rates: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        """`W r` for every lane."""

    @abstractmethod
    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        """`W^T a` for every lane."""

    @abstractmethod
    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        """`d(post . W pre)/d block`, summed over leading axes and batch ([B, ...] with `per_sample`)."""


@final
@dataclass(frozen=True)
class Dense(Coupling):
    """Every unit drives every unit through its own coupling: `W = block`, [N, N], in general `W != W^T`.

    Credit of `W_ij` is `post_i pre_j`. Cost of `apply`: B N^2 multiply-adds.
    """

    units: int
    reciprocal: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.units, self.units)

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        return block

    def apply(self, block: Array, rates: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
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
    reciprocal: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.units, self.units)

    def matrix(self, block: Array) -> Float[Array, "N N"]:
        return (block + block.T) / 2.0

    def apply(self, block: Array, rates: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        return rates @ self.matrix(block)

    def apply_transpose(self, block: Array, signal: Float[Array, "*T B N"]) -> Float[Array, "*T B N"]:
        return signal @ self.matrix(block)

    def credit(self, post: Float[Array, "*T B N"], pre: Float[Array, "*T B N"], *, per_sample: bool) -> Array:
        full = outer(post, pre, per_sample=per_sample)
        return (full + full.mT) / 2.0


def outer(post: Float[Array, "*T B N"], pre: Float[Array, "*T B K"], *, per_sample: bool) -> Array:
    """`sum post_i pre_j` over leading axes and batch: [N, K], or [B, N, K] with `per_sample`."""
    xp = namespace(post, pre)
    if per_sample:
        lanes = post.shape[-2]
        posts = xp.reshape(post, (-1, lanes, post.shape[-1]))
        pres = xp.reshape(pre, (-1, lanes, pre.shape[-1]))
        return xp.permute_dims(posts, (1, 2, 0)) @ xp.permute_dims(pres, (1, 0, 2))
    return xp.reshape(post, (-1, post.shape[-1])).T @ xp.reshape(pre, (-1, pre.shape[-1]))
