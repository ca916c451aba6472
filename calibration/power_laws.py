"""Laws in the amplitude of a probe, fitted to repeated estimates: noise s^2 / a^2 + q, bias b a^p."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array

DETECTED = 3.0
"""Standard deviations (of what noise alone would give) by which a bias must stand out to count as seen."""
BENT = 0.25
"""Misfit of the bias's power law, relative to the error expected there, from which on it is not to be trusted."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Estimates [R, M, 2, D] at amplitudes [R, M, 2]: repeats (free phases), nominal amplitudes, pairs.

    Only inner products of estimates matter to the fits, so `of` turns P parameters into D <= 2 R M + 1 coordinates.

    Args:
        nominal: [M] ascending.
        amplitudes: used.
        centered: [R, M, 2, D] estimates less their common mean.
        mean: [D] that mean.
        shared_bias: whether B is the same in all repeats; else each has its own, and b^2 is their mean square.
    """

    nominal: Float[Array, " M"]
    amplitudes: Float[Array, "R M 2"]
    centered: Float[Array, "R M 2 D"]
    mean: Float[Array, " D"]
    shared_bias: bool = True

    @staticmethod
    def of(
        nominal: Float[Array, " M"],
        amplitudes: Float[Array, "R M 2"],
        estimates: Float[Array, "R M 2 P"],
        *,
        shared_bias: bool = True,
    ) -> Samples:
        """The same inner products in as few coordinates as there are estimates."""
        shape = estimates.shape[:-1]
        rows = estimates.reshape(-1, estimates.shape[-1])
        mean = rows.mean(axis=0)
        # the mean apart, so that small differences keep their digits
        turned = np.asarray(np.linalg.qr(np.vstack([rows - mean, mean]).T, mode="r")).T
        return Samples(
            nominal=nominal,
            amplitudes=amplitudes,
            centered=turned[:-1].reshape(*shape, -1),
            mean=turned[-1],
            shared_bias=shared_bias,
        )

    def without(self, repeat: int) -> Samples:
        """All repeats but one."""
        kept = np.arange(len(self.amplitudes)) != repeat
        return replace(self, amplitudes=self.amplitudes[kept], centered=self.centered[kept])


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What the samples say.

    Args:
        raw: [M] measured variance of one probe at fixed free phase.
        noise: s^2.
        floor: q.
        free: f, variance of the free phase's part.
        signal: |g|^2 in the limit of amplitude 0, noise removed.
        bias: b^2, noise removed; 0 where none stands out.
        order: p.
        distances: [M] distance of the mean estimates from the limit, noise removed.
        trusted: [M] to which the bias law was fitted.
    """

    raw: Float[Array, " M"]
    noise: float
    floor: float
    free: float
    signal: float
    bias: float
    order: float
    distances: Float[Array, " M"]
    trusted: Bool[Array, " M"]


def fit(samples: Samples, orders: Sequence[float]) -> Fit:
    """Fit both laws: the order among the candidates that leaves the least, to the amplitudes that follow it, three at
    least, the largest left out first."""
    trusted = np.ones(len(samples.nominal), bool)
    while True:
        laws = [(order, _law(samples, order, trusted)) for order in orders]
        order, law = min(laws, key=lambda pair: pair[1].misfit(trusted))
        if trusted.sum() <= 3 or not law.bent(trusted, order):
            return law.fit(order, trusted)
        trusted[np.flatnonzero(trusted)[-1]] = False


def with_errors(
    samples: Samples, found: Fit, quantities: Callable[[Fit], Float[Array, " Q"]]
) -> tuple[Float[Array, " Q"], Float[Array, " Q"]]:
    """Functions of a fit and their standard errors, by leaving out one repeat at a time (order and trust kept)."""
    repeats = len(samples.amplitudes)
    left = np.stack(
        [
            quantities(_law(samples.without(r), found.order, found.trusted).fit(found.order, found.trusted))
            for r in range(repeats)
        ]
    )
    spread = np.sum((left - left.mean(axis=0)) ** 2, axis=0) * (repeats - 1) / repeats
    return quantities(found), np.sqrt(spread)


@dataclass(frozen=True, kw_only=True)
class _Law:
    """A regression at a given order: y_rij = g_r + B_r a_rij^p + noise of variance w_i, an intercept for each repeat.

    Args:
        samples: what was fitted.
        raw: [M] variance of one probe, from pairs.
        noise, floor: s^2 and q of w_i = s^2 / a_i^2 + q.
        slope: [R, D] B, the same in all rows where it is shared.
        slope_noise: E|B - B_true|^2.
        intercepts: [R, D] g_r.
        intercept_noise: what the probes add to the scatter of g_r.
        mean_noise: what they add to the mean of g_r.
        residuals: [M, D] of the means over repeats and pairs.
        effective: number of independent directions in the noise.
    """

    samples: Samples
    raw: Float[Array, " M"]
    noise: float
    floor: float
    slope: Float[Array, "R D"]
    slope_noise: float
    intercepts: Float[Array, "R D"]
    intercept_noise: float
    mean_noise: float
    residuals: Float[Array, "M D"]
    squares: Float[Array, " M"]
    effective: float

    @property
    def expected(self) -> Float[Array, " M"]:
        """w_i."""
        return self.noise / self.samples.nominal**2 + self.floor

    @property
    def doubt(self) -> float:
        """Standard deviation of a summed square of noise, relative to its mean."""
        return float(np.sqrt(2.0 / self.effective))

    @property
    def bias(self) -> float:
        """|B|^2, noise removed, where it stands out; else 0."""
        excess = float(np.sum(self.slope**2)) / len(self.slope) - self.slope_noise
        return excess if excess > DETECTED * self.doubt * self.slope_noise else 0.0

    def misfit(self, trusted: Bool[Array, " M"]) -> float:
        """Weighted sum of squared residuals."""
        return float(np.sum((self.squares / self.expected)[trusted]))

    def bent(self, trusted: Bool[Array, " M"], order: float) -> bool:
        """Whether the means leave the power law by more than noise and by enough to matter beside the error there."""
        noise = self.expected / (2 * len(self.intercepts))
        excess = np.sum(self.residuals**2, axis=1) - noise
        matters = BENT**2 * (self.bias * self.samples.nominal ** (2 * order) + self.expected)
        seen = (excess > DETECTED * self.doubt * noise) & (excess > matters) & trusted
        return bool(seen.any()) and self.bias > 0.0

    def fit(self, order: float, trusted: Bool[Array, " M"]) -> Fit:
        """In numbers."""
        samples, repeats = self.samples, len(self.intercepts)
        limit = samples.mean + self.intercepts.mean(axis=0)
        scatter = float(np.sum(np.var(self.intercepts, axis=0, ddof=1)))
        free = max(0.0, scatter - self.intercept_noise)
        away = samples.centered.mean(axis=2) - self.intercepts[:, None]
        away = away.mean(axis=0, keepdims=True) if samples.shared_bias else away
        apart = np.sum(away**2, axis=2).mean(axis=0) - self.expected * len(away) / (2 * repeats)
        return Fit(
            raw=self.raw,
            noise=self.noise,
            floor=self.floor,
            free=free,
            signal=max(0.0, float(limit @ limit) - free / repeats - self.mean_noise),
            bias=self.bias,
            order=order,
            distances=np.sqrt(np.maximum(apart, 0.0)),
            trusted=trusted.copy(),
        )


def _law(samples: Samples, order: float, trusted: Bool[Array, " M"]) -> _Law:
    y, grown = samples.centered, samples.amplitudes**order
    raw, each = pair_variance(samples.amplitudes, samples.centered)
    rounding = (np.finfo(np.float64).eps ** 2) * float(samples.mean @ samples.mean + np.mean(np.sum(y * y, axis=-1)))
    noise, floor = _variance_law(samples.nominal[trusted], raw[trusted] + rounding)
    expected = noise / samples.nominal**2 + floor
    weights = np.broadcast_to(np.where(trusted, 1.0 / expected, 0.0)[None, :, None], grown.shape)
    total = weights.sum(axis=(1, 2), keepdims=True)
    centre = np.sum(weights * grown, axis=(1, 2), keepdims=True) / total
    lever = weights * (grown - centre)
    power = np.sum(lever * (grown - centre), axis=(1, 2))[:, None]
    slope = np.einsum("rij,rijd->rd", lever, y)
    if samples.shared_bias:
        power, slope = power.sum(axis=0, keepdims=True), slope.sum(axis=0, keepdims=True)
    slope = np.broadcast_to(slope / power, (len(y), y.shape[-1]))
    intercepts = np.einsum("rij,rijd->rd", weights / total, y) - centre[:, 0] * slope
    residuals = y - intercepts[:, None, None] - grown[..., None] * slope[:, None, None]
    own, shifted = float(np.mean(1.0 / total)), float(np.mean(centre) ** 2 * np.mean(1.0 / power))
    ratio = (each / expected)[:, trusted]
    effective = 2.0 * ratio.mean() ** 2 / max(float(ratio.var()), 1e-12)
    return _Law(
        samples=samples,
        raw=raw,
        noise=noise,
        floor=floor,
        slope=slope,
        slope_noise=float(np.mean(1.0 / power)),
        intercepts=intercepts,
        # the noise of a slope that all intercepts share does not scatter between them
        intercept_noise=own if samples.shared_bias else own + shifted,
        mean_noise=own / len(y) + shifted / (1 if samples.shared_bias else len(y)),
        residuals=residuals.mean(axis=(0, 2)),
        squares=np.sum(residuals**2, axis=(0, 2, 3)),
        effective=float(np.clip(effective, 1.0, y.shape[-1])),
    )


def pair_variance(
    amplitudes: Float[Array, "R M 2"], estimates: Float[Array, "R M 2 D"]
) -> tuple[Float[Array, " M"], Float[Array, "R M"]]:
    """Summed variance of one estimate [M], from what pairs differ by beyond a trend in their amplitudes, for each
    nominal amplitude by itself; and the share of every pair in it [R, M], of which it is the mean."""
    apart = estimates[:, :, 0] - estimates[:, :, 1]
    step = amplitudes[:, :, 0] - amplitudes[:, :, 1]
    square, repeats = np.sum(step**2, axis=0), len(step)
    if square.all():
        apart = apart - step[:, :, None] * (np.einsum("rm,rmd->md", step, apart) / square[:, None])
    each = np.sum(apart**2, axis=-1) / 2.0 * (repeats / (repeats - 1) if square.all() else 1.0)
    return each.mean(axis=0), each


def _variance_law(amplitudes: Float[Array, " M"], variances: Float[Array, " M"]) -> tuple[float, float]:
    """s^2 and q, both at least 0, of `s^2 / a^2 + q`, by least squares of relative errors."""
    from scipy.optimize import nnls

    columns = np.stack([amplitudes**-2.0, np.ones_like(amplitudes)], axis=1)
    model = variances
    for _ in range(10):
        (noise, floor), _ = nnls(columns / model[:, None], variances / model)
        model = np.maximum(columns @ np.array([noise, floor]), np.finfo(np.float64).tiny)
    return float(noise), float(floor)
