"""Credit formed where the states are: what a device does that keeps its transients and sends back sums alone."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import reduce

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.capture import CreditProbe, Weighted
from hwsim.contracts.device import Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, PhysicalNoise
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Plan, Relaxation


def form_credit(
    device: Device,
    held: Parameters,
    free: Plan,
    probe: Callable[[Relaxation], CreditProbe],
    *,
    noise: NoisePath | PhysicalNoise,
) -> tuple[Relaxation, Parameters]:
    """`Device.form_credit` by `Device.relax`: the recordings are paired here.

    Args:
        device: on which it runs.
        held: what is programmed.
        free, probe, noise: as in `Device.form_credit`.

    Raises:
        InputError: a probe without runs, runs of different lengths, or recordings that do not pair.

    Cost: the runs; memory of a recording of each of two, T B N.
    """
    *_, settled = device.relax(free, noise=noise)
    asked = probe(replace(settled, states=None))
    if len({(run.plan.phases[-1].steps, run.plan.phases[-1].record) for run in asked.runs}) != 1:
        raise InputError("a probe has one run or more, whose last phases have the same steps and the same record")
    post = reduce(operator.add, (_weighted(device, run, noise) for run in asked.runs))
    signal, states = (post if post.ndim == 2 else post[-1]), settled.final
    if asked.along:
        every, other = free.phases[-1].record, asked.runs[0].plan.phases[-1].record
        if settled.states is None or every != other or len(post) > len(settled.states):
            raise InputError(
                f"a transient is paired with one that is no longer and recorded as often; found record={every} in the "
                f"free plan and record={other} in the probe, {len(post)} states to pair"
            )
        signal, states = namespace(post).flip(post, axis=0), settled.states[: len(post)]
    credit = device.synapses.credit(signal, states, free.inputs, held).analog * asked.scale
    return replace(settled, states=None), credit


def _weighted(device: Device, run: Weighted, noise: NoisePath | PhysicalNoise) -> Float[Array, "*K1 B N"]:
    """One run's states of its last phase, all that were recorded or the last, times its weights."""
    if run.at is None:
        *_, found = device.relax(run.plan, noise=noise)
    else:
        *_, found = device.relax_transpose(run.at, run.plan, noise=noise)
    return run.weights * (found.final if found.states is None else found.states)
