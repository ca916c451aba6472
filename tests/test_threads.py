"""One thread for linear algebra, while anybody needs it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import scipy.linalg.cython_blas  # noqa: F401  # both libraries of BLAS must be there before threads are set
from threadpoolctl import threadpool_info, threadpool_limits

from hwsim.contracts.threads import one_blas_thread


def counts() -> set[int]:
    """Threads of every BLAS of this process."""
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def several():
    """More threads than one, whatever the machine has."""
    with threadpool_limits(3, user_api="blas"):
        assert counts() == {3}
        yield
        assert counts() == {3}


def test_contexts_nest_and_an_error_ends_them():
    try:
        with one_blas_thread():
            with one_blas_thread():
                assert counts() == {1}
            assert counts() == {1}
            raise KeyError
    except KeyError:
        assert counts() == {3}


def test_the_last_of_contexts_that_overlap_gives_back_what_the_first_found():
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    with ThreadPoolExecutor(1) as other:
        other.submit(second.__enter__).result()
    first.__exit__(None, None, None)
    assert counts() == {1}
    second.__exit__(None, None, None)
    assert counts() == {3}
