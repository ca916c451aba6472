"""What a rule would find on hardware without a fault of its own: the physics of a drawn chip, and nothing hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Device, DeviceSpec
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, PhysicalNoise, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Outcome, Phase, Plan, RandomStart, Relaxation, Rest
from hwsim.contracts.substrate import LocalSynapses, Substrate, Synapses


@final
class PerfectDevice(Device):
    """`z <- z + eps (F(z, x) + force)` in float64 with the field of a drawn chip, read exactly, and nothing hidden.

    A chip differs from its drawing in its field, which stays; and in ways that a rule cannot see, which go:

    - its synapses and its nominal physics are those of the chip itself;
    - a force is what was asked for, where a chip's time constants would scale it, `rate_i force_i`;
    - driven backwards, its couplings are the transpose J^T of the chip's own Jacobian, time constants included.

    So what a rule gets wrong here it gets wrong by itself. Rails hold the state; driven backwards nothing is clipped.

    Args:
        model: the physics of the chip.
        spec: of the chip; what it can do, T, eps and the start are taken from it.
        through_feedback: driven backwards, a feedback array stands in for the couplings that it mirrors.

    Cost: one field (or cotangent) of a batch per step, in NumPy.
    """

    def __init__(self, model: Substrate, spec: DeviceSpec, *, through_feedback: bool = False) -> None:
        self._model = model
        self._spec = replace(spec, noise_floor=None, reciprocal=model.reciprocal, exact_writes=True, mismatch=0.0)
        self._mirrors = dict(spec.feedback) if through_feedback else {}
        self._held: Parameters | None = None
        self._carried: Array | None = None

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def synapses(self) -> Synapses:
        return LocalSynapses(self._model)

    @property
    def model(self) -> Substrate:
        return self._model

    @property
    def nominal(self) -> Substrate:
        return self._model

    def program(self, parameters: Parameters) -> Parameters:
        self._spec.check_parameters(parameters)
        self._held = parameters.analog.map(lambda block: np.asarray(block, np.float64))
        return self._held | parameters.readout

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        model, theta, x = self._model, self._parameters, np.asarray(plan.inputs, np.float64)

        def flow(z: Array, step: int, phase: Phase) -> Array:
            total = model.field(z, x, theta)
            if phase.correct_at is None:
                return total
            at = np.asarray(phase.correct_at, np.float64)
            return total - model.tangent(z - at, at, x, theta) + model.cotangent(z - at, at, x, theta)

        def hold(z: Array, phase: Phase) -> Array:
            if model.rails is not None:
                z = np.clip(z, *model.rails)
            if phase.clamp is not None:
                z = np.array(z)
                z[:, phase.clamp[0]] = phase.clamp[1]
            return z

        z, results = self._start(plan, noise), []
        for phase in plan.phases:
            results.append(self._run(z, phase, partial(flow, phase=phase), partial(hold, phase=phase)))
            z = results[-1].final
        if plan.fresh:
            self._carried = z
        return tuple(results)

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        model, theta, x = self._model, self._parameters, np.asarray(plan.inputs, np.float64)
        theta = theta | {mirrored: theta[block] for block, mirrored in self._mirrors.items()}
        around = np.asarray(at, np.float64)

        def flow(a: Array, step: int) -> Array:
            # a recording is played backwards, its last state left out
            return model.cotangent(a, around if around.ndim == 2 else around[len(around) - 2 - step], x, theta)

        a, results = self._start(plan, noise), []
        for phase in plan.phases:
            results.append(self._run(a, phase, flow, lambda a: a))
            a = results[-1].final
        return tuple(results)

    def save(self) -> Mapping[str, Array]:
        return {} if self._carried is None else {"carried": self._carried}

    def restore(self, saved: Mapping[str, Array]) -> None:
        self._carried = saved.get("carried")

    @property
    def _parameters(self) -> Parameters:
        if self._held is None:
            raise InputError("nothing is programmed: call device.program(parameters) before relaxing")
        return self._held

    def _run(
        self, z: Array, phase: Phase, flow: Callable[[Array, int], Array], hold: Callable[[Array], Array]
    ) -> Relaxation:
        eps, force = self._spec.step_size, None if phase.force is None else np.asarray(phase.force, np.float64)
        z = hold(z if phase.displace is None else z + np.asarray(phase.displace, np.float64))
        before, kept = z, [z]
        for step in range(phase.steps):
            rate = flow(z, step)
            if force is not None:
                rate = rate + (force if force.ndim == 2 else force[step])
            before, z = z, hold(z + eps * rate)
            if phase.record and (step + 1) % phase.record == 0:
                kept.append(z)
        residual = np.sqrt(np.mean(((z - before) / eps) ** 2, axis=1))
        outcome = np.where(residual <= self._spec.tolerance, Outcome.SETTLED, Outcome.UNSETTLED)
        return Relaxation(
            final=z,
            states=np.stack(kept) if phase.record else None,
            residual=residual,
            outcome=np.where(np.isfinite(z).all(axis=1), outcome, Outcome.DIVERGED),
        )

    def _start(self, plan: Plan, noise: NoisePath | PhysicalNoise) -> Array:
        shape = (plan.lanes, self._spec.units)
        match plan.start:
            case Rest():
                return np.zeros(shape)
            case At(state):
                return np.asarray(state, np.float64)
            case RandomStart(sigma):
                if isinstance(noise, PhysicalNoise):
                    raise InputError("a random start without a fault has an address: give a NoisePath, not PHYSICAL")
                ids, repeats = np.asarray(plan.ids), None if plan.repeats is None else np.asarray(plan.repeats)
                return sigma * noise.normals(Stream.START, ids, units=shape[1], repeats=repeats)[0]
            case Carry():
                return np.zeros(shape) if self._carried is None else self._carried
