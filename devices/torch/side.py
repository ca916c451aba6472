"""What a deployment makes of one direction, forwards or backwards, as tensors that stay where they are."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch

from hwsim.contracts.arrays import Array
from hwsim.devices.engines import Deployment
from hwsim.devices.integrators import Heun, Propagator

from .arrays import TYPES, TorchArrays
from .fields import FIELDS, AnyField, Field, Terms
from .products import Products


@final
class Side:
    """The field, the push and the noise of one direction.

    Args:
        deployment: what is settled.
        arrays: where.
        backwards: which direction.
        products: of the couplings.
        fused: whether `torch.compile` makes one pass of the noise.
        draws_in_torch: whether noise is drawn in torch even on the processor of this machine.
    """

    def __init__(
        self,
        deployment: Deployment,
        arrays: TorchArrays,
        *,
        backwards: bool,
        products: Products,
        fused: bool,
        draws_in_torch: bool,
    ) -> None:
        self._arrays, self._deployment, self._backwards = arrays, deployment, backwards
        self.fused, self.draws_in_torch = fused, draws_in_torch
        self.units, self.device, self.dtype = deployment.drawn.units, arrays.device, TYPES[deployment.dtype]
        self.heun = isinstance(deployment.integrator, Heun)
        physics, chip, eps = deployment.drawn.physics, deployment.drawn.chip, deployment.integrator.eps
        self._field: Field = FIELDS.get(type(physics), AnyField)(physics, self.dtype, self.device, products)
        self._any = AnyField(physics, self.dtype, self.device, products)
        forwards = not backwards
        self.offset = self._array(chip.offset[None]) if forwards and chip.offset.any() else None
        self.slew = self._array(eps * chip.slew) if forwards and np.isfinite(chip.slew).any() else None
        propagator = self._propagator(deployment)
        self.push = self._array(propagator.push)
        self.noisy = _noisy(propagator)
        self.amplitude = self._array(propagator.amplitude if self.noisy else np.zeros(self.units))

    def serves(self, deployment: Deployment) -> bool:
        """Whether another deployment fits into these tensors."""
        mine, propagator = self._deployment, self._propagator(deployment)
        amplitude = propagator.amplitude
        return (
            deployment.drawn.drawing is mine.drawn.drawing
            and deployment.drawn.chip is mine.drawn.chip
            and deployment.dtype == mine.dtype
            and deployment.integrator == mine.integrator
            and tuple(propagator.push.shape) == tuple(self.push.shape)
            and _noisy(propagator) == self.noisy
            and (not self.noisy or amplitude is None or tuple(amplitude.shape) == tuple(self.amplitude.shape))
        )

    def load(self, deployment: Deployment) -> None:
        """Take up what is programmed now."""
        self._deployment, propagator = deployment, self._propagator(deployment)
        self.push.copy_(self._array(propagator.push))
        if self.noisy:
            self.amplitude.copy_(self._array(propagator.amplitude))
        drawn = deployment.backwards if self._backwards else deployment.drawn
        real = drawn.real(deployment.theta.map(lambda block: self._arrays.array(block, deployment.dtype)))
        self._field.load(real)
        self._any.load(real)

    def terms(self, lanes: int, *, corrected: bool, played: int | None, states: torch.dtype) -> Terms:
        """See `Field.terms`; complex states go by the substrate's own code."""
        field = self._field if states == self.dtype else self._any
        return field.terms(lanes, corrected=corrected, played=played)

    def _propagator(self, deployment: Deployment) -> Propagator:
        return deployment.backward_propagator if self._backwards else deployment.propagator

    def _array(self, values: Any) -> Array:
        return self._arrays.array(values, self._deployment.dtype)


def _noisy(propagator: Propagator) -> bool:
    return propagator.amplitude is not None and bool(propagator.amplitude.any())
