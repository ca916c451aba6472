"""Laws of complex states: the same physics, analytically continued (capability `complex`)."""

from __future__ import annotations

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.device import Capability
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Rest, Start
from hwsim.contracts.substrate import Substrate

from .bench import Bench
from .device_settle import small_step
from .laws import close, demand

STEPS = 4


def real_and_conjugate(bench: Bench) -> None:
    """Complex numbers without imaginary part settle as real ones; conjugate ones to the conjugate state."""
    if not bench.has(Capability.COMPLEX) or not bench.repeatable:
        return
    force = bench.normal(40) + 0.3j * bench.normal(41)
    with bench.device() as (device, _):
        plain = bench.settle(device, Phase(steps=STEPS, force=force.real)).final
        found = bench.settle(device, Phase(steps=STEPS, force=force.real + 0j)).final
        law = "a force whose imaginary part is zero is a real force"
        close(law, _parts(found), _parts(plain), bench.tolerance(plain))
        there = bench.settle(device, Phase(steps=STEPS, force=force)).final
        demand(np.iscomplexobj(there), "a complex force makes complex states", "complex numbers", there.dtype)
        back = bench.settle(device, Phase(steps=STEPS, force=force.conj())).final
        law = "the conjugate force settles to the conjugate state"
        close(law, _parts(back), _parts(there.conj()), bench.tolerance(_parts(there)))


def put_in(bench: Bench) -> None:
    """Complex starts, displacements and clamped values are where they were put; recordings show them."""
    if not bench.has(Capability.COMPLEX):
        return
    state = bench.normal(42) + 1j * bench.normal(43)
    tolerance = bench.tolerance(_parts(state))
    with bench.device() as (device, _):
        if bench.has(Capability.LOAD_STATE):
            read = bench.settle(device, Phase(steps=0), start=At(state)).final
            close("zero steps from a complex state read that state", _parts(read), _parts(state), tolerance)
        if bench.has(Capability.DISPLACE):
            read = bench.settle(device, Phase(steps=0, displace=state)).final
            close("zero steps from rest, displaced, read the displacement", _parts(read), _parts(state), tolerance)
        if bench.has(Capability.CLAMP):
            held = np.array([0])
            run = bench.settle(device, Phase(steps=STEPS, clamp=(held, state[:, held])))
            law = "units clamped at complex values are held there"
            close(law, _parts(run.final[:, held]), _parts(state[:, held]), tolerance)
        if bench.has(Capability.RECORD):
            run = bench.settle(device, Phase(steps=STEPS, force=state, record=1))
            law = "a recording of complex states ends with the final one"
            close(law, _parts(run.recorded[-1]), _parts(run.final), bench.tolerance(_parts(run.final)))


def analytic(bench: Bench) -> None:
    """Cauchy and Riemann: the derivative of the final state is the same along i v, over i, as along v."""
    if not bench.has(Capability.COMPLEX) or not bench.repeatable:
        return
    h = small_step(bench)
    if h is None:
        return
    force, v = 0.3 * bench.normal(44), bench.normal(45)
    with bench.device() as (device, _):
        for point in _points(bench):
            start = _start(bench)

            def slope(along: Array, point: Array | None = point, start: Start = start) -> Array:
                ahead, behind = (
                    bench.settle(
                        device, Phase(steps=STEPS, force=force + sign * h * along, correct_at=point), start=start
                    ).final
                    for sign in (1.0, -1.0)
                )
                return (ahead - behind) / (2.0 * h)

            real, imaginary = slope(v), slope(1j * v) / 1j
            size = float(np.linalg.norm(v, axis=1).max())
            law = "complex states obey Cauchy and Riemann, d/d(iy) = d/dx" + _corrected(point)
            close(law, _parts(imaginary), _parts(real), 20 * size * bench.rounding ** (2 / 3))


def the_model_continued(bench: Bench) -> None:
    """The Euler steps of the model, at complex states too."""
    if not bench.has(Capability.COMPLEX, Capability.MODEL) or not bench.quiet or bench.spec.mismatch:
        return
    eps, force = bench.spec.step_size, 0.3 * (bench.normal(44) + 1j * bench.normal(46))
    with bench.device() as (device, held):
        model, x = device.model, bench.plan(Phase(steps=0)).inputs
        theta = held.analog.map(lambda block: np.asarray(block, np.float64))
        for point in _points(bench):
            start = _start(bench)
            z = np.array(start.state if isinstance(start, At) else np.zeros_like(force), complex)
            for _ in range(STEPS):
                flow = model.field(z, x, theta) + force
                if point is not None:
                    flow = flow - _turned(model, z - point, point, x, theta)
                z = z + eps * flow
            found = bench.settle(device, Phase(steps=STEPS, force=force, correct_at=point), start=start).final
            law = "a device with a model takes its Euler steps at complex states" + _corrected(point)
            close(law, _parts(found), _parts(z), bench.tolerance(_parts(z)))


def linear_backwards(bench: Bench) -> None:
    """The response backwards to i times a stimulus is i times the response."""
    if not bench.has(Capability.COMPLEX, Capability.TRANSPOSE) or not bench.quiet:
        return
    at, force = 0.5 * bench.normal(47), bench.normal(48)
    with bench.device() as (device, _):
        real = bench.respond(device, at, Phase(steps=STEPS, force=force)).final
        found = bench.respond(device, at, Phase(steps=STEPS, force=1j * force)).final
        law = "the response backwards is linear in complex stimuli"
        close(law, _parts(found), _parts(1j * real), bench.tolerance(real))


def _points(bench: Bench) -> tuple[Array | None, ...]:
    able = bench.has(Capability.CORRECT) and not bench.spec.mismatch
    return (None, 0.3 * bench.normal(49)) if able else (None,)


def _start(bench: Bench) -> Start:
    return At(0.3 * bench.normal(50)) if bench.has(Capability.LOAD_STATE) else Rest()


def _corrected(point: Array | None) -> str:
    return "" if point is None else ", with correct_at"


def _turned(model: Substrate, v: Array, at: Array, x: Array, theta: Parameters) -> Array:
    """`(J - J^T) v` of the two parts of v."""
    real, imaginary = (model.tangent(u, at, x, theta) - model.cotangent(u, at, x, theta) for u in (v.real, v.imag))
    return real + 1j * imaginary


def _parts(z: Array) -> Array:
    """Real and imaginary part."""
    return np.stack([np.real(z), np.imag(z)])
