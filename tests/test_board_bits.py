"""The same bits on every machine: PC, sanitized build, Cortex-M4F and M3 in QEMU, and the Numba twin."""

import functools
import zlib

import numpy as np
import pytest
from board_line import Line
from board_memory import NEEDS_GCC, NEEDS_QEMU, NO_QEMU
from board_talk import Job, Talk

from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.devices import Fused, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.board import protocol
from hwsim.devices.board.codes import AtKind, Flag, JobKind, ResetCause, StartKind, State, Type
from hwsim.devices.board.emulator import Emulated, HostBoard, InProcessBoard, Machine, QemuBoard
from hwsim.devices.board.twin import FirmwareEngine
from hwsim.kernels import Noise
from hwsim.kernels.firmware import firmware_normals, firmware_slope
from hwsim.substrates import EnergyNetwork, LeakyNetwork, RationalTanh, Tanh
from hwsim.testing import check_device

N, M, LANES, SIGMA, EPS = 12, 5, 2, 0.05, 0.1
RNG = np.random.default_rng(3)
W = (1.3 * RNG.normal(size=(N, N)) / np.sqrt(N)).astype(np.float32)
U, B = RNG.normal(size=(N, M)).astype(np.float32) / 2, RNG.normal(size=N).astype(np.float32) / 5
X = RNG.uniform(-1, 1, size=(LANES, M)).astype(np.float32)
F, K, AT = (RNG.normal(size=(LANES, N)).astype(np.float32) for _ in range(3))
WAVE, TAPE = RNG.normal(size=(2, 21, LANES, N)).astype(np.float32)
IDS, REPEATS = np.array([5, 2**32 - 1]), np.array([0, 9])
PATH = NoisePath(seed=11, step=2**32 - 1, repeat=3)
STEPS = (1, 10, 150, 1500)
QUIET = Emulated(units=N, inputs=M, lanes=4)
NOISY = Emulated(units=N, inputs=M, lanes=4, noise=float(np.sqrt(2 * EPS) * SIGMA))


def opened(exchange, session=0x5E551011):
    talk = Talk(exchange, session=session)
    talk.open(lease_ms=60000)
    talk.network(W, U, B)
    return talk


def in_process(emulated):
    board = InProcessBoard(emulated)
    board.poll(3)
    return opened(board.exchange)


def job():
    return Job(X, ids=np.stack([IDS, REPEATS + PATH.repeat], 1))


def finals(talk):
    """Checksums of the states after 1, 10, ... steps, with noise where the board has any."""
    how = {"seed": PATH.seed, "step": PATH.step}
    return [zlib.crc32(job().phase(steps).go(talk, N, **how)[0]["final"].tobytes()) for steps in STEPS]


@functools.cache
def twin(noisy=False):
    """A simulated device with the firmware's engine."""
    noise = [ThermalNoise(sigma=SIGMA)] if noisy else []
    device = SimulatedDevice(
        LeakyNetwork.dense(N, M, RationalTanh()),
        step_size=EPS,
        horizon=150,
        engine=FirmwareEngine(),
        dtype=np.float32,
        imperfections=noise,
    )
    device.program(Parameters({"W": W, "U": U, "b": B}))
    return device


def plan(*phases):
    return Plan(inputs=X, ids=IDS, repeats=REPEATS, phases=phases)


@functools.cache
def expected(noisy):
    ends = [twin(noisy).relax(plan(Phase(steps=steps)), noise=PATH)[0].final for steps in STEPS]
    return [zlib.crc32(end.tobytes()) for end in ends]


@NEEDS_GCC
@pytest.mark.parametrize("emulated", [QUIET, NOISY], ids=["quiet", "noisy"])
class TestChecksums:
    """CRC-32 of float32 states after 1, 10, 150 and 1500 steps."""

    def test_pc(self, emulated):
        assert finals(in_process(emulated)) == expected(emulated is NOISY)

    def test_sanitized_process(self, emulated):
        with HostBoard(emulated, sanitized=True, tcp=True) as board, Line(board.url) as line:
            assert finals(opened(line.exchange)) == expected(emulated is NOISY)

    @NEEDS_QEMU
    @pytest.mark.parametrize("machine", Machine)
    def test_microcontroller(self, emulated, machine):
        with QemuBoard(emulated, machine, seed=1) as board, Line(board.url) as line:
            talk = opened(line.exchange)
            assert protocol.Selftest.unpack(talk.ask(Type.SELFTEST)).failed == 0
            assert finals(talk) == expected(emulated is NOISY)


@NEEDS_GCC
class TestTwin:
    """Whatever a plan holds, the board and the twin agree to the bit."""

    def test_plans(self):
        talk, how = in_process(NOISY), {"seed": PATH.seed, "step": PATH.step}
        board = (
            job()
            .phase(30, force=F, record=7)
            .phase(21, force=WAVE, displace=K)
            .phase(9, correct=AT, record=1)
            .phase(0)
            .go(talk, N, **how)
        )
        phases = (
            Phase(steps=30, force=F, record=7),
            Phase(steps=21, force=WAVE, displace=K),
            Phase(steps=9, correct_at=AT, record=1),
            Phase(steps=0),
        )
        for mine, theirs in zip(board, twin(noisy=True).relax(plan(*phases), noise=PATH), strict=True):
            assert np.array_equal(mine["final"], theirs.final)
            assert theirs.states is None or np.array_equal(mine["states"], theirs.states)
            assert np.allclose(mine["residual"], theirs.residual, rtol=1e-5)
            assert np.array_equal(mine["outcome"], theirs.outcome)

    @pytest.mark.parametrize("at", [AT, TAPE], ids=["held", "played back"])
    def test_backwards(self, at):
        talk, how = in_process(NOISY), {"seed": PATH.seed, "step": PATH.step, "kind": JobKind.TRANSPOSE}
        kind = AtKind.VECTOR if at.ndim == 2 else AtKind.RECORDING
        phase = Phase(steps=20, force=F, displace=K, record=3)
        (mine,) = job().phase(20, force=F, displace=K, record=3).go(talk, N, at=at, at_kind=kind, **how)
        (theirs,) = twin(noisy=True).relax_transpose(at, plan(phase), noise=PATH)
        assert np.array_equal(mine["final"], theirs.final)
        assert np.array_equal(mine["states"], theirs.states)

    def test_coarse_paths(self):
        (mine,) = job().phase(20).go(in_process(NOISY), N, seed=PATH.seed, step=PATH.step, coarse=3)
        (theirs,) = twin(noisy=True).relax(plan(Phase(steps=20)), noise=PATH.coarsen(3))
        assert np.array_equal(mine["final"], theirs.final)

    def test_states_that_blow_up(self):
        talk = in_process(QUIET)
        talk.network(np.eye(N) * 8, U * 0, B * 0)
        (mine,) = job().phase(200).go(talk, N, start=StartKind.STATE, state=np.full((LANES, N), 900.0))
        assert np.isfinite(mine["final"]).all()  # r is bounded
        (mine,) = job().phase(300).go(talk, N, kind=JobKind.TRANSPOSE, at=0 * AT, start=StartKind.STATE, state=K)
        assert mine["outcome"].astype(np.uint8)[0] == 3
        assert not np.isfinite(mine["final"][0]).all()


@NEEDS_GCC
def test_random_starts_agree_to_rounding():
    """The simulator draws a start in float64, the board in float32."""
    from hwsim.contracts.plan import RandomStart

    talk, how = in_process(QUIET), {"seed": PATH.seed, "step": PATH.step}
    (mine,) = job().phase(0).go(talk, N, start=StartKind.RANDOM, sigma=0.5, **how)
    start = Plan(inputs=X, ids=IDS, repeats=REPEATS, phases=(Phase(steps=0),), start=RandomStart(0.5))
    (theirs,) = twin().relax(start, noise=PATH)
    assert np.allclose(mine["final"], theirs.final, rtol=0, atol=2e-6)


def test_twin_passes_the_suite_of_devices():
    def make():
        engine = FirmwareEngine()
        network = LeakyNetwork.dense(4, 3, RationalTanh())
        return SimulatedDevice(network, step_size=EPS, horizon=20, engine=engine, dtype=np.float32)

    check_device(make)


def test_twin_agrees_with_plain_steps():
    """The same physics as `Stepwise` to rounding: the twin is no other network."""
    plain = SimulatedDevice(
        LeakyNetwork.dense(N, M, RationalTanh()), step_size=EPS, horizon=150, engine=Stepwise(), dtype=np.float64
    )
    plain.program(Parameters({"W": W, "U": U, "b": B}))
    phases = (Phase(steps=25, force=F), Phase(steps=20, displace=K, correct_at=AT, record=4))
    for mine, theirs in zip(
        twin().relax(plan(*phases), noise=PATH), plain.relax(plan(*phases), noise=PATH), strict=True
    ):
        assert np.allclose(mine.final, theirs.final, atol=1e-5)
    phase = Phase(steps=20, displace=K, force=F)
    (mine,) = twin().relax_transpose(TAPE, plan(phase), noise=PATH)
    (theirs,) = plain.relax_transpose(TAPE, plan(phase), noise=PATH)
    assert np.allclose(mine.final, theirs.final, atol=1e-5)


@pytest.mark.parametrize(
    ("substrate", "how"),
    [
        (LeakyNetwork.dense(N, M), {"dtype": np.float32}),
        (LeakyNetwork.dense(N, M, RationalTanh()), {"dtype": np.float64}),
    ],
    ids=["tanh", "float64"],
)
def test_twin_refuses_what_the_firmware_is_not(substrate, how):
    device = SimulatedDevice(substrate, step_size=EPS, horizon=9, engine=FirmwareEngine(), **how)
    with pytest.raises(InputError, match="firmware's twin"):
        device.program(Parameters({"W": W, "U": U, "b": B}))


def test_deviates_are_those_of_the_address():
    """Within 2e-6 of the float64 reference, as the kernels' own float32 ones are."""
    noise = Noise(path=PATH, stream=1, phase=4, ids=IDS.astype(np.uint32), repeats=REPEATS.astype(np.uint32))
    worst = 0.0
    for time in range(100):
        mine = firmware_normals(noise, units=70, time=time)
        theirs = PATH.normals(Stream.READ, IDS, units=70, first=time, phase=4, repeats=REPEATS)[0]
        worst = max(worst, np.abs(mine - theirs).max())
    assert worst < 2e-6


class TestRationalTanh:
    """The nonlinearity in NumPy: close to tanh, its derivatives its own, its float32 bits those of the kernel."""

    r, z = RationalTanh(), np.linspace(-9, 9, 180_001)

    def test_is_close_to_tanh_and_bounded(self):
        assert np.abs(self.r(self.z) - np.tanh(self.z)).max() < 9.7e-5
        assert np.abs(self.r(self.z)).max() < 1.0
        assert np.array_equal(self.r(-self.z), -self.r(self.z))
        assert np.isnan(self.r(np.array([np.nan])))

    def test_derivatives(self):
        h, inside = 1e-5, np.abs(np.abs(self.z) - self.r.flat) > 1e-4
        z = self.z[inside]
        assert np.allclose((self.r(z + h) - self.r(z - h)) / (2 * h), self.r.slope(z), atol=1e-9)
        assert np.allclose((self.r.slope(z + h) - self.r.slope(z - h)) / (2 * h), self.r.curvature(z), atol=1e-9)
        assert self.r.slope(z).max() <= self.r.steepest
        assert np.abs(self.r.curvature(z)).max() <= self.r.sharpest

    def test_bits_of_the_slope(self):
        z = self.z.astype(np.float32)
        assert np.array_equal(firmware_slope(z), self.r.slope(z))

    def test_runs_on_the_fused_engine(self):
        results = []
        for r in (RationalTanh(), Tanh()):
            device = SimulatedDevice(LeakyNetwork.dense(N, M, r), step_size=EPS, horizon=150)
            device.program(Parameters({"W": W, "U": U, "b": B}))
            results.append(device.relax(plan(Phase(steps=50)), noise=PATH)[0].final)
        assert 0 < np.abs(results[0] - results[1]).max() < 1e-3
        (theirs,) = twin().relax(plan(Phase(steps=50)), noise=PATH)
        assert np.allclose(results[0], theirs.final, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_its_slope_runs_on_the_fused_engine(self, dtype):
        network, ends = EnergyNetwork.symmetric(N, M, RationalTanh()), []
        theta = network.initial(0, gain=1.5, input_gain=2.0)
        for engine in (Fused(), Stepwise()):
            device = SimulatedDevice(network, step_size=EPS, horizon=150, engine=engine, dtype=dtype)
            device.program(theta)
            ends.append(device.relax(plan(Phase(steps=60, displace=4 * K)), noise=PATH)[0].final)
        assert np.abs(ends[0] - ends[1]).max() < (1e-5 if dtype == np.float32 else 1e-13)


@NEEDS_GCC
class TestOtherBackEnds:
    """Whole numbers and analog parts: the same network to their resolution."""

    def states(self, emulated, *phases, **how):
        talk = in_process(emulated)
        made = job()
        for each in phases:
            made.phase(**each)
        return talk, made.go(talk, N, **how)

    PHASES = ({"steps": 40, "force": F, "record": 10}, {"steps": 30, "displace": K})

    def reference(self):
        return twin().relax(plan(Phase(steps=40, force=F, record=10), Phase(steps=30, displace=K)), noise=PATH)

    def test_q15(self):
        talk, mine = self.states(Emulated(units=N, inputs=M, lanes=4, backend="emulated-q15"), *self.PHASES)
        for one, other in zip(mine, self.reference(), strict=True):
            assert np.abs(one["final"] - other.final).max() < 3e-3
        held = np.frombuffer(talk.read(5), "<f4")[: N * N].reshape(N, N)
        assert np.array_equal(held * 4096, np.rint(held * 4096))
        assert np.abs(held - W).max() <= 0.5 / 4096

    def test_q15_is_the_same_on_every_machine(self):
        emulated = Emulated(units=N, inputs=M, lanes=4, backend="emulated-q15", noise=0.01)
        pc = finals(in_process(emulated))
        with HostBoard(emulated, sanitized=True, tcp=True) as board, Line(board.url) as line:
            assert finals(opened(line.exchange)) == pc
        if NO_QEMU is None:
            with QemuBoard(emulated, Machine.M3, seed=1) as board, Line(board.url) as line:
                assert finals(opened(line.exchange)) == pc

    def test_q15_saturates_and_does_not_wrap(self):
        talk = in_process(Emulated(units=N, inputs=M, lanes=4, backend="emulated-q15"))
        force = np.full((LANES, N), 1000.0)
        (mine,) = job().phase(400, force=force, displace=force).go(talk, N)
        assert (mine["final"] > 990).all()

    @pytest.mark.parametrize("backwards", [False, True])
    def test_analog(self, backwards):
        bits = {"weight_bits": 16, "dac_bits": 16, "adc_bits": 16}
        emulated = Emulated(units=N, inputs=M, lanes=4, backend="analog", **bits)
        talk = in_process(emulated)
        how = {"kind": JobKind.TRANSPOSE, "at": AT} if backwards else {}
        (mine,) = job().phase(40, displace=K, force=F, record=10).go(talk, N, **how)
        phase = Phase(steps=40, displace=K, force=F, record=10)
        device = twin()
        (theirs,) = (
            device.relax_transpose(AT, plan(phase), noise=PATH) if backwards else device.relax(plan(phase), noise=PATH)
        )
        force_step = 2 * 1024 / 2**16  # the range of the force converter is wide, and its steps are coarse
        assert np.abs(mine["final"] - theirs.final).max() < 4 * force_step
        assert np.abs(mine["states"] - theirs.states).max() < 4 * force_step

    def test_reads_are_averaged_and_clip(self):
        emulated = Emulated(units=N, inputs=M, lanes=4, read_noise=0.1, adc_bits=10)
        talk = in_process(emulated)
        exact = twin().relax(plan(Phase(steps=50)), noise=PATH)[0].final
        once, many = (
            np.std([job().phase(50).go(talk, N, step=k, reads=reads)[0]["final"] - exact for k in range(10)])
            for reads in (1, 64)
        )
        assert 0.08 < once < 0.12
        assert abs(many / once - 1 / 8) < 0.03
        (mine,) = job().phase(2, displace=np.full((LANES, N), 20.0)).go(talk, N)
        assert (mine["outcome"] & 0xFF == 2).all()
        assert (mine["outcome"] >> 16 == N).all()
        assert talk.status().clipped_reads == LANES * N


@NEEDS_GCC
def test_watchdog_of_the_process_reboots_it_latched():
    with HostBoard(QUIET, boot_id=5) as board, Line(board.url) as line:
        talk = opened(line.exchange)
        line._port.write(talk.frame(Type.HANG, protocol.Hang(key=protocol.RESET_KEY).pack()))
        hello = protocol.Hello.unpack(line.heard().payload)
        assert (hello.reset_cause, hello.boot_id, hello.state) == (ResetCause.WATCHDOG, 6, State.SAFE)
        assert talk.status().latched == 1


@NEEDS_QEMU
def test_watchdog_and_reset_of_the_microcontroller():
    with QemuBoard(QUIET, Machine.M4F, seed=100) as board, Line(board.url) as line:
        talk = Talk(line.exchange)
        first = talk.open(lease_ms=60000).boot_id
        line._port.write(talk.frame(Type.HANG, protocol.Hang(key=protocol.RESET_KEY).pack()))
        frame = line.heard()
        while not frame.header.flags & Flag.EVENT:
            frame = line.heard()
        hello = protocol.Hello.unpack(frame.payload)
        assert hello.reset_cause == ResetCause.WATCHDOG
        assert hello.boot_id != first
        talk.open()
        talk.ask(Type.RESET, protocol.Reset(key=protocol.RESET_KEY))
        hello = protocol.Hello.unpack(line.heard().payload)
        assert hello.reset_cause == ResetCause.REQUESTED
