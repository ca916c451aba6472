"""Timing fresh processes: how long a command takes from its start to its end."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .timing import Timing


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, and what it adds to the environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


def interleaved(commands: Mapping[str, Command], rounds: int) -> dict[str, Timing]:
    """Run every command once in each round, and once before the first, unmeasured, to warm the file cache."""
    samples: dict[str, list[tuple[float, float, str]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            sample = run(command)
            if turn:
                samples[name].append(sample)
    return {
        name: Timing(wall=tuple(sample[0] for sample in taken), cpu=tuple(sample[1] for sample in taken))
        for name, taken in samples.items()
    }


def run(command: Command) -> tuple[float, float, str]:
    """(wall seconds, CPU seconds of it and its children, what it printed). Python keeps its byte code, whatever the
    environment says: compiling it anew in every process is no user's way.

    Raises:
        RuntimeError: it failed; the message holds what it wrote to stderr.
    """
    wall, cpu = time.perf_counter(), _cpu_of_children()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command.arguments, env={**environment, **command.environment}, capture_output=True, text=True, check=False
    )
    spent = time.perf_counter() - wall, _cpu_of_children() - cpu
    if done.returncode:
        raise RuntimeError(f"{' '.join(command.arguments)} ended with {done.returncode}:\n{done.stderr}")
    return *spent, done.stdout


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
