"""Laws of settling: `z <- z + eps (F(z, x) + force)`, step by step, as recorded and as reported."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hwsim.contracts.device import Capability
from hwsim.contracts.plan import At, Outcome, Phase, Relaxation, Rest

from .bench import LANES, Bench
from .laws import close, demand, largest


def well_formed(bench: Bench) -> None:
    """One Relaxation per phase, with the shapes that it promises and an outcome that fits its residual."""
    every = 2 if bench.has(Capability.RECORD) else 0
    plan = bench.plan(Phase(steps=bench.spec.horizon), Phase(steps=3, record=every), Phase(steps=0))
    before = np.array(plan.inputs), np.array(plan.ids)
    with bench.device() as (device, _):
        runs = device.relax(plan, noise=bench.noise)
    close("relax leaves the inputs alone", plan.inputs, before[0])
    close("relax leaves the sample ids alone", plan.ids, before[1])
    demand(len(runs) == 3, "relax gives one Relaxation per phase", 3, len(runs))
    for index, (phase, run) in enumerate(zip(plan.phases, runs, strict=True)):
        shape = (LANES, bench.spec.units)
        law = f"the final state of a phase is [B, N], phase {index}"
        demand(tuple(run.final.shape) == shape, law, shape, tuple(run.final.shape))
        demand(bool(np.isfinite(run.final).all()), f"{law} and finite", "finite numbers", "some that are not")
        sizes = tuple(run.residual.shape), tuple(run.outcome.shape)
        demand(sizes == ((LANES,), (LANES,)), "residual and outcome are [B]", (LANES,), sizes)
        law = "states are recorded where the phase asks for it and nowhere else"
        count = None if run.states is None else len(run.states)
        wanted = 1 + phase.steps // phase.record if phase.record else None
        demand(count == wanted, law, f"{wanted} states", f"{count} states")
        if phase.steps:
            _outcome_fits(bench, run)


def _outcome_fits(bench: Bench, run: Relaxation) -> None:
    for lane in range(LANES):
        outcome, residual = int(run.outcome[lane]), float(run.residual[lane])
        law = "an outcome is one of Outcome"
        demand(outcome in set(Outcome), law, [int(code) for code in Outcome], outcome)
        demand(residual >= 0, "a residual is a size", ">= 0", residual)
        settled = residual <= bench.spec.tolerance
        law = f"a lane is settled when its residual is at most the tolerance, {bench.spec.tolerance:g}"
        if outcome in (Outcome.SETTLED, Outcome.UNSETTLED):
            demand(
                settled == (outcome == Outcome.SETTLED), law, f"the outcome of {residual:.3g}", Outcome(outcome).name
            )


def rest_and_loading(bench: Bench) -> None:
    """z_0 is 0 at rest, the given state from At, and moved by a displacement."""
    state, kick = bench.normal(1), bench.normal(2)
    with bench.device() as (device, _):
        read = bench.settle(device, Phase(steps=0)).final
        close("zero steps from rest read 0", read, np.zeros_like(state), bench.tolerance())
        if bench.has(Capability.LOAD_STATE):
            read = bench.settle(device, Phase(steps=0), start=At(state)).final
            close("zero steps from At(state) read that state", read, state, bench.tolerance(state))
        if not bench.has(Capability.DISPLACE):
            return
        read = bench.settle(device, Phase(steps=0, displace=kick)).final
        close("zero steps from rest, displaced, read the displacement", read, kick, bench.tolerance(kick))
        if bench.repeatable:
            whole = device.relax(bench.plan(Phase(steps=4), Phase(steps=0, displace=kick)), noise=bench.noise)
            law = "a later phase is displaced from where the one before it ended"
            expected = whole[0].final + kick
            close(law, whole[1].final, expected, bench.tolerance(expected))
        if bench.has(Capability.LOAD_STATE) and bench.repeatable:
            moved = bench.settle(device, Phase(steps=4, displace=kick), start=At(state)).final
            loaded = bench.settle(device, Phase(steps=4), start=At(state + kick)).final
            close("displacing by d equals starting at z + d", moved, loaded, bench.tolerance(loaded))


def phases_back_to_back(bench: Bench) -> None:
    """Phases of a and b steps end where one of a + b steps ends (without noise, which knows the phase)."""
    if not bench.quiet:
        return
    force = bench.normal(3)
    with bench.device() as (device, _):
        for drive in (None, force):
            one = bench.settle(device, Phase(steps=7, force=drive)).final
            two = bench.settle(device, Phase(steps=3, force=drive), Phase(steps=4, force=drive)).final
            law = "phases run back to back: 3 steps and 4 steps end where 7 steps end"
            close(law, two, one, bench.tolerance(one))


def force(bench: Bench) -> None:
    """A force adds eps * force to every step."""
    push, eps = bench.normal(4), bench.spec.step_size
    if not bench.repeatable:
        return
    with bench.device() as (device, _):
        free = bench.settle(device, Phase(steps=5)).final
        zero = bench.settle(device, Phase(steps=5, force=np.zeros_like(push))).final
        close("a force of zero is no force", zero, free, bench.tolerance(free))
        for leading in ((), (Phase(steps=2),)):
            without = bench.settle(device, *leading, Phase(steps=1)).final
            pushed = bench.settle(device, *leading, Phase(steps=1, force=push)).final
            law = f"a force adds eps * force to a step, phase {len(leading)}"
            close(law, pushed - without, eps * push, bench.tolerance(pushed, gain=2) + bench.arrival(push))
        if not bench.has(Capability.WAVEFORM):
            return
        constant = bench.settle(device, Phase(steps=5, force=push)).final
        wave = np.stack([push] * 5)
        law = "a constant force is a waveform of the same force at every step"
        close(law, bench.settle(device, Phase(steps=5, force=wave)).final, constant, bench.tolerance(constant))
        wave[:-1] = 0.0
        late = bench.settle(device, Phase(steps=5, force=wave)).final
        law = "a waveform adds eps * force[k] to step k, the last one"
        close(law, late - free, eps * push, bench.tolerance(late, gain=2) + bench.arrival(push))


def recording(bench: Bench) -> None:
    """states[k] is z after k * record steps, z_0 included; recording changes nothing."""
    if not bench.has(Capability.RECORD):
        return
    steps = 7
    kick = bench.normal(5) if bench.has(Capability.DISPLACE) else None
    with bench.device() as (device, _):
        full = bench.settle(device, Phase(steps=steps, displace=kick, record=1))
        zero = np.zeros((LANES, bench.spec.units)) if kick is None else kick
        law = "a recording begins with the state before the first step, displaced"
        close(law, full.recorded[0], zero, bench.tolerance(zero))
        close("a recording ends with the final state", full.recorded[-1], full.final, bench.tolerance(full.final))
        moves = [largest(after - before) for before, after in pairwise(full.recorded)]
        demand(min(moves) > 0 or bench.read_error > 0, "each recorded state is one step on", "movement", "none")
        first, second = device.relax(bench.plan(Phase(steps=3), Phase(steps=2, record=1)), noise=bench.noise)
        law = "the recording of a later phase begins where the one before it ended"
        close(law, second.recorded[0], first.final, bench.tolerance(first.final))
        empty = bench.settle(device, Phase(steps=0, displace=kick, record=1))
        close("a recording of zero steps is the state alone", empty.recorded, zero[None], bench.tolerance(zero))
        if not bench.repeatable:
            return
        plain = bench.settle(device, Phase(steps=steps, displace=kick)).final
        close("recording does not change the final state", full.final, plain, bench.tolerance(plain))
        for every in (2, 3, steps, steps + 1):
            kept = bench.settle(device, Phase(steps=steps, displace=kick, record=every)).recorded
            law = f"recording every {every}-th state keeps every {every}-th of all"
            close(law, kept, full.recorded[::every], bench.tolerance(full.recorded))


def residual(bench: Bench) -> None:
    """residual = rms over units of (z_T - z_{T-1}) / eps."""
    eps = bench.spec.step_size
    if bench.has(Capability.RECORD):
        with bench.device() as (device, _):
            run = bench.settle(device, Phase(steps=6, record=1))
        last, before = run.recorded[-1], run.recorded[-2]
    elif bench.repeatable:
        with bench.device() as (device, _):
            run = bench.settle(device, Phase(steps=6))
            last, before = run.final, bench.settle(device, Phase(steps=5)).final
    else:
        return  # the state one step earlier cannot be known
    expected = np.sqrt(np.mean(((np.asarray(last, np.float64) - before) / eps) ** 2, axis=1))
    law = "the residual is the rms over units of (z_T - z_{T-1}) / eps"
    close(law, run.residual, expected, bench.tolerance(last, gain=2 / eps))


def clamp(bench: Bench) -> None:
    """Clamped units stay at their values, from the first state on; the others go on and feel them."""
    if not bench.has(Capability.CLAMP):
        return
    units = np.array([0, bench.spec.units - 1]) if bench.spec.units > 1 else np.array([0])
    values = 0.5 * bench.normal(6)[:, : len(units)]
    every = 1 if bench.has(Capability.RECORD) else 0
    with bench.device() as (device, held):
        run = bench.settle(device, Phase(steps=3), Phase(steps=4, clamp=(units, values), record=every))
        law = "clamped units are held at their values"
        close(law, run.final[:, units], values, bench.tolerance(values))
        if run.states is not None:
            fixed = np.broadcast_to(values, (5, *values.shape))
            close(f"{law}, from the first state on", run.states[:, :, units], fixed, bench.tolerance(values))
        if not bench.has(Capability.MODEL) or not bench.quiet:
            return
        model, x, z = device.model, bench.plan(Phase(steps=0)).inputs, np.zeros((LANES, bench.spec.units))
        theta = held.analog.map(lambda block: np.asarray(block, np.float64))
        for step in range(7):
            z[:, units] = values if step >= 3 else z[:, units]
            z = z + bench.spec.step_size * model.field(z, x, theta)
        z[:, units] = values
        close("units that are not clamped feel those that are", run.final, z, bench.tolerance(z))


def corrected(bench: Bench) -> None:
    """`correct_at` makes the response at `at` that of J^T: to first order <a, R_corrected v> = <R_natural a, v>."""
    if not bench.has(Capability.CORRECT, Capability.LOAD_STATE) or not bench.repeatable or bench.spec.mismatch:
        return
    at, v, a = 0.5 * bench.normal(7), bench.normal(8), bench.normal(9)
    with bench.device() as (device, _):
        free = bench.settle(device, Phase(steps=1), start=At(at)).final
        same = bench.settle(device, Phase(steps=1, correct_at=at), start=At(at)).final
        close("the correction vanishes at the point where it is taken", same, free, bench.tolerance(free))
        h = small_step(bench)
        if h is None:
            return
        turned, plain = Phase(steps=1, correct_at=at), Phase(steps=1)
        sides = [
            bench.settle(device, phase, start=At(at + sign * h * kick)).final
            for phase, kick in ((turned, v), (plain, a))
            for sign in (1.0, -1.0)
        ]
        back = np.sum(a * (sides[0] - sides[1]) / (2.0 * h), axis=1)
        forth = np.sum((sides[2] - sides[3]) / (2.0 * h) * v, axis=1)
        size = float(np.linalg.norm(a, axis=1).max() * np.linalg.norm(v, axis=1).max())
        law = "correct_at turns the response around `at` into its transpose, <a, R_corrected v> = <R a, v>"
        close(law, back, forth, 20 * size * bench.rounding ** (2 / 3))


def small_step(bench: Bench) -> float | None:
    """h at which a central difference of reads is best, `rounding^(1/3)`; None where reads are too coarse for any."""
    return None if bench.read_error > 0 else float(bench.rounding ** (1 / 3))


def the_model(bench: Bench) -> None:
    """A device with a model steps it: `z <- z + eps (F(z) - (J - J^T)(z - at) + force)`, with what was read back."""
    if not bench.has(Capability.MODEL) or not bench.quiet:
        return
    at, eps = 0.5 * bench.normal(11), bench.spec.step_size
    # a model knows how time constants spread, but not how they do for a force or a correction
    matched = bench.spec.mismatch == 0.0
    push = bench.normal(10) * matched
    start = At(bench.normal(12)) if bench.has(Capability.LOAD_STATE) else Rest()
    with bench.device() as (device, held):
        model, x = device.model, bench.plan(Phase(steps=0)).inputs
        theta = held.analog.map(lambda block: np.asarray(block, np.float64))
        for point in (None, at) if bench.has(Capability.CORRECT) and matched else (None,):
            z = bench.normal(12) if isinstance(start, At) else np.zeros_like(push)
            for _ in range(5):
                flow = model.field(z, x, theta) + push
                if point is not None:
                    flow = flow - model.tangent(z - point, point, x, theta)
                    flow = flow + model.cotangent(z - point, point, x, theta)
                z = z + eps * flow
            found = bench.settle(device, Phase(steps=5, force=push, correct_at=point), start=start).final
            law = "a device with a model takes the Euler steps of that model with the parameters it read back"
            law += "" if point is None else ", minus (J - J^T)(z - at) with correct_at"
            close(law, found, z, bench.tolerance(z))
