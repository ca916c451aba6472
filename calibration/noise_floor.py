"""How well a device can be read: the error of one read of one unit after a deployed settling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan, RandomStart


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What repeated reads of the same inputs scatter by.

    Args:
        per_unit: [N] standard deviation over repeats, pooled over inputs, state units.
        rms: the same pooled over units.
        standard_error: of `rms`, for nearly normal, independent repeats: `rms / sqrt(2 degrees of freedom)`.
        repeats: settlings of each input.
    """

    per_unit: Float[Array, " N"]
    rms: float
    standard_error: float
    repeats: int


def measure_noise_floor(
    device: Device, inputs: Float[Array, "B M"], *, noise: NoisePath, repeats: int = 32
) -> NoiseFloor:
    """Settle the same inputs `repeats` times under fresh noise and pool the variance of z_T:

        s_i^2 = 1 / (B (R - 1)) sum_{b, r} (z_{b r i} - mean_r z_{b r i})^2

    which holds all that changes from one settling to the next: thermal noise as it stands at T, and read noise. What a
    converter rounds away shows only where the noise moves a read by a step; a device without noise measures 0.

    Args:
        device: programmed. Deployed from its spec's start, a random one excepted: its spread is no noise.
        inputs: [B, M]; a few typical ones.
        noise: address; each repeat takes the next one. Ignored by a device that makes its own.
        repeats: R, at least 2; the relative error of the result is about 1 / sqrt(2 B N (R - 1)).

    Raises:
        InputError: fewer than two repeats, or a device whose start is random.

    Cost: B R settles of T steps.
    """
    spec = device.spec
    if repeats < 2:
        raise InputError(f"a spread needs at least 2 repeats; found repeats={repeats}")
    if isinstance(spec.start, RandomStart):
        raise InputError("a random start scatters by itself: measure the noise floor of the same device from Rest()")
    if Capability.REPLAYABLE_NOISE in spec.capabilities and noise.repeat + repeats > 2**16:
        raise InputError(f"the noise path has repeats {noise.repeat} to 65535 left; {repeats} were asked for")
    ids = np.arange(len(inputs))
    reads = np.stack(
        [
            device.relax(
                Plan(inputs=inputs, ids=ids, start=spec.start, phases=(Phase(steps=spec.horizon),)),
                noise=noise.repeated(repeat),
            )[0].final
            for repeat in range(repeats)
        ]
    ).astype(np.float64)
    variance = np.mean(np.var(reads, axis=0, ddof=1), axis=0)
    rms = float(np.sqrt(np.mean(variance)))
    freedom = len(inputs) * spec.units * (repeats - 1)
    return NoiseFloor(
        per_unit=np.sqrt(variance), rms=rms, standard_error=rms / float(np.sqrt(2.0 * freedom)), repeats=repeats
    )
