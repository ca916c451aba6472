"""Lines of a netlist. A current flows *into* the node that is named first, from ground unless told."""

from __future__ import annotations

GROUND_NODE = "0"


def number(value: float) -> str:
    """The shortest decimal that is this float64 and no other (17 significant digits at most)."""
    return repr(float(value))


def capacitor(name: str, node: str, farad: float) -> str:
    """`i = C dv/dt` to ground."""
    return f"C{name} {node} {GROUND_NODE} {number(farad)}"


def resistor(name: str, a: str, b: str, siemens: float) -> str:
    """A conductance, written as its resistance in ohm; it makes thermal noise."""
    return f"R{name} {a} {b} {number(1.0 / siemens)}"


def voltage_source(name: str, node: str, volt: float) -> str:
    """Holds a node at a voltage."""
    return f"V{name} {node} {GROUND_NODE} {number(volt)}"


def current_source(name: str, node: str, ampere: float) -> str:
    """A constant current into a node."""
    return f"I{name} {GROUND_NODE} {node} {number(ampere)}"


def transconductance(name: str, node: str, control: str, siemens: float) -> str:
    """`siemens * V(control)` into a node, and nothing out of the controlling one."""
    return f"G{name} {GROUND_NODE} {node} {control} {GROUND_NODE} {number(siemens)}"


def behavioural_current(name: str, node: str, ampere: str, *, source: str = GROUND_NODE) -> str:
    """A current by an expression of voltages into a node, out of `source`."""
    return f"B{name} {source} {node} I={ampere}"


def behavioural_voltage(name: str, node: str, volt: str) -> str:
    """A node held at an expression of voltages."""
    return f"B{name} {node} {GROUND_NODE} V={volt}"


def follower(name: str, node: str, of: str, gain: float = 1.0) -> tuple[str, str]:
    """A node held at `gain V(of)`; the current drawn from it is `i(Vsense<name>)`."""
    inner = f"{name}_inner"
    return f"E{name} {inner} {GROUND_NODE} {of} {GROUND_NODE} {number(gain)}", f"Vsense{name} {inner} {node} 0"


def reflected(name: str, node: str, drawn: str, gain: float) -> str:
    """Draws `gain i(Vsense<drawn>)` from a node."""
    return f"F{name} {node} {GROUND_NODE} Vsense{drawn} {number(gain)}"
