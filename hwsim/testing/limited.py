"""Devices around a device: one that can do less, and one that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.capture import CreditProbe
from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import PHYSICAL, NoisePath, PhysicalNoise
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Plan, Relaxation
from hwsim.contracts.substrate import LocalSynapses, Substrate, Synapses
from hwsim.contracts.wrapped_device import WrappedDevice


@final
class LimitedDevice(WrappedDevice):
    """The same device with fewer capabilities: what it does not list it refuses, and its synapses are only synapses.

    Without `replayable_noise` it runs every plan under `PHYSICAL` noise; without `twins` as well, no two lanes share
    any.

    Args:
        device: the one inside.
        capabilities: those that are left, a subset of the device's.
        reciprocal: whether the metric is left; as the device has it where None.

    Raises:
        InputError: asked for more than the device inside has.
    """

    def __init__(self, device: Device, capabilities: Iterable[Capability], *, reciprocal: bool | None = None) -> None:
        super().__init__(device)
        kept, spec = frozenset(capabilities), device.spec
        if unknown := spec.missing(kept):
            raise InputError(f"cannot leave a device {sorted(c.name.lower() for c in unknown)}, which it does not have")
        if reciprocal and not spec.reciprocal:
            raise InputError("cannot leave a device reciprocal that is not")
        self._spec = replace(spec, capabilities=kept, reciprocal=spec.reciprocal if reciprocal is None else reciprocal)

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def synapses(self) -> Synapses:
        slit = LocalSynapses(self._device.synapses)
        return slit if self._spec.reciprocal else _WithoutMetric(slit)

    @property
    def model(self) -> Substrate:
        self._spec.require({Capability.MODEL}, "Device.model")
        return self._device.model

    @property
    def nominal(self) -> Substrate:
        self._spec.require({Capability.MODEL}, "Device.nominal")
        return self._device.nominal

    def program(self, parameters: Parameters) -> Parameters:
        return self._device.program(parameters)

    def adjust(self, pulses: Parameters) -> Parameters:
        self._spec.require({Capability.ADJUST}, "Device.adjust")
        return self._device.adjust(pulses)

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        return self._device.relax(self._unshared(plan), noise=self._own(noise))

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        self._spec.require({Capability.TRANSPOSE}, "relax_transpose")
        if len(at.shape) == 3:
            self._spec.require({Capability.PLAYBACK}, "relax_transpose(at=[steps + 1, B, N])")
        self._spec.check_plan(plan)
        return self._device.relax_transpose(at, self._unshared(plan), noise=self._own(noise))

    def form_credit(
        self, free: Plan, probe: Callable[[Relaxation], CreditProbe], *, noise: NoisePath | PhysicalNoise
    ) -> tuple[Relaxation, Parameters]:
        self._spec.require({Capability.CAPTURE_CREDIT}, "Device.form_credit")
        self._spec.check_plan(free)
        return self._device.form_credit(free, probe, noise=self._own(noise))

    def _own(self, noise: NoisePath | PhysicalNoise) -> NoisePath | PhysicalNoise:
        return noise if Capability.REPLAYABLE_NOISE in self._spec.capabilities else PHYSICAL

    def _unshared(self, plan: Plan) -> Plan:
        if self._spec.capabilities & {Capability.TWINS, Capability.REPLAYABLE_NOISE}:
            return plan
        return replace(plan, repeats=np.arange(plan.lanes))


@final
class _WithoutMetric(Synapses):
    """Synapses of couplings that are not known to be reciprocal."""

    def __init__(self, synapses: Synapses) -> None:
        self._synapses = synapses

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        return self._synapses.credit(post, z, x, theta, per_sample=per_sample)

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        return self._synapses.influence(z, x, theta)

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        return self._synapses.energy_credit(z, x, theta)


@final
class MeteredDevice(WrappedDevice):
    """The same device with a meter on it, to compare what a rule says it cost with what it took.

    Args:
        device: the one inside.
    """

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self._cost = Cost()
        self._looks = 0
        self._repeats: frozenset[int] = frozenset()

    @property
    def observed(self) -> Cost:
        """What was used so far: settles, steps and state vectors read per lane, and blocks written."""
        return self._cost

    @property
    def looks(self) -> int:
        """How often the model, drawn or nominal, was asked for."""
        return self._looks

    @property
    def repeats(self) -> frozenset[int]:
        """The repeats of all noise addresses asked for, the noise path's own included."""
        return self._repeats

    @property
    def spec(self) -> DeviceSpec:
        return self._device.spec

    @property
    def synapses(self) -> Synapses:
        return self._device.synapses

    @property
    def model(self) -> Substrate:
        self._looks += 1
        return self._device.model

    @property
    def nominal(self) -> Substrate:
        self._looks += 1
        return self._device.nominal

    def program(self, parameters: Parameters) -> Parameters:
        self._cost = self._cost + Cost(writes=len(parameters.analog))
        return self._device.program(parameters)

    def adjust(self, pulses: Parameters) -> Parameters:
        self._cost = self._cost + Cost(writes=len(pulses.analog))
        return self._device.adjust(pulses)

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        runs = self._device.relax(plan, noise=noise)
        self._count(plan, noise, runs)
        return runs

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        runs = self._device.relax_transpose(at, plan, noise=noise)
        self._count(plan, noise, runs)
        return runs

    def form_credit(
        self, free: Plan, probe: Callable[[Relaxation], CreditProbe], *, noise: NoisePath | PhysicalNoise
    ) -> tuple[Relaxation, Parameters]:
        plans = list[Plan]()

        def told(settled: Relaxation) -> CreditProbe:
            asked = probe(settled)
            plans[:] = [run.plan for run in asked.runs]
            return asked

        found = self._device.form_credit(free, told, noise=noise)
        self._count(free, PHYSICAL)  # the free phase once more, not an address of the rule's own
        for plan in plans:
            self._count(plan, noise)  # what is recorded stays there
        return found

    def _count(self, plan: Plan, noise: NoisePath | PhysicalNoise, runs: Sequence[Relaxation] = ()) -> None:
        recorded = sum(0 if run.states is None else len(run.states) for run in runs)
        for phase in plan.phases:
            spent = Cost(settles=plan.lanes, steps=phase.steps * plan.lanes, reads=plan.lanes)
            self._cost = self._cost + spent
        self._cost = self._cost + Cost(reads=recorded * plan.lanes)
        if isinstance(noise, NoisePath):
            added = np.zeros(1, np.int64) if plan.repeats is None else np.asarray(plan.repeats)
            self._repeats = self._repeats | {noise.repeat + int(repeat) for repeat in added}
