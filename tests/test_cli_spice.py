"""`hwsim spice` as a user meets it: good input, bad input, a circuit of one's own, and what it leaves behind."""

import copy
import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hwsim.cli import main
from hwsim.cli.circuit_file import read_circuit
from hwsim.cli.spice_options import CIRCUIT_FORMAT, NONLINEARITIES, SUBSTRATES
from hwsim.cli.spice_setting import _NONLINEARITY, MOST_STEPS
from hwsim.substrates.resistive import GROUND, IdealDiode, Shockley

ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not installed (Debian: apt-get install ngspice)"
)
DECK = ["--deck-only"]

CIRCUIT = json.loads(
    "\n".join(line[:56] if line.startswith(" ") else "" for line in CIRCUIT_FORMAT.splitlines()).replace("};", "}")
)
"""The circuit that --help shows, without the words beside it."""


def spice(capsys, *options):
    """Run in this process: (status, stdout, stderr)."""
    try:
        code = main(["spice", *map(str, options)])
    except SystemExit as exit:  # argparse's own refusals
        code = exit.code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def refused(capsys, *options):
    """Bad input is one sentence on stderr, exit 2, and nothing on stdout."""
    code, out, err = spice(capsys, *options)
    assert code == 2
    assert out == ""
    return err


def written(tmp_path, circuit):
    path = tmp_path / "circuit.json"
    path.write_text(circuit if isinstance(circuit, str) else json.dumps(circuit))
    return path


# --- comparing --------------------------------------------------------------------------------------------------------


@ngspice
@pytest.mark.parametrize("substrate", SUBSTRATES)
def test_every_substrate_agrees_with_its_circuit(substrate, capsys):
    die = ["--horizon", 100, "--mismatch", 0.05, "--time-constant-mismatch", 0.1, "--offset", 0.02]
    code, out, err = spice(capsys, "--substrate", substrate, "--units", 4, "--inputs", 2, *die)
    assert code == 0, out + err
    assert "ngspice and hwsim agree" in out
    assert "the error of integration" in " ".join(out.split())
    assert all(f" n{i} " in out for i in range(4))


@ngspice
def test_what_is_saved(tmp_path, capsys):
    code, out, _ = spice(capsys, "--units", 3, "--horizon", 40, "--mismatch", 0.1, "--out", tmp_path / "o")
    assert code == 0
    names = ["deck.cir", "settling.csv", "settling.png", "spice.json"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == names
    assert all(name in out for name in names)
    document = json.loads((tmp_path / "o" / "spice.json").read_text())
    assert (document["schema"], document["steps"], document["agrees"]) == (1, 40, True)
    assert document["settings"]["mismatch"] == 0.1
    rows = list(csv.reader((tmp_path / "o" / "settling.csv").read_text().splitlines()))
    values = np.array(rows[1:], float)
    assert rows[0][:4] == ["time [s]", "ngspice n0 [V]", "ngspice n1 [V]", "ngspice n2 [V]"]
    assert values[:, 0] == pytest.approx(1e-7 * np.arange(41))
    theirs, ours, deployed = values[:, 1:4], values[:, 4:7], values[:, 7:10]
    # between its steps ngspice's voltages are interpolated
    assert np.abs(theirs - ours).max() == pytest.approx(document["largest_difference"], rel=0.5)
    errors = [node["largest_error_of_integration"] for node in document["volt"].values()]
    assert np.abs(deployed - ours).max(axis=0) == pytest.approx(errors)
    assert (tmp_path / "o" / "settling.png").read_bytes().startswith(b"\x89PNG")


@ngspice
def test_the_deck_runs_as_it_is(tmp_path, capsys):
    spice(capsys, "--units", 2, "--out", tmp_path)
    command = ["ngspice", "-n", "-b", "-r", "out.raw", "-o", "log", "deck.cir"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / "out.raw").stat().st_size > 1000


@ngspice
def test_a_difference_beyond_the_tolerance_ends_with_1(capsys):
    code, out, _ = spice(capsys, "--units", 2, "--tolerance", 1e-12)
    assert code == 1
    assert "do NOT agree" in out


@ngspice
def test_steps_that_diverge_are_told_and_drawn(tmp_path, capsys):
    code, out, _ = spice(capsys, "--units", 2, "--step-size", 4, "--horizon", 2000, "--out", tmp_path)
    assert code == 0  # ngspice agrees with the equations all the same
    assert "The deployed steps diverge at eps = 4; give a smaller --step-size." in " ".join(out.split())
    nodes = json.loads((tmp_path / "spice.json").read_text())["volt"]
    assert nodes["n0"]["largest_error_of_integration"] is None


@ngspice
def test_smaller_steps_have_a_smaller_error_of_integration(tmp_path, capsys):
    errors = []
    for eps in (0.2, 0.1, 0.05):
        spice(capsys, "--step-size", eps, "--time", 4e-6, "--out", tmp_path)
        nodes = json.loads((tmp_path / "spice.json").read_text())["volt"].values()
        errors.append(max(node["largest_error_of_integration"] for node in nodes))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.15)  # Euler's steps are of first order
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.15)


@ngspice
def test_a_circuit_of_ones_own(tmp_path, capsys):
    code, out, err = spice(capsys, "--circuit", written(tmp_path, CIRCUIT), "--out", tmp_path / "o")
    assert code == 0, out + err
    document = json.loads((tmp_path / "o" / "spice.json").read_text())
    assert document["volt"].keys() == {"a", "b"}
    deck = (tmp_path / "o" / "deck.cir").read_text()
    assert "* n0 is a\n* n1 is b\n" in deck
    read = read_circuit(tmp_path / "circuit.json")
    settled = read.network.operating_point(read.inputs[None], read.parameters)[0]
    # ten of the slowest time constants: e^-10 is left of 0.5 V
    assert [node["ngspice"] for node in document["volt"].values()] == pytest.approx(settled, abs=1e-4)


# --- decks alone ------------------------------------------------------------------------------------------------------


def test_the_deck_alone_needs_no_ngspice(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = spice(capsys, *DECK, "--units", 3)
    assert (code, err) == (0, "")
    assert out.startswith("* hwsim LeakyNetwork, 3 units, 4 inputs\n")
    assert out.endswith(".end\n")
    again = spice(capsys, *DECK, "--units", 3, "--out", tmp_path / "o")
    assert again[0] == 0
    assert (tmp_path / "o" / "deck.cir").read_text() == out
    assert spice(capsys, *DECK, "--units", 3, "--seed", 2)[1] != out
    assert spice(capsys, *DECK, "--units", 3, "--mismatch", 0.1)[1] != out


def test_without_ngspice_the_error_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install ngspice (Debian: apt-get install ngspice)" in refused(capsys, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--substrate", "water"], "--substrate: invalid choice"),
        (["--nonlinearity", "cubic"], "--nonlinearity: invalid choice"),
        (["--units", "0"], "--units: must be a whole number of at least 1; found 0"),
        (["--inputs", "two"], "--inputs: must be a whole number; found 'two'"),
        (["--seed", "-1"], "--seed: must not be negative"),
        (["--mismatch", "-0.1"], "--mismatch: must be finite and not negative"),
        (["--offset", "nan"], "--offset: must be finite"),
        (["--step-size", "0"], "--step-size: must be above zero"),
        (["--tolerance", "inf"], "--tolerance: must be finite"),
        (["--time", "-1"], "--time: must be finite and not negative"),
        (["--time", "1e-6", "--horizon", "3"], "--horizon: not allowed with argument --time"),
        (["--time", "1"], f"takes 10000000 steps of --step-size 0.1; at most {MOST_STEPS} can be run"),
        (["--horizon", "300000"], "takes 300000 steps"),
        (["--circuit", "x.json", "--substrate", "leaky"], "--substrate: not allowed with argument --circuit"),
        (["--circuit", "x.json", "--units", "3"], "--circuit says all about the device; leave out --units"),
        (["--substrate", "energy", "--nonlinearity", "relu"], "--nonlinearity relu: an energy network needs a slope"),
        (["--substrate", "oscillator", "--nonlinearity", "tanh"], "leave it out with --substrate oscillator"),
        (["--circuit", "nowhere.json"], "cannot read the circuit nowhere.json: No such file"),
    ],
)
def test_bad_options_are_refused_by_name(options, sentence, capsys):
    assert sentence in refused(capsys, *options)


def test_an_unwritable_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write results to" in refused(capsys, *DECK, "--out", tmp_path / "file" / "out")


LOOP = [["in", "a", 1e-6], ["a2", "a", 1e-3], ["b", "ground", 1e-6]]
"""An amplifier that drives its own node, and more than all else there."""


def changed(path, value):
    """The circuit with the entry at a path replaced; "" for removed."""
    circuit = copy.deepcopy(CIRCUIT)
    place = circuit
    for key in path[:-1]:
        place = place[key]
    if value == "":
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return circuit


@pytest.mark.parametrize(
    ("circuit", "sentence"),
    [
        ("{", "is not JSON: "),
        ("[" * 100_000, "is not JSON: "),
        ("[]", "the circuit must be an object with conductors, inputs, nodes; found []"),
        ('{"nodes": {"a": 1e-12, "a": 2e-12}}', "the name 'a' is given twice in one object"),
        (changed(["nodes"], ""), "the circuit lacks nodes"),
        (changed(["resistors"], []), "the circuit has no field resistors; its fields are amplifiers, conductors"),
        (changed(["nodes"], {}), 'nodes must be an object with at least one "name": number; found {}'),
        (changed(["nodes", "a"], 0), "nodes.a must be a capacitance in farad above 0, finite; found 0"),
        (changed(["nodes", "a"], True), "nodes.a must be a capacitance in farad above 0, finite; found true"),
        (changed(["nodes", "a"], float("nan")), "nodes.a must be a capacitance in farad above 0, finite; found NaN"),
        (changed(["nodes", "a"], 10**400), "nodes.a must be a capacitance in farad above 0, finite; found 1000"),
        (changed(["nodes", "in"], 1e-12), "the name 'in' cannot be used: names are up to 40 letters, digits"),
        (changed(["nodes", "ground"], 1e-12), "the name 'ground' cannot be used"),
        (changed(["nodes", "a\n.end"], 1e-12), r"the name 'a\n.end' cannot be used"),
        (changed(["inputs", "in"], "high"), 'inputs.in must be a voltage in volt, finite; found "high"'),
        (changed(["conductors"], {}), "conductors must be a list; found {}"),
        (changed(["conductors", 0], ["in", "a"]), 'conductors[0] must be ["one end", "other end", siemens]'),
        (changed(["conductors", 0, 1], "z"), 'conductors[0][1] must name one of ground, a, b, in, a2; found "z"'),
        (changed(["conductors", 0, 2], -1e-6), "conductors[0][2] must be a conductance in siemens of at least 0"),
        (changed(["conductors", 0, 1], "in"), "edges[0] joins endpoint 2 to itself"),
        (changed(["conductors"], [["in", "b", 1e-6]]), "nodes [0] are floating"),
        (
            changed(["conductors"], [["in", "a", 0], ["in", "b", 1e-6]]),
            "no path of edges with g > 0 ties them to an input terminal or to ground",
        ),
        (changed(["diodes", 0], {"anode": "a"}), "diodes[0] must be an object with saturation_current"),
        (changed(["diodes", 0, "cathode"], ""), "diodes[0] lacks cathode"),
        (changed(["diodes", 0, "threshold"], 0.1), "diodes[0] has no field threshold; its fields are anode"),
        (changed(["diodes", 0, "ideality"], 0), "diodes[0].ideality must be a number above 0, finite; found 0"),
        (changed(["diodes", 0, "temperature"], -3), "diodes[0].temperature must be a number in kelvin above 0"),
        (changed(["diodes", 1, "conductance_on"], 0), "diodes[1].conductance_on must be a number in siemens above 0"),
        (
            changed(["diodes", 1, "threshold"], None),
            "diodes[1].threshold must be a voltage in volt, finite; found null",
        ),
        (changed(["amplifiers", 0, "gain"], 0), "amplifiers[0].gain must be a number other than 0, finite; found 0"),
        (changed(["amplifiers", 0, "node"], "in"), 'amplifiers[0].node must name one of the nodes a, b; found "in"'),
        (changed(["amplifiers", 0, "current_gain"], "x"), "amplifiers[0].current_gain must be a number, finite"),
        (changed(["amplifiers", 0, "output"], 3), "the name 3 cannot be used"),
        (changed(["amplifiers", 0, "output"], "b"), "the name 'b' cannot be used"),
        (changed(["time_constant"], 0), "time_constant must be a time in second above 0, finite; found 0"),
        (
            changed(["amplifiers", 0, "current_gain"], 0) | {"conductors": LOOP},
            "the circuit does not settle: its operating point is unstable",
        ),
    ],
)
def test_bad_circuits_are_refused_by_the_name_of_the_field(circuit, sentence, tmp_path, capsys):
    said = refused(capsys, *DECK, "--circuit", written(tmp_path, circuit))
    assert sentence in said
    assert "circuit.json" in said


def test_text_that_is_no_utf8_is_refused(tmp_path, capsys):
    (tmp_path / "circuit.json").write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in refused(capsys, "--circuit", tmp_path / "circuit.json")
    assert "cannot read the circuit" in refused(capsys, "--circuit", tmp_path)


def test_a_circuit_is_read_as_it_is_written(tmp_path):
    read = read_circuit(written(tmp_path, CIRCUIT))
    network = read.network
    assert (read.nodes, network.units, network.inputs) == (("a", "b"), 2, 1)
    assert network.edges == ((2, 0), (3, 1), (1, GROUND))
    assert read.parameters["g"].tolist() == [1e-6, 2e-6, 1e-6]
    assert read.inputs.tolist() == [0.5]
    first, second = network.diodes
    assert (first.anode, first.cathode) == (0, GROUND)
    assert first.law == Shockley(saturation_current=1e-12, ideality=1.0, temperature=300.0)
    assert (second.anode, second.cathode) == (GROUND, 1)
    assert second.law == IdealDiode(conductance_on=1e-4, threshold=0.2)
    assert [(a.node, a.gain, a.reflected) for a in network.amplifiers] == [(0, 2.0, 2.0)]
    assert read.time_constant == network.time_constant == 1e-6


def test_only_what_is_needed_must_be_given(tmp_path, capsys):
    small = {"inputs": {"in": 1}, "nodes": {"a": 1e-12}, "conductors": [["in", "a", 1e-6]]}
    code, out, _ = spice(capsys, *DECK, "--circuit", written(tmp_path, small))
    assert code == 0
    # RC = 1 us is the one time constant there is; ten of it in steps of a tenth
    tran = next(line for line in out.splitlines() if line.startswith(".tran"))
    assert float(tran.split()[2]) == pytest.approx(1e-5)


# --- the command line as a whole --------------------------------------------------------------------------------------


def test_the_options_name_what_there_is():
    assert tuple(_NONLINEARITY) == NONLINEARITIES


@pytest.mark.parametrize("arguments", [["--help"], ["spice", "--help"], ["verdict", "--help"]])
def test_help_is_light(arguments):
    code = (
        "import sys; from hwsim.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "numba", "numpy", "scipy", "torch"} & set(done.stderr.split())
    assert "default: None" not in done.stdout


def test_an_interrupt_is_no_traceback(capsys, monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("hwsim.cli.spice.run_spice", interrupt)
    code, _, err = spice(capsys)
    assert code == 130
    assert "hwsim spice: interrupted" in err
