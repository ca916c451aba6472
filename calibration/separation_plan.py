"""How far to kick a twin: the separation at which a growth rate's bias and noise are smallest together, measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.contracts.rule import settle_free
from hwsim.contracts.task import Batch
from hwsim.contracts.threads import one_blas_thread

from .power_laws import Samples, fit, pair_variance
from .probe_plan import ProbePlan, amplitudes_to_try, plan_from, put_back

LOST = 0.3
"""Bias of a growth rate by noise alone, relative to its scatter, above which a separation is not used."""


def plan_separation(
    device: Device,
    batch: Batch,
    *,
    noise: NoisePath,
    separations: Iterable[float] | None = None,
    steps: int = 20,
    burn_in: int = 10,
    repeats: int = 8,
    orders: Sequence[float] = (1.0,),
) -> ProbePlan:
    """Measure growth rates from kicked twins against the separation of the kick, and find the best separation.

        gamma_b = ln(|delta_K| / |delta_k0|) / (eps (K - k0))      of every sample b, per time constant

    which is the mean of the homeostat's growth over the steps from the burn-in k0 to K: twins under the same noise,
    left alone. Per repeat one free phase and one random direction for each sample; at each separation two twins under
    independent noise. The laws of `plan_probe` are fitted to the growth rates of all samples, the bias for each
    direction by itself: to first order it changes sign with the kick. In the plan,

        signal      rms growth rate                 free     what directions and free phases scatter it by
        noise, s    of the reads, s / separation    floor    of trajectories that noise takes different ways
        amplitude   the separation to use: ContractionHomeostat(separation=plan.amplitude.value, ...)

    Noise n in N units lengthens a difference, `E ln|delta + n| = ln|delta| + (N - 1) v^2 / 2` for a relative noise v
    along it: separations at which that is more than 0.3 of v are left out, since their bias is another one. Noise that
    twins share, in reads as well, cancels; where nothing but bias is left, the smallest separation is the best.

    Args:
        device: programmed.
        batch: typical samples.
        noise: address; repeat r takes the experiment step r further on.
        separations: at least three, positive, state units; six unless told (see `plan_probe`).
        steps: K, Euler steps of the twins.
        burn_in: k0, below K.
        repeats: R, free phases, at least 4.
        orders: candidates for the power of the bias.

    Raises:
        CapabilityError: twins, load_state or displace are missing.
        InputError: too few repeats or separations, or too few of them above the noise.

    Cost: R free phases, 4 R M settles of K steps per sample for M separations, and 8 settlings for the noise floor.
    """
    device.spec.require({Capability.TWINS, Capability.LOAD_STATE, Capability.DISPLACE}, "plan_separation")
    whole("a separation plan", "repeats", repeats, least=4)
    whole("a separation plan", "burn_in", burn_in, least=0)
    whole("a separation plan", "steps", steps, least=burn_in + 1)
    if not orders or min(orders) <= 0:
        raise InputError(f"the bias grows with a positive power of the separation; found orders={tuple(orders)}")
    tried, resolution, cost = amplitudes_to_try(device, batch, noise, separations)
    used = np.broadcast_to(tried[None, :, None], (repeats, len(tried), 2))
    saved, growth = device.save(), np.empty((*used.shape, len(batch)))
    time = device.spec.step_size * (steps - burn_in)
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for repeat in range(repeats):
            path = noise.at_step(noise.step + repeat)
            put_back(device, saved)
            free, spent = settle_free(device, batch, Needs(), path)
            z = np.asarray(free.final, np.float64)
            direction = path.normals(Stream.PROBE, np.asarray(batch.ids), units=device.spec.units)[0]
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            cost = cost + spent
            for at, separation in enumerate(used[repeat].ravel()):
                plan = _twins(batch, z, separation * direction, burn_in, steps)
                lengths = [
                    np.linalg.norm(np.asarray(run.final[len(z) :] - run.final[: len(z)], np.float64), axis=1)
                    for run in device.relax(plan, noise=path.branch(at))
                ]
                growth[repeat].reshape(-1, len(z))[at] = np.log(lengths[1] / lengths[0]) / time
                cost = cost + Cost.of(plan.phases, plan.lanes)
    put_back(device, saved)
    clear = _clear(tried, used, growth, time, device.spec.units)
    rates = growth[:, clear] / np.sqrt(len(batch))
    samples = Samples.of(tried[clear], used[:, clear], rates, shared_bias=False)
    return plan_from(samples, fit(samples, orders), resolution, cost)


def _twins(batch: Batch, z: Float[Array, "B N"], kick: Float[Array, "B N"], burn_in: int, steps: int) -> Plan:
    ids = np.asarray(batch.ids)
    inputs = np.asarray(batch.inputs)
    repeat = np.ones(2 * len(ids), dtype=np.int64)
    first = Phase(steps=burn_in, displace=np.concatenate([np.zeros_like(kick), kick]))
    return Plan(
        inputs=np.concatenate([inputs, inputs]),
        ids=np.concatenate([ids, ids]),
        repeats=repeat,
        start=At(np.concatenate([z, z])),
        phases=(first, Phase(steps=steps - burn_in)),
    )


def _clear(
    tried: Float[Array, " M"], used: Float[Array, "R M 2"], growth: Float[Array, "R M 2 B"], time: float, units: int
) -> Array:
    """Which separations are finite and still well above the noise at the last step."""
    clear = np.isfinite(growth).all(axis=(0, 2, 3))
    if clear.any():
        scatter, _ = pair_variance(used[:, clear], growth[:, clear] / np.sqrt(growth.shape[-1]))
        relative = np.sqrt(scatter) * time
        clear[np.flatnonzero(clear)[(units - 1) * relative / 2.0 > LOST]] = False
    if clear.sum() < 3:
        raise InputError(
            f"{int(clear.sum())} of the separations {tried.tolist()} are finite and well above the noise until the "
            "last step; three are needed: kick harder, or take fewer steps"
        )
    return clear
