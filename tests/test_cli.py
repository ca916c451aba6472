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
from hwsim.cli.options import METHOD_NAMES
from hwsim.cli.verdict import Interrupted
from hwsim.verdict import METHODS, from_json
from hwsim.verdict.record import SERIES

HWSIM = [sys.executable, "-c", "import sys; from hwsim.cli import main; sys.exit(main())", "verdict"]
TINY = ["--task", "digits", "--units", "8", "--horizon", "6", "--warmup", "2", "--batch", "8", "--every", "2"]


def hwsim(*options, **keywords):
    return subprocess.run([*HWSIM, *map(str, options)], capture_output=True, text=True, timeout=600, **keywords)


def test_the_parser_knows_the_methods():
    assert METHOD_NAMES == METHODS


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
        assert run.keys() == {"method", "seed", "step", *SERIES, "rho_at", "diverged_at", "seconds"}
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
        (["--methods", "ep,nonsense"], "unknown method 'nonsense'; choose from bptt, "),
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
def test_bad_options_are_refused_by_name(options, sentence, capsys):
    assert sentence in refused(capsys, *options)


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

    monkeypatch.setattr("hwsim.cli.verdict._run_all", interrupted)
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
