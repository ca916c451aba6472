"""How the *transposed* response of a settled network is got from hardware: three roads to the same linear response.

A rule stimulates the network around its free state with a signal c and needs the response of the transposed dynamics,
`h <- h + eps J^T h` for a kick, `a <- a + eps (J^T a + c)` for a nudge. Natural dynamics respond with J instead of J^T,
so a device must either settle under corrected dynamics, be reciprocal, or drive its couplings backwards.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Relaxation, Rest, Start
from hwsim.contracts.task import Batch

SATURATED = 1e-6
"""Smallest metric of a unit, against the largest in its sample, by which a signal is divided."""


class Form(enum.Enum):
    """How a signal is put in."""

    NUDGE = "a constant force"
    KICK = "a displaced start"


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """What the network is probed with.

    Args:
        signal: [B, N] c, loss units per state unit.
        form: nudge or kick.
        amplitude: Euclidean length of the stimulus of one sample, state units (per time constant for a nudge).
        steps: Euler steps of the probe.
        record: keep every `record`-th state; 0 keeps none.
    """

    signal: Float[Array, "B N"]
    form: Form
    amplitude: float
    steps: int
    record: int = 0


@dataclass(frozen=True, kw_only=True)
class Response:
    """The linear response to a signal, scaled back to the signal's own length.

    Args:
        final: [B, N] after the last step.
        states: [K + 1, B, N] recorded, or None.
        cost: what it took.
    """

    final: Float[Array, "B N"]
    states: Float[Array, "K1 B N"] | None
    cost: Cost


class Probe(ABC):
    """One road to the transposed response, centered over +/- the stimulus.

    The stimulus of each sample is the signal's direction at a stated length, since what a device can resolve is set by
    its noise floor and what stays linear by its nonlinearity, neither by how small a loss gradient happens to be:

        response = |s| (z_{+} - z_{-}) / (2 amplitude),      stimulus = +/- amplitude s / |s|

    The pair runs side by side as lanes of one plan, under independent noise (repeats 1 and 2) or, with `shared_noise`,
    the same (capability `twins`), which cancels in the difference.
    """

    shared_noise: bool

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What the device must offer."""

    @abstractmethod
    def respond(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        at: Float[Array, "B N"],
        stimulus: Stimulus,
        noise: NoisePath,
    ) -> Response:
        """The response of the transposed dynamics around `at` to the stimulus.

        Args:
            device, theta, batch: as in `LearningRule.estimate`.
            at: free state around which the network is probed.
            stimulus: what is put in.
            noise: the rule's noise path.
        """


def _twin_needs(shared_noise: bool) -> frozenset[Capability]:
    return frozenset({Capability.TWINS}) if shared_noise else frozenset()


def _direction(signal: Float[Array, "B N"]) -> tuple[Float[Array, "B N"], Float[Array, "B 1"]]:
    """The unit vector of each sample's signal, and its length; a zero signal has no direction and answers zero."""
    xp = namespace(signal)
    length = xp.sqrt(xp.sum(signal * signal, axis=1, keepdims=True))
    return signal / xp.maximum(length, xp.full_like(length, xp.finfo(length.dtype).tiny)), length


def _pair(batch: Batch, start: Start, phases: tuple[Phase, ...], shared_noise: bool) -> Plan:
    """Both signs of a probe as 2 B lanes."""
    xp = namespace(batch.inputs)
    repeat = xp.ones_like(batch.ids)
    return Plan(
        inputs=xp.concat([batch.inputs, batch.inputs]),
        ids=xp.concat([batch.ids, batch.ids]),
        repeats=xp.concat([repeat, repeat if shared_noise else 2 * repeat]),
        start=start,
        phases=phases,
    )


def _phase(direction: Float[Array, "B N"], stimulus: Stimulus, at: Array | None = None) -> Phase:
    """One phase with + the stimulus on the first B lanes and - on the others."""
    xp = namespace(direction)
    both = xp.concat([stimulus.amplitude * direction, -stimulus.amplitude * direction])
    nudged = stimulus.form is Form.NUDGE
    return Phase(
        steps=stimulus.steps,
        force=both if nudged else None,
        displace=None if nudged else both,
        correct_at=None if at is None else xp.concat([at, at]),
        record=stimulus.record,
    )


def _response(run: Relaxation, lanes: int, scale: Array, cost: Cost) -> Response:
    """Half the difference of the two signs, times `scale`."""
    states = None if run.states is None else (run.states[:, :lanes] - run.states[:, lanes:]) * scale
    return Response(final=(run.final[:lanes] - run.final[lanes:]) * scale, states=states, cost=cost)


def _settle_pair(
    device: Device, batch: Batch, at: Array, phase: Phase, shared_noise: bool, noise: NoisePath
) -> tuple[Relaxation, Cost]:
    """Probe from the loaded free state; a device that cannot load one settles freely first, and the cost is counted."""
    if Capability.LOAD_STATE in device.spec.capabilities:
        plan = _pair(batch, At(namespace(at).concat([at, at])), (phase,), shared_noise)
    else:
        plan = _pair(batch, device.spec.start, (Phase(steps=device.spec.horizon), phase), shared_noise)
    return device.relax(plan, noise=noise)[-1], Cost.of(plan.phases, plan.lanes)


@final
@dataclass(frozen=True, kw_only=True)
class Corrected(Probe):
    """Settle under `F(z) - (J - J^T)(z - at)`, whose Jacobian at `at` is J^T (asymmetric EP, arXiv:2602.03670).

    Error O(amplitude^2) from the nonlinearity. Cost: 2 B settles of `steps`.
    """

    shared_noise: bool = False

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.CORRECT}) | _twin_needs(self.shared_noise), from_free=True)

    def respond(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        at: Float[Array, "B N"],
        stimulus: Stimulus,
        noise: NoisePath,
    ) -> Response:
        direction, length = _direction(stimulus.signal)
        phase = _phase(direction, stimulus, at)
        run, cost = _settle_pair(device, batch, at, phase, self.shared_noise, noise)
        return _response(run, len(batch), length / (2.0 * stimulus.amplitude), cost)


@final
@dataclass(frozen=True, kw_only=True)
class Natural(Probe):
    """Natural dynamics of a reciprocal substrate, through its metric: `J^T = S J S^-1`.

    Stimulate with `S^-1 c`, read `S` times the response, S held at 1e-6 of the sample's largest or more. Error
    O(amplitude^2). Cost: 2 B settles of `steps`.
    """

    shared_noise: bool = False

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=_twin_needs(self.shared_noise), reciprocal=True, from_free=True)

    def respond(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        at: Float[Array, "B N"],
        stimulus: Stimulus,
        noise: NoisePath,
    ) -> Response:
        xp, metric = namespace(at), device.synapses.metric(at, theta)
        # a saturated unit neither answers nor drives: the floor keeps its stimulus finite, in whatever unit S is
        metric = xp.maximum(metric, SATURATED * xp.max(metric, axis=1, keepdims=True))
        direction, length = _direction(stimulus.signal / metric)
        phase = _phase(direction, stimulus)
        run, cost = _settle_pair(device, batch, at, phase, self.shared_noise, noise)
        return _response(run, len(batch), metric * length / (2.0 * stimulus.amplitude), cost)


@final
@dataclass(frozen=True, kw_only=True)
class Transposed(Probe):
    """Drive the couplings backwards, linearly, with the unit gains held at the free state (capability `transpose`).

    Exact at any amplitude without noise; nudged, it is dyadic EP (arXiv:2602.03670). Cost: 2 B settles of `steps`.
    """

    shared_noise: bool = False

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.TRANSPOSE}) | _twin_needs(self.shared_noise))

    def respond(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        at: Float[Array, "B N"],
        stimulus: Stimulus,
        noise: NoisePath,
    ) -> Response:
        xp = namespace(at)
        direction, length = _direction(stimulus.signal)
        phase = _phase(direction, stimulus)
        plan = _pair(batch, Rest(), (phase,), self.shared_noise)
        (run,) = device.relax_transpose(xp.concat([at, at]), plan, noise=noise)
        return _response(run, len(batch), length / (2.0 * stimulus.amplitude), Cost.of((phase,), plan.lanes))
