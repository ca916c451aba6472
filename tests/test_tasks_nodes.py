"""Tasks that are read from nodes: the signal is the derivative of the loss, and Iris is what it says it is."""

import numpy as np
import pytest

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.reference import finite_differences
from hwsim.tasks import Digits, Iris

NOTHING = Parameters({})


@pytest.mark.parametrize("minus", [(), (5, 1, 4)])
def test_signal_is_the_derivative_of_the_loss(minus):
    task = Iris(units=7, plus=(0, 2, 6), minus=minus)
    z = np.random.default_rng(1).normal(0.0, 0.1, (4, 7))
    targets = task.training_batch(0, 4, 0).targets
    # the loss is quadratic, so that central differences are exact
    slope = finite_differences(lambda at: float(task.loss(at["z"], targets, NOTHING)), Parameters({"z": z}), step=0.1)
    assert task.signal(z, targets, NOTHING) == pytest.approx(slope["z"], abs=1e-13)
    assert list(task.output_units) == sorted((0, 2, 6, *minus))
    silent = np.delete(task.signal(z, targets, NOTHING), task.output_units, axis=1)
    assert not silent.any()


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    task = Iris(units=7, plus=(0, 2, 6), minus=(5, 1, 4))
    batch = task.validation
    z = np.random.default_rng(1).normal(0.0, 0.1, (len(batch), 7))
    tensors = torch.tensor(z), torch.tensor(batch.targets), NOTHING
    assert float(task.loss(*tensors)) == pytest.approx(float(task.loss(z, batch.targets, NOTHING)), rel=1e-14)
    assert task.signal(*tensors).numpy() == pytest.approx(task.signal(z, batch.targets, NOTHING), abs=1e-16)
    assert task.accuracy(*tensors) == task.accuracy(z, batch.targets, NOTHING)
    single = task.signal(z.astype(np.float32), batch.targets, NOTHING)
    assert single.dtype == np.float32


def test_perfect_and_constant_answers():
    task = Iris(units=6, plus=(0, 1, 2), minus=(3, 4, 5), target=0.2)
    batch = task.validation
    perfect = np.concatenate([batch.targets, np.zeros_like(batch.targets)], axis=1)
    assert float(task.loss(perfect, batch.targets, NOTHING)) == 0.0
    assert task.accuracy(perfect, batch.targets, NOTHING) == 1.0
    # chance is the loss of target / 3 under equal classes; here one flower of each
    each = np.eye(3) * 0.2
    constant = np.concatenate([np.full((3, 3), 0.2 / 3), np.zeros((3, 3))], axis=1)
    assert float(task.loss(constant, each, NOTHING)) == pytest.approx(task.chance, rel=1e-12)


def test_iris_is_standardised_paired_and_split_for_good():
    task = Iris(units=3, plus=(0, 1, 2), volt_per_sd=0.5, target=0.3)
    held_out = task.validation
    assert held_out.inputs.shape == (50, 10)
    drawn = task.training_batch(0, 4000, 1)
    assert drawn.inputs[:, :4] == pytest.approx(-drawn.inputs[:, 4:8])
    assert np.all(drawn.inputs[:, 8:] == [1.0, -1.0])
    seen = np.unique(drawn.inputs, axis=0)
    assert len(seen) <= 100
    _, first = np.unique(drawn.inputs[:, :4], axis=0, return_index=True)
    assert len(first) > 95  # of 100 flowers, two of which are twins; 4000 draws miss none of them
    assert drawn.inputs[:, :4].mean(axis=0) == pytest.approx(0.0, abs=4 * 0.5 / np.sqrt(4000))
    assert drawn.inputs[:, :4].std(axis=0) == pytest.approx(0.5, rel=0.1)
    assert set(np.unique(drawn.targets)) == {0.0, 0.3}
    assert np.all(drawn.targets.sum(axis=1) == 0.3)
    again = task.training_batch(0, 4000, 1)
    assert np.array_equal(again.inputs, drawn.inputs)
    assert not np.array_equal(task.training_batch(1, 4000, 1).inputs, drawn.inputs)
    assert set(task.training_batch(0, 8, 1).ids) == set(range(8))


def test_no_readout_and_all_units_unless_told():
    task = Iris(units=4, plus=(0, 1, 2))
    assert len(task.initial_readout(0, 1.0)) == 0
    assert len(task.readout_credit(np.zeros((1, 4)), np.zeros((1, 3)), NOTHING)) == 0
    assert list(Digits(units=5).output_units) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"plus": (0, 1)}, "3 kinds"),
        ({"plus": (0, 1, 9)}, "different units from 0 to 8"),
        ({"plus": (0, 1, 1)}, "different units"),
        ({"minus": (2, 3, 4)}, "different units"),
        ({"minus": (3, 4)}, "as many minus nodes or none"),
        ({"plus": ()}, "one plus node each"),
        ({"target": 0.0}, "target > 0"),
        ({"volt_per_sd": np.inf}, "volt_per_sd > 0"),
    ],
)
def test_bad_tasks_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        Iris(**{"units": 9, "plus": (0, 1, 2), **change})
