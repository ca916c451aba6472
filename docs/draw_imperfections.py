"""Draw the pictures of docs/physics/imperfections/. From the root: python docs/draw_imperfections.py [NAME ...]"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from draw_common import BLUE, FAINT, GREEN, INK, ORANGE, PINK, SKY, draw, frame, legend, sheet
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.signal import welch

from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Phase, Plan
from hwsim.contracts.scale import Scale
from hwsim.devices import PRESETS, Euler, Exponential, SimulatedDevice
from hwsim.devices.imperfections import (
    ADC,
    SARADC,
    Asymmetry,
    ConstantStep,
    Context,
    Crosstalk,
    DeadUnits,
    Drift,
    FlickerNoise,
    Imperfection,
    LineResistance,
    Mismatch,
    PulsedUpdate,
    Quantise,
    Rails,
    ReadNoise,
    SampleSkew,
    SlewRate,
    Source,
    StuckAt,
    TelegraphNoise,
    ThermalNoise,
    WriteVerify,
    cmo_reram_programming,
    ecram,
    hermes_programming,
    idealised,
    inl_dnl,
    pcm_programming,
    pelgrom,
    reram_array,
    reram_programming,
    reram_soft_bounds,
    sonos_programming,
    transitions,
)
from hwsim.devices.imperfections.pulses import symmetry_point
from hwsim.substrates import LeakyNetwork
from hwsim.training import OpenLoopPulses

FOLDER = Path("docs/physics/imperfections")
NO_NOISE = NoisePath(seed=0)
SCALE = Scale()
US = 1e-6


def context(*, scale: Scale = SCALE, event: int = 0, read: int = 0, elapsed: float = 0.0) -> Context:
    """What an imperfection may know, outside a device."""
    return Context(
        scale=scale,
        fixed=Source(path=NoisePath(seed=1), stream=Stream.FIXED, position=0),
        program=Source(path=NoisePath(seed=2, step=event), stream=Stream.PROGRAM, position=0),
        read=Source(path=NoisePath(seed=3, step=read), stream=Stream.CELL, position=0),
        elapsed=elapsed,
        step_size=0.1,
    )


def settle(device: SimulatedDevice, theta: Parameters, x: np.ndarray, steps: int) -> np.ndarray:
    """[steps + 1, B, N] states as read while settling from rest."""
    device.program(theta)
    plan = Plan(inputs=x, ids=np.arange(len(x)), phases=(Phase(steps=steps, record=1),))
    return device.relax(plan, noise=NO_NOISE)[0].recorded


def process(imperfection: FlickerNoise | TelegraphNoise, steps: int, dt: float, lanes: int) -> np.ndarray:
    """[steps, lanes] a noise current by itself."""
    streams = [np.random.default_rng([4, k]) for k in range(16)]

    def deviates(component: int, count: int) -> np.ndarray:
        return streams[component].standard_normal((count, lanes, 1))

    state = imperfection.begin(deviates, SCALE)
    return imperfection.advance(state, steps, dt, deviates, SCALE)[0][:, :, 0]


def bell(x: np.ndarray, mean: float, sd: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


# --- mismatch -----------------------------------------------------------------------------------------------------


def mismatch() -> Figure:
    figure, (left, right) = sheet()
    wide, s = LeakyNetwork.dense(150, 1), 0.3
    x = np.linspace(0.01, 2.6, 300)
    for log_normal, colour, law in (
        (False, BLUE, bell(x, 1.0, s)),
        (True, ORANGE, bell(np.log(x), 0.0, s) / x),
    ):
        chip = SimulatedDevice(wide, horizon=1, imperfections=[Mismatch(gain=s, log_normal=log_normal)]).chip
        height, edges = np.histogram(chip.gain["W"], np.linspace(0, 2.6, 53), density=True)
        left.plot((edges[1:] + edges[:-1]) / 2, height, "o", color=colour, markersize=3)
        left.plot(x, law, color=colour, linewidth=1.4, label="log-normal" if log_normal else "normal")
    legend(left)
    frame(left, "22 500 gains of one die (dots), s_g = 0.3", "gain", "density")
    side, relative = np.geomspace(0.3, 30, 9) * 1e-6, 1e-8
    pairs = []
    for edge in side:
        one = Mismatch.pelgrom(relative, edge, edge)
        gain = SimulatedDevice(wide, horizon=1, imperfections=[one]).chip.gain["W"].ravel()
        pairs.append(np.std(gain[::2] - gain[1::2]))
    area = 1e12 * side**2
    right.loglog(area, 100 * np.array(pairs), "o", color=BLUE, markersize=4.5, label="11 250 neighbours, drawn")
    for distance, dashes in ((0.0, (None, None)), (1e-3, (4, 2))):
        law = [pelgrom(relative, edge, edge, 4.0, distance) for edge in side]
        label = f"law, D = {1e3 * distance:g} mm"
        right.loglog(area, 100 * np.array(law), color=INK, linewidth=1.1, dashes=dashes, label=label)
    legend(right)
    frame(right, "Pelgrom: A = 1 % um, S = 4 / m", "area W L  [um^2]", "sd of a difference  [%]")
    return figure


def asymmetry() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1, 1.25), height=2.9)
    network = LeakyNetwork.symmetric(48, 1)
    theta, upper = network.initial(1, gain=1.0, input_gain=1.0), np.triu_indices(48, 1)

    def acting(sigma: float) -> np.ndarray:
        device = SimulatedDevice(network, horizon=1, imperfections=[Asymmetry(sigma=sigma)])
        device.program(theta)
        return np.asarray(device.real["W"])

    for sigma, colour in ((0.2, ORANGE), (0.05, BLUE)):
        W = acting(sigma)
        left.plot(W[upper], W.T[upper], ".", color=colour, markersize=2.5, label=f"s = {sigma}")
    left.plot([-0.6, 0.6], [-0.6, 0.6], color=INK, linewidth=0.8)
    left.set(xlim=(-0.6, 0.6), ylim=(-0.6, 0.6))
    legend(left, markerscale=3)
    frame(left, "One conductance, two directions", "coupling W_ij", "coupling W_ji")
    sizes = np.geomspace(1e-3, 0.3, 9)
    found = []
    for sigma in sizes:
        W = acting(sigma)
        found.append(np.linalg.norm((W - W.T)[upper]) / np.linalg.norm(W[upper]))
    right.loglog(sizes, found, "o", color=BLUE, markersize=4.5, label="drawn")
    right.loglog(sizes, np.sqrt(2) * sizes, color=INK, linewidth=1.1, label="sqrt(2) s")
    legend(right)
    frame(right, "What is no longer reciprocal", "asymmetry s", "|W - W^T| / |W|, off the diagonal")
    return figure


# --- noise --------------------------------------------------------------------------------------------------------


def thermal() -> Figure:
    figure, (left, right) = sheet()
    lone, sigma = LeakyNetwork.dense(1, 1), 0.05
    still = Parameters({"W": np.zeros((1, 1)), "U": np.zeros((1, 1)), "b": np.zeros(1)})
    noisy = SimulatedDevice(lone, horizon=400, imperfections=[ThermalNoise(sigma)])
    path = settle(noisy, still, np.zeros((1, 1)), 400)[:, 0, 0]
    left.plot(0.1 * np.arange(401), path, color=BLUE, linewidth=0.9)
    left.axhspan(-sigma, sigma, color="#e4e4e4", zorder=0)
    frame(left, "One leaky unit (band: +- sqrt(kT / C))", "time  [time constants]", "state z  [state units]")
    lanes = 100_000
    begin = sigma * np.random.default_rng(1).standard_normal((lanes, 1))
    for integrator, colour, law, label in (
        (Euler, ORANGE, lambda eps: 2 / (2 - eps), "Euler: 2 / (2 - eps)"),
        (Exponential, GREEN, np.ones_like, "exponential: exact"),
    ):
        sizes, found = np.linspace(0.05, 1.5, 11), []
        for eps in sizes:
            device = SimulatedDevice(
                lone, horizon=1, step_size=eps, integrator=integrator, imperfections=[ThermalNoise(sigma)]
            )
            device.program(still)
            steps = int(np.ceil(6 / eps))
            plan = Plan(
                inputs=np.zeros((lanes, 1)), ids=np.arange(lanes), phases=(Phase(steps=steps),), start=At(begin)
            )
            found.append(np.var(device.relax(plan, noise=NO_NOISE)[0].final) / sigma**2)
        fine = np.linspace(0.02, 1.55, 100)
        right.plot(fine, law(fine), color=colour, linewidth=1.4, label=label)
        right.plot(sizes, found, "o", color=colour, markersize=4)
    legend(right)
    frame(right, "100 000 drawn lanes (dots)", "step eps  [time constants]", "variance / (kT / C)")
    return figure


def flicker() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1, 1.25))
    noise, rate, length = FlickerNoise(sigma=0.1, lowest=1.0, highest=1e4, per_decade=2), 1e5, 2**18
    current = process(noise, length, 1 / rate, 16)
    shown = np.arange(0, int(rate), 64) + 1
    left.plot(shown / rate, current[shown, 0], color=BLUE, linewidth=0.6)
    frame(left, "One second of 1/f current", "time  [s]", "current  [state units / tau]")
    frequency, power = welch(current, rate, nperseg=length // 2, axis=0)
    edges = np.geomspace(0.9, 5e4, 70)
    places = np.digitize(frequency, edges)
    kept = [k for k in range(1, len(edges)) if (places == k).any()]
    centre = np.array([frequency[places == k].mean() for k in kept])
    right.loglog(centre, [power[places == k].mean() for k in kept], ".", color=BLUE, label="drawn, 16 traces")
    fine = np.geomspace(0.2, 5e4, 300)
    right.loglog(fine, noise.density(fine), color=ORANGE, linewidth=1.4, label="stated density S(f)")
    band = np.geomspace(1, 1e4, 2)
    right.loglog(band, 0.1**2 / (band * np.log(1e4)), color=INK, linewidth=1, dashes=(4, 3), label="slope -1")
    legend(right)
    frame(right, "Density, 1 Hz to 10 kHz", "frequency  [Hz]", "S  [(state units / tau)^2 / Hz]")
    return figure


def telegraph() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1.35, 1))
    noise, dt = TelegraphNoise(amplitude=0.1, capture=2e-6, emission=1e-6), 1e-8
    current = process(noise, 200_000, dt, 60)
    left.step(1e6 * dt * np.arange(3000), current[:3000, 0], color=BLUE, linewidth=1, where="post")
    frame(left, "One trap", "time  [us]", "current  [state units / tau]")
    full = current > 0.05
    for state, mean, colour, word in ((False, 2.0, BLUE, "empty"), (True, 1.0, ORANGE, "full")):
        dwells = np.concatenate([_dwells(full[:, lane], state) for lane in range(full.shape[1])]) * dt * 1e6
        height, edges = np.histogram(dwells, np.linspace(0, 10, 41), density=True)
        right.semilogy((edges[1:] + edges[:-1]) / 2, height, ".", color=colour)
        t = np.linspace(0, 10, 50)
        right.semilogy(t, np.exp(-t / mean) / mean, color=colour, linewidth=1.2, label=f"{word}: mean {mean:g} us")
    right.set_ylim(1e-4, 2)
    legend(right)
    frame(right, "Dwell times (dots) are exponential", "dwell  [us]", "density  [1 / us]")
    return figure


def _dwells(full: np.ndarray, state: bool) -> np.ndarray:
    """Lengths, in samples, of all whole stretches in one state."""
    change = np.flatnonzero(full[1:] != full[:-1]) + 1
    lengths, first = np.diff(change), full[change[:-1]]
    return lengths[first == state]


# --- converters ---------------------------------------------------------------------------------------------------


def adc() -> Figure:
    figure, (curve, bars, density) = sheet(3, height=2.7)
    small = ADC(4, 1.0, dnl=0.3)
    ramp = np.linspace(-1.25, 1.25, 2001)[:, None, None]
    read, clipped = small.read(ramp, ramp, _nothing, context())
    curve.plot(ramp[:, 0, 0], ramp[:, 0, 0], color="#aaaaaa", linewidth=0.8)
    curve.plot(ramp[:, 0, 0], read[:, 0, 0], color=BLUE, linewidth=1.3)
    over = np.where(clipped[:, 0, 0], read[:, 0, 0], np.nan)
    curve.plot(ramp[:, 0, 0], over, color=ORANGE, linewidth=2.2, label="clips: SATURATED")
    legend(curve, loc="upper left")
    frame(curve, "4 bits, DNL 0.3 LSB rms", "state z", "read")
    large = ADC(8, 1.0, dnl=0.1)
    inl, dnl = (part[0] for part in inl_dnl(transitions(large, context(), 1)))
    bars.vlines(np.arange(-127, 127), 0, dnl, color=SKY, linewidth=0.7, label="DNL")
    bars.plot(np.arange(-127, 128), inl, color=BLUE, linewidth=1.3, label="INL")
    k = np.arange(255)
    tied = 0.1 * np.sqrt(k * (254 - k) / 254)
    for sign in (1, -1):
        bars.plot(k - 127, sign * tied, color=INK, linewidth=0.9, dashes=(4, 3), label="INL rms" * (sign > 0) or None)
    legend(bars, loc="lower center", ncols=3, columnspacing=0.9, handlelength=1.1, handletextpad=0.4)
    bars.set_ylim(-2.1, 1.1)
    frame(bars, "8 bits, DNL 0.1 LSB rms", "code", "LSB")
    samples = 1000
    fine = (np.arange(-128 * samples, 128 * samples) + 0.5)[:, None, None] / samples * large.lsb
    codes = np.rint(large.read(fine, fine, _nothing, context())[0] / large.lsb).astype(int).ravel() + 128
    counts = np.bincount(codes, minlength=256)[1:-1] / samples - 1.0
    density.plot(dnl, counts, ".", color=BLUE, markersize=3)
    ends = [dnl.min(), dnl.max()]
    density.plot(ends, ends, color=INK, linewidth=0.8)
    frame(density, "Code density of a ramp", "DNL of the levels  [LSB]", "hits / expected - 1")
    return figure


def _nothing(component: int, steps: int) -> np.ndarray:
    raise AssertionError("a converter draws nothing per read")


def sar() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1.35, 1))
    units, bits, mismatch = 400, 7, 0.01
    converter = SARADC(bits, 1.0, mismatch=mismatch)
    steps = np.diff(transitions(converter, context(), units), axis=1) / converter.lsb - 1.0
    codes = np.arange(2, 2**bits)
    left.vlines(codes, 0, steps.std(axis=0), color=SKY, linewidth=1.3, label="400 converters")
    set_bit = 2 ** np.arange(1, bits)
    law = mismatch * np.sqrt(2.0 * set_bit - 1.0)
    left.plot(set_bit, law, "o", color=ORANGE, markersize=4, label="mismatch sqrt(2^(n+1) - 1)")
    legend(left, loc="upper right")
    left.set_ylim(0, 0.16)
    frame(left, "7 bits, capacitors 1 % rms", "code", "sd of DNL  [LSB]")
    bad = SARADC(5, 1.0, mismatch=0.25)
    ramp = np.linspace(-1.0, 1.0, 4001)[:, None, None] + np.zeros(12)
    read, _ = bad.read(ramp, ramp, _nothing, context())
    worst = int(np.argmin([len(np.unique(read[:, 0, unit])) for unit in range(12)]))
    missing = 32 - len(np.unique(read[:, 0, worst]))
    right.plot(ramp[:, 0, 0], ramp[:, 0, 0], color="#aaaaaa", linewidth=0.8)
    right.plot(ramp[:, 0, worst], read[:, 0, worst], color=BLUE, linewidth=1.2)
    frame(right, f"5 bits, 25 % rms: {missing} codes are missing", "state z  [full scale]", "read  [full scale]")
    return figure


def skew() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1, 1.1))
    network, steps, eps = LeakyNetwork.dense(8, 3), 60, 0.1
    theta, x = network.initial(3, gain=0.9, input_gain=1.0), np.array([[1.0, -0.5, 0.25]])
    true = settle(SimulatedDevice(network, horizon=steps), theta, x, steps)[:, 0]
    per_unit = eps * SCALE.second / 8
    late = SimulatedDevice(network, horizon=steps, imperfections=[SampleSkew(per_unit)])
    read = settle(late, theta, x, steps)[:, 0]
    at, ago = 6, np.arange(7, -1, -1) / 8
    for unit in range(8):
        left.plot(np.arange(3, 9), true[3:9, unit], color="#b0b0b0", linewidth=1)
    left.scatter(at - ago, read[at], s=20, color=ORANGE, zorder=3, label="as read")
    left.scatter(np.full(8, at), true[at], s=16, color=BLUE, zorder=2, label="at the read")
    legend(left)
    frame(left, "Eight units through one converter", "step t, eps = 0.1", "state z")
    error, clock = np.sqrt(np.mean((read - true) ** 2, axis=1))[1:], np.arange(1, steps + 1)
    right.semilogy(clock, error, color=ORANGE, linewidth=1.4, label="error of a read")
    speed = np.sqrt(np.mean(np.diff(true, axis=0) ** 2, axis=1))
    right.semilogy(clock, speed, color=INK, linewidth=1, dashes=(4, 3), label="change of one step")
    legend(right)
    frame(right, "The error dies with the transient", "step t, eps = 0.1", "rms over units  [state units]")
    return figure


# --- faults -------------------------------------------------------------------------------------------------------


def stuck() -> Figure:
    figure, (left, right) = sheet(height=3.2, width_ratios=(1, 1.1))
    network = LeakyNetwork.dense(48, 3)
    device = SimulatedDevice(network, horizon=1, imperfections=[StuckAt.rram(low=0.0, high=1.0, blocks=("W",))])
    held = device.chip.stuck["W"]
    kind = np.where(np.isnan(held), 0, np.where(held == 0.0, 1, 2))
    left.imshow(kind, cmap=ListedColormap(["#eeeeee", BLUE, ORANGE]), vmin=0, vmax=2, interpolation="nearest")
    share = [100 * np.mean(kind == k) for k in (1, 2)]
    frame(left, "48 x 48 cells of one die", "column j", "row i")
    left.grid(False)
    names = (f"stuck low, {share[0]:.1f} %", f"stuck high, {share[1]:.1f} %")
    handles = [Patch(color=colour, label=name) for colour, name in zip((BLUE, ORANGE), names, strict=True)]
    legend(right, handles=handles, loc="upper right")
    wanted = network.initial(2, gain=2.0, input_gain=1.0)["W"]
    got = np.where(np.isnan(held), wanted, held)
    for k, colour in ((0, "#b0b0b0"), (1, BLUE), (2, ORANGE)):
        right.plot(wanted[kind == k], got[kind == k], ".", color=colour, markersize=3)
    right.set_ylim(top=1.6)
    frame(right, "What is written and what is held", "value asked for", "value held")
    return figure


def limits() -> Figure:
    figure, panels = sheet(3, height=2.6, sharey=True)
    network, steps, x = LeakyNetwork.dense(8, 3), 80, np.array([[1.0, -0.5, 0.25]])
    theta, scale = network.initial(4, gain=1.1, input_gain=2.0), Scale(volt=1.0, siemens=1e-6, second=1e-6)
    plain = settle(SimulatedDevice(network, horizon=steps), theta, x, steps)[:, 0]
    time = 0.1 * np.arange(steps + 1)
    for ax, one, title in zip(
        panels,
        (Rails(low=-0.6, high=0.6), SlewRate(volts_per_second=0.4e6), DeadUnits(units=(1, 4), value=0.3)),
        ("Rails at +-0.6 V", "Slew rate 0.4 V/us", "Two units dead at 0.3 V"),
        strict=True,
    ):
        device = SimulatedDevice(network, horizon=steps, scale=scale, imperfections=[one])
        ax.plot(time, plain, color="#c4c4c4", linewidth=1)
        ax.plot(time, settle(device, theta, x, steps)[:, 0], color=BLUE, linewidth=1)
        frame(ax, title, "time  [us]", "node voltage  [V]" if ax is panels[0] else "")
    return figure


# --- wires --------------------------------------------------------------------------------------------------------


def crosstalk() -> Figure:
    figure, (left, right) = sheet()
    network, lines = LeakyNetwork.dense(1, 24), np.arange(24)
    chips = {
        fraction: SimulatedDevice(network, horizon=1, imperfections=[Crosstalk(fraction)]).chip.mixing["U"]
        for fraction in (0.05, 0.2)
    }
    for ax, signal, title in (
        (left, np.where(lines == 8, 1.0, 0.0) - np.where(lines == 16, 0.6, 0.0), "Two lines driven"),
        (right, np.where((lines > 5) & (lines < 14), 1.0, 0.2), "A step and an equal level"),
    ):
        ax.step(lines, signal, where="mid", color="#a8a8a8", linewidth=1.4, label="sent")
        for (fraction, mixing), colour in zip(chips.items(), (BLUE, ORANGE), strict=True):
            ax.plot(lines, mixing @ signal, "o", color=colour, markersize=3.5, label=f"fraction {fraction}")
        frame(ax, title, "input line", "signal" if ax is left else "")
    legend(left)
    return figure


def wires() -> Figure:
    figure, (left, right) = sheet(height=3.2, width_ratios=(1, 1.05))
    size, scale = 32, Scale(volt=0.1, siemens=20e-6, second=1e-6)
    at = context(scale=scale)
    ones, viridis = np.ones((size, size)), colormaps["viridis"]
    seen = left.imshow(100 * LineResistance(5.0).realise("W", ones, at), cmap=viridis.resampled(10), vmin=90, vmax=100)
    bar = figure.colorbar(seen, ax=left, shrink=0.85)
    bar.ax.tick_params(labelsize=8, colors=FAINT)
    bar.outline.set_visible(False)
    frame(
        left, "Effective weight  [% of 20 uS], 5 Ohm", "drive line j (source above)", "sense line i (amplifier: right)"
    )
    left.grid(False)
    ohms = np.geomspace(0.1, 100, 10)
    values = np.random.default_rng(2).uniform(-1, 1, (size, size))
    for exact, style in ((True, "-"), (False, "o")):
        for cells, colour, name in ((ones, ORANGE, "all cells full"), (values, BLUE, "uniform in +-20 uS")):
            lost = [
                np.linalg.norm(LineResistance(r, exact=exact).realise("W", cells, at) - cells) / np.linalg.norm(cells)
                for r in ohms
            ]
            label = {"label": name} if exact else {}
            right.loglog(ohms, 100 * np.array(lost), style, color=colour, markersize=4, **label)
    legend(right)
    frame(right, "Nodal equations (lines), fixed point (dots)", "wire per cell  [Ohm]", "|W_eff - W| / |W|  [%]")
    return figure


# --- memory -------------------------------------------------------------------------------------------------------


def programming() -> Figure:
    figure, (left, right) = sheet()
    families = (
        (left, "PCM", pcm_programming(1.0), ORANGE),
        (left, "ReRAM (Wan)", reram_programming(1.0), BLUE),
        (left, "HERMES, 2 cells", hermes_programming(1.0), GREEN),
        (left, "HERMES, 1 cell", hermes_programming(1.0, cells=1), PINK),
        (right, "CMO ReRAM, 2 %", cmo_reram_programming(1.0), ORANGE),
        (right, "CMO ReRAM, 0.2 %", cmo_reram_programming(1.0, acceptance=0.2), BLUE),
        (right, "SONOS", sonos_programming(1.0), GREEN),
    )
    for ax, name, stage, colour in families:
        pair = stage.pair
        g = np.linspace(pair.g_min, pair.g_max, 200)
        ax.plot(g / US, stage.sd(g) / US, color=colour, linewidth=1.4, label=name)
        for g in np.linspace(pair.g_min, pair.g_max, 9)[1:]:
            w = np.full(20_000, (g - pair.g_min) / (pair.g_max - pair.g_min))
            held, _ = stage.write("W", w, None, context())
            # the cell at rest misses too: take off what these same draws do to it
            xi, sd = context().program.normal("W/minus", w.shape), stage.sd(np.array([pair.g_min]))
            resting = np.maximum(pair.g_min + sd * xi, 0.0)
            variance = np.var(held * (pair.g_max - pair.g_min)) - np.var(resting)
            ax.plot(g / US, np.sqrt(variance) / US, "o", color=colour, markersize=3.5)
        ax.set_ylim(bottom=0)
        frame(ax, "20 000 writes (dots) and law", "conductance asked for  [uS]", "sd  [uS]")
        legend(ax)
    left.set_ylim(0, 2.9)
    right.set_title("The more precise families", loc="left", fontsize=9.5, color=INK)
    return figure


def drift() -> Figure:
    figure, (left, right) = sheet()
    pair, cells = pcm_programming(1.0).pair, 2000
    times = np.geomspace(1.0, 1e7, 60)
    weight = np.full(cells, 0.4)
    path = np.array([Drift(pair=pair).realise("W", weight, context(elapsed=t)) for t in times])
    left.semilogx(times, path[:, :60], color=SKY, linewidth=0.4)
    left.semilogx(times, path.mean(axis=1), color=INK, linewidth=1.6, label="mean of 2000")
    level = Drift(pair=pair, compensated=True)
    back = np.array([level.realise("W", weight, context(elapsed=t)) for t in times])
    left.semilogx(times, back.mean(axis=1), color=ORANGE, linewidth=1.6, dashes=(4, 2), label="mean, compensated")
    legend(left, loc="lower left")
    frame(left, "Cells of 10 uS (60 shown)", "time since programming  [s]", "weight  (w_max = 1)")
    spread = np.random.default_rng(3).uniform(-1, 1, (100, 100))
    for compensated, colour, name in ((False, BLUE, "as it is"), (True, ORANGE, "compensated")):
        found = [
            np.std(Drift(pair=pair, compensated=compensated).realise("W", spread, context(elapsed=t)) - spread)
            for t in times
        ]
        right.semilogx(times, found, color=colour, linewidth=1.4, label=name)
    legend(right)
    frame(right, "Weights uniform in +-1", "time since programming  [s]", "rms error of a weight")
    return figure


def read_noise() -> Figure:
    figure, (left, right) = sheet()
    pair = pcm_programming(1.0).pair
    noise = ReadNoise(pair=pair)
    g = np.geomspace(0.05, 25, 100) * US
    for elapsed, colour, name in ((0.0, BLUE, "at once"), (3600.0, GREEN, "after an hour"), (3e7, ORANGE, "a year")):
        left.loglog(g / US, 100 * noise.sd(g, elapsed) / g, color=colour, linewidth=1.4, label=name)
    legend(left)
    frame(left, "Spread between settlings", "conductance  [uS]", "sd / conductance  [%]")
    weights = np.linspace(-1, 1, 9)
    reads = np.array([noise.realise("W", weights, context(read=k, elapsed=3600.0)) for k in range(150)])
    right.plot(weights + np.zeros_like(reads), reads - weights, ".", color=BLUE, markersize=2, alpha=0.6)
    for sign in (1, -1):
        w = np.linspace(-1, 1, 101)
        right.plot(
            w, sign * noise.sd(pair.conductances(np.abs(w))[0], 3600.0) / pair.g_max, color=ORANGE, linewidth=1.2
        )
    right.set_xticks([-1, -0.5, 0, 0.5, 1])
    frame(right, "150 settlings after an hour", "weight as programmed", "error  (line: one sd)")
    return figure


# --- writing ------------------------------------------------------------------------------------------------------


def writing() -> Figure:
    figure, (left, right) = sheet(width_ratios=(1, 1.25))
    w = np.linspace(-1, 1, 1001)
    left.plot(w, w, color="#aaaaaa", linewidth=0.8)
    for levels, colour in ((5, ORANGE), (16, BLUE)):
        held, _ = Quantise(low=-1.0, high=1.0, levels=levels).write("W", w, None, context())
        left.plot(w, held, color=colour, linewidth=1.2, label=f"{levels} levels")
    legend(left)
    frame(left, "Quantise", "value asked for", "value held")
    noisy, tolerance = pcm_programming(1.0), 0.02
    asked = np.random.default_rng(4).uniform(-1, 1, 100_000)
    bins = np.linspace(-0.12, 0.12, 81)
    for attempts, colour in ((1, "#b0b0b0"), (3, SKY), (10, BLUE)):
        held, report = WriteVerify(stage=noisy, tolerance=tolerance, attempts=attempts).write(
            "W", asked, None, context()
        )
        writes = "1 write" if attempts == 1 else f"at most {attempts}"
        label = f"{writes}: {100 * report.unverified / asked.size:.1f} % unverified"
        right.hist(held - asked, bins, histtype="step", color=colour, linewidth=1.3, density=True, label=label)
    for sign in (1, -1):
        right.vlines(sign * tolerance, 0, 30, color=INK, linewidth=0.9, linestyles=(0, (4, 3)))
    right.set_ylim(0, 44)
    legend(right, loc="upper left")
    frame(right, "Write-verify, PCM, tolerance 0.02", "value held - value asked for  (w_max = 1)", "density")
    return figure


def open_loop() -> Figure:
    figure, panels = sheet(sharey=True)
    network, (preset,) = LeakyNetwork.dense(100, 1), idealised()
    perfect = PulsedUpdate(law=ConstantStep(), dw_min=preset.dw_min, w_max=1.0, w_min=-1.0)
    theta = Parameters({name: np.zeros(shape) for name, shape in network.shapes().items()})
    writer, wanted = OpenLoopPulses(step=preset.dw_min), np.linspace(-3, 3, 100)
    change = theta.map(np.zeros_like) | {"W": np.tile(wanted * preset.dw_min, (100, 1))}
    for ax, update, title in zip(panels, (perfect, preset), ("Stochastic rounding", "Drawn cells"), strict=True):
        device = SimulatedDevice(network, horizon=1, imperfections=[update])
        held = writer.begin(device, theta)
        after = writer.write(device, held, held + change, NoisePath(seed=5))
        moved = np.asarray(after["W"] - held["W"]) / preset.dw_min
        ax.plot(wanted, moved.T, ".", color=SKY, markersize=1.5)
        ax.plot(wanted, moved.mean(axis=0), color=BLUE, linewidth=1.3, label="mean of 100 cells")
        ax.plot([-3, 3], [-3, 3], color=INK, linewidth=0.9, dashes=(4, 3), label="wanted")
        frame(ax, title, "change wanted  [dw_min]", "change made  [dw_min]" if ax is panels[0] else "")
    legend(panels[0])
    return figure


# --- pulses -------------------------------------------------------------------------------------------------------

CELLS: dict[str, tuple[Callable[[], Sequence[Imperfection]], int]] = {
    "ReRAM, soft bounds": (reram_soft_bounds, 1200),
    "ReRAM array": (reram_array, 30),
    "EcRAM": (ecram, 1200),
    "idealised": (idealised, 12_000),
}
"""Name -> (preset, pulses in each direction)."""


def _driven(update: Any, cells: int, signs: Sequence[int], burst: int) -> np.ndarray:
    """[len(signs) + 1, cells] after bursts of pulses of these signs, from 0."""
    held, path = np.zeros(cells), [np.zeros(cells)]
    for event, sign in enumerate(signs):
        held, _ = update.adjust("W", held, np.full(cells, float(sign * burst)), context(event=event))
        path.append(held)
    return np.array(path)


def pulses() -> Figure:
    figure, panels = sheet(2, 2, height=4.6)
    for ax, (name, (make, count)) in zip(panels, CELLS.items(), strict=True):
        update = make()[0]
        burst = max(1, count // 60)
        turns = count // burst
        path = _driven(update, 200, [1] * turns + [-1] * turns, burst)
        number = burst * np.arange(len(path))
        ax.plot(number, path[:, :8], color=SKY, linewidth=0.7)
        ax.plot(number, path.mean(axis=1), color=INK, linewidth=1.6)
        ax.axvline(turns * burst, color=ORANGE, linewidth=0.9, dashes=(4, 3))
        frame(ax, f"{name}: {type(update.law).__name__}", "pulse (up, then down)", "weight")
    return figure


def symmetry() -> Figure:
    figure, (left, right) = sheet()
    preset = replace(reram_soft_bounds()[0], up_down_spread=0.1)
    at, cells, pairs = context(), 120, 4000
    traces = {}
    for noise in (0.0, 2.0):
        update = replace(preset, cycle_noise=noise)
        held = np.where(np.arange(cells) % 2, 0.6, -0.5)
        path = [held]
        for event in range(2 * pairs):
            sign = 1.0 if event % 2 == 0 else -1.0
            held, _ = update.adjust("W", held, np.full(cells, sign), context(event=event))
            path.append(held)
        traces[noise] = np.array(path)
    made = preset.cells("W", (cells,), at)
    middle = symmetry_point(made, preset.law.response(made, "W", preset, at))
    for cell, colour in ((0, BLUE), (1, ORANGE), (8, GREEN)):
        for noise, strength in ((2.0, 0.45), (0.0, 1.0)):
            left.plot(traces[noise][:2000:8, cell], color=colour, linewidth=1.4 if noise == 0 else 0.7, alpha=strength)
        left.axhline(middle[cell], color=INK, linewidth=0.9, dashes=(4, 3))
    left.set_xticks([0, 50, 100, 150, 200], ["0", "400", "800", "1200", "1600"])
    frame(left, "Up, down, up, ... (dashes: w*; thin: noisy)", "pulse", "weight")
    formula = (made.up - made.down) / (made.up / made.high - made.down / made.low)
    right.plot(formula, traces[0.0][-1], "o", color=BLUE, markersize=3.5)
    ends = [formula.min(), formula.max()]
    right.plot(ends, ends, color=INK, linewidth=0.9)
    frame(right, "120 cells, s_ud = 0.1, no noise", "w* by the formula", "weight after 8000 pulses")
    return figure


# --- presets ------------------------------------------------------------------------------------------------------


def presets() -> Figure:
    figure, panels = sheet(3, 2, height=4.4, sharey=True)
    network, steps, x = LeakyNetwork.dense(16, 3), 80, np.array([[1.0, -0.5, 0.25]])
    theta = network.initial(5, gain=0.7, input_gain=0.8).map(lambda block: np.clip(block, -0.8, 1.1))
    for ax, (name, make) in zip(panels, PRESETS.items(), strict=True):
        ideal = settle(PRESETS["ideal"]().device(network, horizon=steps), theta, x, steps)[:, 0]
        preset = make()
        for die in range(12 if name != "ideal" else 1):
            device = preset.device(network, horizon=steps, die_seed=die, program_seed=die)
            path = settle(device, theta, x, steps)[:, 0, :3]
            time = 1e6 * 0.1 * preset.scale.second * np.arange(steps + 1)
            for unit, colour in enumerate((BLUE, ORANGE, GREEN)):
                ax.plot(time, path[:, unit], color=colour, linewidth=0.6, alpha=0.7)
        if name != "ideal":
            ax.plot(time, ideal[:, :3], color=INK, linewidth=0.9, dashes=(4, 3))
        frame(ax, name, "time  [us]", "state" if ax in (panels[0], panels[3]) else "")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    picture.__name__: picture
    for picture in (
        mismatch, asymmetry, thermal, flicker, telegraph, adc, sar, skew, stuck, limits, crosstalk, wires, programming,
        drift, read_noise, writing, open_loop, pulses, symmetry, presets,
    )
}  # fmt: skip


if __name__ == "__main__":
    draw(FOLDER, sys.argv[1:] or PICTURES, PICTURES)
