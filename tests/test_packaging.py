"""Four sibling folders, one import name: what is declared, what is on disk and what is imported must agree."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]
PACKAGE_DIR = PYPROJECT["tool"]["setuptools"]["package-dir"]
OUTER = sorted(set(PACKAGE_DIR.values()) - {"hwsim"})  # the folders beside hwsim/

HEAVY = {"matplotlib", "numba", "scipy", "serial", "sklearn", "torch"}


def distribution(requirement: str) -> str:
    """The normalised name in `Name[extra]>=1.0`."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_packages_are_the_folders_on_disk() -> None:
    on_disk = set()
    for package, folder in PACKAGE_DIR.items():
        for module in (ROOT / folder).rglob("*.py"):  # rglob does not follow the links inside hwsim/
            on_disk.add(".".join([package, *module.parent.relative_to(ROOT / folder).parts]))
    assert sorted(on_disk) == PACKAGES


@pytest.mark.skipif(os.name == "nt", reason="Windows checks links out as text files; only type checkers need them")
@pytest.mark.parametrize("folder", OUTER)
def test_links_point_to_the_outer_folders(folder: str) -> None:
    assert (ROOT / "hwsim" / folder).readlink() == Path("..", folder)


def test_every_package_has_an_api_page() -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md")}
    assert sorted(pages) == [package.removeprefix("hwsim.") for package in PACKAGES if package != "hwsim"]
    for name, text in pages.items():
        assert f"::: hwsim.{name}\n" in text


@pytest.mark.parametrize(
    "code",
    ["import hwsim", "import sys; sys.argv = ['hwsim', '--help']; from hwsim.cli import main; sys.exit(main())"],
    ids=["import", "help"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    done = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stderr.split())
    assert "hwsim" in loaded
    assert not HEAVY & loaded


def test_public_names_resolve() -> None:  # ruff keeps them sorted
    import hwsim

    assert hwsim.__version__ == PROJECT["version"]
    assert len(hwsim.__all__) == len(set(hwsim.__all__))
    for name in hwsim.__all__:
        assert getattr(hwsim, name) is not None
    assert set(hwsim.__all__) <= set(dir(hwsim))


def test_entry_points_resolve() -> None:
    for group, points in PROJECT["entry-points"].items():
        for name, target in points.items():
            module, _, attribute = target.partition(":")
            found = getattr(importlib.import_module(module), attribute)
            # a rule is registered under its name in the catalogue, where it may be a class with other settings
            assert attribute == name, group
            assert callable(found), group


def test_every_rule_of_the_catalogue_is_registered() -> None:
    catalogue = vars(importlib.import_module("hwsim.learning_rules.catalogue"))
    named = {name for name, made in catalogue.items() if callable(made) and name.islower() and name != "partial"}
    assert named == PROJECT["entry-points"]["hwsim.learning_rules"].keys()


def test_every_requirement_is_pinned_for_any_build() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)  # no local version such as +cpu
    requirements = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    assert {distribution(r) for r in requirements} - {"hwsim"} <= {distribution(pin) for pin in pins}


def test_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or f"## [{PROJECT['version']}]" in changelog


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(rb"(?<![\w./-])/(?:farm|home|mnt|root|Users|work)/\w")
    folders = ["hwsim", *OUTER, ".ci", "benchmarks", "docs", "examples", "tests"]
    files = [*ROOT.iterdir(), *chain.from_iterable((ROOT / folder).rglob("*") for folder in folders)]
    written = [file for file in files if file.is_file() and "__pycache__" not in file.parts]
    assert [str(file.relative_to(ROOT)) for file in written if machine.search(file.read_bytes())] == []
