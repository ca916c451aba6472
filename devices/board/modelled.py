"""The simulated device that a board's descriptor describes."""

from __future__ import annotations

import math

import numpy as np

from hwsim.contracts.device import Capability, DeviceSpec
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections import ADC, Imperfection, ReadoutNoise, ThermalNoise
from hwsim.devices.simulated import SIMULATED, SimulatedDevice
from hwsim.substrates import LeakyNetwork

from .descriptor import Descriptor
from .device import CURVES
from .twin import FirmwareEngine


def simulated_twin(board: Descriptor, spec: DeviceSpec) -> SimulatedDevice:
    """A simulator of a board, made of what the board says of itself and nothing measured.

    Against a board of kind `emulated-f32` without a converter it comes to the same bits (`FirmwareEngine`), with noise
    and without, forwards and backwards; against others it is the nominal model.

    Args:
        board: its descriptor.
        spec: as `SerialBoard.spec` has it: horizon and start may be the host's.
    """
    imperfections: list[Imperfection] = []
    if board.noise:
        # the board states the deviation of one step, sqrt(2 eps) sigma
        imperfections.append(ThermalNoise(board.noise / math.sqrt(2.0 * spec.step_size)))
    if board.read_noise:
        imperfections.append(ReadoutNoise(board.read_noise))
    if board.adc_bits:
        imperfections.append(ADC(board.adc_bits, max(abs(board.adc_lo), abs(board.adc_hi))))
    exact = board.nonlinearity == "rational-tanh"
    return SimulatedDevice(
        LeakyNetwork.dense(board.units, board.inputs, CURVES[board.nonlinearity]),
        horizon=spec.horizon,
        step_size=spec.step_size,
        scale=Scale(second=board.time_constant),
        start=spec.start,
        imperfections=imperfections,
        capabilities=SIMULATED & (spec.capabilities | {Capability.MODEL}),
        ranges=spec.ranges,
        tolerance=spec.tolerance,
        dtype=np.float32,
        engine=FirmwareEngine() if exact else None,
    )
