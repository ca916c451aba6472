"""Fixed little-endian records: a frozen dataclass whose annotations say how its fields lie on the wire."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, get_type_hints

from hwsim.contracts.errors import InputError

U8: TypeAlias = Annotated[int, "B"]
U16: TypeAlias = Annotated[int, "H"]
U32: TypeAlias = Annotated[int, "I"]
U64: TypeAlias = Annotated[int, "Q"]
F32: TypeAlias = Annotated[float, "f"]
Sha: TypeAlias = Annotated[bytes, "32s"]
"""A SHA-256 digest."""
Text: TypeAlias = Annotated[bytes, "40s"]
"""ASCII, zeros behind it."""

_Record = TypeVar("_Record", bound="Record")


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record of fixed size; every field lies at a multiple of its own size, so that C needs no padding."""

    columns: ClassVar[tuple[tuple[str, str], ...]]
    """(field, format letter of `struct`) of every field."""
    layout: ClassVar[str]
    """The format of the whole record for `struct`."""
    size: ClassVar[int]
    """Bytes."""

    def __init_subclass__(cls) -> None:
        hints: dict[str, Any] = get_type_hints(cls, include_extras=True)
        told = ((name, hint) for name, hint in hints.items() if hasattr(hint, "__metadata__"))
        cls.columns = tuple((name, hint.__metadata__[0]) for name, hint in told)
        cls.layout = "<" + "".join(letter for _, letter in cls.columns)
        cls.size = struct.calcsize(cls.layout)

    def pack(self) -> bytes:
        """The record as bytes.

        Raises:
            InputError: a value does not fit its field.
        """
        values = tuple(getattr(self, name) for name, _ in self.columns)
        try:
            return struct.pack(self.layout, *values)
        except (struct.error, OverflowError) as error:
            raise InputError(f"{type(self).__name__} cannot hold {values}: {error}") from None

    @classmethod
    def unpack(cls: type[_Record], data: bytes, offset: int = 0) -> _Record:
        """The record at `offset` of some bytes, which may go on behind it.

        Raises:
            InputError: there are not enough bytes.
        """
        if offset < 0 or len(data) < offset + cls.size:
            raise InputError(f"{cls.__name__} takes {cls.size} bytes from {offset} on; found {len(data)} bytes")
        values = struct.unpack_from(cls.layout, data, offset)
        return cls(**dict(zip((name for name, _ in cls.columns), values, strict=True)))
