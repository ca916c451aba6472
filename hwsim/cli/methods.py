"""The five methods of the verdict, assembled: the only place where tasks, devices and rules meet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Carry, RandomStart, Rest, Start
from hwsim.contracts.rule import LearningRule
from hwsim.devices import ADC, Imperfection, SimulatedDevice, ThermalNoise
from hwsim.learning_rules import ContractionHomeostat, EquilibriumPropagation, FiniteHorizonEP
from hwsim.reference import BPTT, EquilibriumAdjoint
from hwsim.substrates import LeakyNetwork
from hwsim.tasks import Classification, Digits, NextCharacter, python_documentation, read_text
from hwsim.tasks.text import CONTEXT
from hwsim.training import Adam, Trainer
from hwsim.verdict import Evaluator

from .options import Settings

EVALUATION = 2**32 - 1
"""Experiment step of the noise under which everything is evaluated: beyond every training step."""
WARMUP_SEED, WARMUP_REPEAT = 2**32, 2**15
"""Added to the seed of the samples and to the noise's repeat in the warm-up, so that training repeats neither."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """One run, ready to go."""

    trainer: Trainer
    evaluator: Evaluator
    theta: Parameters


def task_of(settings: Settings) -> Classification:
    """The task; raises InputError on unusable text."""
    if settings.task == "digits":
        return Digits(units=settings.units)
    text = python_documentation() if settings.text is None else read_text(Path(settings.text))
    return NextCharacter(text=text, units=settings.units)


def rules_of(method: str, settings: Settings) -> tuple[LearningRule, LearningRule]:
    """The rule whose gradient is compared with BPTT, and the rule that trains (clipped, regularised)."""
    equilibrium_propagation = EquilibriumPropagation(nudge=settings.amplitude)
    rule: LearningRule = {
        "bptt": BPTT(),
        "equilibrium_adjoint": EquilibriumAdjoint(),
        "ep": equilibrium_propagation,
        "ep_homeostat": equilibrium_propagation,
        "finite_horizon_ep": FiniteHorizonEP(kick=settings.amplitude),
    }[method]
    training = rule if settings.clip is None else rule.clipped(settings.clip)
    if method == "ep_homeostat":
        training = training + settings.homeostat_weight * ContractionHomeostat(target=settings.homeostat_target)
    return rule, training


def compose(method: str, seed: int, task: Classification, settings: Settings) -> Composition:
    """Everything that one run needs. The parameters are those of the common start, warmed up where asked."""
    network = LeakyNetwork.dense(settings.units, task.inputs)
    fan_in = CONTEXT if isinstance(task, NextCharacter) else None
    analog = network.initial(seed, gain=settings.gain, input_gain=settings.input_gain, input_fan_in=fan_in)
    theta = analog | task.initial_readout(seed, settings.readout_gain)
    rule, training = rules_of(method, settings)
    noise = NoisePath(seed=seed)

    def trainer(rule: LearningRule, sample_seed: int, noise: NoisePath) -> Trainer:
        return Trainer(
            device=_device(network, settings),
            rule=rule,
            task=task,
            optimiser=Adam(learning_rate=settings.learning_rate),
            batch_size=settings.batch,
            seed=sample_seed,
            noise=noise,
        )

    if settings.warmup:
        _, reference = rules_of("bptt", settings)
        theta = _advanced(trainer(reference, seed + WARMUP_SEED, noise.repeated(WARMUP_REPEAT)), theta, settings.warmup)
    evaluator = Evaluator(
        device=_device(network, settings), task=task, rule=rule, noise=NoisePath(seed=seed, step=EVALUATION)
    )
    return Composition(trainer=trainer(training, seed, noise), evaluator=evaluator, theta=theta)


def _advanced(trainer: Trainer, theta: Parameters, steps: int) -> Parameters:
    state = trainer.start(theta)
    for _ in range(steps):
        state, _ = trainer.advance(state)
    return state.theta


def _device(network: LeakyNetwork, settings: Settings) -> SimulatedDevice:
    imperfections: list[Imperfection] = []
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
    )
