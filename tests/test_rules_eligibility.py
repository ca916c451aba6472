"""Three-factor eligibility: what each member keeps of the influence, against recursions written out here.

Like all test_rules files, without torch.
"""

import dataclasses

import numpy as np
import pytest
from eligibility_setting import LOSSES, NO_TORCH, recording_of, run
from rule_setting import EPS, NOISE, T, relative, setting
from tables import DEVICES

from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.task import judge
from hwsim.devices.imperfections import Rails
from hwsim.learning_rules.influence_confined import RTRL, Blockwise, SnAp
from hwsim.learning_rules.influence_kronecker import KFRTRL, LowRank
from hwsim.learning_rules.influence_local import RFLO, EProp
from hwsim.learning_rules.influence_projected import UORO
from hwsim.reference import bptt_along, rtrl
from hwsim.substrates import EnergyNetwork, LeakyNetwork, Masked, ReLU

# --- Exact members ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "loss"), [*((name, "late half") for name in NO_TORCH), *(("energy", loss) for loss in LOSSES)]
)
def test_rtrl_is_bptt_and_the_reference_rtrl(name, loss):
    here = run(name, loss)
    found = here.gradient(RTRL())
    assert relative(found, here.exact) < 1e-12
    judge_ = rtrl(
        here.substrate, here.theta, here.batch, here.task, z0=here.free.recorded[0], step_size=here.eps, steps=T
    )
    assert relative(found, judge_) < 1e-12


@pytest.mark.parametrize("name", NO_TORCH)
def test_confined_to_all_units_nothing_is_given_up(name):
    here = run(name, "late half")
    units = here.substrate.units
    for member in (SnAp(order=units), Blockwise(groups=units), Blockwise(groups=(tuple(range(units)[::-1]),))):
        assert relative(here.gradient(member), here.exact) < 1e-12


def test_on_dense_couplings_the_second_order_is_exact_already():
    here = run("dense", "late half")
    assert relative(here.gradient(SnAp(order=2)), here.exact) < 1e-12
    assert relative(here.gradient(SnAp(order=1)).analog, here.exact.analog) > 0.05


@pytest.mark.parametrize(
    ("name", "loss", "probes"),
    [
        *((name, "late half", 3) for name in ("symmetric", "layered", "grid", "convolution", "energy", "Langevin")),
        *(("dense", loss, None) for loss in LOSSES),
    ],
)
def test_a_kronecker_sum_of_as_many_terms_as_steps_is_exact(name, loss, probes):
    here = run(name, loss)
    assert relative(here.gradient(LowRank(rank=T, probes=probes)), here.exact) < 1e-9


@pytest.mark.parametrize("member", [RTRL(), SnAp(order=8), Blockwise(groups=8), LowRank(rank=T)])
def test_a_unit_that_a_rail_holds_has_no_influence(member):
    here = setting(8, gain=3.0, imperfections=[Rails(low=-0.4, high=0.5)], engine=None)
    free, model = here.free(), here.device.model
    assert (free.recorded == 0.5).any()
    recording = recording_of(here, free, model)
    exact = bptt_along(model, here.theta, here.batch, here.task, free.recorded, EPS)
    assert relative(member.gradient(recording, NOISE), exact.analog) < 1e-9
    assert relative(member.gradient(recording_of(here, free, here.network), NOISE), exact.analog) > 0.01


# --- Biased members: the recursion that each states, forward, entry by entry -----------------------------------------


def forward(here, step, keep=None):
    """`M' = keep * (D~ M + eps F_theta)`, `g = sum_k w_k c_k^T M_k` with M [B, N, P] held as it is.

    Args:
        here: a run.
        step: k -> D~ [B, N, N].
        keep: block -> [N, P], which entries of M are kept; all of them where None.
    """
    judged = judge(here.task, here.free, here.batch, here.theta, T)
    earlier = np.zeros((T, *judged.final.shape)) if judged.earlier is None else judged.earlier
    signals, z, x = [*earlier, judged.final], here.free.recorded, here.batch.inputs
    influence, total = {}, {}
    for k in range(T):
        rows = [
            here.substrate.credit(np.tile(post, (len(x), 1)), z[k], x, here.theta, per_sample=True)
            for post in np.eye(here.substrate.units)
        ]
        for name, block in here.theta.analog.items():
            fresh = np.stack([row[name].reshape(len(x), -1) for row in rows], axis=1)
            moved = step(k) @ influence.get(name, np.zeros_like(fresh)) + here.eps * fresh
            influence[name] = moved if keep is None else keep[name] * moved
            found = np.einsum("bn,bnp->p", signals[k + 1], influence[name]).reshape(block.shape)
            total[name] = total.get(name, 0.0) + found
    return Parameters(total)


def slopes(here, k):
    return here.eps * here.substrate.jacobian(here.free.recorded[k], here.batch.inputs, here.theta)


@pytest.mark.parametrize("name", ["dense", "symmetric", "convolution", "energy", "oscillators", "resistors"])
def test_rflo_keeps_the_leak(name):
    here = run(name, "late half")
    leaky = np.broadcast_to((1.0 - here.eps) * np.eye(here.substrate.units), (3, 8, 8))
    assert relative(here.gradient(RFLO()).analog, forward(here, lambda k: leaky)) < 1e-12
    slow = np.broadcast_to((1.0 - 0.3 * here.eps) * np.eye(here.substrate.units), (3, 8, 8))
    assert relative(here.gradient(RFLO(leak=0.3)).analog, forward(here, lambda k: slow)) < 1e-12


def test_rflo_is_one_low_pass_trace_for_each_presynaptic_unit():
    here = run("dense")
    trace = np.zeros((3, 8))
    for z in here.free.recorded[:-1]:
        trace = (1.0 - here.eps) * trace + here.eps * np.tanh(z)
    c = here.task.signal(here.free.final, here.batch.targets, here.theta)
    assert np.allclose(here.gradient(RFLO())["W"], c.T @ trace, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["dense", "symmetric", "grid", "energy", "oscillators", "resistors and diodes"])
def test_snap_1_keeps_the_diagonal(name):
    here = run(name, "late half")

    def step(k):
        return np.eye(8) * (1.0 + slopes(here, k))

    assert relative(here.gradient(SnAp()).analog, forward(here, step)) < 1e-12
    assert relative(here.gradient(Blockwise(groups=1)).analog, forward(here, step)) < 1e-12


@pytest.mark.parametrize("order", [1, 2, 3])
def test_snap_n_keeps_what_is_within_n_steps(order):
    """On couplings to the right-hand neighbour alone, where parameter i -> i + 1 acts on i + 1."""
    line = Masked(8, tuple((i + 1, i) for i in range(7)) + tuple((i, i) for i in range(8)))
    here = run(LeakyNetwork(units=8, inputs=5, coupling=line), "late half")
    # every step of influence is one unit to the right: n units, the one that it entered first
    near = np.array([[0 <= k - i < order for i in range(8)] for k in range(8)])
    entered = {"W": [post for post, _ in line.pairs], "U": np.repeat(np.arange(8), 5), "b": np.arange(8)}
    kept = {name: near[:, units] for name, units in entered.items()}
    expected = forward(here, lambda k: np.eye(8) + slopes(here, k), kept)
    assert relative(here.gradient(SnAp(order=order)).analog, expected) < 1e-12
    assert relative(expected, here.exact.analog) > 1e-4  # or there was nothing to leave out


@pytest.mark.parametrize("groups", [3, ((0, 5), (1, 2, 7), (3, 4, 6))])
@pytest.mark.parametrize("name", ["dense", "symmetric", "energy", "resistors"])
def test_blockwise_keeps_diagonal_blocks(name, groups):
    here = run(name, "late half")
    of = np.arange(8) // 3 if groups == 3 else np.array([0, 1, 1, 2, 2, 0, 2, 1])
    inside = of[:, None] == of[None, :]
    expected = forward(here, lambda k: inside * (np.eye(8) + slopes(here, k)))
    assert relative(here.gradient(Blockwise(groups=groups)).analog, expected) < 1e-12
    assert relative(expected, here.exact.analog) > 1e-3


def test_blockwise_is_exact_where_groups_are_not_coupled():
    mask = np.kron(np.eye(2, dtype=bool), np.ones((4, 4), bool))
    here = run(LeakyNetwork(units=8, inputs=5, coupling=Masked.of(mask)), "late half")
    assert relative(here.gradient(Blockwise(groups=4)), here.exact) < 1e-12
    assert relative(here.gradient(Blockwise(groups=3)), here.exact) > 1e-3


def test_eprop_keeps_the_units_own_slope():
    """Energy network: `dF_i/dz_i` at fixed r(z_j) is -1 + r''(z_i) (W r + U x + b)_i."""
    here = run("energy", "late half")

    def step(k):
        z = here.free.recorded[k]
        r = np.tanh(z)
        inflow = r @ here.substrate.coupling.matrix(here.theta["W"]) + here.substrate.drive(
            here.batch.inputs, here.theta
        )
        return np.eye(8) * (1.0 + here.eps * (-1.0 - 2.0 * r * (1.0 - r * r) * inflow))[:, None, :]

    assert relative(here.gradient(EProp()).analog, forward(here, step)) < 1e-8  # a difference of gains
    assert relative(here.gradient(EProp()), here.gradient(RFLO())) > 0.01


@pytest.mark.parametrize("name", ["dense", "symmetric", "grid", "Langevin"])
def test_eprop_is_rflo_where_the_gain_is_constant(name):
    here = run(name, "late half")
    assert relative(here.gradient(EProp()), here.gradient(RFLO())) == 0.0


@pytest.mark.parametrize("make", [LeakyNetwork, EnergyNetwork])
def test_eprop_is_snap_1_without_the_couplings_of_a_unit_with_itself(make):
    reciprocal = make is EnergyNetwork
    others = Masked.of(~np.eye(8, dtype=bool), reciprocal=reciprocal)
    apart = run(make(units=8, inputs=5, coupling=others))
    assert relative(apart.gradient(EProp()), apart.gradient(SnAp())) < 1e-8
    everything = Masked.of(np.ones((8, 8), bool), reciprocal=reciprocal)
    together = run(make(units=8, inputs=5, coupling=everything))
    assert relative(together.gradient(EProp()), together.gradient(SnAp())) > 1e-3


def test_eprop_through_a_gain_that_is_zero():
    """Where r is flat nothing enters and the unit only leaks; with r = relu the gain is 0 or 1, and never bends."""
    here = run(EnergyNetwork.symmetric(8, 5, ReLU()))
    assert (here.free.recorded < 0).any()
    assert relative(here.gradient(EProp()), here.gradient(RFLO())) < 1e-12


# --- Unbiased members: the published recursion, with M's factors held as they are ----------------------------------


def root_ratio(above, below):
    return np.sqrt(above / below) if above > 0 and below > 0 else 1.0


def by_hand(here, start, advance):
    """`g = sum_k w_k c_k^T M~_k` for each sample by itself; advance(state, k, b, D, I) -> (state, M~ [N, P])."""
    judged = judge(here.task, here.free, here.batch, here.theta, T)
    earlier = np.zeros((T, *judged.final.shape)) if judged.earlier is None else judged.earlier
    signals, z, x = np.concatenate([earlier, judged.final[None]]), here.free.recorded, here.batch.inputs
    total = 0.0
    for b in range(len(x)):
        state = start
        for k in range(T):
            D = np.eye(8) + here.eps * here.substrate.jacobian(z[k, b : b + 1], x[b : b + 1], here.theta)[0]
            r = here.substrate.influence(z[k, b : b + 1], x[b : b + 1], here.theta)
            gain, pre = r["W"][0][0], np.concatenate([r[name][1][0] for name in ("W", "U", "b")])
            state, influence = advance(state, k, b, D, here.eps * gain, pre)
            total = total + np.einsum("i,ijk->jk", signals[k + 1, b], influence)
    return here.substrate.share(Parameters({"W": total[:, :8], "U": total[:, 8:13], "b": total[:, 13]}))


def signs_of(here, phase, units, steps):
    recording = recording_of(dataclasses.replace(setting(8, lanes=3)), setting(8, lanes=3).free(), here.substrate)
    return dataclasses.replace(recording, ids=here.batch.ids).signs(NOISE, phase, units=units, steps=steps)


@pytest.mark.parametrize(("name", "loss"), [("dense", "final"), ("dense", "one state"), ("energy", "all but the last")])
def test_uoro_is_its_recursion(name, loss):
    here = run(name, loss)
    nu = signs_of(here, 0, 8, T)

    def advance(state, k, b, D, gain, pre):
        s, m = state
        fresh = np.outer(nu[k, b] * gain, pre)
        r0 = root_ratio(np.linalg.norm(m), np.linalg.norm(D @ s))
        r1 = root_ratio(np.linalg.norm(fresh), np.sqrt(8.0))
        s, m = r0 * (D @ s) + r1 * nu[k, b], m / r0 + fresh / r1
        return (s, m), s[:, None, None] * m

    expected = by_hand(here, (np.zeros(8), np.zeros((8, 14))), advance)
    assert relative(here.gradient(UORO()).analog, expected) < 1e-11


@pytest.mark.parametrize(
    ("name", "loss"), [("symmetric", "final"), ("dense", "one state"), ("energy", "all but the last")]
)
def test_kf_rtrl_is_its_recursion(name, loss):
    here = run(name, loss)
    signs = signs_of(here, 1, 2, T)

    def advance(state, k, b, D, gain, pre):
        A, H = state
        n0, n1 = signs[k, b]
        p0 = root_ratio(np.linalg.norm(D @ H), np.linalg.norm(A))
        p1 = root_ratio(np.linalg.norm(gain), np.linalg.norm(pre))
        A, H = n0 * p0 * A + n1 * p1 * pre, n0 / p0 * (D @ H) + n1 / p1 * np.diag(gain)
        return (A, H), H[:, :, None] * A

    expected = by_hand(here, (np.zeros(14), np.zeros((8, 8))), advance)
    assert relative(here.gradient(KFRTRL(probes=None)).analog, expected) < 1e-11


@pytest.mark.parametrize("name", ["layered", "grid", "convolution"])
@pytest.mark.parametrize("make", [KFRTRL, LowRank])
def test_a_kronecker_sum_for_some_couplings_is_that_of_all_couplings_picked(name, make):
    """A layered, sparse or convolutional W against the dense network with the same W: credit is linear."""
    part = run(name, "late half")
    W = part.substrate.coupling.matrix(part.theta["W"])
    whole = LeakyNetwork.dense(8, 5)
    device = DEVICES["float64"](whole)
    theta = device.program(part.theta | {"W": W})
    full = dataclasses.replace(part, substrate=whole, device=device, theta=theta)
    everywhere, found = full.gradient(make()), part.gradient(make())
    for block in ("U", "b"):
        assert np.allclose(found[block], everywhere[block], rtol=1e-9, atol=1e-12)
    # <g_W, d> for the W that every single parameter makes
    coupling = part.substrate.coupling
    for index in np.ndindex(coupling.shape):
        one = np.zeros(coupling.shape)
        one[index] = 1.0
        assert found["W"][index] == pytest.approx(np.sum(everywhere["W"] * coupling.matrix(one)), rel=1e-8, abs=1e-11)


def test_a_flat_gain_stops_a_kronecker_sum_only_where_it_is_in_the_way():
    whole = run(EnergyNetwork.symmetric(8, 5, ReLU()))
    assert relative(whole.gradient(LowRank(rank=T)), whole.exact) < 1e-9
    grid = run(EnergyNetwork(units=8, inputs=5, coupling=Masked.grid(2, 4, reciprocal=True), nonlinearity=ReLU()))
    with pytest.raises(CapabilityError, match="use a nonlinearity that is nowhere flat, or UORO"):
        grid.gradient(LowRank())
    assert grid.gradient(UORO()).finite()
