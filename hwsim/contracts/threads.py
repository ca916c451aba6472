"""One thread for linear algebra, so that results do not depend on how many a machine has."""

from __future__ import annotations

from contextlib import ContextDecorator
from functools import cache
from threading import Lock
from typing import Any, final


@final
class one_blas_thread(ContextDecorator):  # noqa: N801  # used as a function
    """A context, or a decorator of a function, in which every BLAS of this process runs on one thread.

    OpenBLAS sums in another order on another number of threads, so that the same seed would give other bits; and at the
    sizes of one tile its threads cost more than they bring. hwsim runs lanes or whole runs side by side instead.

    Contexts may nest and overlap, on several threads too: the last to end gives back what the first one found.

    Cost: 10 us for the first, 1.5 us within another one.
    """

    _lock = Lock()
    _open = 0
    _found: tuple[tuple[Any, int], ...] = ()

    def __enter__(self) -> None:
        kind = one_blas_thread
        with kind._lock:
            if kind._open == 0:
                kind._found = tuple((library, library.get_num_threads()) for library in _blas())
                _set(kind._found, 1)
            kind._open += 1

    def __exit__(self, *raised: object) -> None:
        kind = one_blas_thread
        with kind._lock:
            kind._open -= 1
            if kind._open == 0:
                _set(kind._found)


def _set(found: tuple[tuple[Any, int], ...], threads: int | None = None) -> None:
    """That number of threads, or those that were found, where they were more than one."""
    for library, before in found:
        if before != 1:
            library.set_num_threads(threads or before)


@cache
def _blas() -> tuple[Any, ...]:
    """The BLAS libraries of this process, as threadpoolctl controls them."""
    import scipy.linalg.cython_blas  # noqa: F401  # the BLAS behind Numba's dot must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return tuple(found for found in ThreadpoolController().lib_controllers if found.user_api == "blas")
