"""What holds a state in: rails, clamps and dead units under every way to step, and what is said of them."""

import subprocess
import sys

import numpy as np
import pytest
from chip_setting import DENSE, PCM, final, made
from device_setting import EPS, INPUTS, NOISE, UNITS, draw, plan

from hwsim.contracts.errors import InputError, ResumeError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Outcome, Phase, Plan, RandomStart
from hwsim.devices import Euler, Exponential, Fused, Heun, SimulatedDevice, Stepwise
from hwsim.devices.imperfections import (
    ADC,
    DAC,
    DeadUnits,
    Mismatch,
    Rails,
    Range,
    WriteNoise,
    pcm_programming,
)
from hwsim.substrates import GROUND, EnergyNetwork, LeakyNetwork, ResistiveNetwork

CHAIN = ResistiveNetwork(
    units=3, inputs=1, edges=((3, 0), (0, 1), (1, 2), (2, GROUND)), capacitance=1e-12, time_constant=1e-6
)
EQUAL = Parameters({"g": np.full(4, 1e-6)})
every_integrator = pytest.mark.parametrize("integrator", [Euler, Heun, Exponential], ids=lambda kind: kind.__name__)


def chain(integrator, *imperfections, eps=0.1):
    device = SimulatedDevice(CHAIN, horizon=1, step_size=eps, integrator=integrator, imperfections=imperfections)
    device.program(EQUAL)
    return device


def settled(device, x=1.0, **phase):
    asked = Plan(inputs=np.full((1, 1), x), ids=np.zeros(1, int), phases=(Phase(steps=2000, **phase),))
    return device.relax(asked, noise=NOISE)[0]


@every_integrator
@pytest.mark.parametrize("eps", [0.05, 0.4])
def test_neighbours_of_a_held_node_settle_to_the_divider_that_it_makes(integrator, eps):
    half = (np.array([0]), np.full((1, 1), 0.3))
    clamped = settled(chain(integrator, eps=eps), clamp=half)
    assert clamped.final[0] == pytest.approx([0.3, 0.2, 0.1], abs=1e-9)
    dead = settled(chain(integrator, DeadUnits(units=(0,), value=0.3), eps=eps))
    assert dead.final[0] == pytest.approx([0.3, 0.2, 0.1], abs=1e-9)
    railed = settled(chain(integrator, Rails(high=0.3), eps=eps))  # free it would settle at 0.75 V
    assert railed.final[0] == pytest.approx([0.3, 0.2, 0.1], abs=1e-9)
    assert railed.outcome[0] == Outcome.SATURATED or integrator is Exponential


@every_integrator
def test_a_node_that_leaves_its_rail_settles_where_it_should(integrator):
    device = chain(integrator, Rails(high=0.8))
    asked = Plan(
        inputs=np.ones((1, 1)), ids=np.zeros(1, int), start=At(np.full((1, 3), 0.8)), phases=(Phase(steps=2000),)
    )
    assert device.relax(asked, noise=NOISE)[0].final[0] == pytest.approx([0.75, 0.5, 0.25], abs=1e-9)


@pytest.mark.parametrize(
    ("start", "phase"),
    [
        (None, {"displace": np.full((2, UNITS), 5.0)}),
        (At(np.full((2, UNITS), 9.0)), {}),
        (RandomStart(50.0), {}),
        (None, {"clamp": (np.array([0]), np.full((2, 1), 5.0))}),
    ],
    ids=["kick", "loaded", "random", "clamp"],
)
def test_what_is_cut_off_at_the_beginning_of_a_phase_is_saturation(start, phase):
    device, _ = made(DENSE, [Rails(low=-4.0, high=4.0)], gain=0.1)
    asked = plan(
        2, Phase(steps=60, **phase), inputs=1e-3 * draw(2, INPUTS), **({} if start is None else {"start": start})
    )
    (run,) = device.relax(asked, noise=NOISE)
    assert (run.outcome == Outcome.SATURATED).all()
    if "clamp" in phase:
        assert (run.final[:, 0] == 4.0).all()  # no further than the rail lets it


def test_a_dead_unit_stays_dead_under_a_clamp():
    device, _ = made(DENSE, [DeadUnits(units=(2,), value=0.1)])
    (run,) = device.relax(plan(1, Phase(steps=3, clamp=(np.array([2]), np.ones((1, 1))))), noise=NOISE)
    assert run.final[0, 2] == pytest.approx(0.1)
    assert run.outcome[0] == Outcome.SATURATED


@pytest.mark.parametrize("engine", [Fused, Stepwise])
def test_a_clamp_that_is_no_number_makes_its_lane_diverge(engine):
    device, _ = made(DENSE, [], engine=engine())
    values = np.array([[np.nan], [0.5]])
    (run,) = device.relax(plan(2, Phase(steps=20, clamp=(np.array([1]), values))), noise=NOISE)
    assert run.outcome[0] == Outcome.DIVERGED
    assert np.isfinite(run.final[1]).all()


def test_an_infinite_input_is_one_that_clips():
    device, _ = made(DENSE, [DAC(8, 4.0)])
    inputs = np.zeros((2, INPUTS))
    inputs[0, 0] = np.inf
    (run,) = device.relax(plan(2, Phase(steps=200), inputs=inputs), noise=NOISE)
    assert run.outcome.tolist() == [Outcome.SATURATED, Outcome.SETTLED]


def test_no_conductance_acts_below_zero():
    with pytest.raises(InputError, match=r"block g .* a gain drawn for it is -.*log_normal=True"):
        chain(Euler, Mismatch(gain=2.0))
    noisy = chain(Euler, WriteNoise(sigma=5e-6))
    acting = np.stack([[noisy.program(EQUAL), noisy.real["g"]][1] for _ in range(8)])
    assert (acting >= 0).all()
    assert (acting == 0).any()
    near_zero = SimulatedDevice(CHAIN, horizon=1, imperfections=[pcm_programming(1e-5)])
    held = near_zero.program(Parameters({"g": np.full(4, 1e-9)}))
    assert (held["g"] >= 0).all()


def test_a_network_in_siemens_is_described_in_siemens():
    text = chain(Euler, Range(low=1e-7, high=4e-6), WriteNoise(sigma=1e-7)).describe()
    assert "[100 nS, 4 uS]" in text
    assert "sd 100 nS" in text


@pytest.mark.parametrize("network", [DENSE, EnergyNetwork.symmetric(UNITS, INPUTS)])
@pytest.mark.parametrize("engine", [Fused, Stepwise])
def test_a_batch_of_no_lanes_is_an_empty_answer(network, engine):
    device, _ = made(network, [ADC(8)], engine=engine())
    (run,) = device.relax(plan(0, Phase(steps=3, record=1), inputs=np.zeros((0, INPUTS))), noise=NOISE)
    assert run.final.shape == (0, UNITS)
    assert run.recorded.shape == (4, 0, UNITS)


def test_what_was_saved_on_another_device_is_refused():
    saved = {name: np.array(value) for name, value in made(DENSE, [])[0].save().items()}
    for other in (
        made(LeakyNetwork.dense(UNITS, INPUTS + 1), [])[0],
        made(EnergyNetwork.symmetric(UNITS, INPUTS), [])[0],
        made(DENSE, [], step_size=EPS / 2)[0],
    ):
        with pytest.raises(ResumeError, match="the saved run is of a device with"):
            other.restore(saved)
    here = made(DENSE, [])[0]
    for broken in (
        {"held/b": np.full(UNITS, np.nan)},
        {"held/b": np.zeros(3)},
        {"report": np.zeros(2, int)},
    ):
        with pytest.raises(ResumeError, match="does not fit this one"):
            here.restore(saved | broken)
    with pytest.raises(ResumeError, match="does not fit this one"):
        here.restore({name: value for name, value in saved.items() if name != "held/b"})
    single = made(DENSE, [], dtype=np.float32)[0]
    single.restore(saved)
    assert single.real["W"].dtype == np.float32


SLIPS = {
    "ADC(4.5)": "bits >= 1; found bits=4.5",
    "Quantise(low=-1.0, high=1.0, levels=4.5)": "levels >= 2; found levels=4.5",
    "TelegraphNoise(0.1, 1e-6, 1e-6, traps=1.5)": "traps >= 1; found traps=1.5",
    "Phase(steps=2.5)": "steps >= 0; found steps=2.5",
    "SimulatedDevice(network, horizon=2.5)": "horizon >= 1; found horizon=2.5",
    "SimulatedDevice(network, horizon=1, tolerance=float('nan'))": "tolerance >= 0; found nan",
    "SimulatedDevice(network, horizon=1, imperfections=ADC(4))": "imperfections are a list",
    "SimulatedDevice(network, horizon=1, integrator=Euler(0.1))": "one of the classes Euler, Heun",
    "device.program({'W': 1})": "a device takes Parameters",
    "device.relax(plan(np.arange(1)), noise=3)": "a seed is NoisePath(seed=...)",
    "device.relax(plan(np.array([2**32])), noise=PHYSICAL)": "sample id = 4294967296",
    "device.relax(plan(np.array([1.5])), noise=PHYSICAL)": "sample ids must be whole numbers",
    "Drift(pair=None)": "Drift needs pair=ConductancePair",
    "ReadNoise(pair=None)": "ReadNoise needs pair=ConductancePair",
    "WriteVerify(stage=None, tolerance=0.1, attempts=2)": "repeats a stage of the write chain",
    "PulsedUpdate(law='SoftBounds', dw_min=0.1, w_max=1.0, w_min=-1.0)": "a law such as SoftBounds()",
    "from_json({'kind': 'ADC'}, KINDS)": "a list of mappings; found dict",
    "from_json([{'kind': ['ADC']}], KINDS)": "there is no imperfection",
}


def test_slips_are_answered_by_a_sentence():
    # in a process of its own: here every annotated type is checked before the device can say anything
    script = f"""
import numpy as np
from hwsim import *
from hwsim.contracts.errors import InputError
from hwsim.devices.imperfections import KINDS, from_json

network = LeakyNetwork.dense(2, 1)
device = SimulatedDevice(network, horizon=1)
device.program(network.initial(1, gain=0.5, input_gain=1.0))
plan = lambda ids: Plan(inputs=np.ones((1, 1)), ids=ids, phases=(Phase(steps=1),))
for case in {list(SLIPS)!r}:
    try:
        print(eval(case))
    except InputError as error:
        print(error)
    except Exception as error:
        print("TRACEBACK", type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for (case, sentence), said in zip(SLIPS.items(), done.stdout.splitlines(), strict=True):
        assert sentence in said, case


def test_programming_noise_of_pairs_is_written_where_it_belongs():
    device, held = made(DENSE, [PCM])
    assert np.abs(held["W"]).max() > 0
    assert np.isfinite(final(device)).all()
