"""The engine on torch, on the CPU or a GPU. Nothing here loads torch before an engine runs."""

from .engine import TorchEngine
from .precision import Products

__all__ = ["Products", "TorchEngine"]
