"""`hwsim rules`: from what a machine can do to the rules that it can run."""

import json

import pytest

from hwsim.cli.main import main
from hwsim.cli.rules_options import CAPABILITIES
from hwsim.contracts.device import Capability
from hwsim.contracts.rule import registered_rules


def rows(capsys, *options):
    assert main(["rules", "--json", "-", *options]) == 0
    return {row["rule"]: row for row in json.loads(capsys.readouterr().out)}


def test_the_parser_knows_the_capabilities():
    assert set(CAPABILITIES) == {one.name.lower() for one in Capability}


def test_every_rule_is_listed_and_works_or_lacks_something(capsys):
    found = rows(capsys, "--have", "record,displace,transpose")
    assert found.keys() == registered_rules().keys()
    assert all(row["works"] == (not row["lacking"]) for row in found.values())
    assert found["finite_horizon_ep"]["works"]
    assert not found["ep"]["works"]
    assert "correct" in found["ep"]["lacking"][0]


def test_nothing_is_lacking_where_everything_is_there(capsys):
    found = rows(capsys, "--reciprocal", "--feedback")
    assert [name for name, row in found.items() if not row["works"]] == []


def test_costs_are_those_of_a_sample(capsys):
    found = rows(capsys, "--horizon", "20", "--dt", "1e-6", "--power", "2")
    ep = found["ep_dyadic"]
    assert ep["per_sample"] == {"settles": 2.0, "steps": 40.0, "reads": 2.0}
    assert ep["seconds_per_sample"] == pytest.approx(40e-6)
    assert ep["joules_per_sample"] == pytest.approx(80e-6)
    assert found["finite_horizon_ep"]["per_sample"]["steps"] == 38.0
    assert found["finite_horizon_ep"]["records_free_phase"]


def test_a_machine_that_cannot_load_a_state_pays_for_it(capsys):
    with_it = rows(capsys)["ep"]["per_sample"]["steps"]
    without = rows(capsys, "--without", "load_state")["ep"]["per_sample"]["steps"]
    assert without == 2 * with_it


def test_the_page_says_what_is_lacking(capsys):
    assert main(["rules", "--have", "displace"]) == 0
    out = capsys.readouterr().out
    assert "What it lacks for the others" in out
    assert "record (record states while settling)" in " ".join(out.split())


def test_an_unknown_capability_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["rules", "--have", "telepathy"])
    assert raised.value.code == 2
    assert "unknown capability 'telepathy'; choose from load_state" in capsys.readouterr().err
