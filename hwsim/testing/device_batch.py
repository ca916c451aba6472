"""Laws of lanes: starts, what is carried and saved, noise addresses, twins, and that batches are only batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.plan import At, Carry, Phase, Plan, RandomStart, Relaxation, Rest, Start

from .bench import Bench
from .laws import close, demand

MANY = 21
"""Lanes of a batch that is reordered or split: enough for a device that works in tiles to be caught at a border."""
SIGMAS = 6.0
"""Standard errors by which a drawn spread may miss; its seed is fixed, so that it does so always or never."""


def random_start(bench: Bench) -> None:
    """z_0 ~ sigma N(0, 1), drawn for each sample id."""
    sigma, plan = 0.5, bench.plan(Phase(steps=0), lanes=64)
    plan = replace(plan, start=RandomStart(0.5))
    with bench.device() as (device, _):
        draw = _reader(device, bench.noise)
        z = draw(plan) / sigma
        error = bench.read_error / sigma
        law = "a random start has mean 0 and standard deviation sigma"
        mean, spread, count = float(z.mean()), float(z.std()), z.size
        off = SIGMAS / np.sqrt(count) + error
        demand(abs(mean) < off and abs(spread - 1.0) < off, law, "0 and 1 (over sigma)", f"{mean:.3g}, {spread:.3g}")
        law = "a random start differs from lane to lane"
        demand(len(np.unique(z, axis=0)) == plan.lanes or error > 0, law, "as many states as lanes", "some twice")
        if not bench.has(Capability.REPLAYABLE_NOISE):
            return
        order = np.random.default_rng(bench.seed).permutation(plan.lanes)
        law = "a random start belongs to the sample id"
        close(law, draw(_reordered(plan, order)), sigma * z[order], bench.tolerance(z))
        law = "another sample id is another random start"
        other = draw(replace(plan, ids=plan.ids + 1000))
        demand(not np.any(np.all(other == sigma * z, axis=1)), law, "other states", "the same")


def carried(bench: Bench) -> None:
    """Carry begins where the last fresh plan ended; probes from At and backwards do not count; at rest on the first."""
    with bench.device() as (device, _):
        first = bench.settle(device, Phase(steps=0), start=Carry()).final
        close("Carry begins at rest where nothing was run", first, np.zeros_like(first), bench.tolerance())
        read = bench.settle(device, Phase(steps=2), Phase(steps=3)).final
        fresh = np.array(read)
        if isinstance(read, np.ndarray) and read.flags.writeable:
            read[...] = 0.0  # what was read belongs to the reader
        law = "Carry begins where the last fresh plan ended"
        again = bench.settle(device, Phase(steps=0), start=Carry()).final
        close(f"{law}, whatever the reader does to what was read", again, fresh, bench.tolerance(fresh))
        if bench.has(Capability.LOAD_STATE):
            bench.settle(device, Phase(steps=2), start=At(bench.normal(20)))
            again = bench.settle(device, Phase(steps=0), start=Carry()).final
            close(f"{law}, and a probe from At is none", again, fresh, bench.tolerance(fresh))
        if bench.has(Capability.TRANSPOSE):
            bench.respond(device, fresh, Phase(steps=2, force=bench.normal(21)))
            again = bench.settle(device, Phase(steps=0), start=Carry()).final
            close(f"{law}, and a response backwards is none", again, fresh, bench.tolerance(fresh))
        if bench.quiet:
            later = bench.settle(device, Phase(steps=4), start=Carry()).final
            whole = bench.settle(device, Phase(steps=9)).final
            close("5 steps and, carried on, 4 more end where 9 steps end", later, whole, bench.tolerance(whole))


def saved(bench: Bench) -> None:
    """save and restore give back the carried state, to the same device and to another one."""
    with bench.device() as (device, _), bench.device() as (other, _):
        fresh = bench.settle(device, Phase(steps=4)).final
        kept = device.save()
        if not kept:
            return  # the hardware keeps its own
        copy = {name: np.array(value) for name, value in kept.items()}
        bench.settle(device, Phase(steps=3, force=bench.normal(22)))
        for name, value in copy.items():
            close(f"what was saved stays as it was, {name}", kept[name], value)
        for which, target in (("the same device", device), ("another device", other)):
            target.restore(kept)
            again = bench.settle(target, Phase(steps=0), start=Carry()).final
            close(f"restore gives the carried state back to {which}", again, fresh, bench.tolerance(fresh))


def addresses(bench: Bench) -> None:
    """The same noise address is the same bits; where the device is noisy, any other address is other noise."""
    if not bench.has(Capability.REPLAYABLE_NOISE):
        return
    plan, path = bench.plan(Phase(steps=5), Phase(steps=2)), bench.noise
    others = {
        "seed": (plan, replace(path, seed=path.seed + 1)),
        "step": (plan, path.at_step(1)),
        "repeat": (plan, path.repeated(1)),
        "sample id": (replace(plan, ids=plan.ids + 1000), path),
        "repeat of a lane": (replace(plan, repeats=np.ones_like(plan.ids)), path),
    }
    if not bench.quiet and not bench.lanewise:
        del others["sample id"]  # all lanes have their noise in common
    with bench.device() as (device, _):
        first = device.relax(plan, noise=path)[-1].final
        close("the same noise address gives the same bits", device.relax(plan, noise=path)[-1].final, first)
        for name, (asked, address) in others.items():
            final = device.relax(asked, noise=address)[-1].final
            if bench.quiet:
                close(f"a quiet device does not care for the noise address, {name}", final, first)
            else:
                law = f"another {name} is other noise in every lane"
                same = np.all(final == first, axis=1)
                # noise below a step of the converter may leave a lane's reads as they were, but not all of them
                alike = same.all() if bench.read_error else same.any()
                demand(not alike, law, "other states", f"the same bits in lanes {np.flatnonzero(same).tolist()}")
        close("the same noise address gives the same bits, later on", device.relax(plan, noise=path)[-1].final, first)
        shifted = device.relax(others["repeat of a lane"][0], noise=path)[-1].final
        law = "a lane's repeat is added to the path's own"
        close(law, shifted, device.relax(plan, noise=path.repeated(1))[-1].final, bench.tolerance(first))
        if bench.has(Capability.TRANSPOSE):
            at, pushed = 0.5 * bench.normal(26), bench.plan(Phase(steps=5, force=bench.normal(27)), Phase(steps=2))
            once, again, other = (
                device.relax_transpose(at, pushed, noise=noise)[-1].final for noise in (path, path, path.repeated(1))
            )
            close("the same noise address gives the same bits, driven backwards", again, once)
            law = "another repeat is other noise driven backwards, if and only if it is forwards"
            demand(
                np.array_equal(other, once) == bench.quiet or bench.read_error > 0, law, not bench.quiet, bench.quiet
            )


def twins(bench: Bench) -> None:
    """Lanes that share input, state, id and repeat go the same way, to rounding, forwards and backwards."""
    if not bench.has(Capability.TWINS):
        return
    law = "twins at zero separation stay together"
    with bench.device() as (device, _):
        for lanes in (1, 3, 11, 33):
            plan = bench.plan(Phase(steps=8, force=bench.normal(23, lanes=lanes)), lanes=lanes)
            pair = _twice(plan)
            final = device.relax(pair, noise=bench.noise)[0].final
            close(f"{law}, {lanes} pairs", final[lanes:], final[:lanes], bench.tolerance(final))
            if bench.has(Capability.TRANSPOSE):
                at = np.concatenate([0.5 * bench.normal(24, lanes=lanes)] * 2)
                back = device.relax_transpose(at, pair, noise=bench.noise)[0].final
                close(f"{law}, driven backwards, {lanes} pairs", back[lanes:], back[:lanes], bench.tolerance(back))
        if not bench.quiet and bench.lanewise:
            repeats = np.repeat([0, 1], lanes)
            final = device.relax(replace(pair, repeats=repeats), noise=bench.noise)[0].final
            law = "lanes of different repeats have different noise"
            demand(not np.array_equal(final[lanes:], final[:lanes]), law, "two states", "the same bits")


def batches(bench: Bench) -> None:
    """A batch is many samples: its order and its borders change nothing but rounding."""
    if not bench.repeatable:
        return
    starts: list[Start] = [Rest(), RandomStart(0.5)] if bench.has(Capability.REPLAYABLE_NOISE) else [Rest()]
    rng = np.random.default_rng(bench.seed)
    order, half = rng.permutation(MANY), MANY // 2
    with bench.device() as (device, _):
        for start in starts:
            plan = bench.plan(Phase(steps=6, force=bench.normal(25, lanes=MANY)), lanes=MANY, start=start)
            whole = device.relax(plan, noise=bench.noise)[0]
            moved = device.relax(_reordered(plan, order), noise=bench.noise)[0]
            parts = [
                device.relax(_reordered(plan, np.arange(MANY)[part]), noise=bench.noise)[0]
                for part in (slice(half), slice(half, None))
            ]
            law = f"reordering a batch reorders its results, from {type(start).__name__}"
            _same(bench, law, moved, _taken(whole, order))
            law = f"a batch split in two gives the same results, from {type(start).__name__}"
            joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("final", "residual")}
            _same(bench, law, Relaxation(states=None, outcome=whole.outcome, **joined), whole)


def _same(bench: Bench, law: str, found: Relaxation, expected: Relaxation) -> None:
    close(law, found.final, expected.final, bench.tolerance(expected.final))
    gain = 2 / bench.spec.step_size
    close(f"{law}, residual", found.residual, expected.residual, bench.tolerance(expected.final, gain=gain))


def _taken(run: Relaxation, order: Int[np.ndarray, " B"]) -> Relaxation:
    return Relaxation(final=run.final[order], states=None, residual=run.residual[order], outcome=run.outcome[order])


def _reordered(plan: Plan, order: Int[np.ndarray, " K"]) -> Plan:
    """These lanes of a plan of one phase."""
    (phase,) = plan.phases
    force = None if phase.force is None else phase.force[order]
    return replace(plan, inputs=plan.inputs[order], ids=plan.ids[order], phases=(replace(phase, force=force),))


def _twice(plan: Plan) -> Plan:
    """Every lane of a plan of one phase, and its twin."""
    (phase,) = plan.phases
    both = replace(phase, force=np.concatenate([phase.force] * 2))
    return replace(plan, inputs=np.concatenate([plan.inputs] * 2), ids=np.concatenate([plan.ids] * 2), phases=(both,))


def _reader(device: Device, noise: NoisePath) -> Callable[[Plan], Float[Array, "B N"]]:
    """What a plan of one phase ends with."""
    return lambda plan: device.relax(plan, noise=noise)[0].final
