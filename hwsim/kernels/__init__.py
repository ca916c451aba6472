"""Compiled Numba kernels: arrays and integer codes in, arrays out.

Every kernel takes float32 or float64 arrays, is compiled once for each, keeps its machine code on disk and releases the
interpreter lock.  The functions exported here check what they are given, unless told `trusted`; those inside do not.
"""

from ._check import Noise
from ._product import Weights, banded_entries, banded_weights, dense_weights, no_weights, product, sparse_weights
from ._step import Motion, Trajectory
from .arrays import tanh_array
from .coupled import (
    HARD,
    IDENTITY,
    LOGISTIC,
    RATIONAL_TANH,
    RELU,
    SOFTPLUS,
    TANH,
    Coupled,
    Response,
    relax_coupled,
    relax_response,
)
from .draws import draw_normals
from .noise import fill_normals
from .oscillator import Oscillators, relax_oscillators
from .resistive import IDEAL, SHOCKLEY, Circuit, relax_circuit

__all__ = [
    "HARD",
    "IDEAL",
    "IDENTITY",
    "LOGISTIC",
    "RATIONAL_TANH",
    "RELU",
    "SHOCKLEY",
    "SOFTPLUS",
    "TANH",
    "Circuit",
    "Coupled",
    "Motion",
    "Noise",
    "Oscillators",
    "Response",
    "Trajectory",
    "Weights",
    "banded_entries",
    "banded_weights",
    "dense_weights",
    "draw_normals",
    "fill_normals",
    "no_weights",
    "product",
    "relax_circuit",
    "relax_coupled",
    "relax_oscillators",
    "relax_response",
    "sparse_weights",
    "tanh_array",
]
