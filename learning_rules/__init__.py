"""Rules that hardware can run, written against the device contract alone."""

from .coupled import CoupledLearning
from .equilibrium import EquilibriumPropagation
from .finite_horizon import FiniteHorizonEP
from .homeostat import ContractionHomeostat
from .probes import Corrected, Form, Natural, Probe, Response, Stimulus, Transposed

__all__ = [
    "ContractionHomeostat",
    "Corrected",
    "CoupledLearning",
    "EquilibriumPropagation",
    "FiniteHorizonEP",
    "Form",
    "Natural",
    "Probe",
    "Response",
    "Stimulus",
    "Transposed",
]
