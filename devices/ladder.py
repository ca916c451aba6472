"""A simulated device taken apart for an audit: its drawn chip, and then one imperfection after another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias, final

from jaxtyping import Float

from hwsim.audit import DeviceLadder, DeviceRung, Floor
from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.chip import Chip

from .imperfections.contract import (
    Context,
    Diffusion,
    Drive,
    Fabrication,
    Imperfection,
    Process,
    Readout,
    Realisation,
    Schedule,
    Seeds,
    Update,
    WriteReport,
    WriteStage,
)
from .simulated import SimulatedDevice

Make: TypeAlias = Callable[[Sequence[Imperfection]], SimulatedDevice]
"""A device with these imperfections and, at every call, with everything else the same (seeds above all)."""

BACKWARDS = "not the transpose backwards"
WRITES = "write chain"

_LARGER = "nudge or kick harder, or average more estimates (rule.averaged(k))"
_ADVICE: tuple[tuple[type[Imperfection], str], ...] = (
    (Drive, "give the inputs more bits, or scale them to the range of their converter"),
    (Readout, f"read with more bits or less noise in a range that fits the states; {_LARGER}"),
    (Diffusion, f"{_LARGER}, or let both signs of a probe share their noise (shared_noise=True) where they can"),
    (Process, f"{_LARGER}; noise slower than a settling goes away where both signs share it (shared_noise=True)"),
    (Realisation, f"{_LARGER}, or hold the weights in larger conductances"),
    (Schedule, "run the two signs of a probe close together, and write or refresh cells before they have drifted"),
)
"""Places in the order in which their imperfections are switched on, with what to do about them."""


def audit_ladder(
    make: Make, imperfections: Sequence[Imperfection], theta: Parameters, *, waited: float = 0.0
) -> tuple[DeviceLadder, Parameters]:
    """The ladder of `audit` for a simulated device, and the parameters that all its devices hold.

    What belongs to the chip is there from the first: `Fabrication`, and every `Realisation` that is the same in all
    settlings (wires, drift after `waited` seconds, write noise). The judge differentiates that chip. Then come, one by
    one, couplings that are not the transpose when driven backwards, inputs (`Drive`), converters, noise of reading,
    `Diffusion`, `Process`, cells that are drawn anew for every settling (`Realisation` with `Seeds.READ`), `Schedule`,
    and last the write chain, which a rule notices only if it writes: the error of what is held against what was asked
    for is no error of the gradient, which is taken at what is held. Pulsed updates play no part.

    An imperfection that is not yet there keeps its place in the list, so that all devices are the same die with the
    same draws. They are written once, as a new device is; a rule that writes sees the same programming noise at every
    repeat of an audit.

    Args:
        make: makes the device of a list of imperfections, all else equal, such as
            `lambda some: SimulatedDevice(network, horizon=30, imperfections=some, die_seed=1)`.
        imperfections: of the whole machine.
        theta: what is asked for, `readout.*` included.
        waited: seconds since programming, which drift sees.

    Raises:
        InputError, RangeError: as the device itself.

    Cost: a device for every imperfection that is not of the chip.
    """
    machine = make(imperfections)
    held = machine.program(theta)
    machine.wait(waited)
    names = _names(imperfections)

    def device(acting: set[int], *, exact_backwards: bool = False) -> SimulatedDevice:
        some = [one if k in acting else _ABSENT for k, one in enumerate(imperfections)]
        made = make([*some, _ExactBackwards()] if exact_backwards else some)
        made.program(held)
        made.wait(waited)
        return made

    acting = {k for k, one in enumerate(imperfections) if _of_the_chip(one)}
    judge = device(acting, exact_backwards=bool(machine.chip.backward))
    rungs = []
    if machine.chip.backward:
        advice = "learn the feedback, or use a rule whose probe settles forwards (corrected or natural)"
        rungs.append(DeviceRung(name=BACKWARDS, advice=advice, device=device(acting), floor=Floor.CHIP))
    for place, advice in _ADVICE:
        own = [k for k, one in enumerate(imperfections) if isinstance(one, place) and not _of_the_chip(one)]
        for k in sorted(own, key=lambda k: imperfections[k].seeds is not Seeds.FIXED):
            acting = acting | {k}
            detail = imperfections[k].describe(machine.scale)
            rungs.append(DeviceRung(name=names[k], advice=advice, device=device(acting), detail=detail))
    if writes := [one for one in imperfections if isinstance(one, WriteStage)]:
        advice = "write in finer or less noisy steps, or use a rule that does not write to find its gradient"
        detail = ", ".join(_words(one) for one in writes)
        rungs.append(DeviceRung(name=WRITES, advice=advice, device=machine, detail=detail))
    else:
        machine.close()  # the last rung is the same again
    return DeviceLadder(judge=judge, rungs=tuple(rungs)), held


def _of_the_chip(one: Imperfection) -> bool:
    """Whether it is the same in all settlings of a programmed chip."""
    return isinstance(one, Fabrication | Update) or (isinstance(one, Realisation) and one.seeds is not Seeds.READ)


def _words(one: Imperfection) -> str:
    """ThermalNoise -> thermal noise, ADC -> ADC, OneByOne -> one by one."""
    name = type(one).__name__
    return name if name.isupper() else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _names(imperfections: Sequence[Imperfection]) -> list[str]:
    """Their names in words, numbered where several have the same."""
    words = [_words(one) for one in imperfections]
    return [f"{name} {words[: k + 1].count(name)}" if words.count(name) > 1 else name for k, name in enumerate(words)]


@final
@dataclass(frozen=True)
class _Absent(WriteStage):
    """Keeps the place of an imperfection that is switched off, since draws are addressed by place."""

    idempotent: ClassVar[bool] = True

    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        return values, WriteReport()

    def describe(self, scale: Scale) -> str:
        return "switched off"


_ABSENT = _Absent()


@final
@dataclass(frozen=True)
class _ExactBackwards(Fabrication):
    """Takes away what is wrong with couplings that are driven backwards; last in the list."""

    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        return replace(chip, backward={})

    def describe(self, scale: Scale) -> str:
        return "exact when driven backwards"
