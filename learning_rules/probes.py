"""How the *transposed* response of a settled network is got from hardware: roads to the same linear response.

A rule stimulates the network around its free state with a signal c and needs the response of the transposed dynamics,
`h <- h + eps J^T h` for a kick, `a <- a + eps (J^T a + c)` for a nudge. Natural dynamics respond with J instead of J^T,
so a device must either settle under corrected dynamics, be reciprocal, or drive its couplings backwards.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import Batch

from .contrast import Centered, Contrast
from .probing import Probing, direction
from .stopping import Settling

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
        steps: Euler steps of the probe; for a nudge, `Settling` goes on until the response has settled.
        record: keep every `record`-th state; 0 keeps none.
        earlier: [steps, B, N] further kicks along the way, units of the signal: with D = 1 + eps J around the free
            state, the response is `h_0 = c`, `h_{j+1} = D^T h_j + earlier[j]`. Put in as a force earlier / eps
            (capability `waveform`), which Euler steps turn into the kick and other integrators to first order in eps.
            The longest of all kicks of a sample, c included, then has length `amplitude`.
        contrast: which multiples of the stimulus run, and how the response is read from them.

    Raises:
        InputError: further kicks of a nudge, or not one for each step; a kick, or a recording, that is to settle.
    """

    signal: Float[Array, "B N"]
    form: Form
    amplitude: float
    steps: int | Settling
    record: int = 0
    earlier: Float[Array, "steps B N"] | None = None
    contrast: Contrast = Centered()

    def __post_init__(self) -> None:
        if isinstance(self.steps, Settling) and (self.form is Form.KICK or self.record):
            raise InputError(
                "a probe goes on until it has settled only as an unrecorded nudge; "
                f"found {self.form} with record={self.record}: give it a number of steps"
            )
        if self.earlier is None:
            return
        if self.form is Form.NUDGE:
            raise InputError("kicks along the way belong to a kick: leave out earlier, or use Form.KICK")
        if tuple(self.earlier.shape) != (self.steps, *self.signal.shape):
            raise InputError(
                f"kicks along the way come one for each step, {[self.steps, *self.signal.shape]}; "
                f"found {list(self.earlier.shape)}"
            )

    @property
    def needs(self) -> Needs:
        """What it needs of a device, besides what its road needs."""
        needed = {Capability.DISPLACE} if self.form is Form.KICK else set()
        needed |= {Capability.WAVEFORM} if self.earlier is not None else set()
        stop = self.steps.needs if isinstance(self.steps, Settling) else Needs()
        return Needs(capabilities=frozenset(needed)) | self.contrast.needs | stop


@dataclass(frozen=True, kw_only=True)
class Response:
    """The linear response to a signal, scaled back to the signal's own length.

    Args:
        final: [B, N] after the last step.
        states: [K + 1, B, N] recorded, or None.
        cost: what it took.
        steps: [B] steps that each sample was probed for.
        residual: [B] mean residual of the last stretch (see `Settling`); None where the steps were given.
    """

    final: Float[Array, "B N"]
    states: Float[Array, "K1 B N"] | None
    cost: Cost
    steps: Int[Array, " B"]
    residual: Float[Array, " B"] | None = None


@dataclass(frozen=True, kw_only=True)
class Probe(ABC):
    """One road to the transposed response. The response is read by the stimulus's contrast, centered unless told.

    The stimulus of each sample is the signal's direction at a stated length, since what a device can resolve is set by
    its noise floor and what stays linear by its nonlinearity, neither by how small a loss gradient happens to be:

        response = |s| (z_{+} - z_{-}) / (2 amplitude),      stimulus = +/- amplitude s / |s|

    The runs of a contrast go side by side as lanes of one plan, under independent noise (repeats 1, 2, ...) or, with
    `shared_noise`, the same (capability `twins`), which cancels in the difference. A sample whose signals are all zero
    answers zero.

    Args:
        shared_noise: see above.
    """

    shared_noise: bool = False

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What the device must offer."""

    @property
    def corrected(self) -> bool:
        """Whether the network settles under the asymmetric-EP dynamics around the free state."""
        return False

    @property
    def backwards(self) -> bool:
        """Whether the couplings are driven backwards, linearly, so that states are the response itself."""
        return False

    def metric(self, device: Device, theta: Parameters, at: Float[Array, "B N"]) -> Float[Array, "B N"] | None:
        """S by which the signal is divided and the response multiplied; None for 1."""
        return None

    @final
    def begin(
        self,
        device: Device,
        theta: Parameters,
        batch: Batch,
        at: Float[Array, "B N"],
        stimulus: Stimulus,
        noise: NoisePath,
    ) -> Probing:
        """The probe as a thing to be stepped by hand; arguments as for `respond`. Nothing runs yet."""
        metric, signal, earlier = self.metric(device, theta, at), stimulus.signal, stimulus.earlier
        if metric is not None:
            signal = signal / metric
            earlier = None if earlier is None else earlier / metric
        unit, along, length = direction(signal, earlier)
        nudged, scale = stimulus.form is Form.NUDGE, length / stimulus.amplitude
        known = not self.shared_noise and (nudged or self.backwards)
        return Probing(
            device=device,
            batch=batch,
            at=at,
            points=stimulus.contrast.points(batch.ids, noise, known=known),
            stimulus=stimulus.amplitude * unit,
            earlier=None if along is None else (stimulus.amplitude / device.spec.step_size) * along,
            nudged=nudged,
            scale=scale if metric is None else metric * scale,
            corrected=self.corrected,
            backwards=self.backwards,
            shared_noise=self.shared_noise,
            noise=noise,
        )

    @final
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
        probing = self.begin(device, theta, batch, at, stimulus, noise)
        if isinstance(stimulus.steps, Settling):
            return _until_settled(probing, stimulus.signal, stimulus.steps)
        run, cost = probing.step(stimulus.steps, record=stimulus.record)
        return Response(
            final=probing.response(run.final),
            states=None if run.states is None else probing.response(run.states),
            cost=cost,
            steps=np.full(len(batch), stimulus.steps),
        )


def _until_settled(probing: Probing, signal: Float[Array, "B N"], stop: Settling) -> Response:
    """Stretches, each of the samples that have not settled yet."""
    xp, eps, lanes = namespace(signal), probing.device.spec.step_size, len(signal)
    response, size = xp.zeros_like(signal), xp.sqrt(xp.sum(signal * signal, axis=1))
    residual, taken = xp.zeros_like(size), np.zeros(lanes, np.int64)
    cost, left, after, done, stretch = Cost(), np.arange(lanes), None, 0, 0
    while len(left) and done < stop.most:
        steps, now = min(stop.every, stop.most - done), probing.taken(left)
        run, spent = now.step(steps, after=after, stretch=stretch)
        found = now.response(run.final)
        with np.errstate(over="ignore", invalid="ignore"):  # what blows up has not settled
            moved = found - response[left]
            change = xp.sqrt(xp.sum(moved * moved, axis=1)) / (eps * steps)
        response[left], taken[left] = found, done + steps
        # no signal, no response: settled
        residual[left] = xp.where(size[left] > 0.0, change / xp.where(size[left] > 0.0, size[left], 1.0), 0.0)
        done_now = (residual[left] <= stop.tolerance).tolist()  # which samples go on is decided on the host
        moving = np.flatnonzero(~np.array(done_now, bool))
        after = run.final[(np.arange(probing.runs)[:, None] * len(left) + moving).ravel()]
        left, done, stretch, cost = left[moving], done + steps, stretch + 1, cost + spent
    return Response(final=response, states=None, cost=cost, steps=taken, residual=residual)


def _twin_needs(shared_noise: bool) -> frozenset[Capability]:
    return frozenset({Capability.TWINS}) if shared_noise else frozenset()


@final
@dataclass(frozen=True, kw_only=True)
class Corrected(Probe):
    """Settle under `F(z) - (J - J^T)(z - at)`, whose Jacobian at `at` is J^T (asymmetric EP, arXiv:2602.03670).

    Error from the nonlinearity alone, as the contrast says; with `Contour` it is holomorphic asymmetric EP. Cost: a
    settle of `steps` for each run of the contrast.
    """

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.CORRECT}) | _twin_needs(self.shared_noise), from_free=True)

    @property
    def corrected(self) -> bool:
        return True


@final
@dataclass(frozen=True, kw_only=True)
class Natural(Probe):
    """Natural dynamics of a reciprocal substrate, through its metric: `J^T = S J S^-1`.

    Stimulate with `S^-1 c`, read `S` times the response, S held at 1e-6 of the sample's largest or more. Error from the
    nonlinearity alone, as the contrast says. Cost: a settle of `steps` for each run of the contrast.
    """

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=_twin_needs(self.shared_noise), reciprocal=True, from_free=True)

    def metric(self, device: Device, theta: Parameters, at: Float[Array, "B N"]) -> Float[Array, "B N"] | None:
        xp, metric = namespace(at), device.synapses.metric(at, theta)
        # a saturated unit neither answers nor drives: the floor keeps its stimulus finite, in whatever unit S is
        return xp.maximum(metric, SATURATED * xp.max(metric, axis=1, keepdims=True))


@final
@dataclass(frozen=True, kw_only=True)
class VectorField(Probe):
    """Natural dynamics as they are, on couplings that need not be reciprocal (arXiv:1808.04873): the response is that
    of J, not J^T, whatever the amplitude. A nudge goes to `-J^-1 c` where the adjoint is `-J^-T c`; it is wrong by

        J^-T c - J^-1 c  =  2 J^-T A J^-1 c,      A = (J - J^T) / 2

    This is what hardware does that is nudged and read, and no more: biased, and right only where J is symmetric (not
    merely reciprocal: a metric is left out). Cost: a settle of `steps` for each run of the contrast.
    """

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=_twin_needs(self.shared_noise), from_free=True)


@final
@dataclass(frozen=True, kw_only=True)
class Transposed(Probe):
    """Drive the couplings backwards, linearly, with the unit gains held at the free state (capability `transpose`).

    Exact at any amplitude without noise; nudged, it is dyadic EP (arXiv:2602.03670). Cost: a settle of `steps` for each
    run of the contrast.
    """

    @property
    def needs(self) -> Needs:
        return Needs(capabilities=frozenset({Capability.TRANSPOSE}) | _twin_needs(self.shared_noise))

    @property
    def backwards(self) -> bool:
        return True
