"""Getting things done on a board that may restart, go safe or be taken over at any moment: again, or not at all."""

from __future__ import annotations

import hashlib
import math
import warnings
import zlib
from collections.abc import Callable
from itertools import chain
from typing import TypeVar, final

from .codes import Cause, CreditFlag, CreditMode, ErrorCode, JobState, Slot, Type
from .errors import BoardChanged, BoardRebooted, BoardRefused, BoardSafe, SessionLost, TransferBroken
from .link import Request
from .plans import Job, changed
from .protocol import Accepted, AskJob, Credit, JobStatus
from .provenance import BoardWarning
from .session import Session
from .transfers import download, puts, upload, verified
from .words import cause_in_words

ATTEMPTS = 16
"""How often one thing is tried anew because the board restarted, went safe or lost its session meanwhile."""
_T = TypeVar("_T")


class _Again(Exception):  # noqa: N818  # a wish, not an error
    """The run was lost through no fault of its own."""


@final
class Operator:
    """What this host knows of what the board holds, and how it keeps that true.

    Args:
        session: the talk with the board.
        restores: program a board again that started again; else `BoardRebooted` is raised.
    """

    def __init__(self, session: Session, *, restores: bool) -> None:
        self._session, self._restores = session, restores
        self.network: bytes | None = None
        """What it was programmed with; None where that is not certain."""
        self.held = b""
        """What it then said that it holds."""
        self.carries = False
        """Whether the lanes that ran last are still on it."""
        self.restored = 0
        self.remarks: list[str] = []
        self._data: bytes | None = None
        self._measures = True
        self._inside = False
        self._boot = 0

    @property
    def held_sha(self) -> bytes:
        """SHA-256 of what is held."""
        return hashlib.sha256(self.held).digest()

    def forget(self) -> None:
        """Nothing is certain any more."""
        self.network, self._data, self.carries = None, None, False

    def write(self, network: bytes) -> bytes:
        """Program the board, and read back what it really holds; what it holds already is not sent again.

        Raises:
            BoardRefused: a value is out of range; the board then holds what it held.
        """

        def program() -> None:
            self.network = None  # whatever happens now: the old one is not to be relied on
            upload(self._session, Slot.NETWORK, network)
            if self._session.status().network_crc != zlib.crc32(self.held):
                self.held = verified(self._session, Slot.HELD)
            self.network, self._boot = network, self._session.hello.boot_id

        before = self.network
        try:
            self.do(program, reprogram=False)
        except BoardRefused:
            self.network = before
            raise
        return self.held

    def job(self, tile: Job) -> tuple[int, bytes, float]:
        """One RUN: its number, its result, and the temperature behind it."""
        session = self._session
        stretches = changed(self._data, tile.data)
        self._data, wanted = None, tile.data
        run = Request(type=Type.RUN, payload=tile.run, expect=Accepted.size)
        latest = Request(type=Type.JOB_STATUS, payload=AskJob(job=0).pack(), expect=JobStatus.size)
        *_, accepted, status = session.all(chain(puts(session, Slot.DATA, wanted, stretches), (run, latest)))
        self._data = wanted
        ended = self.ended(Accepted.unpack(accepted).job, JobStatus.unpack(status))
        if ended.network_crc != zlib.crc32(self.held):
            raise BoardChanged(
                "the board ran another network than this session programmed: somebody else programs it; program "
                "it again"
            )
        data = download(session, Slot.RESULT, tile.length)
        if zlib.crc32(data) != ended.result_crc:
            raise TransferBroken("a result does not have the CRC that the board states for it")
        return ended.job, data, self._temperature()

    def ended(self, job: int, status: JobStatus | None = None) -> JobStatus:
        """Wait for a job."""
        session, pause = self._session, 0.001
        ask = Request(type=Type.JOB_STATUS, payload=AskJob(job=job).pack(), expect=JobStatus.size)
        while status is None or status.state == JobState.RUNNING:
            if status is not None:
                session.wait(pause)
                pause = min(1.5 * pause, 0.1)
            status = JobStatus.unpack(session.one(ask))
        if status.state == JobState.DONE:
            return status
        if status.detail in (ErrorCode.LEASE_EXPIRED, ErrorCode.WATCHDOG_RESET) or status.state == JobState.NONE:
            self._unlatch()
            raise _Again
        raise BoardSafe(
            f"a run ended before its time ({JobState(status.state).name.lower()}, {status.detail:#06x}): "
            f"{cause_in_words(session.status().cause)}; see to it, then board.clear_fault()"
        )

    def do(self, action: Callable[[], _T], *, reprogram: bool = True) -> _T:
        """Do something, again where the board lost it through no fault of its own; what is done inside of it is a part
        of it."""
        if self._inside:
            return action()
        self._inside = True
        try:
            return self._persist(action, reprogram)
        finally:
            self._inside = False

    def _persist(self, action: Callable[[], _T], reprogram: bool) -> _T:
        stale = self.network is not None and self._session.hello.boot_id != self._boot
        if stale:
            unseen = BoardRebooted("the board started again since it was programmed; program it again")
            if not self._restores:
                self.forget()
                raise unseen
            self._note(unseen)
        repair: Callable[[], object] | None = None
        for _ in range(ATTEMPTS):
            try:
                if stale:
                    self._put_back(reprogram)
                    stale = False
                if repair is not None:
                    repair()
                    repair = None
                return action()
            except BoardRebooted as rebooted:
                if not self._restores:
                    self.forget()
                    raise
                stale = True
                self._note(rebooted)
            except SessionLost as lost:
                stale = True
                self.remarks.append(str(lost))
            except _Again:
                self.carries = False
            except BoardRefused as refusal:
                if refusal.detail == ErrorCode.LATCHED:
                    repair = self._unlatch
                elif refusal.detail == ErrorCode.DATA_CRC:
                    self._data = None
                elif refusal.detail == ErrorCode.JOB_RUNNING:
                    repair = self._cancel
                else:
                    raise
                self.carries = False
        raise BoardSafe(
            f"gave up after {ATTEMPTS} attempts: the board keeps starting again, going safe or losing its session "
            f"({'; '.join(self.remarks[-3:])})"
        )

    def _cancel(self) -> None:
        """End the job that runs, whosever it is."""
        self._session.one(Request(type=Type.CANCEL, expect=JobStatus.size))

    def _note(self, rebooted: BoardRebooted) -> None:
        self.restored += 1
        board = self._session.descriptor
        if board.quiet:
            self.remarks.append(f"{rebooted}; it was, and what was under way ran again")
            return
        words = f"{rebooted}; it was, and the run went on with other noise than an undisturbed one would have had"
        self.remarks.append(words)
        warnings.warn(words, BoardWarning, stacklevel=4)

    def _put_back(self, reprogram: bool) -> None:
        """After a reboot or a lost session: what was programmed must be there, the very same."""
        self._data, self.carries = None, False
        status = self._session.status()
        if status.latched:
            self._unlatch()
        if not reprogram or self.network is None:
            return
        network, self.network = self.network, None
        if status.programmed and status.network_crc != zlib.crc32(self.held):
            raise BoardChanged(
                "somebody else programmed the board meanwhile: call program(parameters) again if it is to be ours"
            )
        try:
            upload(self._session, Slot.NETWORK, network)
            there = self._session.status().network_crc
        except (BoardRebooted, SessionLost):
            self.network = network  # and once more
            raise
        if there != zlib.crc32(self.held):
            raise BoardChanged(
                "programmed again, the board holds something else than before it started again: call "
                "program(parameters), and go on with what that reads back"
            )
        self.network, self._boot = network, self._session.hello.boot_id

    def _unlatch(self) -> None:
        """Leave the safe state where it is known why.

        Raises:
            BoardSafe: somebody should look first.
        """
        status = self._session.status()
        if not status.latched:
            return
        if status.cause not in (Cause.LEASE, Cause.WATCHDOG):
            raise BoardSafe(
                f"the board is in its safe state: {cause_in_words(status.cause)}; see to it, then board.clear_fault()"
            )
        self.remarks.append(f"the board had gone safe ({cause_in_words(status.cause)}), and was let go on")
        self._session.clear_fault(status.cause)

    def credit(self, scale: float, mode: CreditMode) -> bytes:
        """The sums over the two tapes, [W | U | b]; must be called inside `do` together with what filled the tapes."""
        asked = Credit(scale=scale, mode=mode, flags=CreditFlag.CLEAR, reserved=0).pack()
        self.ended(Accepted.unpack(self._session.one(Request(type=Type.CREDIT, payload=asked))).job)
        return verified(self._session, Slot.CREDIT)

    def _temperature(self) -> float:
        """Degrees C; asked for once where the board does not measure it."""
        if not self._measures:
            return math.nan
        found = self._session.status().temperature
        self._measures = not math.isnan(found)
        return found
