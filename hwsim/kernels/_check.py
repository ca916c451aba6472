"""What the compiled kernels need of their arguments, checked before they run: they do not check bounds themselves."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, address_word, check_times

FloatArray: TypeAlias = NDArray[Any]
"""float32 or float64, all arrays of one call alike."""
WordArray: TypeAlias = NDArray[np.uint32]
FlagArray: TypeAlias = NDArray[np.bool_]
IndexArray: TypeAlias = NDArray[Any]
"""int64 or int32."""

_REAL = (np.dtype(np.float32), np.dtype(np.float64))
_WORD = np.dtype(np.uint32)


def writable(name: str, array: FloatArray, axes: int) -> FloatArray:
    """The array, if a kernel can write into it.

    Raises:
        InputError: it is not a writable, C-contiguous float32 or float64 array with that many axes.
    """
    flags = array.flags
    if array.dtype not in _REAL or array.ndim != axes or not (flags.c_contiguous and flags.writeable):
        raise InputError(
            f"{name} must be a writable, C-contiguous float32 or float64 array with {axes} axes; "
            f"found {_describe(array)}"
        )
    return array


def same(name: str, array: FloatArray, like: FloatArray, *shapes: tuple[int, ...]) -> FloatArray:
    """The array, if it has the type of `like` and one of the shapes.

    Raises:
        InputError: it does not, or is not C-contiguous.
    """
    if array.dtype != like.dtype or array.shape not in shapes or not array.flags.c_contiguous:
        wanted = " or ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
        raise InputError(f"{name} must be C-contiguous {like.dtype} {wanted}; found {_describe(array)}")
    return array


def given(name: str, array: FloatArray, like: FloatArray, *shapes: tuple[int, ...]) -> FloatArray:
    """A read-only view of an input, if it has the type of `like` and one of the shapes.

    Raises:
        InputError: it does not, or is not C-contiguous.
    """
    return frozen(same(name, array, like, *shapes))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view.  A kernel is compiled anew for read-only arguments, so all inputs come as such."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)
    return view


def check_tiles(tiles: Sequence[tuple[int, int]], lanes: int) -> None:
    """Raise InputError where a tile (lo, hi) is not 0 <= lo <= hi <= B."""
    for lo, hi in tiles:
        if not 0 <= lo <= hi <= lanes:
            raise InputError(f"asked for lanes {lo} to {hi} of {lanes}; they must be 0 <= lo <= hi <= B")


def check_force(force: FloatArray, like: FloatArray, steps: int) -> FloatArray:
    """The force on a state [B, N], if it is none, constant or a waveform: [0 | 1 | steps, B, N] or [0, 0, 0].

    Raises:
        InputError: it is not.
    """
    shape = like.shape
    return given("force", force, like, (0, *shape), (1, *shape), (steps, *shape), (0, 0, 0))


def flags(name: str, array: FlagArray, lanes: int) -> FlagArray:
    """The array, if a kernel can set one flag per lane in it.

    Raises:
        InputError: it is not a writable bool [lanes].
    """
    if array.dtype != np.bool_ or array.shape != (lanes,) or not (array.flags.c_contiguous and array.flags.writeable):
        raise InputError(f"{name} must be a writable bool [{lanes}]; found {_describe(array)}")
    return array


def recording(states: FloatArray, like: FloatArray, steps: int, every: int) -> FloatArray:
    """The array for recorded states, if it fits.

    Raises:
        InputError: it is not [1 + steps // every, B, N] (every > 0), or not [0, 0, 0] (every = 0).
    """
    shape = (1 + steps // every, *like.shape) if every else (0, 0, 0)
    return same("states", writable("states", states, 3), like, shape)


class Noise(NamedTuple):
    """Where the deviates of a relaxation come from, as in `NoisePath.normals`.

    Args:
        path: seed, experiment step, repeat and coarseness.
        stream, phase: below 2^8.
        ids: [B] uint32 sample ids.
        repeats: [B] uint32, added to the path's own repeat; None adds none.
        first: time step of the first step.
    """

    path: NoisePath
    stream: int
    phase: int
    ids: WordArray
    repeats: WordArray | None
    first: int = 0


class Address(NamedTuple):
    """The same as kernels take it: key words, time, and two counter words per lane."""

    seed: int
    step: int
    first: int
    coarse: int
    ids: WordArray
    words: WordArray


_NONE = frozen(np.empty(0, np.uint32))
_SILENT = Address(seed=0, step=0, first=0, coarse=1, ids=_NONE, words=_NONE)


@lru_cache(maxsize=256)
def _same_words(stream: int, phase: int, repeat: int, lanes: int) -> WordArray:
    """The counter words of lanes without repeats of their own."""
    return frozen(np.repeat(address_word(stream, phase, repeat), lanes))


def noise_address(noise: Noise | None, lanes: int, steps: int) -> Address:
    """The address of the deviates; without noise nothing is drawn, so that nothing is checked.

    Raises:
        InputError: a part is out of range, or an array is not [lanes] uint32.
    """
    if noise is None:
        return _SILENT
    path, repeats = noise.path, noise.repeats
    ids = _lane_words("ids", noise.ids, lanes)
    check_times(noise.first, steps, path.coarse)
    if repeats is None:
        words = _same_words(noise.stream, noise.phase, path.repeat, lanes)
    else:
        own = _lane_words("repeats", repeats, lanes)
        words = frozen(address_word(noise.stream, noise.phase, path.repeat, own))
    return Address(int(path.seed), int(path.step), int(noise.first), int(path.coarse), frozen(ids), words)


def _lane_words(name: str, array: WordArray, lanes: int) -> WordArray:
    """The array, if it is one word for each lane."""
    if array.dtype != _WORD or array.shape != (lanes,) or not array.flags.c_contiguous:
        raise InputError(f"{name} must be C-contiguous uint32 [{lanes}]; found {_describe(array)}")
    return array


def _describe(array: NDArray[Any]) -> str:
    flags = ("", " not contiguous")[not array.flags.c_contiguous] + ("", " read-only")[not array.flags.writeable]
    return f"{array.dtype} {list(array.shape)}{flags}"
