"""The relaxation in torch, step by step, and BPTT by autograd through it: the judge of the written-out gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.task import Batch, Task


def to_torch(theta: Parameters, *, requires_grad: bool = False) -> Parameters:
    """The same blocks as float64 tensors, leaves of a graph with `requires_grad`."""
    return theta.map(lambda block: tensor(block).requires_grad_(requires_grad))


def to_numpy(theta: Mapping[str, torch.Tensor]) -> Parameters:
    """Tensors back as NumPy blocks."""
    return Parameters({name: block.detach().numpy() for name, block in theta.items()})


def tensor(array: Array) -> torch.Tensor:
    """A copy in torch: float64 for real numbers, int64 for whole ones."""
    values = np.asarray(array)
    return torch.tensor(values, dtype=torch.float64 if values.dtype.kind == "f" else torch.int64)


def unroll(
    substrate: Substrate,
    theta: Parameters,
    x: Float[torch.Tensor, "B M"],
    z0: Float[torch.Tensor, "B N"],
    *,
    step_size: float,
    steps: int,
    increments: Float[torch.Tensor, "T B N"] | None = None,
) -> Float[torch.Tensor, "T1 B N"]:
    """z_0 .. z_T of `z <- z + eps F(z, x) + increment_k` within the rails, differentiable in theta and z0.

    Args:
        substrate: the physics; its own code runs on tensors.
        theta: blocks as tensors.
        x, z0: inputs [B, M] and initial state [B, N].
        step_size: eps.
        steps: T.
        increments: [T, B, N] added after each step (a noise path, already scaled), constants of the graph.
    """
    states = [z0]
    rails = None if substrate.rails is None else tuple(tensor(rail) for rail in substrate.rails)
    for step in range(steps):
        z = states[-1] + step_size * substrate.field(states[-1], x, theta)
        z = z if increments is None else z + increments[step]
        states.append(z if rails is None else torch.clamp(z, *rails))
    return torch.stack(states)


def bptt(
    substrate: Substrate,
    theta: Parameters,
    batch: Batch,
    task: Task,
    *,
    z0: Float[Array, "B N"],
    step_size: float,
    steps: int,
    increments: Float[Array, "T B N"] | None = None,
) -> Parameters:
    """`dL/dtheta` of the deployed loss by reverse mode through the T steps (torch autograd), z_0 a constant.

    Args:
        substrate, theta, batch, task: what was run.
        z0: [B, N] initial state.
        step_size: eps.
        steps: T.
        increments: [T, B, N] noise added after each step, held fixed: the pathwise gradient.

    Source: Werbos, Proc. IEEE 78:1550 (1990). Cost: about three relaxations; memory T B N.
    """
    leaves = to_torch(theta, requires_grad=True)
    noise = None if increments is None else tensor(increments)
    states = unroll(
        substrate, leaves, tensor(batch.inputs), tensor(z0), step_size=step_size, steps=steps, increments=noise
    )
    targets = tensor(batch.targets)
    looks = [(float(w), z) for w, z in zip(task.weights(steps), states, strict=True) if w]
    loss = sum(weight * task.loss(z, targets, leaves) for weight, z in looks)
    # a block that the loss does not reach (steps = 0) has gradient zero
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return to_numpy(dict(zip(leaves, found, strict=True)))
