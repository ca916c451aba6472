"""What an electrical network is made of: diode laws, amplifiers, and branches written as incidence matrices."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import BOLTZMANN, ELEMENTARY_CHARGE, ROOM_TEMPERATURE

GROUND = -1
"""The endpoint at 0 V."""
LINEAR_ABOVE = 60.0
"""Exponent above which a Shockley diode goes on linearly: exp(60) = 1e26 is finite in float32 and far above any
current that flows."""


class ElementLaw(ABC):
    """The current of a two-terminal element as a function of the voltage across it, elementwise."""

    analytic: ClassVar[bool] = False
    """Whether `current` takes complex voltages and is analytic in them."""

    @abstractmethod
    def current(self, v: Array) -> Array:
        """`I(v)`, ampere, from the first to the second terminal."""

    @abstractmethod
    def conductance(self, v: Array) -> Array:
        """`dI/dv`, siemens, >= 0."""

    @abstractmethod
    def co_content(self, v: Array) -> Array:
        """`int_0^v I dv'`, watt."""


class DiodeLaw(ElementLaw):
    """A fixed law, the same for all samples."""


@final
@dataclass(frozen=True, kw_only=True)
class Shockley(DiodeLaw):
    """`I(v) = Is (exp(v / nV_T) - 1)`, V_T = kT/q; above `v = 60 nV_T` it goes on linearly, value and slope continuous.

    Args:
        saturation_current: Is, ampere.
        ideality: n.
        temperature: T, kelvin.

    Raises:
        InputError: one is not positive and finite.

    Source: Shockley, Bell System Technical Journal 28:435 (1949).
    """

    analytic: ClassVar[bool] = True

    saturation_current: float = 1e-12
    ideality: float = 1.0
    temperature: float = ROOM_TEMPERATURE

    def __post_init__(self) -> None:
        for name in ("saturation_current", "ideality", "temperature"):
            require_positive("a Shockley diode", name, getattr(self, name))

    @property
    def knee(self) -> float:
        """`n kT/q`, volt: the current grows e-fold over it."""
        return self.ideality * BOLTZMANN * self.temperature / ELEMENTARY_CHARGE

    def current(self, v: Array) -> Array:
        xp = namespace(v)
        below, above = self._split(v)
        return self.saturation_current * (xp.expm1(below) + xp.exp(below) * above)

    def conductance(self, v: Array) -> Array:
        return self.saturation_current / self.knee * namespace(v).exp(self._split(v)[0])

    def co_content(self, v: Array) -> Array:
        xp = namespace(v)
        below, above = self._split(v)
        rise = xp.expm1(below)
        return self.saturation_current * self.knee * (rise - below + above * (rise + xp.exp(below) * above / 2.0))

    def _split(self, v: Array) -> tuple[Array, Array]:
        """The exponent up to the limit, and what lies beyond it."""
        xp, exponent = namespace(v), v / self.knee
        size = xp.real(exponent) if xp.isdtype(v.dtype, "complex floating") else exponent
        below = xp.where(size > LINEAR_ABOVE, LINEAR_ABOVE, exponent)
        return below, exponent - below


@final
@dataclass(frozen=True, kw_only=True)
class IdealDiode(DiodeLaw):
    """`I(v) = g max(v - threshold, 0)`: the ideal diode, which holds v at its threshold, in the limit g -> inf.

    Args:
        conductance_on: g, siemens.
        threshold: volt; of either sign (a negative one conducts at rest, like a diode behind a bias source).

    Raises:
        InputError: conductance_on is not positive and finite, or threshold is not finite.
    """

    conductance_on: float
    threshold: float = 0.0

    def __post_init__(self) -> None:
        require_positive("an ideal diode", "conductance_on", self.conductance_on)
        if not math.isfinite(self.threshold):
            raise InputError(f"an ideal diode needs a finite threshold; found threshold={self.threshold}")

    def current(self, v: Array) -> Array:
        return self.conductance_on * self._over(v)

    def conductance(self, v: Array) -> Array:
        return self.conductance_on * namespace(v).astype(v > self.threshold, v.dtype)

    def co_content(self, v: Array) -> Array:
        # relative to v = 0, where a diode with a negative threshold already conducts
        over, rest = self._over(v), max(-self.threshold, 0.0)
        return self.conductance_on * (over * over - rest * rest) / 2.0

    def _over(self, v: Array) -> Array:
        over = v - self.threshold
        return namespace(v).where(over < 0.0, 0.0, over)


@final
@dataclass(frozen=True)
class Ohm(ElementLaw):
    """`I(v) = g v`, one programmable conductance per branch."""

    analytic: ClassVar[bool] = True

    g: Inexact[Array, " E"]

    def current(self, v: Array) -> Array:
        return self.g * v

    def conductance(self, v: Array) -> Array:
        return self.g

    def co_content(self, v: Array) -> Array:
        return self.g * v * v / 2.0


@final
@dataclass(frozen=True, kw_only=True)
class Diode:
    """A diode between two endpoints; its current flows from anode to cathode.

    Args:
        anode, cathode: endpoint numbers.
        law: its current.
    """

    anode: int
    cathode: int
    law: DiodeLaw


@final
@dataclass(frozen=True, kw_only=True)
class Amplifier:
    """A bidirectional amplifier: a terminal at `gain * v_node`; a current I drawn there draws `current_gain * I` from
    the node.

    Args:
        node: number of the node that drives it.
        gain: voltage gain, not zero.
        current_gain: `gain` where None, which conserves power and leaves the network reciprocal; 0 is a buffer that
            loads its node with nothing. The hardware proposed for EP has `1 / gain`.

    Raises:
        InputError: gain is zero, or one of the two is not finite.

    Source: Kendall et al., arXiv:2006.01981.
    """

    node: int
    gain: float
    current_gain: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain != 0.0):
            raise InputError(f"an amplifier needs a finite gain other than 0; found gain={self.gain}")
        if not math.isfinite(self.reflected):
            raise InputError(f"an amplifier needs a finite current_gain; found current_gain={self.current_gain}")

    @property
    def reflected(self) -> float:
        """The current gain that applies."""
        return self.gain if self.current_gain is None else self.current_gain


@final
@dataclass(frozen=True, kw_only=True)
class Branches:
    """K branches of a circuit, each from a first to a second endpoint, as incidence matrices:

        u = P v + X x            voltage across, first minus second [K]
        i = -Q^T I               current into the nodes [N] when I flows in the branches

    P and Q differ only where an amplifier reflects currents otherwise than it multiplies voltages.

    Args:
        nodes: P, [K, N].
        terminals: X, [K, M].
        returns: Q, [K, N].
    """

    nodes: Float[Array, "K N"]
    terminals: Float[Array, "K M"]
    returns: Float[Array, "K N"]

    @classmethod
    def between(
        cls, ends: tuple[tuple[int, int], ...], units: int, inputs: int, amplifiers: tuple[Amplifier, ...]
    ) -> Branches:
        """The branches between endpoints: 0..N-1 nodes, then M terminals, then the amplifiers' outputs; -1 ground."""
        voltages = np.zeros((units + inputs + len(amplifiers) + 1, units + inputs))  # the last row, -1, is ground
        voltages[: units + inputs] = np.eye(units + inputs)
        currents = voltages.copy()
        for k, amplifier in enumerate(amplifiers):
            voltages[units + inputs + k, amplifier.node] = amplifier.gain
            currents[units + inputs + k, amplifier.node] = amplifier.reflected
        first, second = np.array(ends, int).reshape(-1, 2).T
        across = voltages[first] - voltages[second]
        back = currents[first] - currents[second]
        return cls(nodes=across[:, :units], terminals=across[:, units:], returns=back[:, :units])

    def across(self, v: Inexact[Array, "*T B N"]) -> Inexact[Array, "*T B K"]:
        """`P v`: what the nodes contribute to the voltage across."""
        return v @ like(self.nodes, v).T

    def driven(self, x: Float[Array, "B M"], v: Array) -> Inexact[Array, "B K"]:
        """`X x`: what the terminals contribute, in the precision of v."""
        return like(x, v) @ like(self.terminals, v).T

    def into_nodes(self, current: Inexact[Array, "*T B K"]) -> Inexact[Array, "*T B N"]:
        """`-Q^T I`."""
        return -(current @ like(self.returns, current))

    def seen(self, a: Float[Array, "*T B N"]) -> Float[Array, "*T B K"]:
        """`-Q a`, the adjoint of `into_nodes`."""
        return -(a @ like(self.returns, a).T)

    def gathered(self, a: Float[Array, "*T B K"]) -> Float[Array, "*T B N"]:
        """`P^T a`, the adjoint of `across`."""
        return a @ like(self.nodes, a)


def node_weights(branches: Branches) -> Float[Array, " N"] | None:
    """Positive factors s with `s_i Q_ki = w_k P_ki` in every branch, so that `diag(s) Q^T diag(y) P` is symmetric
    whatever the conductances y are; None where there are none.

    s is 1 at the lowest node of every connected part and follows along the branches between two nodes; it is 1 wherever
    voltages and currents are amplified alike.
    """
    P, Q = branches.nodes, branches.returns
    pairs = np.flatnonzero(np.count_nonzero(P, axis=1) == 2)
    beside: list[list[tuple[int, float]]] = [[] for _ in range(P.shape[1])]
    for k in pairs:
        i, j = (int(node) for node in np.flatnonzero(P[k]))
        back_i, back_j = Q[k, i] / P[k, i], Q[k, j] / P[k, j]
        if back_i * back_j <= 0.0:
            return None
        beside[i].append((j, back_i / back_j))
        beside[j].append((i, back_j / back_i))
    s = np.zeros(P.shape[1])
    for root in range(len(s)):
        if s[root] == 0.0:
            s[root], reached = 1.0, [root]
            while reached:
                i = reached.pop()
                for j, ratio in beside[i]:
                    if s[j] == 0.0:
                        s[j] = s[i] * ratio
                        reached.append(j)
    w = branch_weights(branches, s)
    missed = np.abs(s * Q - w[:, None] * P)[pairs]
    # products of gains along two ways round a loop agree to rounding
    return s if np.all(missed <= 1e-9 * np.abs(s * Q)[pairs]) else None


def branch_weights(branches: Branches, s: Float[Array, " N"]) -> Float[Array, " K"]:
    """w of every branch: the factor of its co-content. 1 where no node is at either end."""
    P, Q = branches.nodes, branches.returns
    size = np.sum(P * P, axis=1)
    return np.where(size > 0.0, np.sum(s * Q * P, axis=1) / np.where(size > 0.0, size, 1.0), 1.0)


def floating_nodes(branches: Branches, conducting: Bool[Array, " K"]) -> list[int]:
    """Nodes whose voltage no path of conducting branches ties to a terminal or to ground."""
    P, Q = (branches.nodes != 0.0)[conducting], (branches.returns != 0.0)[conducting]
    floating = np.ones(P.shape[1], bool)
    while floating.any():
        last = np.count_nonzero(P & floating, axis=1) == 1  # a branch that ties its one floating node to known voltages
        tied = floating & (P & Q)[last].any(axis=0)
        if not tied.any():
            break
        floating &= ~tied
    return [int(node) for node in np.flatnonzero(floating)]


def check_ends(name: str, ends: Iterable[tuple[int, int]], highest: int) -> None:
    """Refuse endpoints that do not exist and branches from one to itself."""
    for k, (a, b) in enumerate(ends):
        if not (GROUND <= a <= highest and GROUND <= b <= highest):
            raise InputError(
                f"{name}[{k}] joins ({a}, {b}); endpoints are 0 to {highest} (nodes, input terminals, outputs of "
                f"amplifiers) and {GROUND} for ground"
            )
        if a == b:
            raise InputError(f"{name}[{k}] joins endpoint {a} to itself; a branch needs two different endpoints")


def like(array: Array, other: Array) -> Array:
    """An array in the namespace, precision and place of another one."""
    if type(array) is type(other) and array.dtype == other.dtype and array.device == other.device:
        return array  # at every step of a settling, where asking for the namespace would cost more than the physics
    return namespace(other).asarray(array, dtype=other.dtype, device=other.device)


def require_positive(owner: str, name: str, value: float) -> None:
    """Refuse a value that is not positive and finite, naming the field."""
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"{owner} needs {name} > 0 and finite; found {name}={value}")
