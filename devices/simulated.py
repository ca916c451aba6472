"""A simulated device: a substrate that settles in a finite number of steps, with the imperfections of a chip."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, host
from hwsim.contracts.capture import CreditProbe
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device, DeviceSpec, check_ranges
from hwsim.contracts.errors import InputError, ResumeError
from hwsim.contracts.noise import NoisePath, PhysicalNoise, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Plan, RandomStart, Relaxation, Rest, Start
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import LocalSynapses, Substrate, Synapses
from hwsim.contracts.threads import one_blas_thread
from hwsim.substrates.chip import Chip, DrawnSubstrate

from .arrays import HOST, Arrays
from .bench import Bench
from .capture import form_credit
from .description import described
from .engines import Deployment, Engine, Stepwise
from .fused import engine_for
from .hardware import Hardware
from .holding import KEYS, Holding
from .imperfections.contract import Imperfection, WriteReport
from .integrators import Euler, Integrator
from .lanes import Lanes
from .recordings import Recordings

SIMULATED = frozenset(
    {
        Capability.LOAD_STATE,
        Capability.DISPLACE,
        Capability.CLAMP,
        Capability.RECORD,
        Capability.WAVEFORM,
        Capability.TRANSPOSE,
        Capability.PLAYBACK,
        Capability.CORRECT,
        Capability.CAPTURE_CREDIT,
        Capability.COMPLEX,
        Capability.TWINS,
        Capability.REPLAYABLE_NOISE,
        Capability.MODEL,
    }
)
"""What a simulator can do. Pass fewer to stand for hardware that cannot. Two follow from the chip: pulsed updates add
`adjust`, and what is not holomorphic (a nonlinearity with a corner, rails, a slew limit, a readout stage) takes
`complex` away."""


@final
class SimulatedDevice(Device):
    """`z <- z + eps F(z, x)` for `horizon` steps, on the CPU, with noise from an address, on one drawn chip.

    Args:
        substrate: the physics.
        horizon: T, steps of the deployed settling.
        step_size: eps = dt / time constant; stability needs eps below 2 over the field's largest decay rate.
        scale: volt, siemens and second of one dimensionless unit; a substrate in physical units has its own.
        start: how the deployed settling begins.
        imperfections: of the chip; those that act at one place act in this order.
        capabilities: what rules may use at most, a subset of `SIMULATED`; `spec` says what is left of them on this
            chip.
        ranges: block -> (lowest, highest) value that may be programmed, within those of the substrate.
        tolerance: residual below which a lane counts as settled.
        dtype: float32 or float64, of states and of what is programmed. Complex states are of the same precision, and
            go step by step whatever the engine.
        threads: over lanes; results do not depend on it.
        integrator: how a step is made of the field.
        engine: what runs the steps; the fastest one for the substrate on this machine's processor unless told. With
            `TorchEngine` plans and parameters may be tensors; sample ids and repeats are NumPy in any case.
        recordings: where recorded states are kept; in memory unless told.
        die_seed: of what is fixed on the chip.
        program_seed: of what is drawn at every programming.
        seed: of the device's own temporal and read noise, used when a plan is run under `PHYSICAL` noise.
        power: watt while settling, if known.

    Raises:
        InputError: values that make no device.

    Cost of a relaxation on a leaky network: 2 B N^2 T flop and B N T nonlinearities (and normals, with noise). Noise
    processes with a memory and read noise hold T B N numbers more.
    """

    def __init__(
        self,
        substrate: Substrate,
        *,
        horizon: int,
        step_size: float = 0.1,
        scale: Scale | None = None,
        start: Start = Rest(),
        imperfections: Sequence[Imperfection] = (),
        capabilities: frozenset[Capability] = SIMULATED,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        tolerance: float = 1e-3,
        dtype: type[np.floating[Any]] = np.float64,
        threads: int = 1,
        integrator: type[Integrator] = Euler,
        engine: Engine | None = None,
        recordings: Recordings = Recordings(),
        die_seed: int = 0,
        program_seed: int = 0,
        seed: int = 0,
        power: float | None = None,
    ) -> None:
        if unknown := capabilities - SIMULATED:
            raise InputError(f"a simulated device cannot be told to offer {sorted(c.name.lower() for c in unknown)}")
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise InputError(f"dtype must be float32 or float64; found {np.dtype(dtype)}")
        whole("a simulated device", "threads", threads, least=1)
        if isinstance(imperfections, Imperfection) or not isinstance(imperfections, Sequence):
            raise InputError(
                f"imperfections are a list, such as [ThermalNoise(0.1), *ecram()]; found {imperfections!r}"
            )
        if not (isinstance(integrator, type) and issubclass(integrator, Integrator)):
            raise InputError(f"integrator is one of the classes Euler, Heun, Exponential; found {integrator!r}")
        if scale is not None and substrate.scale is not None and scale != substrate.scale:
            raise InputError(
                f"{type(substrate).__name__} is in volts and seconds of its own: leave out scale, and use no preset "
                f"(presets bring a scale); found {scale}"
            )
        self._scale = scale or substrate.scale or Scale()
        self._integrator = integrator(step_size)
        self._hardware = Hardware(
            imperfections,
            substrate,
            scale=self._scale,
            step_size=step_size,
            die_seed=die_seed,
            program_seed=program_seed,
        )
        chip = self._hardware.chip
        self._drawn = DrawnSubstrate(drawing=substrate, chip=chip)
        self._synapses = LocalSynapses(substrate)
        self._dtype = np.dtype(dtype)
        self._engine = engine_for(substrate, threads) if engine is None else engine
        self._arrays = self._engine.arrays
        self._seeds = (die_seed, program_seed)
        self._own_noise = NoisePath(seed=seed)
        self._holding = Holding()
        self._settled = False
        self._carried: Array | None = None
        if self._hardware.adjustable:
            capabilities = capabilities | {Capability.ADJUST}
        if not (self._drawn.holomorphic and self._hardware.read_error() is None):
            capabilities = capabilities - {Capability.COMPLEX}
        self._spec = DeviceSpec(
            units=substrate.units,
            inputs=substrate.inputs,
            shapes=dict(substrate.shapes()),
            ranges=self._hardware.ranges(ranges or {}),
            dt=step_size * self._scale.second,
            time_constant=self._scale.second,
            horizon=horizon,
            start=start,
            tolerance=tolerance,
            capabilities=capabilities,
            noise_floor=self._hardware.read_error(),
            power=power,
            reciprocal=substrate.reciprocal,
            unfactored=substrate.unfactored,
            exact_writes=self._hardware.exact_writes,
            mismatch=self._hardware.mismatch,
        )
        self._bench = Bench(
            engine=self._engine, hardware=self._hardware, spec=self._spec, dtype=self._dtype, recordings=recordings
        )

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def synapses(self) -> Synapses:
        return self._synapses

    @property
    def model(self) -> Substrate:
        """The physics of the drawn chip as it was in the latest settling: the judge of what is deployed on it.

        Where it was written or time has passed since, as it would settle now under the device's own noise.
        """
        self._spec.require({Capability.MODEL}, "Device.model")
        return self._as_settled()

    @property
    def nominal(self) -> Substrate:
        self._spec.require({Capability.MODEL}, "Device.nominal")
        return self._drawn.drawing

    @property
    def scale(self) -> Scale:
        """What one dimensionless unit is worth on this device."""
        return self._scale

    @property
    def chip(self) -> Chip:
        """What is fixed on this die."""
        return self._hardware.chip

    @property
    def real(self) -> Parameters:
        """The parameters by which it settles now (of `unshared()` physics where the chip is split).

        Raises:
            InputError: nothing is programmed.
        """
        return self._as_settled().real(self._holding.parameters)

    @property
    def written(self) -> WriteReport:
        """What happened in all writes so far: clipped, stuck and unverified values, pulses."""
        return self._holding.report

    def describe(self) -> str:
        """The device and every source of error and noise with its size, in physical units, as lines of text."""
        return described(type(self._drawn.drawing).__name__, self._spec, self._scale, self._hardware.describe())

    def wait(self, seconds: float) -> None:
        """Let time pass after programming, which drift sees. Settling itself takes no time on this clock."""
        self._holding, self._settled = self._holding.later(seconds), False

    def program(self, parameters: Parameters) -> Parameters:
        self._spec.check_shapes(parameters)
        values, kind = parameters.analog, self._kind_of(parameters)
        check_ranges(values, self._spec.ranges)
        if self._hardware.writes:
            self._spec.check_blocks(parameters)
            asked = values if kind is HOST else values.map(host)
            blocks, report = self._hardware.write(asked, self._holding.held, self._holding.event)
            values = Parameters(blocks)
        else:  # nothing changes on the way: no copy in float64, nothing over the host, one look at what is held
            report = WriteReport(written=sum(math.prod(shape) for shape in self._spec.shapes.values()))
        held = self._kept(values, kind)
        self._take_up(held, report)
        return held | parameters.readout

    def adjust(self, pulses: Parameters) -> Parameters:
        self._spec.require({Capability.ADJUST}, "Device.adjust")
        held = self._holding.parameters
        self._spec.check_blocks(pulses)
        pulses = pulses.map(host)
        if any(np.any(block != np.rint(block)) for block in pulses.analog.values()):
            raise InputError("pulses come in whole numbers: round them before Device.adjust")
        values, report = self._hardware.adjust(held, pulses.analog, self._holding.event)
        held = self._kept(Parameters(values), self._kind_of(held))
        self._take_up(held, report)
        return held | pulses.readout

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        lanes = self._lanes(plan, noise)
        dtype = self._dtype_of(plan)
        here = self._arrays.plan(plan, self._dtype, dtype)
        final, results = self._run(self._arrays.array(self._start(here, lanes), dtype), here, lanes, dtype)
        if plan.fresh:
            self._carried = self._arrays.copy(final)  # what was read belongs to the reader
        return self._arrays.answers(results, plan)

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        self._spec.require({Capability.TRANSPOSE}, "relax_transpose")
        self._spec.check_plan(plan)
        linear = all(phase.correct_at is None and phase.clamp is None for phase in plan.phases)
        if not (isinstance(plan.start, Rest | At) and linear):
            raise InputError(
                "relax_transpose begins at Rest() or At(...), and is linear: leave out correct_at and clamp"
            )
        if "complex" in str(at.dtype):
            raise InputError("relax_transpose is the response around a real state; found complex numbers in at")
        at, dtype = self._arrays.array(at, self._dtype), self._dtype_of(plan)
        self._check_at(at, plan)
        here = self._arrays.plan(plan, self._dtype, dtype)
        start = here.start.state if isinstance(here.start, At) else np.zeros((plan.lanes, self._spec.units), dtype)
        _, results = self._run(self._arrays.array(start, dtype), here, self._lanes(plan, noise), dtype, at)
        return self._arrays.answers(results, plan)

    def form_credit(
        self, free: Plan, probe: Callable[[Relaxation], CreditProbe], *, noise: NoisePath | PhysicalNoise
    ) -> tuple[Relaxation, Parameters]:
        self._spec.require({Capability.CAPTURE_CREDIT}, "Device.form_credit")
        self._spec.check_plan(free)
        carried = None

        def then(settled: Relaxation) -> CreditProbe:
            nonlocal carried
            carried = self._carried
            return probe(settled)

        found = form_credit(self, self._holding.parameters, free, then, noise=noise)
        self._carried = carried  # the lanes go on from where the free phase left them
        return found

    def save(self) -> Mapping[str, Array]:
        saved = self._holding.save() | {
            "noise_step": np.array(self._own_noise.step),
            "seeds": np.array(self._seeds),
            "chip": np.frombuffer(self._hardware.fingerprint.encode(), np.uint8),
        }
        if self._carried is None:
            return saved
        held = self._holding.held
        in_numpy = held is None or self._kind_of(held) is HOST
        return saved | {"carried": host(self._carried) if in_numpy else self._carried}

    def restore(self, saved: Mapping[str, Array]) -> None:
        if not saved:
            return
        if missing := (KEYS | {"noise_step", "seeds", "chip"}) - saved.keys():
            raise ResumeError(f"the saved device lacks {sorted(missing)}; start this run afresh")
        if tuple(int(seed) for seed in saved["seeds"]) != self._seeds:
            raise ResumeError(
                f"the saved run is of the chip with (die_seed, program_seed) = {tuple(saved['seeds'].tolist())}; "
                f"this device is {self._seeds}"
            )
        told = bytes(np.asarray(saved["chip"], np.uint8)).decode(errors="replace")
        if told != self._hardware.fingerprint:
            raise ResumeError(f"the saved run is of a device with {told}; this device has {self._hardware.fingerprint}")
        try:
            holding = self._holding.restored(saved)
            if holding.held is not None:
                holding = replace(holding, held=self._kept(holding.held, self._kind_of(holding.held)))
        except (ValueError, TypeError) as error:
            raise ResumeError(f"what the saved device held does not fit this one: {error}") from None
        self._own_noise = self._own_noise.at_step(int(saved["noise_step"]))
        self._carried, self._holding = saved.get("carried"), holding
        if holding.held is not None:
            self._deploy({})

    def close(self) -> None:
        self._engine.close()

    def _kind_of(self, parameters: Parameters) -> Arrays:
        """The arrays in which these are held and read back: as they come, NumPy or those of the engine."""
        return self._arrays if self._arrays.holds(parameters.analog) else HOST

    def _kept(self, values: Parameters, kind: Arrays) -> Parameters:
        """Values as this device holds them; one may have no number in float32, or make no physical sense."""
        with np.errstate(over="ignore"):
            held = values.map(lambda block: kind.array(block, self._dtype))
        self._spec.check_blocks(held)
        check_ranges(held, self._drawn.drawing.ranges())
        return held

    def _take_up(self, held: Parameters, report: WriteReport) -> None:
        self._holding = self._holding.written(held, report)
        self._deploy({})

    def _as_settled(self) -> DrawnSubstrate:
        """The chip as it settled last; before it did, as it would under its own noise."""
        if self._holding.held is not None and not self._settled and self._hardware.restless:
            self._realise(self._own_noise)
        return self._drawn

    def _realise(self, path: NoisePath, after: float = 0.0, lane: int = -1) -> None:
        """Let drift, cells and wires act on what is held, `after` seconds from now, for one lane or (-1) for all."""
        held, now = self._holding, self._holding.elapsed + after
        self._deploy(self._hardware.deviation(self._drawn, held.parameters, path, held.wrote, now, lane))
        self._settled = True

    def _deploy(self, deviation: Mapping[str, Array]) -> None:
        """Hand the engine the chip as it is now."""
        held, self._settled = self._holding.parameters, False
        self._drawn = replace(self._drawn, deviation=deviation)
        # what is not finite was refused; a step that overflows is an outcome
        with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
            root = self._hardware.noise_root(self._drawn, held)
            propagator = self._integrator.propagator(self._drawn, held, root)
            self._deployment = Deployment(
                drawn=self._drawn,
                backwards=replace(self._drawn, driven_backwards=True),
                theta=held,
                dtype=self._dtype,
                integrator=self._integrator,
                propagator=propagator,
                backward_propagator=propagator.transposed(),
            )
            self._engine.program(self._deployment)

    def _bench_for(self, dtype: np.dtype[Any]) -> Bench:
        """The bench; for complex states in NumPy with the engine that runs any physics."""
        if dtype == self._dtype or self._arrays is not HOST:
            return self._bench
        plain = Stepwise()
        plain.program(self._deployment)
        return replace(self._bench, engine=plain)

    def _dtype_of(self, plan: Plan) -> np.dtype[Any]:
        """Of the states of a plan: complex where something is that it starts at or puts in."""
        carried = self._carried is not None and isinstance(plan.start, Carry) and "complex" in str(self._carried.dtype)
        return np.result_type(self._dtype, np.complex64) if carried or plan.is_complex else self._dtype

    def _run(
        self, z: Array, plan: Plan, lanes: Lanes, dtype: np.dtype[Any], at: Array | None = None
    ) -> tuple[Array, tuple[Relaxation, ...]]:
        """A plan from z, or the response around `at` to it: the analog end state, and what was read."""
        _ = self._holding.parameters  # or nothing was programmed
        pause = self._hardware.pause
        if pause is None or plan.lanes == 0:
            if self._hardware.restless:
                self._realise(lanes.common)
            return self._bench_for(dtype).run(z, plan, lanes, at, dtype)
        each = pause + self._spec.dt * sum(phase.steps for phase in plan.phases)
        finals, runs = [], []
        for b in range(plan.lanes):
            lane = lanes.alone(b)
            if self._hardware.restless:
                self._realise(lane.common, b * each, int(lane.ids[0]))
            around = None if at is None else at[..., b : b + 1, :]
            final, results = self._bench_for(dtype).run(z[b : b + 1], plan.lane(b), lane, around, dtype)
            finals.append(final)
            runs.append(results)
        return self._arrays.xp.concat(finals), tuple(Relaxation.joined(phase) for phase in zip(*runs, strict=True))

    def _start(self, plan: Plan, lanes: Lanes) -> Array:
        shape = (plan.lanes, self._spec.units)
        match plan.start:
            case Rest():
                return np.zeros(shape, self._dtype)
            case At(state):
                return state
            case RandomStart(sigma):
                draws = lanes.path.normals(Stream.START, lanes.ids, units=self._spec.units, repeats=lanes.repeats)
                return (sigma * draws[0]).astype(self._dtype)
            case Carry():
                if self._carried is None:
                    return np.zeros(shape, self._dtype)
                if self._carried.shape != shape:
                    raise InputError(
                        f"Carry continues each lane: {len(self._carried)} lanes ran last, {plan.lanes} are asked for; "
                        f"keep the batch size, or start from Rest()"
                    )
                return self._carried

    def _lanes(self, plan: Plan, noise: NoisePath | PhysicalNoise) -> Lanes:
        """Whose noise it is: where it is not addressable, no two lanes share any."""
        if not isinstance(noise, NoisePath | PhysicalNoise):
            raise InputError(f"noise is a NoisePath (a seed is NoisePath(seed=...)) or PHYSICAL; found {noise!r}")
        if not (isinstance(noise, NoisePath) and Capability.REPLAYABLE_NOISE in self._spec.capabilities):
            noise = self._own_noise = self._own_noise.at_step(self._own_noise.step + 1)
        if not self._spec.capabilities & {Capability.TWINS, Capability.REPLAYABLE_NOISE}:
            return Lanes(path=noise, ids=np.arange(plan.lanes, dtype=np.uint32), repeats=None, units=self._spec.units)
        return Lanes(path=noise, ids=plan.words, repeats=plan.repeat_words, units=self._spec.units)

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
