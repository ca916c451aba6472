"""What the compiled kernels need of their arguments, checked before they run: they do not check bounds themselves."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, address_word, check_times

FloatArray: TypeAlias = NDArray[Any]
"""float32 or float64, all arrays of one call alike."""
WordArray: TypeAlias = NDArray[np.uint32]

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


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view.  A kernel is compiled anew for read-only arguments, so all inputs come as such."""
    view = array.view()
    view.flags.writeable = False
    return view


_NONE = frozen(np.empty(0, np.uint32))


def check_tile(name: str, state: FloatArray, lo: int, hi: int, steps: int) -> tuple[int, int]:
    """(B, N) of a state that is relaxed in place.

    Raises:
        InputError: it cannot be written, or the tile or the number of steps makes no sense.
    """
    lanes, units = writable(name, state, 2).shape
    if not (0 <= lo <= hi <= lanes and steps >= 0):
        raise InputError(f"asked for {steps} steps of lanes {lo} to {hi} of {lanes}; they must be 0 <= lo <= hi <= B")
    return lanes, units


def force_shapes(shape: tuple[int, int], steps: int) -> tuple[tuple[int, ...], ...]:
    """The shapes that a force on a state [B, N] may have: none, constant, waveform."""
    return (0, *shape), (1, *shape), (steps, *shape), (0, 0, 0)


def recording(states: FloatArray, like: FloatArray, steps: int, every: int) -> FloatArray:
    """The array for recorded states, if it fits.

    Raises:
        InputError: it is not [1 + steps // every, B, N] (every > 0), or not [0, 0, 0] (every = 0).
    """
    if every < 0:
        raise InputError(f"asked to record every {every}-th state; it must be at least 1, or 0 for none")
    shape = (1 + steps // every, *like.shape) if every else (0, 0, 0)
    return same("states", writable("states", states, 3), like, shape)


def noise_words(
    sigma: float,
    lanes: int,
    seed: int,
    step: int,
    stream: int,
    phase: int,
    repeat: int,
    first: int,
    ids: WordArray,
    repeats: WordArray,
    coarse: int,
    steps: int,
    lo: int,
    hi: int,
) -> tuple[int, int, int, int, WordArray, WordArray]:
    """(seed, step, first, coarse, ids, words) as the kernels take them, for lanes lo to hi - 1.

    Where sigma is 0 no noise is drawn, so that nothing is checked.

    Raises:
        InputError: a part of the address is out of range, or an array is not [lanes] uint32.
    """
    if sigma == 0:
        return 0, 0, 0, 1, _NONE, _NONE
    for name, array in (("ids", ids), ("repeats", repeats)):
        if array.dtype != _WORD or array.shape != (lanes,):
            raise InputError(f"{name} must be uint32 [{lanes}]; found {_describe(array)}")
    path = NoisePath(seed=seed, step=step, repeat=repeat, coarse=coarse)
    check_times(first, steps, coarse)
    words = address_word(stream, phase, path.repeat, repeats[lo:hi])
    return int(seed), int(step), int(first), int(coarse), frozen(np.ascontiguousarray(ids[lo:hi])), frozen(words)


def _describe(array: NDArray[Any]) -> str:
    flags = ("", " not contiguous")[not array.flags.c_contiguous] + ("", " read-only")[not array.flags.writeable]
    return f"{array.dtype} {list(array.shape)}{flags}"
