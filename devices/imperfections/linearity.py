"""Where the levels of a converter are, and how far from a straight line."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError

from .contract import Context
from .converters import ADC, SARADC


def transitions(converter: ADC | SARADC, at: Context, units: int) -> Float[Array, "N levels"]:
    """T_1 .. T_(2^bits - 1) of every unit's converter: the least value that is read as code c or a higher one.

    Found as on a bench, by a servo that halves an interval around each. Cost: about 50 reads of 2^bits values per unit.
    """
    codes = np.arange(1, 2**converter.bits)
    wanted = (codes - 2 ** (converter.bits - 1) - 0.25) * converter.lsb
    low = np.full((len(codes), 1, units), -4.0 * converter.full_scale)
    high = -low
    while True:
        middle = (low + high) / 2.0
        if ((middle <= low) | (middle >= high) | (high - low < 1e-13 * converter.full_scale)).all():
            return high[:, 0, :].T
        read, _ = converter.read(middle, middle, _no_deviates, at)
        reached = read >= wanted[:, None, None]
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)


def inl_dnl(levels: Float[Array, "*C levels"]) -> tuple[Float[Array, "*C levels"], Float[Array, "*C widths"]]:
    """Integral and differential nonlinearity of transition (or output) levels, in LSB of the line through both ends:

        LSB = (T_last - T_first) / (levels - 1)
        INL_k = (T_k - T_first) / LSB - k,   DNL_k = (T_(k+1) - T_k) / LSB - 1

    Raises:
        InputError: fewer than two levels.

    Source: IEEE Std 1241-2010, terminal-based definitions.
    """
    count = levels.shape[-1]
    if count < 2:
        raise InputError(f"INL and DNL need at least two levels; found {count}")
    lsb = (levels[..., -1:] - levels[..., :1]) / (count - 1)
    inl = (levels - levels[..., :1]) / lsb - np.arange(count)
    return inl, np.diff(levels, axis=-1) / lsb - 1.0


def _no_deviates(component: int, steps: int) -> Float[Array, "steps B N"]:
    raise InputError("a converter draws nothing per read")
