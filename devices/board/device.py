"""A board as a device like any other."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.capture import CreditProbe
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.errors import InputError, RangeError, ResumeError
from hwsim.contracts.noise import PHYSICAL, NoisePath, PhysicalNoise, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Plan, RandomStart, Relaxation, Rest, Start
from hwsim.contracts.substrate import LocalSynapses, Synapses
from hwsim.substrates import LeakyNetwork
from hwsim.substrates.nonlinearity import Nonlinearity, RationalTanh, Tanh

from .codes import AtKind, Bit, Capture, CreditMode, ErrorCode, Type
from .descriptor import Descriptor
from .errors import BoardRefused, VersionMismatch
from .link import Counters, Request
from .operating import Operator
from .plans import Tape, Task, has, jobs, joined, nothing, put_in, results
from .ports import Opener, SerialOpener
from .protocol import Selftest, Status
from .provenance import Measured, Provenance
from .session import LEASE_MS, PATIENCE, Session

BAUD = 115200
_BLOCKS = ("W", "U", "b")
CURVES: dict[str, Nonlinearity] = {"rational-tanh": RationalTanh(), "tanh": Tanh()}


@final
class SerialBoard(Device):
    """A board that answers the board protocol (docs/board-protocol.md), on a serial port or whatever stands for one.

    Opened on entering, or at first use. Every command is executed exactly once whatever the wire does. A port that goes
    away is waited for; a board that comes back is asked who it is, and is used only if it still holds what was
    programmed. One that started again has forgotten it: it is programmed again, its read-back compared with the one
    before, and the plan that was under way is run again, which changes nothing where noise is off or can be replayed.
    Where it is the board's own, the run goes on with other noise, and says so: in `remarks`, in the provenance of every
    later result, and as a `BoardWarning`.

    Parameters out of range never leave the host (RangeError). Inputs, forces, kicks and loaded states beyond the end of
    their converter are held there, and their lanes are SATURATED.

    Args:
        where: URL of a port (path, socket://, rfc2217://, loop://, fault://, replay://), or an `Opener`.
        baud: bits per second.
        reads: averaged for each state that is read.
        start: how the deployed settling begins.
        horizon: T, steps of the deployed settling; the board's own unless told.
        restore: program a board again that started again; else `BoardRebooted` is raised.
        patience: seconds without any progress after which a link is given up.
        lease_ms: milliseconds of silence after which the board goes safe by itself.
        take_over: end the session of another host that holds the board.
        session: number of the session; drawn unless told.

    Raises:
        InputError: reads or horizon that are no counts, and from the first use, a URL that means nothing.

    From any use: LinkLost, NoAnswer, VersionMismatch, BoardChanged, BoardSafe, BoardRefused, each with what to do.
    """

    def __init__(
        self,
        where: str | Opener,
        *,
        baud: int = BAUD,
        reads: int = 1,
        start: Start = Rest(),
        horizon: int | None = None,
        restore: bool = True,
        patience: float = PATIENCE,
        lease_ms: int = LEASE_MS,
        take_over: bool = False,
        session: int | None = None,
    ) -> None:
        for name, value in (("baud", baud), ("reads", reads), ("lease_ms", lease_ms)):
            whole("a board", name, value, least=1)
        opener = SerialOpener(where, baud=baud) if isinstance(where, str) else where
        self._session = Session(opener, patience=patience, lease_ms=lease_ms, take_over=take_over, session=session)
        self._operator = Operator(self._session, restores=restore)
        self._reads, self._start, self._horizon = reads, start, horizon
        self._spec: DeviceSpec | None = None
        self._synapses: Synapses | None = None
        self._carried: Array | None = None

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def spec(self) -> DeviceSpec:
        """From the descriptor; opens the board where it is not open."""
        if self._spec is None:
            self._open()
        assert self._spec is not None
        return self._spec

    @property
    def synapses(self) -> Synapses:
        if self._synapses is None:
            curve = CURVES[self.descriptor.nonlinearity]
            self._synapses = LocalSynapses(LeakyNetwork.dense(self.spec.units, self.spec.inputs, curve))
        return self._synapses

    @property
    def descriptor(self) -> Descriptor:
        """All that the board says of itself."""
        self._open()
        return self._session.descriptor

    @property
    def counters(self) -> Counters:
        """What the link has gone through since it was opened."""
        self._open()
        return self._session.counters

    @property
    def session(self) -> Session:
        """The talk with it, for messages that no device has."""
        self._open()
        return self._session

    @property
    def remarks(self) -> tuple[str, ...]:
        """What happened on the way that a reader of the results should know."""
        return tuple(self._operator.remarks)

    # --- opening and closing ---------------------------------------------------------------------------------------

    def __enter__(self) -> SerialBoard:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()
        self._operator.forget()

    def _open(self) -> None:
        if self._session.connected:
            return
        self._session.connect()
        try:
            spec = self._described(self._session.descriptor)
            if self._spec is not None and spec != self._spec:
                raise VersionMismatch(f"another board is on {self._session.opener.name} now: make a new SerialBoard")
        except BaseException:
            self._session.close()
            raise
        self._spec = spec

    def _described(self, board: Descriptor) -> DeviceSpec:
        if board.topology != "dense" or board.nonlinearity not in CURVES:
            raise VersionMismatch(
                f"this host knows dense boards with tanh units; found {board.topology}, {board.nonlinearity}: install "
                "a newer hwsim"
            )
        error = board.read_error
        return DeviceSpec(
            units=board.units,
            inputs=board.inputs,
            shapes={"W": (board.units, board.units), "U": (board.units, board.inputs), "b": (board.units,)},
            ranges={name: board.ranges[name] for name in _BLOCKS},
            dt=board.dt,
            time_constant=board.time_constant,
            horizon=board.horizon if self._horizon is None else self._horizon,
            start=self._start,
            tolerance=board.tolerance,
            capabilities=board.capabilities,
            noise_floor=None if error is None else error / math.sqrt(self._reads),
            power=board.power,
        )

    # --- the contract ----------------------------------------------------------------------------------------------

    def program(self, parameters: Parameters) -> Parameters:
        spec = self.spec
        spec.check_parameters(parameters)
        with np.errstate(over="ignore"):
            blocks = [np.asarray(parameters[name], "<f4") for name in _BLOCKS]
        for name, block in zip(_BLOCKS, blocks, strict=True):
            if not np.isfinite(block).all():
                raise RangeError(f"block {name} holds a value beyond float32, which is what a board takes")
        network = b"".join(block.tobytes() for block in blocks)

        try:
            held = self._operator.write(network)
        except BoardRefused as error:
            if error.detail in (ErrorCode.OUT_OF_RANGE, ErrorCode.NOT_FINITE):
                raise RangeError(str(error)) from None
            raise
        return Parameters(self._unpacked(held)) | parameters.readout

    def relax(self, plan: Plan, *, noise: NoisePath | PhysicalNoise) -> tuple[Relaxation, ...]:
        self.spec.check_plan(plan)
        found, final = self._run(plan, noise, None)
        if plan.fresh:
            self._carried = final
        return found

    def relax_transpose(
        self,
        at: Float[Array, "B N"] | Float[Array, "T1 B N"],
        plan: Plan,
        *,
        noise: NoisePath | PhysicalNoise,
    ) -> tuple[Relaxation, ...]:
        spec = self.spec
        spec.require({Capability.TRANSPOSE}, "relax_transpose")
        spec.check_plan(plan)
        if not (isinstance(plan.start, Rest | At) and all(phase.correct_at is None for phase in plan.phases)):
            raise InputError("relax_transpose begins at Rest() or At(...), and is linear: leave out correct_at")
        if np.iscomplexobj(at):
            raise InputError("relax_transpose is the response around a real state; found complex numbers in at")
        lanes, shape = (plan.lanes, spec.units), tuple(at.shape)
        if len(shape) == 3:
            spec.require({Capability.PLAYBACK}, "relax_transpose(at=[steps + 1, B, N])")
        steps = {phase.steps for phase in plan.phases}
        if shape != lanes and (len(shape) != 3 or shape[1:] != lanes or steps != {shape[0] - 1}):
            raise InputError(
                f"at must be {list(lanes)} or a recording [steps + 1, {lanes[0]}, {lanes[1]}] of the phase that runs; "
                f"found {list(shape)} for phases of {sorted(steps)} steps"
            )
        return self._run(plan, noise, at)[0]

    def save(self) -> Mapping[str, Array]:
        """The carried lanes as they were read, and which board this is."""
        saved = {"board": np.frombuffer(self.descriptor.uid.encode(), np.uint8)}
        return saved if self._carried is None else saved | {"carried": self._carried}

    def restore(self, saved: Mapping[str, Array]) -> None:
        if not saved:
            return
        told = bytes(np.asarray(saved.get("board", ()), np.uint8)).decode(errors="replace")
        if told != self.descriptor.uid:
            raise ResumeError(
                f"the saved run is of board {told or 'none'}; this one is {self.descriptor.uid}: plug in the other "
                "one, or start the run afresh"
            )
        self._carried, self._operator.carries = saved.get("carried"), False

    def form_credit(
        self, free: Plan, probe: Callable[[Relaxation], CreditProbe], *, noise: NoisePath | PhysicalNoise
    ) -> tuple[Relaxation, Parameters]:
        self.spec.require({Capability.CAPTURE_CREDIT}, "Device.form_credit")

        def form() -> tuple[Relaxation, bytes]:
            kept = Tape(capture=Capture.PRE, phase=len(free.phases) - 1)
            settled, final = self._run(free, noise, None, kept)
            asked = probe(settled[-1])
            for index, run in enumerate(asked.runs):
                tape = Tape(capture=Capture.POST, phase=len(run.plan.phases) - 1, weights=run.weights, clear=index == 0)
                self._run(run.plan, noise, run.at, tape)
            mode = CreditMode.REVERSED if asked.along else CreditMode.FINAL
            self._carried = final if free.fresh else self._carried
            return settled[-1], self._operator.credit(asked.scale, mode)

        self.spec.check_plan(free)
        self._check_programmed()
        settled, sums = self._operator.do(form)
        return settled, Parameters(self._unpacked(sums))

    # --- what only boards do ---------------------------------------------------------------------------------------

    def status(self) -> Status:
        """What the board knows of itself: state, faults, counters, temperature."""
        self._open()
        return self._operator.do(self._session.status)

    def clear_fault(self) -> None:
        """Leave the safe state, after looking why the board is in it."""
        cause = self.status().cause
        self._operator.do(lambda: self._session.clear_fault(cause))

    def selftest(self) -> Selftest:
        """Have the board check itself; bits of what ran and what failed."""
        self._open()
        request = Request(type=Type.SELFTEST, expect=Selftest.size)
        return self._operator.do(lambda: Selftest.unpack(self._session.one(request)), reprogram=False)

    # --- how it is done --------------------------------------------------------------------------------------------

    def _run(
        self, plan: Plan, noise: NoisePath | PhysicalNoise, at: Array | AtKind | None, tape: Tape | None = None
    ) -> tuple[tuple[Relaxation, ...], Array]:
        """All tiles of a plan: what was read, and the last states."""
        if not isinstance(noise, NoisePath | PhysicalNoise):
            raise InputError(f"noise is a NoisePath (a seed is NoisePath(seed=...)) or PHYSICAL; found {noise!r}")
        self._check_programmed()
        board, operator = self._session.descriptor, self._operator
        if not has(board, Bit.REPLAYABLE_NOISE):
            noise = PHYSICAL
        if plan.lanes == 0:
            return nothing(plan, board.units), np.zeros((0, board.units), np.float32)
        before = replace(self._session.counters)
        task = Task(board=board, noise=noise, reads=self._reads, at=at, tape=tape)

        def run() -> tuple[list[tuple[Relaxation, ...]], list[int], int, int, float]:
            started, carry = self._started(plan, noise, board)
            tiles = jobs(started, replace(task, carry=carry))
            if carry and len(tiles) > 1:
                assert self._carried is not None
                tiles = jobs(put_in(plan, self._carried, board), task)
            found: list[tuple[Relaxation, ...]] = []
            numbers: list[int] = []
            met, limited, warmth = 0, 0, math.nan
            for tile in tiles:
                number, data, warmth = operator.job(tile)
                relaxations, clipped = results(tile, data, board.units)
                found.append(relaxations)
                numbers.append(number)
                met, limited = met + clipped, limited + int(tile.clipped.sum())
            if plan.fresh and at is None:
                operator.carries = len(tiles) == 1 and not isinstance(started.start, At)
            return found, numbers, met, limited, warmth

        found, numbers, met, limited, warmth = operator.do(run)
        after = self._session.counters
        provenance = Provenance(
            uid=board.uid,
            boot_id=self._session.hello.boot_id,
            network=hashlib.sha256(operator.network or b"").hexdigest(),
            held=operator.held_sha.hex(),
            jobs=tuple(numbers),
            clipped=met,
            lanes_limited=limited,
            parallel=board.parallel,
            reads=self._reads,
            resent=after.resent - before.resent,
            reconnects=after.reconnects - before.reconnects,
            restored=operator.restored,
            temperature=warmth,
        )
        whole = joined(found)
        measured = tuple(
            Measured(
                final=each.final,
                states=each.states,
                residual=each.residual,
                outcome=each.outcome,
                provenance=provenance,
            )
            for each in whole
        )
        return measured, np.array(whole[-1].final)

    def _check_programmed(self) -> None:
        if self._operator.network is None:
            raise InputError("nothing is programmed: call device.program(parameters) before relaxing")

    def _started(self, plan: Plan, noise: NoisePath | PhysicalNoise, board: Descriptor) -> tuple[Plan, bool]:
        """The plan with a start that the board knows, and whether it carries on by itself."""
        if isinstance(plan.start, Carry):
            if self._carried is None:
                return replace(plan, start=Rest()), False
            if len(self._carried) != plan.lanes:
                raise InputError(
                    f"Carry continues each lane: {len(self._carried)} lanes ran last, {plan.lanes} are asked for; keep "
                    "the batch size, or start from Rest()"
                )
            if self._operator.carries and has(board, Bit.CARRY):
                return plan, True
            return put_in(plan, self._carried, board), False
        if isinstance(plan.start, RandomStart) and not has(board, Bit.RANDOM_START):
            path = noise if isinstance(noise, NoisePath) else NoisePath(seed=self._session.hello.boot_id)
            drawn = path.normals(Stream.START, np.asarray(plan.ids), units=board.units, repeats=plan.repeats)
            return put_in(plan, (plan.start.sigma * drawn[0]).astype(np.float32), board), False
        return plan, False

    def _unpacked(self, data: bytes) -> dict[str, Array]:
        """[W | U | b] as blocks."""
        found, at = {}, 0
        words = np.frombuffer(data, "<f4").astype(np.float32)
        for name in _BLOCKS:
            shape = self.spec.shapes[name]
            size = int(np.prod(shape))
            found[name] = words[at : at + size].reshape(shape)
            at += size
        return found
