"""The laws of a learning rule: honest about what it needs and costs, and an estimate that is a mean over samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.needs import Needs
from hwsim.contracts.noise import BRANCH_REPEATS, NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, Phase, Plan, RandomStart, Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule, Sum, require, rules_for, settle_free
from hwsim.contracts.task import Batch, Task, judge, only_final
from hwsim.tasks import Windowed

from .bench import Bench
from .draws import draw_parameters
from .laws import blocks_close, close, demand, largest, refused, run_laws
from .limited import LimitedDevice, MeteredDevice
from .task import RandomRegression

SAMPLES = 6
ROUNDING = 1e5
"""Machine epsilons by which gradients may differ, relative, where only the order of sums does."""


@final
@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A rule on a kind of device."""

    make_rule: Callable[[], LearningRule]
    bench: Bench
    task: Task
    batch: Batch

    @property
    def rule(self) -> LearningRule:
        return self.make_rule()

    @property
    def noise(self) -> NoisePath:
        return self.bench.noise

    @property
    def relative(self) -> float:
        return ROUNDING * self.bench.rounding

    def theta(self) -> Parameters:
        return draw_parameters(self.bench.spec, self.bench.seed) | self.task.initial_readout(self.bench.seed, 1.0)

    @cached_property
    def once(self) -> Estimate:
        """The estimate that others are compared with."""
        return self.run()

    def run(
        self, rule: LearningRule | None = None, batch: Batch | None = None, noise: NoisePath | None = None
    ) -> Estimate:
        """One estimate on a device of its own."""
        with self.bench.make() as device:
            return self.on(device, rule, batch, noise)[1]

    def on(
        self,
        device: Device,
        rule: LearningRule | None = None,
        batch: Batch | None = None,
        noise: NoisePath | None = None,
    ) -> tuple[Relaxation, Estimate, Parameters]:
        """The free phase, the estimate, and what the device held."""
        rule, batch = rule or self.rule, batch or self.batch
        held = device.program(self.theta())
        # the free phase is the batch's, whatever branch of the noise the rule is given
        free, _ = settle_free(device, batch, rule.needs, self.noise)
        return free, rule.estimate(device, held, batch, self.task, free, noise or self.noise), held


def check_rule(make_rule: Callable[[], LearningRule], make_device: Callable[[], Device], *, seed: int = 0) -> None:
    """Hold a learning rule to its contract, on a regression task of random data:

        gradient    one finite block per block of theta, of its shape; `readout.*` is the task's own gradient at z_T
                    (zeros for a rule without a loss; a REFERENCE may judge at another state); the loss is the task's.
                    The same under a loss that looks along the way, unless the rule looks at z_T alone (final_loss),
                    for which `require` then refuses it
        needs       with only the capabilities it needs it works, and (quiet devices that read exactly) says the same;
                    without any one of them `require` refuses it, naming the rules that would work
        local       a LOCAL rule needs no model and never asks for one
        cost        what it states is what a `MeteredDevice` counted, writes included
        noise       the same address gives the same estimate; its repeats stay within those of its branches and off
                    those of the free phase
        mean        the order of a batch does not matter, every sample twice is every sample once, and two halves give
                    the whole (starts from `Carry` excepted)
        manners     arguments are left alone; the device is left programmed as it was (where writes are exact), its
                    carried state untouched (`load_state`)
        algebra     (w r): w g;   (r + r): g(noise) + g(noise.branch(r.branches)), cost twice, needs the union

    What compares two estimates needs a device without noise or with `replayable_noise`, and is left out on others. The
    suite is for rules proper and sums of one with a loss and others without; a scaled or clipped rule scales the
    readout's gradient as well, which the first law would not know.

    Args:
        make_rule: makes the rule.
        make_device: opens a device that can serve it; called once for each estimate.
        seed: of everything drawn.

    Raises:
        CapabilityError: the device cannot serve the rule, so that nothing can be said.
        AssertionError: the first law that is broken, what it demands and what was found.

    Cost: some 20 estimates on 6 samples.
    """
    with make_device() as device:
        require(make_rule(), device.spec)
    bench = Bench.survey(make_device, seed)
    task = RandomRegression(units=bench.spec.units, inputs=bench.spec.inputs, seed=seed)
    batch = task.training_batch(0, SAMPLES, seed)
    trial = _Trial(make_rule=make_rule, bench=bench, task=task, batch=batch)
    laws = (
        _kind,
        _local,
        _manners,
        _gradient,
        _cost,
        _needs,
        _required,
        _same_again,
        _order,
        _twice,
        _halves,
        _algebra,
    )
    run_laws("check_rule", laws, trial)


def _kind(trial: _Trial) -> None:
    rule = trial.rule
    demand(isinstance(rule.kind, Kind), "kind is one of Kind", list(Kind), rule.kind)
    demand(rule.needs == trial.rule.needs, "needs do not change", rule.needs, trial.rule.needs)
    demand(rule.needs.record >= 0, "needs.record is a number of steps", ">= 0", rule.needs.record)
    demand(rule.branches >= 1, "a rule is at least one branch of the noise", ">= 1", rule.branches)


def _local(trial: _Trial) -> None:
    if trial.rule.kind is not Kind.LOCAL:
        return
    law = "a LOCAL rule never touches Device.model"
    demand(Capability.MODEL not in trial.rule.needs.capabilities, law, "no need of capability model", "that need")
    with MeteredDevice(trial.bench.make()) as device:
        trial.on(device)
    demand(device.looks == 0, law, "no look at it", f"{device.looks} looks")


def _gradient(trial: _Trial) -> None:
    _gradient_of(trial)
    windowed = Windowed(task=trial.task, first=trial.bench.spec.horizon // 2)
    if trial.rule.needs.final_loss:
        law = "require refuses a rule that looks at z_T alone where the task looks before it"
        message = refused(law, CapabilityError, partial(require, trial.rule, trial.bench.spec, windowed))
        demand("z_T" in message, law, "an error that says so", repr(message))
    else:
        _gradient_of(replace(trial, task=windowed))


def _gradient_of(trial: _Trial) -> None:
    with trial.bench.make() as device:
        free, estimate, held = trial.on(device)
    gradients = estimate.gradients
    law = "the gradient has one block per block of theta"
    demand(gradients.keys() == held.keys(), law, sorted(held), sorted(gradients))
    for name, block in held.items():
        law = f"the gradient of block {name} has the block's shape"
        demand(gradients[name].shape == block.shape, law, block.shape, gradients[name].shape)
        demand(bool(np.isfinite(gradients[name]).all()), f"{law} and finite", "finite numbers", "some that are not")
    law = "diagnostics are named scalars"
    demand(all(isinstance(value, float | int) for value in estimate.diagnostics.values()), law, "floats", estimate)
    if math.isnan(estimate.loss) and not only_final(trial.task.weights(trial.bench.spec.horizon)):
        return  # a rule without a loss has not looked along the way
    judged = judge(trial.task, free, trial.batch, held, trial.bench.spec.horizon)
    if not math.isnan(estimate.loss):
        close("the loss is that of the task", estimate.loss, judged.loss, trial.relative * abs(judged.loss))
    if trial.rule.kind is Kind.REFERENCE:
        return  # it may judge at another state, such as z*
    expected, law = judged.readout, "the gradient of the readout is the task's own"
    if math.isnan(estimate.loss):
        expected, law = expected.zeros(), "a rule without a loss says nothing about the readout"
    blocks_close(law, gradients.readout, expected, trial.relative)


def _cost(trial: _Trial) -> None:
    rule = trial.rule
    with MeteredDevice(trial.bench.make()) as device:
        held = device.program(trial.theta())
        free, _ = settle_free(device, trial.batch, rule.needs, trial.noise)
        before = device.observed
        meter = MeteredDevice(device)
        estimate = rule.estimate(meter, held, trial.batch, trial.task, free, trial.noise)
        law = "the cost stated is the cost observed, per lane and on top of the free phase"
        demand(estimate.cost == meter.observed, law, meter.observed, estimate.cost)
        demand(before + meter.observed == device.observed, "a meter adds up", before + meter.observed, device.observed)
    allowed = BRANCH_REPEATS * rule.branches
    outside = [repeat for repeat in meter.repeats if not 1 <= repeat < allowed]
    law = "probes use the repeats 1 to 255 of each of the rule's branches, 0 being the free phase's"
    demand(not outside, law, f"repeats from 1 to {allowed - 1}", sorted(outside))


def _needs(trial: _Trial) -> None:
    """With only what it needs, a rule works as well."""
    rule = trial.rule
    needs = rule.needs
    least = _limited(trial, needs.on(trial.bench.spec), reciprocal=needs.reciprocal)
    law = f"a rule works on a device that has only what it needs ({_names(needs.on(trial.bench.spec))})"
    with least() as device:
        require(rule, device.spec)
        try:
            found = trial.on(device)[1].gradients
        except Exception as error:
            text = f"{law}: expected an estimate; found {type(error).__name__}: {error}"
            raise AssertionError(text) from error
    demand(found.finite(), law, "a finite gradient", "one that is not")
    if not trial.bench.quiet or trial.bench.read_error > 0:
        return
    if isinstance(trial.bench.spec.start, RandomStart):
        # the deployed start is drawn from the noise path, which is no need of the rule
        kept = needs.on(trial.bench.spec) | ({Capability.REPLAYABLE_NOISE} & trial.bench.spec.capabilities)
        with _limited(trial, kept, reciprocal=needs.reciprocal)() as device:
            found = trial.on(device)[1].gradients
    blocks_close(f"{law}, and says the same there", found, trial.once.gradients, trial.relative)


def _limited(trial: _Trial, capabilities: frozenset[Capability], *, reciprocal: bool) -> Callable[[], LimitedDevice]:
    return lambda: LimitedDevice(trial.bench.make(), capabilities, reciprocal=reciprocal)


def _names(capabilities: frozenset[Capability]) -> str:
    return ", ".join(sorted(c.name.lower() for c in capabilities)) or "nothing"


def _required(trial: _Trial) -> None:
    rule, spec = trial.rule, trial.bench.spec
    require(rule, spec)
    lacking = {
        c.name.lower(): replace(spec, capabilities=spec.capabilities - {c}) for c in rule.needs.on(trial.bench.spec)
    }
    if rule.needs.reciprocal:
        lacking["reciprocal"] = replace(spec, reciprocal=False)
    if rule.needs.feedback:
        lacking["feedback"] = replace(spec, feedback={})
    if rule.needs.known_start:
        lacking["start"] = replace(spec, start=Carry())
    for name, less in lacking.items():
        law = f"require refuses a rule on a device that lacks {name}, before anything settles"
        message = refused(law, CapabilityError, partial(require, rule, less))
        demand(name in message, law, f"an error that names {name}", repr(message))
        working = rules_for(less)
        law = f"the refusal for want of {name} names the rules that would work"
        demand(all(other in message for other in working), law, working, repr(message))


def _repeatable(trial: _Trial) -> bool:
    return trial.bench.repeatable


def _same_again(trial: _Trial) -> None:
    if not _repeatable(trial):
        return
    first, second = trial.once, trial.run()
    blocks_close("the same noise address gives the same estimate", second.gradients, first.gradients, 0.0)
    if not trial.bench.spec.exact_writes:
        return  # programmed again, it holds something else
    with trial.bench.make() as device:
        trial.on(device)
        rule = trial.rule
        held = device.program(trial.theta())
        device.restore(_fresh(trial))
        free, _ = settle_free(device, trial.batch, rule.needs, trial.noise)
        again = rule.estimate(device, held, trial.batch, trial.task, free, trial.noise)
    blocks_close("a rule keeps no memory from one estimate to the next", again.gradients, first.gradients, 0.0)


def _fresh(trial: _Trial) -> Mapping[str, Array]:
    with trial.bench.make() as device:
        return device.save()


def _order(trial: _Trial) -> None:
    if not _repeatable(trial):
        return
    order = np.random.default_rng(trial.bench.seed).permutation(SAMPLES)
    law = "the order of the batch does not matter"
    blocks_close(law, trial.run(batch=trial.batch.take(order)).gradients, trial.once.gradients, trial.relative)


def _twice(trial: _Trial) -> None:
    """Every sample twice, under the same ids: the mean over samples, however it is weighted, stays."""
    if not trial.bench.quiet and not trial.bench.has(Capability.TWINS, Capability.REPLAYABLE_NOISE):
        return
    doubled = trial.run(batch=trial.batch.take(np.repeat(np.arange(SAMPLES), 2)))
    law = "an estimate is a mean over samples: every sample twice is every sample once"
    blocks_close(law, doubled.gradients, trial.once.gradients, trial.relative)


def _halves(trial: _Trial) -> None:
    if not _repeatable(trial) or isinstance(trial.bench.spec.start, Carry):
        return
    first, second = (trial.run(batch=trial.batch.take(half)) for half in (slice(0, 2), slice(2, SAMPLES)))
    joined = first.gradients * (2 / SAMPLES) + second.gradients * (1 - 2 / SAMPLES)
    law = "an estimate is a mean over samples: that of two parts of a batch is that of the batch"
    demand(joined.keys() == trial.once.gradients.keys(), law, sorted(trial.once.gradients), sorted(joined))
    for name, block in trial.once.gradients.items():
        slack = trial.relative * largest(first.gradients[name], second.gradients[name], block)
        close(f"{law}, block {name}", joined[name], block, slack)


def _manners(trial: _Trial) -> None:
    rule, batch = trial.rule, trial.batch
    arrays = {"inputs": batch.inputs, "targets": batch.targets, "ids": batch.ids}
    with trial.bench.make() as device:
        held = device.program(trial.theta())
        free, _ = settle_free(device, batch, rule.needs, trial.noise)
        arrays |= {"final": free.final, "residual": free.residual, "outcome": free.outcome}
        arrays |= {} if free.states is None else {"states": free.states}
        arrays |= dict(held)
        copies = {name: np.array(array) for name, array in arrays.items()}
        rule.estimate(device, held, batch, trial.task, free, trial.noise)
        for name, copy in copies.items():
            close(f"a rule leaves its arguments alone, {name}", arrays[name], copy)
        if Capability.LOAD_STATE in device.spec.capabilities:
            plan = Plan(inputs=batch.inputs, ids=batch.ids, phases=(Phase(steps=0),), start=Carry())
            (again,) = device.relax(plan, noise=trial.noise)
            law = "a rule's probes leave the carried state alone"
            close(law, again.final, copies["final"], trial.bench.tolerance(copies["final"]))
        if _repeatable(trial) and not isinstance(device.spec.start, Carry) and device.spec.exact_writes:
            again, _ = settle_free(device, batch, rule.needs, trial.noise)
            law = "a rule leaves the device programmed as it was"
            close(law, again.final, copies["final"], trial.bench.tolerance(copies["final"]))


@final
@dataclass(frozen=True)
class _Silent(LearningRule):
    """Needs something and says nothing: a partner for sums."""

    kind: ClassVar[Kind] = Kind.LOCAL

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.COMPLEX}), record=6)

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        return Estimate(gradients=theta.zeros(), loss=math.nan)


def _algebra(trial: _Trial) -> None:
    rule = trial.rule
    both = rule + _Silent()
    union = rule.needs | _Silent().needs
    demand(both.needs == union, "a sum needs what each of its terms needs", union, both.needs)
    demand(both.branches == rule.branches + 1, "a sum has the branches of its terms", rule.branches + 1, both.branches)
    demand((2 * rule).needs == rule.needs, "a scaled rule needs what the rule needs", rule.needs, (2 * rule).needs)
    alone = trial.once
    twice = rule + rule
    demand(isinstance(twice, Sum), "rules add to a Sum", "Sum", type(twice).__name__)
    total = trial.run(twice)
    demand(
        total.cost == alone.cost + alone.cost, "a sum costs what its terms cost", alone.cost + alone.cost, total.cost
    )
    if not _repeatable(trial):
        return
    doubled = trial.run(2 * rule)
    law = "scaling is linear, (2 r) gives 2 g"
    blocks_close(law, doubled.gradients, alone.gradients * 2.0, 0.0)
    demand(doubled.cost == alone.cost, "a scaled rule costs what the rule costs", alone.cost, doubled.cost)
    later = trial.run(noise=trial.noise.branch(rule.branches))
    law = "adding is linear, (r + r) gives g(noise) + g(noise of the next branch)"
    expected = alone.gradients + later.gradients
    demand(total.gradients.keys() == expected.keys(), law, sorted(expected), sorted(total.gradients))
    for name, block in expected.items():
        slack = trial.relative * largest(alone.gradients[name], later.gradients[name])
        close(f"{law}, block {name}", total.gradients[name], block, slack)


_LAWS = (_kind, _local, _manners, _gradient, _cost, _needs, _required, _same_again, _order, _twice, _halves, _algebra)
