"""Laws of couplings driven backwards: `a <- a + eps (J(at)^T a + force)`, a linear response."""

from __future__ import annotations

import numpy as np

from hwsim.contracts.device import Capability
from hwsim.contracts.plan import At, Phase

from .bench import LANES, Bench
from .device_settle import small_step
from .laws import close, demand

STEPS = 4


def well_formed_backwards(bench: Bench) -> None:
    """The same values as from relax: one Relaxation per phase, recorded where asked."""
    if not bench.has(Capability.TRANSPOSE):
        return
    at, shape = 0.5 * bench.normal(30), (LANES, bench.spec.units)
    with bench.device() as (device, _):
        plan = bench.plan(Phase(steps=2, force=bench.normal(31)), Phase(steps=3))
        runs = device.relax_transpose(at, plan, noise=bench.noise)
        demand(len(runs) == 2, "relax_transpose gives one Relaxation per phase", 2, len(runs))
        for run in runs:
            found = tuple(run.final.shape), tuple(run.residual.shape), tuple(run.outcome.shape)
            demand(
                found == (shape, (LANES,), (LANES,)),
                "a response is [B, N], with residual and outcome [B]",
                shape,
                found,
            )
            demand(run.states is None, "a response is recorded where the phase asks for it", None, "states")
        if bench.has(Capability.RECORD):
            kick = bench.normal(32) if bench.has(Capability.DISPLACE) else np.zeros(shape)
            displaced = kick if bench.has(Capability.DISPLACE) else None
            full = bench.respond(device, at, Phase(steps=7, displace=displaced, force=bench.normal(31), record=1))
            law = "a recorded response begins with a_0, displaced"
            close(law, full.recorded[0], kick, bench.tolerance(kick))
            close("a recorded response ends with the final one", full.recorded[-1], full.final, bench.tolerance(kick))
            if bench.repeatable:
                every = bench.respond(device, at, Phase(steps=7, displace=displaced, force=bench.normal(31), record=3))
                law = "recording every 3rd state of a response keeps every 3rd of all"
                close(law, every.recorded, full.recorded[::3], bench.tolerance(full.recorded))
        if bench.quiet:
            push = Phase(steps=7, force=bench.normal(31))
            parts = Phase(steps=3, force=bench.normal(31)), Phase(steps=4, force=bench.normal(31))
            one, two = bench.respond(device, at, push).final, bench.respond(device, at, *parts).final
            close("phases run back to back, driven backwards", two, one, bench.tolerance(one))


def backwards_from_rest(bench: Bench) -> None:
    """Rest is a_0 = 0; no stimulus, no response; a force adds eps * force; the start is loaded and displaced."""
    if not bench.has(Capability.TRANSPOSE) or not bench.repeatable:
        return
    at, push, eps = 0.5 * bench.normal(30), bench.normal(31), bench.spec.step_size
    with bench.device() as (device, _):
        zero = bench.respond(device, at, Phase(steps=0)).final
        close("a response begins at 0", zero, np.zeros_like(push), bench.tolerance())
        silent = bench.respond(device, at, Phase(steps=STEPS)).final
        if bench.quiet:
            close("no stimulus, no response", silent, np.zeros_like(push), bench.tolerance())
        for leading in ((), (Phase(steps=2, force=bench.normal(32)),)):
            without = bench.respond(device, at, *leading, Phase(steps=1)).final
            pushed = bench.respond(device, at, *leading, Phase(steps=1, force=push)).final
            law = f"a force adds eps * force to a step backwards, phase {len(leading)}"
            close(law, pushed - without, eps * push, bench.tolerance(pushed, gain=2) + bench.arrival(push))
        if bench.has(Capability.WAVEFORM):
            wave = np.stack([push] * STEPS)
            constant = bench.respond(device, at, Phase(steps=STEPS, force=push)).final
            law = "a constant force is a waveform of the same force, driven backwards"
            close(
                law,
                bench.respond(device, at, Phase(steps=STEPS, force=wave)).final,
                constant,
                bench.tolerance(constant),
            )
            wave[:-1] = 0.0
            late = bench.respond(device, at, Phase(steps=STEPS, force=wave)).final
            law = "a waveform adds eps * force[k] to step k, driven backwards"
            close(law, late - silent, eps * push, bench.tolerance(late, gain=2) + bench.arrival(push))
        if bench.has(Capability.DISPLACE):
            kicked = bench.respond(device, at, Phase(steps=STEPS, displace=push)).final
            law = "a displaced start moves a_0"
            found = bench.respond(device, at, Phase(steps=0, displace=push)).final
            close(law, found, push, bench.tolerance(push))
            if bench.has(Capability.LOAD_STATE):
                loaded = bench.respond(device, at, Phase(steps=STEPS), start=At(push)).final
                law = "displacing by d equals starting at d, driven backwards"
                close(law, loaded, kicked, bench.tolerance(kicked))


def linear(bench: Bench) -> None:
    """The response is linear in its stimulus, at any length: L(2 p) = 2 L(p), L(p + q) = L(p) + L(q)."""
    if not bench.has(Capability.TRANSPOSE) or not bench.repeatable:
        return
    at, p, q = 0.5 * bench.normal(30), bench.normal(31), bench.normal(32)
    names = ("force", "displace") if bench.has(Capability.DISPLACE) else ("force",)
    with bench.device() as (device, _):
        for name in names:
            signals = {"nothing": 0.0 * p, "p": p, "q": q, "both": p + q, "2 p": 2.0 * p}
            phases = {
                key: Phase(steps=STEPS, force=signal) if name == "force" else Phase(steps=STEPS, displace=signal)
                for key, signal in signals.items()
            }
            final = {key: bench.respond(device, at, phase).final for key, phase in phases.items()}
            of_p, of_q, of_both, doubled = (final[key] - final["nothing"] for key in ("p", "q", "both", "2 p"))
            slack = bench.tolerance(doubled, gain=4)
            close(f"the response backwards is linear, L(2 p) = 2 L(p), {name}", doubled, 2.0 * of_p, slack)
            close(f"the response backwards is linear, L(p + q) = L(p) + L(q), {name}", of_both, of_p + of_q, slack)


def transposed(bench: Bench) -> None:
    """One step backwards is the transpose of one step forwards, to first order: <a, R v> = <R^T a, v>."""
    needed = Capability.TRANSPOSE, Capability.LOAD_STATE, Capability.DISPLACE
    h = small_step(bench)
    if not bench.has(*needed) or not bench.repeatable or h is None or bench.spec.mismatch or not _mirrored(bench):
        return
    at, v, a = 0.5 * bench.normal(33), bench.normal(34), bench.normal(35)
    with bench.device() as (device, _):
        ahead, behind = (
            bench.settle(device, Phase(steps=1), start=At(at + sign * h * v)).final for sign in (1.0, -1.0)
        )
        forth = np.sum(a * (ahead - behind) / (2.0 * h), axis=1)
        noise = bench.respond(device, at, Phase(steps=1)).final
        back = np.sum((bench.respond(device, at, Phase(steps=1, displace=a)).final - noise) * v, axis=1)
    size = float(np.linalg.norm(a, axis=1).max() * np.linalg.norm(v, axis=1).max())
    law = "relax_transpose drives the couplings backwards, <a, R v> = <R^T a, v>"
    close(law, back, forth, 20 * size * bench.rounding ** (2 / 3))


def playback(bench: Bench) -> None:
    """Step j of a recording played back uses the gains of at[steps - 1 - j]."""
    if not bench.has(Capability.TRANSPOSE, Capability.PLAYBACK) or not bench.quiet:
        return
    push = bench.normal(36)
    with bench.device() as (device, _):
        held = 0.5 * bench.normal(37)
        whole = bench.respond(device, np.stack([held] * (STEPS + 1)), Phase(steps=STEPS, force=push)).final
        expected = bench.respond(device, held, Phase(steps=STEPS, force=push)).final
        close("playing back a state that stands still is holding it", whole, expected, bench.tolerance(expected))
        states = np.stack([0.7 * bench.normal(38 + k) for k in range(STEPS + 1)])
        whole = bench.respond(device, states, Phase(steps=STEPS, force=push)).final
        law = "step j of a recording played back uses the gains of at[steps - 1 - j]"
        if bench.has(Capability.LOAD_STATE) and not bench.read_error:
            a = np.zeros_like(push)
            for j in range(STEPS):
                a = bench.respond(device, states[STEPS - 1 - j], Phase(steps=1, force=push), start=At(a)).final
            close(law, whole, a, bench.tolerance(a, gain=STEPS))
        states[-1] = 5.0
        again = bench.respond(device, states, Phase(steps=STEPS, force=push)).final
        close(f"{law}, and never those of z_T", again, whole, bench.tolerance(whole))


def the_model_backwards(bench: Bench) -> None:
    """A device with a model steps its cotangent, with the parameters that it read back."""
    if not bench.has(Capability.TRANSPOSE, Capability.MODEL) or not bench.quiet or bench.spec.mismatch:
        return
    if not _mirrored(bench):
        return
    push, eps = bench.normal(31), bench.spec.step_size
    held = np.stack([0.5 * bench.normal(30)] * (STEPS + 1))
    points = {"a held state": held}
    if bench.has(Capability.PLAYBACK):
        points["a recording"] = np.stack([0.7 * bench.normal(38 + k) for k in range(STEPS + 1)])
    with bench.device() as (device, read_back):
        model, x = device.model, bench.plan(Phase(steps=0)).inputs
        theta = read_back.analog.map(lambda block: np.asarray(block, np.float64))
        for name, states in points.items():
            a = np.zeros_like(push)
            for j in range(STEPS):
                a = a + eps * (model.cotangent(a, states[STEPS - 1 - j], x, theta) + push)
            at = states[0] if states is held else states
            found = bench.respond(device, at, Phase(steps=STEPS, force=push)).final
            law = f"relax_transpose takes the steps a <- a + eps (J^T a + force) of the model, {name}"
            close(law, found, a, bench.tolerance(a))


def feedback(bench: Bench) -> None:
    """Feedback blocks act on the response backwards and on nothing else, and what they mirror not on that response."""
    if not bench.spec.feedback:
        return
    demand(bench.has(Capability.TRANSPOSE), "a feedback array is driven backwards", "capability transpose", "none")
    at, push = 0.5 * bench.normal(30), bench.normal(31)
    with bench.device() as (device, held):
        x = bench.plan(Phase(steps=0)).inputs
        for per_sample in (False, True):
            credit = device.synapses.credit(push, at, x, held, per_sample=per_sample)
            for name in bench.spec.feedback:
                law = f"credit of feedback block {name} is zero, since F does not depend on it"
                close(law, credit[name], np.zeros((LANES,) * per_sample + held[name].shape))
        if not bench.repeatable or bench.read_error > 0 or not bench.spec.exact_writes:
            return  # a difference could be noise, or hide below a step of the converter
        steps = Phase(steps=STEPS, force=push)
        forth, back = bench.settle(device, steps).final, bench.respond(device, at, steps).final
        for name, mirrored in bench.spec.feedback.items():
            for block, acts_back in ((name, True), (mirrored, False)):
                now = device.program(held | {block: np.zeros_like(held[block])})
                if np.array_equal(now[block], held[block]):
                    continue  # it can hold nothing else
                found = bench.settle(device, steps).final, bench.respond(device, at, steps).final
                same, other = (0, 1) if acts_back else (1, 0)
                ways = "forwards", "backwards"
                law = f"block {block} does not act {ways[same]}"
                close(law, found[same], (forth, back)[same], bench.tolerance(forth, back))
                law = f"block {block} acts {ways[other]}"
                demand(not np.array_equal(found[other], (forth, back)[other]), law, "another state", "the same bits")
                device.program(held)


def _mirrored(bench: Bench) -> bool:
    """Whether feedback blocks that were told what they mirror hold just that."""
    if not bench.spec.feedback:
        return True
    if not bench.spec.exact_writes:
        return False
    with bench.device() as (_, held):
        return all(np.array_equal(held[name], held[mirrored]) for name, mirrored in bench.spec.feedback.items())
