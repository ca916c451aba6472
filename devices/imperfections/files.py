"""Lists of imperfections as JSON values, so that a chip can be kept beside a run and told on a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hwsim.contracts.errors import InputError

from .contract import Imperfection

KIND = "kind"
"""The key that names the class; the others are its fields."""


def to_json(imperfections: Sequence[Imperfection]) -> list[dict[str, Any]]:
    """The imperfections as JSON values: `{"kind": "ThermalNoise", "sigma": 0.05, ...}`."""
    return [_plain(one) for one in imperfections]


def from_json(values: Sequence[Mapping[str, Any]], kinds: Mapping[str, type]) -> tuple[Imperfection, ...]:
    """What `to_json` wrote.

    Args:
        values: one mapping for each imperfection; a field that is left out takes its default.
        kinds: name -> class of all that may be named, the values inside imperfections too.

    Raises:
        InputError: a kind or a field that does not exist, a field that is missing, or a value out of range; the message
            names the fields that there are.
    """
    if isinstance(values, Mapping | str) or not isinstance(values, Sequence):
        raise InputError(f"imperfections are a list of mappings; found {type(values).__name__}")
    made = tuple(_made(value, kinds) for value in values)
    for one in made:
        if not isinstance(one, Imperfection):
            raise InputError(f"{type(one).__name__} stands inside imperfections and is none by itself")
    return made


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        inside = {each.name: _plain(getattr(value, each.name)) for each in fields(value) if each.init}
        return {KIND: type(value).__name__, **inside}
    if isinstance(value, tuple | list | frozenset):
        return [_plain(one) for one in (sorted(value) if isinstance(value, frozenset) else value)]
    return value


def _made(value: Any, kinds: Mapping[str, type]) -> Any:
    if isinstance(value, Mapping):
        if KIND not in value:
            raise InputError(f'an imperfection names its class as "{KIND}"; found only {sorted(value)}')
        kind = kinds.get(value[KIND]) if isinstance(value[KIND], str) else None
        if kind is None:
            raise InputError(f"there is no imperfection {value[KIND]!r}; there are {', '.join(sorted(kinds))}")
        known = [each.name for each in fields(kind) if each.init]
        if unknown := value.keys() - {KIND, *known}:
            raise InputError(f"{kind.__name__} has no field {sorted(unknown)}; it has {', '.join(known) or 'none'}")
        told = {name: _made(one, kinds) for name, one in value.items() if name != KIND}
        try:
            return kind(**told)
        except TypeError as error:
            raise InputError(f"{kind.__name__} cannot be made of {sorted(told)}: {error}") from None
    if isinstance(value, list):
        return tuple(_made(one, kinds) for one in value)
    return value
