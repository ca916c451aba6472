"""Things that can be programmed and relaxed."""

from .engines import Deployment, Engine, Settled, Stepwise, Stretch
from .feedback import SeparateFeedback
from .fused import Fused
from .imperfections import ADC, Imperfection, ThermalNoise
from .integrators import Euler, Exponential, Heun, Integrator
from .ladder import audit_ladder
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
from .recordings import Recordings
from .simulated import SIMULATED, SimulatedDevice
from .torch import Products, TorchEngine

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
    "Products",
    "Recordings",
    "SeparateFeedback",
    "Settled",
    "SimulatedDevice",
    "Stepwise",
    "Stretch",
    "ThermalNoise",
    "TorchEngine",
    "audit_ladder",
    "discrete_board_12bit",
    "ecram_crossbar",
    "ideal",
    "pcm_crossbar",
    "reram_crossbar",
    "subthreshold_cmos",
]
