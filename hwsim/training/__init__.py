"""Training: optimiser, loop, constraints and checkpoints."""

from .checkpoint import load_state, save_state
from .constraints import MonotoneDEQ, RowBound, SpectralBound, SymmetricBound
from .optimiser import Adam, AdamState
from .trainer import Trainer, TrainingState
from .writing import OpenLoopPulses, Reprogram, Writer

__all__ = [
    "Adam",
    "AdamState",
    "MonotoneDEQ",
    "OpenLoopPulses",
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
