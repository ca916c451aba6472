"""Resistive networks: derivatives, credit, reciprocity, co-content and thermal noise."""

import numpy as np
import pytest
import scipy.linalg
from circuits import LAWS, build, circuits, conductances, network
from hypothesis import given, settings, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import BOLTZMANN
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.resistive import GROUND, Amplifier, IdealDiode, ResistiveNetwork, Shockley
from hwsim.testing import check_substrate

H = 1e-5
"""volt. Central differences err by H^2 F'''/6: with F''' = y/(2V_T)^2 of a diode, 6e-9 of its conductance."""
few = settings(max_examples=30)
ANY_AMPLIFIER = (None, "conserving", "inverse")


# --- derivatives ---------------------------------------------------------------------------------------------------


@few
@given(case=circuits(laws=("shockley",), amplifiers=ANY_AMPLIFIER))
def test_derivatives_are_differences_of_the_field(case):
    circuit = build(case)
    net, x, theta, v, numbers = circuit.network, circuit.x, circuit.theta, circuit.v, circuit.numbers
    d, a = numbers.standard_normal((2, *v.shape))
    slope = (net.field(v + H * d, x, theta) - net.field(v - H * d, x, theta)) / (2 * H)
    # relative to the largest rate, through which differences of F and their rounding go
    J = net.jacobian(v, x, theta)
    size = np.abs(J).max() * np.abs(d).max() * net.units
    assert net.tangent(d, v, x, theta) == pytest.approx(slope, abs=1e-7 * size)
    assert np.einsum("bij,bj->bi", J, d) == pytest.approx(net.tangent(d, v, x, theta), abs=1e-13 * size)
    assert np.einsum("bij,bi->bj", J, a) == pytest.approx(net.cotangent(a, v, x, theta), abs=1e-12 * size)
    assert Substrate.jacobian(net, v, x, theta) == pytest.approx(J, abs=1e-13 * size)
    stacked = net.tangent(np.stack([d, a]), np.stack([v, a / 9]), x, theta)
    assert stacked[1] == pytest.approx(net.tangent(a, a / 9, x, theta), abs=1e-13 * np.abs(stacked).max())
    assert net.tangent(np.stack([d, a]), v, x, theta)[0] == pytest.approx(net.tangent(d, v, x, theta), abs=1e-13 * size)
    if not net.diodes:
        assert net.linear_part(theta) == pytest.approx(J[0], abs=1e-13 * size)


@few
@given(case=circuits(amplifiers=ANY_AMPLIFIER))
def test_credit_is_the_change_of_the_field_with_a_conductance(case):
    circuit = build(case)
    net, x, theta, v, numbers = circuit.network, circuit.x, circuit.theta, circuit.v, circuit.numbers
    posts, states = numbers.standard_normal((4, *v.shape)), numbers.uniform(-0.3, 0.3, (4, *v.shape))
    credit = net.credit(posts, states, x, theta)["g"]
    # the field is linear in g, so that one difference is exact
    steps = np.eye(len(theta["g"])) * 1e-6
    base = np.sum(posts * net.field(states, x, theta))
    moved = [np.sum(posts * net.field(states, x, Parameters({"g": theta["g"] + s}))) - base for s in steps]
    assert credit == pytest.approx(np.array(moved) / 1e-6, rel=1e-6, abs=1e-7 * np.abs(credit).max())
    each = net.credit(posts, states, x, theta, per_sample=True)["g"]
    assert each.shape == (len(v), len(credit))
    assert each.sum(axis=0) == pytest.approx(credit, abs=1e-12 * np.abs(credit).max())
    alone = net.credit(posts[:, :1], states[:, :1], x[:1], theta)["g"]
    assert each[0] == pytest.approx(alone, abs=1e-12 * np.abs(credit).max())


def test_credit_of_one_edge_is_local():
    net = network([(0, 1), (2, 0), (1, GROUND)], units=2, capacitance=(1e-12, 4e-12))
    post, v, x = np.array([[2.0, 3.0]]), np.array([[0.5, -0.25]]), np.array([[1.0]])
    credit = net.credit(post, v, x, conductances(1e-6, 1e-6, 1e-6))["g"]
    expected = [
        (2.0 / 1e-12 - 3.0 / 4e-12) * (-0.25 - 0.5) * 1e-6,
        2.0 / 1e-12 * (1.0 - 0.5) * 1e-6,
        3.0 / 4e-12 * 0.25 * 1e-6,
    ]
    assert credit == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("threshold", [0.1, -0.1])
def test_diode_laws_are_derivatives_of_one_another(law, threshold):
    if isinstance(law, IdealDiode):
        law = IdealDiode(conductance_on=law.conductance_on, threshold=threshold)
    v = np.concatenate([np.linspace(-1.0, 0.6, 33) + 1e-3, [3.5, 4.0, 10.0]])  # the last beyond the exponent of 60
    h = 1e-5
    slope = (law.current(v + h) - law.current(v - h)) / (2 * h)
    assert law.conductance(v) == pytest.approx(slope, rel=1e-6, abs=1e-16)
    work = (law.co_content(v + h) - law.co_content(v - h)) / (2 * h)
    assert law.current(v) == pytest.approx(work, rel=1e-6, abs=1e-13)
    assert law.co_content(np.zeros(1)) == pytest.approx(0.0, abs=1e-30)


def test_shockley_goes_on_linearly():
    law = Shockley()
    assert law.knee == pytest.approx(0.025852, rel=1e-4)  # kT/q at 300 K
    edge = 60 * law.knee
    assert law.current(np.array(edge)) == pytest.approx(1e-12 * np.expm1(60.0), rel=1e-12)
    far = np.array([1.0, 2.0]) + edge
    assert np.diff(law.current(far)) == pytest.approx(law.conductance(np.array(edge)), rel=1e-9)
    assert np.isfinite(law.current(np.array([1e3, -1e3], np.float32))).all()


@pytest.mark.parametrize("amplifiers", ANY_AMPLIFIER)
@pytest.mark.parametrize("law", LAWS)
def test_torch_gives_the_same_numbers_and_float32_stays(amplifiers, law):
    torch = pytest.importorskip("torch")
    case = {"units": 9, "inputs": 2, "diodes": 6, "lanes": 3, "seed": 4}
    loops = 0 if amplifiers == "inverse" else 8  # without loops any gains have a metric
    circuit = build({**case, "law": law, "amplifiers": amplifiers, "loops": loops})
    net, d = circuit.network, circuit.numbers.standard_normal(circuit.v.shape)
    give = lambda a: torch.tensor(np.asarray(a))  # noqa: E731
    v, x, theta = give(circuit.v), give(circuit.x), circuit.theta.map(give)
    pairs = {
        "field": lambda m, v, x, t, d: m.field(v, x, t),
        "tangent": lambda m, v, x, t, d: m.tangent(d, v, x, t),
        "cotangent": lambda m, v, x, t, d: m.cotangent(d, v, x, t),
        "jacobian": lambda m, v, x, t, d: m.jacobian(v, x, t),
        "credit": lambda m, v, x, t, d: m.credit(d, v, x, t, per_sample=True)["g"],
        "linear_part": lambda m, v, x, t, d: m.linear_part(t),
        "energy": lambda m, v, x, t, d: m.energy(v, x, t),
        "energy_credit": lambda m, v, x, t, d: m.energy_credit(v, x, t)["g"],
        "metric": lambda m, v, x, t, d: m.metric(v, t),
    }
    single = [np.float32(a) for a in (circuit.v, circuit.x)]
    for name, ask in pairs.items():
        expected = ask(net, circuit.v, circuit.x, circuit.theta, d)
        found = ask(net, v, x, theta, give(d))
        assert isinstance(found, torch.Tensor), name
        assert found.numpy() == pytest.approx(expected, rel=1e-11, abs=1e-12 * np.abs(expected).max()), name
        small = ask(net, *single, circuit.theta.map(np.float32), np.float32(d))
        assert small.dtype == np.float32, name
        assert small == pytest.approx(expected, rel=1e-3, abs=1e-4 * np.abs(expected).max()), name
    # autograd goes through the field, beyond the exponent of 60 too
    far = (10.0 * v).requires_grad_()
    (slope,) = torch.autograd.grad(net.field(far, x, theta).sum(), far)
    exact = net.cotangent(torch.ones_like(v), far.detach(), x, theta)
    assert torch.allclose(slope, exact, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("current_gain", [None, 0.25, 0.0])
@pytest.mark.parametrize(
    "law", [Shockley(saturation_current=1e-3, ideality=4.0), IdealDiode(conductance_on=2.0, threshold=0.1)]
)
def test_the_public_suite(law, current_gain):
    # the suite draws conductances of about 1 S: one microfarad per microsecond is one siemens
    check_substrate(
        lambda: ResistiveNetwork.layered(
            (4, 3), inputs=3, capacitance=1e-6, diodes=law, amplification=4.0, current_gain=current_gain, bias=(2,)
        ),
        size=0.1,
    )


# --- reciprocity, co-content, noise --------------------------------------------------------------------------------


@few
@given(case=circuits(amplifiers=ANY_AMPLIFIER))
def test_the_metric_makes_the_transpose(case):
    circuit = build(case)
    net, v, x, theta = circuit.network, circuit.v, circuit.x, circuit.theta
    S = net.metric(v, theta)
    assert net.reciprocal == (S is not None)
    if case["amplifiers"] != "inverse":
        assert S is not None
        assert pytest.approx(np.broadcast_to(net.capacitances / 1e-6, v.shape), rel=1e-14) == S
    if S is not None:
        assert (S > 0).all()
        J = net.jacobian(v, x, theta)
        SJ = S[:, :, None] * J
        assert SJ.mT == pytest.approx(SJ, abs=1e-13 * np.abs(SJ).max())


@few
@given(case=circuits(amplifiers=ANY_AMPLIFIER))
def test_the_field_descends_the_co_content(case):
    circuit = build(case)
    net, v, x, theta = circuit.network, circuit.v, circuit.x, circuit.theta
    if not net.reciprocal:
        return
    d = circuit.numbers.standard_normal(v.shape)
    kinked = isinstance(LAWS[case["law"]], IdealDiode)  # E is only once differentiable there: error O(H)
    down = -np.sum(net.metric(v, theta) * net.field(v, x, theta) * d, axis=1)
    slope = (net.energy(v + H * d, x, theta) - net.energy(v - H * d, x, theta)) / (2 * H)
    size = np.sum(np.abs(net.metric(v, theta) * net.field(v, x, theta) * d), axis=1) + 1e-6
    assert np.all(np.abs(down - slope) <= (1e-3 if kinked else 1e-6) * size)
    # dE/dg, in which E is linear
    credit = net.energy_credit(v, x, theta)["g"]
    step = 1e-6
    shifts = [Parameters({"g": theta["g"] + s}) for s in step * np.eye(len(credit))]
    moved = [np.sum(net.energy(v, x, shifted) - net.energy(v, x, theta)) / step for shifted in shifts]
    assert credit == pytest.approx(np.array(moved), rel=1e-6, abs=1e-8)
    # and its change with the state is the credit of S d: what makes EP and its energy form one rule
    change = (net.energy_credit(v + H * d, x, theta)["g"] - net.energy_credit(v - H * d, x, theta)["g"]) / (2 * H)
    expected = -net.credit(net.metric(v, theta) * d, v, x, theta)["g"]
    assert change == pytest.approx(expected, rel=1e-7, abs=1e-8)


@few
@given(case=circuits(amplifiers=(None, "conserving")), fraction=st.floats(0.05, 0.99))
def test_co_content_never_rises(case, fraction):
    # E falls at every step below 2/L, L a bound of the curvature -J = S^-1 E'' along it. A diode's conductance is
    # monotone, so between the ends of a step it stays below the sum of what it is there.
    circuit = build(case)
    net, v, x, theta = circuit.network, circuit.v, circuit.x, circuit.theta
    M, energy = net.linear_part(theta), net.energy(circuit.v, x, theta)
    for _ in range(12):
        flow, J = net.field(v, x, theta), net.jacobian(v, x, theta)
        L = np.linalg.eigvals(-J).real.max()
        for _ in range(2):  # a shorter step sees no larger conductances, so that the second bound holds
            ahead = v + fraction * 2.0 / L * flow
            L = max(L, np.linalg.eigvals(M - J - net.jacobian(ahead, x, theta)).real.max())
        v = v + fraction * 2.0 / L * flow
        after = net.energy(v, x, theta)
        assert np.all(after <= energy + 1e-14 * np.abs(energy))
        energy = after


@few
@given(case=circuits())
def test_euler_is_stable_up_to_the_stable_step(case):
    circuit = build(case)
    net, v, x, theta = circuit.network, circuit.v, circuit.x, circuit.theta
    eps = net.stable_step(theta, x, v)
    rates = np.linalg.eigvals(net.jacobian(v, x, theta))
    assert np.abs(1.0 + 0.999 * eps * rates).max() < 1.0 < np.abs(1.0 + 1.001 * eps * rates).max()


@few
@given(case=circuits(diodes=(0, 0), amplifiers=(None, "conserving")))
def test_thermal_noise_of_the_resistors_is_kt_over_c(case):
    # dv = J v dt + sqrt(2 kT) B dW settles to the covariance kT C^-1 at every node, whatever the conductances are
    circuit = build(case)
    net, theta = circuit.network, circuit.theta
    J, B = net.linear_part(theta), net.diffusion(theta)
    kT = BOLTZMANN * 300.0
    expected = kT * np.diag(1.0 / net.capacitances)
    power = 2.0 * kT * B @ B.T
    left = J @ expected + expected @ J.T + power
    assert np.abs(left).max() <= 1e-12 * np.abs(power).max()
    solved = scipy.linalg.solve_continuous_lyapunov(J, -power)
    condition = np.linalg.cond(J)
    assert solved == pytest.approx(expected, abs=1e-13 * condition * expected.max())


def test_noise_of_independent_nodes_would_be_wrong():
    # the same powers without their correlations: two nodes coupled ten times more strongly than to ground
    net = network([(0, GROUND), (1, GROUND), (0, 1)], units=2)
    theta = conductances(1e-6, 1e-6, 1e-5)
    J, B = net.linear_part(theta), net.diffusion(theta)
    independent = scipy.linalg.solve_continuous_lyapunov(J, -2.0 * np.diag(np.diag(B @ B.T)))
    assert independent[0, 0] * 1e-12 == pytest.approx(11.0 * (1.0 + 1.0 / 21.0) / 2.0, rel=1e-12)


def test_gains_that_disagree_round_a_loop_are_not_reciprocal():
    plain = network([(2, 0), (2, 1), (3, 1)], units=2, amplifiers=(Amplifier(node=0, gain=4.0, current_gain=0.25),))
    assert plain.reciprocal
    # (q / p of node 0) = 1/16: node 1 stands behind it
    assert plain.metric(np.zeros((1, 2)), conductances(1, 1, 1))[0] == pytest.approx([1e-6, 1e-6 / 16.0], rel=1e-14)
    loop = network([(2, 0), (3, 1), (0, 1)], units=2, amplifiers=(Amplifier(node=0, gain=4.0, current_gain=0.25),))
    assert not loop.reciprocal
    assert loop.metric(np.zeros((1, 2)), conductances(1, 1, 1)) is None
    assert loop.energy_credit(np.zeros((1, 2)), np.zeros((1, 1)), conductances(1, 1, 1)) is None
    with pytest.raises(InputError, match="no co-content"):
        loop.energy(np.zeros((1, 2)), np.zeros((1, 1)), conductances(1, 1, 1))
    for current_gain in (0.0, -1.0):
        one_way = network(
            [(2, 0), (2, 1), (3, 1)], units=2, amplifiers=(Amplifier(node=0, gain=4.0, current_gain=current_gain),)
        )
        assert not one_way.reciprocal
