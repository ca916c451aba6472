"""Things that can be programmed and relaxed."""

from .engines import Deployment, Engine, Settled, Stepwise, Stretch
from .fused import Fused
from .imperfections import ADC, Imperfection, ThermalNoise
from .integrators import Euler, Exponential, Heun, Integrator
from .presets import (
    PRESETS,
    Preset,
    discrete_board_12bit,
    ecram_crossbar,
    ideal,
    pcm_crossbar,
    reram_crossbar,
    subthreshold_cmos,
)
from .simulated import SIMULATED, SimulatedDevice

__all__ = [
    "ADC",
    "PRESETS",
    "SIMULATED",
    "Deployment",
    "Engine",
    "Euler",
    "Exponential",
    "Fused",
    "Heun",
    "Imperfection",
    "Integrator",
    "Preset",
    "Settled",
    "SimulatedDevice",
    "Stepwise",
    "Stretch",
    "ThermalNoise",
    "discrete_board_12bit",
    "ecram_crossbar",
    "ideal",
    "pcm_crossbar",
    "reram_crossbar",
    "subthreshold_cmos",
]
