"""Checks of hyper-parameters, worded once."""

from __future__ import annotations

import math

from hwsim.contracts.errors import InputError


def positive(owner: object, name: str, value: float) -> None:
    """Refuse a value that is not positive and finite, naming the rule and the argument."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{type(owner).__name__} needs {name} > 0 and finite; found {name}={value}")
