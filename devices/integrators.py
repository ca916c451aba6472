"""How one step is made of the field: the deployed Euler map, and two closer to hardware that settles by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Bool, Float, Inexact

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.substrates.chip import DrawnSubstrate

Flow: TypeAlias = Callable[[Array], Array]
"""State [B, N] -> F + offset + force [B, N], without the rates."""
Noise: TypeAlias = Float[Array, " N"] | Float[Array, "N N"] | None
"""A root of the covariance rate D of white noise, `dz = ... + sqrt(2) root dW`: a diagonal, a matrix, or none."""


@dataclass(frozen=True, kw_only=True)
class Propagator:
    """One step as linear algebra, float64: `z + push (F + offset + force) + amplitude xi`.

    Args:
        push: [N] (eps times the rates, for Euler) or [N, N].
        amplitude: [N] or [N, N]; None without noise.
    """

    push: Float[Array, " N"] | Float[Array, "N N"]
    amplitude: Noise

    def pushed(self, flow: Inexact[Array, "B N"]) -> Inexact[Array, "B N"]:
        """`push flow` for every lane."""
        return _spread(self.push, flow)

    def transposed(self) -> Propagator:
        """That of the relaxation driven backwards."""
        return replace(self, push=self.push.T)

    def spread(self, xi: Float[Array, "B N"]) -> Float[Array, "B N"]:
        """`amplitude xi` for every lane."""
        return _spread(self.amplitude, xi)


def _spread(factor: Array, rows: Array) -> Array:
    factor = factor.astype(rows.dtype)
    return rows * factor if factor.ndim == 1 else rows @ factor.T


@dataclass(frozen=True)
class Integrator(ABC):
    """How a device goes from one state to the next.

    References and learning rules differentiate the Euler map at the same eps, which is the deployed computation of
    clocked and emulated hardware; for hardware in continuous time it is right to first order in eps.

    Args:
        eps: step, time constants.
    """

    eps: float = 0.1

    def __post_init__(self) -> None:
        if not (np.isfinite(self.eps) and self.eps > 0):
            raise InputError(f"an integrator needs a positive, finite step eps; found {self.eps}")

    def at(self, eps: float) -> Integrator:
        """The same with another step."""
        return replace(self, eps=eps)

    @abstractmethod
    def propagator(self, drawn: DrawnSubstrate, theta: Parameters, root: Noise) -> Propagator:
        """Push and noise amplitude for a chip.

        Args:
            drawn: the physics.
            theta: what is programmed.
            root: of the noise.

        Raises:
            InputError: the substrate does not offer what the integrator needs.
        """

    def step(
        self,
        z: Inexact[Array, "B N"],
        flow: Flow,
        propagator: Propagator,
        noise: Float[Array, "B N"] | float,
        slew: Float[Array, " N"] | None,
        within: Flow,
    ) -> tuple[Inexact[Array, "B N"], Bool[Array, " B"]]:
        """The next state before its rails, and the lanes in which the slew limit held a unit.

        Args:
            z: this state.
            flow: the field there.
            propagator: see `propagator`.
            noise: of this step, shared by all its stages.
            slew: [N] largest change of one step, or None.
            within: a state brought between its rails and clamps, for the states that a step looks at on its way.
        """
        change, held = _limited(propagator.pushed(flow(z)), slew)
        return z + change + noise, held


@final
@dataclass(frozen=True)
class Euler(Integrator):
    """`z + eps F(z) + sqrt(2 eps) root xi`: the deployed map Phi of clocked or emulated hardware.

    Weak and strong order 1 (the noise is additive: Kloeden and Platen, Numerical Solution of SDEs, 1992, section 10.3).
    It inflates the variance of a unit that leaks at rate 1 by 2 / (2 - eps), 5 % at eps = 0.1.
    """

    def propagator(self, drawn: DrawnSubstrate, theta: Parameters, root: Noise) -> Propagator:
        amplitude = None if root is None else np.sqrt(2.0 * self.eps) * root
        return Propagator(push=self.eps * drawn.chip.rate, amplitude=amplitude)


@final
@dataclass(frozen=True)
class Heun(Integrator):
    """`z~ = z + eps F(z) + noise`, `z + eps (F(z) + F(z~)) / 2 + noise`, the same noise in both.

    Order 2 without noise, strong order 1 and weak order 2 with additive noise (Kloeden and Platen, section 15.1). Cost:
    two fields per step.
    """

    def propagator(self, drawn: DrawnSubstrate, theta: Parameters, root: Noise) -> Propagator:
        return Euler(self.eps).propagator(drawn, theta, root)

    def step(
        self,
        z: Inexact[Array, "B N"],
        flow: Flow,
        propagator: Propagator,
        noise: Float[Array, "B N"] | float,
        slew: Float[Array, " N"] | None,
        within: Flow,
    ) -> tuple[Inexact[Array, "B N"], Bool[Array, " B"]]:
        first, held = _limited(propagator.pushed(flow(z)), slew)
        second, held_again = _limited(propagator.pushed(flow(within(z + first + noise))), slew)
        return z + (first + second) / 2.0 + noise, held | held_again


@final
@dataclass(frozen=True)
class Exponential(Integrator):
    """`z + M^-1 (e^{M eps} - 1) F(z) + noise`, with M the substrate's linear part and noise of the exact covariance

        Sigma = int_0^eps e^{M s} 2 D e^{M^T s} ds

    Exact in distribution at any eps where F is linear (the Ornstein-Uhlenbeck step: kT/C is kT/C); order 1 in what is
    not linear, and stable however stiff M is. Cost: a matrix exponential whenever parameters change where M is a
    matrix, and one more product per step.

    Sources: exponential Euler: Hochbruck and Ostermann, Acta Numerica 19:209 (2010), eq. 2.5; covariance: Van Loan,
    IEEE Trans. Autom. Control 23:395 (1978).
    """

    def propagator(self, drawn: DrawnSubstrate, theta: Parameters, root: Noise) -> Propagator:
        linear = drawn.linear_part(theta)
        if linear is None:
            raise InputError(
                f"{type(drawn.drawing).__name__} has no linear part, which exponential steps need: use Euler or Heun"
            )
        linear = np.asarray(host(linear), np.float64)
        if linear.ndim == 1 and (root is None or root.ndim == 1):
            decay = _phi(linear * self.eps) * self.eps
            amplitude = None if root is None else root * np.sqrt(2.0 * self.eps * _phi(2.0 * linear * self.eps))
            return Propagator(push=decay * drawn.chip.rate, amplitude=amplitude)
        matrix = np.diag(linear) if linear.ndim == 1 else linear
        push = _integrated_exponential(matrix, self.eps) * drawn.chip.rate[None, :]
        return Propagator(push=push, amplitude=None if root is None else _exact_noise(matrix, root, self.eps))


def _limited(change: Array, slew: Array | None) -> tuple[Array, Array]:
    if slew is None:
        return change, np.zeros(len(change), bool)
    held = np.clip(change, -slew, slew).astype(change.dtype)
    return held, (np.abs(change) > slew).any(axis=1)


def _phi(x: Float[Array, " N"]) -> Float[Array, " N"]:
    """`(e^x - 1) / x`, 1 at 0."""
    return np.where(x == 0.0, 1.0, np.expm1(x) / np.where(x == 0.0, 1.0, x))


def _integrated_exponential(matrix: Float[Array, "N N"], eps: float) -> Float[Array, "N N"]:
    """`int_0^eps e^{M s} ds`, also where M is singular, from one exponential of twice the size."""
    from scipy.linalg import expm

    size = len(matrix)
    block = np.zeros((2 * size, 2 * size))
    block[:size, :size], block[:size, size:] = matrix, np.eye(size)
    return expm(eps * block)[:size, size:]


def _exact_noise(matrix: Float[Array, "N N"], root: Array, eps: float) -> Float[Array, "N N"]:
    """A root of Sigma. Where M is stable, from its stationary covariance; else by Van Loan's block exponential."""
    from scipy.linalg import expm, solve_continuous_lyapunov

    root = np.diag(root) if root.ndim == 1 else root
    rate = 2.0 * root @ root.T
    size = len(matrix)
    if np.linalg.eigvals(matrix).real.max() < -1e-9 * np.abs(matrix).max():
        stationary, decay = solve_continuous_lyapunov(matrix, -rate), expm(eps * matrix)
        covariance = stationary - decay @ stationary @ decay.T
    else:
        block = np.zeros((2 * size, 2 * size))
        block[:size, :size], block[:size, size:], block[size:, size:] = -matrix, rate, matrix.T
        power = expm(eps * block)
        covariance = power[size:, size:].T @ power[:size, size:]
    return symmetric_root((covariance + covariance.T) / 2.0)


def symmetric_root(covariance: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """The symmetric R with `R R^T = covariance`; what rounding made negative is taken for 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
