"""Sparse couplings: hwsim beside the products that a good engineer would take for them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hwsim import LeakyNetwork, NoisePath, Parameters, Phase, Plan, SimulatedDevice, ThermalNoise
from hwsim.contracts.threads import one_blas_thread
from hwsim.substrates import Masked

from .engines import States
from .figures import Answer, Bar, Sheet, milliseconds, times
from .job import GAIN, NOISE, SEED, STEP_SIZE
from .parity import SPREAD, Mismatch
from .timing import Contender, Timing, interleaved

SIZES = ((1000, 0.01), (1000, 0.05), (4000, 0.01), (20000, 0.01))
"""(N, density) by default."""
SIZES_FULL = tuple((units, density) for units in (1000, 4000, 20000) for density in (0.01, 0.05))
LANES, STEPS = 64, 30
FASTER = 3.0
"""How many times as fast as the best peer hwsim must be."""
DENSEST = 4000
"""Units up to which a dense product is timed as well."""
BUDGET = 10.0
"""Seconds for the rounds of one size."""


@dataclass(frozen=True, kw_only=True)
class SparseJob:
    """As `Job`, with K = density N^2 couplings at random places, `W ~ gain N(0, 1) / sqrt(K / N)`, and no inputs but b.

    Args:
        units: N.
        density: couplings that exist, of N^2.
    """

    units: int
    density: float

    @cached_property
    def couplings(self) -> csr_array:
        """W, float32."""
        draw = np.random.default_rng(SEED)
        count = round(self.density * self.units**2)
        places = np.unique(draw.integers(0, self.units**2, count))
        values = GAIN * draw.standard_normal(len(places)) / np.sqrt(len(places) / self.units)
        posts, pres = np.divmod(places, self.units)
        return csr_array((values.astype(np.float32), (posts, pres)), shape=(self.units, self.units))

    @cached_property
    def bias(self) -> NDArray[np.float32]:
        """b, [N]."""
        return np.random.default_rng(SEED + 1).standard_normal(self.units).astype(np.float32)

    @property
    def amplitude(self) -> float:
        """Standard deviation of the noise of one step."""
        return NOISE * float(np.sqrt(2.0 * STEP_SIZE))


Relax = Callable[[bool], States]
"""Settles once, with noise or without: z_T, [B, N]."""


def hwsim_network(units: int, posts: NDArray[np.integer], pres: NDArray[np.integer]) -> LeakyNetwork:
    """A network with couplings at these places only, one parameter each in this order."""
    return LeakyNetwork(units=units, inputs=1, coupling=Masked(units, np.stack([posts, pres], axis=1)))


def measure(rounds: int, *, full: bool = False) -> Answer:
    """N units at 1 and 5 %, B = 64, T = 30, noise on, float32, one thread.

    Raises:
        Mismatch: two do not agree.
    """
    sheet = Sheet(
        f"Sparse couplings: ms per relaxation, median (minimum); B = {LANES}, T = {STEPS}, float32, noise on, 1 thread",
        f"dense: the product with all N^2 entries, up to N = {DENSEST}. The ratio is that of the best peer, by minima.",
        *("N, density", "hwsim", "scipy CSR", "torch CSR", "torch dense", "best peer over hwsim"),
    )
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    for units, density in SIZES_FULL if full else SIZES:
        print(f"  {units} units at {100 * density:g} %", file=sys.stderr, flush=True)
        timings = _timings(SparseJob(units=units, density=density), rounds)
        case, own = f"{units}, {100 * density:g} %", timings["hwsim"]
        best = min(timing.minimum for name, timing in timings.items() if name != "hwsim")
        ratio = best / own.minimum
        cells = [milliseconds(timings[name]) if name in timings else "" for name in ("hwsim", *_PEERS)]
        sheet.add(case, *cells, times(ratio))
        rows.append(
            {
                "units": units,
                "density": density,
                "times": {name: timing.to_json() for name, timing in timings.items()},
                "best_peer_over_hwsim": ratio,
            }
        )
        name = f"sparse {case} against the best peer"
        bars.append(Bar(name=name, figure=ratio, limit=FASTER, unit="x", at_least=True))
    return Answer(rows=rows, sheets=[sheet], bars=bars)


def _timings(job: SparseJob, rounds: int) -> dict[str, Timing]:
    makers: dict[str, Callable[[SparseJob], Relax]] = {"hwsim": _hwsim, **_PEERS}
    calls = {name: make(job) for name, make in makers.items() if job.units <= DENSEST or name != "torch dense"}
    with _one_torch_thread():
        _check(job, calls)
        contenders = {
            name: Contender(call=partial(call, True), settings=one_blas_thread) for name, call in calls.items()
        }
        return interleaved(contenders, rounds, budget=BUDGET)


def _check(job: SparseJob, calls: dict[str, Relax]) -> None:
    """Same z_T without noise; same pooled standard deviation of what noise adds."""
    (first, judge), *others = calls.items()
    quiet = judge(False).copy()
    spread = float((judge(True) - quiet).std())
    for name, call in others:
        error = float(np.abs(call(False) - quiet).max() / np.abs(quiet).max())
        ratio = float((call(True) - quiet).std()) / spread
        if not (error <= 1e-4 and abs(ratio - 1.0) < SPREAD):
            raise Mismatch(f"{name} ends {error:.1e} away from {first}, with {ratio:.3f} of its noise ({job})")


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _hwsim(job: SparseJob) -> Relax:
    entries = job.couplings.tocoo()
    network = hwsim_network(job.units, entries.row, entries.col)
    theta = Parameters({"W": entries.data, "U": np.zeros((job.units, 1), np.float32), "b": job.bias})
    inputs, ids = np.zeros((LANES, 1), np.float32), np.arange(LANES)
    plan = Plan(inputs=inputs, ids=ids, phases=(Phase(steps=STEPS),))
    devices = {}
    for noisy in (False, True):
        devices[noisy] = SimulatedDevice(
            network,
            horizon=STEPS,
            step_size=STEP_SIZE,
            imperfections=[ThermalNoise(NOISE)] if noisy else [],
            dtype=np.float32,
        )
        devices[noisy].program(theta)
    return lambda noisy: devices[noisy].relax(plan, noise=NoisePath(seed=SEED))[0].final


def _scipy(job: SparseJob) -> Relax:
    """`W @ r` with units along the rows, as CSR wants it."""
    weights, bias, draw = job.couplings, job.bias[:, None], np.random.default_rng(SEED)

    def relax(noisy: bool) -> States:
        z = np.zeros((job.units, LANES), np.float32)
        for _ in range(STEPS):
            total = weights @ np.tanh(z)
            total += bias
            total -= z
            total *= np.float32(STEP_SIZE)
            z += total
            if noisy:
                z += np.float32(job.amplitude) * draw.standard_normal(z.shape, dtype=np.float32)
        return z.T

    return relax


def _torch_csr(job: SparseJob) -> Relax:
    found = job.couplings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of its beta state
        return _in_torch(job, partial(torch.mm, _csr(found)))


def _csr(found: csr_array) -> torch.Tensor:
    return torch.sparse_csr_tensor(
        torch.tensor(found.indptr.astype(np.int64)),
        torch.tensor(found.indices.astype(np.int64)),
        torch.tensor(found.data),
        size=found.shape,
    )


def _torch_dense(job: SparseJob) -> Relax:
    weights = torch.tensor(job.couplings.toarray())
    return _in_torch(job, lambda rate: weights @ rate)


def _in_torch(job: SparseJob, product: Callable[[torch.Tensor], torch.Tensor]) -> Relax:
    bias, draw = torch.tensor(job.bias)[:, None], torch.Generator().manual_seed(SEED)
    noise = torch.empty(job.units, LANES)

    @torch.inference_mode()
    def relax(noisy: bool) -> States:
        z = torch.zeros(job.units, LANES)
        for _ in range(STEPS):
            z.lerp_(product(torch.tanh(z)).add_(bias), STEP_SIZE)
            if noisy:
                z.add_(noise.normal_(generator=draw), alpha=job.amplitude)
        return z.numpy().T

    return relax


_PEERS: dict[str, Callable[[SparseJob], Relax]] = {
    "scipy CSR": _scipy,
    "torch CSR": _torch_csr,
    "torch dense": _torch_dense,
}
