"""Plant forbidden imports in a copy of the tree and see the linters stop each: an unproven wall may be painted on."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("hwsim", "devices", "learning_rules", "calibration")
TOOLS = Path(sys.executable).parent

LAYERS = "Rooms import downwards only"
PLANTS = [  # file, text, the one wall that must stop it
    ("hwsim/contracts/planted.py", "from hwsim.tasks import Digits", LAYERS),
    ("hwsim/training/planted.py", "def late(): import hwsim.cli", LAYERS),
    ("devices/planted.py", "import hwsim.learning_rules", LAYERS),
    ("learning_rules/planted.py", "import hwsim.devices", LAYERS),
    ("hwsim/planted/__init__.py", "# a room without a floor", LAYERS),
    ("hwsim/contracts/planted.py", "def late(): import torch", "Contract rooms never import torch"),
    ("devices/planted.py", "import numba", "Only hwsim.kernels compiles"),
    ("devices/planted.py", "import llvmlite", "Only hwsim.kernels compiles"),
    ("hwsim/verdict/planted.py", "import matplotlib.pyplot", "Only hwsim.cli parses, prints and plots"),
    ("tests/planted.py", "from devices import SimulatedDevice", "TID251"),
]


def run(tree: Path, tool: str, *options: str) -> tuple[bool, str]:
    """Whether the tool passed `tree`, and what it printed."""
    done = subprocess.run([TOOLS / tool, *options], cwd=tree, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def broken_walls(tree: Path) -> list[str]:
    """The contracts of import-linter, and ruff's TID251, that `tree` breaks."""
    kept, report = run(tree, "lint-imports", "--no-cache")
    broken = [line.partition(" BROKEN")[0] for line in report.splitlines() if " BROKEN" in line]
    if kept == bool(broken):
        sys.exit(f"lint-imports could not judge the tree:\n{report}")
    passed, _ = run(tree, "ruff", "check", "--no-cache", "--select", "TID251")
    return broken if passed else [*broken, "TID251"]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        shutil.copy(ROOT / "pyproject.toml", tree)
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, tree / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        if broken := broken_walls(tree):
            sys.exit(f"broken before anything was planted: {broken}")

        for file, text, wall in PLANTS:
            planted = tree / file
            new_folder = not planted.parent.exists()
            planted.parent.mkdir(exist_ok=True)
            planted.write_text(text, encoding="utf-8")
            broken = broken_walls(tree)
            if len(broken) != 1 or not broken[0].startswith(wall):
                sys.exit(f"{file} with {text!r} must break {wall!r} and nothing else; broken: {broken}")
            print(f"stopped: {file:28} {text}")
            shutil.rmtree(planted.parent) if new_folder else planted.unlink()


if __name__ == "__main__":
    main()
