"""Build the firmware: a process, a library, a fuzzer, or an image for an emulated microcontroller.

The product lies in a cache folder (`HWSIM_CACHE`, else `~/.cache/hwsim`) under a hash of sources, flags and compiler:
a second build is a look-up.
"""

from __future__ import annotations

import enum
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hwsim.contracts.errors import HwsimError

FIRMWARE = Path(__file__).resolve().parent / "firmware"
"""Where the C sources are."""

_STRICT = ("-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
_FRONT = ("ports/common/front_end.c",)
_SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_SMALL = (  # a boot clears all buffers, and a fuzzer boots thousands of times a second
    *("-DHW_MAX_UNITS=8u", "-DHW_MAX_INPUTS=4u", "-DHW_MAX_LANES=4u", "-DHW_MAX_STEPS=64u", "-DHW_MAX_READS=4u"),
    *("-DHW_DATA_BYTES=4096u", "-DHW_RESULT_BYTES=8192u", "-DHW_TAPE_BYTES=2048u"),
)
_SKELETON = (  # what fits 128 kB
    *("-DHW_MAX_UNITS=32u", "-DHW_MAX_INPUTS=32u", "-DHW_MAX_LANES=8u", "-DHW_DATA_BYTES=12288u"),
    *("-DHW_RESULT_BYTES=16384u", "-DHW_TAPE_BYTES=8192u"),
)
_ARM = (
    *("-ffreestanding", "-mthumb", "-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs"),
    *("-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", "-ffunction-sections", "-fdata-sections"),
)


class BuildError(HwsimError):
    """The firmware cannot be built here."""


class Target(enum.Enum):
    """What the one core is built for."""

    HOST = "process on a pty, TCP or stdin"
    HOST_SANITIZED = "the same with address and undefined-behaviour sanitizers"
    LIBRARY = "shared library: a board inside this process"
    FUZZ = "libFuzzer target"
    M4F = "Cortex-M4F, QEMU machine mps2-an386"
    M3 = "Cortex-M3 without floating point, QEMU machine mps2-an385"
    SKELETON = "Cortex-M4F, the port to copy; links, drives nothing"


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """How a target is made.

    Args:
        compiler: program to call.
        package: Debian package that has it.
        sources: besides the core.
        flags: besides the strict ones.
        suffix: of the product.
    """

    compiler: str
    package: str
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    suffix: str = ""


_LINK = ("-lm",)
_RECIPES = {
    Target.HOST: _Recipe(
        compiler="gcc", package="gcc", sources=(*_FRONT, "ports/host/port.c"), flags=("-O2", "-DHW_TEST_HANG")
    ),
    Target.HOST_SANITIZED: _Recipe(
        compiler="gcc",
        package="gcc",
        sources=(*_FRONT, "ports/host/port.c"),
        flags=("-O1", "-DHW_TEST_HANG", *_SANITIZE),
    ),
    Target.LIBRARY: _Recipe(
        compiler="gcc",
        package="gcc",
        sources=(*_FRONT, "ports/memory/port.c"),
        flags=("-O2", "-fPIC", "-shared"),
        suffix=".so",
    ),
    Target.FUZZ: _Recipe(
        compiler="clang",
        package="clang libclang-rt-dev",
        sources=(*_FRONT, "ports/memory/port.c", "ports/memory/fuzz.c"),
        flags=("-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", *_SMALL),
    ),
    Target.M4F: _Recipe(
        compiler="arm-none-eabi-gcc",
        package="gcc-arm-none-eabi libnewlib-arm-none-eabi",
        sources=("ports/common/no_converters.c", "ports/mps2/port.c"),
        flags=("-O2", *_ARM, "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-DHW_TEST_HANG"),
        suffix=".elf",
    ),
    Target.M3: _Recipe(
        compiler="arm-none-eabi-gcc",
        package="gcc-arm-none-eabi libnewlib-arm-none-eabi",
        sources=("ports/common/no_converters.c", "ports/mps2/port.c"),
        # a step of more units would take this processor longer than SAFE_MS
        flags=("-O2", *_ARM, "-mcpu=cortex-m3", "-DHW_TEST_HANG", "-DHW_MAX_UNITS=64u", "-DHW_MAX_INPUTS=64u"),
        suffix=".elf",
    ),
    Target.SKELETON: _Recipe(
        compiler="arm-none-eabi-gcc",
        package="gcc-arm-none-eabi libnewlib-arm-none-eabi",
        sources=("ports/skeleton/port.c",),
        flags=("-O2", *_ARM, "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", *_SKELETON),
        suffix=".elf",
    ),
}
_SCRIPTS = {
    Target.M4F: "ports/mps2/mps2.ld",
    Target.M3: "ports/mps2/mps2.ld",
    Target.SKELETON: "ports/skeleton/skeleton.ld",
}


def available(target: Target) -> str | None:
    """None where the target can be built here, else why not."""
    recipe = _RECIPES[target]
    if shutil.which(recipe.compiler):
        return _runtime() if target is Target.FUZZ else None
    return f"{recipe.compiler} is not installed: apt-get install --no-install-recommends {recipe.package}"


def _runtime() -> str | None:
    """None where clang has what its fuzzer links, else what to do."""
    asked = ["clang", "-print-runtime-dir"]
    folder = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    if list(folder.glob("libclang_rt.fuzzer*.a")):
        return None
    return f"clang has no fuzzer in {folder}: apt-get install --no-install-recommends libclang-rt-dev"


def build(target: Target, *, defines: tuple[str, ...] = (), firmware: Path = FIRMWARE) -> Path:
    """The program, library or image of a target, built if it is not in the cache yet.

    Args:
        target: what for.
        defines: further `NAME=value` for the preprocessor (sizes of `limits.h`).
        firmware: folder of the sources, for a copy that was changed.

    Raises:
        BuildError: there is no compiler, or it refused.

    Cost: 1 to 5 seconds the first time; reading all sources after that.
    """
    if why := available(target):
        raise BuildError(f"asked to build the firmware as {target.value}: {why}")
    recipe = _RECIPES[target]
    sources = [*sorted(path.name for path in firmware.glob("*.c")), *recipe.sources]
    script = _SCRIPTS.get(target)
    flags = [
        *_STRICT,
        *recipe.flags,
        *(f"-D{define}" for define in defines),
        *("-I.", "-Iports/common"),
        *(("-T", script) if script else ()),
    ]
    place = _cache() / f"{target.name.lower()}-{_key(recipe.compiler, [*flags, *sources], firmware)}{recipe.suffix}"
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / place.name
        command = [recipe.compiler, *flags, *sources, *_LINK, "-o", str(made)]
        done = subprocess.run(command, cwd=firmware, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{recipe.compiler} refused the firmware ({target.value}):\n{done.stderr[-4000:]}")
        made.rename(place)  # at once: another process may build the same
    return place


def _cache() -> Path:
    told = os.environ.get("HWSIM_CACHE")
    return (Path(told) if told else Path.home() / ".cache" / "hwsim") / "firmware"


def _key(compiler: str, words: list[str], firmware: Path) -> str:
    """Hash over sources, flags and the compiler's version."""
    digest = hashlib.sha256("\0".join(words).encode())
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    digest.update(version.stdout.encode())
    for path in sorted(firmware.rglob("*")):
        if path.suffix in {".c", ".h", ".ld"}:
            digest.update(f"{path.relative_to(firmware)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
