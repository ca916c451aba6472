"""Simulate analog relaxation hardware, and ask whether it can learn.

    z <- z + eps F(z, x)        T steps, with noise and mismatch; what is deployed is L(z_T)

Names are imported when they are first used, so that `import hwsim` loads no numerics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hwsim.calibration import measure_noise_floor
    from hwsim.contracts.device import Capability, Device, DeviceSpec
    from hwsim.contracts.noise import PHYSICAL, NoisePath
    from hwsim.contracts.parameters import Parameters, cosine
    from hwsim.contracts.plan import At, Carry, Outcome, Phase, Plan, RandomStart, Relaxation, Rest
    from hwsim.contracts.rule import Estimate, LearningRule, settle_free
    from hwsim.contracts.substrate import Substrate
    from hwsim.contracts.task import Batch, Task
    from hwsim.devices import ReadoutADC, SimulatedDevice, ThermalNoise
    from hwsim.diagnostics import spectral_radius, twin_exponent
    from hwsim.learning_rules import (
        ContractionHomeostat,
        Corrected,
        EquilibriumPropagation,
        FiniteHorizonEP,
        Natural,
        Transposed,
    )
    from hwsim.substrates import Identity, LeakyNetwork, Tanh
    from hwsim.tasks import Digits, NextCharacter
    from hwsim.training import Adam, Trainer

_HOME = {
    "calibration": ("measure_noise_floor",),
    "contracts.device": ("Capability", "Device", "DeviceSpec"),
    "contracts.noise": ("PHYSICAL", "NoisePath"),
    "contracts.parameters": ("Parameters", "cosine"),
    "contracts.plan": ("At", "Carry", "Outcome", "Phase", "Plan", "RandomStart", "Relaxation", "Rest"),
    "contracts.rule": ("Estimate", "LearningRule", "settle_free"),
    "contracts.substrate": ("Substrate",),
    "contracts.task": ("Batch", "Task"),
    "devices": ("ReadoutADC", "SimulatedDevice", "ThermalNoise"),
    "diagnostics": ("spectral_radius", "twin_exponent"),
    "learning_rules": (
        "ContractionHomeostat",
        "Corrected",
        "EquilibriumPropagation",
        "FiniteHorizonEP",
        "Natural",
        "Transposed",
    ),
    "substrates": ("Identity", "LeakyNetwork", "Tanh"),
    "tasks": ("Digits", "NextCharacter"),
    "training": ("Adam", "Trainer"),
}
_ROOM = {name: room for room, names in _HOME.items() for name in names}

__all__ = [
    "PHYSICAL",
    "Adam",
    "At",
    "Batch",
    "Capability",
    "Carry",
    "ContractionHomeostat",
    "Corrected",
    "Device",
    "DeviceSpec",
    "Digits",
    "EquilibriumPropagation",
    "Estimate",
    "FiniteHorizonEP",
    "Identity",
    "LeakyNetwork",
    "LearningRule",
    "Natural",
    "NextCharacter",
    "NoisePath",
    "Outcome",
    "Parameters",
    "Phase",
    "Plan",
    "RandomStart",
    "ReadoutADC",
    "Relaxation",
    "Rest",
    "SimulatedDevice",
    "Substrate",
    "Tanh",
    "Task",
    "ThermalNoise",
    "Trainer",
    "Transposed",
    "__version__",
    "cosine",
    "measure_noise_floor",
    "settle_free",
    "spectral_radius",
    "twin_exponent",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)
