"""What the README shows runs."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
CODE = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_library_example_trains(capsys):
    assert len(CODE[0].strip().splitlines()) <= 15
    names: dict[str, object] = {}
    exec(compile(CODE[0], str(README), "exec"), names)
    loss, _, unit = capsys.readouterr().out.partition(" ")
    assert unit.endswith("s of device time\n")
    # it has learned: below a third of chance
    assert float(loss) < names["task"].chance / 3


def test_the_machine_example_prints_what_is_shown(capsys):
    exec(compile(CODE[1], str(README), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    (shown,) = re.findall(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line, real in zip(shown.splitlines(), printed, strict=False):
        assert real.startswith(line.removesuffix("..."))
    assert len(printed) > len(shown.splitlines())


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
