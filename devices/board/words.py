"""What a board says in numbers, in words."""

from __future__ import annotations

from .codes import PROBLEMS, Cause, ErrorCode
from .errors import BoardRefused
from .link import Request
from .protocol import Failure


def refused(request: Request, failure: Failure) -> BoardRefused:
    """A failure as an error, in words."""
    text = failure.text.rstrip(b"\0").decode("ascii", "replace")
    code = next((each for each in ErrorCode if each == failure.detail), None)
    told = PROBLEMS[code].text if code is not None else text
    remedy = REMEDIES.get(code, "") if code is not None else ""
    return BoardRefused(
        f"the board refused {request.type.name}: {told} ({failure.detail:#06x}, {failure.arg})" + remedy, failure.detail
    )


REMEDIES = {
    ErrorCode.LATCHED: "; it is in its safe state: look why (board.status()), then board.clear_fault()",
    ErrorCode.OUT_OF_RANGE: "; scale the parameters down, or clip them (spec.ranges says to what)",
    ErrorCode.NOT_FINITE: "; a value is NaN or infinite: look where it comes from",
    ErrorCode.TOO_LARGE: "; take a smaller batch, or record fewer states",
    ErrorCode.NOT_OFFERED: "; spec.capabilities says what this board can do",
    ErrorCode.NOT_PROGRAMMED: "; call board.program(parameters) first",
}


def cause_in_words(cause: int) -> str:
    """Why a board is safe."""
    words = {
        Cause.BOOT: "it has just booted",
        Cause.LEASE: "the host was silent for longer than its lease",
        Cause.WATCHDOG: "its firmware hung, and the watchdog reset it",
        Cause.ABORT: "the run was aborted",
        Cause.COMMANDED: "it was told to be safe",
        Cause.RANGE: "an output was out of range",
        Cause.HARDWARE: "a converter does not answer",
    }
    return next((text for each, text in words.items() if each == cause), f"cause {cause}")
