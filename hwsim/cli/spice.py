"""`hwsim spice`: one settling by ngspice, by an accurate solution of the equations, and by the deployed steps."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import HwsimError, InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.units import engineering
from hwsim.spice import Netlist, Trace, Transient, export_netlist, find_ngspice, run

from .spice_setting import Setting, setting_of

if TYPE_CHECKING:
    from rich.table import Table

FINE, DIFFERENT = 0, 1

LONGEST_STEP = 0.05
"""Of ngspice, time constants; the tests of hwsim.spice show what it costs in accuracy."""


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same settling three times, volt and second; K rows are the deployed steps, L those of ngspice.

    Args:
        nodes: [N] names.
        time: [K].
        ngspice: [K, N], interpolated.
        exact: [K, N], the equations solved to 1e-9.
        deployed: [K, N], `z <- z + eps F(z, x)`.
        difference: [N], largest |ngspice - exact| over the settling, at ngspice's own times.
        difference_at: second, where the largest of all is.
        step_size: eps.
        tolerance: volt.
    """

    nodes: tuple[str, ...]
    time: Float[np.ndarray, " K"]
    ngspice: Float[np.ndarray, "K N"]
    exact: Float[np.ndarray, "K N"]
    deployed: Float[np.ndarray, "K N"]
    difference: Float[np.ndarray, " N"]
    difference_at: float
    step_size: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether ngspice and the equations differ by at most the tolerance, everywhere and at all times."""
        return bool(self.difference.max() <= self.tolerance)

    @property
    def integration(self) -> Float[np.ndarray, " N"]:
        """[N] largest |deployed - exact| over the settling; infinite where the steps diverge."""
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(self.deployed - self.exact).max(axis=0)
        return np.where(np.isfinite(error), error, np.inf)


def run_spice(options: argparse.Namespace) -> int:
    """Export, run, compare, print and save.

    Returns:
        0 where ngspice agrees within the tolerance (or only the deck was asked for), 1 where it does not.

    Raises:
        InputError: what was asked cannot be done.
        SpiceError: ngspice is missing, or cannot run the deck.
    """
    setting = setting_of(options)
    netlist = _netlist(setting, options)
    duration = setting.steps * options.step_size
    transient = Transient(duration=duration, max_step=min(LONGEST_STEP, options.step_size, duration))
    deck = netlist.deck(transient.cards(netlist))
    if options.deck_only:
        if options.out is None:
            sys.stdout.write(deck)
        else:
            _write(options.out, {"deck.cir": deck})
            print(f"Saved: {options.out / 'deck.cir'}")
        return FINE
    find_ngspice()
    if options.out is not None:
        _write(options.out, {"deck.cir": deck})  # what ngspice may complain about
    comparison = _compare(setting, netlist, run(netlist, transient), options)
    _print(comparison)
    if options.out is not None:
        _publish(comparison, options)
    return FINE if comparison.agrees else DIFFERENT


def _netlist(setting: Setting, options: argparse.Namespace) -> Netlist:
    netlist = export_netlist(setting.device.model, setting.parameters, setting.inputs, scale=setting.device.scale)
    told = [f"seed {options.seed}, parameters off by {options.mismatch:g}, "]
    told[0] += f"time constants by {options.time_constant_mismatch:g}, offsets {options.offset:g} (sd)"
    if options.circuit is not None:
        told += [f"{node} is {name}" for node, name in zip(netlist.nodes, setting.nodes, strict=True)]
    return replace(netlist, notes=(*netlist.notes, *told))


def _compare(setting: Setting, netlist: Netlist, trace: Trace, options: argparse.Namespace) -> Comparison:
    scale, steps = netlist.scale, setting.steps
    clock = options.step_size * np.arange(steps + 1)
    times = np.union1d(clock, trace.time)
    exact = _exact(setting, times)
    missed = np.abs(trace.states - exact[np.searchsorted(times, trace.time)])
    plan = Plan(inputs=setting.inputs[None], ids=np.array([0]), phases=(Phase(steps=steps, record=1),))
    with setting.device as device:
        (settled,) = device.relax(plan, noise=NoisePath(seed=0))
    assert settled.states is not None  # they were recorded
    return Comparison(
        nodes=setting.nodes,
        time=scale.second * clock,
        ngspice=scale.volt * trace.at(clock),
        exact=scale.volt * exact[np.searchsorted(times, clock)],
        deployed=scale.volt * settled.states[:, 0],
        difference=scale.volt * missed.max(axis=0),
        difference_at=float(scale.second * trace.time[missed.max(axis=1).argmax()]),
        step_size=options.step_size,
        tolerance=options.tolerance,
    )


def _exact(setting: Setting, times: Float[Array, " K"]) -> Float[np.ndarray, "K N"]:
    """The field's own solution from 0 at some times, in state units."""
    from scipy.integrate import solve_ivp

    model, x, theta = setting.device.model, setting.inputs[None], setting.parameters.analog
    solution = solve_ivp(
        lambda _, z: model.field(z[None], x, theta)[0],
        (0.0, float(times[-1])),
        np.zeros(model.units),
        method="LSODA",  # stiff or not
        t_eval=times,
        rtol=1e-9,
        atol=1e-11,
    )
    if not solution.success or solution.y.shape[1] != len(times):
        raise HwsimError(f"the equations cannot be solved accurately: {solution.message}; settle for a shorter time")
    return solution.y.T


# --- what is shown and saved --------------------------------------------------------------------------------------


def _print(comparison: Comparison) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)  # a file or pipe has no edge to wrap at
    console.print(_table(comparison))
    for line in words(comparison):
        console.print(line, highlight=False)


def _table(comparison: Comparison) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, header_style="bold")
    grid.add_column("node", no_wrap=True)
    for heading in (
        "ngspice\nat the end [V]",
        "hwsim, exact\nat the end [V]",
        "largest\ndifference [V]",
        f"hwsim, eps = {comparison.step_size:g}\nat the end [V]",
        "its error of\nintegration [V]",
    ):
        grid.add_column(heading, justify="right", no_wrap=True)
    for i, node in enumerate(comparison.nodes):
        ends = [f"{values[-1, i]:.7f}" for values in (comparison.ngspice, comparison.exact, comparison.deployed)]
        grid.add_row(node, *ends[:2], f"{comparison.difference[i]:.1e}", ends[2], f"{comparison.integration[i]:.1e}")
    return grid


def words(comparison: Comparison) -> tuple[str, str]:
    """What the figures say: whether ngspice agrees, and how far off the deployed steps are."""
    worst, error = int(comparison.difference.argmax()), float(comparison.integration.max())
    agree = "agree" if comparison.agrees else "do NOT agree"
    first = (
        f"ngspice and hwsim {agree}: over {engineering(comparison.time[-1], 's')} they differ by at most "
        f"{engineering(comparison.difference[worst], 'V')} (node {comparison.nodes[worst]}, after "
        f"{engineering(comparison.difference_at, 's')}); tolerance {engineering(comparison.tolerance, 'V')}."
    )
    if np.isinf(error):
        return first, f"The deployed steps diverge at eps = {comparison.step_size:g}; give a smaller --step-size."
    return first, (
        f"The deployed steps z <- z + eps F(z, x) at eps = {comparison.step_size:g} are off by at most "
        f"{engineering(error, 'V')} on the way: the error of integration, which eps decides and not the model."
    )


def _publish(comparison: Comparison, options: argparse.Namespace) -> None:
    from hwsim import __version__

    from .spice_figure import draw

    asked = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key not in ("command", "out", "deck_only") and value is not None
    }
    nodes = {
        node: {
            "ngspice": comparison.ngspice[-1, i],
            "exact": comparison.exact[-1, i],
            "deployed": _plain(comparison.deployed[-1, i]),
            "largest_difference": comparison.difference[i],
            "largest_error_of_integration": _plain(comparison.integration[i]),
        }
        for i, node in enumerate(comparison.nodes)
    }
    document = {
        "schema": 1,
        "settings": {**asked, "hwsim": __version__},
        "steps": len(comparison.time) - 1,
        "seconds": comparison.time[-1],
        "agrees": comparison.agrees,
        "largest_difference": comparison.difference.max(),
        "volt": nodes,
    }
    kinds = {"ngspice": comparison.ngspice, "exact": comparison.exact, "deployed": comparison.deployed}
    heading = ["time [s]", *(f"{kind} {node} [V]" for kind in kinds for node in comparison.nodes)]
    rows = np.column_stack([comparison.time, *kinds.values()])
    table = [",".join(heading), *(",".join(repr(float(value)) for value in row) for row in rows)]
    texts = {"spice.json": json.dumps(document, indent=1) + "\n", "settling.csv": "\n".join(table) + "\n"}
    _write(options.out, texts)
    try:
        draw(comparison, options.out / "settling.png")
    except OSError as error:
        raise InputError(f"cannot write results to {options.out}: {error.strerror}; give another --out") from None
    saved = [str(options.out / name) for name in ("deck.cir", *texts, "settling.png")]
    print(f"\nSaved: {', '.join(saved)}")


def _plain(value: float) -> float | None:
    """A JSON number, or null where the steps diverged."""
    return float(value) if np.isfinite(value) else None


def _write(out: Path, texts: dict[str, str]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write results to {out}: {error.strerror}; give another --out") from None
