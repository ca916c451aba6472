"""Complex states: where a simulated device offers them, what it refuses, and that real plans know nothing of them.

That complex settlings are the analytic continuation of real ones is a law of `check_device`, run by test_conformance.
"""

import numpy as np
import pytest
from tables import SUBSTRATES, UNITS, ring, simulated

from hwsim.contracts.arrays import namespace
from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Phase, Plan, Rest
from hwsim.devices import ADC, SIMULATED, Exponential, Fused, Heun, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.imperfections import Mismatch, Rails, ReadoutNoise, SlewRate
from hwsim.substrates import (
    GROUND,
    Diode,
    EnergyNetwork,
    FieldSubstrate,
    Hard,
    Identity,
    LeakyNetwork,
    Logistic,
    ReLU,
    Shockley,
    Softplus,
    Tanh,
)
from hwsim.testing import LimitedDevice, check_device
from hwsim.testing.draws import draw_parameters

NOISE = NoisePath(seed=3)
DIODE = Diode(anode=0, cathode=GROUND, law=Shockley(saturation_current=0.1, ideality=20.0))


def cubic(z, x, theta):
    return theta["b"] - z - 0.1 * z * z * z + x @ theta["U"].T


def own_field(*, analytic, function=cubic):
    return FieldSubstrate(function=function, units=4, inputs=3, blocks={"U": (4, 3), "b": (4,)}, analytic=analytic)


HOLOMORPHIC = {
    **{name: make for name, make in SUBSTRATES.items() if make().holomorphic},
    "softplus": lambda: LeakyNetwork.dense(UNITS, 3, Softplus()),
    "energy, logistic": lambda: EnergyNetwork.symmetric(UNITS, 3, Logistic()),
    "energy, identity": lambda: EnergyNetwork.symmetric(UNITS, 3, Identity()),
    "Shockley": lambda: ring(diodes=(DIODE,)),
    "own": lambda: own_field(analytic=True),
}


def draw(spec, seed=0, lanes=4):
    """Inputs, and a complex state and force."""
    normal = np.random.default_rng(seed).standard_normal
    state, force = (normal((lanes, spec.units)) + 0.4j * normal((lanes, spec.units)) for _ in range(2))
    return normal((lanes, spec.inputs)), 0.5 * state, 0.3 * force


def settled(device, *phases, start=None, lanes=4, noise=NOISE):
    x, state, _ = draw(device.spec, lanes=lanes)
    plan = Plan(inputs=x, ids=np.arange(lanes), start=At(state) if start is None else start, phases=phases)
    return device.relax(plan, noise=noise)


def programmed(substrate, **parts):
    device = SimulatedDevice(substrate, horizon=12, **parts)
    return device, device.program(draw_parameters(device.spec, 0))


# --- Where the physics is analytic --------------------------------------------------------------------------------


def test_what_is_claimed_to_be_holomorphic():
    assert {name for name, make in SUBSTRATES.items() if not make().holomorphic} == {
        "resistors and diodes",  # ideal ones have a corner
        "a field of one's own",  # nobody said so
    }
    assert not LeakyNetwork.dense(3, 2, ReLU()).holomorphic
    assert not EnergyNetwork.symmetric(3, 2, Hard()).holomorphic


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_a_complex_step_is_the_tangent(name):
    # Im F(z + i h v) / h = J v + O(h^2): to rounding, without a difference
    substrate = HOLOMORPHIC[name]()
    device, held = programmed(substrate)
    x, state, force = draw(device.spec)
    z, v, h = state.real, force.real, 1e-20
    found = substrate.field(z + 1j * h * v, x, held)
    exact = substrate.tangent(v, z, x, held)
    assert np.abs(found.imag / h - exact).max() < 1e-13 * (1.0 + np.abs(exact).max())
    assert np.abs(found.real - substrate.field(z, x, held)).max() < 1e-14 * (1.0 + np.abs(found).max())
    # away from the real line: F(z*) = F(z)*, and Cauchy and Riemann by differences
    there = substrate.field(state, x, held)
    assert np.abs(substrate.field(state.conj(), x, held) - there.conj()).max() < 1e-14 * (1.0 + np.abs(there).max())
    h = 1e-5
    slopes = [
        (substrate.field(state + h * w, x, held) - substrate.field(state - h * w, x, held)) / (2.0 * h * factor)
        for w, factor in ((v, 1.0), (1j * v, 1j))
    ]
    assert np.abs(slopes[0] - slopes[1]).max() < 1e-8 * (1.0 + np.abs(slopes[0]).max())


@pytest.mark.parametrize("r", [Identity(), Tanh(), Logistic(), Softplus()])
def test_nonlinearities_are_bounded_by_overflow_nowhere(r):
    z = np.array([-800.0, -30.0, 0.0, 30.0, 800.0])
    with np.errstate(over="raise"):
        values = r(z + 0.5j)
    assert np.isfinite(values).all()
    assert np.abs(r(z + 0j) - r(z)).max() < 1e-15 * (1.0 + np.abs(r(z)).max())


def test_softplus_of_a_complex_tensor():
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).standard_normal(7) + 0.5j
    assert np.abs(Softplus()(torch.from_numpy(z)).numpy() - Softplus()(z)).max() < 1e-15
    assert namespace(z).isdtype(Softplus()(z).dtype, "complex floating")


# --- Which devices offer it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softplus", "energy, logistic", "Shockley"])
def test_suite(name):
    check_device(lambda: simulated(HOLOMORPHIC[name]()))


@pytest.mark.parametrize(
    "part",
    [Rails(low=-50.0, high=50.0), SlewRate(volts_per_second=5e6), ADC(12), ReadoutNoise(0.01)],
    ids=lambda part: type(part).__name__,
)
def test_a_chip_that_is_not_analytic_offers_no_complex_states(part):
    device, _ = programmed(LeakyNetwork.dense(3, 2), imperfections=[part])
    assert SIMULATED - device.spec.capabilities == {Capability.COMPLEX}
    with pytest.raises(CapabilityError, match="complex"):
        settled(device, Phase(steps=1))


def test_capabilities_are_what_is_offered_at_most():
    dense, corner = LeakyNetwork.dense(3, 2), LeakyNetwork.dense(3, 2, ReLU())
    assert SimulatedDevice(dense, horizon=3).spec.capabilities == SIMULATED
    assert SimulatedDevice(corner, horizon=3).spec.capabilities == SIMULATED - {Capability.COMPLEX}
    few = frozenset({Capability.COMPLEX, Capability.RECORD})
    assert SimulatedDevice(dense, horizon=3, capabilities=few).spec.capabilities == few
    assert SimulatedDevice(corner, horizon=3, capabilities=few).spec.capabilities == {Capability.RECORD}


def test_a_device_without_the_capability_refuses_by_name():
    substrate = LeakyNetwork.dense(3, 2)
    for device in (
        programmed(substrate, capabilities=SIMULATED - {Capability.COMPLEX})[0],
        LimitedDevice(programmed(substrate)[0], SIMULATED - {Capability.COMPLEX}),
    ):
        x, state, force = draw(device.spec)
        for start, phase in (
            (At(state), Phase(steps=1)),
            (At(state.real), Phase(steps=1, force=force)),
            (At(state.real), Phase(steps=1, force=force[None])),
            (At(state.real), Phase(steps=1, displace=force)),
            (At(state.real), Phase(steps=1, clamp=(np.array([1]), force[:, 1:2]))),
        ):
            with pytest.raises(CapabilityError, match="complex"):
                settled(device, phase, start=start)
            if phase.clamp is None:
                plan = Plan(inputs=x, ids=np.arange(4), start=start, phases=(phase,))
                with pytest.raises(CapabilityError, match="complex"):
                    device.relax_transpose(state.real, plan, noise=NOISE)


def test_what_must_be_real():
    device, _ = programmed(LeakyNetwork.dense(3, 2))
    x, state, force = draw(device.spec)
    plan = Plan(inputs=x, ids=np.arange(4), phases=(Phase(steps=1, force=force),))
    # annotated as real, so that the types refuse them here and the values where nobody checks types
    for action in (
        lambda: Plan(inputs=x + 0j, ids=np.arange(4), phases=(Phase(steps=1),)),
        lambda: Phase(steps=1, correct_at=state),
        lambda: device.relax_transpose(state, plan, noise=NOISE),
    ):
        with pytest.raises(Exception, match=r"real|c128"):
            action()


# --- How it settles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", [Heun, Exponential])
@pytest.mark.parametrize("name", ["dense", "energy", "Langevin", "oscillators", "resistors"])
def test_other_integrators_continue_analytically(name, integrator):
    if name == "oscillators" and integrator is Exponential:
        pytest.skip("oscillators have no linear part")
    device, _ = programmed(SUBSTRATES[name](), integrator=integrator)
    _, state, force = draw(device.spec)
    h, v = 1e-20, force.imag
    nudged = settled(device, Phase(steps=6, force=force.real + 1j * h * v), start=At(state.real))[0].final
    d = 1e-5
    ahead, behind = (
        settled(device, Phase(steps=6, force=force.real + sign * d * v), start=At(state.real))[0].final
        for sign in (1.0, -1.0)
    )
    assert np.abs(nudged.imag / h - (ahead - behind) / (2.0 * d)).max() < 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", [None, Stepwise()])
def test_precision_is_that_of_the_device(dtype, engine):
    device, _ = programmed(LeakyNetwork.dense(5, 3), dtype=dtype, engine=engine)
    (run,) = settled(device, Phase(steps=4, record=2))
    assert run.final.dtype == run.recorded.dtype == np.result_type(dtype, np.complex64)
    assert run.residual.dtype.kind == "f"
    exact, _ = programmed(LeakyNetwork.dense(5, 3))
    assert np.abs(run.final - settled(exact, Phase(steps=4))[0].final).max() < 30 * np.finfo(dtype).eps


def test_real_plans_are_run_by_the_engine_as_before():
    substrate = LeakyNetwork.dense(5, 3)
    able, unable = (
        programmed(substrate, engine=Fused(), capabilities=capabilities, imperfections=[ThermalNoise(0.1)])[0]
        for capabilities in (SIMULATED, SIMULATED - {Capability.COMPLEX})
    )
    start = At(draw(able.spec)[1].real)
    before = settled(able, Phase(steps=9), start=start)[0]
    settled(able, Phase(steps=9))
    for run in (settled(able, Phase(steps=9), start=start)[0], settled(unable, Phase(steps=9), start=start)[0]):
        assert np.array_equal(run.final, before.final)
        assert run.final.dtype == np.float64


def test_noise_is_real_and_the_same_at_conjugate_points():
    device, _ = programmed(LeakyNetwork.dense(5, 3), imperfections=[ThermalNoise(0.1), Mismatch(gain=0.1, offset=0.1)])
    _, state, force = draw(device.spec)
    start = At(state.real)
    there = settled(device, Phase(steps=9, force=force), start=start)[0].final
    back = settled(device, Phase(steps=9, force=force.conj()), start=start)[0].final
    assert np.abs(there - back.conj()).max() < 1e-14
    plain = settled(device, Phase(steps=9), start=start)[0].final
    alone = settled(device, Phase(steps=9, force=0.0 * force), start=start)[0].final
    assert np.abs(alone - plain).max() < 1e-14
    assert not np.array_equal(plain, settled(device, Phase(steps=9), start=start, noise=NOISE.at_step(1))[0].final)


def test_clamped_units_are_boundary_values_of_an_analytic_function():
    device, _ = programmed(LeakyNetwork.dense(5, 3))
    _, state, _ = draw(device.spec)
    units, h = np.array([0, 3]), 1e-20
    values, v = state[:, units].real, state[:, units].imag
    run = settled(device, Phase(steps=7, clamp=(units, values + 1j * h * v)), start=At(state.real))[0]
    assert np.array_equal(run.final[:, units], values + 1j * h * v)
    d = 1e-5
    ahead, behind = (
        settled(device, Phase(steps=7, clamp=(units, values + sign * d * v)), start=At(state.real))[0].final
        for sign in (1.0, -1.0)
    )
    assert np.abs(run.final.imag / h - (ahead - behind) / (2.0 * d)).max() < 1e-9


def test_a_carried_complex_state_stays_complex():
    device, _ = programmed(LeakyNetwork.dense(5, 3))
    _, _, force = draw(device.spec)
    first = settled(device, Phase(steps=5, force=force), start=Rest())[0].final
    saved = device.save()
    second = settled(device, Phase(steps=0), start=Carry())[0].final
    assert np.array_equal(second, first)
    device.restore(saved)
    assert np.array_equal(settled(device, Phase(steps=0), start=Carry())[0].final, first)


def test_a_pole_is_an_outcome():
    device = SimulatedDevice(LeakyNetwork.dense(1, 1), horizon=2)
    device.program(Parameters({"W": np.ones((1, 1)), "U": np.zeros((1, 1)), "b": np.zeros(1)}))
    start = At(np.array([[0.5j * np.pi], [0.1 + 0j]]))
    (run,) = device.relax(
        Plan(inputs=np.zeros((2, 1)), ids=np.arange(2), start=start, phases=(Phase(steps=1),)), noise=NOISE
    )
    assert np.abs(run.final[0]).item() > 1e10
    assert np.abs(run.final[1]).item() < 1.0
