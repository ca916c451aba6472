"""A drawn chip: its equation, its exact derivatives, and what is left of reciprocity, whatever is wrong with it."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch

from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.reference import finite_differences
from hwsim.substrates import (
    Chip,
    Convolutional,
    DrawnSubstrate,
    EnergyNetwork,
    FieldSubstrate,
    Identity,
    Layered,
    LeakyNetwork,
    LinearLangevin,
    Masked,
    OscillatorNetwork,
    Reciprocal,
)
from hwsim.testing import check_substrate

UNITS, INPUTS = 6, 4
DRAWINGS = {
    "dense": LeakyNetwork.dense(UNITS, INPUTS),
    "symmetric": LeakyNetwork.symmetric(UNITS, INPUTS),
    "linear": LeakyNetwork.symmetric(UNITS, INPUTS, Identity()),
    "layered": LeakyNetwork(units=UNITS, inputs=INPUTS, coupling=Layered((2, 3, 1), True)),
    "grid": LeakyNetwork(units=UNITS, inputs=INPUTS, coupling=Masked.grid(2, 3, reciprocal=True)),
    "convolutional": LeakyNetwork(units=UNITS, inputs=INPUTS, coupling=Convolutional(1, 2, 3)),
    "energy": EnergyNetwork.symmetric(UNITS, INPUTS),
    "langevin": LinearLangevin(units=UNITS, inputs=INPUTS, coupling=Reciprocal(UNITS)),
    "oscillators": OscillatorNetwork(units=UNITS, inputs=INPUTS, coupling=Reciprocal(UNITS), locking=0.3),
}
FAULTS = ("rate", "offset", "gain", "mixing", "split", "deviation", "backward", "slew", "all")


def drawn(drawing, faults, seed=0):
    """A chip with these faults, drawn at random."""
    numbers, faults = np.random.default_rng(seed), FAULTS[:-1] if faults == ("all",) else faults
    chip = replace(Chip.as_drawn(drawing.units), split="split" in faults)
    if "rate" in faults:
        chip = replace(chip, rate=np.exp(0.3 * numbers.standard_normal(drawing.units)))
    if "offset" in faults:
        chip = replace(chip, offset=0.2 * numbers.standard_normal(drawing.units))
    if "slew" in faults:
        chip = replace(chip, slew=numbers.uniform(0.5, 2.0, drawing.units))
    shapes = (drawing.unshared() if chip.split else drawing).shapes()
    blocks = {}
    for fault in ("gain", "backward", "deviation"):
        around = 0.0 if fault == "deviation" else 1.0
        drew = {name: around + 0.2 * numbers.standard_normal(shape) for name, shape in shapes.items()}
        blocks[fault] = drew if fault in faults else {}
    if "mixing" in faults:
        sizes = {name: shape[-1] for name, shape in shapes.items()}
        blocks["mixing"] = {name: np.eye(k) + 0.1 * numbers.standard_normal((k, k)) for name, k in sizes.items()}
    deviation = blocks.pop("deviation")
    return DrawnSubstrate(
        drawing=drawing,
        chip=replace(chip, **blocks),
        deviation=deviation,
        driven_backwards="backward" in faults,
    )


def point(substrate, seed=0):
    """(theta, z, v, x)."""
    numbers = np.random.default_rng(seed)
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in substrate.shapes().items()})
    z, v = numbers.standard_normal((2, 3, substrate.units))
    return theta, z, v, numbers.standard_normal((3, substrate.inputs))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_chip_with_one_fault_is_held_to_the_suite(fault):
    check_substrate(lambda: drawn(DRAWINGS["symmetric"], (fault,)))


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_chip_with_every_fault_is_held_to_the_suite(name):
    check_substrate(lambda: drawn(DRAWINGS[name], ("all",)))
    # without what breaks reciprocity: metric and energy as well
    check_substrate(lambda: drawn(DRAWINGS[name], ("rate", "offset", "gain", "deviation"), seed=1), seed=1)


def test_a_field_of_ones_own_can_be_drawn():
    drawing = FieldSubstrate(
        function=lambda z, x, theta: x @ theta["U"].T - theta["k"] * z**3, units=3, inputs=2,
        blocks={"k": (3,), "U": (3, 2)},
    )  # fmt: skip
    check_substrate(lambda: drawn(drawing, ("all",)))


def test_a_chip_as_drawn_is_its_drawing():
    for drawing in DRAWINGS.values():
        theta, z, v, x = point(drawing)
        chip = DrawnSubstrate(drawing=drawing, chip=Chip.as_drawn(UNITS))
        assert np.array_equal(chip.field(z, x, theta), drawing.field(z, x, theta))
        assert np.array_equal(chip.tangent(v, z, x, theta), drawing.tangent(v, z, x, theta))
        assert chip.influence(z, x, theta).keys() == drawing.influence(z, x, theta).keys()
        assert chip.reciprocal == drawing.reciprocal
        assert chip.rails is chip.scale is None
        assert not chip.chip.railed


def test_the_field_is_the_stated_equation():
    drawing = DRAWINGS["symmetric"]
    substrate = drawn(drawing, ("all",), seed=3)
    theta, z, _, x = point(drawing)
    chip, apart = substrate.chip, drawing.unshared()
    real = {
        name: (block * chip.gain[name] * chip.backward[name]) @ chip.mixing[name] + substrate.deviation[name]
        for name, block in drawing.unshare(theta).items()
    }
    flow = chip.rate * (apart.field(z, x, Parameters(real)) + chip.offset)
    assert substrate.field(z, x, theta) == pytest.approx(np.clip(flow, -chip.slew, chip.slew), abs=1e-14)
    assert (np.abs(flow) > chip.slew).any()
    assert (np.abs(flow) < chip.slew).any()
    forwards = replace(substrate, driven_backwards=False)
    assert forwards.linear_map(theta)["W"] == pytest.approx(
        (drawing.unshare(theta)["W"] * chip.gain["W"]) @ chip.mixing["W"], abs=1e-15
    )


def test_a_unit_held_by_its_slew_rate_neither_listens_nor_learns():
    drawing = DRAWINGS["dense"]
    theta, z, v, x = point(drawing)
    slew = np.array([1e-3, *5 * [np.inf]])
    substrate = DrawnSubstrate(drawing=drawing, chip=replace(Chip.as_drawn(UNITS), slew=slew))
    assert np.abs(substrate.field(z, x, theta)[:, 0]) == pytest.approx(1e-3)
    assert not substrate.tangent(v, z, x, theta)[:, 0].any()
    assert not substrate.credit(v, z, x, theta)["b"][0]
    assert substrate.credit(v, z, x, theta)["b"][1:] == pytest.approx(v.sum(axis=0)[1:])


@pytest.mark.parametrize("name", DRAWINGS)
def test_credit_is_for_the_parameters_as_they_are_programmed(name):
    substrate = drawn(DRAWINGS[name], ("all",), seed=2)
    theta, z, post, x = point(substrate)
    expected = finite_differences(lambda at: float(np.sum(post * substrate.field(z, x, at))), theta, step=1e-5)
    for block, found in substrate.credit(post, z, x, theta).items():
        assert found == pytest.approx(expected[block], rel=1e-7, abs=1e-8)


def test_what_breaks_reciprocity_and_what_does_not():
    for name, drawing in DRAWINGS.items():
        for fault in ("rate", "offset", "gain", "deviation", "backward"):
            assert drawn(drawing, (fault,)).reciprocal == drawing.reciprocal, name
        assert not drawn(drawing, ("split",)).reciprocal
        assert not drawn(drawing, ("slew",)).reciprocal


def test_splitting_what_is_not_shared_changes_nothing():
    # a drawing whose elements are the same seen from both ends stays reciprocal
    drawing = FieldSubstrate(
        function=lambda z, x, theta: x - theta["k"] * z, units=2, inputs=2, blocks={"k": (2,)},
        metric_function=lambda z, theta: z * 0.0 + 1.0,
    )  # fmt: skip
    assert drawn(drawing, ("split",)).reciprocal


def test_each_direction_of_a_split_pair_has_its_own_gain():
    drawing = DRAWINGS["symmetric"]
    gain = np.ones((UNITS, UNITS))
    gain[0, 1] = 1.5
    substrate = DrawnSubstrate(drawing=drawing, chip=replace(Chip.as_drawn(UNITS), split=True, gain={"W": gain}))
    theta, z, post, x = point(drawing)
    W = substrate.real(theta)["W"]
    assert W[0, 1] == 1.5 * W[1, 0]
    # both directions are still programmed by one number, and credit is for that
    full = gain * (post.T @ np.tanh(z))
    assert substrate.credit(post, z, x, theta)["W"] == pytest.approx((full + full.T) / 2.0, abs=1e-13)
    assert substrate.credit(post, z, x, theta).keys() == drawing.shapes().keys()


def test_influence_leaves_out_what_does_not_factor():
    theta, z, _, x = point(DRAWINGS["symmetric"])
    some = replace(Chip.as_drawn(UNITS), gain={"U": np.full((UNITS, INPUTS), 1.1)}, mixing={"b": np.eye(UNITS)})
    substrate = DrawnSubstrate(drawing=DRAWINGS["symmetric"], chip=some)
    assert substrate.influence(z, x, theta).keys() == {"W"}
    check_substrate(lambda: substrate)


def test_the_metric_goes_by_the_rate():
    # J' = rate J, so that S' = S / rate: a unit that is twice as fast has half the capacitance
    substrate = drawn(DRAWINGS["langevin"], ("rate",))
    theta, z, _, _ = point(substrate)
    assert substrate.metric(z, theta) == pytest.approx(np.broadcast_to(1.0 / substrate.chip.rate, z.shape))


def test_linear_part_and_diffusion_go_by_the_rate():
    substrate = drawn(DRAWINGS["langevin"], ("rate", "gain"))
    theta = point(substrate)[0]
    M = DRAWINGS["langevin"].linear_part(substrate.real(theta))
    assert np.array_equal(substrate.linear_part(theta), substrate.chip.rate[:, None] * M)
    leak = drawn(DRAWINGS["dense"], ("rate",))
    assert np.array_equal(leak.linear_part(point(leak)[0]), -leak.chip.rate)
    assert leak.diffusion(point(leak)[0]) is None


def test_rails_are_the_narrower_of_the_chip_and_its_drawing():
    inner = replace(Chip.as_drawn(UNITS), low=np.full(UNITS, -2.0), high=np.linspace(0.5, 3.0, UNITS))
    outer = replace(Chip.as_drawn(UNITS), high=np.full(UNITS, 1.5))
    one = DrawnSubstrate(drawing=DRAWINGS["dense"], chip=inner)
    assert one.chip.railed
    for chip, high in ((Chip.as_drawn(UNITS), inner.high), (outer, np.minimum(inner.high, 1.5))):
        low, found = DrawnSubstrate(drawing=one, chip=chip).rails
        assert np.array_equal(low, inner.low)
        assert np.array_equal(found, high)
    check_substrate(lambda: one)


def test_scale_and_ranges_are_those_of_the_drawing():
    drawing = FieldSubstrate(
        function=lambda z, x, theta: -theta["k"] * z, units=2, inputs=1, blocks={"k": (2,)},
        limits={"k": (0.0, 1.0)}, physical_scale=Scale(volt=0.1),
    )  # fmt: skip
    substrate = DrawnSubstrate(drawing=drawing, chip=Chip.as_drawn(2))
    assert substrate.scale == Scale(volt=0.1)
    assert substrate.ranges() == {"k": (0.0, 1.0)}
    assert substrate.shapes() == {"k": (2,)}


def test_torch_takes_arrays_that_must_not_be_written_to():
    chip = drawn(DRAWINGS["dense"], ("all",)).chip
    for array in chip.arrays().values():
        array.flags.writeable = False
    theta, z, _, x = point(DRAWINGS["dense"])
    substrate = DrawnSubstrate(drawing=DRAWINGS["dense"], chip=chip)
    there = theta.map(lambda block: torch.tensor(np.array(block)))
    found = substrate.field(torch.tensor(z), torch.tensor(x), there)  # warnings are errors
    assert found.numpy() == pytest.approx(substrate.field(z, x, theta), abs=1e-13)


def test_a_chip_is_written_to_plain_arrays_and_back(tmp_path):
    chip = replace(
        drawn(DRAWINGS["symmetric"], ("all",)).chip,
        stuck={"b": np.array([np.nan, 0.5, *4 * [np.nan]])},
        low=np.full(UNITS, -1.0),
    )
    np.savez(tmp_path / "chip.npz", **chip.arrays())
    with np.load(tmp_path / "chip.npz") as saved:
        again = Chip.from_arrays(saved)
    assert again.split is True
    assert again.arrays().keys() == chip.arrays().keys()
    for name, array in chip.arrays().items():
        assert np.array_equal(again.arrays()[name], array, equal_nan=name.startswith("stuck"))
    with pytest.raises(InputError, match=r"per block; found gian/W"):
        Chip.from_arrays(chip.arrays() | {"gian/W": np.ones(1)})


def test_chips_can_be_kept_in_sets():
    chip = Chip.as_drawn(2)
    assert {chip, chip, Chip.as_drawn(2)} > {chip}
    substrate = DrawnSubstrate(drawing=LeakyNetwork.dense(2, 1), chip=chip)
    assert len({substrate, substrate}) == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rate": np.array([1.0, 0.0])}, r"rate of a unit must be positive; found 0"),
        ({"slew": np.array([1.0, -1.0])}, r"slew rate of a unit must not be negative; found -1"),
        ({"low": np.array([0.0, 2.0]), "high": np.ones(2)}, r"low <= high; found 2 and 1, unit 1"),
    ],
)
def test_chips_that_make_no_sense(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(Chip.as_drawn(2), **fields)


def test_a_chip_of_two_sizes(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside tests, where no shape is checked
    with pytest.raises(InputError, match=r"one number per unit for each of rate, .*; found \{'rate': 3, 'offset': 2"):
        replace(Chip.as_drawn(2), rate=np.ones(3))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gain": {"Q": np.ones(2)}}, r"gain names block Q; the substrate has \['U', 'W', 'b'\]"),
        ({"gain": {"U": np.ones((1, 2))}}, r"gain of block U must be \[2, 1\]; found \[1, 2\]$"),
        ({"mixing": {"W": np.ones((3, 3))}}, r"mixing of block W must be \[2, 2\]; found \[3, 3\]"),
        ({"split": True, "backward": {"b": np.ones(1)}}, r"found \[1\] \(one number for each direction, since"),
        ({"stuck": {"b": np.ones(3)}}, r"stuck of block b must be \[2\]; found \[3\]"),
    ],
)
def test_chips_that_do_not_fit_their_drawing(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        DrawnSubstrate(drawing=LeakyNetwork.dense(2, 1), chip=replace(Chip.as_drawn(2), **fields))
    with pytest.raises(InputError, match=r"a drawing of 3 units needs as many on the chip; found 2"):
        DrawnSubstrate(drawing=LeakyNetwork.dense(3, 1), chip=Chip.as_drawn(2))
