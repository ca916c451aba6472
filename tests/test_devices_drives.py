"""The drive of inputs that come again: the same bits, computed once, and never those of other inputs."""

import numpy as np
import pytest

from hwsim import LeakyNetwork, NoisePath, Phase, Plan, SimulatedDevice
from hwsim.devices.drives import Drives


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x @ np.arange(6.0).reshape(2, 3)


def test_inputs_that_repeat_are_computed_once():
    drives, compute, x = Drives(), Counting(), np.random.default_rng(0).standard_normal((4, 2))
    first = drives.of(x, compute)
    assert np.array_equal(drives.of(x.copy(), compute), first)
    twice = drives.of(np.concatenate([x, x]), compute)
    assert np.array_equal(twice, np.concatenate([first, first]))
    assert np.array_equal(drives.of(x, compute), first)
    assert compute.calls == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[::-1],
        lambda x: np.concatenate([x, x[::-1]]),
        lambda x: np.concatenate([x, x[:1]]),
        lambda x: x[:2],
        lambda x: x[:0],
        lambda x: x + 1e-12,
        lambda x: np.where(np.arange(2) == 0, np.nan, x),
    ],
)
def test_other_inputs_are_computed_anew(change):
    drives, compute, x = Drives(), Counting(), np.random.default_rng(0).standard_normal((4, 2))
    drives.of(x, compute)
    other = change(x)
    assert np.array_equal(drives.of(other, compute), Counting()(other), equal_nan=True)
    assert compute.calls == 2


def test_inputs_written_into_are_other_inputs():
    drives, compute, x = Drives(), Counting(), np.zeros((4, 2))
    drives.of(x, compute)
    x += 1.0
    assert np.array_equal(drives.of(x, compute), Counting()(x))


def test_a_device_settles_as_if_it_had_never_seen_the_inputs():
    network = LeakyNetwork.dense(6, 3)
    thetas = [network.initial(seed, gain=0.8, input_gain=1.0) for seed in (1, 2)]
    x = np.random.default_rng(0).standard_normal((5, 3))

    def settle(device, inputs):
        plan = Plan(inputs=inputs, ids=np.arange(len(inputs)), phases=(Phase(steps=7),))
        return device.relax(plan, noise=NoisePath(seed=0))[0].final

    def fresh(theta, inputs):
        device = SimulatedDevice(network, horizon=7)
        device.program(theta)
        return settle(device, inputs)

    used = SimulatedDevice(network, horizon=7)
    for theta in thetas:  # programming changes the drive of the same inputs
        used.program(theta)
        for inputs in (x, np.concatenate([x, x]), x, 2.0 * x, x[:2]):
            assert np.array_equal(settle(used, inputs), fresh(theta, inputs))
