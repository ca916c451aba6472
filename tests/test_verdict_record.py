"""The record of a verdict: runs that hold together, and verdict.json there and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.verdict.decision import conclude, decide
from hwsim.verdict.document import from_json, sweep_from_json, sweep_to_json, to_json
from hwsim.verdict.record import KINDS, METHODS, SERIES, Condition, MethodRun, Metrics, Sweep, UpdateCost, Verdict


def verdict_of(methods: tuple[str, ...] = METHODS) -> Verdict:
    """Each method from seed 1, evaluated 41 times; EP diverged."""
    runs = []
    for method in methods:
        run = MethodRun(method=method, seed=1, diverged_at=2300 if method == "ep" else None, seconds=30.0)
        for step in range(0, 4001, 100):
            run = run.append(step, Metrics(**dict.fromkeys(SERIES, 0.5)))
        runs.append(run)
    return conclude(text_sha256="0f" * 32, settings={"steps": 4000, "start": "rest"}, runs=runs)


# --- The record ---------------------------------------------------------------------------------------------------


def test_append_leaves_the_run_as_it_was() -> None:
    metrics = Metrics(**dict.fromkeys(SERIES, 0.5))
    empty = MethodRun(method="ep", seed=1)
    one = empty.append(0, metrics)
    assert empty.step == ()
    assert one.step == (0,)
    assert all(one.series(name) == (0.5,) for name in SERIES)
    with pytest.raises(InputError, match="steps >= 0 that rise"):
        one.append(0, metrics)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "adam, sgd"}, "a method's name .* such as bptt .*found 'adam, sgd'"),
        ({"method": ""}, "a method's name"),
        ({"kind": "remote"}, "a kind of local, model_assisted, reference or none; found 'remote'"),
        ({"step": (0, 1)}, "2 entries of loss_deployed, one per step; found 1"),
        ({"rho_max": (0.1, 0.2)}, "1 entries of rho_max, one per step; found 2"),
        ({"step": (-1,)}, "steps >= 0"),
        ({"adjoint_certificate": (1.5,)}, "0..1; found 1.5"),
        ({"diverged_at": -5}, "diverged_at >= 0"),
        ({"seconds": math.nan}, "seconds >= 0"),
    ],
)
def test_a_run_must_hold_together(change: dict[str, Any], words: str) -> None:
    run = MethodRun(method="ep", seed=1).append(0, Metrics(**dict.fromkeys(SERIES, 0.5)))
    with pytest.raises(InputError, match=words):
        dataclasses.replace(run, **change)


def test_a_verdict_must_hold_together() -> None:
    verdict = verdict_of()
    with pytest.raises(InputError, match="64 lower-case hexadecimal"):
        dataclasses.replace(verdict, text_sha256="abc")
    with pytest.raises(InputError, match="each method and seed once"):
        dataclasses.replace(verdict, runs=verdict.runs * 2)


# --- verdict.json -------------------------------------------------------------------------------------------------


def test_the_json_has_the_keys_of_schema_1() -> None:
    document = json.loads(to_json(verdict_of()))
    assert list(document) == ["schema", "text_sha256", "settings", "runs", "decision", "reason"]
    assert document["schema"] == 1
    assert list(document["runs"][0]) == [
        "method",
        "seed",
        "step",
        "loss_deployed",
        "loss_long",
        "residual_deployed",
        "residual_long",
        "rho_mean",
        "rho_max",
        "rho_at",
        "adjoint_certificate",
        "cosine_to_bptt",
        "cosine_to_transpose",
        "accuracy",
        "diverged_at",
        "seconds",
        "kind",
        "update",
    ]
    assert document["runs"][0]["rho_at"] == "z_star"
    assert [run["method"] for run in document["runs"]] == list(METHODS)
    assert document["runs"][2]["diverged_at"] == 2300


FLOAT = st.floats(allow_nan=True, allow_infinity=True)
EVALUATION = st.tuples(st.integers(1, 1000), *[st.floats(0.0, 1.0) if "certif" in name else FLOAT for name in SERIES])
KEYS = st.tuples(st.sampled_from((*METHODS, "ep+10*homeostat", "eligibility_uoro")), st.integers(-3, 3))
COST = st.none() | st.builds(
    UpdateCost,
    **dict.fromkeys(("settles", "steps", "reads", "writes", "seconds"), st.floats(0.0, 1e9)),
    joules=st.none() | st.floats(0.0, 1.0),
)
REST = st.tuples(
    st.lists(EVALUATION, max_size=4),
    st.none() | st.integers(0, 10**6),
    st.floats(0.0, 1e9),
    st.none() | st.sampled_from(KINDS),
    COST,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    runs=st.dictionaries(KEYS, REST, max_size=4),
    settings=st.dictionaries(st.text(), JSON, max_size=3),
    digest=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    decision=st.sampled_from(["a", "b", "undecided"]),
    reason=st.text(),
)
def test_round_trip(runs: Any, settings: Any, digest: Any, decision: Any, reason: str) -> None:
    built = []
    for (method, seed), (evaluations, diverged_at, seconds, kind, update) in runs.items():
        run = MethodRun(method=method, seed=seed, diverged_at=diverged_at, seconds=seconds, kind=kind, update=update)
        step = 0
        for gap, *figures in evaluations:
            step += gap
            run = run.append(step, Metrics(**dict(zip(SERIES, figures, strict=True))))
        built.append(run)
    verdict = Verdict(text_sha256=digest, settings=settings, runs=tuple(built), decision=decision, reason=reason)
    text = to_json(verdict)
    back = from_json(text)
    assert text.isascii()
    assert to_json(back) == text
    assert (back.text_sha256, back.decision, back.reason) == (digest, decision, reason)
    assert back.settings == settings
    for mine, theirs in zip(built, back.runs, strict=True):
        assert (mine.method, mine.seed, mine.step) == (theirs.method, theirs.seed, theirs.step)
        assert (mine.diverged_at, mine.seconds) == (theirs.diverged_at, theirs.seconds)
        assert (mine.kind, mine.update) == (theirs.kind, theirs.update)
        for name in SERIES:
            for x, y in zip(mine.series(name), theirs.series(name), strict=True):
                assert x == y if math.isfinite(x) else math.isnan(y)
    assert repr(decide(back.runs)) == repr(decide(built))


def test_figures_that_are_not_finite_are_null() -> None:
    metrics = Metrics(**{**dict.fromkeys(SERIES, 0.5), "loss_deployed": math.inf, "cosine_to_bptt": math.nan})
    run = MethodRun(method="ep", seed=1).append(0, metrics)
    verdict = Verdict(text_sha256=None, settings={"rate": math.inf}, runs=(run,), decision="undecided", reason="-")
    text = to_json(verdict)
    document = json.loads(text)
    assert document["runs"][0]["loss_deployed"] == [None]
    assert document["settings"] == {"rate": None}
    assert "NaN" not in text
    assert "Infinity" not in text
    assert math.isnan(from_json(text).runs[0].loss_deployed[0])


def test_settings_must_be_json() -> None:
    verdict = verdict_of()
    for settings, words in (({"a": [{"b": object()}]}, r"settings.a\[0\].b: .*found object"), ({"a": {1: 2}}, "keys")):
        with pytest.raises(InputError, match=words):
            to_json(dataclasses.replace(verdict, settings=settings))


def _change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
        target: Any = document
        for key in way:
            target = target[key]
        if value is KeyError:
            del target[last]
        else:
            target[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_change("schema", 2), "asked for schema 1; found 2"),
        (_change("schema", KeyError), "'schema' is missing"),
        (_change("schema", True), "schema: asked for an integer; found True"),
        (_change("reason", KeyError), "'reason' is missing"),
        (_change("mood", 1), "found 'mood' as well"),
        (_change("runs", {}), "runs: asked for a list; found {}"),
        (_change("settings", []), r"settings: asked for an object; found \[\]"),
        (_change("text_sha256", 5), "text_sha256: asked for a string; found 5"),
        (_change("text_sha256", "5"), "64 lower-case hexadecimal digits or none; found '5'"),
        (_change("decision", "c"), "'a', 'b' or 'undecided'; found 'c'"),
        (_change("reason", None), "reason: asked for a string; found None"),
        (_change("runs.0", 3), r"runs\[0\]: asked for an object; found 3"),
        (_change("runs.0.seed", 1.0), r"runs\[0\].seed: asked for an integer; found 1.0"),
        (_change("runs.0.method", "../sgd"), "a method's name .*found '../sgd'"),
        (_change("runs.0.kind", 3), r"runs\[0\].kind: asked for a string; found 3"),
        (
            _change("runs.0.update", {"settles": 1}),
            r"runs\[0\].update: asked for the keys settles, .*'steps' is missing",
        ),
        (
            _change("runs.0.update", dict.fromkeys(("settles", "steps", "reads", "writes", "seconds", "joules"), -1)),
            "asked for settles >= 0; found -1",
        ),
        (_change("runs.0.rho_at", "z_T"), r"runs\[0\].rho_at: asked for 'z_star'; found 'z_T'"),
        (_change("runs.0.rho_max", ["x"]), r"runs\[0\].rho_max\[0\]: asked for a number or null; found 'x'"),
        (_change("runs.0.rho_max", [False]), r"asked for a number or null; found False"),
        (_change("runs.0.rho_max", []), "41 entries of rho_max, one per step; found 0"),
        (_change("runs.0.rho_max", [10**400]), "a number that a float can hold"),
        (_change("runs.0.step", [0.5]), r"runs\[0\].step: asked for an integer; found 0.5"),
        (_change("runs.0.diverged_at", "no"), r"diverged_at: asked for an integer; found 'no'"),
        (_change("runs.0.seconds", None), "seconds >= 0; found nan"),
        (_change("runs.0.loss_long", KeyError), r"runs\[0\]: .*'loss_long' is missing"),
    ],
)
def test_bad_documents_are_refused_with_the_place(change: Callable[[dict[str, Any]], None], words: str) -> None:
    document = json.loads(to_json(verdict_of(("bptt",))))
    change(document)
    with pytest.raises(InputError, match=f"^verdict.json: .*{words}"):
        from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "asked for JSON; found ''"),
        ("[1, 2", "asked for JSON"),
        ("[]", r"the document: asked for an object; found \[\]"),
        ('{"schema": NaN}', "strict JSON; found NaN"),
        ('{"schema": 1e999}', "strict JSON; found 1e999"),
        ('{"schema": 1, "schema": 1}', "found 'schema' twice"),
        ("[" * 100_000, "asked for JSON"),
    ],
)
def test_bad_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^verdict.json: .*{words}"):
        from_json(text)


def test_what_came_later_may_be_missing() -> None:
    """Documents of schema 1 from before there were accuracy, kind and cost are still read."""
    document = json.loads(to_json(verdict_of()))
    for run in document["runs"]:
        for key in ("accuracy", "kind", "update"):
            del run[key]
    read = from_json(json.dumps(document))
    for run in read.runs:
        assert (run.kind, run.update) == (None, None)
        assert len(run.accuracy) == len(run.step)
        assert all(map(math.isnan, run.accuracy))


def test_the_published_documents_are_read() -> None:
    for path in sorted((Path(__file__).parents[1] / "docs" / "evidence").glob("*.json")):
        text = path.read_text()
        if "axes" in json.loads(text):
            assert all(len(each.verdict.runs) > 0 for each in sweep_from_json(text).conditions), path
        else:
            assert from_json(text).decision in ("a", "b"), path


# --- A sweep ------------------------------------------------------------------------------------------------------


def sweep_of(**axes: tuple[Any, ...]) -> Sweep:
    points = [dict(zip(axes, point, strict=True)) for point in product(*axes.values())]
    return Sweep(axes=axes, conditions=tuple(Condition(values=point, verdict=verdict_of()) for point in points))


def test_a_sweep_there_and_back() -> None:
    sweep = sweep_of(adc_bits=(None, 8), noise=(0.0, 0.01, 0.03))
    text = sweep_to_json(sweep)
    document = json.loads(text)
    assert list(document) == ["schema", "axes", "conditions"]
    assert document["axes"] == {"adc_bits": [None, 8], "noise": [0.0, 0.01, 0.03]}
    assert document["conditions"][4]["condition"] == {"adc_bits": 8, "noise": 0.01}
    # each condition is the document of a verdict
    first = {key: value for key, value in document["conditions"][0].items() if key != "condition"}
    assert first == json.loads(to_json(sweep.conditions[0].verdict))
    assert sweep_to_json(sweep_from_json(text)) == text


def test_a_sweep_must_hold_together() -> None:
    sweep = sweep_of(noise=(0.0, 0.1))
    with pytest.raises(InputError, match="needs the conditions"):
        dataclasses.replace(sweep, conditions=sweep.conditions[::-1])
    with pytest.raises(InputError, match="axes with values that differ"):
        dataclasses.replace(sweep, axes={"noise": (0.0, 0.0)})
    with pytest.raises(InputError, match="axes with values that differ"):
        Sweep(axes={}, conditions=())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_change("schema", 3), "asked for schema 1; found 3"),
        (_change("axes", []), r"axes: asked for an object; found \[\]"),
        (_change("axes.noise", 0.1), "axes.noise: asked for a list; found 0.1"),
        (_change("axes.noise", [[0.0], [0.1]]), "verdict.json: "),
        (_change("conditions.0", 5), r"conditions\[0\]: asked for an object with its condition; found 5"),
        (_change("conditions.0.condition", {"noise": 7.0}), "needs the conditions"),
        (_change("conditions.1.reason", KeyError), "'reason' is missing"),
    ],
)
def test_bad_sweeps_are_refused_with_the_place(change: Callable[[dict[str, Any]], None], words: str) -> None:
    document = json.loads(sweep_to_json(sweep_of(noise=(0.0, 0.1))))
    change(document)
    with pytest.raises(InputError, match=words):
        sweep_from_json(json.dumps(document))
