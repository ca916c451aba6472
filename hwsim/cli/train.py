"""`hwsim train`: train a board, or a simulated device, by one rule; save as it goes, and go on from there."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, final

from hwsim.contracts.device import Device
from hwsim.contracts.errors import HwsimError, InputError, ResumeError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.rule import LearningRule, require
from hwsim.contracts.threads import one_blas_thread
from hwsim.devices import ADC, Imperfection, SimulatedDevice, ThermalNoise
from hwsim.devices.imperfections import Mismatch
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Digits
from hwsim.training import Adam, ClippedReprogram, Trainer, load_state, save_state

from .folder import open_folder
from .methods import EVALUATION
from .progress import Progress, State
from .rules import rule_named
from .runner import Interrupted
from .train_options import Simulated, TrainSettings, train_settings

GAIN = 0.5
"""Sd of the initial W, U and readout times the square root of their fan-in, as `hwsim verdict --task digits` has it."""


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """What one seed came to.

    Args:
        seed: of parameters, samples and noise.
        step, loss, accuracy: of every evaluation; nats, and fraction of held-out samples.
        seconds: of the wall, all sittings together.
        diverged_at: update whose gradient was not finite; None if there was none.
        remarks: what the device had to say: reconnections, retries, a reboot that the run went on from.
    """

    seed: int
    step: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()
    seconds: float = 0.0
    diverged_at: int | None = None
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values; a loss that is not finite is null."""
        values = asdict(self)
        return {name: _plain(value) for name, value in values.items()}

    @staticmethod
    def of_json(notes: dict[str, Any]) -> Run:
        """What `to_json` gave.

        Raises:
            ResumeError: it did not.
        """
        try:
            told: dict[str, Any] = {each.name: notes[each.name] for each in fields(Run)}
            told |= {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
            told["loss"] = tuple(math.nan if value is None else value for value in told["loss"])
            return Run(**told)
        except (KeyError, TypeError) as error:
            raise ResumeError(f"what is saved is no run of hwsim train ({error}); give another --out") from None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [None if isinstance(each, float) and not math.isfinite(each) else each for each in value]
    return value


def run_train(options: argparse.Namespace) -> int:
    """Train, save and print.

    Returns:
        0.

    Raises:
        InputError, CapabilityError, ResumeError: what was asked cannot be done.
        Interrupted: stopped half-way; everything done so far is saved.
        HwsimError: the board was lost; everything up to the last update is saved.
    """
    settings = train_settings(options)
    rule = _rule(settings)
    with opened(settings) as make, _stop_on_signal() as stopped:
        with make(settings.seeds[0]) as device:  # what cannot be run is refused before a folder is made
            task = Digits(units=device.spec.units)
            _check(device, rule, task)
        resume = open_folder(
            "train",
            options.out,
            settings.to_json(),
            resume=options.resume,
            overwrite=options.overwrite,
            results=("train.json",),
            # a board may come back on another port; that it is the same board is checked by its own name
            free=lambda held: ("device", "baud") if held.get("device") and settings.device else (),
        )
        runs = []
        labels = [_label(seed) for seed in settings.seeds]
        with Progress(labels, settings.steps, quiet=options.quiet) as progress:
            for seed in settings.seeds:
                with make(seed) as device:
                    run = _one(device, rule, task, seed, settings, options.out, resume, progress, stopped)
                runs.append(run)
    document = {"settings": settings.to_json(), "runs": [run.to_json() for run in runs]}
    _publish(json.dumps(document, indent=1) + "\n", runs, options.out, json_only=options.json == "-")
    return 0


def _label(seed: int) -> str:
    return f"seed {seed}"


def _rule(settings: TrainSettings) -> LearningRule:
    rule = rule_named(settings.rule)
    if settings.amplitude is not None:
        known: set[str] = {each.name for each in fields(rule)} if is_dataclass(rule) else set()
        own = known & {"nudge", "kick"}
        if not own:
            raise InputError(f"--rule {settings.rule} has no nudge or kick of one length; leave out --amplitude")
        rule = replace(rule, **dict.fromkeys(own, settings.amplitude))  # type: ignore[type-var]  # has such fields
    return rule if settings.clip is None else rule.clipped(settings.clip)


@contextlib.contextmanager
def opened(settings: TrainSettings) -> Iterator[Callable[[int], contextlib.AbstractContextManager[Device]]]:
    """What opens the device of a seed: the board again and again, or a simulated chip of each seed's own."""
    if settings.simulated is not None:
        told = settings.simulated
        yield lambda seed: simulated(told, seed)
        return
    from hwsim.devices.board import SerialBoard

    with SerialBoard(settings.device or "", baud=settings.baud) as board:
        yield lambda seed: contextlib.nullcontext(board)


def simulated(told: Simulated, seed: int) -> SimulatedDevice:
    """The device that the options describe."""
    imperfections: list[Imperfection] = []
    if told.mismatch > 0.0:
        imperfections.append(Mismatch(gain=told.mismatch, time_constant=told.mismatch, log_normal=True))
    if told.noise > 0.0:
        imperfections.append(ThermalNoise(told.noise))
    if told.adc_bits is not None:
        imperfections.append(ADC(told.adc_bits, told.adc_range))
    return SimulatedDevice(
        LeakyNetwork.dense(told.units, Digits(units=told.units).inputs),
        horizon=told.horizon,
        step_size=told.step_size,
        imperfections=imperfections,
        die_seed=seed,
        program_seed=seed,
        seed=seed,
    )


def _check(device: Device, rule: LearningRule, task: Digits) -> None:
    spec = device.spec
    network = LeakyNetwork.dense(spec.units, spec.inputs)
    if spec.inputs != task.inputs or dict(spec.shapes) != dict(network.shapes()):
        raise InputError(
            f"the digits need a device with {task.inputs} inputs and blocks {dict(network.shapes())}; found "
            f"{spec.inputs} inputs and {dict(spec.shapes)}"
        )
    require(rule, spec, task)


def _one(
    device: Device,
    rule: LearningRule,
    task: Digits,
    seed: int,
    settings: TrainSettings,
    out: Path,
    resume: bool,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Run:
    """One seed, from its start or its checkpoint to its end."""
    began, checkpoint = time.monotonic(), out / "runs" / f"{seed}.npz"
    trainer = trainer_of(device, rule, task, seed, settings)
    if resume and checkpoint.exists():
        state, notes = load_state(checkpoint)
        run = Run.of_json(notes)
        state = trainer.resume(state)
    else:
        run, state = Run(seed=seed), trainer.start(initial(device, task, seed))
    earlier = run.seconds

    def save() -> None:
        saved = replace(run, seconds=earlier + time.monotonic() - began, remarks=_remarks(device, run))
        save_state(checkpoint, state, saved.to_json())

    progress.update(_label(seed), state.step)
    try:
        while True:
            due = state.step % settings.every == 0 or state.step >= settings.steps
            if due and not state.diverged and (not run.step or run.step[-1] < state.step):
                loss, accuracy = evaluated(device, task, state.theta, seed, settings.held_out)
                run = replace(
                    run,
                    step=(*run.step, state.step),
                    loss=(*run.loss, loss),
                    accuracy=(*run.accuracy, accuracy),
                )
                save()
            progress.update(_label(seed), state.step, loss=run.loss[-1] if run.loss else math.nan)
            if state.diverged:
                run = replace(run, diverged_at=state.step)
            if state.diverged or state.step >= settings.steps:
                break
            if stopped():
                break
            state, _ = trainer.advance(state)
    except HwsimError as error:  # the board went away for good: nothing that was learned goes with it
        save()
        raise HwsimError(
            f"{error} (update {state.step} is saved in {out}; the same command with --resume goes on)"
        ) from error
    run = replace(run, seconds=earlier + time.monotonic() - began, remarks=_remarks(device, run))
    save_state(checkpoint, state, run.to_json())
    if not state.diverged and state.step < settings.steps:
        raise Interrupted(f"interrupted and saved in {out}; the same command with --resume goes on")
    progress.update(_label(seed), state.step, state=State.DONE if run.diverged_at is None else State.DIVERGED)
    return run


def trainer_of(device: Device, rule: LearningRule, task: Digits, seed: int, settings: TrainSettings) -> Trainer:
    """What advances."""
    return Trainer(
        device=device,
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=settings.learning_rate),
        batch_size=settings.batch,
        seed=seed,
        noise=NoisePath(seed=seed),
        writer=ClippedReprogram(),
    )


def initial(device: Device, task: Digits, seed: int) -> Parameters:
    """Where training starts."""
    network = LeakyNetwork.dense(device.spec.units, device.spec.inputs)
    return network.initial(seed, gain=GAIN, input_gain=GAIN) | task.initial_readout(seed, GAIN)


def evaluated(device: Device, task: Digits, theta: Parameters, seed: int, held_out: int | None) -> tuple[float, float]:
    """The deployed loss and the accuracy on held-out samples."""
    batch = task.validation if held_out is None else task.validation.take(slice(0, held_out))
    held = device.program(theta)
    plan = Plan(inputs=batch.inputs, ids=batch.ids, start=device.spec.start, phases=(Phase(steps=device.spec.horizon),))
    with one_blas_thread():
        (settled,) = device.relax(plan, noise=NoisePath(seed=seed, step=EVALUATION))
        loss = float(task.loss(settled.final, batch.targets, held))
        return loss, task.accuracy(settled.final, batch.targets, held)


def _remarks(device: Device, run: Run) -> tuple[str, ...]:
    """What the board had to say, in this sitting and in those before."""
    from hwsim.devices.board import SerialBoard

    new = device.remarks if isinstance(device, SerialBoard) else ()
    return (*run.remarks, *(remark for remark in new if remark not in run.remarks))


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM let the update end and be saved; a second one does not wait."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _publish(document: str, runs: list[Run], out: Path, *, json_only: bool) -> None:
    try:
        (out / "train.json").write_text(document, encoding="utf-8")
    except OSError as error:
        raise HwsimError(f"cannot write {out / 'train.json'}: {error.strerror}; the runs are saved beside it") from None
    if json_only:
        sys.stdout.write(document)
        return
    for run in runs:
        end = f"diverged at update {run.diverged_at}" if run.diverged_at is not None else f"update {run.step[-1]}"
        print(
            f"seed {run.seed}  {end}  L(z_T) {run.loss[-1]:.3f} nats  accuracy {run.accuracy[-1]:.1%}  "
            f"{run.seconds:.0f} s"
        )
        for remark in run.remarks:
            print(f"  {remark}")
    print(f"Saved: {out / 'train.json'}")
