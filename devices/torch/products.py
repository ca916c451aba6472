"""Products with a coupling matrix that stays where it is."""

from __future__ import annotations

from typing import final

import torch

from .precision import Products

__all__ = ["Product", "Products"]


@final
class Product:
    """`W r` and `W^T a` for many lanes.

    Args:
        units: N.
        dtype, device: of what goes in and comes out.
        products: of the factors.
    """

    def __init__(self, units: int, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        self._rounded = products is Products.BF16
        self._dtype, self._device = dtype, device
        self._weights = torch.zeros((units, units), dtype=torch.bfloat16 if self._rounded else dtype, device=device)
        self._rooms: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def load(self, matrix: torch.Tensor) -> None:
        """Take up W."""
        self._weights.copy_(matrix)

    def apply(self, rates: torch.Tensor, plus: torch.Tensor | None, out: torch.Tensor) -> None:
        """`W r + plus` for every lane."""
        self._times(rates, self._weights.T, plus, out)

    def back(self, signal: torch.Tensor, plus: torch.Tensor | None, out: torch.Tensor) -> None:
        """`W^T a + plus` for every lane."""
        self._times(signal, self._weights, plus, out)

    def _times(self, left: torch.Tensor, right: torch.Tensor, plus: torch.Tensor | None, out: torch.Tensor) -> None:
        if not self._rounded:
            if plus is None:
                torch.mm(left, right, out=out)
            else:
                torch.addmm(plus, left, right, out=out)
            return
        factor, product = self._room(len(left))
        factor.copy_(left)
        torch.mm(factor, right, out=product)
        out.copy_(product)
        if plus is not None:
            out.add_(plus)

    def _room(self, lanes: int) -> tuple[torch.Tensor, torch.Tensor]:
        if lanes not in self._rooms:
            shape = (lanes, len(self._weights))
            factor, product = (torch.zeros(shape, dtype=torch.bfloat16, device=self._device) for _ in range(2))
            self._rooms[lanes] = factor, product
        return self._rooms[lanes]
