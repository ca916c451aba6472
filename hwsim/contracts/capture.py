"""What a device is asked that forms credit by itself."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float

from .arrays import Array
from .plan import Plan


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """One run of a probe.

    Args:
        plan: on the lanes of the free plan.
        weights: [B, N], by which its recorded states are multiplied.
        at: [B, N], state around which the couplings are driven backwards; None runs forwards.
    """

    plan: Plan
    weights: Float[Array, "B N"]
    at: Float[Array, "B N"] | None = None


@dataclass(frozen=True, kw_only=True)
class CreditProbe:
    """A probe whose response is paired, on the device, with the free states z_0 .. z_T that are kept there:

        post_j = sum over runs of weights * states_j,    j = 0 .. K, of the last phase of each run

        W_mn  += scale sum_bk post_{K-k}[b, m] r(z_k[b, n])        along the transient, played backwards
        W_mn  += scale sum_b  post_K[b, m] r(z_T[b, n])            at the end alone

    and U with the inputs x, b with 1, in place of r(z).

    Args:
        runs: one after another, with equally many recorded states.
        scale: of the whole sum.
        along: pair the whole transient, or the last states alone.
    """

    runs: tuple[Weighted, ...]
    scale: float
    along: bool
