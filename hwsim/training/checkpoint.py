"""Saving a training state, whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.contracts.arrays import host
from hwsim.contracts.errors import ResumeError
from hwsim.contracts.needs import Cost
from hwsim.contracts.parameters import Parameters

from .optimiser import AdamState
from .trainer import TrainingState


def save_state(path: Path, state: TrainingState, notes: dict[str, Any]) -> None:
    """Write `state` and JSON-able `notes` to `path` (.npz), through a temporary file that replaces it at once.

    Raises:
        OSError: the folder cannot be written.
    """
    arrays = {
        **{f"theta/{name}": block for name, block in state.theta.items()},
        **{f"first/{name}": block for name, block in state.moments.first.items()},
        **{f"second/{name}": block for name, block in state.moments.second.items()},
        **{f"device/{name}": array for name, array in state.device.items()},
        **{f"free/{name}": block for name, block in (state.free or {}).items()},
    }
    header = {
        "step": state.step,
        "count": state.moments.count,
        "frozen": sorted(state.theta.frozen),
        "free_frozen": None if state.free is None else sorted(state.free.frozen),
        "cost": asdict(state.cost),
        "diverged": state.diverged,
        "notes": notes,
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            header=np.array(json.dumps(header)),
            allow_pickle=False,
            **{name: host(array) for name, array in arrays.items()},
        )
    os.replace(partial, path)


def load_state(path: Path) -> tuple[TrainingState, dict[str, Any]]:
    """Read what `save_state` wrote.

    Raises:
        ResumeError: the file is missing, broken, or not a training state.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            arrays = {name: stored[name] for name in stored.files if name != "header"}
        frozen, notes = header["frozen"], header["notes"]

        def group(prefix: str) -> dict[str, Any]:
            return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}

        # a state without a constraint, and any saved before there were some, has no free parameters
        free_frozen = header.get("free_frozen")
        moved = frozen if free_frozen is None else free_frozen
        first, second = group("first/"), group("second/")
        state = TrainingState(
            step=header["step"],
            theta=Parameters(group("theta/"), frozen=frozen),
            moments=AdamState(
                first=Parameters(first, frozen=first.keys() & moved),  # an optimiser without memory has no blocks
                second=Parameters(second, frozen=second.keys() & moved),
                count=header["count"],
            ),
            device=group("device/"),
            cost=Cost(**header["cost"]),
            diverged=header["diverged"],
            free=None if free_frozen is None else Parameters(group("free/"), frozen=free_frozen),
        )
    except FileNotFoundError:
        raise ResumeError(f"there is nothing to resume at {path}") from None
    except (KeyError, ValueError, TypeError, EOFError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise ResumeError(f"{path} is not a saved training state ({error}); delete it to start afresh") from None
    return state, notes
