"""The noise floor, measured on devices whose noise is known."""

import numpy as np
import pytest

from hwsim.calibration import measure_noise_floor
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import RandomStart
from hwsim.devices import ADC, SIMULATED, SimulatedDevice, ThermalNoise
from hwsim.substrates import LeakyNetwork

SIGMA, EPS, T = 0.05, 0.1, 60
INPUTS = np.random.default_rng(0).standard_normal((8, 3))


def uncoupled(**options):
    """Isolated leaky units, whose fluctuation is known in closed form."""
    device = SimulatedDevice(LeakyNetwork.dense(16, 3), horizon=T, step_size=EPS, **options)
    device.program(Parameters({"W": np.zeros((16, 16)), "U": np.eye(16, 3), "b": np.zeros(16)}))
    return device


def expected(sigma):
    """sd of z_T from rest: sigma^2 2 eps sum_{k<T} (1 - eps)^{2k}."""
    decay = (1 - EPS) ** 2
    return sigma * np.sqrt(2 * EPS * (1 - decay**T) / (1 - decay))


@pytest.mark.parametrize("capabilities", [SIMULATED, frozenset()], ids=["replayable", "own noise"])
def test_thermal_floor_of_isolated_units(capabilities):
    device = uncoupled(imperfections=[ThermalNoise(SIGMA)], capabilities=capabilities)
    floor = measure_noise_floor(device, INPUTS, noise=NoisePath(seed=3), repeats=64)
    assert abs(floor.rms - expected(SIGMA)) < 4 * floor.standard_error
    per_unit_error = floor.rms / np.sqrt(2 * len(INPUTS) * 63)
    assert np.all(abs(floor.per_unit - expected(SIGMA)) < 4.5 * per_unit_error)


def test_a_coarse_converter_adds_its_own_rounding_noise():
    adc = ADC(bits=10, full_scale=8.0)
    device = uncoupled(imperfections=[ThermalNoise(SIGMA), adc])
    floor = measure_noise_floor(device, INPUTS, noise=NoisePath(seed=3), repeats=64)
    # noise of several LSB dithers the converter, so that its error is LSB / sqrt(12) and independent
    assert abs(floor.rms - np.hypot(expected(SIGMA), adc.lsb / np.sqrt(12))) < 4 * floor.standard_error


def test_a_device_without_noise_measures_zero():
    assert measure_noise_floor(uncoupled(), INPUTS, noise=NoisePath(seed=3), repeats=4).rms == 0.0


def test_too_few_repeats_and_random_starts_are_refused():
    with pytest.raises(InputError, match="at least 2 repeats"):
        measure_noise_floor(uncoupled(), INPUTS, noise=NoisePath(seed=3), repeats=1)
    with pytest.raises(InputError, match=r"from Rest\(\)"):
        measure_noise_floor(uncoupled(start=RandomStart(1.0)), INPUTS, noise=NoisePath(seed=3))
