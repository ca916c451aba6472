"""Every preset is a machine that learns, the same way every time and on any number of threads."""

import numpy as np
import pytest

from hwsim.contracts.noise import NoisePath
from hwsim.devices import PRESETS
from hwsim.devices.imperfections import ecram
from hwsim.learning_rules import EquilibriumPropagation, FiniteHorizonEP
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Digits
from hwsim.training import Adam, OpenLoopPulses, Reprogram, Trainer

TASK = Digits(units=16)
RULES = {"ep": EquilibriumPropagation(), "finite": FiniteHorizonEP()}
(PULSED,) = ecram()
WAYS = {
    **{name: (name, Reprogram()) for name in PRESETS},
    "ecram_crossbar by pulses": ("ecram_crossbar", OpenLoopPulses(step=PULSED.dw_min)),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
every_way = pytest.mark.parametrize(("name", "writer"), WAYS.values(), ids=WAYS.keys())


def run(name, rule, writer, *, updates, lanes=32, threads=1, die_seed=1, program_seed=2):
    """The state after some updates on handwritten digits, and the loss of every batch, nats.

    The readout stays as it was drawn, so that all that is learned is learned by the machine.
    """
    network = LeakyNetwork.dense(TASK.units, TASK.inputs)
    device = PRESETS[name]().device(
        network, horizon=12, threads=threads, die_seed=die_seed, program_seed=program_seed, seed=3
    )
    trainer = Trainer(
        device=device,
        rule=rule,
        task=TASK,
        optimiser=Adam(learning_rate=0.03),
        batch_size=lanes,
        seed=4,
        noise=NoisePath(seed=4),
        writer=writer,
    )
    theta = network.initial(1, gain=0.5, input_gain=0.5) | TASK.initial_readout(1, 1.0)
    state, losses = trainer.start(theta.freeze(*theta.readout)), []
    for _ in range(updates):
        state, estimate = trainer.advance(state)
        losses.append(estimate.loss)
    assert not state.diverged
    return state, np.array(losses)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@every_rule
@every_way
def test_every_preset_learns(name, writer, rule):
    _, losses = run(name, rule, writer, updates=25)
    # an untrained network is at chance, ln 10 = 2.30 nats
    assert abs(losses[0] - TASK.chance) < 0.3
    assert losses[-5:].mean() < 0.3 * TASK.chance


@every_rule
@every_way
def test_a_run_is_the_same_bits_again_and_on_two_threads(name, writer, rule):
    # more lanes than the 64 of one tile, so that two threads have something to share
    (first, losses), (again, found) = (
        run(name, rule, writer, updates=2, lanes=80, threads=threads) for threads in (1, 2)
    )
    assert same(again.theta, first.theta)
    assert same(again.device, first.device)
    assert np.array_equal(found, losses)


DRAWN = {
    "discrete_board_12bit": {"die_seed"},
    "subthreshold_cmos": {"die_seed"},
    "reram_crossbar": {"program_seed"},
    "pcm_crossbar": {"program_seed"},
    "ecram_crossbar by pulses": {"die_seed", "program_seed"},
}
"""What a training run draws: parts that differ, programming that misses, cells and pulses that do both."""


@pytest.mark.parametrize("way", WAYS)
def test_dies_and_programmings_differ_where_something_is_drawn_for_them(way):
    (name, writer), rule = WAYS[way], FiniteHorizonEP()
    _, losses = run(name, rule, writer, updates=2)
    for seed in ("die_seed", "program_seed"):
        _, found = run(name, rule, writer, updates=2, **{seed: 9})
        assert np.array_equal(found, losses) == (seed not in DRAWN.get(way, set())), seed
