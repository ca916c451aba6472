"""Adjoint playback is BPTT where the device plays back what happened, and near it where the recording is off."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from rule_setting import EPS, NOISE, T, relative, setting
from tables import INPUTS, SUBSTRATES, UNITS

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.ladder import Snapshot
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import cosine
from hwsim.contracts.plan import Carry, RandomStart
from hwsim.contracts.rule import require, settle_free
from hwsim.devices import ADC, SIMULATED, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.imperfections import ReadoutNoise
from hwsim.learning_rules.contrast import Contour, OneSided, RandomSign
from hwsim.learning_rules.finite_horizon import FiniteHorizonEP
from hwsim.learning_rules.playback import AdjointPlayback, swept
from hwsim.learning_rules.transient import Decimated, LowPass
from hwsim.reference import bptt_along
from hwsim.tasks import Windowed
from hwsim.testing import RandomRegression, check_rule
from hwsim.testing.draws import draw_parameters

WINDOWS = {"z_T alone": None, "from 5": (5, None), "5 to 9": (5, 9), "all": (0, None), "z_0 alone": (0, 0)}
SIMULATED_ROWS = {
    "float64": {},
    "noisy float32, random start": {
        "imperfections": [ThermalNoise(0.05)],
        "dtype": np.float32,
        "start": RandomStart(1.0),
    },
    "converter, noisy, carry": {"imperfections": [ADC(8), ThermalNoise(0.05)], "start": Carry()},
    "own noise": {
        "imperfections": [ThermalNoise(0.05)],
        "capabilities": SIMULATED - {Capability.REPLAYABLE_NOISE},
    },
}


def windowed(here: Any, window: Any) -> Any:
    """The same setting in front of a task that looks along the way."""
    if window is None:
        return here
    return dataclasses.replace(here, task=Windowed(task=here.task, first=window[0], last=window[1]))


def exact(here: Any, free: Any) -> Any:
    return bptt_along(here.network, here.theta, here.batch, here.task, free.recorded, here.device.spec.step_size)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("contrast", [None, OneSided(), RandomSign(), Contour(count=2)], ids=repr)
def test_it_is_bptt_on_a_network_far_from_linear(window: Any, contrast: Any) -> None:
    here = windowed(setting(seed=1, gain=1.5, input_gain=2.0, start=RandomStart(1.0)), window)
    free = here.free()
    rule = AdjointPlayback(kick=3.0) if contrast is None else AdjointPlayback(kick=3.0, contrast=contrast)
    assert relative(here.gradient(rule, free), exact(here, free)) < 1e-12


@pytest.mark.parametrize("window", [None, (3, 8)])
@pytest.mark.parametrize("kind", ["energy", "oscillators", "resistors and diodes", "layered"])
def test_it_is_bptt_on_every_substrate(kind: str, window: Any) -> None:
    network = SUBSTRATES[kind]()
    device = SimulatedDevice(network, horizon=12, step_size=0.2, engine=Stepwise(), start=RandomStart(1.0))
    task: Any = RandomRegression(units=UNITS, inputs=INPUTS)
    held = device.program(draw_parameters(device.spec, 3) | task.initial_readout(0, 1.0))
    task = task if window is None else Windowed(task=task, first=window[0], last=window[1])
    batch, rule = task.training_batch(0, 3, 0), AdjointPlayback()
    free, _ = settle_free(device, batch, rule.needs, NOISE)
    found = rule.estimate(device, held, batch, task, free, NOISE)
    expected = bptt_along(network, held, batch, task, free.recorded, 0.2)
    assert expected.analog.norm() > 1e-3
    assert relative(found.gradients, expected) < 1e-12


def test_torch_differentiates_to_the_same() -> None:
    pytest.importorskip("torch")
    from hwsim.reference import bptt

    here = windowed(setting(seed=2, gain=1.5), (4, None))
    z0 = np.zeros((4, 16))
    judge = bptt(here.network, here.theta, here.batch, here.task, z0=z0, step_size=EPS, steps=T)
    assert relative(here.gradient(AdjointPlayback()), judge) < 1e-12


@pytest.mark.parametrize("lanes", [1, 5])
@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.parametrize("window", [None, (0, None), (0, 0)])
def test_short_settlings_and_single_samples(lanes: int, horizon: int, window: Any) -> None:
    here = windowed(setting(seed=3, lanes=lanes, horizon=horizon, start=RandomStart(1.0)), window)
    free = here.free()
    for rule in (AdjointPlayback(), AdjointPlayback(transient=LowPass(ridge=0.0)), FiniteHorizonEP()):
        found, expected = here.gradient(rule, free), exact(here, free)
        if horizon == 1:  # nothing happens in between
            assert relative(found, expected) < 1e-12
        assert found.finite()


def test_a_sample_without_signal_says_nothing() -> None:
    here = setting()
    flat = here.theta | {"readout.V": np.zeros((4, 16))}
    for task in (here.task, Windowed(task=here.task, first=3)):
        found = AdjointPlayback().estimate(here.device, flat, here.batch, task, here.free(), NOISE)
        assert found.gradients.finite()
        assert found.gradients.analog.norm() == 0.0


# --- Recordings that are not quite what happened ------------------------------------------------------------------


def misplayed(free_of: Any) -> tuple[list[float], list[float]]:
    """Errors (relative) of playback and of finite-horizon EP with a recording that is off, medians over networks."""
    played, frozen = [], []
    for seed in range(4):
        here = setting(32, seed=seed, gain=1.5)
        free = here.free()
        off = dataclasses.replace(free_of(here, seed), final=free.final)
        judge = exact(here, free).analog
        played.append(relative(here.gradient(AdjointPlayback(), off).analog, judge))
        frozen.append(relative(here.gradient(FiniteHorizonEP(), off).analog, judge))
    return float(np.median(played)), float(np.median(frozen))  # type: ignore[return-value]


def test_every_bit_of_the_recording_halves_the_error() -> None:
    bits = np.array([4, 6, 8, 10, 12])

    def recorded(count: int) -> Any:
        return lambda here, seed: setting(32, seed=seed, gain=1.5, imperfections=[ADC(count)]).free()

    errors, frozen = np.array([misplayed(recorded(count)) for count in bits.tolist()]).T
    assert np.polyfit(bits, np.log2(errors), 1)[0] == pytest.approx(-1.0, abs=0.2)
    assert (np.diff(errors) < 0).all()
    # from 5 bits on gains that are a little off beat gains that stand still
    assert (errors[1:] < 0.4 * frozen[1:]).all()
    assert frozen[-1] > 0.1


def test_the_error_is_proportional_to_the_noise_of_the_reads() -> None:
    sizes = np.array([0.01, 0.03, 0.1])

    def recorded(sigma: float) -> Any:
        noisy = [ReadoutNoise(sigma)]
        return lambda here, seed: setting(32, seed=seed, gain=1.5, imperfections=noisy).free()

    errors, _ = np.array([misplayed(recorded(sigma)) for sigma in sizes.tolist()]).T
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 0.06


def test_noise_backwards_falls_with_the_kick_and_cancels_where_it_is_shared() -> None:
    here = setting(seed=1, imperfections=[ThermalNoise(0.05)], engine=None)
    free = here.free()
    judge = exact(here, free).analog

    def off(rule: Any) -> float:
        return float(np.mean([relative(here.gradient(rule, free, NOISE.at_step(k)).analog, judge) for k in range(12)]))

    small, large = off(AdjointPlayback(kick=1.0)), off(AdjointPlayback(kick=10.0))
    assert small / large == pytest.approx(10.0, rel=1e-6)  # linear, and the same draws
    assert off(AdjointPlayback(shared_noise=True)) < 1e-12
    # one run in place of two: half the cost, twice the deviation
    ratio = off(AdjointPlayback(contrast=OneSided())) / small
    assert ratio == pytest.approx(math.sqrt(2.0), rel=0.15)


def test_whole_devices_with_converters_need_a_kick_that_they_can_read() -> None:
    here = setting(64, lanes=16, gain=1.5, imperfections=[ADC(8)])
    ideal = setting(64, lanes=16, gain=1.5)
    judge, free = exact(ideal, ideal.free()).analog, here.free()
    errors = [relative(here.gradient(AdjointPlayback(kick=kick), free).analog, judge) for kick in (1.0, 3.0, 8.0)]
    assert errors[0] > 2.0 * errors[1] > 2.0 * errors[2]
    assert errors[2] < 0.03


# --- Contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", SIMULATED_ROWS.values(), ids=SIMULATED_ROWS)
def test_it_keeps_the_laws_of_rules(options: Any) -> None:
    check_rule(
        lambda: AdjointPlayback(kick=4.0, shared_noise=True, contrast=OneSided()),
        lambda: SimulatedDevice(SUBSTRATES["dense"](), horizon=20, **options),
    )
    check_rule(lambda: AdjointPlayback(), lambda: SimulatedDevice(SUBSTRATES["dense"](), horizon=9, **options))


def test_it_needs_playback_and_a_waveform_for_losses_along_the_way() -> None:
    able = SIMULATED - {Capability.PLAYBACK}
    with pytest.raises(CapabilityError, match="playback"):
        require(AdjointPlayback(), setting(2, capabilities=able).device.spec)
    here = windowed(setting(4, capabilities=SIMULATED - {Capability.WAVEFORM}), (3, None))
    with pytest.raises(CapabilityError, match="waveform"):
        here.gradient(AdjointPlayback())
    with pytest.raises(InputError, match="kick > 0"):
        AdjointPlayback(kick=0.0)


@pytest.mark.parametrize("window", [None, (4, 12)])
@pytest.mark.parametrize("transient", [None, LowPass(), Decimated(every=3)], ids=repr)
def test_its_ladder_ends_where_it_delivers(window: Any, transient: Any) -> None:
    if window is not None and isinstance(transient, Decimated):
        pytest.skip("needs every state")
    here = windowed(setting(32, seed=1, gain=1.2), window)
    free = here.free()
    snapshot = Snapshot(
        model=here.network,
        theta=here.theta,
        batch=here.batch,
        task=here.task,
        states=free.recorded,
        step_size=here.device.spec.step_size,
    )
    judge = exact(here, free)
    assert relative(swept(snapshot, gains=free.recorded, states=free.recorded), judge) < 1e-14
    rule = AdjointPlayback() if transient is None else AdjointPlayback(transient=transient)
    last = ([judge] + [ideal.gradient(snapshot) for ideal in rule.ladder.ideals])[-1]
    record = here.free(record=rule.needs.record)
    assert relative(here.gradient(rule, record), last) < 1e-12
    assert len(rule.ladder.ideals) == (transient is not None)
    if transient is not None:
        assert 1e-5 < relative(last, judge) < 0.1
        assert cosine(last, judge) > 0.99


def test_a_sum_may_record_more_than_it_needs() -> None:
    here = setting(seed=1)
    rule = AdjointPlayback(transient=Decimated(every=6))
    alone = here.gradient(rule, here.free(record=6))
    for record in (1, 2, 3):
        assert relative(here.gradient(rule, here.free(record=record)), alone) < 1e-14
    assert (rule.needs | Needs(record=4)).record == 2
    with pytest.raises(InputError, match="recorded every 6 steps"):
        here.gradient(rule, here.free(record=7))
    with pytest.raises(InputError, match="every state of 20 steps"):
        here.gradient(AdjointPlayback(), here.free(record=2), NoisePath(seed=0))
