"""Tensors on one of torch's devices as the arrays of an engine."""

from __future__ import annotations

from typing import Any, final

import array_api_compat.torch as torch_namespace
import numpy as np
import torch

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Plan, Relaxation
from hwsim.devices.arrays import Arrays

TYPES: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
    np.dtype(np.complex64): torch.complex64,
    np.dtype(np.complex128): torch.complex128,
    np.dtype(bool): torch.bool,
}
"""NumPy's types and torch's."""


def numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    """NumPy's type for one of torch's."""
    return next(ours for ours, theirs in TYPES.items() if theirs == dtype)


@final
class TorchArrays(Arrays):
    """Tensors, detached from any graph. A plan of NumPy arrays is copied here and its answers back, once per plan.

    Args:
        device: where.
    """

    xp = torch_namespace

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def array(self, values: Array, dtype: np.dtype[Any]) -> Array:
        if isinstance(values, torch.Tensor):
            return values.detach().to(device=self.device, dtype=TYPES[dtype])
        return torch.tensor(np.asarray(values, dtype), device=self.device)

    def copy(self, values: Array) -> Array:
        return values.clone()

    def holds(self, parameters: Parameters) -> bool:
        return any(isinstance(block, torch.Tensor) for block in parameters.values())

    def answers(self, runs: tuple[Relaxation, ...], plan: Plan) -> tuple[Relaxation, ...]:
        return runs if isinstance(plan.inputs, torch.Tensor) else tuple(_read_back(run) for run in runs)


def _read_back(run: Relaxation) -> Relaxation:
    states = None if run.states is None else host(run.states)
    return Relaxation(final=host(run.final), states=states, residual=host(run.residual), outcome=host(run.outcome))
