"""One thread for linear algebra, so that results do not depend on how many a machine has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A context in which every BLAS of this process runs on one thread.

    OpenBLAS sums in another order on another number of threads, so that the same seed would give other bits; and at the
    sizes of one tile its threads cost more than they bring. hwsim runs lanes or whole runs side by side instead.

    Cost: a few microseconds, and nothing is set where one thread is what there is already.
    """
    more = [(library, threads) for library in _blas() if (threads := library.get_num_threads()) != 1]
    for library, _ in more:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in more:
            library.set_num_threads(threads)


@cache
def _blas() -> tuple[Any, ...]:
    """The BLAS libraries of this process, as threadpoolctl controls them."""
    import scipy.linalg.cython_blas  # noqa: F401  # the BLAS behind Numba's dot must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return tuple(found for found in ThreadpoolController().lib_controllers if found.user_api == "blas")
