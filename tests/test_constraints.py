"""Couplings that are bounded by construction: the bound, its adjoint, what it promises, and training inside it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

import hwsim.diagnostics.contraction as contraction_module
from hwsim.contracts.errors import InputError, ResumeError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.devices import SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.imperfections import ConstantStep, PulsedUpdate
from hwsim.diagnostics import Norm, log_norm
from hwsim.learning_rules import FiniteHorizonEP
from hwsim.reference import BPTT
from hwsim.substrates import (
    Convolutional,
    Dense,
    EnergyNetwork,
    Identity,
    Layered,
    LeakyNetwork,
    Logistic,
    Masked,
    Reciprocal,
    Tanh,
)
from hwsim.tasks import Classification
from hwsim.testing import RandomClasses
from hwsim.training import (
    Adam,
    MonotoneDEQ,
    OpenLoopPulses,
    RowBound,
    SpectralBound,
    SymmetricBound,
    Trainer,
    load_state,
    save_state,
)

N, M, MARGIN = 6, 3, 0.3
PAIRS = ((0, 1), (1, 0), (2, 5), (3, 3), (4, 1), (5, 0), (0, 4))
COUPLINGS = {
    RowBound: [Dense(N), Masked(N, PAIRS), Layered((2, 3, 1))],
    SpectralBound: [
        Dense(N),
        Reciprocal(N),
        Masked(N, PAIRS),
        Layered((2, 3, 1), reciprocal=True),
        Convolutional(channels=2, height=1, width=3),
    ],
    SymmetricBound: [
        Reciprocal(N),
        Masked(N, ((0, 1), (2, 5), (3, 3)), reciprocal=True),
        Convolutional(channels=2, height=1, width=3, reciprocal=True),
    ],
    MonotoneDEQ: [Dense(N)],
}
CASES = [(kind, coupling) for kind, couplings in COUPLINGS.items() for coupling in couplings]
NAMES = [f"{kind.__name__} {type(coupling).__name__} {index}" for index, (kind, coupling) in enumerate(CASES)]


def network(coupling, nonlinearity=Tanh()):
    return LeakyNetwork(units=coupling.units, inputs=M, coupling=coupling, nonlinearity=nonlinearity)


def drawn(coupling, gain=3.0, seed=0):
    theta = network(coupling).initial(seed, gain=gain, input_gain=1.0)
    return theta | {"b": np.random.default_rng(seed).standard_normal(N)} | {"readout.V": np.ones((2, N))}


def states(lanes=8, seed=0, size=2.0):
    draw = np.random.default_rng([seed, 1])
    return size * draw.standard_normal((lanes, N)), draw.standard_normal((lanes, M))


def eigenvalues(net, theta, x, z):
    return np.linalg.eigvals(net.jacobian(z, x, theta)).real.max(axis=1)


# --- The log-norm -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix_free", [False, True])
def test_log_norms_are_the_limits_that_define_them(matrix_free, monkeypatch):
    net, theta = network(Dense(N)), drawn(Dense(N))
    z, x = states()
    weights = np.random.default_rng(3).uniform(0.5, 2.0, z.shape)
    if matrix_free:
        monkeypatch.setattr(contraction_module, "DIRECT_LIMIT", 0)
    h = 1e-7
    for given_weights, scale in ((None, np.ones_like(z)), (weights, weights)):
        jacobian = net.jacobian(z, x, theta) * (scale[:, :, None] / scale[:, None, :])
        step = np.eye(N) + h * jacobian
        for norm, order in ((Norm.EUCLIDEAN, 2), (Norm.MAXIMUM, np.inf)):
            limit = (np.linalg.norm(step, ord=order, axis=(1, 2)) - 1.0) / h
            found = log_norm(net, theta, x, z, norm=norm, weights=given_weights)
            assert found == pytest.approx(limit, abs=1e-5)
            assert (found >= eigenvalues(net, theta, x, z) - 1e-9).all()


def test_the_log_norm_of_a_lane_that_is_not_finite_is_nan_and_bad_weights_are_refused():
    net, theta = network(Dense(N)), drawn(Dense(N))
    z, x = states(lanes=2)
    z[1, 2] = np.inf
    for norm in Norm:
        assert np.isnan(log_norm(net, theta, x, z, norm=norm)).tolist() == [False, True]
    with pytest.raises(InputError, match="weights above 0; the smallest is 0"):
        log_norm(net, theta, x, z, weights=np.zeros_like(z))


# --- The bounds ---------------------------------------------------------------------------------------------------


blocks = arrays(np.float64, (N, N), elements=st.floats(-1e3, 1e3, allow_subnormal=False))


@settings(max_examples=30)
@given(block=blocks, size=st.floats(0.0, 4.0), margin=st.floats(0.01, 0.99), logistic=st.booleans())
def test_the_bound_holds_whatever_the_free_parameters(block, size, margin, logistic):
    nonlinearity = Logistic() if logistic else Tanh()
    z, x = states(size=size)
    for kind, norm in ((RowBound, Norm.MAXIMUM), (SpectralBound, Norm.EUCLIDEAN), (MonotoneDEQ, None)):
        net = network(Dense(N), nonlinearity)
        constraint = kind.of(net, margin)
        phi = {"W.A": block, "W.B": block[::-1]} if kind is MonotoneDEQ else {"W": block}
        theta = constraint.theta(Parameters({**phi, "U": np.ones((N, M)), "b": np.ones(N)}))
        rounding = 1e-13 * (1.0 + abs(theta["W"]).max())
        if norm is None:
            slope = nonlinearity.slope(z)
            found = log_norm(net, theta, x, z, weights=np.sqrt(slope)) if (slope > 0).all() else -margin
            monotone = np.eye(N) - nonlinearity.steepest * (theta["W"] + theta["W"].T) / 2.0
            assert np.linalg.eigvalsh(monotone)[0] >= margin - rounding
            assert np.max(found) <= -margin + 1e2 * rounding
        else:
            assert log_norm(net, theta, x, z, norm=norm).max() <= -margin + rounding
    symmetric = network(Reciprocal(N), nonlinearity)
    theta = SymmetricBound.of(symmetric, margin).theta(Parameters({"W": block, "U": np.ones((N, M)), "b": np.ones(N)}))
    slope = nonlinearity.slope(z)
    rounding = 1e-13 * (1.0 + abs(theta["W"]).max())
    found = log_norm(symmetric, theta, x, z, weights=np.sqrt(slope))
    assert found.max() <= -margin + 1e2 * rounding


@pytest.mark.parametrize(("kind", "coupling"), CASES, ids=NAMES)
@pytest.mark.parametrize("gain", [0.05, 3.0], ids=["inside", "bounded"])
def test_the_pull_back_is_the_adjoint_of_the_map(kind, coupling, gain):
    constraint = kind(coupling=coupling, margin=MARGIN, steepest=0.8)
    theta = drawn(coupling, gain)
    draw = np.random.default_rng(5)
    # away from where the constraint itself starts, at its corner
    phi = constraint.free(theta).map(lambda a: a) if kind is MonotoneDEQ else theta
    phi = Parameters({name: np.asarray(a) + 0.01 * gain * draw.standard_normal(a.shape) for name, a in phi.items()})
    gradients = Parameters({name: draw.standard_normal(a.shape) for name, a in theta.items()})
    pulled = constraint.pull_back(phi, gradients)
    assert pulled.keys() == phi.keys()
    direction = Parameters({name: draw.standard_normal(a.shape) for name, a in phi.items()})
    h = 1e-6
    difference = (constraint.theta(phi + direction * h) - constraint.theta(phi - direction * h)) / (2 * h)
    assert pulled.dot(direction) == pytest.approx(gradients.dot(difference), rel=1e-7, abs=1e-7)
    assert np.array_equal(pulled["readout.V"], gradients["readout.V"])
    assert np.array_equal(constraint.theta(phi)["U"], phi["U"])


@pytest.mark.parametrize(("kind", "coupling"), CASES, ids=NAMES)
def test_free_parameters_give_back_what_is_in_the_set_and_frozen_stays_frozen(kind, coupling):
    constraint = kind(coupling=coupling, margin=MARGIN)
    inside = drawn(coupling, 0.05).freeze("W", "b")
    outside = drawn(coupling, 5.0).freeze("W", "b")
    for theta in (inside, outside):
        phi = constraint.free(theta)
        made = constraint.theta(phi)
        assert made.keys() == theta.keys()
        assert made.frozen == theta.frozen
        assert phi.frozen >= {"b"}
        assert not phi.frozen & {"U", "readout.V"}
        again = constraint.theta(constraint.free(made))
        assert again["W"] == pytest.approx(made["W"], abs=1e-12)
    assert constraint.theta(constraint.free(inside))["W"] == pytest.approx(inside["W"], abs=1e-12)
    assert constraint.theta(constraint.free(outside))["W"] != pytest.approx(outside["W"], rel=1e-3)


def test_zero_couplings_and_single_units_are_no_corner_to_stumble_over():
    for kind in (RowBound, SpectralBound, MonotoneDEQ):
        constraint = kind(coupling=Dense(1), margin=MARGIN)
        phi = constraint.free(Parameters({"W": np.zeros((1, 1))}))
        pulled = constraint.pull_back(phi, Parameters({"W": np.ones((1, 1))}))
        assert pulled.finite()
        assert constraint.theta(phi)["W"] == pytest.approx(0.0, abs=1e-12)
    rows = RowBound(coupling=Dense(2), margin=MARGIN)
    phi = Parameters({"W": np.array([[1e300, 1e300], [0.0, -1e-300]])})
    assert abs(rows.theta(phi)["W"]).sum(axis=1) == pytest.approx([0.7, 0.0])
    assert rows.pull_back(phi, Parameters({"W": np.ones((2, 2))})).finite()


# --- What the bounds promise, and what they do not ----------------------------------------------------------------


@pytest.mark.parametrize("step_size", [0.05, 0.5, 1.0])
@pytest.mark.parametrize(("kind", "order"), [(RowBound, np.inf), (SpectralBound, 2)])
def test_twins_approach_each_other_at_least_at_the_promised_rate(kind, order, step_size):
    net = network(Dense(N))
    theta = kind.of(net, MARGIN).theta(drawn(Dense(N), gain=5.0))
    noisy = SimulatedDevice(net, horizon=40, step_size=step_size, imperfections=[ThermalNoise(0.3)], engine=Stepwise())
    noisy.program(theta)
    lanes = 32
    (z, x), (other, _) = states(lanes), states(lanes, seed=1)
    inputs, ids = np.concatenate([x, x]), np.concatenate([np.arange(lanes)] * 2)
    phase = Phase(steps=40, record=1)
    plan = Plan(inputs=inputs, ids=ids, start=At(np.concatenate([z, other])), phases=(phase,))
    run = noisy.relax(plan, noise=NoisePath(seed=1))[0].recorded
    apart = np.linalg.norm(run[:, lanes:] - run[:, :lanes], ord=order, axis=2)
    assert (apart[1:] <= apart[:-1] * (1.0 - step_size * MARGIN) + 1e-12).all()
    times = step_size * np.arange(41)[:, None]
    assert (apart <= np.exp(-MARGIN * times) * apart[0] + 1e-12).all()
    # the promise is of use: without the bound these twins do not meet
    noisy.program(drawn(Dense(N), gain=5.0))
    wild = noisy.relax(plan, noise=NoisePath(seed=1))[0].recorded
    assert (np.linalg.norm(wild[-1, lanes:] - wild[-1, :lanes], axis=1) > 0.1).any()


def test_the_rate_is_reached_so_the_bound_is_not_loose():
    # a ring of equal couplings at rest, where every slope is 1: the uniform direction decays at exactly -m
    net = network(Dense(N))
    ring = np.roll(np.eye(N), 1, axis=1) * 9.0
    for kind, norm in ((RowBound, Norm.MAXIMUM), (SpectralBound, Norm.EUCLIDEAN)):
        theta = kind.of(net, MARGIN).theta(drawn(Dense(N)) | {"W": ring})
        assert log_norm(net, theta, np.zeros((1, M)), np.zeros((1, N)), norm=norm) == pytest.approx(-MARGIN)


def test_a_monotone_network_may_part_trajectories_before_they_meet():
    # W = (1 - m) 1 + K with K antisymmetric, one unit saturated: J + J^T is indefinite once k^2 / 4 > m
    k, net = 4.0, LeakyNetwork.dense(2, 1)
    constraint = MonotoneDEQ.of(net, MARGIN)
    turn = np.array([[0.0, k], [-k, 0.0]])
    phi = Parameters({"W.A": np.zeros((2, 2)), "W.B": turn / 2.0, "U": np.zeros((2, 1)), "b": np.zeros(2)})
    theta = constraint.theta(phi)
    assert theta["W"] == pytest.approx((1 - MARGIN) * np.eye(2) + turn)
    x, z = np.zeros((1, 1)), np.array([[0.0, 12.0]])
    # J = [[-m, 0], [-k, -1]]: its symmetric part is [[-m, -k/2], [-k/2, -1]]
    mean, half = (-1 - MARGIN) / 2, (1 - MARGIN) / 2
    assert log_norm(net, theta, x, z) == pytest.approx(mean + np.hypot(half, k / 2), rel=1e-6)
    assert log_norm(net, theta, x, z)[0] > 1.0
    assert eigenvalues(net, theta, x, z)[0] == pytest.approx(-MARGIN, abs=1e-6)
    # and yet well posed: one equilibrium from everywhere
    starts = 5.0 * np.random.default_rng(0).standard_normal((20, 2))
    device = SimulatedDevice(net, horizon=4000, step_size=0.02)
    device.program(theta | {"b": np.array([0.5, -1.0])})
    ids = np.arange(20)
    plan = Plan(inputs=np.zeros((20, 1)), ids=ids, start=At(starts), phases=(Phase(steps=4000),))
    final = device.relax(plan, noise=NoisePath(seed=0))[0].final
    assert np.ptp(starts, axis=0).min() > 10.0
    assert np.ptp(final, axis=0).max() < 1e-4  # it turns as it settles, which takes Euler steps long


def test_a_symmetric_bound_leaves_one_equilibrium_without_euclidean_contraction():
    net = network(Reciprocal(N))
    constraint = SymmetricBound.of(net, MARGIN)
    # excitation in every direction but one, with strong inhibition in that
    direction = np.ones(N) / np.sqrt(N)
    inhibited = np.eye(N) - 40.0 * np.outer(direction, direction)
    theta = constraint.theta(drawn(Reciprocal(N)) | {"W": inhibited})
    z, x = states(lanes=40, size=3.0)
    assert eigenvalues(net, theta, x, z).max() <= -MARGIN + 1e-12
    assert log_norm(net, theta, x, z).max() > 0.5
    device = SimulatedDevice(net, horizon=4000, step_size=0.02)
    device.program(theta)
    alike = np.repeat(x[:1], 40, axis=0)
    plan = Plan(inputs=alike, ids=np.arange(40), start=At(z), phases=(Phase(steps=4000),))
    final = device.relax(plan, noise=NoisePath(seed=0))[0].final
    assert np.ptp(final, axis=0).max() < 1e-9
    # the same couplings unbounded have several
    device.program(drawn(Reciprocal(N), gain=8.0))
    assert np.ptp(device.relax(plan, noise=NoisePath(seed=0))[0].final, axis=0).max() > 0.1


def test_a_symmetric_bound_contracts_a_linear_energy_network():
    net = EnergyNetwork.symmetric(N, M, Identity())
    theta = SymmetricBound(coupling=net.coupling, margin=MARGIN).theta(drawn(Reciprocal(N), gain=8.0))
    z, x = states()
    assert log_norm(net, theta, x, z) == pytest.approx(-MARGIN)


# --- Training inside a set ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Repeated(Classification):
    """The same random batch again and again."""

    units: int = N
    inputs: int = M
    classes: int = 3

    def training_batch(self, step, size, seed):
        return RandomClasses(units=N, inputs=M, classes=3).training_batch(0, size, 0)

    @property
    def validation(self):
        return self.training_batch(0, 8, 0)


def trainer(kind, *, rule=BPTT(), sigma=0.0, margin=MARGIN, **options):
    net = network(Reciprocal(N) if kind is SymmetricBound else Dense(N))
    device = SimulatedDevice(
        net,
        horizon=12,
        step_size=0.2,
        engine=Stepwise(),
        imperfections=[ThermalNoise(sigma)] if sigma else [],
        seed=4,
    )
    task = Repeated()
    theta = net.initial(1, gain=2.0, input_gain=1.0) | task.initial_readout(1, 1.0)
    made = Trainer(
        device=device,
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=5e-2),
        batch_size=16,
        seed=2,
        noise=NoisePath(seed=2),
        constraint=None if kind is None else kind.of(net, margin),
        **options,
    )
    return made, theta


def in_the_set(constraint, weights):
    size = {
        RowBound: lambda: abs(weights).sum(axis=1).max(),
        SpectralBound: lambda: np.linalg.norm(weights, ord=2),
        SymmetricBound: lambda: np.linalg.eigvalsh((weights + weights.T) / 2)[-1],
        MonotoneDEQ: lambda: np.linalg.eigvalsh((weights + weights.T) / 2)[-1],
    }[type(constraint)]()
    return size <= 1.0 - constraint.margin + 1e-12


KINDS = [RowBound, SpectralBound, SymmetricBound, MonotoneDEQ]


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_and_never_leaves_the_set(kind):
    made, theta = trainer(kind)
    assert not in_the_set(made.constraint, np.asarray(theta["W"]))
    state, losses, programmed = made.start(theta.freeze("b")), [], []
    for _ in range(30):
        state, estimate = made.advance(state)
        losses.append(estimate.loss)
        programmed.append(np.asarray(state.theta["W"]))
        assert in_the_set(made.constraint, programmed[-1])
    assert losses[-1] < 0.85 * losses[0]
    assert max(abs(a - programmed[0]).max() for a in programmed) > 0.05  # the couplings took part
    assert np.array_equal(state.theta["b"], theta["b"])
    assert state.theta.keys() == theta.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_constrained_run_resumes_on_the_same_bits(kind, tmp_path):
    options = {"rule": FiniteHorizonEP(), "sigma": 0.05}
    made, theta = trainer(kind, **options)
    whole = made.start(theta.freeze("b"))
    for _ in range(7):
        whole, _ = made.advance(whole)
    made, theta = trainer(kind, **options)
    state = made.start(theta.freeze("b"))
    for _ in range(3):
        state, _ = made.advance(state)
    save_state(tmp_path / "run.npz", state, {})
    made, _ = trainer(kind, **options)
    resumed = made.resume(load_state(tmp_path / "run.npz")[0])
    for _ in range(4):
        resumed, _ = made.advance(resumed)
        assert in_the_set(made.constraint, np.asarray(resumed.theta["W"]))
    for part in ("theta", "free"):
        mine, theirs = getattr(resumed, part), getattr(whole, part)
        assert mine.frozen == theirs.frozen
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert resumed.moments.first.frozen == whole.moments.first.frozen
    assert all(np.array_equal(resumed.moments.second[n], whole.moments.second[n]) for n in whole.moments.second)


def test_the_first_step_descends_along_the_pulled_back_gradient():
    made, theta = trainer(SpectralBound)
    state = made.start(theta)
    moved, estimate = made.advance(state)
    pulled = made.constraint.pull_back(state.free, estimate.gradients)
    step = moved.free - state.free
    # Adam's first step is -lr g / (|g| + 1e-8)
    assert step["W"] == pytest.approx(-5e-2 * pulled["W"] / (abs(pulled["W"]) + 1e-8), abs=1e-9)
    assert np.array_equal(moved.theta["W"], made.constraint.theta(moved.free)["W"])


def test_no_constraint_costs_nothing():
    made, theta = trainer(None)
    state, _ = made.advance(made.start(theta))
    assert state.free is None
    assert state.moments.first.keys() == theta.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_blow_up_ends_the_run_at_the_last_parameters_in_the_set(kind):
    made, theta = trainer(kind)
    made = replace(made, optimiser=Adam(learning_rate=1e308))
    state = made.start(theta)
    for _ in range(4):
        state, _ = made.advance(state)
        if state.diverged:
            break
    assert state.diverged
    assert state.theta.finite()
    assert in_the_set(made.constraint, np.asarray(state.theta["W"]))


def test_states_of_another_constraint_are_refused():
    bound, theta = trainer(RowBound)
    free, _ = trainer(None)
    other, _ = trainer(RowBound, margin=0.6)
    with pytest.raises(ResumeError, match="this trainer has no constraint, and the state was made with one"):
        free.resume(bound.start(theta))
    with pytest.raises(ResumeError, match="the state was made without one"):
        bound.advance(free.start(theta))
    with pytest.raises(ResumeError, match=r"not in the set of RowBound\(.*margin=0.6"):
        other.resume(bound.start(theta))


def test_what_cannot_be_bounded_is_refused_in_words():
    with pytest.raises(InputError, match=r"margin in \(0, 1\).*found 1.0"):
        RowBound(coupling=Dense(N), margin=1.0)
    with pytest.raises(InputError, match="steepest > 0 and finite; found inf"):
        RowBound(coupling=Dense(N), margin=0.5, steepest=np.inf)
    for coupling in (Reciprocal(N), Convolutional(channels=1, height=2, width=3)):
        with pytest.raises(InputError, match="RowBound needs couplings that share no parameter between rows"):
            RowBound(coupling=coupling, margin=0.5)
    with pytest.raises(InputError, match="SymmetricBound needs reciprocal couplings"):
        SymmetricBound(coupling=Dense(N), margin=0.5)
    with pytest.raises(InputError, match="MonotoneDEQ needs couplings between all units"):
        MonotoneDEQ(coupling=Reciprocal(N), margin=0.5)
    constraint = SpectralBound(coupling=Dense(N), margin=0.5)
    with pytest.raises(InputError, match=r"bounds block W of shape \[6, 6\]; found shape \[2, 2\]"):
        constraint.free(Parameters({"W": np.zeros((2, 2))}))
    with pytest.raises(InputError, match=r"bounds block W .*; found \['b'\]"):
        constraint.theta(Parameters({"b": np.zeros(2)}))
    with pytest.raises(InputError, match=r"MonotoneDEQ makes W of \['W.A', 'W.B'\]; phi lacks \['W.B'\]"):
        MonotoneDEQ(coupling=Dense(N), margin=0.5).theta(Parameters({"W.A": np.zeros((N, N))}))


def test_a_constraint_needs_a_writer_that_programs():
    made, _ = trainer(RowBound)
    cells = PulsedUpdate(law=ConstantStep(), dw_min=0.01, w_max=8.0, w_min=-8.0)
    device = SimulatedDevice(network(Dense(N)), horizon=12, imperfections=[cells])
    with pytest.raises(InputError, match="OpenLoopPulses programs no values: train with writer=Reprogram"):
        replace(made, device=device, writer=OpenLoopPulses(step=0.01))
