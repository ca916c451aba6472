"""Checks of values, worded once."""

from __future__ import annotations

import operator

from .errors import InputError


def whole(owner: str, name: str, value: int, *, least: int) -> None:
    """Raise InputError where a value is no whole number of at least `least`."""
    try:
        enough = operator.index(value) >= least
    except TypeError:
        enough = False
    if not enough:
        raise InputError(f"{owner} needs a whole number {name} >= {least}; found {name}={value!r}")
