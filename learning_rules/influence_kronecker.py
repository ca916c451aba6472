"""Members that keep the influence as a sum of Kronecker products: KF-RTRL and the optimal sum of rank r."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind

from .influence import Influence, Recording, backwards

_ROUNDING = 100.0
"""Machine epsilons below which a direction counts as rounding, relative to the largest."""


@dataclass(frozen=True, kw_only=True)
class _Kronecker(Influence):
    """`M = sum_{i=1}^r H_i (x) A_i`, H_i [N, N], A_i [K], where the immediate influence is `diag(gain) (x) pre^T`.

    A step makes r + 1 terms of r, `(D H_i, A_i)` and `(eps diag(gain), pre)`, and a member says how they are made r
    again: `A' = X_A A`, `H' = X_B H` with `E X_A^T X_B = 1`, which alone makes it unbiased. The matrices X
    depend on the inner products of the terms, which only move the variance.

    In the simulation H_i is never formed. What is needed of it: its inner products, from its products with q random
    sign vectors (`<H_i, H_j> = E (H_i v) . (H_j v)`), or exactly with all N unit vectors where q >= N; and `c_t^T H_i`
    at the states that the task looks at. Of each of these `h_k^T H_i`, with h the backward response to c_t, is carried
    along: a step leaves it as it is, `h_{k+1}^T (D_k H_i) = h_k^T H_i`, and adds the term `h_{k+1} eps gain_k`.

    Blocks that have the same gain share one sum, their pre side by side; others have their own, with signs of their
    own.
    """

    probes: int | None = 4

    kind: ClassVar[Kind] = Kind.MODEL_ASSISTED
    factored: ClassVar[bool] = True

    @property
    @abstractmethod
    def _rank(self) -> int:
        """r."""

    @abstractmethod
    def _mix(
        self, pres: Float[Array, "B R K"], gains: Float[Array, "B R Q"], signs: Float[Array, "B R"]
    ) -> tuple[Float[Array, "B r R"], Float[Array, "B r R"]]:
        """X_A and X_B.

        Args:
            pres: the r + 1 vectors A of each sample, the new one last.
            gains: vectors with the inner products of the matrices H.
            signs: independent signs.
        """

    @property
    def given_up(self) -> None:
        return None

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        recording.require_factors(type(self).__name__)
        xp, signals = namespace(recording.states), recording.signals
        nothing = xp.zeros_like(signals[0])
        apart = [
            xp.stack([signals[k] if k == look else nothing for look in recording.looks])
            for k in range(recording.steps + 1)
        ]
        responses = backwards(recording, recording.step_back, apart)  # [T, looks, B, N]
        sums = {
            names: self._sum(recording, names, responses, noise, 2 * index)
            for index, names in enumerate(_alike(recording))
        }
        return _paired(recording, sums)

    def _sum(
        self,
        recording: Recording,
        names: tuple[str, ...],
        responses: Float[Array, "T L B N"],
        noise: NoisePath,
        phase: int,
    ) -> tuple[Float[Array, "B S N"], Float[Array, "B S K"]]:
        """`c_t^T H_i` and `A_i` at all looks t, the S terms whose products add up to the gradient of these blocks."""
        states, rank = recording.states, self._rank
        xp, (steps, lanes, units) = namespace(states), states[1:].shape
        pre, entering = _beside(recording, names), recording.step_size * recording.factors[names[0]][0]
        signs = recording.signs(noise, phase + 1, units=rank + 1, steps=steps)
        # H v must tell r + 1 matrices apart
        number = units if self.probes is None else max(self.probes, -(-(rank + 1) // units))
        if number >= units:
            probes = xp.eye(units, dtype=states.dtype, device=states.device)[:, None, :]
        else:
            probes = recording.signs(noise, phase + 2, units=units, steps=number) * number**-0.5
        # [B, r, .] each: A_i, the products H_i v side by side, and h_k^T H_i of every look
        inputs = xp.concat([xp.zeros_like(pre[:, :1])] * rank, axis=1)
        sketch = xp.concat([xp.zeros_like(entering[0] * probes)[None]] * rank)
        read = xp.concat([xp.zeros_like(responses[0])[:, :, None]] * rank, axis=2)
        left, right = [], []
        for k in range(max(recording.looks)):
            inputs = xp.concat([inputs, pre[:, k : k + 1]], axis=1)
            sketch = xp.concat([recording.step(sketch, k), (entering[k] * probes)[None]])
            read = xp.concat([read, (responses[k] * entering[k])[:, :, None]], axis=2)
            flat = xp.reshape(xp.permute_dims(sketch, (2, 0, 1, 3)), (lanes, rank + 1, -1))
            mix_a, mix_b = self._mix(inputs, flat, signs[k])
            inputs, read = mix_a @ inputs, mix_b @ read
            mixed = xp.reshape(mix_b @ flat, (lanes, rank, sketch.shape[1], units))
            sketch = xp.permute_dims(mixed, (1, 2, 0, 3)) * recording.free(k + 1)
            if k + 1 in recording.looks:
                left.append(read[recording.looks.index(k + 1)])
                right.append(inputs)
        return xp.concat(left, axis=1), xp.concat(right, axis=1)


@final
@dataclass(frozen=True, kw_only=True)
class KFRTRL(_Kronecker):
    """Kronecker-factored RTRL: `M = H (x) A`, for blocks whose influence is `diag(gain) (x) pre^T`,

        A' = n0 p0 A + n1 p1 pre,         H' = (n0 / p0) D H + (n1 / p1) eps diag(gain),      n0, n1 = +-1
        p0 = sqrt(|D H| / |A|),           p1 = sqrt(|eps gain| / |pre|)
        g = sum_k w_k (c_k^T H_k) (x) A_k

    Unbiased; a ratio of which either side is zero is replaced by 1.

    Args:
        probes: q, random vectors from which |D H| is estimated, `E |D H v|^2 = |D H|^2` (it moves the variance only);
            None takes it exactly, with N vectors.

    Raises:
        InputError: probes below 1.
        CapabilityError: from `estimate`, a block without factored influence.

    Source: Mujika, Meier and Steger, arXiv:1805.10842, algorithm 1 and lemma 1. Cost on line: O(B N^3) a step, memory
    B (N^2 + K); simulated, q tangents a step and one cotangent a step for each state that the task looks at.
    """

    finite: ClassVar[str] = "a random Kronecker product for the influence, and the nominal model in place of the chip"
    advice: ClassVar[str] = "average more of them (rule.averaged), or take LowRank"

    def __post_init__(self) -> None:
        _check_probes(self)

    @property
    def _rank(self) -> int:
        return 1

    def _mix(
        self, pres: Float[Array, "B R K"], gains: Float[Array, "B R Q"], signs: Float[Array, "B R"]
    ) -> tuple[Float[Array, "B r R"], Float[Array, "B r R"]]:
        xp = namespace(pres)
        p = _quarter(xp.sum(gains * gains, axis=2), xp.sum(pres * pres, axis=2))
        return (signs * p)[:, None, :], (signs / p)[:, None, :]


@final
@dataclass(frozen=True, kw_only=True)
class LowRank(_Kronecker):
    """Optimal Kronecker sum: `M = sum_{i=1}^r H_i (x) A_i`, the r + 1 terms of a step made r again with the least
    variance that an unbiased sum of r can have.

        sum_i H_i (x) A_i = sum_i sigma_i b_i (x) a_i,  b and a orthonormal,  sigma_1 >= .. >= sigma_{r+1}
        keep the m largest;  of the other d = r + 1 - m, with s their sum, take d - 1:
            diag(sigma) -> s / (d - 1) Q Q^T,    Q = diag(tau) Z,   tau = +-1,   Z Z^T = 1 - z0 z0^T
            z0_i^2 = 1 - (d - 1) sigma_i / s,    m the smallest for which these are not negative

    Unbiased since `(Z Z^T)_ii = 1 - z0_i^2` and the signs average the rest away; exact for T <= r.
    The orthonormal form comes from the A_i and from the products of the H_i with the probes: X_A^T X_B has mean 1 on
    what these span, wherever the estimated lengths lie, so that probes add no bias. Directions below 100 machine
    epsilons of the largest are dropped.

    Args:
        rank: r, at least 1.
        probes: q, random vectors from which the inner products of the H_i are estimated; None takes them exactly, with
            N vectors.

    Raises:
        InputError: rank or probes below 1.
        CapabilityError: from `estimate`, a block without factored influence.

    Source: Benzing et al., arXiv:1902.03993, theorem 1 and algorithm 2. Cost on line: O(r B N^3) a step; simulated,
    r q tangents a step, small decompositions of r + 1 rows, and the cotangents of KFRTRL.
    """

    finite: ClassVar[str] = "a random Kronecker sum for the influence, and the nominal model in place of the chip"
    advice: ClassVar[str] = "raise the rank, or average more estimates (rule.averaged)"

    rank: int = 2

    def __post_init__(self) -> None:
        whole("LowRank", "rank", self.rank, least=1)
        _check_probes(self)

    @property
    def _rank(self) -> int:
        return self.rank

    def _mix(
        self, pres: Float[Array, "B R K"], gains: Float[Array, "B R Q"], signs: Float[Array, "B R"]
    ) -> tuple[Float[Array, "B r R"], Float[Array, "B r R"]]:
        xp, dtype = namespace(pres), pres.dtype
        balance = _quarter(xp.sum(gains * gains, axis=2), xp.sum(pres * pres, axis=2))[:, :, None]
        inverse_a, core_a = _factored(pres * balance)
        inverse_b, core_b = _factored(gains / balance)
        u, sigma, vt = xp.linalg.svd(core_a.mT @ core_b, full_matrices=False)
        short = self.rank + 1 - sigma.shape[1]  # fewer dimensions than terms
        sigma = xp.concat([sigma, *[xp.zeros_like(sigma[:, :1])] * short], axis=1)
        mixed = _rounded(sigma, xp.astype(signs, sigma.dtype, copy=False))[:, : u.shape[2]]
        mix_a, mix_b = balance * (inverse_a @ (u @ mixed)), (inverse_b @ (vt.mT @ mixed)) / balance
        return xp.astype(mix_a.mT, dtype, copy=False), xp.astype(mix_b.mT, dtype, copy=False)


def _quarter(above: Float[Array, "B R"], below: Float[Array, "B R"]) -> Float[Array, "B R"]:
    """`sqrt(|H| / |A|)` from squared lengths, 1 where either is zero."""
    xp = namespace(above)
    known, one = (above > 0.0) & (below > 0.0), xp.ones_like(above)
    return (xp.where(known, above, one) / xp.where(known, below, one)) ** 0.25


def _factored(rows: Float[Array, "B R K"]) -> tuple[Float[Array, "B R m"], Float[Array, "B R m"]]:
    """(C, L), float64: the columns of rows^T C are orthonormal (or zero), and rows = L (rows^T C)^T.

    Directions below the rounding of the rows are left out.
    """
    xp, floor = namespace(rows), _ROUNDING * namespace(rows).finfo(rows.dtype).eps
    triangle = xp.linalg.qr(xp.astype(rows, xp.float64, copy=False).mT).R
    _, s, wt = xp.linalg.svd(triangle, full_matrices=False)
    counts = s > floor * s[:, :1]
    inverse = xp.where(counts, 1.0 / xp.where(counts, s, xp.ones_like(s)), xp.zeros_like(s))
    return wt.mT * inverse[:, None, :], wt.mT * s[:, None, :]


def _rounded(sigma: Float[Array, "B R"], signs: Float[Array, "B R"]) -> Float[Array, "B R r"]:
    """X with `E X X^T = diag(sigma)`, of one column less than rows and the least variance; sigma descending."""
    xp, size = namespace(sigma), sigma.shape[1]
    tails = xp.flip(xp.cumulative_sum(xp.flip(sigma, axis=1), axis=1), axis=1)  # sum of sigma_i .. sigma_R
    columns = xp.arange(size, device=sigma.device)[None, :]
    # the smallest m with (d - 1) sigma_{m+1} <= s; it is there, at the latest with d = 2
    fits = (size - 1 - xp.astype(columns, sigma.dtype)) * sigma <= tails
    kept = xp.argmax(xp.astype(fits, xp.int64), axis=1)[:, None]
    rest = columns >= kept
    s = xp.take_along_axis(tails, kept, axis=1)
    share = s / xp.astype(size - 1 - kept, sigma.dtype)
    safe = xp.where(share > 0.0, share, xp.ones_like(share))
    z0 = xp.sqrt(xp.clip(xp.where(rest, 1.0 - sigma / safe, xp.zeros_like(sigma)), 0.0, None))
    last = xp.astype(columns == size - 1, sigma.dtype)
    z0 = xp.where(share > 0.0, z0, last + xp.zeros_like(z0))
    # the reflection that takes the last unit vector to z0 takes the others to a basis of what is left
    w = z0 - last
    squared = xp.sum(w * w, axis=1)[:, None, None]
    small = squared <= xp.finfo(sigma.dtype).tiny
    away = 2.0 * w[:, :, None] * w[:, None, :] / xp.where(small, xp.ones_like(squared), squared)
    unit = xp.eye(size, dtype=sigma.dtype, device=sigma.device)
    basis = (unit - xp.where(small, xp.zeros_like(away), away))[:, :, : size - 1]
    scale = xp.sqrt(xp.where(rest, share + xp.zeros_like(sigma), sigma))
    return (scale * signs)[:, :, None] * basis


def _alike(recording: Recording) -> list[tuple[str, ...]]:
    """Names of the blocks, those with equal gains together."""
    groups: list[list[str]] = []
    xp = namespace(recording.states)
    for name, (gain, _) in recording.factors.items():
        for group in groups:
            if bool(xp.all(recording.factors[group[0]][0] == gain)):
                group.append(name)
                break
        else:
            groups.append([name])
    return [tuple(group) for group in groups]


def _beside(recording: Recording, names: tuple[str, ...]) -> Float[Array, "B T K"]:
    """pre_0 .. pre_{T-1} of these blocks, side by side."""
    xp = namespace(recording.states)
    pre = xp.concat(
        [xp.astype(recording.factors[name][1], recording.states.dtype, copy=False) for name in names], axis=2
    )
    return xp.permute_dims(pre, (1, 0, 2))


def _paired(
    recording: Recording, sums: dict[tuple[str, ...], tuple[Float[Array, "B S N"], Float[Array, "B S K"]]]
) -> Parameters:
    """`sum left (x) right` for every block, shared and picked as the substrate does it."""
    xp, units = namespace(recording.states), recording.states.shape[2]
    shapes, full = recording.model.unshared().shapes(), {}
    for names, (left, right) in sums.items():
        product = xp.reshape(left, (-1, units)).T @ xp.reshape(right, (-1, right.shape[2]))
        first = 0
        for name in names:
            last = first + recording.factors[name][1].shape[2]
            full[name] = product[:, first] if tuple(shapes[name]) == (units,) else product[:, first:last]
            first = last
    if all(tuple(block.shape) == tuple(shapes[name]) for name, block in full.items()):
        like = recording.states
        still = {name: xp.zeros(tuple(shapes[name]), dtype=like.dtype, device=like.device) for name in recording.silent}
        return recording.model.share(Parameters(full | still))
    # not all of the [N, K] is there: credit knows what is. It is asked with the states whose pre-synaptic sides make up
    # the A_i, and its own gain taken out
    found = Parameters({})
    for names, (left, right) in sums.items():
        gain = recording.factors[names[0]][0]
        if bool(xp.any(gain == 0.0)):
            raise CapabilityError(
                f"a Kronecker sum for the blocks {sorted(names)}, which do not hold every coupling, divides by the "
                f"gain of the synapses, and some gain is zero: use a nonlinearity that is nowhere flat, or UORO"
            )
        parts = right @ xp.linalg.pinv(_beside(recording, names))  # [B, S, T]
        posts = xp.permute_dims(parts.mT @ left, (1, 0, 2)) / gain
        credit = recording.synapses.credit(posts, recording.states[:-1], recording.inputs, recording.theta)
        found = found | {name: credit[name] for name in names}
    return found


def _check_probes(member: _Kronecker) -> None:
    if member.probes is not None:
        whole(type(member).__name__, "probes", member.probes, least=1)
