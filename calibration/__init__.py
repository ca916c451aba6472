"""Measures a device through its contract."""

from .noise_floor import NoiseFloor, measure_noise_floor

__all__ = ["NoiseFloor", "measure_noise_floor"]
