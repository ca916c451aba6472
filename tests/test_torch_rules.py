"""Rules and training on tensors: the gradients of NumPy, and nothing goes over the host on the way."""

import numpy as np
import pytest
import torch

from hwsim.contracts.device import Capability
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Carry, Outcome, RandomStart
from hwsim.contracts.rule import registered_rules, settle_free
from hwsim.devices import SIMULATED, SimulatedDevice, Stepwise, ThermalNoise, TorchEngine
from hwsim.devices.imperfections import (
    ADC,
    DAC,
    FlickerNoise,
    Mismatch,
    Quantise,
    Rails,
    Range,
    ReadoutNoise,
    SampleSkew,
    StuckAt,
    ecram,
)
from hwsim.learning_rules import EquilibriumPropagation, FiniteHorizonEP
from hwsim.learning_rules.homeostat import ContractionHomeostat
from hwsim.learning_rules.probes import Transposed
from hwsim.learning_rules.stopping import Settling
from hwsim.reference import Place
from hwsim.substrates import EnergyNetwork, LeakyNetwork
from hwsim.tasks import Windowed
from hwsim.testing import RandomClasses
from hwsim.training import Adam, Placed, Trainer, load_state, save_state

UNITS, INPUTS, LANES = 8, 3, 4
TASK = RandomClasses(units=UNITS, inputs=INPUTS)
HERE = Placed(task=TASK, place=Place(torch="cpu"))
RULES = registered_rules() | {
    "ep+homeostat": EquilibriumPropagation() + 10.0 * ContractionHomeostat(),
    "ep that settles": EquilibriumPropagation(steps=Settling(every=4, most=20), probe=Transposed()),
    "renormalised homeostat": ContractionHomeostat(renormalise=True),
}
del RULES["kolen_pollack"]  # needs a feedback array of its own
SPREAD = [Mismatch(gain=0.1, time_constant=0.1, log_normal=True), ThermalNoise(0.05)]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class CopyToHostError(Exception):
    pass


@pytest.fixture
def no_copies(monkeypatch):
    """Every road from a tensor to the host is closed; single numbers (a loss, a norm) may pass."""

    def refuse(tensor, *args, **kwargs):
        raise CopyToHostError(f"a tensor of shape {list(tensor.shape)} goes to the host")

    def close():
        for road in ("numpy", "__array__", "cpu"):
            monkeypatch.setattr(torch.Tensor, road, refuse)

    return close


def device(engine, imperfections=(), *, network=None, **options):
    network = LeakyNetwork.symmetric(UNITS, INPUTS) if network is None else network
    return SimulatedDevice(network, horizon=12, imperfections=imperfections, engine=engine, die_seed=3, **options)


def initial(network=None):
    network = LeakyNetwork.symmetric(UNITS, INPUTS) if network is None else network
    return network.initial(0, gain=0.8, input_gain=1.0) | TASK.initial_readout(0, 1.0)


def estimates(rule, imperfections, close=None, *, task=TASK, **options):
    """The rule's estimate on NumPy arrays by the plain engine, and on tensors by ours."""
    found = []
    batch, noise = TASK.training_batch(0, LANES, 0), NoisePath(seed=1, step=2)
    for engine, batch_here, theta in (
        (Stepwise(), batch, initial()),
        (TorchEngine(), HERE.training_batch(0, LANES, 0), HERE.parameters(initial())),
    ):
        made = device(engine, imperfections, **options)
        if close is not None and isinstance(engine, TorchEngine):
            close()
        held = made.program(theta)
        free, _ = settle_free(made, batch_here, rule.needs, noise)
        found.append(rule.estimate(made, held, batch_here, task, free, noise))
    return found


def assert_same(there, here, within=1e-10):
    assert there.gradients.keys() == here.gradients.keys()
    for name, block in here.gradients.items():
        assert isinstance(there.gradients[name], torch.Tensor)
        found = np.array(there.gradients[name].tolist()).reshape(block.shape)
        np.testing.assert_allclose(found, block, rtol=0, atol=within * max(1e-12, np.abs(block).max()), err_msg=name)
    assert there.loss == pytest.approx(here.loss, rel=1e-10, nan_ok=True)
    assert there.cost == here.cost
    assert there.diagnostics == pytest.approx(here.diagnostics, rel=1e-8, nan_ok=True)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_the_same_without_a_copy_to_the_host(name, no_copies):
    here, there = estimates(RULES[name], SPREAD, no_copies)
    assert_same(there, here)


@pytest.mark.parametrize("name", ["finite_horizon_ep", "adjoint_playback", "eligibility_rflo", "node_perturbation"])
def test_a_loss_along_the_way(name, no_copies):
    here, there = estimates(RULES[name], SPREAD, no_copies, task=Windowed(task=TASK, first=5))
    assert_same(there, here)


@pytest.mark.parametrize(
    "options",
    [
        {"start": RandomStart(1.0)},
        {"start": Carry()},
        {"network": EnergyNetwork.symmetric(UNITS, INPUTS)},
        {"capabilities": SIMULATED - {Capability.LOAD_STATE}},
        {"capabilities": SIMULATED - {Capability.REPLAYABLE_NOISE}},
    ],
    ids=["random start", "carry", "energy network", "without load_state", "own noise"],
)
def test_other_devices(options, no_copies):
    here, there = estimates(EquilibriumPropagation(), [*SPREAD, Rails(low=-2.0, high=2.0)], no_copies, **options)
    assert_same(there, here)


@pytest.mark.parametrize("record", [EquilibriumPropagation(), FiniteHorizonEP()])
def test_stages_that_compute_on_the_host(record):
    """Converters, noise with a memory, a write chain: once per phase over the host, and the same numbers."""
    chain = [
        Range(low=-2.0, high=2.0),
        Quantise(low=-2.0, high=2.0, levels=255),
        StuckAt(low_fraction=0.1, low=-0.1, blocks=("U",)),
        FlickerNoise(0.05, 1e3, 1e6),
        DAC(10, 8.0),
        SampleSkew(1e-9),
        ReadoutNoise(0.01),
        ADC(12),
    ]
    here, there = estimates(record, [*SPREAD, *chain])
    assert_same(there, here, within=1e-9)


def trainer(engine, task, *, constraint=None, **options):
    network = LeakyNetwork.dense(UNITS, INPUTS)
    return Trainer(
        device=device(engine, SPREAD, network=network, **options),
        rule=EquilibriumPropagation() + 10.0 * ContractionHomeostat(),
        task=task,
        optimiser=Adam(learning_rate=0.01),
        batch_size=LANES,
        seed=0,
        noise=NoisePath(seed=4),
        constraint=constraint,
    )


def test_training_on_tensors_is_training(no_copies, tmp_path):
    theta = initial(LeakyNetwork.dense(UNITS, INPUTS)).freeze("b")
    here, there = trainer(Stepwise(), TASK), trainer(TorchEngine(), HERE)
    one, other = here.start(theta), there.start(HERE.parameters(theta))
    for _ in range(3):
        one, _ = here.advance(one)
    other, _ = there.advance(other)
    save_state(tmp_path / "state.npz", other, {})  # which does go to the host
    read, _ = load_state(tmp_path / "state.npz")
    fresh = trainer(TorchEngine(), HERE)
    other = fresh.resume(HERE.state(read))
    no_copies()
    for _ in range(2):
        other, _ = fresh.advance(other)
    for name, block in one.theta.items():
        assert isinstance(other.theta[name], torch.Tensor)
        np.testing.assert_allclose(np.array(other.theta[name].tolist()), block, rtol=0, atol=1e-9)
    assert other.theta.frozen == {"b"}


def test_training_in_float32_stays_there(no_copies):
    single = Placed(task=TASK, place=Place(torch="cpu"), dtype=np.float32)
    learner = trainer(TorchEngine(), single, dtype=np.float32)
    state = learner.start(single.parameters(initial(LeakyNetwork.dense(UNITS, INPUTS))))
    no_copies()
    for _ in range(3):
        state, estimate = learner.advance(state)
    assert not state.diverged
    assert {block.dtype for block in state.theta.values()} == {torch.float32}
    assert {block.dtype for block in estimate.gradients.values()} == {torch.float32}


def test_numpy_and_tensors_may_take_turns():
    """A plan answers in the arrays it was asked in, whatever was programmed."""
    made, noise = device(TorchEngine(), SPREAD), NoisePath(seed=0)
    for theta in (initial(), HERE.parameters(initial())):
        held = made.program(theta)
        assert {type(block) for block in held.values()} == {type(block) for block in theta.values()}
        for batch, kind in ((TASK.training_batch(0, LANES, 0), np.ndarray), (HERE.validation, torch.Tensor)):
            free, _ = settle_free(made, batch, EquilibriumPropagation().needs, noise)
            assert isinstance(free.final, kind)
            assert isinstance(free.residual, kind)
            assert free.worst in (Outcome.SETTLED, Outcome.UNSETTLED)
        made.restore(made.save())


def test_pulses_and_stuck_cells_read_back_as_they_came():
    made = device(TorchEngine(), ecram())
    theta = HERE.parameters(initial())
    held = made.program(theta)
    after = made.adjust((held * 0.0).analog)
    assert all(isinstance(block, torch.Tensor) for block in after.values())


def test_blocks_that_are_not_finite_or_do_not_fit_are_refused():
    made, theta = device(TorchEngine(), ranges={"b": (-1.0, 1.0)}), HERE.parameters(initial())
    with pytest.raises(ValueError, match="block b holds a value that is not finite"):
        made.program(theta | {"b": theta["b"] * float("nan")})
    with pytest.raises(ValueError, match=r"block b spans \[2, 2\], outside the device's \[-1, 1\]"):
        made.program(theta | {"b": theta["b"] * 0.0 + 2.0})
    with pytest.raises(ValueError, match="must have shape"):
        made.program(theta | {"b": theta["b"][:3]})
