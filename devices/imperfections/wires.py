"""Wires of a crossbar: neighbours couple, and lines have resistance."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.units import engineering
from hwsim.substrates.chip import Chip

from .contract import Context, Fabrication, Realisation, Seeds

CHUNK = 2**17
"""Cell voltages solved for at once by the fixed-point iteration (1 MiB an array: it stays in cache)."""


@final
@dataclass(frozen=True)
class Crosstalk(Fabrication):
    """Each of the K lines that feed a block loses `fraction` of its signal to each of its neighbours:

        s -> M s,   M = 1 - fraction L,      L the Laplacian of the path 1 - 2 - ... - K;     W -> W M

    M is symmetric and its rows and columns sum to 1: the total signal is conserved (what one line gains its neighbours
    lose) and equal signals on all lines are not changed. This is leakage or charge shared between lines; to first
    order also the capacitive coupling of lines that are driven weakly.

    Args:
        fraction: of a line's signal that arrives at one neighbour, 0 to 0.5.
        blocks: names of matrices [rows, K]; None for every block that is one. A coupling that two units share is told
            for each direction, and the chip then is not reciprocal.

    Raises:
        InputError: a fraction out of range; on fabrication, a block that does not exist or is no matrix.
    """

    fraction: float
    blocks: tuple[str, ...] | None = ("U",)

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 0.5:
            raise InputError(f"crosstalk needs a fraction in [0, 0.5]; found fraction={self.fraction}")

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        shapes = drawing.unshared().shapes()
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        blocks = tuple(matrices) if self.blocks is None else self.blocks
        if wrong := set(blocks) - set(matrices):
            raise InputError(f"crosstalk acts on matrices [rows, lines], here {matrices}; found blocks={sorted(wrong)}")
        mixing = dict(chip.mixing)
        for name in blocks:
            lines = neighbours(shapes[name][-1], self.fraction)
            mixing[name] = mixing[name] @ lines if name in mixing else lines
        split = chip.split or any(_is_shared(drawing, name) for name in blocks)
        return replace(chip, mixing=mixing, split=split)

    def describe(self, scale: Scale) -> str:
        where = "all matrices" if self.blocks is None else ", ".join(self.blocks)
        return f"{100 * self.fraction:g} % of a line's signal to each neighbour, in {where}"


def neighbours(lines: int, fraction: float) -> Float[Array, "K K"]:
    """`1 - fraction L`: what arrives at each of K parallel lines from each."""
    beside = np.diag(np.full(lines - 1, fraction), 1)
    beside = beside + beside.T
    return np.eye(lines) + beside - np.diag(beside.sum(axis=1))


def _is_shared(drawing: Substrate, name: str) -> bool:
    """Whether two units share parameters of this block, told by whether `unshare` changes it."""
    shapes = drawing.shapes()
    counted = Parameters({block: np.arange(float(math.prod(shape))).reshape(shape) for block, shape in shapes.items()})
    return not np.array_equal(counted[name], drawing.unshare(counted)[name])


@final
@dataclass(frozen=True)
class LineResistance(Realisation):
    """Resistance of the wires of a crossbar: the matrix W [N, K] acts as the W_eff that the whole circuit realises.

    Cells `G = |W| siemens` sit between K drive lines and N sense lines, positive and negative weights in two arrays
    that are read differentially, W_eff = W_eff+ - W_eff-. Drive line j begins at its source and passes cells (0, j),
    (1, j), ...; sense line i passes (i, 0), ... (i, K - 1) and ends at an amplifier that holds it at ground. One wire
    segment lies before each cell of a drive line and one behind each cell of a sense line. Kirchhoff's law at the two
    nodes of each cell, a on the drive line and b on the sense line, a_(-1, j) = v_j, b_(i, K) = 0:

        (a_ij - a_(i-1)j) / r + (a_ij - a_(i+1)j) / r + G_ij (a_ij - b_ij) = 0      (no third node behind the last cell)
        (b_ij - b_i(j+1)) / s + (b_ij - b_i(j-1)) / s + G_ij (b_ij - a_ij) = 0      (no third node before the first)
        W_eff_ij = sum_k G_ik (a_ik - b_ik) / siemens      with v_j = 1 V, all other sources at 0 V

    With `exact` these are solved as they stand, by sparse factorisation. Otherwise they are iterated for the voltages
    u = a - b of the cells, which see the drop D(G u) of the currents through the wires behind them, under-relaxed:

        u <- u + gamma (v - D(G u) - u)       until   |v - D(G u) - u| < tolerance at every cell, for 1 V

    The operator D G has real eigenvalues between 0 and its spectral radius rho, of which the Collatz-Wielandt quotients
    of a few power iterations are upper bounds. `gamma = 2 / (2 + rho)` therefore always converges, the error shrinking
    by rho / (2 + rho) at each iteration. What is left of the error weighs no more than the residual did:
    |G^(1/2) error| <= |G^(1/2) residual|.

    W driven backwards is the transpose of W_eff (the circuit is reciprocal: sources and amplifiers change places).
    Blocks that are not matrices have no wires.

    Args:
        resistance: r, of one segment of a drive line, ohm, >= 0.
        sense: s, of one segment of a sense line, ohm, >= 0; as r unless told.
        exact: solve the nodal equations.
        blocks: names; None for every matrix.
        tolerance: of the iteration, volt per volt of input.
        iterations: at most.

    Raises:
        InputError: values out of range; when realised, a block that is no matrix, or no convergence.

    Sources: fixed point: CrossSim (arrays sourced from the input side, not interleaved), derived anew here from the
    equations above; reciprocity: Tellegen. Cost: with R = min(N, K) and about ln(tolerance) / ln(rho / (2 + rho))
    iterations, 10 R N K operations each; exact: one factorisation and R solutions of 2 N K equations. Both arrays; the
    results of the last eight blocks are kept.
    """

    seeds: ClassVar[Seeds] = Seeds.FIXED
    splits: ClassVar[bool] = True

    resistance: float
    sense: float | None = None
    exact: bool = False
    blocks: tuple[str, ...] | None = None
    tolerance: float = 1e-9
    iterations: int = 1000

    def __post_init__(self) -> None:
        for name, ohm in (("resistance", self.resistance), ("sense", self.sense)):
            if ohm is not None and not (math.isfinite(ohm) and ohm >= 0):
                raise InputError(f"wires need a finite {name} >= 0 in ohm; found {name}={ohm}")
        if self.exact and (self.resistance == 0) != (self._sense == 0):
            raise InputError("exact=True needs resistance in both kinds of line, or in none; use exact=False here")
        if not (self.tolerance > 0 and self.iterations >= 1):
            raise InputError(
                f"the iteration needs tolerance > 0 and iterations >= 1; "
                f"found tolerance={self.tolerance}, iterations={self.iterations}"
            )

    def realise(self, name: str, values: Float[Array, "*shape"], at: Context) -> Float[Array, "*shape"]:
        if self.blocks is not None and name not in self.blocks:
            return values
        if values.ndim != 2:
            if self.blocks is None:
                return values
            raise InputError(f"wires need a matrix [rows, lines]; block {name} has shape {list(values.shape)}")
        if self.resistance == 0 and self._sense == 0:
            return values
        held = np.ascontiguousarray(values, np.float64)
        return _realised(self, held.tobytes(), *held.shape, at.scale.siemens)

    def describe(self, scale: Scale) -> str:
        drive, sense = engineering(self.resistance, "Ohm"), engineering(self._sense, "Ohm")
        return f"{drive} per cell of a drive line, {sense} of a sense line"

    @property
    def _sense(self) -> float:
        return self.resistance if self.sense is None else self.sense


@functools.lru_cache(maxsize=8)
def _realised(wires: LineResistance, values: bytes, rows: int, lines: int, siemens: float) -> Float[Array, "N K"]:
    """W_eff of a matrix given as bytes: asked for at every plan, it mostly is the one of the plan before."""
    held = np.frombuffer(values).reshape(rows, lines)
    # in units of the unit conductance: siemens times ohm
    drive, sense = wires.resistance * siemens, wires._sense * siemens
    effective = np.zeros_like(held)
    for sign in (1.0, -1.0):
        cells = np.maximum(sign * held, 0.0)
        if not cells.any():
            continue
        if wires.exact:
            solved = by_fewer_sources(nodal, cells, drive, sense)
        else:
            solve = functools.partial(fixed_point, tolerance=wires.tolerance, iterations=wires.iterations)
            solved = by_fewer_sources(solve, cells, drive, sense)
        effective += sign * solved
    effective.flags.writeable = False
    return effective


def by_fewer_sources(
    solve: Callable[[Array, float, float], Array], cells: Float[Array, "N K"], drive: float, sense: float
) -> Float[Array, "N K"]:
    """`solve(cells, drive, sense)`, by reciprocity from the other side where that has fewer lines to drive.

    Seen from the amplifiers the sense lines are drive lines, counted from where they end.
    """
    if cells.shape[0] >= cells.shape[1]:
        return solve(cells, drive, sense)
    return solve(cells.T[::-1, ::-1], sense, drive)[::-1, ::-1].T


def nodal(cells: Float[Array, "N K"], drive: float, sense: float) -> Float[Array, "N K"]:
    """The effective matrix of one array by Kirchhoff's law at all 2 N K nodes; resistances in unit cells, > 0."""
    from scipy.sparse import block_array, diags_array, eye_array, kron
    from scipy.sparse.linalg import splu

    rows, lines = cells.shape
    # wires: a chain tied at its first node (drive) or at its last (sense)
    along_drive = kron(_chain(rows), eye_array(lines)) / drive
    along_sense = kron(eye_array(rows), _chain(lines)[::-1, ::-1]) / sense
    conductance = diags_array(cells.ravel())
    laplacian = block_array(
        [[along_drive + conductance, -conductance], [-conductance, along_sense + conductance]], format="csc"
    )
    factor = splu(laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    sources = np.zeros((2 * rows * lines, lines))
    sources[:lines] = np.eye(lines) / drive
    potential = factor.solve(sources)
    across = (potential[: rows * lines] - potential[rows * lines :]).reshape(rows, lines, lines)
    return np.einsum("ik,ikj->ij", cells, across)


def _chain(nodes: int) -> Array:
    """Laplacian of `nodes` in a row behind a source of potential, in segments of conductance 1."""
    from scipy.sparse import diags_array

    at_node = np.full(nodes, 2.0)
    at_node[-1] = 1.0
    beside = -np.ones(nodes - 1)
    return diags_array([beside, at_node, beside], offsets=[-1, 0, 1], format="csr")


def fixed_point(
    cells: Float[Array, "N K"], drive: float, sense: float, *, tolerance: float, iterations: int
) -> Float[Array, "N K"]:
    """The effective matrix of one array by the iteration of `LineResistance`; resistances in unit cells.

    Raises:
        InputError: it has not converged after `iterations`.
    """
    rows, lines = cells.shape
    radius = _radius(cells, drive, sense)
    gamma = 2.0 / (2.0 + radius)
    effective = np.zeros_like(cells)
    at_once = max(1, CHUNK // cells.size)
    for first in range(0, lines, at_once):
        driven = np.arange(first, min(first + at_once, lines))
        sources = np.zeros((len(driven), 1, lines))
        sources[np.arange(len(driven)), 0, driven] = 1.0
        voltage = np.broadcast_to(sources, (len(driven), rows, lines)).copy()
        for _ in range(iterations):
            residual = sources - _drops(cells * voltage, drive, sense) - voltage
            if np.abs(residual).max() < tolerance:
                break
            voltage += gamma * residual
        else:
            raise InputError(
                f"the wires of a block [{rows}, {lines}] have not converged to {tolerance:g} V in {iterations} "
                f"iterations (its wires drop up to {radius:.3g} times what its cells do): use exact=True, lower the "
                f"resistance or the couplings, or allow more iterations"
            )
        effective[:, driven] = np.einsum("ik,jik->ij", cells, voltage)
    return effective


def _drops(current: Float[Array, "*J N K"], drive: float, sense: float) -> Float[Array, "*J N K"]:
    """Voltage lost in the wires by each cell when the cells carry these currents.

    A segment of a drive line carries the current of all cells from there on, one of a sense line that of all up to it.
    """
    through = np.flip(np.cumsum(np.flip(current, -2), -2), -2)
    lost = drive * np.cumsum(through, -2)
    gathered = np.cumsum(current, -1)
    return lost + sense * np.flip(np.cumsum(np.flip(gathered, -1), -1), -1)


def _radius(cells: Float[Array, "N K"], drive: float, sense: float) -> float:
    """An upper bound of the spectral radius of u -> D(G u), which has no negative entries: the largest quotient."""
    present = cells > 0
    voltage = np.where(present, 1.0, 0.0)
    bound = math.inf
    for _ in range(20):
        lost = np.where(present, _drops(cells * voltage, drive, sense), 0.0)
        if not lost.any():
            return 0.0
        bound = min(bound, float((lost[present] / voltage[present]).max()))
        voltage = lost / lost.max()
    return bound
