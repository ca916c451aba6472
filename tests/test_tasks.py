"""Tasks whose signals are derivatives, and data that is a pure function of step and seed."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.reference import finite_differences
from hwsim.tasks import Digits, NextCharacter, python_documentation, read_text
from hwsim.tasks.digits import HELD_OUT
from hwsim.tasks.text import CONTEXT
from hwsim.testing import RandomClasses

UNITS, INPUTS = 8, 4
SENTENCE = "The quick brown fox jumps over the lazy dog, and then it rests a while. "


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- The digital head ---------------------------------------------------------------------------------------------


@given(
    units=st.integers(1, 6),
    classes=st.integers(2, 6),
    lanes=st.integers(1, 5),
    scale=st.sampled_from([0.1, 1.0, 20.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_signal_and_readout_credit_are_differences_of_the_loss(units, classes, lanes, scale, seed):
    task, draw = RandomClasses(units=units, classes=classes), np.random.default_rng(seed)
    theta = Parameters(
        {"readout.V": scale * draw.standard_normal((classes, units)), "readout.c": draw.standard_normal(classes)}
    )
    z, targets = draw.standard_normal((lanes, units)), draw.integers(0, classes, lanes)
    in_z = finite_differences(lambda at: float(task.loss(at["z"], targets, theta)), Parameters({"z": z}))
    # differences err by h^2 times the third derivative, about |V|^3
    assert task.signal(z, targets, theta) == pytest.approx(in_z["z"], abs=1e-9 * max(1.0, scale**3))
    in_theta = finite_differences(lambda at: float(task.loss(z, targets, at)), theta)
    for name, block in task.readout_credit(z, targets, theta).items():
        assert block == pytest.approx(in_theta[name], abs=1e-9 * max(1.0, scale))


def test_the_loss_is_the_mean_cross_entropy_in_nats():
    task, z = RandomClasses(units=UNITS, classes=4), np.random.default_rng(0).standard_normal((5, UNITS))
    targets = np.array([0, 1, 2, 3, 0])
    blank = Parameters({"readout.V": np.zeros((4, UNITS)), "readout.c": np.zeros(4)})
    assert float(task.loss(z, targets, blank)) == pytest.approx(math.log(4.0)) == task.chance
    theta = task.initial_readout(3, 1.0)
    odds = np.exp(task.logits(z, theta))
    by_hand = -np.mean(np.log((odds / odds.sum(axis=1, keepdims=True))[np.arange(5), targets]))
    assert float(task.loss(z, targets, theta)) == pytest.approx(by_hand, rel=1e-13)
    assert task.accuracy(z, np.argmax(odds, axis=1), theta) == 1.0
    assert task.accuracy(z, (np.argmax(odds, axis=1) + 1) % 4, theta) == 0.0


def test_a_sure_head_does_not_overflow():
    task, z = RandomClasses(units=UNITS), np.full((2, UNITS), 1e3)
    theta = Parameters({"readout.V": np.array([[1.0], [2.0], [-1.0]]) * np.ones((3, UNITS)), "readout.c": np.zeros(3)})
    assert float(task.loss(z, np.array([1, 1]), theta)) == 0.0
    assert float(task.loss(z, np.array([0, 0]), theta)) == pytest.approx(8e3)
    assert np.isfinite(task.signal(z, np.array([0, 1]), theta)).all()


def test_initial_readout_has_the_stated_spread():
    task = RandomClasses(units=400, classes=50)
    theta = task.initial_readout(1, 0.5)
    sd = 0.5 / np.sqrt(400)
    assert np.std(theta["readout.V"]) == pytest.approx(sd, rel=4.0 / np.sqrt(2.0 * theta["readout.V"].size))
    assert not theta["readout.c"].any()
    assert same(theta, task.initial_readout(1, 0.5))
    assert not same(theta, task.initial_readout(2, 0.5))


# --- Digits and text ----------------------------------------------------------------------------------------------

TASKS = {"digits": lambda: Digits(units=UNITS), "text": lambda: NextCharacter(text=SENTENCE * 40, units=UNITS)}


def rows(batch):
    """Each sample as something that can be put into a set."""
    return [(row.tobytes(), int(target)) for row, target in zip(batch.inputs, batch.targets, strict=True)]


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS.keys())
def test_batches_are_pure_functions_of_step_and_seed(make):
    task, other = make(), make()
    for step, seed in ((0, 0), (7, 0), (7, 3)):
        one, two = task.training_batch(step, 16, seed), other.training_batch(step, 16, seed)
        assert np.array_equal(one.inputs, two.inputs)
        assert np.array_equal(one.targets, two.targets)
        assert one.inputs.shape == (16, task.inputs)
        assert len(set(one.ids.tolist())) == 16
    first = rows(task.training_batch(0, 16, 0))
    assert rows(task.training_batch(1, 16, 0)) != first
    assert rows(task.training_batch(0, 16, 1)) != first
    assert np.array_equal(task.validation.inputs, other.validation.inputs)
    assert len(set(task.validation.ids.tolist())) == len(task.validation)


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS.keys())
def test_targets_are_classes(make):
    task = make()
    for batch in (task.training_batch(0, 256, 0), task.validation):
        assert batch.targets.min() >= 0
        assert batch.targets.max() < task.classes
        assert len(np.unique(batch.targets)) > task.classes // 2


def test_held_out_digits_are_never_trained_on():
    task = Digits(units=UNITS)
    held_out = set(rows(task.validation))
    assert len(task.validation) == HELD_OUT == len(held_out)
    seen = set()
    for step in range(60):
        seen |= set(rows(task.training_batch(step, 200, 0)))
    assert not seen & held_out
    # while all others come up: of n images, n exp(-12000 / n) are still missing
    assert len(seen) > 0.99 * (1797 - HELD_OUT)
    assert task.validation.inputs.min() == -1.0
    assert task.validation.inputs.max() == 1.0


def test_held_out_text_is_never_trained_on():
    # a text in which every stretch of seven characters occurs once
    alphabet = [chr(0x4E00 + k) for k in range(400)]
    task = NextCharacter(text="".join(alphabet), units=UNITS)
    targets = np.concatenate([task.training_batch(step, 200, 0).targets for step in range(20)])
    assert targets.min() == CONTEXT
    assert targets.max() == task.split - 1 == 359
    assert task.validation.targets.min() == task.split + CONTEXT  # whose context is held out as well
    assert task.validation.targets.max() == 399


def test_a_window_holds_the_six_characters_before_the_target():
    task = NextCharacter(text=SENTENCE * 40, units=UNITS)
    assert task.inputs == CONTEXT * task.classes
    batch = task.training_batch(3, 32, 0)
    for row, target in zip(batch.inputs, batch.targets, strict=True):
        nearest_first = np.argmax(row.reshape(CONTEXT, task.classes), axis=1)
        assert row.sum() == CONTEXT
        window = "".join(task.symbols[code] for code in nearest_first[::-1]) + task.symbols[target]
        assert window in task.folded[: task.split]


def test_text_is_folded_and_hashed():
    task = NextCharacter(text="  The\n\tQuick   FOX " * 30, units=UNITS)
    assert task.folded.startswith("the quick fox the quick")
    assert task.symbols == tuple(sorted(set("the quick fox")))
    assert task.sha256 == hashlib.sha256(task.folded.encode()).hexdigest()


def test_the_documentation_that_python_ships():
    text = python_documentation()
    assert len(text) > 300_000
    assert text == python_documentation()
    task = NextCharacter(text=text, units=UNITS)
    assert 30 < task.classes < 120
    assert len(task.validation) == 1024


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the text is empty; give --text a file with some sentences in it"),
        (" \n\t ", "the text is empty"),
        ("a short text", r"the text is too short: 12 characters and \d symbols once folded; at least 71 characters"),
        ("aaaaaaaaaaaaaa" * 100, "1400 characters and 1 symbols once folded; at least 71 characters of two symbols"),
    ],
    ids=["empty", "blank", "short", "one symbol"],
)
def test_text_that_cannot_be_learned_from(text, says):
    with pytest.raises(InputError, match=says):
        NextCharacter(text=text, units=UNITS)


@pytest.mark.parametrize("length", [70, 71, 79, 80, 90])
def test_any_text_of_the_stated_length_works(length):
    text = "ab" * 100
    if length < 71:
        with pytest.raises(InputError, match="too short"):
            NextCharacter(text=text[:length], units=UNITS)
    else:
        task = NextCharacter(text=text[:length], units=UNITS)
        assert len(task.validation) == 1024
        assert len(task.training_batch(0, 4, 0)) == 4


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match=r"there is no text file .*nowhere\.txt; give --text an existing UTF-8 file"):
        read_text(tmp_path / "nowhere.txt")
    latin = tmp_path / "latin.txt"
    latin.write_bytes("na\u00efve".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8 text: byte 2 is 0xef; convert it"):
        read_text(latin)
    with pytest.raises(InputError, match=r"cannot read the text file .*: Is a directory"):
        read_text(tmp_path)
    fine = tmp_path / "fine.txt"
    fine.write_text("na\u00efve", encoding="utf-8")
    assert read_text(fine) == "na\u00efve"
