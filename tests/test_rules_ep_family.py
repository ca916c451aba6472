"""Equilibrium propagation's relatives: contrasts, roads, stopping, and parameters that move while nudging."""

import numpy as np
import pytest
from rule_setting import NOISE, relative, setting
from tables import DEVICES, SUBSTRATES

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.ladder import Snapshot
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import Stream
from hwsim.contracts.parameters import cosine
from hwsim.contracts.rule import require
from hwsim.devices import ADC, SIMULATED, ThermalNoise
from hwsim.learning_rules.continual import ContinualEP
from hwsim.learning_rules.contrast import Centered, Contour, OneSided, RandomSign
from hwsim.learning_rules.equilibrium import EquilibriumPropagation
from hwsim.learning_rules.probes import Corrected, Form, Natural, Stimulus, Transposed, VectorField
from hwsim.learning_rules.stopping import Settling
from hwsim.reference import equilibrium_adjoint, transpose_gradient
from hwsim.substrates import Identity, LeakyNetwork
from hwsim.testing import MeteredDevice, check_rule

EP = EquilibriumPropagation


def slope(x, y):
    return np.polyfit(np.log(x), np.log(y), 1)[0]


@pytest.fixture(scope="module")
def rest():
    """A network at rest, and the gradient of L(z*) there."""
    return at_rest()


def at_rest(coupling=LeakyNetwork.dense, **parts):
    here = setting(8, coupling=coupling, seed=1, step_size=0.5, **parts)
    free = here.equilibrium()
    limit = equilibrium_adjoint(here.network, here.theta, here.batch, here.task, free.final).gradients
    return here, free, limit


def errors(at, lengths, **rule):
    """What is wrong with 30 nudged steps beside there being no more of them."""
    here, free, _ = at
    exact = transpose_gradient(
        here.network, here.theta, here.batch, here.task, free.final, step_size=here.device.spec.step_size, steps=30
    )
    return [relative(here.gradient(EP(nudge=float(length), steps=30, **rule), free), exact) for length in lengths]


# --- Contrasts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contrast", "order", "lengths"),
    [
        (OneSided(), 1, (0.01, 0.02, 0.04)),
        (RandomSign(), 1, (0.01, 0.02, 0.04)),
        (Centered(), 2, (0.02, 0.04, 0.08)),
        (Contour(count=2), 2, (0.02, 0.04, 0.08)),
        (Contour(count=3), 3, (0.05, 0.1, 0.2)),
        (Contour(count=4), 4, (0.1, 0.2, 0.4)),
        (Contour(count=8), 8, (0.3, 0.4, 0.5)),
    ],
)
@pytest.mark.parametrize("probe", [Corrected(), Natural()])
def test_the_bias_of_a_contrast_falls_as_a_power_of_the_nudge(contrast, order, lengths, probe):
    at = at_rest(LeakyNetwork.dense if probe == Corrected() else LeakyNetwork.symmetric)
    found = errors(at, lengths, contrast=contrast, probe=probe)
    assert slope(lengths, found) == pytest.approx(order, abs=0.12 * order)


def test_more_points_are_better_at_one_radius(rest):
    two, four, eight = (errors(rest, [0.125], contrast=Contour(count=n))[0] for n in (2, 4, 8))
    # 4.1e-3, 1.2e-4, 4.4e-7: powers of what r is to the distance of the nearest singularity
    assert two > 20.0 * four
    assert four > 100.0 * eight
    assert eight < 1e-6


def test_two_points_on_a_contour_are_the_centered_contrast(rest):
    here, free, _ = rest
    centered, contour = (
        here.gradient(EP(nudge=0.5, steps=20, contrast=c), free) for c in (Centered(), Contour(count=2))
    )
    assert relative(contour, centered) == 0.0
    assert Capability.COMPLEX not in EP(contrast=Contour(count=2)).needs.capabilities


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_conjugate_points_run_once_and_say_the_same_as_all(rest, n):
    here, free, _ = rest
    rule = EP(nudge=0.5, steps=20, contrast=Contour(count=n))
    estimate = rule.estimate(here.device, here.theta, here.batch, here.task, free, NOISE)
    assert estimate.cost.settles == (n // 2 + 1) * len(here.batch)
    assert estimate.cost.steps == 20 * estimate.cost.settles
    # all n points by hand, J frozen at the free state
    z, x, model = free.final, here.batch.inputs, here.network
    c = here.task.signal(z, here.batch.targets, here.theta)
    length = np.linalg.norm(c, axis=1, keepdims=True)
    response = 0.0
    for k in range(n):
        beta = 0.5 * np.exp(2j * np.pi * k / n) / length
        state = z.astype(complex)
        for _ in range(20):
            v = state - z
            turned = [
                model.tangent(u, z, x, here.theta) - model.cotangent(u, z, x, here.theta) for u in (v.real, v.imag)
            ]
            flow = model.field(state, x, here.theta) + beta * c - turned[0] - 1j * turned[1]
            state = state + here.device.spec.step_size * flow
        response = response + state / (n * beta)
    assert np.abs(response.imag).max() < 1e-12 * np.abs(response).max()
    expected = model.credit(response.real, z, x, here.theta)
    assert relative(estimate.gradients.analog, expected) < 1e-12


def test_random_signs_average_to_the_centered_contrast(rest):
    here, free, _ = rest
    rule, draws = EP(nudge=0.3, steps=20, contrast=RandomSign()), 48
    drawn = [here.gradient(rule, free, NOISE.at_step(step)).analog for step in range(draws)]
    centered = here.gradient(EP(nudge=0.3, steps=20), free).analog
    one_sided = here.gradient(EP(nudge=0.3, steps=20, contrast=OneSided()), free).analog
    for name, block in centered.items():
        each = np.stack([one[name] for one in drawn])
        error = each.std(axis=0, ddof=1) / np.sqrt(draws)
        # a sign for each sample and several samples in a batch: each entry is near to normal
        assert (np.abs(each.mean(axis=0) - block) <= 4.5 * error + 1e-12).all()
    # whereas one-sided nudges are off by a fixed amount, which is what a random sign is off by in the mean square
    spread = np.sqrt(np.mean([(one - centered).norm() ** 2 for one in drawn]))
    assert 0.3 * spread < (one_sided - centered).norm() < 3.0 * spread


def test_signs_are_drawn_by_sample_and_address():
    contrast, ids = RandomSign(), np.arange(200)
    signs = contrast.points(ids, NOISE, known=True).factors[0]
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.sum()) < 4.0 * np.sqrt(200)
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(contrast.points(ids[order], NOISE, known=True).factors[0], signs[order])
    for other in (NOISE.at_step(1), NOISE.branch(1)):
        assert not np.array_equal(contrast.points(ids, other, known=True).factors[0], signs)
    drawn = NOISE.repeated(1).normals(Stream.PROBE, ids, units=1)[0]
    assert np.array_equal(signs, np.where(drawn < 0.0, -1.0, 1.0))


def test_one_sided_runs_once_at_rest_and_with_a_twin_where_nothing_is_known(rest):
    here, free, _ = rest
    lanes = len(here.batch)
    for contrast in (OneSided, RandomSign):
        for rule, runs in (
            (EP(contrast=contrast()), 1),
            (EP(contrast=contrast(twin=True)), 2),
            (EP(contrast=contrast(), probe=Corrected(shared_noise=True)), 2),
            (EP(contrast=contrast(), probe=Transposed()), 1),
        ):
            estimate = rule.estimate(here.device, here.theta, here.batch, here.task, free, NOISE)
            assert estimate.cost.settles == runs * lanes


def test_a_twin_keeps_what_moves_by_itself_out_of_the_response():
    here = setting()  # T = 20: not at rest
    free = here.free()
    exact = here.gradient(EP(probe=Transposed()), free)
    drifting, twin = (
        relative(here.gradient(EP(nudge=1e-4, contrast=OneSided(twin=twin)), free), exact) for twin in (False, True)
    )
    assert drifting > 1.0  # the drift is divided by the nudge
    assert twin < 0.1  # the couplings are turned round at z_T, and the state moves on from there
    # and with a twin the bias is O(nudge) again, of the state that moves as well
    lengths = (1e-3, 2e-3, 4e-3)
    moving = here.gradient(EP(nudge=1e-5), free)
    found = [relative(here.gradient(EP(nudge=a, contrast=OneSided(twin=True)), free), moving) for a in lengths]
    assert slope(lengths, found) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("contrast", [Centered(), OneSided(), RandomSign(), Contour(count=5)])
@pytest.mark.parametrize("nudge", [1e-3, 1e3])
def test_dyadic_ep_is_exact_at_any_nudge_and_contrast(rest, contrast, nudge):
    here, free, _ = rest
    exact = transpose_gradient(
        here.network, here.theta, here.batch, here.task, free.final, step_size=here.device.spec.step_size, steps=30
    )
    found = here.gradient(EP(nudge=nudge, steps=30, probe=Transposed(), contrast=contrast), free)
    assert relative(found, exact) < 1e-13


def test_contours_need_complex_states():
    for capabilities in (SIMULATED - {Capability.COMPLEX}, SIMULATED):
        here = setting(capabilities=capabilities)
        rule = EP(contrast=Contour(count=4))
        if Capability.COMPLEX in capabilities:
            require(rule, here.device.spec, here.task)
        else:
            with pytest.raises(CapabilityError, match="complex"):
                require(rule, here.device.spec, here.task)
    converter = setting(imperfections=[ADC(12)])
    with pytest.raises(CapabilityError, match="complex"):
        require(EP(contrast=Contour(count=4)), converter.device.spec)


# --- Roads --------------------------------------------------------------------------------------------------------


def test_vector_field_ep_stays_wrong_by_its_formula(rest):
    here, free, limit = rest
    z, x = free.final, here.batch.inputs
    J = here.network.jacobian(z, x, here.theta)
    Jt, c = np.swapaxes(J, 1, 2), here.task.signal(z, here.batch.targets, here.theta)[:, :, None]
    A = (J - Jt) / 2.0
    off = 2.0 * np.linalg.solve(Jt, A @ np.linalg.solve(J, c))[:, :, 0]
    expected = limit + (here.network.credit(off, z, x, here.theta) | limit.readout.zeros())
    lengths = (1e-3, 1e-2, 1e-1)
    found = [here.gradient(EP(nudge=a, steps=150, probe=VectorField()), free) for a in lengths]
    # to the formula it comes as the square of the nudge; to the gradient not at all, while asymmetric EP does
    assert relative(found[0], expected) < 1e-6
    assert slope(lengths, [relative(one, expected) for one in found]) == pytest.approx(2.0, abs=0.1)
    assert min(relative(one, limit) for one in found) > 0.3
    assert errors(rest, [1e-3])[0] < 1e-5


def test_vector_field_ep_is_right_where_j_is_symmetric():
    at = at_rest(lambda n, m: LeakyNetwork.symmetric(n, m, Identity()), gain=0.5)
    assert errors(at, [1.0], probe=VectorField())[0] < 1e-12


@pytest.mark.parametrize("contrast", [Centered(), OneSided(), Contour(count=4)])
@pytest.mark.parametrize("probe", [Corrected(), Natural(), Transposed()])
def test_kicks_along_the_way(probe, contrast):
    # h_0 = c, h_{j+1} = D^T h_j + earlier_j
    here, free, _ = at_rest(LeakyNetwork.symmetric)
    steps, normal = 6, np.random.default_rng(0).standard_normal
    c, earlier = normal(free.final.shape), normal((steps, *free.final.shape))
    c[1], earlier[:, 1], earlier[:, 2], c[3] = 0.0, 0.0, 0.0, 0.0
    kick = Stimulus(signal=c, form=Form.KICK, amplitude=1e-5, steps=steps, record=1, earlier=earlier, contrast=contrast)
    require_all = kick.needs | probe.needs
    assert {Capability.DISPLACE, Capability.WAVEFORM} <= require_all.capabilities
    found = probe.respond(here.device, here.theta, here.batch, free.final, kick, NOISE)
    h = [c]
    for j in range(steps):
        back = here.network.cotangent(h[-1], free.final, here.batch.inputs, here.theta)
        h.append(h[-1] + here.device.spec.step_size * back + earlier[j])
    assert np.abs(found.states - np.stack(h)).max() < (1e-13 if probe == Transposed() else 5e-4)
    assert np.array_equal(found.final, found.states[-1])
    assert not found.final[1].any()  # no signal, no answer
    assert found.final[3].any()  # further kicks alone


def test_the_longest_kick_has_the_length_that_was_asked_for(rest):
    here, free, _ = rest
    steps, normal = 3, np.random.default_rng(0).standard_normal
    c, earlier = normal(free.final.shape), normal((steps, *free.final.shape))
    kick = Stimulus(signal=c, form=Form.KICK, amplitude=0.7, steps=steps, earlier=earlier)
    probing = Corrected().begin(here.device, here.theta, here.batch, free.final, kick, NOISE)
    lengths = np.stack(
        [
            np.linalg.norm(probing.stimulus, axis=1),
            *np.linalg.norm(here.device.spec.step_size * probing.earlier, axis=2),
        ]
    )
    assert lengths.max(axis=0) == pytest.approx(0.7, rel=1e-12)


def test_a_stimulus_that_makes_no_sense_is_refused():
    c, earlier = np.ones((2, 3)), np.ones((4, 2, 3))
    with pytest.raises(InputError, match="belong to a kick"):
        Stimulus(signal=c, form=Form.NUDGE, amplitude=1.0, steps=4, earlier=earlier)
    with pytest.raises(InputError, match="one for each step"):
        Stimulus(signal=c, form=Form.KICK, amplitude=1.0, steps=3, earlier=earlier)
    with pytest.raises(InputError, match="unrecorded nudge"):
        Stimulus(signal=c, form=Form.KICK, amplitude=1.0, steps=Settling())
    with pytest.raises(InputError, match="count >= 2"):
        Contour(count=1)
    with pytest.raises(InputError, match="tolerance > 0"):
        Settling(tolerance=0.0)
    with pytest.raises(InputError, match="most"):
        Settling(every=20, most=10)
    with pytest.raises(InputError, match="real"):
        ContinualEP(contrast=Contour(count=4))


# --- Stopping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [Corrected(), Natural(), Transposed(), VectorField()])
def test_a_nudged_phase_that_settles_is_one_that_was_long_enough(probe):
    here, free, _ = at_rest(LeakyNetwork.symmetric)
    rule = EP(nudge=1e-3, probe=probe, steps=Settling(tolerance=1e-9, every=10))
    estimate = rule.estimate(here.device, here.theta, here.batch, here.task, free, NOISE)
    assert relative(estimate.gradients, here.gradient(EP(nudge=1e-3, probe=probe, steps=400), free)) < 1e-6
    assert 10 < estimate.diagnostics["nudged_steps"] < 400
    assert estimate.diagnostics["adjoint_residual"] <= 1e-9


@pytest.mark.parametrize("contrast", [Centered(), OneSided(), Contour(count=4)])
def test_samples_that_are_done_stop_costing(contrast):
    here, free, _ = at_rest()
    lanes, runs, every = len(here.batch), len(contrast.points(here.batch.ids, NOISE, known=True).factors), 4
    found = []
    for tolerance in (1e-1, 1e-3, 1e-5):
        rule = EP(nudge=1e-3, probe=Transposed(), contrast=contrast, steps=Settling(tolerance=tolerance, every=every))
        meter = MeteredDevice(here.device)
        estimate = rule.estimate(meter, here.theta, here.batch, here.task, free, NOISE)
        assert estimate.cost == meter.observed
        mean = estimate.diagnostics["nudged_steps"]
        assert estimate.cost.steps == round(mean * lanes) * runs
        assert estimate.cost.settles == estimate.cost.steps // every
        # the residual of a at the steps taken, sample by sample, is below what the stretch measured
        z, x, eps = free.final, here.batch.inputs, here.device.spec.step_size
        c = here.task.signal(z, here.batch.targets, here.theta)
        nudge = Stimulus(signal=c, form=Form.NUDGE, amplitude=1e-3, steps=rule.steps, contrast=contrast)
        response = Transposed().respond(here.device, here.theta, here.batch, z, nudge, NOISE)
        before, a = np.zeros_like(z), np.zeros_like(z)
        for step in range(int(response.steps.max())):
            going = (step < response.steps)[:, None]
            before = np.where(going & (step % every == 0), a, before)
            a = np.where(going, a + eps * (here.network.cotangent(a, z, x, here.theta) + c), a)
        assert np.abs(response.final - a).max() < 1e-14
        measured = np.linalg.norm(a - before, axis=1) / (eps * every * np.linalg.norm(c, axis=1))
        assert response.residual == pytest.approx(measured, rel=1e-6)
        assert (response.residual <= tolerance).all()
        left = np.linalg.norm(here.network.cotangent(a, z, x, here.theta) + c, axis=1) / np.linalg.norm(c, axis=1)
        assert (left < tolerance).all()
        found.append(mean)
    assert found[0] < found[1] < found[2]


def test_settling_gives_up_after_the_most_steps_and_says_what_is_left():
    here, free, _ = at_rest()
    rule = EP(nudge=1e-3, probe=Transposed(), steps=Settling(tolerance=1e-12, every=4, most=10))
    estimate = rule.estimate(here.device, here.theta, here.batch, here.task, free, NOISE)
    assert estimate.diagnostics["nudged_steps"] == 10.0
    assert estimate.diagnostics["adjoint_residual"] > 1e-3
    assert estimate.cost == Cost(settles=3 * 8, steps=10 * 8, reads=3 * 8)
    assert relative(estimate.gradients, here.gradient(EP(nudge=1e-3, probe=Transposed(), steps=10), free)) < 1e-12


def test_stretches_have_noise_of_their_own():
    here = setting(imperfections=[ThermalNoise(0.05)])
    free = here.free()
    meter = MeteredDevice(here.device)
    rule = EP(steps=Settling(tolerance=1e-9, every=5, most=20))
    rule.estimate(meter, here.theta, here.batch, here.task, free, NOISE)
    assert meter.repeats == {NOISE.repeat + k for k in range(1, 9)}
    shared = MeteredDevice(here.device)
    rule = EP(steps=rule.steps, probe=Corrected(shared_noise=True))
    rule.estimate(shared, here.theta, here.batch, here.task, free, NOISE)
    assert shared.repeats == {NOISE.repeat + k for k in range(1, 5)}
    with pytest.raises(InputError, match="longer stretches"):
        EP(steps=Settling(tolerance=1e-9, every=1, most=200), contrast=Contour(count=8)).estimate(
            here.device, here.theta, here.batch, here.task, free, NOISE
        )


def test_settling_goes_on_from_loaded_states():
    here = setting(capabilities=SIMULATED - {Capability.LOAD_STATE})
    with pytest.raises(CapabilityError, match="load_state"):
        require(EP(steps=Settling()), here.device.spec)


# --- Continual EP -------------------------------------------------------------------------------------------------


def gradient_of(here, free, **parts):
    return here.gradient(ContinualEP(steps=12, **parts), free)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("every", [1, 5])
def test_continual_ep_is_off_by_the_learning_rate(together, every):
    here = setting(4, lanes=2)
    free = here.free()
    dyadic = here.gradient(EP(steps=12, probe=Transposed()), free)
    rates = (1e-3, 2e-3, 4e-3)
    found = [
        relative(gradient_of(here, free, learning_rate=r, probe=Transposed(), together=together, every=every), dyadic)
        for r in rates
    ]
    assert found[0] < 0.1
    assert slope(rates, found) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("contrast", "order"), [(Centered(), 2), (OneSided(), 1)])
def test_continual_ep_sees_the_nudged_state_at_its_synapses(contrast, order):
    here, free, _ = at_rest(lanes=1)
    lengths = (0.02, 0.04, 0.08)
    exact = here.gradient(EP(nudge=1e-5, steps=12), free)
    found = [relative(gradient_of(here, free, learning_rate=1e-6, nudge=a, contrast=contrast), exact) for a in lengths]
    assert slope(lengths, found) == pytest.approx(order, abs=0.15)


def test_continual_ep_moves_the_parameters_as_it_says(rest):
    """By hand, one sample at a time: nudge a step, move theta, nudge the next."""
    here, free, _ = rest
    rate, nudge, lanes, eps = 0.3, 0.2, len(here.batch), here.device.spec.step_size
    total = here.theta.analog.zeros()
    for b in range(lanes):
        batch, z = here.batch.take(slice(b, b + 1)), free.final[b : b + 1]
        x, theta = batch.inputs, here.theta.analog
        c = here.task.signal(z, batch.targets, here.theta)  # of this sample's own loss
        force, scale = nudge * c / np.linalg.norm(c), np.linalg.norm(c) / nudge
        state = z
        for _ in range(7):
            v, model = state - z, here.network
            turned = model.tangent(v, z, x, theta) - model.cotangent(v, z, x, theta)
            moved = state + eps * (model.field(state, x, theta) + force - turned)
            theta, state = theta - model.credit(scale * (moved - state), state, x, theta) * rate, moved
        total = total + (here.theta.analog - theta) * (1.0 / (rate * lanes))
    rule = ContinualEP(nudge=nudge, learning_rate=rate, steps=7, contrast=OneSided())
    meter = MeteredDevice(here.device)
    estimate = rule.estimate(meter, here.theta, here.batch, here.task, free, NOISE)
    assert relative(estimate.gradients.analog, total) < 1e-12
    assert (
        estimate.cost == meter.observed == Cost(settles=7 * lanes, steps=7 * lanes, reads=7 * lanes, writes=24 * lanes)
    )


def test_continual_ep_keeps_to_the_ranges_and_restores_theta():
    ranges = {"W": (-0.5, 0.5)}
    here = setting(8, gain=0.3, ranges=ranges)
    free = here.free()
    before = here.free().final
    found = here.gradient(ContinualEP(steps=6, learning_rate=50.0), free)
    assert found.finite()
    assert np.array_equal(here.free().final, before)


def test_continual_ep_updates_as_often_as_noise_has_addresses():
    here = setting(2, lanes=1, imperfections=[ThermalNoise(0.01)])
    meter = MeteredDevice(here.device)
    rule = ContinualEP(steps=300)
    estimate = rule.estimate(meter, here.theta, here.batch, here.task, here.free(), NOISE)
    assert estimate.cost == meter.observed == Cost(settles=200, steps=600, reads=200, writes=303)
    assert meter.repeats == {NOISE.repeat + k for k in range(1, 201)}


# --- The ladder ---------------------------------------------------------------------------------------------------


def snapshot(here):
    free = here.free()
    return free, Snapshot(
        model=here.network,
        theta=here.theta,
        batch=here.batch,
        task=here.task,
        states=free.recorded,
        step_size=here.device.spec.step_size,
    )


@pytest.mark.parametrize(
    "rule",
    [
        EP(nudge=1e-4),
        EP(nudge=1e-4, steps=7),
        EP(steps=Settling(tolerance=1e-2, every=3), probe=Transposed()),
        EP(nudge=1e-4, steps=11, probe=VectorField()),
        ContinualEP(steps=7, probe=Transposed(), learning_rate=1e-6),
    ],
    ids=["T steps", "7 steps", "settling", "vector field", "continual"],
)
def test_the_ladder_leads_from_the_equilibrium_to_the_rule(rule):
    here = setting(horizon=100, gain=0.5)
    free, at = snapshot(here)
    assert 1e-8 < free.residual.max() < 1e-4  # at rest as far as probes see, and not beyond
    ladder = rule.ladder
    names = [ideal.name for ideal in ladder.ideals]
    assert names[:2] == ["equilibrium instead of T steps", "z_T instead of z*"]
    assert names[-1] == "truncated nudged phase"
    assert ("J instead of J^T" in names) == (getattr(rule, "probe", None) == VectorField())
    rungs = [ideal.gradient(at) for ideal in ladder.ideals]
    for rung in rungs:
        assert rung.keys() == here.theta.keys()
    adjoint = equilibrium_adjoint(here.network, here.theta, here.batch, here.task, free.final)
    assert adjoint.certified.all()
    assert relative(rungs[0], adjoint.gradients) < 1e-12
    converged = transpose_gradient(
        here.network, here.theta, here.batch, here.task, free.final, step_size=here.device.spec.step_size
    )
    assert relative(rungs[1], converged) < 1e-12
    # beyond the last rung there is the finite nudge alone
    assert relative(here.gradient(rule, free), rungs[-1]) < 1e-4
    # and every rung says something else than the one before
    assert min(relative(one, two) for one, two in zip(rungs[1:], rungs, strict=False)) > 1e-6


def test_a_long_nudge_at_rest_leaves_nothing_on_the_ladder(rest):
    here = setting(8, seed=1, step_size=0.5, horizon=600)
    _, at = snapshot(here)
    rungs = [ideal.gradient(at) for ideal in EP(steps=600).ladder.ideals]
    assert max(relative(rung, rungs[0]) for rung in rungs) < 1e-10


# --- The suite ----------------------------------------------------------------------------------------------------

SETTLE = Settling(tolerance=0.05, every=6, most=60)


@pytest.mark.parametrize(
    ("rule", "device", "substrate"),
    [
        (EP(contrast=OneSided()), "float64", "dense"),
        (EP(contrast=OneSided(twin=True)), "without load_state", "symmetric"),
        (EP(contrast=RandomSign()), "noisy", "dense"),
        (EP(contrast=Contour(count=4), nudge=0.2), "float64", "dense"),
        (EP(contrast=Contour(count=3), nudge=0.2, probe=Natural(shared_noise=True)), "noisy", "energy"),
        (EP(contrast=Contour(count=4), nudge=0.2), "float32", "symmetric"),
        (EP(contrast=Contour(count=4), nudge=0.1, probe=Natural()), "float64", "resistors"),
        (EP(contrast=Contour(count=4), nudge=0.1, probe=Natural()), "random start", "symmetric"),
        (EP(probe=VectorField()), "float64", "dense"),
        (EP(probe=VectorField(shared_noise=True)), "noisy float32", "dense"),
        (EP(steps=SETTLE), "float64", "dense"),
        (EP(steps=SETTLE, probe=Transposed()), "noisy", "dense"),
        (EP(steps=SETTLE, probe=Natural(), contrast=OneSided()), "converter", "symmetric"),
        (ContinualEP(steps=8), "float64", "dense"),
        (ContinualEP(steps=8, probe=Natural(), contrast=OneSided(), every=3), "noisy", "energy"),
        (ContinualEP(steps=8, probe=Transposed(), contrast=RandomSign()), "converter", "dense"),
        (ContinualEP(steps=8, probe=VectorField()), "carry", "dense"),
    ],
)
def test_suite(rule, device, substrate):
    check_rule(lambda: rule, lambda: DEVICES[device](SUBSTRATES[substrate]()))


# --- Odd inputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        EP(contrast=Contour(count=4)),
        EP(contrast=RandomSign()),
        EP(probe=VectorField()),
        EP(steps=Settling(every=1, most=1)),
        ContinualEP(),
    ],
)
def test_one_sample_one_step_one_unit(rule):
    here = setting(1, lanes=1, horizon=1)
    assert here.gradient(rule, here.free()).finite()


def test_what_blows_up_has_not_settled():
    here = setting(gain=40.0)
    rule = EP(steps=Settling(every=10, most=50), probe=Transposed())
    estimate = rule.estimate(here.device, here.theta, here.batch, here.task, here.free(), NOISE)
    assert estimate.diagnostics["nudged_steps"] > 10.0
    assert not estimate.diagnostics["adjoint_residual"] < 1.0


def test_further_kicks_of_no_steps(rest):
    here, free, _ = rest
    z = free.final
    kick = Stimulus(
        signal=np.ones_like(z), form=Form.KICK, amplitude=1.0, steps=0, record=1, earlier=np.zeros((0, *z.shape))
    )
    found = Corrected().respond(here.device, here.theta, here.batch, z, kick, NOISE)
    assert found.states.shape == (1, *z.shape)
    assert found.final == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("rule", [EP(contrast=Contour(count=4)), EP(steps=Settling()), ContinualEP(steps=3)])
def test_no_signal_no_gradient(rule):
    here = setting()
    flat = here.theta | {"readout.V": np.zeros((4, 16))}
    estimate = rule.estimate(here.device, flat, here.batch, here.task, here.free(), NOISE)
    assert estimate.gradients.finite()
    assert estimate.gradients.analog.norm() == 0.0


@pytest.mark.parametrize(
    "rule",
    [
        EP(contrast=Contour(count=4)),
        EP(contrast=RandomSign()),
        EP(steps=SETTLE),
        ContinualEP(learning_rate=0.1, steps=5),
    ],
)
def test_single_precision(rule):
    exact, here = setting(16), setting(16, dtype=np.float32)
    assert cosine(here.gradient(rule, here.free()), exact.gradient(rule, exact.free())) > 1.0 - 1e-5
