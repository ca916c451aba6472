"""What this machine can do at best: products, memory, deviates. Measured in the process of what is judged by it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hwsim import NoisePath
from hwsim.kernels import Noise, fill_normals, tanh_array

from .figures import Answer, Bar, Sheet
from .job import Job

PRODUCT = 2048
"""Side of the product whose rate is the peak."""
COPIED = 2**26
"""float32 numbers of a copy, far more than any cache holds."""
DRAWN = (64, 1024)
"""Lanes and units of the deviates drawn, and of the tanhs taken."""
NORMAL_BAR, TANH_BAR = 3.0, 2.0
"""ns that a float32 deviate, and a tanh, may cost."""


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Rates of one machine, float32.

    Args:
        product: flop/s of the best large product, threads -> rate.
        bandwidth: bytes/s read and written by a copy, one thread.
        normals: who draws -> ns per deviate, one thread.
        tanhs: who computes -> ns per float32 tanh, one thread; no part of the bound.
        cache: bytes of the largest cache.
    """

    product: dict[int, float]
    bandwidth: float
    normals: dict[str, float]
    cache: int
    tanhs: dict[str, float] = field(default_factory=dict)

    @property
    def normal(self) -> float:
        """Seconds of the cheapest deviate."""
        return 1e-9 * min(self.normals.values())

    def bound(self, job: Job, threads: int) -> float:
        """Seconds below which no settling of this job can stay:

        T max(2 rows N^2 / product, W / bandwidth) + deviates normal / threads,     W only where no cache holds it
        """
        weights = 4.0 * job.units**2
        streamed = weights / self.bandwidth if weights > self.cache else 0.0
        rate = self.product.get(threads, self.product[1])
        products = job.steps * max(job.flop / job.steps / rate, streamed)
        return products + job.deviates * self.normal / threads


def measured(threads: tuple[int, ...] = (1, 2)) -> Roofline:
    """Measure all of it: some seconds."""
    return Roofline(
        product={count: _product(count) for count in threads},
        bandwidth=_bandwidth(),
        normals=_normals(),
        cache=_cache(),
        tanhs=_tanhs(),
    )


def answer(roofline: Roofline) -> Answer:
    """As tables and bars."""
    sheet = Sheet("Roofline of this machine, float32", "", "what", "rate")
    for count, rate in roofline.product.items():
        sheet.add(f"sgemm, {PRODUCT} squared, {count} thread{'s' if count > 1 else ''}", f"{1e-9 * rate:.0f} GF/s")
    sheet.add("copy, bytes read and written", f"{1e-9 * roofline.bandwidth:.1f} GB/s")
    sheet.add("largest cache", f"{roofline.cache / 2**20:.0f} MiB")
    for name, cost in roofline.normals.items():
        sheet.add(f"normal deviate, {name}", f"{cost:.2f} ns")
    for name, cost in roofline.tanhs.items():
        sheet.add(f"tanh, {name}", f"{cost:.2f} ns")
    row = {
        "product_flops": {str(count): rate for count, rate in roofline.product.items()},
        "bandwidth_bytes": roofline.bandwidth,
        "normal_ns": roofline.normals,
        "tanh_ns": roofline.tanhs,
        "cache_bytes": roofline.cache,
    }
    bars = [
        Bar(name="normal deviate, hwsim", figure=roofline.normals["hwsim"], limit=NORMAL_BAR, unit="ns"),
        Bar(name="tanh, hwsim", figure=roofline.tanhs["hwsim"], limit=TANH_BAR, unit="ns"),
    ]
    return Answer(rows=[row], sheets=[sheet], bars=bars)


def shortest(call: Callable[[], object], least: float = 0.3) -> float:
    """Seconds of the fastest of as many calls as fit into some time, five at least."""
    call()
    best, begun, calls = float("inf"), time.perf_counter(), 0
    while calls < 5 or time.perf_counter() - begun < least:
        start = time.perf_counter()
        call()
        best, calls = min(best, time.perf_counter() - start), calls + 1
    return best


def _product(threads: int) -> float:
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((PRODUCT, PRODUCT), dtype=np.float32) for _ in range(2))
    out = np.empty_like(left)
    with threadpool_limits(limits=threads, user_api="blas"):
        return 2.0 * PRODUCT**3 / shortest(lambda: np.matmul(left, right, out=out), 1.0)


def _bandwidth() -> float:
    source = np.ones(COPIED, np.float32)
    target = np.empty_like(source)
    return 8.0 * COPIED / shortest(lambda: np.copyto(target, source))


def _normals() -> dict[str, float]:
    lanes, units = DRAWN
    out = np.empty((1, lanes, units), np.float32)
    zero = np.zeros(lanes, np.uint32)
    noise = Noise(path=NoisePath(seed=1), stream=0, phase=0, ids=np.arange(lanes, dtype=np.uint32), repeats=zero)
    draw, tensor = np.random.default_rng(0), torch.empty(lanes, units)
    return _each(
        {
            "hwsim": lambda: fill_normals(out, noise),
            "NumPy": lambda: draw.standard_normal(out=out, dtype=np.float32),
            "torch": lambda: tensor.normal_(),
        }
    )


def _tanhs() -> dict[str, float]:
    z = np.random.default_rng(0).standard_normal(DRAWN, dtype=np.float32)
    out, tensor = np.empty_like(z), torch.tensor(z)
    into = torch.empty_like(tensor)
    return _each(
        {
            "hwsim": lambda: tanh_array(z),
            "NumPy": lambda: np.tanh(z, out=out),
            "torch": lambda: torch.tanh(tensor, out=into),
        }
    )


def _each(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """ns for each of `DRAWN` numbers, one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: 1e9 * shortest(call) / (DRAWN[0] * DRAWN[1]) for name, call in calls.items()}
    finally:
        torch.set_num_threads(before)


def _cache() -> int:
    """Bytes of the largest cache; 8 MiB where the system does not tell."""
    sizes = [8 * 2**20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(scale * int(text.rstrip("KM") or 0))
    return max(sizes)
