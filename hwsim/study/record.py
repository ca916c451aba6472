"""What a study found, and the JSON that holds it.

    to_json(study) -> text        from_json(text) -> study

One line per row. The JSON is strict: a figure that is not finite is null and comes back as NaN; finite figures come
back bit for bit. A study that was interrupted is written with `"complete": false` and can be gone on with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias, final

from hwsim.contracts.errors import InputError

from .horizon import Budgeted
from .noise import NoisyEstimate
from .sweeps import Approach, Damping, Nudge, Residual, Truncation

SCHEMA = 1

Figures: TypeAlias = Truncation | Nudge | Residual | Damping | Approach | NoisyEstimate | Budgeted

STUDIES: Mapping[str, type[Figures]] = {
    "t2": Truncation,
    "radius": Nudge,
    "residual": Residual,
    "damping": Damping,
    "approach": Approach,
    "noise": NoisyEstimate,
    "horizon": Budgeted,
}
"""Name -> what its rows hold."""


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Args:
        seed: of the initial weights and of everything drawn on the way.
        after: training updates before it.
        figures: what was found.
    """

    seed: int
    after: int
    figures: Figures

    @property
    def value(self) -> float:
        """Where the knob stood; the training update where the knob is training itself."""
        knob = self.figures.knob
        return float(getattr(self.figures, knob)) if knob else float(self.after)


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """The content of NAME.json.

    Args:
        name: one of `STUDIES`.
        settings: everything that it was run with, JSON values only.
        rows: in the order in which they were measured.
        diverged: seed -> training update at which its gradient was no longer finite; later points are missing.
        complete: whether nothing is left to measure.

    Raises:
        InputError: an unknown name, or a row of another study.
    """

    name: str
    settings: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    diverged: Mapping[int, int]
    complete: bool = False

    def __post_init__(self) -> None:
        if self.name not in STUDIES:
            raise InputError(f"there is no study {self.name!r}; choose from {', '.join(STUDIES)}")
        kind = STUDIES[self.name]
        if wrong := [row for row in self.rows if not isinstance(row.figures, kind)]:
            raise InputError(f"study {self.name} has rows of {kind.__name__}; found {type(wrong[0].figures).__name__}")


def to_json(study: Study) -> str:
    """The study as text, ending in a newline; ASCII."""
    rows = ",\n".join("  " + _dump({"seed": row.seed, "after": row.after} | asdict(row.figures)) for row in study.rows)
    top = {
        "schema": _dump(SCHEMA),
        "study": _dump(study.name),
        "complete": _dump(study.complete),
        "settings": _dump(dict(study.settings)),
        "diverged": _dump({str(seed): step for seed, step in study.diverged.items()}),
        "rows": f"[\n{rows}\n ]" if rows else "[]",
    }
    return "{\n" + ",\n".join(f' "{key}": {value}' for key, value in top.items()) + "\n}\n"


def from_json(text: str) -> Study:
    """The study that `to_json` wrote.

    Raises:
        InputError: it is no JSON, of another schema, or does not hold a study; the message says where.
    """
    try:
        held = json.loads(text, parse_constant=_refused)
        if held["schema"] != SCHEMA:
            raise InputError(f"asked for a study of schema {SCHEMA}; found {held['schema']!r}")
        kind = STUDIES[held["study"]]
        return Study(
            name=held["study"],
            settings=held["settings"],
            rows=tuple(_row(kind, row) for row in held["rows"]),
            diverged={int(seed): int(step) for seed, step in held["diverged"].items()},
            complete=bool(held["complete"]),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no study ({type(error).__name__}: {error})") from None


_READ = {"int": int, "float": float, "str": str}


def _row(kind: type[Figures], held: Mapping[str, Any]) -> Row:
    names = {field.name: str(field.type) for field in fields(kind)}
    if held.keys() != names.keys() | {"seed", "after"}:
        raise InputError(f"a row of {kind.__name__} has seed, after, {', '.join(names)}; found {', '.join(held)}")
    figures: dict[str, Any] = {
        name: math.nan if held[name] is None else _READ[type_](held[name]) for name, type_ in names.items()
    }
    return Row(seed=int(held["seed"]), after=int(held["after"]), figures=kind(**figures))


def _dump(value: Any) -> str:
    return json.dumps(_strict(value), allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return value


def _refused(word: str) -> float:
    raise InputError(f"a study is strict JSON; found {word} (a figure that is not finite is null)")
