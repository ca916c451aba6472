"""Elementary functions of arrays: NumPy's tanh takes 4 (float32) to 20 ns (float64) an element without AVX-512."""

import numpy as np

from ._check import FloatArray, frozen
from ._compile import kernel
from .elementwise import tanh


@kernel()
def _tanh(z: FloatArray, out: FloatArray) -> None:
    for index in range(z.size):
        out[index] = tanh(z[index])


def tanh_array(z: FloatArray) -> FloatArray:
    """tanh of every element, a new array; what is neither float32 nor float64 goes to NumPy.

    Errors as in `elementwise`: 2 ulp in float32, 4 ulp in float64. The bits of an element do not depend on its place.
    Cost: 2 ns an element and 2 us a call.
    """
    if z.ndim == 0 or z.dtype not in (np.dtype(np.float32), np.dtype(np.float64)) or not z.dtype.isnative:
        return np.tanh(z)
    flat = frozen(np.ascontiguousarray(z).reshape(-1))
    out = np.empty_like(flat)
    _tanh(flat, out)
    return out.reshape(z.shape)
