"""Resistive networks: Kirchhoff's laws, exact solutions, usual shapes, and what is refused."""

import numpy as np
import pytest
from circuits import build, circuits, conductances, network
from hypothesis import given, settings, strategies as st
from scipy.special import lambertw

from hwsim.contracts.errors import InputError, RangeError
from hwsim.substrates.resistive import GROUND, Amplifier, Diode, IdealDiode, ResistiveNetwork, Shockley

few = settings(max_examples=30)
ANY_AMPLIFIER = (None, "conserving", "inverse")


def node_balance(circuit, v):
    """Currents into every node, branch by branch in plain loops: Kirchhoff's law written a second time."""
    net, x = circuit.network, circuit.x
    amplifiers = net.amplifiers
    branches = [(ends, lambda u, g=g: g * u) for ends, g in zip(net.edges, circuit.theta["g"], strict=True)]
    branches += [((d.anode, d.cathode), d.law.current) for d in net.diodes]
    total, sizes = np.zeros_like(v), np.zeros_like(v)
    for lane in range(len(v)):

        def voltage(end, lane=lane):
            if end == GROUND:
                return 0.0
            if end < net.units:
                return v[lane, end]
            if end < net.units + net.inputs:
                return x[lane, end - net.units]
            amplifier = amplifiers[end - net.units - net.inputs]
            return amplifier.gain * v[lane, amplifier.node]

        for (a, b), law in branches:
            current = float(law(np.array(voltage(a) - voltage(b))))
            for end, sign in ((a, -1.0), (b, 1.0)):
                node, factor = end, 1.0
                if end >= net.units + net.inputs:
                    amplifier = amplifiers[end - net.units - net.inputs]
                    node = amplifier.node
                    factor = amplifier.gain if amplifier.current_gain is None else amplifier.current_gain
                if 0 <= node < net.units:
                    total[lane, node] += sign * factor * current
                    sizes[lane, node] += abs(factor * current)
    return total, sizes


# --- Kirchhoff -----------------------------------------------------------------------------------------------------


@few
@given(case=circuits(amplifiers=ANY_AMPLIFIER))
def test_the_field_is_kirchhoffs_current_law(case):
    circuit = build(case)
    net = circuit.network
    into, sizes = node_balance(circuit, circuit.v)
    charging = net.capacitances / net.time_constant * net.field(circuit.v, circuit.x, circuit.theta)  # C dv/dt, ampere
    assert np.all(np.abs(charging - into) <= 1e-14 * sizes)
    assert net.node_current(circuit.v, circuit.x, circuit.theta) == pytest.approx(into, abs=1e-14 * sizes.max())


@few
@given(case=circuits(amplifiers=(None, "conserving")))
def test_currents_balance_at_the_operating_point(case):
    circuit = build(case)
    v = circuit.network.operating_point(circuit.x, circuit.theta)
    into, _ = node_balance(circuit, v)
    assert np.abs(into).max() < 1e-12
    again = circuit.network.operating_point(circuit.x, circuit.theta, start=circuit.v)
    assert again == pytest.approx(v, abs=1e-9)


@few
@given(case=circuits())
def test_what_flows_in_is_what_charges_the_nodes_along_a_settling(case):
    circuit = build(case)
    net, x, theta = circuit.network, circuit.x, circuit.theta
    eps = 0.2 * net.stable_step(theta, x, np.ones_like(circuit.v))
    v = circuit.v
    for _ in range(20):
        after = v + eps * net.field(v, x, theta)
        into, sizes = node_balance(circuit, v)
        charge = net.capacitances * (after - v)  # what one step puts on the capacitors, coulomb
        assert charge == pytest.approx(eps * net.time_constant * into, abs=1e-14 * (1e-12 + sizes.max() * 1e-6))
        v = after


# --- exact solutions -----------------------------------------------------------------------------------------------


def test_voltage_divider():
    net = network([(1, 0), (0, GROUND)], units=1)
    x = np.array([[1.0], [-2.5]])
    assert net.operating_point(x, conductances(3e-6, 1e-6)) == pytest.approx(0.75 * x, rel=1e-14)


def test_wheatstone_bridge():
    # two dividers between the source and ground, joined by a fifth resistor: the textbook nodal solution
    g1, g2, g3, g4, g5 = 1e-3, 2e-3, 3e-3, 5e-3, 0.7e-3
    net = network([(2, 0), (2, 1), (0, GROUND), (1, GROUND), (0, 1)], units=2)
    v = net.operating_point(np.array([[10.0]]), conductances(g1, g2, g3, g4, g5))[0]
    a, b = g1 + g3 + g5, g2 + g4 + g5
    det = a * b - g5**2
    assert v == pytest.approx([10.0 * (g1 * b + g2 * g5) / det, 10.0 * (g2 * a + g1 * g5) / det], rel=1e-13)
    balanced = net.operating_point(np.array([[10.0]]), conductances(1e-3, 2e-3, 3e-3, 6e-3, g5))[0]
    assert balanced[0] == pytest.approx(balanced[1], rel=1e-14)  # g1 / g3 = g2 / g4: the bridge carries nothing


@pytest.mark.parametrize("eps", [0.1, 0.05])
def test_capacitor_charges_exponentially(eps):
    # R = 1 Mohm, C = 1 pF: RC = 1 us = 2 time constants of 0.5 us
    net = network([(1, 0)], units=1, time_constant=5e-7)
    theta, x, v = conductances(1e-6), np.array([[1.0]]), np.zeros((1, 1))
    seconds = 0.0
    while seconds < 2e-6 - 1e-12:
        v = v + eps * net.field(v, x, theta)
        seconds += eps * net.time_constant
    exact = 1.0 - np.exp(-seconds / 1e-6)
    # Euler's leading error of v' = 1 - v: h t exp(-t) / 2, h = eps / 2 in units of RC; the rest is O(h^2)
    assert exact - v[0, 0] == pytest.approx(-(eps / 2) * 2.0 * np.exp(-2.0) / 2.0, rel=eps)
    M = net.linear_part(theta)
    assert pytest.approx(np.array([[-0.5]]), rel=1e-14) == M  # one exact step of any length
    assert 1.0 - np.exp(M[0, 0] * seconds / net.time_constant) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("source", [0.2, 0.7, 3.0, 50.0, -5.0])
def test_single_diode_against_lambert_w(source):
    # I = (V - v) g = Is (exp(v/V_T) - 1):  v = V + Is/g - V_T W(Is/(g V_T) exp((V + Is/g)/V_T))
    law, g = Shockley(saturation_current=1e-14, ideality=1.2), 1e-3
    net = network([(1, 0)], units=1, diodes=(Diode(anode=0, cathode=GROUND, law=law),))
    v = net.operating_point(np.array([[source]]), conductances(g))[0, 0]
    knee, shifted = law.knee, source + law.saturation_current / g
    # W(e^y) by its own equation w + ln w = y where e^y is too large for a float
    y = shifted / knee + np.log(law.saturation_current / (g * knee))
    if y < 500:
        w = float(lambertw(np.exp(y)).real)
    else:
        w = y
        for _ in range(50):
            w = w - (w + np.log(w) - y) / (1.0 + 1.0 / w)
    assert v == pytest.approx(shifted - knee * w, rel=1e-12)


def test_ideal_diode_holds_its_threshold():
    net = network(
        [(1, 0)], units=1, diodes=(Diode(anode=0, cathode=GROUND, law=IdealDiode(conductance_on=1.0, threshold=0.3)),)
    )
    v = net.operating_point(np.array([[2.0], [0.2], [-4.0]]), conductances(1e-6))[:, 0]
    assert v[0] == pytest.approx(0.3 + 1.7e-6, rel=1e-5)  # g / g_on of what is left over
    assert v[1:] == pytest.approx([0.2, -4.0], rel=1e-12)


def test_amplifier_drives_a_divider_and_draws_its_current():
    # node 0 behind R = 1 Mohm; its amplifier (gain 3, current gain k) drives 1 Mohm into ground
    for current_gain, reflected in ((None, 3.0), (1 / 3, 1 / 3), (0.0, 0.0)):
        net = network(
            [(1, 0), (2, GROUND)], units=1, amplifiers=(Amplifier(node=0, gain=3.0, current_gain=current_gain),)
        )
        v = net.operating_point(np.array([[1.0]]), conductances(1e-6, 1e-6))[0, 0]
        assert v == pytest.approx(1.0 / (1.0 + 3.0 * reflected), rel=1e-13)  # (1 - v) g = k 3 v g


@few
@given(case=circuits(diodes=(0, 0)), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linear_networks_superpose(case, a, b):
    circuit = build(case)
    net, first = circuit.network, circuit.x
    second = circuit.numbers.uniform(-1, 1, first.shape)
    point = lambda x: net.operating_point(x, circuit.theta)  # noqa: E731
    assert point(a * first + b * second) == pytest.approx(a * point(first) + b * point(second), abs=1e-10)


def test_scale_and_force():
    net = network([(0, 1), (2, 0), (1, GROUND)], units=2, capacitance=(1e-12, 3e-12), time_constant=4e-6)
    assert net.scale.farad == pytest.approx(2e-12)
    assert net.scale.volt == 1.0
    assert net.scale.second == 4e-6
    current = np.array([[1e-6, -2e-6]])
    assert net.force(current) == pytest.approx(np.array([[4.0, -8.0 / 3.0]]))  # I tau / C, volts per 4 us


# --- shapes --------------------------------------------------------------------------------------------------------


def test_layers():
    net = ResistiveNetwork.layered(
        (3, 2), inputs=4, capacitance=1e-12, diodes=Shockley(), amplification=4.0, current_gain=0.25, bias=(3,)
    )
    assert net.units == 5
    assert len(net.edges) == 4 * 3 + (3 + 1) * 2
    assert len(net.diodes) == 2 * 3
    assert [a.node for a in net.amplifiers] == [0, 1, 2]
    assert set(net.edges[12:]) == {(source, node) for source in (9, 10, 11, 5 + 3) for node in (3, 4)}
    # Kendall's gains have a metric layer by layer: gain / current gain = 16
    S = net.metric(np.zeros((1, 5)), net.initial(0, low=1e-7, high=1e-5))[0]
    assert pytest.approx(np.array([1, 1, 1, 1 / 16, 1 / 16]) * 1e-6, rel=1e-13) == S
    plain = ResistiveNetwork.layered((3, 2), inputs=4, capacitance=1e-12)
    assert plain.edges[12:] == tuple((source, node) for source in range(3) for node in (3, 4))


@pytest.mark.parametrize("periodic", [False, True])
def test_lattice(periodic):
    net = ResistiveNetwork.lattice(
        3, 4, sources=((0, 0), (0, 1)), outputs=((2, 3),), capacitance=1e-12, periodic=periodic
    )
    assert (net.units, net.inputs) == (10, 2)
    neighbours = 2 * 12 if periodic else 3 * 3 + 2 * 4
    assert len(net.edges) == neighbours - 1  # the two sources are neighbours
    ends = {frozenset(edge) for edge in net.edges}
    assert frozenset((9, 8)) in ends  # output (2, 3) and its left neighbour (2, 2), the last of the free sites
    assert (frozenset((9, 10)) in ends) is False
    if periodic:
        assert frozenset((9, 1)) in ends  # up over the border to (0, 3), the second free site


def test_initial_conductances_are_log_uniform():
    net = ResistiveNetwork.layered((60, 10), inputs=40, capacitance=1e-12)
    g = np.log10(net.initial(1, low=1e-7, high=1e-5)["g"])
    assert net.initial(1, low=1e-7, high=1e-5)["g"] == pytest.approx(10.0**g)
    assert -7 <= g.min() < g.max() <= -5
    # mean -6 +- 4 standard errors of a uniform of width 2
    assert abs(g.mean() + 6.0) < 4 * 2 / np.sqrt(12 * len(g))


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"edges": ((2, 0), (0, 5))}, r"edges\[1\] joins \(0, 5\); endpoints are 0 to 2"),
        ({"edges": ((2, 0), (0, -2))}, r"edges\[1\] joins \(0, -2\)"),
        ({"edges": ((2, 0), (0, 1), (1, 1))}, r"edges\[2\] joins endpoint 1 to itself"),
        ({"edges": ((2, 0),)}, r"nodes \[1\] are floating"),
        ({"edges": ((2, GROUND), (0, 1))}, r"nodes \[0, 1\] are floating"),
        ({"capacitance": 0.0}, r"capacitance > 0 and finite; found capacitance=0.0"),
        ({"capacitance": (1e-12, np.inf)}, r"capacitance > 0 and finite; found capacitance=inf"),
        ({"capacitance": (1e-12,)}, r"2 units need as many capacitances \(or one\); found 1"),
        ({"time_constant": -1.0}, r"time_constant > 0 and finite; found time_constant=-1.0"),
        ({"units": 0}, r"units >= 1"),
        ({"amplifiers": (Amplifier(node=2, gain=2.0),)}, r"amplifiers\[0\] needs a node from 0 to 1; found 2"),
        ({"diodes": (Diode(anode=0, cathode=3, law=Shockley()),)}, r"diodes\[0\] joins \(0, 3\)"),
        ({"diodes": (Diode(anode=0, cathode=0, law=Shockley()),)}, r"diodes\[0\] joins endpoint 0 to itself"),
    ],
)
def test_bad_networks_are_refused(change, match):
    sound = {"units": 2, "inputs": 1, "edges": ((2, 0), (0, 1)), "capacitance": 1e-12}
    ResistiveNetwork(**sound)
    with pytest.raises(InputError, match=match):
        ResistiveNetwork(**{**sound, **change})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Shockley(saturation_current=0.0), "saturation_current > 0"),
        (lambda: Shockley(ideality=-1.0), "ideality > 0"),
        (lambda: Shockley(temperature=np.nan), "temperature > 0"),
        (lambda: IdealDiode(conductance_on=0.0), "conductance_on > 0"),
        (lambda: IdealDiode(conductance_on=1.0, threshold=np.inf), "finite threshold"),
        (lambda: Amplifier(node=0, gain=0.0), "gain other than 0"),
        (lambda: Amplifier(node=0, gain=1.0, current_gain=np.inf), "finite current_gain"),
        (lambda: ResistiveNetwork.layered((), inputs=1, capacitance=1e-12), "sizes"),
        (lambda: ResistiveNetwork.layered((2,), inputs=1, capacitance=1e-12, bias=(1,)), "bias needs input terminals"),
        (lambda: ResistiveNetwork.lattice(2, 2, sources=((0, 2),), capacitance=1e-12), r"found \[\(0, 2\)\]"),
        (
            lambda: ResistiveNetwork.lattice(2, 2, sources=((0, 0),), outputs=((0, 0),), capacitance=1e-12),
            r"found \[\(0, 0\)\]",
        ),
        (lambda: network([(1, 0)], units=1).initial(0, low=0.0, high=1.0), "low > 0"),
        (lambda: network([(1, 0)], units=1).initial(0, low=1.0, high=0.5), "high >= low"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_operating_point_names_what_is_wrong():
    net = network([(2, 0), (0, 1)], units=2)
    x = np.array([[1.0]])
    with pytest.raises(RangeError, match="g must be >= 0"):
        net.operating_point(x, conductances(1e-6, -1e-6))
    with pytest.raises(InputError, match=r"nodes \[1\] are floating"):
        net.operating_point(x, conductances(1e-6, 0.0))
    # a node whose own amplifier feeds back exactly what its resistor draws: g (1 - v) + g' (2 v - v) has no v at g' = g
    feedback = network([(1, 0), (2, 0)], units=1, amplifiers=(Amplifier(node=0, gain=2.0, current_gain=0.0),))
    with pytest.raises(InputError, match="singular"):
        feedback.operating_point(x, conductances(1e-6, 1e-6))
