"""The loop that a good engineer would write in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import numpy as np
import torch

from .engines import Engine, States, noise_block
from .job import SEED, Job


@final
class Torch(Engine):
    """Eager torch without a graph: tanh, addmm, lerp on preallocated tensors, three operations per step.

    The input term is computed once per settling. Noise is drawn for several steps at once (up to `BLOCK` deviates), and
    the input term added to it, so that it costs no operation of the step: the fastest of the ways that were tried.
    """

    name = "torch"

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        self._w, self._u, self._b = (torch.tensor(job.theta[name].T.copy()) for name in ("W", "U", "b"))
        self._x = torch.tensor(job.inputs)
        shape = (job.lanes, job.units)
        self._z, self._rate, self._total, self._drive = (torch.empty(shape, dtype=self._x.dtype) for _ in range(4))
        self._noise = torch.empty((noise_block(job), *shape), dtype=self._x.dtype)
        self._pushes = self._noise.unbind()
        self._generator = torch.Generator().manual_seed(SEED)

    @contextmanager
    def settings(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @torch.inference_mode()
    def relax(self) -> States:
        self._begin()
        for step in range(self.job.steps):
            self._step(step)
        return self._z.numpy()

    @torch.inference_mode()
    def trajectory(self) -> States:
        self._begin()
        states = [self._z.numpy().copy()]
        for step in range(self.job.steps):
            self._step(step)
            states.append(self._z.numpy().copy())
        return np.stack(states)

    def _begin(self) -> None:
        self._z.zero_()
        torch.addmm(self._b, self._x, self._u, out=self._drive)

    def _step(self, step: int) -> None:
        torch.tanh(self._z, out=self._rate)
        if not self.job.sigma:
            torch.addmm(self._drive, self._rate, self._w, out=self._total)
            self._z.lerp_(self._total, self.job.step_size)
            return
        index = step % len(self._pushes)
        if index == 0:
            self._noise.normal_(std=self.job.amplitude / self.job.step_size, generator=self._generator)
            self._noise.add_(self._drive)
        self._z.lerp_(self._pushes[index].addmm_(self._rate, self._w), self.job.step_size)
