"""Chips to test on: a network, a list of imperfections, and what it is programmed with."""

from device_setting import EPS, INPUTS, NOISE, UNITS, T, plan

from hwsim.contracts.plan import Phase
from hwsim.contracts.scale import Scale
from hwsim.devices import SimulatedDevice
from hwsim.devices.imperfections import pcm_programming
from hwsim.substrates import LeakyNetwork

DENSE, SYMMETRIC = LeakyNetwork.dense(UNITS, INPUTS), LeakyNetwork.symmetric(UNITS, INPUTS)
SCALE = Scale(volt=0.1, siemens=1e-5, second=1e-6)
PCM = pcm_programming(4.0)


def made(network, imperfections, *, gain=0.9, **options):
    """A programmed device, and what it read back."""
    device = SimulatedDevice(
        network, **{"horizon": T, "step_size": EPS, "scale": SCALE, "imperfections": imperfections, **options}
    )
    held = device.program(network.initial(0, gain=gain, input_gain=1.0))
    return device, held


def final(device, noise=NOISE):
    """z_T of six samples as read."""
    return device.relax(plan(6, Phase(steps=T)), noise=noise)[0].final
