"""Requests and replies over a port: numbered, several under way, sent again until they are answered. One thread at a
time; the clock is the port's.

A board executes requests in the order of their numbers and answers them in that order, so that what is missing shows:
a reply that overtakes an earlier one, or a GAP, means that the earlier frame was lost, and it is sent again at once;
else a timer sends everything again that is under way,

    wait = (rto + bytes under way * max(10 / baud, 1.5 pace)) * 2^tries,     rto = max(50 ms, srtt + 4 rttvar)

with the smoothed round trip srtt of V. Jacobson and P. Karn (RFC 6298; a frame that was sent twice is not measured, and
the wait stays as long as it had become until one comes back that was sent once) and the smoothed time per byte, pace,
since a line may be slower than its rate says. The same number is always the same bytes: whatever the wire does, the
board executes a request once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

from hwsim.contracts.errors import InputError

from .codes import ErrorCode, Flag, Type
from .errors import VersionMismatch
from .framing import MAX_FRAME, Frame
from .ports import Port
from .protocol import MAJOR, MAX_PAYLOAD, SCHEMA, WINDOW, Event, Failure, Header, Hello

RTO_FLOOR = 0.05
"""Shortest time after which a frame is sent again, seconds."""
TRIES = 5
"""Timers that run out, one after another, before the link is taken for silent."""
CHUNK_LEAST, CHUNK_FIRST = 32, 128
"""Bytes of a transfer in one frame: the fewest, and those of the first frames."""
_OVERHEAD = 40.0
"""Bytes that a chunk costs besides itself, both directions: headers, CRCs, delimiters."""
_FORGET = 1 << 16
"""After so many bytes, losses count half."""
_SEQ = 1 << 16
_REPLY = 24
"""Bytes of a reply's frame besides its payload."""
_TELLING = 512
"""Bytes under way from which the time per byte can be told from the round trip."""


class Silent(Exception):  # noqa: N818  # not an error yet: the session resynchronises
    """Nothing came back in spite of all tries."""


class SessionGone(Exception):  # noqa: N818  # the session finds out why
    """The board does not know our session any more, or said HELLO."""


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked.

    Args:
        type: of the message.
        payload: of the frame.
        expect: bytes of payload that the reply will have, for the timers.
    """

    type: Type
    payload: bytes = b""
    expect: int = 16


@final
@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back.

    Args:
        request: what was asked.
        payload: of the frame.
        failure: what the board refused; None where it did not.
    """

    request: Request
    payload: bytes
    failure: Failure | None


@final
@dataclass
class Counters:
    """What a link has gone through."""

    sent: int = 0
    resent: int = 0
    replies: int = 0
    replayed: int = 0
    damaged: int = 0
    stray: int = 0
    resyncs: int = 0
    reconnects: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


@final
@dataclass
class _Flight:
    """A request that is under way."""

    seq: int
    request: Request
    frame: bytes
    first: int
    """When it was sent first, counted in frames."""
    last: int
    """When it was sent last."""
    at: float
    """When it was sent first, seconds."""
    load: int
    """Bytes under way with it, both directions, its own and its reply's included."""
    alone: bool
    """Whether nothing else was under way: then its round trip is one."""
    reply: Reply | None = None


@final
@dataclass
class Exchange:
    """Requests on their way: survives the port over which they went.

    Args:
        session: 0 for what needs none.
        source: further requests, made when there is room for them.
        number: of its only request, where that is not the session's next one.
        most: timers that may run out, one after another.
    """

    session: int
    source: Iterator[Request]
    number: int | None = None
    most: int = TRIES
    flight: deque[_Flight] = field(default_factory=deque)
    replies: list[Reply] = field(default_factory=list)
    tries: int = 0
    dry: bool = False


@final
class Link:
    """Frames over a port.

    Args:
        port: open; another one can be taken up with `attach`.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        self.counters = Counters()
        self.events: list[Event] = []
        """What the board told unasked; whoever looks takes them out."""
        self.hello: Hello | None = None
        """The last HELLO that came unasked: the board has booted."""
        self.window, self.max_payload, self.rx_buffer = 1, MAX_PAYLOAD, 4096
        self.heard_at = self.told_at = port.now()
        """When a whole frame last came, and last went."""
        self._next_seq: dict[int, int] = {}
        self._buffer = bytearray()
        self._order = 0
        self._srtt = self._rttvar = math.nan
        self._pace = 0.0
        self._backoff = 0
        self._chunk, self._clean = CHUNK_FIRST, 0
        self._losses, self._carried = 0.0, 0.0

    def attach(self, port: Port) -> None:
        """Go on over another port, which may be slower."""
        self.port = port
        self._buffer.clear()
        self._srtt = self._rttvar = math.nan
        self._pace = 0.0
        self.heard_at = self.told_at = port.now()

    def limits(self, hello: Hello) -> None:
        """Keep to what a board can take."""
        self.window = max(1, min(WINDOW, hello.window))
        self.max_payload = max(CHUNK_LEAST, min(MAX_PAYLOAD, hello.max_payload))
        self.rx_buffer = max(hello.rx_buffer, 1)

    def number(self, session: int, next_seq: int) -> None:
        """The next request of a session has this number."""
        self._next_seq[session] = next_seq % _SEQ

    def next_number(self, session: int) -> int | None:
        """The number of its next request; None where none was given."""
        return self._next_seq.get(session)

    def forget(self, session: int) -> None:
        """The session begins again."""
        self._next_seq.pop(session, None)

    @property
    def rto(self) -> float:
        """Seconds beyond the time on the wire after which a frame counts as lost."""
        if math.isnan(self._srtt):
            return 2 * RTO_FLOOR
        return max(RTO_FLOOR, self._srtt + 4 * self._rttvar)

    @property
    def round_trip(self) -> float:
        """Smoothed round trip without the time on the wire, seconds; NaN before the first."""
        return self._srtt

    def chunk(self, header: int) -> int:
        """How many bytes of a transfer the next frame should hold, behind a record of `header` bytes."""
        if self._losses:
            # L / (L + h) (1 - p)^(L + h) is largest near sqrt(h / p)
            best = math.sqrt(_OVERHEAD * self._carried / self._losses)
            return int(max(CHUNK_LEAST, min(self._chunk, best, self.max_payload - header))) & ~3
        return min(self._chunk, self.max_payload - header) & ~3

    def ask(self, request: Request, *, session: int = 0, number: int | None = None, most: int = TRIES) -> Reply:
        """One request that needs no session and repeats without harm.

        Raises:
            Silent: no answer.
            LinkLost: the port went away.
            VersionMismatch: the board speaks another schema.
        """
        if most < TRIES:  # a greeting knows nothing of what was before
            self._backoff = 0
        exchange = Exchange(session=session, source=iter((request,)), number=number, most=most)
        self.run(exchange)
        return exchange.replies[0]

    def run(self, exchange: Exchange) -> None:
        """Go on until everything is answered, or one request is refused and the others before it are answered.

        Raises:
            Silent, SessionGone: see there; the exchange can go on later.
            LinkLost: the port went away; the exchange can go on later.
            VersionMismatch: the board speaks another schema.
        """
        if exchange.flight:  # taken up again
            self._again(exchange)
        deadline = self._fill(exchange)
        while exchange.flight:
            now = self.port.now()
            data = self.port.read(max(0.0, deadline - now))
            if data:
                if self._take(exchange, data):
                    exchange.tries = 0
                    deadline = self._fill(exchange)
            elif self.port.now() >= deadline:
                exchange.tries += 1
                self._backoff = min(self._backoff + 1, TRIES)
                self._lost(1)
                if exchange.tries > exchange.most:
                    exchange.tries = 0
                    raise Silent
                self._again(exchange)
                deadline = self._deadline(exchange)

    def listen(self, seconds: float) -> None:
        """Take in what comes unasked: returns at the first event, or when the time is over."""
        end = self.port.now() + seconds
        while not self.events:
            left = end - self.port.now()
            if left <= 0:
                return
            if data := self.port.read(left):
                self._take(None, data)

    def _fill(self, exchange: Exchange) -> float:
        """Send as much as there is room for; returns when the timer runs out."""
        out = bytearray()
        held = sum(len(flight.frame) for flight in exchange.flight if flight.reply is None)
        # a board with little room takes one at a time
        while len(exchange.flight) < self.window and (held + MAX_FRAME + 2 <= self.rx_buffer or not exchange.flight):
            request = None if exchange.dry else next(exchange.source, None)
            if request is None:
                exchange.dry = True
                break
            flight = self._numbered(exchange, request)
            exchange.flight.append(flight)
            held += len(flight.frame)
            out += flight.frame
        if out:
            self._write(bytes(out))
        return self._deadline(exchange)

    def _numbered(self, exchange: Exchange, request: Request) -> _Flight:
        session = exchange.session
        seq = self._next_seq.get(session, 1) if exchange.number is None else exchange.number
        if exchange.number is None:
            self._next_seq[session] = (seq + 1) % _SEQ
        header = Header(
            version=MAJOR, flags=0, type=request.type, status=0, session=session, seq=seq, schema=SCHEMA & 0xFFFF
        )
        frame = Frame(header=header, payload=request.payload).encode()
        self._order += 1
        self.counters.sent += 1
        return _Flight(
            seq=seq,
            request=request,
            frame=frame,
            first=self._order,
            last=self._order,
            at=self.port.now(),
            load=len(frame) + request.expect + _REPLY + self._under_way(exchange),
            alone=not exchange.flight,
        )

    def _under_way(self, exchange: Exchange) -> int:
        """Bytes of requests and replies that have not come back."""
        return sum(
            len(flight.frame) + flight.request.expect + _REPLY for flight in exchange.flight if flight.reply is None
        )

    def _again(self, exchange: Exchange, before: int | None = None) -> None:
        """Send again what is not answered: all of it, or what was sent last before frame `before` was sent first."""
        out = bytearray()
        for flight in exchange.flight:
            if flight.reply is None and (before is None or flight.last < before):
                self._order += 1
                flight.last = self._order
                self.counters.resent += 1
                out += flight.frame
        if out:
            self._write(bytes(out))

    def _write(self, data: bytes) -> None:
        self.counters.bytes_out += len(data)
        self._carried += len(data)
        self.port.write(data)
        self.told_at = self.port.now()

    def _deadline(self, exchange: Exchange) -> float:
        each = max(10.0 / self.port.baud, 1.5 * self._pace)
        return self.port.now() + (self.rto + self._under_way(exchange) * each) * 2.0**self._backoff

    def _take(self, exchange: Exchange | None, data: bytes) -> bool:
        """Take in bytes; whether a request of this exchange was answered."""
        self.counters.bytes_in += len(data)
        self._carried += len(data)
        if self._carried > _FORGET:
            self._carried, self._losses = self._carried / 2, self._losses / 2
        self._buffer += data
        answered = False
        *stuffed, rest = self._buffer.split(b"\0")
        # what has no end by now is noise: a frame is not so long
        self._buffer = bytearray() if len(rest) > MAX_FRAME else rest
        for piece in stuffed:
            if not piece:
                continue
            try:
                frame = Frame.decode(bytes(piece))
            except InputError:
                self.counters.damaged += 1
                continue
            self.heard_at = self.port.now()
            answered |= self._heard(exchange, frame)
        return answered

    def _heard(self, exchange: Exchange | None, frame: Frame) -> bool:
        header = frame.header
        if header.flags & Flag.EVENT:
            if header.type == Type.HELLO:
                self.hello = Hello.unpack(frame.payload)
                raise SessionGone
            self.events.append(Event.unpack(frame.payload))
            return False
        if exchange is None or header.session != exchange.session or not header.flags & Flag.REPLY:
            self.counters.stray += 1
            return False
        flight = next((one for one in exchange.flight if one.seq == header.seq), None)
        if flight is None or flight.reply is not None or flight.request.type != header.type:
            self.counters.stray += 1
            return False
        failure = Failure.unpack(frame.payload) if header.status else None
        if failure is not None and self._about_the_link(exchange, failure):
            return False
        self.counters.replies += 1
        self.counters.replayed += bool(header.flags & Flag.REPLAY)
        flight.reply = Reply(request=flight.request, payload=frame.payload, failure=failure)
        if failure is not None:
            exchange.dry = True  # what would come next may rest on what was refused
        self._measure(flight)
        if max(len(flight.request.payload), flight.request.expect) >= self._chunk:
            self._grow()
        # replies keep their order, so that one that overtakes another says that the other was lost
        before = flight.first
        if any(one.reply is None and one.last < before for one in exchange.flight):
            self._lost(1)
            self._again(exchange, before)
        while exchange.flight and exchange.flight[0].reply is not None:
            done = exchange.flight.popleft().reply
            assert done is not None
            exchange.replies.append(done)
        return True

    def _about_the_link(self, exchange: Exchange, failure: Failure) -> bool:
        """Whether a failure is of the link and changed nothing; raises where the link cannot go on."""
        if failure.detail == ErrorCode.SCHEMA:
            raise VersionMismatch(
                "the board speaks another message table than this host: build its firmware from this version of hwsim "
                "(hwsim board emulate does), or install the hwsim that its firmware came with"
            )
        if failure.detail in (ErrorCode.NO_SESSION, ErrorCode.STALE, ErrorCode.REUSED):
            raise SessionGone
        if failure.detail == ErrorCode.GAP:
            self._gap(exchange, failure.arg)
            return True
        return False

    def _gap(self, exchange: Exchange, wanted: int) -> None:
        """The board waits for number `wanted`: send from there on again, once for each time that it was sent."""
        missing = next((one for one in exchange.flight if one.seq == wanted and one.reply is None), None)
        if missing is None or (missing.last != missing.first and self._order - missing.last < self.window):
            return  # on its way already
        self._lost(1)
        self._again(exchange)

    def _measure(self, flight: _Flight) -> None:
        if flight.last != flight.first:
            return
        self._backoff = 0
        taken = self.port.now() - flight.at
        if flight.load >= _TELLING and not math.isnan(self._srtt):
            # USB bridges, emulators and busy boards take bytes more slowly than their baud rate says
            self._pace += (max(0.0, taken - self._srtt) / flight.load - self._pace) / 4
        if not flight.alone:
            return
        crossing = flight.load * max(10.0 / self.port.baud, self._pace)
        sample = max(0.0, taken - crossing)
        if math.isnan(self._srtt):
            self._srtt, self._rttvar = sample, sample / 2
        else:
            self._rttvar += (abs(self._srtt - sample) - self._rttvar) / 4
            self._srtt += (sample - self._srtt) / 8

    def _grow(self) -> None:
        self._clean += 1
        if self._clean >= self.window and self._chunk < self.max_payload:
            self._chunk, self._clean = min(2 * self._chunk, self.max_payload), 0

    def _lost(self, frames: int) -> None:
        self._losses += frames
        self._clean = -4 * self.window
        self._chunk = max(CHUNK_LEAST, self._chunk // 2)
