"""ngspice as the judge: it settles what hwsim draws, from the same start, and must find the same voltages.

Tolerances are ngspice's own errors: its transients are second order in steps that reltol and trtol choose, seen to stay
below 6e-5 where nothing grows on the way (what grows multiplies them); its operating points are Newton solutions, and
differ by gmin and by the reverse branch of its diode, seen to stay below 4e-9 V.
"""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from circuits import build, circuits
from hypothesis import given, settings, strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import solve_continuous_lyapunov

from hwsim.contracts.errors import SpiceError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.scale import BOLTZMANN, ROOM_TEMPERATURE, Scale
from hwsim.devices import Heun, SimulatedDevice
from hwsim.spice import Noise, OperatingPoint, Transient, export_netlist, run, run_deck
from hwsim.substrates import (
    Chip,
    Dense,
    DrawnSubstrate,
    EnergyNetwork,
    Hard,
    LeakyNetwork,
    LinearLangevin,
    Logistic,
    OscillatorNetwork,
    RationalTanh,
    Reciprocal,
    ReLU,
    Softplus,
    Tanh,
)
from hwsim.substrates.resistive import GROUND, Diode, IdealDiode, ResistiveNetwork, Shockley

pytestmark = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not installed (Debian: apt-get install ngspice)"
)

OP, TRAN = 1e-6, 1e-4
"""Volt (and state units) by which an operating point and a settling may differ."""


def with_any_diodes(drawn):
    """The network of a draw, its diodes replaced by others of various laws."""
    numbers = drawn.numbers

    def law():
        if numbers.random() < 0.5:
            return IdealDiode(
                conductance_on=float(10.0 ** numbers.uniform(-6, -4)), threshold=numbers.uniform(-0.2, 0.3)
            )
        # small enough that 0.4 % of it, the error of ngspice's reverse branch, is nothing on 0.1 uS
        return Shockley(saturation_current=1e-13, ideality=numbers.uniform(1, 2), temperature=numbers.uniform(250, 400))

    return replace(drawn.network, diodes=tuple(replace(diode, law=law()) for diode in drawn.network.diodes))


def exact(field, start, times):
    """The field's solution at some times, to about 1e-8."""
    found = solve_ivp(lambda _, z: field(z[None])[0], (0.0, times[-1]), start, "LSODA", times, rtol=1e-8, atol=1e-10)
    assert found.success
    return found.y.T


# --- resistive networks -----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(circuits(diodes=(0, 10), amplifiers=(None, "conserving", "inverse")))
def test_operating_points_of_resistive_networks(case):
    drawn = build(case)
    network, x = with_any_diodes(drawn), 2.0 * drawn.x[0]
    ours = network.operating_point(x[None], drawn.theta)[0]
    assert run(export_netlist(network, drawn.theta, x), OperatingPoint()) == pytest.approx(ours, rel=0, abs=OP)


@settings(max_examples=12)
@given(circuits(diodes=(0, 6), amplifiers=(None, None, "conserving")))
def test_resistive_networks_along_the_whole_settling(case):
    drawn = build(case)
    network, x = with_any_diodes(drawn), 2.0 * drawn.x
    rates = -np.linalg.eigvals(network.jacobian(network.operating_point(x, drawn.theta), x, drawn.theta)[0]).real
    if rates.min() <= 0:
        return  # an amplifier in a loop that does not settle
    duration = min(10.0 / rates.min(), 500.0 / rates.max())
    netlist = export_netlist(network, drawn.theta, x[0])
    trace = run(netlist, Transient(duration=duration, max_step=duration / 200))
    ours = exact(lambda z: network.field(z, x[:1], drawn.theta), np.zeros(network.units), trace.time)
    assert trace.states == pytest.approx(ours, rel=0, abs=TRAN)


def test_the_simulated_device_settles_as_ngspice_does():
    drawn = build(
        {"units": 12, "inputs": 2, "loops": 12, "diodes": 8, "law": "ideal", "amplifiers": None, "lanes": 1, "seed": 3}
    )
    network = with_any_diodes(drawn)
    eps, steps = 5e-3, 1000
    with SimulatedDevice(network, horizon=steps, step_size=eps, integrator=Heun) as device:
        held = device.program(drawn.theta)
        plan = Plan(inputs=drawn.x, ids=np.array([0]), phases=(Phase(steps=steps, record=1),))
        (settled,) = device.relax(plan, noise=NoisePath(seed=0))
        netlist = export_netlist(device.model, held, drawn.x[0], scale=device.scale)
    trace = run(netlist, Transient(duration=eps * steps, max_step=0.02))
    assert trace.at(eps * np.arange(steps + 1)) == pytest.approx(settled.states[:, 0], rel=0, abs=TRAN)


@pytest.mark.parametrize("kelvin", [250.0, ROOM_TEMPERATURE, 400.0])
def test_the_thermal_voltage_is_ours_although_ngspice_has_an_older_one(kelvin):
    law = Shockley(saturation_current=1e-12, ideality=1.3, temperature=kelvin)
    network = ResistiveNetwork(
        units=1, inputs=1, edges=((1, 0),), capacitance=1e-12, diodes=(Diode(anode=0, cathode=GROUND, law=law),)
    )
    theta, x = Parameters({"g": np.array([1e-3])}), np.array([2.0])
    ours = network.operating_point(x[None], theta)[0]
    # 3.4e-7 of 0.7 V would be 2.4e-7
    assert run(export_netlist(network, theta, x), OperatingPoint()) == pytest.approx(ours, rel=0, abs=1e-9)


@pytest.mark.parametrize("exponent", [-3.0, -4.0, -5.5, -8.0, -20.0])
def test_the_reverse_branch_of_a_diode_is_ours_within_half_a_percent_of_its_saturation(exponent):
    # ngspice goes on below -3 n V_T with 1 - (3 / (e u))^3 in place of 1 - exp(u): at most 0.0041 apart
    law = Shockley(saturation_current=1e-9)
    network = ResistiveNetwork(
        units=1,
        inputs=2,
        edges=((1, 0),),
        capacitance=1e-12,
        diodes=(Diode(anode=2, cathode=0, law=law),),
    )
    # the node stays near 0 behind 1 S, so that its voltage is the current
    theta, x = Parameters({"g": np.array([1.0])}), np.array([0.0, exponent * law.knee])
    theirs = run(export_netlist(network, theta, x), OperatingPoint())[0]
    assert theirs == pytest.approx(float(law.current(x[1])), rel=0, abs=0.0042 * law.saturation_current)


# --- networks of units ------------------------------------------------------------------------------------------------

SCALES = (Scale(), Scale(volt=0.1, siemens=3e-9, second=1e-4))


def mismatched(network, seed):
    """A chip whose every parameter, time constant and offset is off by a tenth or so."""
    numbers, units = np.random.default_rng(seed), network.units
    return replace(
        Chip.as_drawn(units),
        rate=np.exp(0.1 * numbers.standard_normal(units)),
        offset=0.05 * numbers.standard_normal(units),
        gain={name: np.exp(0.1 * numbers.standard_normal(shape)) for name, shape in network.shapes().items()},
    )


def drawn_numbers(network, seed):
    """Parameters and an input of usual size."""
    numbers, units = np.random.default_rng(seed), network.units
    spread = {"W": 0.8 / np.sqrt(units), "A": 0.4 / np.sqrt(units), "K": 0.8 / np.sqrt(units), "U": 0.5, "H": 0.5}
    theta = {name: spread.get(name, 0.1) * numbers.standard_normal(shape) for name, shape in network.shapes().items()}
    if "A" in theta:
        theta["A"] = theta["A"] + np.eye(units)
    if "K" in theta:
        theta["K"] = np.abs(theta["K"])  # or phases may drift for ever, and multiply every error on their way
    return Parameters(theta), numbers.standard_normal(network.inputs)


NETWORKS = [
    *(
        LeakyNetwork(units=n, inputs=4, coupling=Dense(n), nonlinearity=r())
        for n in (8, 32)
        for r in (Tanh, RationalTanh, Logistic, Softplus, ReLU, Hard)
    ),
    LeakyNetwork(units=16, inputs=4, coupling=Reciprocal(16)),
    *(
        EnergyNetwork(units=8, inputs=4, coupling=Reciprocal(8), nonlinearity=r())
        for r in (Tanh, RationalTanh, Logistic, Softplus)
    ),
    LinearLangevin(units=16, inputs=4, coupling=Dense(16)),
    OscillatorNetwork(units=12, inputs=4, coupling=Dense(12), locking=0.3),
]


@pytest.mark.parametrize(
    "network", NETWORKS, ids=lambda n: f"{type(n).__name__}-{getattr(n, 'nonlinearity', '')}-{n.units}"
)
def test_networks_with_mismatch_along_the_whole_settling(network):
    for seed, scale in enumerate(SCALES):
        theta, x = drawn_numbers(network, seed)
        drawn = DrawnSubstrate(drawing=network, chip=mismatched(network, seed))
        start = np.random.default_rng(seed).uniform(-0.5, 0.5, network.units)
        netlist = export_netlist(drawn, theta, x, start=start, scale=scale)
        trace = run(netlist, Transient(duration=12.0, max_step=0.05))
        ours = exact(lambda z, d=drawn, x=x, t=theta: d.field(z, x[None], t), start, trace.time)
        assert trace.states == pytest.approx(ours, rel=0, abs=TRAN)
        assert np.abs(trace.states[-1] - start).max() > 0.1  # it went somewhere


def test_mismatch_matters():
    network = LeakyNetwork.dense(8, 2)
    theta, x = drawn_numbers(network, 0)
    off = mismatched(network, 0)
    clock = np.linspace(0.0, 8.0, 81)
    settlings = [
        run(export_netlist(network, theta, x, chip), Transient(duration=8.0, max_step=0.05)).at(clock)
        for chip in (None, off, replace(off, offset=np.zeros(8)), replace(off, gain={}), replace(off, rate=np.ones(8)))
    ]
    for one, other in itertools.combinations(settlings, 2):
        assert np.abs(one - other).max() > 10 * TRAN


def test_the_two_directions_of_a_split_coupling():
    network = LeakyNetwork.symmetric(6, 2)
    theta, x = drawn_numbers(network, 4)
    gain = np.exp(0.3 * np.random.default_rng(4).standard_normal(network.unshared().shapes()["W"]))
    drawn = DrawnSubstrate(drawing=network, chip=replace(Chip.as_drawn(6), split=True, gain={"W": gain}))
    found = run(export_netlist(drawn, theta, x), OperatingPoint())
    assert np.abs(drawn.field(found[None], x[None], theta)).max() < 1e-9
    assert np.abs(network.field(found[None], x[None], theta)).max() > 1e-2


def test_rails_slew_rates_and_dead_units():
    network = LeakyNetwork.dense(6, 2)
    theta, x = drawn_numbers(network, 7)
    theta = theta | {"U": 3.0 * theta["U"]}  # far enough to meet the rails
    chip = replace(
        mismatched(network, 7),
        low=np.array([-0.1, -np.inf, -0.3, -np.inf, -np.inf, 0.2]),
        high=np.array([0.1, 0.3, 0.3, np.inf, np.inf, 0.2]),
        slew=np.array([np.inf, 0.2, 0.3, 0.1, np.inf, np.inf]),
    )
    drawn = DrawnSubstrate(drawing=network, chip=chip)
    eps, steps, start = 4e-3, 1500, np.clip(np.zeros(6), chip.low, chip.high)
    kept = [start[None]]
    for _ in range(steps):  # Heun's steps between rails
        now = kept[-1]
        flow = drawn.field(now, x[None], theta)
        ahead = np.clip(now + eps * flow, chip.low, chip.high)
        kept.append(np.clip(now + eps / 2 * (flow + drawn.field(ahead, x[None], theta)), chip.low, chip.high))
    ours = np.concatenate(kept)
    for scale in SCALES:
        trace = run(export_netlist(drawn, theta, x, scale=scale), Transient(duration=eps * steps, max_step=0.05))
        assert trace.at(eps * np.arange(steps + 1)) == pytest.approx(ours, rel=0, abs=TRAN)
    assert (np.abs(ours[-1, :3]) >= np.array([0.1, 0.3, 0.3]) - 1e-12).any()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_operating_point_near_the_start_is_found(sign):
    # z = 2 tanh z has three solutions
    network = LeakyNetwork.dense(1, 1)
    theta = Parameters({"W": np.array([[2.0]]), "U": np.zeros((1, 1)), "b": np.zeros(1)})
    found = run(export_netlist(network, theta, np.zeros(1), start=np.array([sign])), OperatingPoint())
    assert found == pytest.approx([sign * 1.9150080481545], abs=1e-9)


# --- noise ------------------------------------------------------------------------------------------------------------


def noise(netlist, output, rates):
    """Over four decades beyond both ends of the rates [1 / second], where 1.3e-4 is missing of a single pole."""
    corners = np.abs(rates) / (2.0 * np.pi)
    return run(netlist, Noise(output=output, lowest=1e-4 * corners.min(), highest=1e4 * corners.max()))


@pytest.mark.parametrize(("siemens", "kelvin"), [(1e-6, 300.0), (1e-9, 300.0), (1e-6, 77.0)])
def test_a_single_node_has_kt_over_c(siemens, kelvin):
    network = ResistiveNetwork(units=1, inputs=1, edges=((1, 0),), capacitance=2e-12)
    netlist = export_netlist(network, Parameters({"g": np.array([siemens])}), np.array([0.5]), temperature=kelvin)
    found = noise(netlist, 0, np.array([siemens / 2e-12]))
    assert found == pytest.approx(BOLTZMANN * kelvin / 2e-12, rel=1e-3)


def test_a_leaky_unit_has_the_noise_of_its_scale():
    network, scale = LeakyNetwork.dense(2, 1), Scale(volt=0.5, siemens=1e-7, second=1e-5)
    theta = Parameters({"W": np.zeros((2, 2)), "U": np.zeros((2, 1)), "b": np.zeros(2)})
    netlist = export_netlist(network, theta, np.zeros(1), scale=scale)
    found = noise(netlist, 0, np.array([1.0 / scale.second]))
    assert found == pytest.approx(scale.thermal_sigma(ROOM_TEMPERATURE) ** 2, rel=1e-3)


def test_a_langevin_machine_inverts_its_matrix():
    network, scale = LinearLangevin(units=4, inputs=1, coupling=Reciprocal(4)), Scale()
    numbers = np.random.default_rng(2)
    A = np.eye(4) + 0.3 * (lambda half: half + half.T)(numbers.standard_normal((4, 4)) / 2)
    theta = Parameters({"A": A, "U": np.zeros((4, 1)), "b": np.zeros(4)})
    wanted = network.stationary_covariance(theta, sigma=scale.thermal_sigma(ROOM_TEMPERATURE))
    netlist, rates = export_netlist(network, theta, np.zeros(1)), np.linalg.eigvalsh(A) / scale.second
    for i in range(4):
        assert noise(netlist, i, rates) == pytest.approx(wanted[i, i], rel=1e-2)
    assert noise(netlist, (0, 1), rates) == pytest.approx(wanted[0, 0] + wanted[1, 1] - 2 * wanted[0, 1], rel=1e-2)


@settings(max_examples=10)
@given(circuits(units=(3, 8), diodes=(0, 0), amplifiers=(None, "conserving", "inverse")), st.data())
def test_noise_of_resistors_that_join_nodes(case, data):
    drawn = build(case)
    network, x = drawn.network, drawn.x
    J = network.jacobian(np.zeros((1, network.units)), x[:1], drawn.theta)[0]
    rates = np.linalg.eigvals(J) / network.time_constant
    if rates.real.max() >= 0:
        return
    B = network.diffusion(drawn.theta)
    S = solve_continuous_lyapunov(J, -2.0 * BOLTZMANN * ROOM_TEMPERATURE * B @ B.T)
    i, j = data.draw(st.sampled_from([(a, b) for a in range(network.units) for b in range(a)]))
    netlist = export_netlist(network, drawn.theta, x[0])
    assert noise(netlist, i, rates) == pytest.approx(S[i, i], rel=1e-2)
    assert noise(netlist, (i, j), rates) == pytest.approx(S[i, i] + S[j, j] - 2.0 * S[i, j], rel=1e-2)
    if case["amplifiers"] is None:  # whatever the conductances are
        assert S[i, i] == pytest.approx(BOLTZMANN * ROOM_TEMPERATURE / network.capacitances[i], rel=1e-6)


# --- decks that are wrong ---------------------------------------------------------------------------------------------

GOOD = "* good\nVx0 x0 0 1\nR0 x0 n0 1e6\nC0 n0 0 1e-12\n"


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("R1 n0 0 much\n.op", "its log says: .*much"),
        ("B1 0 n0 I=tanhh(v(n0))\n.op", "no such function 'tanhh'"),
        ("D1 n0 0 nomodel\n.op", "can't find model 'nomodel'"),
        ("V1 x0 0 2\n.tran 1e-9 1e-6 uic", "Timestep too small"),
        (".trann 1e-9 1e-6", "unimplemented control card"),
        # these three end with status 0
        ("R1 n0 0\n.op", "resistance to low"),
        ("R1 n0 0 1e6", "ran no analysis"),
        (".save v(nowhere)\n.op", "no data saved"),
    ],
)
def test_broken_decks_are_noticed(broken, sentence):
    with pytest.raises(SpiceError, match=sentence):
        run_deck(f"{GOOD}{broken}\n.end\n")


def test_a_node_that_is_missing_is_noticed():
    # ngspice saves what it knows and ends with status 0
    netlist = export_netlist(LeakyNetwork.dense(2, 1), drawn_numbers(LeakyNetwork.dense(2, 1), 0)[0], np.zeros(1))
    with pytest.raises(SpiceError, match=r"left out v\(n7\)"):
        run(replace(netlist, nodes=("n0", "n7")), OperatingPoint(near_start=False))


def test_transients_end_when_they_should_and_have_all_rows():
    netlist = export_netlist(LeakyNetwork.dense(2, 1), drawn_numbers(LeakyNetwork.dense(2, 1), 0)[0], np.zeros(1))
    trace = run(netlist, Transient(duration=5.0, max_step=0.1))
    assert len(trace.time) >= 50
    assert trace.time[0] == 0.0
    assert trace.time[-1] == pytest.approx(5.0, rel=1e-12)
    assert (np.diff(trace.time) > 0).all()
    assert np.diff(trace.time).max() < 0.1 * (1 + 1e-9)


def test_a_users_own_settings_do_not_reach_the_judge(tmp_path, monkeypatch):
    (tmp_path / ".spiceinit").write_text("set filetype=ascii\nnonsense\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    plots = run_deck(f"{GOOD}R1 n0 0 1e6\n.op\n.end\n")
    assert plots[0].values["v(n0)"] == pytest.approx([0.5], rel=1e-9)
