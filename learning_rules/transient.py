"""What a unit keeps of the transient z_0 .. z_T that it went through."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Needs

MOST_DEGREE = 3
"""Highest degree of the polynomials between records: beyond it noise is amplified more than smooth motion gains."""


class Transient(ABC):
    """A memory of one settling, per unit and without any per synapse, and how the settling is told from it.

    The first state is as it was recorded, the last as it was read when the settling ended.
    """

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """How the settling must be recorded."""

    @property
    @abstractmethod
    def every(self) -> int:
        """Steps between two records of a probe that goes with it."""

    @abstractmethod
    def recall(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int, step_size: float
    ) -> Float[Array, "T1 B N"]:
        """The settling as it is remembered.

        Args:
            states: recorded from the first state on, every `needs.record`-th or more often (every divisor of it will
                do, which is what a sum of rules records).
            final: the last state.
            steps: T.
            step_size: eps.

        Raises:
            InputError: another recording.
        """

    @abstractmethod
    def respond(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int
    ) -> Float[Array, "T1 B N"]:
        """The response of a probe of `steps` steps, recorded every `every`-th step, as it is remembered."""


@final
@dataclass(frozen=True, kw_only=True)
class Whole(Transient):
    """Every state. Memory: T numbers per unit, and T more for the response."""

    @property
    def needs(self) -> Needs:
        return Needs(record=1)

    @property
    def every(self) -> int:
        return 1

    def recall(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int, step_size: float
    ) -> Float[Array, "T1 B N"]:
        return _all_of(self, states, steps)

    def respond(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int
    ) -> Float[Array, "T1 B N"]:
        return _all_of(self, states, steps)


@final
@dataclass(frozen=True, kw_only=True)
class Decimated(Transient):
    """Every `every`-th state and the last one; those in between on the polynomial through the records nearest to them.

    Of the degree d + 1 records around a state are used (all of them where there are fewer), the last state among them
    at its own time T, which need not be a multiple of `every`. The interpolation errs as every^(d + 1) while `every` is
    short against what happens. The response of a probe is recorded and filled in alike. Memory: T / every numbers per
    unit for each of the two, and as many reads.

    Args:
        every: steps between records.
        degree: d; 1 joins the records by straight lines.

    Raises:
        InputError: every below 1, or a degree out of 0 .. 3.

    A task that looks at states before z_T needs them all, so that a rule with this memory cannot serve it.
    """

    every: int = 2
    degree: int = 3

    def __post_init__(self) -> None:
        whole("Decimated", "every", self.every, least=1)
        whole("Decimated", "degree", self.degree, least=0)
        if self.degree > MOST_DEGREE:
            raise InputError(f"Decimated needs a degree of at most {MOST_DEGREE}; found {self.degree}")

    @property
    def needs(self) -> Needs:
        return Needs(record=self.every, final_loss=True)

    def recall(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int, step_size: float
    ) -> Float[Array, "T1 B N"]:
        return self._filled(states[:: self._stride(len(states), steps)], final, steps)

    def respond(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int
    ) -> Float[Array, "T1 B N"]:
        return self._filled(states, final, steps)

    def _stride(self, count: int, steps: int) -> int:
        """How many records lie between two that are wanted: recordings of two divisors differ in their length."""
        for apart in range(self.every, 0, -1):
            if self.every % apart == 0 and count == 1 + steps // apart:
                return self.every // apart
        raise InputError(
            f"Decimated({self.every}) needs a settling of {steps} steps recorded every {self.every} steps (or a "
            f"divisor of that); found {count} states"
        )

    def _filled(self, records: Array, final: Array, steps: int) -> Array:
        xp = namespace(final)
        times = [*range(0, steps, self.every), steps]
        records = xp.concat([records[: len(times) - 1], final[None]])
        weights = interpolation(times, self.degree)
        return _mixed(weights, records)


@final
@dataclass(frozen=True, kw_only=True)
class LowPass(Transient):
    """M low-pass traces per unit, which end with the settling, and the state z_T in which it ended:

        tau_m  = sum_{k=0}^{T-1} lambda_m^{T-1-k} (z_k - z_T),    lambda_m = exp(-eps rate_m)
        z_k   ~= z_T + sum_m a_m lambda_m^{T-1-k},                (G + ridge tr(G) / M) a = tau,
        G_mn   = sum_k (lambda_m lambda_n)^{T-1-k}

    (a trace of z runs as `tau <- lambda tau + z`; what z_T adds to it is a known multiple of z_T). Without the ridge
    this is the least-squares projection of the transient on the span of the lambda_m^{T-1-k}. These are shapes of a
    kick *response* played backwards rather than of the transient itself, and that is what makes few of them enough:
    `sum_k h_{T-1-k} z_k` depends on the traces alone where h is a sum of decays `lambda_m^j`, whatever z is. For
    synapses that are linear in z a response in the span loses nothing; its own memory may then be M traces as well and
    its plain sum, so that it is not compressed here. Memory: M numbers per unit in place of T.

    Here the traces are worked out from a recording, in full precision. The Gram matrix of rates that lie close together
    is nearly singular: `ridge` bounds by about 1 / ridge what an error of the traces is multiplied by.

    Args:
        rates: M different decay rates, per time constant. Those of the network, `-Re` of the eigenvalues of J, lie
            between 0 (the edge of stability) and about 2 in a leaky network.
        ridge: relative to the mean diagonal of G, >= 0.

    Raises:
        InputError: no rates, some that are not finite, not positive or equal, or a ridge out of range.
    """

    rates: tuple[float, ...] = (0.1, 0.5, 2.0)
    ridge: float = 1e-9

    def __post_init__(self) -> None:
        usable = all(math.isfinite(rate) and rate > 0 for rate in self.rates)
        if not self.rates or not usable or len(set(self.rates)) < len(self.rates):
            raise InputError(f"LowPass needs different, positive, finite rates per time constant; found {self.rates}")
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(f"LowPass needs a finite ridge >= 0; found {self.ridge}")

    @property
    def needs(self) -> Needs:
        return Needs(record=1)

    @property
    def every(self) -> int:
        return 1

    def recall(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int, step_size: float
    ) -> Float[Array, "T1 B N"]:
        xp = namespace(final)
        transient = _all_of(self, states, steps)[:-1] - final
        remembered = final + _mixed(self.projection(steps, step_size), transient)
        return xp.concat([remembered, final[None]])

    def respond(
        self, states: Float[Array, "K1 B N"], final: Float[Array, "B N"], *, steps: int
    ) -> Float[Array, "T1 B N"]:
        return _all_of(self, states, steps)

    def projection(self, steps: int, step_size: float) -> Float[np.ndarray, "T T"]:
        """From a transient `z_k - z_T`, k = 0 .. T - 1, to what its traces tell of it. Cost: T M^2."""
        decays = np.exp(-step_size * np.asarray(self.rates))
        shapes = decays ** np.arange(steps - 1, -1, -1)[:, None]
        gram = shapes.T @ shapes
        ridge = self.ridge * np.trace(gram) / len(decays)
        # the pseudo-inverse, since fewer steps than rates leave some of them undetermined
        return shapes @ np.linalg.pinv(gram + ridge * np.eye(len(decays)), hermitian=True) @ shapes.T


def interpolation(times: list[int], degree: int) -> Float[np.ndarray, "T1 K"]:
    """Weights that make states at 0, 1 .. times[-1] of those at `times`: Lagrange's polynomials, piece by piece."""
    order = min(degree, len(times) - 1)
    weights = np.zeros((times[-1] + 1, len(times)))
    for k in range(times[-1] + 1):
        before = int(np.searchsorted(times, k, side="right")) - 1
        first = min(max(before - (order - 1) // 2, 0), len(times) - 1 - order) if order else before
        near = times[first : first + order + 1]
        for m, time in enumerate(near):
            weights[k, first + m] = math.prod((k - other) / (time - other) for other in near if other != time)
    return weights


def _mixed(weights: Float[np.ndarray, "T K"], states: Float[Array, "K B N"]) -> Float[Array, "T B N"]:
    """`sum_k weights[t, k] states[k]`."""
    xp = namespace(states)
    mixing = xp.asarray(weights, dtype=states.dtype, device=states.device)
    return xp.reshape(mixing @ xp.reshape(states, (len(states), -1)), (len(weights), *states.shape[1:]))


def _all_of(memory: Transient, states: Array, steps: int) -> Array:
    if len(states) != steps + 1:
        raise InputError(
            f"{type(memory).__name__} needs every state of {steps} steps (record=1); found {len(states)} states"
        )
    return states
