"""Train a noisy device on handwritten digits by equilibrium propagation and by finite-horizon EP."""

import numpy as np

from hwsim import (
    ADC,
    Adam,
    Digits,
    EquilibriumPropagation,
    FiniteHorizonEP,
    LeakyNetwork,
    NoisePath,
    Phase,
    Plan,
    SimulatedDevice,
    ThermalNoise,
    Trainer,
)

STEPS, EVALUATION = 600, 2**32 - 1

task = Digits(units=64)
network = LeakyNetwork.dense(64, task.inputs)
theta = network.initial(seed=1, gain=0.5, input_gain=0.5) | task.initial_readout(seed=1, gain=0.5)
noise = NoisePath(seed=1)
held_out = task.validation

for rule in (EquilibriumPropagation(), FiniteHorizonEP()):
    device = SimulatedDevice(network, horizon=30, imperfections=[ThermalNoise(sigma=0.05), ADC(bits=10)])
    trainer = Trainer(
        device=device,
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=3e-3),
        batch_size=64,
        seed=1,
        noise=noise,
    )
    state = trainer.start(theta)
    while state.step < STEPS and not state.diverged:
        state, estimate = trainer.advance(state)

    held = device.program(state.theta)
    deployed = Plan(inputs=held_out.inputs, ids=held_out.ids, phases=(Phase(steps=30),))
    (settled,) = device.relax(deployed, noise=noise.at_step(EVALUATION))
    accuracy = task.accuracy(settled.final, held_out.targets, held)
    loss = float(task.loss(settled.final, held_out.targets, held))
    seconds = state.cost.steps * device.spec.dt
    print(f"{type(rule).__name__:23s} accuracy {accuracy:.1%}  L(z_T) {loss:.3f} nats  {seconds:.2f} s of device time")
    assert accuracy > 0.95, f"{type(rule).__name__} reached only {accuracy:.1%} on held-out digits"
    assert np.isfinite(loss)
