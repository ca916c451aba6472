"""Arrays of any engine: NumPy or torch, reached through the array-API standard.

Shapes are written as jaxtyping annotations. The letters used everywhere: B batch (lanes), N units, M inputs,
K recorded states or phases, P parameters.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace

Array: TypeAlias = Any
"""A NumPy array or a torch tensor; the contracts never name the engine, so that they never import it."""


def namespace(*arrays: Array) -> ModuleType:
    """The array-API namespace of `arrays`, so that one formula serves NumPy and torch.

    Raises TypeError where arrays of two engines are mixed.
    """
    module: ModuleType = array_namespace(*arrays)
    return module


def all_finite(array: Array) -> bool:
    """Whether every entry is finite. Cost: one sum; where that is not finite, a closer look."""
    xp = namespace(array)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(xp.sum(array))
    return math.isfinite(total) or bool(xp.all(xp.isfinite(array)))


def host(array: Array) -> np.ndarray:
    """An array of any engine in NumPy, copied where it is not in the memory of this machine."""
    if isinstance(array, np.ndarray) or not hasattr(array, "detach"):  # a tensor, which this room does not know by name
        return np.asarray(array)
    found: np.ndarray = array.detach().cpu().numpy()
    return found
