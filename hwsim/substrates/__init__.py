"""Physics: fields with their first derivatives, written once for NumPy and torch."""

from .coupling import Coupling, Dense, Reciprocal
from .leaky import LeakyNetwork
from .nonlinearity import Identity, Nonlinearity, Tanh

__all__ = ["Coupling", "Dense", "Identity", "LeakyNetwork", "Nonlinearity", "Reciprocal", "Tanh"]
