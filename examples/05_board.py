"""A board: program it, watch it settle (draws board.png), train it, pull its cable twice, and go on all the same."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from hwsim import Adam, Digits, FiniteHorizonEP, LeakyNetwork, NoisePath, Phase, Plan, Trainer
from hwsim.devices.board import SerialBoard
from hwsim.devices.board.emulator import Emulated, HostBoard
from hwsim.devices.board.modelled import simulated_twin

UPDATES, PULLED, T, NOISE = 60, (20, 40), 30, NoisePath(seed=1)

task = Digits(units=64)
network = LeakyNetwork.dense(64, task.inputs)
theta = network.initial(seed=1, gain=0.5, input_gain=0.5) | task.initial_readout(seed=1, gain=0.5)
test = task.validation

# The firmware as a process of this machine, with a 10-bit converter. A real board is SerialBoard("/dev/ttyACM0").
emulated = Emulated(units=64, inputs=64, horizon=T, adc_bits=10)
with HostBoard(emulated, tcp=True) as firmware, SerialBoard(firmware.url) as board:
    print(f"{board.descriptor.firmware} on {firmware.url}: {board.spec.units} units, T = {board.spec.horizon}")
    held = board.program(theta)

    # One settling as the board read it, over that of a simulator made of the board's own description.
    watched = Plan(inputs=test.inputs[:1], ids=np.array([0]), phases=(Phase(steps=T, record=1),))
    (measured,) = board.relax(watched, noise=NOISE)
    with simulated_twin(replace(board.descriptor, adc_bits=0), board.spec) as twin:
        twin.program(held)
        (simulated,) = twin.relax(watched, noise=NOISE)
    error, step = np.abs(measured.recorded - simulated.recorded).max(), 16 / 2**10
    print(f"read within {error:.4f} of the simulated states; half a step of the converter is {step / 2:.4f}")
    assert error <= 0.51 * step
    figure, time = Figure(figsize=(7, 4), layout="constrained"), 1e3 * board.spec.dt * np.arange(T + 1)
    panel = figure.subplots()
    for unit in range(8):
        panel.plot(time, simulated.recorded[:, 0, unit], color=f"C{unit}", lw=1)
        panel.plot(time, measured.recorded[:, 0, unit], ".", color=f"C{unit}")
    panel.set(xlabel="time / ms", ylabel="state", title="Eight units: read from the board (dots), simulated (lines)")
    figure.savefig("board.png", dpi=120)

    # Training over the same link, which is cut twice.
    rule, optimiser = FiniteHorizonEP(), Adam(learning_rate=3e-3)
    trainer = Trainer(device=board, rule=rule, task=task, optimiser=optimiser, batch_size=32, seed=1, noise=NOISE)
    state = trainer.start(theta)
    while state.step < UPDATES:
        if state.step in PULLED:
            board.session.link.port.close()
        state, estimate = trainer.advance(state)
    held = board.program(state.theta)
    (settled,) = board.relax(Plan(inputs=test.inputs, ids=test.ids, phases=(Phase(steps=T),)), noise=NOISE.at_step(99))
    accuracy = task.accuracy(settled.final, test.targets, held)
    print(
        f"accuracy {accuracy:.1%} after {UPDATES} updates; the port was opened {board.counters.reconnects} times again"
    )
    assert board.counters.reconnects == len(PULLED)
    assert accuracy > 0.85
