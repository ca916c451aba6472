"""What a simulated device reads, how it says that a settling ended, and what it refuses."""

import numpy as np
import pytest
from device_setting import EPS, INPUTS, KINDS, NOISE, SIGMA, UNITS, T, device, draw, plan

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError, RangeError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import At, Carry, Outcome, Phase, Plan
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.devices import ADC, SIMULATED, Fused, Imperfection, SimulatedDevice, Stepwise, ThermalNoise
from hwsim.devices.fused import engine_for
from hwsim.devices.imperfections import Mismatch, TelegraphNoise, ecram
from hwsim.diagnostics import residual
from hwsim.substrates import Identity, LeakyNetwork, ResistiveNetwork

# --- The converter ------------------------------------------------------------------------------------------------


def test_only_what_is_read_is_quantised():
    # the analog state goes on unrounded from phase to phase, and from sample to sample
    exact, coarse = (device(imperfections=made, engine=Stepwise()) for made in ([], [ADC(6)]))
    lsb = ADC(6).lsb
    asked = plan(3, Phase(steps=5, record=1), Phase(steps=5), start=Carry())
    for _ in range(2):
        for analog, read in zip(exact.relax(asked, noise=NOISE), coarse.relax(asked, noise=NOISE), strict=True):
            assert np.abs(read.final - analog.final).max() <= lsb / 2
            assert read.final / lsb == pytest.approx(np.round(read.final / lsb), abs=1e-9)
            assert np.array_equal(read.residual, analog.residual)
            assert read.states is None or np.abs(read.states - analog.states).max() <= lsb / 2
    assert np.abs(coarse.save()["carried"] - exact.save()["carried"]).max() == 0.0


def test_saturation_is_an_outcome():
    # lane 0 settles at 3, beyond the converter's 2; lane 1 stays within it
    network = LeakyNetwork.dense(2, 1)
    here = SimulatedDevice(
        network, horizon=400, step_size=EPS, imperfections=[ADC(10, full_scale=2.0)], engine=Stepwise()
    )
    here.program(network.initial(0, gain=1.0, input_gain=1.0) * 0.0 | {"U": np.ones((2, 1))})
    asked = plan(2, Phase(steps=400), inputs=np.array([[3.0], [1.0]]))
    (run,) = here.relax(asked, noise=NOISE)
    assert run.outcome.tolist() == [Outcome.SATURATED, Outcome.SETTLED]
    assert run.worst is Outcome.SATURATED
    assert run.final[0] == pytest.approx(2.0 - ADC(10, full_scale=2.0).lsb)
    # so is one on the way there
    passing = plan(2, Phase(steps=10, displace=np.array([[0.0, 5.0], [0.0, 0.0]]), record=1), inputs=np.zeros((2, 1)))
    (run,) = here.relax(passing, noise=NOISE)
    assert run.final[0].max() < 1.0  # though what it read last was in range
    assert run.outcome.tolist() == [Outcome.SATURATED, Outcome.SETTLED]


# --- Outcomes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [Fused, Stepwise])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_outcomes_say_how_each_lane_ended(engine, dtype):
    # z' = lambda z for each unit: the lane's start picks the unit, and so the fate
    network = LeakyNetwork.dense(3, 1, Identity())
    here = SimulatedDevice(network, horizon=T, step_size=EPS, dtype=dtype, engine=engine(), tolerance=1e-3)
    weights = np.diag([0.0, 1.0, 1e12])
    here.program(network.initial(0, gain=1.0, input_gain=1.0) * 0.0 | {"W": weights, "b": np.array([0.0, 1e-2, 0.0])})
    settled, drifting, lost = np.array([1e-9, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    asked = plan(3, Phase(steps=60), inputs=np.zeros((3, 1)), start=At(np.stack([settled, drifting, lost])))
    (run,) = here.relax(asked, noise=NOISE)
    # unit 1 drifts at 1e-2 per time constant in every lane
    assert run.residual[:2] == pytest.approx(1e-2 / np.sqrt(3.0), rel=1e-3)
    assert run.outcome.tolist() == [Outcome.UNSETTLED, Outcome.UNSETTLED, Outcome.DIVERGED]
    assert run.worst is Outcome.DIVERGED
    assert "shrink the couplings" in run.worst.remedy
    here.program(network.initial(0, gain=1.0, input_gain=1.0) * 0.0 | {"W": weights})
    (run,) = here.relax(asked, noise=NOISE)
    assert run.outcome.tolist() == [Outcome.SETTLED, Outcome.SETTLED, Outcome.DIVERGED]


def test_the_device_measures_its_residual_on_its_last_step():
    network, lanes = KINDS["dense-Tanh"], 5
    here = device(engine=Stepwise())
    (run,) = here.relax(plan(lanes), noise=NOISE)
    theta = network.initial(0, gain=0.9, input_gain=1.0)
    # (z_T - z_{T-1}) / eps is the field one step before the end
    assert run.residual == pytest.approx(residual(network, theta, draw(lanes, INPUTS), run.recorded[-2]), rel=1e-9)


# --- Starts -------------------------------------------------------------------------------------------------------


def test_carry_goes_on_where_the_last_sample_ended_and_probes_leave_no_trace():
    here, lanes = device(), 4
    x = draw(lanes, INPUTS)
    (first,) = here.relax(plan(lanes, start=Carry()), noise=NOISE)
    (rest,) = device().relax(plan(lanes), noise=NOISE)
    assert np.array_equal(first.final, rest.final)  # at rest on the first
    # probes start at a loaded state, and may have other lanes
    here.relax(plan(2 * lanes, start=At(draw(2 * lanes, UNITS))), noise=NOISE)
    here.relax_transpose(first.final, plan(lanes, Phase(steps=3, force=first.final)), noise=NOISE)
    (second,) = here.relax(plan(lanes, start=Carry(), inputs=-x), noise=NOISE)
    assert np.array_equal(second.recorded[0], first.final)
    with pytest.raises(InputError, match=r"Carry continues each lane: 4 lanes.*3 are asked for"):
        here.relax(plan(3, start=Carry()), noise=NOISE)


@pytest.mark.parametrize("replayable", [True, False])
def test_a_saved_device_goes_on_to_the_same_bits(replayable):
    options = {
        "start": Carry(),
        "imperfections": [ThermalNoise(SIGMA)],
        "seed": 5,
        "capabilities": SIMULATED if replayable else SIMULATED - {Capability.REPLAYABLE_NOISE},
    }
    one, other = device(**options), device(**options)
    one.relax(plan(4, start=Carry()), noise=NOISE)
    other.restore(one.save())
    finals = [made.relax(plan(4, start=Carry()), noise=NOISE.at_step(8))[0].final for made in (one, other)]
    assert np.array_equal(*finals)


# --- What is refused ----------------------------------------------------------------------------------------------


class Unheard(Imperfection):
    """Something that acts nowhere."""

    def describe(self, scale):
        return "nowhere"


def test_a_device_that_cannot_be_built_says_why():
    network = KINDS["dense-Tanh"]
    for options, says in (
        ({"horizon": 0}, "horizon >= 1; found horizon=0"),
        ({"step_size": float("nan")}, "positive, finite step eps; found nan"),
        ({"threads": 0}, "threads >= 1; found threads=0"),
        ({"dtype": np.float16}, "dtype must be float32 or float64; found float16"),
        ({"imperfections": [Unheard()]}, "an imperfection is one of Fabrication, .*; found Unheard"),
        ({"imperfections": [Mismatch(gain=0.1, blocks=("Q",))]}, "Q"),
        ({"imperfections": [TelegraphNoise(0.1, 1e-6, 1e-6)] * 8}, "at most 7 noise processes; found 8"),
        ({"imperfections": [*ecram(), *ecram()]}, "at most 1 kinds of pulsed update; found 2"),
        ({"capabilities": frozenset({Capability.ADJUST})}, "cannot be told to offer .'adjust'."),
    ):
        with pytest.raises(InputError, match=says):
            SimulatedDevice(network, **{"horizon": T, **options})


def test_physics_in_volts_has_its_own_scale():
    network = ResistiveNetwork(units=1, inputs=1, edges=((0, 1),), capacitance=1e-9, time_constant=1e-6)
    assert SimulatedDevice(network, horizon=T).scale == network.scale
    with pytest.raises(InputError, match="ResistiveNetwork is in volts and seconds of its own: leave out scale"):
        SimulatedDevice(network, horizon=T, scale=Scale())


def test_parameters_that_the_hardware_cannot_hold():
    network = KINDS["dense-Tanh"]
    here = SimulatedDevice(network, horizon=T, ranges={"W": (-1.0, 1.0)})
    theta = network.initial(0, gain=0.1, input_gain=0.1)
    with pytest.raises(InputError, match="nothing is programmed"):
        here.relax(plan(2), noise=NOISE)
    with pytest.raises(RangeError, match=r"block W spans \[.*\], outside the device's \[-1, 1\]"):
        here.program(theta | {"W": 3.0 * np.eye(UNITS)})
    with pytest.raises(RangeError, match="block U holds a value that is not finite"):
        here.program(theta | {"U": np.full((UNITS, INPUTS), np.nan)})
    with pytest.raises(InputError, match=r"block b must have shape \(24,\); found \(23,\)"):
        here.program(theta | {"b": np.zeros(23)})
    with pytest.raises(InputError, match=r"blocks \['Q', 'U', 'W', 'b'\]; the device holds \['U', 'W', 'b'\]"):
        here.program(theta | {"Q": np.zeros(2)})


def test_what_is_read_back_is_what_the_device_holds():
    network = KINDS["dense-Tanh"]
    here = SimulatedDevice(network, horizon=T, dtype=np.float32)
    theta = network.initial(0, gain=0.9, input_gain=1.0) | {"readout.V": np.full((2, UNITS), 0.1)}
    held = here.program(theta)
    assert all(np.array_equal(held[name], theta[name].astype(np.float32)) for name in theta.analog)
    assert held["W"].dtype == np.float32
    # the digital head does not pass the hardware
    assert held["readout.V"].dtype == np.float64
    assert np.array_equal(held["readout.V"], theta["readout.V"])


LACKING = {
    Capability.RECORD: lambda b: {"phases": (Phase(steps=1, record=1),)},
    Capability.DISPLACE: lambda b: {"phases": (Phase(steps=1, displace=np.zeros((b, UNITS))),)},
    Capability.CORRECT: lambda b: {"phases": (Phase(steps=1, correct_at=np.zeros((b, UNITS))),)},
    Capability.WAVEFORM: lambda b: {"phases": (Phase(steps=1, force=np.zeros((1, b, UNITS))),)},
    Capability.CLAMP: lambda b: {"phases": (Phase(steps=1, clamp=(np.arange(2), np.zeros((b, 2)))),)},
    Capability.LOAD_STATE: lambda b: {"phases": (Phase(steps=1),), "start": At(np.zeros((b, UNITS)))},
}


@pytest.mark.parametrize("lacking", LACKING, ids=lambda capability: capability.name.lower())
def test_a_plan_beyond_the_device_names_the_capability(lacking):
    made = LACKING[lacking](2)
    here = device(capabilities=SIMULATED - {lacking}, engine=Stepwise())
    asked = Plan(inputs=np.zeros((2, INPUTS)), ids=np.arange(2), **made)
    with pytest.raises(CapabilityError, match=f"needs {lacking.name.lower()} .*this device offers: "):
        here.relax(asked, noise=NOISE)


def test_capabilities_of_the_transposed_road_and_the_model():
    asked, at = plan(2, Phase(steps=3)), np.zeros((2, UNITS))
    here = device(capabilities=SIMULATED - {Capability.TRANSPOSE, Capability.MODEL}, engine=Stepwise())
    with pytest.raises(CapabilityError, match="relax_transpose needs transpose"):
        here.relax_transpose(at, asked, noise=NOISE)
    with pytest.raises(CapabilityError, match=r"Device\.model needs model"):
        _ = here.model
    here = device(capabilities=SIMULATED - {Capability.PLAYBACK}, engine=Stepwise())
    here.relax_transpose(at, asked, noise=NOISE)
    with pytest.raises(CapabilityError, match="needs playback"):
        here.relax_transpose(np.zeros((4, 2, UNITS)), asked, noise=NOISE)
    with pytest.raises(InputError, match=r"at must be \[2, 24\] or a recording \[steps \+ 1, 2, 24\]"):
        device(engine=Stepwise()).relax_transpose(np.zeros((5, 2, UNITS)), asked, noise=NOISE)


def test_shapes_that_do_not_fit_the_lanes():
    here = device(engine=Stepwise())
    for asked, says in (
        (plan(2, inputs=np.zeros((2, 4))), r"inputs must be \[B, 5\]; found \[2, 4\]"),
        (plan(2, Phase(steps=1, force=np.zeros((3, UNITS)))), r"force must be \[2, 24\]; found \[3, 24\]"),
        (
            plan(2, Phase(steps=2, force=np.zeros((3, 2, UNITS)))),
            "a waveform over 2 steps must have as many rows; found 3",
        ),
        (plan(2, start=At(np.zeros((2, 23)))), r"the start state must be \[2, 24\]; found \[2, 23\]"),
    ):
        with pytest.raises(InputError, match=says):
            here.relax(asked, noise=NOISE)
    with pytest.raises(InputError, match="a plan needs at least one phase"):
        Plan(inputs=np.zeros((2, INPUTS)), ids=np.arange(2), phases=())
    with pytest.raises(InputError, match="steps >= 0; found steps=-1"):
        Phase(steps=-1)
    with pytest.raises(InputError, match="not recorded"):
        _ = here.relax(plan(2, Phase(steps=1)), noise=NOISE)[0].recorded


def test_the_fastest_engine_is_chosen_and_the_fused_one_knows_its_limits():
    network = KINDS["dense-Tanh"]
    assert isinstance(engine_for(network, 2), Fused)

    class Other(Substrate):
        units = inputs = 1
        field = tangent = cotangent = credit = influence = None

        def shapes(self):
            return {"b": (1,)}

    assert isinstance(engine_for(Other(), 1), Stepwise)
    here = SimulatedDevice(Other(), horizon=1, engine=Fused())
    with pytest.raises(InputError, match=r"no kernel knows the field of Other.*use engine=Stepwise\(\)"):
        here.program(Parameters({"b": np.zeros(1)}))
