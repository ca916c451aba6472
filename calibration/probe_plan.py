"""How strongly to probe: the amplitude at which a rule's bias and its noise are smallest together, measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability, Device
from hwsim.contracts.errors import InputError
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.noise import BRANCHES, NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, Phase, RandomStart
from hwsim.contracts.rule import LearningRule, require, settle_free
from hwsim.contracts.task import Batch, Task
from hwsim.contracts.threads import one_blas_thread

from .noise_floor import measure_noise_floor
from .power_laws import Fit, Samples, fit, with_errors

FLOOR_REPEATS = 8
"""Settlings of the batch by which the noise floor is measured."""
MEAN_JITTER = 0.065
"""Relative jitter of amplitudes, on average."""
DECADES = 3.0
"""How far below the states' own length the amplitudes go that are tried unless told."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A value with its standard error (jackknife over repeats)."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3g} +- {self.error:.1g}"


@dataclass(frozen=True, kw_only=True)
class ProbeError:
    """What to expect of one estimate, in units of the gradient's Euclidean norm (loss per parameter unit).

    Args:
        bias: distance of the mean estimate from its limit at amplitude 0.
        deviation: root of the summed variance, probes and free phase.
        total: `sqrt(bias^2 + deviation^2)`.
    """

    bias: float
    deviation: float
    total: float


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """How often to repeat a probe for a wanted signal-to-noise.

    Args:
        repeats: k of `rule.averaged(k)`.
        amplitude: of every probe.
        expected: error of the average.
        bias_limited: the bias alone is larger than the wanted noise, so that averaging buys precision about the wrong
            value: probe at `plan.optimum(repeats)` instead.
    """

    repeats: int
    amplitude: float
    expected: ProbeError
    bias_limited: bool


@dataclass(frozen=True, kw_only=True)
class ProbePlan:
    """What was measured of a probe on a device, and what follows.

    Sizes are Euclidean norms of the gradient over all analog blocks (`plan_probe`), or root mean squares over samples
    of a growth rate, per time constant (`plan_separation`).

    An estimate at amplitude a, averaged over k probes of one free phase, is taken to have

        bias^2 = b^2 a^2p,      variance = (s^2 / a^2 + q) / k + f

    Args:
        amplitudes: [M] that were tried and gave finite estimates.
        deviations: [M] measured standard deviation of one probe at fixed free phase.
        distances: [M] measured distance of the mean estimate from the limit, noise removed.
        trusted: [M] whether the laws were fitted to it; that of the bias bends at large amplitudes.
        signal: |g| in the limit of small amplitudes.
        noise: s.
        floor: sqrt(q): deviation of a probe that no amplitude removes, such as that of random directions.
        free: sqrt(f): deviation that comes with the free phase, which no repetition of the probes removes.
        bias: b; 0 where none was seen above the noise.
        order: p, as measured among the candidates; in theory 2 for a centered and 1 for a one-sided probe. Of no
            meaning where no bias was seen.
        amplitude: where bias^2 + variance is smallest for k = 1, between the smallest tried and the largest trusted.
        edge: "smallest" or "largest" where the optimum lies beyond these, else "".
        resolution: rms error of reading one unit, state units: the larger of the measured noise floor and the spec's.
        cost: device time used.
    """

    amplitudes: Float[Array, " M"]
    deviations: Float[Array, " M"]
    distances: Float[Array, " M"]
    trusted: Array
    signal: Measured
    noise: Measured
    floor: float
    free: float
    bias: Measured
    order: float
    amplitude: Measured
    edge: str
    resolution: float
    cost: Cost

    def at(self, amplitude: float, repeats: int = 1) -> ProbeError:
        """The error to expect at an amplitude, averaged over `repeats` probes."""
        bias = self.bias.value * amplitude**self.order
        variance = (self.noise.value**2 / amplitude**2 + self.floor**2) / repeats + self.free**2
        return ProbeError(bias=bias, deviation=math.sqrt(variance), total=math.sqrt(bias**2 + variance))

    def optimum(self, repeats: int = 1) -> float:
        """`a = (s^2 / (k p b^2))^(1 / (2 p + 2))`, where bias^2 + variance is smallest, within the same bounds."""
        best = _optimum(self.noise.value**2 / repeats, self.bias.value**2, self.order)
        return float(np.clip(best, self.amplitudes.min(), self.amplitudes[self.trusted].max()))

    def averaging(self, signal_to_noise: float, amplitude: float | None = None) -> Averaging:
        """How many probes to average so that |g| is `signal_to_noise` times the deviation; the bias stays what it is.

            k = (s^2 / a^2 + q) / (|g|^2 / wanted^2 - f)

        Args:
            signal_to_noise: wanted ratio of norms, above 0.
            amplitude: of the probes; the best one for k = 1 unless told.

        Raises:
            InputError: the free phase alone is noisier than that, or more probes than an address holds are needed.
        """
        if not (math.isfinite(signal_to_noise) and signal_to_noise > 0):
            raise InputError(f"a signal-to-noise is wanted that is positive and finite; found {signal_to_noise}")
        a = self.amplitude.value if amplitude is None else amplitude
        allowed = (self.signal.value / signal_to_noise) ** 2
        if self.free**2 >= allowed:
            raise InputError(
                f"a signal-to-noise of {signal_to_noise:.3g} cannot be reached by averaging probes: the noise of the "
                f"free phase alone leaves {self.signal.value / self.free:.3g}; settle larger batches"
            )
        wanted = (self.noise.value**2 / a**2 + self.floor**2) / (allowed - self.free**2)
        if wanted > BRANCHES:
            raise InputError(
                f"a signal-to-noise of {signal_to_noise:.3g} needs {wanted:.3g} probes at amplitude {a:.3g}; a noise "
                f"address holds {BRANCHES}: probe harder or settle larger batches"
            )
        repeats = max(1, math.ceil(wanted))
        expected = self.at(a, repeats)
        limited = expected.bias**2 > allowed
        return Averaging(repeats=repeats, amplitude=a, expected=expected, bias_limited=limited)

    def table(self) -> str:
        """The curve, relative to the signal, as lines of text."""
        size = self.signal.value or 1.0
        lines = [
            f"signal {self.signal},  noise s {self.noise},  bias b {self.bias} with order {self.order:g},  "
            f"floor {self.floor:.2g},  between free phases {self.free:.2g}",
            "amplitude    measured: bias  deviation    expected: bias  deviation  total   (of the signal)",
        ]
        for a, distance, deviation, trusted in zip(
            self.amplitudes, self.distances, self.deviations, self.trusted, strict=True
        ):
            mark = "" if trusted else "   beyond the power law"
            lines.append(f"{a:9.3g} {distance / size:17.2%} {deviation / size:10.2%} {self._expected(a)}{mark}")
        note = {"": "", "smallest": "   the smallest tried", "largest": "   the largest trusted"}[self.edge]
        lines.append(f"{self.amplitude.value:9.3g} {'best':>17} {'':10} {self._expected(self.amplitude.value)}{note}")
        return "\n".join(lines)

    def _expected(self, amplitude: float) -> str:
        size, error = self.signal.value or 1.0, self.at(amplitude)
        return f"{error.bias / size:17.2%} {error.deviation / size:10.2%} {error.total / size:7.2%}"


def plan_probe(
    device: Device,
    theta: Parameters,
    batch: Batch,
    task: Task,
    make_rule: Callable[[float], LearningRule],
    *,
    noise: NoisePath,
    amplitudes: Iterable[float] | None = None,
    repeats: int = 8,
    orders: Sequence[float] = (1.0, 2.0),
) -> ProbePlan:
    """Measure a rule's noise and nonlinearity against the amplitude of its probes, and find the best amplitude.

    Per repeat: one free phase, and two probes at each amplitude a, at a (1 + d) and a (1 - d) with d of 3 to 10 percent
    so that what a converter rounds away scatters like noise. Then

        probe variance    half the mean square difference of the two, less its trend in a  ->  s^2 / a^2 + q
        bias              what the means do with a, g_r + B a^p with an intercept for every free phase r  ->  b = |B|, p
        free-phase noise  scatter of the intercepts, less what the probes put there  ->  f

    Each law is fitted with the weights that the noise calls for; amplitudes at which the bias leaves its power law are
    left out, the largest first. Bias means distance from the rule's own limit at small amplitude: what a rule gets
    wrong even there (an equilibrium that is not reached, another loss than the deployed one) no device can tell.

    A converter whose steps noise does not dither (the spec's noise floor above the measured one) errs the same way each
    time, which no repetition shows: amplitudes are then left out whose jitter moves a unit by less than half a step.

    The bias is known as well as noise lets small amplitudes show the limit, and error bars take the law for granted: a
    square that levels off may pass for a straight line. That moves the best amplitude little, but the predicted bias
    may be half of what it is. More repeats, and no amplitudes far above the best, are what helps.

    Only the contract is used: this runs on boards. Where lanes carry their state, every free phase begins with what
    they carried before, and that is put back; a device with noise of its own goes on from where it is.

    Args:
        device: programmed with `theta`.
        theta: as read back, `readout.*` included.
        batch: typical samples, as large as those that will be trained on: the noise is that of the batch's estimate.
        task: loss and readout.
        make_rule: amplitude -> rule, such as `lambda a: EquilibriumPropagation(nudge=a)`.
        noise: address; repeat r takes the experiment step r further on. Ignored by a device that makes its own noise.
        amplitudes: at least three, positive, each the length of the stimulus of one sample. Unless told, six from the
            noise floor to the states' own length, three decades at most.
        repeats: R, free phases, at least 4.
        orders: candidates for p; one where theory is to decide.

    Raises:
        CapabilityError: the device cannot serve the rule.
        InputError: too few repeats or amplitudes, or estimates that are not finite, zero or without analog blocks.

    Cost: R free phases and 2 R M estimates of the rule, and 8 settlings for the noise floor.
    """
    whole("a probe plan", "repeats", repeats, least=4)
    if not orders or min(orders) <= 0:
        raise InputError(f"the bias grows with a positive power of the amplitude; found orders={tuple(orders)}")
    tried, resolution, cost = amplitudes_to_try(device, batch, noise, amplitudes)
    samples, spent = _measure(device, theta, batch, task, make_rule, tried, repeats, noise)
    return plan_from(samples, fit(samples, orders), resolution, cost + spent)


def _optimum(noise: float, bias: float, order: float) -> float:
    """From s^2 and b^2."""
    return math.inf if bias <= 0.0 else (noise / (order * bias)) ** (1.0 / (2.0 * order + 2.0))


def plan_from(samples: Samples, found: Fit, resolution: float, cost: Cost) -> ProbePlan:
    """The plan that a fit suggests.

    Raises:
        InputError: there is no signal.
    """
    low, high = samples.nominal[0], samples.nominal[found.trusted].max()

    def quantities(law: Fit) -> Float[Array, " Q"]:
        best = np.clip(_optimum(law.noise, law.bias, law.order), low, high)
        return np.array([math.sqrt(law.signal), math.sqrt(law.noise), math.sqrt(law.bias), math.log(best)])

    values, errors = with_errors(samples, found, quantities)
    signal, noise, bias = (
        Measured(value=float(v), error=float(e)) for v, e in zip(values[:3], errors[:3], strict=True)
    )
    best = math.exp(values[3])
    if signal.value == 0.0:
        raise InputError("the estimate is zero at every amplitude: there is no signal to plan for; take another batch")
    free_optimum = _optimum(found.noise, found.bias, found.order)
    edge = "largest" if free_optimum > high else "smallest" if free_optimum < low else ""
    return ProbePlan(
        amplitudes=samples.nominal,
        deviations=np.sqrt(found.raw),
        distances=found.distances,
        trusted=found.trusted,
        signal=signal,
        noise=noise,
        floor=math.sqrt(found.floor),
        free=math.sqrt(found.free),
        bias=bias,
        order=found.order,
        amplitude=Measured(value=best, error=best * float(errors[3])),
        edge=edge,
        resolution=resolution,
        cost=cost,
    )


def _measure(
    device: Device,
    theta: Parameters,
    batch: Batch,
    task: Task,
    make_rule: Callable[[float], LearningRule],
    nominal: Float[Array, " M"],
    repeats: int,
    noise: NoisePath,
) -> tuple[Samples, Cost]:
    """Estimates at jittered amplitudes, those amplitudes left out that gave no finite ones."""
    rule, saved, cost = make_rule(float(nominal[0])), device.save(), Cost()
    require(rule, device.spec, task)
    if 2 * len(nominal) * rule.branches > BRANCHES:
        raise InputError(
            f"{len(nominal)} amplitudes need {2 * len(nominal) * rule.branches} branches of noise; an address holds "
            f"{BRANCHES}: try fewer"
        )
    used, found = jittered(nominal, repeats), []
    # an amplitude that throws the state out of the finite numbers is an answer
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        for repeat in range(repeats):
            path = noise.at_step(noise.step + repeat)
            put_back(device, saved)
            free, spent = settle_free(device, batch, rule.needs, path)
            cost = cost + spent
            for at, amplitude in enumerate(used[repeat].ravel()):
                probe = make_rule(float(amplitude))
                estimate = probe.estimate(device, theta, batch, task, free, path.branch(at * rule.branches))
                cost = cost + estimate.cost
                found.append(_flat(estimate.gradients))
    put_back(device, saved)
    estimates = np.stack(found).reshape(*used.shape, -1)
    finite = np.isfinite(estimates).all(axis=(0, 2, 3))
    if finite.sum() < 3:
        raise InputError(
            f"estimates are finite at {int(finite.sum())} of the amplitudes {nominal.tolist()}; three are needed: try "
            "smaller ones"
        )
    if not estimates[:, finite].any():
        raise InputError(
            f"{type(rule).__name__} estimates zero for all analog blocks at every amplitude: there is nothing to plan "
            "for; take another batch or a rule that says something of these blocks"
        )
    return Samples.of(nominal[finite], used[:, finite], estimates[:, finite]), cost


def _flat(gradients: Parameters) -> Float[Array, " P"]:
    blocks = [np.asarray(block, np.float64).ravel() for block in gradients.analog.values()]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def amplitudes_to_try(
    device: Device, batch: Batch, noise: NoisePath, amplitudes: Iterable[float] | None
) -> tuple[Float[Array, " M"], float, Cost]:
    """Amplitudes, ascending, at which something can be learned of this device; its resolution; what that cost.

    Raises:
        InputError: fewer than three such amplitudes, or states that suggest none.
    """
    spec, saved, cost = device.spec, device.save(), Cost()
    known = spec.noise_floor or 0.0
    measured = known  # a random start scatters by itself, so that nothing can be told apart
    if not isinstance(spec.start, RandomStart):
        measured = measure_noise_floor(device, np.asarray(batch.inputs), noise=noise, repeats=FLOOR_REPEATS).rms
        cost = Cost.of((Phase(steps=spec.horizon),), FLOOR_REPEATS * len(batch))
        put_back(device, saved)
    resolution, root = max(measured, known), math.sqrt(spec.units)
    # half a step is sqrt(3) times its rms error
    least = math.sqrt(3.0) * known * root / (2.0 * MEAN_JITTER) if measured < known else 0.0
    if amplitudes is None:
        free, spent = settle_free(device, batch, Needs(), noise)
        put_back(device, saved)
        cost, z = cost + spent, np.asarray(free.final, np.float64)
        lengths = np.sqrt(np.sum(z * z, axis=1))
        largest = float(np.median(lengths[np.isfinite(lengths)])) if np.isfinite(lengths).any() else math.nan
        if not largest > 0.0:
            raise InputError("the states are zero or not finite, so that no amplitude suggests itself: name some")
        smallest = min(max(resolution * root, largest * 10.0**-DECADES), largest / 30.0)
        smallest = max(smallest, least)
        return np.geomspace(smallest, max(largest, 4.0 * smallest), 6), resolution, cost
    given = np.unique(np.array(list(amplitudes), np.float64))
    if len(given) < 3 or not (np.isfinite(given).all() and (given > 0).all()):
        raise InputError(f"a plan needs three different amplitudes or more, all positive; found {given.tolist()}")
    if (given >= least).sum() < 3:
        raise InputError(
            f"amplitudes below {least:.3g} are lost in the steps of this device's converter, which no noise dithers "
            f"(noise floor {known:.3g} in the spec, {measured:.3g} measured); three above it are needed: found "
            f"{given.tolist()}"
        )
    return given[given >= least], resolution, cost


def put_back(device: Device, saved: Mapping[str, Array]) -> None:
    """What lanes carry, as it was. Not where a device makes its own noise: that would begin again as well."""
    if isinstance(device.spec.start, Carry) and Capability.REPLAYABLE_NOISE in device.spec.capabilities:
        device.restore(saved)


def jittered(nominal: Float[Array, " M"], repeats: int) -> Float[Array, "R M 2"]:
    """Pairs a (1 + d), a (1 - d), d between 3 and 10 percent, another for every repeat."""
    jitter = MEAN_JITTER + 0.07 * ((0.618034 * np.arange(repeats)) % 1.0 - 0.5)
    return nominal[None, :, None] * (1.0 + jitter[:, None, None] * np.array([1.0, -1.0]))
