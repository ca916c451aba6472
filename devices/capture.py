"""Credit formed where the states are: what a device does that keeps its transients and sends back sums alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hwsim.contracts.arrays import namespace
from hwsim.contracts.capture import CreditProbe
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
        InputError: a probe without runs, or recordings that do not pair.

    Cost: the runs; memory of a recording of each of two, T B N.
    """
    *_, settled = device.relax(free, noise=noise)
    asked = probe(replace(settled, states=None))
    post = None
    for run in asked.runs:
        if run.at is None:
            *_, found = device.relax(run.plan, noise=noise)
        else:
            *_, found = device.relax_transpose(run.at, run.plan, noise=noise)
        part = run.weights * (found.final if found.states is None else found.states)
        post = part if post is None else post + part
    if post is None:
        raise InputError("a probe has one run or more; found none")
    signal, states = (post if post.ndim == 2 else post[-1]), settled.final
    if asked.along:
        if settled.states is None or post.ndim == 2 or len(post) > len(settled.states):
            raise InputError(
                "a transient is paired with as many recorded states: record=1 in the free plan and each run"
            )
        signal, states = namespace(post).flip(post, axis=0), settled.states[: len(post)]
    credit = device.synapses.credit(signal, states, free.inputs, held).analog * asked.scale
    return replace(settled, states=None), credit
