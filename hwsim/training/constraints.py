"""Couplings that keep a leaky network well behaved by construction: hard bounds on its contraction.

All speak of `F = -z + W r(z) + U x + b` with slopes `0 <= r' <= s`, whose Jacobian is `J = -1 + W R`, R = diag r'(z).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.constraint import Constraint
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.substrates import Dense, LeakyNetwork
from hwsim.substrates.coupling import Coupling

START = 1e-2
"""Smallest singular value of A with which a monotone W starts: where A is 0 no gradient would ever move it."""

_Bound = TypeVar("_Bound", bound="_Coupled")


@dataclass(frozen=True, kw_only=True)
class _Coupled(Constraint):
    """A constraint on the couplings W of a leaky network.

    Args:
        coupling: of the network: how the block becomes W.
        margin: m, in (0, 1): rate that is kept, per time constant.
        steepest: s, the largest slope of the nonlinearity.
        block: name of the parameter block.

    Raises:
        InputError: margin or steepest out of range, or a coupling that cannot be bounded like this.
    """

    coupling: Coupling
    margin: float
    steepest: float = 1.0
    block: str = "W"

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 0.0 < self.margin < 1.0:
            raise InputError(
                f"{name} needs a margin in (0, 1), per time constant: at 1 the units only leak; found {self.margin}"
            )
        if not (math.isfinite(self.steepest) and self.steepest > 0.0):
            raise InputError(f"{name} needs the largest slope of r, steepest > 0 and finite; found {self.steepest}")
        if (demand := self._demand()) is not None:
            raise InputError(f"{name} needs {demand}; found {self.coupling}")

    @classmethod
    def of(cls: type[_Bound], network: LeakyNetwork, margin: float) -> _Bound:
        """The constraint for a leaky network.

        Raises:
            InputError: another substrate: the bounds are those of the leaky network's Jacobian.
        """
        if not isinstance(network, LeakyNetwork):
            raise InputError(
                f"{cls.__name__} bounds -1 + W R, the Jacobian of a LeakyNetwork; found {type(network).__name__}"
            )
        return cls(
            coupling=network.coupling,
            margin=margin,
            steepest=network.nonlinearity.steepest,
            block=network.between,
        )

    @property
    def limit(self) -> float:
        """(1 - m) / s."""
        return (1.0 - self.margin) / self.steepest

    def _demand(self) -> str | None:
        """What the coupling lacks, in words."""
        return None

    def _couplings(self, theta: Parameters) -> Array:
        block = theta.get(self.block)
        if block is None or tuple(block.shape) != self.coupling.shape:
            found = f"{sorted(theta)}" if block is None else f"shape {list(block.shape)}"
            raise InputError(
                f"{type(self).__name__} bounds block {self.block} of shape {list(self.coupling.shape)}; found {found}"
            )
        return np.asarray(block, np.float64)


@final
@dataclass(frozen=True, kw_only=True)
class RowBound(_Coupled):
    """`W_ij = A_ij min(1, L / sum_j |A_ij|)` with `L = (1 - m) / s`, row by row. phi holds A in the block of W.

    Then `mu_inf(J) <= -1 + s max_i sum_j |W_ij| <= -m` at every state, and one step obeys
    `|1 + eps J|_inf <= 1 - eps m` for every eps <= 1: trajectories under the same inputs and noise approach each other
    in the maximum norm by at least that factor per step, `exp(-m t)` in continuous time. The weakest-coupled rows are
    left alone. No rule need know of it.

    Every row has its own factor, so each parameter must belong to one row: couplings that share none.

    Source: Lohmiller and Slotine, Automatica 34:683 (1998); matrix measures: Desoer and Vidyasagar, Feedback Systems
    (1975). Cost: one pass over W each way.
    """

    def _demand(self) -> str | None:
        shared = self.coupling.reciprocal or self.coupling.unshared() is not self.coupling
        return "couplings that share no parameter between rows, such as Dense; take SpectralBound" if shared else None

    def free(self, theta: Parameters) -> Parameters:
        self._couplings(theta)
        return self.theta(theta)

    def theta(self, phi: Parameters) -> Parameters:
        couplings = self._couplings(phi)
        rows = self._rows()
        return phi | {self.block: couplings * self._factors(self._sums(rows, abs(couplings)))[rows]}

    def pull_back(self, phi: Parameters, gradients: Parameters) -> Parameters:
        couplings, gradient = self._couplings(phi), np.asarray(gradients[self.block], np.float64)
        rows = self._rows()
        size = self._sums(rows, abs(couplings))
        factors = self._factors(size)
        along = self._sums(rows, gradient * couplings)
        bound = size > self.limit
        shrink = np.where(bound, factors * along / np.where(bound, size, 1.0), 0.0)
        return gradients | {self.block: factors[rows] * gradient - shrink[rows] * np.sign(couplings)}

    def _rows(self) -> Array:
        """The post-synaptic unit of every parameter: the credit of `post_i = i` and `pre = 1`."""
        units = np.arange(float(self.coupling.units))[None]
        return np.rint(self.coupling.credit(units, np.ones_like(units), per_sample=False)).astype(np.int64)

    def _sums(self, rows: Array, values: Array) -> Float[Array, " N"]:
        return np.bincount(rows.ravel(), weights=values.ravel(), minlength=self.coupling.units)

    def _factors(self, size: Float[Array, " N"]) -> Float[Array, " N"]:
        return np.where(size > self.limit, self.limit / np.maximum(size, self.limit), 1.0)


@dataclass(frozen=True, kw_only=True)
class _Rescaled(_Coupled):
    """`W = A min(1, L / sigma(A))` with a size sigma that is linear in the scale of A; any coupling will do."""

    @abstractmethod
    def _size(self, couplings: Array) -> tuple[float, Float[Array, "1 N"], Float[Array, "1 N"]]:
        """sigma(A) and the unit vectors with `d sigma = u^T dA v`."""

    def free(self, theta: Parameters) -> Parameters:
        self._couplings(theta)
        return self.theta(theta)

    def theta(self, phi: Parameters) -> Parameters:
        couplings = self._couplings(phi)
        size, _, _ = self._size(couplings)
        return phi | {self.block: couplings * (self.limit / size) if size > self.limit else couplings}

    def pull_back(self, phi: Parameters, gradients: Parameters) -> Parameters:
        couplings, gradient = self._couplings(phi), np.asarray(gradients[self.block], np.float64)
        size, u, v = self._size(couplings)
        if size <= self.limit:
            return gradients
        slope = self.coupling.credit(u, v, per_sample=False)
        along = float(np.sum(gradient * couplings)) / size
        return gradients | {self.block: (self.limit / size) * (gradient - along * slope)}


@final
@dataclass(frozen=True, kw_only=True)
class SpectralBound(_Rescaled):
    """`W = A min(1, L / |A|_2)` with `L = (1 - m) / s`: the spectral norm of W stays at or below L. phi holds A.

    Then `mu_2(J) <= -1 + |W R|_2 <= -m` at every state, and one step obeys `|1 + eps J|_2 <= 1 - eps m` for every
    eps <= 1: trajectories under the same inputs and noise approach each other in Euclidean distance by at least that
    factor per step, `exp(-m t)` in continuous time. Any coupling: the whole block is scaled.

    The gradient goes through the largest singular value, `d sigma = u^T dA v`. Where it is not alone the derivative is
    that of one of them (a subgradient).

    Source: Lohmiller and Slotine, Automatica 34:683 (1998). Cost: one singular value decomposition of [N, N] each way.
    """

    def _size(self, couplings: Array) -> tuple[float, Float[Array, "1 N"], Float[Array, "1 N"]]:
        u, sizes, v = np.linalg.svd(np.asarray(self.coupling.matrix(couplings)))
        return float(sizes[0]), u[None, :, 0], v[None, 0]


@final
@dataclass(frozen=True, kw_only=True)
class SymmetricBound(_Rescaled):
    """`W = A min(1, L / lambda_max(A))` with `L = (1 - m) / s`, W = W^T: only excitation is bounded. phi holds A.

    Weaker than `SpectralBound`, and enough for one minimum. What holds for a leaky network with r' > 0:

    - J is similar to `-1 + R^1/2 W R^1/2`, so that all its eigenvalues are at most -m at every state: the log-norm in
      the metric R, held at that state (`log_norm(..., weights=sqrt(r'))`), is at most -m;
    - the energy as a function of r has the Hessian `R^-1 - W >= m / s`: strictly convex, with one equilibrium, to which
      every trajectory flows in continuous time.

    No Euclidean contraction: inhibition may be as strong as it likes, and `mu_2(-1 + W R)` positive. A step needs
    eps below 2 / (1 + s |lambda_min(W)|). An `EnergyNetwork` has `J <= -1 + s (1 - m) + diag(r'' h)` under the same
    bound: -m where r is linear, and nothing certain where the drive h bends it.

    Cost: one symmetric eigenvalue decomposition of [N, N] each way.
    """

    def _demand(self) -> str | None:
        return None if self.coupling.reciprocal else "reciprocal couplings, such as Reciprocal"

    def _size(self, couplings: Array) -> tuple[float, Float[Array, "1 N"], Float[Array, "1 N"]]:
        sizes, vectors = np.linalg.eigh(np.asarray(self.coupling.matrix(couplings)))
        return float(sizes[-1]), vectors[None, :, -1], vectors[None, :, -1]


@final
@dataclass(frozen=True, kw_only=True)
class MonotoneDEQ(_Coupled):
    """`s W = (1 - m) 1 - A^T A + B - B^T`, from free blocks "W.A" and "W.B" [N, N]: a monotone operator equilibrium.

    All W with `1 - s (W + W^T) / 2 >= m`, and no others. Then `z = W r(z) + h` has exactly one solution for every h (r
    increasing), and J is similar to `-1 + R^1/2 W R^1/2`, whose symmetric part is at most -m: the equilibrium is
    locally stable at that rate in continuous time.

    It is *not* a Euclidean contraction of the leaky flow: `B - B^T` may be as large as it likes, and `mu_2(-1 + W R)`
    positive (report `log_norm`, do not assume it). Where it is, nearby trajectories may part before they meet. A step
    needs eps < 2 m / (m^2 + k^2) where the antisymmetric part of s W has norm k, about.

    Training starts from the monotone W nearest to the one given, with the singular values of A at least 0.01.

    Source: Winston and Kolter, arXiv:2006.08591, proposition 1 (for s = 1). Cost: 2 N^3 multiply-adds each way.
    """

    def _demand(self) -> str | None:
        return None if isinstance(self.coupling, Dense) else "couplings between all units (Dense)"

    @property
    def names(self) -> tuple[str, str]:
        """The free blocks."""
        return f"{self.block}.A", f"{self.block}.B"

    def free(self, theta: Parameters) -> Parameters:
        scaled = self.steepest * self._couplings(theta)
        sizes, vectors = np.linalg.eigh((1.0 - self.margin) * np.eye(len(scaled)) - (scaled + scaled.T) / 2.0)
        root = (vectors * np.sqrt(np.maximum(sizes, START**2))) @ vectors.T
        first, second = self.names
        frozen = theta.frozen - {self.block} | ({first, second} if self.block in theta.frozen else set())
        rest = {name: block for name, block in theta.items() if name != self.block}
        return Parameters({first: root, second: (scaled - scaled.T) / 4.0, **rest}, frozen=frozen)

    def theta(self, phi: Parameters) -> Parameters:
        first, second = self._pair(phi)
        sum_ = (1.0 - self.margin) * np.eye(len(first)) - first.T @ first + second - second.T
        names = set(self.names)
        frozen = phi.frozen - names | ({self.block} if names <= phi.frozen else set())
        rest = {name: block for name, block in phi.items() if name not in names}
        return Parameters({self.block: sum_ / self.steepest, **rest}, frozen=frozen)

    def pull_back(self, phi: Parameters, gradients: Parameters) -> Parameters:
        first, _ = self._pair(phi)
        gradient = self._couplings(gradients) / self.steepest
        name_a, name_b = self.names
        rest = {name: block for name, block in gradients.items() if name != self.block}
        return Parameters(
            {name_a: -first @ (gradient + gradient.T), name_b: gradient - gradient.T, **rest}, frozen=phi.frozen
        )

    def _pair(self, phi: Parameters) -> tuple[Array, Array]:
        if missing := set(self.names) - phi.keys():
            raise InputError(f"MonotoneDEQ makes {self.block} of {list(self.names)}; phi lacks {sorted(missing)}")
        first, second = (np.asarray(phi[name], np.float64) for name in self.names)
        return first, second
