"""`hwsim study` as a user meets it: every study once, bad input, and being interrupted."""

import argparse
import contextlib
import io
import json
import math

import numpy as np
import pytest

from hwsim.cli import main
from hwsim.cli.methods import task_of
from hwsim.cli.study_figure import figure
from hwsim.cli.study_options import BY_VALUE, STUDIES, add_study_options, study_settings_of
from hwsim.cli.study_stage import Stage, chosen_rules, nudged_run
from hwsim.cli.study_table import COLUMNS, KNOBS, table
from hwsim.contracts.plan import Phase
from hwsim.contracts.rule import Kind
from hwsim.study import STUDIES as KINDS, from_json

TINY = ["--task", "digits", "--units", "8", "--horizon", "6", "--warmup", "2", "--batch", "8", "--samples", "12"]
TINY += ["--after", "0,2", "--seeds", "1,2", "--draws", "2", "--budget", "60"]
VALUES = {
    "t2": ["--values", "2,5", "--free-steps", "40,6"],
    "radius": ["--values", "0.1,3", "--nudged-steps", "6,9"],
    "residual": ["--values", "2,6,60"],
    "damping": ["--values", "0.5,1,2"],
    "approach": [],
    "noise": ["--values", "0,0.1", "--rules", "ep,finite_horizon_ep"],
    "horizon": ["--values", "3,6,40", "--rules", "ep"],
}


def study(capsys, *options):
    """Run in this process: (status, stdout, stderr)."""
    try:
        code = main(["study", *map(str, options)])
    except SystemExit as exit:  # argparse's own refusals
        code = exit.code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def command(name, out, *more):
    return [name, *TINY, *VALUES[name], "--out", out, *more]


def held(out, name):
    return from_json((out / f"{name}.json").read_text())


def test_the_options_know_the_studies():
    assert STUDIES.keys() == KINDS.keys() == VALUES.keys() == COLUMNS.keys()
    for name, kind in KINDS.items():
        assert bool(kind.knob) == bool(STUDIES[name].values) == (name in KNOBS)
        figures = {field for field, _, _ in COLUMNS[name]}
        assert figures <= set(kind.__dataclass_fields__)
    assert STUDIES.keys() >= BY_VALUE


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every study once, with what it said."""
    out, said = tmp_path_factory.mktemp("whole"), {}
    for name in STUDIES:
        with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
            code = main(["study", *map(str, command(name, out))])
        assert code == 0, stderr.getvalue()
        said[name] = (stdout.getvalue(), stderr.getvalue())
    return out, said


@pytest.fixture
def undrawn(monkeypatch):
    """Studies without their picture, which takes longer than the rest."""
    monkeypatch.setattr("hwsim.cli.study_figure.draw", lambda study, path: path.write_bytes(b""))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_measures_saves_and_draws(name, whole):
    folder, said = whole
    out, err = said[name]
    assert "seed 2:" in err
    assert "done" in err
    assert f"{name}.png" in out.replace("\n", "")
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    found = held(folder, name)
    assert found.complete
    assert {(row.seed, row.after) for row in found.rows} == {(1, 0), (1, 2), (2, 0), (2, 2)}
    if STUDIES[name].values:
        asked = [float(value) for value in VALUES[name][1].split(",")]
        assert sorted({row.value for row in found.rows}) == asked
        assert found.settings["values"] == asked
    assert found.settings["methods"] == ["ep"]


def test_nothing_but_results_is_left_in_the_folder(whole):
    assert {path.name for path in whole[0].iterdir()} == {
        f"{name}.{ext}" for name in STUDIES for ext in ("json", "png")
    }


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["noise"])
def test_the_same_command_gives_the_same_bits(name, whole, tmp_path, capsys):
    code, _, err = study(capsys, *command(name, tmp_path, "--quiet"))
    assert (code, err) == (0, "")
    assert (tmp_path / f"{name}.json").read_text() == (whole[0] / f"{name}.json").read_text()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["residual", "horizon"])
def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on_to_the_same_bits(name, whole, tmp_path, capsys, monkeypatch):
    complete = (whole[0] / f"{name}.json").read_text()
    measure, calls = Stage.measure, []

    def interrupted(self, value):
        calls.append(value)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, value)

    monkeypatch.setattr(Stage, "measure", interrupted)
    code, out, err = study(capsys, *command(name, tmp_path))
    assert code == 130
    assert out == ""
    assert "--resume goes on" in err
    left = held(tmp_path, name)
    assert not left.complete
    assert len(left.rows) > 0
    monkeypatch.setattr(Stage, "measure", measure)
    assert "already holds results; add --resume" in study(capsys, *command(name, tmp_path))[2]
    for _ in range(2):  # the second time nothing is left to do
        code, _, err = study(capsys, *command(name, tmp_path, "--resume"))
        assert code == 0, err
        assert (tmp_path / f"{name}.json").read_text() == complete
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json", f"{name}.png"}


@pytest.mark.usefixtures("undrawn")
def test_training_is_taken_up_where_it_was_left(tmp_path, capsys, monkeypatch):
    """Not from the start: a resumed run advances as far as is left."""
    from hwsim.training import Trainer

    advance, steps = Trainer.advance, []

    def counted(self, state):
        steps.append(state.step)
        if len(steps) == 40:
            raise KeyboardInterrupt
        return advance(self, state)

    monkeypatch.setattr("hwsim.cli.study.SAVE_STEPS", 10)
    monkeypatch.setattr(Trainer, "advance", counted)
    options = ["approach", *TINY, "--after", "50", "--seeds", "1", "--warmup", "0", "--out", tmp_path]
    assert study(capsys, *options)[0] == 130
    assert study(capsys, *options, "--resume")[0] == 0
    assert steps[:40] == list(range(40))
    assert steps[40:] == list(range(30, 50))


@pytest.mark.usefixtures("undrawn")
def test_a_carried_start_and_an_imperfect_readout(tmp_path, capsys):
    options = [*TINY, "--seeds", 1, "--start", "carry", "--noise", 0.05, "--adc-bits", 8, "--quiet", "--out", tmp_path]
    for name in ("t2", "residual", "horizon"):
        code, _, err = study(capsys, name, *options, *VALUES[name])
        assert code == 0, err
        assert any(math.isfinite(row.figures.residual) for row in held(tmp_path, name).rows)


@pytest.mark.usefixtures("undrawn")
def test_the_smallest_machine(tmp_path, capsys):
    options = [
        *TINY,
        "--seeds",
        1,
        "--after",
        1,
        "--units",
        1,
        "--horizon",
        1,
        "--samples",
        1,
        "--batch",
        1,
        "--quiet",
        "--out",
        tmp_path,
    ]
    for name in ("t2", "damping", "approach", "horizon"):
        code, _, err = study(capsys, name, *options, *VALUES[name])
        assert code == 0, err


@pytest.mark.usefixtures("undrawn")
def test_a_training_that_diverges_ends_the_seed_and_says_so(tmp_path, capsys):
    options = [*TINY, "--method", "bptt", "--learning-rate", 1e200, "--after", "0,30", "--out", tmp_path]
    code, out, _ = study(capsys, "approach", *options)
    assert code == 0
    assert "Seed 1 diverged at update" in out
    found = held(tmp_path, "approach")
    assert set(found.diverged) == {1, 2}
    assert {row.after for row in found.rows} == {0}
    assert found.complete
    assert study(capsys, "approach", *options, "--resume")[0] == 0


def test_all_local_rules_with_a_loss_are_looked_at_unless_told():
    parser = argparse.ArgumentParser()
    add_study_options(parser)
    settings = study_settings_of(parser.parse_args(["noise", *TINY, "--out", "anywhere"]))
    rules = chosen_rules(settings, task_of(settings.machine))
    assert {"ep", "ep_dyadic", "finite_horizon_ep"} <= rules.keys()
    # without a loss, and what the device cannot serve
    assert not {"homeostat", "ep_reciprocal"} & rules.keys()
    assert all(rule.kind is Kind.LOCAL for rule in rules.values())


def refused(capsys, *options):
    code, out, err = study(capsys, *options)
    assert code == 2
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["t3"], "invalid choice: 't3'"),
        (["t2", "--values", "10,x"], "--values of study t2 are nudged steps t2: must be a whole number; found 'x'"),
        (["t2", "--values", "0"], "must be a whole number of at least 1; found 0"),
        (["t2", "--values", "5,5"], "must be values that differ"),
        (["radius", "--values", "0"], "must be above zero"),
        (["damping", "--values", "-1"], "must be finite and not negative"),
        (["noise", "--values", "nan"], "must be finite and not negative"),
        (["approach", "--values", "1"], "study approach takes no --values; say with --after when it measures"),
        (["t2", "--after", "-1"], "--after: must not be negative"),
        (["t2", "--seeds", "1,1"], "--seeds: must be values that differ"),
        (["t2", "--seeds", str(2**32)], "--seeds: must be below 2^32"),
        (["t2", "--rules", "ep"], "study t2 looks at EP alone; leave out --rules"),
        (["noise", "--rules", "ep,ep"], "name each rule once"),
        (["noise", "--rules", "nonsense"], "there is no rule 'nonsense'; choose from"),
        (["noise", "--rules", "ep_reciprocal"], "needs reciprocal couplings"),
        (["noise", "--draws", "1"], "a variance takes at least two draws; found --draws 1"),
        (["t2", "--method", "nonsense"], "unknown method 'nonsense'"),
        (["t2", "--task", "text", "--text", "/nowhere/at/all"], "there is no text file"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, sentence, tmp_path, capsys):
    assert sentence in refused(capsys, *TINY[:10], *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_results_are_never_lost_by_accident(tmp_path, capsys):
    options = command("residual", tmp_path, "--quiet")
    assert study(capsys, *options)[0] == 0
    before = (tmp_path / "residual.json").read_text()
    assert "already holds results" in refused(capsys, *options)
    said = refused(capsys, *options, "--resume", "--horizon", 7)
    assert "holds a study with other settings" in said
    assert "horizon was 6, is 7" in said
    assert (tmp_path / "residual.json").read_text() == before
    assert study(capsys, *options, "--overwrite", "--seeds", "5")[0] == 0
    assert {row.seed for row in held(tmp_path, "residual").rows} == {5}
    (tmp_path / "residual.json").write_text("{}")
    assert "cannot resume" in refused(capsys, *options, "--resume")
    # another study finds room in the same folder
    assert study(capsys, *command("damping", tmp_path, "--quiet"))[0] == 0
    assert (tmp_path / "residual.json").exists()


def test_an_unwritable_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write results to" in refused(capsys, *command("t2", tmp_path / "file" / "out"))


def test_the_tracked_run_is_the_response_of_corrected_ep(tmp_path, capsys, monkeypatch):
    points = []

    def seen(self, value):
        points.append(self.point())
        raise KeyboardInterrupt

    monkeypatch.setattr(Stage, "measure", seen)
    assert study(capsys, *command("t2", tmp_path, "--quiet"))[0] == 130
    point = points[0]
    (free,) = point.settle(Phase(steps=500))
    response = nudged_run(1e-4)(point, free.final, 4000)[-1]
    signal = point.task.signal(free.final, point.batch.targets, point.theta)
    back = point.device.model.cotangent(response, free.final, point.batch.inputs, point.theta)
    assert np.abs(back + signal).max() < 1e-6 * np.abs(signal).max()  # J^T a = -c


def test_pictures_show_every_curve(whole):
    for name in STUDIES:
        found = held(whole[0], name)
        drawn = {line.get_gid() for ax in figure(found).axes for line in ax.lines}
        if name in ("t2", "radius", "damping", "residual"):
            assert {gid.split(":")[1] for gid in drawn if gid and gid.count(":") == 2} == {"0", "2"}
        if name in ("noise", "horizon"):
            assert {row.figures.rule for row in found.rows} == {gid.split(":")[2] for gid in drawn if gid}
        assert table(found).row_count > 0


def test_an_empty_study_can_be_shown():
    from hwsim.study import Study

    for name in STUDIES:
        settings = {"draws": 2, "samples": 1, "budget": 1, "noise": 0.0, "methods": ["ep"], "horizon": 1}
        nothing = Study(name=name, settings=settings, diverged={}, complete=True)
        assert figure(nothing).axes
        assert table(nothing).row_count == 0


def test_help_names_every_study(capsys):
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    said = capsys.readouterr().out
    for name, preset in STUDIES.items():
        assert f"  {name}" in said
        assert preset.about in said


def test_the_document_is_plain_json(whole):
    document = json.loads((whole[0] / "horizon.json").read_text())
    assert document["schema"] == 1
    assert document["study"] == "horizon"
    # 60 steps do not pay for a sample of EP at T = 40: its figures are null
    poor = [row for row in document["rows"] if row["rule"] == "ep" and row["horizon"] == 40]
    assert [row["samples"] for row in poor] == [0] * 4
    assert all(row["cosine"] is None for row in poor)
