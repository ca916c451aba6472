"""Laws of a device at rest: what it says of itself, what it holds, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, HwsimError, InputError, RangeError
from hwsim.contracts.noise import PHYSICAL
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Outcome, Phase, Plan, RandomStart

from .bench import LANES, Bench
from .draws import draw_parameters, normals
from .laws import close, demand, refused


def the_spec(bench: Bench) -> None:
    """The spec is one value, the same from every device, and consistent in itself."""
    with bench.device() as (device, _):
        spec = device.spec
        law = "the spec of a device does not change"
        demand(spec == bench.spec, law, "the same spec from every device and after programming", "another one")
    for name, (low, high) in spec.ranges.items():
        law = f"the range of block {name} is a range of one of the blocks"
        demand(name in spec.shapes and low < high, law, f"one of {sorted(spec.shapes)}, low < high", f"{low}, {high}")
    for name, shape in spec.shapes.items():
        law = f"the shape of block {name} is whole numbers"
        demand(all(isinstance(size, int) and size > 0 for size in shape), law, "sizes > 0", shape)
    demand(spec.tolerance > 0, "the settling tolerance is positive", "> 0", spec.tolerance)
    for name, value in (("noise_floor", spec.noise_floor), ("power", spec.power)):
        demand(value is None or value >= 0, f"{name} is unknown or a size", "None or >= 0", value)
    demand(not isinstance(spec.start, At), "the deployed start is no single state", "not At(...)", spec.start)
    law = "playback is a way of driving the couplings backwards"
    demand(
        bench.has(Capability.TRANSPOSE) or not bench.has(Capability.PLAYBACK), law, "transpose too", "playback alone"
    )


def its_physics(bench: Bench) -> None:
    """Synapses and model are those of the device that the spec describes."""
    with bench.device() as (device, held):
        spec = bench.spec
        z, x = bench.normal(2), normals(bench.seed, 0, LANES, spec.inputs)
        metric = device.synapses.metric(z, held)
        law = "spec.reciprocal says whether synapses.metric is offered"
        demand(spec.reciprocal == (metric is not None), law, f"reciprocal={metric is not None}", spec.reciprocal)
        credit = device.synapses.credit(z, z, x, held)
        found = {name: tuple(block.shape) for name, block in credit.items()}
        demand(
            found == {name: tuple(shape) for name, shape in spec.shapes.items()},
            "synapses.credit speaks of the blocks of the spec",
            dict(spec.shapes),
            found,
        )
        if not bench.has(Capability.MODEL):
            refused(
                "without capability model there is no Device.model", CapabilityError, partial(getattr, device, "model")
            )
            return
        model = device.model
        law = "the model is a model of this device"
        said = (spec.units, spec.inputs, {name: tuple(shape) for name, shape in spec.shapes.items()})
        shapes = {name: tuple(shape) for name, shape in model.shapes().items()}
        demand(said == (model.units, model.inputs, shapes), law, said, model)
        law = "a chip can be less reciprocal than its drawing, not more"
        demand(spec.reciprocal or not model.reciprocal, law, "a model without a metric", "one with")


def the_read_back(bench: Bench) -> None:
    """`held = program(asked)`: the blocks asked for, in range, `readout.*` as it was, and `program(held) = held`."""
    asked = draw_parameters(bench.spec, bench.seed)
    head = {"readout.V": normals(bench.seed, 3, 2, bench.spec.units), "readout.c": np.zeros(2)}
    before = {name: np.array(block) for name, block in (asked | head).items()}
    with bench.make() as device:
        held = device.program(asked | head)
        law = "program reads back every block and no others"
        demand(held.keys() == before.keys(), law, sorted(before), sorted(held))
        for name, block in head.items():
            close(f"program passes {name} through", held[name], block)
        for name, block in before.items():
            close(f"program leaves its argument alone, block {name}", (asked | head)[name], block)
        if bench.spec.exact_writes:
            bench.spec.check_parameters(held)
            again = device.program(held)
            for name, block in held.items():
                law = f"program reads back what is really held: programming that changes nothing, block {name}"
                close(law, again[name], block)
        lean = device.program(asked)
        law = "program needs no readout blocks"
        demand(lean.keys() == asked.keys(), law, sorted(asked), sorted(lean))
        if bench.has(Capability.ADJUST):
            held = device.program(asked)
            for name, block in device.adjust(held.zeros()).items():
                close(f"no pulses change nothing, block {name}", block, held[name])


def the_read_back_is_what_acts(bench: Bench) -> None:
    """A change that the read-back shows must show in what is settled to."""
    if not bench.repeatable or bench.read_error > 0:
        return  # a difference could be noise, or hide below a step of the converter
    with bench.device() as (device, held):
        plain = bench.settle(device, Phase(steps=bench.spec.horizon)).final
        for name, block in held.analog.items():
            if name in bench.spec.feedback:
                continue  # it acts on the response backwards, see device_transpose.feedback
            for index in np.argsort(-np.abs(block), axis=None)[:3]:
                moved = np.array(block, np.float64)
                moved.flat[index] *= 1 - 1e-3
                now = device.program(held | {name: moved})
                if np.array_equal(now[name], block):
                    continue  # below one step of what it can hold
                final = bench.settle(device, Phase(steps=bench.spec.horizon)).final
                law = f"program reads back what is really held: a change of block {name} that it shows acts"
                demand(not np.array_equal(final, plain), law, "another final state", "the same bits")


def refused_parameters(bench: Bench) -> None:
    """Blocks and shapes that do not fit: InputError. Values that do not: RangeError. Nothing is clipped in silence."""
    asked = draw_parameters(bench.spec, bench.seed)
    with bench.device() as (device, _):
        plain = bench.settle(device, Phase(steps=2)).final
        for name, block in asked.items():
            others = {other: value for other, value in asked.items() if other != name}
            law = f"program refuses parameters without block {name}"
            refused(law, InputError, partial(device.program, Parameters(others)))
            _refuses(device, f"block {name} of another shape", asked | {name: np.stack([block, block])}, InputError)
            for value in (np.nan, np.inf):
                _refuses(device, f"{value} in block {name}", asked | {name: np.full(block.shape, value)}, RangeError)
            for bound, side in zip(bench.spec.ranges.get(name, ()), (-1.0, 1.0), strict=False):
                if np.isfinite(bound):
                    beyond = np.array(block)
                    beyond.flat[0] = bound + side * (0.01 + 0.01 * abs(bound))
                    _refuses(device, f"a value out of range in block {name}", asked | {name: beyond}, RangeError)
            _huge(device, name, asked | {name: np.full(block.shape, 1e300)})
            device.program(asked)
        _refuses(device, "an unknown block", asked | {"unheard of": np.zeros(2)}, InputError)
        if bench.repeatable and bench.spec.exact_writes:
            after = bench.settle(device, Phase(steps=2)).final
            close("a refused program leaves the device as it was", after, plain, bench.tolerance(plain))


def _refuses(device: Device, what: str, parameters: Parameters, error: type[Exception]) -> None:
    refused(f"program refuses {what}", error, partial(device.program, parameters))


def _huge(device: Device, name: str, parameters: Parameters) -> None:
    """A value that no range forbids is either held or refused, never turned into infinity."""
    law = f"program refuses what block {name} has no number for"
    try:
        with np.errstate(over="ignore"):
            held = device.program(parameters)
    except RangeError:
        return
    except Exception as error:
        raise AssertionError(f"{law}: expected RangeError; found {type(error).__name__}: {error}") from error
    demand(bool(np.isfinite(held[name]).all()), law, "RangeError, or finite numbers read back", "infinity read back")


def nothing_programmed(bench: Bench) -> None:
    """Before it is programmed a device relaxes neither way."""
    with bench.make() as device:
        plan = bench.plan(Phase(steps=1))
        law = "a device refuses to relax before it is programmed"
        refused(law, HwsimError, partial(device.relax, plan, noise=bench.noise))
        if bench.has(Capability.TRANSPOSE):
            law = "a device refuses to relax backwards before it is programmed"
            backwards = partial(device.relax_transpose, bench.normal(2), plan, noise=bench.noise)
            refused(law, HwsimError, backwards)


def absent_capabilities(bench: Bench) -> None:
    """Whatever a device does not list it refuses by name; nothing is ignored in silence."""
    state, units = bench.normal(2), np.array([0])
    wave = np.stack([state, state])
    plans = {
        Capability.LOAD_STATE: bench.plan(Phase(steps=2), start=At(state)),
        Capability.DISPLACE: bench.plan(Phase(steps=2, displace=state)),
        Capability.CLAMP: bench.plan(Phase(steps=2, clamp=(units, state[:, :1]))),
        Capability.RECORD: bench.plan(Phase(steps=2, record=1)),
        Capability.WAVEFORM: bench.plan(Phase(steps=2, force=wave)),
        Capability.CORRECT: bench.plan(Phase(steps=2, correct_at=state)),
        Capability.COMPLEX: bench.plan(Phase(steps=2, force=1j * state)),
    }
    backwards = {name: plans[name] for name in plans if name not in (Capability.CLAMP, Capability.CORRECT)}
    with bench.device() as (device, held):
        for name, plan in plans.items():
            if not bench.has(name):
                law = f"without capability {name.name.lower()} a plan that needs it is refused"
                _says(law, name, partial(device.relax, plan, noise=bench.noise))
                late = replace(plan, phases=(Phase(steps=1), *plan.phases))
                _says(f"{law} in a later phase", name, partial(device.relax, late, noise=bench.noise))
        if not bench.has(Capability.ADJUST):
            refused(
                "without capability adjust pulses are refused", CapabilityError, partial(device.adjust, held.zeros())
            )
        if not bench.has(Capability.TRANSPOSE):
            law, plan = "without capability transpose relax_transpose is refused", bench.plan(Phase(steps=2))
            refused(law, CapabilityError, partial(device.relax_transpose, state, plan, noise=bench.noise))
            return
        for name, plan in backwards.items():
            if not bench.has(name):
                law = f"without capability {name.name.lower()} a plan that needs it is refused backwards"
                _says(law, name, partial(device.relax_transpose, state, plan, noise=bench.noise))
        if not bench.has(Capability.PLAYBACK):
            law, plan = "without capability playback a recording is refused", bench.plan(Phase(steps=1))
            _says(law, Capability.PLAYBACK, partial(device.relax_transpose, wave, plan, noise=bench.noise))
        for name in (Capability.CLAMP, Capability.CORRECT):
            law = f"relax_transpose has no {name.name.lower()} and says so"
            refused(law, HwsimError, partial(device.relax_transpose, state, plans[name], noise=bench.noise))


def _says(law: str, capability: Capability, action: Callable[[], object]) -> None:
    message = refused(law, CapabilityError, action)
    demand(capability.name.lower() in message, law, f"an error that names {capability.name.lower()}", repr(message))


def refused_plans(bench: Bench) -> None:
    """Shapes that do not fit are refused before anything settles."""
    spec, wide = bench.spec, normals(bench.seed, 4, LANES, bench.spec.units + 1)
    tall = bench.normal(5, lanes=LANES + 1)
    plans = {"inputs [B, M + 1]": replace(bench.plan(Phase(steps=1)), inputs=normals(0, 1, LANES, spec.inputs + 1))}
    for name, wrong in (("[B, N + 1]", wide), ("[B + 1, N]", tall)):
        plans[f"force {name}"] = bench.plan(Phase(steps=1, force=wrong))
        if bench.has(Capability.DISPLACE):
            plans[f"displace {name}"] = bench.plan(Phase(steps=1, displace=wrong))
        if bench.has(Capability.CORRECT):
            plans[f"correct_at {name}"] = bench.plan(Phase(steps=1, correct_at=wrong))
        if bench.has(Capability.LOAD_STATE):
            plans[f"start {name}"] = bench.plan(Phase(steps=1), start=At(wrong))
    if bench.has(Capability.WAVEFORM):
        plans["force [steps + 1, B, N]"] = bench.plan(Phase(steps=2, force=np.stack([bench.normal(6)] * 3)))
    with bench.device() as (device, _):
        for name, plan in plans.items():
            refused(f"a plan with {name} is refused", InputError, partial(device.relax, plan, noise=bench.noise))
        if bench.has(Capability.TRANSPOSE):
            plan = bench.plan(Phase(steps=1))
            for name, at in (("[B, N + 1]", wide), ("[B + 1, N]", tall)):
                law = f"relax_transpose around a state {name} is refused"
                refused(law, InputError, partial(device.relax_transpose, at, plan, noise=bench.noise))


def no_start_is_ignored_backwards(bench: Bench) -> None:
    """a_0 is the plan's start: a start that makes no sense backwards is refused, not taken for rest."""
    if not bench.has(Capability.TRANSPOSE):
        return
    with bench.device() as (device, _):
        carried = bench.settle(device, Phase(steps=bench.spec.horizon)).final
        for start in (RandomStart(1.0), Carry()):
            try:
                found = bench.respond(device, carried, Phase(steps=0), start=start).final
            except HwsimError:
                continue
            law = f"relax_transpose begins at {type(start).__name__} or refuses it"
            demand(bool(np.any(found)), law, "a response that begins there, or an error", "rest, in silence")


def closing(bench: Bench) -> None:
    """A context manager; closing is idempotent, also where nothing was opened, and lets errors through."""
    device = bench.make()
    with device as opened:
        demand(opened is device, "a device is its own context manager", "itself", type(opened).__name__)
        device.program(draw_parameters(bench.spec, bench.seed))
        bench.settle(device, Phase(steps=1))
    device.close()
    device.close()
    bench.make().close()

    def fail_inside() -> None:
        with bench.make():
            raise KeyError("from inside")

    refused("a device lets errors through when it closes", KeyError, fail_inside)


def physics_never_raises(bench: Bench) -> None:
    """What cannot settle is an outcome. A lane that is lost does not take others with it."""
    force = bench.normal(7)
    with bench.device() as (device, _):
        calm = bench.settle(device, Phase(steps=3, force=force))
        wild = np.array(force)
        wild[0] = np.finfo(calm.final.dtype).max
        found = bench.settle(device, Phase(steps=3, force=wild))
        law = "a lane under a force beyond all measure has not settled"
        demand(int(found.outcome[0]) != Outcome.SETTLED, law, "another outcome than SETTLED", "SETTLED")
        if bench.repeatable:
            law = "lanes do not mix: one that diverges leaves the others alone"
            close(law, found.final[1:], calm.final[1:], bench.tolerance(calm.final))
        lost = np.array(force)
        lost[0] = np.nan
        try:
            found = bench.settle(device, Phase(steps=3, force=lost))
        except HwsimError:
            return
        law = "a lane that is not finite has DIVERGED"
        demand(int(found.outcome[0]) == Outcome.DIVERGED, law, "DIVERGED", Outcome(int(found.outcome[0])).name)
        if bench.repeatable:
            law = "lanes do not mix: one that is not finite leaves the others alone"
            close(law, found.final[1:], calm.final[1:], bench.tolerance(calm.final))


def physical_noise(bench: Bench) -> None:
    """Under PHYSICAL a device makes its own noise, fresh each time; without noise the address does not matter."""
    with bench.device() as (device, _):
        plan: Plan = bench.plan(Phase(steps=3))
        first, second = (device.relax(plan, noise=PHYSICAL)[0].final for _ in range(2))
        if bench.quiet:
            close("a quiet device gives the same under PHYSICAL noise", first, second, bench.tolerance(first))
            addressed = device.relax(plan, noise=bench.noise)[0].final
            law = "a quiet device gives the same under PHYSICAL noise as under an address"
            close(law, first, addressed, bench.tolerance(first))
        else:
            law = "a noisy device makes fresh noise under PHYSICAL"
            demand(not np.array_equal(first, second), law, "two different settlings", "the same bits twice")
