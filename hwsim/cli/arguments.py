"""Types of option values: each refuses in one sentence what it cannot use. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = natural(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; found {text}")
    return value


def natural(text: str) -> int:
    """A whole number of at least 0."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number; found {text!r}") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative; found {text}")
    return value


def bits(text: str) -> int:
    """Bits of a converter."""
    value = count(text)
    if value > 24:
        raise argparse.ArgumentTypeError(f"a converter has 1 to 24 bits; found {text}")
    return value


def level(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number; found {text!r}") from None
    if not (math.isfinite(value) and value >= 0.0):
        raise argparse.ArgumentTypeError(f"must be finite and not negative; found {text}")
    return value


def rate(text: str) -> float:
    """A finite number below 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number; found {text!r}") from None
    if not (math.isfinite(value) and value < 0.0):
        raise argparse.ArgumentTypeError(f"must be finite and below zero; found {text}")
    return value


def size(text: str) -> float:
    """A finite number above 0."""
    value = level(text)
    if value == 0.0:
        raise argparse.ArgumentTypeError("must be above zero; found 0")
    return value
