"""Arrays of any engine: NumPy or torch, reached through the array-API standard.

Shapes are written as jaxtyping annotations. The letters used everywhere: B batch (lanes), N units, M inputs,
K recorded states or phases, P parameters.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

from array_api_compat import array_namespace

Array: TypeAlias = Any
"""A NumPy array or a torch tensor; the contracts never name the engine, so that they never import it."""


def namespace(*arrays: Array) -> ModuleType:
    """The array-API namespace of `arrays`, so that one formula serves NumPy and torch.

    Raises TypeError where arrays of two engines are mixed.
    """
    module: ModuleType = array_namespace(*arrays)
    return module
