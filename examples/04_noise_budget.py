"""How much noise and mismatch may a chip have and still learn digits? Draws accuracies to noise_budget.png."""

from functools import cache

import numpy as np
from matplotlib.figure import Figure

from hwsim import Digits, EquilibriumPropagation, FiniteHorizonEP, LeakyNetwork, NoisePath, SimulatedDevice, settle_free
from hwsim.devices.imperfections import Asymmetry, Mismatch, ThermalNoise
from hwsim.training import Adam, Trainer

SIGMAS, SPREADS, UPDATES, EVALUATION = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0), (0.0, 0.1, 0.3, 0.6, 1.0), 150, 2**32 - 1
EP, FINITE = EquilibriumPropagation().clipped(norm=20), FiniteHorizonEP().clipped(norm=20)  # noise makes outliers
# name -> rule, and whether the chip that learns has the mismatch of the chip that is tested
WAYS = {"EP in place": (EP, 1), "finite-horizon EP in place": (FINITE, 1), "EP without mismatch, then copied": (EP, 0)}
task, network, noise = Digits(units=32), LeakyNetwork.dense(32, 64), NoisePath(seed=1)
start = network.initial(seed=1, gain=0.5, input_gain=0.5) | task.initial_readout(seed=1, gain=1.0)


def chip(sigma, spread):
    """One die: gains, time constants and the two directions of its couplings differ by a relative sd `spread`."""
    uneven = [Mismatch(gain=spread, time_constant=spread, log_normal=True), Asymmetry(sigma=spread)]
    return SimulatedDevice(network, horizon=20, imperfections=[*uneven, ThermalNoise(sigma=sigma)])


@cache
def trained(rule, sigma, spread):
    device, adam = chip(sigma, spread), Adam(learning_rate=1e-2)
    trainer = Trainer(device=device, rule=rule, task=task, optimiser=adam, batch_size=32, seed=1, noise=noise)
    state = trainer.start(start.freeze(*start.readout))  # so that all that is learned is learned on the chip
    while state.step < UPDATES and not state.diverged:
        state, _ = trainer.advance(state)
    return state.theta


def accuracy(device, theta):
    held, test = device.program(theta), task.validation
    settled, _ = settle_free(device, test, EP.needs, noise.at_step(EVALUATION))
    return 100 * task.accuracy(settled.final, test.targets, held)


figure = Figure(figsize=(12, 4), layout="constrained")
panels, grids = figure.subplots(1, 3, sharey=True), []
for panel, (name, (rule, own)) in zip(panels, WAYS.items(), strict=True):
    grid = np.array([[accuracy(chip(q, s), trained(rule, q, s * own)) for q in SIGMAS] for s in SPREADS])
    image = panel.imshow(grid, vmin=20, vmax=100, cmap="YlGnBu_r", origin="lower", aspect="auto")
    panel.contour(np.kron(grid, np.ones((50, 50))), [84.5], colors="crimson", extent=(-0.5, 5.5, -0.5, 4.5))
    for (row, column), value in np.ndenumerate(grid):
        panel.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 60 else "white")
    panel.set(title=name, xlabel="thermal noise, rms / state units", xticks=range(6), xticklabels=SIGMAS)
    print(f"{name}: % correct, mismatch down, noise across {SIGMAS}")
    print(*(f"{s:5.0%}  " + " ".join(f"{v:5.1f}" for v in row) for s, row in zip(SPREADS, grid, strict=True)), sep="\n")
    grids.append(grid)
panels[0].set(ylabel="mismatch, relative sd", yticks=range(5), yticklabels=[f"{s:.0%}" for s in SPREADS])
figure.colorbar(image, ax=panels, label="held-out digits correct / %  (red line: 85 %)")
figure.savefig("noise_budget.png", dpi=120)

assert np.min(grids[:2], axis=0)[:, :3].min() > 85, "chips with a noise of 0.3 no longer learn digits in place"
assert (grids[0] > grids[2] + 10)[-1, :4].all(), "learning in place no longer makes up for mismatch"
