"""torchsde: `sdeint` with the Euler scheme, its Brownian path kept so that it can be replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
import torchsde

from .engines import Engine, States
from .job import SEED, Job


@final
class TorchSDE(Engine):
    """Diagonal noise from a `BrownianInterval`; twins get one path for both."""

    name = "torchsde"

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        self._w, self._u, self._b = (torch.tensor(job.theta[name].T.copy()) for name in ("W", "U", "b"))
        self._x, self._start = torch.tensor(job.inputs), torch.tensor(job.start)
        self._calls = 0

    @classmethod
    def serves(cls, job: Job) -> bool:
        return job.sigma > 0.0

    @contextmanager
    def settings(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def relax(self) -> States:
        return self._run(record=False)[-1]

    def trajectory(self) -> States:
        return self._run(record=True)

    @torch.inference_mode()
    def _run(self, *, record: bool) -> States:
        job, self._calls = self.job, self._calls + 1
        end, network = job.steps * job.step_size, _Network(self)
        times = torch.linspace(0.0, end, job.steps + 1 if record else 2)
        path = torchsde.BrownianInterval(
            t0=0.0, t1=end, size=(job.lanes, job.units), dtype=self._x.dtype, entropy=SEED + self._calls
        )
        brownian = _Shared(path, job.copies) if job.twins else path
        found = torchsde.sdeint(network, self._start, times, bm=brownian, method="euler", dt=job.step_size)
        return np.asarray(found.numpy())

    def drive(self) -> torch.Tensor:
        """`U x + b`."""
        return torch.addmm(self._b, self._x, self._u)

    @property
    def weights(self) -> torch.Tensor:
        """W^T."""
        return self._w


class _Network:
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, engine: TorchSDE) -> None:
        self._w, self._drive = engine.weights, engine.drive()
        self._size = torch.full_like(self._drive, engine.job.sigma * float(np.sqrt(2.0)))

    def f(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self._drive, torch.tanh(z), self._w) - z

    def g(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self._size


class _Shared(torchsde.BaseBrownian):
    """One path for all copies of a lane."""

    def __init__(self, path: Any, copies: int) -> None:
        super().__init__()
        self._path, self._copies = path, copies

    def __call__(self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False) -> torch.Tensor:
        return self._path(ta, tb).repeat(self._copies, 1)

    def __repr__(self) -> str:
        return f"{self._path} for {self._copies} copies"

    @property
    def dtype(self) -> torch.dtype:
        return self._path.dtype

    @property
    def device(self) -> torch.device:
        return self._path.device

    @property
    def shape(self) -> tuple[int, ...]:
        lanes, units = self._path.shape
        return (self._copies * lanes, units)

    @property
    def levy_area_approximation(self) -> str:
        return self._path.levy_area_approximation
