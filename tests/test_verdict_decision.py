"""The decision of the verdict: each outcome, each clause at its limit, and no dependence on the order of the runs."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given, strategies as st

from hwsim.contracts.errors import InputError
from hwsim.verdict.decision import conclude, decide, headline, remedies, survivors
from hwsim.verdict.record import Choice, MethodRun, Metrics

NOTHING = Metrics(
    loss_deployed=math.nan,
    loss_long=math.nan,
    residual_deployed=math.nan,
    residual_long=math.nan,
    rho_mean=math.nan,
    rho_max=math.nan,
    adjoint_certificate=math.nan,
    cosine_to_bptt=math.nan,
    cosine_to_transpose=math.nan,
)


def run_of(
    method: str,
    seed: int = 1,
    *,
    loss: float | list[float] = 2.0,
    rho: float | list[float] = 0.95,
    certificate: float | list[float] = 1.0,
    diverged_at: int | None = None,
    evaluations: int = 10,
) -> MethodRun:
    """A run evaluated every 100 steps; a number stands for the same one at every evaluation."""
    figures = [value if isinstance(value, list) else [value] * evaluations for value in (loss, rho, certificate)]
    run = MethodRun(method=method, seed=seed, diverged_at=diverged_at)
    for k, (one_loss, one_rho, one_certificate) in enumerate(zip(*figures, strict=True)):
        metrics = dataclasses.replace(
            NOTHING, loss_deployed=one_loss, rho_mean=one_rho, adjoint_certificate=one_certificate
        )
        run = run.append(100 * k, metrics)
    return run


def pair(seed: int = 1, *, ratio: float = 1.0, drift: float = 0.0, certificate: float = 1.0) -> list[MethodRun]:
    """BPTT at loss 2 and rho 0.95, and an adjoint `ratio` times and `drift` above."""
    return [
        run_of("bptt", seed),
        run_of("equilibrium_adjoint", seed, loss=2.0 * ratio, rho=0.95 + drift, certificate=certificate),
    ]


def seeds_of(*runs: list[MethodRun]) -> list[MethodRun]:
    return [run for part in runs for run in part]


# --- The three outcomes -------------------------------------------------------------------------------------------


def test_b_where_the_adjoint_loses_and_drifts() -> None:
    decision = decide(seeds_of(*(pair(seed, ratio=1.08, drift=0.009) for seed in (1, 2, 3))))
    assert decision.decision == "b"
    assert decision.seeds == (1, 2, 3)
    assert decision.figures is not None
    assert decision.figures.loss_ratio == pytest.approx(1.08, rel=1e-12)
    assert decision.figures.rho_difference == pytest.approx(0.009, rel=1e-9)
    for number in ("2.16", "1.0800", "0.9590", "0.9500", "0.0090", "100 %", "3 seeds"):
        assert number in decision.reason
    assert "published" not in decision.reason


def test_a_where_the_adjoint_keeps_up() -> None:
    decision = decide(seeds_of(*(pair(seed, ratio=1.01, drift=-0.02) for seed in (1, 2, 3))))
    assert decision.decision == "a"
    assert "lower" in decision.reason


@pytest.mark.parametrize(("ratio", "drift"), [(1.08, 0.0), (1.0, 0.009)])
def test_undecided_where_loss_and_rho_disagree(ratio: float, drift: float) -> None:
    decision = decide(pair(ratio=ratio, drift=drift))
    assert decision.decision == "undecided"
    assert "different ways" in decision.reason


def test_headlines_name_their_outcome() -> None:
    assert headline("a").startswith("(a)")
    assert headline("b").startswith("(b)")
    assert headline("undecided").startswith("Undecided")
    assert decide(pair()).headline == headline("a")


# --- Each clause at its boundary ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "drift", "expected"),
    [
        (1.04, 0.0, "a"),  # exactly at the limit is not above it
        (1.0, 0.005, "a"),  # 0.955 - 0.95 rounds to a little more than 0.005
        (1.04, 0.005, "a"),
        (1.04, 0.006, "undecided"),
        (1.0401, 0.005, "undecided"),
        (1.0401, 0.0051, "b"),
    ],
)
def test_limits_of_loss_and_rho(ratio: float, drift: float, expected: Choice) -> None:
    assert decide(pair(ratio=ratio, drift=drift)).decision == expected


@pytest.mark.parametrize(("ratio", "drift", "expected"), [(1.0, 0.0, "a"), (1.1, 0.02, "b")])
def test_limit_of_the_certificate(ratio: float, drift: float, expected: Choice) -> None:
    assert decide(pair(ratio=ratio, drift=drift, certificate=0.95)).decision == expected
    below = decide(pair(ratio=ratio, drift=drift, certificate=0.949))
    assert below.decision == "undecided"
    assert "only 94.9 %" in below.reason


def test_certificate_must_hold_in_every_paired_seed() -> None:
    runs = seeds_of(*(pair(seed, ratio=1.1, drift=0.02, certificate=0.9 if seed == 2 else 1.0) for seed in (1, 2, 3)))
    decision = decide(runs)
    assert decision.decision == "undecided"
    assert decision.figures is not None
    assert decision.figures.certificate == 0.9
    unpaired = [run for run in runs if (run.method, run.seed) != ("bptt", 2)]
    assert decide(unpaired).decision == "b"


def test_limits_can_be_set_and_are_checked() -> None:
    runs = pair(ratio=1.1, drift=0.02, certificate=0.8)
    assert decide(runs, certificate=0.8).decision == "b"
    assert decide(runs, certificate=0.8, loss_ratio=1.1, rho_margin=0.02).decision == "a"
    for wrong in ({"certificate": 1.5}, {"loss_ratio": 0.0}, {"rho_margin": math.nan}):
        with pytest.raises(InputError, match="asked for a certificate"):
            decide(runs, **wrong)


def test_only_the_last_tenth_counts() -> None:
    """Of 30 evaluations the last three; of 29 the last two."""
    late = [9.0] * 26 + [4.0, 3.0, 2.0, 1.0]
    for evaluations, expected in ((30, 2.0), (29, 1.5)):
        bptt = run_of("bptt", loss=late[-evaluations:], evaluations=evaluations)
        figures = decide([bptt, dataclasses.replace(bptt, method="equilibrium_adjoint")]).figures
        assert figures is not None
        assert figures.loss_bptt == expected


def test_one_evaluation_is_enough() -> None:
    runs = [run_of("bptt", evaluations=1), run_of("equilibrium_adjoint", evaluations=1)]
    assert decide(runs).decision == "a"


def test_ratios_are_paired_before_the_median() -> None:
    """Losses 1, 2, 4 and 1.1, 2.0, 4.4: the ratio of medians is 1, the median of ratios 1.1."""
    runs = []
    for seed, bptt, adjoint in ((1, 1.0, 1.1), (2, 2.0, 2.0), (3, 4.0, 4.4)):
        runs += [run_of("bptt", seed, loss=bptt), run_of("equilibrium_adjoint", seed, loss=adjoint, rho=0.97)]
    decision = decide(runs)
    assert decision.figures is not None
    assert decision.figures.loss_ratio == pytest.approx(1.1)
    assert decision.figures.loss_adjoint == decision.figures.loss_bptt
    assert decision.decision == "b"


# --- Divergence ---------------------------------------------------------------------------------------------------


def lost_adjoint(seed: int = 1, *, rho: float = 0.99, certificate: float = 1.0) -> MethodRun:
    """Diverges at step 600: figures there and later are blown up or missing."""
    return run_of(
        "equilibrium_adjoint",
        seed,
        loss=[2.0] * 5 + [math.inf, 50.0, math.nan, math.inf, math.inf],
        rho=[0.95] * 4 + [rho, 7.0, 9.0, math.nan, 1.0, 1.0],
        certificate=[1.0] * 4 + [certificate, 0.0, 0.0, 0.0, 0.0, 0.0],
        diverged_at=600,
    )


def test_a_diverged_adjoint_counts_as_infinite_with_its_last_finite_rho() -> None:
    decision = decide([run_of("bptt"), lost_adjoint()])
    assert decision.decision == "b"
    assert decision.figures is not None
    assert decision.figures.loss_ratio == math.inf
    assert decision.figures.rho_adjoint == 0.99
    assert decision.figures.certificate == 1.0
    assert "diverged" in decision.reason
    assert decide([run_of("bptt"), lost_adjoint(rho=0.952)]).decision == "undecided"
    assert decide([run_of("bptt"), lost_adjoint(certificate=0.5)]).decision == "undecided"


def test_the_evaluation_at_the_divergence_does_not_count() -> None:
    run = run_of("equilibrium_adjoint", rho=[0.95] * 9 + [3.0], diverged_at=900)
    figures = decide([run_of("bptt"), run]).figures
    assert figures is not None
    assert figures.rho_adjoint == 0.95


def test_one_diverged_seed_of_three_does_not_decide() -> None:
    runs = seeds_of(pair(1), pair(2), [run_of("bptt", 3), lost_adjoint(3)])
    decision = decide(runs)
    assert decision.decision == "a"
    assert "diverged from 1 of 3" in decision.reason
    runs = seeds_of(pair(1), [run_of("bptt", 3), lost_adjoint(3)])
    assert decide(runs).decision == "b"


def test_an_adjoint_lost_at_once_says_nothing() -> None:
    run = run_of("equilibrium_adjoint", loss=math.nan, diverged_at=0)
    assert decide([run_of("bptt"), run]).decision == "undecided"


# --- Undecided for want of a comparison ---------------------------------------------------------------------------


def test_missing_runs() -> None:
    for runs, word in (([], "BPTT"), (pair()[1:], "BPTT"), (pair()[:1], "adjoint")):
        decision = decide(runs)
        assert decision.decision == "undecided"
        assert decision.figures is None
        assert f"no run of {'the equilibrium ' if word == 'adjoint' else ''}{word}" in decision.reason


def test_no_common_seed() -> None:
    decision = decide([run_of("bptt", 1), run_of("equilibrium_adjoint", 2)])
    assert decision.decision == "undecided"
    assert "seed 1" in decision.reason
    assert "seed 2" in decision.reason


def test_unpaired_seeds_are_named() -> None:
    decision = decide([*pair(1), run_of("equilibrium_adjoint", 7)])
    assert decision.decision == "a"
    assert decision.seeds == (1,)
    assert "seed 7 not paired" in decision.reason


@pytest.mark.parametrize("seed", [1, 5])
def test_bptt_diverged_from_any_seed_paired_or_not(seed: int) -> None:
    runs = [run for run in pair(1, ratio=1.1, drift=0.02) if (run.method, run.seed) != ("bptt", seed)]
    runs += [run_of("bptt", seed, diverged_at=300)]
    decision = decide(runs)
    assert decision.decision == "undecided"
    assert f"seed {seed} at step 300" in decision.reason


def test_runs_must_be_equally_long() -> None:
    decision = decide([run_of("bptt"), run_of("equilibrium_adjoint", evaluations=8)])
    assert decision.decision == "undecided"
    assert "step 900" in decision.reason
    assert "step 700" in decision.reason
    assert decide([run_of("bptt", evaluations=0), run_of("equilibrium_adjoint")]).decision == "undecided"


@pytest.mark.parametrize("figure", ["loss_deployed", "rho_mean", "adjoint_certificate"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("who", [0, 1])
def test_figures_that_are_not_finite(figure: str, value: float, who: int) -> None:
    if figure == "adjoint_certificate" and (value == math.inf or who == 0):
        return  # no fraction is infinite, and BPTT's own certificate is not asked for
    runs = pair()
    series = runs[who].series(figure)
    runs[who] = dataclasses.replace(runs[who], **{figure: (*series[:-1], value)})
    decision = decide(runs)
    assert decision.decision == "undecided"
    assert "not finite" in decision.reason
    early = dataclasses.replace(runs[who], **{figure: (value, *series[1:])})
    runs[who] = early
    assert decide(runs).decision == "a"


def test_bptt_needs_no_certificate() -> None:
    runs = pair()
    runs[0] = run_of("bptt", certificate=math.nan)
    assert decide(runs).decision == "a"


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_ratio_needs_a_positive_loss(loss: float) -> None:
    decision = decide([run_of("bptt", loss=loss), run_of("equilibrium_adjoint")])
    assert decision.decision == "undecided"
    assert "ratio" in decision.reason


def test_few_seeds_are_remarked() -> None:
    assert "fewer than three seeds: not a published verdict" in decide(pair()).reason
    assert "fewer than three" in decide(seeds_of(pair(1), pair(2))).reason
    assert "fewer than three" not in decide(seeds_of(pair(1), pair(2), pair(3))).reason


def test_repeated_runs_are_refused() -> None:
    with pytest.raises(InputError, match=r"found bptt with seed 1 twice"):
        decide([*pair(), run_of("bptt")])


# --- Order --------------------------------------------------------------------------------------------------------

FIGURE = st.one_of(st.floats(0.1, 10.0), st.sampled_from([math.nan, math.inf]))


# Plain values, made into runs inside the test: the runtime type checker draws random numbers, which a strategy may not.
EVALUATION = st.tuples(FIGURE, FIGURE, st.floats(0.8, 1.0))
ROWS = st.lists(EVALUATION, min_size=5, max_size=5) | st.lists(EVALUATION, max_size=1)
KEYS = st.tuples(st.sampled_from(["bptt", "equilibrium_adjoint", "ep"]), st.integers(0, 2))
RUNS = st.dictionaries(KEYS, st.tuples(ROWS, st.sampled_from([None, None, None, 200])), max_size=9)


@given(RUNS, st.randoms(use_true_random=False))
def test_the_order_of_runs_changes_nothing(
    drawn: dict[tuple[str, int], tuple[list[tuple[float, float, float]], int | None]], dice: random.Random
) -> None:
    runs = []
    for (method, seed), (rows, end) in drawn.items():
        losses, rhos, certificates = ([row[k] for row in rows] for k in range(3))
        runs.append(run_of(method, seed, loss=losses, rho=rhos, certificate=certificates, diverged_at=end))
    shuffled = dice.sample(runs, len(runs))
    assert decide(shuffled) == decide(runs)
    assert repr(remedies(shuffled)) == repr(remedies(runs))
    assert conclude(text_sha256=None, settings={}, runs=shuffled) == conclude(text_sha256=None, settings={}, runs=runs)


@given(st.permutations([11, 12, 13]), st.sampled_from([1.0, 1.08]), st.sampled_from([0.0, 0.02]))
def test_which_seed_is_which_changes_nothing(names: list[int], ratio: float, drift: float) -> None:
    def runs(seeds: list[int]) -> list[MethodRun]:
        first, second, third = seeds
        return seeds_of(pair(first), pair(second, ratio=ratio, drift=drift), pair(third, ratio=1.2, drift=0.05))

    assert decide(runs(names)) == decide(runs([11, 12, 13]))


# --- Who survives -------------------------------------------------------------------------------------------------


def test_remedies() -> None:
    runs = seeds_of(*(pair(seed, ratio=1.08, drift=0.009) for seed in (1, 2, 3)))
    runs += [run_of("ep", seed, diverged_at=None if seed == 3 else 500) for seed in (1, 2, 3)]
    runs += [run_of("ep_homeostat", seed, loss=1.9 + 0.01 * seed) for seed in (1, 2, 3)]
    runs += [run_of("finite_horizon_ep", 8)]
    assert remedies(runs) == {
        "equilibrium_adjoint": pytest.approx(1.08),
        "ep": math.inf,
        "ep_homeostat": pytest.approx(0.96),
    }
    said = survivors(runs)
    assert "1.04 times BPTT's deployed loss: ep_homeostat (0.960 x)" in said
    assert "not equilibrium_adjoint (1.080 x), ep (diverged)" in said


def test_remedies_without_a_reference() -> None:
    assert remedies([run_of("ep")]) == {}
    assert survivors([run_of("ep")]) == ""
    lost = remedies([run_of("bptt", diverged_at=100), run_of("ep")])
    assert list(lost) == ["ep"]
    assert math.isnan(lost["ep"])
    assert "no method; not ep (1.500 x)" in survivors([run_of("bptt"), run_of("ep", loss=3.0)])


def test_conclude_puts_runs_in_order() -> None:
    runs = [run_of("ep", 2), *reversed(pair(2)), run_of("bptt", 1)]
    verdict = conclude(text_sha256=None, settings={"steps": 900}, runs=runs)
    assert [(run.method, run.seed) for run in verdict.runs] == [
        ("bptt", 1),
        ("bptt", 2),
        ("equilibrium_adjoint", 2),
        ("ep", 2),
    ]
    assert verdict.decision == "a"
    assert verdict.reason == decide(runs).reason
