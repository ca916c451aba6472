"""What a device is found to be before the laws are put to it, and how to ask it things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.noise import NoisePath, PhysicalNoise
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation, Rest, Start

from .draws import draw_parameters, normals
from .laws import demand, largest

LANES = 5
_LEAST_FAITHFUL = 0.8


@final
@dataclass(frozen=True, kw_only=True)
class Bench:
    """A kind of device, with what decides which laws can be put to it.

    Args:
        make: opens one, always the same kind.
        seed: of everything drawn.
        spec: of the device.
        quiet: two settlings that only differ in their noise are the same.
        lanewise: two lanes that only differ in their noise are not, as they are where all noise is common to a plan.
        read_error: largest error of a read, state units; 0 where it is below rounding, or where nothing known can be
            read.
        rounding: machine epsilon of the states.
    """

    make: Callable[[], Device]
    seed: int
    spec: DeviceSpec
    quiet: bool
    lanewise: bool
    read_error: float
    rounding: float

    @staticmethod
    def survey(make: Callable[[], Device], seed: int) -> Bench:
        """Find out how a device reads and whether it is noisy.

        Raises:
            AssertionError: a loaded (or displaced) state is not what is read.
        """
        with make() as device:
            spec = device.spec
            bench = Bench(make=make, seed=seed, spec=spec, quiet=False, lanewise=False, read_error=0.0, rounding=0.0)
            device.program(draw_parameters(spec, seed))
            plan = bench.plan(Phase(steps=spec.horizon))
            paths = bench.noise, bench.noise.repeated(1)
            first, second = (device.relax(plan, noise=path)[0].final for path in paths)
            alike = device.relax(replace(plan, inputs=np.repeat(plan.inputs[:1], LANES, axis=0)), noise=bench.noise)
            lanewise = not np.array_equal(alike[0].final[1:], alike[0].final[:-1])
            rounding = float(np.finfo(first.dtype).eps)
            error = _read_error(bench, device)
        # what is lost to the states' own rounding is not an error of the read
        error = error if error > 8 * rounding * largest(bench.normal(1)) else 0.0
        quiet = np.array_equal(first, second)
        return Bench(
            make=make, seed=seed, spec=spec, quiet=quiet, lanewise=lanewise, read_error=error, rounding=rounding
        )

    def has(self, *capabilities: Capability) -> bool:
        """Whether the device lists all of them."""
        return not self.spec.missing(capabilities)

    @property
    def repeatable(self) -> bool:
        """Whether the same plan can be run again with the same outcome."""
        return self.quiet or self.has(Capability.REPLAYABLE_NOISE)

    @property
    def noise(self) -> NoisePath:
        """The address that laws use unless they say otherwise."""
        return NoisePath(seed=self.seed + 1)

    @contextmanager
    def device(self) -> Iterator[tuple[Device, Parameters]]:
        """A programmed device and what it holds."""
        with self.make() as device:
            yield device, device.program(draw_parameters(self.spec, self.seed))

    def normal(self, key: int, *, lanes: int = LANES) -> Float[Array, "B N"]:
        """Standard normal deviates, one for each lane and unit."""
        return normals(self.seed, key, lanes, self.spec.units)

    def plan(self, *phases: Phase, lanes: int = LANES, start: Start = Rest()) -> Plan:
        """Phases on random inputs, with ids that are not simply the lane's number."""
        inputs = normals(self.seed, 0, lanes, self.spec.inputs)
        return Plan(inputs=inputs, ids=7 + 3 * np.arange(lanes), start=start, phases=phases)

    def settle(
        self,
        device: Device,
        *phases: Phase,
        start: Start = Rest(),
        noise: NoisePath | PhysicalNoise | None = None,
    ) -> Relaxation:
        """The last of these phases."""
        return device.relax(self.plan(*phases, start=start), noise=self.noise if noise is None else noise)[-1]

    def respond(
        self,
        device: Device,
        at: Array,
        *phases: Phase,
        start: Start = Rest(),
        noise: NoisePath | PhysicalNoise | None = None,
    ) -> Relaxation:
        """The last of these phases of the transposed response."""
        plan = self.plan(*phases, start=start)
        return device.relax_transpose(at, plan, noise=self.noise if noise is None else noise)[-1]

    def tolerance(self, *arrays: Array, gain: float = 1.0) -> float:
        """By how much two reads may differ that would be equal with exact arithmetic and reads.

        Args:
            arrays: what is compared, for its size.
            gain: by which differences of reads are multiplied.
        """
        return gain * (200.0 * self.rounding * (1.0 + largest(*arrays)) + 4.0 * self.read_error)

    def arrival(self, force: Array) -> float:
        """By how much eps times a force may differ from the step that it makes: time constants spread."""
        return self.spec.mismatch * self.spec.step_size * largest(force)


def _read_error(bench: Bench, device: Device) -> float:
    """The largest difference between a known state and what is read of it."""
    known = bench.normal(1)
    if bench.has(Capability.LOAD_STATE):
        law, plan = "zero steps from a loaded state read that state", bench.plan(Phase(steps=0), start=At(known))
    elif bench.has(Capability.DISPLACE):
        law, plan = "zero steps from rest, displaced, read the displacement", bench.plan(Phase(steps=0, displace=known))
    else:
        return 4.0 * bench.spec.noise_floor if bench.spec.noise_floor is not None else 0.0
    read = device.relax(plan, noise=bench.noise)[0].final
    demand(read.shape == known.shape, law, f"shape {list(known.shape)}", f"shape {list(read.shape)}")
    slope = float(np.sum(read * known) / np.sum(known * known))
    demand(abs(slope - 1.0) < 1.0 - _LEAST_FAITHFUL, law, "a slope of 1 between the two", f"a slope of {slope:.3g}")
    return largest(read - known)
