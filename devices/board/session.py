"""A session with a board: who it is, that it still is the same one, and each request executed exactly once."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterable, Iterator
from typing import final

from .codes import ErrorCode, ResetCause, SessionFlag, Type
from .descriptor import Descriptor
from .errors import (
    BoardChanged,
    BoardError,
    BoardRebooted,
    LinkLost,
    NoAnswer,
    SessionLost,
    TransferBroken,
    VersionMismatch,
)
from .keeper import Keeper
from .link import Counters, Exchange, Link, Reply, Request, SessionGone, Silent
from .ports import Opener
from .protocol import (
    MAGIC,
    MAJOR,
    MINOR,
    SCHEMA,
    Chunk,
    ClearFault,
    Event,
    Hello,
    OpenSession,
    Ping,
    SessionOpened,
    Status,
    Stretch,
)
from .words import refused

LEASE_MS = 10_000
"""A host that computes for so long without a word is taken for dead; a compiler can take seconds."""
PATIENCE = 10.0
"""Seconds for which a board that does not answer, or a port that went away, is waited for."""
GREETINGS = 4
"""HELLOs, each sent three times, without an answer after which a port that opened just now holds no board."""
_IDLE = 100
"""Recoveries without progress after which a link is given up, whatever the clock says."""


@final
class Session:
    """One host's talk with one board, over as many ports as it takes.

    Args:
        opener: where the board is.
        patience: seconds without progress after which the link is given up.
        lease_ms: after so long a silence the board goes safe.
        take_over: end the session of another host that holds the board.
        session: its number; drawn by the operating system unless told.
        greetings: HELLOs without an answer after which there is no board.

    Nothing happens before `connect`.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        patience: float = PATIENCE,
        lease_ms: int = LEASE_MS,
        take_over: bool = False,
        session: int | None = None,
        greetings: int = GREETINGS,
    ) -> None:
        self.opener = opener
        self._patience, self._lease_ms, self._take_over = patience, lease_ms, take_over
        self._greetings = greetings
        self.session = random.SystemRandom().randrange(1, 1 << 32) if session is None else session
        self._link: Link | None = None
        self._hello: Hello | None = None
        self._descriptor: Descriptor | None = None
        self._left: Exchange | None = None
        self._broken = False
        self._lock = threading.RLock()
        self._keeper: Keeper | None = None

    @property
    def connected(self) -> bool:
        """Whether it was opened and not closed."""
        return self._link is not None

    @property
    def link(self) -> Link:
        """The link; only where connected."""
        assert self._link is not None, "Session.connect comes first"
        return self._link

    @property
    def counters(self) -> Counters:
        """What the link has gone through."""
        return self.link.counters

    @property
    def hello(self) -> Hello:
        """What the board said of itself when it was opened last."""
        assert self._hello is not None, "Session.connect comes first"
        return self._hello

    @property
    def descriptor(self) -> Descriptor:
        """What it can do."""
        assert self._descriptor is not None, "Session.connect comes first"
        return self._descriptor

    # --- opening and closing ---------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the port, read who is there, and open the session.

        Raises:
            InputError: a URL that means nothing.
            LinkLost: no such port. NoAnswer: nothing there that speaks the protocol.
            VersionMismatch: a board of another version. BoardChanged: another host holds it.
        """
        with self._lock:
            self._link = Link(self.opener.open())
            try:
                self._begin()
            except BaseException:
                self._link.port.close()
                self._link = None
                raise
            if self.opener.realtime:
                self._keeper = Keeper(self.keep, self._lease_ms / 3000.0)

    def look(self) -> Hello:
        """Read who is there, and open no session: nobody else is disturbed. `close` lets go of the port.

        Raises:
            InputError, LinkLost, NoAnswer, VersionMismatch: as `connect`.
        """
        link = self._link = Link(self.opener.open())
        try:
            hello = self._greet(self._greetings)
            self._descriptor, self._hello = Descriptor.of_cbor(self._fetch_descriptor(hello)), hello
            return hello
        finally:
            link.port.close()
            self._link = None

    def close(self) -> None:
        """Say goodbye, if there still is somebody, and let go of the port; idempotent."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
        with self._lock:
            link, self._link = self._link, None
            if link is None:
                return
            try:
                link.run(Exchange(session=self.session, source=iter((Request(type=Type.CLOSE_SESSION),)), most=1))
            except (BoardError, Silent, SessionGone):
                pass  # the lease ends by itself
            finally:
                link.port.close()

    def _greet(self, tries: int) -> Hello:
        """HELLO, and what of it must be right.

        Raises:
            NoAnswer, VersionMismatch.
        """
        for _ in range(tries):
            try:
                payload = self.link.ask(Request(type=Type.HELLO, expect=Hello.size), most=2).payload
                break
            except Silent:
                self.link.counters.resyncs += 1
            except SessionGone:  # it booted this very moment
                if self.link.hello is not None:
                    payload = self.link.hello.pack()
                    break
        else:
            raise NoAnswer(
                f"{self.opener.name} is open, and nothing there answers as a board does; is it the right port, at the "
                f"right baud rate, and is the board's power on?"
            )
        hello = Hello.unpack(payload)
        if hello.magic != MAGIC or hello.major != MAJOR:
            raise VersionMismatch(
                f"the board on {self.opener.name} speaks protocol {hello.major}.{hello.minor}, this host {MAJOR}."
                f"{MINOR}: update the firmware, or install the hwsim that it was built with"
            )
        if hello.schema != SCHEMA:
            raise VersionMismatch(
                f"the board on {self.opener.name} speaks protocol {hello.major}.{hello.minor} with the message table "
                f"{hello.schema:016x}, this host with {SCHEMA:016x}: build its firmware from this version of hwsim"
            )
        self.link.limits(hello)
        return hello

    def _begin(self) -> None:
        hello = self._greet(self._greetings)
        self._descriptor, self._hello = Descriptor.of_cbor(self._fetch_descriptor(hello)), hello
        end = self.opener.now() + self._patience
        while True:
            try:
                self._open_session()
                return
            except (Silent, SessionGone) as trouble:
                if self.opener.now() >= end:
                    raise self._given_up(trouble) from None
                self._hello = self._greet(self._greetings)

    def _open_session(self, *, take_over: bool = False) -> SessionOpened:
        flags = int(SessionFlag.TAKE_OVER) if self._take_over or take_over else 0
        asked = OpenSession(lease_ms=self._lease_ms, flags=flags)
        request = Request(type=Type.OPEN_SESSION, payload=asked.pack(), expect=SessionOpened.size)
        reply = self.link.ask(request, session=self.session, number=0)
        if reply.failure is not None:
            if reply.failure.detail == ErrorCode.SESSION_TAKEN:
                raise BoardChanged(
                    f"another host holds the board on {self.opener.name}: close it there, or wait until its lease ends "
                    f"(or take it over with take_over=True)"
                )
            raise refused(request, reply.failure)
        opened = SessionOpened.unpack(reply.payload)
        if opened.boot_id != self.hello.boot_id:
            raise SessionGone  # it started again since it said HELLO: ask once more who it is
        if self.link.next_number(self.session) is None:
            self.link.number(self.session, opened.next_seq)
        return opened

    def _fetch_descriptor(self, hello: Hello) -> bytes:
        held = bytearray()

        def stretches() -> Iterator[Request]:
            at = 0
            while at < hello.descriptor_length:
                size = min(self.link.chunk(Chunk.size), hello.descriptor_length - at)
                yield Request(
                    type=Type.GET_DESCRIPTOR, payload=Stretch(offset=at, length=size).pack(), expect=Chunk.size + size
                )
                at += size

        exchange = Exchange(session=0, source=stretches())
        self._persist(exchange, reopen=False)
        for reply in exchange.replies:
            if reply.failure is not None:
                raise refused(reply.request, reply.failure)
            held += reply.payload[Chunk.size :]
        if hashlib.sha256(held).digest() != hello.descriptor_sha:
            raise TransferBroken(
                f"the descriptor of the board on {self.opener.name} does not have the SHA-256 that it states: its "
                "firmware is damaged"
            )
        return bytes(held)

    # --- requests --------------------------------------------------------------------------------------------------

    def call(self, requests: Iterable[Request]) -> list[Reply]:
        """Have requests executed, each exactly once, in order, whatever the wire does.

        Returns:
            Their replies; up to the first that was refused, if one was.

        Raises:
            LinkLost: the port went away and did not come back. NoAnswer: nothing came through any more.
            BoardRebooted, SessionLost, BoardChanged: what was under way is lost; the session is open again.
            VersionMismatch: another board came back.
        """
        with self._lock:
            if self._broken:
                self._renew()
            exchange = Exchange(session=self.session, source=iter(requests))
            self._broken = True  # until it is answered: whatever ends it early leaves numbers that the board never saw
            if self._left is not None:  # a PING that was not answered yet
                left, self._left = self._left, None
                self._persist(left)
            self._persist(exchange)
            self._broken = False
            return exchange.replies

    def one(self, request: Request) -> bytes:
        """The payload of the reply to one request.

        Raises:
            BoardRefused: the board refused it; and as `call`.
        """
        (reply,) = self.call((request,))
        if reply.failure is not None:
            raise refused(request, reply.failure)
        return reply.payload

    def all(self, requests: Iterable[Request]) -> list[bytes]:
        """The payloads of the replies to some requests; raises as `one` at the first that was refused."""
        replies = self.call(requests)
        for reply in replies:
            if reply.failure is not None:
                raise refused(reply.request, reply.failure)
        return [reply.payload for reply in replies]

    def status(self) -> Status:
        """What the board knows of itself."""
        return Status.unpack(self.one(Request(type=Type.STATUS, expect=Status.size)))

    def clear_fault(self, cause: int) -> None:
        """Leave the safe state whose cause was seen."""
        self.one(Request(type=Type.CLEAR_FAULT, payload=ClearFault(cause=cause).pack(), expect=Status.size))

    def wait(self, seconds: float) -> list[Event]:
        """Events, as soon as there are some, or none after a while."""
        with self._lock:
            try:
                self.link.listen(seconds)
            except (SessionGone, LinkLost):
                self._recover()
            events, self.link.events = self.link.events, []
            return events

    def keep(self) -> None:
        """Renew the lease if nothing else did; what goes wrong is left for the next call to find."""
        with self._lock:
            link = self._link
            if link is None or self._left is not None or link.port.now() - link.told_at < self._lease_ms / 4000.0:
                return
            ping = Request(type=Type.PING, payload=Ping(nonce=1, board_ms=0).pack(), expect=Ping.size)
            self._left = Exchange(session=self.session, source=iter((ping,)))
            try:
                link.run(self._left)
                self._left = None
            except (Silent, SessionGone, BoardError):
                pass

    # --- when something breaks -------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Something was broken off: numbers were used that the board may or may not know. Begin a session anew.

        Raises:
            As `call`.
        """
        self._left = None
        ours, fresh = self.session, self.session % 0xFFFFFFFF + 1
        self._recover(renewed=fresh)
        self._broken = False
        assert self.session == fresh != ours

    def _persist(self, exchange: Exchange, *, reopen: bool = True) -> None:
        """Run an exchange over whatever happens to the link."""
        progress, since, idle = -1, self.opener.now(), 0
        while True:
            try:
                self.link.run(exchange)
                return
            except (Silent, SessionGone, LinkLost) as trouble:
                idle += 1
                if len(exchange.replies) > progress:
                    progress, since, idle = len(exchange.replies), self.opener.now(), 0
                elif self.opener.now() - since > self._patience or idle > _IDLE:
                    raise self._given_up(trouble) from None
                if not reopen:
                    if isinstance(trouble, LinkLost):
                        raise
                    continue
                self._recover()

    def _given_up(self, trouble: Exception) -> BoardError:
        if isinstance(trouble, LinkLost):
            return trouble
        counters = self.link.counters
        return NoAnswer(
            f"nothing came through on {self.opener.name} for {self._patience:g} s ({counters.damaged} damaged frames, "
            f"{counters.resent} sent again): the wire is too bad, or the board hangs. Check cable and baud rate, then "
            f"reset the board"
        )

    def _recover(self, renewed: int | None = None) -> None:
        """Get the link back, and say what became of the session.

        Args:
            renewed: number of another session, to which to go over if ours is still there.

        Raises:
            LinkLost, NoAnswer: it did not come back in time.
            BoardRebooted, SessionLost, BoardChanged, VersionMismatch: it did, changed.
        """
        before, end, delay = self.hello, self.opener.now() + self._patience, 0.01
        rebooted = lost = False
        while True:
            try:
                hello = self._greet_again()
                rebooted |= hello.boot_id != before.boot_id
                lost |= hello.session not in (self.session, renewed)
                if rebooted or lost:
                    self.link.forget(self.session)
                ours = renewed is not None and not lost
                self.session = self.session if renewed is None else renewed
                self._open_session(take_over=ours)
                self._broken = False
                break
            except SessionGone:
                continue  # it said HELLO: ask again who it is
            except (Silent, NoAnswer) as trouble:
                if self.opener.now() >= end:
                    raise self._given_up(trouble) from None
            except LinkLost:
                if self.opener.now() >= end:
                    raise
                self.opener.pause(delay)
                delay = min(2 * delay, 0.5)
                self._reopen_port()
        if rebooted:
            cause = ResetCause(hello.reset_cause).name.lower().replace("_", " ") if hello.reset_cause < 4 else "unknown"
            raise BoardRebooted(
                f"the board on {self.opener.name} started again ({cause}): what it held is gone; program it again"
            )
        if lost:
            raise SessionLost(f"our session with the board on {self.opener.name} was ended by another host")

    def _greet_again(self) -> Hello:
        hello = self._greet(1)
        if hello.descriptor_sha != self.hello.descriptor_sha:
            raise VersionMismatch(
                f"another board came back on {self.opener.name}, or the same with another firmware: open it anew"
            )
        self._hello = hello
        return hello

    def _reopen_port(self) -> None:
        self.link.port.close()
        try:
            self.link.attach(self.opener.open())
            self.link.counters.reconnects += 1
        except LinkLost:
            pass  # the old one is closed, and says LinkLost at the next try
