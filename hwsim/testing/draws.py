"""Random points for the suites: the same seed gives the same numbers on every machine."""

from __future__ import annotations

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import DeviceSpec
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters

HALF_WIDTH = np.sqrt(3.0) / 2.0
"""Parameters are uniform with standard deviation 0.5 / sqrt(fan-in): a network well inside its edge of stability."""


def normals(seed: int, key: int, *shape: int) -> Array:
    """Standard normal deviates; another key, other numbers."""
    return np.random.default_rng([seed, key]).standard_normal(shape)


def draw_block(seed: int, key: int, shape: tuple[int, ...], span: tuple[float, float] = (-np.inf, np.inf)) -> Array:
    """A block in the middle 80 % of what its range leaves of [-h, h], `h = sqrt(3) / 2 / sqrt(fan-in)`.

    Args:
        seed, key: of the draw.
        shape: of the block; its last axis is the fan-in where it has two or more.
        span: (lowest, highest) value that the block can hold. Where [-h, h] lies outside, the values are taken from the
            2 h nearest to it.
    """
    half = HALF_WIDTH / np.sqrt(shape[-1] if len(shape) > 1 else 1)
    low, high = max(span[0], -half), min(span[1], half)
    if low >= high:
        low, high = (span[0], min(span[1], span[0] + 2 * half)) if low > 0 else (max(span[0], span[1] - 2 * half), high)
    margin = 0.0 if (low, high) == (-half, half) else 0.1 * (high - low)
    return np.random.default_rng([seed, key]).uniform(low + margin, high - margin, shape)


def draw_parameters(spec: DeviceSpec, seed: int) -> Parameters:
    """Analog blocks that a device with this spec can hold; feedback blocks equal what they mirror.

    Raises:
        InputError: a feedback block and what it mirrors have no value in common.
    """
    spans = {name: spec.ranges.get(name, (-np.inf, np.inf)) for name in spec.shapes}
    for name, mirrored in spec.feedback.items():
        low, high = max(spans[name][0], spans[mirrored][0]), min(spans[name][1], spans[mirrored][1])
        if low >= high:
            raise InputError(
                f"feedback block {name} in {spans[name]} cannot mirror block {mirrored} in {spans[mirrored]}: give the "
                "two arrays ranges that overlap"
            )
        spans[mirrored] = low, high
    drawn = {
        name: draw_block(seed, 10 + index, tuple(shape), spans[name])
        for index, (name, shape) in enumerate(spec.shapes.items())
    }
    return Parameters(drawn | {name: drawn[mirrored] for name, mirrored in spec.feedback.items()})
