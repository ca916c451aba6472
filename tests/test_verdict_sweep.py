"""What a sweep looks like: its table, its picture; and methods beyond the verdict's own five in both."""

from __future__ import annotations

import dataclasses
import io
import math
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hwsim.cli.figure import COLOUR, SIZE, colours, figure
from hwsim.cli.sweep_figure import draw_sweep, sweep_figure
from hwsim.cli.table import costs, summary, sweep_summary
from hwsim.verdict import METHODS, Condition, MethodRun, Metrics, Sweep, UpdateCost, conclude, methods_of
from hwsim.verdict.record import SERIES

NAMES = ("ep", "finite_horizon_ep+10*homeostat", "bptt", "eligibility_uoro")
"""Not in the order in which they are shown."""

COST = UpdateCost(settles=192, steps=5760, reads=6016, writes=3, seconds=5.76e-4)


def curve(method: str, seed: int, noise: float, *, accuracy: float = 0.9) -> MethodRun:
    run = MethodRun(
        method=method, seed=seed, kind="reference" if method == "bptt" else "local", update=COST, seconds=3.0
    )
    rank = NAMES.index(method)
    for step in (0, 50, 100):
        figures = dict.fromkeys(SERIES, 0.5)
        loss = 0.1 * (1 + rank) + 0.01 * seed + noise + 1.0 / (1 + step)
        run = run.append(step, Metrics(**{**figures, "loss_deployed": loss, "accuracy": accuracy - noise}))
    return dataclasses.replace(run, diverged_at=50 if method == "ep" and noise > 0.05 and seed > 1 else None)


def sweep_of(*, seeds: tuple[int, ...] = (1, 2, 3), accuracy: float = 0.9, **axes: tuple[Any, ...]) -> Sweep:
    conditions = []
    for point in product(*axes.values()):
        values = dict(zip(axes, point, strict=True))
        runs = [curve(m, s, values.get("noise", 0.0), accuracy=accuracy) for m in NAMES for s in seeds]
        conditions.append(
            Condition(values=values, verdict=conclude(text_sha256=None, settings={"steps": 100}, runs=runs))
        )
    return Sweep(axes=axes, conditions=tuple(conditions))


def rendered(thing: Any, width: int = 110) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(thing)
    return stream.getvalue()


def row(text: str, method: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"{method} ")).split()[1:]


def test_own_methods_come_first_and_the_others_as_they_were_asked_for() -> None:
    runs = sweep_of(noise=(0.0, 0.1)).conditions[0].verdict.runs
    assert methods_of(runs) == ("bptt", "ep", "finite_horizon_ep+10*homeostat", "eligibility_uoro")
    assert [run.seed for run in runs] == [1, 2, 3] * 4


# --- The tables ---------------------------------------------------------------------------------------------------


def test_the_table_of_costs() -> None:
    runs = [curve("ep", 1, 0.0), curve("bptt", 1, 0.0)]
    text = rendered(costs(runs))
    assert row(text, "ep") == ["local", "0.900", "192", "576", "us"]
    assert row(text, "bptt")[0] == "reference"
    assert "energy" not in text
    powered = [dataclasses.replace(run, update=dataclasses.replace(COST, joules=2.5e-9)) for run in runs]
    assert row(rendered(costs(powered)), "ep")[-2:] == ["2.5", "nJ"]
    unknown = rendered(costs([MethodRun(method="ep", seed=1)]))
    assert row(unknown, "ep") == ["-"] * 4
    assisted = dataclasses.replace(runs[0], kind="model_assisted")
    assert row(rendered(costs([assisted])), "ep")[0] == "model-assisted"


def test_one_block_per_condition_with_medians_over_seeds() -> None:
    sweep = sweep_of(adc_bits=(None, 8), noise=(0.0, 0.1))
    text = rendered(sweep_summary(sweep))
    blocks = text.split("\n\n")
    assert [block.splitlines()[0].strip() for block in blocks] == [
        "ADC bits none, noise 0",
        "ADC bits none, noise 0.1",
        "ADC bits 8, noise 0",
        "ADC bits 8, noise 0.1",
    ]
    runs = sweep.conditions[1].verdict.runs
    losses = {m: [run.loss_deployed[-1] for run in runs if run.method == m] for m in NAMES}
    times = statistics.median(
        mine / theirs for mine, theirs in zip(losses["eligibility_uoro"], losses["bptt"], strict=True)
    )
    assert row(blocks[1], "eligibility_uoro")[:6] == [
        "local",
        f"{statistics.median(losses['eligibility_uoro']):.3f}",
        f"{times:.3f}",
        "0.500",
        "0/3",
        "0.800",
    ]
    assert row(blocks[1], "bptt")[2] == "1.000"
    assert row(blocks[1], "ep")[1:5] == [f"{losses['ep'][1]:.3f}", "inf", "0.500", "2/3"]
    assert row(blocks[0], "ep")[4] == "0/3"
    assert "Undecided" not in text  # the adjoint did not run: nothing was asked


def test_what_a_condition_decides_is_told_where_it_can_be() -> None:
    sweep = sweep_of(noise=(0.0, 0.1))
    both = []
    for condition in sweep.conditions:
        more = [
            dataclasses.replace(run, method="equilibrium_adjoint")
            for run in condition.verdict.runs
            if run.method == "bptt"
        ]
        verdict = conclude(text_sha256=None, settings={}, runs=[*condition.verdict.runs, *more])
        both.append(dataclasses.replace(condition, verdict=verdict))
    text = rendered(sweep_summary(dataclasses.replace(sweep, conditions=tuple(both))))
    assert text.count("Undecided:") + text.count("(a) ") + text.count("(b) ") == 2


# --- The pictures -------------------------------------------------------------------------------------------------


def lines_of(sheet: Any) -> dict[str, Any]:
    return {str(line.get_gid()): line for ax in sheet.axes for line in ax.lines}


def test_the_picture_shows_seeds_medians_and_what_diverged() -> None:
    sweep = sweep_of(noise=(0.0, 0.01, 0.1))
    lines = lines_of(sweep_figure(sweep))
    expected = []
    for condition in sweep.conditions:
        by = {(run.method, run.seed): run.loss_deployed[-1] for run in condition.verdict.runs}
        expected.append([by["eligibility_uoro", seed] / by["bptt", seed] for seed in (1, 2, 3)])
    np.testing.assert_allclose(lines["0:0:eligibility_uoro:median"].get_ydata(), np.median(expected, axis=1))
    np.testing.assert_allclose(lines["0:0:eligibility_uoro:seeds"].get_ydata(), np.ravel(expected))
    np.testing.assert_allclose(lines["1:0:bptt:median"].get_ydata(), [0.9, 0.89, 0.8])
    ep = np.asarray(lines["0:0:ep:median"].get_ydata(), float)
    assert np.isfinite(ep).tolist() == [True, True, False]  # two of three seeds are lost there
    assert len(lines["0:0:ep:diverged"].get_xdata()) == 2
    assert len(lines["0:0:ep:seeds"].get_xdata()) == 7
    assert not any(gid.startswith("0:0:bptt") for gid in lines)  # a ratio to itself says nothing
    sheet = sweep_figure(sweep)
    assert [tick.get_text() for tick in sheet.axes[-1].get_xticklabels()] == ["0", "0.01", "0.1"]
    (legend,) = sheet.legends
    assert [entry.get_text() for entry in legend.get_texts()] == [
        "BPTT (reference)",
        "EP",
        "finite_horizon_ep + 10 x homeostat",
        "eligibility_uoro",
        "one of 3 seeds (line: median)",
        "diverged",
    ]


def test_rho_stands_in_where_there_are_no_classes_and_the_loss_where_there_is_no_bptt() -> None:
    sweep = sweep_of(noise=(0.0, 0.1), accuracy=math.nan)
    assert lines_of(sweep_figure(sweep))["1:0:eligibility_uoro:median"].get_ydata()[0] == 0.5
    alone = []
    for condition in sweep.conditions:
        runs = [run for run in condition.verdict.runs if run.method == "eligibility_uoro"]
        alone.append(dataclasses.replace(condition, verdict=conclude(text_sha256=None, settings={}, runs=runs)))
    lines = lines_of(sweep_figure(dataclasses.replace(sweep, conditions=tuple(alone))))
    losses = [[run.loss_deployed[-1] for run in each.verdict.runs] for each in alone]
    np.testing.assert_allclose(lines["0:0:eligibility_uoro:median"].get_ydata(), np.median(losses, axis=1))


@pytest.mark.parametrize(
    "axes",
    [
        {"noise": (0.0, 0.1)},
        {"units": (64, 128), "adc_bits": (None, 8, 12), "noise": (0.0, 0.01, 0.03, 0.1)},
        {"mismatch": (0.0, 0.05, 0.1, 0.2), "units": (8, 16)},
    ],
    ids=["one", "three", "two"],
)
def test_nothing_leaves_the_sheet_and_nothing_overlaps(axes: dict[str, Any], tmp_path: Path) -> None:
    sheet = sweep_figure(sweep_of(**axes))
    sheet.canvas.draw()
    width, height = sheet.get_size_inches() * sheet.dpi
    titles = [ax.title.get_window_extent() for ax in sheet.axes if ax.get_title(loc="left")]
    legend = sheet.legends[0].get_window_extent()
    for box in [*(text.get_window_extent() for text in sheet.texts), legend]:
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    assert legend.y0 >= max(ax.get_window_extent().y1 for ax in sheet.axes)
    assert legend.y1 <= min(text.get_window_extent().y0 for text in sheet.texts)
    assert all(box.y1 <= legend.y0 for box in titles)
    draw_sweep(sweep_of(**axes), tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_of_almost_nothing(tmp_path: Path) -> None:
    empty = conclude(text_sha256=None, settings={}, runs=[MethodRun(method="ep", seed=1)])
    sweep = Sweep(
        axes={"noise": (0.0, 0.1)},
        conditions=tuple(Condition(values={"noise": noise}, verdict=empty) for noise in (0.0, 0.1)),
    )
    draw_sweep(sweep, tmp_path / "sweep.png")
    assert row(rendered(sweep_summary(sweep)), "ep")[:2] == ["-", "-"]


def test_colours_stay_with_the_five_and_differ_for_ten_others() -> None:
    others = [f"rule_{k}" for k in range(10)]
    found = colours([*METHODS, *others])
    assert {method: found[method] for method in METHODS} == COLOUR
    assert len(set(found.values())) == 15


def test_the_verdicts_picture_takes_many_methods_with_long_names() -> None:
    names = [*METHODS, *(f"finite_horizon_ep_corrected+{k}*homeostat" for k in range(2, 9))]
    runs = [dataclasses.replace(curve("bptt", 1, 0.0), method=name) for name in names]
    verdict = conclude(text_sha256=None, settings={}, runs=runs)
    sheet = figure(verdict)
    sheet.canvas.draw()
    legend = sheet.legends[0].get_window_extent()
    assert legend.x1 <= SIZE[0]
    assert legend.y0 >= max(ax.title.get_window_extent().y1 for ax in sheet.axes)
    assert names[-1] in rendered(summary(verdict), width=140)
