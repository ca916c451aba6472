"""A user's own resistive network, read from JSON; whatever cannot be used is refused by its name in the file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import ROOM_TEMPERATURE
from hwsim.substrates.resistive import GROUND, Amplifier, Diode, IdealDiode, ResistiveNetwork, Shockley

_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,40}")
_REQUIRED = {"inputs", "nodes", "conductors"}
_OPTIONAL = {"diodes", "amplifiers", "time_constant"}


@final
@dataclass(frozen=True, kw_only=True)
class CircuitFile:
    """What the file says.

    Args:
        network: time constant 1 us where the file names none.
        parameters: block "g".
        inputs: [M] volt.
        nodes: [N] names.
        time_constant: second, None where the file names none.
    """

    network: ResistiveNetwork
    parameters: Parameters
    inputs: Float[Array, " M"]
    nodes: tuple[str, ...]
    time_constant: float | None


def read_circuit(path: Path) -> CircuitFile:
    """Read and check a circuit.

    Raises:
        InputError: the file cannot be read, is no JSON, or holds something that makes no circuit.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise InputError(f"cannot read the circuit {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the circuit {path} is not UTF-8 text") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"the circuit {path} is not JSON: {error}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    try:
        return _circuit(document)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _circuit(document: Any) -> CircuitFile:
    fields = _object("the circuit", document, required=_REQUIRED, optional=_OPTIONAL)
    sources, nodes = (_quantities(fields, name) for name in ("inputs", "nodes"))
    for name, value in sources.items():
        _number(f"inputs.{name}", value, "a voltage in volt", lambda v: True)
    for name, value in nodes.items():
        _number(f"nodes.{name}", value, "a capacitance in farad above 0", lambda v: v > 0)
    entries = _list("amplifiers", fields.get("amplifiers", []))
    amplifiers = [
        _object(f"amplifiers[{k}]", entry, required={"node", "output", "gain"}, optional={"current_gain"})
        for k, entry in enumerate(entries)
    ]
    names = [*nodes, *sources, *(amplifier["output"] for amplifier in amplifiers)]
    ends = {"ground": GROUND}
    for index, name in enumerate(names):
        if not (isinstance(name, str) and _NAME.fullmatch(name)) or name in ends:
            raise InputError(
                f"the name {name!r} cannot be used: names are up to 40 letters, digits and _ . + -, and differ from "
                f'each other and from "ground"'
            )
        ends[name] = index
    conductors = [
        _conductor(f"conductors[{k}]", e, ends) for k, e in enumerate(_list("conductors", fields["conductors"]))
    ]
    tau = fields.get("time_constant")
    if tau is not None:
        _number("time_constant", tau, "a time in second above 0", lambda v: v > 0)
    diodes = [_diode(f"diodes[{k}]", entry, ends) for k, entry in enumerate(_list("diodes", fields.get("diodes", [])))]
    try:
        network = ResistiveNetwork(
            units=len(nodes),
            inputs=len(sources),
            edges=tuple((a, b) for a, b, _ in conductors),
            capacitance=tuple(float(value) for value in nodes.values()),
            diodes=tuple(diodes),
            amplifiers=tuple(_amplifier(f"amplifiers[{k}]", each, nodes, ends) for k, each in enumerate(amplifiers)),
            time_constant=1e-6 if tau is None else float(tau),
        )
    except InputError as error:
        raise by_name(error, names) from None
    return CircuitFile(
        network=network,
        parameters=Parameters({"g": np.array([siemens for *_, siemens in conductors])}),
        inputs=np.array([float(value) for value in sources.values()]),
        nodes=tuple(nodes),
        time_constant=None if tau is None else float(tau),
    )


def by_name(error: InputError, names: Sequence[str]) -> InputError:
    """The same error, with what the numbers in it stand for."""
    return InputError(f"{error} (numbers: {', '.join(f'{number} is {name}' for number, name in enumerate(names))})")


def _conductor(where: str, entry: Any, ends: Mapping[str, int]) -> tuple[int, int, float]:
    if not (isinstance(entry, list) and len(entry) == 3):
        raise InputError(f'{where} must be ["one end", "other end", siemens]; found {_short(entry)}')
    a, b = (_end(f"{where}[{k}]", entry[k], ends) for k in (0, 1))
    _number(f"{where}[2]", entry[2], "a conductance in siemens of at least 0", lambda v: v >= 0)
    return a, b, float(entry[2])


def _diode(where: str, entry: Any, ends: Mapping[str, int]) -> Diode:
    kinds = {"saturation_current": {"ideality", "temperature"}, "conductance_on": {"threshold"}}
    kind = next((kind for kind in kinds if isinstance(entry, dict) and kind in entry), None)
    if kind is None:
        raise InputError(
            f"{where} must be an object with saturation_current (Shockley) or conductance_on (ideal); "
            f"found {_short(entry)}"
        )
    fields = _object(where, entry, required={"anode", "cathode", kind}, optional=kinds[kind])
    anode, cathode = (_end(f"{where}.{end}", fields[end], ends) for end in ("anode", "cathode"))

    def positive(name: str, unit: str, default: float = 0.0) -> float:
        value = fields.get(name, default)
        _number(f"{where}.{name}", value, f"a number{unit} above 0", lambda v: v > 0)
        return float(value)

    if kind == "conductance_on":
        threshold = fields.get("threshold", 0.0)
        _number(f"{where}.threshold", threshold, "a voltage in volt", lambda v: True)
        law: Shockley | IdealDiode = IdealDiode(
            conductance_on=positive("conductance_on", " in siemens"), threshold=float(threshold)
        )
    else:
        law = Shockley(
            saturation_current=positive("saturation_current", " in ampere"),
            ideality=positive("ideality", "", 1.0),
            temperature=positive("temperature", " in kelvin", ROOM_TEMPERATURE),
        )
    return Diode(anode=anode, cathode=cathode, law=law)


def _amplifier(where: str, fields: Mapping[str, Any], nodes: Mapping[str, Any], ends: Mapping[str, int]) -> Amplifier:
    if fields["node"] not in nodes:
        raise InputError(f"{where}.node must name one of the nodes {', '.join(nodes)}; found {_short(fields['node'])}")
    _number(f"{where}.gain", fields["gain"], "a number other than 0", lambda v: v != 0)
    reflected = fields.get("current_gain")
    if reflected is not None:
        _number(f"{where}.current_gain", reflected, "a number", lambda v: True)
    return Amplifier(
        node=ends[fields["node"]],
        gain=float(fields["gain"]),
        current_gain=None if reflected is None else float(reflected),
    )


def _end(where: str, name: Any, ends: Mapping[str, int]) -> int:
    if not (isinstance(name, str) and name in ends):
        raise InputError(f"{where} must name one of {', '.join(ends)}; found {_short(name)}")
    return ends[name]


def _number(where: str, value: Any, wanted: str, fits: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) < 1e300 and math.isfinite(value) and fits(value)):
        raise InputError(f"{where} must be {wanted}, finite; found {_short(value)}")


def _object(where: str, value: Any, *, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be an object with {', '.join(sorted(required))}; found {_short(value)}")
    if missing := required - value.keys():
        raise InputError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := value.keys() - required - optional:
        raise InputError(
            f"{where} has no field {', '.join(sorted(unknown))}; "
            f"its fields are {', '.join(sorted(required | optional))}"
        )
    return value


def _quantities(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields[name]
    if not (isinstance(value, dict) and value):
        raise InputError(f'{name} must be an object with at least one "name": number; found {_short(value)}')
    return value


def _list(where: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list; found {_short(value)}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"the name {next(n for n in names if names.count(n) > 1)!r} is given twice in one object")
    return fields


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
