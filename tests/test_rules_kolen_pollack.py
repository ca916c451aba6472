"""Kolen-Pollack learning: two arrays that forget how they differed, and learn as if one were the other's transpose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.ladder import Snapshot
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.rule import require, settle_free
from hwsim.devices import SimulatedDevice, ThermalNoise
from hwsim.devices.feedback import SeparateFeedback
from hwsim.learning_rules import Corrected, EquilibriumPropagation, Transposed
from hwsim.learning_rules.finite_horizon import FiniteHorizonEP
from hwsim.learning_rules.kolen_pollack import KolenPollack
from hwsim.learning_rules.playback import AdjointPlayback
from hwsim.learning_rules.transient import LowPass
from hwsim.reference import bptt_along
from hwsim.substrates import Dense, LeakyNetwork, LinearLangevin
from hwsim.tasks import Digits, Windowed
from hwsim.testing import RandomClasses, check_rule

NOISE = NoisePath(seed=4)
STEPS, EPS = 15, 0.2


def pair(network: Any, blocks: tuple[str, ...] = ("W",), **options: Any) -> SeparateFeedback:
    one, other = (SimulatedDevice(network, horizon=STEPS, step_size=EPS, **options) for _ in range(2))
    return SeparateFeedback(one, other, blocks=blocks)


def start(network: LeakyNetwork, task: Any, seed: int) -> Parameters:
    """W and B drawn apart, equally large."""
    B = np.random.default_rng(seed + 100).standard_normal((network.units, network.units)) * 0.9
    drawn = network.initial(seed, gain=0.9, input_gain=1.0) | task.initial_readout(seed, 1.0)
    return drawn | {"feedback.W": B / math.sqrt(network.units)}


def descend(device: Any, rule: Any, task: Any, theta: Parameters, *, steps: int, rate: float) -> Any:
    """Plain gradient descent: (theta, misalignment before every step)."""
    angles = []
    for k in range(steps):
        batch, noise = task.training_batch(k, 32, 0), NOISE.at_step(k)
        held = device.program(theta)
        free, _ = settle_free(device, batch, rule.needs, noise)
        estimate = rule.estimate(device, held, batch, task, free, noise)
        angles.append(estimate.diagnostics.get("misalignment", math.nan))
        theta = theta - rate * estimate.gradients
    return theta, np.array(angles)


@pytest.mark.parametrize("rule", [FiniteHorizonEP(), AdjointPlayback(), EquilibriumPropagation(probe=Transposed())])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_difference_of_the_arrays_decays_at_the_rate_that_it_is_told(rule: Any, noisy: bool) -> None:
    network, task = LeakyNetwork.dense(8, 6), RandomClasses(units=8, inputs=6)
    device = pair(network, imperfections=[ThermalNoise(0.1)] if noisy else [])
    theta, rate, decay, steps = start(network, task, 0), 0.2, 0.5, 20
    apart = theta["W"] - theta["feedback.W"]
    moved, angles = descend(device, KolenPollack(rule=rule, decay=decay), task, theta, steps=steps, rate=rate)
    expected = (1.0 - rate * decay) ** steps * apart
    assert np.abs(moved["W"] - moved["feedback.W"] - expected).max() < 1e-12
    assert angles[-1] < angles[0] - 0.05
    assert np.abs(moved["W"] - theta["W"]).max() > 0.05  # something was learned meanwhile


def test_the_arrays_align_as_learning_goes_on() -> None:
    # what the arrays have in common is learned, and what they have not is forgotten
    network, task = LeakyNetwork.dense(8, 6), RandomClasses(units=8, inputs=6)
    theta = start(network, task, 0)
    _, angles = descend(pair(network), KolenPollack(decay=0.04), task, theta, steps=150, rate=0.5)
    assert angles[0] > 1.4
    assert (np.diff(angles[::30]) < 0).all()
    assert angles[-1] < 0.5 * angles[0]  # 5 % of the difference is left, and W has decayed as well


def test_without_decay_a_difference_stays() -> None:
    network, task = LeakyNetwork.dense(8, 6), RandomClasses(units=8, inputs=6)
    theta = start(network, task, 0)
    moved, _ = descend(pair(network), KolenPollack(decay=0.0), task, theta, steps=10, rate=0.2)
    assert np.allclose(moved["W"] - moved["feedback.W"], theta["W"] - theta["feedback.W"], atol=1e-13)


def test_the_misalignment_is_an_angle_of_what_was_read_back() -> None:
    network, task = LeakyNetwork.dense(8, 6), RandomClasses(units=8, inputs=6)
    theta = start(network, task, 0)
    for B, angle in ((2.0 * theta["W"], 0.0), (-theta["W"], math.pi), (0.0 * theta["W"], math.nan)):
        _, angles = descend(pair(network), KolenPollack(), task, theta | {"feedback.W": B}, steps=1, rate=0.0)
        assert angles[0] == pytest.approx(angle, abs=1e-6, nan_ok=True)


def test_aligned_arrays_estimate_what_the_transpose_does() -> None:
    network, task = LeakyNetwork.dense(8, 6), RandomClasses(units=8, inputs=6)
    drawn = start(network, task, 0)
    aligned = drawn | {"feedback.W": drawn["W"]}
    moved, _ = descend(pair(network), KolenPollack(decay=0.0), task, aligned, steps=5, rate=0.2)
    single = SimulatedDevice(network, horizon=STEPS, step_size=EPS)
    plain = Parameters({name: block for name, block in drawn.items() if name != "feedback.W"})
    expected, _ = descend(single, FiniteHorizonEP(), task, plain, steps=5, rate=0.2)
    for name, block in expected.items():
        assert np.abs(moved[name] - block).max() < 1e-12
    assert np.abs(moved["feedback.W"] - moved["W"]).max() < 1e-12


def test_digits_are_learned_nearly_as_with_the_transpose() -> None:
    task = Digits(units=24)
    network = LeakyNetwork.dense(24, task.inputs)

    def loss(device: Any, rule: Any, theta: Parameters) -> tuple[float, float, float]:
        moved, angles = descend(device, rule, task, theta, steps=150, rate=0.2)
        held, seen = device.program(moved), task.validation
        free, _ = settle_free(device, seen, rule.needs, NOISE)
        return float(task.loss(free.final, seen.targets, held)), angles[0], angles[-1]

    theta = start(network, task, 0)
    learned, before, after = loss(pair(network), KolenPollack(decay=0.05), theta)
    plain = Parameters({name: block for name, block in theta.items() if name != "feedback.W"})
    single = SimulatedDevice(network, horizon=STEPS, step_size=EPS)
    transposed, _, _ = loss(single, FiniteHorizonEP(), plain)
    assert transposed < 0.4  # where chance is 2.3
    assert learned < 1.15 * transposed
    assert before == pytest.approx(math.pi / 2, abs=0.1)
    assert after < 0.75 * before  # (1 - lr decay)^150 of the difference, 22 %, is left


# --- Contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [FiniteHorizonEP(kick=2.0), AdjointPlayback(transient=LowPass())])
def test_it_keeps_the_laws_of_rules(rule: Any) -> None:
    network = LeakyNetwork.dense(8, 5)
    check_rule(lambda: KolenPollack(rule=rule, decay=0.1), lambda: pair(network))
    noisy = [ThermalNoise(0.05)]
    check_rule(lambda: KolenPollack(rule=rule, decay=0.1), lambda: pair(network, imperfections=noisy, dtype=np.float32))


def test_other_couplings_have_mirrors_too() -> None:
    network = LinearLangevin(units=8, inputs=5, coupling=Dense(8))
    check_rule(lambda: KolenPollack(decay=0.1), lambda: pair(network, ("A",)))


@pytest.mark.parametrize(
    "rule", [FiniteHorizonEP(), FiniteHorizonEP(transient=LowPass()), AdjointPlayback()], ids=["fh", "traces", "played"]
)
@pytest.mark.parametrize("window", [None, (4, 10)])
def test_its_ladder_ends_where_it_delivers(rule: Any, window: Any) -> None:
    network, task = LeakyNetwork.dense(12, 6), RandomClasses(units=12, inputs=6)
    seen: Any = task if window is None else Windowed(task=task, first=window[0], last=window[1])
    device, batch = pair(network), task.training_batch(0, 4, 0)
    held = device.program(start(network, task, 1))
    whole = KolenPollack(rule=rule, decay=0.1)
    free, _ = settle_free(device, batch, whole.needs, NOISE)
    found = whole.estimate(device, held, batch, seen, free, NOISE).gradients
    states = free.recorded
    shot = Snapshot(model=device.model, theta=held, batch=batch, task=seen, states=states, step_size=EPS)
    rungs = [ideal.gradient(shot) for ideal in whole.ladder.ideals]
    assert len(rungs) == 2 + len(rule.ladder.ideals)
    assert (rungs[-1] - found).norm() < 1e-12 * found.norm()
    # the first rung is the one that matters here, and nothing on it before the last is about the feedback array
    judge = bptt_along(device.model, held, batch, seen, states, EPS)
    assert not rungs[-2]["feedback.W"].any()
    assert 0.0 < cosine(rungs[0], judge) < 0.99
    aligned = held | {"feedback.W": held["W"]}
    level = Snapshot(model=device.model, theta=aligned, batch=batch, task=seen, states=states, step_size=EPS)
    assert (whole.ladder.ideals[0].gradient(level) - judge).norm() < 1e-13 * judge.norm()


def test_what_it_cannot_serve_is_refused() -> None:
    with pytest.raises(InputError, match="drives the couplings backwards"):
        KolenPollack(rule=FiniteHorizonEP(probe=Corrected()))
    with pytest.raises(InputError, match="decay >= 0"):
        KolenPollack(decay=-1.0)
    single = SimulatedDevice(LeakyNetwork.dense(8, 5), horizon=STEPS)
    with pytest.raises(CapabilityError, match="a feedback array"):
        require(KolenPollack(), single.spec)
    assert (
        KolenPollack(rule=EquilibriumPropagation(probe=Transposed())).ladder.finite == "what the rule inside gives up"
    )
