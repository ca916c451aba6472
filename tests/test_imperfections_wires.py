"""Wires: what couples is conserved, and resistance is judged by Kirchhoff's law built independently and by ngspice."""

import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.devices.imperfections.contract import Context, Source
from hwsim.devices.imperfections.wires import Crosstalk, LineResistance, fixed_point, neighbours, nodal
from hwsim.substrates import Dense, LeakyNetwork, Reciprocal
from hwsim.substrates.chip import Chip, DrawnSubstrate

SCALE = Scale(volt=0.1, siemens=2e-6, second=1e-6)
SOURCE = Source(path=NoisePath(seed=0), stream=5, position=0)
AT = Context(scale=SCALE, fixed=SOURCE, program=SOURCE, read=SOURCE, elapsed=0.0, step_size=0.1)

# --- Crosstalk ----------------------------------------------------------------------------------------------------


@given(lines=st.integers(1, 20), fraction=st.floats(0.0, 0.5))
def test_crosstalk_conserves_the_total_and_leaves_equal_signals_alone(lines, fraction):
    mixing = neighbours(lines, fraction)
    assert mixing.sum(axis=0) == pytest.approx(np.ones(lines))
    assert mixing.sum(axis=1) == pytest.approx(np.ones(lines))
    assert np.array_equal(mixing, mixing.T)
    assert (mixing >= 0.0).all()
    beyond = np.abs(np.subtract.outer(np.arange(lines), np.arange(lines))) > 1
    assert (mixing[beyond] == 0.0).all()
    assert np.diagonal(mixing, 1) == pytest.approx(np.full(lines - 1, fraction))


def network(coupling):
    return LeakyNetwork(units=4, inputs=3, coupling=coupling(4))


def drawn(drawing, *stages):
    chip = Chip.as_drawn(drawing.units)
    for stage in stages:
        chip = stage.fabricate(chip, drawing, AT)
    return DrawnSubstrate(drawing=drawing, chip=chip)


@pytest.mark.parametrize("coupling", [Dense, Reciprocal])
def test_crosstalk_mixes_the_signals_on_the_lines(coupling):
    drawing, numbers = network(coupling), np.random.default_rng(1)
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in drawing.shapes().items()})
    z, x = numbers.standard_normal((2, 4)), numbers.standard_normal((2, 3))
    W, U = drawing.coupling.matrix(theta["W"]), theta["U"]
    leak = -z + theta["b"]
    inputs = drawn(drawing, Crosstalk(0.1))
    assert inputs.field(z, x, theta) == pytest.approx(leak + np.tanh(z) @ W.T + (x @ neighbours(3, 0.1)) @ U.T)
    assert inputs.reciprocal is drawing.reciprocal  # lines that nothing shares do not split the chip
    everything = drawn(drawing, Crosstalk(0.1, blocks=None))
    expected = leak + (np.tanh(z) @ neighbours(4, 0.1)) @ W.T + (x @ neighbours(3, 0.1)) @ U.T
    assert everything.field(z, x, theta) == pytest.approx(expected)
    assert not everything.reciprocal
    twice = drawn(drawing, Crosstalk(0.1), Crosstalk(0.2)).chip.mixing["U"]
    assert twice == pytest.approx(neighbours(3, 0.1) @ neighbours(3, 0.2))


def test_crosstalk_needs_a_matrix():
    for block in ("b", "V"):
        with pytest.raises(InputError, match=rf"acts on matrices .* \['W', 'U'\]; found blocks=\['{block}'\]"):
            drawn(network(Dense), Crosstalk(0.1, blocks=(block,)))


# --- The resistance of wires --------------------------------------------------------------------------------------


def resistors(cells, drive, sense):
    """(one end, other end, ohm) of everything in a crossbar. Ends: ("source", j), ("ground", i), ("a" or "b", i, j)."""
    rows, lines = cells.shape
    parts = []
    for i in range(rows):
        for j in range(lines):
            parts.append((("source", j) if i == 0 else ("a", i - 1, j), ("a", i, j), drive))
            parts.append((("b", i, j), ("ground", i) if j == lines - 1 else ("b", i, j + 1), sense))
            if cells[i, j] > 0:
                parts.append((("a", i, j), ("b", i, j), 1.0 / cells[i, j]))
    return parts


def by_stamping(cells, drive, sense):
    """Currents into ground [N, K] for 1 V at each source in turn, from a dense nodal matrix stamped part by part."""
    rows, lines = cells.shape
    parts = resistors(cells, drive, sense)
    inner = sorted({end for part in parts for end in part[:2] if end[0] in "ab"})
    number = {end: n for n, end in enumerate(inner)}
    matrix, injected = np.zeros((len(inner), len(inner))), np.zeros((len(inner), lines))
    for one, other, ohm in parts:
        for here, there in ((one, other), (other, one)):
            if here in number:
                matrix[number[here], number[here]] += 1.0 / ohm
                if there in number:
                    matrix[number[here], number[there]] -= 1.0 / ohm
                elif there[0] == "source":
                    injected[number[here], there[1]] += 1.0 / ohm
    potential = np.linalg.solve(matrix, injected)
    return np.stack([potential[number["b", i, lines - 1]] / sense for i in range(rows)])


def crossbar(rows, lines, seed=0):
    return np.random.default_rng(seed).uniform(0.0, 1.0, (rows, lines))


def largest(difference, of):
    return np.abs(difference).max() / np.abs(of).max()


@given(
    rows=st.integers(1, 6),
    lines=st.integers(1, 6),
    drive=st.floats(1e-4, 3.0),
    sense=st.floats(1e-4, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_both_solvers_obey_kirchhoff(rows, lines, drive, sense, seed):
    cells = np.where(crossbar(rows, lines, seed + 1) < 0.3, 0.0, crossbar(rows, lines, seed))
    if not cells.any():
        return
    truth = by_stamping(cells, drive, sense)
    # rounding of the stamped matrix: its condition number, below (largest conductance 1e4) x (N K)^2, times 1e-16
    assert largest(nodal(cells, drive, sense) - truth, truth) < 1e-9
    assert largest(fixed_point(cells, drive, sense, tolerance=1e-11, iterations=5000) - truth, truth) < 1e-9


@pytest.mark.parametrize(("rows", "lines"), [(8, 8), (16, 32), (32, 16), (32, 32)])
@pytest.mark.parametrize("ohm", [0.5, 50.0, 5e3])
def test_the_iteration_agrees_with_the_circuit(rows, lines, ohm):
    # conductances up to 2 uS: drops of up to .04 %, 4 % and several times the voltage of a cell at 32 x 32
    values = np.random.default_rng(3).uniform(-1.0, 1.0, (rows, lines))
    exact = LineResistance(ohm, exact=True).realise("U", values, AT)
    fast = LineResistance(ohm).realise("U", values, AT)
    assert largest(fast - exact, exact) < 1e-6
    # and from whichever side there are fewer lines to drive
    plus, minus = (nodal(np.maximum(sign * values, 0.0), ohm * 2e-6, ohm * 2e-6) for sign in (1.0, -1.0))
    assert largest(exact - (plus - minus), exact) < 1e-10


def test_physical_units_and_two_arrays():
    values = np.random.default_rng(5).uniform(-1.0, 1.0, (4, 3))
    wires = LineResistance(2e3, 5e3, exact=True)
    # volts, siemens, ohm: currents of one volt, over the unit conductance
    plus, minus = (by_stamping(np.maximum(sign * values, 0.0) * 2e-6, 2e3, 5e3) / 2e-6 for sign in (1.0, -1.0))
    assert wires.realise("U", values, AT) == pytest.approx(plus - minus, rel=1e-9)
    assert wires.realise("U", -values, AT) == pytest.approx(minus - plus, rel=1e-9)
    assert not np.allclose(LineResistance(5e3, 2e3, exact=True).realise("U", values, AT), plus - minus, rtol=1e-3)


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")
def test_ngspice_finds_the_same_currents(tmp_path):
    cells, drive, sense = crossbar(4, 3, 7) * 1e-5, 3e3, 7e3
    parts = resistors(cells, drive, sense)
    truth = np.empty((4, 3))
    for driven in range(3):
        deck = ["crossbar"]
        deck += [
            f"R{n} {'_'.join(map(str, one))} {'_'.join(map(str, other))} {ohm!r}"
            for n, (one, other, ohm) in enumerate(parts)
        ]
        deck += [f"Vs{j} source_{j} 0 {1.0 if j == driven else 0.0}" for j in range(3)]
        deck += [f"Vg{i} ground_{i} 0 0" for i in range(4)]
        deck += [".options reltol=1e-9 abstol=1e-18", ".control", "set numdgt=12", "op"]
        deck += [f"print i(vg{i})" for i in range(4)] + [".endc", ".end"]
        (tmp_path / "deck.cir").write_text("\n".join(deck).replace("np.float64", "") + "\n", encoding="utf-8")
        run = subprocess.run(
            ["ngspice", "-b", "deck.cir"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        found = [line.split("=")[1] for line in run.stdout.splitlines() if line.startswith("i(vg")]
        assert len(found) == 4, run.stdout + run.stderr  # it returns 0 also where it could not read the deck
        truth[:, driven] = [float(value) for value in found]
    assert largest(nodal(cells, drive, sense) - truth, truth) < 1e-9
    assert largest(fixed_point(cells, drive, sense, tolerance=1e-12, iterations=1000) - truth, truth) < 1e-9


def test_a_single_cell_is_three_resistors_in_series():
    cells = np.array([[0.5]])
    for solved in (nodal(cells, 0.3, 0.7), fixed_point(cells, 0.3, 0.7, tolerance=1e-13, iterations=1000)):
        assert solved.item() == pytest.approx(1.0 / (2.0 + 0.3 + 0.7))


@pytest.mark.parametrize("exact", [False, True])
def test_no_resistance_is_no_change(exact):
    values = np.random.default_rng(5).uniform(-1.0, 1.0, (8, 6))
    assert np.array_equal(LineResistance(0.0, exact=exact).realise("U", values, AT), values)
    assert LineResistance(1e-6, exact=exact).realise("U", values, AT) == pytest.approx(values, rel=1e-7, abs=1e-8)


def test_one_kind_of_line_may_be_ideal():
    cells = crossbar(5, 4)
    for drive, sense in ((0.05, 0.0), (0.0, 0.05)):
        ideal = fixed_point(cells, drive, sense, tolerance=1e-12, iterations=1000)
        nearly = nodal(cells, max(drive, 1e-9), max(sense, 1e-9))
        assert ideal == pytest.approx(nearly, rel=1e-6)


def test_more_resistance_loses_more_and_the_farthest_cell_loses_most():
    cells = np.full((16, 16), 0.5)
    kept = [nodal(cells, r, r) / 0.5 for r in (1e-4, 1e-3, 1e-2)]
    # the total current falls (Rayleigh's monotonicity law), whatever a single entry does
    totals = [ratio.sum() for ratio in kept]
    assert 256.0 > totals[0] > totals[1] > totals[2]
    for ratio in kept:
        assert (ratio < 1.0).all()
        # far from its source along the drive line, far from its amplifier along the sense line
        assert np.unravel_index(ratio.argmin(), ratio.shape) == (15, 0)
        assert np.unravel_index(ratio.argmax(), ratio.shape) == (0, 15)
        assert (np.diff(ratio, axis=0) < 0.0).all()
        assert (np.diff(ratio, axis=1) > 0.0).all()


@given(first=st.floats(0.0, 0.5), more=st.floats(0.01, 0.5), seed=st.integers(0, 999))
@settings(max_examples=20)
def test_the_current_of_equal_inputs_never_rises_with_resistance(first, more, seed):
    cells = crossbar(5, 4, seed)
    low, high = (fixed_point(cells, r, r, tolerance=1e-10, iterations=5000).sum() for r in (first, first + more))
    assert high < low


def test_small_drops_are_first_order_perturbation():
    # to first order every wire carries the currents of the ideal array: drops D(G v)
    cells, r = crossbar(4, 3), 1e-6
    expected = np.empty_like(cells)
    for j in range(3):
        current = np.zeros_like(cells)
        current[:, j] = cells[:, j]
        lost = np.zeros_like(cells)
        for i in range(4):
            for k in range(3):
                along_drive = sum(current[m:, k].sum() for m in range(i + 1))
                along_sense = sum(current[i, : m + 1].sum() for m in range(k, 3))
                lost[i, k] = r * (along_drive + along_sense)
        expected[:, j] = cells[:, j] - (cells * lost).sum(axis=1)
    assert nodal(cells, r, r) == pytest.approx(expected, abs=1e-10)  # second order: (3 4 r)^2


def test_an_iteration_cut_short_says_so():
    with pytest.raises(InputError, match=r"\[8, 8\] have not converged to 1e-09 V in 3 iterations .* exact=True"):
        fixed_point(crossbar(8, 8), 0.1, 0.1, tolerance=1e-9, iterations=3)


def test_only_named_matrices_have_wires():
    values, bias = crossbar(3, 3), np.ones(3)
    assert LineResistance(100.0).realise("b", bias, AT) is bias
    assert LineResistance(100.0, blocks=("U",)).realise("W", values, AT) is values
    assert not np.array_equal(LineResistance(100.0, blocks=("W",)).realise("W", values, AT), values)
    with pytest.raises(InputError, match=r"block b has shape \[3\]"):
        LineResistance(100.0, blocks=("b",)).realise("b", bias, AT)
    assert np.array_equal(LineResistance(100.0).realise("W", 0.0 * values, AT), 0.0 * values)


def test_the_transpose_is_the_circuit_driven_backwards():
    # sources and amplifiers change places: what was sense line i, counted from its amplifier, is drive line i
    cells, drive, sense = crossbar(5, 3), 0.2, 0.05
    backwards = by_stamping(cells.T[::-1, ::-1], sense, drive)[::-1, ::-1]
    assert backwards == pytest.approx(nodal(cells, drive, sense).T, rel=1e-10)


def test_wires_say_their_size():
    assert Crosstalk(0.02).describe(SCALE) == "2 % of a line's signal to each neighbour, in U"
    assert LineResistance(2.5).describe(SCALE) == "2.5 Ohm per cell of a drive line, 2.5 Ohm of a sense line"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Crosstalk(0.6), r"fraction in \[0, 0.5\]; found fraction=0.6"),
        (lambda: LineResistance(-1.0), "resistance >= 0 in ohm"),
        (lambda: LineResistance(1.0, float("nan")), "sense >= 0 in ohm"),
        (lambda: LineResistance(1.0, 0.0, exact=True), "both kinds of line"),
        (lambda: LineResistance(1.0, iterations=0), "iterations >= 1"),
    ],
)
def test_wires_out_of_range_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()
