"""Physics: fields with their first derivatives, written once for NumPy and torch."""

from .chip import Chip, DrawnSubstrate
from .circuit import GROUND, Amplifier, Diode, IdealDiode, Shockley
from .convolution import Convolutional
from .coupled import Coupled, Driven
from .coupling import Coupling, Dense, Reciprocal
from .energy import EnergyNetwork
from .field import FieldSubstrate
from .langevin import LinearLangevin
from .leaky import LeakyNetwork
from .nonlinearity import Hard, Identity, Logistic, Nonlinearity, RationalTanh, ReLU, Softplus, Tanh
from .oscillator import OscillatorNetwork, order_parameter
from .resistive import ResistiveNetwork
from .sparse import Layered, Masked

__all__ = [
    "GROUND",
    "Amplifier",
    "Chip",
    "Convolutional",
    "Coupled",
    "Coupling",
    "Dense",
    "Diode",
    "DrawnSubstrate",
    "Driven",
    "EnergyNetwork",
    "FieldSubstrate",
    "Hard",
    "IdealDiode",
    "Identity",
    "Layered",
    "LeakyNetwork",
    "LinearLangevin",
    "Logistic",
    "Masked",
    "Nonlinearity",
    "OscillatorNetwork",
    "RationalTanh",
    "ReLU",
    "Reciprocal",
    "ResistiveNetwork",
    "Shockley",
    "Softplus",
    "Tanh",
    "order_parameter",
]
