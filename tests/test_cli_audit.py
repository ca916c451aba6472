"""`hwsim audit` as a user meets it: a table, advice, a picture, JSON, and bad input."""

import json

import pytest
from PIL import Image

from hwsim.audit import ANALOG, Audit
from hwsim.cli import main
from hwsim.cli.audit_figure import WIDTH, figure
from hwsim.cli.audit_options import MACHINES
from hwsim.devices import PRESETS

SMALL = [
    "--task", "digits", "--units", "12", "--horizon", "4", "--step-size", "0.3", "--train", "3", "--batch", "5",
    "--repeats", "2", "--start", "rest", "--quiet",
]  # fmt: skip


def hwsim(capsys, *options):
    """Run in this process: (status, stdout, stderr)."""
    try:
        code = main(["audit", *SMALL, *map(str, options)])
    except SystemExit as exit:  # argparse's own refusals
        code = exit.code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def found(capsys, *options):
    code, out, err = hwsim(capsys, "--json", "-", *options)
    assert (code, err) == (0, "")
    return Audit.from_json(out)


def names(audit):
    return [rung.name for rung in audit.rungs]


def test_the_parser_knows_the_presets():
    assert tuple(PRESETS) == MACHINES


def test_a_run_prints_a_table_and_advice_and_saves_both(capsys, tmp_path):
    out = tmp_path / "here" / "audit"
    code, said, err = hwsim(capsys, "--noise", 0.05, "--adc-bits", 8, "--out", out)
    assert (code, err) == (0, "")
    assert "finite_horizon_ep on noise 0.05, adc bits 8: digits, 12 units, T = 4, eps = 0.3" in said
    audit = Audit.from_json((out / "audit.json").read_text())
    assert audit.table in said
    assert " ".join(audit.advice.split()) in " ".join(said.split())
    assert names(audit)[-2:] == ["ADC", "thermal noise"]
    assert audit.settings["noise"] == 0.05
    assert audit.settings["train"] == 3
    with Image.open(out / "audit.png") as picture:
        assert picture.width == WIDTH
    assert hwsim(capsys, "--noise", 0.05, "--adc-bits", 8, "--out", out)[0] == 0  # and again over it


def test_the_same_command_prints_the_same(capsys):
    options = ("--noise", 0.05, "--read-noise", 0.01, "--mismatch", 0.02, "--seed", 4, "--json", "-")
    first, second = (hwsim(capsys, *options)[1] for _ in range(2))
    assert first == second
    assert first != hwsim(capsys, *options, "--seed", 5)[1]


@pytest.mark.parametrize("preset", MACHINES)
def test_every_preset(preset, capsys):
    audit = found(capsys, "--preset", preset, "--rule", "ep_dyadic", "--wait", 10)
    assert 0.0 < audit.total[ANALOG].cosine <= 1.0
    assert ("DAC" in names(audit)) == (preset != "ideal")


def test_what_a_rule_is_told(capsys):
    few = found(capsys, "--rule", "ep_dyadic", "--nudge-steps", 1)
    many = found(capsys, "--rule", "ep_dyadic", "--nudge-steps", 40)
    truncated = [next(r for r in audit.rungs if "truncated" in r.name).shares[ANALOG].bias for audit in (few, many)]
    assert truncated[0] > 0.1 > truncated[1]
    weak, strong = (found(capsys, "--read-noise", 0.01, "--amplitude", a).total[ANALOG].variance for a in (0.1, 1.0))
    assert weak > 10 * strong
    assert found(capsys, "--read-noise", 0.01, "--amplitude", 0.1, "--average", 8).total[ANALOG].variance < weak


@pytest.mark.parametrize("options", [("--task", "text"), ("--start", "random"), ("--start", "carry"), ("--train", 0)])
def test_other_deployments(options, capsys):
    audit = found(capsys, "--adc-bits", 10, "--dac-bits", 10, "--asymmetry", 0.01, *options)
    assert audit.total[ANALOG].cosine > 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rule", "magic"), "no rule 'magic'"),
        (("--rule", "homeostat"), "cannot be audited"),
        (("--rule", "ep + 10*homeostat"), "one by one"),
        (("--preset", "ideal", "--noise", "0.1"), "leave out --noise"),
        (("--preset", "abacus"), "invalid choice"),
        (("--rule", "finite_horizon_ep", "--nudge-steps", "3"), "leave out --nudge-steps"),
        (("--batch", "100000"), "held-out samples"),
        (("--repeats", "0"), "at least 1"),
        (("--seed", str(2**32)), "below 2^32"),
        (("--text", "x"), "leave it out"),
        (("--task", "text", "--text", "/nowhere/at all"), "no text file"),
        (("--rule", "ep_reciprocal"), "reciprocal"),
        (("--out", "/dev/null/x"), "cannot write results"),
        (("--step-size", "1000", "--horizon", "200"), "diverges"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence, capsys):
    code, out, err = hwsim(capsys, *options)
    assert code == 2
    assert out == ""
    assert sentence in err


def test_progress_is_shown(capsys):
    options = [option for option in SMALL if option != "--quiet"]
    assert main(["audit", *options]) == 0
    err = capsys.readouterr().err
    assert "training:" in err
    assert "audit:" in err
    assert err.count("done") == 2


def test_the_picture_shows_what_was_found(capsys):
    audit = found(capsys, "--noise", 0.1, "--mismatch", 0.05, "--rule", "ep_dyadic")
    sheet = figure(audit)
    artists = {artist.get_gid(): artist for artist in sheet.findobj() if artist.get_gid()}
    drawn = [rung for rung in audit.rungs if f"bias:{rung.name}" in artists]
    assert drawn == [rung for rung in audit.rungs if rung.shares[ANALOG].bias > 1e-4]
    for rung in drawn:
        bar = artists[f"bias:{rung.name}"]
        assert bar.get_x() + bar.get_width() == pytest.approx(rung.shares[ANALOG].bias)
    assert "noise:thermal noise" in artists
    assert "noise:total" in artists
    shown = " ".join(artists["advice"].get_text().split())
    assert shown == audit.advice
    assert {text.get_text() for text in sheet.findobj(match=lambda a: hasattr(a, "get_text"))} >= set(names(audit))


def test_a_picture_of_nothing(capsys):
    """A gradient that is no number leaves a picture without bars, not an error."""
    audit = found(capsys, "--repeats", 1)
    document = json.loads(audit.to_json())
    for share in [*(rung["shares"] for rung in document["rungs"]), document["total"]]:
        for values in share.values():
            values.update(dict.fromkeys(values))
    assert figure(Audit.from_json(json.dumps(document))).axes
