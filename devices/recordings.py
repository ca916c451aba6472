"""Where recorded states are kept: in memory, or in a file that goes when they do."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Inexact

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError


@final
@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Recordings `[K + 1, B, N]` of more than `most_bytes` go to a temporary file, mapped into memory.

    Engines write into the map as they go, so that a recording need not fit into memory; the operating system keeps as
    much of it there as there is room for. The bits are those of a recording in memory. The file has no name (on Windows
    it has one while it lasts): it vanishes with the last array that looks at it, also when the process dies.

    Args:
        most_bytes: of one recording in memory; without a limit unless told.
        folder: of the files, on a disk with room; the system's folder for temporary files unless told. On many systems
            that one is itself kept in memory.

    Raises:
        InputError: a limit below 0, or a folder that is none.
    """

    most_bytes: float = math.inf
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.most_bytes >= 0:
            raise InputError(f"recordings need most_bytes >= 0; found most_bytes={self.most_bytes}")
        if self.folder is not None and not self.folder.is_dir():
            raise InputError(f"recordings need a folder that exists; found folder={str(self.folder)!r}: make it first")

    def on_disk(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether a recording of this size goes to a file."""
        return 0 < math.prod(shape) * dtype.itemsize > self.most_bytes

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Inexact[Array, "K1 B N"]:
        """Room for a recording, its contents undefined.

        Raises:
            InputError: the file cannot be made, or the disk is full.
        """
        if not self.on_disk(shape, dtype):
            return np.empty(shape, dtype)
        try:
            with tempfile.TemporaryFile(prefix="hwsim-recording-", dir=self.folder) as file:
                reserve(file.fileno(), math.prod(shape) * dtype.itemsize)
                return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
        except OSError as error:
            size = math.prod(shape) * dtype.itemsize / 1e9
            where = self.folder or tempfile.gettempdir()
            raise InputError(
                f"a recording of {size:.3g} GB does not fit into {where} ({error.strerror}): record every few steps "
                f"(Phase(record=...)), take fewer lanes, or name another folder, Recordings(folder=...)"
            ) from None


def reserve(file: int, size: int) -> None:
    """Take the room on the disk now, where the system can: a map of a file without room would end the process."""
    import os

    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)
