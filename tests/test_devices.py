"""Simulated devices: every engine takes the same path from the same noise, and what is reported is what happened."""

import numpy as np
import pytest
import torch
from device_setting import EPS, INPUTS, KINDS, NOISE, SIGMA, UNITS, T, device, draw, every_kind, largest, plan

from hwsim.contracts.device import Capability
from hwsim.contracts.noise import PHYSICAL, Stream
from hwsim.contracts.plan import At, Phase, RandomStart
from hwsim.devices import SIMULATED, Fused, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.plants import TILE
from hwsim.reference import to_torch, unroll
from hwsim.substrates import LeakyNetwork

# --- One trajectory, three ways to compute it ---------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(("dtype", "within"), [(np.float64, 1e-12), (np.float32, 1e-5)], ids=["float64", "float32"])
def test_fused_kernels_and_torch_take_the_same_path(network, dtype, within):
    lanes, z0 = 37, draw(37, UNITS)
    fused = device(network, dtype=dtype, imperfections=[ThermalNoise(SIGMA)])
    theta = network.initial(0, gain=0.9, input_gain=1.0)
    (run,) = fused.relax(plan(lanes, start=At(z0)), noise=NOISE)
    assert run.final.dtype == dtype
    xi = NOISE.normals(Stream.THERMAL, np.arange(lanes), units=UNITS, steps=T)
    states = unroll(
        network,
        to_torch(theta),
        torch.tensor(draw(lanes, INPUTS)),
        torch.tensor(z0),
        step_size=EPS,
        steps=T,
        increments=torch.tensor(SIGMA * np.sqrt(2.0 * EPS) * xi),
    )
    assert largest(run.recorded, states.numpy()) < within
    assert np.array_equal(run.final, run.recorded[-1])


PHASES = {
    "plain": lambda b: (Phase(steps=7),),
    "no steps": lambda b: (Phase(steps=0, record=1),),
    "recorded": lambda b: (Phase(steps=7, record=3),),
    "force": lambda b: (Phase(steps=7, force=draw(b, UNITS), record=1),),
    "waveform": lambda b: (Phase(steps=7, force=draw(7, b, UNITS), record=1),),
    "kick": lambda b: (Phase(steps=7, displace=draw(b, UNITS), record=1),),
    "corrected": lambda b: (Phase(steps=7, correct_at=draw(b, UNITS), record=1),),
    "all at once": lambda b: (
        Phase(steps=5),
        Phase(
            steps=6,
            force=draw(6, b, UNITS),
            displace=draw(b, UNITS, seed=1),
            correct_at=draw(b, UNITS, seed=2),
            record=2,
        ),
        Phase(steps=3, record=1),
    ),
}


@every_kind
@pytest.mark.parametrize("phases", PHASES.values(), ids=PHASES.keys())
def test_fused_and_stepwise_agree_on_every_feature(network, phases):
    lanes = 35
    asked = plan(lanes, *phases(lanes), start=RandomStart(0.5), ids=np.arange(lanes) // 2, repeats=np.arange(lanes) % 2)
    runs = [
        device(network, engine=engine, imperfections=[ThermalNoise(SIGMA)]).relax(asked, noise=NOISE)
        for engine in (Fused(), Stepwise())
    ]
    for fused, stepwise in zip(*runs, strict=True):
        assert largest(fused.final, stepwise.final) < 1e-12
        assert fused.residual == pytest.approx(stepwise.residual, rel=1e-11)
        assert np.array_equal(fused.outcome, stepwise.outcome)
        assert (fused.states is None) == (stepwise.states is None)
        if fused.states is not None:
            assert fused.states.shape == stepwise.states.shape
            assert largest(fused.states, stepwise.states) < 1e-12


@pytest.mark.parametrize("force", [None, "force", "waveform"])
@pytest.mark.parametrize("playback", [False, True], ids=["held", "played back"])
@every_kind
def test_fused_and_stepwise_agree_on_the_transposed_response(network, playback, force):
    lanes, steps = 35, 6
    at = draw(steps + 1, lanes, UNITS) if playback else draw(lanes, UNITS)
    push = {None: None, "force": draw(lanes, UNITS, seed=3), "waveform": draw(steps, lanes, UNITS, seed=3)}[force]
    asked = plan(
        lanes,
        Phase(steps=steps, force=push, displace=draw(lanes, UNITS, seed=4), record=2),
        start=At(draw(lanes, UNITS, seed=5)),
    )
    fused, stepwise = (
        device(network, engine=engine, imperfections=[ThermalNoise(SIGMA)]).relax_transpose(at, asked, noise=NOISE)[0]
        for engine in (Fused(), Stepwise())
    )
    assert largest(fused.final, stepwise.final) < 1e-12
    assert largest(fused.recorded, stepwise.recorded) < 1e-12


def test_transposed_response_is_the_product_of_transposed_steps():
    network, lanes = KINDS["dense-Tanh"], 3
    here, at = device(engine=Stepwise()), draw(T + 1, lanes, UNITS)
    theta, x, a = network.initial(0, gain=0.9, input_gain=1.0), draw(lanes, INPUTS), draw(lanes, UNITS, seed=1)
    asked = plan(lanes, Phase(steps=T, displace=a))
    held, played = (here.relax_transpose(where, asked, noise=NOISE)[0].final for where in (at[-1], at))
    steps = np.eye(UNITS) + EPS * np.stack([network.jacobian(z, x, theta) for z in at])
    for k in reversed(range(T)):  # D(z_0)^T ... D(z_{T-1})^T a, the gains of z_T not used
        a = np.einsum("bij,bi->bj", steps[k], a)
    assert largest(played, a) < 1e-12
    b = draw(lanes, UNITS, seed=1)
    for _ in range(T):
        b = np.einsum("bij,bi->bj", steps[-1], b)
    assert largest(held, b) < 1e-12


# --- Bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_the_bits_do_not_depend_on_the_threads(dtype):
    lanes = 2 * TILE + 11
    asked = plan(
        lanes,
        Phase(steps=T, record=5),
        Phase(steps=T, force=draw(lanes, UNITS), correct_at=draw(lanes, UNITS, seed=1)),
        start=RandomStart(1.0),
    )
    at, runs = draw(lanes, UNITS, seed=2), []
    for threads in (1, 2):
        with device(threads=threads, dtype=dtype, imperfections=[ThermalNoise(SIGMA)]) as here:
            relaxed = here.relax(asked, noise=NOISE)
            back = here.relax_transpose(at, plan(lanes, Phase(steps=T, force=at)), noise=NOISE)
            runs.append([relaxed[0].recorded, relaxed[1].final, relaxed[1].residual, back[0].final])
    assert all(np.array_equal(one, two) for one, two in zip(*runs, strict=True))


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("units", "lanes"), [(64, 1), (64, 32), (64, 33), (17, 33), (18, 33), (27, 33), (38, 5), (50, 37), (300, 5)]
)
def test_twins_that_start_together_stay_together_to_the_bit(units, lanes, dtype):
    # wherever the two lanes of a pair come to lie among the tiles
    network = LeakyNetwork.dense(units, INPUTS)
    here = device(network, dtype=dtype, gain=1.5, imperfections=[ThermalNoise(SIGMA)])
    z, at = np.concatenate([draw(lanes, units)] * 2), np.concatenate([draw(lanes, units, seed=1)] * 2)
    pair = {"ids": np.tile(np.arange(lanes), 2), "inputs": np.concatenate([draw(lanes, INPUTS)] * 2), "start": At(z)}
    free, corrected = here.relax(plan(2 * lanes, Phase(steps=T), Phase(steps=T, correct_at=at), **pair), noise=NOISE)
    (back,) = here.relax_transpose(at, plan(2 * lanes, Phase(steps=T), **pair), noise=NOISE)
    for run in (free, corrected, back):
        assert np.array_equal(run.final[:lanes], run.final[lanes:])


def test_other_repeats_are_other_noise():
    lanes = 4
    pair = {"ids": np.tile(np.arange(lanes), 2), "inputs": np.concatenate([draw(lanes, INPUTS)] * 2)}
    apart = plan(2 * lanes, repeats=np.repeat([0, 1], lanes), **pair)
    (run,) = device(imperfections=[ThermalNoise(SIGMA)]).relax(apart, noise=NOISE)
    assert (np.abs(run.final[:lanes] - run.final[lanes:]).max(axis=1) > SIGMA / 10).all()


def test_samples_keep_their_path_when_the_batch_is_reordered():
    lanes = 45
    order = np.random.default_rng(0).permutation(lanes)
    here, x = device(imperfections=[ThermalNoise(SIGMA)]), draw(lanes, INPUTS)
    (run,) = here.relax(plan(lanes, start=RandomStart(1.0)), noise=NOISE)
    (shuffled,) = here.relax(plan(lanes, start=RandomStart(1.0), ids=order, inputs=x[order]), noise=NOISE)
    assert largest(shuffled.recorded, run.recorded[:, order]) < 1e-12
    some = order[:7]
    (fewer,) = here.relax(plan(7, start=RandomStart(1.0), ids=some, inputs=x[some]), noise=NOISE)
    assert largest(fewer.recorded, run.recorded[:, some]) < 1e-12


# --- Noise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [Fused(), Stepwise()], ids=["fused", "stepwise"])
def test_isolated_units_fluctuate_as_euler_steps_of_a_leak_must(engine):
    # z' = (1 - eps) z + sigma sqrt(2 eps) xi is stationary at variance sigma^2 2 / (2 - eps)
    sigma, eps, lanes = 0.3, 0.5, 400
    network = KINDS["dense-Tanh"]
    here = SimulatedDevice(network, horizon=60, step_size=eps, imperfections=[ThermalNoise(sigma)], engine=engine)
    here.program(network.initial(0, gain=1.0, input_gain=1.0) * 0.0)
    (run,) = here.relax(plan(lanes, Phase(steps=60)), noise=NOISE)
    z = run.final
    expected = sigma**2 * 2.0 / (2.0 - eps)
    assert abs(np.var(z) / expected - 1.0) < 4.0 * np.sqrt(2.0 / z.size)
    assert abs(np.mean(z)) < 4.0 * np.sqrt(expected / z.size)
    # the continuous-time value sigma^2 lies outside, so that the test can tell them apart
    assert abs(sigma**2 / expected - 1.0) > 8.0 * np.sqrt(2.0 / z.size)


def test_a_random_start_has_its_spread_and_differs_from_step_to_step():
    here, asked = device(), plan(400, Phase(steps=0), start=RandomStart(2.0))
    first, again, later = (here.relax(asked, noise=n)[0].final for n in (NOISE, NOISE, NOISE.at_step(9)))
    assert np.std(first) == pytest.approx(2.0, rel=4.0 / np.sqrt(2.0 * first.size))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), later.ravel())[0, 1]) < 4.0 / np.sqrt(first.size)


@pytest.mark.parametrize("replayable", [True, False])
def test_physical_noise_is_never_the_same_twice_but_comes_from_the_seed(replayable):
    capabilities = SIMULATED if replayable else SIMULATED - {Capability.REPLAYABLE_NOISE}
    noise = PHYSICAL if replayable else NOISE  # a device that cannot replay ignores the address

    def settle_twice(seed):
        made = SimulatedDevice(
            KINDS["dense-Tanh"], horizon=T, imperfections=[ThermalNoise(SIGMA)], seed=seed, capabilities=capabilities
        )
        made.program(KINDS["dense-Tanh"].initial(0, gain=0.9, input_gain=1.0))
        return [made.relax(plan(6), noise=noise)[0].final for _ in range(2)]

    first, second = settle_twice(1)
    assert np.abs(first - second).max() > SIGMA / 10
    assert all(np.array_equal(a, b) for a, b in zip((first, second), settle_twice(1), strict=True))
    assert np.abs(first - settle_twice(2)[0]).max() > SIGMA / 10


def test_no_two_lanes_share_noise_on_a_device_without_twins():
    network = KINDS["dense-Tanh"]
    capabilities = SIMULATED - {Capability.TWINS, Capability.REPLAYABLE_NOISE}
    here = device(network, capabilities=capabilities, imperfections=[ThermalNoise(SIGMA)])
    (run,) = here.relax(plan(2, ids=np.zeros(2, np.int64), inputs=np.zeros((2, INPUTS))), noise=NOISE)
    assert np.abs(run.final[0] - run.final[1]).max() > SIGMA / 10
