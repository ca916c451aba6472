"""What every test shares. Import hwsim inside fixtures, not here: collection stays cheap and can run without torch."""

import os
import sys

from hypothesis import settings

# Derandomised: the same examples on every machine and every run. `.ci/long` looks further with the profile "long".
settings.register_profile("short", derandomize=True, deadline=None, print_blob=False)
settings.register_profile("long", settings.get_profile("short"), max_examples=2000)
settings.load_profile("short")

if os.environ.get("HWSIM_NO_TORCH"):
    sys.modules["torch"] = None  # type: ignore[assignment]  # from here on `import torch` raises ImportError
