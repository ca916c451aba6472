"""Simulate analog relaxation hardware, and ask whether it can learn.

    z <- z + eps F(z, x)        T steps, with noise and mismatch; what is deployed is L(z_T)

Names are imported when they are first used, so that `import hwsim` loads no numerics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hwsim.calibration import (
        measure_noise_floor,
    )
    from hwsim.contracts.device import (
        Capability,
        Device,
        DeviceSpec,
    )
    from hwsim.contracts.noise import (
        PHYSICAL,
        NoisePath,
    )
    from hwsim.contracts.parameters import (
        Parameters,
        cosine,
    )
    from hwsim.contracts.plan import (
        At,
        Carry,
        Outcome,
        Phase,
        Plan,
        RandomStart,
        Relaxation,
        Rest,
    )
    from hwsim.contracts.rule import (
        Estimate,
        LearningRule,
        settle_free,
    )
    from hwsim.contracts.scale import (
        Scale,
    )
    from hwsim.contracts.substrate import (
        Substrate,
    )
    from hwsim.contracts.task import (
        Batch,
        Task,
    )
    from hwsim.devices import (
        PRESETS,
        Euler,
        Exponential,
        Heun,
        Preset,
        SimulatedDevice,
        discrete_board_12bit,
        ecram_crossbar,
        ideal,
        pcm_crossbar,
        reram_crossbar,
        subthreshold_cmos,
    )
    from hwsim.devices.imperfections import (
        ADC,
        DAC,
        SARADC,
        Asymmetry,
        Crosstalk,
        DeadUnits,
        Drift,
        FlickerNoise,
        Imperfection,
        LineResistance,
        Mismatch,
        PulsedUpdate,
        Quantise,
        Rails,
        Range,
        ReadNoise,
        ReadoutNoise,
        SampleSkew,
        ShotNoise,
        SlewRate,
        StuckAt,
        TelegraphNoise,
        ThermalNoise,
        WriteVerify,
    )
    from hwsim.diagnostics import (
        spectral_radius,
        twin_exponent,
    )
    from hwsim.learning_rules import (
        ContractionHomeostat,
        Corrected,
        CoupledLearning,
        EquilibriumPropagation,
        FiniteHorizonEP,
        Natural,
        Transposed,
    )
    from hwsim.spice import (
        export_netlist,
    )
    from hwsim.substrates import (
        GROUND,
        Amplifier,
        Chip,
        Convolutional,
        Dense,
        Diode,
        EnergyNetwork,
        FieldSubstrate,
        Hard,
        IdealDiode,
        Identity,
        Layered,
        LeakyNetwork,
        LinearLangevin,
        Logistic,
        Masked,
        OscillatorNetwork,
        Reciprocal,
        ReLU,
        ResistiveNetwork,
        Shockley,
        Softplus,
        Tanh,
    )
    from hwsim.tasks import (
        Digits,
        Iris,
        NextCharacter,
    )
    from hwsim.training import (
        Adam,
        OpenLoopPulses,
        Reprogram,
        Trainer,
    )

_HOME = {
    "calibration": ("measure_noise_floor",),
    "contracts.device": (
        "Capability",
        "Device",
        "DeviceSpec",
    ),
    "contracts.noise": (
        "PHYSICAL",
        "NoisePath",
    ),
    "contracts.parameters": (
        "Parameters",
        "cosine",
    ),
    "contracts.plan": (
        "At",
        "Carry",
        "Outcome",
        "Phase",
        "Plan",
        "RandomStart",
        "Relaxation",
        "Rest",
    ),
    "contracts.rule": (
        "Estimate",
        "LearningRule",
        "settle_free",
    ),
    "contracts.scale": ("Scale",),
    "contracts.substrate": ("Substrate",),
    "contracts.task": (
        "Batch",
        "Task",
    ),
    "devices": (
        "PRESETS",
        "Euler",
        "Exponential",
        "Heun",
        "Preset",
        "SimulatedDevice",
        "discrete_board_12bit",
        "ecram_crossbar",
        "ideal",
        "pcm_crossbar",
        "reram_crossbar",
        "subthreshold_cmos",
    ),
    "devices.imperfections": (
        "ADC",
        "DAC",
        "SARADC",
        "Asymmetry",
        "Crosstalk",
        "DeadUnits",
        "Drift",
        "FlickerNoise",
        "Imperfection",
        "LineResistance",
        "Mismatch",
        "PulsedUpdate",
        "Quantise",
        "Rails",
        "Range",
        "ReadNoise",
        "ReadoutNoise",
        "SampleSkew",
        "ShotNoise",
        "SlewRate",
        "StuckAt",
        "TelegraphNoise",
        "ThermalNoise",
        "WriteVerify",
    ),
    "diagnostics": (
        "spectral_radius",
        "twin_exponent",
    ),
    "learning_rules": (
        "ContractionHomeostat",
        "Corrected",
        "CoupledLearning",
        "EquilibriumPropagation",
        "FiniteHorizonEP",
        "Natural",
        "Transposed",
    ),
    "spice": ("export_netlist",),
    "substrates": (
        "GROUND",
        "Amplifier",
        "Chip",
        "Convolutional",
        "Dense",
        "Diode",
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
        "OscillatorNetwork",
        "ReLU",
        "Reciprocal",
        "ResistiveNetwork",
        "Shockley",
        "Softplus",
        "Tanh",
    ),
    "tasks": (
        "Digits",
        "Iris",
        "NextCharacter",
    ),
    "training": (
        "Adam",
        "OpenLoopPulses",
        "Reprogram",
        "Trainer",
    ),
}
_ROOM = {name: room for room, names in _HOME.items() for name in names}

__all__ = [
    "ADC",
    "DAC",
    "GROUND",
    "PHYSICAL",
    "PRESETS",
    "SARADC",
    "Adam",
    "Amplifier",
    "Asymmetry",
    "At",
    "Batch",
    "Capability",
    "Carry",
    "Chip",
    "ContractionHomeostat",
    "Convolutional",
    "Corrected",
    "CoupledLearning",
    "Crosstalk",
    "DeadUnits",
    "Dense",
    "Device",
    "DeviceSpec",
    "Digits",
    "Diode",
    "Drift",
    "EnergyNetwork",
    "EquilibriumPropagation",
    "Estimate",
    "Euler",
    "Exponential",
    "FieldSubstrate",
    "FiniteHorizonEP",
    "FlickerNoise",
    "Hard",
    "Heun",
    "IdealDiode",
    "Identity",
    "Imperfection",
    "Iris",
    "Layered",
    "LeakyNetwork",
    "LearningRule",
    "LineResistance",
    "LinearLangevin",
    "Logistic",
    "Masked",
    "Mismatch",
    "Natural",
    "NextCharacter",
    "NoisePath",
    "OpenLoopPulses",
    "OscillatorNetwork",
    "Outcome",
    "Parameters",
    "Phase",
    "Plan",
    "Preset",
    "PulsedUpdate",
    "Quantise",
    "Rails",
    "RandomStart",
    "Range",
    "ReLU",
    "ReadNoise",
    "ReadoutNoise",
    "Reciprocal",
    "Relaxation",
    "Reprogram",
    "ResistiveNetwork",
    "Rest",
    "SampleSkew",
    "Scale",
    "Shockley",
    "ShotNoise",
    "SimulatedDevice",
    "SlewRate",
    "Softplus",
    "StuckAt",
    "Substrate",
    "Tanh",
    "Task",
    "TelegraphNoise",
    "ThermalNoise",
    "Trainer",
    "Transposed",
    "WriteVerify",
    "__version__",
    "cosine",
    "discrete_board_12bit",
    "ecram_crossbar",
    "export_netlist",
    "ideal",
    "measure_noise_floor",
    "pcm_crossbar",
    "reram_crossbar",
    "settle_free",
    "spectral_radius",
    "subthreshold_cmos",
    "twin_exponent",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)
