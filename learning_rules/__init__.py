"""Rules that hardware can run, written against the device contract alone."""

from .equilibrium import EquilibriumPropagation
from .finite_horizon import FiniteHorizonEP
from .homeostat import ContractionHomeostat
from .probes import Corrected, Form, Probe, Reciprocal, Response, Stimulus, Transposed

__all__ = [
    "ContractionHomeostat",
    "Corrected",
    "EquilibriumPropagation",
    "FiniteHorizonEP",
    "Form",
    "Probe",
    "Reciprocal",
    "Response",
    "Stimulus",
    "Transposed",
]
