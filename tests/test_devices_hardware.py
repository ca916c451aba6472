"""What goes where on a device: every draw its own address, every noise its own size, every count its own cause."""

from dataclasses import replace

import numpy as np
import pytest
from chip_setting import DENSE, PCM, SCALE, SYMMETRIC, final, made
from device_setting import INPUTS, NOISE, UNITS, T, draw, plan

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase
from hwsim.contracts.scale import ELEMENTARY_CHARGE
from hwsim.devices.hardware import Hardware
from hwsim.devices.imperfections import (
    Asymmetry,
    Endurance,
    FlickerNoise,
    Mismatch,
    ReadNoise,
    ReadoutNoise,
    ShotNoise,
    StuckAt,
    ThermalNoise,
    ecram,
)
from hwsim.devices.lanes import Lanes
from hwsim.devices.presets import subthreshold_cmos
from hwsim.reference import bptt, rtrl
from hwsim.reference.autograd import tensor, to_torch, unroll
from hwsim.substrates import (
    GROUND,
    Amplifier,
    Chip,
    DrawnSubstrate,
    EnergyNetwork,
    LeakyNetwork,
    Logistic,
    ResistiveNetwork,
)
from hwsim.testing import RandomClasses

RC = ResistiveNetwork(units=2, inputs=1, edges=((0, 1), (1, 2), (0, -1)), capacitance=(1e-12, 3e-12))
G = Parameters({"g": np.array([1e-6, 2e-6, 3e-6])})
SEEDS = {"die_seed": 0, "program_seed": 0}


def test_noise_of_resistors_follows_the_rates_of_their_nodes():
    rate = np.array([0.5, 2.0])
    drawn = DrawnSubstrate(drawing=RC, chip=replace(Chip.as_drawn(2), rate=rate))
    assert drawn.diffusion(G) == pytest.approx(np.diag(rate) @ RC.diffusion(G), rel=1e-12)


def test_lanes_share_the_cells_of_the_lowest_repeat():
    device, _ = made(DENSE, [ReadNoise(pair=PCM.pair)])
    x = np.tile(draw(1, INPUTS), (2, 1))

    def ask(*repeats):
        ids = np.zeros(len(repeats), int)
        return plan(len(repeats), Phase(steps=T), inputs=x[: len(repeats)], ids=ids, repeats=np.array(repeats))

    (both,), (alone,) = (device.relax(ask(*repeats), noise=NOISE) for repeats in ((1, 3), (1,)))
    assert both.final[0] == pytest.approx(alone.final[0], abs=1e-12)


def test_noise_of_a_node_goes_as_its_rate():
    hardware = Hardware([Mismatch(time_constant=0.3), ThermalNoise(0.1)], DENSE, scale=SCALE, step_size=0.1, **SEEDS)
    drawn = DrawnSubstrate(drawing=DENSE, chip=hardware.chip)
    root = hardware.noise_root(drawn, DENSE.initial(0, gain=0.9, input_gain=1.0))
    assert root == pytest.approx(0.1 * hardware.chip.rate, rel=1e-12)


def test_shot_noise_adds_to_that_of_resistors_node_by_node():
    noises = (ThermalNoise(temperature=300.0), ShotNoise(1e-9))
    roots = []
    for some in (noises[:1], noises):
        hardware = Hardware([Mismatch(time_constant=0.3), *some], RC, scale=RC.scale, step_size=0.1, **SEEDS)
        roots.append(hardware.noise_root(DrawnSubstrate(drawing=RC, chip=hardware.chip), G))
    shot = roots[1] @ roots[1].T - roots[0] @ roots[0].T
    expected = np.diag(noises[1].variance(RC.scale) * hardware.chip.rate**2)
    assert shot == pytest.approx(expected, rel=1e-6, abs=1e-9 * expected.max())


def test_no_two_processes_or_phases_share_a_draw_and_none_is_that_of_the_beginning():
    noise = FlickerNoise(sigma=1.0, lowest=1e5, highest=1e6)  # one process
    hardware = Hardware([noise, noise], DENSE, scale=SCALE, step_size=0.1, **SEEDS)
    lanes = Lanes(path=NOISE, ids=np.arange(500, dtype=np.uint32), repeats=None, units=4)
    states, draws = hardware.begin(lanes), []
    draws += [state.ravel() for state in states]
    decay = np.exp(-2 * np.pi * noise.corners[0] * 0.1 * SCALE.second)
    for phase in (0, 1):
        _, after = hardware.advance(states, 1, lanes, phase)
        draws += [(b - decay * a).ravel() for a, b in zip(states, after, strict=True)]
        states = after
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 5 / np.sqrt(2000)


def test_no_two_stages_of_a_readout_share_a_draw():
    one, two = (final(made(DENSE, [ReadoutNoise(0.1)] * n)[0]) - final(made(DENSE, [])[0]) for n in (1, 2))
    assert np.abs(two - 2 * one).max() > 0.1 * np.abs(one).max()


def test_both_branches_of_a_subthreshold_pair_make_shot_noise():
    preset = subthreshold_cmos()
    (shot,) = (one for one in preset.imperfections if isinstance(one, ShotNoise))
    scale, bias = preset.scale, 10e-9  # two branches of 10 nA: 2 q 2 I
    G, C = bias / scale.volt, 1e-12
    assert shot.variance(scale) * scale.volt**2 == pytest.approx(ELEMENTARY_CHARGE * 2 * bias / (2 * G * C))


def test_a_lifetime_of_two_writes_is_two_writes():
    device, first = made(DENSE, [Endurance(cycles=2.0)])
    second, third = device.program(first * 2.0), device.program(first * 3.0)
    assert np.array_equal(second["W"], 2.0 * first["W"])
    assert np.array_equal(third["W"], second["W"])


def test_pulses_that_meet_worn_cells_are_counted():
    device, held = made(DENSE, [*ecram(), Endurance(cycles=1.0)], gain=0.5)
    device.adjust(held.zeros() | {"W": np.ones((UNITS, UNITS))})
    assert device.written.stuck == UNITS**2


def test_pulses_that_meet_stuck_cells_are_counted():
    device, held = made(DENSE, [*ecram(), StuckAt(high_fraction=0.3, high=0.5, blocks=("W",))], gain=0.3)
    before = device.written.stuck
    device.adjust(held.zeros() | {"W": np.ones((UNITS, UNITS))})
    assert device.written.stuck - before == np.count_nonzero(~np.isnan(device.chip.stuck["W"]))


def test_the_curvature_bound_is_the_stated_one():
    network = EnergyNetwork.symmetric(1, 1, Logistic())
    theta = Parameters({"W": np.array([[-3.0]]), "U": np.zeros((1, 1)), "b": np.zeros(1)})
    bend = Logistic.sharpest * 3.0
    assert network.curvature_bound(np.ones((1, 1)), theta) == pytest.approx(1.0 + bend + 3.0 / 16.0)


def test_a_coupling_s_own_error_is_not_that_of_its_way_back():
    device, _ = made(SYMMETRIC, [Asymmetry(sigma=0.1)])
    gain, back = device.chip.gain["W"].ravel(), device.chip.backward["W"].ravel()
    assert abs(np.corrcoef(gain, back)[0, 1]) < 5 / np.sqrt(gain.size)


def test_a_buffer_that_loads_its_node_with_nothing_ties_it_to_nothing():
    with pytest.raises(InputError, match="floating"):
        ResistiveNetwork(
            units=1,
            inputs=1,
            edges=((2, GROUND),),
            capacitance=1e-12,
            amplifiers=(Amplifier(node=0, gain=2.0, current_gain=0.0),),
        )


def test_references_stay_between_the_rails_and_agree_there():
    task = RandomClasses(units=4, inputs=3, classes=3)
    network = LeakyNetwork.dense(4, 3)
    chip = replace(Chip.as_drawn(4), low=np.full(4, -0.2), high=np.full(4, 0.2))
    railed = DrawnSubstrate(drawing=network, chip=chip)
    theta = network.initial(0, gain=0.9, input_gain=1.0) | task.initial_readout(0, 1.0)
    batch, run = task.training_batch(0, 3, 0), {"z0": np.zeros((3, 4)), "step_size": 0.2, "steps": 12}
    increments = 0.3 * np.random.default_rng(1).standard_normal((12, 3, 4))
    there = unroll(
        railed,
        to_torch(theta),
        tensor(batch.inputs),
        tensor(run["z0"]),
        step_size=0.2,
        steps=12,
        increments=tensor(increments),
    ).numpy()
    assert np.abs(there).max() == 0.2
    forward, backward = rtrl(railed, theta, batch, task, **run), bptt(railed, theta, batch, task, **run)
    assert (forward - backward).norm() < 1e-10 * backward.norm()
