"""Training: optimiser, loop and checkpoints."""

from .checkpoint import load_state, save_state
from .optimiser import Adam, AdamState
from .trainer import Trainer, TrainingState
from .writing import OpenLoopPulses, Reprogram, Writer

__all__ = [
    "Adam",
    "AdamState",
    "OpenLoopPulses",
    "Reprogram",
    "Trainer",
    "TrainingState",
    "Writer",
    "load_state",
    "save_state",
]
