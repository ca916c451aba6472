"""Three-factor eligibility: what it asks of a device, what it refuses, and odd inputs.

Like all test_rules files, without torch (but for the one test that asks for it).
"""

import dataclasses

import numpy as np
import pytest
from eligibility_setting import MEMBERS, recording_of, run
from rule_setting import EPS, NOISE, T, relative, setting
from tables import DEVICES, SUBSTRATES

from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError, InputError
from hwsim.contracts.ladder import Snapshot
from hwsim.contracts.needs import Cost, Needs
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind, require
from hwsim.devices import ADC, Stepwise, ThermalNoise
from hwsim.devices.feedback import SeparateFeedback
from hwsim.learning_rules.eligibility import Eligibility
from hwsim.learning_rules.influence_confined import RTRL, Blockwise, SnAp
from hwsim.learning_rules.influence_kronecker import KFRTRL, LowRank
from hwsim.learning_rules.influence_local import RFLO, EProp
from hwsim.learning_rules.influence_projected import UORO
from hwsim.reference import bptt_along
from hwsim.substrates import Dense, LinearLangevin
from hwsim.tasks import Windowed
from hwsim.testing import RandomRegression, check_rule

FACTORED = ("eprop", "kf", "low_rank")
"""Members that need the influence of every block as a product."""
BIASED = ("snap1", "snap2", "rflo", "eprop", "blockwise")


# --- What it asks and says ------------------------------------------------------------------------------------------

CHECKED = [
    *((member, "float64", "dense") for member in MEMBERS),
    ("eprop", "converter, noisy", "dense"),
    ("uoro", "float32", "symmetric"),
    ("low_rank", "carry", "energy"),
    ("kf", "random start", "convolution"),
    ("uoro", "float64", "oscillators"),
    ("blockwise", "float64", "resistors and diodes"),
    ("rflo", "natural", "dense"),
]


@pytest.mark.parametrize(("member", "device", "substrate"), CHECKED)
def test_the_contract(member, device, substrate):
    check_rule(lambda: Eligibility(influence=MEMBERS[member]), lambda: DEVICES[device](SUBSTRATES[substrate]()))


def test_only_members_that_look_at_the_model_need_it():
    for name, member in MEMBERS.items():
        local = name in ("rflo", "eprop")
        rule = Eligibility(influence=member)
        assert rule.kind is (Kind.LOCAL if local else Kind.MODEL_ASSISTED)
        capabilities = frozenset(() if local else {Capability.MODEL})
        assert rule.needs == Needs(capabilities=capabilities, record=1, factored=name in FACTORED)
    assert Eligibility() == Eligibility(influence=RFLO())
    here = run("dense")
    rule = Eligibility(influence=UORO())
    assert rule.estimate(here.device, here.theta, here.batch, here.task, here.free, NOISE).cost == Cost()


@pytest.mark.parametrize("name", ["oscillators", "resistors"])
@pytest.mark.parametrize("member", FACTORED)
def test_what_needs_factors_says_who_does_not(name, member):
    here = run(name)
    with pytest.raises(CapabilityError, match=r"needs a factored influence, gain times presynaptic quantity, of the"):
        require(Eligibility(influence=MEMBERS[member]), here.device.spec)
    with pytest.raises(CapabilityError, match=r"as gain x pre; this substrate gives none for .* RFLO, SnAp, Blockwise"):
        here.gradient(MEMBERS[member])


def test_eprop_says_where_it_cannot_tell_the_inflow():
    class TwoGains(type(SUBSTRATES["energy"]())):
        def influence(self, z, x, theta):
            found = super().influence(z, x, theta)
            return found | {"U": (2.0 * found["U"][0], found["U"][1] / 2.0)}

    energy = SUBSTRATES["energy"]()
    here = run("energy")
    odd = TwoGains(units=8, inputs=5, coupling=energy.coupling)
    recording = dataclasses.replace(
        recording_of(setting(8, lanes=3), setting(8, lanes=3).free(), odd), theta=here.theta
    )
    recording = dataclasses.replace(recording, inputs=here.batch.inputs)
    with pytest.raises(CapabilityError, match=r"those of blocks \['U'\] differ from that of W"):
        EProp().gradient(recording, NOISE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SnAp(order=0), "SnAp needs a whole number order >= 1"),
        (lambda: Blockwise(groups=0), "Blockwise needs a whole number groups >= 1"),
        (lambda: LowRank(rank=0), "LowRank needs a whole number rank >= 1"),
        (lambda: KFRTRL(probes=0), "KFRTRL needs a whole number probes >= 1"),
        (lambda: RFLO(leak=0.0), "RFLO needs leak > 0 and finite"),
        (lambda: run("dense").gradient(Blockwise(groups=((0, 1), (1, 2)))), "hold every unit 0 .. 7 once"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_every_state_must_be_there():
    here = setting(8)
    for record, found in ((4, "found 6"), (0, "not recorded")):
        with pytest.raises(InputError, match=found):
            here.gradient(Eligibility(), here.free(record=record))


def test_the_ladder_states_the_expectation():
    here = run("energy", "late half", device="converter")
    for name, member in MEMBERS.items():
        ladder = Eligibility(influence=member).ladder
        assert len(ladder.ideals) == (1 if name in BIASED else 0)
        for ideal in ladder.ideals:
            snapshot = Snapshot(
                model=here.substrate,
                theta=here.theta,
                batch=here.batch,
                task=here.task,
                states=here.free.recorded,
                step_size=here.eps,
            )
            # read through the converter, the same states give the rule and its ideal the same
            assert relative(ideal.gradient(snapshot), here.gradient(member)) < 1e-12


# --- Odd inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", MEMBERS)
def test_one_sample_and_one_step(member):
    """After one step M is eps F_theta itself: whatever makes no use of signs is exact."""
    here = setting(8, lanes=1, horizon=1)
    free = here.free()
    found = here.gradient(Eligibility(influence=MEMBERS[member]), free)
    exact = bptt_along(here.network, here.theta, here.batch, here.task, free.recorded, EPS)
    assert found.finite()
    assert (relative(found, exact) < 1e-9) is (member != "uoro")


@pytest.mark.parametrize("member", MEMBERS)
def test_no_signal_no_gradient(member):
    class Silent(RandomRegression):
        def signal(self, z, targets, theta):
            return np.zeros_like(z)

    here = run("dense")
    quiet = dataclasses.replace(here, task=Windowed(task=Silent(units=8, inputs=5), first=2))
    assert quiet.gradient(MEMBERS[member]).analog.norm() == 0.0


@pytest.mark.parametrize("member", MEMBERS)
def test_nothing_to_see_at_all(member):
    """All parameters and inputs zero: the states stay at rest, and only the bias has an influence."""
    here = setting(8)
    blank = dataclasses.replace(here.batch, inputs=np.zeros_like(here.batch.inputs))
    theta = here.device.program(here.theta.analog.zeros() | here.theta.readout)
    still = dataclasses.replace(here, theta=theta, batch=blank)
    found, exact = still.gradient(Eligibility(influence=MEMBERS[member])), still.free()
    exact = bptt_along(still.network, theta, blank, still.task, exact.recorded, EPS)
    assert found.finite()
    assert found["W"].any() == found["U"].any() == False  # noqa: E712
    if member not in ("uoro", "kf"):
        assert relative(found, exact) < 1e-9


@pytest.mark.parametrize("member", MEMBERS)
def test_single_precision_is_enough(member):
    single, double = setting(8, dtype=np.float32), setting(8)
    rule = Eligibility(influence=MEMBERS[member])
    assert single.free().final.dtype == np.float32
    assert relative(single.gradient(rule), double.gradient(rule)) < 1e-3


@pytest.mark.parametrize("member", [RTRL(), SnAp(order=2), LowRank(rank=T)])
def test_noise_and_converters_are_followed_as_read(member):
    """The members differentiate along the states that were read, as BPTT does."""
    here = setting(8, imperfections=[ThermalNoise(0.1), ADC(8)], engine=Stepwise())
    free = here.free()
    exact = bptt_along(here.network, here.theta, here.batch, here.task, free.recorded, EPS)
    assert relative(here.gradient(Eligibility(influence=member), free), exact) < 1e-10


@pytest.mark.parametrize("member", MEMBERS)
def test_tensors_do_as_well(member):
    torch = pytest.importorskip("torch")
    here = setting(8)
    recording = recording_of(here, here.free(), here.network)
    arrays = {name: torch.tensor(np.array(getattr(recording, name))) for name in ("inputs", "states", "signals")}
    theta = here.theta.map(lambda block: torch.tensor(np.array(block)))
    found = MEMBERS[member].gradient(dataclasses.replace(recording, **arrays, theta=theta), NOISE)
    as_numpy = MEMBERS[member].gradient(recording, NOISE)
    assert relative(found.map(lambda block: block.numpy()), as_numpy) < 1e-9


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("name", ["symmetric", "grid"])
def test_a_feedback_array_has_no_influence(name, member):
    plain = run(name, "late half")
    pair = SeparateFeedback(*(DEVICES["float64"](SUBSTRATES[name]()) for _ in range(2)))
    theta = pair.program(plain.theta | {"feedback.W": 0.3 * plain.theta["W"]})
    found = dataclasses.replace(plain, device=pair, theta=theta).gradient(MEMBERS[member])
    assert not found["feedback.W"].any()
    rest = Parameters({block: array for block, array in found.items() if block != "feedback.W"})
    assert relative(rest, plain.gradient(MEMBERS[member])) < 1e-14


def test_a_langevin_machine_has_two_gains():
    """A enters with -1, U and b with +1: two Kronecker sums side by side, with signs of their own."""
    here = run(LinearLangevin(units=8, inputs=5, coupling=Dense(8)), "late half")
    assert relative(here.gradient(LowRank(rank=T)), here.exact) < 1e-9
