"""Running ngspice: analyses, and what comes back, checked before it is believed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.errors import InputError, SpiceError

from .elements import number
from .netlist import Netlist

Result = TypeVar("Result")

_HARMLESS = re.compile(
    r"gmin increment|gmin step|source stepping|singular matrix|compatibility mode|initialization file", re.I
)
"""Lines that report how an operating point was found (if it was not, others say so), or what is not installed."""

_ALARM = re.compile(r"error|warning|fatal|aborted|not found|unknown|undefined|too small|no convergence", re.I)


@final
@dataclass(frozen=True, kw_only=True)
class Plot:
    """One analysis as ngspice wrote it.

    Args:
        name: such as "Transient Analysis".
        values: [K] per vector, in the order of the file; "v(n0)" or "time", lower case.
    """

    name: str
    values: Mapping[str, Float[np.ndarray, " K"]]


class Analysis(ABC, Generic[Result]):
    """What to ask of a circuit."""

    @abstractmethod
    def cards(self, netlist: Netlist) -> Sequence[str]:
        """The lines that ask for it."""

    @abstractmethod
    def read(self, plots: Sequence[Plot], netlist: Netlist) -> Result:
        """What was found. Raises SpiceError where a plot, a node or a row is missing."""


@final
@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Analysis[Float[np.ndarray, " N"]]):
    """.op: the equilibrium, [N] state units.

    Args:
        near_start: begin the search at the netlist's start (a circuit may have several equilibria).
    """

    near_start: bool = True

    def cards(self, netlist: Netlist) -> Sequence[str]:
        guess = _nodes("nodeset", netlist) if self.near_start and netlist.start.any() else ()
        return (*guess, _save(netlist), ".op")

    def read(self, plots: Sequence[Plot], netlist: Netlist) -> Float[np.ndarray, " N"]:
        plot = _the("Operating Point", plots)
        states = _states(plot, netlist)
        if len(states) != 1:
            raise SpiceError(f"an operating point has one row; ngspice wrote {len(states)}")
        return states[0]


@final
@dataclass(frozen=True, kw_only=True)
class Trace:
    """A settling. `time` [K] in time constants, at the steps that ngspice chose, and `states` [K, N] in state units."""

    time: Float[np.ndarray, " K"]
    states: Float[np.ndarray, "K N"]

    def at(self, time: Float[np.ndarray, " L"]) -> Float[np.ndarray, "L N"]:
        """States in between, by cubic interpolation."""
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(self.time, self.states)(time)


@final
@dataclass(frozen=True, kw_only=True)
class Transient(Analysis[Trace]):
    """.tran from the netlist's start: the settling.

    Args:
        duration: time constants.
        max_step: longest step, time constants.
    """

    duration: float
    max_step: float

    def __post_init__(self) -> None:
        if not 0.0 < self.max_step <= self.duration < np.inf:
            raise InputError(
                f"a transient needs 0 < max_step <= duration, in time constants; "
                f"found max_step={self.max_step}, duration={self.duration}"
            )

    def cards(self, netlist: Netlist) -> Sequence[str]:
        step, stop = self.max_step * netlist.scale.second, self.duration * netlist.scale.second
        # ngspice takes a tenth of its first argument as first step, whose error it does not control
        first = number(1e-4 * step)
        return (*_nodes("ic", netlist), _save(netlist), f".tran {first} {number(stop)} 0 {number(step)} uic")

    def read(self, plots: Sequence[Plot], netlist: Netlist) -> Trace:
        plot = _the("Transient Analysis", plots)
        if "time" not in plot.values:
            raise SpiceError(f"ngspice wrote no time; it wrote {', '.join(plot.values)}")
        time, states = plot.values["time"] / netlist.scale.second, _states(plot, netlist)
        least = self.duration / self.max_step
        if len(time) < least or abs(time[-1] - self.duration) > 1e-6 * self.duration:
            raise SpiceError(
                f"the transient should end at {self.duration:g} time constants after at least {least:.0f} rows; "
                f"ngspice wrote {len(time)} rows, the last at {time[-1] if len(time) else 0.0:g}"
            )
        return Trace(time=np.append(0.0, time), states=np.vstack([netlist.start, states]))


@final
@dataclass(frozen=True, kw_only=True)
class Noise(Analysis[float]):
    """.noise around the operating point: the variance of an output between two frequencies, state units squared.

    Args:
        output: a unit, or two units for the difference of their states.
        lowest, highest: hertz. A single pole at f_c keeps `2/pi (atan(highest / f_c) - atan(lowest / f_c))` of kT/C:
            beyond a thousand corner frequencies 6e-4 is missing.
        per_decade: points per decade.

    One output per deck: of several .noise cards ngspice 39 runs the last one first, and its files do not say which.
    """

    output: int | tuple[int, int]
    lowest: float
    highest: float
    per_decade: int = 50

    def __post_init__(self) -> None:
        if not (0.0 < self.lowest < self.highest < np.inf and self.per_decade >= 1):
            raise InputError(
                f"noise needs 0 < lowest < highest in hertz and per_decade >= 1; found "
                f"lowest={self.lowest}, highest={self.highest}, per_decade={self.per_decade}"
            )

    def cards(self, netlist: Netlist) -> Sequence[str]:
        units = self.output if isinstance(self.output, tuple) else (self.output,)
        voltage = f"v({','.join(netlist.nodes[unit] for unit in units)})"
        span = f"dec {self.per_decade} {number(self.lowest)} {number(self.highest)}"
        # ngspice refers noise to an input; a source without current changes nothing
        return (f"Iprobe 0 {netlist.nodes[0]} dc 0 ac 1", f".noise {voltage} Iprobe {span}")

    def read(self, plots: Sequence[Plot], netlist: Netlist) -> float:
        plot = _the("Integrated Noise", plots)
        total = plot.values.get("v(onoise_total)")
        if total is None or len(total) != 1:
            raise SpiceError(f"ngspice wrote no v(onoise_total); it wrote {', '.join(plot.values)}")
        return (float(total[0]) / netlist.scale.volt) ** 2


def run(netlist: Netlist, analysis: Analysis[Result], *, timeout: float = 300.0) -> Result:
    """Analyse a circuit with ngspice.

    Args:
        netlist: from `export_netlist`.
        analysis: `OperatingPoint()`, `Transient(...)` or `Noise(...)`.
        timeout: seconds.

    Raises:
        SpiceError: ngspice is missing, complains, takes too long, or wrote less than was asked for.

    Cost: a process, about 20 ms, and the analysis.
    """
    return analysis.read(run_deck(netlist.deck(analysis.cards(netlist)), timeout=timeout), netlist)


def run_deck(deck: str, *, timeout: float = 300.0) -> tuple[Plot, ...]:
    """Run a whole deck in a folder of its own, without the user's .spiceinit.

    ngspice may return 0 for a deck that it could not run; so its log is searched for complaints, and only an analysis
    whose rows are all there and finite counts.

    Raises:
        SpiceError: with the log's own words.
    """
    ngspice = find_ngspice()
    with tempfile.TemporaryDirectory(prefix="hwsim-spice-") as name:
        folder = Path(name)
        (folder / "deck.cir").write_text(deck, encoding="ascii")
        command = [str(ngspice), "-n", "-b", "-r", "out.raw", "-o", "log", "deck.cir"]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise SpiceError(f"ngspice took longer than {timeout:g} s; ask for a shorter or coarser analysis") from None
        except OSError as error:
            raise SpiceError(f"cannot run {ngspice}: {error.strerror}") from None
        log = (folder / "log").read_text(errors="replace") if (folder / "log").exists() else ""
        _complain(log + done.stderr, done.returncode)
        raw = folder / "out.raw"
        if not raw.exists():
            raise SpiceError(f"ngspice ran no analysis; its log ends with: {_tail(log)}")
        plots = tuple(_plots(raw.read_bytes()))
    for plot in plots:
        for name, values in plot.values.items():
            if not np.isfinite(values).all():
                raise SpiceError(f"ngspice wrote {name} values that are not finite in its {plot.name}")
    return plots


def find_ngspice() -> Path:
    """The ngspice on the PATH.

    Raises:
        SpiceError: there is none.
    """
    found = shutil.which("ngspice")
    if found is None:
        raise SpiceError("ngspice is not on the PATH; install ngspice (Debian: apt-get install ngspice)")
    return Path(found)


def _complain(log: str, code: int) -> None:
    lines = [line.strip() for line in log.splitlines() if not line.startswith("Circuit:")]
    for k, line in enumerate(lines):
        if _ALARM.search(line) and not _HARMLESS.search(line):
            words = " | ".join(said for said in lines[k : k + 4] if said)
            raise SpiceError(f"ngspice could not run the deck; its log says: {words}")
    if code:
        raise SpiceError(f"ngspice ended with status {code}; its log ends with: {_tail(log)}")


def _tail(log: str) -> str:
    return " | ".join([line.strip() for line in log.splitlines() if line.strip()][-3:]) or "nothing"


def _plots(raw: bytes) -> list[Plot]:
    """A binary raw file: per analysis a header of lines up to "Binary:", then rows of float64, variable by variable."""
    plots = []
    while raw:
        header, mark, rest = raw.partition(b"Binary:\n")
        lines = header.decode("ascii", "replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("\t"))
        try:
            flags, points = fields["Flags"].split(), int(fields["No. Points"])
            width, title = int(fields["No. Variables"]), fields["Plotname"].strip()
            names = [line.split("\t")[2].lower() for line in lines if line.startswith("\t")]
        except (KeyError, ValueError, IndexError):
            raise SpiceError(f"cannot read what ngspice wrote; the file begins with {header[:80]!r}") from None
        size = 8 * width * points
        if not mark or "real" not in flags or len(names) != width or len(rest) < size:
            raise SpiceError(f"ngspice wrote {len(rest)} bytes of {points} rows of {width} real numbers, {title}")
        rows = np.frombuffer(rest[:size], "=f8").reshape(points, width)
        plots.append(Plot(name=title, values=dict(zip(names, rows.T, strict=True))))
        raw = rest[size:]
    return plots


def _the(name: str, plots: Sequence[Plot]) -> Plot:
    """The one plot of that name."""
    found = [plot for plot in plots if plot.name == name]
    if len(found) != 1:
        raise SpiceError(f"asked for {name}; ngspice wrote {[plot.name for plot in plots]}")
    return found[0]


def _states(plot: Plot, netlist: Netlist) -> Float[np.ndarray, "K N"]:
    names = [f"v({node})" for node in netlist.nodes]
    if missing := [name for name in names if name not in plot.values]:
        raise SpiceError(f"ngspice left out {', '.join(missing)} of its {plot.name}")
    return np.stack([plot.values[name] for name in names], axis=-1) / netlist.scale.volt


def _save(netlist: Netlist) -> str:
    return ".save " + " ".join(f"v({node})" for node in netlist.nodes)


def _nodes(card: str, netlist: Netlist) -> tuple[str, ...]:
    volts = netlist.scale.volt * netlist.start
    return tuple(f".{card} v({node})={number(volt)}" for node, volt in zip(netlist.nodes, volts, strict=True))
