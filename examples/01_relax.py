"""Relax a small analog network: to rest, under noise, and beside a twin. Draws the trajectories to relax.png."""

import numpy as np
from matplotlib.figure import Figure

from hwsim import LeakyNetwork, NoisePath, Phase, Plan, SimulatedDevice, ThermalNoise, spectral_radius

UNITS, INPUTS, STEPS, KICK = 8, 3, 120, 60

network = LeakyNetwork.dense(UNITS, INPUTS)
device = SimulatedDevice(network, horizon=STEPS, step_size=0.1, imperfections=[ThermalNoise(sigma=0.02)])
theta = device.program(network.initial(seed=1, gain=0.9, input_gain=1.0))

# One input on two lanes. Lanes with the same sample id share their noise, so the second is a twin of the first:
# it is kicked half-way and finds its way back at the rate that the spectral radius tells.
inputs = np.tile([[1.0, -0.5, 0.25]], (2, 1))
kick = np.zeros((2, UNITS))
kick[1] = 0.5
settle, probe = Phase(steps=KICK, record=1), Phase(steps=STEPS - KICK, displace=kick, record=1)
plan = Plan(inputs=inputs, ids=np.zeros(2, int), phases=(settle, probe))
first, second = device.relax(plan, noise=NoisePath(seed=7))

states = np.concatenate([first.recorded, second.recorded])  # [time, lane, unit]
time = np.concatenate([np.arange(KICK + 1), np.arange(KICK, STEPS + 1)]) * device.spec.step_size
distance = np.linalg.norm(states[:, 1] - states[:, 0], axis=1)
rho = spectral_radius(network, theta, inputs[:1], second.final[:1], device.spec.step_size)[0]

print(f"outcome: {second.worst.name.lower()}, residual {second.residual[0]:.3f} per time constant (noise included)")
slowest = np.log(rho) / device.spec.step_size
print(f"spectral radius {rho:.3f}: the slowest mode decays at {slowest:.2f} per time constant")
rate = np.log(distance[-1] / distance[-31]) / (30 * device.spec.step_size)
print(f"the twin came back at {rate:.2f} per time constant, from {distance[KICK + 1]:.2f} to {distance[-1]:.1e}")

figure = Figure(figsize=(8, 5), layout="constrained")
top, bottom = figure.subplots(2, sharex=True)
top.plot(time, states[:, 0], color="tab:blue", linewidth=1)
top.plot(time, states[:, 1], color="tab:orange", linewidth=1, linestyle="--")
top.set(ylabel="state z", title="A network settles (blue); its twin is kicked at half time (orange)")
bottom.semilogy(time[KICK + 1 :], distance[KICK + 1 :], color="black")
bottom.set(xlabel="time / time constant", ylabel="distance of the twins")
figure.savefig("relax.png", dpi=120)
