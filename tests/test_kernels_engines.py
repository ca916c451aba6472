"""The fused engine against the plain one, step by step, for every substrate that has a kernel."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.threads import one_blas_thread
from hwsim.devices import fused
from hwsim.devices.engines import Deployment, Stepwise, Stretch
from hwsim.devices.fused import Fused, engine_for
from hwsim.devices.integrators import Euler, Exponential, Heun
from hwsim.devices.lanes import Lanes
from hwsim.devices.plants import PLANTS
from hwsim.substrates import (
    Chip,
    Dense,
    DrawnSubstrate,
    EnergyNetwork,
    FieldSubstrate,
    Hard,
    Identity,
    Layered,
    LeakyNetwork,
    LinearLangevin,
    Logistic,
    Masked,
    OscillatorNetwork,
    Reciprocal,
    ReLU,
    Softplus,
    Tanh,
)
from hwsim.substrates.circuit import IdealDiode, Shockley
from hwsim.substrates.resistive import ResistiveNetwork

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
"""Of the largest state: a dozen contracting steps, each rounded in another order."""
N, M, B, T = 7, 3, 5, 12


def circuit(diodes, **options):
    """Two layers; nodes settle within a time constant or so, and diodes do not conduct beyond a stable step."""
    return ResistiveNetwork.layered((4, 3), inputs=M, capacitance=1e-12, diodes=diodes, **options)


NETWORKS = {
    f"{kind.__name__} {type(r).__name__}": kind.dense(N, M, r) if kind is LeakyNetwork else kind.symmetric(N, M, r)
    for kind in (LeakyNetwork, EnergyNetwork)
    for r in (Identity(), Tanh(), Logistic(), Softplus(), ReLU(), Hard())
}
SUBSTRATES = {
    **NETWORKS,
    "LinearLangevin": LinearLangevin(units=N, inputs=M, coupling=Dense(N)),
    "OscillatorNetwork": OscillatorNetwork(units=N, inputs=M, coupling=Reciprocal(N), locking=0.3),
    "resistors": circuit(None),
    "Shockley diodes": circuit(Shockley(ideality=4.0), amplification=2.0, current_gain=0.5, bias=(0,)),
    "ideal diodes": circuit(IdealDiode(conductance_on=1e-6, threshold=0.2)),
}
EVERY = pytest.mark.parametrize("name", SUBSTRATES)
SOME = pytest.mark.parametrize("name", [name for name in SUBSTRATES if name not in NETWORKS or name.endswith("Tanh")])
"""Each kernel once: nonlinearities do not matter."""


class Case:
    """A substrate on a chip, and a phase, all random."""

    def __init__(self, substrate, dtype, *, lanes=B, integrator=Euler, root=None, split=False, **chip):
        self.draw = np.random.default_rng(7)
        self.substrate, self.dtype, self.lanes = substrate, np.dtype(dtype), lanes
        theta = self.parameters().map(lambda block: block.astype(dtype))
        if split:
            gain = {name: self.draw.normal(1, 0.1, shape) for name, shape in substrate.unshared().shapes().items()}
            chip |= {"split": True, "gain": gain}
        drawn = DrawnSubstrate(drawing=substrate, chip=replace(Chip.as_drawn(substrate.units), **chip))
        made = integrator(0.02 if isinstance(substrate, ResistiveNetwork) else 0.1)
        propagator = made.propagator(drawn, theta, root)
        self.deployment = Deployment(
            drawn=drawn,
            backwards=replace(drawn, driven_backwards=True),
            theta=theta,
            dtype=self.dtype,
            integrator=made,
            propagator=propagator,
            backward_propagator=propagator.transposed(),
        )
        self.z = self.array(lanes, substrate.units)
        self.stretch = Stretch(
            x=self.array(lanes, M),
            steps=T,
            force=None,
            correct_at=None,
            low=None,
            high=None,
            record=0,
            index=1,
            lanes=Lanes(
                path=NoisePath(seed=3, step=2),
                ids=np.arange(lanes, dtype=np.uint32),
                repeats=None,
                units=substrate.units,
            ),
        )

    def parameters(self):
        if isinstance(self.substrate, ResistiveNetwork):
            return self.substrate.initial(0, low=1e-7, high=2e-7)
        blocks = {}
        for name, shape in self.substrate.shapes().items():
            gain = 0.5 / math.sqrt(shape[-1]) if len(shape) == 2 else 0.2
            blocks[name] = gain * self.draw.normal(size=shape) + (np.eye(N) if name == "A" else 0.0)
        return Parameters(blocks)

    def array(self, *shape):
        return (0.3 * self.draw.normal(size=shape)).astype(self.dtype)

    def run(self, engine, *, at=None, ids=None, **phase):
        lanes = self.stretch.lanes if ids is None else replace(self.stretch.lanes, ids=ids)
        stretch = replace(self.stretch, lanes=lanes, **phase)
        with one_blas_thread():
            engine.program(self.deployment)
            settled = engine.relax(self.z, stretch) if at is None else engine.relax_transpose(self.z, at, stretch)
        engine.close()
        return settled

    def check(self, **phase):
        """Both engines give the same answer to rounding; returns the fused one."""
        wanted, found = (self.run(engine, **phase) for engine in (Stepwise(), Fused()))
        scale = max(1.0, float(np.abs(wanted.final).max()))
        for name in ("final", "before", "states"):
            one, other = getattr(wanted, name), getattr(found, name)
            assert (one is None) == (other is None)
            if one is not None:
                assert other.dtype == self.dtype
                np.testing.assert_allclose(other, one, rtol=0, atol=TOLERANCE[self.dtype.type] * scale)
        np.testing.assert_array_equal(found.limited, wanted.limited)
        return found


def spread():
    """Rates and offsets of a chip with mismatch."""
    draw = np.random.default_rng(1)
    return {"rate": np.exp(0.2 * draw.normal(size=N)), "offset": 0.1 * draw.normal(size=N)}


SIGMAS, MATRIX = np.linspace(0.0, 0.1, N), 0.05 * np.eye(N) + 0.01
CHIPS = {
    "as drawn": {},
    "mismatch": {**spread(), "split": True},
    "slew": {"slew": np.linspace(0.3, 1.2, N)},
    "noise": {"root": SIGMAS},
    "matrix noise": {"root": MATRIX},
    "all": {**spread(), "slew": np.linspace(0.3, 1.2, N), "root": SIGMAS, "split": True},
}


@BOTH
@SOME
@pytest.mark.parametrize("chip", CHIPS)
def test_both_engines_settle_alike(name, chip, dtype):
    settle_alike(Case(SUBSTRATES[name], dtype, **CHIPS[chip]))


@BOTH
@EVERY
def test_both_engines_settle_alike_with_any_nonlinearity(name, dtype):
    settle_alike(Case(SUBSTRATES[name], dtype, **CHIPS["all"]))


def settle_alike(case):
    dtype = case.dtype
    rail = np.full((1, N), 0.5, dtype)
    case.check()
    case.check(force=case.array(B, N), record=5)
    case.check(force=case.array(T, B, N), record=1, low=-rail, high=rail)


@BOTH
@EVERY
@pytest.mark.parametrize("chip", ["as drawn", "all"])
def test_both_engines_correct_alike(name, chip, dtype):
    case = Case(SUBSTRATES[name], dtype, **CHIPS[chip])
    case.check(correct_at=case.array(B, N), force=case.array(B, N))


@BOTH
@SOME
def test_both_engines_clamp_alike(name, dtype):
    """A clamped unit stands at its own value in every lane and limits nothing."""
    case = Case(SUBSTRATES[name], dtype, root=SIGMAS)
    low, high = np.full((B, N), -9.0, dtype), np.full((B, N), 9.0, dtype)
    low[:, [1, 4]] = high[:, [1, 4]] = case.array(B, 2)
    found = case.check(low=low, high=high)
    np.testing.assert_array_equal(found.final[:, [1, 4]], low[:, [1, 4]])
    assert not found.limited.any()


@BOTH
@EVERY
@pytest.mark.parametrize("chip", ["as drawn", "all"])
def test_both_engines_respond_alike(name, chip, dtype):
    case = Case(SUBSTRATES[name], dtype, **CHIPS[chip])
    recording = case.array(T + 1, B, N)
    case.check(at=recording[0], force=case.array(B, N))
    case.check(at=recording, force=case.array(T, B, N), record=4)


def test_a_clamped_unit_does_not_report_its_slew():
    """What pulls at it is far beyond the slew limit; the others are not."""
    case = Case(NETWORKS["LeakyNetwork Tanh"], np.float64, slew=np.full(N, 50.0))
    low, high = np.full((1, N), -np.inf), np.full((1, N), np.inf)
    low[:, 2] = high[:, 2] = 100.0
    case.z[:, 2] = 100.0
    assert not case.run(Fused(), low=low, high=high).limited.any()


@pytest.mark.parametrize("integrator", [Heun, Exponential])
@pytest.mark.parametrize("name", ["LeakyNetwork Tanh", "LinearLangevin", "resistors"])
def test_both_engines_integrate_alike(name, integrator):
    """Where a step is a matrix, or two fields, the plain engine runs inside the fused one."""
    case = Case(SUBSTRATES[name], np.float64, integrator=integrator, root=SIGMAS)
    case.check(record=3)
    case.check(at=case.array(B, N))


@BOTH
@SOME
@pytest.mark.parametrize("root", [SIGMAS, MATRIX])
def test_threads_and_twins_keep_the_bits(name, root, dtype, monkeypatch):
    """The first lanes come again at the end, in a part of another size; and alone, as a batch of their own."""
    monkeypatch.setattr(fused, "WORTH", 0.0)  # or so little work would not be shared
    lanes = 150
    case = Case(SUBSTRATES[name], dtype, lanes=lanes, root=root)
    twin = np.r_[np.arange(lanes - 10), np.arange(10)].astype(np.uint32)
    case.z, x, force = case.z[twin], case.stretch.x[twin], case.array(lanes, N)[twin]
    one, *others = (case.run(Fused(threads), x=x, force=force, ids=twin, record=6) for threads in (1, 2, 7))
    for other in others:
        assert one.states.tobytes() == other.states.tobytes()
        assert one.before.tobytes() == other.before.tobytes()
    assert one.final[:10].tobytes() == one.final[-10:].tobytes()
    assert one.final[:10].tobytes() != one.final[10:20].tobytes()
    case.z = case.z[:1]
    alone = case.run(Fused(), x=x[:1], force=force[:1], ids=twin[:1])
    assert alone.final.tobytes() == one.final[:1].tobytes()


@BOTH
@SOME
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_lane_that_is_not_finite_keeps_to_itself(name, bad, dtype):
    case = Case(SUBSTRATES[name], dtype, root=SIGMAS)
    clean = case.run(Fused()).final
    case.z[2, 3] = bad
    spoilt = case.run(Fused()).final
    np.testing.assert_array_equal(np.delete(spoilt, 2, 0), np.delete(clean, 2, 0))
    assert not np.isfinite(spoilt[2]).all()


DIRECTED = Masked.of(np.random.default_rng(0).random((260, 260)) < 0.05)
MUTUAL = Masked.grid(13, 20, reciprocal=True)
LAYERS = Layered((200, 50, 10))


@BOTH
@pytest.mark.parametrize(
    "substrate",
    [
        LeakyNetwork.dense(260, M),
        EnergyNetwork.symmetric(260, M),
        OscillatorNetwork(units=260, inputs=M, coupling=Dense(260)),
        LeakyNetwork(units=260, inputs=M, coupling=DIRECTED),
        EnergyNetwork(units=260, inputs=M, coupling=MUTUAL),
        LeakyNetwork(units=260, inputs=M, coupling=LAYERS),
        EnergyNetwork(units=260, inputs=M, coupling=Layered(LAYERS.sizes, reciprocal=True)),
    ],
)
def test_wide_networks_settle_alike(substrate, dtype):
    """More units than a panel is deep, more lanes than go together; all couplings, few of them one by one, or bands."""
    case = Case(substrate, dtype, lanes=40, root=np.full(260, 0.05))
    case.check(correct_at=case.array(40, 260), record=8)
    case.check(at=case.array(40, 260))


def test_couplings_are_laid_out_as_they_are_multiplied_fastest():
    for coupling, kind in ((Dense(260), "dense"), (DIRECTED, "sparse"), (MUTUAL, "sparse"), (LAYERS, "banded")):
        substrate = LeakyNetwork(units=260, inputs=M, coupling=coupling)
        plant = PLANTS[LeakyNetwork](substrate, substrate.initial(0, gain=0.8, input_gain=1.0), np.dtype(np.float32))
        weights = plant.net(np.zeros((1, M), np.float32), None).weights
        whole = np.diff(weights.span, axis=1).sum() == weights.panels.shape[0] * weights.panels.shape[1]
        assert ("sparse" if weights.start.size else "dense" if whole else "banded") == kind


def test_the_fastest_engine_is_chosen():
    assert isinstance(engine_for(SUBSTRATES["ideal diodes"], 2), Fused)
    own = FieldSubstrate(units=2, inputs=1, blocks={}, function=lambda z, x, theta: -z)
    assert isinstance(engine_for(own, 2), Stepwise)
