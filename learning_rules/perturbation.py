"""Gradients from loss differences alone: perturb the parameters, or the units, and look at what the loss does.

What is estimated is the gradient of the deployed loss itself, without bias at small perturbations. The price is
variance: a loss difference is one number, and it is shared out among all that was perturbed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.ladder import Ladder
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Phase, Plan, RandomStart, Relaxation, Rest, Start
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task, judge, only_final

from .checks import positive


@final
@dataclass(frozen=True, kw_only=True)
class RandomDirections(LearningRule):
    """Slopes of the loss along K random directions of parameter space, each from two settlings:

        v_1 .. v_K     orthonormal, uniform in direction
        d_k            theta_+ - theta_-, read back after programming theta + s v_k, then theta - s v_k
        g              = (P / K) sum_k [L(theta_+) - L(theta_-)] d_k / |d_k|^2  -> (P / K) sum_k (dL/dv_k) v_k

    P counts the parameters that are explored. Unbiased up to O(s^2); with exact writes the relative variance
    `E|g - dL/dtheta|^2 / |dL/dtheta|^2` is P / K - 1, and K = P gives the whole gradient.

    The direction that counts is the one that was *realised*, d_k: where writing rounds or adds noise, the slope belongs
    to it and not to v_k. Where no converter moves by a step, d_k = 0 and the direction is silent: it is left out of K,
    and of what all of them say nothing is left. A value beyond the range of its block is programmed at the end of the
    range; such a parameter then has less than its share in d_k, and its gradient comes out shorter.

    All samples share the directions. Both settlings have the same noise and the same start wherever the device can
    replay them: z_0 = 0; with `record` the recorded z_0 of the free phase, loaded; else a random start drawn again, or
    drawn by the rule and loaded.

    Args:
        directions: K, from 1 to P.
        length: s, Euclidean length of the step in parameter space, parameter units: s / sqrt(P) for each one. It should
            move most converters by a step, and the loss by more than its noise.
        blocks: the blocks that are explored; all analog ones where empty, but for those that are frozen or that only
            the feedback array holds.
        record: record the settlings (capability `record`): for losses that look at states before z_T, and for devices
            that carry their state on. Without it the rule needs no capability at all.

    Diagnostics: `silent_directions`, `direction_length` (mean of |d_k| / 2, parameter units), `restore_error` (|theta
    programmed again - theta|, parameter units; 0 with exact writes).

    Raises:
        InputError: K or s out of range; and from `estimate`, more directions than parameters or an unknown block.
        CapabilityError: from `estimate`, on a device that carries its state on, without `record`.

    Source: Baydin et al., arXiv:2202.08587 (forward gradients, there with exact directional derivatives). Cost on top
    of the free phase: 2 K settles of T steps per sample, and 2 K + 1 programmings, the last of which restores theta.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    directions: int = 1
    length: float = 0.1
    blocks: tuple[str, ...] = ()
    record: bool = False

    def __post_init__(self) -> None:
        whole(type(self).__name__, "directions", self.directions, least=1)
        positive(self, "length", self.length)

    @property
    def needs(self) -> Needs:
        return Needs(record=1, from_free=True) if self.record else Needs(final_loss=True, known_start=True)

    @property
    def ladder(self) -> Ladder:
        return Ladder(
            ideals=(),
            finite="K random directions of P, stepped along by a finite length",
            advice="raise directions or average (relative variance P / K - 1); blocks narrows P down",
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        spec = device.spec
        explored = self._explored(device, theta)
        start = _start_again(device, batch, free, noise, recorded=self.record)
        phases = (Phase(steps=spec.horizon, record=1 if self.record else 0),)
        repeats = namespace(batch.ids).ones_like(batch.ids)
        plan = Plan(inputs=batch.inputs, ids=batch.ids, repeats=repeats, start=start, phases=phases)

        def deployed(moved: Parameters) -> tuple[Parameters, Float[Array, " B"]]:
            """What the device holds of `moved`, and the loss of every sample with it."""
            held = device.program(theta | moved)
            (run,) = device.relax(plan, noise=noise)
            return _chosen(held, explored), judge(task, run, batch, theta, spec.horizon).losses

        gradients, lengths = explored.zeros(), []
        for v in self._directions(explored, noise):
            ahead, losses_ahead = deployed(_within(explored + v * self.length, spec.ranges))
            behind, losses_behind = deployed(_within(explored - v * self.length, spec.ranges))
            realised = ahead - behind
            lengths.append(realised.norm())
            if lengths[-1] > 0.0:  # or it is silent
                difference = float(namespace(losses_ahead).mean(losses_ahead - losses_behind))
                gradients = gradients + realised * (difference / lengths[-1] / lengths[-1])
        restored = device.program(theta)
        speaking = sum(size > 0.0 for size in lengths)
        judged = judge(task, free, batch, theta, spec.horizon)
        writes = (2 * self.directions + 1) * len(theta.analog)
        return Estimate(
            gradients=theta.zeros() | gradients * (_count(explored) / max(speaking, 1)) | judged.readout,
            loss=judged.loss,
            cost=Cost.of(phases * (2 * self.directions), len(batch)) + Cost(writes=writes),
            diagnostics={
                "silent_directions": float(self.directions - speaking),
                "direction_length": sum(lengths) / (2.0 * self.directions),
                "restore_error": (restored.analog - theta.analog).norm(),
            },
        )

    def _explored(self, device: Device, theta: Parameters) -> Parameters:
        if unknown := set(self.blocks) - theta.analog.keys():
            raise InputError(f"asked to explore the blocks {sorted(unknown)}; the hardware has {sorted(theta.analog)}")
        left_out = theta.frozen | device.spec.feedback.keys()
        names = self.blocks or [name for name in theta.analog if name not in left_out]
        explored = Parameters({name: theta[name] for name in theta.analog if name in names})
        if not self.directions <= _count(explored):
            raise InputError(
                f"asked for {self.directions} directions among the {_count(explored)} parameters of the blocks "
                f"{sorted(explored)}: directions must not exceed them"
            )
        return explored

    def _directions(self, explored: Parameters, noise: NoisePath) -> list[Parameters]:
        """K orthonormal directions: normal deviates made orthogonal. The same ones for every sample."""
        drawn = noise.normals(Stream.PROBE, np.arange(self.directions), units=_count(explored))[0]
        basis = np.linalg.qr(drawn.T)[0].T if self.directions > 1 else drawn / np.linalg.norm(drawn)
        return [_blocks_of(row, explored) for row in basis]


@final
@dataclass(frozen=True, kw_only=True)
class NodePerturbation(LearningRule):
    """A known waveform driven into every unit, and the loss difference that it makes, shared out to the steps:

        z_{k+1} = z_k + eps (F(z_k) + w_k),   w_k ~ deviation N(0, 1), independent over steps, units and samples
        dL_b    = [L_b(+w) - L_b(-w)] / 2  (centered),   L_b(+w) - L_b(0)  (not)
        post_k  = w_k dL_b / deviation^2 -> eps dL_b/dz_{k+1},    g = L_theta + mean_b sum_k credit(post_k, z_k)

    L_b is the sample's own loss and z_k the recorded free transient, so that every sample's loss difference speaks of
    its own waveform only. The force enters a step as eps w, which is the eps of BPTT's `eps credit(dL/dz_{k+1}, z_k)`:
    no other factor is left. Unbiased up to O(deviation^2), or O(deviation) where not centered.

    Variance: with a = eps dL_b/dz_{k+1} the T N numbers that are sought for a sample, `E|post - a|^2 = (T N + 1) |a|^2`
    at any deviation; the mean over samples and `averaged` divide it. Noise of the device adds to dL_b, and its part in
    post falls as 1 / deviation: shared noise cancels, a device's own unrecorded noise cannot stand in for w.

    Args:
        deviation: standard deviation of the waveform, state units per time constant.
        centered: run +w and -w; otherwise +w and an unperturbed twin.
        shared_noise: both runs under the same noise (capability `twins`).

    Raises:
        InputError: deviation not positive.

    Sources: Widrow and Lehr, Proceedings of the IEEE 78:1415 (1990), Madaline rule III; along trajectories: Fiete and
    Seung, Physical Review Letters 97:048104 (2006). Cost on top of the recorded free phase: 2 settles of T steps per
    sample.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    deviation: float = 0.1
    centered: bool = True
    shared_noise: bool = False

    def __post_init__(self) -> None:
        positive(self, "deviation", self.deviation)

    @property
    def needs(self) -> Needs:
        twins = frozenset({Capability.TWINS}) if self.shared_noise else frozenset()
        return Needs(capabilities=frozenset({Capability.WAVEFORM}) | twins, record=1, from_free=True)

    @property
    def ladder(self) -> Ladder:
        return Ladder(
            ideals=(),
            finite="one random waveform per sample, of a finite size",
            advice="average, or use a larger batch (relative variance T N + 1 per sample)",
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        xp, spec, lanes = namespace(free.final), device.spec, len(batch)
        wave = self._waveform(free.final, batch, spec.horizon, noise)
        other = -wave if self.centered else xp.zeros_like(wave)
        record = 0 if only_final(task.weights(spec.horizon)) else 1
        addresses = namespace(batch.ids)  # NumPy, whatever the states are
        repeat = addresses.ones_like(batch.ids)
        start = _start_again(device, batch, free, noise, recorded=True)
        plan = Plan(
            inputs=xp.concat([batch.inputs, batch.inputs]),
            ids=addresses.concat([batch.ids, batch.ids]),
            repeats=addresses.concat([repeat, repeat if self.shared_noise else 2 * repeat]),
            start=At(xp.concat([start.state, start.state])) if isinstance(start, At) else start,
            phases=(Phase(steps=spec.horizon, force=xp.concat([wave, other], axis=1), record=record),),
        )
        (run,) = device.relax(plan, noise=noise)
        both = Batch(inputs=plan.inputs, targets=xp.concat([batch.targets, batch.targets]), ids=plan.ids)
        losses = judge(task, run, both, theta, spec.horizon).losses
        difference = (losses[:lanes] - losses[lanes:]) / (2.0 if self.centered else 1.0)
        post = wave * (difference / (self.deviation**2 * lanes))[None, :, None]
        judged = judge(task, free, batch, theta, spec.horizon)
        return Estimate(
            gradients=device.synapses.credit(post, free.recorded[:-1], batch.inputs, theta) | judged.readout,
            loss=judged.loss,
            cost=Cost.of(plan.phases, plan.lanes),
            diagnostics={"loss_difference": float(xp.sqrt(xp.mean(difference * difference)))},
        )

    def _waveform(self, z: Array, batch: Batch, steps: int, noise: NoisePath) -> Float[Array, "T B N"]:
        drawn = noise.normals(Stream.PROBE, np.asarray(batch.ids), units=z.shape[1], steps=steps)
        return self.deviation * namespace(z).asarray(drawn, dtype=z.dtype, device=z.device)


def _start_again(device: Device, batch: Batch, free: Relaxation, noise: NoisePath, *, recorded: bool) -> Start:
    """How a probe begins that repeats the deployed settling, the carried state left alone where a device can load one.

    Loaded states are no new samples to a device. Where it cannot load, it starts as it is deployed, and a random start
    is the same one again only where noise can be replayed.
    """
    spec, z = device.spec, free.final
    loads = Capability.LOAD_STATE in spec.capabilities
    match spec.start:
        case Rest() if loads:
            return At(namespace(z).zeros_like(z))
        case RandomStart() | Carry() if loads and recorded:
            return At(free.recorded[0])
        case RandomStart(sigma) if loads:
            ids = np.asarray(batch.ids)
            drawn = noise.normals(Stream.START, ids, units=spec.units, repeats=np.ones_like(ids))[0]
            return At(namespace(z).asarray(sigma * drawn, dtype=z.dtype, device=z.device))
        case Carry():
            raise CapabilityError(
                "the settlings of a device that carries its state on are repeated from the recorded z_0: set "
                "RandomDirections(record=True), on a device that can record and load a state"
            )
    return spec.start


def _within(parameters: Parameters, ranges: Mapping[str, tuple[float, float]]) -> Parameters:
    """Every value moved into the range of its block."""
    held = {
        name: namespace(parameters[name]).clip(parameters[name], *limits)
        for name, limits in ranges.items()
        if name in parameters
    }
    return parameters | held


def _chosen(held: Parameters, like: Parameters) -> Parameters:
    """The blocks of `held` that `like` has."""
    return Parameters({name: held[name] for name in like})


def _count(parameters: Parameters) -> int:
    """P, the number of values in all blocks."""
    return sum(math.prod(block.shape) for block in parameters.values())


def _blocks_of(row: Float[np.ndarray, " P"], like: Parameters) -> Parameters:
    """A vector in parameter space as blocks."""
    blocks, first = {}, 0
    for name, block in like.items():
        size = math.prod(block.shape)
        part = row[first : first + size].reshape(tuple(block.shape))
        blocks[name] = namespace(block).asarray(part, dtype=block.dtype, device=block.device)
        first += size
    return Parameters(blocks)
