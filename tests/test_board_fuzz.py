"""Fuzzing the firmware: the kept corpus, a short search from it, and that the fuzzer can see what it is there for."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from hwsim.devices.board.build import FIRMWARE, Target, available, build

ARCHIVE = Path(__file__).parent / "data" / "board_corpus.zip"
"""Grown by `.ci/board_fuzz.py`."""
pytestmark = pytest.mark.skipif(available(Target.FUZZ) is not None, reason=f"{available(Target.FUZZ)}")

FAULTS = {
    "inputs, forces and states are not checked": ("plan.c", "-limit, limit)) {", "-limit, limit) && limit < 0.0f) {"),
    "a network is not checked": ("blobs.c", "if (code != 0u) {", "if (code == 0xFFFFu) {"),
    "the safe state leaves outputs driven": ("analog.c", "(void)hw_switch(HW_SWITCH_OFF, 0);\n    rest();", ""),
}
"""What -> (file, text, text in its place)."""


def fuzz(program, *options):
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}  # leak detection needs ptrace, and nothing allocates
    command = [str(program), "-seed=1", "-timeout=60", "-max_len=2000", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def program():
    return build(Target.FUZZ)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    zipfile.ZipFile(ARCHIVE).extractall(folder)
    return folder


def test_kept_corpus_and_a_short_search(program, corpus, tmp_path):
    done = fuzz(program, "-runs=4000", f"-artifact_prefix={tmp_path}/", str(tmp_path), str(corpus))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 4" in done.stderr


@pytest.mark.slow
def test_a_long_search(program, corpus, tmp_path):
    done = fuzz(program, "-max_total_time=3600", f"-artifact_prefix={tmp_path}/", str(tmp_path), str(corpus))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_in_the_corpus(fault, corpus, tmp_path):
    """With one check taken out, a kept input reaches the abort in the hardware interface, or a sanitizer."""
    name, there, instead = FAULTS[fault]
    changed = tmp_path / "firmware"
    shutil.copytree(FIRMWARE, changed)
    text = (changed / name).read_text()
    assert text.count(there) == 1
    (changed / name).write_text(text.replace(there, instead))
    broken = build(Target.FUZZ, firmware=changed)
    try:
        done = fuzz(broken, "-runs=0", f"-artifact_prefix={tmp_path}/", str(corpus))
    finally:
        broken.unlink()  # it must not stay in the cache
    assert done.returncode != 0
    assert "deadly signal" in done.stderr or "Sanitizer" in done.stderr
