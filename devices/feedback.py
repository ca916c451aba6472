"""A device whose couplings backwards are an array of their own, programmed apart from those forwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.errors import HwsimError, InputError
from hwsim.contracts.noise import NoisePath, PhysicalNoise
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Plan, Relaxation
from hwsim.contracts.substrate import Substrate, Synapses
from hwsim.contracts.wrapped_substrate import WrappedSubstrate

FEEDBACK = "feedback."
"""Prefix of the blocks of the feedback array."""
_SAVED = "feedback/"


@final
class SeparateFeedback(Device):
    """Two devices of one kind: the first settles, the second is driven backwards and holds the feedback couplings B:

        relax               z <- z + eps (F(z, x; W) + force)                on the first
        relax_transpose     a <- a + eps (J(at; B)^T a + force)              on the second
                            leaky network: J(at; B)^T = -1 + R B^T

    so that no coupling has to run both ways. Nothing makes B equal to W: it is programmed as block "feedback.W", and a
    rule learns it or lives with the difference (feedback alignment). Every other block is written to both. What is read
    back is the first device's, and B is the second's. The couplings are no longer known to be reciprocal, and there is
    no `correct`, which takes the transpose of the first array, and no `capture_credit`, which pairs what both keep.

    Args:
        device: settles.
        feedback: of the same units, inputs, blocks and step, and with capability `transpose`. Both are opened and
            closed here.
        blocks: couplings between units that have a feedback array.
        mismatch: largest relative error with which the response backwards differs from the transpose where both arrays
            are told the same, because two dies are not alike; 0 where they are, or are not known not to be.

    Raises:
        InputError: two devices that do not fit, or blocks that they do not have.
        CapabilityError: the second cannot drive its couplings backwards.
    """

    def __init__(
        self, device: Device, feedback: Device, *, blocks: Iterable[str] = ("W",), mismatch: float = 0.0
    ) -> None:
        if device is feedback:
            raise InputError("a feedback array of its own takes two devices; found one, given twice")
        self._device, self._feedback = device, feedback
        first, second = device.spec, feedback.spec
        mirrored = tuple(blocks)
        if not mirrored or set(mirrored) - first.shapes.keys():
            raise InputError(
                f"asked for feedback arrays of the blocks {sorted(mirrored)}; the device holds {sorted(first.shapes)}: "
                f"name its couplings between units"
            )
        for name in ("units", "inputs", "shapes", "dt", "time_constant"):
            one, other = getattr(first, name), getattr(second, name)
            if one != other:
                raise InputError(f"a feedback array must be of the same kind; {name} is {one} and {other}")
        second.require({Capability.TRANSPOSE}, "SeparateFeedback(device, feedback)")
        self._blocks = {FEEDBACK + name: name for name in mirrored}
        self._spec = _joined(first, second, self._blocks, mismatch)
        self._asked: Parameters | None = None

    @property
    def spec(self) -> DeviceSpec:
        return self._spec

    @property
    def synapses(self) -> Synapses:
        return _ForwardSynapses(self._device.synapses, self._blocks)

    @property
    def model(self) -> Substrate:
        """The physics of the first device's chip. The feedback array is no part of it: dF/dB = 0."""
        self._spec.require({Capability.MODEL}, "Device.model")
        return _forward(self._device.model, self._blocks)

    @property
    def nominal(self) -> Substrate:
        self._spec.require({Capability.MODEL}, "Device.nominal")
        return _forward(self._device.nominal, self._blocks)

    def program(self, parameters: Parameters) -> Parameters:
        self._spec.check_parameters(parameters)
        forwards, backwards = self._split(parameters)
        mirrored = self._feedback.program(backwards)
        try:
            held = self._device.program(forwards | parameters.readout)
        except HwsimError:
            if self._asked is not None:  # what is refused leaves both arrays as they were
                self._feedback.program(self._asked)
            raise
        self._asked = backwards
        return self._read_back(held, mirrored)

    def adjust(self, pulses: Parameters) -> Parameters:
        self._spec.require({Capability.ADJUST}, "Device.adjust")
        self._spec.check_blocks(pulses)
        if any(np.any(np.asarray(block) != np.rint(np.asarray(block))) for block in pulses.analog.values()):
            raise InputError("pulses come in whole numbers: round them before Device.adjust")
        forwards, backwards = self._split(pulses)
        held = self._device.adjust(forwards | pulses.readout)
        mirrored = self._feedback.adjust(backwards)
        self._asked = mirrored.analog
        return self._read_back(held, mirrored)

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        return self._device.relax(plan, noise=noise)

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        self._spec.check_plan(plan)
        return self._feedback.relax_transpose(at, plan, noise=noise)

    def save(self) -> Mapping[str, Array]:
        return {**self._device.save(), **{_SAVED + name: array for name, array in self._feedback.save().items()}}

    def restore(self, saved: Mapping[str, Array]) -> None:
        self._device.restore({name: array for name, array in saved.items() if not name.startswith(_SAVED)})
        self._feedback.restore(
            {name.removeprefix(_SAVED): array for name, array in saved.items() if name.startswith(_SAVED)}
        )
        self._asked = None

    def close(self) -> None:
        try:
            self._device.close()
        finally:
            self._feedback.close()

    def __enter__(self) -> SeparateFeedback:
        self._device.__enter__()
        try:
            self._feedback.__enter__()
        except BaseException:
            self._device.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._feedback.__exit__(kind, error, trace)
        finally:
            self._device.__exit__(kind, error, trace)

    def _split(self, parameters: Parameters) -> tuple[Parameters, Parameters]:
        """Analog blocks for the first device, and for the second."""
        forwards = without(parameters.analog, self._blocks)
        mirrors = {mirrored: parameters[name] for name, mirrored in self._blocks.items()}
        return forwards, forwards | mirrors

    def _read_back(self, held: Parameters, mirrored: Parameters) -> Parameters:
        return held | {name: mirrored[block] for name, block in self._blocks.items()}


def without(parameters: Parameters, blocks: Iterable[str]) -> Parameters:
    """All other blocks."""
    left = {name: block for name, block in parameters.items() if name not in set(blocks)}
    return Parameters(left, frozen=parameters.frozen & left.keys())


def _joined(first: DeviceSpec, second: DeviceSpec, blocks: Mapping[str, str], mismatch: float) -> DeviceSpec:
    """The spec of both: what either cannot do, the two cannot."""
    if not (np.isfinite(mismatch) and mismatch >= 0):
        raise InputError(f"SeparateFeedback needs a finite mismatch >= 0; found {mismatch}")
    backwards = {Capability.TRANSPOSE, Capability.PLAYBACK}
    forwards = {Capability.CLAMP, Capability.MODEL}
    # the transients and what is played backwards against them lie on two devices, and so does no sum over both
    neither = {Capability.CORRECT, Capability.CAPTURE_CREDIT}
    both = first.capabilities & second.capabilities - backwards - forwards - neither
    ranges = {name: second.ranges[block] for name, block in blocks.items() if block in second.ranges}
    floors = [floor for floor in (first.noise_floor, second.noise_floor) if floor is not None]
    powers = [power for power in (first.power, second.power) if power is not None]
    return replace(
        first,
        shapes={**first.shapes, **{name: first.shapes[block] for name, block in blocks.items()}},
        ranges={**first.ranges, **ranges},
        capabilities=both | (first.capabilities & forwards) | (second.capabilities & backwards),
        noise_floor=max(floors) if len(floors) == 2 else None,
        power=max(powers) if len(powers) == 2 else None,
        reciprocal=False,
        feedback=dict(blocks),
        unfactored=first.unfactored | set(blocks),
        exact_writes=first.exact_writes and second.exact_writes,
        mismatch=max(first.mismatch, second.mismatch, mismatch),
    )


def _silent(parameters: Parameters, blocks: Iterable[str], credit: Parameters, lanes: int | None) -> Parameters:
    """A credit with zeros for the blocks that do not act forwards."""
    xp = namespace(*credit.values())
    zeros = {
        name: parameters[name] * 0.0 if lanes is None else xp.stack([parameters[name] * 0.0] * lanes) for name in blocks
    }
    return credit | zeros


@final
class _ForwardSynapses(Synapses):
    """Synapses of the first device; those of the feedback array take no part in F."""

    def __init__(self, synapses: Synapses, blocks: Mapping[str, str]) -> None:
        self._synapses, self._blocks = synapses, blocks

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        credit = self._synapses.credit(post, z, x, without(theta, self._blocks), per_sample=per_sample)
        return _silent(theta, self._blocks, credit, len(x) if per_sample else None)

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        return self._synapses.influence(z, x, without(theta, self._blocks))


def _forward(substrate: Substrate, blocks: Mapping[str, str]) -> Substrate:
    return ForwardSubstrate(substrate=substrate, feedback=tuple(blocks.items()))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardSubstrate(WrappedSubstrate):
    """The physics of a device with a feedback array, as it settles: `F` without the further blocks, dF/dB = 0.

    Args:
        substrate: of the device that settles.
        feedback: (feedback block, block that it mirrors).
    """

    feedback: tuple[tuple[str, str], ...]

    def own(self, theta: Parameters) -> Parameters:
        return without(theta, self._blocks)

    @property
    def reciprocal(self) -> bool:
        return False

    @property
    def unfactored(self) -> frozenset[str]:
        return self.substrate.unfactored | set(self._blocks)

    @property
    def _blocks(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.feedback)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        shapes = self.substrate.shapes()
        return {**shapes, **{name: shapes[block] for name, block in self.feedback}}

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        ranges = self.substrate.ranges()
        return {**ranges, **{name: ranges[block] for name, block in self.feedback if block in ranges}}

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        credit = self.substrate.credit(post, z, x, self.own(theta), per_sample=per_sample)
        return _silent(theta, self._blocks, credit, len(x) if per_sample else None)

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        return None

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return None

    def unshare(self, theta: Parameters) -> Parameters:
        mirrors = {name: self.substrate.unshare(self._mirrored(theta, name))[block] for name, block in self.feedback}
        return super().unshare(theta) | mirrors

    def share(self, gradients: Parameters) -> Parameters:
        mirrors = {name: self.substrate.share(self._mirrored(gradients, name))[block] for name, block in self.feedback}
        return super().share(gradients) | mirrors

    def _mirrored(self, theta: Parameters, name: str) -> Parameters:
        """The substrate's own blocks, with a feedback block in its place."""
        return self.own(theta) | {dict(self.feedback)[name]: theta[name]}
