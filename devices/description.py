"""A device in words: what it is, and every source of error with its size."""

from __future__ import annotations

from collections.abc import Sequence

from hwsim.contracts.device import DeviceSpec
from hwsim.contracts.scale import Scale
from hwsim.contracts.units import engineering


def described(substrate: str, spec: DeviceSpec, scale: Scale, imperfections: Sequence[tuple[str, str, str]]) -> str:
    """Lines of text: the device, its scale, and a line for each (name, when drawn, size) of its imperfections."""
    seconds = spec.horizon * spec.dt
    lines = [
        f"{substrate}: {spec.units} units, {spec.inputs} inputs, "
        + ", ".join(f"{name} {list(shape)}" for name, shape in spec.shapes.items()),
        f"settles {spec.horizon} steps of {engineering(spec.dt, 's')} = {engineering(seconds, 's')}, "
        f"{seconds / spec.time_constant:.3g} time constants of {engineering(spec.time_constant, 's')}",
        f"one state unit is {engineering(scale.volt, 'V')}, one coupling unit {engineering(scale.siemens, 'S')}; "
        f"a node holds {engineering(scale.farad, 'F')}",
    ]
    if not imperfections:
        return "\n".join([*lines, "no imperfections"])
    names = max(len(name) for name, _, _ in imperfections)
    times = max(len(when) for _, when, _ in imperfections)
    return "\n".join(lines + [f"{name:{names}}  {when:{times}}  {size}" for name, when, size in imperfections])
