"""The engines that run the job: hwsim, and the loop that a good engineer would write in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from hwsim import NoisePath, Phase, Plan, SimulatedDevice, ThermalNoise

from .job import SEED, Job

States = NDArray[np.floating]

BLOCK = 2**16
"""Deviates that the loops of torch and NumPy draw at once, at most."""


class Engine(ABC):
    """A job, ready to run on a number of threads, with everything allocated that can be allocated before."""

    name: ClassVar[str]
    threaded: ClassVar[bool] = True
    """Whether its number of threads can be chosen; otherwise it takes what it wants."""
    every: ClassVar[int] = 1
    """Steps between two states of its trajectory."""

    def __init__(self, job: Job, threads: int) -> None:
        self.job, self.threads = job, threads

    @classmethod
    def serves(cls, job: Job) -> bool:
        """Whether it can run such a job at all."""
        return True

    @property
    def label(self) -> str:
        """Name and number of threads."""
        return f"{self.name} {self.threads}t" if self.threaded else self.name

    def settings(self) -> AbstractContextManager[object]:
        """What holds while it runs."""
        return nullcontext()

    @abstractmethod
    def relax(self) -> States:
        """Settle once under fresh noise: z_T [rows, N], good until the next call."""

    @abstractmethod
    def trajectory(self) -> States:
        """z_0, z_every, .. z_T, [T / every + 1, rows, N]."""

    def close(self) -> None:
        """Let go of threads."""


@final
class Hwsim(Engine):
    """`SimulatedDevice.relax`: the whole call, with its checks, the input term, the residual and the outcome."""

    name = "hwsim"

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        self._device = SimulatedDevice(
            job.network,
            horizon=job.steps,
            step_size=job.step_size,
            imperfections=[ThermalNoise(job.sigma)] if job.sigma else [],
            dtype=np.dtype(job.dtype).type,
            threads=threads,
        )
        self._device.program(job.theta)
        self._ids = np.tile(np.arange(job.lanes), job.copies)
        self._noise = NoisePath(seed=SEED)
        # in turns, one bit apart: the input term of a batch seen before would not be computed again
        self._inputs = job.inputs, np.nextafter(job.inputs, np.zeros_like(job.inputs))

    def relax(self) -> States:
        self._noise = self._noise.at_step(self._noise.step + 1)
        (run,) = self._device.relax(self._plan_for(self._inputs[self._noise.step % 2]), noise=self._noise)
        return run.final

    def trajectory(self) -> States:
        (run,) = self._device.relax(self._plan_for(self.job.inputs, record=1), noise=self._noise)
        return run.recorded

    def close(self) -> None:
        self._device.close()

    def _plan_for(self, inputs: States, record: int = 0) -> Plan:
        job = self.job
        phase = Phase(steps=job.steps, displace=job.start if job.twins else None, record=record)
        return Plan(inputs=inputs, ids=self._ids, phases=(phase,))


@final
class Numpy(Engine):
    """NumPy with `out=` throughout, W and the input term scaled by eps beforehand; noise in blocks.

    The threads are those of its BLAS.
    """

    name = "numpy"

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        eps = np.dtype(job.dtype).type(job.step_size)
        self._w, self._u = (eps * np.ascontiguousarray(job.theta[name].T) for name in ("W", "U"))
        self._b, self._leak = eps * job.theta["b"], 1 - eps
        shape = (job.rows, job.units)
        self._z, self._rate, self._total, self._drive = (np.empty(shape, job.dtype) for _ in range(4))
        self._noise = np.empty((noise_block(job), job.lanes, job.units), job.dtype)
        self._amplitude = np.dtype(job.dtype).type(job.amplitude)
        self._draw = np.random.default_rng(SEED)

    def settings(self) -> AbstractContextManager[object]:
        return _controller().limit(limits=self.threads, user_api="blas")

    def relax(self) -> States:
        self._begin()
        for step in range(self.job.steps):
            self._step(step)
        return self._z

    def trajectory(self) -> States:
        self._begin()
        states = [self._z.copy()]
        for step in range(self.job.steps):
            self._step(step)
            states.append(self._z.copy())
        return np.stack(states)

    def _begin(self) -> None:
        self._z[:] = self.job.start
        np.matmul(self.job.inputs, self._u, out=self._drive)
        self._drive += self._b

    def _step(self, step: int) -> None:
        np.tanh(self._z, out=self._rate)
        np.matmul(self._rate, self._w, out=self._total)
        self._z *= self._leak
        self._z += self._total
        self._z += self._drive
        if not self.job.sigma:
            return
        index = step % len(self._noise)
        if index == 0:
            self._draw.standard_normal(out=self._noise, dtype=self._noise.dtype)
            self._noise *= self._amplitude
        pairs = self._z.reshape(self.job.copies, self.job.lanes, self.job.units)
        pairs += self._noise[index]


def noise_block(job: Job) -> int:
    """Steps for which the loops of torch and NumPy draw noise at once: as many as stay in the cache."""
    return min(job.steps, max(1, BLOCK // (job.lanes * job.units))) if job.sigma else 0


@cache
def _controller() -> ThreadpoolController:
    """All thread pools of this process, found once."""
    return ThreadpoolController()
