"""What the runs show: does the exact equilibrium gradient survive a finite settling time?

    (a)  it does: the equilibrium adjoint deploys as well as BPTT of L(z_T), at a rho that is no higher. Where
         equilibrium propagation fails nevertheless, its estimate of that gradient is at fault.
    (b)  it does not: the certified adjoint, exact for L(z*), ends with a higher deployed loss L(z_T) and a higher rho.
         No better estimate of the equilibrium gradient can help; the horizon has to enter the objective.

`rho` is the spectral radius of D = I + eps J at z*, mean over samples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from hwsim.contracts.errors import InputError

from .record import Choice, MethodRun, Verdict, methods_of, refuse_repeats

REFERENCE = "bptt"
ADJOINT = "equilibrium_adjoint"
PUBLISHED_SEEDS = 3
"""Paired seeds that a published verdict needs at least."""

ROUNDING = 1e-12
"""A figure this near to a limit counts as equal to it: 0.955 - 0.950 is not above 0.005."""


@final
@dataclass(frozen=True, kw_only=True)
class Figures:
    """The numbers behind a decision. "Late" is the median over the last 10 % of a run's evaluations.

    Args:
        loss_bptt, loss_adjoint: median over the paired seeds of the late deployed loss; infinite where it diverged.
        loss_ratio: median over seeds of `loss_adjoint / loss_bptt`, seed by seed.
        rho_bptt, rho_adjoint: median over seeds of the late mean rho.
        rho_difference: median over seeds of `rho_adjoint - rho_bptt`, seed by seed.
        certificate: the late fraction of certified samples in the worst seed, 0..1.
    """

    loss_bptt: float
    loss_adjoint: float
    loss_ratio: float
    rho_bptt: float
    rho_adjoint: float
    rho_difference: float
    certificate: float


@final
@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the runs show, and why.

    Args:
        decision: "a" | "b" | "undecided".
        reason: plain sentences with the numbers.
        seeds: the seeds that have both BPTT and the adjoint, rising.
        figures: the numbers; None where the runs do not give them.
    """

    decision: Choice
    reason: str
    seeds: tuple[int, ...]
    figures: Figures | None

    @property
    def headline(self) -> str:
        """The decision in one line."""
        return headline(self.decision)


def headline(decision: Choice) -> str:
    """The decision in one line, without its numbers."""
    return _HEADLINES[decision]


_HEADLINES: Mapping[Choice, str] = {
    "a": "(a) The exact equilibrium gradient survives the finite settling time",
    "b": "(b) Even the exact equilibrium gradient does not survive the finite settling time",
    "undecided": "Undecided: these runs do not show whether the equilibrium gradient survives",
}


@dataclass(frozen=True, kw_only=True)
class _Late:
    loss: float
    rho: float
    certificate: float


def decide(
    runs: Sequence[MethodRun], *, certificate: float = 0.95, loss_ratio: float = 1.04, rho_margin: float = 0.005
) -> Decision:
    """Apply the rule to `runs`, in any order.

    Each run gives its *late* figures, the medians over the last 10 % of its evaluations (rounded down, at least one)
    of the deployed loss, of the mean rho and of the certified fraction. An adjoint run that diverged has an infinite
    loss; its rho and certificate are taken late among those evaluations before `diverged_at` at which loss, rho and
    certificate are all finite. BPTT and the adjoint are paired by seed; the ratio of their losses and the difference of
    their rhos are taken seed by seed, and the median over the paired seeds counts. An even number of seeds has the mean
    of the two middle values as its median, so the ratio is infinite where half of the adjoint runs diverged.

    The certificate is read strictly: it has to hold in *every* paired seed, since a run whose adjoint is not certified
    says nothing about the exact gradient, and a median over seeds could hide it.

        (b)  certificate holds, ratio > `loss_ratio` and difference > `rho_margin`
        (a)  certificate holds, ratio <= `loss_ratio` and difference <= `rho_margin`
        undecided otherwise; and always where BPTT or the adjoint is missing, no seed has both, BPTT diverged from any
        seed (paired or not), paired runs that did not diverge end at different steps, BPTT's loss is not positive, or a
        late figure is not finite

    Args:
        runs: all runs; other methods are ignored here.
        certificate: least fraction of certified samples, 0..1.
        loss_ratio: the adjoint may have this many times BPTT's loss, > 0.
        rho_margin: the adjoint's rho may exceed BPTT's by this much, >= 0.

    Raises:
        InputError: the same method and seed twice, or a limit outside its range.
    """
    refuse_repeats(runs)
    if not (0.0 <= certificate <= 1.0 and 0.0 < loss_ratio < math.inf and 0.0 <= rho_margin < math.inf):
        raise InputError(
            "asked for a certificate in 0..1, a finite loss_ratio > 0 and a finite rho_margin >= 0; "
            f"found {certificate}, {loss_ratio} and {rho_margin}"
        )
    reference, adjoint = _by_seed(runs, REFERENCE), _by_seed(runs, ADJOINT)
    seeds = tuple(sorted(reference.keys() & adjoint.keys()))
    if obstacle := _obstacle(reference, adjoint, seeds):
        return Decision(decision="undecided", reason=obstacle, seeds=seeds, figures=None)

    late = [(_late(reference[seed]), _late(adjoint[seed])) for seed in seeds]
    if obstacle := _not_finite(seeds, late):
        return Decision(decision="undecided", reason=obstacle, seeds=seeds, figures=None)
    figures = Figures(
        loss_bptt=statistics.median(b.loss for b, _ in late),
        loss_adjoint=statistics.median(e.loss for _, e in late),
        loss_ratio=statistics.median(e.loss / b.loss for b, e in late),
        rho_bptt=statistics.median(b.rho for b, _ in late),
        rho_adjoint=statistics.median(e.rho for _, e in late),
        rho_difference=statistics.median(e.rho - b.rho for b, e in late),
        certificate=min(e.certificate for _, e in late),
    )
    certified = figures.certificate >= certificate - ROUNDING
    loses = figures.loss_ratio > loss_ratio + ROUNDING
    drifts = figures.rho_difference > rho_margin + ROUNDING
    decision: Choice = "undecided"
    if certified and loses == drifts:
        decision = "b" if loses else "a"

    diverged = sum(adjoint[seed].diverged_at is not None for seed in seeds)
    reason = " ".join(
        sentence
        for sentence in (
            _loss_sentence(figures, len(seeds), diverged, loss_ratio, loses),
            _rho_sentence(figures, rho_margin, drifts, loses),
            _certificate_sentence(figures, certificate, len(seeds), decision),
            _seeds_sentence(seeds, reference.keys() ^ adjoint.keys()),
        )
        if sentence
    )
    return Decision(decision=decision, reason=reason, seeds=seeds, figures=figures)


def conclude(*, text_sha256: str | None, settings: Mapping[str, object], runs: Sequence[MethodRun]) -> Verdict:
    """The whole verdict: `runs` in their order of display (method, then seed), with what `decide` says of them."""
    decision, order = decide(runs), methods_of(runs)
    ordered = sorted(runs, key=lambda run: (order.index(run.method), run.seed))
    return Verdict(
        text_sha256=text_sha256,
        settings=settings,
        runs=tuple(ordered),
        decision=decision.decision,
        reason=decision.reason,
    )


def remedies(runs: Sequence[MethodRun]) -> dict[str, float]:
    """For each method beside BPTT, the median over paired seeds of its late deployed loss over BPTT's.

    Returns:
        method -> ratio, in the order of `methods_of`: infinite where the method diverged (from half of the seeds
        or more), NaN where a figure behind it is not finite, BPTT diverged or BPTT's loss is not positive; a method
        that shares no seed with BPTT is left out.

    Raises:
        InputError: the same method and seed twice.
    """
    refuse_repeats(runs)
    found = {method: ratios(runs, method) for method in methods_of(runs) if method != REFERENCE}
    return {method: _median(values) for method, values in found.items() if values}


def ratios(runs: Sequence[MethodRun], method: str) -> list[float]:
    """The late deployed loss of `method` over BPTT's, one figure per seed that both ran from; see `remedies`."""
    tried, reference = _by_seed(runs, method), _by_seed(runs, REFERENCE)
    return [_ratio(tried[seed], reference[seed]) for seed in sorted(tried.keys() & reference.keys())]


def late_loss(run: MethodRun) -> float:
    """Median of the deployed loss over the last tenth of the evaluations; infinite where the run diverged."""
    return _late(run).loss


def survivors(runs: Sequence[MethodRun], *, loss_ratio: float = 1.04) -> str:
    """Which methods survive, in words: each method's ratio to BPTT's deployed loss, and who stays within `loss_ratio`.

    Empty where no method can be compared with BPTT.
    """
    known = {method: ratio for method, ratio in remedies(runs).items() if not math.isnan(ratio)}
    if not known:
        return ""
    kept = [method for method, ratio in known.items() if ratio <= loss_ratio + ROUNDING]
    lost = [method for method in known if method not in kept]

    def listed(methods: list[str]) -> str:
        return ", ".join(f"{method} ({_times(known[method])})" for method in methods)

    if not kept:
        return f"Within {loss_ratio:g} times BPTT's deployed loss: no method; not {listed(lost)}."
    return f"Within {loss_ratio:g} times BPTT's deployed loss: {listed(kept)}{f'; not {listed(lost)}' if lost else ''}."


def _times(ratio: float) -> str:
    return "diverged" if math.isinf(ratio) else f"{ratio:.3f} x" if ratio < 10.0 else f"{ratio:.3g} x"


def _by_seed(runs: Sequence[MethodRun], method: str) -> dict[int, MethodRun]:
    return {run.seed: run for run in runs if run.method == method}


def _late(run: MethodRun) -> _Late:
    rows = list(zip(run.loss_deployed, run.rho_mean, run.adjoint_certificate, strict=True))
    end = run.diverged_at
    if end is not None:
        rows = [row for step, row in zip(run.step, rows, strict=True) if step < end and all(map(math.isfinite, row))]
    rows = rows[-max(1, len(rows) // 10) :]
    return _Late(
        loss=math.inf if end is not None else _median([row[0] for row in rows], finite=True),
        rho=_median([row[1] for row in rows], finite=True),
        certificate=_median([row[2] for row in rows], finite=True),
    )


def _median(values: list[float], *, finite: bool = False) -> float:
    """Their median; NaN where there are none, where one is NaN, or, if they must be `finite`, infinite."""
    bad = not values or any(math.isnan(value) or (finite and math.isinf(value)) for value in values)
    return math.nan if bad else statistics.median(values)


def _ratio(run: MethodRun, reference: MethodRun) -> float:
    base = _late(reference).loss
    return _late(run).loss / base if 0.0 < base < math.inf else math.nan


def _obstacle(reference: dict[int, MethodRun], adjoint: dict[int, MethodRun], seeds: tuple[int, ...]) -> str:
    """Why the runs cannot be compared at all; empty where they can."""
    for name, method, found in (("BPTT", REFERENCE, reference), ("the equilibrium adjoint", ADJOINT, adjoint)):
        if not found:
            return f"There is no run of {name}: the rule compares the two (run the method {method} as well)."
    if not seeds:
        return (
            f"BPTT ran from {_name(reference)} and the equilibrium adjoint from {_name(adjoint)}: "
            "no seed has both, so nothing can be paired."
        )
    if lost := [
        f"seed {seed} at step {reference[seed].diverged_at}" for seed in sorted(reference) if _lost(reference[seed])
    ]:
        return (
            f"BPTT itself diverged ({', '.join(lost)}): there is no reference to compare the equilibrium adjoint with."
        )
    for seed in seeds:
        ends = [run.step[-1] if run.step else None for run in (reference[seed], adjoint[seed])]
        if not _lost(adjoint[seed]) and ends[0] != ends[1]:
            return (
                f"With seed {seed} BPTT was last evaluated at step {ends[0]} and the equilibrium adjoint "
                f"at step {ends[1]}: they can only be compared after equally long training."
            )
    return ""


def _lost(run: MethodRun) -> bool:
    return run.diverged_at is not None


def _not_finite(seeds: tuple[int, ...], late: list[tuple[_Late, _Late]]) -> str:
    """Which late figure is no number; empty where all are."""
    for seed, (bptt, adjoint) in zip(seeds, late, strict=True):
        asked = {
            "BPTT's deployed loss": bptt.loss,
            "BPTT's rho": bptt.rho,
            "the equilibrium adjoint's deployed loss": adjoint.loss,
            "the equilibrium adjoint's rho": adjoint.rho,
            "the equilibrium adjoint's certificate": adjoint.certificate,
        }
        if wrong := [name for name, figure in asked.items() if math.isnan(figure)]:
            return f"With seed {seed}, {wrong[0]} is not finite in the evaluations that count: nothing to compare."
        if not bptt.loss > 0.0 or (math.isfinite(adjoint.loss) and math.isinf(adjoint.loss / bptt.loss)):
            return f"With seed {seed}, BPTT's deployed loss is {bptt.loss:g}: a ratio to it says nothing."
    return ""


def _loss_sentence(figures: Figures, count: int, diverged: int, limit: float, above: bool) -> str:
    against = f"BPTT's {figures.loss_bptt:.4g}"
    middle = " (medians over seeds)" if count > 1 else ""
    if math.isinf(figures.loss_ratio):
        where = f" from {diverged} of {count} seeds" if count > 1 else ""
        return f"The exact equilibrium adjoint diverged{where}, against {against}{middle}."
    some = f"; it diverged from {diverged} of {count} seeds" if diverged else ""
    return (
        f"The exact equilibrium adjoint deploys with a loss of {figures.loss_adjoint:.4g} against {against}{middle}: "
        f"{figures.loss_ratio:.4f} times, {'above' if above else 'not above'} the limit of {limit:g}{some}."
    )


def _rho_sentence(figures: Figures, limit: float, above: bool, loses: bool) -> str:
    return (
        f"{'Its' if loses == above else 'But its'} rho is {figures.rho_adjoint:.4f} against {figures.rho_bptt:.4f}: "
        f"{abs(figures.rho_difference):.4f} {'lower' if figures.rho_difference < 0.0 else 'higher'}, "
        f"{'above' if above else 'not above'} the limit of {limit:g}."
    )


def _certificate_sentence(figures: Figures, limit: float, count: int, decision: Choice) -> str:
    worst = "in the worst seed; " if count > 1 else ""
    share = f"{100 * figures.certificate:.4g} % of samples ({worst}{100 * limit:g} % asked)"
    if figures.certificate >= limit - ROUNDING:
        tail = ", but loss and rho point different ways" if decision == "undecided" else ""
        return f"Its gradient is certified on {share}{tail}."
    return f"Its gradient is certified on only {share}, so it does not stand for the exact one."


def _seeds_sentence(seeds: tuple[int, ...], unpaired: set[int]) -> str:
    left = f" ({_name(unpaired)} not paired)" if unpaired else ""
    if len(seeds) < PUBLISHED_SEEDS:
        return f"From {_name(seeds)}{left}: fewer than three seeds: not a published verdict."
    return f"From {len(seeds)} seeds{left}."


def _name(seeds: Sequence[int] | dict[int, MethodRun] | set[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"
