"""The contraction homeostat: keep nearby trajectories approaching each other at a set rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation
from hwsim.contracts.rule import Estimate, Kind, LearningRule
from hwsim.contracts.task import Batch, Task

from .checks import positive


@final
@dataclass(frozen=True, kw_only=True)
class ContractionHomeostat(LearningRule):
    """Descend `R = mean relu(gamma - target)^2`, over steps and then samples, from one kicked twin per sample:

        delta = z' - z before a step, delta' after it;   gamma = ln(|delta'| / |delta|) / eps    per time constant
        dR/dtheta = mean 2 relu(gamma - target) [credit(u, z') - credit(u, z)],      u = delta' / |delta'|^2

    both trajectories recorded under the same noise, states held fixed: one pre-synaptic difference, one post-synaptic
    difference, one broadcast scalar. A descent direction of R, not its full gradient (the states depend on theta). It
    acts only while the growth rate exceeds its set-point, and knows nothing of the loss: add it to a rule that does.

    The twin starts `separation` away from z_T in a random direction and is left alone; steps count from `burn_in` on,
    once the direction has turned towards the slowest mode, and while the separation lies in [smallest, largest].

    Args:
        target: set-point of gamma, per time constant, < 0.
        separation: Euclidean distance of the kicked twin at the start, state units.
        steps: K, Euler steps of the twins.
        burn_in: first step that counts.
        smallest: separation below which a step is not trusted, state units; raised to four times the noise of a
            difference of two reads where the spec states a noise floor.
        largest: separation above which the response is not taken for linear, state units.

    Raises:
        InputError: target not below 0, burn_in not below steps, or a length that is not positive.

    Sources: growth of nearby trajectories: Benettin et al., Meccanica 15:9 (1980); the homeostat is this project's.
    Cost: 2 settles of K recorded steps per sample.
    """

    kind: ClassVar[Kind] = Kind.LOCAL

    target: float = -0.3
    separation: float = 1.0
    steps: int = 20
    burn_in: int = 10
    smallest: float = 1e-4
    largest: float = 10.0

    def __post_init__(self) -> None:
        for name in ("separation", "steps", "smallest", "largest"):
            positive(self, name, getattr(self, name))
        if not (math.isfinite(self.target) and self.target < 0):
            raise InputError(f"ContractionHomeostat needs target < 0 per time constant; found {self.target}")
        if not 0 <= self.burn_in < self.steps:
            raise InputError(f"ContractionHomeostat needs 0 <= burn_in < steps; found {self.burn_in} and {self.steps}")

    @property
    def needs(self) -> Needs:
        return Needs(
            capabilities=frozenset({Capability.TWINS, Capability.LOAD_STATE, Capability.DISPLACE, Capability.RECORD})
        )

    def estimate(
        self, device: Device, theta: Parameters, batch: Batch, task: Task, free: Relaxation, noise: NoisePath
    ) -> Estimate:
        plan = self._plan(free.final, batch, noise)
        (run,) = device.relax(plan, noise=noise)
        lanes = len(batch)
        late = run.recorded[self.burn_in :]
        z, twin = late[:, :lanes], late[:, lanes:]
        post, growth, counted = self._post(z, twin, device.spec.step_size, self._trusted(device))
        credit = device.synapses.credit
        gradients = credit(post, twin[:-1], batch.inputs, theta) - credit(post, z[:-1], batch.inputs, theta)
        return Estimate(
            gradients=gradients | theta.readout.zeros(),
            loss=math.nan,
            cost=Cost.of(plan.phases, plan.lanes),
            diagnostics={"growth": growth, "twin_steps_counted": counted},
        )

    def penalty(self, z: Array, twin: Array, step_size: float) -> Array:
        """R from recorded twins [K + 1, B, N]: what `estimate` descends at fixed states (a scalar array)."""
        gamma, counts, _, _ = self._growth(z[self.burn_in :], twin[self.burn_in :], step_size, self.smallest)
        xp = namespace(z)
        excess = xp.maximum(gamma - self.target, xp.zeros_like(gamma))
        return xp.sum(excess * excess * self._shares(counts))

    def _plan(self, z: Array, batch: Batch, noise: NoisePath) -> Plan:
        xp = namespace(z)
        drawn = noise.normals(Stream.PROBE, np.asarray(batch.ids), units=z.shape[1])[0]
        drawn = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        kick = self.separation * xp.asarray(drawn, dtype=z.dtype)
        repeat = xp.ones_like(batch.ids)
        return Plan(
            inputs=xp.concat([batch.inputs, batch.inputs]),
            ids=xp.concat([batch.ids, batch.ids]),
            repeats=xp.concat([repeat, repeat]),
            start=At(xp.concat([z, z])),
            phases=(Phase(steps=self.steps, displace=xp.concat([xp.zeros_like(kick), kick]), record=1),),
        )

    def _trusted(self, device: Device) -> float:
        floor = device.spec.noise_floor
        if floor is None:
            return self.smallest
        return max(self.smallest, 4.0 * floor * math.sqrt(2.0 * device.spec.units))

    def _growth(self, z: Array, twin: Array, step_size: float, smallest: float) -> tuple[Array, Array, Array, Array]:
        """gamma [K, B], which of them count [K, B], delta' [K, B, N] and its squared length [K, B, 1].

        The states are those from `burn_in` on; K is the number of steps between them.
        """
        xp = namespace(z)
        delta = twin - z
        squared = xp.sum(delta * delta, axis=2)
        tiny = xp.finfo(squared.dtype).tiny
        size = xp.sqrt(xp.maximum(squared, xp.full_like(squared, tiny)))
        gamma = (xp.log(size[1:]) - xp.log(size[:-1])) / step_size
        counts = (size[1:] >= smallest) & (size[:-1] >= smallest) & (size[:-1] <= self.largest)
        return gamma, xp.astype(counts, z.dtype), delta[1:], squared[1:, :, None]

    def _post(self, z: Array, twin: Array, step_size: float, smallest: float) -> tuple[Array, float, float]:
        """The post-synaptic signal [K, B, N], the mean growth rate, and the fraction of steps that count."""
        xp = namespace(z)
        gamma, counts, delta, squared = self._growth(z, twin, step_size, smallest)
        total = float(xp.sum(counts))
        if total == 0.0:
            return xp.zeros_like(delta), math.nan, 0.0
        excess = xp.maximum(gamma - self.target, xp.zeros_like(gamma)) * self._shares(counts)
        counted = counts[:, :, None] > 0
        u = xp.where(counted, delta, xp.zeros_like(delta)) / xp.where(counted, squared, xp.ones_like(squared))
        growth = float(xp.sum(gamma * counts)) / total
        return 2.0 * excess[:, :, None] * u, growth, total / math.prod(counts.shape)

    @staticmethod
    def _shares(counts: Array) -> Array:
        """Weight of every step [K, B] in R: those of a sample share 1 / B."""
        xp = namespace(counts)
        return counts / (xp.maximum(xp.sum(counts, axis=0), xp.ones_like(counts[0])) * counts.shape[1])
