"""What is going on in a relaxation: residual, equilibrium, spectral radius, log-norm, growth of nearby trajectories."""

from .contraction import Norm, log_norm
from .equilibrium import DIRECT_LIMIT, Equilibrium, find_equilibrium, in_float64, newton, residual, solve_linearised
from .spectrum import spectral_radius
from .twins import twin_exponent

__all__ = [
    "DIRECT_LIMIT",
    "Equilibrium",
    "Norm",
    "find_equilibrium",
    "in_float64",
    "log_norm",
    "newton",
    "residual",
    "solve_linearised",
    "spectral_radius",
    "twin_exponent",
]
