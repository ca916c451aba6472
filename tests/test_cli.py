"""`hwsim verdict` as a user meets it: good input, bad input, and being interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwsim.cli import main
from hwsim.cli.main import _parser
from hwsim.cli.methods import compose, device_of, method_named, task_of
from hwsim.cli.options import METHOD_NAMES, setups_of
from hwsim.cli.rules import rule_named
from hwsim.cli.runner import Interrupted
from hwsim.contracts.errors import InputError
from hwsim.contracts.rule import Clipped, Scaled, Sum
from hwsim.learning_rules import ContractionHomeostat, CoupledLearning, EquilibriumPropagation, FiniteHorizonEP
from hwsim.reference import BPTT, EquilibriumAdjoint
from hwsim.substrates import LeakyNetwork
from hwsim.verdict import METHODS, MethodRun, from_json, run_method, sweep_from_json
from hwsim.verdict.record import SERIES

HWSIM = [sys.executable, "-c", "import sys; from hwsim.cli import main; sys.exit(main())", "verdict"]
TINY = ["--task", "digits", "--units", "8", "--horizon", "6", "--warmup", "2", "--batch", "8", "--every", "2"]


def hwsim(*options, **keywords):
    return subprocess.run([*HWSIM, *map(str, options)], capture_output=True, text=True, timeout=600, **keywords)


def test_the_parser_knows_the_methods():
    assert METHOD_NAMES == METHODS


def setups(*options):
    return setups_of(_parser().parse_args(["verdict", *map(str, options)]))


def settings(*options):
    (setup,) = setups(*options)
    return setup.settings


def test_the_five_methods_are_what_they_always_were():
    """What docs/evidence was made with, rule by rule."""
    digits, text = settings("--task", "digits"), settings("--task", "text")
    ep, finite = EquilibriumPropagation(nudge=1.0), FiniteHorizonEP(kick=1.0)
    expected = {"bptt": BPTT(), "equilibrium_adjoint": EquilibriumAdjoint(), "ep": ep, "finite_horizon_ep": finite}
    for name, rule in expected.items():
        assert method_named(name, digits).rule == rule
        assert method_named(name, digits).training == rule.clipped(1.0)
        assert method_named(name, text).training == rule
    for name in ("ep_homeostat", "ep+homeostat"):
        assert method_named(name, digits).rule == ep
        assert method_named(name, digits).training == ep.clipped(1.0) + 10.0 * ContractionHomeostat(target=-0.8)
        assert method_named(name, text).training == ep + 10.0 * ContractionHomeostat(target=-0.3)


def test_methods_are_sums_of_rules_with_the_settings_of_the_command():
    told = settings("--task", "digits", "--amplitude", 0.25, "--homeostat-weight", 3, "--homeostat-target=-0.5")
    held = ContractionHomeostat(target=-0.5)
    method = method_named("finite_horizon_ep+0.5*ep+homeostat", told)
    task = FiniteHorizonEP(kick=0.25) + 0.5 * EquilibriumPropagation(nudge=0.25)
    assert method.rule == task
    assert method.training == Sum((Clipped(rule=task, norm=1.0), Scaled(rule=held, weight=3.0)))
    assert method_named("homeostat+2*ep", told).training == Sum(
        (Clipped(rule=2.0 * EquilibriumPropagation(nudge=0.25), norm=1.0), Scaled(rule=held, weight=3.0))
    )
    assert method_named("ep+7*homeostat", told).training.terms[1] == Scaled(rule=held, weight=7.0)
    # a homeostat alone is what is compared and what trains
    assert method_named("homeostat", told).training == method_named("homeostat", told).rule == 3.0 * held
    # the nudge of coupled learning is a fraction, not a length
    assert method_named("coupled", told).rule == CoupledLearning()
    assert method_named("bptt+homeostat", told).training.kind.name == "REFERENCE"
    assert rule_named(" ep + 2 * homeostat ") == EquilibriumPropagation() + 2.0 * ContractionHomeostat()
    with pytest.raises(InputError, match=r"unknown method 'adam': there is no rule 'adam'; choose from .*bptt"):
        method_named("adam", told)


def test_conditions_are_the_cross_product_of_what_has_several_values():
    found = setups("--task", "digits", "--units", "8,16", "--adc-bits", "none,8", "--noise", 0.1)
    assert [setup.values for setup in found] == [
        {"units": 8, "adc_bits": None},
        {"units": 8, "adc_bits": 8},
        {"units": 16, "adc_bits": None},
        {"units": 16, "adc_bits": 8},
    ]
    assert [(s.settings.units, s.settings.adc_bits, s.settings.noise) for s in found] == [
        (8, None, 0.1),
        (8, 8, 0.1),
        (16, None, 0.1),
        (16, 8, 0.1),
    ]
    assert found[1].words == "units 8, ADC bits 8"
    assert found[2].slug == "units=16,adc_bits=none"
    assert setups()[0].values == {}


def test_each_seed_is_another_chip_where_there_is_mismatch():
    asked = settings("--task", "digits", "--units", 8, "--mismatch", 0.1, "--warmup", 0)
    chips = [device_of(LeakyNetwork.dense(8, 64), asked, seed=seed).chip for seed in (1, 2, 1)]
    assert np.array_equal(chips[0].rate, chips[2].rate)
    assert not np.array_equal(chips[0].rate, chips[1].rate)
    many = device_of(LeakyNetwork.dense(400, 64), asked, seed=1).chip
    assert np.std(np.log(many.gain["W"])) == pytest.approx(0.1, rel=0.02)
    assert np.std(np.log(many.rate)) == pytest.approx(0.1, rel=0.2)  # 400 units: 4 standard errors are 14 %
    assert not many.offset.any()
    composed = compose("ep", 1, task_of(asked), asked)
    for device in (composed.trainer.device, composed.evaluator.device):
        assert np.array_equal(device.chip.rate, chips[0].rate)


def test_what_is_saved_needs_no_start(tmp_path):
    """A finished run that is resumed gives the same record again, and does not even ask for its initial parameters."""
    asked = settings("--task", "digits", "--units", 8, "--warmup", 2, "--steps", 3, "--every", 2)
    begun = []

    def run(*, resume):
        composed = compose("ep", 1, task_of(asked), asked)

        def begin():
            begun.append(resume)
            return composed.begin()

        return run_method(
            MethodRun(method="ep", seed=1),
            trainer=composed.trainer,
            evaluator=composed.evaluator,
            begin=begin,
            steps=3,
            every=2,
            checkpoint=tmp_path / "ep-1.npz",
            resume=resume,
        )

    first, again = run(resume=False), run(resume=True)
    assert first == again
    assert begun == [False]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """All five methods on two seeds for a few steps."""
    out = tmp_path_factory.mktemp("tiny")
    done = hwsim(*TINY, "--steps", 4, "--seeds", "1,2", "--out", out / "v", "--noise", 0.01, "--adc-bits", 10)
    assert done.returncode == 0, done.stderr
    return out / "v", done


def test_a_run_prints_a_table_and_the_verdict_in_words(tiny):
    out, done = tiny
    for method in METHODS:
        assert method in done.stdout
    decision = json.loads((out / "verdict.json").read_text())["decision"]
    assert {"a": "(a)", "b": "(b)", "undecided": "Undecided"}[decision] in done.stdout
    assert str(out / "verdict.png") in done.stdout.replace("\n", "")
    assert (out / "verdict.png").read_bytes().startswith(b"\x89PNG")


def test_the_json_is_schema_1(tiny):
    out, _ = tiny
    document = json.loads((out / "verdict.json").read_text())
    assert document["schema"] == 1
    assert document["settings"]["noise"] == 0.01
    assert [(run["method"], run["seed"]) for run in document["runs"]] == [(m, s) for m in METHODS for s in (1, 2)]
    for run in document["runs"]:
        assert run["step"] == [0, 2, 4]
        assert run["rho_at"] == "z_star"
        assert run["diverged_at"] is None
        assert all(len(run[name]) == 3 for name in SERIES)
        assert run.keys() == {"method", "seed", "step", *SERIES, "rho_at", "diverged_at", "seconds", "kind", "update"}
        assert run["kind"] == ("reference" if run["method"] in ("bptt", "equilibrium_adjoint") else "local")
        # a batch of 8, free and (for all but the references) nudged or kicked twice; the homeostat adds two twins
        settles = {"bptt": 8, "equilibrium_adjoint": 8, "ep_homeostat": 40}.get(run["method"], 24)
        assert run["update"]["settles"] == settles
        assert run["update"]["seconds"] == pytest.approx(run["update"]["steps"] * 1e-7)
        assert all(0.0 <= accuracy <= 1.0 for accuracy in run["accuracy"])
    verdict = from_json((out / "verdict.json").read_text())
    # all methods start at the same point, and BPTT agrees with itself
    assert len({run.loss_deployed[0] for run in verdict.runs if run.seed == 1}) == 1
    assert all(abs(c - 1) < 1e-9 for run in verdict.runs if run.method == "bptt" for c in run.cosine_to_bptt)


def test_json_alone_on_stdout(tmp_path):
    options = [*TINY, "--steps", "2", "--methods", "bptt", "--out", str(tmp_path / "v")]
    done = hwsim(*options, "--json", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["method"] == "bptt"
    assert done.stdout == (tmp_path / "v" / "verdict.json").read_text()
    assert done.stderr == ""


def refused(capsys, *options):
    """Run in this process; bad input is one sentence on stderr, exit 2, and nothing on stdout."""
    try:
        code = main(["verdict", *map(str, options)])
    except SystemExit as exit:  # argparse's own refusals
        code = exit.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--methods", "ep,nonsense"], "unknown method 'nonsense': there is no rule 'nonsense'; choose from "),
        (["--methods", "ep+nonsense"], "there is no rule 'nonsense'; choose from "),
        (["--methods", "ep+"], "there is no rule ''; choose from "),
        (["--methods", "ep,"], "must be names with commas between them; found 'ep,'"),
        (["--methods", "many*ep"], "a rule is weighted by a finite number, as in 10*homeostat; found 'many'"),
        (["--methods", "nan*ep"], "a rule is weighted by a finite number, as in 10*homeostat; found 'nan'"),
        (["--noise", "0,0"], "--noise: must be values that differ; found 0,0"),
        (["--noise", "0,"], "--noise: must be a number; found ''"),
        (["--noise", "0,much"], "--noise: must be a number; found 'much'"),
        (["--mismatch", "-0.1"], "--mismatch: must be finite and not negative"),
        (["--adc-bits", "8,many"], "--adc-bits: must be a whole number; found 'many'"),
        (["--units", "64,0"], "--units: must be a whole number of at least 1; found 0"),
        (["--reference-device", "tpu"], "--reference-device: must be cpu, cuda or cuda:0 (1, 2, ...); found 'tpu'"),
        (["--reference-device", "cuda:99"], "asked for references on cuda:99; torch "),
        (["--engine", "abacus"], "--engine: must be fused, stepwise, torch, torch:cuda or torch:cuda:0; found "),
        (["--engine", "torch:cuda:99"], "--engine torch:cuda:99: asked for references on cuda:99; torch "),
        (["--methods", "ep,ep"], "name each method once"),
        (["--units", "0"], "--units: must be a whole number of at least 1; found 0"),
        (["--units", "many"], "--units: must be a whole number; found 'many'"),
        (["--steps", "-3"], "--steps: must not be negative; found -3"),
        (["--horizon", "1.5"], "--horizon: must be a whole number; found '1.5'"),
        (["--step-size", "nan"], "--step-size: must be finite and not negative; found nan"),
        (["--step-size", "0"], "--step-size: must be above zero"),
        (["--learning-rate", "inf"], "--learning-rate: must be finite"),
        (["--noise", "-0.1"], "--noise: must be finite and not negative"),
        (["--homeostat-target=0.1"], "--homeostat-target: must be finite and below zero; found 0.1"),
        (["--adc-bits", "99"], "--adc-bits: a converter has 1 to 24 bits; found 99"),
        (["--seeds", "1,1"], "--seeds: must be different numbers"),
        (["--seeds", "one"], "--seeds: must be a whole number; found 'one'"),
        (["--start", "elsewhere"], "--start: invalid choice"),
        (["--task", "chess"], "--task: invalid choice"),
    ],
)
def test_bad_options_are_refused_by_name(options, sentence, tmp_path, capsys):
    assert sentence in refused(
        capsys,
        *options,
        "--task",
        "digits",
        *(["--task", "chess"] if "chess" in options else []),
        "--out",
        tmp_path / "out",
    )
    assert not (tmp_path / "out").exists()


def test_a_rule_that_the_device_cannot_serve_is_refused_before_anything_runs(tmp_path, capsys):
    said = refused(capsys, *TINY, "--methods", "bptt,ep+2*ep_reciprocal", "--out", tmp_path / "out")
    assert "method ep+2*ep_reciprocal: EquilibriumPropagation needs reciprocal couplings" in said
    assert "Rules that would work on it: " in said
    assert "finite_horizon_ep" in said.split("would work on it: ")[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no text file"),
        (b"", "the text is empty"),
        (b" \n\t ", "the text is empty"),
        (b"too short", "the text is too short: 9 characters"),
        (b"a" * 1000, "1 symbols"),
        (b"fine until \xff here " * 50, "is not UTF-8 text: byte 11 is 0xff"),
    ],
    ids=["missing", "empty", "blank", "short", "one symbol", "not UTF-8"],
)
def test_bad_text_is_refused_before_anything_is_written(content, sentence, tmp_path, capsys):
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)
    assert sentence in refused(capsys, "--text", text, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_text(tmp_path, capsys):
    assert "cannot read the text file" in refused(capsys, "--text", tmp_path)


def test_an_unwritable_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write results to" in refused(capsys, *TINY, "--out", tmp_path / "file" / "out")


def test_results_are_never_lost_by_accident(tiny, capsys):
    out, _ = tiny
    before = (out / "verdict.json").read_text()
    assert "already holds results; add --resume" in refused(capsys, *TINY, "--steps", 4, "--out", out)
    said = refused(capsys, *TINY, "--steps", 4, "--seeds", "1,2", "--out", out, "--resume")
    assert "holds a run with other settings (adc_bits was 10, is None; noise was 0.01, is 0.0)" in said
    assert (out / "verdict.json").read_text() == before


def test_resuming_a_finished_run_changes_nothing(tiny):
    out, _ = tiny
    before = (out / "verdict.json").read_text()
    options = ["--seeds", "1,2", "--out", out, "--noise", 0.01, "--adc-bits", 10]
    done = hwsim(*TINY, "--steps", 4, *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert (out / "verdict.json").read_text() == before


def test_overwriting_replaces_all_that_was_there(tmp_path, monkeypatch, capsys):
    out = tmp_path / "v"
    (out / "runs").mkdir(parents=True)
    for name in ("settings.json", "verdict.json", "verdict.png", "runs/bptt-1.npz"):
        (out / name).write_text("old")

    def interrupted(*arguments, **options):
        raise Interrupted("before anything was measured")

    monkeypatch.setattr("hwsim.cli.verdict.run_all", interrupted)
    assert main(["verdict", *TINY, "--steps", "4", "--out", str(out), "--overwrite"]) == 130
    assert "before anything was measured" in capsys.readouterr().err
    # nothing of the old run is left that could be taken for the new one's
    assert sorted(path.name for path in out.rglob("*")) == ["runs", "settings.json"]
    assert json.loads((out / "settings.json").read_text())["task"] == "digits"


def test_a_run_that_diverges_is_a_result(tmp_path):
    options = ["--steps", 40, "--learning-rate", 1e200, "--methods", "bptt,finite_horizon_ep", "--out", tmp_path / "v"]
    done = hwsim(*TINY, *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for run in from_json((tmp_path / "v" / "verdict.json").read_text()).runs:
        assert run.diverged_at is not None


@pytest.mark.parametrize("start", ["random", "carry"])
def test_ctrl_c_saves_and_resume_goes_on_to_the_same_bits(start, tmp_path):
    options = [*TINY, "--steps", 200, "--horizon", 100, "--start", start, "--noise", 0.05, "--jobs", 2]
    options += ["--methods", "bptt,ep_homeostat,finite_horizon_ep", "--every", 20]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert hwsim(*options, "--out", whole).returncode == 0

    command = [*HWSIM, *map(str, options), "--out", str(parts)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr:
            if "step 20 of 200" in line:
                os.kill(running.pid, signal.SIGINT)
                break
        said = running.stderr.read()
    assert running.returncode == 130, said
    assert "the same command with --resume goes on" in said
    assert "Traceback" not in said
    assert not (parts / "verdict.json").exists()

    resumed = hwsim(*options, "--out", parts, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for run in sorted((whole / "runs").iterdir()):
        assert_same_bits(run, parts / "runs" / run.name)


def assert_same_bits(one: Path, other: Path):
    with np.load(one) as a, np.load(other) as b:
        assert sorted(a.files) == sorted(b.files)
        for name in a.files:
            if name != "header":
                np.testing.assert_array_equal(a[name], b[name], strict=True)
        first, second = (json.loads(str(stored["header"])) for stored in (a, b))
    for header in (first, second):
        header["notes"].pop("seconds")
    assert first == second


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two noise levels, three methods, one of them by the names of its rules."""
    out = tmp_path_factory.mktemp("swept") / "v"
    options = [*TINY, "--steps", 4, "--noise", "0,0.01", "--adc-bits", 10, "--out", out]
    options += ["--methods", "bptt,ep_homeostat,ep+10*homeostat"]
    done = hwsim(*options)
    assert done.returncode == 0, done.stderr
    return out, options, done


def test_a_sweep_runs_every_condition_in_one_folder(swept, tiny):
    out, _, done = swept
    sweep = sweep_from_json((out / "verdict.json").read_text())
    assert sweep.axes == {"noise": (0.0, 0.01)}
    for words in ("noise 0\n", "noise 0.01\n", "ep+10*homeostat", str(out / "verdict.png")):
        assert words in done.stdout
    for picture in (out / "verdict.png", out / "runs" / "noise=0.01" / "verdict.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    names = sorted(path.name for path in (out / "runs" / "noise=0").glob("*.npz"))
    assert names == ["bptt-1.npz", "ep+10%2Ahomeostat-1.npz", "ep_homeostat-1.npz"]
    assert json.loads((out / "settings.json").read_text())["noise"] == [0.0, 0.01]
    assert sweep.conditions[1].verdict.settings["noise"] == 0.01
    # a condition of a sweep is the run that the same command without the others makes
    alone = {run.method: run for run in from_json((tiny[0] / "verdict.json").read_text()).runs if run.seed == 1}
    for run in sweep.conditions[1].verdict.runs:
        same = alone[run.method.replace("+10*", "_")]
        assert (run.step, run.kind, run.update) == (same.step, same.kind, same.update)
        assert all(run.series(name) == same.series(name) for name in SERIES)
    quiet = sweep.conditions[0].verdict.runs[0]
    assert quiet.loss_deployed != alone["bptt"].loss_deployed


def test_resume_works_over_a_whole_sweep(swept, capsys):
    out, options, _ = swept
    before = json.loads((out / "verdict.json").read_text())
    (out / "runs" / "noise=0.01" / "bptt-1.npz").unlink()
    done = hwsim(*options, "--resume")
    assert done.returncode == 0, done.stderr
    after = json.loads((out / "verdict.json").read_text())
    for document in (before, after):
        for condition in document["conditions"]:
            for run in condition["runs"]:
                run.pop("seconds")
    assert after == before
    changed = [option if option != "0,0.01" else "0,0.02" for option in map(str, options)]
    assert "noise was [0.0, 0.01], is [0.0, 0.02]" in refused(capsys, *changed, "--resume")
