"""Named, immutable parameter blocks with arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar, final

import numpy as np

from .arrays import Array, all_finite, namespace
from .errors import InputError

READOUT = "readout."
"""Prefix of the blocks that belong to the digital head and never reach the analog hardware."""


_Self = TypeVar("_Self", bound="Parameters")


@final
class Parameters(Mapping[str, Array]):
    """Named arrays `theta = {block: array}`; also the type of gradients, of moments and of what a device read back.

    Immutable: NumPy arrays are copied once and made read-only (torch tensors are held as they are, since they may carry
    a graph). Arithmetic is per block and needs equal block names on both sides; scalars act on every block.

    Args:
        arrays: block name -> array of any shape.
        frozen: blocks that an optimiser must leave alone. Kept by arithmetic (from the left operand).

    Raises:
        InputError: a frozen name is not a block, or two operands have different blocks.
    """

    __slots__ = ("_analog", "_arrays", "frozen")

    def __init__(self, arrays: Mapping[str, Array], *, frozen: Iterable[str] = ()) -> None:
        self._arrays = {name: _read_only(array) for name, array in arrays.items()}
        self._analog: Parameters | None = None
        self.frozen = frozenset(frozen)
        if self.frozen and (unknown := self.frozen - self._arrays.keys()):
            raise InputError(f"cannot freeze {sorted(unknown)}: the blocks are {sorted(self._arrays)}")

    @classmethod
    def owning(cls: type[_Self], arrays: Mapping[str, Array], *, frozen: Iterable[str] = ()) -> _Self:
        """Parameters that take arrays over instead of copying them: for results that nobody else holds.

        NumPy arrays become read-only where they are; views of other arrays are copied all the same.
        """
        for array in arrays.values():
            if isinstance(array, np.ndarray) and array.base is None:
                array.flags.writeable = False
        return cls(arrays, frozen=frozen)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        blocks = ", ".join(f"{name}{list(array.shape)}" for name, array in self.items())
        return f"Parameters({blocks})"

    def map(self, function: Callable[[Array], Array]) -> Parameters:
        """`function` of every block; what it returns is taken over, not copied."""
        return self._taking_over({name: function(array) for name, array in self._arrays.items()})

    def zip(self, other: Parameters, function: Callable[[Array, Array], Array]) -> Parameters:
        """`function(mine, theirs)` block by block, taken over; both sides must have the same blocks."""
        if self._arrays.keys() != other._arrays.keys():
            raise InputError(f"blocks differ: {sorted(self)} against {sorted(other)}")
        theirs = other._arrays
        return self._taking_over({name: function(array, theirs[name]) for name, array in self._arrays.items()})

    def _taking_over(self, arrays: Mapping[str, Array]) -> Parameters:
        return Parameters.owning(arrays, frozen=self.frozen)

    def __add__(self, other: Parameters) -> Parameters:
        return self.zip(other, lambda a, b: a + b)

    def __sub__(self, other: Parameters) -> Parameters:
        return self.zip(other, lambda a, b: a - b)

    def __mul__(self, scale: float) -> Parameters:
        return self.map(lambda a: a * scale)

    __rmul__ = __mul__

    def __truediv__(self, scale: float) -> Parameters:
        return self.map(lambda a: a / scale)

    def __neg__(self) -> Parameters:
        return self.map(lambda a: -a)

    def __or__(self, other: Mapping[str, Array]) -> Parameters:
        """These blocks with `other`'s put over or beside them."""
        return Parameters({**self._arrays, **other}, frozen=self.frozen)

    def zeros(self) -> Parameters:
        """A zero of the same blocks and shapes."""
        return self.map(lambda a: a * 0.0)

    def freeze(self, *names: str) -> Parameters:
        """The same values with the named blocks frozen as well."""
        return Parameters(self._arrays, frozen=self.frozen | set(names))

    @property
    def analog(self) -> Parameters:
        """The blocks that the hardware holds."""
        if self._analog is None:  # asked for in every step of a rule, and always the same
            if not any(name.startswith(READOUT) for name in self._arrays):
                return self
            self._analog = self._select(lambda name: not name.startswith(READOUT))
        return self._analog

    @property
    def readout(self) -> Parameters:
        """The blocks of the digital head, under their full names."""
        return self._select(lambda name: name.startswith(READOUT))

    def _select(self, keep: Callable[[str], bool]) -> Parameters:
        kept = {name: array for name, array in self._arrays.items() if keep(name)}
        return Parameters(kept, frozen=self.frozen & kept.keys())

    def dot(self, other: Parameters) -> float:
        """Euclidean inner product over all blocks."""
        return sum((float(namespace(a).sum(a * other[name])) for name, a in self.items()), 0.0)

    def norm(self) -> float:
        """Euclidean norm over all blocks (NaN and infinity pass through)."""
        squared = sum(float(namespace(a).sum(a * a)) for a in self._arrays.values())
        return math.sqrt(squared) if squared >= 0.0 else math.nan

    def finite(self) -> bool:
        """Whether every entry of every block is finite."""
        return all(all_finite(array) for array in self._arrays.values())


def cosine(a: Parameters, b: Parameters) -> float:
    """cos of the angle between two gradients, `<a, b> / (|a| |b|)`; NaN where either is zero or not finite."""
    if not (a.finite() and b.finite()):
        return math.nan
    size = a.norm() * b.norm()
    return a.dot(b) / size if size > 0.0 else math.nan


def _read_only(array: Array) -> Array:
    if isinstance(array, np.ndarray):
        if array.base is None and not array.flags.writeable:
            return array
    elif not isinstance(array, np.generic | float | int):
        return array
    held = np.array(array, copy=True)
    held.flags.writeable = False
    return held
