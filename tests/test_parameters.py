"""Blocks that are taken over, the analog part, and plain gradient descent."""

import pickle

import numpy as np
import pytest

from hwsim import Parameters
from hwsim.contracts.errors import InputError
from hwsim.training import SGD, Adam


def test_taking_over_copies_nothing_and_makes_read_only():
    own = np.arange(3.0)
    held = Parameters.owning({"b": own})
    assert held["b"] is own
    assert not own.flags.writeable


def test_a_view_is_copied_all_the_same():
    base = np.arange(6.0)
    held = Parameters.owning({"b": base[:3]})
    base[0] = 7.0
    assert held["b"].tolist() == [0.0, 1.0, 2.0]
    assert base.flags.writeable


def test_the_analog_part_is_the_same_one_each_time():
    both = Parameters({"W": np.ones(2), "readout.V": np.ones(3)}, frozen=["W", "readout.V"])
    assert both.analog is both.analog
    assert list(both.analog) == ["W"]
    assert both.analog.frozen == {"W"}
    assert both.analog.analog is both.analog
    assert list((both | {"U": np.zeros(1)}).analog) == ["W", "U"]
    again = pickle.loads(pickle.dumps(both))
    assert list(again.analog) == ["W"]


def test_gradient_descent_goes_down_the_gradient_and_leaves_frozen_blocks():
    theta = Parameters({"W": np.array([1.0, 2.0]), "b": np.array([3.0])}, frozen=["b"])
    gradients = Parameters({"W": np.array([10.0, -10.0]), "b": np.array([5.0])})
    descent = SGD(learning_rate=0.1)
    moved, state = descent.update(theta, gradients, descent.start(theta))
    assert moved["W"].tolist() == [0.0, 3.0]
    assert moved["b"].tolist() == [3.0]
    assert moved.frozen == {"b"}
    assert state.count == 1


@pytest.mark.parametrize("optimiser", [SGD, Adam])
@pytest.mark.parametrize("rate", [0.0, -1.0, np.inf, np.nan])
def test_a_learning_rate_is_positive(optimiser, rate):
    with pytest.raises(InputError, match="positive, finite learning_rate"):
        optimiser(learning_rate=rate)
