"""Exact gradients with a substrate's own derivatives: BPTT, RTRL, equilibrium adjoint, transpose relaxation.

All in float64, all taking and giving NumPy, computed where `place` says. `L_theta` (the readout's own gradient) is part
of every result.
`autograd.bptt` judges them in turn: it shares nothing with them but the field.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Relaxation
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.task import Batch, Judged, Task, judge
from hwsim.diagnostics import Equilibrium

from .place import Place
from .solves import find_equilibrium_at, solve_linearised_at

CERTIFIED = 1e-6
"""Largest relative adjoint residual `|J^T lam + c| / |c|` of a certified sample."""


def bptt_along(
    substrate: Substrate,
    theta: Parameters,
    batch: Batch,
    task: Task,
    states: Float[Array, "T1 B N"],
    step_size: float,
    *,
    place: Place = Place(),
) -> Parameters:
    """`dL/dtheta` of the deployed loss along a trajectory that a device recorded, its noise and read errors held fixed:

        h_T = w_T c_T,   h_k = h_{k+1} + eps J(z_k)^T h_{k+1} + w_k c_k,   g = L_theta + eps sum_k credit(h_{k+1}, z_k)

    with c_k = dL/dz(z_k) and the task's weights w, and h_{k+1} zero for a unit that z_{k+1} shows at a rail.

    The same gradient as `autograd.bptt`, written out with the substrate's own cotangent, so that it can follow states
    which no noise-free map would reach, and several times faster.

    Args:
        substrate, theta, batch, task: what was run.
        states: [T + 1, B, N] recorded z_0 .. z_T.
        step_size: eps.
        place: where it is computed.

    Cost: one transposed relaxation and one credit of T B samples.
    """
    with place.active():
        theta, batch, z = place.parameters(theta), place.batch(batch), place.array(states)
        x, judged = batch.inputs, _judged(task, z, batch, theta)
        signal, signals = judged.final, namespace(z).empty_like(z[1:])
        for step in reversed(range(len(z) - 1)):
            signal = signal * _free(substrate, z[step + 1], place)
            signals[step] = step_size * signal
            signal = signal + step_size * substrate.cotangent(signal, z[step], x, theta)
            if judged.earlier is not None:
                signal = signal + judged.earlier[step]
        return place.parameters_back(substrate.credit(signals, z[:-1], x, theta) | judged.readout)


def _judged(task: Task, states: Float[Array, "T1 B N"], batch: Batch, theta: Parameters) -> Judged:
    """A trajectory with the eyes of a task."""
    lanes = states.shape[1]
    known = Relaxation(
        final=states[-1], states=states, residual=np.zeros(lanes), outcome=np.zeros(lanes, dtype=np.int64)
    )
    return judge(task, known, batch, theta, len(states) - 1)


def rtrl(
    substrate: Substrate,
    theta: Parameters,
    batch: Batch,
    task: Task,
    *,
    z0: Float[Array, "B N"],
    step_size: float,
    steps: int,
    place: Place = Place(),
) -> Parameters:
    """`dL/dtheta` forward in time, `M_{k+1} = D(z_k) M_k + eps F_theta(z_k)`, `g = L_theta + sum_k w_k c_k^T M_k`.

    Exact real-time recurrent learning (Williams and Zipser, Neural Computation 1:270, 1989), M held for every
    parameter: cost O(T B N^2 P), memory B N P. A judge for small networks.
    """
    with place.active():
        theta, batch, z = place.parameters(theta), place.batch(batch), place.array(z0)
        xp, x, (lanes, units) = namespace(z), batch.inputs, z.shape
        influence = {
            name: xp.zeros((math.prod(block.shape), lanes, units), dtype=z.dtype)
            for name, block in theta.analog.items()
        }
        states, influences = [z], [influence]
        weights = task.weights(steps)
        for step in range(steps):
            immediate = _immediate_influence(substrate, theta, x, z)
            influence = {
                name: held + step_size * (substrate.tangent(held, z, x, theta) + immediate[name])
                for name, held in influence.items()
            }
            z = z + step_size * substrate.field(z, x, theta)
            if substrate.rails is not None:
                low, high = (place.array(rail) for rail in substrate.rails)
                z = xp.minimum(xp.maximum(z, low), high)
                influence = {name: held * _free(substrate, z, place) for name, held in influence.items()}
            states.append(z)
            influences.append(influence if weights[step + 1] else {})
        judged = _judged(task, xp.stack(states), batch, theta)
        signals = [judged.final] if judged.earlier is None else [*judged.earlier, judged.final]
        analog = theta.analog.map(xp.zeros_like)
        for signal, held in zip(reversed(signals), reversed(influences), strict=False):
            seen = {
                name: xp.reshape(xp.reshape(block, (block.shape[0], -1)) @ xp.reshape(signal, (-1,)), theta[name].shape)
                for name, block in held.items()
            }
            analog = analog + Parameters(seen) if seen else analog
        return place.parameters_back(analog | judged.readout)


def _free(substrate: Substrate, z: Float[Array, "B N"], place: Place) -> Float[Array, "B N"] | float:
    """1 where a state may move, 0 where a rail holds it."""
    if substrate.rails is None:
        return 1.0
    low, high = (place.array(rail) for rail in substrate.rails)
    return namespace(z).astype((z > low) & (z < high), z.dtype)


def _immediate_influence(
    substrate: Substrate, theta: Parameters, x: Float[Array, "B M"], z: Float[Array, "B N"]
) -> dict[str, Float[Array, "P B N"]]:
    """`dF/dtheta_p` at fixed z, every parameter of every block: one credit per unit."""
    xp = namespace(z)
    columns: dict[str, list[Array]] = {name: [] for name in theta.analog}
    for unit in range(z.shape[1]):
        post = xp.zeros_like(z)
        post[:, unit] = 1.0
        for name, block in substrate.credit(post, z, x, theta, per_sample=True).items():
            columns[name].append(xp.reshape(block, (len(z), -1)).T)
    return {name: xp.stack(column, axis=2) for name, column in columns.items()}


@dataclass(frozen=True, kw_only=True)
class AdjointGradient:
    """The gradient of `L(z*)` with its own proof.

    Args:
        gradients: `L_theta + credit(lam, z*)`.
        equilibrium: where it was taken.
        certified: [B] whether z* was reached and `|J^T lam + c| / |c| < 1e-6` there.
        loss: L(z*), nats.
    """

    gradients: Parameters
    equilibrium: Equilibrium
    certified: Bool[Array, " B"]
    loss: float


def equilibrium_adjoint(
    substrate: Substrate,
    theta: Parameters,
    batch: Batch,
    task: Task,
    z: Float[Array, "B N"],
    *,
    place: Place = Place(),
) -> AdjointGradient:
    """`dL(z*)/dtheta`: refine z to z*, solve `J(z*)^T lam = -c`, `g = L_theta + credit(lam, z*)`.

    Args:
        substrate, theta, batch, task: the network and what it is to do.
        z: [B, N] a settled state near z*.
        place: where it is computed.

    A direct solve for small N, GMRES above `diagnostics.DIRECT_LIMIT` units in NumPy. Source: implicit differentiation
    of the fixed point (Almeida 1987; Pineda, PRL 59:2229, 1987). Cost: a few factorisations of J per sample.
    """
    equilibrium = find_equilibrium_at(place, substrate, theta, batch.inputs, z)
    with place.active():
        theta, batch, z_star = place.parameters(theta), place.batch(batch), place.array(equilibrium.z)
        x, signal = batch.inputs, task.signal(z_star, batch.targets, theta)
        adjoint = solve_linearised_at(place, substrate, theta, x, z_star, -signal, transpose=True)
        miss = place.back(substrate.cotangent(adjoint, z_star, x, theta) + signal)
        with np.errstate(invalid="ignore"):
            close = np.linalg.norm(miss, axis=1) < CERTIFIED * np.linalg.norm(place.back(signal), axis=1)
        return AdjointGradient(
            gradients=place.parameters_back(
                substrate.credit(adjoint, z_star, x, theta) | task.readout_credit(z_star, batch.targets, theta)
            ),
            equilibrium=equilibrium,
            certified=equilibrium.converged & close,
            loss=float(task.loss(z_star, batch.targets, theta)),
        )


def transpose_gradient(
    substrate: Substrate,
    theta: Parameters,
    batch: Batch,
    task: Task,
    z: Float[Array, "B N"],
    *,
    step_size: float,
    steps: int | None = None,
    place: Place = Place(),
) -> Parameters:
    """`L_theta + credit(a, z)` at the state that was reached, `a <- a + eps (J(z)^T a + c)` from 0.

    Args:
        substrate, theta, batch, task: the network and what it is to do.
        z: [B, N], usually z_T.
        step_size: eps.
        steps: t2 transposed steps; None for their limit, `J(z)^T a = -c`, solved directly (which is where they go only
            while rho < 1).
        place: where it is computed.
    """
    with place.active():
        theta, batch, z = place.parameters(theta), place.batch(batch), place.array(z)
        x, signal = batch.inputs, task.signal(z, batch.targets, theta)
        if steps is None:
            adjoint = solve_linearised_at(place, substrate, theta, x, z, -signal, transpose=True)
        else:
            adjoint = namespace(z).zeros_like(z)
            for _ in range(steps):
                adjoint = adjoint + step_size * (substrate.cotangent(adjoint, z, x, theta) + signal)
        return place.parameters_back(
            substrate.credit(adjoint, z, x, theta) | task.readout_credit(z, batch.targets, theta)
        )


def finite_differences(loss: Callable[[Parameters], float], theta: Parameters, *, step: float = 1e-5) -> Parameters:
    """`dL/dtheta` by central differences, `(L(theta + h e) - L(theta - h e)) / 2 h`: the judge of all others.

    Args:
        loss: L as a function of theta.
        theta: where.
        step: h, absolute.

    Error O(h^2) plus rounding / h. Cost: 2 P evaluations.
    """
    gradients = {}
    for name, block in theta.items():
        slopes = np.empty(block.size)
        for index in range(block.size):
            shifted = []
            for sign in (+1.0, -1.0):
                moved = np.array(block, np.float64)
                moved.flat[index] += sign * step
                shifted.append(loss(theta | {name: moved}))
            slopes[index] = (shifted[0] - shifted[1]) / (2.0 * step)
        gradients[name] = slopes.reshape(block.shape)
    return Parameters(gradients)
