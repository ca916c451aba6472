"""Compiled Numba kernels: arrays and integer codes in, arrays out.

Every kernel takes float32 or float64 arrays, is compiled once for each, keeps its machine code on disk and releases the
interpreter lock.  The functions exported here check what they are given; those inside do not.
"""

from .leaky import IDENTITY, TANH, relax_leaky, relax_transpose
from .noise import fill_normals

__all__ = ["IDENTITY", "TANH", "fill_normals", "relax_leaky", "relax_transpose"]
