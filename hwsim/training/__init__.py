"""Training: optimiser, loop and checkpoints."""

from .checkpoint import load_state, save_state
from .optimiser import Adam, AdamState
from .trainer import Trainer, TrainingState

__all__ = ["Adam", "AdamState", "Trainer", "TrainingState", "load_state", "save_state"]
