"""Sums of rules, what they need and cost, and what noise does to them. Runs where torch cannot be imported."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from rule_setting import NOISE, T, relative, setting

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import BRANCH_REPEATS
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, RandomStart
from hwsim.contracts.rule import Estimate, Kind, LearningRule, Sum, require, rules_for, settle_free
from hwsim.devices import SIMULATED, ThermalNoise
from hwsim.learning_rules import (
    ContractionHomeostat,
    Corrected,
    EquilibriumPropagation,
    FiniteHorizonEP,
    Natural,
    Transposed,
)

# --- Sums, scaling, clipping, requirements ------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws(LearningRule):
    """Notes the noise that it is given; answers a constant gradient."""

    seen: list
    name: str = ""
    loss: float = math.nan
    value: float = 1.0
    kind: ClassVar[Kind] = Kind.LOCAL

    @property
    def needs(self):
        return Needs()

    def estimate(self, device, theta, batch, task, free, noise):
        self.seen.append(noise.repeat)
        gradients = Parameters({"W": np.full((2, 2), self.value)})
        cost = Cost(settles=1, steps=2, reads=3, writes=4)
        return Estimate(gradients=gradients, loss=self.loss, cost=cost, diagnostics={self.name: self.value})


@functools.cache
def small():
    """Something to hand to rules that do not look at it."""
    here = setting(2)
    return here, here.free()


def run(rule, noise=NOISE):
    here, free = small()
    return rule.estimate(here.device, here.theta, here.batch, here.task, free, noise)


trees = st.recursive(
    st.just("leaf"),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["scaled", "clipped"]), inner), st.tuples(st.just("sum"), inner, inner)
    ),
    max_leaves=12,
)


def planted(tree, seen):
    match tree:
        case "leaf":
            return Draws(seen)
        case "scaled", inner:
            return 2.0 * planted(inner, seen)
        case "clipped", inner:
            return planted(inner, seen).clipped(1.0)
        case "sum", left, right:
            return planted(left, seen) + planted(right, seen)


@given(tree=trees, repeat=st.sampled_from([0, 300]))
@example(tree=("sum", ("scaled", ("sum", "leaf", "leaf")), "leaf"), repeat=0)
def test_a_rule_in_a_sum_never_draws_another_rules_noise(tree, repeat):
    seen = []
    rule = planted(tree, seen)
    run(rule, NOISE.repeated(repeat))
    assert rule.branches == len(seen)
    # a rule owns the repeats from its own to its own + 255
    assert np.diff(sorted([repeat - BRANCH_REPEATS, *seen])).min() >= BRANCH_REPEATS


def test_sums_add_gradients_and_cost_and_keep_the_first_loss():
    seen = []
    rule = Draws(seen, "a", value=1.0) + (Draws(seen, "b", loss=0.5, value=2.0) + Draws(seen, "c", loss=0.7, value=3.0))
    assert len(rule.terms) == 3  # flattened
    estimate = run(rule)
    assert np.array_equal(estimate.gradients["W"], np.full((2, 2), 6.0))
    assert estimate.loss == 0.5
    assert estimate.cost == Cost(settles=3, steps=6, reads=9, writes=12)
    assert estimate.diagnostics == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert math.isnan(run(Draws(seen) + Draws(seen)).loss)


def test_scaling_scales_the_gradient_alone():
    plain, scaled = run(Draws([], loss=0.5, value=3.0)), run(Draws([], loss=0.5, value=3.0) * 0.25)
    assert np.array_equal(scaled.gradients["W"], np.full((2, 2), 0.75))
    assert (scaled.loss, scaled.cost, scaled.diagnostics) == (plain.loss, plain.cost, plain.diagnostics)
    assert np.array_equal(run(0.5 * (2.0 * Draws([]))).gradients["W"], np.ones((2, 2)))


def test_clipping_shortens_what_is_too_long_and_nothing_else():
    long = run(Draws([], loss=0.5, value=3.0).clipped(2.0))  # of length 6
    assert long.gradients.norm() == pytest.approx(2.0)
    assert long.diagnostics["gradient_norm"] == pytest.approx(6.0)
    assert (long.loss, long.cost) == (0.5, Cost(settles=1, steps=2, reads=3, writes=4))
    short = run(Draws([], value=0.5).clipped(2.0))
    assert np.array_equal(short.gradients["W"], np.full((2, 2), 0.5))
    with pytest.raises(InputError, match=r"clipped at a positive, finite norm; found 0\.0"):
        Draws([]).clipped(0.0)


def test_sums_are_as_demanding_as_their_terms():
    rule = EquilibriumPropagation(probe=Natural()) + 10.0 * FiniteHorizonEP().clipped(1.0) + ContractionHomeostat()
    assert isinstance(rule, Sum)
    assert rule.kind is Kind.LOCAL
    assert rule.branches == 3
    assert rule.needs == Needs(
        capabilities=frozenset(
            {Capability.TRANSPOSE, Capability.DISPLACE, Capability.TWINS, Capability.LOAD_STATE, Capability.RECORD}
        ),
        record=1,
        reciprocal=True,
        from_free=True,
        final_loss=True,
    )
    assert (Needs(record=4) | Needs(record=6)).record == 2  # every state that either wants
    assert (Needs() | Needs(record=3)).record == 3


def test_a_sum_is_the_sum_of_its_terms_on_a_device():
    here = setting(seed=4)
    free = here.free()
    parts = EquilibriumPropagation(), ContractionHomeostat()
    together = here.gradient(parts[0] + 10.0 * parts[1], free)
    apart = here.gradient(parts[0], free) + here.gradient(parts[1], free, NOISE.branch(1)) * 10.0
    assert relative(together, apart) < 1e-14


def test_a_rule_that_a_device_cannot_serve_names_those_that_it_can():
    bare = setting(capabilities=frozenset({Capability.TRANSPOSE, Capability.DISPLACE, Capability.RECORD})).device.spec
    require(FiniteHorizonEP(), bare)
    assert "finite_horizon_ep" in rules_for(bare)
    assert "ep" not in rules_for(bare)
    with pytest.raises(CapabilityError) as raised:
        require(EquilibriumPropagation(probe=Corrected(shared_noise=True)), bare)
    for part in (
        "EquilibriumPropagation needs correct (settle under the asymmetric-EP dynamics",
        "twins (run two trajectories under the same noise)",
        "Rules that would work on it: ",
        "finite_horizon_ep",
    ):
        assert part in str(raised.value)
    with pytest.raises(CapabilityError, match=r"reciprocal couplings \(a metric S"):
        require(FiniteHorizonEP(probe=Natural()), bare)
    nothing = setting(capabilities=frozenset()).device.spec
    with pytest.raises(CapabilityError, match=r"record \(record states while settling\).*: .*random_directions"):
        require(FiniteHorizonEP(), nothing)


def test_probes_need_a_way_back_to_the_free_state():
    """Without load_state a rest start leads there again; a random or carried one would lead elsewhere."""
    spec = dataclasses.replace(setting(2).device.spec, capabilities=SIMULATED - {Capability.LOAD_STATE})
    require(EquilibriumPropagation(), spec)
    for start in (RandomStart(1.0), Carry()):
        with pytest.raises(CapabilityError, match=r"EquilibriumPropagation needs load_state .*would work on it: "):
            require(EquilibriumPropagation(), dataclasses.replace(spec, start=start))


def test_cost_counts_every_lane():
    here = setting(lanes=4)
    free, cost = settle_free(here.device, here.batch, Needs(record=5), NOISE)
    assert cost == Cost(settles=4, steps=4 * T, reads=4 * (1 + T // 5 + 1))

    def cost_of(rule):
        return rule.estimate(here.device, here.theta, here.batch, here.task, here.free(), NOISE).cost

    assert free.recorded.shape == (1 + T // 5, 4, 16)
    assert cost_of(EquilibriumPropagation(steps=7)) == Cost(settles=8, steps=8 * 7, reads=8)
    # the kick response is recorded at all of its T states, and read once more at the end
    assert cost_of(FiniteHorizonEP()) == Cost(settles=8, steps=8 * (T - 1), reads=8 * (T + 1))
    assert cost_of(ContractionHomeostat(steps=12)) == Cost(settles=8, steps=8 * 12, reads=8 * (12 + 1 + 1))


# --- Noise and order ----------------------------------------------------------------------------------------------

REPEATS = 60


def spread(here, rule, free, first):
    """(variance of the analog gradient summed over its entries, its relative standard error)."""
    gradients = [here.gradient(rule, free, NOISE.at_step(first + k)).analog for k in range(REPEATS)]
    rows = np.stack([np.concatenate([block.ravel() for block in found.values()]) for found in gradients])
    rows = rows - rows.mean(axis=0)
    along = np.linalg.svd(rows, compute_uv=False) ** 2  # variances along independent directions
    total = float(along.sum()) / (REPEATS - 1)
    return total, math.sqrt(2.0 * float((along**2).sum()) / (REPEATS - 1)) / float(along.sum())


NOISY = {
    "ep": lambda length, shared: EquilibriumPropagation(nudge=length, probe=Corrected(shared_noise=shared)),
    "finite": lambda length, shared: FiniteHorizonEP(kick=length, probe=Transposed(shared_noise=shared)),
    "finite-corrected": lambda length, shared: FiniteHorizonEP(kick=length, probe=Corrected(shared_noise=shared)),
}


@pytest.mark.parametrize("make", NOISY.values(), ids=NOISY.keys())
def test_shared_noise_cancels_in_the_difference_of_twins(make):
    here = setting(seed=1, imperfections=[ThermalNoise(0.05)], engine=None)
    free = here.free()
    alone, alone_error = spread(here, make(1.0, False), free, 1)
    shared, shared_error = spread(here, make(1.0, True), free, 1)
    # smaller by a factor of 30 beyond four standard errors
    assert alone * (1.0 - 4.0 * alone_error) > 30.0 * shared * (1.0 + 4.0 * shared_error)
    if make is NOISY["finite"]:
        assert shared < 1e-24 * alone  # a linear response loses it altogether


@pytest.mark.parametrize("make", NOISY.values(), ids=NOISY.keys())
def test_noise_in_the_estimate_falls_with_the_square_of_the_amplitude(make):
    here = setting(seed=1, imperfections=[ThermalNoise(0.05)], engine=None)
    free = here.free()
    lengths = np.array([0.25, 0.5, 1.0, 2.0])
    variances, errors = zip(
        *(spread(here, make(length, False), free, 1000 * k) for k, length in enumerate(lengths.tolist(), 1)),
        strict=True,
    )
    log = np.log(lengths)
    slope = np.polyfit(log, np.log(variances), 1)[0]
    slope_error = max(errors) / math.sqrt(np.sum((log - log.mean()) ** 2))
    assert slope_error < 0.05
    assert slope == pytest.approx(-2.0, abs=4.0 * slope_error)


RULES = {
    "ep": EquilibriumPropagation(probe=Corrected(shared_noise=True)),
    "dyadic-ep": EquilibriumPropagation(probe=Transposed()),
    "finite": FiniteHorizonEP(),
    "homeostat": ContractionHomeostat(target=-2.0),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_the_order_of_the_batch_does_not_matter(rule):
    here = setting(seed=1, lanes=7, start=RandomStart(1.0), imperfections=[ThermalNoise(0.05)])
    order = np.random.default_rng(0).permutation(7)
    other = dataclasses.replace(here, batch=here.batch.take(order))
    assert np.array_equal(other.batch.ids, order)  # a sample takes its noise with it
    assert relative(other.gradient(rule), here.gradient(rule)) < 1e-12
    # or noise plays no part here
    assert relative(here.gradient(rule, noise=NOISE.at_step(1)), here.gradient(rule)) > 1e-3


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_single_precision_is_enough(rule):
    single, double = setting(seed=1, dtype=np.float32), setting(seed=1)
    assert single.free().final.dtype == np.float32
    assert relative(single.gradient(rule), double.gradient(rule)) < 1e-3
