"""Functions of whole arrays: accuracy, and that the bits of an element depend on nothing but the element."""

import numpy as np
import pytest

from hwsim import NoisePath
from hwsim.contracts.noise import Stream
from hwsim.kernels import draw_normals, tanh_array


@pytest.mark.parametrize(("dtype", "ulp"), [(np.float32, 2.0), (np.float64, 4.0)])
def test_tanh_is_as_accurate_as_its_scalar(dtype, ulp):
    draw = np.random.default_rng(0)
    z = (10.0 ** draw.uniform(-6.0, 1.5, 20_000) * draw.choice([-1.0, 1.0], 20_000)).astype(dtype)
    exact = np.tanh(z.astype(np.longdouble))
    assert np.max(np.abs(tanh_array(z) - exact) / np.spacing(np.abs(exact).astype(dtype))) <= ulp


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_of_an_element_do_not_depend_on_its_place(dtype):
    z = np.random.default_rng(1).standard_normal((5, 17, 9)).astype(dtype)
    whole = tanh_array(z)
    assert whole.shape == z.shape
    assert whole.dtype == z.dtype
    for part in (z[2], z[:, ::3, ::-1], z[..., 4:5], z.transpose(2, 0, 1)):
        alone = [tanh_array(np.array([value]))[0] for value in part.flat]
        assert np.array_equal(tanh_array(part), np.reshape(alone, part.shape))
    assert np.array_equal(whole[:, ::3, ::-1], tanh_array(z[:, ::3, ::-1]))


def test_tanh_of_what_is_no_ordinary_array():
    special = tanh_array(np.array([np.nan, np.inf, -np.inf, 0.0, 1e-310]))
    assert np.isnan(special[0])
    assert special[1:].tolist() == [1.0, -1.0, 0.0, 1e-310]
    assert tanh_array(np.zeros((0, 3))).shape == (0, 3)
    assert tanh_array(np.array(0.5)) == np.tanh(0.5)
    assert tanh_array(np.array([0.5], np.float16)).dtype == np.float16
    held = np.ones(3)
    held.flags.writeable = False
    assert tanh_array(held).flags.writeable


def test_deviates_are_those_of_the_reference():
    ids, repeats = np.array([5, 0, 2**32 - 1]), np.array([0, 3, 1])
    path = NoisePath(seed=7, step=11, repeat=2)
    where = {"units": 37, "steps": 3, "first": 4, "phase": 2, "repeats": repeats}
    found = draw_normals(path, Stream.PROBE, ids, **where)
    assert found.dtype == np.float64
    assert np.allclose(found, path.normals(Stream.PROBE, ids, **where), rtol=0.0, atol=1e-12)
