"""`verdict.json`, schema 1: the record of a verdict, or of a sweep of them, as strict JSON and back.

    to_json(verdict) -> text            from_json(text) -> verdict
    sweep_to_json(sweep) -> text        sweep_from_json(text) -> sweep

The JSON has no NaN and no Infinity. A figure of an evaluation that is not finite (an infinite loss, a cosine with a
zero gradient) is written as null and comes back as NaN, so infinities do not survive the round trip as such; every
finite figure comes back bit for bit. `diverged_at` says by itself that a run diverged, whatever it shows. What schema 1
gained later (`accuracy`, `kind`, `update` of a run) may be missing from a document and is then not known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import NoReturn

from hwsim.contracts.errors import InputError

from .record import SERIES, Condition, MethodRun, Sweep, UpdateCost, Value, Verdict

SCHEMA = 1

_LATER = frozenset({"accuracy", "kind", "update"})
"""Keys of a run that schema 1 gained later."""


def to_json(verdict: Verdict) -> str:
    """`verdict.json` as text, ending in a newline; ASCII, one line per series.

    Raises:
        InputError: `settings` holds something that JSON has no word for.
    """
    return _document(_verdict(verdict)) + "\n"


def _verdict(verdict: Verdict) -> dict[str, str]:
    """Key -> JSON of a verdict's document."""
    runs = ",\n".join(_lines(run_document(run), indent=2) for run in verdict.runs)
    return {
        "schema": _dump(SCHEMA, "schema"),
        "text_sha256": _dump(verdict.text_sha256, "text_sha256"),
        "settings": _dump(verdict.settings, "settings"),
        "runs": f"[\n{runs}\n ]" if verdict.runs else "[]",
        "decision": _dump(verdict.decision, "decision"),
        "reason": _dump(verdict.reason, "reason"),
    }


def _document(top: Mapping[str, str]) -> str:
    """The object whose values are JSON already, one key a line."""
    return "{\n" + ",\n".join(f' "{key}": {value}' for key, value in top.items()) + "\n}"


def sweep_to_json(sweep: Sweep) -> str:
    """`verdict.json` of a sweep: its axes, and per condition its values beside the document of its verdict.

    Raises:
        InputError: as `to_json`.
    """
    conditions = [
        _document({"condition": _dump(each.values, "condition"), **_verdict(each.verdict)}) for each in sweep.conditions
    ]
    top = {
        "schema": _dump(SCHEMA, "schema"),
        "axes": _dump(sweep.axes, "axes"),
        "conditions": "[\n" + ",\n".join(conditions) + "\n]",
    }
    return _document(top) + "\n"


def sweep_from_json(text: str) -> Sweep:
    """The sweep that `sweep_to_json` wrote; null figures become NaN.

    Raises:
        InputError: as `from_json`.
    """
    document = _parse(text)
    top = _object(document, "the document", ("schema", "axes", "conditions"))
    if top["schema"] != SCHEMA:
        raise InputError(f"verdict.json: asked for schema {SCHEMA}; found {_show(top['schema'])}")
    axes, conditions = top["axes"], []
    if not isinstance(axes, dict):
        _refuse("axes", "an object", axes)
    for index, entry in enumerate(_list(top["conditions"], "conditions")):
        if not (isinstance(entry, dict) and isinstance(entry.get("condition"), dict)):
            _refuse(f"conditions[{index}]", "an object with its condition", entry)
        values: dict[str, Value] = entry["condition"]
        rest = {key: value for key, value in entry.items() if key != "condition"}
        conditions.append(Condition(values=values, verdict=_verdict_from(rest)))
    held = {name: tuple(_list(values, f"axes.{name}")) for name, values in axes.items()}
    try:
        return Sweep(axes=held, conditions=tuple(conditions))  # type: ignore[arg-type]  # values of JSON's own types
    except (InputError, TypeError) as error:
        raise InputError(f"verdict.json: {error}") from None


def run_document(run: MethodRun) -> dict[str, object]:
    """The run as an object of `verdict.json`, its figures as they are."""
    document: dict[str, object] = {field.name: getattr(run, field.name) for field in fields(run)}
    return document | {"update": None if run.update is None else asdict(run.update)}


def _lines(document: Mapping[str, object], *, indent: int) -> str:
    pad = " " * indent
    body = ",\n".join(f'{pad} "{key}": {_dump(value, key)}' for key, value in document.items())
    return f"{pad}{{\n{body}\n{pad}}}"


def _dump(value: object, where: str) -> str:
    return json.dumps(_strict(value, where), allow_nan=False)


def _strict(value: object, where: str) -> object:
    """`value` in JSON's own types, with null for every float that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return [_strict(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise InputError(f"{where}: asked for keys that are strings; found {wrong[0]!r}")
        return {key: _strict(entry, f"{where}.{key}") for key, entry in value.items()}
    raise InputError(f"{where}: asked for a number, string, list, mapping or none; found {type(value).__name__}")


def from_json(text: str) -> Verdict:
    """The verdict that `to_json` wrote as `text`; null figures become NaN.

    Raises:
        InputError: the text is not strict JSON, its schema is another one, a key is missing or unknown, a value has the
            wrong type, or the values do not make a verdict. The message names the place, what was asked and what was
            found.
    """
    return _verdict_from(_parse(text))


def _verdict_from(document: object) -> Verdict:
    """The verdict of a document that was parsed. Raises InputError naming the place."""
    if isinstance(document, dict) and document.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"verdict.json: asked for schema {SCHEMA}; found {_show(document['schema'])}")
    top = _object(document, "the document", ("schema", *(field.name for field in fields(Verdict))))
    _integer(top["schema"], "schema")
    settings = top["settings"]
    if not isinstance(settings, dict):
        _refuse("settings", "an object", settings)
    decision = _string(top["decision"], "decision")
    if decision not in ("a", "b", "undecided"):
        _refuse("decision", "'a', 'b' or 'undecided'", decision)
    runs = _list(top["runs"], "runs")
    try:
        return Verdict(
            text_sha256=None if top["text_sha256"] is None else _string(top["text_sha256"], "text_sha256"),
            settings=settings,
            runs=tuple(run_from(entry, f"runs[{index}]") for index, entry in enumerate(runs)),
            decision=decision,  # type: ignore[arg-type]
            reason=_string(top["reason"], "reason"),
        )
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith("verdict.json") else f"verdict.json: {message}") from None


def run_from(value: object, where: str) -> MethodRun:
    """The run that `run_document` wrote; null figures become NaN. Raises InputError naming the place."""
    entry = _object(value, where, tuple(field.name for field in fields(MethodRun)), later=_LATER)
    steps = tuple(_integer(k, f"{where}.step") for k in _list(entry["step"], f"{where}.step"))
    if entry["rho_at"] != "z_star":
        _refuse(f"{where}.rho_at", "'z_star'", entry["rho_at"])
    diverged_at = entry["diverged_at"]
    entry.setdefault("accuracy", [None] * len(steps))
    series = {
        name: tuple(
            _figure(figure, f"{where}.{name}[{k}]") for k, figure in enumerate(_list(entry[name], f"{where}.{name}"))
        )
        for name in SERIES
    }
    return MethodRun(
        method=_string(entry["method"], f"{where}.method"),
        seed=_integer(entry["seed"], f"{where}.seed"),
        step=steps,
        diverged_at=None if diverged_at is None else _integer(diverged_at, f"{where}.diverged_at"),
        seconds=_figure(entry["seconds"], f"{where}.seconds"),
        kind=None if entry.get("kind") is None else _string(entry["kind"], f"{where}.kind"),
        update=None if entry.get("update") is None else _update(entry["update"], f"{where}.update"),
        **series,  # type: ignore[arg-type]
    )


def _update(value: object, where: str) -> UpdateCost:
    entry = _object(value, where, tuple(field.name for field in fields(UpdateCost)))
    joules = entry.pop("joules")
    return UpdateCost(
        **{name: _figure(figure, f"{where}.{name}") for name, figure in entry.items()},
        joules=None if joules is None else _figure(joules, f"{where}.joules"),
    )


def _parse(text: str) -> object:
    def constant(word: str) -> NoReturn:
        raise InputError(f"verdict.json: asked for strict JSON; found {word} (a figure that is not finite is null)")

    def number(word: str) -> float:
        value = float(word)
        return value if math.isfinite(value) else constant(word)

    def pairs(entries: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(entries)
        if len(found) < len(entries):
            names = [key for key, _ in entries]
            twice = next(key for key in names if names.count(key) > 1)
            raise InputError(f"verdict.json: asked for each key once; found {twice!r} twice in one object")
        return found

    try:
        document: object = json.loads(text, parse_constant=constant, parse_float=number, object_pairs_hook=pairs)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"verdict.json: asked for JSON; found {_show(text)} ({error})") from None
    return document


def _object(
    value: object, where: str, keys: tuple[str, ...], *, later: frozenset[str] = frozenset()
) -> dict[str, object]:
    if not isinstance(value, dict):
        _refuse(where, "an object", value)
    if missing := [key for key in keys if key not in value and key not in later]:
        raise InputError(f"verdict.json: {where}: asked for the keys {', '.join(keys)}; {missing[0]!r} is missing")
    if unknown := [key for key in value if key not in keys]:
        raise InputError(f"verdict.json: {where}: asked for the keys {', '.join(keys)}; found {unknown[0]!r} as well")
    return value


def _list(value: object, where: str) -> list[object]:
    return value if isinstance(value, list) else _refuse(where, "a list", value)


def _string(value: object, where: str) -> str:
    return value if isinstance(value, str) else _refuse(where, "a string", value)


def _integer(value: object, where: str) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else _refuse(where, "an integer", value)


def _figure(value: object, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(where, "a number or null", value)
    try:
        return float(value)
    except OverflowError:
        _refuse(where, "a number that a float can hold", value)


def _refuse(where: str, asked: str, found: object) -> NoReturn:
    raise InputError(f"verdict.json: {where}: asked for {asked}; found {_show(found)}")


def _show(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 40 else f"{words[:37]}..."
