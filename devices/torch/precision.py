"""How an engine multiplies by the couplings: in full precision, or with rounded factors for speed."""

from __future__ import annotations

import enum


class Products(enum.Enum):
    """Precision of the factors of W r; states, sums, noise and everything else stay in the device's own type.

    Rounding both factors to p bits after the leading one leaves a relative error of about 2^-(p + 1) in each of N
    terms, so that W r is off by some 2^-(p + 1) |W_i| |r| as one more, fixed, mismatch of the couplings would be. With
    each: the error of z_T relative to its largest entry, measured on a leaky tanh network (`docs/engines.md`).
    """

    EXACT = "the device's own precision"
    """float32 or float64."""
    TF32 = "tensor cores, 10 bits"
    """float32 factors rounded to TF32, sums in float32. CUDA only, from the Ampere generation on: elsewhere it is
    EXACT. Not measured here."""
    BF16 = "bfloat16, 7 bits"
    """Factors and the product rounded to bfloat16; on CUDA by tensor cores."""
