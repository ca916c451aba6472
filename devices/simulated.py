"""A simulated device: a substrate that settles in a finite number of steps, with the imperfections of a chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, PhysicalNoise, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Outcome, Plan, RandomStart, Relaxation, Rest, Start
from hwsim.contracts.substrate import LocalSynapses, Substrate, Synapses
from hwsim.contracts.threads import one_blas_thread

from .engines import Engine, Stretch, engine_for
from .imperfections import Imperfection, ReadoutADC, ThermalNoise

SIMULATED = frozenset(
    {
        Capability.LOAD_STATE,
        Capability.DISPLACE,
        Capability.RECORD,
        Capability.WAVEFORM,
        Capability.TRANSPOSE,
        Capability.PLAYBACK,
        Capability.CORRECT,
        Capability.TWINS,
        Capability.REPLAYABLE_NOISE,
        Capability.MODEL,
    }
)
"""What a simulator can do. Pass fewer to stand for hardware that cannot."""


@final
class SimulatedDevice(Device):
    """`z <- z + eps F(z, x)` for `horizon` steps, on the CPU, with noise from an address.

    Args:
        substrate: the physics.
        horizon: T, steps of the deployed settling.
        step_size: eps = dt / time_constant; stability needs eps below 2 over the field's largest decay rate.
        time_constant: seconds; only a scale, since the field is dimensionless in time.
        start: how the deployed settling begins.
        imperfections: at most one of each kind.
        capabilities: what rules may use, a subset of `SIMULATED`.
        ranges: block -> (lowest, highest) programmable value.
        tolerance: residual below which a lane counts as settled.
        dtype: float32 or float64, of states and of what is programmed.
        threads: over lanes; results do not depend on it.
        engine: how to step; the fastest one for the substrate unless told.
        seed: of the device's own noise, used when a plan is run under `PHYSICAL` noise.

    Raises:
        InputError: values that make no device.

    Cost of a relaxation on a leaky network: 2 B N^2 T flop and B N T nonlinearities (and normals, with noise).
    """

    def __init__(
        self,
        substrate: Substrate,
        *,
        horizon: int,
        step_size: float = 0.1,
        time_constant: float = 1e-6,
        start: Start = Rest(),
        imperfections: Sequence[Imperfection] = (),
        capabilities: frozenset[Capability] = SIMULATED,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        tolerance: float = 1e-3,
        dtype: type[np.floating[Any]] = np.float64,
        threads: int = 1,
        engine: Engine | None = None,
        seed: int = 0,
    ) -> None:
        if unknown := capabilities - SIMULATED:
            raise InputError(f"a simulated device cannot offer {sorted(c.name.lower() for c in unknown)}")
        kinds = [type(imperfection) for imperfection in imperfections]
        if len(set(kinds)) != len(kinds):
            raise InputError(f"give each kind of imperfection once; found {[kind.__name__ for kind in kinds]}")
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise InputError(f"dtype must be float32 or float64; found {np.dtype(dtype)}")
        if threads < 1:
            raise InputError(f"threads must be at least 1; found {threads}")
        found = {type(imperfection): imperfection for imperfection in imperfections}
        thermal, adc = found.pop(ThermalNoise, None), found.pop(ReadoutADC, None)
        if found:
            raise InputError(f"this device does not simulate {[kind.__name__ for kind in found]}")
        self._sigma = thermal.sigma if isinstance(thermal, ThermalNoise) else 0.0
        self._adc = adc if isinstance(adc, ReadoutADC) else None
        self._substrate = substrate
        self._synapses = LocalSynapses(substrate)
        self._dtype = np.dtype(dtype)
        self._engine = engine_for(substrate, threads) if engine is None else engine
        self._own_noise = NoisePath(seed=seed)
        self._theta: Parameters | None = None
        self._held: Array | None = None
        self._spec = DeviceSpec(
            units=substrate.units,
            inputs=substrate.inputs,
            shapes=dict(substrate.shapes()),
            ranges=dict(ranges or {}),
            dt=step_size * time_constant,
            time_constant=time_constant,
            horizon=horizon,
            start=start,
            tolerance=tolerance,
            capabilities=capabilities,
            noise_floor=None if self._adc is None else self._adc.lsb / np.sqrt(12.0),
            reciprocal=substrate.reciprocal,
        )

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def synapses(self) -> Synapses:
        return self._synapses

    @property
    def model(self) -> Substrate:
        self._spec.require({Capability.MODEL}, "Device.model")
        return self._substrate

    def program(self, parameters: Parameters) -> Parameters:
        self._spec.check_parameters(parameters)
        with np.errstate(over="ignore"):
            held = parameters.map(lambda block: np.asarray(block, self._dtype))
        self._spec.check_parameters(held)  # a value may have no number in float32
        self._theta = held.analog
        self._engine.program(self._substrate, self._theta, self._dtype)
        return held | parameters.readout

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        path = self._path(noise)
        final, results = self._run(self._programmed().relax, self._start(plan, path), plan, path)
        if plan.fresh:
            self._held = final.copy()  # what was read belongs to the reader
        return results

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        self._spec.require({Capability.TRANSPOSE}, "relax_transpose")
        self._spec.check_plan(plan)
        if not isinstance(plan.start, Rest | At) or any(phase.correct_at is not None for phase in plan.phases):
            raise InputError("relax_transpose begins at Rest() or At(...), and is linear: leave out correct_at")
        at = np.asarray(at, self._dtype)
        self._check_at(at, plan)
        start = np.zeros((plan.lanes, self._spec.units), self._dtype)
        if isinstance(plan.start, At):
            start = np.asarray(plan.start.state, self._dtype)
        engine = self._programmed()
        _, results = self._run(
            lambda a, stretch: engine.relax_transpose(a, at, stretch), start, plan, self._path(noise)
        )
        return results

    def save(self) -> Mapping[str, Array]:
        saved = {"noise_step": np.array(self._own_noise.step)}
        return saved if self._held is None else {**saved, "held": self._held}

    def restore(self, saved: Mapping[str, Array]) -> None:
        if "noise_step" in saved:
            self._own_noise = self._own_noise.at_step(int(saved["noise_step"]))
        self._held = saved.get("held")

    def close(self) -> None:
        self._engine.close()

    def _run(
        self,
        settle: Callable[[Array, Stretch], tuple[Array, Array, Array | None]],
        z: Array,
        plan: Plan,
        path: NoisePath,
    ) -> tuple[Array, tuple[Relaxation, ...]]:
        """All phases of a plan, back to back: the analog end state, and what was read."""
        x = np.asarray(plan.inputs, self._dtype)
        ids, repeats = self._noise_lanes(plan)
        results = []
        for index, phase in enumerate(plan.phases):
            if phase.displace is not None:
                z = z + np.asarray(phase.displace, self._dtype)
            stretch = Stretch(
                x=x,
                phase=phase,
                index=index,
                eps=self._spec.step_size,
                sigma=self._sigma,
                noise=path,
                ids=ids,
                repeats=repeats,
            )
            # a blow-up is an outcome, not a floating-point warning
            with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
                z, before, states = settle(z, stretch)
                results.append(self._read(z, before, states))
        return z, tuple(results)

    def _read(self, z: Array, before: Array, states: Array | None) -> Relaxation:
        """What the digital side sees. The residual is the analog one, which a simulator knows better than its ADC."""
        change = z - before
        residual = np.sqrt(np.einsum("bn,bn->b", change, change) / self._spec.units) / self._spec.step_size
        outcome = np.where(residual <= self._spec.tolerance, Outcome.SETTLED, Outcome.UNSETTLED)
        final = z
        if self._adc is not None:
            final, clipped = self._adc.read(z)
            if states is not None:
                states, states_clipped = self._adc.read(states)
                clipped = clipped | states_clipped.any(axis=0)
            outcome = np.where(clipped.any(axis=1), Outcome.SATURATED, outcome)
        outcome = np.where(np.isfinite(z).all(axis=1), outcome, Outcome.DIVERGED)
        return Relaxation(final=final, states=states, residual=residual, outcome=outcome)

    def _start(self, plan: Plan, path: NoisePath) -> Array:
        shape = (plan.lanes, self._spec.units)
        match plan.start:
            case Rest():
                return np.zeros(shape, self._dtype)
            case At(state):
                return np.asarray(state, self._dtype)
            case RandomStart(sigma):
                ids, repeats = self._noise_lanes(plan)
                draws = path.normals(Stream.START, ids, units=self._spec.units, repeats=repeats)
                return (sigma * draws[0]).astype(self._dtype)
            case Carry():
                if self._held is None:
                    return np.zeros(shape, self._dtype)
                if self._held.shape != shape:
                    raise InputError(
                        f"Carry continues each lane: {len(self._held)} lanes ran last, {plan.lanes} are asked for; "
                        f"keep the batch size, or start from Rest()"
                    )
                return self._held

    def _noise_lanes(self, plan: Plan) -> tuple[Array, Array]:
        """Sample ids and repeats as the noise sees them: where it is not addressable, no two lanes share any."""
        ids = np.asarray(plan.ids)
        repeats = np.zeros_like(ids) if plan.repeats is None else np.asarray(plan.repeats)
        shared = self._spec.capabilities & {Capability.TWINS, Capability.REPLAYABLE_NOISE}
        return (ids, repeats) if shared else (np.arange(plan.lanes), np.zeros_like(repeats))

    def _path(self, noise: NoisePath | PhysicalNoise) -> NoisePath:
        if isinstance(noise, NoisePath) and Capability.REPLAYABLE_NOISE in self._spec.capabilities:
            return noise
        self._own_noise = self._own_noise.at_step(self._own_noise.step + 1)
        return self._own_noise

    def _programmed(self) -> Engine:
        if self._theta is None:
            raise InputError("nothing is programmed: call device.program(parameters) before relaxing")
        return self._engine

    def _check_at(self, at: Array, plan: Plan) -> None:
        lanes = (plan.lanes, self._spec.units)
        if at.ndim == 2 and at.shape == lanes:
            return
        if at.ndim == 3:
            self._spec.require({Capability.PLAYBACK}, "relax_transpose(at=[steps + 1, B, N])")
        steps = {phase.steps for phase in plan.phases}
        if at.ndim != 3 or at.shape[1:] != lanes or steps != {len(at) - 1}:
            raise InputError(
                f"at must be {list(lanes)} or a recording [steps + 1, {lanes[0]}, {lanes[1]}] of the phase that runs; "
                f"found {list(at.shape)} for phases of {sorted(steps)} steps"
            )
