"""A field of one's own: written as a function, differentiated in torch, and the equal of the same physics by hand."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from hwsim.contracts.arrays import namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.reference import finite_differences, to_torch
from hwsim.substrates import EnergyNetwork, FieldSubstrate, LeakyNetwork
from hwsim.testing import check_substrate

UNITS, INPUTS = 5, 3
LEAKY, ENERGY = LeakyNetwork.dense(UNITS, INPUTS), EnergyNetwork.symmetric(UNITS, INPUTS)


def leaky(z, x, theta):
    return namespace(z).tanh(z) @ theta["W"].T - z + x @ theta["U"].T + theta["b"]


def cubic(z, x, theta):
    """`F = -k z^3 + a sin(x_1) z_{i-1}`, nothing like a network; block "k" is a conductance."""
    xp = namespace(z)
    return xp.sin(x[:, :1]) * theta["a"] * xp.roll(z, 1, axis=-1) - theta["k"] * z**3


def two_wells(z, x, theta):
    """`C dz/dt = -dE/dz`, `E = sum_i k_i (z_i^2 - 1)^2 / 4 - x . h . z`, capacitances C = 1, 2, ..."""
    xp = namespace(z)
    capacitance = xp.arange(1, UNITS + 1, dtype=z.dtype)
    return (x @ theta["h"].T - theta["k"] * z * (z * z - 1.0)) / capacitance


def well_energy(z, x, theta):
    xp = namespace(z)
    return xp.sum(theta["k"] * (z * z - 1.0) ** 2 / 4.0 - z * (x @ theta["h"].T), axis=-1)


def well_metric(z, theta):
    xp = namespace(z)
    return xp.broadcast_to(xp.arange(1, UNITS + 1, dtype=z.dtype), z.shape)


WELLS = FieldSubstrate(
    function=two_wells,
    units=UNITS,
    inputs=INPUTS,
    blocks={"k": (UNITS,), "h": (UNITS, INPUTS)},
    limits={"k": (0.0, np.inf)},
    metric_function=well_metric,
    energy_function=well_energy,
)
FIELDS = {
    "leaky": FieldSubstrate(function=leaky, units=UNITS, inputs=INPUTS, blocks=LEAKY.shapes()),
    "gradient": FieldSubstrate(
        function=ENERGY.field,
        units=UNITS,
        inputs=INPUTS,
        blocks=ENERGY.shapes(),
        metric_function=ENERGY.metric,
        energy_function=ENERGY.energy,
    ),
    "cubic": FieldSubstrate(function=cubic, units=4, inputs=2, blocks={"k": (4,), "a": (4,)}, limits={"k": (0.0, 2.0)}),
    "wells": WELLS,
}


def point(shapes, seed=0, time=()):
    """(theta, z, v, x)."""
    numbers = np.random.default_rng(seed)
    theta = Parameters({name: numbers.standard_normal(shape) for name, shape in shapes.items()})
    z, v = numbers.standard_normal((2, *time, 4, UNITS))
    return theta, z, v, numbers.standard_normal((4, INPUTS))


@pytest.mark.parametrize("name", FIELDS)
def test_fields_are_held_to_the_suite(name):
    for seed, size in ((0, 1.0), (1, 0.1)):
        check_substrate(lambda: FIELDS[name], seed=seed, size=size)


@pytest.mark.parametrize(("name", "by_hand"), [("leaky", LEAKY), ("gradient", ENERGY)])
@pytest.mark.parametrize("time", [(), (3,)])
def test_derivatives_are_those_written_down_by_hand(name, by_hand, time):
    found = FIELDS[name]
    theta, z, v, x = point(by_hand.shapes(), time=time)
    for derivative in ("tangent", "cotangent"):
        expected = getattr(by_hand, derivative)(v, z, x, theta)
        assert getattr(found, derivative)(v, z, x, theta) == pytest.approx(expected, abs=1e-13)
    for per_sample in (False, True):
        credit = by_hand.credit(v, z, x, theta, per_sample=per_sample)
        for block, array in found.credit(v, z, x, theta, per_sample=per_sample).items():
            assert array == pytest.approx(credit[block], abs=1e-12)
    if not time:
        assert found.jacobian(z, x, theta) == pytest.approx(by_hand.jacobian(z, x, theta), abs=1e-13)
        # many signals around one state
        many = np.stack([v, 2.0 * v, v - 1.0])
        assert found.tangent(many, z, x, theta) == pytest.approx(by_hand.tangent(many, z, x, theta), abs=1e-12)
        assert found.cotangent(many, z, x, theta) == pytest.approx(by_hand.cotangent(many, z, x, theta), abs=1e-12)


def test_energy_credit_is_the_derivative_of_the_energy():
    theta, z, _, x = point(ENERGY.shapes())
    for block, array in FIELDS["gradient"].energy_credit(z, x, theta).items():
        assert array == pytest.approx(ENERGY.energy_credit(z, x, theta)[block], abs=1e-13)
    theta, z, _, x = point(WELLS.shapes())
    expected = finite_differences(lambda at: float(np.sum(well_energy(z, x, at))), theta, step=0.1)
    for block, array in WELLS.energy_credit(z, x, theta).items():
        assert array == pytest.approx(expected[block], rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_and_kind_of_array_are_kept(dtype):
    theta, z, v, x = point(LEAKY.shapes())
    theta, z, v = theta.map(lambda block: block.astype(dtype)), z.astype(dtype), v.astype(dtype)
    there = theta.map(lambda block: torch.tensor(np.array(block)))
    found = FIELDS["leaky"]
    for give, blocks, kind in ((np.asarray, theta, np.ndarray), (torch.tensor, there, torch.Tensor)):
        # inputs of another precision do not raise that of a signal
        around = (give(z), give(x), blocks)
        answers = [found.tangent(give(v), *around), found.cotangent(give(v), *around)]
        for per_sample in (False, True):
            answers += found.credit(give(v), *around, per_sample=per_sample).values()
        for answer in answers:
            assert isinstance(answer, kind)
            assert str(answer.dtype).removeprefix("torch.") == dtype


def test_tensors_keep_their_graph():
    # second derivatives: d/dtheta of a.(J v), as a regulariser of the Jacobian needs
    theta, z, v, x = point(LEAKY.shapes())
    there = to_torch(theta, requires_grad=True)
    zt, vt, xt = (torch.tensor(array) for array in (z, v, x))
    for substrate in (FIELDS["leaky"], LEAKY):
        (found,) = torch.autograd.grad((vt * substrate.tangent(vt, zt, xt, there)).sum(), there["W"])
        expected = np.einsum("bi,bj->ij", v, (1.0 - np.tanh(z) ** 2) * v)
        assert found.numpy() == pytest.approx(expected, abs=1e-12)


def test_readout_blocks_stay_outside():
    theta, z, v, x = point(LEAKY.shapes())
    withheld = theta | {"readout.V": np.ones(2)}
    assert FIELDS["leaky"].credit(v, z, x, withheld).keys() == theta.keys()
    assert FIELDS["leaky"].influence(z, x, withheld) == {}


def test_what_is_not_given_is_not_offered():
    found = FIELDS["leaky"]
    theta, z, _, x = point(LEAKY.shapes())
    assert not found.reciprocal
    assert found.metric(z, theta) is found.energy_credit(z, x, theta) is found.scale is None
    scaled = FieldSubstrate(function=leaky, units=1, inputs=1, blocks={}, physical_scale=Scale(volt=0.1))
    assert scaled.scale == Scale(volt=0.1)
    assert dict(WELLS.ranges()) == {"k": (0.0, np.inf)}


def test_fields_that_make_no_sense():
    with pytest.raises(InputError, match=r"units >= 1 and inputs >= 1; found 0 and 1"):
        FieldSubstrate(function=leaky, units=0, inputs=1, blocks={})
    with pytest.raises(InputError, match=r"limits name the blocks \['q'\]; the field has \['k'\]"):
        FieldSubstrate(function=leaky, units=1, inputs=1, blocks={"k": (1,)}, limits={"q": (0.0, 1.0)})
    with pytest.raises(InputError, match=r"an energy needs metric_function"):
        FieldSubstrate(function=leaky, units=1, inputs=1, blocks={}, energy_function=well_energy)


def test_substrates_import_neither_torch_nor_scipy():
    code = "import sys, hwsim.substrates; sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'numba')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
