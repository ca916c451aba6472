"""Training: optimiser, loop, constraints and checkpoints."""

from .checkpoint import load_state, save_state
from .clipped import ClippedReprogram
from .constraints import MonotoneDEQ, RowBound, SpectralBound, SymmetricBound
from .optimiser import SGD, Adam, AdamState, Optimiser
from .placed import Placed
from .trainer import Trainer, TrainingState
from .writing import OpenLoopPulses, Reprogram, Writer

__all__ = [
    "SGD",
    "Adam",
    "AdamState",
    "ClippedReprogram",
    "MonotoneDEQ",
    "OpenLoopPulses",
    "Optimiser",
    "Placed",
    "Reprogram",
    "RowBound",
    "SpectralBound",
    "SymmetricBound",
    "Trainer",
    "TrainingState",
    "Writer",
    "load_state",
    "save_state",
]
