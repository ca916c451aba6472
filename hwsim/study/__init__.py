"""The sweeps behind the verdict: one quantity varied, everything else held."""

from .horizon import Budgeted, at_horizon
from .noise import REFERENCE, NoisyEstimate, noisy_estimates
from .point import OperatingPoint
from .record import STUDIES, Row, Study, from_json, to_json
from .statistics import Spread, averaged_cosine, doublings, flat, spread, total_variance
from .sweeps import (
    Approach,
    Damping,
    Nudge,
    NudgedRun,
    Residual,
    Truncation,
    approach,
    damped,
    damping,
    nudges,
    residuals,
    truncation,
)

__all__ = [
    "REFERENCE",
    "STUDIES",
    "Approach",
    "Budgeted",
    "Damping",
    "NoisyEstimate",
    "Nudge",
    "NudgedRun",
    "OperatingPoint",
    "Residual",
    "Row",
    "Spread",
    "Study",
    "Truncation",
    "approach",
    "at_horizon",
    "averaged_cosine",
    "damped",
    "damping",
    "doublings",
    "flat",
    "from_json",
    "noisy_estimates",
    "nudges",
    "residuals",
    "spread",
    "to_json",
    "total_variance",
    "truncation",
]
