"""Types of option values: each refuses in one sentence what it cannot use. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


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


def several(one: Callable[[str], _T]) -> Callable[[str], tuple[_T, ...]]:
    """Comma-separated values of one type, each given once."""

    def values(text: str) -> tuple[_T, ...]:
        found = tuple(one(part.strip()) for part in text.split(","))
        if len(set(found)) < len(found):
            raise argparse.ArgumentTypeError(f"must be values that differ; found {text}")
        return found

    return values


def bits_or_none(text: str) -> int | None:
    """Bits of a converter, or "none" for an ideal readout."""
    return None if text == "none" else bits(text)


def engine(text: str) -> str:
    """ "fused", "stepwise", "torch" or "torch:cuda:0"; whether there is such a device is found out later."""
    if re.fullmatch(r"fused|stepwise|torch(:cpu|:cuda(:\d{1,3})?)?", text) is None:
        raise argparse.ArgumentTypeError(f"must be fused, stepwise, torch, torch:cuda or torch:cuda:0; found {text!r}")
    return text


def torch_device(text: str) -> str:
    """ "cpu", "cuda" or "cuda:0"; whether there is one is found out later."""
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", text) is None:
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:0 (1, 2, ...); found {text!r}")
    return text
