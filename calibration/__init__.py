"""Measures a device through its contract."""

from .noise_floor import NoiseFloor, measure_noise_floor
from .probe_plan import Averaging, Measured, ProbeError, ProbePlan, plan_probe
from .separation_plan import plan_separation

__all__ = [
    "Averaging",
    "Measured",
    "NoiseFloor",
    "ProbeError",
    "ProbePlan",
    "measure_noise_floor",
    "plan_probe",
    "plan_separation",
]
