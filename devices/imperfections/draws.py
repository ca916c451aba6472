"""The deviates of a noise address, drawn by the compiled kernel: those of `NoisePath.normals` to 1e-13."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Integer

from hwsim.contracts.noise import NoisePath


def normals(
    path: NoisePath,
    stream: int,
    ids: Integer[np.ndarray, " B"],
    *,
    units: int,
    steps: int = 1,
    first: int = 0,
    phase: int = 0,
    repeats: Integer[np.ndarray, " B"] | None = None,
) -> Float[np.ndarray, "steps B units"]:
    """As `NoisePath.normals`, for streams that are no path in time: coarsening does not concern them.

    Cost: 2 ns per deviate, for units rounded up to a multiple of 32.
    """
    from hwsim.kernels import draw_normals

    return draw_normals(
        replace(path, coarse=1), stream, ids, units=units, steps=steps, first=first, phase=phase, repeats=repeats
    )
