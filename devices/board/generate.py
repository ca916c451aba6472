"""Write what is made from the protocol table: the C header, the golden vectors, the tables of the document.

`python -m hwsim.devices.board.generate` from the root of the repository. A test sees that they are up to date.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from hwsim.contracts.errors import InputError

from . import protocol
from .codes import ENUMS, PROBLEMS, ErrorCode, Type
from .framing import Frame
from .protocol import MESSAGES, RECORDS, Header
from .wire import Record

HEADER = Path("devices/board/firmware/protocol.h")
DOCUMENT = Path("docs/board-protocol.md")
VECTORS = Path("tests/data/board_vectors.json")
BEGIN, END = "<!-- tables: made by hwsim.devices.board.generate -->", "<!-- end of tables -->"

_C_TYPES = {"B": "uint8_t", "H": "uint16_t", "I": "uint32_t", "Q": "uint64_t", "f": "float"}
_WORDS = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "f": "f32"}
_CONSTANTS = (
    "MAJOR",
    "MINOR",
    "MAGIC",
    "RESET_KEY",
    "WINDOW",
    "MAX_PAYLOAD",
    "MAX_PHASES",
    "DEFAULT_LEASE_MS",
    "SAFE_MS",
)


def header() -> str:
    """`protocol.h`: constants, enums, records and error texts in C."""
    lines = [
        "/* Made by `python -m hwsim.devices.board.generate` from protocol.py: change the table, not this file. */",
        "#ifndef HWSIM_PROTOCOL_H",
        "#define HWSIM_PROTOCOL_H",
        "",
        "#include <stdint.h>",
        "",
    ]
    lines += [f"#define HW_{name} {getattr(protocol, name)}u" for name in _CONSTANTS]
    lines += [f"#define HW_LEASE_MS_MIN {protocol.LEASE_MS[0]}u", f"#define HW_LEASE_MS_MAX {protocol.LEASE_MS[1]}u"]
    lines += [f"#define HW_SCHEMA 0x{protocol.SCHEMA:016x}ull"]
    for kind in ENUMS:
        lines += ["", f"enum {{ /* {_first_line(kind)} */"]
        lines += [f"    {c_name(kind.__name__)}_{each.name} = {each.value}," for each in kind]
        lines += ["};"]
    for record in RECORDS:
        lines += ["", f"/* {_first_line(record)} */", "typedef struct {"]
        lines += [f"    {_c_field(name, form)};" for name, form in record.columns]
        lines += [f"}} hw_{_snake(record.__name__)}_t;"]
        lines += [
            f'_Static_assert(sizeof(hw_{_snake(record.__name__)}_t) == {record.size}, "layout of {record.__name__}");'
        ]
    lines += ["", "/* X(code, class, retryable, text) for every error. */", "#define HW_PROBLEMS(X) \\"]
    rows = [
        f'    X(HW_ERROR_CODE_{code.name}, HW_ERROR_CLASS_{kind.name}, {int(again)}, "{text}")'
        for code, (kind, again, text) in PROBLEMS.items()
    ]
    lines += [" \\\n".join(rows), "", "#endif", ""]
    return "\n".join(lines)


def tables() -> str:
    """The tables of the protocol document, as Markdown."""
    lines = [f"Schema `{protocol.SCHEMA:016x}`, version {protocol.MAJOR}.{protocol.MINOR}.", "", "### Messages", ""]
    lines += ["| number | message | request | reply | without a session |", "|---|---|---|---|---|"]
    for number, message in MESSAGES.items():
        request = (message.request.__name__ if message.request else "empty") + _more(message.more == "request")
        reply = (message.reply.__name__ if message.reply else "empty") + _more(message.more == "reply")
        free = "yes" if message.free else ""
        lines.append(f"| 0x{number.value:02x} | {number.name} | {request} | {reply} | {free} |")
    lines += ["", "### Records", "", "Little-endian, no padding. A name in `[ ]` is a number of bytes.", ""]
    for record in RECORDS:
        places, at = [], 0
        for name, form in record.columns:
            places.append(f"{at} `{name}` {_words(form)}")
            at += struct.calcsize("<" + form)
        lines += [f"**{record.__name__}** ({record.size} bytes): " + ", ".join(places) + f". {_said(record)}", ""]
    lines += ["### Numbers", ""]
    for kind in ENUMS:
        if kind is not ErrorCode and kind is not Type:
            lines += [f"- **{kind.__name__}**: " + ", ".join(f"{each.value} {each.name}" for each in kind)]
    lines += ["", "### Errors", "", "| detail | name | class | send again | text |", "|---|---|---|---|---|"]
    for code, problem in PROBLEMS.items():
        again = "yes" if problem.retryable else ""
        lines.append(f"| 0x{code.value:04x} | {code.name} | {problem.kind.name} | {again} | {problem.text} |")
    return "\n".join(lines)


def document(text: str) -> str:
    """The document with its tables as they are now.

    Raises:
        InputError: the marks between which they stand are missing.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{DOCUMENT} must hold the lines {BEGIN!r} and {END!r}; put them back")
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


def vectors() -> list[dict[str, str | int]]:
    """Golden frames: one per record, with distinct bytes in every field, and payloads that are hard to stuff."""
    found = [_vector(record.__name__, _filled(record)) for record in RECORDS if record is not Header]
    hard = {"empty": b"", "zero": b"\0", "zeros": bytes(300), "ones": b"\1" * 254, "block": b"\xff" * 254}
    hard |= {"ramp": bytes(range(256)) * 4, "edge": b"\1" * 238, "edge and zero": b"\1" * 238 + b"\0"}
    return found + [_vector(name, payload) for name, payload in hard.items()]


def outputs(root: Path) -> Iterator[tuple[Path, str]]:
    """Every generated file and what it should hold."""
    yield root / HEADER, header()
    yield root / VECTORS, json.dumps(vectors(), indent=1) + "\n"
    yield root / DOCUMENT, document((root / DOCUMENT).read_text())


def main() -> None:
    """Write them all under the current folder."""
    for path, text in outputs(Path()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def c_name(name: str) -> str:
    """CamelCase as HW_CAMEL_CASE."""
    return "HW_" + _snake(name).upper()


def _vector(name: str, payload: bytes) -> dict[str, str | int]:
    head = Header(version=1, flags=1, type=0x42, status=0, session=0x01000200, seq=0x0100, schema=0x00FF)
    return {
        "name": name,
        "payload": payload.hex(),
        "crc": zlib.crc32(head.pack() + payload),
        "frame": Frame(header=head, payload=payload).encode().hex(),
    }


def _filled(record: type[Record]) -> bytes:
    """A record whose every byte tells its place; floats are powers of two."""
    packed = bytearray()
    for index, (_, form) in enumerate(record.columns):
        size = struct.calcsize("<" + form)
        packed += struct.pack("<f", 2.0**index) if form == "f" else bytes(len(packed) + k & 0xFF for k in range(size))
    return record.unpack(bytes(packed)).pack()


def _c_field(name: str, form: str) -> str:
    return f"uint8_t {name}[{form[:-1]}]" if form.endswith("s") else f"{_C_TYPES[form]} {name}"


def _words(form: str) -> str:
    return f"[{form[:-1]}]" if form.endswith("s") else _WORDS[form]


def _more(more: bool) -> str:
    return " + bytes" if more else ""


def _said(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").split("\n")[0]


def _snake(name: str) -> str:
    return "".join("_" + each.lower() if each.isupper() else each for each in name).lstrip("_")


if __name__ == "__main__":
    main()
