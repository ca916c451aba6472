"""What every test shares. Import hwsim inside fixtures and tests' own files, never here: the hook below comes first."""

import os
import signal
import sys
import tomllib
from pathlib import Path

import first_calls
from hypothesis import settings
from jaxtyping import install_import_hook

# Derandomised: the same examples on every machine and every run. `.ci/long` looks further with the profile "long".
settings.register_profile("short", derandomize=True, deadline=None, print_blob=False)
settings.register_profile("long", settings.get_profile("short"), max_examples=2000)
settings.load_profile("short")

# Annotated types and shapes are checked in tests, see first_calls. Not in the kernels: the hook breaks @njit.
PYPROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))
CHECKED = set(PYPROJECT["tool"]["setuptools"]["packages"]) - {"hwsim", "hwsim.kernels"}
install_import_hook(sorted(CHECKED), "first_calls.check")


# A shell ignores SIGINT for what it runs in the background, and processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    first_calls.start()


if os.environ.get("HWSIM_NO_TORCH"):
    sys.modules["torch"] = None  # type: ignore[assignment]  # from here on `import torch` raises ImportError
