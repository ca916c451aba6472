"""A board is a device like any other: the suite, the firmware's twin, the rules, and what only boards have."""

import hashlib
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from board_memory import NEEDS_GCC, NEEDS_QEMU, SMALL, board

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import InputError, RangeError, ResumeError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Outcome, Phase, Plan, RandomStart
from hwsim.contracts.rule import registered_rules, settle_free
from hwsim.devices.board import Measured, SerialBoard
from hwsim.devices.board.emulator import Emulated, HostBoard, Machine, QemuBoard
from hwsim.devices.board.modelled import simulated_twin
from hwsim.devices.board.plans import BLOCK, changed
from hwsim.learning_rules import CapturedFiniteHorizonEP, FiniteHorizonEP
from hwsim.tasks import Digits
from hwsim.testing import RandomRegression, check_device
from hwsim.testing.draws import draw_parameters
from hwsim.training import Adam, ClippedReprogram, Trainer

pytestmark = NEEDS_GCC
KINDS = {
    "f32": SMALL,
    "noisy": replace(SMALL, noise=0.05),
    "converted": replace(SMALL, noise=0.02, read_noise=0.01, adc_bits=10),
    "q15": replace(SMALL, backend="emulated-q15"),
    "analog": replace(SMALL, backend="analog", weight_bits=12, dac_bits=12, adc_bits=12),
}
NOISE = NoisePath(seed=3, step=5)


def programmed(kind=SMALL, **options):
    device, opener = board(kind, **options)
    held = device.program(draw_parameters(device.spec, 0))
    return device, opener, held


def plan_of(device, lanes=5, steps=20, seed=0, **phase):
    inputs = np.random.default_rng(seed).uniform(-1, 1, (lanes, device.spec.inputs))
    return Plan(inputs=inputs, ids=7 + np.arange(lanes), phases=(Phase(steps=steps, **phase),))


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "f32"])
def test_a_board_passes_the_suite_of_devices(kind):
    check_device(lambda: board(KINDS[kind])[0])


def test_a_process_on_a_terminal_passes_the_suite_of_devices():
    processes = []

    def make():
        processes.append(HostBoard(SMALL).__enter__())
        return SerialBoard(processes[-1].url)

    try:
        check_device(make)
    finally:
        for process in processes:
            process.close()


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_board_and_its_simulated_twin_are_equal_to_the_bit(noise):
    device, _, held = programmed(replace(SMALL, noise=noise))
    rng = np.random.default_rng(1)
    push, kick, at = (rng.standard_normal((5, 6)) for _ in range(3))
    phases = (Phase(steps=7, record=2), Phase(steps=5, force=push, displace=kick, record=1))
    with device, simulated_twin(device.descriptor, device.spec) as twin:
        twin.program(held)
        plan = replace(plan_of(device), phases=phases)
        for start in (plan.start, At(at.astype(np.float32))):
            found, expected = (one.relax(replace(plan, start=start), noise=NOISE) for one in (device, twin))
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours.states, theirs.states)
                np.testing.assert_array_equal(ours.final, theirs.final)
                np.testing.assert_array_equal(ours.outcome, theirs.outcome)
        back = [one.relax_transpose(at, plan_of(device, force=push), noise=NOISE)[0] for one in (device, twin)]
        np.testing.assert_array_equal(back[0].final, back[1].final)


def test_every_rule_that_needs_no_simulator_runs_on_a_board():
    device, _, _ = programmed()
    with device:
        task = RandomRegression(units=6, inputs=4)
        theta = device.program(draw_parameters(device.spec, 0) | task.initial_readout(0, 1.0))
        batch, ran = task.training_batch(0, 6, 0), []
        for name, rule in registered_rules().items():
            if not rule.needs.met_by(device.spec):
                continue
            free, _ = settle_free(device, batch, rule.needs, NOISE)
            estimate = rule.estimate(device, theta, batch, task, free, NOISE)
            assert estimate.gradients.finite(), name
            ran.append(name)
    assert {"ep", "ep_dyadic", "finite_horizon_ep", "adjoint_playback", "homeostat", "node_perturbation"} <= set(ran)


def trained(device, rule, steps, theta=None):
    """Parameters after some updates on the digits."""
    task = Digits(units=device.spec.units)
    trainer = Trainer(
        device=device,
        rule=rule,
        task=task,
        optimiser=Adam(learning_rate=3e-3),
        batch_size=8,
        seed=1,
        noise=NoisePath(seed=1),
        writer=ClippedReprogram(),
    )
    start = draw_parameters(device.spec, 2) | task.initial_readout(2, 0.5)
    state = trainer.start(start)
    for _ in range(steps):
        state, _ = trainer.advance(state)
    return state.theta


def trains_as_its_twin(device, steps):
    """The same bits on the board and on `SimulatedDevice`."""
    with device, simulated_twin(device.descriptor, device.spec) as twin:
        ours, theirs = (trained(one, FiniteHorizonEP().clipped(1.0), steps) for one in (device, twin))
    for name, block in ours.items():
        np.testing.assert_array_equal(block, theirs[name], err_msg=name)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_training_on_a_board_and_on_its_twin_ends_with_the_same_bits(noise):
    trains_as_its_twin(board(Emulated(units=12, inputs=64, lanes=16, horizon=12, noise=noise))[0], 6)


@NEEDS_QEMU
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_training_on_a_microcontroller_and_on_its_twin_ends_with_the_same_bits(noise):
    with QemuBoard(Emulated(units=12, inputs=64, lanes=16, horizon=12, noise=noise), Machine.M4F, seed=1) as qemu:
        trains_as_its_twin(SerialBoard(qemu.url), 3)


@NEEDS_QEMU
@pytest.mark.slow
def test_a_microcontroller_passes_the_suite_of_devices():
    with ExitStack() as boards:

        def make():
            return SerialBoard(boards.enter_context(QemuBoard(SMALL, Machine.M4F, seed=1)).url)

        check_device(make)


def test_credit_formed_on_the_board_is_that_of_the_recordings_and_little_comes_back():
    kind = Emulated(units=12, inputs=5, lanes=16, horizon=25)
    device, _, _ = programmed(kind)
    task, gradients, came = RandomRegression(units=12, inputs=5), [], []
    with device:
        theta = device.program(draw_parameters(device.spec, 0) | task.initial_readout(0, 1.0))
        batch = task.training_batch(0, 16, 0)
        for rule in (FiniteHorizonEP(kick=0.7), CapturedFiniteHorizonEP(kick=0.7)):
            before = device.counters.bytes_in
            free, _ = settle_free(device, batch, rule.needs, NOISE)
            gradients.append(rule.estimate(device, theta, batch, task, free, NOISE).gradients)
            came.append(device.counters.bytes_in - before)
    for name, block in gradients[0].items():
        scale = np.abs(block).max()
        np.testing.assert_allclose(gradients[1][name], block, atol=3e-6 * scale, rtol=0, err_msg=name)
    assert came[1] < came[0] / 8


def test_a_batch_larger_than_the_board_is_run_in_tiles():
    whole, _, held = programmed(replace(SMALL, lanes=16))
    parts, _ = board(replace(SMALL, lanes=3))
    with whole, parts:
        parts.program(held)
        plan = plan_of(whole, lanes=11, record=3)
        (one,), (many,) = (device.relax(plan, noise=NOISE) for device in (whole, parts))
        np.testing.assert_array_equal(one.states, many.states)
        assert len(one.provenance.jobs) == 1
        assert len(many.provenance.jobs) == 4
        # lanes that are carried over tiles go through the host
        (later,) = parts.relax(replace(plan, start=Carry()), noise=NOISE)
        (kept,) = whole.relax(replace(plan, start=Carry()), noise=NOISE)
        np.testing.assert_array_equal(later.final, kept.final)


def test_what_is_unchanged_is_not_sent_again():
    device, _, held = programmed(Emulated(units=20, inputs=10, lanes=8, horizon=5))
    with device:
        before = device.counters.bytes_out
        again = device.program(held)
        assert device.counters.bytes_out - before < 200
        assert all(np.array_equal(again[name], held[name]) for name in held)
        plan = plan_of(device, lanes=8)
        device.relax(plan, noise=NOISE)
        before = device.counters.bytes_out
        device.relax(plan, noise=NOISE.at_step(9))
        assert device.counters.bytes_out - before < 400


def test_only_stretches_that_differ_are_written():
    held = bytes(10 * BLOCK)
    wanted = bytearray(held)
    wanted[3 * BLOCK + 5] = wanted[4 * BLOCK] = wanted[9 * BLOCK] = 1
    assert changed(held, bytes(wanted)) == [(3 * BLOCK, 5 * BLOCK), (9 * BLOCK, 10 * BLOCK)]
    assert changed(held, held) == []
    assert changed(None, held) == [(0, len(held))]
    assert changed(held, held + b"tail") == [(len(held), len(held) + 4)]
    assert changed(held[:BLOCK], held) == [(BLOCK, len(held))]


def test_parameters_out_of_range_never_leave_the_host():
    device, opener, held = programmed()
    with device:
        low, high = device.spec.ranges["W"]
        before = opener.writes
        for value in (high + 1e-3, low - 1e-3, np.inf, np.nan, 1e300):
            wrong = np.array(held["W"], np.float64)
            wrong[1, 2] = value
            with pytest.raises(RangeError):
                device.program(held | {"W": wrong})
        assert opener.writes == before
        device.program(held | {"W": np.full((6, 6), high)})


def test_what_is_put_in_beyond_a_converter_is_held_at_its_end_and_says_so():
    device, _, _ = programmed()
    with device:
        plan = plan_of(device)
        high = device.descriptor.ranges["x"][1]
        wild = np.array(plan.inputs)
        wild[2, 1] = 10 * high
        held = np.array(plan.inputs)
        held[2, 1] = high
        (found,), (expected,) = (device.relax(replace(plan, inputs=x), noise=NOISE) for x in (wild, held))
        np.testing.assert_array_equal(found.final, expected.final)
        assert found.outcome[2] == Outcome.SATURATED
        assert (found.outcome[[0, 1, 3, 4]] != Outcome.SATURATED).all()
        assert found.provenance.lanes_limited == 1
        with pytest.raises(InputError, match="no number"):
            device.relax(replace(plan, inputs=np.full_like(wild, np.nan)), noise=NOISE)


def test_a_result_says_where_it_comes_from():
    device, _, held = programmed(KINDS["analog"])
    with device:
        (run,) = device.relax(plan_of(device), noise=NOISE)
        assert isinstance(run, Measured)
        told = run.provenance
        blocks = [np.asarray(held[name], "<f4").tobytes() for name in ("W", "U", "b")]
        assert told.held == hashlib.sha256(b"".join(blocks)).hexdigest()
        assert told.network != told.held, "an analog board rounds to its levels"
        assert told.uid == device.descriptor.uid
        assert told.boot_id == device.session.hello.boot_id
        assert (told.reads, told.parallel, told.resent, told.restored) == (1, device.descriptor.parallel, 0, 0)
    device, _ = board(replace(SMALL, adc_bits=10))
    with device:
        assert device.spec.noise_floor == pytest.approx(16.0 / 2**10 / np.sqrt(12))


def test_averaging_reads_lowers_their_noise_as_stated():
    kind = replace(SMALL, read_noise=0.1, lanes=64)
    spreads = []
    for reads in (1, 16):
        device, _, _ = programmed(kind, reads=reads)
        with device:
            assert device.spec.noise_floor == pytest.approx(0.1 / np.sqrt(reads))
            plan = replace(plan_of(device, lanes=64, steps=0), start=At(np.zeros((64, 6))))
            (run,) = device.relax(plan, noise=NOISE)
            spreads.append(float(run.final.std()))
    assert spreads[0] == pytest.approx(0.1, rel=0.2)
    assert spreads[1] == pytest.approx(0.025, rel=0.2)


def test_twins_share_their_noise_and_repeats_do_not():
    device, _, _ = programmed(KINDS["noisy"])
    with device:
        assert Capability.TWINS in device.spec.capabilities
        one = plan_of(device, lanes=4)
        pair = replace(
            one,
            inputs=np.concatenate([one.inputs] * 3),
            ids=np.concatenate([one.ids] * 3),
            repeats=np.repeat([0, 0, 1], 4),
        )
        (run,) = device.relax(pair, noise=NOISE)
        np.testing.assert_array_equal(run.final[:4], run.final[4:8])
        assert not np.any(run.final[:4] == run.final[8:])


def test_a_random_start_is_had_where_the_board_has_none_itself():
    device, _, _ = programmed(KINDS["analog"])
    with device:
        plan = replace(plan_of(device, lanes=16, steps=0), start=RandomStart(0.5))
        (run,) = device.relax(plan, noise=NOISE)
        assert run.final.std() == pytest.approx(0.5, rel=0.2)


def test_a_saved_run_goes_on_only_on_its_own_board():
    device, _, _ = programmed()
    with device:
        saved = device.save()
        device.restore(saved)
        with pytest.raises(ResumeError, match="of board other"):
            device.restore(saved | {"board": np.frombuffer(b"other", np.uint8)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"phases": (Phase(steps=1),) * 9}, "8 phases"),
        ({"phases": (Phase(steps=2_000_000),)}, "1000000 steps"),
        ({"phases": (Phase(steps=900_000, record=1),)}, "record fewer states"),
    ],
)
def test_a_plan_that_does_not_fit_the_board_is_refused_before_anything_is_sent(change, words):
    device, opener, _ = programmed()
    with device:
        before = opener.writes
        with pytest.raises(InputError, match=words):
            device.relax(replace(plan_of(device), **change), noise=NOISE)
        assert opener.writes == before


def test_no_lanes_are_no_work_and_nothing_is_relaxed_before_it_is_programmed():
    device, opener = board()
    with device, pytest.raises(InputError, match="nothing is programmed"):
        device.relax(plan_of(device), noise=NOISE)
    device, opener, _ = programmed()
    with device:
        before = opener.writes
        (run,) = device.relax(plan_of(device, lanes=0, record=2), noise=NOISE)
        assert run.final.shape == (0, 6)
        assert run.recorded.shape == (11, 0, 6)
        assert opener.writes == before


def test_nothing_happens_before_it_is_opened():
    device = SerialBoard("/no/such/port")
    device.close()
    for wrong in ({"baud": 0}, {"reads": 0}, {"lease_ms": -1}):
        with pytest.raises(InputError):
            SerialBoard("/no/such/port", **wrong)
    held, _ = board()
    with held:
        assert isinstance(held.program(draw_parameters(held.spec, 0)), Parameters)
