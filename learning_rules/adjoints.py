"""The exact adjoints between BPTT and what nudging delivers on a perfect device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.ladder import Ideal, Ladder, Snapshot
from hwsim.contracts.parameters import Parameters
from hwsim.diagnostics import in_float64, solve_linearised
from hwsim.reference import equilibrium_adjoint

from .stopping import Settling


def nudging_ladder(*, steps: int | Settling | None, transposed: bool, finite: str, advice: str) -> Ladder:
    """What a nudged phase gives up against BPTT, one thing after another:

        equilibrium instead of T steps    `J(z*)^T lam = -c(z*)`, credit at z*
        z_T instead of z*                 `J(z_T)^T lam = -c(z_T)`, credit at z_T
        J instead of J^T                  `J(z_T) a = -c(z_T)`, only where not `transposed`
        truncated after t2 steps          `a <- a + eps (J^T a + c)` (or J) from 0 at z_T

    Args:
        steps: t2, T where None.
        transposed: whether the response is that of J^T.
        finite, advice: of the last rung, see `Ladder`.
    """
    ideals = [
        Ideal(
            name="equilibrium instead of T steps",
            advice="the deployed state has not settled: train with finite-horizon EP, or add the homeostat",
            gradient=_at_equilibrium,
        ),
        Ideal(
            name="z_T instead of z*",
            advice="settle longer: the adjoint is taken where the network has not come to rest",
            gradient=lambda snapshot: _converged(snapshot, transposed=True),
        ),
    ]
    if not transposed:
        ideals.append(
            Ideal(
                name="J instead of J^T",
                advice="correct, transpose or symmetrise: the natural response of these couplings is not the adjoint",
                gradient=lambda snapshot: _converged(snapshot, transposed=False),
            )
        )
    ideals.append(
        Ideal(
            name="truncated nudged phase",
            advice="nudge for longer (steps), or until the adjoint has settled (steps=Settling(...))",
            gradient=lambda snapshot: _truncated(snapshot, steps, transposed=transposed),
        )
    )
    return Ladder(ideals=tuple(ideals), finite=finite, advice=advice)


def _at_equilibrium(snapshot: Snapshot) -> Parameters:
    s = snapshot
    return equilibrium_adjoint(s.model, s.theta, s.batch, s.task, s.states[-1]).gradients


def _converged(snapshot: Snapshot, *, transposed: bool) -> Parameters:
    return _credit(
        snapshot,
        lambda signal, z, x, theta: solve_linearised(snapshot.model, theta, x, z, -signal, transpose=transposed),
    )


def _truncated(snapshot: Snapshot, steps: int | Settling | None, *, transposed: bool) -> Parameters:
    product = snapshot.model.cotangent if transposed else snapshot.model.tangent
    stop = len(snapshot.states) - 1 if steps is None else steps

    def relaxed(signal: Array, z: Array, x: Array, theta: Parameters) -> Array:
        adjoint = np.zeros_like(z)
        if not isinstance(stop, Settling):
            for _ in range(stop):
                adjoint = adjoint + snapshot.step_size * (product(adjoint, z, x, theta) + signal)
            return adjoint
        size, left, done = np.linalg.norm(signal, axis=1), np.arange(len(z)), 0
        while len(left) and done < stop.most:
            taken = min(stop.every, stop.most - done)
            found = adjoint[left]
            for _ in range(taken):
                found = found + snapshot.step_size * (product(found, z[left], x[left], theta) + signal[left])
            change = np.linalg.norm(found - adjoint[left], axis=1) / (snapshot.step_size * taken)
            adjoint[left], done = found, done + taken
            left = left[~(change <= stop.tolerance * size[left])]
        return adjoint

    return _credit(snapshot, relaxed)


def _credit(
    snapshot: Snapshot, adjoint: Callable[[Array, Float[Array, "B N"], Float[Array, "B M"], Parameters], Array]
) -> Parameters:
    """`L_theta + credit(adjoint, z_T)`."""
    task, targets, theta = snapshot.task, snapshot.batch.targets, in_float64(snapshot.theta)
    z, x = np.asarray(snapshot.states[-1], np.float64), np.asarray(snapshot.batch.inputs, np.float64)
    found = adjoint(task.signal(z, targets, theta), z, x, theta)
    return snapshot.model.credit(found, z, x, theta) | task.readout_credit(z, targets, theta)
