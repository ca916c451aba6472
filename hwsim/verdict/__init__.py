"""The verdict: which learning methods survive a finite settling time, and why."""

from .decision import Decision, conclude, decide, headline, remedies, survivors
from .document import from_json, sweep_from_json, sweep_to_json, to_json
from .evaluation import Evaluator
from .record import METHODS, Condition, MethodRun, Metrics, Sweep, UpdateCost, Verdict, methods_of
from .run import run_method

__all__ = [
    "METHODS",
    "Condition",
    "Decision",
    "Evaluator",
    "MethodRun",
    "Metrics",
    "Sweep",
    "UpdateCost",
    "Verdict",
    "conclude",
    "decide",
    "from_json",
    "headline",
    "methods_of",
    "remedies",
    "run_method",
    "survivors",
    "sweep_from_json",
    "sweep_to_json",
    "to_json",
]
