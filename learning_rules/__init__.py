"""Rules that hardware can run, written against the device contract alone, and those that need the nominal model.

`catalogue` has all of them by name.
"""

from .captured import CapturedFiniteHorizonEP
from .continual import ContinualEP
from .contrast import Centered, Contour, Contrast, OneSided, RandomSign
from .coupled import CoupledLearning
from .eligibility import Eligibility
from .equilibrium import EquilibriumPropagation
from .finite_horizon import FiniteHorizonEP
from .homeostat import ContractionHomeostat, ContractionHomeostatJVP
from .influence import Influence
from .influence_confined import RTRL, Blockwise, SnAp
from .influence_kronecker import KFRTRL, LowRank
from .influence_local import RFLO, EProp
from .influence_projected import UORO
from .kolen_pollack import KolenPollack
from .perturbation import NodePerturbation, RandomDirections
from .playback import AdjointPlayback
from .probes import Corrected, Form, Natural, Probe, Response, Stimulus, Transposed, VectorField
from .regularisers import JacobianRegularisation, ResidualRegulariser, SymmetryHomeostasis
from .stopping import Settling
from .transient import Decimated, LowPass, Transient, Whole

__all__ = [
    "KFRTRL",
    "RFLO",
    "RTRL",
    "UORO",
    "AdjointPlayback",
    "Blockwise",
    "CapturedFiniteHorizonEP",
    "Centered",
    "ContinualEP",
    "Contour",
    "ContractionHomeostat",
    "ContractionHomeostatJVP",
    "Contrast",
    "Corrected",
    "CoupledLearning",
    "Decimated",
    "EProp",
    "Eligibility",
    "EquilibriumPropagation",
    "FiniteHorizonEP",
    "Form",
    "Influence",
    "JacobianRegularisation",
    "KolenPollack",
    "LowPass",
    "LowRank",
    "Natural",
    "NodePerturbation",
    "OneSided",
    "Probe",
    "RandomDirections",
    "RandomSign",
    "ResidualRegulariser",
    "Response",
    "Settling",
    "SnAp",
    "Stimulus",
    "SymmetryHomeostasis",
    "Transient",
    "Transposed",
    "VectorField",
    "Whole",
]
