"""`hwsim study`: train, measure one sweep as it goes, save every measurement, then print and draw."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsim.contracts.errors import HwsimError, InputError, ResumeError

from .runner import Interrupted
from .study_options import BY_VALUE, StudySettings, study_settings_of

if TYPE_CHECKING:
    from hwsim.contracts.rule import LearningRule
    from hwsim.study import Study
    from hwsim.tasks import Classification
    from hwsim.training import Trainer, TrainingState

    from .progress import Progress

SAVE_STEPS, LINE_STEPS = 200, 10
"""Updates between two checkpoints of the training; between two messages to the progress bar."""
JOB_STEPS = {"noise": 300, "horizon": 150, "approach": 60}
"""Updates that take about as long as one measurement, for the time left; 150 unless told."""
TABLE_WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One thing to measure: (seed, updates before it, value of the knob where each is measured by itself)."""

    seed: int
    after: int
    value: float | None

    def done(self, study: Study) -> bool:
        return any(
            (row.seed, row.after) == (self.seed, self.after) and self.value in (None, row.value) for row in study.rows
        )


def run_study(options: argparse.Namespace) -> int:
    """Measure, print and save.

    Returns:
        0.

    Raises:
        InputError, CapabilityError, ResumeError: what was asked cannot be done; nothing was started.
        Interrupted: stopped half-way; everything measured so far is saved.
    """
    from .methods import check_methods, task_of
    from .study_stage import chosen_rules

    settings = study_settings_of(options)
    task = task_of(settings.machine)
    check_methods(task, settings.machine)
    rules = chosen_rules(settings, task)
    asked = _asked(settings, task, rules)
    study = _open(options.out, settings.name, asked, resume=options.resume, overwrite=options.overwrite)
    runner = _Runner(settings=settings, task=task, rules=rules, out=options.out)
    try:
        study = runner.run(study, quiet=options.quiet)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; {_path(options.out, settings.name)} holds what was measured, the same command with "
            f"--resume goes on"
        ) from None
    _publish(study, options.out)
    return 0


def _asked(settings: StudySettings, task: Classification, rules: Mapping[str, Any]) -> dict[str, Any]:
    from hwsim import __version__

    return {
        **settings.to_json(),
        "rules": list(rules),
        "text_sha256": getattr(task, "sha256", None),
        "hwsim": __version__,
    }


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Trains each seed from one stage to the next and measures there."""

    settings: StudySettings
    task: Classification
    rules: Mapping[str, LearningRule]
    out: Path

    def jobs(self, seed: int) -> list[_Job]:
        values: tuple[float | None, ...] = self.settings.values if self.settings.name in BY_VALUE else (None,)
        return [_Job(seed=seed, after=after, value=value) for after in self.settings.after for value in values]

    def run(self, study: Study, *, quiet: bool) -> Study:
        from .progress import Progress

        weight = JOB_STEPS.get(self.settings.name, 150)
        seeds = self.settings.machine.seeds
        total = self.settings.after[-1] + weight * len(self.jobs(seeds[0]))
        with Progress([_label(seed) for seed in seeds], total, quiet=quiet) as progress:
            for seed in seeds:
                study = self._seed(study, seed, progress, weight)
        study = replace(study, complete=True)
        _save(study, self.out)
        for seed in seeds:
            self._checkpoint(seed).unlink(missing_ok=True)
        return study

    def _seed(self, study: Study, seed: int, progress: Progress, weight: int) -> Study:
        from .methods import compose
        from .progress import State
        from .study_stage import Stage

        jobs = self.jobs(seed)
        waiting = [job for job in jobs if not job.done(study)]
        if not waiting or seed in study.diverged:
            ended = State.DIVERGED if seed in study.diverged else State.DONE
            progress.update(_label(seed), study.diverged.get(seed, self.settings.after[-1]), state=ended)
            return study
        composition = compose(self.settings.machine.methods[0], seed, self.task, self.settings.machine)
        trainer = composition.trainer
        kept = self._kept(seed, waiting[0].after)
        state = trainer.start(composition.begin()) if kept is None else trainer.resume(kept)
        for job in waiting:
            made = weight * jobs.index(job)
            state = self._advance(trainer, state, job, progress, made)
            if state.diverged:
                study = replace(study, diverged={**study.diverged, seed: state.step})
                _save(study, self.out)
                progress.update(_label(seed), state.step, state=State.DIVERGED)
                return study
            stage = Stage(
                settings=self.settings,
                task=self.task,
                seed=seed,
                theta=state.theta,
                rule=composition.evaluator.rule,
                rules=self.rules,
            )
            study = _with(study, job, stage.measure(0.0 if job.value is None else job.value))
            _save(study, self.out)
            progress.update(_label(seed), state.step + made + weight)
        progress.update(_label(seed), self.settings.after[-1] + weight * len(jobs), state=State.DONE)
        return study

    def _advance(
        self, trainer: Trainer, state: TrainingState, job: _Job, progress: Progress, made: int
    ) -> TrainingState:
        """Train up to a job. An operating point after a blow-up is none, so a run that diverges ends there."""
        progress.update(_label(job.seed), state.step + made)
        while state.step < job.after and not state.diverged:
            state, _ = trainer.advance(state)
            if state.step % LINE_STEPS == 0:
                progress.update(_label(job.seed), state.step + made)
            if state.step % SAVE_STEPS == 0 or state.step == job.after:
                self._keep(state, job.seed)
        return state

    def _checkpoint(self, seed: int) -> Path:
        return self.out / f"{self.settings.name}-{seed}.npz"

    def _keep(self, state: TrainingState, seed: int) -> None:
        from hwsim.training import save_state

        try:
            save_state(self._checkpoint(seed), state, {})
        except OSError as error:
            raise HwsimError(f"cannot save to {self._checkpoint(seed)}: {error.strerror}") from None

    def _kept(self, seed: int, after: int) -> TrainingState | None:
        """The training as it was left, unless it had gone past what is still to be measured."""
        from hwsim.training import load_state

        if not self._checkpoint(seed).exists():
            return None
        state, _ = load_state(self._checkpoint(seed))
        return state if state.step <= after else None


def _label(seed: int) -> str:
    return f"seed {seed}"


def _with(study: Study, job: _Job, figures: list[Any]) -> Study:
    from hwsim.study import Row

    rows = tuple(Row(seed=job.seed, after=job.after, figures=each) for each in figures)
    return replace(study, rows=study.rows + rows)


# --- the folder -----------------------------------------------------------------------------------------------------


def _path(out: Path, name: str) -> Path:
    return out / f"{name}.json"


def _open(out: Path, name: str, asked: dict[str, Any], *, resume: bool, overwrite: bool) -> Study:
    """Make the folder and an empty study, or take up the one that is there."""
    from hwsim.study import Study

    path = _path(out, name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        if path.exists():
            if resume:
                return _held(path, asked)
            if not overwrite:
                raise InputError(
                    f"{path} already holds results; add --resume to go on with them, --overwrite to replace them, or "
                    f"give another --out"
                )
            path.unlink()
            (out / f"{name}.png").unlink(missing_ok=True)  # or it would stand beside an interrupted study
        elif resume:
            print(f"hwsim study: nothing to resume in {path}; starting afresh", file=sys.stderr)
        for stale in out.glob(f"{name}-*.npz"):
            stale.unlink()
    except OSError as error:
        raise InputError(f"cannot write results to {out}: {error.strerror}; give another --out") from None
    study = Study(name=name, settings=asked, diverged={})
    _save(study, out)
    return study


def _held(path: Path, asked: dict[str, Any]) -> Study:
    from hwsim.study import from_json

    try:
        study = from_json(path.read_text(encoding="utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise ResumeError(f"cannot resume {path} ({error}); give another --out, or --overwrite") from None
    held = study.settings
    if changed := sorted(key for key in asked.keys() | held.keys() if asked.get(key) != held.get(key)):
        differences = "; ".join(f"{key} was {held.get(key)}, is {asked.get(key)}" for key in changed)
        raise ResumeError(
            f"{path} holds a study with other settings ({differences}); resume with the same command, or give another "
            f"--out"
        )
    return study


def _save(study: Study, out: Path) -> None:
    """Write the JSON, whole or not at all."""
    from hwsim.study import to_json

    path = _path(out, study.name)
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(to_json(study), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise HwsimError(f"cannot write {path}: {error.strerror}; make room and go on with --resume") from None


def _publish(study: Study, out: Path) -> None:
    from rich.console import Console

    from .study_figure import draw
    from .study_table import table

    picture = out / f"{study.name}.png"
    try:
        draw(study, picture)
    except OSError as error:
        raise HwsimError(
            f"cannot write {picture}: {error.strerror}; the numbers are saved: make room and give the same command "
            f"with --resume"
        ) from None
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, TABLE_WIDTH)  # a file or pipe has no edge to wrap at
    console.print(table(study))
    for seed, step in study.diverged.items():
        console.print(f"Seed {seed} diverged at update {step}; what was to be measured after that is missing.")
    console.print(f"\nSaved: {_path(out, study.name)}, {picture}", highlight=False, soft_wrap=True)
