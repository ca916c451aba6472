"""Train a network of resistors and diodes on Iris by EP and by coupled learning. Draws a settling to resistive.png."""

import numpy as np
from matplotlib.figure import Figure

import hwsim as hw

HIDDEN, UPDATES, EVALUATION = 12, 250, 2**32 - 1

# 10 sources -> 12 nodes with diodes to ground -> amplifiers -> 6 nodes, read as 3 differences; bias sources 8 and 9
network = hw.ResistiveNetwork.layered(
    (HIDDEN, 6),
    inputs=10,
    capacitance=10e-12,
    diodes=hw.IdealDiode(conductance_on=100e-6, threshold=0.1),
    amplification=4.0,
    current_gain=1 / 4,
    bias=(8, 9),
    time_constant=0.1e-6,
)
outputs = tuple(range(HIDDEN, network.units))
task = hw.Iris(units=network.units, plus=outputs[:3], minus=outputs[3:])
theta = network.initial(seed=1, low=0.3e-6, high=3e-6)
# what a conductance is asked to be beyond its range is held at the border
chip = [hw.Range(low=0.1e-6, high=10e-6, clip=True), hw.ThermalNoise(temperature=300.0)]
noise, held_out = hw.NoisePath(seed=1), task.validation

for rule in (hw.EquilibriumPropagation(nudge=0.02, probe=hw.Natural()), hw.CoupledLearning(nudge=0.2)):
    device = hw.SimulatedDevice(network, horizon=200, step_size=0.4, imperfections=chip)
    adam = hw.Adam(learning_rate=0.1e-6)  # siemens per update
    trainer = hw.Trainer(device=device, rule=rule, task=task, optimiser=adam, batch_size=16, seed=1, noise=noise)
    state = trainer.start(theta)
    while state.step < UPDATES and not state.diverged:
        state, _ = trainer.advance(state)

    held = device.program(state.theta)
    deployed = hw.Plan(inputs=held_out.inputs, ids=held_out.ids, phases=(hw.Phase(steps=200, record=1),))
    (settled,) = device.relax(deployed, noise=noise.at_step(EVALUATION))
    accuracy = task.accuracy(settled.final, held_out.targets, held)
    loss, chance = (1e6 * float(each) for each in (task.loss(settled.final, held_out.targets, held), task.chance))
    print(f"{type(rule).__name__:23s} accuracy {accuracy:.0%}, loss {loss:.0f} mV^2 (chance {chance:.0f} mV^2)")
    assert accuracy >= 0.94, f"{type(rule).__name__} reached only {accuracy:.0%} on held-out flowers"

microseconds = 1e6 * device.spec.dt * np.arange(len(settled.recorded))
flower = int(np.argmax(held_out.targets[:, 2]))
voltages = 1e3 * settled.recorded[:, flower]
figure = Figure(figsize=(8, 5), layout="constrained")
top, bottom = figure.subplots(2, sharex=True)
top.plot(microseconds, voltages[:, :HIDDEN], color="tab:gray", linewidth=1)
top.set(ylabel="hidden nodes / mV", title="Node voltages settle on one flower, diodes bending them beyond +-100 mV")
for kind in range(3):
    bottom.plot(microseconds, voltages[:, outputs[kind]] - voltages[:, outputs[3 + kind]], label=f"kind {kind}")
bottom.set(xlabel="time / us", ylabel="prediction / mV")
bottom.legend(title="right: kind 2; target 100 mV")
figure.savefig("resistive.png", dpi=120)
