"""Types and shapes are checked in tests: at the first calls of each function, in every test anew."""

import first_calls
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from hwsim.substrates import LeakyNetwork

NET = LeakyNetwork.dense(3, 2)
THETA = NET.initial(1, gain=0.5, input_gain=1.0)


@pytest.mark.parametrize("turn", [1, 2])
def test_first_calls_are_checked_in_every_test(turn):
    z, x = np.zeros((4, 3)), np.zeros((4, 2))
    with pytest.raises(TypeCheckError, match="parameters"):
        NET.tangent(np.zeros((5, 3)), z, x, THETA)
    for _ in range(first_calls.CALLS):
        NET.tangent(z, z, x, THETA)
    with pytest.raises(ValueError, match="broadcast"):  # what NumPy itself says where nobody checked
        NET.tangent(np.zeros((5, 3)), z, x, THETA)
    first_calls.start()
    with pytest.raises(TypeCheckError, match="parameters"):
        NET.tangent(np.zeros((5, 3)), z, x, THETA)


def test_what_no_name_leads_to_is_always_checked():
    def twice(x: float) -> float:
        return 2 * x

    checked = first_calls.check(twice)
    for _ in range(3 * first_calls.CALLS):
        assert checked(2) == 4
    with pytest.raises(Exception, match="violates type hint"):
        checked("2")
