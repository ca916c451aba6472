"""The audit itself: the same batch, the same noise, one thing worse at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, final

import numpy as np

from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.ladder import Ladder, Snapshot
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, RandomStart
from hwsim.contracts.rule import Clipped, LearningRule, Only, Scaled, require, settle_free
from hwsim.contracts.task import Batch, Task
from hwsim.contracts.threads import one_blas_thread
from hwsim.reference import bptt_along

from .ladder import DeviceLadder
from .moments import Blocks, Moments, cosine, norm, over
from .perfect import PerfectDevice
from .record import ANALOG, Audit, Floor, Rung, Share

NOMINAL = "nominal instead of real synapses"
FEEDBACK = "feedback array instead of the transpose"
_CARRIED = 2**15
"""Added to the repeat of the settling that leaves the state from which a carried one starts."""

Report: TypeAlias = Callable[[int, int], None]
"""Told (gradients done, gradients in all)."""


@final
@dataclass(frozen=True, kw_only=True)
class _Step:
    """A rung before it is measured; `gradient` is what is left after it, under the noise of a path."""

    name: str
    floor: Floor
    advice: str
    gradient: Callable[[NoisePath], Parameters]
    detail: str = ""


def audit(
    ladder: DeviceLadder,
    rule: LearningRule,
    *,
    task: Task,
    theta: Parameters,
    batch: Batch,
    noise: NoisePath,
    repeats: int = 16,
    report: Report | None = None,
) -> Audit:
    """Where the gradient that a rule delivers on a machine parts from the exact one, rung by rung.

    The judge is BPTT of the deployed loss on the drawn chip, along the settling of that chip without noise and read
    errors. Then come the ideals that the rule states (`LearningRule.ladder`), the rule itself on a perfect device with
    the chip's physics (`PerfectDevice`), on the quiet chip, of which it knows the drawing, and on the other devices of
    the ladder. With g_i what is left after rung i and g_0 the judge,

        d_i = g_i - g_{i-1},    sum_i d_i = g_machine - g_judge,    sum_i (var g_i - var g_{i-1}) = var g_machine

    (deviations from the judge of the same repeat, for the variance). All of them see the same R noise paths, so that
    what they have in common cancels in d_i. A random start is drawn anew in every repeat and is the same for all; with
    a carried one every lane goes on from where the sample of the lane before it settled.

    What is fixed in a settling (drift, wires) is part of the chip, and the judge differentiates at fixed deviation, see
    `DrawnSubstrate`: that dW_eff / dW is not 1 is on no rung, and the judge itself is off by as much. Blocks of
    feedback arrays, on which the loss does not depend, are left out.

    Args:
        ladder: the machine taken apart, programmed.
        rule: whose gradient. Scaling and clipping are taken off (the audit is of the gradient, not of its length); of
            `rule.only(...)` only the chosen blocks are looked at.
        task: the deployed loss.
        theta: what the devices hold, as read back.
        batch: the samples.
        noise: address of the first repeat; the others are the next experiment steps.
        repeats: R.
        report: told how far it is.

    Raises:
        InputError: the rule states no ladder.
        CapabilityError: the machine cannot serve the rule, or the judge has no model.

    Cost: R times as many free settlings and estimates as there are devices, and one each of the exact gradients (R with
    a random start).
    """
    whole("an audit", "repeats", repeats, least=1)
    own, only = _peeled(rule)
    told = own.ladder
    if told is None:
        raise InputError(
            f"{type(own).__name__} states no way from the exact gradient of the deployed loss to what it delivers "
            f"(LearningRule.ladder): audit the terms of a sum one by one; a regulariser estimates no loss's gradient"
        )
    require(own, ladder.machine.spec, task)
    ladder.judge.spec.require({Capability.MODEL}, "the judge of an audit")
    setting = _Setting(task=task, theta=theta, batch=batch, rule=own)
    exact = _Exact(setting, ladder.judge, told)
    steps, missing = _steps(setting, ladder, told, exact)
    names = _blocks(theta, ladder.judge, only)
    groups = {**{name: (name,) for name in names}, ANALOG: tuple(name for name in names if name in theta.analog)}
    tally = _Tally(groups, len(steps))
    done, count = 0, repeats * len(steps)
    # a blow-up is a result, not a floating-point warning
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        for r in range(repeats):
            path = noise.at_step(noise.step + r)
            values = [_plain(exact.judge(path), names)]
            for step in steps:
                values.append(_plain(step.gradient(path), names))
                done += 1
                if report is not None:
                    report(done, count)
            tally.add(values)
        rungs = tuple(
            Rung(name=step.name, floor=step.floor, advice=step.advice, detail=step.detail, shares=tally.rung(i))
            for i, step in enumerate(steps)
        )
        return Audit(
            rule=type(own).__name__,
            repeats=repeats,
            norms=tally.norms(),
            rungs=rungs,
            total=tally.total(),
            single=tally.single(),
            missing=missing,
        )


def _peeled(rule: LearningRule) -> tuple[LearningRule, tuple[str, ...] | None]:
    """The rule inside scaling, clipping and choice of blocks, and the blocks that are left (None for all)."""
    only: tuple[str, ...] | None = None
    while isinstance(rule, Scaled | Clipped | Only):
        if isinstance(rule, Only):
            only = rule.blocks if only is None else tuple(name for name in only if name in rule.blocks)
        rule = rule.rule
    return rule, only


def _blocks(theta: Parameters, judge: Device, only: tuple[str, ...] | None) -> tuple[str, ...]:
    names = tuple(name for name in theta if name not in judge.spec.feedback)
    if only is None:
        return names
    kept = {*only, *(theta.readout if "readout" in only else ())}
    chosen = tuple(name for name in names if name in kept)
    if not any(name in theta.analog for name in chosen):
        raise InputError(f"an audit needs an analog block; the rule is for {sorted(kept)} of {sorted(names)}")
    return chosen


@final
@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What stays the same at every rung."""

    task: Task
    theta: Parameters
    batch: Batch
    rule: LearningRule

    def estimator(self, device: Device) -> Callable[[NoisePath], Parameters]:
        """What the rule makes of a device, always from the state in which it is now."""
        saved = device.save()

        def gradient(path: NoisePath) -> Parameters:
            device.restore(saved)
            self.before(device, path)
            free, _ = settle_free(device, self.batch, self.rule.needs, path)
            return self.rule.estimate(device, self.theta, self.batch, self.task, free, path).gradients

        return gradient

    def before(self, device: Device, path: NoisePath) -> None:
        """Settle the sample of the lane before, where the start is carried on from it."""
        if isinstance(device.spec.start, Carry):
            earlier = self.batch.take(np.roll(np.arange(len(self.batch)), 1))
            settle_free(device, earlier, Needs(), path.repeated(_CARRIED))


@final
class _Exact:
    """The judge and the ideals; computed again only where the noise-free settling is another one."""

    def __init__(self, setting: _Setting, judge: Device, told: Ladder) -> None:
        self._setting, self._told, self._model, self._spec = setting, told, judge.model, judge.spec
        self.device = self.perfect()
        self._path: NoisePath | None = None
        self._gradients: tuple[Parameters, ...] = ()

    def perfect(self, *, through_feedback: bool = False) -> PerfectDevice:
        """The chip without a fault of its own, programmed."""
        device = PerfectDevice(self._model, self._spec, through_feedback=through_feedback)
        device.program(self._setting.theta)
        return device

    def judge(self, path: NoisePath) -> Parameters:
        """BPTT of the deployed loss."""
        return self._all(path)[0]

    def ideal(self, k: int) -> Callable[[NoisePath], Parameters]:
        """The k-th ideal."""
        return lambda path: self._all(path)[1 + k]

    def _all(self, path: NoisePath) -> tuple[Parameters, ...]:
        setting, device = self._setting, self.device
        # only a random start makes one repeat differ from another where there is no noise
        if self._path is None or (path != self._path and isinstance(device.spec.start, RandomStart)):
            self._path = path
            device.restore({})
            setting.before(device, path)
            free, _ = settle_free(device, setting.batch, Needs(record=1), path)
            eps = device.spec.step_size
            snapshot = Snapshot(
                model=device.model,
                theta=setting.theta.map(lambda block: np.asarray(block, np.float64)),
                batch=setting.batch,
                task=setting.task,
                states=free.recorded,
                step_size=eps,
            )
            judge = bptt_along(device.model, snapshot.theta, setting.batch, setting.task, free.recorded, eps)
            self._gradients = (judge, *(ideal.gradient(snapshot) for ideal in self._told.ideals))
        return self._gradients


def _steps(setting: _Setting, ladder: DeviceLadder, told: Ladder, exact: _Exact) -> tuple[list[_Step], tuple[str, ...]]:
    """All rungs that can be told apart, and those that cannot."""
    steps = [
        _Step(name=ideal.name, floor=Floor.RULE, advice=ideal.advice, gradient=exact.ideal(k))
        for k, ideal in enumerate(told.ideals)
    ]
    missing: list[str] = []
    judge, rule = ladder.judge, setting.rule
    nominal, advice = NOMINAL, "measure the die (gains, time constants, crosstalk) and give the rule its synapses"
    if lacking := rule.needs.lacking(exact.device.spec):
        missing.append(
            f'"{told.finite}" and "{NOMINAL}", since the drawn chip without a fault lacks {"; ".join(lacking)}'
        )
        nominal, advice = f"{told.finite}; {NOMINAL}", f"{told.advice}; or {advice}"
    else:
        finite = setting.estimator(exact.perfect(through_feedback=rule.needs.feedback))
        steps.append(_Step(name=told.finite, floor=Floor.RULE, advice=told.advice, gradient=finite))
        if judge.spec.feedback and not rule.needs.feedback:  # a rule that needs it has a rung of its own for it
            driven = exact.perfect(through_feedback=True)
            why = "align the feedback array (Kolen-Pollack learning) before relying on it"
            steps.append(_Step(name=FEEDBACK, floor=Floor.CHIP, advice=why, gradient=setting.estimator(driven)))
    steps.append(_Step(name=nominal, floor=Floor.CHIP, advice=advice, gradient=setting.estimator(judge)))
    for rung in ladder.rungs:
        steps.append(
            _Step(
                name=rung.name,
                floor=rung.floor,
                advice=rung.advice,
                detail=rung.detail,
                gradient=setting.estimator(rung.device),
            )
        )
    return steps, tuple(missing)


def _plain(gradients: Parameters, names: Sequence[str]) -> Blocks:
    return {name: np.asarray(gradients[name], np.float64) for name in names}


@final
class _Tally:
    """Moments of all gradients: of what each rung changes, and of what is left after it against the judge."""

    def __init__(self, groups: Mapping[str, tuple[str, ...]], rungs: int) -> None:
        self._groups = groups
        self._judge = Moments()
        self._values = [Moments() for _ in range(rungs)]
        self._changes = [Moments() for _ in range(rungs)]
        self._misses = [Moments() for _ in range(rungs)]
        self._cosines: dict[str, list[float]] = {group: [] for group in groups}
        self._count = 0

    def add(self, values: Sequence[Blocks]) -> None:
        """The judge, and what is left after every rung, of one repeat."""
        self._count += 1
        self._judge.add(values[0])
        for i, (before, after) in enumerate(pairwise(values)):
            self._values[i].add(after)
            self._changes[i].add(_difference(after, before))
            self._misses[i].add(_difference(after, values[0]))
        for group, names in self._groups.items():
            self._cosines[group].append(cosine(values[-1], values[0], names))

    def norms(self) -> dict[str, float]:
        mean = self._judge.mean
        return {group: norm(mean, names) for group, names in self._groups.items()}

    def rung(self, i: int) -> dict[str, Share]:
        """What rung i changes."""
        return self._shares(self._changes[i], i, self._misses[i - 1] if i else None)

    def total(self) -> dict[str, Share]:
        """All rungs together."""
        return self._shares(self._misses[-1], -1, None)

    def single(self) -> dict[str, float]:
        """Mean cosine of one estimate to the judge."""
        return {group: float(np.mean(values)) for group, values in self._cosines.items()}

    def _shares(self, change: Moments, after: int, before: Moments | None) -> dict[str, Share]:
        exact, mean, left = self._judge.mean, change.mean, self._values[after].mean
        shares = {}
        for group, names in self._groups.items():
            scale = norm(exact, names)
            added = self._misses[after].variance(names) - (0.0 if before is None else before.variance(names))
            shares[group] = Share(
                bias=over(norm(mean, names), scale),
                error=over(math.sqrt(change.variance(names) / self._count), scale),
                variance=over(added, scale * scale),
                cosine=cosine(left, exact, names),
            )
        return shares


def _difference(a: Blocks, b: Blocks) -> Blocks:
    return {name: a[name] - b[name] for name in a}
