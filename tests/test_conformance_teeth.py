"""The suites for substrates and rules bite: each thing broken here breaks one law, and the suite names that law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.substrate import Substrate
from hwsim.devices import SIMULATED, SimulatedDevice
from hwsim.learning_rules import ContractionHomeostat, EquilibriumPropagation, FiniteHorizonEP
from hwsim.substrates import LeakyNetwork
from hwsim.testing import check_rule, check_substrate

UNITS, INPUTS = 6, 4


@dataclass(frozen=True)
class Bent(Substrate):
    """A leaky network of which one function is bent: `bend(answer, *arguments)` takes its place."""

    name: str
    bend: Callable[..., Any]
    inner: LeakyNetwork = field(default_factory=lambda: LeakyNetwork.symmetric(UNITS, INPUTS))
    units: int = UNITS
    inputs: int = INPUTS

    def _answer(self, name: str, *arguments: Any, **options: Any) -> Any:
        answer = getattr(self.inner, name)(*arguments, **options)
        return self.bend(answer, *arguments, **options) if name == self.name else answer

    @property
    def reciprocal(self) -> bool:
        return bool(self.bend(True)) if self.name == "reciprocal" else self.inner.reciprocal

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.inner.shapes()

    def field(self, *arguments: Any) -> Any:
        return self._answer("field", *arguments)

    def tangent(self, *arguments: Any) -> Any:
        return self._answer("tangent", *arguments)

    def cotangent(self, *arguments: Any) -> Any:
        return self._answer("cotangent", *arguments)

    def jacobian(self, *arguments: Any) -> Any:
        return self._answer("jacobian", *arguments)

    def jacobian_diagonal(self, *arguments: Any) -> Any:
        return self._answer("jacobian_diagonal", *arguments)

    def credit(self, *arguments: Any, per_sample: bool = False) -> Parameters:
        return self._answer("credit", *arguments, per_sample=per_sample)

    def influence(self, *arguments: Any) -> Any:
        return self._answer("influence", *arguments)

    def energy_credit(self, *arguments: Any) -> Any:
        return self._answer("energy_credit", *arguments)

    def metric(self, *arguments: Any) -> Any:
        return self._answer("metric", *arguments)


def with_block(name: str, change: Callable[[Any], Any]) -> Callable[..., Parameters]:
    return lambda credit, *arguments, **options: credit | {name: change(credit[name])}


def swapped_lanes(credit: Parameters, *arguments: Any, per_sample: bool) -> Parameters:
    return credit.map(lambda block: block[::-1]) if per_sample else credit


def last_time_only(credit: Parameters, post: Any, z: Any, x: Any, theta: Parameters, *, per_sample: bool) -> Parameters:
    return (
        LeakyNetwork.symmetric(UNITS, INPUTS).credit(post[-1], z[-1], x, theta, per_sample=per_sample)
        if post.ndim > 2
        else credit
    )


def spoils_z(answer: Any, z: Any, *arguments: Any) -> Any:
    z *= 1.0 + 4e-16
    return answer


calls = iter(range(10**6))
SUBSTRATES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "tangent without its leak": ("tangent", lambda answer, v, *_: answer + v, "tangent J v is the directional"),
    "cotangent that is the tangent": (
        "cotangent",
        lambda answer, a, z, x, theta: LeakyNetwork.symmetric(UNITS, INPUTS).tangent(a, z, x, theta),
        "cotangent is the transpose of tangent",
    ),
    "jacobian transposed": ("jacobian", lambda answer, *_: answer.mT, "jacobian holds the matrices of tangent"),
    "jacobian_diagonal without its leak": (
        "jacobian_diagonal",
        lambda answer, *_: answer + 1.0,
        "jacobian_diagonal is the diagonal of jacobian",
    ),
    "credit of U missing a factor": ("credit", with_block("U", lambda block: block / 2), "credit of block U is post"),
    "credit with the wrong sign": ("credit", with_block("b", lambda block: -block), "credit of block b is post"),
    "credit without a block": (
        "credit",
        lambda credit, *_, **__: Parameters({"W": credit["W"], "U": credit["U"]}),
        "analog blocks of theta and no others",
    ),
    "credit of the wrong sample": ("credit", swapped_lanes, "gives each sample its own"),
    "credit of the last time only": ("credit", last_time_only, "sum over time"),
    "influence of z, not r(z)": (
        "influence",
        lambda answer, z, *_: {**answer, "W": (answer["W"][0], z)},
        "influence of block W reproduces credit",
    ),
    "influence without gain": (
        "influence",
        lambda answer, *_: {**answer, "b": (2 * answer["b"][0], answer["b"][1])},
        "influence of block b reproduces credit",
    ),
    "an energy of another field": (
        "energy_credit",
        lambda _, z, x, theta: Parameters({"W": -z.T @ z / 2, "U": -z.T @ x, "b": -z.sum(0)}),
        "energy_credit belongs to F = -dE/dz, .*, block W",
    ),
    "metric of ones": ("metric", lambda answer, *_: 0 * answer + 1, "metric obeys J.T S = S J"),
    "metric negated": ("metric", lambda answer, *_: -answer, "metric is positive"),
    "metric withheld": ("metric", lambda *_: None, "reciprocal says whether metric is offered"),
    "reciprocity denied": ("reciprocal", lambda _: False, "reciprocal says whether metric is offered"),
    "field over time, mean": (
        "field",
        lambda answer, z, *_: answer if z.ndim == 2 else 0 * answer + answer.mean(),
        "field over leading axes",
    ),
    "field with a memory": ("field", lambda answer, *_: answer + 1e-9 * next(calls), "stateless|over leading axes"),
    "field that writes into z": ("metric", spoils_z, "leaves its arguments alone, z"),
    "field in float64 only": (
        "field",
        lambda answer, *_: answer + np.zeros(1) if isinstance(answer, np.ndarray) else answer,
        "field keeps float32",
    ),
    "another field in torch": (
        "field",
        lambda answer, *_: answer if isinstance(answer, np.ndarray) else answer * (1 + 1e-9),
        "NumPy and torch agree, field",
    ),
}


@pytest.mark.parametrize("what", SUBSTRATES)
def test_a_broken_substrate_is_caught_by_name(what: str) -> None:
    name, bend, law = SUBSTRATES[what]
    if "torch" in what:
        pytest.importorskip("torch", exc_type=ImportError)
    with pytest.raises(AssertionError, match=law):
        check_substrate(lambda: Bent(name, bend))


def test_the_unbent_substrate_passes() -> None:
    check_substrate(lambda: Bent("nothing", lambda answer: answer))


def simulated(**options: Any) -> SimulatedDevice:
    return SimulatedDevice(LeakyNetwork.dense(UNITS, INPUTS), horizon=12, **options)


@dataclass(frozen=True)
class Crooked(LearningRule):
    """A rule of which the answer, the needs or the manners are changed.

    Args:
        turn: (estimate, device, theta, batch, free, noise) -> another estimate.
        needs: what it says it needs.
        kind: what it says it is.
    """

    turn: Callable[..., Estimate]
    inner: LearningRule = EquilibriumPropagation()
    said: Needs | None = None
    kind: ClassVar[Kind] = Kind.LOCAL

    @property
    def needs(self) -> Needs:
        return self.inner.needs if self.said is None else self.said

    def estimate(self, device: Any, theta: Any, batch: Any, task: Any, free: Any, noise: Any) -> Estimate:
        answer = self.inner.estimate(device, theta, batch, task, free, noise)
        return self.turn(answer, device, theta, batch, free, noise)


def straight(answer: Estimate, *_: Any) -> Estimate:
    return answer


def turned(change: Callable[..., Parameters]) -> Callable[..., Estimate]:
    return lambda answer, *arguments: replace(answer, gradients=change(answer.gradients, *arguments))


def peeks(answer: Estimate, device: Any, *_: Any) -> Estimate:
    with suppress(CapabilityError):
        assert device.model.units
    return answer


def reprograms(answer: Estimate, device: Any, theta: Any, *_: Any) -> Estimate:
    device.program(theta * 0.9)
    return replace(answer, cost=answer.cost + Cost(writes=3))


def runs_afresh(answer: Estimate, device: Any, theta: Any, batch: Any, free: Any, noise: Any) -> Estimate:
    phases = (Phase(steps=3),)
    plan = Plan(inputs=batch.inputs, ids=batch.ids, phases=phases)
    device.relax(plan, noise=noise.repeated(1))
    return replace(answer, cost=answer.cost + Cost.of(phases, len(batch)))


def reuses_noise(answer: Estimate, device: Any, theta: Any, batch: Any, free: Any, noise: Any) -> Estimate:
    device.relax_transpose(free.final, Plan(inputs=batch.inputs, ids=batch.ids, phases=(Phase(steps=1),)), noise=noise)
    return replace(answer, cost=answer.cost + Cost.of((Phase(steps=1),), len(batch)))


def spoils_final(answer: Estimate, device: Any, theta: Any, batch: Any, free: Any, noise: Any) -> Estimate:
    free.final[0] += 1.0
    return answer


RULES: dict[str, tuple[LearningRule, str]] = {
    "cost understated": (
        Crooked(lambda answer, *_: replace(answer, cost=Cost(settles=1))),
        "the cost stated is the cost observed",
    ),
    "writes forgotten": (
        Crooked(lambda answer, device, theta, *_: device.program(theta) and answer),
        "the cost stated is the cost observed",
    ),
    "needs understated": (
        Crooked(straight, said=Needs(final_loss=True)),
        "works on a device that has only what it needs.*correct",
    ),
    "recording not asked for": (
        Crooked(straight, FiniteHorizonEP(), said=replace(FiniteHorizonEP().needs, record=0)),
        "not recorded",
    ),
    "twins not asked for": (
        Crooked(straight, ContractionHomeostat(), said=Needs(capabilities=frozenset({Capability.RECORD}))),
        "works on a device that has only what it needs.*load_state",
    ),
    "peeks at the model": (Crooked(peeks), "a LOCAL rule never touches Device.model"),
    "a local rule that needs the model": (
        Crooked(straight, said=Needs(capabilities=frozenset({Capability.CORRECT, Capability.MODEL}))),
        "a LOCAL rule never touches Device.model",
    ),
    "sum in place of a mean": (
        Crooked(turned(lambda g, device, theta, batch, *_: Parameters({**g.analog * len(batch), **g.readout}))),
        "an estimate is a mean over samples",
    ),
    "the first sample counts twice": (
        Crooked(turned(lambda g, device, theta, batch, *_: g | {"b": g["b"] * (1 + batch.inputs[0, 0])})),
        "the order of the batch does not matter",
    ),
    "no gradient for the readout": (
        Crooked(turned(lambda g, *_: Parameters({**g.analog, **g.readout.zeros()}))),
        "the gradient of the readout is the task's own",
    ),
    "a block missing": (Crooked(turned(lambda g, *_: g.analog)), "one block per block of theta"),
    "a block transposed": (Crooked(turned(lambda g, *_: g | {"U": g["U"].T})), "block U has the block's shape"),
    "not a number": (Crooked(turned(lambda g, *_: g | {"b": g["b"] * np.nan})), "block b .* finite"),
    "another loss": (Crooked(lambda answer, *_: replace(answer, loss=2 * answer.loss)), "the loss is that of the task"),
    "a memory": (
        Crooked(turned(lambda g, *_: g | {"b": g["b"] * (1 + next(calls))})),
        "says the same there|gives the same estimate",
    ),
    "leaves other parameters": (Crooked(reprograms), "leaves the device programmed as it was"),
    "presents its probes as samples": (Crooked(runs_afresh), "probes leave the carried state alone"),
    "the noise of the free phase": (
        Crooked(
            reuses_noise,
            said=Needs(capabilities=frozenset({Capability.CORRECT, Capability.TRANSPOSE}), final_loss=True),
        ),
        "probes use the repeats 1 to 255",
    ),
    "writes into what it was given": (Crooked(spoils_final), "a rule leaves its arguments alone, final"),
}


@pytest.mark.parametrize("what", RULES)
def test_a_broken_rule_is_caught_by_name(what: str) -> None:
    rule, law = RULES[what]
    with pytest.raises(AssertionError, match=law):
        check_rule(lambda: rule, simulated)


def test_the_straight_rule_passes() -> None:
    check_rule(lambda: Crooked(straight), simulated)


def test_a_rule_that_the_device_cannot_serve_is_not_judged() -> None:
    with pytest.raises(CapabilityError, match="correct"):
        check_rule(EquilibriumPropagation, lambda: simulated(capabilities=SIMULATED - {Capability.CORRECT}))
