"""The torch engine against the plain one: the same trajectories from the same addresses, with nothing made anew."""

import argparse
import gc
import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import INPUTS, SUBSTRATES, UNITS
from torch.utils._python_dispatch import TorchDispatchMode

from hwsim.cli.methods import compose, engine_named, task_of
from hwsim.cli.options import add_verdict_options, setups_of
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Outcome, Phase, Plan
from hwsim.devices import (
    Euler,
    Exponential,
    Heun,
    Integrator,
    Products,
    SimulatedDevice,
    Stepwise,
    ThermalNoise,
    TorchEngine,
)
from hwsim.devices.imperfections import Mismatch, Rails, SlewRate
from hwsim.devices.torch.noise import HOST_BLOCK, DeviceDraws, HostDraws
from hwsim.reference import Place
from hwsim.substrates import EnergyNetwork, Hard, LeakyNetwork, ReLU, Softplus

B, T = 5, 12
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
"""Of the largest state: a dozen contracting steps, each rounded in another order."""
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
MORE = {
    "softplus": lambda: EnergyNetwork.symmetric(UNITS, INPUTS, Softplus()),
    "hard": lambda: EnergyNetwork.symmetric(UNITS, INPUTS, Hard()),
    "relu": lambda: LeakyNetwork.dense(UNITS, INPUTS, ReLU()),
}
EVERY = pytest.mark.parametrize("name", [*SUBSTRATES, *MORE])
SPREAD = Mismatch(gain=0.1, offset=0.1, time_constant=0.2, log_normal=True)
CHIPS = {
    "as drawn": [],
    "noisy": [ThermalNoise(0.05)],
    "spread": [SPREAD, ThermalNoise(0.05)],
    "railed": [Rails(low=-0.2, high=0.25), ThermalNoise(0.05)],
    "slow": [SPREAD, SlewRate(volts_per_second=1e5), Rails(low=-0.2, high=0.25), ThermalNoise(0.05)],
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors on a busy machine: torch's threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def device(name, chip="as drawn", *, engine, **options):
    substrate = (SUBSTRATES | MORE)[name]()
    physical = substrate.scale is not None  # volts of its own, for which these slew limits would be none
    imperfections = [one for one in CHIPS[chip] if not (physical and isinstance(one, SlewRate))]
    return SimulatedDevice(substrate, horizon=T, imperfections=imperfections, engine=engine, die_seed=3, **options)


def parameters(device, seed=0):
    draw = np.random.default_rng(seed)
    blocks = {}
    for name, shape in device.spec.shapes.items():
        size = 0.5 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.2
        blocks[name] = size * draw.standard_normal(shape)
        if name == "A":
            blocks[name] = blocks[name] + np.eye(UNITS)
        if name == "g":
            blocks[name] = np.abs(blocks[name]) + 0.1
    return Parameters(blocks)


def plan(*phases, seed=1, start=None, lanes=B):
    draw = np.random.default_rng(seed)
    state = 0.3 * draw.standard_normal((lanes, UNITS))
    return Plan(
        inputs=draw.standard_normal((lanes, INPUTS)),
        ids=np.arange(lanes) + 7,
        repeats=np.arange(lanes) % 2,
        start=At(state) if start is None else start,
        phases=phases,
    )


def drawn(*shape, seed=2):
    return 0.3 * np.random.default_rng(seed).standard_normal(shape)


def assert_same(found, wanted, dtype, *, within=None):
    tolerance = TOLERANCE[dtype] if within is None else within
    for one, other in zip(found, wanted, strict=True):
        scale = max(1.0, float(np.abs(other.final).max()))
        assert one.final.dtype == other.final.dtype
        np.testing.assert_allclose(one.final, other.final, rtol=0, atol=tolerance * scale)
        # a difference of two states over a small step
        np.testing.assert_allclose(one.residual, other.residual, rtol=0, atol=30 * tolerance * scale)
        np.testing.assert_array_equal(one.outcome, other.outcome)
        assert (one.states is None) == (other.states is None)
        if one.states is not None:
            np.testing.assert_allclose(one.states, other.states, rtol=0, atol=tolerance * scale)


def check(name, chip, dtype, plans, *, engine=None, transposed=(), within=None, **options):
    """Every plan on both engines; then other parameters and another noise, so that nothing of before is left over."""
    ours, theirs = (
        device(name, chip, engine=made, dtype=dtype, **options) for made in (engine or TorchEngine(), Stepwise())
    )
    coarse = NoisePath(seed=3, step=9, repeat=4, coarse=3)
    for seed, noise, some in ((0, NoisePath(seed=3, step=1), plans), (1, coarse, plans[:1])):
        theta = parameters(ours, seed)
        held, wanted = ours.program(theta), theirs.program(theta)
        for block, value in wanted.items():
            np.testing.assert_array_equal(held[block], value)
        for one in some:
            assert_same(ours.relax(one, noise=noise), theirs.relax(one, noise=noise), dtype, within=within)
        for at, one in transposed[: len(some)]:
            found, judge = (each.relax_transpose(at, one, noise=noise) for each in (ours, theirs))
            assert_same(found, judge, dtype, within=within)
    ours.close()


PLANS = [
    plan(Phase(steps=T)),
    plan(Phase(steps=T, force=drawn(B, UNITS), record=5), Phase(steps=3, displace=drawn(B, UNITS), record=1)),
    plan(Phase(steps=T, force=drawn(T, B, UNITS), record=1), Phase(steps=0, record=2), Phase(steps=1)),
]
CORRECTED = [plan(Phase(steps=T, correct_at=drawn(B, UNITS), force=drawn(B, UNITS, seed=3)))]
CLAMPED = [plan(Phase(steps=T, clamp=(np.array([1, 4]), drawn(B, 2)), record=4), Phase(steps=2))]
RESPONSES = [
    (drawn(B, UNITS), plan(Phase(steps=T, force=drawn(B, UNITS)), start=At(drawn(B, UNITS, seed=5)))),
    (drawn(T + 1, B, UNITS), plan(Phase(steps=T, displace=drawn(B, UNITS), record=3), start=At(np.zeros((B, UNITS))))),
]


@EVERY
@pytest.mark.parametrize(("chip", "dtype"), [("as drawn", np.float64), ("slow", np.float64), ("slow", np.float32)])
def test_it_settles_and_responds_as_the_plain_engine_does(name, chip, dtype):
    check(name, chip, dtype, [*PLANS, *CORRECTED, *CLAMPED], transposed=RESPONSES)


@pytest.mark.parametrize("chip", ["noisy", "spread", "railed"])
@pytest.mark.parametrize("name", ["dense", "energy", "resistors and diodes", "a field of one's own"])
def test_every_kind_of_chip(name, chip):
    check(name, chip, np.float64, PLANS, transposed=RESPONSES)


@pytest.mark.parametrize("integrator", [Heun, Exponential])
@pytest.mark.parametrize("name", ["dense", "identity", "Langevin", "resistors and diodes"])
def test_every_integrator(name, integrator):
    """With rails: a push that is a matrix must not pass on what presses against them."""
    check(name, "railed", np.float64, [*PLANS, *CLAMPED], transposed=RESPONSES[:1], integrator=integrator)


@BOTH
@pytest.mark.parametrize("name", ["dense", "energy", "oscillators", "resistors", "Langevin"])
def test_noise_drawn_in_torch_as_on_a_gpu(name, dtype):
    check(name, "spread", dtype, PLANS, engine=TorchEngine(draws_in_torch=True))


@pytest.mark.parametrize("units", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("coarse", [1, 3])
def test_both_ways_to_draw_are_the_frozen_layout(units, coarse):
    from hwsim.devices.engines import Stretch
    from hwsim.devices.lanes import Lanes

    path = NoisePath(seed=2**32 - 1, step=2**31 + 5, repeat=300, coarse=coarse)
    ids, repeats = np.array([0, 5, 2**32 - 1], np.uint32), np.array([0, 2, 4], np.uint32)
    lanes = Lanes(path=path, ids=ids, repeats=repeats, units=units)
    stretch = Stretch(
        x=np.zeros((3, 1)), steps=9, force=None, correct_at=None, low=None, high=None, record=0, index=255, lanes=lanes,
    )  # fmt: skip
    wanted = path.normals(Stream.THERMAL, ids, units=units, steps=9, phase=255, repeats=repeats)
    for dtype, within in ((torch.float64, 1e-13), (torch.float32, 3e-6)):
        clock = torch.zeros(1, dtype=torch.int64)
        on_host = HostDraws(3, units, np.dtype(str(dtype).removeprefix("torch.")))
        in_torch = DeviceDraws(3, units, coarse, dtype, torch.device("cpu"))
        for draws in (on_host, in_torch):
            clock.zero_()
            draws.begin(stretch)
            for step in range(9):
                draws.prepare(step)
                draws.draw(clock)
                clock.add_(1)
                np.testing.assert_allclose(draws.xi.numpy(), wanted[step], rtol=0, atol=within)


def test_an_address_out_of_range_is_refused():
    made = device("dense", "noisy", engine=TorchEngine(draws_in_torch=True))
    made.program(parameters(made))
    one = plan(Phase(steps=T))
    with pytest.raises(InputError, match="repeat"):
        made.relax(one, noise=NoisePath(seed=0, repeat=2**16 - 1))


@pytest.mark.parametrize("name", ["dense", "oscillators", "Langevin"])
def test_complex_states(name):
    force = drawn(B, UNITS) + 1j * drawn(B, UNITS, seed=9)
    one = plan(Phase(steps=T, force=force, record=3), Phase(steps=4, correct_at=drawn(B, UNITS)))
    clamped = plan(Phase(steps=T, clamp=(np.array([2]), force[:, :1])))
    check(name, "noisy", np.float64, [one, clamped])
    check(name, "noisy", np.float32, [one, clamped])


def test_lanes_that_blow_up_keep_to_themselves():
    made = device("relu", engine=TorchEngine())
    made.program(parameters(made) | {"W": 400.0 * np.eye(UNITS)})
    start = np.zeros((B, UNITS))
    start[2] = 1e300
    (run,) = made.relax(
        Plan(inputs=np.zeros((B, INPUTS)), ids=np.arange(B), start=At(start), phases=(Phase(steps=T),)),
        noise=NoisePath(seed=0),
    )
    assert run.outcome.tolist()[2] == Outcome.DIVERGED
    assert np.isfinite(np.delete(run.final, 2, 0)).all()


def pretended_graph(work):
    """Captures like a GPU does, on the processor: what was recorded is done again, on the same tensors."""
    work()  # a warm-up moves states and clock, which the loop must put back
    return work


@BOTH
@pytest.mark.parametrize("name", ["dense", "energy", "oscillators", "resistors and diodes", "a field of one's own"])
def test_captured_steps_are_the_plain_ones(name, dtype, monkeypatch):
    """The graph on a GPU replays the function that runs here, in pieces; here something stands in for the graph."""
    monkeypatch.setattr("hwsim.devices.torch.loop.SPAN", 4)
    monkeypatch.setattr(TorchEngine, "_capture", lambda engine: pretended_graph)
    check(name, "slow", dtype, [*PLANS, *CLAMPED], engine=TorchEngine(draws_in_torch=True), transposed=RESPONSES)


class Made(TorchDispatchMode):
    """Counts results that are neither written into something given nor a view of it."""

    def __init__(self):
        super().__init__()
        self.calls, self.new = 0, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.calls += 1
        if any(result.alias_info is None for result in operation._schema.returns):
            self.new.append(str(operation))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["dense", "energy", "Langevin", "oscillators", "resistors"])
@pytest.mark.parametrize("chip", ["as drawn", "slow"])
@pytest.mark.parametrize("products", [Products.EXACT, Products.BF16])
def test_a_step_makes_no_tensor(name, chip, products):
    engine = TorchEngine(products=products)
    made = device(name, chip, engine=engine, dtype=np.float32)
    made.program(parameters(made))
    made.relax(PLANS[2], noise=NoisePath(seed=0))
    made.relax(CORRECTED[0], noise=NoisePath(seed=0))
    for at, response in RESPONSES:
        made.relax_transpose(at, response, noise=NoisePath(seed=0))
    loops = [loop for loops in engine._loops.values() for loop in loops.values()]
    assert len(loops) >= 4
    for loop in loops:
        if not loop._terms.steady:
            continue
        loop._clock.zero_()
        with Made() as counted:
            loop.step()
        assert counted.calls > 3
        assert counted.new == []


def test_room_is_used_again_and_given_up_in_turn():
    engine = TorchEngine()
    made = device("dense", "noisy", engine=engine)
    theta = parameters(made)
    for lanes in range(1, 12):
        made.program(theta)
        made.relax(plan(Phase(steps=2), lanes=lanes), noise=NoisePath(seed=0))
    assert len(engine._loops[False]) == 8
    room = {id(loop) for loop in engine._loops[False].values()}
    made.program(theta)
    made.relax(plan(Phase(steps=5), lanes=11), noise=NoisePath(seed=1))
    assert {id(loop) for loop in engine._loops[False].values()} == room


def bytes_held():
    """Of all tensors alive, each storage once."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.device.type == "cpu"]
    return sum({each.data_ptr(): each.nbytes() for each in (one.untyped_storage() for one in tensors)}.values())


def test_memory_does_not_grow_with_the_steps_but_with_what_is_recorded():
    units, lanes = 64, 32
    network = LeakyNetwork.dense(units, INPUTS)
    made = SimulatedDevice(network, horizon=T, imperfections=[ThermalNoise(0.1)], engine=TorchEngine())
    made.program(network.initial(0, gain=0.5, input_gain=1.0))
    before, held = bytes_held(), {}
    x = torch.zeros((lanes, INPUTS), dtype=torch.float64)
    for steps in (50, 500):
        for record in (0, 5):
            phase = Phase(steps=steps, record=record)
            (run,) = made.relax(Plan(inputs=x, ids=np.arange(lanes), phases=(phase,)), noise=NoisePath(seed=0))
            held[steps, record] = bytes_held() - before
            del run
    assert held[50, 0] == held[500, 0]
    drawn_at_once = 8 * HOST_BLOCK
    assert held[500, 0] < 8 * (2 * units**2 + 16 * lanes * units) + drawn_at_once
    assert held[500, 5] - held[500, 0] == 8 * 101 * lanes * units


def test_what_was_read_belongs_to_the_reader():
    made = device("dense", engine=TorchEngine())
    made.program(parameters(made))
    (first,) = made.relax(PLANS[0], noise=NoisePath(seed=0))
    kept = first.final.copy()
    made.relax(plan(Phase(steps=T), seed=8), noise=NoisePath(seed=0))
    np.testing.assert_array_equal(first.final, kept)


ERRORS = {Products.EXACT: 2e-6, Products.TF32: 2e-6, Products.BF16: 1e-2}
"""TF32 is EXACT on the processor."""


@pytest.mark.parametrize("products", ERRORS)
def test_rounded_products_err_as_stated(products):
    network = LeakyNetwork.dense(64, INPUTS)
    theta = network.initial(0, gain=0.8, input_gain=1.0)
    x = np.random.default_rng(0).standard_normal((16, INPUTS))
    one = Plan(inputs=x, ids=np.arange(16), phases=(Phase(steps=60),))
    finals = []
    for engine, dtype in ((Stepwise(), np.float64), (TorchEngine(products=products), np.float32)):
        made = SimulatedDevice(network, horizon=60, engine=engine, dtype=dtype)
        made.program(theta)
        finals.append(made.relax(one, noise=NoisePath(seed=0))[0].final)
    error = np.abs(finals[1] - finals[0]).max() / np.abs(finals[0]).max()
    assert error < ERRORS[products]
    assert (error > 1e-4) == (products is Products.BF16)
    assert torch.get_float32_matmul_precision() == "highest"


class Slow(Integrator):
    def propagator(self, drawn, theta, root):
        return Euler(self.eps).propagator(drawn, theta, root)


def test_what_it_cannot_do_is_refused_by_name():
    with pytest.raises(InputError, match="TorchEngine runs in torch: place=Place"):
        TorchEngine(Place())
    made = device("dense", engine=TorchEngine(products=Products.BF16))
    with pytest.raises(InputError, match="float32 device; found one of float64"):
        made.program(parameters(made))
    made = device("dense", engine=TorchEngine(), integrator=Slow)
    with pytest.raises(InputError, match="Euler, Heun or Exponential; found Slow"):
        made.program(parameters(made))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="sees no CUDA device"):
            TorchEngine(Place(torch="cuda"))


@pytest.mark.parametrize("name", ["dense", "energy", "Langevin", "oscillators", "resistors and diodes", "grid"])
def test_nothing_mixes_devices(name, monkeypatch):
    """Torch's meta device has shapes and no numbers, and most of its operations refuse arrays of another device: a
    stand-in for a GPU, no proof."""
    monkeypatch.setattr("hwsim.reference.place._check", lambda device: None)
    engine = TorchEngine(Place(torch="meta"), products=Products.BF16)
    made = device(name, "slow", engine=engine, dtype=np.float32)
    made.program(parameters(made))
    phases = (
        Phase(steps=2, force=drawn(B, UNITS), displace=drawn(B, UNITS), record=1),
        Phase(steps=2, force=drawn(2, B, UNITS), correct_at=drawn(B, UNITS)),
        Phase(steps=2, clamp=(np.array([1, 4]), drawn(B, 2))),
    )
    one = replace(plan(*phases), inputs=torch.zeros((B, INPUTS), device="meta"))
    for run in made.relax(one, noise=NoisePath(seed=0)):
        for array in (run.final, run.residual, run.outcome):
            assert array.device.type == "meta"
    one = replace(one, phases=(Phase(steps=2, force=drawn(B, UNITS)),))
    for at in (torch.zeros((B, UNITS), device="meta"), torch.zeros((3, B, UNITS), device="meta")):
        (run,) = made.relax_transpose(at, one, noise=NoisePath(seed=0))
        assert run.final.device.type == "meta"


def test_the_gpu_benchmark_runs_small_and_says_where(monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    gpu = importlib.import_module("benchmarks.gpu")
    if not torch.cuda.is_available():
        assert gpu.main([]) == 0
        assert "sees no GPU here: nothing was measured" in capsys.readouterr().out
    told = ["--device", "cpu", "--units", "16", "--lanes", "3", "--steps", "4", "--rounds", "1", "--no-compile"]
    assert gpu.main([*told, "--json", str(tmp_path / "figures.json")]) == 0
    assert "the processor, which says nothing about a GPU" in capsys.readouterr().out
    rows = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["rows"]
    assert {row["engine"] for row in rows} >= {"hwsim exact", "hwsim bf16", "torch eager"}
    assert all(row["ms"] > 0.0 for row in rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_noise_is_the_same_noise():
    check("dense", "noisy", np.float64, PLANS[:1], engine=TorchEngine(draws_in_torch=True, fused=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
@pytest.mark.parametrize("name", ["dense", "energy", "oscillators", "resistors and diodes", "a field of one's own"])
def test_on_a_gpu(name):
    for chip in CHIPS:
        engine = TorchEngine(Place(torch="cuda"))
        check(name, chip, np.float64, [*PLANS, *CORRECTED, *CLAMPED], engine=engine, transposed=RESPONSES, within=1e-11)


def test_the_command_line_names_engines():
    """Three updates of a verdict on torch are those on the compiled kernels."""
    states = []
    for name in ("fused", "stepwise", "torch"):
        parser = argparse.ArgumentParser()
        add_verdict_options(parser)
        told = ["--task", "digits", "--methods", "ep", "--units", "8", "--horizon", "6", "--batch", "4"]
        (setup,) = setups_of(parser.parse_args([*told, "--noise", "0.1", "--warmup", "2", "--engine", name]))
        assert setup.settings.to_json()["engine"] == name
        made = compose("ep", 1, task_of(setup.settings), setup.settings)
        state = made.trainer.start(made.begin())
        for _ in range(3):
            state, _ = made.trainer.advance(state)
        states.append(state)
    for other in states[1:]:
        assert (other.theta - states[0].theta).norm() < 1e-9 * states[0].theta.norm()
    assert engine_named("fused") is None
    assert isinstance(engine_named("torch"), TorchEngine)
