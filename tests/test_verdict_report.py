"""What a verdict looks like: the table, the picture and the progress of the runs; and what their imports bring."""

from __future__ import annotations

import dataclasses
import io
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hwsim.cli.figure import COLOUR, PANELS, SIZE, draw, figure, median
from hwsim.cli.progress import Progress, State, duration
from hwsim.cli.table import summary, table
from hwsim.verdict.decision import conclude
from hwsim.verdict.record import METHODS, SERIES, MethodRun, Metrics, Verdict

STEPS = 4000


def curve(method: str, seed: int) -> MethodRun:
    """A run with the shape of the reference table: EP blows up, the adjoint stalls, the remedies follow BPTT."""
    run = MethodRun(method=method, seed=seed, seconds=30.0 + seed)
    blow_up = {1: 2300, 2: 1900, 3: 2600}[seed]
    for step in range(0, STEPS + 1, 100):
        u = step / STEPS
        loss, rho, residual, cosine = (
            2.05 + 0.01 * seed + 2.4 * math.exp(-10 * u),
            0.945 + 0.033 * u,
            0.02 + 0.06 * u,
            1.0,
        )
        if method == "equilibrium_adjoint":
            loss, rho, cosine = loss + 0.17 * u, rho + 0.009 * u, 0.97 - 0.4 * u
        elif method == "ep":
            over = max(0.0, step - blow_up) / 200
            loss, rho, cosine = loss * math.exp(over), rho + 0.03 * u + 0.05 * over, 0.98 - 0.3 * u
        elif method == "ep_homeostat":
            loss, rho, residual, cosine = loss - 0.02 * u, 0.945 + 0.013 * u, 0.3 * residual, 0.97
        elif method == "finite_horizon_ep":
            loss, rho, cosine = loss - 0.01 * u, rho - 0.004 * u, 0.99
        metrics = Metrics(
            loss_deployed=loss,
            loss_long=loss + 0.5,
            residual_deployed=residual,
            residual_long=residual / 100.0,
            rho_mean=rho,
            rho_max=rho + 0.02,
            adjoint_certificate=1.0,
            cosine_to_bptt=cosine,
            cosine_to_transpose=0.5 * cosine,
        )
        run = run.append(step, metrics)
    return dataclasses.replace(run, diverged_at=blow_up if method == "ep" else None)


def verdict_of(*seeds: int) -> Verdict:
    runs = [curve(method, seed) for method in METHODS for seed in seeds]
    return conclude(text_sha256="0f" * 32, settings={"steps": STEPS, "start": "rest"}, runs=runs)


# --- The table ----------------------------------------------------------------------------------------------------


def rendered(thing: Any, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(thing)
    return stream.getvalue()


def cells(text: str, method: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"{method} ")).split()[1:]


def test_the_table_holds_the_figures_of_one_seed() -> None:
    text = rendered(table(verdict_of(1).runs))
    run = curve("equilibrium_adjoint", 1)
    final, best, rho = run.loss_deployed[-1], min(run.loss_deployed), run.rho_mean[-1]
    assert cells(text, "equilibrium_adjoint") == [
        f"{final:.3f}",
        f"{best:.3f}",
        f"{final + 0.5:.3f}",
        "8.0e-2",
        "8.0e-4",
        f"{rho:.3f}",
        f"{rho + 0.02:.3f}",
        "0.570",
        "0.285",
        "never",
        "31",
    ]
    assert cells(text, "ep")[-3:] == ["2300", "(1)", "31"]
    assert "lowest" not in text


def test_the_table_holds_median_and_spread_of_three_seeds() -> None:
    text = rendered(table(verdict_of(1, 2, 3).runs))
    lines = text.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("ep_homeostat "))
    finals = [curve("ep_homeostat", seed).loss_deployed[-1] for seed in (2, 1, 3)]
    assert [lines[at + k].split()[1] for k in range(3)] == [f"{value:.3f}" for value in finals]
    assert [lines[at + k].split()[0] for k in (1, 2)] == ["lowest", "highest"]
    ep = text[text.index("\nep ") : text.index("ep_homeostat")]
    assert [f"{step} ({seed})" in ep for step, seed in ((2300, 1), (1900, 2), (2600, 3))] == [True] * 3


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_the_summary_fits_100_columns_and_ends_in_words(seeds: tuple[int, ...]) -> None:
    verdict = verdict_of(*seeds)
    text = rendered(summary(verdict))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    flat = " ".join(text.split())
    assert "(b) Even the exact equilibrium gradient does not survive" in flat
    assert " ".join(verdict.reason.split()) in flat
    assert "ep (diverged)" in flat


def test_the_table_with_figures_that_are_missing_or_huge() -> None:
    metrics = dict.fromkeys(SERIES, math.nan)
    run = MethodRun(method="ep", seed=1, diverged_at=50)
    run = run.append(0, Metrics(**{**metrics, "loss_deployed": 2.0, "rho_mean": 0.9, "residual_deployed": 0.0}))
    run = run.append(50, Metrics(**{**metrics, "loss_long": 1.2e7}))
    text = rendered(table([run, MethodRun(method="bptt", seed=1)]))
    assert cells(text, "ep")[:9] == ["inf", "2.000", "1e+07", "0", "-", "0.900", "-", "-", "-"]
    assert cells(text, "bptt") == ["-"] * 9 + ["never", "0.0"]


# --- The picture --------------------------------------------------------------------------------------------------


def lines_of(verdict: Verdict) -> dict[str, Any]:
    return {str(line.get_gid()): line for ax in figure(verdict).axes for line in ax.lines}


def test_the_picture_is_a_png_of_its_size(tmp_path: Path) -> None:
    path = tmp_path / "verdict.png"
    draw(verdict_of(1), path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == SIZE
    with pytest.raises(OSError, match="nowhere"):
        draw(verdict_of(1), tmp_path / "nowhere" / "verdict.png")


def test_the_picture_shows_the_curves_of_one_seed() -> None:
    verdict = verdict_of(1)
    lines = lines_of(verdict)
    for run in verdict.runs:
        for panel in PANELS:
            line = lines[f"{panel.series}:{run.method}:1"]
            np.testing.assert_array_equal(line.get_xdata(), run.step)
            np.testing.assert_array_equal(line.get_ydata(), run.series(panel.series))
            assert line.get_color() == COLOUR[run.method]
        np.testing.assert_array_equal(lines[f"rho_max:{run.method}:median"].get_ydata(), run.rho_max)
    assert lines["rho_one"].get_ydata()[0] == 1.0
    assert len(set(COLOUR.values())) == len(METHODS)
    assert lines["residual_deployed:bptt:1"].axes.get_yscale() == "log"


def test_the_picture_shows_seeds_faint_and_their_median_bold() -> None:
    verdict = verdict_of(1, 2, 3)
    lines = lines_of(verdict)
    bold, faint = lines["loss_deployed:bptt:median"], [lines[f"loss_deployed:bptt:{seed}"] for seed in (1, 2, 3)]
    np.testing.assert_array_equal(bold.get_ydata(), faint[1].get_ydata())
    assert all(line.get_linewidth() < bold.get_linewidth() and line.get_alpha() < 1 for line in faint)
    ep = lines["loss_deployed:ep:median"]
    shown = ep.get_xdata()[np.isfinite(ep.get_ydata())]
    assert shown.max() == 2200.0  # two of three seeds are lost from step 2300 on


def test_a_divergence_is_a_cross_and_does_not_squash_the_rest() -> None:
    verdict = verdict_of(1, 2, 3)
    lines = lines_of(verdict)
    for seed, step in ((1, 2300), (2, 1900), (3, 2600)):
        for panel in PANELS:
            cross = lines[f"{panel.series}:ep:{seed}:diverged"]
            assert list(cross.get_xdata()) == [step]
            assert cross.axes.get_ylim()[0] <= cross.get_ydata()[0] <= cross.axes.get_ylim()[1]
    low, high = lines["loss_deployed:bptt:1"].axes.get_ylim()
    assert low < 2.05
    assert 2.3 < high < 3.0 < curve("ep", 1).loss_deployed[-1]
    assert not [name for name in lines if name.endswith(":diverged") and ":ep:" not in name]


def test_a_curve_that_leaves_the_panel_is_marked_where_it_does() -> None:
    runs = [curve("bptt", 1), dataclasses.replace(curve("ep", 1), diverged_at=None)]
    lines = lines_of(conclude(text_sha256=None, settings={}, runs=runs))
    mark = lines["loss_deployed:ep:1:leaves"]
    assert 2300 < mark.get_xdata()[0] < 3000
    assert "loss_deployed:bptt:1:leaves" not in lines


def test_the_picture_has_one_legend_and_the_decision_as_title() -> None:
    sheet = figure(verdict_of(1, 2))
    (legend,) = sheet.legends
    assert all(ax.get_legend() is None for ax in sheet.axes)
    assert [entry.get_text() for entry in legend.get_texts()] == [
        "BPTT (reference)",
        "equilibrium adjoint",
        "EP",
        "EP + homeostat",
        "finite-horizon EP",
        "diverged",
        "one seed (bold: median)",
    ]
    words = {text.get_gid(): text.get_text() for text in sheet.texts}
    assert words["headline"].startswith("(b) ")
    shown = " ".join(text.get_text() for text in sheet.texts if text.get_gid() == "reason")
    assert shown.startswith(verdict_of(1, 2).reason)


def test_nothing_in_the_picture_leaves_the_sheet() -> None:
    sheet = figure(verdict_of(1, 2, 3))
    sheet.canvas.draw()
    boxes = [text.get_window_extent() for text in sheet.texts] + [sheet.legends[0].get_window_extent()]
    assert all(box.x0 >= 0 and box.x1 <= SIZE[0] and box.y1 <= SIZE[1] for box in boxes)
    titles = max(ax.title.get_window_extent().y1 for ax in sheet.axes)
    assert all(box.y0 >= titles for box in boxes)


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [MethodRun(method="ep", seed=1)],
        [MethodRun(method="ep", seed=1, diverged_at=0)],
        [MethodRun(method="bptt", seed=1).append(0, Metrics(**dict.fromkeys(SERIES, 0.0)))],
        [MethodRun(method="bptt", seed=1, diverged_at=7).append(7, Metrics(**dict.fromkeys(SERIES, math.nan)))],
    ],
)
def test_a_picture_of_almost_nothing(runs: list[MethodRun], tmp_path: Path) -> None:
    draw(conclude(text_sha256=None, settings={}, runs=runs), tmp_path / "verdict.png")


def test_the_median_counts_the_lost_as_bad() -> None:
    metrics = dict.fromkeys(SERIES, 0.0)
    runs = []
    for seed, value in ((1, 1.0), (2, 2.0), (3, 3.0)):
        run = MethodRun(method="ep", seed=seed, diverged_at=10 if seed == 1 else None)
        for step in (0, 10, 20)[: 2 if seed == 3 else 3]:
            run = run.append(step, Metrics(**{**metrics, "loss_deployed": value}))
        runs.append(run)
    step, bad_high = median(runs, "loss_deployed", lost=math.inf)
    np.testing.assert_array_equal(step, [0, 10, 20])
    np.testing.assert_array_equal(bad_high, [2.0, 3.0, math.nan])
    np.testing.assert_array_equal(median(runs, "loss_deployed", lost=-math.inf)[1], [2.0, 2.0, math.nan])


# --- Progress -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(["bptt, seed 1", "ep, seed 1"], 1000, stream=stream, clock=clock) as progress:
        progress.update("bptt, seed 1", 0)
        for step in range(10, 1001, 10):
            clock.now += 1.0
            progress.update("bptt, seed 1", step, loss=2.5, rho=0.95)
        progress.update("bptt, seed 1", 1000, loss=2.5, rho=0.95, state=State.DONE)
        progress.update("ep, seed 1", 300, loss=3.25, rho=1.04, state=State.DIVERGED)
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 12  # the start, nine tenths, and two ends
    assert lines[0] == "bptt, seed 1:  step 0 of 1000"
    assert lines[5] == "bptt, seed 1:  step 500 of 1000  L 2.500  rho 0.950  0:50 left"
    assert lines[10] == "bptt, seed 1:  step 1000 of 1000  L 2.500  rho 0.950  done"
    assert lines[11] == "ep, seed 1:  step 300 of 1000  L 3.250  rho 1.040  diverged at step 300"


def test_a_resumed_run_does_not_count_old_steps_as_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(["ep"], 1000, stream=stream, clock=clock) as progress:
        clock.now = 77.0
        progress.update("ep", 800)
        clock.now += 100.0
        progress.update("ep", 900)
    assert "step 900 of 1000  1:40 left" in stream.getvalue()


def test_what_had_not_ended_counts_as_interrupted() -> None:
    stream = io.StringIO()

    def interrupted() -> None:
        with Progress(["bptt", "ep", "waits"], 100, stream=stream) as progress:
            progress.update("bptt", 100, state=State.DONE)
            progress.update("ep", 40, loss=2.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().splitlines()[-2:] == [
        "ep:  step 40 of 100  L 2.000  interrupted",
        "waits:  step 0 of 100  interrupted",
    ]


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    stream, clock = Terminal(), Clock()
    with Progress(["bptt [1]", "ep"], 200, stream=stream, clock=clock) as progress:
        progress.update("ep", 0)
        clock.now = 5.0
        progress.update("ep", 100, loss=2.345, rho=0.987)
        progress.update("bptt [1]", 60, loss=9.0, rho=1.2, state=State.DIVERGED)
    final = stream.getvalue()
    for words in ("bptt [1]", "diverged at step 60", "L 2.345  rho 0.987", "0:05 left", " 50 %"):
        assert words in final


def test_a_crowd_of_runs_shows_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "8")
    stream = Terminal()
    with Progress([f"run {k}" for k in range(20)], 10, stream=stream) as progress:
        progress.update("run 3", 1)
        progress.update("run 3", 10, loss=2.0, state=State.DONE)
        progress.update("run 4", 1)
    assert "run 3" in stream.getvalue()
    assert "done" in stream.getvalue()
    assert "run 4" in stream.getvalue()
    assert "run 5" not in stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_writes_nothing(kind: type[io.StringIO]) -> None:
    stream = kind()
    with Progress(["ep"], 10, stream=stream, quiet=True) as progress:
        progress.update("ep", 10, state=State.DONE)
    assert stream.getvalue() == ""


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress(["ep"], 10, stream=stream) as progress:
        progress.update("ep", 10, state=State.DONE)
    assert stream.getvalue() == "ep:  step 10 of 10  done\n"


def test_progress_refuses_what_it_was_not_told() -> None:
    with pytest.raises(ValueError, match="labels that differ"):
        Progress(["ep", "ep"], 10)
    with pytest.raises(ValueError, match="at least one step"):
        Progress(["ep"], 0)
    with pytest.raises(ValueError, match="found 'bptt'"):
        Progress(["ep"], 10, quiet=True).update("bptt", 1)


def test_durations() -> None:
    assert [duration(value) for value in (0.0, 6.2, 725.0, 3723.0)] == ["0:00", "0:07", "12:05", "1:02:03"]


# --- The walls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("hwsim.verdict.decision", ("rich", "matplotlib", "torch", "numba", "hwsim.cli")),
        ("hwsim.cli.progress", ("rich", "matplotlib", "torch", "numba")),
        ("hwsim.cli.table", ("matplotlib", "torch", "numba")),
        ("hwsim.cli.figure", ("matplotlib.pyplot", "torch", "numba")),
    ],
)
def test_what_an_import_brings_along(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; sys.exit(' '.join(m for m in {absent!r} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
