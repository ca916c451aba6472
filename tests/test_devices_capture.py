"""Credit that a simulated device forms by itself; `check_device` holds the sums to the recordings."""

import numpy as np
import pytest

from hwsim.contracts.capture import CreditProbe, Weighted
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import At, Carry, Phase, Plan, Rest
from hwsim.devices import SimulatedDevice
from hwsim.substrates import LeakyNetwork

N, M, LANES = 5, 3, 2
NOISE = NoisePath(seed=1)


def device():
    network = LeakyNetwork.dense(N, M)
    made = SimulatedDevice(network, horizon=6)
    made.program(network.initial(0, gain=0.8, input_gain=1.0))
    return made


def plan(start=Rest(), **phase):
    x = np.random.default_rng(0).standard_normal((LANES, M))
    return Plan(inputs=x, ids=np.arange(LANES), start=start, phases=(Phase(**phase),))


def probe(*plans, along=True):
    runs = tuple(Weighted(plan=one, weights=np.ones((LANES, N))) for one in plans)
    return lambda settled: CreditProbe(runs=runs, scale=1.0, along=along)


@pytest.mark.parametrize(
    ("free", "asked", "sentence"),
    [
        ({"steps": 6, "record": 1}, probe(), "a probe has one run or more"),
        (
            {"steps": 6, "record": 1},
            probe(plan(steps=5, record=1), plan(steps=4, record=1)),
            "whose last phases have the same steps and the same record",
        ),
        ({"steps": 6}, probe(plan(steps=5, record=1)), "found record=0 in the free plan and record=1 in the probe"),
        ({"steps": 6, "record": 1}, probe(plan(steps=5)), "record=1 in the free plan and record=0 in the probe"),
        ({"steps": 6, "record": 1}, probe(plan(steps=4, record=2)), "record=1 in the free plan and record=2"),
        ({"steps": 3, "record": 1}, probe(plan(steps=5, record=1)), "6 states to pair"),
    ],
)
def test_what_does_not_pair_is_refused(free, asked, sentence):
    with pytest.raises(InputError, match=sentence):
        device().form_credit(plan(**free), asked, noise=NOISE)


def test_lanes_go_on_from_the_free_phase_whatever_the_probe_did():
    credited, plain = device(), device()
    z = np.ones((LANES, N))
    for start in (Rest(), At(z)):
        credited.form_credit(plan(steps=6, record=1), probe(plan(start, steps=5, record=1)), noise=NOISE)
        plain.relax(plan(steps=6), noise=NOISE)
        on = [one.relax(plan(Carry(), steps=3), noise=NOISE)[0].final for one in (credited, plain)]
        np.testing.assert_array_equal(*on)
