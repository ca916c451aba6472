"""Every snippet of the pages runs, and prints what the page shows beside it."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from hwsim.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*sorted((DOCS / "physics").rglob("*.md")), DOCS / "choosing-a-rule.md", DOCS / "audit.md", DOCS / "engines.md"]
BLOCK = re.compile(
    r'(?P<ngspice><!-- needs ngspice -->\n)?^```(?P<kind>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<body>.*?)^```$',
    re.M | re.S,
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def last_place(number):
    """What one unit in the last digit shown is worth."""
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def check_output(shown, printed):
    """The same words, and numbers that differ by at most one in the last digit shown: sums may run in another order."""
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (shown, printed)]
    assert words[0] == words[1]
    for wanted, found in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        assert abs(float(wanted) - float(found)) <= 1.01 * last_place(wanted), (wanted, found, printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS).with_suffix("")))
def test_snippets_run_and_print_what_is_shown(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["ngspice"] and shutil.which("ngspice") is None:
            pytest.skip("the rest of the page needs ngspice (Debian: apt-get install ngspice)")
        match block["kind"]:
            case "python":
                capsys.readouterr()
                exec(compile(block["body"], str(page), "exec"), names)
            case "sh":
                capsys.readouterr()
                for line in block["body"].splitlines():
                    if line.startswith(("hwsim spice", "hwsim rules")):
                        assert main(shlex.split(line, comments=True)[1:]) == 0
            case "json" if block["file"]:
                Path(block["file"]).write_text(block["body"], encoding="utf-8")
            case "text":
                check_output(block["body"], capsys.readouterr().out)


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ("rho 0.968", "rho  0.969", True),
        ("rho 0.968", "rho 0.970", False),
        ("rho 0.968", "tau 0.968", False),
        ("1.2e-05 V", "1.3e-05 V", True),
        ("1.2e-05 V", "1.2e-06 V", False),
        ("1 2", "1 2 3", False),
    ],
)
def test_numbers_may_differ_in_their_last_digit_only(shown, printed, fits):
    if fits:
        check_output(shown, printed)
    else:
        with pytest.raises(AssertionError):
            check_output(shown, printed)


def test_links_and_pictures_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), (page.name, target)


def test_pictures_are_light():
    sizes = {path.name: path.stat().st_size for path in (DOCS / "physics").glob("*.png")}
    assert sizes
    assert max(sizes.values()) < 80_000, sizes
