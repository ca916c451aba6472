"""SPICE export as text, and the refusals of export and runner; ngspice itself judges in test_spice_judges.py."""

import re
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError, RangeError, SpiceError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.spice import Noise, OperatingPoint, Plot, Transient, export_netlist, find_ngspice, run, run_deck
from hwsim.spice.circuits import Circuit, Ports, circuit
from hwsim.spice.elements import number
from hwsim.spice.ngspice import _plots
from hwsim.substrates import Chip, DrawnSubstrate, EnergyNetwork, FieldSubstrate, LeakyNetwork, OscillatorNetwork, Tanh
from hwsim.substrates.coupling import Dense
from hwsim.substrates.nonlinearity import Nonlinearity
from hwsim.substrates.resistive import GROUND, Amplifier, Diode, IdealDiode, ResistiveNetwork, Shockley

NETWORK = LeakyNetwork.dense(3, 2)
THETA = NETWORK.initial(0, gain=1.0, input_gain=1.0) | {"b": np.array([0.1, 0.0, -0.2])}
X = np.array([0.3, -1.0])
DIVIDER = ResistiveNetwork(
    units=2,
    inputs=1,
    edges=((2, 0), (0, 1), (1, GROUND), (3, 1)),
    capacitance=(1e-12, 2e-12),
    diodes=(
        Diode(anode=0, cathode=GROUND, law=Shockley(saturation_current=1e-14, ideality=1.5, temperature=320.0)),
        Diode(anode=1, cathode=0, law=IdealDiode(conductance_on=1e-4, threshold=-0.1)),
    ),
    amplifiers=(Amplifier(node=0, gain=3.0, current_gain=0.5),),
)
G = Parameters({"g": np.array([1e-6, 2e-6, 0.0, 4e-6])})


def lines(netlist, letter):
    return [line for line in netlist.elements if line.startswith(letter)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_as_they_were(value):
    text = number(value)
    assert float(text) == value
    assert len(re.sub(r"e.*|[-.]", "", text).lstrip("0").rstrip("0")) <= 17


def test_a_deck_names_its_units_and_is_the_same_every_time():
    deck = export_netlist(NETWORK, THETA, X).deck((".op",))
    assert deck == export_netlist(NETWORK, THETA, X).deck((".op",))
    first, *rest = deck.splitlines()
    assert first == "* hwsim LeakyNetwork, 3 units, 2 inputs"
    assert "* one state unit is 1.0 V, one coupling unit 1e-06 S, one time constant 1e-06 s" in rest
    assert any(line.startswith("* ") and "ohm, siemens, farad, volt" in line for line in rest)
    assert rest[-2:] == [".op", ".end"]
    assert deck.isascii()


@pytest.mark.parametrize("scale", [Scale(), Scale(volt=0.2, siemens=3e-7, second=1e-4)])
def test_couplings_are_transconductances_of_the_real_parameters(scale):
    numbers = np.random.default_rng(1)
    chip = replace(Chip.as_drawn(3), gain={"W": numbers.uniform(0.5, 2.0, (3, 3))}, rate=np.array([1.0, 2.0, 0.5]))
    netlist = export_netlist(NETWORK, THETA, X, chip, scale=scale)
    W, U = np.zeros((3, 3)), np.zeros((3, 2))
    for line in lines(netlist, "G"):
        name, ground, node, control, _, siemens = line.split()
        i, j = (int(part) for part in name[2:].split("_"))
        assert (ground, node, control[0], control[1:]) == ("0", f"n{i}", {"W": "r", "U": "x"}[name[1]], str(j))
        {"W": W, "U": U}[name[1]][i, j] = float(siemens) / scale.siemens
    np.testing.assert_allclose(W, chip.gain["W"] * THETA["W"], rtol=1e-14)
    np.testing.assert_allclose(U, THETA["U"], rtol=1e-14)
    assert [float(line.split()[-1]) for line in lines(netlist, "C")] == pytest.approx(
        scale.farad / chip.rate, rel=1e-14
    )
    sources = {line.split()[0]: float(line.split()[-1]) for line in (*lines(netlist, "V"), *lines(netlist, "I"))}
    assert sources == pytest.approx(
        {"Vx0": scale.volt * 0.3, "Vx1": -scale.volt, "Ib0": scale.ampere * 0.1, "Ib2": -scale.ampere * 0.2}, rel=1e-14
    )


def test_parameters_of_zero_make_no_element():
    sparse = THETA | {"W": THETA["W"] * np.eye(3), "U": np.zeros((3, 2))}
    netlist = export_netlist(NETWORK, sparse, X)
    assert [line.split()[0] for line in lines(netlist, "G")] == ["GW0_0", "GW1_1", "GW2_2"]
    assert "a parameter of zero makes no element" in netlist.text
    assert [line.split()[0] for line in lines(export_netlist(DIVIDER, G, X[:1]), "R")] == ["Rg0", "Rg1", "Rg3"]


def test_a_resistive_network_is_itself():
    elements = export_netlist(DIVIDER, G, X[:1]).elements
    assert "Rg0 x0 n0 1000000.0" in elements
    assert "Rg3 a0 n1 250000.0" in elements
    assert "Ea0 a0_inner 0 n0 0 3.0" in elements
    assert "Fa0 n0 0 Vsensea0 0.5" in elements
    assert "Bd1 n1 n0 I=0.0001 * max(v(n1,n0) + 0.1, 0)" in elements
    assert "C1 n1 0 2e-12" in elements
    assert any(re.fullmatch(r"D0 n0 0 diode0 temp=46\.85\d*", line) for line in elements)
    model = next(line for line in elements if line.startswith(".model diode0 D("))
    assert "IS=1e-14" in model
    # k/q of CODATA 2014 inside ngspice: N is as much larger as k/q is smaller
    assert float(re.search(r" N=(\S+)", model)[1]) / 1.5 - 1.0 == pytest.approx(3.394e-7, rel=1e-3)


def test_what_a_chip_adds_to_a_unit():
    chip = Chip(
        rate=np.array([1.0, 2.0, 1.0]),
        offset=np.array([0.0, 0.1, 0.0]),
        low=np.array([-np.inf, -1.0, 0.25]),
        high=np.array([np.inf, 1.0, 0.25]),
        slew=np.array([np.inf, 0.5, np.inf]),
    )
    netlist = export_netlist(NETWORK, THETA, X, chip)
    named = {line.split()[0]: line for line in netlist.elements}
    assert "Ioffset1" in named
    assert named["C1"] == "C1 n1 0 5e-13"
    # 0.5 state units per time constant on a capacitor of 0.5 pF
    assert named["Bslew1"] == "Bslew1 0 n1 I=min(max(-i(Vsenses1), -2.5e-07), 2.5e-07)"
    assert named["GU1_0"].startswith("GU1_0 0 s1 x0")
    assert {"Bhigh1", "Blow1"} <= named.keys()
    assert named["Vdead2"] == "Vdead2 n2 0 0.25"
    assert "C2" not in named
    assert netlist.start.tolist() == [0.0, 0.0, 0.25]


def test_a_drawn_substrate_brings_its_chip_and_deviation():
    chip = replace(Chip.as_drawn(3), gain={"W": np.full((3, 3), 2.0)})
    drawn = DrawnSubstrate(drawing=NETWORK, chip=chip, deviation={"U": np.full((3, 2), 0.5)})
    found = export_netlist(drawn, THETA, X).elements
    wanted = export_netlist(NETWORK, THETA | {"W": 2.0 * THETA["W"], "U": THETA["U"] + 0.5}, X).elements
    assert found == wanted
    with pytest.raises(InputError, match="a DrawnSubstrate brings its own chip"):
        export_netlist(drawn, THETA, X, chip)


K = Parameters({"k": np.full(3, 2.0)})


class Leaks(Substrate):
    """`F = -k z`, a substrate of one's own."""

    units, inputs = 3, 2

    def shapes(self):
        return {"k": (3,)}

    def field(self, z, x, theta):
        return -theta["k"] * z

    def tangent(self, v, z, x, theta):
        return -theta["k"] * v

    cotangent = tangent

    def credit(self, post, z, x, theta, *, per_sample=False):
        raise NotImplementedError

    def influence(self, z, x, theta):
        return {}


def test_a_substrate_of_ones_own_gets_a_circuit_by_registering_it():
    with pytest.raises(InputError, match="Leaks has no circuit"):
        export_netlist(Leaks(), K, X)

    @circuit.register(Leaks)
    def _(substrate, theta, ports, scale):
        elements = tuple(
            f"Rown{i} {node} 0 {1.0 / (scale.siemens * theta['k'][i])}" for i, node in enumerate(ports.current)
        )
        return Circuit(elements=elements, capacitance=np.full(3, scale.farad), siemens=scale.siemens, notes=())

    assert "Rown2 n2 0 500000.0" in export_netlist(Leaks(), K, X).elements


@dataclass(frozen=True)
class Square(Nonlinearity):
    """z^2, which no table of expressions has."""

    def __call__(self, z):
        return z * z

    def slope(self, z):
        return 2.0 * z

    def curvature(self, z):
        return 2.0 + 0.0 * z


FREE = FieldSubstrate(units=3, inputs=2, blocks={"k": (3,)}, function=lambda z, x, theta: -z)


@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        (
            {"substrate": FREE, "parameters": K},
            InputError,
            "FieldSubstrate has no circuit; those that have",
        ),
        (
            {"substrate": LeakyNetwork.dense(3, 2, Square())},
            InputError,
            r"Square\(\) has no expression in SPICE; .*Tanh",
        ),
        ({"inputs": np.zeros(3)}, InputError, r"one lane: inputs must be \[2\]; found shape \[3\]"),
        ({"inputs": np.array([0.0, np.nan])}, RangeError, "inputs holds a value that is not finite"),
        ({"parameters": THETA | {"b": np.full(3, np.inf)}}, RangeError, "block b holds a value that is not finite"),
        ({"parameters": Parameters({"W": THETA["W"]})}, InputError, "parameters must have the blocks .*'U'.*; found"),
        ({"chip": Chip.as_drawn(4)}, InputError, "3 units"),
        ({"start": np.zeros(4)}, InputError, r"start must be \[3\], one state per unit; found shape \[4\]"),
        ({"start": np.full(3, np.nan)}, RangeError, "start holds a value that is not finite"),
        ({"temperature": 0.0}, InputError, "temperature must be finite and above 0 kelvin; found 0.0"),
        (
            {"substrate": DIVIDER, "parameters": G, "inputs": X[:1], "scale": Scale(volt=2.0)},
            InputError,
            "in volt, siemens and second as it is; leave out the scale",
        ),
    ],
)
def test_what_makes_no_netlist_is_refused(changed, error, sentence):
    asked = {"substrate": NETWORK, "parameters": THETA, "inputs": X} | changed
    with pytest.raises(error, match=sentence):
        export_netlist(
            asked.pop("substrate"), asked.pop("parameters"), asked.pop("inputs"), asked.pop("chip", None), **asked
        )


def test_the_circuits_that_are_named_exist():
    with pytest.raises(InputError) as refused:
        circuit(FREE, K, Ports(state=(), current=(), inputs=()), Scale())
    for kind in (EnergyNetwork, LeakyNetwork, OscillatorNetwork, ResistiveNetwork):
        assert kind.__name__ in str(refused.value)


def test_oscillators_do_not_pull_themselves():
    network = OscillatorNetwork(units=2, inputs=1, coupling=Dense(2), locking=0.5)
    theta = Parameters({"K": np.ones((2, 2)), "H": np.zeros((2, 1)), "omega": np.array([0.0, 1.0])})
    names = [line.split()[0] for line in export_netlist(network, theta, X[:1]).elements]
    assert names == ["BK0_1", "Block0", "BK1_0", "Block1", "Iomega1", "Vx0", "C0", "C1"]


@pytest.mark.parametrize(
    ("analysis", "sentence"),
    [
        (lambda: Transient(duration=1.0, max_step=2.0), "0 < max_step <= duration"),
        (lambda: Transient(duration=np.inf, max_step=0.1), "duration=inf"),
        (lambda: Noise(output=0, lowest=10.0, highest=1.0), "0 < lowest < highest in hertz"),
        (lambda: Noise(output=0, lowest=1.0, highest=10.0, per_decade=0), "per_decade=0"),
    ],
)
def test_analyses_that_make_no_sense(analysis, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        analysis()


# --- what comes back, without ngspice --------------------------------------------------------------------------------


def test_without_ngspice_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpiceError, match=r"install ngspice \(Debian: apt-get install ngspice\)"):
        find_ngspice()
    with pytest.raises(SpiceError, match="not on the PATH"):
        run_deck("* nothing\n.end\n")


def impostor(tmp_path, monkeypatch, script):
    """An `ngspice` on the PATH that is a shell script."""
    program = tmp_path / "ngspice"
    program.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 0", "ran no analysis; its log ends with: nothing"),
        ("echo oops > log; exit 3", "ended with status 3; its log ends with: oops"),
        ("echo 'Error: no such thing' > log", "its log says: Error: no such thing"),
        ("echo nonsense > out.raw", "cannot read what ngspice wrote; the file begins with b'nonsense"),
        ("exec sleep 20", "took longer than 0.5 s"),
    ],
)
def test_a_run_that_fails_is_told_in_the_logs_words(script, sentence, tmp_path, monkeypatch):
    impostor(tmp_path, monkeypatch, script)
    with pytest.raises(SpiceError, match=re.escape(sentence)):
        run_deck("* deck\n.op\n.end\n", timeout=0.5 if "sleep" in script else 60.0)


def raw(names, rows, *, name="Operating Point", flags="real"):
    """A binary raw file as ngspice writes it."""
    variables = "".join(f"\t{k}\t{name}\tvoltage\n" for k, name in enumerate(names))
    header = (
        f"Title: * t\nDate: today\nPlotname: {name}\nFlags: {flags}\nNo. Variables: {len(names)}\n"
        f"No. Points: {len(rows)}       \nVariables:\n{variables}Binary:\n"
    )
    return header.encode() + np.asarray(rows, "=f8").tobytes()


def test_raw_files_are_read_to_the_bit():
    rows = np.random.default_rng(0).standard_normal((5, 3))
    both = raw(["time", "V(n0)", "v(n1)"], rows, name="Transient Analysis") + raw(["v(n0)"], rows[:1, :1])
    first, second = _plots(both)
    assert (first.name, second.name) == ("Transient Analysis", "Operating Point")
    assert list(first.values) == ["time", "v(n0)", "v(n1)"]
    assert np.array_equal(np.stack(list(first.values.values()), axis=1), rows)
    assert np.array_equal(second.values["v(n0)"], rows[0, :1])


@pytest.mark.parametrize(
    "spoil", [lambda r: r[:-3], lambda r: r.replace(b"real", b"complex")], ids=["short", "complex"]
)
def test_a_short_or_strange_raw_file_is_refused(spoil):
    with pytest.raises(SpiceError, match="of 2 rows of 1 real numbers"):
        _plots(spoil(raw(["v(n0)"], [[1.0], [2.0]])))


def test_only_what_was_asked_for_counts():
    netlist = export_netlist(NETWORK, THETA, X)
    nodes = {f"v(n{i})": np.array([0.0, 1.0]) for i in range(3)}
    op, tran = OperatingPoint(), Transient(duration=1.0, max_step=0.5)
    with pytest.raises(SpiceError, match=r"asked for Operating Point; ngspice wrote \['Transient Analysis'\]"):
        op.read([Plot(name="Transient Analysis", values=nodes)], netlist)
    with pytest.raises(SpiceError, match="an operating point has one row; ngspice wrote 2"):
        op.read([Plot(name="Operating Point", values=nodes)], netlist)
    with pytest.raises(SpiceError, match=r"left out v\(n2\) of its Operating Point"):
        op.read([Plot(name="Operating Point", values={k: v for k, v in nodes.items() if k != "v(n2)"})], netlist)
    with pytest.raises(SpiceError, match="ngspice wrote no time"):
        tran.read([Plot(name="Transient Analysis", values=nodes)], netlist)
    stopped = {"time": np.array([0.0, 0.5e-6]), **nodes}
    with pytest.raises(SpiceError, match=r"should end at 1 time constants .* wrote 2 rows, the last at 0.5"):
        tran.read([Plot(name="Transient Analysis", values=stopped)], netlist)
    with pytest.raises(SpiceError, match=r"no v\(onoise_total\)"):
        Noise(output=0, lowest=1.0, highest=2.0).read([Plot(name="Integrated Noise", values={})], netlist)


def test_values_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    (tmp_path / "ready").write_bytes(raw(["v(n0)", "v(n1)", "v(n2)"], [[0.0, np.nan, 0.0]]))
    impostor(tmp_path, monkeypatch, f"cp {tmp_path}/ready out.raw")
    with pytest.raises(SpiceError, match=r"v\(n1\) values that are not finite"):
        run(export_netlist(NETWORK, THETA, X), OperatingPoint())


def test_the_table_of_expressions_has_every_nonlinearity():
    import hwsim.substrates.nonlinearity as module

    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    for kind in kinds:
        if kind is not Nonlinearity:
            assert export_netlist(LeakyNetwork.dense(3, 2, kind()), THETA, X).elements
    assert Tanh in kinds
