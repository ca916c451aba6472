"""Any field that can be written as a function: the derivatives come from torch, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate

if TYPE_CHECKING:
    import torch

Function: TypeAlias = Callable[[Array, Array, Parameters], Array]
"""(z [..., B, N], x [B, M], theta) -> an array, in array-API style."""


@final
@dataclass(frozen=True, kw_only=True)
class FieldSubstrate(Substrate):
    """`F(z, x; theta) = function(z, x, theta)`, a field of the user's own.

    `field` calls the function with whatever arrays it is given. All else is automatic differentiation of one evaluation
    in torch, without unrolling: `cotangent` and `credit` are vector-Jacobian products, `tangent` one of them twice.
    NumPy arrays come back as NumPy arrays, tensors as tensors (and then the graph of parameters is kept); all arrays
    are taken in the precision of the state.

    The function must run on NumPy arrays and torch tensors alike (`xp = namespace(z)`), take states with leading axes,
    treat lanes alike and apart, and not branch on values. No influence is offered: what an arbitrary field does with a
    parameter need not factor.

    Args:
        function: F.
        units: N.
        inputs: M.
        blocks: shape of every parameter block.
        limits: block -> (lowest, highest) value that makes sense; a missing block is unbounded.
        metric_function: (z, theta) -> S [B, N] where the field is reciprocal, `J^T = S J S^-1`, S > 0.
        energy_function: (z, x, theta) -> E [..., B] where `F = -S^-1 dE/dz`.
        physical_scale: what one state unit, coupling unit and time constant are worth, where F is in volts.
        analytic: whether the function also takes complex NumPy states and is analytic in them: no abs, clip, where,
            comparison or conjugate of the state.

    Raises:
        InputError: sizes that are not positive, limits of a block that is not there, or an energy without a metric.

    Cost: `cotangent` and `credit` about 3 evaluations of F, `tangent` about 6; with `per_sample` these for each lane.
    """

    function: Function
    units: int
    inputs: int
    blocks: Mapping[str, tuple[int, ...]]
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    metric_function: Callable[[Array, Parameters], Array] | None = None
    energy_function: Function | None = None
    physical_scale: Scale | None = None
    analytic: bool = False

    def __post_init__(self) -> None:
        if self.units < 1 or self.inputs < 1:
            raise InputError(f"a field needs units >= 1 and inputs >= 1; found {self.units} and {self.inputs}")
        if unknown := self.limits.keys() - self.blocks.keys():
            raise InputError(f"limits name the blocks {sorted(unknown)}; the field has {sorted(self.blocks)}")
        if self.energy_function is not None and self.metric_function is None:
            raise InputError("an energy needs metric_function, the S of F = -S^-1 dE/dz (ones where F = -dE/dz)")

    @property
    def reciprocal(self) -> bool:
        return self.metric_function is not None

    @property
    def unfactored(self) -> frozenset[str]:
        return frozenset(self.shapes())

    @property
    def holomorphic(self) -> bool:
        return self.analytic

    @property
    def scale(self) -> Scale | None:
        return self.physical_scale

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.blocks

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        return self.limits

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        return self.function(z, x, theta.analog)

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        (there, around), inputs, held = _tensors((v, namespace(z).broadcast_to(z, v.shape)), x, theta)
        back = _pull_back(lambda state: self.function(state, inputs, held), around)
        forth = _pull_back(back, there)  # J^T is linear, and J its transpose
        return _as_given(forth(there), z)

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        (there, around), inputs, held = _tensors((a, namespace(z).broadcast_to(z, a.shape)), x, theta)
        back = _pull_back(lambda state: self.function(state, inputs, held), around)
        return _as_given(back(there), z)

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        (there, around), inputs, held = _tensors((post, z), x, theta)

        def credit(lanes: slice) -> Parameters:
            back = _pull_back(
                lambda blocks: self.function(around[..., lanes, :], inputs[lanes], Parameters(blocks)), dict(held)
            )
            return Parameters(back(there[..., lanes, :]))

        if not per_sample:
            return credit(slice(None)).map(lambda block: _as_given(block, z))
        each = [credit(slice(lane, lane + 1)) for lane in range(x.shape[0])]
        xp = namespace(around)
        return Parameters({name: _as_given(xp.stack([one[name] for one in each]), z) for name in held})

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        return {}

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        if self.energy_function is None:
            return None
        from torch.func import grad

        energy, ((around,), inputs, held) = self.energy_function, _tensors((z,), x, theta)
        found = grad(lambda blocks: energy(around, inputs, Parameters(blocks)).sum())(dict(held))
        return Parameters(found).map(lambda block: _as_given(block, z))

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return None if self.metric_function is None else self.metric_function(z, theta.analog)


def _pull_back(function: Callable[[Any], torch.Tensor], at: Any) -> Callable[[torch.Tensor], Any]:
    """`a -> a^T d function(at)`, itself differentiable."""
    from torch.func import vjp

    back = vjp(function, at)[1]
    return lambda signal: back(signal)[0]


def _tensors(
    states: tuple[Array, ...], x: Array, theta: Parameters
) -> tuple[list[torch.Tensor], torch.Tensor, Parameters]:
    """States, inputs and analog blocks as tensors in the precision and place of the states."""
    import torch

    like = states[-1] if isinstance(states[-1], torch.Tensor) else torch.from_numpy(np.array(states[-1]))

    def tensor(array: Array) -> torch.Tensor:
        found = array if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array))
        return found.to(dtype=like.dtype, device=like.device)

    return [tensor(state) for state in states], tensor(x), theta.analog.map(tensor)


def _as_given(found: torch.Tensor, like: Array) -> Any:
    return found.detach().numpy() if isinstance(like, np.ndarray) else found
