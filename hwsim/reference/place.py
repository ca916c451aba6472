"""Where references are computed: NumPy, or torch in float64 on one of its devices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, final

import numpy as np

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch

_Place = TypeVar("_Place", bound="Place")

_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")


@final
@dataclass(frozen=True, kw_only=True)
class Place:
    """Takes NumPy to where a reference is computed, and back. Everything real is float64 there.

        Place()                 NumPy
        Place(torch="cpu")      torch on the processor: the same figures to rounding
        Place(torch="cuda:1")   torch on a GPU

    The formulas are the same everywhere (array-API style); arrays that a substrate or a task makes on its own are made
    at the place as well, inside `active()`.

    Args:
        torch: a torch device that computes in float64, "cpu", "cuda" or "cuda:0"; None for NumPy.

    Raises:
        InputError: another device, or a GPU that torch does not see.
    """

    torch: str | None = None

    def __post_init__(self) -> None:
        if self.torch is not None:
            _check(self.torch)

    @classmethod
    def named(cls: type[_Place], text: str) -> _Place:
        """What `--reference-device` means: "cpu" is NumPy, anything else a device of torch."""
        return cls() if text == "cpu" else cls(torch=text)

    @contextmanager
    def active(self) -> Iterator[None]:
        """A context in which new arrays of torch are made here unless they are told otherwise."""
        if self.torch is None:
            yield
            return
        import torch

        with torch.device(self.torch):
            yield

    def array(self, values: Array) -> Array:
        """Values here: real numbers in float64, whole ones as they are."""
        held = host(values)
        held = held.astype(np.float64, copy=False) if held.dtype.kind == "f" else held
        if self.torch is None:
            return held
        import torch

        return torch.tensor(held, device=self.torch)

    def parameters(self, theta: Parameters) -> Parameters:
        """The same blocks here."""
        return theta.map(self.array)

    def batch(self, batch: Batch) -> Batch:
        """The same samples here; their ids stay where they are."""
        return replace(batch, inputs=self.array(batch.inputs), targets=self.array(batch.targets))

    def back(self, array: Array) -> Array:
        """An array of this place in NumPy."""
        return array if self.torch is None else array.detach().cpu().numpy()

    def parameters_back(self, theta: Parameters) -> Parameters:
        """Blocks of this place in NumPy."""
        return theta.map(self.back)


def _check(device: str) -> None:
    if _DEVICE.fullmatch(device) is None:
        raise InputError(f"references run on the torch devices cpu, cuda or cuda:0 (1, 2, ...); found {device!r}")
    if device == "cpu":
        return
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    _, _, index = device.partition(":")
    if int(index or 0) < seen:
        return
    sees: Any = ", ".join(f"cuda:{k} ({torch.cuda.get_device_name(k)})" for k in range(seen))
    raise InputError(
        f"asked for references on {device}; torch {torch.__version__} sees {sees or 'no CUDA device'}: use cpu"
        f"{' or one of these' if seen else ', or a torch with CUDA on a machine with a GPU'}"
    )
