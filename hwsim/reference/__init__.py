"""Exact gradients in float64: the judges of every rule.

`gradients` writes them out with a substrate's own derivatives, in NumPy or (a `Place`) in torch on a GPU; `autograd`
lets torch differentiate the unrolled field. Torch is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .gradients import (
    CERTIFIED,
    AdjointGradient,
    bptt_along,
    equilibrium_adjoint,
    finite_differences,
    rtrl,
    transpose_gradient,
)
from .place import Place
from .rules import BPTT, EquilibriumAdjoint
from .solves import find_equilibrium_at, solve_linearised_at

if TYPE_CHECKING:
    from .autograd import bptt, to_numpy, to_torch, unroll

__all__ = [
    "BPTT",
    "CERTIFIED",
    "AdjointGradient",
    "EquilibriumAdjoint",
    "Place",
    "bptt",
    "bptt_along",
    "equilibrium_adjoint",
    "find_equilibrium_at",
    "finite_differences",
    "rtrl",
    "solve_linearised_at",
    "to_numpy",
    "to_torch",
    "transpose_gradient",
    "unroll",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.autograd"), name)
