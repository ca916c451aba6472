"""Check a built wheel and the copy installed from it; run outside the source tree, with that copy on the path."""

import importlib
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def main(wheel: str) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top_level = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert top_level == {"hwsim"}, f"the wheel would install {sorted(top_level)}"
    assert "hwsim/py.typed" in names
    firmware = {f"hwsim/{file.relative_to(ROOT)}" for file in (ROOT / "devices/board/firmware").rglob("*.*")}
    assert firmware <= set(names), f"the wheel lacks {sorted(firmware - set(names))}"

    for package in PROJECT["tool"]["setuptools"]["packages"]:
        file = Path(str(importlib.import_module(package).__file__))
        assert ROOT not in file.resolve().parents, f"{package} came from the source tree: {file}"
    entry_points = distribution("hwsim").entry_points
    for point in entry_points:
        point.load()
    print(f"{wheel}: {len(names)} files, all packages and {len(entry_points)} entry points load")


if __name__ == "__main__":
    main(sys.argv[1])
