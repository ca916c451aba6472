"""The device contract: something that can be programmed, driven and read."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from jaxtyping import Float

from .arrays import Array, all_finite
from .capture import CreditProbe
from .checks import whole
from .errors import CapabilityError, InputError, RangeError
from .noise import NoisePath, PhysicalNoise
from .parameters import Parameters
from .plan import At, Phase, Plan, Relaxation, Rest, Start
from .substrate import Substrate, Synapses


class Capability(enum.Enum):
    """What a device can do beyond programming, free settling and reading the final state. Data, never `hasattr`."""

    LOAD_STATE = "start a settling at a given state"
    DISPLACE = "kick the state between two phases"
    CLAMP = "hold chosen units at given values"
    RECORD = "record states while settling"
    WAVEFORM = "apply a force that changes from step to step"
    TRANSPOSE = "drive the couplings backwards, linearly, around a held state"
    CORRECT = "settle under the asymmetric-EP dynamics F - (J - J^T)(z - at)"
    PLAYBACK = "play recorded unit gains back while driven backwards"
    COMPLEX = "hold complex states"
    ADJUST = "change parameters by open-loop pulses"
    TWINS = "run two trajectories under the same noise"
    REPLAYABLE_NOISE = "repeat a settling with the same noise"
    CAPTURE_CREDIT = "form post x pre sums on the device"
    MODEL = "expose the simulated physics (simulators only)"


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """What a device is, in numbers with units.

    Args:
        units: N.
        inputs: M.
        shapes: analog parameter block -> shape.
        ranges: analog parameter block -> (lowest, highest) value it can hold; a missing block is unbounded.
        dt: seconds per Euler step (one tick of clocked hardware).
        time_constant: seconds; `eps = dt / time_constant`.
        horizon: T, steps of the deployed settling.
        start: how the deployed settling begins.
        tolerance: a lane is settled when its residual is at most this, state units per time constant.
        capabilities: what it can do.
        noise_floor: rms error that reading adds to one unit, state units, if known. Thermal fluctuation is no such
            error: it is the state's own.
        power: watt while settling, if known.
        reciprocal: whether the couplings are reciprocal, so that `synapses.metric` exists.
        feedback: feedback block -> the block that it should mirror. `relax_transpose` drives the feedback array, which
            is programmed apart; without one it drives the couplings themselves backwards.
        unfactored: blocks whose immediate influence `dF_i/dtheta` is no product of a gain and a presynaptic quantity.
        exact_writes: whether programming what is held changes nothing; False where writing is noisy.
        mismatch: largest relative error with which a force, and the response backwards, differ from the drawing's
            because time constants spread; 0 where they do not, or are not known to.
    """

    units: int
    inputs: int
    shapes: Mapping[str, tuple[int, ...]]
    dt: float
    time_constant: float
    horizon: int
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    start: Start = Rest()
    tolerance: float = 1e-3
    capabilities: frozenset[Capability] = frozenset()
    noise_floor: float | None = None
    power: float | None = None
    reciprocal: bool = False
    feedback: Mapping[str, str] = field(default_factory=dict)
    unfactored: frozenset[str] = frozenset()
    exact_writes: bool = True
    mismatch: float = 0.0

    def __post_init__(self) -> None:
        for name in ("units", "inputs", "horizon"):
            whole("a device", name, getattr(self, name), least=1)
        if not self.tolerance >= 0:
            raise InputError(f"a device needs a settling tolerance >= 0; found {self.tolerance}")
        if self.power is not None and not (np.isfinite(self.power) and self.power >= 0):
            raise InputError(f"a device needs power >= 0 and finite, in watt; found {self.power}")
        for name in ("dt", "time_constant"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"a device needs {name} > 0 and finite; found {name}={value}")
        if unknown := self.ranges.keys() - self.shapes.keys():
            raise InputError(f"ranges name the blocks {sorted(unknown)}; the device holds {sorted(self.shapes)}")
        for name, mirrored in self.feedback.items():
            if self.shapes.get(name) is None or self.shapes.get(name) != self.shapes.get(mirrored):
                raise InputError(
                    f"feedback block {name} must have the shape of the block {mirrored} that it mirrors; the device "
                    f"holds {dict(self.shapes)}"
                )
        for name, (low, high) in self.ranges.items():
            if not low <= high:
                raise InputError(f"the range of block {name} must be (lowest, highest); found ({low}, {high})")

    @property
    def step_size(self) -> float:
        """`eps = dt / time_constant`, dimensionless."""
        return self.dt / self.time_constant

    def missing(self, needed: Iterable[Capability]) -> frozenset[Capability]:
        """The capabilities in `needed` that this device lacks."""
        return frozenset(needed) - self.capabilities

    def check_parameters(self, parameters: Parameters) -> None:
        """Refuse parameters that the hardware cannot hold.

        Raises:
            InputError: a block is missing, unknown, or of another shape.
            RangeError: a value is not finite or outside the range of its block.
        """
        self.check_blocks(parameters)
        check_ranges(parameters.analog, self.ranges)

    def check_blocks(self, parameters: Parameters) -> None:
        """`check_parameters` without the ranges."""
        self.check_shapes(parameters)
        for name, array in parameters.analog.items():
            if not all_finite(array):
                raise RangeError(f"block {name} holds a value that is not finite; program finite parameters")

    def check_shapes(self, parameters: Parameters) -> None:
        """`check_blocks` without a look at the values."""
        if not isinstance(parameters, Parameters):
            raise InputError(f"asked to program a {type(parameters).__name__}; a device takes Parameters(...)")
        analog = parameters.analog
        if analog.keys() != self.shapes.keys():
            raise InputError(f"asked to program blocks {sorted(analog)}; the device holds {sorted(self.shapes)}")
        for name, array in analog.items():
            if tuple(array.shape) != tuple(self.shapes[name]):
                raise InputError(f"block {name} must have shape {tuple(self.shapes[name])}; found {tuple(array.shape)}")

    def check_plan(self, plan: Plan) -> None:
        """Refuse a plan that this device cannot run, before anything settles.

        Raises:
            InputError: a shape does not fit.
            CapabilityError: a phase or the start needs what the device lacks.
        """
        if tuple(plan.inputs.shape) != (plan.lanes, self.inputs):
            raise InputError(f"inputs must be [B, {self.inputs}]; found {list(plan.inputs.shape)}")
        _ = plan.words, plan.repeat_words  # or they are no addresses
        if isinstance(plan.start, At):
            self.require({Capability.LOAD_STATE}, "Start at a given state")
            self._check_lanes("the start state", plan.start.state, plan.lanes)
        if plan.is_complex:
            self.require({Capability.COMPLEX}, "A complex start, force, displacement or clamp")
        for phase in plan.phases:
            self.check_phase(phase, plan.lanes)

    def check_phase(self, phase: Phase, lanes: int) -> None:
        """`check_plan` for one phase over `lanes` lanes."""
        if phase.record:
            self.require({Capability.RECORD}, "Phase(record=...)")
        if phase.displace is not None:
            self.require({Capability.DISPLACE}, "Phase(displace=...)")
            self._check_lanes("displace", phase.displace, lanes)
        if phase.clamp is not None:
            self.require({Capability.CLAMP}, "Phase(clamp=...)")
            held, values = np.asarray(phase.clamp[0]), phase.clamp[1]
            if len(np.unique(held)) != held.size:
                raise InputError(f"clamp names each unit once; found {held.tolist()}")
            if held.size and not (held.min() >= 0 and held.max() < self.units):
                raise InputError(f"clamp names units 0 to {self.units - 1}; found {held.min()} to {held.max()}")
            if tuple(values.shape) != (lanes, held.size):
                raise InputError(f"clamp values must be [{lanes}, {held.size}]; found {list(values.shape)}")
        if phase.correct_at is not None:
            self.require({Capability.CORRECT}, "Phase(correct_at=...)")
            self._check_lanes("correct_at", phase.correct_at, lanes)
        if phase.force is not None and len(phase.force.shape) == 3:
            self.require({Capability.WAVEFORM}, "Phase(force=[steps, B, N])")
            if phase.force.shape[0] != phase.steps:
                raise InputError(
                    f"a waveform over {phase.steps} steps must have as many rows; found {phase.force.shape[0]}"
                )
            if phase.steps:
                self._check_lanes("force", phase.force[0], lanes)
        elif phase.force is not None:
            self._check_lanes("force", phase.force, lanes)

    def require(self, needed: Iterable[Capability], asked: str) -> None:
        """Raise CapabilityError where a capability that `asked` needs is missing."""
        if missing := self.missing(needed):
            names = ", ".join(f"{c.name.lower()} ({c.value})" for c in sorted(missing, key=lambda c: c.name))
            have = ", ".join(sorted(c.name.lower() for c in self.capabilities)) or "none"
            raise CapabilityError(f"{asked} needs {names}; this device offers: {have}")

    def _check_lanes(self, name: str, array: Array, lanes: int) -> None:
        if tuple(array.shape) != (lanes, self.units):
            raise InputError(f"{name} must be [{lanes}, {self.units}]; found {list(array.shape)}")


def check_ranges(parameters: Parameters, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise RangeError where a value lies outside the range of its block."""
    for name, (low, high) in ranges.items():
        values = parameters[name]
        if math.prod(values.shape) == 0:
            continue
        lowest, highest = values.min(), values.max()
        if lowest < low or highest > high:  # compared in the precision of the values
            raise RangeError(
                f"block {name} spans [{float(lowest):.6g}, {float(highest):.6g}], outside the device's "
                f"[{low:.6g}, {high:.6g}]; scale it down or put a clipping stage in the write chain"
            )


class Device(ABC):
    """A resource that can be programmed and relaxed; a context manager. No I/O happens before `__enter__`.

    The same contract holds for simulators, emulated firmware and boards; `hwsim.testing.check_device` is its text.
    """

    @property
    @abstractmethod
    def spec(self) -> DeviceSpec:
        """What the device is and can do."""

    @property
    @abstractmethod
    def synapses(self) -> Synapses:
        """What a local rule may know of its physics, nominal values unless calibrated."""

    @abstractmethod
    def program(self, parameters: Parameters) -> Parameters:
        """Write the analog blocks; pass `readout.*` through.

        Returns:
            What the hardware really holds, read back. Credit is computed with these, never with what was asked.

        Raises:
            InputError, RangeError: see `DeviceSpec.check_parameters`.
        """

    @abstractmethod
    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        """Run a plan: one Relaxation per phase.

        Args:
            plan: what to do.
            noise: the address of the temporal noise. A device that cannot replay noise (no `replayable_noise`) makes
                its own whatever the address, as under `PHYSICAL`; lanes with one address then share it only where the
                device has `twins`.

        Raises:
            InputError, CapabilityError: see `DeviceSpec.check_plan`. Physics never raises: see `Outcome`.
        """

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        """The linear response around `at` through the couplings driven backwards (capability `transpose`):

            a <- a + eps (J(at)^T a + force),    a_0 = the plan's start, displaced by its first phase

        Args:
            at: [B, N] state around which the gains are held; or, with capability `playback`, a recording
                [steps + 1, B, N] run backwards: step j uses the gains of `at[steps - 1 - j]`.
            plan: inputs and sample ids of the lanes, and phases with force, displace and record; `Rest()` is a_0 = 0.
            noise: where the temporal noise comes from.

        Returns:
            One Relaxation per phase, in which states are the signal a.

        Raises:
            InputError, CapabilityError: as `relax`.
        """
        raise CapabilityError(f"{type(self).__name__} cannot drive its couplings backwards (capability transpose)")

    def adjust(self, pulses: Parameters) -> Parameters:
        """Open-loop parameter updates (capability `adjust`): signed pulse counts in, read-back parameters out."""
        raise CapabilityError(f"{type(self).__name__} cannot be adjusted by pulses (capability adjust)")

    def form_credit(
        self, free: Plan, probe: Callable[[Relaxation], CreditProbe], *, noise: NoisePath | PhysicalNoise
    ) -> tuple[Relaxation, Parameters]:
        """Credit formed on the device, from states that stay there (capability `capture_credit`).

        The free plan's last phase is recorded (if it records) on the device; `probe` is told its final state and says
        what else to run; the sums come back. What is interrupted is done again from the free phase on, so that `probe`
        may be asked twice.

        Args:
            free: what is deployed.
            probe: the probe, from the free relaxation, which holds no states.
            noise: as for `relax`.

        Returns:
            The free relaxation without its states, and the analog blocks of the credit, see `CreditProbe`.

        Raises:
            InputError, CapabilityError: as `relax`.
        """
        raise CapabilityError(f"{type(self).__name__} cannot form credit by itself (capability capture_credit)")

    @property
    def model(self) -> Substrate:
        """The physics of the drawn chip (capability `model`): what judges differentiate, and no rule ever sees."""
        raise CapabilityError(f"{type(self).__name__} has no model of its physics (capability model)")

    @property
    def nominal(self) -> Substrate:
        """The physics as designed (capability `model`). A rule that uses it is model-assisted, not local."""
        raise CapabilityError(f"{type(self).__name__} has no model of its physics (capability model)")

    def save(self) -> Mapping[str, Array]:
        """The volatile state that a resumed run needs (carried lanes); nothing where the hardware keeps its own."""
        return {}

    def restore(self, saved: Mapping[str, Array]) -> None:
        """Put back what `save` gave.

        Raises:
            CapabilityError: something was saved that this device cannot put back.
        """
        if saved:
            raise CapabilityError(f"{type(self).__name__} cannot restore {sorted(saved)}")

    def close(self) -> None:
        """Let go of the resource; idempotent."""

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
