"""Data files that scikit-learn ships, read without importing it: its import takes seconds, the files milliseconds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError


def shipped(name: str, *, header: int = 0) -> Float[Array, "S columns"]:
    """The numbers of `sklearn/datasets/data/<name>`, a table with commas (packed by gzip or not), row by row, float64.

    Args:
        name: of the file.
        header: lines before the first row.

    Raises:
        InputError: scikit-learn is not installed, or is one that has no such file.
    """
    found = find_spec("sklearn")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / "datasets" / "data" / name
        if path.is_file():
            return np.loadtxt(path, delimiter=",", skiprows=header, ndmin=2)
    raise InputError(
        f"this task's data is the file datasets/data/{name} of scikit-learn; found "
        f"{'a release without it' if found is not None else 'no scikit-learn'}: pip install 'scikit-learn>=1.5'"
    )
