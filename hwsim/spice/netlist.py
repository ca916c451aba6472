"""A drawn device as a circuit: the netlist as a value, and the parts that every unit has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError, RangeError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import ROOM_TEMPERATURE, Scale
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.chip import Chip, DrawnSubstrate

from .circuits import CELSIUS, Ports, circuit
from .elements import behavioural_current, capacitor, current_source, follower, number, voltage_source

RAIL = 1e6
"""Conductance of a rail over C / second: a unit driven by one state unit per time constant passes it by 1e-6."""


@final
@dataclass(frozen=True, kw_only=True)
class Netlist:
    """A circuit in SPICE's words, with what is needed to read its voltages as states: `z_i = V(nodes[i]) / volt`.

    Args:
        title: one line.
        notes: comment lines.
        elements: element and .model lines.
        nodes: [N] the node whose voltage is the state of a unit.
        inputs: [M] the node that holds an input.
        start: [N] the state from which a transient begins, state units.
        scale: volt, siemens and second of the state, coupling and time units.
        siemens: the smallest conductance that matters.
        capacitance: [N] farad between a unit's node and ground.
        temperature: kelvin, of the thermal noise of resistors.
    """

    title: str
    notes: tuple[str, ...]
    elements: tuple[str, ...]
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    start: Float[Array, " N"]
    scale: Scale
    siemens: float
    capacitance: Float[Array, " N"]
    temperature: float

    @property
    def text(self) -> str:
        """The circuit alone, without an analysis: a title line, comments, options and elements."""
        return "\n".join(
            [f"* {self.title}", *(f"* {note}" for note in self.notes), self._options(), *self.elements, ""]
        )

    def deck(self, cards: Sequence[str]) -> str:
        """The circuit with analysis cards: what `ngspice -b -r out.raw` runs as it is."""
        return "\n".join([self.text.rstrip("\n"), *cards, ".end", ""])

    def _options(self) -> str:
        # tolerances in proportion to the circuit: SPICE's own are made for volts, milliamperes and picocoulombs
        volt, ampere = self.scale.volt, self.siemens * self.scale.volt
        charge, celsius = float(np.min(self.capacitance)) * volt, number(self.temperature - CELSIUS)
        return (
            f".options reltol=1e-7 vntol={number(1e-10 * volt)} abstol={number(1e-10 * ampere)} "
            f"chgtol={number(1e-10 * charge)} gmin={number(1e-12 * self.siemens)} itl1=1000 itl4=100 trtol=1 "
            f"temp={celsius} tnom={celsius}"
        )


def export_netlist(
    substrate: Substrate,
    parameters: Parameters,
    inputs: Float[Array, " M"],
    chip: Chip | None = None,
    *,
    start: Float[Array, " N"] | None = None,
    scale: Scale | None = None,
    temperature: float = ROOM_TEMPERATURE,
) -> Netlist:
    """One lane of a device as a circuit, with what `Chip` says of this die.

        C_i dv_i/dt = sum of the currents of `circuit(substrate, ...)` + rate_i offset_i C_i volt / second
        C_i = circuit(substrate, ...).capacitance_i / rate_i

    A finite slew rate becomes a current limit between the couplings and the capacitor, a rail a one-sided conductance
    of `RAIL` C_i / second, a dead unit (low = high) a voltage source. Parameters that are zero make no element.

    Args:
        substrate: the physics; a `DrawnSubstrate` brings its own chip and deviation.
        parameters: as programmed (what `device.program` returned); the chip makes them real.
        inputs: [M], constant.
        chip: None for the drawing as designed, or where the substrate is a `DrawnSubstrate`.
        start: [N] where a transient begins; 0 unless told.
        scale: of the device; the substrate's own, or `Scale()`, unless told.
        temperature: kelvin, of the resistors' thermal noise.

    Raises:
        InputError: a substrate that has no circuit, a block, input or start of another shape, a chip of another size.
        RangeError: a number that is not finite.
    """
    drawn = _drawn(substrate, chip)
    _check(drawn, parameters, inputs, temperature)
    real = drawn.real(parameters.analog)
    x = np.asarray(inputs, np.float64)
    z = np.zeros(drawn.units) if start is None else np.asarray(start, np.float64)
    if z.shape != (drawn.units,):
        raise InputError(f"start must be [{drawn.units}], one state per unit; found shape {list(z.shape)}")
    _finite("start", z)
    low, high = drawn.rails or (drawn.chip.low, drawn.chip.high)
    limited = np.isfinite(drawn.chip.slew)
    ports = Ports(
        state=tuple(f"n{i}" for i in range(drawn.units)),
        current=tuple(f"s{i}" if limited[i] else f"n{i}" for i in range(drawn.units)),
        inputs=tuple(f"x{j}" for j in range(drawn.inputs)),
    )
    scale = scale or drawn.scale or Scale()
    drawing = circuit(drawn.physics, real, ports, scale)
    elements = [
        *drawing.elements,
        *(voltage_source(f"x{j}", ports.inputs[j], scale.volt * value) for j, value in enumerate(x)),
        *(line for i in range(drawn.units) for line in _unit(i, ports, drawn, float(drawing.capacitance[i]), scale)),
    ]
    return Netlist(
        title=f"hwsim {type(drawn.drawing).__name__}, {drawn.units} units, {drawn.inputs} inputs",
        notes=(
            f"one state unit is {number(scale.volt)} V, one coupling unit {number(scale.siemens)} S, "
            f"one time constant {number(scale.second)} s",
            "values in ohm, siemens, farad, volt, ampere and second; a parameter of zero makes no element",
            "n<i> is the node of unit i, x<j> of input j",
            *drawing.notes,
        ),
        elements=tuple(elements),
        nodes=ports.state,
        inputs=ports.inputs,
        start=np.clip(z, low, high),
        scale=scale,
        siemens=drawing.siemens,
        capacitance=drawing.capacitance / np.asarray(drawn.chip.rate),
        temperature=temperature,
    )


def _unit(i: int, ports: Ports, drawn: DrawnSubstrate, farad: float, scale: Scale) -> Iterator[str]:
    """What every unit has: its capacitor, and what the chip adds to it."""
    node, port, chip = ports.state[i], ports.current[i], drawn.chip
    rate, offset, slew = float(chip.rate[i]), float(chip.offset[i]), float(chip.slew[i])
    low, high = (float(rail[i]) for rail in drawn.rails or (chip.low, chip.high))
    ampere = farad * scale.volt / scale.second  # moves an unspoilt unit by one state unit per time constant
    if offset:
        yield current_source(f"offset{i}", port, ampere * offset)
    if port != node:
        # the port follows the node, and what flows into it goes on into the capacitor, up to a limit
        yield from follower(port, port, node)
        limit = number(ampere / rate * slew)
        yield behavioural_current(f"slew{i}", node, f"min(max(-i(Vsense{port}), -{limit}), {limit})")
    if low == high:
        yield voltage_source(f"dead{i}", node, scale.volt * low)
        return
    yield capacitor(f"{i}", node, farad / rate)
    rail = number(RAIL * farad / scale.second)
    if np.isfinite(high):
        yield behavioural_current(f"high{i}", node, f"-{rail} * max(v({node}) - {number(scale.volt * high)}, 0)")
    if np.isfinite(low):
        yield behavioural_current(f"low{i}", node, f"{rail} * max({number(scale.volt * low)} - v({node}), 0)")


def _drawn(substrate: Substrate, chip: Chip | None) -> DrawnSubstrate:
    if isinstance(substrate, DrawnSubstrate):
        if chip is not None:
            raise InputError("a DrawnSubstrate brings its own chip; leave out chip, or pass substrate.drawing")
        return substrate
    return DrawnSubstrate(drawing=substrate, chip=Chip.as_drawn(substrate.units) if chip is None else chip)


def _check(drawn: DrawnSubstrate, parameters: Parameters, inputs: Array, temperature: float) -> None:
    shapes, found = dict(drawn.shapes()), {name: tuple(block.shape) for name, block in parameters.analog.items()}
    if found != shapes:
        raise InputError(f"parameters must have the blocks {shapes}; found {found}")
    if np.shape(inputs) != (drawn.inputs,):
        raise InputError(
            f"a netlist holds one lane: inputs must be [{drawn.inputs}]; found shape {list(np.shape(inputs))}"
        )
    for name, block in parameters.analog.items():
        _finite(f"block {name}", np.asarray(block))
    _finite("inputs", np.asarray(inputs))
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature must be finite and above 0 kelvin; found {temperature}")


def _finite(what: str, values: Array) -> None:
    if not np.isfinite(values).all():
        raise RangeError(f"{what} holds a value that is not finite; a circuit needs finite numbers")
