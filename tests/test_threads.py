"""One thread for linear algebra, while anybody needs it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg.cython_blas  # noqa: F401  # both libraries of BLAS must be there before threads are set
from threadpoolctl import threadpool_info, threadpool_limits

from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.plan import Phase, Plan
from hwsim.contracts.threads import one_blas_thread
from hwsim.devices import SimulatedDevice
from hwsim.devices.engines import Stepwise
from hwsim.devices.fused import Fused
from hwsim.substrates import Dense, EnergyNetwork, LeakyNetwork, LinearLangevin, OscillatorNetwork, Reciprocal
from hwsim.substrates.resistive import ResistiveNetwork


def counts() -> set[int]:
    """Threads of every BLAS of this process."""
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def several():
    """More threads than one, whatever the machine has."""
    with threadpool_limits(3, user_api="blas"):
        assert counts() == {3}
        yield
        assert counts() == {3}


def test_contexts_nest_and_an_error_ends_them():
    try:
        with one_blas_thread():
            with one_blas_thread():
                assert counts() == {1}
            assert counts() == {1}
            raise KeyError
    except KeyError:
        assert counts() == {3}


def test_the_last_of_contexts_that_overlap_gives_back_what_the_first_found():
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    with ThreadPoolExecutor(1) as other:
        other.submit(second.__enter__).result()
    first.__exit__(None, None, None)
    assert counts() == {1}
    second.__exit__(None, None, None)
    assert counts() == {3}


N, M, LANES = 150, 130, 64
NETWORKS = {
    "leaky": LeakyNetwork.dense(N, M),
    "energy": EnergyNetwork.symmetric(N, M),
    "Langevin": LinearLangevin(units=N, inputs=M, coupling=Dense(N)),
    "oscillators": OscillatorNetwork(units=N, inputs=M, coupling=Reciprocal(N), locking=0.3),
    "resistors": ResistiveNetwork.layered((100, 50), inputs=M, capacitance=1e-12, diodes=None),
}


def settled(substrate, engine, dtype):
    """Bits of what a new device reads: settled, corrected where it can be, and driven backwards."""
    draw = np.random.default_rng(1)
    if isinstance(substrate, ResistiveNetwork):
        theta = substrate.initial(0, low=1e-8, high=2e-8)
    else:
        theta = Parameters({name: 0.3 * draw.standard_normal(s) / N**0.5 for name, s in substrate.shapes().items()})
        if isinstance(substrate, LinearLangevin):
            theta = theta | Parameters({"A": np.eye(N) + theta["A"]})
    device = SimulatedDevice(substrate, horizon=4, dtype=dtype, engine=engine)
    device.program(theta)
    inputs, at = draw.standard_normal((LANES, M)), 0.1 * draw.standard_normal((LANES, N))
    correct_at = at if isinstance(substrate, LeakyNetwork | EnergyNetwork) else None
    phases = Phase(steps=4), Phase(steps=4, correct_at=correct_at)
    plan = Plan(inputs=inputs, ids=np.arange(LANES), phases=phases)
    back = Plan(inputs=inputs, ids=np.arange(LANES), phases=(Phase(steps=4, force=at),))
    runs = [
        *device.relax(plan, noise=NoisePath(seed=0)),
        *device.relax_transpose(at, back, noise=NoisePath(seed=0)),
    ]
    return b"".join(run.final.tobytes() for run in runs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", [Fused, Stepwise])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_settling_keeps_its_bits_whatever_threads_a_blas_has(name, engine, dtype):
    on_three = settled(NETWORKS[name], engine(), dtype)
    with threadpool_limits(1, user_api="blas"):
        assert on_three == settled(NETWORKS[name], engine(), dtype)
