"""An optimiser that is Adam, and training that goes on where it stopped."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError, ResumeError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, RandomStart, Rest
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.devices import SIMULATED, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.learning_rules import ContractionHomeostat, EquilibriumPropagation, FiniteHorizonEP
from hwsim.reference import BPTT, EquilibriumAdjoint
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Classification
from hwsim.testing import RandomClasses
from hwsim.training import Adam, Trainer, load_state, save_state

UNITS, INPUTS = 8, 4
SENTENCE = "The quick brown fox jumps over the lazy dog, and then it rests a while. "


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- Adam ---------------------------------------------------------------------------------------------------------


def test_adam_is_torchs_adam():
    draw = np.random.default_rng(0)
    theta = Parameters({"W": draw.standard_normal((3, 4)), "b": draw.standard_normal(4)})
    leaves = {name: torch.tensor(block, requires_grad=True) for name, block in theta.items()}
    judge = torch.optim.Adam(leaves.values(), lr=0.03, betas=(0.8, 0.95), eps=1e-6)
    adam = Adam(learning_rate=0.03, decay_first=0.8, decay_second=0.95, epsilon=1e-6)
    state = adam.start(theta)
    for _ in range(50):
        gradients = Parameters({name: draw.standard_normal(block.shape) for name, block in theta.items()})
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(gradients[name])
        judge.step()
        theta, state = adam.update(theta, gradients, state)
        for name, leaf in leaves.items():
            assert theta[name] == pytest.approx(leaf.detach().numpy(), rel=1e-12, abs=1e-12)
    assert state.count == 50


def test_adam_leaves_frozen_blocks_and_its_arguments_alone():
    theta = Parameters({"W": np.ones((2, 2)), "b": np.ones(2)}).freeze("b")
    adam = Adam(learning_rate=0.1)
    start = adam.start(theta)
    moved, state = adam.update(theta, Parameters({"W": np.ones((2, 2)), "b": np.ones(2)}), start)
    assert np.array_equal(moved["b"], theta["b"])
    assert moved["W"] == pytest.approx(np.full((2, 2), 0.9))  # the first step has the length of the learning rate
    assert moved.frozen == {"b"}
    assert (theta["W"] == 1.0).all()
    assert start.count == 0
    assert not start.first["W"].any()
    assert state.count == 1
    with pytest.raises(InputError, match="positive, finite learning_rate; found nan"):
        Adam(learning_rate=math.nan)


# --- Training and resuming ----------------------------------------------------------------------------------------


def trainer(*, start=Rest(), rule=None, sigma=0.05, capabilities=SIMULATED, lanes=6):
    network = LeakyNetwork.dense(UNITS, INPUTS)
    device = SimulatedDevice(
        network,
        horizon=8,
        step_size=0.2,
        start=start,
        imperfections=[ThermalNoise(sigma)] if sigma else [],
        capabilities=capabilities,
        engine=Stepwise(),
        seed=4,
    )
    task = RandomClasses(units=UNITS)
    theta = network.initial(1, gain=0.9, input_gain=1.0) | task.initial_readout(1, 1.0)
    made = Trainer(
        device=device,
        rule=EquilibriumPropagation() + 10.0 * ContractionHomeostat() if rule is None else rule,
        task=task,
        optimiser=Adam(learning_rate=1e-2),
        batch_size=lanes,
        seed=2,
        noise=NoisePath(seed=2),
    )
    return made, theta


def advanced(made, state, steps):
    for _ in range(steps):
        state, _ = made.advance(state)
    return state


STARTS = {"rest": Rest(), "random": RandomStart(1.0), "carry": Carry()}


@pytest.mark.parametrize("replayable", [True, False], ids=["replayable", "own noise"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_a_resumed_run_ends_on_the_same_bits(start, replayable, tmp_path):
    capabilities = SIMULATED if replayable else SIMULATED - {Capability.REPLAYABLE_NOISE}
    rule = None if replayable else FiniteHorizonEP()
    make = {"start": start, "rule": rule, "capabilities": capabilities}
    made, theta = trainer(**make)
    whole = advanced(made, made.start(theta.freeze("b")), 12)

    made, theta = trainer(**make)
    save_state(tmp_path / "run.npz", advanced(made, made.start(theta.freeze("b")), 5), {"method": "ep"})
    made, _ = trainer(**make)  # another process
    state, notes = load_state(tmp_path / "run.npz")
    resumed = advanced(made, made.resume(state), 7)
    assert notes == {"method": "ep"}
    assert resumed.step == whole.step == 12
    assert same(resumed.theta, whole.theta)
    assert same(resumed.moments.first, whole.moments.first)
    assert same(resumed.moments.second, whole.moments.second)
    assert same(resumed.device, whole.device)
    assert (resumed.moments.count, resumed.cost, resumed.diverged) == (12, whole.cost, False)
    assert resumed.theta.frozen == {"b"}
    # and there was something to resume: the run moved, and another start moves elsewhere
    assert not same(whole.theta, state.theta)
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.parametrize("start", [RandomStart(1.0), Carry()], ids=["random", "carry"])
def test_the_start_is_part_of_the_run(start):
    finals = []
    for choice in (Rest(), start):
        made, theta = trainer(start=choice)
        finals.append(advanced(made, made.start(theta), 3).theta)
    assert not same(*finals)


def test_carry_cannot_be_resumed_without_the_devices_state():
    made, theta = trainer(start=Carry())
    state = advanced(made, made.start(theta), 5)
    going_on = advanced(made, state, 1)
    forgot, _ = trainer(start=Carry())
    assert not same(advanced(forgot, state, 1).theta, going_on.theta)
    fresh, _ = trainer(start=Carry())
    assert same(advanced(fresh, fresh.resume(state), 1).theta, going_on.theta)


def test_training_learns():
    made, theta = trainer(rule=BPTT(), sigma=0.0, lanes=32)
    made = replace(made, task=Repeated())
    state, losses = made.start(theta), []
    for _ in range(80):
        state, estimate = made.advance(state)
        losses.append(estimate.loss)
    assert losses[-1] < 0.5 * losses[0]
    assert state.cost == Cost(settles=80 * 32, steps=80 * 32 * 8, reads=80 * 32 * 10, writes=80 * 3)


@dataclass(frozen=True, kw_only=True)
class Repeated(Classification):
    """The same batch again and again."""

    units: int = UNITS
    inputs: int = INPUTS
    classes: int = 3

    def training_batch(self, step, size, seed):
        return RandomClasses(units=self.units).training_batch(0, size, seed)

    @property
    def validation(self):
        return self.training_batch(0, 8, 99)


@dataclass(frozen=True)
class Stumbles(LearningRule):
    """A gradient of ones that breaks at one step of the experiment."""

    at: int
    value: float
    kind: ClassVar[Kind] = Kind.LOCAL

    @property
    def needs(self):
        return Needs()

    def estimate(self, device, theta, batch, task, free, noise):
        broken = self.value if noise.step == self.at else 1.0
        gradients = theta.map(lambda block: np.ones(block.shape))
        return Estimate(gradients=gradients | {"b": np.full(UNITS, broken)}, loss=0.0, cost=Cost(settles=1))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_ends_the_run_at_the_last_finite_parameters(value, tmp_path):
    made, theta = trainer(rule=Stumbles(at=3, value=value))
    state = advanced(made, made.start(theta), 3)
    assert not state.diverged
    ended, estimate = made.advance(state)
    assert ended.diverged
    assert not estimate.gradients.finite()
    assert ended.step == 3
    assert same(ended.theta, state.theta)
    assert same(ended.moments.first, state.moments.first)
    assert ended.theta.finite()
    assert ended.cost.settles == state.cost.settles + 6 + 1  # what it took to find out is counted
    save_state(tmp_path / "run.npz", ended, {})
    assert load_state(tmp_path / "run.npz")[0].diverged


def test_an_update_beyond_the_finite_numbers_ends_the_run_too():
    made, theta = trainer(rule=Stumbles(at=99, value=0.0))
    made = replace(made, optimiser=Adam(learning_rate=1e308))
    state = made.start(theta | {"W": np.full((UNITS, UNITS), -1e308)})
    ended, estimate = made.advance(state)
    assert estimate.gradients.finite()
    assert ended.diverged
    assert same(ended.theta, state.theta)


def test_a_trainer_refuses_a_rule_that_its_device_cannot_serve():
    with pytest.raises(CapabilityError, match="needs correct"):
        trainer(rule=EquilibriumPropagation(), capabilities=SIMULATED - {Capability.CORRECT})


RULES = {
    "ep": EquilibriumPropagation() + ContractionHomeostat(),
    "finite": FiniteHorizonEP(),
    "bptt": BPTT(),
    "adjoint": EquilibriumAdjoint(),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_network_that_blows_up_ends_as_diverged_without_a_warning(rule):
    made, theta = trainer(rule=rule, sigma=0.0)
    ended, _ = made.advance(made.start(theta | {"W": np.full((UNITS, UNITS), 1e308), "b": np.full(UNITS, 1e308)}))
    assert ended.diverged
    assert ended.theta.finite()


# --- Checkpoints that cannot be used ------------------------------------------------------------------------------


def checkpoint(path):
    made, theta = trainer()
    save_state(path, made.start(theta), {"seed": 1})
    return path.read_bytes()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(ResumeError, match=r"there is nothing to resume at .*gone\.npz"):
        load_state(tmp_path / "gone.npz")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint(kept, tmp_path):
    path = tmp_path / "run.npz"
    whole = checkpoint(path)
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ResumeError, match=r"run\.npz is not a saved training state .*delete it to start afresh"):
        load_state(path)


def test_a_damaged_checkpoint_is_refused_in_words_or_does_not_matter(tmp_path):
    path = tmp_path / "run.npz"
    whole, refused = checkpoint(path), 0
    for at in range(0, len(whole), 67):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            load_state(path)
        except ResumeError:
            refused += 1
    assert refused > len(whole) / 67 / 2


def test_files_that_were_never_checkpoints(tmp_path):
    header = {"step": 1, "count": 1, "frozen": [], "cost": {}, "diverged": False}
    others = {
        "text": b"once upon a time",
        "array": None,
        "no header": {"theta/W": np.ones(2)},
        "header is no JSON": {"header": np.array("{")},
        "header lacks a part": {"header": np.array(json.dumps(header | {"notes": {}} | {"cost": None}))},
        "header lacks its notes": {"header": np.array(json.dumps(header))},
        "header is a list": {"header": np.array("[]")},
        "frozen block unknown": {"header": np.array(json.dumps(header | {"frozen": ["W"], "notes": {}}))},
        "objects": {"header": np.array([object()], dtype=object)},
    }
    for name, content in others.items():
        path = tmp_path / f"{name}.npz"
        if content is None:
            with path.open("wb") as file:
                np.save(file, np.ones(3))
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with path.open("wb") as file:
                np.savez(file, **content)
        with pytest.raises(ResumeError, match="is not a saved training state"):
            load_state(path)
    with pytest.raises(ResumeError):
        load_state(tmp_path)


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    whole = checkpoint(path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    made, theta = trainer()
    with pytest.raises(OSError, match="No space left"):
        save_state(path, made.start(theta), {})
    assert path.read_bytes() == whole
