"""One thread for linear algebra, so that results do not depend on how many a machine has."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which every BLAS of this process runs on one thread.

    OpenBLAS sums in another order on another number of threads, so that the same seed would give other bits; and at the
    sizes of one tile its threads cost more than they bring. hwsim runs lanes or whole runs side by side instead.
    """
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  # the BLAS behind Numba's dot must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
