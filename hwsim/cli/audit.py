"""`hwsim audit`: where a rule's gradient parts from the exact one on a machine, rung by rung."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, final

from hwsim.audit import Audit, audit
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, RandomStart, Rest, Start
from hwsim.contracts.rule import LearningRule, require
from hwsim.contracts.scale import Scale
from hwsim.devices import PRESETS as MACHINES, SimulatedDevice
from hwsim.devices.imperfections import ADC, DAC, Asymmetry, Imperfection, Mismatch, ReadoutNoise, ThermalNoise
from hwsim.devices.ladder import audit_ladder
from hwsim.reference import BPTT
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Classification, Digits, NextCharacter, python_documentation, read_text
from hwsim.tasks.text import CONTEXT
from hwsim.training import Adam, Trainer

from .audit_options import OWN
from .options import PRESETS as TASKS
from .progress import Progress, State
from .rules import rule_named

TRAINING, AUDITING = "training", "audit"
LARGEST_SEED = 2**32
_AUDIT_STEP = 2**31
"""Experiment step of the first repeat, beyond every training step."""
_WIDTH = 100


@final
@dataclass(frozen=True, kw_only=True)
class _Machine:
    """How to make the device, with any part of its imperfections."""

    network: LeakyNetwork
    scale: Scale | None
    imperfections: tuple[Imperfection, ...]
    start: Start
    horizon: int
    step_size: float
    seed: int

    def device(self, imperfections: Sequence[Imperfection]) -> SimulatedDevice:
        """The same die with these imperfections."""
        return SimulatedDevice(
            self.network,
            horizon=self.horizon,
            step_size=self.step_size,
            scale=self.scale,
            start=self.start,
            imperfections=imperfections,
            die_seed=self.seed,
            program_seed=self.seed,
            seed=self.seed,
        )


def run_audit(options: argparse.Namespace) -> int:
    """Train, audit, print and save.

    Returns:
        0.

    Raises:
        InputError, CapabilityError, RangeError: what was asked cannot be done.
    """
    if options.seed >= LARGEST_SEED:
        raise InputError(f"--seed must be below 2^32; found {options.seed}")
    rule, task = _rule(options), _task(options)
    machine = _machine(options, task)
    device = machine.device(machine.imperfections)
    require(rule, device.spec, task)
    if rule.ladder is None:
        raise InputError(
            f"--rule {options.rule} states no way from the exact gradient to what it delivers, so that it cannot be "
            f"audited: name one rule that estimates the gradient of a loss (the terms of a sum one by one)"
        )
    if options.out is not None:
        _make_room(options.out)  # before the work is done
    if options.batch > len(task.validation):
        raise InputError(f"--batch {options.batch}: the task has {len(task.validation)} held-out samples")
    labels = [TRAINING, AUDITING] if options.train else [AUDITING]
    with Progress(labels, 100, quiet=options.quiet) as progress:
        theta = _trained(device, task, machine, options, progress)
        ladder, held = audit_ladder(machine.device, machine.imperfections, theta, waited=options.wait)
        with ladder:
            progress.update(AUDITING, 0)
            found = audit(
                ladder,
                rule,
                task=task,
                theta=held,
                batch=task.validation.take(slice(0, options.batch)),
                noise=NoisePath(seed=options.seed, step=_AUDIT_STEP),
                repeats=options.repeats,
                report=lambda done, count: progress.update(AUDITING, 100 * done // count),
            )
        progress.update(AUDITING, 100, state=State.DONE)
    _publish(replace(found, settings=_asked(options)), options)
    return 0


def _rule(options: argparse.Namespace) -> LearningRule:
    rule = rule_named(options.rule)
    told: dict[str, Any] = {}
    known: set[str] = {each.name for each in fields(rule)} if is_dataclass(rule) else set()
    for option, names in (("amplitude", ("nudge", "kick")), ("nudge_steps", ("steps",))):
        value = getattr(options, option)
        if value is None:
            continue
        own = [name for name in names if name in known]
        if not own:
            raise InputError(
                f"--rule {options.rule} has no {' or '.join(names)}; leave out --{option.replace('_', '-')}"
            )
        told |= dict.fromkeys(own, value)
    if told and is_dataclass(rule):
        rule = replace(rule, **told)
    return rule if options.average == 1 else rule.averaged(options.average)


def _task(options: argparse.Namespace) -> Classification:
    if options.task == "digits":
        if options.text is not None:
            raise InputError("--text is for --task text; leave it out")
        return Digits(units=options.units)
    text = python_documentation() if options.text is None else read_text(options.text)
    return NextCharacter(text=text, units=options.units)


def _machine(options: argparse.Namespace, task: Classification) -> _Machine:
    starts: dict[str, Start] = {"rest": Rest(), "random": RandomStart(options.start_sigma), "carry": Carry()}
    scale, imperfections = None, _own(options)
    if options.preset is not None:
        if imperfections:
            given = [f"--{name.replace('_', '-')}" for name in OWN if getattr(options, name)]
            raise InputError(f"--preset says all about the machine; leave out {', '.join(given)}")
        preset = MACHINES[options.preset]()
        scale, imperfections = preset.scale, preset.imperfections
    return _Machine(
        network=LeakyNetwork.dense(options.units, task.inputs),
        scale=scale,
        imperfections=imperfections,
        start=starts[TASKS[options.task].start if options.start is None else options.start],
        horizon=options.horizon,
        step_size=options.step_size,
        seed=options.seed,
    )


def _own(options: argparse.Namespace) -> tuple[Imperfection, ...]:
    """The imperfections told one by one."""
    some: list[Imperfection] = []
    if options.mismatch:
        some.append(Mismatch(gain=options.mismatch, log_normal=True))
    if options.asymmetry:
        some.append(Asymmetry(sigma=options.asymmetry))
    if options.noise:
        some.append(ThermalNoise(options.noise))
    if options.dac_bits is not None:
        some.append(DAC(options.dac_bits, options.dac_range))
    if options.read_noise:
        some.append(ReadoutNoise(options.read_noise))
    if options.adc_bits is not None:
        some.append(ADC(options.adc_bits, options.adc_range))
    return tuple(some)


def _trained(
    device: SimulatedDevice,
    task: Classification,
    machine: _Machine,
    options: argparse.Namespace,
    progress: Progress,
) -> Parameters:
    """Parameters after some updates by BPTT on the machine itself."""
    usual = TASKS[options.task]
    fan_in = CONTEXT if isinstance(task, NextCharacter) else None
    analog = machine.network.initial(options.seed, gain=usual.gain, input_gain=usual.input_gain, input_fan_in=fan_in)
    theta = analog | task.initial_readout(options.seed, usual.readout_gain)
    if not options.train:
        return theta
    rule: LearningRule = BPTT()
    trainer = Trainer(
        device=device,
        rule=rule if usual.clip is None else rule.clipped(usual.clip),
        task=task,
        optimiser=Adam(learning_rate=usual.learning_rate),
        batch_size=options.batch,
        seed=options.seed,
        noise=NoisePath(seed=options.seed),
    )
    progress.update(TRAINING, 0)
    with device:
        state = trainer.start(theta)
        for step in range(options.train):
            state, estimate = trainer.advance(state)
            progress.update(TRAINING, 100 * (step + 1) // options.train, loss=estimate.loss)
            if state.diverged:
                raise InputError(
                    f"training diverges at step {state.step}, and there is nothing to audit beyond it: give a smaller "
                    f"--train, or --step-size"
                )
    progress.update(TRAINING, 100, state=State.DONE)
    return state.theta


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    from hwsim import __version__

    left_out = ("command", "out", "json", "quiet")
    told = {key: value for key, value in vars(options).items() if key not in left_out and value is not None}
    return {**{key: str(one) if isinstance(one, Path) else one for key, one in told.items()}, "hwsim": __version__}


def _publish(found: Audit, options: argparse.Namespace) -> None:
    if options.out is not None:
        from .audit_figure import draw

        try:
            (options.out / "audit.json").write_text(found.to_json(), encoding="utf-8")
            draw(found, options.out / "audit.png")
        except OSError as error:
            raise InputError(f"cannot write results to {options.out}: {error.strerror}; give another --out") from None
    if options.json == "-":
        sys.stdout.write(found.to_json())
        return
    print(f"{found.settings['rule']} on {machine_of(found)}: {setting_of(found)}\n")
    print(f"{found.table}\n")
    print(textwrap.fill(found.advice, _WIDTH))
    if options.out is not None:
        print(f"\nSaved: {options.out / 'audit.json'}, {options.out / 'audit.png'}")


def machine_of(found: Audit) -> str:
    """The machine in words."""
    asked = found.settings
    own = ", ".join(f"{name.replace('_', ' ')} {asked[name]:g}" for name in OWN if asked.get(name))
    return str(asked["preset"]).replace("_", " ") if "preset" in asked else own or "an ideal machine"


def setting_of(found: Audit) -> str:
    """What it computes, in words."""
    asked = found.settings
    return (
        f"{asked['task']}, {asked['units']} units, T = {asked['horizon']}, eps = {asked['step_size']:g}, after "
        f"{asked['train']} updates; {found.repeats} repeats of {asked['batch']} samples"
    )


def _make_room(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write results to {out}: {error.strerror}; give another --out") from None
