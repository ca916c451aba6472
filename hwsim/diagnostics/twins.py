"""Growth of nearby trajectories, measured on a device."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.contracts.task import Batch


def twin_exponent(
    device: Device,
    batch: Batch,
    z: Float[Array, "B N"],
    *,
    noise: NoisePath,
    separation: float = 1e-3,
    steps: int = 200,
    burn_in: int = 100,
) -> Float[Array, " B"]:
    """Growth rate of the distance between twin trajectories, per time constant, for each lane:

        gamma = mean over steps after burn-in of ln(|delta'| / |delta|) / eps

    with the separation set back to its length after every step (Benettin et al., Meccanica 15:9, 1980). Both twins see
    the same noise. Where the dynamics are linear, gamma = ln(rho) / eps. Negative: trajectories meet again.

    Args:
        device: programmed; capabilities `twins` and `load_state`.
        batch: the inputs.
        z: [B, N] where the trajectories begin.
        noise: address of the noise and of the first direction; every step takes the next experiment step.
        separation: distance that is held, state units.
        steps: Euler steps measured, the burn-in included.
        burn_in: steps not counted, in which the separation turns towards the slowest mode.

    Raises:
        CapabilityError: twins or load_state missing.

    Cost: 2 settles of one step per sample and step.
    """
    device.spec.require({Capability.TWINS, Capability.LOAD_STATE}, "twin_exponent")
    lanes = len(batch)
    direction = noise.normals(Stream.PROBE, batch.ids, units=device.spec.units)[0]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inputs, ids = np.concatenate([batch.inputs] * 2), np.concatenate([batch.ids] * 2)
    total = np.zeros(lanes)
    for step in range(steps):
        start = At(np.concatenate([z, z + separation * direction]))
        plan = Plan(inputs=inputs, ids=ids, start=start, phases=(Phase(steps=1),))
        (run,) = device.relax(plan, noise=noise.at_step(noise.step + step))
        z, difference = run.final[:lanes], run.final[lanes:] - run.final[:lanes]
        length = np.linalg.norm(difference, axis=1, keepdims=True)
        direction = difference / length
        if step >= burn_in:
            total += np.log(length[:, 0] / separation)
    growth: Float[Array, " B"] = total / ((steps - burn_in) * device.spec.step_size)
    return growth
