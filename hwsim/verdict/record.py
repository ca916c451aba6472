"""What a verdict is made of.

Metrics     one evaluation of one run
MethodRun   all evaluations of one method from one seed: `run.append(step, metrics)` gives a longer run
Verdict     the runs, what they were run with, and what they show
Sweep       verdicts under several conditions
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Literal, TypeAlias, final

from hwsim.contracts.errors import InputError
from hwsim.contracts.rule import Kind

METHODS = ("bptt", "equilibrium_adjoint", "ep", "ep_homeostat", "finite_horizon_ep")
"""The methods that a verdict is made of unless told; the first two decide it."""

METHOD = re.compile(r"[A-Za-z0-9_.+*-]{1,120}")
"""A method's name: one of `METHODS`, or rules by name with their weights, "finite_horizon_ep+10*homeostat"."""

KINDS = tuple(kind.name.lower() for kind in Kind)
"""What a method's rule may look at, as it is written: "local", "model_assisted", "reference"."""

Choice: TypeAlias = Literal["a", "b", "undecided"]
"""What the runs show: see `hwsim.verdict.decision`."""


@final
@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One evaluation on the fixed validation batch. NaN where a figure could not be had.

    Args:
        loss_deployed: L(z_T), task units (nats for cross-entropy), mean over samples.
        loss_long: L after a relaxation of 20 T steps.
        residual_deployed: |F| at z_T, rms over units, mean over samples; state units per time constant.
        residual_long: the same after 20 T steps.
        rho_mean: spectral radius of D = I + eps J at z*, mean over samples, dimensionless.
        rho_max: its maximum over samples.
        adjoint_certificate: fraction of samples, 0..1, on which the equilibrium adjoint is certified:
            `|J^T lam + c| / |c| < 1e-6` at the refined equilibrium.
        cosine_to_bptt: cosine of this method's gradient to BPTT's.
        cosine_to_transpose: cosine of this method's gradient to the transpose relaxation's.
        accuracy: fraction of samples that are classified rightly at z_T; NaN where the task has no classes.
    """

    loss_deployed: float
    loss_long: float
    residual_deployed: float
    residual_long: float
    rho_mean: float
    rho_max: float
    adjoint_certificate: float
    cosine_to_bptt: float
    cosine_to_transpose: float
    accuracy: float = math.nan


SERIES = tuple(field.name for field in fields(Metrics))
"""The figures that a run holds one of per evaluation."""


@final
@dataclass(frozen=True, kw_only=True)
class UpdateCost:
    """What one update takes on the device, the free phase included; a batch of B samples counts B.

    Args:
        settles: phases run.
        steps: Euler steps run.
        reads: state vectors read.
        writes: parameter blocks programmed.
        seconds: device time of the settling, if the samples run one after another.
        joules: energy of the settling; None where the device's power is not known.
    """

    settles: float
    steps: float
    reads: float
    writes: float
    seconds: float
    joules: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"the cost of an update: asked for {name} >= 0; found {value}")


@final
@dataclass(frozen=True, kw_only=True)
class MethodRun:
    """One method trained from one seed, evaluated as it went. The series are as in `Metrics`, one entry per `step`.

    Args:
        method: its name, see `METHOD`.
        seed: of the initial weights and of everything drawn on the way; runs are paired by it.
        step: [K] training step of each evaluation, >= 0, strictly rising.
        rho_at: where rho is taken: at the refined equilibrium.
        diverged_at: the training step at which the run was seen to diverge; None if it did not.
        seconds: wall-clock time of the run, s.
        kind: what the method may look at, one of `KINDS`; None where it is not known.
        update: what one update took, the mean over the run; None where it is not known.

    Raises:
        InputError: a name that no method can have, an unknown kind, series of different lengths, steps that do not
            rise, a certificate outside 0..1.
    """

    method: str
    seed: int
    step: tuple[int, ...] = ()
    loss_deployed: tuple[float, ...] = ()
    loss_long: tuple[float, ...] = ()
    residual_deployed: tuple[float, ...] = ()
    residual_long: tuple[float, ...] = ()
    rho_mean: tuple[float, ...] = ()
    rho_max: tuple[float, ...] = ()
    rho_at: Literal["z_star"] = "z_star"
    adjoint_certificate: tuple[float, ...] = ()
    cosine_to_bptt: tuple[float, ...] = ()
    cosine_to_transpose: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()
    diverged_at: int | None = None
    seconds: float = 0.0
    kind: str | None = None
    update: UpdateCost | None = None

    def __post_init__(self) -> None:
        who = f"run {self.method!r}, seed {self.seed}"
        if METHOD.fullmatch(self.method) is None:
            raise InputError(
                f"{who}: asked for a method's name in letters, digits and _ . + * -, such as {METHODS[0]} or "
                f"ep+10*homeostat; found {self.method!r}"
            )
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"{who}: asked for a kind of {', '.join(KINDS)} or none; found {self.kind!r}")
        if self.rho_at != "z_star":
            raise InputError(f"{who}: asked for rho_at 'z_star'; found {self.rho_at!r}")
        for name in SERIES:
            if (found := len(self.series(name))) != len(self.step):
                raise InputError(f"{who}: asked for {len(self.step)} entries of {name}, one per step; found {found}")
        if any(step < 0 for step in self.step) or any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise InputError(f"{who}: asked for steps >= 0 that rise; found {list(self.step)}")
        if wrong := [value for value in self.adjoint_certificate if value < 0.0 or value > 1.0]:
            raise InputError(f"{who}: asked for adjoint_certificate as fractions of samples, 0..1; found {wrong[0]}")
        if self.diverged_at is not None and self.diverged_at < 0:
            raise InputError(f"{who}: asked for a diverged_at >= 0 or none; found {self.diverged_at}")
        if not (math.isfinite(self.seconds) and self.seconds >= 0.0):
            raise InputError(f"{who}: asked for seconds >= 0; found {self.seconds}")

    def series(self, name: str) -> tuple[float, ...]:
        """[K] the figure `name` of `SERIES`, one entry per evaluation."""
        values: tuple[float, ...] = getattr(self, name)
        return values

    def append(self, step: int, metrics: Metrics) -> MethodRun:
        """This run with one evaluation more; this run itself stays as it is.

        Raises:
            InputError: `step` does not lie after the last one.
        """
        grown = {name: (*self.series(name), float(getattr(metrics, name))) for name in SERIES}
        return replace(self, step=(*self.step, int(step)), **grown)  # type: ignore[arg-type]


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was run and what it shows: the content of `verdict.json`.

    Args:
        text_sha256: hash of the text that was trained on, 64 hexadecimal digits; None where the task has no text.
        settings: everything that the runs were run with, JSON values only.
        runs: each (method, seed) once.
        decision: "a" | "b" | "undecided", by `hwsim.verdict.decision.decide`.
        reason: why, in plain sentences with their numbers.

    Raises:
        InputError: a hash that is none, the same method and seed twice, an unknown decision.
    """

    text_sha256: str | None
    settings: Mapping[str, object]
    runs: tuple[MethodRun, ...]
    decision: Choice
    reason: str

    def __post_init__(self) -> None:
        digest = self.text_sha256
        if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
            raise InputError(f"text_sha256: asked for 64 lower-case hexadecimal digits or none; found {digest!r}")
        if self.decision not in ("a", "b", "undecided"):
            raise InputError(f"decision: asked for 'a', 'b' or 'undecided'; found {self.decision!r}")
        refuse_repeats(self.runs)


def methods_of(runs: Iterable[MethodRun]) -> tuple[str, ...]:
    """The methods of `runs` in the order in which they are shown: those of `METHODS`, then the others as they come."""
    found = dict.fromkeys(run.method for run in runs)
    return (*(name for name in METHODS if name in found), *(name for name in found if name not in METHODS))


def refuse_repeats(runs: Iterable[MethodRun]) -> None:
    """Raise InputError where two runs have the same method and seed."""
    seen: set[tuple[str, int]] = set()
    for run in runs:
        if (key := (run.method, run.seed)) in seen:
            raise InputError(
                f"runs: asked for each method and seed once; found {run.method} with seed {run.seed} twice"
            )
        seen.add(key)


Value: TypeAlias = float | int | str | None
"""What a condition sets one thing to."""


@final
@dataclass(frozen=True, kw_only=True)
class Condition:
    """One verdict of a sweep, and what sets its condition apart.

    Args:
        values: what is swept -> its value here, such as {"noise": 0.01}.
        verdict: of the runs under this condition.
    """

    values: Mapping[str, Value]
    verdict: Verdict


@final
@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Verdicts under the cross product of several conditions.

    Args:
        axes: what is swept -> its values in order.
        conditions: one for each combination, the last axis moving fastest.

    Raises:
        InputError: nothing is swept, a value is given twice, or the conditions are not the combinations.
    """

    axes: Mapping[str, tuple[Value, ...]]
    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if not self.axes or any(len(set(values)) < len(values) or not values for values in self.axes.values()):
            raise InputError(f"a sweep needs axes with values that differ; found {dict(self.axes)}")
        found = [dict(condition.values) for condition in self.conditions]
        asked = [dict(zip(self.axes, point, strict=True)) for point in product(*self.axes.values())]
        if found != asked:
            raise InputError(f"a sweep over {list(self.axes)} needs the conditions {asked}; found {found}")
