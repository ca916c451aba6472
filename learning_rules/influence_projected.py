"""UORO: the influence as one random outer product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind

from .influence import Influence, Recording

_NU = 0
"""Phase of the noise address that nu is drawn at; its time step is k."""


@final
@dataclass(frozen=True, kw_only=True)
class UORO(Influence):
    """Unbiased online recurrent optimisation: M is kept as one outer product `s m`, s [N], m [P] for each sample,

        s' = r0 D s + r1 nu,        m' = m / r0 + nu^T I / r1,        I = eps F_theta(z_k),   nu in {-1, 1}^N
        r0 = sqrt(|m| / |D s|),     r1 = sqrt(|nu^T I| / |nu|),       s_0 = m_0 = 0
        g = sum_k w_k (c_k^T s_k) m_k

    Unbiased, `E s_k m_k = M_k`: r0 depends on the past only and r1 is even in nu, so that both cross terms have mean
    zero. A ratio of which either side is 0 is replaced by 1 (the first step, a zero input), which any positive number
    could be. The relative variance grows with N. nu has its own address for each sample, step and repeat.

    `nu^T I` is a credit of nu, so any substrate is served. The simulation never forms m: it is a combination
    `m_k = sum_l a_l nu_l^T I_l` of T known rows, whose norms need the inner products of the rows alone; those of a
    factored block are products of two small ones. There the norms are taken in the full [N, K] of the factors, before
    parameters are shared or picked (this moves the variance, not the mean). Blocks without factors are held as T rows.

    Source: Tallec and Ollivier, arXiv:1702.05043, equations 12 to 17, with exact tangents. Cost on line: O(B (N^2 + P))
    a step; simulated, a tangent a step, O(T^2 B N) for the norms and one credit of T B samples.
    """

    kind: ClassVar[Kind] = Kind.MODEL_ASSISTED
    finite: ClassVar[str] = "one random projection of the influence, and the nominal model in place of the chip"
    advice: ClassVar[str] = "average more of them (rule.averaged), or take KFRTRL or LowRank"

    @property
    def given_up(self) -> None:
        return None

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        xp, (steps, _, units) = namespace(recording.states), recording.states[1:].shape
        nu = recording.signs(noise, _NU, units=units, steps=steps)
        rows = self._products(recording, nu)
        s, a = xp.zeros_like(recording.states[0]), xp.zeros_like(rows[:, :, 0])
        kept, fresh, read = [], [], []
        for k in range(steps):
            moved = recording.step(s, k)
            m = xp.sqrt(xp.clip(xp.sum(a * (rows @ a[:, :, None])[:, :, 0], axis=1), 0.0, None))
            r0 = _ratio(m, _length(moved))
            r1 = _ratio(xp.sqrt(rows[:, k, k]), _length(nu[k]))
            s = (r0[:, None] * moved + r1[:, None] * nu[k]) * recording.free(k + 1)
            a = a / r0[:, None]
            a[:, k] = 1.0 / r1
            kept.append(1.0 / r0)
            fresh.append(1.0 / r1)
            read.append(xp.sum(recording.signals[k + 1] * s, axis=1))
        # g = sum_k (c_k . s_k) m_k, in terms of the rows: what each of them is worth at all later reads
        worth, weights = xp.zeros_like(read[0]), []
        for k in reversed(range(steps)):
            worth = read[k] + (worth * kept[k + 1] if k + 1 < steps else 0.0)
            weights.append(worth * fresh[k])
        return recording.credited(xp.stack(weights[::-1])[:, :, None] * nu)

    @staticmethod
    def _products(recording: Recording, nu: Float[Array, "T B N"]) -> Float[Array, "B T T"]:
        """Inner products of the rows `nu_l^T I_l` of each sample."""
        xp, total = namespace(nu), 0.0
        for gain, pre in recording.factors.values():
            total = total + _gram(nu * gain) * _gram(pre)
        if recording.unfactored:
            rows: dict[str, list[Array]] = {name: [] for name in recording.unfactored}
            for k in range(recording.steps):
                each = recording.model.credit(
                    nu[k], recording.states[k], recording.inputs, recording.theta, per_sample=True
                )
                for name, held in rows.items():
                    held.append(xp.reshape(each[name], (nu.shape[1], -1)))
            for held in rows.values():
                total = total + _gram(xp.stack(held))
        return xp.astype(recording.step_size**2 * total, nu.dtype, copy=False)


def _gram(rows: Float[Array, "T B K"]) -> Float[Array, "B T T"]:
    """Inner products of the rows of each sample."""
    by_lane = namespace(rows).permute_dims(rows, (1, 0, 2))
    return by_lane @ by_lane.mT


def _length(v: Float[Array, "B N"]) -> Float[Array, " B"]:
    xp = namespace(v)
    return xp.sqrt(xp.sum(v * v, axis=1))


def _ratio(above: Float[Array, " B"], below: Float[Array, " B"]) -> Float[Array, " B"]:
    """`sqrt(above / below)`, 1 where either is zero."""
    xp = namespace(above)
    one, known = xp.ones_like(above), (above > 0.0) & (below > 0.0)
    return xp.sqrt(xp.where(known, above, one) / xp.where(known, below, one))
