"""What a verdict is made of, and `verdict.json`, schema 1.

    Metrics     one evaluation of one run
    MethodRun   all evaluations of one method from one seed: `run.append(step, metrics)` gives a longer run
    Verdict     the runs, what they were run with, and what they show

    to_json(verdict) -> text        from_json(text) -> verdict

The JSON is strict: it has no NaN and no Infinity. A figure of an evaluation that is not finite (an infinite loss, a
cosine with a zero gradient) is written as null and comes back as NaN, so infinities do not survive the round trip as
such; every finite figure comes back bit for bit. `diverged_at` says by itself that a run diverged, whatever it shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, NoReturn, TypeAlias, final

from hwsim.contracts.errors import InputError

SCHEMA = 1

METHODS = ("bptt", "equilibrium_adjoint", "ep", "ep_homeostat", "finite_horizon_ep")
"""The methods of schema 1, in the order in which they are shown."""

Choice: TypeAlias = Literal["a", "b", "undecided"]
"""What the runs show: see `hwsim.verdict.decision`."""


@final
@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One evaluation on the fixed validation batch. NaN where a figure could not be had.

    Args:
        loss_deployed: L(z_T), task units (nats for cross-entropy), mean over samples.
        loss_long: L after a relaxation of 20 T steps.
        residual_deployed: |F| at z_T, rms over units, mean over samples; state units per time constant.
        residual_long: the same after 20 T steps.
        rho_mean: spectral radius of D = I + eps J at z*, mean over samples, dimensionless.
        rho_max: its maximum over samples.
        adjoint_certificate: fraction of samples, 0..1, on which the equilibrium adjoint is certified:
            `|J^T lam + c| / |c| < 1e-6` at the refined equilibrium.
        cosine_to_bptt: cosine of this method's gradient to BPTT's.
        cosine_to_transpose: cosine of this method's gradient to the transpose relaxation's.
    """

    loss_deployed: float
    loss_long: float
    residual_deployed: float
    residual_long: float
    rho_mean: float
    rho_max: float
    adjoint_certificate: float
    cosine_to_bptt: float
    cosine_to_transpose: float


SERIES = tuple(field.name for field in fields(Metrics))
"""The figures that a run holds one of per evaluation."""


@final
@dataclass(frozen=True, kw_only=True)
class MethodRun:
    """One method trained from one seed, evaluated as it went. The series are as in `Metrics`, one entry per `step`.

    Args:
        method: one of `METHODS`.
        seed: of the initial weights and of everything drawn on the way; runs are paired by it.
        step: [K] training step of each evaluation, >= 0, strictly rising.
        rho_at: where rho is taken: at the refined equilibrium.
        diverged_at: the training step at which the run was seen to diverge; None if it did not.
        seconds: wall-clock time of the run, s.

    Raises:
        InputError: an unknown method, series of different lengths, steps that do not rise, a certificate outside 0..1.
    """

    method: str
    seed: int
    step: tuple[int, ...] = ()
    loss_deployed: tuple[float, ...] = ()
    loss_long: tuple[float, ...] = ()
    residual_deployed: tuple[float, ...] = ()
    residual_long: tuple[float, ...] = ()
    rho_mean: tuple[float, ...] = ()
    rho_max: tuple[float, ...] = ()
    rho_at: Literal["z_star"] = "z_star"
    adjoint_certificate: tuple[float, ...] = ()
    cosine_to_bptt: tuple[float, ...] = ()
    cosine_to_transpose: tuple[float, ...] = ()
    diverged_at: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        who = f"run {self.method!r}, seed {self.seed}"
        if self.method not in METHODS:
            raise InputError(f"{who}: asked for one of the methods {', '.join(METHODS)}; found {self.method!r}")
        if self.rho_at != "z_star":
            raise InputError(f"{who}: asked for rho_at 'z_star'; found {self.rho_at!r}")
        for name in SERIES:
            if (found := len(self.series(name))) != len(self.step):
                raise InputError(f"{who}: asked for {len(self.step)} entries of {name}, one per step; found {found}")
        if any(step < 0 for step in self.step) or any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise InputError(f"{who}: asked for steps >= 0 that rise; found {list(self.step)}")
        if wrong := [value for value in self.adjoint_certificate if value < 0.0 or value > 1.0]:
            raise InputError(f"{who}: asked for adjoint_certificate as fractions of samples, 0..1; found {wrong[0]}")
        if self.diverged_at is not None and self.diverged_at < 0:
            raise InputError(f"{who}: asked for a diverged_at >= 0 or none; found {self.diverged_at}")
        if not (math.isfinite(self.seconds) and self.seconds >= 0.0):
            raise InputError(f"{who}: asked for seconds >= 0; found {self.seconds}")

    def series(self, name: str) -> tuple[float, ...]:
        """[K] the figure `name` of `SERIES`, one entry per evaluation."""
        values: tuple[float, ...] = getattr(self, name)
        return values

    def append(self, step: int, metrics: Metrics) -> MethodRun:
        """This run with one evaluation more; this run itself stays as it is.

        Raises:
            InputError: `step` does not lie after the last one.
        """
        grown = {name: (*self.series(name), float(getattr(metrics, name))) for name in SERIES}
        return replace(self, step=(*self.step, int(step)), **grown)  # type: ignore[arg-type]


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was run and what it shows: the content of `verdict.json`.

    Args:
        text_sha256: hash of the text that was trained on, 64 hexadecimal digits; None where the task has no text.
        settings: everything that the runs were run with, JSON values only.
        runs: each (method, seed) once.
        decision: "a" | "b" | "undecided", by `hwsim.verdict.decision.decide`.
        reason: why, in plain sentences with their numbers.

    Raises:
        InputError: a hash that is none, the same method and seed twice, an unknown decision.
    """

    text_sha256: str | None
    settings: Mapping[str, object]
    runs: tuple[MethodRun, ...]
    decision: Choice
    reason: str

    def __post_init__(self) -> None:
        digest = self.text_sha256
        if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
            raise InputError(f"text_sha256: asked for 64 lower-case hexadecimal digits or none; found {digest!r}")
        if self.decision not in ("a", "b", "undecided"):
            raise InputError(f"decision: asked for 'a', 'b' or 'undecided'; found {self.decision!r}")
        refuse_repeats(self.runs)


def refuse_repeats(runs: Iterable[MethodRun]) -> None:
    """Raise InputError where two runs have the same method and seed."""
    seen: set[tuple[str, int]] = set()
    for run in runs:
        if (key := (run.method, run.seed)) in seen:
            raise InputError(
                f"runs: asked for each method and seed once; found {run.method} with seed {run.seed} twice"
            )
        seen.add(key)


def to_json(verdict: Verdict) -> str:
    """`verdict.json` as text, ending in a newline; ASCII, one line per series.

    Raises:
        InputError: `settings` holds something that JSON has no word for.
    """
    runs = ",\n".join(_lines(run_document(run), indent=2) for run in verdict.runs)
    top = {
        "schema": _dump(SCHEMA, "schema"),
        "text_sha256": _dump(verdict.text_sha256, "text_sha256"),
        "settings": _dump(verdict.settings, "settings"),
        "runs": f"[\n{runs}\n ]" if verdict.runs else "[]",
        "decision": _dump(verdict.decision, "decision"),
        "reason": _dump(verdict.reason, "reason"),
    }
    return "{\n" + ",\n".join(f' "{key}": {value}' for key, value in top.items()) + "\n}\n"


def run_document(run: MethodRun) -> dict[str, object]:
    """The run as an object of `verdict.json`, its figures as they are."""
    return {field.name: getattr(run, field.name) for field in fields(run)}


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
    document = _parse(text)
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
    entry = _object(value, where, tuple(field.name for field in fields(MethodRun)))
    if entry["rho_at"] != "z_star":
        _refuse(f"{where}.rho_at", "'z_star'", entry["rho_at"])
    diverged_at = entry["diverged_at"]
    series = {
        name: tuple(
            _figure(figure, f"{where}.{name}[{k}]") for k, figure in enumerate(_list(entry[name], f"{where}.{name}"))
        )
        for name in SERIES
    }
    return MethodRun(
        method=_string(entry["method"], f"{where}.method"),
        seed=_integer(entry["seed"], f"{where}.seed"),
        step=tuple(_integer(k, f"{where}.step") for k in _list(entry["step"], f"{where}.step")),
        diverged_at=None if diverged_at is None else _integer(diverged_at, f"{where}.diverged_at"),
        seconds=_figure(entry["seconds"], f"{where}.seconds"),
        **series,  # type: ignore[arg-type]
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


def _object(value: object, where: str, keys: tuple[str, ...]) -> dict[str, object]:
    if not isinstance(value, dict):
        _refuse(where, "an object", value)
    if missing := [key for key in keys if key not in value]:
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
