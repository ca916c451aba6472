"""`hwsim rules`: which rules a machine can run, what the others lack there, and what each costs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hwsim.contracts.device import Capability, Device, DeviceSpec
from hwsim.contracts.needs import Cost
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.rule import LearningRule, registered_rules, settle_free
from hwsim.contracts.units import engineering
from hwsim.devices import SIMULATED, SimulatedDevice
from hwsim.substrates import LeakyNetwork
from hwsim.testing import LimitedDevice, RandomRegression
from hwsim.testing.draws import draw_parameters

UNITS, INPUTS, SAMPLES = 4, 2, 4
"""What a rule costs per sample depends on none of them, but for rules that perturb parameters; those say so."""
WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rule on one machine.

    Args:
        name: as registered.
        kind: "local", "model-assisted" or "reference".
        lacking: what the machine does not offer, in words; empty where the rule works.
        needs: names of the capabilities it needs there.
        cost: on top of the free phase, for `SAMPLES` samples.
        recorded: whether the free phase must be recorded.
    """

    name: str
    kind: str
    lacking: tuple[str, ...]
    needs: tuple[str, ...]
    cost: Cost
    recorded: bool


def run_rules(options: argparse.Namespace) -> int:
    """Print the table."""
    spec = machine(options)
    rows = [_row(name, rule, spec) for name, rule in registered_rules().items()]
    if options.json == "-":
        json.dump([_document(row, spec) for row in rows], sys.stdout, indent=1)
        sys.stdout.write("\n")
        return 0
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    for part in _page(rows, spec):
        console.print(part)
    return 0


def machine(options: argparse.Namespace) -> DeviceSpec:
    """The spec of the machine that the options describe."""
    offered = SIMULATED | {Capability.COMPLEX, Capability.ADJUST}
    if options.have is not None:
        offered = _named(options.have)
    elif options.without is not None:
        offered = offered - _named(options.without)
    network = LeakyNetwork.symmetric(UNITS, INPUTS)
    return DeviceSpec(
        units=UNITS,
        inputs=INPUTS,
        shapes={**network.shapes(), **({"feedback.W": network.shapes()["W"]} if options.feedback else {})},
        dt=options.dt,
        time_constant=10 * options.dt,
        horizon=options.horizon,
        capabilities=offered,
        power=options.power,
        reciprocal=options.reciprocal,
        feedback={"feedback.W": "W"} if options.feedback else {},
    )


def _named(names: Iterable[str]) -> frozenset[Capability]:
    return frozenset(Capability[name.upper()] for name in names)


def _row(name: str, rule: LearningRule, spec: DeviceSpec) -> Row:
    return Row(
        name=name,
        kind=rule.kind.name.lower().replace("_", "-"),
        lacking=tuple(rule.needs.lacking(spec)),
        needs=tuple(sorted(one.name.lower() for one in rule.needs.on(spec))),
        cost=_measured(rule, spec),
        recorded=rule.needs.record > 0,
    )


def _measured(rule: LearningRule, spec: DeviceSpec) -> Cost:
    """What one estimate states that it used, on a small simulator that can do what the machine can, or all."""
    for make in _simulators(spec):
        with make() as able:
            kept = spec.capabilities & able.spec.capabilities
            limited = LimitedDevice(able, kept, reciprocal=spec.reciprocal and able.spec.reciprocal)
            for device in (limited, able):
                if rule.needs.met_by(device.spec):
                    return _once(rule, device)
    raise AssertionError(f"no simulator here can serve {rule}")


def _simulators(spec: DeviceSpec) -> list[Callable[[], Device]]:
    from hwsim.devices import SeparateFeedback

    def simulated(network: LeakyNetwork) -> SimulatedDevice:
        return SimulatedDevice(network, horizon=spec.horizon)

    dense, symmetric = LeakyNetwork.dense(UNITS, INPUTS), LeakyNetwork.symmetric(UNITS, INPUTS)
    return [
        lambda: simulated(symmetric),
        lambda: simulated(dense),
        lambda: SeparateFeedback(simulated(dense), simulated(dense)),
    ]


def _once(rule: LearningRule, device: Device) -> Cost:
    task, noise = RandomRegression(units=UNITS, inputs=INPUTS), NoisePath(seed=0)
    batch = task.training_batch(0, SAMPLES, 0)
    theta = device.program(draw_parameters(device.spec, 0) | task.initial_readout(0, 1.0))
    free, _ = settle_free(device, batch, rule.needs, noise)
    return rule.estimate(device, theta, batch, task, free, noise).cost


def _document(row: Row, spec: DeviceSpec) -> dict[str, Any]:
    each = {name: count / SAMPLES for name, count in asdict(replace(row.cost, writes=0)).items() if name != "writes"}
    return {
        "rule": row.name,
        "kind": row.kind,
        "works": not row.lacking,
        "lacking": list(row.lacking),
        "needs": list(row.needs),
        "records_free_phase": row.recorded,
        "per_sample": each,
        "seconds_per_sample": row.cost.seconds(spec) / SAMPLES,
        "joules_per_sample": None if (joules := row.cost.joules(spec)) is None else joules / SAMPLES,
        "writes_per_update": row.cost.writes,
    }


def _page(rows: list[Row], spec: DeviceSpec) -> Iterable[RenderableType]:
    working, others = [row for row in rows if not row.lacking], [row for row in rows if row.lacking]
    if working:
        yield Text(f"Rules that this machine can run, with their cost on top of the free phase of {spec.horizon} steps")
        yield _table(working, spec)
    else:
        yield Text("This machine can run none of the registered rules: it cannot be probed after a settling.")
    if others:
        yield Text("\nWhat it lacks for the others")
        grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, header_style="bold")
        grid.add_column("rule", no_wrap=True)
        grid.add_column("lacks")
        for row in others:
            grid.add_row(row.name, "; ".join(row.lacking))
        yield grid


def _table(rows: list[Row], spec: DeviceSpec) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, header_style="bold")
    grid.add_column("rule", no_wrap=True)
    grid.add_column("kind", no_wrap=True)
    for heading in ("settles\nper sample", "time / T", "device\ntime", "reads", "writes\nper update"):
        grid.add_column(heading, justify="right", no_wrap=True)
    if spec.power is not None:
        grid.add_column("energy", justify="right", no_wrap=True)
    grid.add_column("needs")
    for row in rows:
        cost = row.cost
        joules = cost.joules(spec)
        grid.add_row(
            row.name,
            row.kind,
            f"{cost.settles / SAMPLES:g}",
            f"{cost.steps / SAMPLES / spec.horizon:.3g}",
            engineering(cost.seconds(spec) / SAMPLES, "s"),
            f"{cost.reads / SAMPLES:g}",
            f"{cost.writes:g}",
            *([] if joules is None else [engineering(joules / SAMPLES, "J")]),
            ", ".join(row.needs) or "nothing",
        )
    return grid
