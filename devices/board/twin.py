"""The firmware's twin: an engine for `SimulatedDevice` with the very bits of a board of kind `emulated-f32`."""

from __future__ import annotations

from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import Stream
from hwsim.devices.engines import Deployment, Engine, Settled, Stepwise, Stretch
from hwsim.devices.integrators import Euler, Propagator
from hwsim.substrates.leaky import LeakyNetwork
from hwsim.substrates.nonlinearity import RationalTanh


@final
class FirmwareEngine(Engine):
    """Runs a leaky network as the firmware does: float32, one stated order of operations, nothing fused.

    `SimulatedDevice(LeakyNetwork(..., nonlinearity=RationalTanh()), engine=FirmwareEngine(), dtype=np.float32)` gives,
    with the parameters that a board reads back and the step size and noise that it declares, the board's very states,
    forwards and backwards, with noise and without. Clamped units and rails, which the firmware has not, go step by
    step in NumPy. Without BLAS and threads it is several times slower than `Fused`.

    Raises:
        InputError: on `program`, where the firmware has no such network: another substrate, nonlinearity, precision or
            integrator; a die with offsets, spread rates or a slew limit; noise that units share.
    """

    def program(self, deployment: Deployment) -> None:
        from hwsim.kernels.firmware import firmware_slope

        physics, chip = deployment.drawn.physics, deployment.drawn.chip
        plain = isinstance(physics, LeakyNetwork) and isinstance(physics.nonlinearity, RationalTanh)
        if not plain or deployment.dtype != np.dtype(np.float32) or not isinstance(deployment.integrator, Euler):
            raise InputError(
                "the firmware's twin runs LeakyNetwork(..., nonlinearity=RationalTanh()) in dtype=np.float32 with "
                f"Euler steps; found {type(physics).__name__}, {deployment.dtype}, {deployment.integrator}"
            )
        if chip.offset.any() or np.isfinite(chip.slew).any():
            raise InputError("the firmware's twin has no offsets and no slew limit; leave these imperfections out")
        self._slope, self._plain = firmware_slope, Stepwise()
        self._plain.program(deployment)
        self._deployment = deployment
        self._forwards = _held(deployment, deployment.propagator)
        self._backwards = _held(deployment, deployment.backward_propagator, backwards=True)

    def relax(self, z: Float[Array, "B N"], stretch: Stretch) -> Settled:
        if stretch.low is not None or stretch.high is not None:
            return self._plain.relax(z, stretch)
        from hwsim.kernels.firmware import Firmware, firmware_drive

        weights, weights_t, eps, amplitude = self._forwards
        theta = self._deployment.drawn.real(self._deployment.theta)
        none = np.empty((0, 0), np.float32)
        at = none if stretch.correct_at is None else _single(stretch.correct_at)
        net = Firmware(
            weights=weights,
            weights_t=weights_t,
            drive=firmware_drive(_single(theta["U"]), _single(theta["b"]), _single(stretch.x)),
            eps=eps,
            amplitude=amplitude,
            force=_force(stretch),
            at=at,
            gains=self._slope(at)[None] if len(at) else np.empty((0, 0, 0), np.float32),
        )
        return _run(z, net, stretch, backwards=False)

    def relax_transpose(
        self, a: Float[Array, "B N"], at: Float[Array, "B N"] | Float[Array, "T1 B N"], stretch: Stretch
    ) -> Settled:
        from hwsim.kernels.firmware import Firmware

        weights, weights_t, eps, amplitude = self._backwards
        none = np.empty((0, 0), np.float32)
        # a recording is played backwards; its last state gains nothing
        gains = self._slope(_single(at[None] if at.ndim == 2 else at[:-1][::-1]))
        net = Firmware(
            weights=weights,
            weights_t=weights_t,
            drive=none,
            eps=eps,
            amplitude=amplitude,
            force=_force(stretch),
            at=none,
            gains=gains,
        )
        return _run(a, net, stretch, backwards=True)


def _held(
    deployment: Deployment, propagator: Propagator, *, backwards: bool = False
) -> tuple[Array, Array, np.float32, Array]:
    """W, its transpose, eps and the noise amplitude [N] or [0], as the firmware holds them."""
    drawn = deployment.backwards if backwards else deployment.drawn
    physics = drawn.physics
    assert isinstance(physics, LeakyNetwork)
    weights = _single(physics.coupling.matrix(drawn.real(deployment.theta)["W"]))
    push, amplitude = np.unique(propagator.push), propagator.amplitude
    if push.size != 1 or (amplitude is not None and amplitude.ndim != 1):
        raise InputError("the firmware's twin has one step size and independent noise in every unit; found others")
    noise = np.empty(0, np.float32) if amplitude is None or not amplitude.any() else _single(amplitude)
    return weights, np.ascontiguousarray(weights.T), np.float32(push[0]), noise


def _run(z: Array, net: tuple[object, ...], stretch: Stretch, *, backwards: bool) -> Settled:
    from hwsim.kernels.firmware import Firmware, relax_firmware

    assert isinstance(net, Firmware)
    final = np.array(z, np.float32, order="C")
    noise = stretch.lanes.noise(Stream.THERMAL, stretch.index)
    before, states = relax_firmware(
        final, net, steps=stretch.steps, every=stretch.record, backwards=backwards, noise=noise
    )
    return Settled(
        final=final,
        before=before,
        states=states if stretch.record else None,
        limited=np.zeros(len(final), bool),
    )


def _single(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)


def _force(stretch: Stretch) -> Array:
    if stretch.force is None:
        return np.empty((0, 0, 0), np.float32)
    return _single(stretch.force if stretch.force.ndim == 3 else stretch.force[None])
