"""Resistive networks: programmable conductances, diodes, amplifiers and node capacitances, in SI units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError, RangeError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate

from .circuit import (
    GROUND,
    Amplifier,
    Branches,
    Diode,
    DiodeLaw,
    ElementLaw,
    IdealDiode,
    Ohm,
    Shockley,
    branch_weights,
    check_ends,
    floating_nodes,
    like,
    node_weights,
    require_positive,
)
from .newton import damped_newton
from .wiring import amplified, antiparallel, crossbar, square_lattice

__all__ = ["GROUND", "Amplifier", "Diode", "DiodeLaw", "IdealDiode", "ResistiveNetwork", "Shockley"]


@final
@dataclass(frozen=True, kw_only=True)
class ResistiveNetwork(Substrate):
    """Kirchhoff's current law at every node of a circuit, `C_i dv_i/dt = sum of the currents into node i`:

        F(v, x) = -tau C^-1 Q^T I(u),    u = P v + X x                  V per time constant; tau is a mere unit of time
        I_e = g_e u_e (resistors),   I_d(u_d) (diodes)                  A

        v   node voltages, the state [B, N]                             V
        x   voltages of the sources at the input terminals [B, M]       V
        g   conductance of every edge, block "g" [E], >= 0              S
        C   capacitance of every node to ground [N]                     F
        P, X, Q   incidence matrices of the branches: voltages across from node and terminal voltages, and node currents
                  from branch currents; Q = P but for amplifiers whose current gain differs from their voltage gain
        J = -tau C^-1 Q^T diag(y) P,   y = dI/du

    Endpoints of edges and diodes are 0..N-1 nodes, N..N+M-1 input terminals, N+M+k the output terminal of amplifier k,
    and GROUND = -1. A current of edge (a, b) is positive from a to b.

    Credit: `g_e` is `-(tau post_a/C_a - tau post_b/C_b) (v_a - v_b)`, without the term of an end that is no node.

    Reciprocity: factors s_i > 0 with `s_i Q_ei = w_e P_ei` in every branch make the metric `S_i = s_i C_i / tau`
    (siemens) and the co-content `E = sum_e w_e int_0^u_e I du` (watt), with `F = -S^-1 dE/dv`. Without amplifiers, and
    with amplifiers that conserve power, s = w = 1. Behind any other amplifier both change by current_gain / gain: s is
    1 at the lowest node of every connected part and follows from branch to branch. `reciprocal` is False where two ways
    round a loop disagree, and where a current gain is 0 or has not the sign of the gain. A resistor between a node and
    its own amplifier may have w < 0 (a negative conductance); reciprocity holds then, but E has no lower bound.

    Args:
        units: N.
        inputs: M.
        edges: two endpoints per programmable conductance.
        capacitance: C, farad, one for all nodes or one per node.
        diodes: fixed nonlinear branches.
        amplifiers: see `Amplifier`.
        time_constant: tau, second.

    Raises:
        InputError: sizes, capacitances or time_constant that are not positive; an endpoint or a node that does not
            exist; an edge from an endpoint to itself; a floating node, which no path of edges ties to a terminal or to
            ground.

    Sources: co-content: Millar, Philosophical Magazine 42:1150 (1951); as an energy for EP: Kendall et al.,
    arXiv:2006.01981. Cost of a field: 2 B K N multiply-adds for K branches (dense matrices, K N numbers each: up to
    about 1e4 branches).
    """

    units: int
    inputs: int
    edges: tuple[tuple[int, int], ...]
    capacitance: float | tuple[float, ...]
    diodes: tuple[Diode, ...] = ()
    amplifiers: tuple[Amplifier, ...] = ()
    time_constant: float = 1e-6

    def __post_init__(self) -> None:
        if self.units < 1 or self.inputs < 1:
            raise InputError(f"a resistive network needs units >= 1 and inputs >= 1; found {self.units}, {self.inputs}")
        require_positive("a resistive network", "time_constant", self.time_constant)
        if isinstance(self.capacitance, tuple) and len(self.capacitance) != self.units:
            raise InputError(f"{self.units} units need as many capacitances (or one); found {len(self.capacitance)}")
        for value in np.atleast_1d(self.capacitance):
            require_positive("every node of a resistive network", "capacitance", float(value))
        for k, amplifier in enumerate(self.amplifiers):
            if not 0 <= amplifier.node < self.units:
                raise InputError(f"amplifiers[{k}] needs a node from 0 to {self.units - 1}; found {amplifier.node}")
        check_ends("edges", self.edges, self._highest)
        check_ends("diodes", ((d.anode, d.cathode) for d in self.diodes), self._highest)
        if floating := floating_nodes(self._resistors, np.ones(len(self.edges), bool)):
            raise InputError(
                f"nodes {floating} are floating: no path of edges ties them to an input terminal or to ground; "
                f"add edges (diodes and loads of amplifiers without current gain do not count)"
            )

    # --- what it is made of --------------------------------------------------------------------------------------

    @property
    def _highest(self) -> int:
        return self.units + self.inputs + len(self.amplifiers) - 1

    def _between(self, ends: Iterable[tuple[int, int]]) -> Branches:
        return Branches.between(tuple(ends), self.units, self.inputs, self.amplifiers)

    @cached_property
    def _resistors(self) -> Branches:
        return self._between(self.edges)

    @cached_property
    def _junctions(self) -> tuple[tuple[Branches, DiodeLaw], ...]:
        """Diodes with the same law are evaluated together."""
        kinds = dict.fromkeys(diode.law for diode in self.diodes)
        return tuple((self._between((d.anode, d.cathode) for d in self.diodes if d.law == law), law) for law in kinds)

    @cached_property
    def _everything(self) -> Branches:
        return self._between((*self.edges, *((d.anode, d.cathode) for d in self.diodes)))

    def _elements(self, theta: Parameters, v: Array) -> Iterator[tuple[Branches, ElementLaw]]:
        yield self._resistors, Ohm(like(theta["g"], v))
        yield from self._junctions

    @cached_property
    def capacitances(self) -> Float[Array, " N"]:
        """C of every node, farad."""
        return np.broadcast_to(np.asarray(self.capacitance, float), (self.units,)).copy()

    @cached_property
    def _rates(self) -> Float[Array, " N"]:
        """`tau / C`, volt per time constant and ampere."""
        return self.time_constant / self.capacitances

    @cached_property
    def node_weights(self) -> Float[Array, " N"] | None:
        """s of every node; None where the network is not reciprocal."""
        return node_weights(self._everything)

    @property
    def reciprocal(self) -> bool:
        return self.node_weights is not None

    @property
    def unfactored(self) -> frozenset[str]:
        return frozenset({"g"})

    @property
    def holomorphic(self) -> bool:
        """Where all diodes are analytic, below the voltage at which a Shockley diode goes on linearly."""
        return all(diode.law.analytic for diode in self.diodes)

    @property
    def scale(self) -> Scale:
        """One volt, the time constant, and the siemens that makes the farad the mean capacitance."""
        siemens = float(np.mean(self.capacitances)) / self.time_constant
        return Scale(volt=1.0, siemens=siemens, second=self.time_constant, parameter=1.0)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"g": (len(self.edges),)}

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        return {"g": (0.0, np.inf)}

    def initial(self, seed: int, *, low: float, high: float) -> Parameters:
        """Conductances log-uniform between `low` and `high` siemens, the same for the same seed.

        Raises:
            InputError: not 0 < low <= high, both finite.
        """
        require_positive("a draw of conductances", "low", low)
        if not (np.isfinite(high) and high >= low):
            raise InputError(f"a draw of conductances needs a finite high >= low = {low}; found high={high}")
        draw = np.random.default_rng([seed, 0]).uniform(np.log(low), np.log(high), len(self.edges))
        return Parameters({"g": np.exp(draw)})

    # --- dynamics ------------------------------------------------------------------------------------------------

    def force(self, current: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B N"]:
        """`tau I / C`: the force (volts per time constant) that a current I [A] into every node is."""
        return current * like(self._rates, current)

    def node_current(
        self, v: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Inexact[Array, "*T B N"]:
        """`-Q^T I(u)`: the current into every node, ampere; zero at an operating point."""
        total = 0.0
        for branches, law in self._elements(theta, v):
            total = total + branches.into_nodes(law.current(branches.across(v) + branches.driven(x, v)))
        return total

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        return self.force(self.node_current(z, x, theta))

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        total = 0.0
        for branches, y in self._conductances(z, x, theta):
            total = total + branches.into_nodes(y * branches.across(v))
        return self.force(total)

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        total, per_current = 0.0, self.force(a)
        for branches, y in self._conductances(z, x, theta):
            total = total + branches.gathered(y * branches.seen(per_current))
        return total

    def jacobian(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N N"]:
        """`-tau C^-1 Q^T diag(y) P`, written down. Cost: B K N^2."""
        return -like(self._rates, z)[:, None] * self.conductance_matrix(z, x, theta)

    def conductance_matrix(
        self, v: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "B N N"]:
        """`Q^T diag(y) P`, siemens: the small-signal conductances at v, diodes included."""
        total = namespace(v).zeros((*v.shape, self.units), dtype=v.dtype, device=v.device)
        for branches, y in self._conductances(v, x, theta):
            total = total + (like(branches.returns, v).T * y[..., None, :]) @ like(branches.nodes, v)
        return total

    def _conductances(self, z: Array, x: Array, theta: Parameters) -> Iterator[tuple[Branches, Array]]:
        """y of every branch at z."""
        for branches, law in self._elements(theta, z):
            yield branches, law.conductance(branches.across(z) + branches.driven(x, z))

    def linear_part(self, theta: Parameters) -> Float[Array, "N N"]:
        """`-tau C^-1 Q^T diag(g) P` of the resistors; what the sources drive and the diodes draw is the rest."""
        g = theta["g"]
        matrix = (like(self._resistors.returns, g).T * g) @ like(self._resistors.nodes, g)
        return -like(self._rates, g)[:, None] * matrix

    def diffusion(self, theta: Parameters) -> Float[Array, "N N"]:
        """The symmetric root of `B B^T = tau C^-1 Q^T diag(g) Q C^-1`: an independent source in every resistor.

        With current noise 4 kT g (one-sided) in parallel to each, so that a linear network without amplifiers has the
        covariance kT C^-1 whatever g is. Diodes and amplifiers are taken as noiseless. Source: Nyquist, Physical Review
        32:110 (1928).
        """
        g = theta["g"]
        xp = namespace(g)
        returns, C = like(self._resistors.returns, g), like(self.capacitances, g)
        values, vectors = xp.linalg.eigh((returns.T * g) @ returns / C / C[:, None])
        values = xp.clip(values, 0.0, None)  # below 0 by rounding only
        return vectors * xp.sqrt(self.time_constant * values) @ vectors.T

    # --- synapses ------------------------------------------------------------------------------------------------

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        xp, edges = namespace(post), self._resistors
        each = edges.seen(self.force(post)) * (edges.across(z) + edges.driven(x, z))
        each = xp.sum(xp.reshape(each, (-1, *each.shape[-2:])), axis=0)
        return Parameters({"g": each if per_sample else xp.sum(each, axis=0)})

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        """Empty: a conductance acts on the nodes at its two ends, which is no product of a gain and a presynaptic
        quantity."""
        return {}

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        if self.node_weights is None:
            return None
        return namespace(z).ones_like(z) * like(self.node_weights * self.capacitances / self.time_constant, z)

    def energy(self, v: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "*T B"]:
        """The co-content `sum_e w_e int_0^u_e I du` of every lane, watt; half the dissipated power where all is linear.

        Raises:
            InputError: the network is not reciprocal.
        """
        if self.node_weights is None:
            raise InputError("a network that is not reciprocal has no co-content: see the gains of its amplifiers")
        total = 0.0
        for branches, law in self._elements(theta, v):
            weights = like(branch_weights(branches, self.node_weights), v)
            stored = law.co_content(branches.across(v) + branches.driven(x, v))
            total = total + namespace(v).sum(weights * stored, axis=-1)
        return total

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        """`dE/dg_e = w_e u_e^2 / 2`, V^2, summed over the batch."""
        if self.node_weights is None:
            return None
        u = self._resistors.across(z) + self._resistors.driven(x, z)
        weights = like(branch_weights(self._resistors, self.node_weights), z)
        return Parameters({"g": weights * namespace(z).sum(u * u, axis=0) / 2.0})

    # --- states --------------------------------------------------------------------------------------------------

    def operating_point(
        self, x: Float[Array, "B M"], theta: Parameters, start: Float[Array, "B N"] | None = None
    ) -> Float[Array, "B N"]:
        """The DC solution, `node_current = 0`, by Newton's method; float64, NumPy.

        See `damped_newton`: less than 1e-12 A is left over at every node.

        Args:
            x: source voltages.
            theta: conductances.
            start: first guess; 0 V unless given.

        Raises:
            RangeError: a conductance is negative or not finite.
            InputError: a node is floating, since the conductances around it are zero; amplifiers cancel all
                conductances of a node; or no solution is found.

        Cost: one factorisation of [B, N, N] per step, about ten steps with diodes, two without.
        """
        g, x = np.asarray(theta["g"], float), np.asarray(x, float)
        if not (np.isfinite(g).all() and (g >= 0.0).all()):
            raise RangeError(
                f"conductances g must be >= 0 and finite; found values from {g.min():.3g} to {g.max():.3g}"
            )
        if floating := floating_nodes(self._resistors, g > 0.0):
            raise InputError(
                f"nodes {floating} are floating: no path of edges with g > 0 ties them to an input terminal or to "
                f"ground, so that the conductance matrix is singular"
            )
        theta = Parameters({"g": g})
        return damped_newton(
            lambda v: self.node_current(v, x, theta),
            lambda v: self.conductance_matrix(v, x, theta),
            np.zeros((len(x), self.units)) if start is None else np.array(start, float),
        )

    def stable_step(self, theta: Parameters, x: Float[Array, "B M"], v: Float[Array, "B N"]) -> float:
        """Largest eps at which Euler steps stay stable near v in all lanes: the least of `-2 Re(lambda) / |lambda|^2`
        over the eigenvalues of J, 2 / (largest rate) where they are real; 0 where v is itself unstable.

        Local: elsewhere a diode may conduct more. Cost: the eigenvalues of B matrices [N, N].
        """
        rates = np.linalg.eigvals(self.jacobian(np.asarray(v, float), np.asarray(x, float), theta))
        return max(float(np.min(-2.0 * rates.real / np.abs(rates) ** 2)), 0.0)

    # --- usual shapes --------------------------------------------------------------------------------------------

    @classmethod
    def layered(
        cls,
        sizes: tuple[int, ...],
        *,
        inputs: int,
        capacitance: float,
        diodes: DiodeLaw | None = None,
        amplification: float | None = None,
        current_gain: float | None = None,
        bias: tuple[int, ...] = (),
        time_constant: float = 1e-6,
    ) -> ResistiveNetwork:
        """Crossbar layers as in Kendall et al. (arXiv:2006.01981): every node of a layer is joined to every node of the
        next; the last layer is the output, units N - sizes[-1] .. N - 1.

        Args:
            sizes: nodes of every layer, the output's last.
            inputs: source terminals, joined to every node of the first layer.
            capacitance: of every node, farad.
            diodes: law of an antiparallel pair from every hidden node to ground; a threshold is its bias. None: linear.
            amplification: gain of the amplifier between a hidden node and the next layer; None: a plain wire.
            current_gain: see `Amplifier`.
            bias: indices of input terminals that are joined to every node of every layer.
            time_constant: second.

        Raises:
            InputError: no layer, an empty one, or a bias that is no input terminal; and as the class itself.
        """
        edges, hidden = crossbar(sizes, inputs=inputs, bias=bias, amplified=amplification is not None)
        return cls(
            units=sum(sizes),
            inputs=inputs,
            edges=edges,
            capacitance=capacitance,
            diodes=() if diodes is None else antiparallel(diodes, hidden),
            amplifiers=() if amplification is None else amplified(hidden, amplification, current_gain),
            time_constant=time_constant,
        )

    @classmethod
    def lattice(
        cls,
        height: int,
        width: int,
        *,
        sources: tuple[tuple[int, int], ...],
        outputs: tuple[tuple[int, int], ...] = (),
        capacitance: float,
        diodes: DiodeLaw | None = None,
        periodic: bool = False,
        time_constant: float = 1e-6,
    ) -> ResistiveNetwork:
        """A square lattice with a conductance between neighbours, as in Dillavou et al., Physical Review Applied
        18:014040 (2022). Sites are (row, column).

        Args:
            height, width: sites.
            sources: sites held by the input terminals, in their order.
            outputs: sites whose nodes come last, in this order: units N - len(outputs) .. N - 1. All other free sites
                are numbered row by row.
            capacitance: of every node, farad.
            diodes: law of an antiparallel pair from every node to ground; None: linear.
            periodic: whether opposite borders are neighbours (where they are more than two sites apart).
            time_constant: second.

        Raises:
            InputError: a chosen site that does not exist or is chosen twice; and as the class itself.
        """
        edges, units = square_lattice(height, width, sources=sources, outputs=outputs, periodic=periodic)
        return cls(
            units=units,
            inputs=len(sources),
            edges=edges,
            capacitance=capacitance,
            diodes=() if diodes is None else antiparallel(diodes, units),
            time_constant=time_constant,
        )
