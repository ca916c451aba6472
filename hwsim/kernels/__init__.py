"""Compiled Numba kernels: arrays and integer codes in, arrays out.

Every kernel takes float32 or float64 arrays, is compiled once for each, keeps its machine code on disk and releases the
interpreter lock.  The functions exported here check what they are given; those inside do not.
"""

from ._check import Noise
from ._step import Motion, Trajectory
from .coupled import (
    HARD,
    IDENTITY,
    LOGISTIC,
    RELU,
    SOFTPLUS,
    TANH,
    Coupled,
    Response,
    relax_coupled,
    relax_response,
)
from .noise import fill_normals
from .oscillator import Oscillators, relax_oscillators
from .resistive import IDEAL, SHOCKLEY, Circuit, relax_circuit

__all__ = [
    "HARD",
    "IDEAL",
    "IDENTITY",
    "LOGISTIC",
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
    "fill_normals",
    "relax_circuit",
    "relax_coupled",
    "relax_oscillators",
    "relax_response",
]
