"""The suite for devices bites: each device broken here breaks one law, and the suite names that law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, RandomStart, Relaxation, Rest
from hwsim.contracts.wrapped_device import WrappedDevice
from hwsim.devices import SIMULATED, SimulatedDevice, ThermalNoise
from hwsim.substrates import LeakyNetwork
from hwsim.testing import check_device

C = Capability
UNITS, INPUTS = 6, 4


def simulated(**options: Any) -> SimulatedDevice:
    return SimulatedDevice(LeakyNetwork.dense(UNITS, INPUTS), horizon=12, **options)


noisy = partial(simulated, imperfections=[ThermalNoise(0.05)])


class Broken(WrappedDevice):
    """A device of which some methods are replaced by functions of (device inside, their arguments)."""

    def __init__(self, device: Device | None = None, *, spec: Any = None, **methods: Callable[..., Any]) -> None:
        super().__init__(device or simulated())
        self._said, self._methods = spec or self._device.spec, methods

    def _do(self, name: str, *arguments: Any, **options: Any) -> Any:
        if name in self._methods:
            return self._methods[name](self._device, *arguments, **options)
        return getattr(self._device, name)(*arguments, **options)

    @property
    def spec(self) -> Any:
        return self._said

    @property
    def synapses(self) -> Any:
        return self._device.synapses

    @property
    def model(self) -> Any:
        return self._device.model

    @property
    def nominal(self) -> Any:
        return self._device.nominal

    def program(self, parameters: Parameters) -> Parameters:
        return self._do("program", parameters)

    def adjust(self, pulses: Parameters) -> Parameters:
        return self._do("adjust", pulses)

    def relax(self, plan: Plan, *, noise: Any) -> tuple[Relaxation, ...]:
        return self._do("relax", plan, noise=noise)

    def relax_transpose(self, at: Any, plan: Plan, *, noise: Any) -> tuple[Relaxation, ...]:
        return self._do("relax_transpose", at, plan, noise=noise)

    def form_credit(self, free: Plan, probe: Any, *, noise: Any) -> Any:
        return self._do("form_credit", free, probe, noise=noise)

    def restore(self, saved: Any) -> None:
        self._do("restore", saved)

    def close(self) -> None:
        self._do("close")


def runs(alter: Callable[[Plan], Plan]) -> Callable[..., Any]:
    """Runs another plan than the one it was given."""

    def relax(device: Device, plan: Plan, noise: Any) -> Any:
        device.spec.check_plan(plan)
        return device.relax(alter(plan), noise=noise)

    return relax


def drives(alter: Callable[[Plan], Plan], at: Callable[[Any], Any] = lambda at: at) -> Callable[..., Any]:
    """Drives another plan backwards, or around another state."""
    return lambda device, around, plan, noise: device.relax_transpose(at(around), alter(plan), noise=noise)


def reports(alter: Callable[[Phase, Relaxation], Relaxation]) -> Callable[..., Any]:
    """Reports something else than what it read."""

    def relax(device: Device, plan: Plan, noise: Any) -> Any:
        return tuple(map(alter, plan.phases, device.relax(plan, noise=noise)))

    return relax


def each(**changed: Any) -> Callable[[Plan], Plan]:
    """The same plan with these fields of every phase replaced, by a value or by a function of the phase."""

    def alter(plan: Plan) -> Plan:
        phases = [
            replace(phase, **{name: value(phase) if callable(value) else value for name, value in changed.items()})
            for phase in plan.phases
        ]
        return replace(plan, phases=tuple(phases))

    return alter


def forced(change: Callable[[Any], Any]) -> Callable[[Plan], Plan]:
    return each(force=lambda phase: None if phase.force is None else change(phase.force))


def started(kind: type, start: Callable[[Any], Any]) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, start=start(plan.start)) if isinstance(plan.start, kind) else plan


def holds(hold: Callable[[Any], Any], say: Callable[[Any, Any], Any]) -> Callable[..., Parameters]:
    """Holds `hold(asked)` and says `say(asked, held)`."""

    def program(device: Device, asked: Parameters) -> Parameters:
        device.spec.check_parameters(asked)
        held = device.program(asked.analog.map(hold) | asked.readout)
        return asked.zip(held, say)

    return program


def clips(device: Device, asked: Parameters) -> Parameters:
    if "W" not in asked or not np.isfinite(asked["W"]).all():
        return device.program(asked)
    return device.program(asked | {"W": np.clip(asked["W"], *device.spec.ranges["W"])})


def lacking(capability: Capability, ignore: Callable[[Plan], Plan]) -> Device:
    """A device that lacks a capability, and takes no notice of what needs it."""
    spec = simulated().spec
    return Broken(spec=replace(spec, capabilities=spec.capabilities - {capability}), relax=runs(ignore))


def forwards() -> Device:
    """Drives its couplings forwards where it should drive them backwards: J in place of J^T, tanh and all."""
    other = simulated()

    def program(device: Device, asked: Parameters) -> Parameters:
        held = device.program(asked)
        other.program(held | {"W": held["W"].T})
        return held

    def back(device: Device, at: Any, plan: Plan, noise: Any) -> Any:
        return other.relax_transpose(at, plan, noise=noise)

    return Broken(program=program, relax_transpose=back)


def probes_count(device: Device, plan: Plan, noise: Any) -> Any:
    """Carries on from probes as well."""
    found = device.relax(plan, noise=noise)
    if isinstance(plan.start, At):
        left = (Phase(steps=0, displace=found[-1].final),)
        device.relax(replace(plan, start=Rest(), phases=left), noise=noise)
    return found


def own_noise() -> Device:
    """Says that it can replay noise, and makes its own."""
    steps = iter(range(10**6))

    def relax(device: Device, plan: Plan, noise: Any) -> Any:
        return device.relax(plan, noise=noise.at_step(next(steps)) if hasattr(noise, "at_step") else noise)

    return Broken(noisy(), relax=relax)


def raises(phase: Phase, run: Relaxation) -> Relaxation:
    if not np.isfinite(run.residual).all():
        raise FloatingPointError("overflow")
    return run


def closes_once() -> Device:
    left = iter([None])
    return Broken(close=lambda device: next(left))


def shifted(phase: Phase, run: Relaxation) -> Relaxation:
    if run.states is None or len(run.states) < 2:
        return run
    return replace(run, states=np.concatenate([run.states[1:], run.final[None]]))


def same(value: Any) -> Any:
    return value


def coarse(block: Any) -> Any:
    return np.round(64 * block) / 64


MUTE = SIMULATED - {C.MODEL}
BROKEN: dict[str, tuple[Callable[[], Device], str]] = {
    "ignores forces": (lambda: Broken(relax=runs(each(force=None))), r"a force adds eps \* force to a step, phase 0"),
    "ignores late forces": (
        lambda: Broken(
            relax=runs(lambda p: replace(p, phases=(p.phases[0], *(replace(q, force=None) for q in p.phases[1:]))))
        ),
        r"a force adds eps \* force to a step, phase 1",
    ),
    "ignores forces backwards": (
        lambda: Broken(relax_transpose=drives(each(force=None))),
        r"a force adds eps \* force to a step backwards",
    ),
    "waveform one step late": (
        lambda: Broken(relax=runs(forced(lambda f: f if f.ndim == 2 else np.roll(f, 1, axis=0)))),
        r"a waveform adds eps \* force\[k\] to step k",
    ),
    "ignores displacements": (lambda: Broken(relax=runs(each(displace=None))), "displaced, read the displacement"),
    "ignores the start": (lambda: Broken(relax=runs(started(At, lambda _: Rest()))), "from a loaded state read that"),
    "ignores corrections": (lambda: Broken(relax=runs(each(correct_at=None))), "correct_at turns the response"),
    "records one step late": (lambda: Broken(relax=reports(shifted)), "a recording begins with the state"),
    "records every state": (
        lambda: Broken(relax=runs(each(record=lambda phase: min(phase.record, 1)))),
        "states are recorded where the phase asks for it",
    ),
    "residual per step": (
        lambda: Broken(relax=reports(lambda _, run: replace(run, residual=run.residual / 10))),
        "when its residual is at most the tolerance|the residual is the rms",
    ),
    "always settled": (
        lambda: Broken(relax=reports(lambda _, run: replace(run, outcome=0 * run.outcome))),
        "when its residual is at most the tolerance",
    ),
    "lossy, says what was asked": (
        lambda: Broken(program=holds(coarse, lambda asked, held: asked)),
        "Euler steps of that model with the parameters it read back",
    ),
    "lossy, says what was asked, no model": (
        lambda: Broken(simulated(capabilities=MUTE), program=holds(coarse, lambda asked, held: asked)),
        "program reads back what is really held: a change of block",
    ),
    "lossy each time": (
        lambda: Broken(program=holds(lambda block: 0.99 * block, lambda asked, held: held)),
        "programming that changes nothing",
    ),
    "forgets the readout": (
        lambda: Broken(program=lambda device, asked: device.program(asked) | asked.readout.zeros()),
        "program passes readout.V through",
    ),
    "clips": (
        lambda: Broken(simulated(ranges={"W": (-2.0, 2.0)}), program=clips),
        "program refuses a value out of range in block W",
    ),
    "drives forwards": (forwards, "drives the couplings backwards"),
    "not linear": (
        lambda: Broken(
            relax_transpose=drives(each(displace=lambda p: None if p.displace is None else np.tanh(p.displace)))
        ),
        "a recorded response begins|a displaced start|response backwards is linear",
    ),
    "plays forwards": (
        lambda: Broken(relax_transpose=drives(same, lambda at: at[::-1] if at.ndim == 3 else at)),
        r"uses the gains of at\[steps - 1 - j\]",
    ),
    "carries probes": (lambda: Broken(relax=probes_count), "a probe from At is none"),
    "forgets what it carried": (
        lambda: Broken(restore=lambda device, saved: device.restore({k: saved[k] for k in saved if k != "carried"})),
        "restore gives the carried state back",
    ),
    "mixes lanes": (
        lambda: Broken(
            relax=reports(lambda _, run: replace(run, final=run.final + 1e-9 * np.roll(run.final, 1, axis=0)))
        ),
        "a recording ends|reordering a batch|lanes do not mix",
    ),
    "wide random starts": (
        lambda: Broken(relax=runs(started(RandomStart, lambda start: RandomStart(1.5 * start.sigma)))),
        "a random start has mean 0 and standard deviation sigma",
    ),
    "random starts by lane": (
        lambda: Broken(relax=runs(lambda plan: replace(plan, ids=np.arange(plan.lanes)))),
        "a random start belongs to the sample id",
    ),
    "twins apart": (
        lambda: Broken(
            noisy(capabilities=SIMULATED - {C.REPLAYABLE_NOISE}),
            relax=runs(lambda p: replace(p, repeats=np.arange(p.lanes))),
        ),
        "twins at zero separation",
    ),
    "cannot replay": (own_noise, "the same noise address"),
    "deaf to sample ids": (
        lambda: Broken(noisy(), relax=runs(lambda plan: replace(plan, ids=0 * plan.ids))),
        "a random start|another sample id",
    ),
    "raises on divergence": (lambda: Broken(relax=reports(raises)), "physics never raises.*FloatingPointError"),
    "closes once": (closes_once, "closing.*StopIteration"),
    "does not clamp": (lambda: Broken(relax=runs(each(clamp=None))), "clamped units are held"),
    "lacks load_state": (lambda: lacking(C.LOAD_STATE, started(At, lambda _: Rest())), "without capability load_state"),
    "lacks displace": (lambda: lacking(C.DISPLACE, each(displace=None)), "without capability displace"),
    "lacks clamp": (lambda: lacking(C.CLAMP, each(clamp=None)), "without capability clamp"),
    "lacks record": (lambda: lacking(C.RECORD, each(record=0)), "without capability record"),
    "lacks waveform": (
        lambda: lacking(C.WAVEFORM, forced(lambda f: f[-1] if f.ndim == 3 else f)),
        "capability waveform",
    ),
    "lacks correct": (lambda: lacking(C.CORRECT, each(correct_at=None)), "without capability correct"),
    "lacks transpose": (lambda: lacking(C.TRANSPOSE, same), "playback is a way|without capability transpose"),
    "lacks playback": (lambda: lacking(C.PLAYBACK, same), "without capability playback"),
    "lacks model": (lambda: lacking(C.MODEL, same), "without capability model"),
    "lacks adjust": (lambda: Broken(adjust=lambda device, pulses: pulses), "without capability adjust"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_device_is_caught_by_name(what: str) -> None:
    make, law = BROKEN[what]
    with pytest.raises(AssertionError, match=law):
        check_device(make)


@pytest.mark.parametrize("make", [Broken, lambda: Broken(noisy())])
def test_the_unbroken_device_passes(make: Callable[[], Device]) -> None:
    check_device(make)
