"""The loop of a phase on tensors that stay where they are: the same step captured in a CUDA graph, or run plainly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch

from hwsim.devices.engines import Settled, Stretch

from .arrays import numpy_type
from .noise import DeviceDraws, Draws, HostDraws
from .side import Side

SPAN = 32
"""Steps of the longest captured graph: beyond it, launching is no longer what takes time."""
Capture: TypeAlias = Callable[[Callable[[], None]], Callable[[], None]]
"""Work on tensors that stay where they are -> something that does it again at each call."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """All that decides which operations a step is made of, and the shapes of their tensors.

    Args:
        lanes: B.
        states: type of the states, complex or not.
        still, waves: whether a force is constant, and the number of steps of one that is not (0 without).
        corrected: whether the asymmetric-EP dynamics run.
        played: states along which a response runs; None forwards.
        slewed: whether changes are limited.
        rails: rows of the rails, 0 for none.
        coarse: fine steps of the noise; 0 without noise.
    """

    lanes: int
    states: torch.dtype
    still: bool
    waves: int
    corrected: bool
    played: int | None
    slewed: bool
    rails: int
    coarse: int


@final
class Loop:
    """Room for one form of phase, and the step in it. Nothing is made anew from one phase, or step, to the next.

    Args:
        side: the physics and its propagator, in one direction.
        form: of the phase.
        capture: what captures some steps; None runs them one by one.
    """

    def __init__(self, side: Side, form: Form, capture: Capture | None) -> None:
        self._side, self._form = side, form
        shape, real, device = (form.lanes, side.units), side.dtype, side.device

        def room(*dims: int, dtype: torch.dtype = form.states) -> torch.Tensor:
            return torch.zeros(dims, dtype=dtype, device=device)

        self.z, self._before, self._change, self._other = (room(*shape) for _ in range(4))
        self._second = room(*shape) if side.heun else self._change
        self._clock = room(1, dtype=torch.int64)
        self._limited, self._lanes = (room(form.lanes, dtype=torch.bool) for _ in range(2))
        self._held, self._too = (room(*shape, dtype=torch.bool) for _ in range(2))
        self._bias = room(*shape) if form.still or side.offset is not None else None
        self._waves = room(form.waves, *shape) if form.waves else None
        self._wave = room(1, *shape)
        rails = (form.rails, side.units)  # low, high, and whether the unit may move
        self._rails = (room(*rails), room(*rails), room(*rails, dtype=torch.bool)) if form.rails else None
        self._slew = (room(side.units, dtype=real), room(side.units, dtype=real)) if form.slewed else None
        self._terms = side.terms(form.lanes, corrected=form.corrected, played=form.played, states=form.states)
        self._draws = self._drawn(real, device) if form.coarse else None
        self._noise = room(*shape, dtype=real) if form.coarse else None
        self._capture = capture if self._terms.steady else None
        self._graphs: dict[int, Callable[[], None]] = {}

    def _drawn(self, real: torch.dtype, device: torch.device) -> Draws:
        lanes, units, coarse = self._form.lanes, self._side.units, self._form.coarse
        if device.type == "cpu" and not self._side.draws_in_torch:
            return HostDraws(lanes, units, numpy_type(real))
        return DeviceDraws(lanes, units, coarse, real, device, fused=self._side.fused)

    def run(self, z: torch.Tensor, at: torch.Tensor | None, stretch: Stretch) -> Settled:
        """One phase from z; `at` as the terms want it."""
        self._begin(z, at, stretch)
        states = self._recording(stretch)
        if states is not None:
            states[0].copy_(self.z)
        self._before.copy_(self.z)
        done, every = 0, stretch.record or max(stretch.steps, 1)
        while done < stretch.steps:
            until = min(stretch.steps, done + every)
            if until == stretch.steps:
                self._go(done, until - 1)
                self._before.copy_(self.z)
                done = until - 1
            self._go(done, until)
            done = until
            if states is not None and done % every == 0:
                states[done // every].copy_(self.z)
        return Settled(final=self.z.clone(), before=self._before.clone(), states=states, limited=self._limited.clone())

    def _begin(self, z: torch.Tensor, at: torch.Tensor | None, stretch: Stretch) -> None:
        self.z.copy_(z)
        self._clock.zero_()
        self._limited.zero_()
        self._terms.begin(stretch.x, stretch.correct_at if at is None else at)
        if self._bias is not None:
            self._bias.zero_()
            if self._form.still and stretch.force is not None:
                self._bias.copy_(stretch.force)
            if self._side.offset is not None:
                self._bias.add_(self._side.offset)
        if self._waves is not None and stretch.force is not None:
            self._waves.copy_(stretch.force)
        if self._rails is not None and stretch.low is not None and stretch.high is not None:
            low, high, free = self._rails
            low.copy_(stretch.low)
            high.copy_(stretch.high)
            free.copy_(low != high)
        if self._slew is not None and self._side.slew is not None:
            slowest, fastest = self._slew
            fastest.copy_(self._side.slew)
            if self._rails is not None:  # a clamped unit knows no limit
                fastest.masked_fill_(~torch.any(self._rails[2], dim=0), torch.inf)
            torch.neg(fastest, out=slowest)
        if self._draws is not None:
            self._draws.begin(stretch)

    def _recording(self, stretch: Stretch) -> torch.Tensor | None:
        if not stretch.record:
            return None
        shape = (1 + stretch.steps // stretch.record, *self.z.shape)
        dtype = numpy_type(self.z.dtype)
        if self._side.device.type == "cpu" or stretch.recordings.on_disk(shape, dtype):
            return torch.from_numpy(stretch.recordings.empty(shape, dtype))
        return torch.empty(shape, dtype=self.z.dtype, device=self._side.device)

    def _go(self, first: int, until: int) -> None:
        """Steps `first` to `until` - 1."""
        if self._capture is None:
            for step in range(first, until):
                if self._draws is not None:
                    self._draws.prepare(step)
                self.step()
            return
        while first < until:
            steps = min(SPAN, until - first)
            if steps not in self._graphs:
                self._graphs[steps] = self._captured(self._capture, steps)
            self._graphs[steps]()
            first += steps

    def _captured(self, capture: Capture, steps: int) -> Callable[[], None]:
        """Some steps as one graph; whatever capturing them moved is put back.

        The clock starts at 0 meanwhile, so that the steps of a warm-up find rows of a waveform to look at.
        """
        moving = (self.z, self._clock, self._limited)
        kept = [tensor.clone() for tensor in moving]
        self._clock.zero_()

        def work() -> None:
            for _ in range(steps):
                self.step()

        again = capture(work)
        for tensor, was in zip(moving, kept, strict=True):
            tensor.copy_(was)
        return again

    def step(self) -> None:
        """`z <- within(z + push (F + offset + force) + amplitude xi)`, see `Engine`: every operation of the loop."""
        side, change = self._side, self._change
        self._draw()
        self._changed(self.z, change)
        if side.heun:
            torch.add(self.z, change, out=self._other)
            self._add_noise(self._other)
            self._within(self._other)
            self._second.copy_(self._other)
            trial, second = self._second, self._other
            self._changed(trial, second)
            change.add_(second).mul_(0.5)
        self.z.add_(change)
        self._add_noise(self.z)
        if self._rails is not None and not self.z.is_complex():
            low, high, free = self._rails
            torch.gt(self.z, high, out=self._held)
            torch.lt(self.z, low, out=self._too)
            self._report(self._held.logical_or_(self._too).logical_and_(free))
        self._within(self.z)
        self._clock.add_(1)

    def _draw(self) -> None:
        """`amplitude xi` of this step."""
        if self._draws is None or self._noise is None:
            return
        amplitude = self._side.amplitude
        self._draws.draw(self._clock)
        if amplitude.ndim == 2:
            torch.mm(self._draws.xi, amplitude.T, out=self._noise)
        else:
            torch.mul(self._draws.xi, amplitude, out=self._noise)

    def _add_noise(self, z: torch.Tensor) -> None:
        if self._noise is not None:
            (z.real if z.is_complex() else z).add_(self._noise)

    def _changed(self, z: torch.Tensor, out: torch.Tensor) -> None:
        """`push (F(z) + offset + force)`, within the slew limit."""
        self._terms.flow(z, self._clock, out)
        if self._waves is not None:
            torch.index_select(self._waves, 0, self._clock, out=self._wave)
            out.add_(self._wave[0])
        if self._bias is not None:
            out.add_(self._bias)
        push = self._side.push
        if push.ndim == 2:
            self._release(z, out)
            out.copy_(out @ push.T.to(out.dtype))
        else:
            out.mul_(push)
        if self._slew is not None:
            slowest, fastest = self._slew
            torch.gt(out, fastest, out=self._held)
            torch.lt(out, slowest, out=self._too)
            self._report(self._held.logical_or_(self._too))
            torch.clamp(out, slowest, fastest, out=out)

    def _release(self, z: torch.Tensor, flow: torch.Tensor) -> None:
        """Leave out what only presses against a rail or a clamp: a push that is a matrix would pass it on."""
        if self._rails is None:
            return
        low, high, free = self._rails
        pressed = ~free
        if not z.is_complex():
            pressed = pressed | ((z >= high) & (flow > 0)) | ((z <= low) & (flow < 0))
        flow.masked_fill_(pressed, 0.0)

    def _within(self, z: torch.Tensor) -> None:
        if self._rails is None:
            return
        low, high, free = self._rails
        if z.is_complex():
            torch.where(free, z, high, out=z)
        else:
            torch.clamp(z, low, high, out=z)

    def _report(self, held: torch.Tensor) -> None:
        torch.any(held, dim=1, out=self._lanes)
        self._limited.logical_or_(self._lanes)


def cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Some work as a CUDA graph, done once before on a stream of its own, as torch asks for."""
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    again: Callable[[], None] = graph.replay
    return again
