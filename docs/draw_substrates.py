"""Draw the pictures of docs/physics/. From the repository root: python docs/draw_substrates.py [NAME ...]"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from draw_common import BLUE, FAINT, GREEN, INK, ORANGE, PINK, SKY, draw, frame, legend, sheet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from scipy.integrate import solve_ivp

from hwsim.contracts.arrays import namespace
from hwsim.contracts.errors import SpiceError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan, Start
from hwsim.contracts.substrate import Substrate
from hwsim.devices import Euler, Exponential, Heun, SimulatedDevice, ThermalNoise
from hwsim.devices.imperfections import Mismatch
from hwsim.diagnostics import find_equilibrium, spectral_radius
from hwsim.spice import Transient, export_netlist, find_ngspice, run
from hwsim.substrates import (
    Convolutional,
    Coupling,
    Dense,
    EnergyNetwork,
    FieldSubstrate,
    Hard,
    IdealDiode,
    Identity,
    Layered,
    LeakyNetwork,
    LinearLangevin,
    Logistic,
    Masked,
    OscillatorNetwork,
    Reciprocal,
    ReLU,
    ResistiveNetwork,
    Shockley,
    Softplus,
    Tanh,
    order_parameter,
)

FOLDER = Path("docs/physics")
NO_NOISE = NoisePath(seed=0)


def settle(
    substrate: Substrate, theta: Parameters, x: np.ndarray, steps: int, *, start: Start | None = None, **made: object
) -> np.ndarray:
    """[steps + 1, B, N] states of a settling without noise."""
    device = SimulatedDevice(substrate, horizon=steps, **made)
    device.program(theta)
    begin = {} if start is None else {"start": start}
    plan = Plan(inputs=x, ids=np.arange(len(x)), phases=(Phase(steps=steps, record=1),), **begin)
    return device.relax(plan, noise=NO_NOISE)[0].recorded


def exactly(substrate: Substrate, theta: Parameters, x: np.ndarray, times: np.ndarray) -> np.ndarray:
    """[K, N] the field's own solution from 0, to about 1e-11."""
    return solve_ivp(
        lambda _, z: substrate.field(z[None], x, theta)[0],
        (0.0, float(times[-1])),
        np.zeros(substrate.units),
        method="LSODA",
        t_eval=times,
        rtol=1e-11,
        atol=1e-13,
    ).y.T


# --- one function per picture -------------------------------------------------------------------------------------


def leaky() -> Figure:
    figure, (left, right) = sheet()
    x, eps, steps = np.array([[1.0, -0.5, 0.25]]), 0.1, 200
    small = LeakyNetwork.dense(8, 3)
    path = settle(small, small.initial(1, gain=0.9, input_gain=1.0), x, steps, step_size=eps)
    left.plot(eps * np.arange(steps + 1), path[:, 0], color=BLUE, linewidth=1.1)
    left.set_xlim(0, 15)
    frame(left, "Eight units settle from rest", "time  [time constants]", "state z  [state units]")
    large = LeakyNetwork.dense(64, 3)
    for gain, colour in ((0.5, GREEN), (1.0, BLUE), (1.4, ORANGE)):
        theta = large.initial(4, gain=gain, input_gain=1.0)
        path = settle(large, theta, x, steps, step_size=eps)[:, 0]
        there = find_equilibrium(large, theta, x, path[-1:])
        rho = float(spectral_radius(large, theta, x, there.z, eps)[0])
        distance = np.sqrt(np.mean((path - there.z) ** 2, axis=1))
        right.semilogy(distance, color=colour, linewidth=1.4, label=f"gain {gain}: rho = {rho:.3f}")
        shown = np.arange(100, steps + 1)
        right.semilogy(shown, 2.5 * distance[100] * rho ** (shown - 100.0), color=colour, linewidth=1, dashes=(4, 3))
    right.set_ylim(1e-8, 5)
    legend(right, loc="lower left")
    frame(right, "It goes as rho^t in the end (dashes)", "step t, eps = 0.1", "rms distance to z*  [state units]")
    return figure


def nonlinearities() -> Figure:
    figure, panels = sheet(3, height=2.5)
    z = np.linspace(-4, 4, 801)
    kinds = (
        (Tanh(), BLUE, "-"),
        (Logistic(), ORANGE, "-"),
        (Softplus(), GREEN, "-"),
        (ReLU(), INK, "--"),
        (Hard(), PINK, "--"),
        (Identity(), "#aaaaaa", ":"),
    )
    for r, colour, style in kinds:
        for ax, values in zip(panels, (r(z), r.slope(z), r.curvature(z)), strict=True):
            ax.plot(z, values, color=colour, linestyle=style, linewidth=1.4, label=type(r).__name__)
    for ax, name in zip(panels, ("rate r(z)", "slope r'(z)", "curvature r''(z)"), strict=True):
        frame(ax, name, "state z  [state units]", "")
    panels[0].set_ylim(-1.3, 2.6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return figure


def couplings() -> Figure:
    figure, panels = sheet(5, height=2.0)
    kinds: tuple[tuple[str, Coupling], ...] = (
        ("Dense(16)", Dense(16)),
        ("Reciprocal(16)", Reciprocal(16)),
        ("Layered((4, 8, 4))", Layered((4, 8, 4))),
        ("Masked.grid(4, 4)", Masked.grid(4, 4)),
        ("Convolutional(1, 4, 4)", Convolutional(1, 4, 4)),
    )
    for ax, (name, coupling) in zip(panels, kinds, strict=True):
        block = np.random.default_rng(3).standard_normal(coupling.shape)
        W = np.asarray(coupling.matrix(block))
        shown = ax.imshow(np.where(W == 0.0, np.nan, W), cmap="RdBu_r", vmin=-2.5, vmax=2.5)
        shown.cmap.set_bad("#f0f0f0")
        ax.set_title(f"{name}\n{block.size} parameters", fontsize=7.5, color=INK)
        ax.set_xlabel("from unit j", fontsize=8, color=FAINT)
        ax.set_xticks((0, 5, 10, 15))
        ax.set_yticks((0, 5, 10, 15), () if ax is not panels[0] else None)
        ax.tick_params(labelsize=7, colors=FAINT, length=2)
    panels[0].set_ylabel("to unit i", fontsize=8, color=FAINT)
    bar = figure.colorbar(shown, ax=panels, shrink=0.75, pad=0.01, aspect=12)
    bar.set_label("W_ij", fontsize=8, color=FAINT)
    bar.ax.tick_params(labelsize=7, colors=FAINT)
    return figure


def energy() -> Figure:
    figure, (left, right) = sheet()
    units, x = 24, np.zeros((64, 1))
    numbers = np.random.default_rng(5)
    half = numbers.standard_normal((units, units)) / np.sqrt(units)
    theta = Parameters({"W": 4.0 * half, "U": np.zeros((units, 1)), "b": 0.3 * numbers.standard_normal(units)})
    start = At(numbers.standard_normal((64, units)))
    network = EnergyNetwork.symmetric(units, 1)
    limit = 2.0 / network.curvature_bound(x, theta)
    for factor, colour in ((0.9, GREEN), (4.0, BLUE), (8.0, ORANGE)):
        path = settle(network, theta, x, 200, start=start, step_size=factor * limit)[:, :1]
        height = network.energy(path, x, theta)[:, 0]
        left.plot(height, color=colour, linewidth=1.3, label=f"eps = {factor * limit:.2f} = {factor:g} (2/L)")
    left.set_xlim(0, 100)
    legend(left, loc="center right", bbox_to_anchor=(1.0, 0.4))
    frame(left, "Energy along a settling (tanh)", "step", "E  [state units squared]")
    factors = np.concatenate([np.linspace(0.25, 1.0, 7), np.geomspace(1.02, 12.0, 40)])
    for r, name, colour in ((Identity(), "linear: tight", PINK), (Tanh(), "tanh: safe", BLUE)):
        network = EnergyNetwork.symmetric(units, 1, r)
        here = theta if isinstance(r, Tanh) else theta | {"W": 0.1 * theta["W"]}
        limit, share = 2.0 / network.curvature_bound(x, here), []
        for factor in factors:
            path = settle(network, here, x, 60, start=start, step_size=float(factor * limit))
            height = network.energy(path, x, here)
            rose = np.diff(height, axis=0) > 1e-12 * (np.abs(height[:-1]) + 1.0)
            share.append(100.0 * rose.any(axis=0).mean())
        right.semilogx(factors, share, ".-", color=colour, linewidth=1.2, markersize=4, label=name)
    right.axvline(1.0, color=INK, linewidth=1, dashes=(4, 3))
    right.set_xticks((0.25, 0.5, 1, 2, 4, 8), ("0.25", "0.5", "1", "2", "4", "8"))
    right.minorticks_off()
    legend(right, loc="center left")
    frame(right, "Settlings in which E rises at some step", "eps / (2 / L)", "share of 64 settlings  [%]")
    return figure


def resistive() -> Figure:
    figure, (left, right) = sheet()
    made = {"inputs": 4, "capacitance": 10e-12, "time_constant": 1e-6}
    network = ResistiveNetwork.layered((6, 2), diodes=Shockley(saturation_current=1e-13), **made)
    plain = ResistiveNetwork.layered((6, 2), **made)
    theta, x = network.initial(3, low=0.5e-6, high=8e-6), np.array([[2.5, -2.0, 1.5, 0.5]])
    steps, eps = 2000, 0.005
    path = settle(network, theta, x, steps, step_size=eps)[:, 0]
    time = 1e6 * eps * network.time_constant * np.arange(steps + 1)
    there = network.operating_point(x, theta)[0]
    for i in range(8):
        colour = ORANGE if i >= 6 else BLUE
        left.plot(time, path[:, i], color=colour, linewidth=1.2)
        left.plot([6.5, 10.0], [there[i]] * 2, color=INK, linewidth=1, dashes=(3, 2))
    left.set_xlim(0, 10)
    handles = [
        Line2D([], [], color=BLUE, label="hidden nodes"),
        Line2D([], [], color=ORANGE, label="output nodes"),
        Line2D([], [], color=INK, dashes=(3, 2), linewidth=1, label="exact DC solution"),
    ]
    legend(left, handles=handles, loc="lower right")
    frame(left, "Nodes settle on the operating point", "time  [us]", "voltage  [V]")
    sweep = np.linspace(-4, 4, 161)
    inputs = np.tile(x, (len(sweep), 1))
    inputs[:, 0] = sweep
    bent, straight = network.operating_point(inputs, theta), plain.operating_point(inputs, theta)
    for i, colour in ((0, BLUE), (2, SKY), (6, ORANGE)):
        right.plot(sweep, bent[:, i], color=colour, linewidth=1.5, label=f"node {i}" + (" (output)" if i == 6 else ""))
        right.plot(sweep, straight[:, i], color=colour, linewidth=1, linestyle=":")
    right.set_ylim(-1.3, 1.7)
    legend(right, loc="upper left")
    frame(right, "Diodes clip (dots: without them)", "source voltage x_0  [V]", "operating point  [V]")
    return figure


def oscillators() -> Figure:
    figure, (left, right) = sheet()
    units, width, eps = 600, 0.5, 0.02
    omega = width * np.tan(np.pi * ((np.arange(units) + 0.5) / units - 0.5))
    network = OscillatorNetwork(units=units, inputs=1, coupling=Dense(units))
    strengths = np.array([0.2, 0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.1, 2.6, 3.2])
    found = []
    for strength in strengths:
        theta = Parameters({"K": np.full((units, units), strength / units), "H": np.zeros((units, 1)), "omega": omega})
        device = SimulatedDevice(network, horizon=2500, step_size=eps)
        device.program(theta)
        phases = (Phase(steps=2000), Phase(steps=500, record=5))
        start = At(np.random.default_rng(0).uniform(-np.pi, np.pi, (1, units)))
        plan = Plan(inputs=np.zeros((1, 1)), ids=np.zeros(1, int), phases=phases, start=start)
        found.append(order_parameter(device.relax(plan, noise=NO_NOISE)[1].recorded).mean())
    curve = np.linspace(0.0, 3.4, 400)
    exact = np.sqrt(np.clip(1.0 - 2.0 * width / np.maximum(curve, 2.0 * width), 0.0, None))
    left.plot(curve, exact, color=INK, linewidth=1.2, label="sqrt(1 - K_c / K), N = infinity")
    left.plot(strengths, found, "o", color=BLUE, markersize=5, label=f"{units} oscillators")
    left.axhline(1.0 / np.sqrt(units), color=FAINT, linewidth=0.8, linestyle=":")
    left.text(3.4, 1.0 / np.sqrt(units) + 0.015, "1 / sqrt(N)", fontsize=8, color=FAINT, ha="right")
    left.set_ylim(0, 1.05)
    legend(left, loc="upper left")
    frame(left, "Synchronisation, Lorentzian frequencies", "coupling K  [rad per time constant]", "order parameter r")
    few = 12
    ring = Masked(few, tuple((i, (i + 1) % few) for i in range(few)), reciprocal=True)
    ising = OscillatorNetwork(units=few, inputs=1, coupling=ring, locking=0.4)
    theta = Parameters({"K": -np.ones(few), "H": np.zeros((few, 1)), "omega": np.zeros(few)})
    start = At(np.random.default_rng(4).uniform(-0.5 * np.pi, 1.5 * np.pi, (1, few)))
    path = settle(ising, theta, np.zeros((1, 1)), 600, start=start, step_size=0.02)[:, 0] / np.pi
    for i in range(few):
        right.plot(0.02 * np.arange(601), path[:, i], color=(BLUE, ORANGE)[i % 2], linewidth=1.2)
    right.set_yticks((-0.5, 0, 0.5, 1, 1.5), ("-pi/2", "0", "pi/2", "pi", "3 pi/2"))
    handles = [Line2D([], [], color=BLUE, label="even"), Line2D([], [], color=ORANGE, label="odd")]
    legend(right, handles=handles, loc="center right", bbox_to_anchor=(1.0, 0.7))
    frame(right, "A ring that repels, s = 0.4: up or down", "time  [time constants]", "phase  [rad]")
    return figure


def langevin() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1, 1.25))
    A = np.array([[1.0, -0.7], [-0.7, 1.4]])
    machine = LinearLangevin(units=2, inputs=1, coupling=Reciprocal(2))
    theta = Parameters({"A": A, "U": np.zeros((2, 1)), "b": np.array([0.2, 0.5])})
    drawn = sample(machine, theta, 4000, 0.1, Exponential)
    left.plot(*drawn[:600].T, ".", color=SKY, markersize=2.5)
    mean = machine.stationary_mean(np.zeros((1, 1)), theta)[0]
    for covariance, centre, colour, style, label in (
        (machine.stationary_covariance(theta, sigma=0.5), mean, INK, "-", "Lyapunov"),
        (np.cov(drawn.T), drawn.mean(axis=0), ORANGE, "--", "4000 samples"),
    ):
        values, vectors = np.linalg.eigh(covariance)
        angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
        axes = 4.0 * np.sqrt(values)  # two standard deviations to both sides
        ring = Ellipse(centre, axes[1], axes[0], angle=angle, fill=False, edgecolor=colour, linestyle=style, lw=1.6)
        left.add_patch(ring)
        left.plot([], [], color=colour, linestyle=style, label=label)
    left.set_aspect("equal", adjustable="datalim")
    legend(left, loc="lower right", fontsize=7.5)
    frame(left, "Stationary state, 2 sigma", "z_0  [state units]", "z_1  [state units]")
    cell = LinearLangevin(units=4, inputs=1, coupling=Reciprocal(4))
    theta = Parameters({"A": np.eye(4), "U": np.zeros((4, 1)), "b": np.zeros(4)})
    sizes = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.4])
    curve = np.linspace(0.0, 1.5, 200)
    right.plot(curve, 2.0 / (2.0 - curve), color=INK, linewidth=1.2, label="2 / (2 - eps)")
    for kind, colour, mark in ((Euler, BLUE, "o"), (Exponential, GREEN, "s")):
        ratios = [np.mean(sample(cell, theta, 5000, eps, kind) ** 2) / 0.25 for eps in sizes]
        error = 2.0 * np.sqrt(2.0 / 20000) * np.array(ratios)
        right.errorbar(sizes, ratios, error, fmt=mark, color=colour, markersize=4.5, label=f"{kind.__name__} steps")
    right.axhline(1.0, color=FAINT, linewidth=0.8, dashes=(4, 3))
    right.set_ylim(0.8, 4.2)
    legend(right, loc="upper left")
    frame(right, "Euler's steps inflate the variance", "step eps  [time constants]", "variance / sigma^2")
    return figure


def sample(machine: LinearLangevin, theta: Parameters, lanes: int, eps: float, kind: type[Euler | Exponential]):
    """[lanes, N] independent stationary states at sigma = 0.5."""
    steps = int(np.ceil(15.0 / eps))
    device = SimulatedDevice(
        machine, horizon=steps, step_size=eps, integrator=kind, imperfections=[ThermalNoise(sigma=0.5)]
    )
    device.program(theta)
    plan = Plan(inputs=np.zeros((lanes, 1)), ids=np.arange(lanes), phases=(Phase(steps=steps),))
    return device.relax(plan, noise=NoisePath(seed=1))[0].final


def integrators() -> Figure:
    figure, (left, right) = sheet(sharex=True)
    network = LeakyNetwork.dense(6, 2)
    theta, x = network.initial(3, gain=1.2, input_gain=1.0), np.array([[1.0, -0.5]])
    truth = exactly(network, theta, x, np.array([0.0, 2.0]))[-1]
    sizes = 2.0 ** -np.arange(1, 9)
    kinds = ((Euler, BLUE, "o"), (Heun, ORANGE, "^"), (Exponential, GREEN, "s"))
    for kind, colour, mark in kinds:
        errors = []
        for eps in sizes:
            path = settle(network, theta, x, round(2.0 / eps), step_size=float(eps), integrator=kind)
            errors.append(np.abs(path[-1, 0] - truth).max())
        left.loglog(sizes, errors, marker=mark, color=colour, linewidth=1.1, markersize=4.5, label=kind.__name__)
    for ax, anchor, order in ((left, 2e-2, 1), (left, 3e-4, 2), (right, 1.6e-2, 1)):
        ax.loglog(sizes, anchor * (sizes / 0.25) ** order, color=FAINT, linewidth=0.9, linestyle=":")
        ax.text(0.03, 0.6 * anchor * (0.03 / 0.25) ** order, f"slope {order}", fontsize=8, color=FAINT, va="top")
    legend(left, loc="lower right")
    frame(left, "Without noise, after 2 time constants", "step eps  [time constants]", "largest error  [state units]")
    fine, lanes, time = 2.0**-10, 100, 1.0

    def end(kind: type[Euler | Heun | Exponential], coarse: int) -> np.ndarray:
        device = SimulatedDevice(
            network, horizon=1, step_size=fine * coarse, integrator=kind, imperfections=[ThermalNoise(sigma=0.5)]
        )
        device.program(theta)
        phase = Phase(steps=round(time / fine / coarse))
        plan = Plan(inputs=np.tile(x, (lanes, 1)), ids=np.arange(lanes), phases=(phase,))
        return device.relax(plan, noise=NoisePath(seed=11).coarsen(coarse))[0].final

    truth = end(Heun, 1)
    for kind, colour, mark in kinds[:2]:
        errors = [np.sqrt(np.mean((end(kind, round(eps / fine)) - truth) ** 2)) for eps in sizes]
        right.loglog(sizes, errors, marker=mark, color=colour, linewidth=1.1, markersize=4.5, label=kind.__name__)
    legend(right, loc="lower right")
    frame(right, "With noise, on one Brownian path", "step eps  [time constants]", "rms error  [state units]")
    right.set_xticks((0.01, 0.1), ("0.01", "0.1"))
    return figure


def wells(z: np.ndarray, x: np.ndarray, theta: Parameters) -> np.ndarray:
    """The field of docs/physics/field.md."""
    K = (theta["K"] + theta["K"].T) / 2.0
    return theta["a"] * z - z**3 + z @ K + x @ theta["U"].T


def wells_energy(z: np.ndarray, x: np.ndarray, theta: Parameters) -> np.ndarray:
    K = (theta["K"] + theta["K"].T) / 2.0
    own = z**4 / 4.0 - theta["a"] * z * z / 2.0 - z * (z @ K) / 2.0 - z * (x @ theta["U"].T)
    return namespace(z).sum(own, axis=-1)


def field() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1, 1.2))
    cells = FieldSubstrate(
        function=wells, units=2, inputs=1, blocks={"K": (2, 2), "U": (2, 1), "a": (2,)}, energy_function=wells_energy,
        metric_function=lambda z, theta: namespace(z).ones_like(z),
    )  # fmt: skip
    K = np.array([[0.0, -0.35], [-0.35, 0.0]])
    theta = Parameters({"K": K, "U": np.array([[0.2], [0.0]]), "a": np.ones(2)})
    axis = np.linspace(-1.8, 1.8, 121)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    height = wells_energy(grid, np.ones((len(grid), 1)), theta).reshape(121, 121)
    levels = np.linspace(height.min(), 1.0, 14)
    left.contourf(axis, axis, height, levels, cmap="Blues_r", extend="max")
    angles = 2.0 * np.pi * np.arange(14) / 14.0 + 0.13
    starts = 1.65 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    path = settle(cells, theta, np.ones((14, 1)), 200, start=At(starts), step_size=0.05)
    left.plot(path[..., 0], path[..., 1], color=ORANGE, linewidth=1.0)
    left.plot(*path[0].T, ".", color=ORANGE, markersize=3)
    left.plot(*path[-1].T, "o", color=INK, markersize=4)
    left.set_aspect("equal")
    frame(left, "Two bistable cells that repel", "z_0  [state units]", "z_1  [state units]")
    left.grid(False)
    heights = wells_energy(path, np.ones((14, 1)), theta)
    right.plot(0.05 * np.arange(201), heights, color=ORANGE, linewidth=1.0)
    right.set_xlim(0, 6)
    frame(right, "Energy of the 14 settlings", "time  [time constants]", "E  [state units to the 4th]")
    return figure


def spice() -> Figure:
    figure, (left, right) = sheet()
    network = ResistiveNetwork.layered(
        (4, 2), inputs=3, capacitance=10e-12, diodes=IdealDiode(conductance_on=1e-4, threshold=0.1), amplification=3.0
    )
    eps, steps, x = 0.002, 3000, np.array([[1.0, -0.6, 0.8]])
    device = SimulatedDevice(
        network, horizon=steps, step_size=eps, integrator=Heun, die_seed=2, imperfections=[Mismatch(gain=0.05)]
    )
    held = device.program(network.initial(2, low=1e-6, high=1e-5))
    plan = Plan(inputs=x, ids=np.zeros(1, int), phases=(Phase(steps=steps, record=1),))
    ours = device.relax(plan, noise=NO_NOISE)[0].recorded[:, 0]
    netlist = export_netlist(device.model, held, x[0])
    trace = run(netlist, Transient(duration=eps * steps, max_step=0.02))
    exact = exactly(device.model, held, x, trace.time)
    clock = eps * np.arange(steps + 1)
    for i in range(6):
        colour = ORANGE if i >= 4 else BLUE
        left.plot(trace.time, 1e3 * trace.states[:, i], color=colour, linewidth=3.5, alpha=0.4)
        left.plot(clock, 1e3 * ours[:, i], color=INK, linewidth=1, dashes=(3, 2))
        right.semilogy(trace.time[1:], np.abs(trace.states - exact)[1:, i] + 1e-12, color=colour, linewidth=1.1)
    handles = [
        Line2D([], [], color=BLUE, linewidth=3.5, alpha=0.4, label="ngspice, hidden"),
        Line2D([], [], color=ORANGE, linewidth=3.5, alpha=0.4, label="ngspice, output"),
        Line2D([], [], color=INK, linewidth=1, dashes=(3, 2), label="hwsim, Heun steps"),
    ]
    legend(left, handles=handles, loc="center right", bbox_to_anchor=(1.0, 0.6))
    frame(left, "One settling, a die with 5 % mismatch", "time  [us]", "node voltage  [mV]")
    right.axhline(1e-4, color=INK, linewidth=1, dashes=(4, 3))
    right.text(6.0, 1.3e-4, "tolerance 100 uV", fontsize=8, color=INK, ha="right")
    right.set_ylim(1e-11, 1e-3)
    frame(right, "ngspice less the exact solution", "time  [us]", "|difference|  [V]")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    picture.__name__: picture
    for picture in (
        leaky, nonlinearities, couplings, energy, resistive, oscillators, langevin, field, integrators, spice,
    )
}  # fmt: skip


def main(names: list[str]) -> None:
    wanted = names or list(PICTURES)
    try:
        find_ngspice()
    except SpiceError as missing:
        sys.stderr.write(f"{FOLDER / 'spice.png'} is left as it is: {missing}\n")
        wanted = [name for name in wanted if name != "spice"]
    draw(FOLDER, wanted, PICTURES)


if __name__ == "__main__":
    main(sys.argv[1:])
