"""What every test shares. Import hwsim inside fixtures and tests' own files, never here: the hook below comes first."""

import os
import sys
import tomllib
from pathlib import Path

from hypothesis import settings
from jaxtyping import install_import_hook

# Derandomised: the same examples on every machine and every run. `.ci/long` looks further with the profile "long".
settings.register_profile("short", derandomize=True, deadline=None, print_blob=False)
settings.register_profile("long", settings.get_profile("short"), max_examples=2000)
settings.load_profile("short")

# Every annotated type and shape is checked while the tests run; an int will do for a float, as it does for mypy.
# Not in the kernels: the hook breaks @njit. (The pytest option --jaxtyping-packages takes no configured checker.)
PYPROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))
CHECKED = set(PYPROJECT["tool"]["setuptools"]["packages"]) - {"hwsim", "hwsim.kernels"}
install_import_hook(sorted(CHECKED), "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

if os.environ.get("HWSIM_NO_TORCH"):
    sys.modules["torch"] = None  # type: ignore[assignment]  # from here on `import torch` raises ImportError
