"""What the local rules estimate, to rounding where theory says so. Runs where torch cannot be imported."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, strategies as st
from rule_setting import NOISE, T, relative, setting

from hwsim.contracts.device import Capability
from hwsim.contracts.needs import Needs
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.contracts.rule import settle_free
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.task import Batch, Task
from hwsim.devices import SIMULATED, SimulatedDevice, Stepwise
from hwsim.learning_rules import (
    Corrected,
    EquilibriumPropagation,
    FiniteHorizonEP,
    Natural,
    Transposed,
)
from hwsim.reference import bptt_along, equilibrium_adjoint, rtrl, transpose_gradient
from hwsim.substrates import Identity, LeakyNetwork

# --- The scalar counterexample: F = -k (z - z*) -------------------------------------------------------------------


class Decay(Substrate):
    """`F = -k (z - z*)`, one unit, with z* = x and the one parameter k."""

    units, inputs = 1, 1

    def shapes(self):
        return {"k": (1,)}

    def field(self, z, x, theta):
        return -theta["k"] * (z - x)

    def tangent(self, v, z, x, theta):
        return -theta["k"] * v

    def cotangent(self, a, z, x, theta):
        return -theta["k"] * a

    def credit(self, post, z, x, theta, *, per_sample=False):
        each = np.sum((-post * (z - x)).reshape(-1, *post.shape[-2:]), axis=0)
        return Parameters({"k": each if per_sample else np.sum(each, axis=0)})

    def influence(self, z, x, theta):
        return {"k": (x - z, np.ones_like(z))}


@dataclass(frozen=True)
class Slope(Task):
    """`L = c z`, batch mean."""

    c: float
    inputs: ClassVar[int] = 1
    units: ClassVar[int] = 1

    def training_batch(self, step, size, seed): ...

    @property
    def validation(self): ...

    @property
    def chance(self): ...

    def initial_readout(self, seed, gain): ...

    def losses(self, z, targets, theta):
        return self.c * z[:, 0]

    def signal(self, z, targets, theta):
        return np.full_like(z, self.c / len(z))

    def readout_credit(self, z, targets, theta):
        return Parameters({})


@given(
    k=st.floats(0.5, 3.0),
    eps=st.floats(0.01, 0.2),
    steps=st.integers(1, 25),
    t2=st.integers(1, 25),
    z0=st.floats(-2.0, 2.0),
    z_star=st.floats(-2.0, 2.0),
    c=st.floats(0.1, 2.0),
    nudge=st.floats(0.1, 10.0),
)
def test_scalar_counterexample(k, eps, steps, t2, z0, z_star, c, nudge):
    substrate, task, theta = Decay(), Slope(c), Parameters({"k": np.array([k])})
    start = np.array([[z0]])
    device = SimulatedDevice(substrate, horizon=steps, step_size=eps, start=At(start), engine=Stepwise())
    held = device.program(theta)
    batch = Batch(inputs=np.array([[z_star]]), targets=np.zeros(1, np.int64), ids=np.arange(1))
    free, _ = settle_free(device, batch, Needs(record=1), NOISE)
    step, q = device.spec.step_size, 1.0 - device.spec.step_size * k
    # rounding is relative to the terms, which are larger than their sum where z0 is close to z*
    tolerance = {"rel": 1e-12, "abs": 1e-14 * steps * (c / k) * (1.0 + abs(z0) + abs(z_star))}

    def estimated(rule):
        return rule.estimate(device, held, batch, task, free, NOISE).gradients["k"].item()

    # at z* the parameter does not matter: g = (c / k) (z - z*), and Newton leaves |k (z - z*)| < 1e-12 (1 + |z|)
    adjoint = equilibrium_adjoint(substrate, theta, batch, task, free.final)
    assert adjoint.certified.all()
    assert abs(adjoint.gradients["k"].item()) < 1e-12 * (c / k**2) * (1.0 + abs(z0) + abs(z_star))

    # at z_T it does, and rules that look at z_T alone see the right sign and too little
    partial = -(c / k) * (1.0 - q**t2) * q**steps * (z0 - z_star)
    assert estimated(EquilibriumPropagation(nudge=nudge, steps=t2, probe=Transposed())) == pytest.approx(
        partial, **tolerance
    )
    transposed = transpose_gradient(substrate, theta, batch, task, free.final, step_size=step, steps=t2)
    assert transposed["k"].item() == pytest.approx(partial, **tolerance)

    # the deployed gradient, d/dk of c (z* + q^T (z0 - z*))
    deployed = -step * steps * q ** (steps - 1) * (z0 - z_star) * c
    assert estimated(FiniteHorizonEP(kick=nudge)) == pytest.approx(deployed, **tolerance)
    forward = rtrl(substrate, theta, batch, task, z0=start, step_size=step, steps=steps)
    assert forward["k"].item() == pytest.approx(deployed, **tolerance)


def test_the_partial_gradient_is_too_small_by_what_the_rules_say():
    # eps k = .2, T = t2 = 20: about a fifth of the deployed gradient
    q = 0.8
    partial, deployed = (1.0 - q**20) * q**20 / 1.0, 0.2 * 20 * q**19
    assert partial / deployed == pytest.approx(0.2, abs=0.003)


# --- Equilibrium propagation --------------------------------------------------------------------------------------


def test_corrected_nudges_err_as_the_square_of_their_length():
    here = setting(8, seed=1, step_size=0.5)
    free = here.equilibrium()
    limit = equilibrium_adjoint(here.network, here.theta, here.batch, here.task, free.final).gradients
    lengths = np.geomspace(3e-3, 5e-2, 6)
    errors = [
        relative(here.gradient(EquilibriumPropagation(nudge=length, steps=300), free), limit)
        for length in lengths.tolist()
    ]
    assert np.polyfit(np.log(lengths), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("nudge", [1e-3, 1.0, 1e3])
def test_transposed_nudges_are_exact_at_any_length(nudge):
    here = setting(8, seed=1, step_size=0.5)
    free = here.equilibrium()
    limit = equilibrium_adjoint(here.network, here.theta, here.batch, here.task, free.final).gradients
    rule = EquilibriumPropagation(nudge=nudge, steps=300, probe=Transposed())
    assert relative(here.gradient(rule, free), limit) < 1e-10


@pytest.mark.parametrize("steps", [None, 7])
def test_transposed_nudges_are_the_truncated_transpose_relaxation(steps):
    here = setting()
    free = here.free()
    t2 = T if steps is None else steps  # the horizon unless told
    expected = transpose_gradient(
        here.network, here.theta, here.batch, here.task, free.final, step_size=here.device.spec.step_size, steps=t2
    )
    found = here.gradient(EquilibriumPropagation(steps=steps, probe=Transposed()), free)
    assert relative(found, expected) < 1e-12


def test_a_sample_without_signal_says_nothing():
    # its direction is not defined; the others must not notice
    here = setting()
    flat = here.theta | {"readout.V": np.zeros((4, 16))}
    for rule in (EquilibriumPropagation(), FiniteHorizonEP()):
        estimate = rule.estimate(here.device, flat, here.batch, here.task, here.free(), NOISE)
        assert estimate.gradients.finite()
        assert estimate.gradients.analog.norm() == 0.0


def through_the_metric_by_hand(here, free, *, kick, metric):
    """Centered response of the natural dynamics to `c / S`, multiplied by S, as EP and finite-horizon EP use it."""
    z, lanes, amplitude = free.final, len(here.batch), 1e-3
    c = here.task.signal(z, here.batch.targets, here.theta)
    S = here.network.metric(z, here.theta) if metric else 1.0
    both = np.concatenate([amplitude * c / S, -amplitude * c / S])
    plan = Plan(
        inputs=np.concatenate([here.batch.inputs] * 2),
        ids=np.arange(2 * lanes),
        start=At(np.concatenate([z, z])),
        phases=(
            Phase(
                steps=len(free.recorded) - 2 if kick else 400,
                force=None if kick else both,
                displace=both if kick else None,
                record=1,
            ),
        ),
    )
    (run,) = here.device.relax(plan, noise=NOISE)
    response = S * (run.recorded[:, :lanes] - run.recorded[:, lanes:]) / (2.0 * amplitude)
    if not kick:
        return here.network.credit(response[-1], z, here.batch.inputs, here.theta)
    step = here.device.spec.step_size
    return here.network.credit(step * response[::-1], free.recorded[:-1], here.batch.inputs, here.theta)


def test_a_reciprocal_network_needs_no_transpose_but_its_metric():
    here = setting(coupling=LeakyNetwork.symmetric, seed=1, horizon=400)
    free = here.free()
    adjoint = equilibrium_adjoint(here.network, here.theta, here.batch, here.task, free.final).gradients.analog
    natural = here.gradient(EquilibriumPropagation(nudge=1e-3, steps=400, probe=Natural()), free).analog
    assert relative(natural, adjoint) < 1e-6
    assert relative(through_the_metric_by_hand(here, free, kick=False, metric=True), adjoint) < 1e-6
    # the same nudge without the metric is a wrong gradient, however small
    assert relative(through_the_metric_by_hand(here, free, kick=False, metric=False), adjoint) > 0.1


def test_a_reciprocal_network_answers_kicks_through_its_metric():
    here = setting(coupling=LeakyNetwork.symmetric, seed=1, horizon=400)
    free = here.free()
    transposed = here.gradient(FiniteHorizonEP(), free).analog
    natural = here.gradient(FiniteHorizonEP(kick=1e-3, probe=Natural()), free).analog
    assert relative(natural, transposed) < 1e-6
    assert relative(through_the_metric_by_hand(here, free, kick=True, metric=True), transposed) < 1e-6
    assert relative(through_the_metric_by_hand(here, free, kick=True, metric=False), transposed) > 0.1


# --- Finite-horizon EP --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kick", [0.01, 1.0, 100.0])
@pytest.mark.parametrize(
    ("coupling", "probe"),
    [
        (LeakyNetwork.dense, Transposed()),
        (LeakyNetwork.dense, Corrected()),
        (LeakyNetwork.symmetric, Natural()),
        (LeakyNetwork.symmetric, Corrected()),
    ],
)
def test_finite_horizon_ep_is_rtrl_on_linear_networks(coupling, probe, kick):
    z0 = np.random.default_rng(3).standard_normal((4, 6))
    here = setting(6, coupling=lambda n, m: coupling(n, m, Identity()), seed=3, start=At(z0))
    exact = rtrl(here.network, here.theta, here.batch, here.task, z0=z0, step_size=here.device.spec.step_size, steps=T)
    assert relative(here.gradient(FiniteHorizonEP(kick=kick, probe=probe)), exact) < 1e-10


def test_one_step_needs_no_probe_and_is_exact():
    here = setting(horizon=1)
    free = here.free()
    exact = bptt_along(here.network, here.theta, here.batch, here.task, free.recorded, here.device.spec.step_size)
    assert relative(here.gradient(FiniteHorizonEP(), free), exact) < 1e-12


@pytest.mark.parametrize("gain", [0.9, 1.2])
def test_finite_horizon_ep_is_far_closer_to_bptt_than_the_equilibrium_adjoint(gain):
    finite, equilibrium = [], []
    for seed in range(9):
        here = setting(64, seed=seed, gain=gain, lanes=16)
        free, step = here.free(), here.device.spec.step_size
        deployed = bptt_along(here.network, here.theta, here.batch, here.task, free.recorded, step).analog
        adjoint = equilibrium_adjoint(here.network, here.theta, here.batch, here.task, free.final)
        assert adjoint.certified.all()
        finite.append(1.0 - cosine(here.gradient(FiniteHorizonEP(), free).analog, deployed))
        equilibrium.append(1.0 - cosine(adjoint.gradients.analog, deployed))
    assert np.median(equilibrium) > 5.0 * np.median(finite)
    assert np.median(equilibrium) > 0.01  # or there is nothing to be closer than


# --- The road without loading a state -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [EquilibriumPropagation(), FiniteHorizonEP(probe=Corrected())], ids=["ep", "finite"])
def test_a_device_that_cannot_load_a_state_settles_again(rule):
    able, unable = setting(seed=2), setting(seed=2, capabilities=SIMULATED - {Capability.LOAD_STATE})
    with_it, without = (
        rule.estimate(here.device, here.theta, here.batch, here.task, here.free(), NOISE) for here in (able, unable)
    )
    assert relative(without.gradients, with_it.gradients) < 1e-12
    lanes = 2 * len(able.batch)
    assert without.cost.settles - with_it.cost.settles == lanes
    assert without.cost.steps - with_it.cost.steps == lanes * T
