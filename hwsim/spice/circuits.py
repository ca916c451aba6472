"""Which circuit has which field: one function per substrate, found by the substrate's type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.substrates import (
    EnergyNetwork,
    Hard,
    Identity,
    LeakyNetwork,
    LinearLangevin,
    Logistic,
    Nonlinearity,
    OscillatorNetwork,
    RationalTanh,
    ReLU,
    Softplus,
    Tanh,
)
from hwsim.substrates.resistive import GROUND, Diode, IdealDiode, ResistiveNetwork, Shockley

from .elements import (
    GROUND_NODE,
    behavioural_current,
    behavioural_voltage,
    current_source,
    follower,
    number,
    reflected,
    resistor,
    transconductance,
)

CELSIUS = 273.15
"""Kelvin at 0 degrees Celsius, the zero of SPICE's temperatures."""

NGSPICE_KT_PER_Q = 1.38064852e-23 / 1.6021766208e-19
"""k/q inside ngspice, volt per kelvin: the values of CODATA 2014, 3.4e-7 below the exact ones of the SI."""


@final
@dataclass(frozen=True, kw_only=True)
class Ports:
    """The nodes between which a substrate is drawn.

    Args:
        state: [N] nodes whose voltages are the states, to be sensed only.
        current: [N] where a unit's currents flow in. The same nodes, but for units with a limited slew rate: their
            voltage follows the state's.
        inputs: [M] nodes held at the inputs.
    """

    state: tuple[str, ...]
    current: tuple[str, ...]
    inputs: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Circuit:
    """What a substrate puts between its ports: everything but the capacitors of the units.

    Args:
        elements: netlist lines.
        capacitance: [N] farad of each unit as designed, to ground.
        siemens: the smallest conductance that matters, from which ngspice's tolerances follow.
        notes: what its node and element names mean, a comment line each.
    """

    elements: tuple[str, ...]
    capacitance: Float[Array, " N"]
    siemens: float
    notes: tuple[str, ...]


@singledispatch
def circuit(substrate: Substrate, theta: Parameters, ports: Ports, scale: Scale) -> Circuit:
    """The circuit in which the currents into unit i sum up to `C_i volt / second F_i(v / volt, x; theta)`.

    A substrate of your own gets a circuit by `@circuit.register`.

    Args:
        substrate: what `DrawnSubstrate.physics` is.
        theta: real parameters, float64 and finite.
        ports: nodes to draw between.
        scale: of the device.

    Raises:
        InputError: no circuit is known for this substrate.
    """
    known = sorted(kind.__name__ for kind in circuit.registry if kind is not object)
    raise InputError(f"{type(substrate).__name__} has no circuit; those that have one are {', '.join(known)}")


# --- couplings through amplifying elements ------------------------------------------------------------------------


@circuit.register
def _leaky(substrate: LeakyNetwork, theta: Parameters, ports: Ports, scale: Scale) -> Circuit:
    """`C dv/dt = -g v + g W r(v) + g U x + g b`: a leak, and a transconductance per coupling from a node at r(v)."""
    rates = tuple(f"r{i}" for i in range(substrate.units))
    inflow = _inflow(ports.current, substrate.coupling.matrix(theta["W"]), rates, theta, ports, scale)
    return Circuit(
        elements=(*_rates(substrate.nonlinearity, ports, scale), *_leaks(ports, scale), *inflow),
        capacitance=np.full(substrate.units, scale.farad),
        siemens=scale.siemens,
        notes=("r<i> is the output r(z) of unit i; Rleak<i> is its leak", _INFLOW),
    )


@circuit.register
def _energy(substrate: EnergyNetwork, theta: Parameters, ports: Ports, scale: Scale) -> Circuit:
    """`C dv/dt = -g v + g r'(v) h`: what flows in gathers at a node h, and a multiplier passes it on."""
    rates, gathered = (tuple(f"{letter}{i}" for i in range(substrate.units)) for letter in "rh")
    inflow = _inflow(gathered, substrate.coupling.matrix(theta["W"]), rates, theta, ports, scale)

    def multipliers() -> Iterator[str]:
        for i, node in enumerate(ports.state):
            # a load without noise, which no resistor is
            yield transconductance(f"h{i}", f"h{i}", f"h{i}", -scale.siemens)
            slope = _expression(substrate.nonlinearity, slope=True).format(z=_state(node, scale))
            yield behavioural_current(f"m{i}", ports.current[i], f"{number(scale.siemens)} * ({slope}) * v(h{i})")

    return Circuit(
        elements=(*_rates(substrate.nonlinearity, ports, scale), *_leaks(ports, scale), *inflow, *multipliers()),
        capacitance=np.full(substrate.units, scale.farad),
        siemens=scale.siemens,
        notes=(
            "r<i> is the output r(z) of unit i, h<i> what flows in, Bm<i> its product with r'(z); Rleak<i> is the leak",
            _INFLOW,
        ),
    )


@circuit.register
def _langevin(substrate: LinearLangevin, theta: Parameters, ports: Ports, scale: Scale) -> Circuit:
    """`C dv/dt = -g v + g (1 - A) v + g U x + g b`: the leak is the source of the noise, whatever A is."""
    couplings = np.eye(substrate.units) - np.asarray(substrate.coupling.matrix(theta["A"]))
    inflow = _inflow(ports.current, couplings, ports.state, theta, ports, scale)
    return Circuit(
        elements=(*_leaks(ports, scale), *inflow),
        capacitance=np.full(substrate.units, scale.farad),
        siemens=scale.siemens,
        notes=("Rleak<i> is the leak of unit i and the source of its noise; the couplings W are 1 - A", _INFLOW),
    )


@circuit.register
def _oscillators(substrate: OscillatorNetwork, theta: Parameters, ports: Ports, scale: Scale) -> Circuit:
    """`C dv_i/dt` = the sum of the pulls, a source of current each; voltages are phases. Without noise."""
    K, H = np.asarray(substrate.coupling.matrix(theta["K"])), theta["H"]

    def pull(name: str, i: int, strength: float, angle: str) -> str:
        return behavioural_current(name, ports.current[i], f"{number(scale.ampere * strength)} * sin({angle})")

    def elements() -> Iterator[str]:
        phase, reference = ([_state(node, scale) for node in nodes] for nodes in (ports.state, ports.inputs))
        for i, port in enumerate(ports.current):
            for j in np.flatnonzero(K[i]):
                if j != i:
                    yield pull(f"K{i}_{j}", i, K[i, j], f"{phase[j]} - {phase[i]}")
            for j in np.flatnonzero(H[i]):
                yield pull(f"H{i}_{j}", i, H[i, j], f"{reference[j]} - {phase[i]}")
            if substrate.locking:
                yield pull(f"lock{i}", i, substrate.locking, f"2 * {phase[i]}")
            if theta["omega"][i]:
                yield current_source(f"omega{i}", port, scale.ampere * theta["omega"][i])

    return Circuit(
        elements=tuple(elements()),
        capacitance=np.full(substrate.units, scale.farad),
        siemens=scale.siemens,
        notes=(
            "voltages are phases, one state unit a radian; BK<i>_<j> is the pull of oscillator j on i, BH<i>_<j> that "
            "of reference j, Block<i> the injection at twice the frequency, Iomega<i> the natural frequency",
        ),
    )


_INFLOW = "GW<i>_<j> is the coupling from unit j to unit i, GU<i>_<j> from input j, Ib<i> the bias"


def _inflow(
    into: Sequence[str], W: Array, rates: Sequence[str], theta: Parameters, ports: Ports, scale: Scale
) -> Iterator[str]:
    """The currents of `W r + U x + b` into a node per unit."""
    W, U, b = np.asarray(W), theta["U"], theta["b"]
    for i, node in enumerate(into):
        for j in np.flatnonzero(W[i]):
            yield transconductance(f"W{i}_{j}", node, rates[int(j)], scale.siemens * W[i, j])
        for j in np.flatnonzero(U[i]):
            yield transconductance(f"U{i}_{j}", node, ports.inputs[int(j)], scale.siemens * U[i, j])
        if b[i]:
            yield current_source(f"b{i}", node, scale.ampere * b[i])


def _leaks(ports: Ports, scale: Scale) -> Iterator[str]:
    for i, port in enumerate(ports.current):
        yield resistor(f"leak{i}", port, GROUND_NODE, scale.siemens)


def _rates(nonlinearity: Nonlinearity, ports: Ports, scale: Scale) -> Iterator[str]:
    """A node r<i> per unit at `volt r(v / volt)`."""
    form = _expression(nonlinearity)
    for i, node in enumerate(ports.state):
        value = form.format(z=_state(node, scale))
        yield behavioural_voltage(f"r{i}", f"r{i}", value if scale.volt == 1 else f"{number(scale.volt)} * ({value})")


def _state(node: str, scale: Scale) -> str:
    """A voltage in state units."""
    return f"v({node})" if scale.volt == 1.0 else f"(v({node}) / {number(scale.volt)})"


def _rational_tanh() -> tuple[str, str]:
    """r and r' of RationalTanh: polynomials of the state that is held, by Horner's scheme."""
    flat = RationalTanh.flat
    z = f"min(max({{z}}, -{flat}), {flat})"
    square = f"({z} * {z})"

    def horner(*coefficients: float) -> str:
        total = f"{coefficients[-1]}"
        for coefficient in coefficients[-2::-1]:
            total = f"({coefficient} + {square} * {total})"
        return total

    bottom = horner(135135, 62370, 3150, 28)
    rate = f"{z} * {horner(135135, 17325, 378, 1)} / {bottom}"
    fall = f"{z} * {horner(124740, 12600, 168)}"
    inside = f"min(max(1 + 1e6 * ({flat} - abs({{z}})), 0), 1)"
    return rate, f"{inside} * ({horner(135135, 51975, 1890, 7)} - ({rate}) * {fall}) / {bottom}"


_EXPRESSIONS: dict[type[Nonlinearity], tuple[str, str]] = {
    Identity: ("{z}", "1"),
    Tanh: ("tanh({z})", "1 - tanh({z}) * tanh({z})"),
    Logistic: ("0.5 + 0.5 * tanh(0.5 * {z})", "0.25 * (1 - tanh(0.5 * {z}) * tanh(0.5 * {z}))"),
    Softplus: ("max({z}, 0) + ln(1 + exp(-abs({z})))", "0.5 + 0.5 * tanh(0.5 * {z})"),
    ReLU: ("max({z}, 0)", "min(max(1 + 1e6 * {z}, 0), 1)"),
    RationalTanh: _rational_tanh(),
    Hard: ("min(max({z}, 0), 1)", "min(min(max(1 + 1e6 * {z}, 0), max(1 + 1e6 * (1 - {z}), 0)), 1)"),
}
"""r(z) and r'(z), with z for the state. Where a slope jumps it is a ramp here, 1e-6 state units wide and outside the
corner, for no circuit can settle on a jump."""


def _expression(nonlinearity: Nonlinearity, *, slope: bool = False) -> str:
    try:
        return _EXPRESSIONS[type(nonlinearity)][slope]
    except KeyError:
        known = ", ".join(kind.__name__ for kind in _EXPRESSIONS)
        raise InputError(f"{nonlinearity} has no expression in SPICE; those that have one are {known}") from None


# --- circuits as they are -----------------------------------------------------------------------------------------


@circuit.register
def _resistive(substrate: ResistiveNetwork, theta: Parameters, ports: Ports, scale: Scale) -> Circuit:
    """Itself: resistors, diodes, and per amplifier a voltage source and a current source that follow."""
    if scale != substrate.scale:
        raise InputError("a ResistiveNetwork is in volt, siemens and second as it is; leave out the scale")
    outputs = tuple(f"a{k}" for k in range(len(substrate.amplifiers)))
    ends = (*ports.current, *ports.inputs, *outputs, GROUND_NODE)  # the last one is endpoint -1
    assert ends[GROUND] == GROUND_NODE
    g = theta["g"]

    def elements() -> Iterator[str]:
        for k, (a, b) in enumerate(substrate.edges):
            if g[k]:
                yield resistor(f"g{k}", ends[a], ends[b], g[k])
        for k, diode in enumerate(substrate.diodes):
            yield from _diode(k, diode, ends[diode.anode], ends[diode.cathode])
        for k, amplifier in enumerate(substrate.amplifiers):
            yield from follower(outputs[k], outputs[k], ports.state[amplifier.node], amplifier.gain)
            if amplifier.reflected:
                yield reflected(outputs[k], ports.current[amplifier.node], outputs[k], amplifier.reflected)

    return Circuit(
        elements=tuple(elements()),
        capacitance=substrate.capacitances,
        siemens=min((float(abs(value)) for value in g if value), default=scale.siemens),
        notes=(
            "Rg<e> is edge e, D<k> or Bd<k> diode k, a<k> the output of amplifier k, Ea<k> its voltage gain and Fa<k> "
            "its current gain",
            *(_SHOCKLEY if any(isinstance(diode.law, Shockley) for diode in substrate.diodes) else ()),
        ),
    )


_SHOCKLEY = (
    "N of a diode makes up for the k/q inside ngspice, which is that of CODATA 2014",
    "beyond -3 N kT/q the current of ngspice's diode is up to 0.4 % of IS off Shockley's law",
)


def _diode(k: int, diode: Diode, anode: str, cathode: str) -> Iterator[str]:
    match diode.law:
        case Shockley(saturation_current=current, temperature=kelvin) as law:
            # temp = tnom, or ngspice would rescale IS
            celsius = number(kelvin - CELSIUS)
            ideality = law.knee / (NGSPICE_KT_PER_Q * kelvin)
            yield f"D{k} {anode} {cathode} diode{k} temp={celsius}"
            yield f".model diode{k} D(IS={number(current)} N={number(ideality)} RS=0 CJO=0 TT=0 TNOM={celsius})"
        case IdealDiode(conductance_on=siemens, threshold=threshold):
            over = f"v({anode},{cathode}) - {number(threshold)}".replace("- -", "+ ")
            yield behavioural_current(f"d{k}", cathode, f"{number(siemens)} * max({over}, 0)", source=anode)
        case law:
            raise InputError(f"diodes[{k}]: {type(law).__name__} has no circuit; use Shockley or IdealDiode")
