"""The verdict: which learning methods survive a finite settling time, and why."""

from .decision import Decision, conclude, decide, headline, remedies, survivors
from .evaluation import Evaluator
from .record import METHODS, MethodRun, Metrics, Verdict, from_json, to_json
from .run import run_method

__all__ = [
    "METHODS",
    "Decision",
    "Evaluator",
    "MethodRun",
    "Metrics",
    "Verdict",
    "conclude",
    "decide",
    "from_json",
    "headline",
    "remedies",
    "run_method",
    "survivors",
    "to_json",
]
