"""One chip that serves a batch lane by lane, and wears out; and what is refused wherever it is named."""

import numpy as np
import pytest
from chip_setting import DENSE, PCM, made
from device_setting import INPUTS, NOISE, UNITS, T, draw, plan

from hwsim.contracts.errors import InputError
from hwsim.contracts.plan import At, Phase
from hwsim.devices.imperfections import (
    ADC,
    Drift,
    Endurance,
    FlickerNoise,
    OneByOne,
    Range,
    ReadNoise,
    ThermalNoise,
    ecram,
)


@pytest.mark.parametrize("imperfections", [(), (ThermalNoise(0.1), ADC(10), FlickerNoise(0.1, 1e3, 1e6))])
def test_lanes_one_by_one_are_lanes_at_once_where_nothing_drifts(imperfections):
    together, _ = made(DENSE, imperfections)
    alone, _ = made(DENSE, [*imperfections, OneByOne(0.1)])
    kick, values = draw(4, UNITS), draw(4, 2)
    asked = plan(
        4,
        Phase(steps=8, force=draw(8, 4, UNITS), record=2),
        Phase(steps=8, displace=kick, correct_at=kick),
        Phase(steps=8, clamp=(np.array([0, 3]), values)),
        start=At(draw(4, UNITS, seed=2)),
        repeats=np.array([0, 3, 1, 1]),
    )
    for first, second in zip(alone.relax(asked, noise=NOISE), together.relax(asked, noise=NOISE), strict=True):
        step = ADC(10).lsb if imperfections else 1e-12  # rounding may tip a read over a border between two codes
        assert np.abs(first.final - second.final).max() <= step
        assert first.residual == pytest.approx(second.residual, rel=1e-9)
        assert np.array_equal(first.outcome, second.outcome)
    assert np.abs(first.final - second.final).mean() <= step / 100
    linear = plan(4, Phase(steps=8, force=kick, record=4))
    at = draw(9, 4, UNITS)
    back = [device.relax_transpose(at, linear, noise=NOISE)[0] for device in (alone, together)]
    assert np.abs(back[0].recorded - back[1].recorded).max() <= step


def test_a_chip_drifts_and_flickers_between_the_lanes_that_it_runs():
    pair = PCM.pair
    inputs, ids = np.tile(draw(1, INPUTS), (3, 1)), np.zeros(3, int)
    drifting, _ = made(DENSE, [Drift(pair=pair), OneByOne(100.0)])
    (run,) = drifting.relax(plan(3, Phase(steps=T), inputs=inputs, ids=ids), noise=NOISE)
    assert np.abs(np.diff(run.final, axis=0)).max(axis=1).min() > 1e-3
    again, _ = made(DENSE, [Drift(pair=pair)])
    again.wait(2 * (100.0 + T * again.spec.dt))  # the third lane, on its own
    (third,) = again.relax(plan(1, Phase(steps=T), inputs=inputs[:1], ids=ids[:1]), noise=NOISE)
    assert third.final[0] == pytest.approx(run.final[2], abs=1e-12)

    flickering, _ = made(DENSE, [ReadNoise(pair=pair), OneByOne()])
    asked = plan(3, Phase(steps=T), inputs=inputs, ids=np.array([4, 5, 4]))
    (run,) = flickering.relax(asked, noise=NOISE)
    # the same sample and repeat is the same draw, a few time constants of a noise that grows with the log of time later
    assert run.final[2] == pytest.approx(run.final[0], abs=1e-6)
    assert np.abs(run.final[0] - run.final[1]).max() > 1e-3
    assert np.array_equal(flickering.relax(asked, noise=NOISE)[0].final, run.final)


def test_parameters_wear_out_one_by_one_and_stay():
    device, held = made(DENSE, [Endurance(cycles=20.0, spread=0.5, blocks=("W",))])
    theta = DENSE.initial(0, gain=0.9, input_gain=1.0)
    alive = []
    for write in range(1, 60):
        now = device.program(theta * (1.0 + write))
        moved = now["W"] != held["W"]
        alive.append(np.mean(moved))
        assert np.array_equal(now["U"], (theta * (1.0 + write))["U"])
        held = now
    alive = np.array(alive)
    assert (np.diff(alive) <= 0).all()
    # half are gone after the median lifetime: within 4 standard errors of a fraction
    assert alive[19] == pytest.approx(0.5, abs=4 * 0.5 / UNITS + 0.04)
    assert device.written.stuck > 0
    pulsed, held = made(DENSE, [*ecram(), Endurance(cycles=1.0)], gain=0.5)
    assert np.array_equal(pulsed.adjust(held.zeros() | {"W": np.ones((UNITS, UNITS))})["W"], held["W"])


@pytest.mark.parametrize(
    "imperfection", [Range(low=-1.0, high=1.0, blocks=("V",)), ReadNoise(pair=PCM.pair, blocks=("V", "W"))]
)
def test_blocks_that_the_substrate_does_not_have_are_refused_wherever_they_are_named(imperfection):
    with pytest.raises(InputError, match=r"names blocks \['V'\]; LeakyNetwork has \['U', 'W', 'b'\]"):
        made(DENSE, [imperfection])


def test_schedules_and_lifetimes_that_make_no_sense():
    with pytest.raises(InputError, match="at least 0 s apart; found -1"):
        OneByOne(-1.0)
    with pytest.raises(InputError, match="cycles >= 1 and spread >= 0"):
        Endurance(cycles=0.5)
    with pytest.raises(InputError, match="at most 1 schedules; found 2"):
        made(DENSE, [OneByOne(), OneByOne()])
