"""A drawn device as a SPICE circuit, and ngspice as its judge."""

from .circuits import Circuit, Ports, circuit
from .netlist import Netlist, export_netlist
from .ngspice import Analysis, Noise, OperatingPoint, Plot, Trace, Transient, find_ngspice, run, run_deck

__all__ = [
    "Analysis",
    "Circuit",
    "Netlist",
    "Noise",
    "OperatingPoint",
    "Plot",
    "Ports",
    "Trace",
    "Transient",
    "circuit",
    "export_netlist",
    "find_ngspice",
    "run",
    "run_deck",
]
