"""Perturbed parameters and perturbed units against finite differences of the deployed loss. No torch here."""

import dataclasses
import math

import numpy as np
import pytest
from rule_setting import EPS, NOISE, T, relative, setting
from tables import DEVICES, SUBSTRATES

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.plan import Carry, RandomStart, Rest
from hwsim.contracts.rule import require, settle_free
from hwsim.contracts.task import Batch
from hwsim.devices import SIMULATED, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.imperfections import Quantise
from hwsim.learning_rules.perturbation import NodePerturbation, RandomDirections
from hwsim.reference import finite_differences, rtrl
from hwsim.substrates import Identity, LeakyNetwork
from hwsim.tasks import Windowed
from hwsim.testing import RandomRegression, check_rule
from hwsim.testing.draws import draw_parameters


def exact(here, free):
    """BPTT of the deployed loss, forwards, from the start that the free phase had."""
    return rtrl(
        here.network,
        here.theta,
        here.batch,
        here.task,
        z0=free.recorded[0],
        step_size=EPS,
        steps=here.device.spec.horizon,
    )


def flat(parameters):
    return np.concatenate([np.asarray(block).ravel() for block in parameters.values()])


def draws(here, rule, free, count):
    """[count, P] analog gradients under fresh perturbations."""
    return np.stack([flat(here.gradient(rule, free, NOISE.at_step(1 + k)).analog) for k in range(count)])


def check_mean(found, expected, *, slack=0.0):
    """Along the expected gradient, and in total, the mean is that within four standard errors."""
    target = flat(expected.analog)
    along = found @ target / (target @ target)
    error = along.std(ddof=1) / math.sqrt(len(found))
    assert abs(along.mean() - 1.0) < 4.0 * error + slack
    assert error < 0.2
    # |mean - g|^2 is the trace of the mean's covariance, give or take its own spread
    rows = found - found.mean(axis=0)
    spectrum = np.linalg.svd(rows, compute_uv=False) ** 2 / (len(found) - 1) / len(found)
    miss = np.sum((found.mean(axis=0) - target) ** 2)
    assert miss < spectrum.sum() + 4.0 * math.sqrt(2.0 * np.sum(spectrum**2)) + slack**2 * (target @ target)


def check_variance(squares, expected):
    """The mean of the squares is what was expected within four standard errors, which must be small."""
    error = np.std(squares, ddof=1) / math.sqrt(len(squares))
    assert error < 0.15 * expected
    assert np.mean(squares) == pytest.approx(expected, abs=4.0 * error)


# --- Random directions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("start", [Rest(), RandomStart(1.0), Carry()], ids=["rest", "random", "carry"])
def test_all_directions_are_the_whole_gradient(start, window):
    here = setting(3, seed=2, start=start, horizon=6)
    if window is not None:
        here = dataclasses.replace(here, task=Windowed(task=here.task, first=window))
    if isinstance(start, Carry):
        here.free()  # leaves a state to carry on
    free = here.free()
    rule = RandomDirections(directions=12, length=1e-4, blocks=("W", "b"), record=True)
    assert (
        relative(here.gradient(rule, free) | {"U": here.theta["U"]}, exact(here, free) | {"U": here.theta["U"]}) < 1e-6
    )


@pytest.mark.parametrize("substrate", ["resistors and diodes"])
def test_all_directions_are_finite_differences_on_any_substrate(substrate):
    physics = SUBSTRATES[substrate]()
    device, task = (
        SimulatedDevice(physics, horizon=4, engine=Stepwise()),
        RandomRegression(units=physics.units, inputs=physics.inputs),
    )
    batch = task.training_batch(0, 3, 0)
    held = device.program(draw_parameters(device.spec, 0) | task.initial_readout(0, 1.0))

    def settle():
        return settle_free(device, batch, Needs(), NOISE)[0]

    def loss(theta):
        device.program(theta)
        return float(task.loss(settle().final, batch.targets, theta))

    expected = finite_differences(loss, held)
    device.program(held)
    rule = RandomDirections(directions=sum(block.size for block in held.analog.values()), length=1e-4)
    estimate = rule.estimate(device, held, batch, task, settle(), NOISE)
    assert relative(estimate.gradients, expected) < 1e-5
    assert estimate.diagnostics["silent_directions"] == estimate.diagnostics["restore_error"] == 0.0
    assert estimate.diagnostics["direction_length"] == pytest.approx(1e-4, rel=1e-9)


@pytest.mark.parametrize("directions", [1, 4])
def test_random_directions_are_right_on_average_with_relative_variance_p_over_k_less_one(directions):
    here = setting(3, seed=2, horizon=4, lanes=2)
    free = here.free()
    expected = exact(here, free)
    found = draws(here, RandomDirections(directions=directions, length=1e-3), free, 150 // directions)
    check_mean(found, expected)
    target = flat(expected.analog)
    squares = np.sum((found - target) ** 2, axis=1) / (target @ target)
    check_variance(squares, len(target) / directions - 1)


def test_the_error_of_a_direction_falls_with_the_square_of_its_length():
    here = setting(4, seed=2)
    free = here.free()
    tiny, errors = here.gradient(RandomDirections(length=1e-4), free), []
    for length in (0.2, 0.1, 0.05):
        errors.append((here.gradient(RandomDirections(length=length), free) - tiny).norm())
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx(2.0, abs=0.1)


def test_directions_keep_to_their_blocks():
    here = setting(4, seed=2)
    free = here.free()
    whole = exact(here, free)
    found = here.gradient(RandomDirections(directions=20, length=1e-4, blocks=("b", "W")), free)
    for name in ("W", "b"):
        assert np.linalg.norm(found[name] - whole[name]) < 1e-6 * np.linalg.norm(whole[name])
    assert not found["U"].any()
    frozen = dataclasses.replace(here, theta=here.theta.freeze("U", "W"))
    found = frozen.gradient(RandomDirections(directions=4, length=1e-4), free)
    assert np.linalg.norm(found["b"] - whole["b"]) < 1e-6 * np.linalg.norm(whole["b"])
    assert not found["U"].any()
    assert not found["W"].any()


def test_a_direction_that_moves_no_converter_is_silent():
    levels = Quantise(low=-4.0, high=4.0, levels=801)  # one step is 0.01
    here = setting(4, seed=2, imperfections=[levels])
    free = here.free()
    still = RandomDirections(directions=2, length=4e-3).estimate(
        here.device, here.theta, here.batch, here.task, free, NOISE
    )
    assert still.diagnostics["silent_directions"] == 2.0
    assert still.diagnostics["direction_length"] == 0.0
    assert still.gradients.analog.norm() == 0.0
    assert still.gradients.readout.norm() > 0.0


def test_the_direction_that_counts_is_the_one_read_back():
    """Where one converter step is as long as the whole step, few parameters move: all that is said is about those."""
    levels = Quantise(low=-4.0, high=4.0, levels=801)
    here = setting(4, seed=2, imperfections=[levels])
    free, rule = here.free(), RandomDirections(length=0.02)
    moved = []
    program = here.device.program

    def noting(parameters):
        held = program(parameters)
        moved.append(held)
        return held

    here.device.program = noting
    found = here.gradient(rule, free).analog
    ahead, behind, restored = moved
    direction = flat(ahead.analog) - flat(behind.analog)
    assert 0 < np.count_nonzero(direction) < len(direction) / 2
    losses = []
    for theta in (ahead, behind):
        program(theta)
        losses.append(here.task.loss(here.free().final, here.batch.targets, theta))
    slope = (losses[0] - losses[1]) / (direction @ direction)
    assert flat(found) == pytest.approx(len(direction) * slope * direction, rel=1e-9)
    assert flat(restored) == pytest.approx(flat(here.theta), abs=0.0)


def test_rounded_directions_are_right_on_average():
    here = setting(3, seed=2, horizon=4, lanes=2, imperfections=[Quantise(low=-4.0, high=4.0, levels=801)])
    free = here.free()
    found = draws(here, RandomDirections(length=0.04), free, 80)
    check_mean(found, exact(here, free), slack=0.01)


def test_no_direction_leaves_the_range_of_a_block():
    here = setting(4, seed=2)
    top = {name: float(np.abs(block).max()) for name, block in here.theta.analog.items()}
    top["b"] = 1.0
    ranges = {name: (-size, size) for name, size in top.items()}
    here = setting(4, seed=2, ranges=ranges)
    assert here.gradient(RandomDirections(length=1.0)).finite()


def test_directions_cost_programmings_and_settlings():
    here = setting(4, lanes=3)
    estimate = RandomDirections(directions=2).estimate(
        here.device, here.theta, here.batch, here.task, here.free(), NOISE
    )
    assert estimate.cost == Cost(settles=2 * 2 * 3, steps=2 * 2 * 3 * T, reads=2 * 2 * 3, writes=5 * 3)


def test_directions_need_nothing_but_programming():
    bare = setting(4, capabilities=frozenset())
    require(RandomDirections(), bare.device.spec)
    rich = setting(4)
    assert relative(bare.gradient(RandomDirections(), bare.free(record=0)), rich.gradient(RandomDirections())) < 1e-14
    unloaded = setting(4, start=Carry(), capabilities=SIMULATED - {Capability.LOAD_STATE}).device.spec
    with pytest.raises(CapabilityError, match="load_state"):
        require(RandomDirections(record=True), unloaded)
    with pytest.raises(CapabilityError, match="a start that can be had again"):
        require(RandomDirections(), setting(4, start=Carry()).device.spec)
    carried = setting(4, start=Carry())
    with pytest.raises(CapabilityError, match=r"set RandomDirections\(record=True\)"):
        carried.gradient(RandomDirections())


def test_twins_one_after_another_share_replayed_noise():
    """The noise of two settlings that differ in theta alone is gone from their difference where it can be replayed."""
    noisy = {"imperfections": [ThermalNoise(0.05)], "engine": None}
    shared = setting(4, seed=2, **noisy)
    quiet = setting(4, seed=2)
    own = setting(4, seed=2, capabilities=SIMULATED - {Capability.REPLAYABLE_NOISE}, **noisy)
    rule = RandomDirections(length=0.05)
    expected = quiet.gradient(rule)
    assert relative(shared.gradient(rule).analog, expected.analog) < 0.1
    assert relative(own.gradient(rule).analog, expected.analog) > 0.2


def test_perturbation_refuses_what_makes_no_sense():
    with pytest.raises(InputError, match="RandomDirections needs a whole number directions >= 1; found directions=0"):
        RandomDirections(directions=0)
    with pytest.raises(InputError, match="RandomDirections needs length > 0 and finite"):
        RandomDirections(length=-1.0)
    with pytest.raises(InputError, match="NodePerturbation needs deviation > 0"):
        NodePerturbation(deviation=0.0)


def test_random_directions_refuse_blocks_and_counts_that_do_not_exist():
    here = setting(4)
    with pytest.raises(InputError, match=r"explore the blocks \['V'\]; the hardware has \['U', 'W', 'b'\]"):
        here.gradient(RandomDirections(blocks=("V",)))
    with pytest.raises(InputError, match=r"5 directions among the 4 parameters of the blocks \['b'\]"):
        here.gradient(RandomDirections(directions=5, blocks=("b",)))


# --- Node perturbation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("start", [Rest(), RandomStart(1.0), Carry()], ids=["rest", "random", "carry"])
def test_node_perturbation_is_right_on_average(start, window):
    here = setting(4, seed=2, lanes=48, horizon=4, start=start)
    if window is not None:
        here = dataclasses.replace(here, task=Windowed(task=here.task, first=window))
    if isinstance(start, Carry):
        here.free()
    free = here.free()
    check_mean(draws(here, NodePerturbation(deviation=1e-2), free, 60), exact(here, free), slack=1e-3)


@pytest.mark.parametrize("coupling", [LeakyNetwork.dense, LeakyNetwork.symmetric], ids=["dense", "symmetric"])
def test_variance_of_node_perturbation(coupling):
    """One sample's numbers a = eps dL/dz_{k+1}, seen through g = C a: E|g' - g|^2 = (|a|^2 |C|^2 + |C a|^2) / B."""
    steps, copies = 5, 250
    here = setting(4, coupling=coupling, seed=2, lanes=1, horizon=steps)
    copied = Batch(
        inputs=np.repeat(here.batch.inputs, copies, axis=0),
        targets=np.repeat(here.batch.targets, copies),
        ids=np.arange(copies),
    )
    free = here.free()
    z, x = free.recorded, here.batch.inputs
    adjoint = here.task.signal(z[-1], here.batch.targets, here.theta)
    a = np.empty((steps, 4))
    for k in reversed(range(steps)):
        a[k] = EPS * adjoint[0]
        adjoint = adjoint + EPS * here.network.cotangent(adjoint, z[k], x, here.theta)
    columns = []
    for k, i in np.ndindex(steps, 4):
        post = np.zeros((steps, 1, 4))
        post[k, 0, i] = 1.0
        columns.append(flat(here.network.credit(post, z[:-1], x, here.theta)))
    c = np.stack(columns, axis=1)
    g = c @ a.ravel()
    assert g == pytest.approx(flat(exact(here, free).analog), rel=1e-10)
    many = dataclasses.replace(here, batch=copied)
    found = draws(many, NodePerturbation(deviation=1e-3), many.free(), 100)
    expected = (np.sum(a**2) * np.sum(c**2) + np.sum(g**2)) / copies
    check_variance(np.sum((found - g) ** 2, axis=1), expected)


@pytest.mark.parametrize(("centered", "order"), [(True, 2), (False, 1)])
def test_bias_of_node_perturbation(centered, order):
    """The estimate under one waveform, against its limit: O(deviation^2) centered, O(deviation) otherwise."""
    here = setting(4, seed=2)
    free = here.free()

    def found(deviation):
        return here.gradient(NodePerturbation(deviation=deviation, centered=centered), free).analog

    limit = here.gradient(NodePerturbation(deviation=1e-4), free).analog
    errors = [(found(deviation) - limit).norm() for deviation in (0.2, 0.1, 0.05)]
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx(order, abs=0.25)


def test_a_linear_network_and_a_quadratic_loss_leave_no_bias_at_any_size():
    network = LeakyNetwork.dense(4, 3, Identity())
    task = RandomRegression(units=4, inputs=3)
    device = SimulatedDevice(network, horizon=6, step_size=EPS, engine=Stepwise())
    theta = network.initial(0, gain=0.5, input_gain=1.0) | task.initial_readout(0, 1.0)
    held, batch = device.program(theta), task.training_batch(0, 3, 0)
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)

    def gradient(deviation):
        return NodePerturbation(deviation=deviation).estimate(device, held, batch, task, free, NOISE).gradients

    assert relative(gradient(3.0), gradient(1e-2)) < 1e-10


def test_node_perturbation_under_noise():
    """Shared noise cancels; independent noise adds a variance that falls with the square of the waveform's size."""
    noisy = setting(4, seed=2, imperfections=[ThermalNoise(0.1)], engine=None)
    free = noisy.free()

    def spread(deviation, shared):
        found = draws(noisy, NodePerturbation(deviation=deviation, shared_noise=shared), free, 100)
        return float(np.sum(found.var(axis=0)))

    floor = spread(0.01, True)
    assert spread(0.01, False) > 1e2 * floor
    assert spread(1.0, False) < 1e-2 * spread(0.01, False)
    assert NodePerturbation(shared_noise=True).needs.capabilities == {Capability.WAVEFORM, Capability.TWINS}


def test_node_perturbation_costs_two_settlings():
    here = setting(4, lanes=3)
    estimate = NodePerturbation().estimate(here.device, here.theta, here.batch, here.task, here.free(), NOISE)
    assert estimate.cost == Cost(settles=6, steps=6 * T, reads=6)
    window = Windowed(task=here.task, first=2)
    estimate = NodePerturbation().estimate(here.device, here.theta, here.batch, window, here.free(), NOISE)
    assert estimate.cost == Cost(settles=6, steps=6 * T, reads=6 * (T + 2))


# --- Both ---------------------------------------------------------------------------------------------------------

RULES = {
    "directions": RandomDirections(directions=2),
    "directions, recorded": RandomDirections(directions=2, record=True),
    "nodes": NodePerturbation(),
    "nodes, one-sided, shared": NodePerturbation(centered=False, shared_noise=True),
}
ROWS = [
    *((rule, device) for rule in RULES for device in ("float64", "noisy float32", "random start")),
    *((rule, "carry") for rule in RULES if rule != "directions"),
    ("directions", "bare"),
    ("directions", "bare, noisy"),
    ("directions", "converter, noisy"),
    ("directions", "own noise"),
    ("directions", "without load_state"),
    ("directions", "written"),
    ("directions", "ranges"),
    ("nodes", "mismatch"),
    ("nodes", "converter, noisy"),
    ("nodes", "without twins"),
]


@pytest.mark.parametrize(("rule", "device"), ROWS)
def test_perturbation_keeps_the_contract_of_a_rule(rule, device):
    check_rule(lambda: RULES[rule], lambda: DEVICES[device](SUBSTRATES["dense"]()))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_one_sample_one_step_and_no_signal(rule):
    here = setting(4, seed=2, lanes=1, horizon=1)
    assert here.gradient(rule).finite()
    blind = dataclasses.replace(
        here, theta=here.theta | {name: block * 0.0 for name, block in here.theta.readout.items()}
    )
    assert blind.gradient(rule).analog.norm() == 0.0  # a readout of zeros does not see the state


def test_perturbation_trains():
    """Steps against the estimates lower the deployed loss."""
    for rule, rate in ((RandomDirections(directions=2, length=1e-2), 0.02), (NodePerturbation(), 0.05)):
        here = setting(8, seed=3, lanes=16)
        theta, losses = here.theta, []
        for step in range(30):
            held = here.device.program(theta)
            free, _ = settle_free(here.device, here.batch, rule.needs, NOISE)
            estimate = rule.estimate(here.device, held, here.batch, here.task, free, NOISE.at_step(step))
            losses.append(estimate.loss)
            theta = theta - rate * (estimate.gradients | theta.readout.zeros())
        assert losses[-1] < 0.98 * losses[0]
