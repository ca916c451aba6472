"""Updates that reach the hardware: by programming a digital copy, and by pulses on top of what is there."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.noise import NoisePath
from hwsim.devices import SimulatedDevice, ThermalNoise, ecram_crossbar
from hwsim.devices.imperfections import ConstantStep, PulsedUpdate, Range, WriteReport, ecram
from hwsim.learning_rules import EquilibriumPropagation, FiniteHorizonEP
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Digits
from hwsim.testing import RandomClasses
from hwsim.training import Adam, OpenLoopPulses, Reprogram, Trainer, load_state, save_state

UNITS, INPUTS = 8, 4
STEP = 2.0**-9
"""A pulse of the exact cells: sums of it are exact, so that what a device holds tells how many pulses it got."""
EXACT = PulsedUpdate(law=ConstantStep(), dw_min=STEP, w_max=8.0, w_min=-8.0)
NOISE = NoisePath(seed=5)
RULES = {"ep": EquilibriumPropagation(), "finite": FiniteHorizonEP()}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def cells(*imperfections, units=UNITS, inputs=INPUTS, **options):
    """A device of these, and where it starts: all parameters at zero."""
    network = LeakyNetwork.dense(units, inputs)
    device = SimulatedDevice(network, horizon=8, step_size=0.2, imperfections=imperfections, **options)
    return device, network.initial(1, gain=0.0, input_gain=0.0)


def pulses(writer, wanted, noise=NOISE):
    """What exact cells at zero get when they should go to `wanted` (a number, or one for each block), in pulses."""
    device, theta = cells(EXACT, units=64, inputs=64)
    theta = writer.begin(device, theta)
    levels = wanted if isinstance(wanted, dict) else dict.fromkeys(theta, wanted)
    after = writer.write(device, theta, theta | {name: block + levels[name] for name, block in theta.items()}, noise)
    return {name: block / STEP for name, block in after.items()}


def trainer(*imperfections, rule=FiniteHorizonEP(), writer=OpenLoopPulses(step=STEP), learning_rate=0.01, **options):
    """A small task on these imperfections, and parameters to start with."""
    device, _ = cells(*imperfections, **options)
    task = RandomClasses(units=UNITS)
    theta = LeakyNetwork.dense(UNITS, INPUTS).initial(1, gain=0.5, input_gain=0.5) | task.initial_readout(1, 1.0)
    adam = Adam(learning_rate=learning_rate)
    made = Trainer(
        device=device, rule=rule, task=task, optimiser=adam, batch_size=6, seed=2, noise=NOISE, writer=writer
    )
    return made, theta


def advanced(made, state, steps):
    for _ in range(steps):
        state, _ = made.advance(state)
    return state


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- Stochastic rounding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [-3.7, -0.5, -0.02, 0.1, 0.5, 1.0 - 2.0**-7, 5.25])
def test_rounding_is_right_on_average_and_to_a_neighbour(change):
    drawn = np.concatenate([np.ravel(block) for block in pulses(OpenLoopPulses(step=STEP), change * STEP).values()])
    low = math.floor(change)
    part = change - low  # of the parameters that get one pulse more
    assert set(np.unique(drawn)) == {low, low + 1}
    assert abs(drawn.mean() - change) < 4 * math.sqrt(part * (1 - part) / drawn.size)


@given(change=st.integers(-31, 31))
@settings(max_examples=15)
def test_whole_numbers_of_pulses_are_sent_as_they_are(change):
    drawn = pulses(OpenLoopPulses(step=STEP), change * STEP)
    assert all((block == change).all() for block in drawn.values())


@pytest.mark.parametrize("most", [1, 7, 31])
@pytest.mark.parametrize("change", [-1e300, -100.5, 100.5, 1e300])
def test_no_update_sends_more_than_most(change, most):
    drawn = pulses(OpenLoopPulses(step=STEP, most=most), change * STEP)
    assert all((block == math.copysign(most, change)).all() for block in drawn.values())


def test_pulses_are_drawn_by_address():
    writer = OpenLoopPulses(step=STEP)
    half = pulses(writer, 0.5 * STEP)
    assert same(half, pulses(writer, 0.5 * STEP))
    # seed, step of the experiment and block each have draws of their own
    others = [pulses(writer, 0.5 * STEP, noise)["W"] for noise in (NOISE.at_step(1), NoisePath(seed=6))]
    for other in (half["U"], *others):
        # equal in half of n places, sd sqrt(n) / 2
        assert abs(np.mean(half["W"] == other) - 0.5) < 4 * 0.5 / math.sqrt(other.size)
    # and what a block gets does not depend on what the others should get
    alone = pulses(writer, {"W": 0.5 * STEP, "U": 0.0, "b": 0.0})
    assert np.array_equal(alone["W"], half["W"])
    assert not alone["U"].any()
    assert not alone["b"].any()


@pytest.mark.parametrize("wrong", [{"step": 0.0}, {"step": -1.0}, {"step": math.nan}, {"step": 1.0, "most": 0}])
def test_pulses_that_make_no_sense(wrong):
    with pytest.raises(InputError, match="pulses need step > 0 and most >= 1; found step="):
        OpenLoopPulses(**wrong)


# --- Training by pulses -----------------------------------------------------------------------------------------------


def test_a_device_without_pulses_is_refused_before_it_is_touched():
    device, theta = cells(ThermalNoise(0.05))
    task = RandomClasses(units=UNITS)
    options = {"device": device, "rule": FiniteHorizonEP(), "task": task, "batch_size": 6, "seed": 2, "noise": NOISE}
    with pytest.raises(CapabilityError, match=r"OpenLoopPulses needs adjust \(change parameters by open-loop pulses\)"):
        Trainer(**options, optimiser=Adam(learning_rate=0.01), writer=OpenLoopPulses(step=STEP))
    assert device.written == WriteReport()
    assert Capability.ADJUST not in device.spec.capabilities
    assert Trainer(**options, optimiser=Adam(learning_rate=0.01)).start(theta).step == 0


@every_rule
def test_the_device_holds_the_only_copy_and_counts_its_pulses(rule):
    made, theta = trainer(Range(low=-2.0, high=2.0, clip=True), EXACT, ThermalNoise(0.05), rule=rule)
    state = made.start(theta.map(lambda block: STEP * np.round(block / STEP)))
    assert made.device.written == WriteReport(written=sum(block.size for block in theta.analog.values()))
    sent = 0.0
    for _ in range(5):
        before = state.theta
        state, _ = made.advance(state)
        assert same(state.theta.analog, made.device.real)  # exact cells are what they hold
        moved = (state.theta.analog - before.analog) / STEP
        assert all(np.array_equal(block, np.round(block)) for block in moved.values())
        assert max(np.abs(block).max() for block in moved.values()) <= 31
        sent += sum(np.abs(block).sum() for block in moved.values())
    assert sent > 0
    assert made.device.written.pulses == sent
    # it was programmed once
    assert made.device.written.written == sum(block.size for block in theta.analog.values())
    # and the readout is digital: its first step has the length of the learning rate, whatever a pulse is
    assert np.abs(state.theta["readout.V"] - theta["readout.V"]).max() > STEP


def test_frozen_blocks_get_no_pulses_and_stay_frozen():
    made, theta = trainer(EXACT, learning_rate=0.05)
    started = made.start(theta.freeze("U"))
    ended = advanced(made, started, 5)
    assert started.theta.frozen == ended.theta.frozen == {"U"}
    assert np.array_equal(ended.theta["U"], started.theta["U"])
    assert not np.array_equal(ended.theta["W"], started.theta["W"])


def test_blocks_without_cells_must_be_frozen():
    cells_of_w = PulsedUpdate(law=ConstantStep(), dw_min=STEP, w_max=8.0, w_min=-8.0, blocks=("W",))
    made, theta = trainer(cells_of_w, learning_rate=0.05)
    with pytest.raises(InputError, match=r"block [Ub] has no cells that pulses move; those of \('W',\) have"):
        advanced(made, made.start(theta), 1)
    started = made.start(theta.freeze("U", "b"))
    assert not np.array_equal(advanced(made, started, 2).theta["W"], started.theta["W"])


def crossbar(rule=FiniteHorizonEP()):
    """Handwritten digits on electrochemical memory, and parameters to start with. The readout stays as it is drawn."""
    task = Digits(units=20)
    network = LeakyNetwork.dense(task.units, task.inputs)
    readout = task.initial_readout(1, 1.0)
    theta = (network.initial(1, gain=0.5, input_gain=0.5) | readout).freeze(*readout)
    (update,) = ecram()
    made = Trainer(
        device=ecram_crossbar().device(network, horizon=15, die_seed=3, program_seed=4),
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=0.01),
        batch_size=32,
        seed=2,
        noise=NOISE,
        writer=OpenLoopPulses(step=update.dw_min),
    )
    return made, theta


@every_rule
def test_electrochemical_memory_learns_digits_by_pulses(rule):
    made, theta = crossbar(rule)
    state, losses = made.start(theta), []
    for _ in range(100):
        state, estimate = made.advance(state)
        losses.append(estimate.loss)
    # chance is ln 10 = 2.30 nats
    assert abs(losses[0] - made.task.chance) < 0.2
    assert np.mean(losses[-10:]) < 0.2 * made.task.chance
    assert not state.diverged


def test_training_by_pulses_goes_on_to_the_same_bits_on_another_device_object(tmp_path):
    made, theta = crossbar()
    whole = advanced(made, made.start(theta), 8)
    report = made.device.written

    made, theta = crossbar()
    save_state(tmp_path / "run.npz", advanced(made, made.start(theta), 3), {})
    made, _ = crossbar()
    state, _ = load_state(tmp_path / "run.npz")
    resumed = advanced(made, made.resume(state), 5)
    assert same(resumed.theta, whole.theta)
    assert same(resumed.moments.first, whole.moments.first)
    assert same(resumed.moments.second, whole.moments.second)
    assert same(resumed.device, whole.device)
    assert resumed.cost == whole.cost
    assert resumed.step == 8
    assert made.device.written == report
    assert report.pulses > 0
    assert not same(state.theta.analog, whole.theta.analog)


@every_rule
@pytest.mark.parametrize("writer", [Reprogram(), OpenLoopPulses(step=STEP)], ids=["program", "pulses"])
def test_a_run_that_diverges_is_marked_and_sends_no_pulse(rule, writer):
    made, theta = trainer(EXACT, rule=rule, writer=writer)
    started = made.start(theta | {"W": np.full((UNITS, UNITS), 1e308), "b": np.full(UNITS, 1e308)})
    ended, estimate = made.advance(started)
    assert ended.diverged
    assert not estimate.gradients.finite()
    assert same(ended.theta, started.theta)
    assert ended.step == 0
    assert made.device.written.pulses == 0


# --- Training by programming ------------------------------------------------------------------------------------------


def test_what_is_programmed_beyond_a_range_is_held_at_its_border_and_counted():
    high = 0.1
    made, theta = trainer(Range(low=-high, high=high, clip=True), writer=Reprogram(), learning_rate=0.05)
    state, beyond, written = made.start(theta), 0, 0
    for _ in range(5):
        asked = state.theta.analog
        state, _ = made.advance(state)
        beyond += sum(int((np.abs(block) > high).sum()) for block in asked.values())
        written += sum(block.size for block in asked.values())
        assert same(made.device.real, asked.map(lambda block: np.clip(block, -high, high)))
    assert 0 < beyond < written
    assert made.device.written == WriteReport(written=written, clipped=beyond)
    # the digital copy goes on where the device cannot
    assert max(np.abs(block).max() for block in state.theta.analog.values()) > high


def test_programming_needs_nothing_of_a_device():
    assert Reprogram().needs == frozenset()
    assert OpenLoopPulses(step=STEP).needs == {Capability.ADJUST}
