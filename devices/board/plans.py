"""Plans as a board takes them: one image of its DATA slot and one RUN for each tile of lanes, and results read back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.noise import NoisePath, PhysicalNoise, address_word
from hwsim.contracts.plan import At, Outcome, Phase, Plan, RandomStart, Relaxation, Rest, Start

from .codes import AtKind, Bit, Capture, ForceKind, JobKind, NoiseKind, PhaseFlag, RunFlag, StartKind
from .descriptor import Descriptor
from .protocol import Run, RunPhase

BLOCK = 256
"""DATA is compared with what the board holds in blocks of so many bytes."""
_WORD = 4


@final
@dataclass(frozen=True, kw_only=True)
class Tape:
    """What a run keeps on the board.

    Args:
        capture: on which tape.
        phase: of which phase the states are kept.
        weights: [B, N] by which they are multiplied (POST).
        clear: begin the POST tape from zero.
        only: the states do not go into the result.
    """

    capture: Capture
    phase: int
    weights: Float[Array, "B N"] | None = None
    clear: bool = True
    only: bool = True


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """One tile of lanes of a plan, ready to be sent.

    Args:
        data: image of the DATA slot.
        run: payload of RUN.
        length: bytes of the result.
        plan: of these lanes.
        kept: how many states each phase gives back; None for none.
        clipped: [B] whether something that was put in was beyond its converter.
    """

    data: bytes
    run: bytes
    length: int
    plan: Plan
    kept: tuple[int | None, ...]
    clipped: Bool[Array, " B"]


@final
@dataclass(frozen=True, kw_only=True)
class Task:
    """What a board is asked, apart from its lanes.

    Args:
        board: what it can take.
        noise: whose.
        reads: averaged for each state.
        at: as in `Device.relax_transpose`; None forwards; `AtKind.TAPE` for the recording that is on the PRE tape.
        carry: go on where the board itself left its lanes.
        tape: what is kept on the board.
    """

    board: Descriptor
    noise: NoisePath | PhysicalNoise
    reads: int = 1
    at: Array | AtKind | None = None
    carry: bool = False
    tape: Tape | None = None


def jobs(plan: Plan, task: Task) -> list[Job]:
    """The tiles of a plan, as few as fit the board's memory.

    Raises:
        InputError: one lane does not fit, or a limit is passed.
    """
    tile = _lanes_that_fit(plan, task)
    if task.tape is not None and tile < plan.lanes:
        raise InputError(
            f"a tape of this board holds {tile} of {plan.lanes} lanes: take a smaller batch, or record fewer states"
        )
    cuts = range(0, plan.lanes, tile)
    return [_job(*_of_lanes(plan, task, slice(start, min(start + tile, plan.lanes)))) for start in cuts]


def changed(held: bytes | None, wanted: bytes) -> list[tuple[int, int]]:
    """Stretches (start, end) in which what a board holds differs from what it should; all of it where None."""
    if held is None:
        return [(0, len(wanted))]
    common = min(len(held), len(wanted)) // BLOCK * BLOCK
    alike = np.frombuffer(held, np.uint8, common) == np.frombuffer(wanted, np.uint8, common)
    differs = ~alike.reshape(-1, BLOCK).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], differs, [False]]))).reshape(-1, 2)
    stretches = [(int(start) * BLOCK, int(end) * BLOCK) for start, end in edges]
    if common < len(wanted):
        if stretches and stretches[-1][1] == common:
            common = stretches.pop()[0]
        stretches.append((common, len(wanted)))
    return stretches


def results(job: Job, data: bytes, units: int) -> tuple[tuple[Relaxation, ...], int]:
    """What a job made: one Relaxation per phase, and how many reads met the end of the converter."""
    words, lanes, at, met, out = np.frombuffer(data, "<u4"), job.plan.lanes, 0, 0, []

    def floats(*shape: int) -> Float[np.ndarray, ...]:
        nonlocal at
        size = int(np.prod(shape))
        found = words[at : at + size].view("<f4").astype(np.float32).reshape(shape)
        at += size
        return found

    for kept in job.kept:
        residual = floats(lanes)
        codes = words[at : at + lanes]
        at += lanes
        final = floats(lanes, units)
        states = None if kept is None else floats(kept, lanes, units)
        outcome = (codes & 0xFF).astype(np.int64)
        outcome = np.where(job.clipped & (outcome < Outcome.SATURATED), int(Outcome.SATURATED), outcome)
        met += int((codes >> 16).sum())
        out.append(Relaxation(final=final, states=states, residual=residual, outcome=outcome))
    return tuple(out), met


def _states(phase: Phase) -> int:
    return 1 + phase.steps // phase.record if phase.record else 0


def _kept(plan: Plan, tape: Tape | None) -> tuple[int | None, ...]:
    hidden = tape.phase if tape is not None and tape.only else None
    return tuple(
        None if not phase.record or index == hidden else _states(phase) for index, phase in enumerate(plan.phases)
    )


def _lanes_that_fit(plan: Plan, task: Task) -> int:
    board, units = task.board, task.board.units
    if len(plan.phases) > board.phases:
        raise InputError(f"this board takes {board.phases} phases at a time; found {len(plan.phases)}: split the plan")
    if task.reads > board.reads:
        raise InputError(f"this board averages at most {board.reads} reads; found reads={task.reads}")
    data, result = board.inputs + 2, 0
    if isinstance(plan.start, At):
        data += units
    if task.at is not None and not isinstance(task.at, AtKind):
        data += units * (1 if len(task.at.shape) == 2 else len(task.at))
    if task.tape is not None and task.tape.weights is not None:
        data += units
    for phase, kept in zip(plan.phases, _kept(plan, task.tape), strict=True):
        if phase.steps > board.steps:
            raise InputError(f"this board takes {board.steps} steps in a phase; found {phase.steps}: split the phase")
        if phase.force is not None:
            data += units * (phase.steps if len(phase.force.shape) == 3 else 1)
        data += units * ((phase.displace is not None) + (phase.correct_at is not None))
        result += 2 + units * (1 + (kept or 0))
    room = [board.lanes, board.data // (_WORD * data), board.result // (_WORD * result)]
    if task.tape is not None:
        room.append(board.tape // (_WORD * units * max(1, _states(plan.phases[task.tape.phase]))))
    if min(room) < 1:
        raise InputError(
            f"one lane of this plan takes {_WORD * data} bytes to put in and {_WORD * result} to read, and the board "
            f"has {board.data} and {board.result}: record fewer states (record=...), or drive with shorter waveforms"
        )
    return min(room)


def _of_lanes(plan: Plan, task: Task, lanes: slice) -> tuple[Plan, Task]:
    if lanes == slice(0, plan.lanes):
        return plan, task

    def of(array: Array | None) -> Array | None:
        return None if array is None else array[..., lanes, :]

    start: Start = At(plan.start.state[lanes]) if isinstance(plan.start, At) else plan.start
    phases = tuple(
        replace(phase, force=of(phase.force), displace=of(phase.displace), correct_at=of(phase.correct_at))
        for phase in plan.phases
    )
    repeats = None if plan.repeats is None else plan.repeats[lanes]
    part = replace(plan, inputs=plan.inputs[lanes], ids=plan.ids[lanes], repeats=repeats, start=start, phases=phases)
    return part, task if task.at is None or isinstance(task.at, AtKind) else replace(task, at=task.at[..., lanes, :])


@final
class _Image:
    """The DATA slot as it grows."""

    def __init__(self, ranges: Mapping[str, tuple[float, float]], lanes: int) -> None:
        self._ranges, self._parts, self._at = ranges, list[bytes](), 0
        self.clipped = np.zeros(lanes, bool)

    def words(self, data: bytes) -> int:
        """Offset of these bytes, in words."""
        at = self._at // _WORD
        self._parts.append(data)
        self._at += len(data)
        return at

    def put(self, array: Array | None, what: str) -> int:
        """Offset of an array [..., B, N] within its range; 0 for None. What lies beyond is held at the end of the
        converter, and the lane counts as saturated."""
        if array is None:
            return 0
        values = np.asarray(array, np.float64)
        if np.isnan(values).any():
            raise InputError(f"{what} holds a value that is no number; a board takes finite ones")
        low, high = (_inside(bound) for bound in self._ranges[what])
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        held = np.clip(single, low, high)
        if held.size:
            self.clipped |= (held != single).any(axis=-1).reshape(-1, held.shape[-2]).any(axis=0)
        return self.words(held.astype("<f4", copy=False).tobytes())

    def plain(self, array: Array | None) -> int:
        """Offset of an array that is only computed with."""
        return 0 if array is None else self.words(np.asarray(array, "<f4").tobytes())

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)


def _job(plan: Plan, task: Task) -> Job:
    board, tape, noise = task.board, task.tape, task.noise
    image = _Image(board.ranges, plan.lanes)
    inputs = image.put(plan.inputs, "x")
    path = noise if isinstance(noise, NoisePath) else NoisePath(seed=0)
    repeats = address_word(0, 0, path.repeat, plan.repeats)
    addresses = np.empty((plan.lanes, 2), "<u4")
    addresses[:, 0], addresses[:, 1] = plan.words, repeats
    where = image.words(addresses.tobytes())
    start, sigma, state = StartKind.REST, 0.0, 0
    if isinstance(plan.start, RandomStart):
        start, sigma = StartKind.RANDOM, plan.start.sigma
    elif isinstance(plan.start, At):
        start, state = StartKind.STATE, image.put(plan.start.state, "state")
    elif task.carry:
        start = StartKind.CARRY
    at_kind, at = AtKind.VECTOR, 0
    if isinstance(task.at, AtKind):
        at_kind = task.at
    elif task.at is not None:
        at_kind = AtKind.VECTOR if len(task.at.shape) == 2 else AtKind.RECORDING
        at = image.put(task.at, "state")
    weights = 0 if tape is None else image.plain(tape.weights)
    phases = b"".join(_phase(phase, index, image).pack() for index, phase in enumerate(plan.phases))
    flags = RunFlag(0)
    if tape is not None:
        flags |= RunFlag.CLEAR_POST if tape.capture == Capture.POST and tape.clear else RunFlag(0)
        flags |= RunFlag.TAPE_ONLY if tape.only else RunFlag(0)
    data = image.data
    run = Run(
        seed=path.seed,
        step=path.step,
        data_length=len(data),
        data_crc=zlib.crc32(data),
        inputs=inputs,
        addresses=where,
        state=state,
        at=at,
        weights=weights,
        sigma=sigma,
        lanes=plan.lanes,
        reads=task.reads,
        coarse=path.coarse,
        reserved=0,
        kind=JobKind.RELAX if task.at is None else JobKind.TRANSPOSE,
        start=start,
        phases=len(plan.phases),
        noise=NoiseKind.ADDRESSED if isinstance(noise, NoisePath) else NoiseKind.PHYSICAL,
        at_kind=at_kind,
        capture=Capture.NONE if tape is None else tape.capture,
        capture_phase=0 if tape is None else tape.phase,
        flags=flags,
    )
    kept = _kept(plan, tape)
    words = sum(plan.lanes * (2 + board.units * (1 + (states or 0))) for states in kept)
    return Job(data=data, run=run.pack() + phases, length=_WORD * words, plan=plan, kept=kept, clipped=image.clipped)


def _phase(phase: Phase, index: int, image: _Image) -> RunPhase:
    kind, flags = ForceKind.NONE, PhaseFlag(0)
    if phase.force is not None:
        kind = ForceKind.WAVEFORM if len(phase.force.shape) == 3 else ForceKind.CONSTANT
    if phase.displace is not None:
        flags |= PhaseFlag.DISPLACE
    if phase.correct_at is not None:
        flags |= PhaseFlag.CORRECT
    return RunPhase(
        steps=phase.steps,
        record=phase.record,
        force=image.put(phase.force, "force"),
        displace=image.put(phase.displace, "displace"),
        correct=image.put(phase.correct_at, "state"),
        force_kind=kind,
        flags=flags,
        index=index,
        reserved=0,
    )


def _inside(bound: float) -> np.float32:
    """The float32 nearest to a bound that does not lie beyond it."""
    single = np.float32(bound)
    return np.nextafter(single, np.float32(0)) if abs(float(single)) > abs(bound) else single


def joined(tiles: Sequence[tuple[Relaxation, ...]]) -> tuple[Relaxation, ...]:
    """The relaxations of all tiles, phase by phase."""
    return tiles[0] if len(tiles) == 1 else tuple(Relaxation.joined(phase) for phase in zip(*tiles, strict=True))


def has(board: Descriptor, bit: Bit) -> bool:
    """Whether a board offers something that is no capability of the contract."""
    return bool(board.bits & bit)


def put_in(plan: Plan, state: Array, board: Descriptor) -> Plan:
    """The plan begun at a state of the host's: loaded, or kicked there from rest."""
    if has(board, Bit.LOAD_STATE):
        return replace(plan, start=At(state))
    if not has(board, Bit.DISPLACE):
        raise CapabilityError(
            "this start needs load_state or displace, and the board offers neither: start from Rest()"
        )
    first, *others = plan.phases
    kick = state if first.displace is None else state + np.asarray(first.displace)
    return replace(plan, start=Rest(), phases=(replace(first, displace=kick), *others))


def nothing(plan: Plan, units: int) -> tuple[Relaxation, ...]:
    """What no lanes give."""

    def of(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    return tuple(
        Relaxation(
            final=of(0, units),
            states=of(1 + phase.steps // phase.record, 0, units) if phase.record else None,
            residual=of(0),
            outcome=np.zeros(0, np.int64),
        )
        for phase in plan.phases
    )
