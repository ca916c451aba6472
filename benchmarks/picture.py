"""The relaxations as a picture: time against N, beside every peer and the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .relaxation import Measured

COLOURS = ("#1b6ca8", "#c1440e", "#e0a030", "#3a7d44", "#7b5ea7", "#b07aa1", "#8c8c8c", "#444444")


def draw(found: Sequence[Measured], path: Path) -> None:
    """One column for each B: above time per settling and the roofline, below best peer over hwsim.

    Args:
        found: what was measured; noise on and single lanes are drawn.
        path: with the ending of a format that matplotlib knows.
    """
    from matplotlib.figure import Figure

    shown = [one for one in found if one.job.sigma and not one.job.twins]
    lanes = sorted({one.job.lanes for one in shown})
    if not lanes:
        return
    figure = Figure(figsize=(4.2 * len(lanes) + 1.4, 6.4), layout="constrained")
    axes = figure.subplots(2, len(lanes), squeeze=False, sharex="col", height_ratios=(3, 1))
    names = dict.fromkeys(_name(label) for one in shown for label in one.timings)
    colours = dict(zip(names, COLOURS * 3, strict=False))
    for column, count in enumerate(lanes):
        cases = sorted((one for one in shown if one.job.lanes == count), key=lambda one: one.job.units)
        above, below = axes[0][column], axes[1][column]
        for name in names:
            points = [(one.job.units, _fastest(one, name)) for one in cases]
            points = [(units, seconds) for units, seconds in points if seconds is not None]
            own = name == "hwsim"
            above.plot(
                [units for units, _ in points],
                [1e3 * seconds for _, seconds in points if seconds is not None],
                marker="o",
                markersize=4,
                linewidth=2.4 if own else 1.2,
                zorder=3 if own else 2,
                color=colours[name],
                label=name,
            )
        bounds = [(one.job.units, 1e3 * min(one.bound.values())) for one in cases]
        above.plot(*zip(*bounds, strict=True), color="black", linestyle=":", label="roofline")
        ratios = [(one.job.units, ratio[1]) for one in cases if (ratio := one.ratio()) is not None]
        if ratios:
            below.plot(*zip(*ratios, strict=True), marker="o", markersize=4, color=colours["hwsim"])
        below.axhline(1.0, color="black", linewidth=0.8)
        above.set(xscale="log", yscale="log", title=f"B = {count}")
        below.set(xscale="log", xlabel="units N", ylim=(0.0, None))
        below.set_xticks([one.job.units for one in cases], [str(one.job.units) for one in cases])
        below.minorticks_off()
        if column == 0:
            above.set_ylabel("ms per settling, T = 150")
            below.set_ylabel("best peer / hwsim")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def _name(label: str) -> str:
    """Without the number of threads."""
    return label[:-3] if label[-3:] in {" 1t", " 2t"} else label


def _fastest(one: Measured, name: str) -> float | None:
    """The minimum over numbers of threads."""
    found = [timing.minimum for label, timing in one.timings.items() if _name(label) == name]
    return min(found, default=None)
