"""Usual shapes of resistive networks, as lists of edges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from hwsim.contracts.errors import InputError

from .circuit import GROUND, Amplifier, Diode, DiodeLaw

Edges = tuple[tuple[int, int], ...]


def crossbar(sizes: tuple[int, ...], *, inputs: int, bias: tuple[int, ...], amplified: bool) -> tuple[Edges, int]:
    """Every node of a layer joined to every node of the next: the edges, and the number of hidden nodes.

    The first layer is joined to all input terminals, every later one to those in `bias` and to the nodes before it or,
    where `amplified`, to the outputs of their amplifiers (numbered like the nodes).

    Raises:
        InputError: no layer, an empty one, or a bias that is no input terminal.
    """
    if not sizes or min(sizes) < 1:
        raise InputError(f"layers need sizes >= 1, at least one of them; found sizes={sizes}")
    if wrong := [terminal for terminal in bias if not 0 <= terminal < inputs]:
        raise InputError(f"bias needs input terminals from 0 to {inputs - 1}; found {wrong}")
    units, borders = sum(sizes), (0, *accumulate(sizes))
    behind = units + inputs if amplified else 0
    sources: Sequence[int] = range(units, units + inputs)
    edges: list[tuple[int, int]] = []
    for first, end in pairwise(borders):
        edges += [(source, node) for source in sources for node in range(first, end)]
        sources = [*(behind + node for node in range(first, end)), *(units + terminal for terminal in bias)]
    return tuple(edges), units - sizes[-1]


def square_lattice(
    height: int,
    width: int,
    *,
    sources: tuple[tuple[int, int], ...],
    outputs: tuple[tuple[int, int], ...],
    periodic: bool,
) -> tuple[Edges, int]:
    """Neighbours on a square lattice joined: the edges, and the number of nodes (the sites that are no source).

    Free sites are numbered row by row, outputs last; two sources are not joined, since neither would notice.

    Raises:
        InputError: a chosen site that does not exist or is chosen twice.
    """
    sites = [(row, column) for row in range(height) for column in range(width)]
    chosen = (*sources, *outputs)
    if wrong := sorted({site for site in chosen if site not in sites or chosen.count(site) > 1}):
        raise InputError(f"sources and outputs need different sites of the {height} x {width} lattice; found {wrong}")
    free = [*(site for site in sites if site not in chosen), *outputs]
    number = {site: index for index, site in enumerate((*free, *sources))}
    edges = []
    for row, column in sites:
        below, right = (row + 1, column), (row, column + 1)
        if periodic:  # where the borders are not neighbours already
            below = (below[0] % height, column) if height > 2 else below
            right = (row, right[1] % width) if width > 2 else right
        for beside in (below, right):
            if beside in number and min(number[row, column], number[beside]) < len(free):
                edges.append((number[row, column], number[beside]))
    return tuple(edges), len(free)


def antiparallel(law: DiodeLaw, nodes: int) -> tuple[Diode, ...]:
    """A pair of diodes to ground, one each way, at each of the first `nodes` nodes."""
    ends = [pair for node in range(nodes) for pair in ((node, GROUND), (GROUND, node))]
    return tuple(Diode(anode=anode, cathode=cathode, law=law) for anode, cathode in ends)


def amplified(nodes: int, gain: float, current_gain: float | None) -> tuple[Amplifier, ...]:
    """An amplifier at each of the first `nodes` nodes."""
    return tuple(Amplifier(node=node, gain=gain, current_gain=current_gain) for node in range(nodes))
