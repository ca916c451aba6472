"""Substrates as arrays for the compiled kernels: what stays the same while a phase runs, computed once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.threads import one_blas_thread
from hwsim.substrates.circuit import Branches, DiodeLaw, IdealDiode, Shockley
from hwsim.substrates.coupled import Driven
from hwsim.substrates.energy import EnergyNetwork
from hwsim.substrates.langevin import LinearLangevin
from hwsim.substrates.leaky import LeakyNetwork
from hwsim.substrates.nonlinearity import Identity, Nonlinearity
from hwsim.substrates.oscillator import OscillatorNetwork
from hwsim.substrates.resistive import ResistiveNetwork

from .drives import Drives

TILE = 64
"""Lanes over which constant terms are taken at a time, or fewer (`equal_rows`)."""
SPARSE = 0.1
"""Share of couplings that exist up to which they are taken one by one."""
BANDED, BANDED_UNITS = 3.0, 4096
"""How many entries of a panel, most of them zero, cost as much as one that is taken by itself; and the most units of
which a whole matrix is laid out for that."""
_INDEX = np.dtype(np.int64)


def constant(array: Array, dtype: np.dtype[Any]) -> Array:
    """An array as kernels want it: contiguous, read-only, in their precision."""
    flags = array.flags
    if flags.c_contiguous and not flags.writeable and array.dtype == dtype:
        return array
    found = np.ascontiguousarray(array, dtype).view()
    found.flags.writeable = False
    return found


@cache
def nothing(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array without entries, for what is not there."""
    return constant(np.empty(shape), dtype)


@dataclass(frozen=True, kw_only=True)
class Plant(ABC):
    """A substrate with its real parameters as arrays for one kernel.

    Args:
        theta: real parameters.
        dtype: of all arrays.
    """

    theta: Parameters
    dtype: np.dtype[Any]

    @property
    @abstractmethod
    def kernel(self) -> Callable[..., None]:
        """What relaxes a tile of lanes."""

    @abstractmethod
    def steady(self, x: Float[Array, "B M"]) -> Float[Array, "L N"]:
        """The constant part of the field that `net` leaves out."""

    @abstractmethod
    def net(self, x: Float[Array, "B M"], at: Float[Array, "B N"] | None) -> tuple[Any, ...] | None:
        """The rest of the field, corrected around `at`; None where the kernel cannot correct."""

    def response(self, x: Float[Array, "B M"], at: Float[Array, "K B N"]) -> tuple[Any, ...] | None:
        """The transposed linear response along K states, or around one; None where there is no kernel for it."""
        return None

    def _array(self, array: Array) -> Array:
        return constant(array, self.dtype)

    def _laid_out(self, matrix: Array) -> Any:
        """A matrix as kernels multiply by it."""
        from hwsim.kernels import dense_weights

        return dense_weights(np.asarray(matrix, self.dtype))

    def _product(self, rows: Array, weights: Any) -> Array:
        """`rows W^T`, the same bits for equal rows."""
        from hwsim.kernels import product

        return product(self._array(rows), weights)

    @one_blas_thread()
    def _constant(self, of: Callable[[Array], Array], x: Float[Array, "B M"]) -> Float[Array, "B N"]:
        """`of(x)`, the same bits for equal lanes wherever they lie in the batch: a BLAS may sum other rows, and other
        numbers of rows, in other orders, and lanes that are twins must not differ."""
        if len(x) == 0:
            return self._array(of(x))
        group = equal_rows(self.dtype)
        whole = np.zeros((-(-len(x) // group) * group, x.shape[1]), self.dtype)
        whole[: len(x)] = x
        parts = [of(whole[first : first + group]) for first in range(0, len(whole), group)]
        return self._array(np.concatenate(parts)[: len(x)])


@final
@dataclass(frozen=True, kw_only=True)
class Network(Plant):
    """`-leak z + W r(z) + drive`, or with `gradient` `-leak z + r'(z) (W r(z) + drive)`.

    Args:
        physics: gives the drive `U x + b`.
        block: what programs the couplings.
        nonlinearity: r.
        sign: of the couplings.
        leak: 1 or 0.
        gradient: see above.
    """

    physics: Driven
    block: Array
    nonlinearity: Nonlinearity
    sign: float = 1.0
    leak: float = 1.0
    gradient: bool = False

    @classmethod
    def leaky(cls, physics: LeakyNetwork, theta: Parameters, dtype: np.dtype[Any]) -> Network:
        return cls(theta=theta, dtype=dtype, physics=physics, block=theta["W"], nonlinearity=physics.nonlinearity)

    @classmethod
    def energy(cls, physics: EnergyNetwork, theta: Parameters, dtype: np.dtype[Any]) -> Network:
        W, r = theta["W"], physics.nonlinearity
        return cls(theta=theta, dtype=dtype, physics=physics, block=W, nonlinearity=r, gradient=True)

    @classmethod
    def linear(cls, physics: LinearLangevin, theta: Parameters, dtype: np.dtype[Any]) -> Network:
        A, r = theta["A"], Identity()
        return cls(theta=theta, dtype=dtype, physics=physics, block=A, nonlinearity=r, sign=-1.0, leak=0.0)

    @property
    def kernel(self) -> Callable[..., None]:
        from hwsim.kernels import relax_coupled

        return relax_coupled

    @cached_property
    @one_blas_thread()
    def _matrix(self) -> Float[Array, "N N"]:
        return self._array(self.sign * self.physics.coupling.matrix(self.block))

    @cached_property
    def _entries(self) -> tuple[Array, Array, Array] | None:
        """(post, pre, value) of W where to multiply by these pays, one by one or in bands."""
        found = self.physics.coupling.entries(self.block)
        if found is None or not (self._banded or len(found[0]) <= SPARSE * self.physics.units**2):
            return None
        return found[0], found[1], self._array(self.sign * found[2])

    @cached_property
    def _banded(self) -> bool:
        """Whether what W holds lies close together, as between layers, so that bands of it are faster than entries."""
        from hwsim.kernels import banded_entries

        units = self.physics.units
        found = None if units > BANDED_UNITS else self.physics.coupling.entries(self.block)
        if found is None:
            return False
        done = banded_entries(units, found[0], found[1], self.dtype.itemsize)
        return done <= BANDED * len(found[0]) and done <= units**2 / 2

    @cached_property
    def _weights(self) -> Any:
        """W for the kernel."""
        if self._entries is None:
            return self._laid_out(self._matrix)
        return self._listed(*self._entries)

    @cached_property
    def _dense(self) -> Any:
        """W for a product."""
        return self._weights if len(self._weights.panels) else self._laid_out(self._matrix)

    @cached_property
    def _transposed(self) -> Any:
        """W^T for the kernel."""
        if self._entries is None:
            return self._laid_out(self._matrix.T)
        post, pre, value = self._entries
        return self._listed(pre, post, value)

    @cached_property
    def _skew(self) -> Any:
        """W^T - W for the kernel."""
        if self._entries is None:
            return self._laid_out(self._matrix.T - self._matrix)
        post, pre, value = self._entries
        both = np.concatenate([pre, post]), np.concatenate([post, pre]), np.concatenate([value, -value])
        return self._listed(*both)

    def _listed(self, post: Array, pre: Array, value: Array) -> Any:
        from hwsim.kernels import banded_weights, sparse_weights

        lay_out = banded_weights if self._banded else sparse_weights
        return lay_out(self.physics.units, post, pre, value)

    @cached_property
    def _drives(self) -> Drives:
        return Drives()

    def _drive(self, x: Array) -> Array:
        def fresh(x: Array) -> Array:
            U, units = np.asarray(self.theta["U"], self.dtype), self.physics.units
            if self._drives.empty and len(x) < units:  # x is the smaller one to lay out, and the sums are the same
                flow = self._product(U, self._laid_out(x))[:, : len(x)].T
            else:
                flow = self._product(x, self._inputs)[:, :units]
            return self._array(flow + self.theta["b"])

        return self._array(self._drives.of(x, fresh))

    @cached_property
    def _none(self) -> Float[Array, "1 N"]:
        return self._array(np.zeros((1, self.physics.units)))

    @cached_property
    def _inputs(self) -> Any:
        """U for the kernel."""
        return self._laid_out(self.theta["U"])

    def steady(self, x: Float[Array, "B M"]) -> Float[Array, "L N"]:
        return self._none if self.gradient else self._drive(x)

    @cached_property
    def _net(self) -> Any:
        """The couplings alone."""
        from hwsim.kernels import Coupled, no_weights

        none = nothing((0, 0), self.dtype)
        return Coupled(
            weights=self._weights,
            drive=none,
            nonlinearity=self.nonlinearity.code,
            leak=self.leak,
            gradient=self.gradient,
            at=none,
            gain=none,
            back=no_weights(self.dtype),
        )

    def net(self, x: Float[Array, "B M"], at: Float[Array, "B N"] | None) -> tuple[Any, ...] | None:
        net = self._net
        if self.gradient:
            net = net._replace(drive=self._drive(x))
        if at is None:
            return net
        at = self._array(at)
        back = self._skew if self.gradient else self._transposed
        return net._replace(at=at, gain=self._array(self.nonlinearity.slope(at)), back=back)

    def response(self, x: Float[Array, "B M"], at: Float[Array, "K B N"]) -> tuple[Any, ...] | None:
        from hwsim.kernels import Response

        slope = self._array(self.nonlinearity.slope(at))
        leak = self._array(np.full((1, 1, self.physics.units), -self.leak))
        if self.gradient:
            rates = self.nonlinearity(at)
            inflow = self._product(rates.reshape(-1, self.physics.units), self._dense)[:, : self.physics.units]
            leak = self._array(self.nonlinearity.curvature(at) * (inflow.reshape(at.shape) + self._drive(x)) + leak)
        pre = slope if self.gradient else nothing((0, 0, 0), self.dtype)
        return Response(weights=self._transposed, post=slope, diagonal=leak, pre=pre)


@final
@dataclass(frozen=True, kw_only=True)
class Phases(Plant):
    """An oscillator network.

    Args:
        physics: its locking and its coupling.
    """

    physics: OscillatorNetwork

    @classmethod
    def of(cls, physics: OscillatorNetwork, theta: Parameters, dtype: np.dtype[Any]) -> Phases:
        return cls(theta=theta, dtype=dtype, physics=physics)

    @property
    def kernel(self) -> Callable[..., None]:
        from hwsim.kernels import relax_oscillators

        return relax_oscillators

    @cached_property
    def _weights(self) -> Any:
        return self._laid_out(self.physics.coupling.matrix(self.theta["K"]))

    @cached_property
    def _references(self) -> Any:
        """H for the kernel."""
        return self._laid_out(self.theta["H"])

    def steady(self, x: Float[Array, "B M"]) -> Float[Array, "L N"]:
        return self._array(self.theta["omega"][None])

    def net(self, x: Float[Array, "B M"], at: Float[Array, "B N"] | None) -> tuple[Any, ...] | None:
        from hwsim.kernels import Oscillators

        if at is not None:
            return None
        return Oscillators(
            weights=self._weights,
            across=self._array(self._product(np.sin(x), self._references)[:, : self.physics.units]),
            along=self._array(self._product(np.cos(x), self._references)[:, : self.physics.units]),
            locking=self.physics.locking,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Nodes(Plant):
    """A resistive network: its linear part is a matrix, its diodes are evaluated one by one.

    Args:
        physics: the circuit.
        linear: the same without diodes.
    """

    physics: ResistiveNetwork
    linear: ResistiveNetwork

    @classmethod
    def of(cls, physics: ResistiveNetwork, theta: Parameters, dtype: np.dtype[Any]) -> Nodes:
        return cls(theta=theta, dtype=dtype, physics=physics, linear=replace(physics, diodes=()))

    @property
    def kernel(self) -> Callable[..., None]:
        from hwsim.kernels import relax_circuit

        return relax_circuit

    @cached_property
    @one_blas_thread()
    def _weights(self) -> Any:
        return self._laid_out(self.physics.linear_part(self.theta))

    @cached_property
    def _laws(self) -> tuple[DiodeLaw, ...]:
        return tuple(dict.fromkeys(diode.law for diode in self.physics.diodes))

    @cached_property
    def _branches(self) -> Branches:
        """The diodes, those of a law together."""
        network = self.physics
        ends = tuple((d.anode, d.cathode) for law in self._laws for d in network.diodes if d.law == law)
        return Branches.between(ends, network.units, network.inputs, network.amplifiers)

    @cached_property
    def _diodes(self) -> dict[str, Array]:
        """All that the kernel wants to know of the diodes but their bias."""
        from hwsim.kernels import IDEAL, SHOCKLEY

        P, Q = self._branches.nodes, -self.physics.force(self._branches.returns)
        ends = np.zeros((2, len(P)), np.int64)
        factors = np.zeros((2, 2, len(P)))
        for d, touched in enumerate((P != 0.0) | (Q != 0.0)):
            for place, node in enumerate(np.flatnonzero(touched)):
                ends[place, d] = node
                factors[:, place, d] = P[d, node], Q[d, node]
        counts = [sum(diode.law == law for diode in self.physics.diodes) for law in self._laws]
        parameters = [
            (law.saturation_current, law.knee) if isinstance(law, Shockley) else (law.conductance_on, law.threshold)
            for law in self._laws
            if isinstance(law, Shockley | IdealDiode)
        ]
        return {
            "ends": constant(ends, _INDEX),
            "gain": self._array(factors[0]),
            "into": self._array(factors[1]),
            "until": constant(np.cumsum(counts), _INDEX),
            "law": constant(np.array([SHOCKLEY if isinstance(law, Shockley) else IDEAL for law in self._laws]), _INDEX),
            "parameters": self._array(np.array(parameters).reshape(-1, 2)),
        }

    def steady(self, x: Float[Array, "B M"]) -> Float[Array, "L N"]:
        zero = np.zeros((1, self.physics.units), self.dtype)
        return self._constant(lambda part: self.linear.field(np.repeat(zero, len(part), axis=0), part, self.theta), x)

    def net(self, x: Float[Array, "B M"], at: Float[Array, "B N"] | None) -> tuple[Any, ...] | None:
        from hwsim.kernels import Circuit

        if at is not None:
            return None
        bias = self._constant(lambda part: self._branches.driven(part, part), x)
        return Circuit(weights=self._weights, bias=bias, **self._diodes)


@cache
def equal_rows(dtype: np.dtype[Any]) -> int:
    """The most rows, up to a tile, over which NumPy's BLAS gives equal rows of a product equal bits on this machine."""
    draw = np.random.default_rng(0)
    for rows in (TILE, 8, 4):
        alike = True
        for units in (5, 17, 64, 100):
            left = np.repeat(draw.standard_normal((1, units)).astype(dtype), rows, axis=0)
            out = left @ draw.standard_normal((37, units)).astype(dtype).T
            alike = alike and bool((out == out[0]).all())
        if alike:
            return rows
    return 1


PLANTS: dict[type[Substrate], Callable[[Any, Parameters, np.dtype[Any]], Plant]] = {
    LeakyNetwork: Network.leaky,
    EnergyNetwork: Network.energy,
    LinearLangevin: Network.linear,
    OscillatorNetwork: Phases.of,
    ResistiveNetwork: Nodes.of,
}
"""Substrate -> the plant that its kernel runs."""
