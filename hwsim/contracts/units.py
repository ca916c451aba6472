"""Numbers with units, for people."""

from __future__ import annotations

import math

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def engineering(value: float, unit: str) -> str:
    """A quantity with three digits and an SI prefix.

    >>> engineering(6.43e-5, "V")
    '64.3 uV'
    >>> engineering(0.0, "A")
    '0 A'
    """
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    exponent = 3 * math.floor(math.log10(abs(float(f"{value:.2e}"))) / 3)
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return f"{value / 10.0**exponent:.3g} {_PREFIXES[exponent]}{unit}"
