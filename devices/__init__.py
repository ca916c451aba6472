"""Things that can be programmed and relaxed."""

from .engines import Engine, FusedLeaky, Stepwise
from .imperfections import Imperfection, ReadoutADC, ThermalNoise
from .simulated import SIMULATED, SimulatedDevice

__all__ = [
    "SIMULATED",
    "Engine",
    "FusedLeaky",
    "Imperfection",
    "ReadoutADC",
    "SimulatedDevice",
    "Stepwise",
    "ThermalNoise",
]
