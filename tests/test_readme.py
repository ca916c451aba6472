"""What the README shows runs."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_library_example_trains(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 15
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    loss, _, unit = capsys.readouterr().out.partition(" ")
    assert unit.endswith("s of device time\n")
    # it has learned: below a third of chance
    assert float(loss) < names["task"].chance / 3


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
