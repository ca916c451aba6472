"""`hwsim board` and `hwsim train --device` as a user meets them."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from board_memory import NEEDS_GCC

from hwsim.cli import main
from hwsim.cli.board_options import BACKENDS, BAUD
from hwsim.cli.main import _parser
from hwsim.cli.train import opened, trainer_of
from hwsim.cli.train_options import train_settings
from hwsim.contracts.errors import InputError
from hwsim.devices.board import BAUD as BOARDS_BAUD
from hwsim.devices.board.emulator import BACKENDS as BOARDS_BACKENDS, Emulated, HostBoard
from hwsim.devices.board.modelled import simulated_twin
from hwsim.training import load_state

pytestmark = NEEDS_GCC
HWSIM = [sys.executable, "-c", "import sys; from hwsim.cli import main; sys.exit(main())"]
KIND = Emulated(units=12, inputs=64, lanes=64, horizon=10)
TINY = ["--batch", "8", "--every", "3", "--held-out", "30", "--quiet"]


@pytest.fixture(scope="module")
def process():
    """A board on a terminal; what one test programs the next may find."""
    with HostBoard(KIND) as board:
        yield board


def test_the_parser_knows_what_boards_know():
    assert BAUD == BOARDS_BAUD
    assert BACKENDS == BOARDS_BACKENDS


def test_info_says_what_a_board_is(process, capsys):
    assert main(["board", "info", process.url]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("12 units, 64 inputs", "emulated-f32", "transpose", "10 steps of 100 us", "not measured"):
        assert words in out
    assert main(["board", "info", process.url, "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["descriptor"]["units"] == 12
    assert told["status"]["temperature"] is None


def test_list_says_what_answers(process, capsys):
    assert main(["board", "list", process.url, "/no/such/port", "--json", "-"]) == 0
    told = {row["port"]: row["answers"] for row in json.loads(capsys.readouterr().out)}
    assert told[process.url].startswith("emulated: emulated-f32, 12 units, 64 inputs")
    assert told["/no/such/port"] == "cannot be opened: No such file or directory"
    assert main(["board", "list", "--no-ask"]) == 0
    assert "answers" not in capsys.readouterr().out


def test_selftest_passes_on_a_good_board_and_fails_in_words_on_a_bad_one(process, capsys, monkeypatch):
    assert main(["board", "selftest", process.url]) == 0
    out = capsys.readouterr().out
    assert "the model's very bits" in out
    assert "all is well" in out
    # a board that settles to something else than what it says it is: here the model is the wrong one
    monkeypatch.setattr("hwsim.cli.board_selftest.simulated_twin", _shifted)
    assert main(["board", "selftest", process.url, "--json", "-"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in told["checks"] if not check["passed"]] == ["settling"]


def _shifted(board, spec):
    from dataclasses import replace

    return simulated_twin(board, replace(spec, dt=0.5 * spec.dt))


def test_monitor_draws_the_units(process, capsys):
    assert main(["board", "selftest", process.url]) == 0
    capsys.readouterr()
    assert main(["board", "monitor", process.url, "--settlings", "2", "--units", "3", "--frames", "2"]) == 0
    out = capsys.readouterr().out
    assert "settling 1, step 10" in out
    assert len(re.findall(r"^ +\d \W", out, re.M)) >= 3


def test_a_board_that_holds_nothing_has_nothing_to_watch(capsys):
    with HostBoard(KIND) as fresh:
        assert main(["board", "monitor", fresh.url, "--settlings", "1"]) == 2
    assert "holds no network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["board", "info", "/no/such/port"], "cannot open /no/such/port: No such file or directory"),
        (["board", "info", "nonsense://x"], "protocol 'nonsense' not known"),
        (["board", "info", "fault://?drop=1"], "holds another one"),
        (["board", "info", "fault:///dev/null?lose=1"], "a fault:// URL knows"),
        (["board", "info", "replay:///no/such/file"], "is no recorded board session"),
        (["board", "replay", "/no/such/file"], "is no recorded board session"),
        (["board", "record", "/no/such/port", "/no/such/folder/file"], "cannot"),
        (["board", "emulate", "--units", "100000"], "at most 128 units"),
        (["board", "emulate", "--target", "m4f", "--tcp"], "--tcp and --baud are for --target host"),
        (["train", "--device", "/no/such/port", "--units", "3"], "leave out --units beside --device"),
        (["train", "--device", "/no/such/port"], "cannot open /no/such/port"),
        (["train", "--rule", "nonsense"], "there is no rule 'nonsense'"),
        (["train", "--rule", "ep+homeostat", "--amplitude", "3"], "has no nudge or kick of one length"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(command, words, capsys, tmp_path):
    if command[0] == "train":
        command = [*command, "--out", str(tmp_path / "out"), "--steps", "1", "--quiet"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def started(*options):
    """A command in a process of its own, and the first line of its stdout."""
    process = subprocess.Popen([*HWSIM, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_emulate_says_where_and_ends_when_asked(tmp_path, capsys, how):
    name = tmp_path / "port"
    process, url = started("board", "emulate", "--units", "5", "--inputs", "4", "--link", str(name))
    try:
        assert url == str(name)
        assert main(["board", "info", url]) == 0
        assert "5 units, 4 inputs" in capsys.readouterr().out
        terminal = os.readlink(name)
        process.send_signal(how)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
    assert not os.path.lexists(name)
    assert not os.path.lexists(terminal)  # it goes with the firmware


def test_a_session_is_recorded_and_replayed(process, tmp_path, capsys):
    file = tmp_path / "session.board"
    asked = ["board", "selftest", "--json", "-", "--seed", "4"]
    assert main([*asked, f"record://{process.url}?file={file}"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*asked, f"replay://{file}"]) == 0
    again = json.loads(capsys.readouterr().out)
    found = [
        {check["name"]: check["found"] for check in told["checks"] if check["name"] != "link"}
        for told in (first, again)
    ]
    assert found[0] == found[1]
    # another seed programs other parameters: the replay notices
    assert main(["board", "selftest", "--seed", "5", f"replay://{file}"]) != 0
    told = capsys.readouterr()
    assert "recorded session" in told.out + told.err


def test_record_and_replay_stand_in_the_way_of_another_process(process, tmp_path, capsys):
    file = tmp_path / "between.board"
    between, url = started("board", "record", process.url, str(file))
    try:
        assert main(["board", "info", url]) == 0
        assert between.wait(timeout=30) == 0
    finally:
        between.kill()
        between.communicate()
    told = " ".join(capsys.readouterr().out.split())
    instead, url = started("board", "replay", str(file))
    try:
        assert main(["board", "info", url]) == 0
        assert instead.wait(timeout=30) == 0
    finally:
        instead.kill()
        instead.communicate()
    assert " ".join(capsys.readouterr().out.split()) == told


def checkpoint(out, seed=1):
    return load_state(out / "runs" / f"{seed}.npz")[0]


def test_training_on_a_board_is_saved_and_goes_on_bit_for_bit(process, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = ["train", "--device", process.url, *TINY]
    assert main([*run, "--steps", "6", "--out", str(whole), "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"][0]["step"] == [0, 3, 6]
    assert told["settings"]["simulated"] is None
    # stopped after two updates, then taken up again, over a bad wire
    settings = train_settings(_parser().parse_args([*run, "--steps", "6", "--out", str(parts)]))
    stop_after(parts, settings, 2)
    bad = f"fault://{process.url}?drop=0.0005&flip=0.0005&seed=2"
    command = ["train", "--device", bad, *TINY, "--steps", "6", "--out", str(parts), "--resume"]
    assert main(command) == 0
    for name, block in checkpoint(whole).theta.items():
        np.testing.assert_array_equal(block, checkpoint(parts).theta[name], err_msg=name)
    capsys.readouterr()
    assert main([*run, "--steps", "7", "--out", str(parts), "--resume"]) == 2
    assert "steps was 6, is 7" in capsys.readouterr().err
    assert main([*run, "--steps", "6", "--out", str(parts)]) == 2
    assert "already holds results" in capsys.readouterr().err


def stop_after(out, settings, updates):
    """What Ctrl-C leaves behind."""
    from hwsim.cli.folder import open_folder
    from hwsim.cli.progress import Progress
    from hwsim.cli.runner import Interrupted
    from hwsim.cli.train import _one, _rule
    from hwsim.tasks import Digits

    open_folder("train", out, settings.to_json(), resume=False, overwrite=False, results=())
    asked = iter([False] * updates + [True])
    with opened(settings) as make, make(1) as device, Progress(["seed 1"], settings.steps, quiet=True) as progress:
        task = Digits(units=device.spec.units)
        with pytest.raises(Interrupted, match="interrupted and saved"):
            _one(device, _rule(settings), task, 1, settings, out, False, progress, lambda: next(asked))


def test_training_on_the_simulated_device_needs_no_board(tmp_path, capsys):
    out = tmp_path / "out"
    simulated = ["--units", "8", "--horizon", "6", "--noise", "0.02", "--adc-bits", "8", "--mismatch", "0.01"]
    command = ["train", *TINY, *simulated, "--steps", "4", "--seeds", "1,2", "--out", str(out)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "seed 2  update 4" in told
    document = json.loads((out / "train.json").read_text())
    assert [run["seed"] for run in document["runs"]] == [1, 2]
    assert document["settings"]["simulated"]["units"] == 8


def test_a_board_of_another_size_cannot_learn_the_digits(tmp_path, capsys):
    with HostBoard(Emulated(units=5, inputs=4, horizon=5)) as small:
        assert main(["train", "--device", small.url, "--out", str(tmp_path / "out"), "--steps", "1", "--quiet"]) == 2
    assert "the digits need a device with 64 inputs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_saves_the_run(process, tmp_path):
    out = tmp_path / "out"
    command = ["train", "--device", process.url, "--batch", "8", "--every", "100000", "--held-out", "8"]
    running = subprocess.Popen(
        [*HWSIM, *command, "--steps", "100000", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "step 0 of 100000" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "--resume goes on" in said
    assert "Traceback" not in said
    assert checkpoint(out).step >= 0


def test_options_of_the_simulated_device_are_refused_beside_a_board():
    with pytest.raises(InputError, match="--horizon, --noise"):
        train_settings(_parser().parse_args(["train", "--device", "x", "--noise", "0.1", "--horizon", "3"]))


def test_the_trainer_of_the_command_keeps_to_the_ranges_of_the_board(process):
    from hwsim.cli.train import initial
    from hwsim.devices.board import SerialBoard
    from hwsim.learning_rules import FiniteHorizonEP
    from hwsim.tasks import Digits

    settings = train_settings(_parser().parse_args(["train", "--device", process.url, "--learning-rate", "100"]))
    with SerialBoard(process.url) as board:
        task = Digits(units=board.spec.units)
        trainer = trainer_of(board, FiniteHorizonEP(), task, 1, settings)
        state = trainer.start(initial(board, task, 1))
        for _ in range(2):
            state, _ = trainer.advance(state)
        low, high = board.spec.ranges["W"]
        assert state.theta["W"].min() == low
        assert state.theta["W"].max() == high
