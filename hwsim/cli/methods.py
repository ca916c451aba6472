"""The methods of the verdict, assembled: the only place where tasks, devices and rules meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from hwsim.contracts.device import DeviceSpec
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, RandomStart, Rest, Start
from hwsim.contracts.rule import LearningRule, require
from hwsim.contracts.substrate import Substrate
from hwsim.contracts.task import Task
from hwsim.devices import ADC, Engine, Imperfection, SimulatedDevice, Stepwise, ThermalNoise, TorchEngine
from hwsim.devices.imperfections import Mismatch
from hwsim.learning_rules import CoupledLearning
from hwsim.learning_rules.homeostat import ContractionHomeostat, ContractionHomeostatJVP
from hwsim.learning_rules.regularisers import Regulariser
from hwsim.reference import BPTT, EquilibriumAdjoint, Place
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Classification, Digits, NextCharacter, python_documentation, read_text
from hwsim.tasks.text import CONTEXT
from hwsim.training import Adam, Trainer
from hwsim.verdict import Evaluator
from hwsim.verdict.record import METHOD

from .options import Settings
from .rules import Term, terms_named

EVALUATION = 2**32 - 1
"""Experiment step of the noise under which everything is evaluated: beyond every training step."""
WARMUP_SEED, WARMUP_REPEAT = 2**32, 2**15
"""Added to the seed of the samples and to the noise's repeat in the warm-up, so that training repeats neither."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """One run, ready to go.

    Args:
        trainer, evaluator: what advances, and what measures.
        begin: the parameters of the common start, warmed up where asked, which takes as many updates.
    """

    trainer: Trainer
    evaluator: Evaluator
    begin: Callable[[], Parameters]


def task_of(settings: Settings) -> Classification:
    """The task; raises InputError on unusable text."""
    if settings.task == "digits":
        return Digits(units=settings.units)
    text = python_documentation() if settings.text is None else read_text(Path(settings.text))
    return NextCharacter(text=text, units=settings.units)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to learn, as the verdict runs it.

    Args:
        name: as asked for.
        rule: whose gradient is compared with BPTT's, without regularisers: they estimate another objective's.
        training: what trains: `rule` clipped, and the regularisers.
        terms: what must be served by the device, each by itself.
    """

    name: str
    rule: LearningRule
    training: LearningRule
    terms: tuple[Term, ...]

    def check(self, spec: DeviceSpec, task: Task) -> None:
        """Raise CapabilityError, naming rules that would work, where the device or the task cannot serve it."""
        for term in self.terms:
            try:
                require(term.rule, spec, task)
            except CapabilityError as error:
                raise CapabilityError(f"method {self.name}: {error}") from None


def method_named(name: str, settings: Settings) -> Method:
    """One of the verdict's own methods, or rules by name as in `rules.rule_named`, with the settings' amplitudes.

    Terms that have an amplitude of their own in state units (`nudge`, `kick`) take `settings.amplitude` where it is
    told. A contraction homeostat takes the settings' set-point, and their weight where it is not given one.

    Raises:
        InputError: no such name, a weight that is no number, or an amplitude that a rule cannot take.
    """
    if METHOD.fullmatch(name) is None:
        raise InputError(f"unknown method {name!r}: names are letters, digits and _ . + * -, 120 at most")
    place = Place.named(settings.reference_device)
    own: dict[str, LearningRule] = {"bptt": BPTT(place=place), "equilibrium_adjoint": EquilibriumAdjoint(place=place)}
    asked = "ep+homeostat" if name == "ep_homeostat" else name
    try:
        terms = tuple(_set_up(term, settings) for term in terms_named(asked, own))
    except InputError as error:
        raise InputError(f"unknown method {name!r}: {error}") from None
    tasks = [term for term in terms if not isinstance(term.rule, Regulariser)]
    regularisers = [term for term in terms if isinstance(term.rule, Regulariser)]
    rule = _sum(tasks or regularisers)
    training = rule if settings.clip is None or not tasks else rule.clipped(settings.clip)
    if tasks and regularisers:
        training = training + _sum(regularisers)
    return Method(name=name, rule=rule, training=training, terms=terms)


def _set_up(term: Term, settings: Settings) -> Term:
    rule = term.rule
    if isinstance(rule, ContractionHomeostat | ContractionHomeostatJVP):
        weight = settings.homeostat_weight if term.weight is None else term.weight
        return replace(term, rule=replace(rule, target=settings.homeostat_target), weight=weight)
    # the nudge of coupled learning is a fraction of the way to a target, no length
    if settings.amplitude is not None and is_dataclass(rule) and not isinstance(rule, CoupledLearning):
        lengths = {each.name for each in fields(rule)} & {"nudge", "kick"}
        rule = replace(rule, **dict.fromkeys(lengths, settings.amplitude))
    return replace(term, rule=rule)


def _sum(terms: Sequence[Term]) -> LearningRule:
    rules = [term.rule if term.weight is None else term.weight * term.rule for term in terms]
    total = rules[0]
    for rule in rules[1:]:
        total = total + rule
    return total


def check_methods(task: Classification, settings: Settings) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        InputError: no such method, or no such reference device.
        CapabilityError: the device or the task cannot serve a method.
    """
    spec = device_of(LeakyNetwork.dense(settings.units, task.inputs), settings).spec
    for name in settings.methods:
        method_named(name, settings).check(spec, task)


def compose(method: str, seed: int, task: Classification, settings: Settings) -> Composition:
    """Everything that one run needs."""
    network = LeakyNetwork.dense(settings.units, task.inputs)
    fan_in = CONTEXT if isinstance(task, NextCharacter) else None
    analog = network.initial(seed, gain=settings.gain, input_gain=settings.input_gain, input_fan_in=fan_in)
    initial = analog | task.initial_readout(seed, settings.readout_gain)
    chosen = method_named(method, settings)
    noise = NoisePath(seed=seed)

    def trainer(rule: LearningRule, sample_seed: int, noise: NoisePath) -> Trainer:
        return Trainer(
            device=device_of(network, settings, seed=seed),
            rule=rule,
            task=task,
            optimiser=Adam(learning_rate=settings.learning_rate),
            batch_size=settings.batch,
            seed=sample_seed,
            noise=noise,
        )

    def begin() -> Parameters:
        reference = method_named("bptt", settings).training
        warming = trainer(reference, seed + WARMUP_SEED, noise.repeated(WARMUP_REPEAT))
        return _advanced(warming, initial, settings.warmup)

    evaluator = Evaluator(
        device=device_of(network, settings, seed=seed),
        task=task,
        rule=chosen.rule,
        noise=NoisePath(seed=seed, step=EVALUATION),
        place=Place.named(settings.reference_device),
    )
    return Composition(trainer=trainer(chosen.training, seed, noise), evaluator=evaluator, begin=begin)


def _advanced(trainer: Trainer, theta: Parameters, steps: int) -> Parameters:
    state = trainer.start(theta)
    for _ in range(steps):
        state, _ = trainer.advance(state)
    return state.theta


def device_of(network: Substrate, settings: Settings, *, seed: int = 0) -> SimulatedDevice:
    """The device that `settings` describe, with its imperfections; a new one at each call.

    Args:
        network: the physics.
        settings: of the device.
        seed: which chip is drawn, where chips differ.
    """
    imperfections: list[Imperfection] = []
    if settings.mismatch > 0.0:
        # log-normal, so that a spread of any size makes a chip that works
        spread = settings.mismatch
        imperfections.append(Mismatch(gain=spread, time_constant=spread, log_normal=True))
    if settings.noise > 0.0:
        imperfections.append(ThermalNoise(settings.noise))
    if settings.adc_bits is not None:
        imperfections.append(ADC(settings.adc_bits, settings.adc_range))
    starts: dict[str, Start] = {"rest": Rest(), "random": RandomStart(settings.start_sigma), "carry": Carry()}
    return SimulatedDevice(
        network,
        horizon=settings.horizon,
        step_size=settings.step_size,
        start=starts[settings.start],
        imperfections=imperfections,
        engine=engine_named(settings.engine),
        die_seed=seed if settings.mismatch > 0.0 else 0,
    )


def engine_named(text: str) -> Engine | None:
    """What `--engine` means; None for the fastest one on this machine's processor.

    Raises:
        InputError: a GPU that torch does not see.
    """
    name, _, device = text.partition(":")
    if name == "fused":
        return None
    if name == "stepwise":
        return Stepwise()
    try:
        return TorchEngine(Place(torch=device or "cpu"))
    except InputError as error:
        raise InputError(f"--engine {text}: {error}") from None
