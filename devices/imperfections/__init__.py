"""How a drawn chip differs from its drawing. Each imperfection is a frozen dataclass; a list of them makes a chip."""

from dataclasses import is_dataclass

from .contract import (
    Context,
    Deviates,
    Diffusion,
    Drive,
    Fabrication,
    Imperfection,
    Process,
    Readout,
    Realisation,
    Schedule,
    Seeds,
    Source,
    Update,
    WriteReport,
    WriteStage,
)
from .converters import ADC, DAC, SARADC, ReadoutNoise, SampleSkew
from .faults import DeadUnits, Rails, SlewRate, StuckAt
from .files import from_json, to_json
from .linearity import inl_dnl, transitions
from .memory import (
    ClippedLog,
    ConductancePair,
    Drift,
    PolynomialProgrammingNoise,
    ReadNoise,
    SaturatingProgrammingNoise,
    cmo_reram_programming,
    hermes_programming,
    pcm_programming,
    reram_programming,
    sonos_programming,
)
from .mismatch import Asymmetry, Mismatch, pelgrom, subthreshold_mismatch
from .noise import FlickerNoise, ShotNoise, TelegraphNoise, ThermalNoise
from .pulses import (
    ConstantStep,
    ExponentialStep,
    LinearStep,
    PulsedUpdate,
    SoftBounds,
    StepLaw,
    WriteNoise,
    ecram,
    idealised,
    reram_array,
    reram_soft_bounds,
)
from .schedule import OneByOne
from .wires import Crosstalk, LineResistance
from .write import Endurance, Quantise, Range, WriteVerify

_INSIDE = (ClippedLog, ConductancePair, StepLaw)
KINDS = {
    name: kind
    for name, kind in list(globals().items())
    if isinstance(kind, type) and is_dataclass(kind) and issubclass(kind, (Imperfection, *_INSIDE))
}
"""Name -> class of every imperfection, and of the values inside them: what `from_json` can read."""

__all__ = [
    "ADC",
    "DAC",
    "KINDS",
    "SARADC",
    "Asymmetry",
    "ClippedLog",
    "ConductancePair",
    "ConstantStep",
    "Context",
    "Crosstalk",
    "DeadUnits",
    "Deviates",
    "Diffusion",
    "Drift",
    "Drive",
    "Endurance",
    "ExponentialStep",
    "Fabrication",
    "FlickerNoise",
    "Imperfection",
    "LineResistance",
    "LinearStep",
    "Mismatch",
    "OneByOne",
    "PolynomialProgrammingNoise",
    "Process",
    "PulsedUpdate",
    "Quantise",
    "Rails",
    "Range",
    "ReadNoise",
    "Readout",
    "ReadoutNoise",
    "Realisation",
    "SampleSkew",
    "SaturatingProgrammingNoise",
    "Schedule",
    "Seeds",
    "ShotNoise",
    "SlewRate",
    "SoftBounds",
    "Source",
    "StepLaw",
    "StuckAt",
    "TelegraphNoise",
    "ThermalNoise",
    "Update",
    "WriteNoise",
    "WriteReport",
    "WriteStage",
    "WriteVerify",
    "cmo_reram_programming",
    "ecram",
    "from_json",
    "hermes_programming",
    "idealised",
    "inl_dnl",
    "pcm_programming",
    "pelgrom",
    "reram_array",
    "reram_programming",
    "reram_soft_bounds",
    "sonos_programming",
    "subthreshold_mismatch",
    "to_json",
    "transitions",
]
