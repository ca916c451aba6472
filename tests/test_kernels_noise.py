"""The noise of the compiled kernels against that of `NoisePath`, and the compile cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwsim.contracts.noise import NoisePath, Stream
from hwsim.kernels import Noise, elementwise, fill_normals


def noise(lanes, *, coarse=1):
    return Noise(
        path=NoisePath(seed=0xFEDCBA98, step=11, repeat=7, coarse=coarse),
        stream=int(Stream.THERMAL),
        phase=2,
        ids=(np.arange(lanes) * 3 + 1).astype(np.uint32),
        repeats=(np.arange(lanes) % 3).astype(np.uint32),
        first=9,
    )


def deviates(n, units, steps):
    rest = {"steps": steps, "first": n.first, "phase": n.phase, "repeats": n.repeats}
    return n.path.normals(n.stream, n.ids, units=units, **rest)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize(("units", "coarse"), [(1, 1), (31, 3), (32, 1), (70, 2)])
def test_kernel_noise_is_the_noise_of_the_path(dtype, limit, units, coarse):
    n = noise(4, coarse=coarse)
    out = np.full((5, 4, units), np.nan, dtype)
    fill_normals(out, n)
    np.testing.assert_allclose(out, deviates(n, units, 5), rtol=0, atol=limit)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("ids", [[3, 1, 4, 3, 1, 4, 3, 1, 4], [3, 3, 3], [3, 1, 3, 3, 1, 4], [3, 1, 1, 4, 4, 5]])
@pytest.mark.parametrize("coarse", [1, 3])
def test_twins_have_the_same_noise_and_others_their_own(dtype, limit, ids, coarse):
    """Lanes with the same address anywhere; the last of each has a repeat of its own and is nobody's twin."""
    repeats = np.zeros(len(ids), np.uint32)
    repeats[-1] = 2
    n = noise(len(ids), coarse=coarse)._replace(ids=np.array(ids, np.uint32), repeats=repeats)
    out = np.full((5, len(ids), 70), np.nan, dtype)
    fill_normals(out, n)
    np.testing.assert_allclose(out, deviates(n, 70, 5), rtol=0, atol=limit)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_kernel_noise_agrees_in_the_far_and_in_the_near_end_of_the_law(dtype, limit):
    """4e6 deviates, so that words close to 0 and to 2^32 occur, where a radius in float32 would be lost."""
    n = noise(64)
    out = np.empty((64, 64, 1024), dtype)
    fill_normals(out, n)
    expected = deviates(n, 1024, 64)
    assert np.abs(expected).max() > 5
    assert np.hypot(expected[..., :8], expected[..., 8:16]).min() < 0.02
    assert np.abs(out - expected).max() < limit


# --- the compile cache ---------------------------------------------------------------------------------------------

CALLER = """
from ._compile import kernel
from .callee import gain

@kernel()
def step(x):
    return gain(x) + 1.0
"""
TYPED = """
from typing import NamedTuple
from ._compile import kernel
from .callee import gain

class {name}(NamedTuple):
    one: float

@kernel()
def step(given):
    return gain(given.one) + 1.0
"""
CALLEE = """
from ._compile import kernel

@kernel(inline={inline})
def gain(x):
    return {gain} * x
"""
VARIANTS = """
from ._compile import kernel

def made(gain):
    @kernel()
    def step(x):
        return gain * x
    return step
"""
TOGETHER = """
from room.caller import made
steps, late = [made(2.0), made(3.0)], []
first, second = (step._cache._cache_file for step in steps)
first._load_index = second._load_index = dict  # neither has saved yet when the other looks
write, first._save_data = first._save_data, lambda *given: late.append(given)
assert [step(1.0) for step in steps] == [2.0, 3.0]
write(*late[0])  # the first of them writes last
"""
AFTERWARDS = """
from room.caller import made
steps = [made(2.0), made(3.0)]
assert [step(1.0) for step in steps] == [2.0, 3.0]
print([sum(step.stats.cache_hits.values()) for step in steps])
"""
ASK = "from room.caller import step; print({asked}, sum(step.stats.cache_hits.values()), step._cache.cache_path)"


@pytest.fixture
def room(tmp_path):
    """A copy of the kernels folder as a package of its own, with a caller and a callee in two files."""
    folder = tmp_path / "room"
    shutil.copytree(Path(elementwise.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "__init__.py").write_text("")
    (folder / "caller.py").write_text(CALLER)
    (folder / "callee.py").write_text(CALLEE.format(gain=2.0, inline=False))
    return folder


def ask(room, *, asked="step(1.0)", **environment):
    """(result, cache hits, cache folder) of the caller, from a fresh interpreter."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    clean |= {"PYTHONPATH": str(room.parent), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    run = subprocess.run(
        [sys.executable, "-c", ASK.format(asked=asked)], capture_output=True, text=True, env=clean, check=True
    )
    result, hits, folder = run.stdout.split()
    return float(result), int(hits), Path(folder)


def test_an_edited_callee_in_another_file_recompiles_its_caller(room):
    assert ask(room)[:2] == (3.0, 0)
    assert ask(room) == (3.0, 1, room / "__pycache__")
    (room / "callee.py").write_text(CALLEE.format(gain=10.0, inline=True))
    assert ask(room)[:2] == (11.0, 0)


def test_a_cache_that_names_a_type_which_is_gone_is_written_afresh(room):
    """The old index cannot be read at all."""
    for name, hits in (("Old", 0), ("New", 0), ("New", 1)):
        (room / "caller.py").write_text(TYPED.format(name=name))
        asked = f"step(__import__('room.caller').caller.{name}(1.0))"
        assert ask(room, asked=asked)[:2] == (3.0, hits)


def test_two_variants_that_are_saved_at_the_same_time_are_not_mistaken_for_each_other(room):
    (room / "caller.py").write_text(VARIANTS)
    environment = os.environ | {"PYTHONPATH": str(room.parent)}
    for script, said in ((TOGETHER, ""), (AFTERWARDS, "[0, 1]\n"), (AFTERWARDS, "[1, 1]\n")):
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        assert run.stdout == said


def test_the_cache_goes_where_the_environment_says(room, tmp_path):
    assert ask(room, NUMBA_CACHE_DIR=str(tmp_path / "elsewhere"))[2].parent == tmp_path / "elsewhere"


def test_where_the_package_cannot_be_written_the_cache_goes_to_the_user(room, tmp_path):
    (room / "__pycache__").write_text("a file, so that no folder can be made here, whoever runs this test")
    user = {"XDG_CACHE_HOME": str(tmp_path / "user"), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    assert tmp_path in ask(room, **user)[2].parents
