"""`python -m benchmarks.gpu`: large networks on a GPU, beside torch eager, torch.compile and jax.

Every engine settles the same leaky tanh network, noise on, N = 1024 .. 16384 units and B = 64 .. 1024 lanes for T = 150
steps. Before anything is timed all must give the first one's trajectory without noise. Each time is put beside what the
GPU can do, measured on the spot: the rate of one product [B, N] x [N, N] of the same type at the best of a few sizes,
and the rate at which it copies memory.

Without a GPU it says so and measures nothing. `--device cpu` runs the same code on the processor at sizes that fit: a
check of this program, whose figures say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from hwsim import NoisePath, Phase, Plan, SimulatedDevice, ThermalNoise
from hwsim.devices import Products, TorchEngine
from hwsim.reference import Place

from .job import NOISE, SEED, Job

SIZES, LANES, STEPS = (1024, 2048, 4096, 8192, 16384), (64, 256, 1024), 150
TOLERANCE = 1e-4
"""Largest difference of two noise-free float32 trajectories after T steps, relative to the largest state, of exact
products; those of rounded ones are only told."""
PASSES = 6
"""Passes over [B, N] float32 that a step cannot do without: read z, write r; read W r, read z, read the drive, write z.
W itself is read once per step."""


class Contender(ABC):
    """One way to settle the job."""

    name: str
    exact: bool = True

    @abstractmethod
    def relax(self) -> Any:
        """Settle once under fresh noise; what it returns lies on the device."""

    @abstractmethod
    def final(self) -> np.ndarray:
        """z_T without noise."""


@final
class Hwsim(Contender):
    """`SimulatedDevice.relax` on tensors: the whole call."""

    def __init__(self, job: Job, device: str, products: Products, *, fused: bool) -> None:
        self.name = f"hwsim {products.name.lower()}{', fused' if fused else ''}"
        self.exact = products is Products.EXACT
        self._quiet, self._noisy = (
            SimulatedDevice(
                job.network,
                horizon=job.steps,
                step_size=job.step_size,
                imperfections=[ThermalNoise(sigma)] if sigma else [],
                dtype=np.float32,
                engine=TorchEngine(Place(torch=device), products=products, fused=fused),
            )
            for sigma in (0.0, job.sigma)
        )
        place = Place(torch=device)
        theta = job.theta.map(place.array)
        for made in (self._quiet, self._noisy):
            made.program(theta)
        inputs = place.array(job.inputs)
        self._plan = Plan(inputs=inputs, ids=np.arange(job.lanes), phases=(Phase(steps=job.steps),))
        self._noise = NoisePath(seed=SEED)

    def relax(self) -> Any:
        self._noise = self._noise.at_step(self._noise.step + 1)
        return self._noisy.relax(self._plan, noise=self._noise)[0].final

    def final(self) -> np.ndarray:
        return self._quiet.relax(self._plan, noise=self._noise)[0].final.cpu().numpy()


@final
class Torch(Contender):
    """The loop that a good engineer writes; compiled, the step is one graph for `torch.compile`."""

    def __init__(self, job: Job, device: str, *, compiled: bool) -> None:
        self.name = "torch.compile" if compiled else "torch eager"
        self._job, here = job, torch.device(device)
        self._w, self._u, self._b = (torch.tensor(job.theta[name].T.copy(), device=here) for name in ("W", "U", "b"))
        self._x = torch.tensor(job.inputs, device=here)
        self._amplitude = job.amplitude
        self._step: Callable[..., torch.Tensor] = torch.compile(_step) if compiled else _step

    def relax(self) -> Any:
        return self._settle(self._amplitude)

    def final(self) -> np.ndarray:
        return self._settle(0.0).cpu().numpy()

    @torch.no_grad()
    def _settle(self, amplitude: float) -> torch.Tensor:
        drive = torch.addmm(self._b, self._x, self._u)
        z = torch.zeros_like(drive)
        for _ in range(self._job.steps):
            z = self._step(z, self._w, drive, self._job.step_size, amplitude)
        return z


def _step(z: torch.Tensor, w: torch.Tensor, drive: torch.Tensor, eps: float, amplitude: float) -> torch.Tensor:
    z = torch.lerp(z, torch.addmm(drive, torch.tanh(z), w), eps)
    return z + amplitude * torch.randn_like(z) if amplitude else z


@final
class Jax(Contender):
    """`lax.scan` under `jit`."""

    name = "jax scan"

    def __init__(self, job: Job) -> None:
        import jax
        import jax.numpy as jnp

        w, u, b, x = (jnp.asarray(array) for array in (job.theta["W"].T, job.theta["U"].T, job.theta["b"], job.inputs))
        eps, steps = job.step_size, job.steps

        def settle(key: Any, amplitude: Any) -> Any:
            drive = x @ u + b

            def step(z: Any, key: Any) -> tuple[Any, None]:
                moved = z + eps * (jnp.tanh(z) @ w + drive - z)
                return moved + amplitude * jax.random.normal(key, z.shape, z.dtype), None

            return jax.lax.scan(step, jnp.zeros_like(drive), jax.random.split(key, steps))[0]

        self._settle, self._key, self._count = jax.jit(settle), jax.random.key(SEED), 0
        self._fold, self._amplitude = jax.random.fold_in, job.amplitude
        jax.config.update("jax_default_matmul_precision", "highest")

    def relax(self) -> Any:
        self._count += 1
        return self._settle(self._fold(self._key, self._count), self._amplitude).block_until_ready()

    def final(self) -> np.ndarray:
        return np.asarray(self._settle(self._key, 0.0))


def contenders(job: Job, device: str, *, compiled: bool) -> list[Contender]:
    """All that can run here; the first is the judge of the others' trajectories."""
    chosen: list[Contender] = [Hwsim(job, device, Products.EXACT, fused=False)]
    if compiled:
        chosen.append(Hwsim(job, device, Products.EXACT, fused=True))
    chosen += [Hwsim(job, device, products, fused=compiled) for products in (Products.TF32, Products.BF16)]
    chosen.append(Torch(job, device, compiled=False))
    if compiled:
        chosen.append(Torch(job, device, compiled=True))
    if find_spec("jax") is not None:
        chosen.append(Jax(job))
    return chosen


def seconds(call: Callable[[], Any], device: str, rounds: int) -> float:
    """Median wall time of a call, the device idle before and after."""
    call()
    times = []
    for _ in range(rounds):
        _wait(device)
        begin = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ceilings(device: str, units: Sequence[int], lanes: int, rounds: int) -> dict[str, float]:
    """What the device can do: flop/s of float32 products at the best of these sizes, and bytes/s of a copy."""
    rates = []
    for size in units:
        left, right = torch.randn(lanes, size, device=device), torch.randn(size, size, device=device)
        out = torch.empty(lanes, size, device=device)
        taken = seconds(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), device, rounds)  # type: ignore[misc]
        rates.append(2.0 * lanes * size**2 / taken)
    source = torch.randn(2**26 if device.startswith("cuda") else 2**22, device=device)
    target = torch.empty_like(source)
    taken = seconds(lambda: target.copy_(source), device, rounds)
    return {"flop_per_s": max(rates), "bytes_per_s": 2.0 * source.numel() * source.element_size() / taken}


def measure(job: Job, device: str, limits: dict[str, float], *, rounds: int, compiled: bool) -> list[dict[str, Any]]:
    """One row for each contender.

    Raises:
        ValueError: two that should agree do not.
    """
    rows, judge = [], None
    traffic = 4.0 * job.steps * (job.units**2 + PASSES * job.lanes * job.units)
    for contender in contenders(job, device, compiled=compiled):
        final = contender.final()
        judge = final if judge is None else judge
        error = float(np.abs(final - judge).max() / np.abs(judge).max())
        if contender.exact and not error < TOLERANCE:
            raise ValueError(f"{contender.name} leaves the trajectory by {error:.1e} ({job.describe()})")
        taken = seconds(contender.relax, device, rounds)
        rows.append(
            {
                "units": job.units,
                "lanes": job.lanes,
                "steps": job.steps,
                "engine": contender.name,
                "ms": 1e3 * taken,
                "difference": error,
                "of_matmul": job.flop / taken / limits["flop_per_s"],
                "of_bandwidth": traffic / taken / limits["bytes_per_s"],
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print.

    Returns:
        0, also where there is no GPU and nothing is measured.
    """
    options = _options(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} sees no GPU here: nothing was measured. The figures of large networks on a GPU "
            "are missing until someone runs `python -m benchmarks.gpu` on a machine that has one."
        )
        return 0
    on_gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name(options.device) if on_gpu else "the processor, which says nothing about a GPU"
    print(f"torch {torch.__version__} on {name}; float32, T = {options.steps}, sigma = {NOISE}")
    if find_spec("jax") is None:
        print("jax is not installed here: its rows are missing")
    limits = ceilings(options.device, options.units, max(options.lanes), options.rounds)
    print(
        f"products {limits['flop_per_s'] / 1e12:.3g} Tflop/s, copies {limits['bytes_per_s'] / 1e9:.3g} GB/s, measured"
    )
    print(f"\n{'N':>6} {'B':>5}  {'engine':24} {'ms':>9} {'difference':>11} {'of products':>12} {'of bandwidth':>13}")
    rows = []
    for units in options.units:
        for lanes in options.lanes:
            job = Job(units=units, lanes=lanes, steps=options.steps, sigma=NOISE)
            for row in measure(job, options.device, limits, rounds=options.rounds, compiled=options.compiled):
                rows.append(row)
                print(
                    f"{units:6d} {lanes:5d}  {row['engine']:24} {row['ms']:9.2f} {row['difference']:11.1e} "
                    f"{row['of_matmul']:11.1%} {row['of_bandwidth']:12.1%}",
                    flush=True,
                )
    if options.json is not None:
        options.json.write_text(json.dumps({"device": name, "limits": limits, "rows": rows}, indent=1) + "\n")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Large networks on a GPU")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--units", type=_several, default=SIZES, metavar="LIST", help="N")
    parser.add_argument("--lanes", type=_several, default=LANES, metavar="LIST", help="B")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="T")
    parser.add_argument("--rounds", type=int, default=7, metavar="K", help="calls of which the median counts")
    parser.add_argument("--no-compile", dest="compiled", action="store_false", help="leave out torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(argv)


def _several(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in text.split(","))
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"must be whole numbers of at least 1; found {text}")
    return found


if __name__ == "__main__":
    sys.exit(main())
