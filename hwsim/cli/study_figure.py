"""A study as a picture: what was measured against what was varied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hwsim.study import REFERENCE, Row, Study

from .study_style import (
    DASHES,
    DPI,
    FAINT,
    INK,
    PALETTE,
    Look,
    Panel,
    curve,
    frame,
    keep_between,
    legend_below,
    own_legend,
    rule_looks,
    seeds_apart,
    seeds_median,
    share_limits,
    sheet_of,
)
from .study_table import curve_of, curves, rule_of


def draw(study: Study, path: str | Path) -> None:
    """Write the picture as a PNG of `SIZE` pixels.

    Raises:
        OSError: `path` cannot be written.
    """
    figure(study).savefig(path, format="png", dpi=DPI)


def figure(study: Study) -> Figure:
    """The picture, on an Agg canvas and without pyplot's global state.

    Bold curves are medians over seeds; where there are several, a band reaches from the lowest to the highest. Curves
    carry an id, "field:after:rule".
    """
    return _DRAWN[study.name](study)


# --- one sheet for each study -----------------------------------------------------------------------------------------


def _truncation(study: Study) -> Figure:
    return _cosines(
        study,
        headline="EP converges on its limit as its nudged phase grows, and its limit is not BPTT",
        words="Cosine of the EP gradient after t2 nudged steps, all read off one recorded nudged run.",
        x="nudged Euler steps t2",
    )


def _nudges(study: Study) -> Figure:
    return _cosines(
        study,
        headline="A shorter nudge does not mend a truncated one",
        words="Cosine of the EP gradient against the length of the nudge of a sample. A long one leaves the linear "
        "range; what truncation costs is there at every length.",
        x="nudge, state units per time constant",
    )


def _cosines(study: Study, *, headline: str, words: str, x: str) -> Figure:
    sheet, axes, stages = sheet_of(study, headline, words, columns=3, rows=1)
    panels = (
        ("cosine_transpose", "to the converged transpose"),
        ("cosine_truncated", "to a transpose of t2 steps"),
        ("cosine_bptt", "to BPTT"),
    )
    looks = {}
    for after, stage in stages.items():
        lines = [line for line in curves(study.rows) if line[0] == after]
        for k, line in enumerate(lines):
            label = f"{stage.label}, nudged from $z_{{{line[1]}}}$"
            label += f", t2 = {line[2]}" if len(line) > 2 else ""
            rows = [row for row in study.rows if curve_of(row) == line]
            looks[label] = replace(stage, label=label, dash=DASHES[k % len(DASHES)]), rows
    for ax, (name, title) in zip(axes, panels, strict=True):
        panel = Panel(title=f"Cosine {title}", x=x, log_x=True, miss=True, ticks=True)
        for look, rows in looks.values():
            curve(ax, panel, rows, name, look)
        frame(ax, panel, study.rows)
    share_limits(axes)
    sheet.subplots_adjust(left=0.068, wspace=0.06)
    legend_below(sheet, [look for look, _ in looks.values()], study)
    return sheet


def _residuals(study: Study) -> Figure:
    sheet, axes, stages = sheet_of(
        study,
        "The equilibrium's gradient is the deployed one only once the network has settled",
        "Converged transpose relaxation at z_T against BPTT through T steps, at horizons T along one free run.",
        columns=3,
        rows=1,
    )
    panels = (
        (Panel(title="Cosine to BPTT", x="residual $|F(z_T)|$", log_x=True), "cosine", "residual"),
        (Panel(title="1 - cosine to BPTT", x="residual $|F(z_T)|$", log_x=True, log_y=True), "miss", "residual"),
        (
            Panel(title="Residual $|F(z_T)|$", x="horizon T, Euler steps", log_x=True, log_y=True),
            "residual",
            "horizon",
        ),
    )
    for ax, (panel, name, across) in zip(axes, panels, strict=True):
        for after, look in stages.items():
            rows = [row for row in study.rows if row.after == after]
            seeds_apart(ax, rows, name, across, look)
        frame(ax, panel, study.rows)
        if across == "residual":
            ax.invert_xaxis()
    axes[0].set_ylim(top=1.03)
    legend_below(sheet, stages.values(), study)
    return sheet


def _damping(study: Study) -> Figure:
    sheet, axes, stages = sheet_of(
        study,
        "Less damping leads to the edge, and training takes away what damping gives",
        r"$z \leftarrow z + \epsilon(-c\,z + W r(z) + U x + b)$: the leak c is varied after training at c = 1.",
        columns=3,
        rows=1,
    )
    panels = (
        (Panel(title=r"Spectral radius $\rho$ at $z^*$", x="leak c"), "rho_mean"),
        (Panel(title="Residual $|F(z_T)|$", x="leak c", log_y=True), "residual"),
        (Panel(title="Deployed loss $L(z_T)$", x="leak c"), "loss"),
    )
    for ax, (panel, name) in zip(axes, panels, strict=True):
        for after, look in stages.items():
            curve(ax, panel, [row for row in study.rows if row.after == after], name, look)
        frame(ax, panel, study.rows)
        ax.axvline(1.0, color=FAINT, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
    leak = sorted({(row.value, float(row.figures.rho_leak)) for row in study.rows})  # type: ignore[union-attr]
    axes[0].plot(*zip(*leak, strict=True), color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
    axes[0].axhline(1.0, color=FAINT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
    also = Line2D([], [], color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), label="1 - eps c, no couplings")
    legend_below(sheet, stages.values(), study, also)
    return sheet


def _approach(study: Study) -> Figure:
    sheet, axes, _ = sheet_of(
        study,
        "Into the wall: it learns to settle more slowly, until what teaches it is wrong",
        f"Training with {study.settings['methods'][0]} at T = {study.settings['horizon']}; {_diverged(study)}",
        columns=2,
        rows=2,
    )
    x = "training update"
    panels: tuple[tuple[Panel, tuple[tuple[str, Look], ...]], ...] = (
        (
            Panel(title="Cosine of gradients", x=x),
            (
                ("cosine_bptt", Look(label="rule to BPTT", colour=PALETTE[3])),
                ("cosine_transpose", Look(label="rule to transpose", colour=PALETTE[0], marker="s")),
                ("cosine_transpose_bptt", Look(label="transpose to BPTT", colour=PALETTE[1], marker="D")),
            ),
        ),
        (Panel(title="Residual $|F(z_T)|$", x=x, log_y=True), (("residual", Look(label="", colour=INK)),)),
        (
            Panel(title=r"Spectral radius $\rho$ at $z^*$", x=x),
            (
                ("rho_mean", Look(label="mean over samples", colour=INK)),
                ("rho_max", Look(label="largest", colour=FAINT, dash=DASHES[1], marker="^")),
            ),
        ),
        (Panel(title="Deployed loss $L(z_T)$", x=x), (("loss", Look(label="", colour=INK)),)),
    )
    for ax, (panel, shown) in zip(axes, panels, strict=True):
        for name, look in shown:
            curve(ax, panel, study.rows, name, look)
        frame(ax, panel, study.rows)
        if len(shown) > 1:
            own_legend(ax, [look for _, look in shown])
    axes[2].axhline(1.0, color=FAINT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
    losses = [row.figures.loss for row in study.rows if row.after > 0]  # type: ignore[union-attr]
    keep_between(axes[3], losses, spare=0.5)
    legend_below(sheet, (), study)
    return sheet


def _diverged(study: Study) -> str:
    if not study.diverged:
        return "no seed left the finite numbers."
    return "; ".join(f"seed {seed} diverged at update {step}" for seed, step in study.diverged.items()) + "."


def _noise(study: Study) -> Figure:
    sheet, axes, _ = sheet_of(
        study,
        "What noise does to each rule: a spread that averages away, and a bias that does not",
        f"{study.settings['draws']} draws of {study.settings['samples']} samples each; relative to the exact gradient "
        "of the expected deployed loss.",
        columns=2,
        rows=2,
    )
    looks = rule_looks(study)
    single = [row for row in study.rows if row.figures.repeats == 1]  # type: ignore[union-attr]
    levels = sorted({row.value for row in study.rows}) or [0.0]
    middle = levels[-1] if len(levels) < 3 else levels[-2]
    x = "thermal noise $\\sigma$, state units"
    told: tuple[tuple[Axes, str, str, Callable[[Any], bool]], ...] = (
        (axes[0], "cosine", "Cosine of one estimate", lambda figures: True),
        # rounding is no variance, chance no bias, and the exact gradient has neither
        (axes[1], "variance_probe", "Variance that the rule adds, relative", lambda f: f.variance_probe > 1e-12),
        (axes[2], "bias", "Bias that the draws can tell, relative", lambda f: f.bias > max(f.bias_floor, 1e-12)),
    )
    for ax, name, title, worth in told:
        panel = Panel(title=title, x=x, log_x=True, log_y=name != "cosine")
        for rule, look in looks.items():
            rows = [row for row in single if rule_of(row) == rule and worth(row.figures)]
            if rows and (name == "cosine" or rule != REFERENCE):
                curve(ax, panel, _positive(rows, levels), name, look)
        frame(ax, panel, _positive(single, levels))
        if levels[0] == 0.0 and len(levels) > 1:
            _mark_zero(ax, levels)
    panel = Panel(title=f"Cosine of an average, $\\sigma$ = {middle:g}", x="repeats averaged", log_x=True, ticks=True)
    for rule, look in looks.items():
        rows = [row for row in study.rows if rule_of(row) == rule and row.value == middle]
        seeds_median(axes[3], rows, "cosine", "repeats", look)
    frame(axes[3], panel, study.rows, across=lambda row: float(row.figures.repeats))  # type: ignore[union-attr]
    for ax in (axes[0], axes[3]):
        ax.set_ylim(top=1.03)
    legend_below(sheet, looks.values(), study)
    return sheet


def _positive(rows: Sequence[Row], levels: Sequence[float]) -> list[Row]:
    """Rows whose noise can stand on a logarithmic axis: none at all stands a third below the lowest."""
    stand_in = levels[1] / 3.0 if len(levels) > 1 else 1e-3
    return [
        row if row.value > 0.0 else replace(row, figures=replace(row.figures, noise=stand_in))  # type: ignore[arg-type]
        for row in rows
    ]


def _mark_zero(ax: Axes, levels: Sequence[float]) -> None:
    places = [levels[1] / 3.0, *levels[1:]]
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value < levels[1] / 2.0 else f"{value:g}"))


def _horizon(study: Study) -> Figure:
    sheet, axes, _ = sheet_of(
        study,
        "A longer settling buys another gradient and pays with samples",
        f"Every estimate takes {study.settings['budget']} Euler steps of device time, free phases and probes together; "
        f"$\\sigma$ = {study.settings['noise']:g}. The judge is BPTT at the same T.",
        columns=2,
        rows=2,
    )
    looks, x = rule_looks(study), "horizon T, Euler steps"
    for ax, name, title, log in (
        (axes[0], "cosine", "Cosine to BPTT at the same device time", False),
        (axes[1], "variance", "Variance at the same device time, relative", True),
        (axes[2], "variance_seconds", "Device time to a variance of 1, seconds", True),
    ):
        panel = Panel(title=title, x=x, log_x=True, log_y=log)
        for rule, look in looks.items():
            curve(ax, panel, [row for row in study.rows if rule_of(row) == rule], name, look)
        frame(ax, panel, study.rows)
    axes[0].set_ylim(top=1.03)
    panel = Panel(title="Deployed loss $L(z_T)$ of the same network", x=x, log_x=True)
    own = [row for row in study.rows if rule_of(row) == REFERENCE]
    curve(axes[3], panel, own, "loss", Look(label="", colour=INK, dash=DASHES[1]))
    frame(axes[3], panel, study.rows)
    legend_below(sheet, looks.values(), study)
    return sheet


_DRAWN: dict[str, Callable[[Study], Figure]] = {
    "t2": _truncation,
    "radius": _nudges,
    "residual": _residuals,
    "damping": _damping,
    "approach": _approach,
    "noise": _noise,
    "horizon": _horizon,
}
