"""The sweeps of one operating point: nudged steps, nudge length, residual, damping, and the point itself.

Each function takes an `OperatingPoint` and gives one frozen value per setting of its knob. Cosines are dimensionless, 1
where two gradients point the same way; NaN where one of them is zero or not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters, cosine
from hwsim.contracts.plan import Phase
from hwsim.contracts.rule import LearningRule

from .point import OperatingPoint

NudgedRun: TypeAlias = Callable[[OperatingPoint, Float[Array, "B N"], int], Float[Array, "K1 B N"]]
"""The response a_k around a free state [B, N] after k = 0 .. K nudged steps, from one recorded pair of settlings."""


@final
@dataclass(frozen=True, kw_only=True)
class Truncation:
    """The EP gradient after t2 nudged steps.

    Args:
        steps: t2.
        free_steps: K, of the free phase that the nudges start from.
        residual: |F(z_K)|, rms over units, mean over samples; state units per time constant.
        cosine_transpose: to the converged transpose relaxation there, `J(z_K)^T a = -c`.
        cosine_truncated: to the transpose relaxation that also stops after t2 steps. Where it is 1 while the one above
            is not, truncation is all that is wrong.
        cosine_bptt: to BPTT through the T deployed steps, whatever K is.
        rho: mean spectral radius at z*.
    """

    knob: ClassVar[str] = "steps"

    steps: int
    free_steps: int
    residual: float
    cosine_transpose: float
    cosine_truncated: float
    cosine_bptt: float
    rho: float


def truncation(point: OperatingPoint, nudged: NudgedRun, steps: Sequence[int], *, free_steps: int) -> list[Truncation]:
    """EP against its limit, at each of `steps` nudged steps, all read off one recorded nudged run:

        g_k = credit(a_k, z),     a_k = (z_+(k) - z_-(k)) / 2 beta

    around the state z after `free_steps`. From a z that has not settled the nudged runs go on settling as well, and
    what they measure is a response on the way, not the one at z.

    Args:
        point: where.
        nudged: makes the run, with as many steps as the largest of `steps`.
        steps: t2, at least 1.
        free_steps: of the free phase; T is what is deployed, many T what equilibrium propagation supposes.

    Cost: the nudged run, one transpose relaxation of max t2 steps per entry, BPTT.
    """
    (free,) = point.settle(Phase(steps=free_steps))
    z = free.final
    response, residual = nudged(point, z, max(steps)), point.residual(z)
    limit, deployed, rho = point.transpose(z), point.bptt(point.free.recorded), point.radius[0]
    rows = []
    for k in steps:
        gradient = point.device.synapses.credit(response[k], z, point.batch.inputs, point.theta)
        rows.append(
            Truncation(
                steps=k,
                free_steps=free_steps,
                residual=residual,
                cosine_transpose=cosine(gradient, limit),
                cosine_truncated=cosine(gradient, point.transpose(z, k)),
                cosine_bptt=cosine(gradient, deployed),
                rho=rho,
            )
        )
    return rows


@final
@dataclass(frozen=True, kw_only=True)
class Nudge:
    """The EP gradient at one length of nudge.

    Args:
        nudge: length of the nudging force of one sample, state units per time constant.
        nudged_steps: t2.
        free_steps: K, of the free phase that the nudges start from.
        residual: |F(z_K)|, rms over units, mean over samples; state units per time constant.
        cosine_transpose: to the converged transpose relaxation there.
        cosine_truncated: to the transpose relaxation that stops with EP: what is missing there is the nudge's own bias.
        cosine_bptt: to BPTT through the T deployed steps, whatever K is.
        rho: mean spectral radius at z*.
    """

    knob: ClassVar[str] = "nudge"

    nudge: float
    nudged_steps: int
    free_steps: int
    residual: float
    cosine_transpose: float
    cosine_truncated: float
    cosine_bptt: float
    rho: float


def nudges(
    point: OperatingPoint,
    make_rule: Callable[[float], LearningRule],
    lengths: Sequence[float],
    *,
    steps: int,
    free_steps: int,
) -> list[Nudge]:
    """EP against its limit, at each length of the nudge.

    Args:
        point: where.
        make_rule: EP with a given length.
        lengths: state units per time constant, > 0.
        steps: t2 of the rule, for the truncated reference.
        free_steps: of the free phase, as in `truncation`.

    Cost: an estimate per length.
    """
    (free,) = point.settle(Phase(steps=free_steps))
    z, rho = free.final, point.radius[0]
    limit, truncated, deployed = point.transpose(z), point.transpose(z, steps), point.bptt(point.free.recorded)
    residual = point.residual(z)
    rows = []
    for length in lengths:
        gradient = point.estimate(make_rule(length), free=free).gradients.analog
        rows.append(
            Nudge(
                nudge=length,
                nudged_steps=steps,
                free_steps=free_steps,
                residual=residual,
                cosine_transpose=cosine(gradient, limit),
                cosine_truncated=cosine(gradient, truncated),
                cosine_bptt=cosine(gradient, deployed),
                rho=rho,
            )
        )
    return rows


@final
@dataclass(frozen=True, kw_only=True)
class Residual:
    """The transpose relaxation against BPTT for one length of the free phase.

    Args:
        horizon: T.
        residual: |F(z_T)|, rms over units, mean over samples; state units per time constant.
        cosine: of the converged transpose relaxation at z_T to BPTT through T steps.
        loss: L(z_T).
        rho: mean spectral radius at z*.
    """

    knob: ClassVar[str] = "horizon"

    horizon: int
    residual: float
    cosine: float
    loss: float
    rho: float


def residuals(point: OperatingPoint, horizons: Sequence[int]) -> list[Residual]:
    """How far the settled gradient is from the deployed one, against what is left of the transient.

    All horizons are read off one recorded free run: z_T of a short one lies on the way of a long one.

    Cost: BPTT through max T steps, per entry.
    """
    (free,) = point.settle(Phase(steps=max(horizons), record=1))
    rows = []
    for T in horizons:
        states = free.recorded[: T + 1]
        rows.append(
            Residual(
                horizon=T,
                residual=point.residual(states[-1]),
                cosine=cosine(point.transpose(states[-1]), point.bptt(states)),
                loss=point.loss(states[-1]),
                rho=point.radius[0],
            )
        )
    return rows


@final
@dataclass(frozen=True, kw_only=True)
class Damping:
    """The spectral radius under one leak.

    Args:
        damping: c, the leak; 1 as trained.
        rho_mean, rho_max: spectral radius at z*, over samples.
        converged: fraction of those samples on which a z* was found; rho says little on the others.
        rho_leak: `1 - eps c`, which is all that is left of it where couplings are weak.
        residual: |F| at z_T, rms over units, mean over samples; state units per time constant of c = 1.
        loss: L(z_T).
    """

    knob: ClassVar[str] = "damping"

    damping: float
    rho_mean: float
    rho_max: float
    converged: float
    rho_leak: float
    residual: float
    loss: float


def damped(theta: Parameters, damping: float) -> Parameters:
    """Parameters that give the network `F = -c z + W r(z) + U x + b`, on a device whose step is c times as long.

        z + eps (-c z + W r + U x + b) = z + (c eps) (-z + (W r + U x + b) / c)

    so every step is the same step: a leak of c is couplings, inputs and bias divided by c at step size c eps. Holds for
    substrates that leak at rate 1 and are linear in theta (`LeakyNetwork`).

    Args:
        theta: at c = 1.
        damping: c > 0.

    Raises:
        InputError: c is not positive.
    """
    if not damping > 0.0:
        raise InputError(f"a leak must be positive; found {damping}")
    return theta.analog / damping | theta.readout


def damping(point: OperatingPoint, c: float, undamped_step_size: float) -> Damping:
    """Measure at a point that stands on `damped` parameters and device.

    Args:
        point: with step size c eps.
        c: the leak.
        undamped_step_size: eps.

    Cost: a relaxation of 20 T and the eigenvalues of 32 Jacobians.
    """
    mean, largest = point.radius
    z = point.free.final
    return Damping(
        damping=c,
        rho_mean=mean,
        rho_max=largest,
        converged=point.converged,
        rho_leak=abs(1.0 - c * undamped_step_size),
        residual=c * point.residual(z),
        loss=point.loss(z),
    )


@final
@dataclass(frozen=True, kw_only=True)
class Approach:
    """One look at a training run.

    Args:
        loss: L(z_T).
        residual: |F(z_T)|, rms over units, mean over samples; state units per time constant.
        rho_mean, rho_max: spectral radius at z*, over samples.
        converged: fraction of those samples on which a z* was found; rho says little on the others.
        cosine_bptt: of the rule's gradient to BPTT.
        cosine_transpose: of the rule's gradient to the converged transpose relaxation at z_T.
        cosine_transpose_bptt: of the converged transpose relaxation to BPTT: what settling further would mend.
    """

    knob: ClassVar[str] = ""

    loss: float
    residual: float
    rho_mean: float
    rho_max: float
    converged: float
    cosine_bptt: float
    cosine_transpose: float
    cosine_transpose_bptt: float


def approach(point: OperatingPoint, rule: LearningRule) -> Approach:
    """Gradient quality, residual and spectral radius at one moment of training. Cost: an estimate and the judges."""
    z = point.free.final
    gradient, limit = point.estimate(rule).gradients.analog, point.transpose(z)
    deployed = point.bptt(point.free.recorded)
    mean, largest = point.radius
    return Approach(
        loss=point.loss(z),
        residual=point.residual(z),
        rho_mean=mean,
        rho_max=largest,
        converged=point.converged,
        cosine_bptt=cosine(gradient, deployed),
        cosine_transpose=cosine(gradient, limit),
        cosine_transpose_bptt=cosine(limit, deployed),
    )
