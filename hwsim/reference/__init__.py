"""Exact gradients in float64: the judges of every rule.

`gradients` writes them out with a substrate's own derivatives, in NumPy; `autograd` lets torch differentiate the
unrolled field (torch is loaded when one of its names is first used).
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
from .rules import BPTT, EquilibriumAdjoint

if TYPE_CHECKING:
    from .autograd import bptt, to_numpy, to_torch, unroll

__all__ = [
    "BPTT",
    "CERTIFIED",
    "AdjointGradient",
    "EquilibriumAdjoint",
    "bptt",
    "bptt_along",
    "equilibrium_adjoint",
    "finite_differences",
    "rtrl",
    "to_numpy",
    "to_torch",
    "transpose_gradient",
    "unroll",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.autograd"), name)
