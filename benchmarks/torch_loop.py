"""The loop that a good engineer would write in torch: eager, and with its step compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import numpy as np
import torch

from .engines import Engine, States, noise_block
from .job import SEED, Job

CHUNK = 10
"""Steps that are compiled as one."""


class _InTorch(Engine):
    """What both have: tensors made beforehand, and threads."""

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        self._w, self._u, self._b = (torch.tensor(job.theta[name].T.copy()) for name in ("W", "U", "b"))
        self._x, self._start = torch.tensor(job.inputs), torch.tensor(job.start)
        self._z, self._drive = torch.empty_like(self._start), torch.empty_like(self._start)
        self._generator = torch.Generator().manual_seed(SEED)

    @contextmanager
    def settings(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@final
class Torch(_InTorch):
    """Eager torch without a graph: tanh, addmm, lerp on preallocated tensors, three operations per step.

    The input term is computed once per settling. Noise is drawn for several steps at once (up to `BLOCK` deviates), and
    the input term added to it, so that it costs no operation of the step: the fastest of the ways that were tried.
    """

    name = "torch"

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        self._rate, self._total = torch.empty_like(self._z), torch.empty_like(self._z)
        steps = noise_block(job)
        self._noise = torch.empty((steps, 1, job.lanes, job.units), dtype=self._x.dtype)
        self._pushed = torch.empty((steps, job.copies, job.lanes, job.units), dtype=self._x.dtype)
        self._pushes = self._pushed.view(steps, job.rows, job.units).unbind()

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
        self._z.copy_(self._start)
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
            torch.add(self._noise, self._drive.view(1, *self._pushed.shape[1:]), out=self._pushed)
        self._z.lerp_(self._pushes[index].addmm_(self._rate, self._w), self.job.step_size)


@final
class TorchCompiled(_InTorch):
    """`CHUNK` steps under `torch.compile`: their elementwise operations in loops of C++. Noise in blocks, as in eager.

    A loop of 150 steps compiled as a whole takes minutes to compile, one of a single step pays for a dispatch at each.
    """

    name = "torch.compile"
    every = CHUNK

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        eps, amplitude, copies = job.step_size, job.amplitude, job.copies
        self._noise = torch.empty((CHUNK if job.sigma else 0, job.lanes, job.units), dtype=self._x.dtype)

        def chunk(z: torch.Tensor, w: torch.Tensor, drive: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            for k in range(CHUNK):
                z = z + eps * (torch.tanh(z) @ w + drive - z)
                if amplitude:
                    z = z + amplitude * noise[k].repeat(copies, 1)
            return z

        torch._dynamo.reset()  # one shape at a time: no guards of earlier jobs
        self._compiled = torch.compile(chunk, dynamic=False)

    @classmethod
    def serves(cls, job: Job) -> bool:
        return job.steps % CHUNK == 0

    @torch.inference_mode()
    def relax(self) -> States:
        self._begin()
        for _ in range(0, self.job.steps, CHUNK):
            self._advance()
        return self._z.numpy()

    @torch.inference_mode()
    def trajectory(self) -> States:
        self._begin()
        states = [self._z.numpy().copy()]
        for _ in range(0, self.job.steps, CHUNK):
            self._advance()
            states.append(self._z.numpy().copy())
        return np.stack(states)

    def _begin(self) -> None:
        self._z = self._start
        torch.addmm(self._b, self._x, self._u, out=self._drive)

    def _advance(self) -> None:
        if self.job.sigma:
            self._noise.normal_(generator=self._generator)
        self._z = self._compiled(self._z, self._w, self._drive, self._noise)
