"""Fuzz the firmware and keep what is found: `python .ci/board_fuzz.py SECONDS`, an hour being 3600.

Begins from the corpus in `tests/data/board_corpus.zip` and from seeds made here (what a sound host says; the format is
that of `ports/memory/fuzz.c`: back end, then messages of type, flags of the wrapper, length, payload), and puts a
smallest corpus that reaches as much back into the archive. Exits with the fuzzer's status; a failing input is left
beside it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from hwsim.devices.board import codes, protocol
from hwsim.devices.board.build import Target, build
from hwsim.devices.board.codes import Capture, JobKind, StartKind, Type
from hwsim.devices.board.framing import Frame
from hwsim.devices.board.protocol import Header, Run, RunPhase
from hwsim.devices.board.wire import Record

UNITS, INPUTS, LANES = 3, 2, 2
FIX_CRC = 1


def message(kind: int, payload: bytes = b"", how: int = 0) -> bytes:
    """One message as the fuzzer reads it."""
    return bytes([kind, how]) + len(payload).to_bytes(2, "little") + payload


def data(odd: float = 0.0) -> bytes:
    """A DATA slot in which every array lies at word 0 and is sound as what it is taken for; or not, from `odd` on."""
    values = np.random.default_rng(0).uniform(-1.0, 1.0, 64).astype("<f4")
    values[3] = odd or values[3]
    return message(Type.PUT, protocol.BlobData(slot=codes.Slot.DATA, offset=0).pack() + values.tobytes())


def run(
    *phases: RunPhase,
    kind: JobKind = JobKind.RELAX,
    start: StartKind = StartKind.REST,
    capture: Capture = Capture.NONE,
    flags: int = 0,
    at_kind: int = 0,
) -> bytes:
    """A RUN over both lanes."""
    head = Run(
        seed=1,
        step=2,
        data_length=256,
        data_crc=0,
        inputs=0,
        addresses=0,
        state=0,
        at=0,
        weights=0,
        sigma=0.5,
        lanes=LANES,
        reads=1,
        coarse=1,
        reserved=0,
        kind=kind,
        start=start,
        phases=len(phases),
        noise=0,
        at_kind=at_kind,
        capture=capture,
        capture_phase=0,
        flags=flags,
    )
    return message(Type.RUN, head.pack() + b"".join(each.pack() for each in phases), FIX_CRC)


def phase(steps: int = 3, record: int = 1, force_kind: int = 0, flags: int = 0) -> RunPhase:
    """One phase whose arrays lie at word 0."""
    return RunPhase(
        steps=steps,
        record=record,
        force=0,
        displace=0,
        correct=0,
        force_kind=force_kind,
        flags=flags,
        index=0,
        reserved=0,
    )


def seeds() -> dict[str, bytes]:
    """Name -> messages."""
    talk = {
        "plain": run(phase()),
        "phases": run(phase(force_kind=1), phase(flags=1), phase(flags=2), phase(force_kind=2, steps=4)),
        "random": run(phase(), start=StartKind.RANDOM) + run(phase(), start=StartKind.CARRY),
        "state": run(phase(record=0), start=StartKind.STATE),
        "transpose": run(phase(flags=1), kind=JobKind.TRANSPOSE),
        "recording": run(phase(flags=1), kind=JobKind.TRANSPOSE, at_kind=1),
        "credit": run(phase(steps=4), capture=Capture.PRE)
        + data()
        + run(phase(flags=1), kind=JobKind.TRANSPOSE, capture=Capture.POST, flags=1)
        + message(Type.CREDIT, protocol.Credit(scale=0.1, mode=1, flags=1, reserved=0).pack())
        + message(0xF0, how=1)
        + message(Type.READ, protocol.Read(slot=codes.Slot.CREDIT, offset=0, length=200).pack()),
        "playback": run(phase(steps=3), capture=Capture.PRE, flags=2)
        + message(0xF0, how=1)
        + run(phase(steps=3, flags=1), kind=JobKind.TRANSPOSE, at_kind=2),
    }
    asks = b"".join(message(kind) for kind in (Type.STATUS, Type.SELFTEST, Type.NEXT_ERROR, Type.CANCEL))
    reads = b"".join(
        message(Type.READ, protocol.Read(slot=slot, offset=0, length=64).pack())
        + message(Type.BLOB_STATE, protocol.BlobAsk(slot=slot).pack())
        for slot in codes.Slot
    )
    stop = message(Type.ABORT, how=2) + message(Type.CLEAR_FAULT, protocol.ClearFault(cause=3).pack())
    lease = run(phase(steps=60)) + message(0xF0, how=200) + message(0xF2)
    clear = message(Type.CLEAR_FAULT, protocol.ClearFault(cause=1).pack())
    odd = b"".join(message(0xF1, np.float32(v).tobytes()) for v in (np.nan, np.inf, 9.0, -8.0))
    talk |= {"asks": asks + reads, "stop": run(phase(60)) + stop, "lease": lease + clear + run(phase()), "odd": odd}
    talk |= {f"odd{v}": data(v) + run(phase(force_kind=1)) for v in (9.0, np.inf, np.nan)}
    found = {}
    for (name, body), backend in itertools.product(talk.items(), range(3)):
        found[f"{name}{backend}"] = bytes([backend | 0x10 * (len(name) % 2)]) + data() + body
    found["line"] = bytes([0x20]) + b"".join(_frame(kind, record) for kind, record in _loose())
    return found


def _loose() -> list[tuple[Type, Record | None]]:
    opened = protocol.OpenSession(lease_ms=0, flags=0)
    return [(Type.HELLO, None), (Type.STATUS, None), (Type.OPEN_SESSION, opened), (Type.ABORT, None)]


def _frame(kind: Type, record: Record | None) -> bytes:
    session, schema = int(kind is Type.OPEN_SESSION), protocol.SCHEMA & 0xFFFF
    head = Header(version=protocol.MAJOR, flags=0, type=kind, status=0, session=session, seq=0, schema=schema)
    return Frame(header=head, payload=record.pack() if record else b"").encode()


def fuzz(*options: str) -> int:
    """Run the fuzzer."""
    # leak detection needs ptrace, and the firmware allocates nothing
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run([str(build(Target.FUZZ)), "-timeout=60", *options], check=False, env=environment).returncode


def main() -> None:
    """Search, then keep."""
    seconds, archive = int(sys.argv[1]), Path("tests/data/board_corpus.zip")
    with tempfile.TemporaryDirectory() as scratch:
        before, kept = Path(scratch) / "before", Path(scratch) / "kept"
        before.mkdir()
        kept.mkdir()
        if archive.exists():
            zipfile.ZipFile(archive).extractall(before)
        for name, content in seeds().items():
            (kept / name).write_bytes(content)
        status = 0
        if seconds:
            status = fuzz(f"-max_total_time={seconds}", "-max_len=2000", str(before), str(kept))
        status = status or fuzz("-set_cover_merge=1", "-max_len=1000", str(kept), str(before))
        if status == 0:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
                for path in sorted(kept.iterdir()):
                    packed.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    sys.exit(status)


if __name__ == "__main__":
    main()
