"""`python -m benchmarks.precision`: what the precision of an engine does to z_T and to gradients. A minute.

A leaky tanh network without noise, T = 150 steps from rest, B = 16 lanes, against float64 step by step: the largest
difference of z_T over its largest entry, and 1 - cosine of the gradients of EP (Corrected, nudge 1) and finite-horizon
EP. TF32 takes effect on a GPU only; here its rounding of both factors to 10 bits after the leading one is imitated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hwsim import LeakyNetwork, NoisePath, SimulatedDevice
from hwsim.contracts.parameters import cosine
from hwsim.contracts.rule import settle_free
from hwsim.devices import Engine, Fused, Products, Stepwise, TorchEngine
from hwsim.devices.torch import fields
from hwsim.learning_rules import EquilibriumPropagation, FiniteHorizonEP
from hwsim.testing import RandomClasses

from .figures import Sheet

UNITS, LANES, STEPS, SEED = (64, 256, 1024), 16, 150, 0
TF32 = "TF32, imitated"
RULES = {"EP": EquilibriumPropagation(), "finite-horizon EP": FiniteHorizonEP()}


def to_tf32(values: torch.Tensor) -> torch.Tensor:
    """float32 numbers rounded to 10 bits after the leading one, to the nearest, ties to even."""
    bits = values.view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class Imitated:
    """`hwsim.devices.torch.products.Product` with factors rounded to TF32 and sums in float32."""

    def __init__(self, units: int, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        self._weights = torch.zeros((units, units), dtype=dtype)

    def load(self, matrix: torch.Tensor) -> None:
        """Take up W."""
        self._weights = to_tf32(matrix.contiguous())

    def apply(self, rates: torch.Tensor, plus: torch.Tensor | None, out: torch.Tensor) -> None:
        """`W r + plus`."""
        out.copy_(to_tf32(rates.contiguous()) @ self._weights.T + (0.0 if plus is None else plus))

    def back(self, signal: torch.Tensor, plus: torch.Tensor | None, out: torch.Tensor) -> None:
        """`W^T a + plus`."""
        out.copy_(to_tf32(signal.contiguous()) @ self._weights + (0.0 if plus is None else plus))


@contextmanager
def imitating() -> Iterator[None]:
    """A context in which engines multiply as with TF32."""
    exact, fields.Product = fields.Product, Imitated  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        fields.Product = exact  # type: ignore[misc]


ENGINES: dict[str, tuple[type[np.floating[Any]], Callable[[], Engine]]] = {
    "float64, kernels": (np.float64, Fused),
    "float64, torch": (np.float64, TorchEngine),
    "float32, kernels": (np.float32, Fused),
    "float32, torch": (np.float32, TorchEngine),
    TF32: (np.float32, TorchEngine),
    "BF16, torch": (np.float32, lambda: TorchEngine(products=Products.BF16)),
}


def main() -> int:
    """Measure and print."""
    sheet = Sheet("Precision", "", "engine", *(f"{what}, N = {units}" for units in UNITS for what in ("z_T", *RULES)))
    cells: dict[str, list[str]] = {name: [] for name in ENGINES}
    for units in UNITS:
        judge, gradients = _run(np.float64, Stepwise(), units)
        for name, (dtype, engine) in ENGINES.items():
            with imitating() if name == TF32 else nullcontext():
                final, found = _run(dtype, engine(), units)
            cells[name].append(f"{np.abs(final - judge).max() / np.abs(judge).max():.0e}")
            cells[name] += [f"{max(0.0, 1.0 - cosine(found[rule], gradients[rule])):.0e}" for rule in RULES]
    for name, row in cells.items():
        sheet.add(name, *row)
    sheet.show(Console(width=200))
    return 0


def _run(dtype: type[np.floating[Any]], engine: Engine, units: int) -> tuple[Any, dict[str, Any]]:
    """z_T and the analog gradients of all rules, float64."""
    task = RandomClasses(units=units, inputs=16)
    network = LeakyNetwork.dense(units, 16)
    device = SimulatedDevice(network, horizon=STEPS, dtype=dtype, engine=engine)
    theta = network.initial(SEED, gain=0.8, input_gain=1.0) | task.initial_readout(SEED, 1.0)
    held, batch, noise = device.program(theta), task.training_batch(0, LANES, SEED), NoisePath(seed=SEED)
    gradients = {}
    for name, rule in RULES.items():
        free, _ = settle_free(device, batch, rule.needs, noise)
        estimate = rule.estimate(device, held, batch, task, free, noise)
        gradients[name] = estimate.gradients.analog.map(lambda block: np.asarray(block, np.float64))
    return np.asarray(free.final, np.float64), gradients


if __name__ == "__main__":
    sys.exit(main())
