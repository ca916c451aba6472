"""JAX: `lax.scan`, the loop that a good engineer would write, and diffrax, in both of its noise modes.

XLA takes as many threads as there are cores; that number cannot be changed within a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, final

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np

from .engines import Engine, States
from .job import SEED, Job

AT_ONCE = 2**26
"""Deviates that may be drawn before the loop (which is twice as fast as in it): 256 MiB of float32."""


class _InJax(Engine):
    threaded = False

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__(job, threads)
        self._w, self._u = (jnp.asarray(job.theta[name].T) for name in ("W", "U"))
        self._b, self._x, self._start = jnp.asarray(job.theta["b"]), jnp.asarray(job.inputs), jnp.asarray(job.start)
        self._calls = 0
        self._compiled: dict[bool, Callable[[jax.Array], jax.Array]] = {}

    @classmethod
    def serves(cls, job: Job) -> bool:
        return job.dtype == "float32"

    def relax(self) -> States:
        return np.asarray(self._run(record=False))

    def trajectory(self) -> States:
        return np.concatenate([self.job.start[None], np.asarray(self._run(record=True))])

    def _run(self, *, record: bool) -> jax.Array:
        if record not in self._compiled:
            self._compiled[record] = jax.jit(lambda key: self._settled(key, record=record))
        self._calls += 1
        return self._compiled[record](jax.random.key(SEED + self._calls)).block_until_ready()

    def _settled(self, key: jax.Array, *, record: bool) -> jax.Array:
        """z_T, or z_1 .. z_T."""
        raise NotImplementedError

    def _drift(self, z: jax.Array, drive: jax.Array) -> jax.Array:
        return jnp.tanh(z) @ self._w + drive - z


@final
class JaxScan(_InJax):
    """`jax.lax.scan` under `jit`: all noise drawn before the loop where it fits in memory, else step by step."""

    name = "jax scan"

    def _settled(self, key: jax.Array, *, record: bool) -> jax.Array:
        job, drive = self.job, self._x @ self._u + self._b
        shape, at_once = (job.lanes, job.units), job.deviates <= AT_ONCE

        def spread(xi: jax.Array) -> jax.Array:
            return job.amplitude * (jnp.concatenate([xi, xi]) if job.twins else xi)

        def step(z: jax.Array, drawn: Any) -> tuple[jax.Array, jax.Array | None]:
            z = z + job.step_size * self._drift(z, drive)
            if job.sigma:
                z = z + spread(drawn if at_once else jax.random.normal(drawn, shape))
            return z, z if record else None

        drawn = None
        if job.sigma:
            drawn = jax.random.normal(key, (job.steps, *shape)) if at_once else jax.random.split(key, job.steps)
        final, states = jax.lax.scan(step, self._start, drawn, length=job.steps)
        return states if record else final


class _Diffrax(_InJax):
    """`diffrax.diffeqsolve`, Euler with constant steps. Forward only, so that it need not keep checkpoints."""

    path: ClassVar[str]

    def _settled(self, key: jax.Array, *, record: bool) -> jax.Array:
        job, drive = self.job, self._x @ self._u + self._b
        end = job.steps * job.step_size
        terms: Any = diffrax.ODETerm(lambda t, z, args: self._drift(z, drive))
        if job.sigma:
            control = jax.ShapeDtypeStruct((job.lanes, job.units), jnp.float32)
            size = job.sigma * float(np.sqrt(2.0))

            def spread(t: Any, z: jax.Array, args: Any) -> lineax.FunctionLinearOperator:
                return lineax.FunctionLinearOperator(
                    lambda xi: size * (jnp.concatenate([xi, xi]) if job.twins else xi), control
                )

            brownian: Any = (
                diffrax.UnsafeBrownianPath(control, key)
                if self.path == "unsafe"
                else diffrax.VirtualBrownianTree(0.0, end, job.step_size / 2.0, control, key)
            )
            terms = diffrax.MultiTerm(terms, diffrax.ControlTerm(spread, brownian))
        found = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            t0=0.0,
            t1=end,
            dt0=None,
            y0=self._start,
            saveat=diffrax.SaveAt(steps=True) if record else diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.StepTo(jnp.linspace(0.0, end, job.steps + 1)),
            adjoint=diffrax.DirectAdjoint() if self.path == "unsafe" else diffrax.RecursiveCheckpointAdjoint(),
            max_steps=job.steps,
        )
        assert found.ys is not None
        return found.ys if record else found.ys[0]


@final
class DiffraxUnsafe(_Diffrax):
    """With `UnsafeBrownianPath`: fresh noise at every step, which nothing can replay."""

    name, path = "diffrax, unsafe path", "unsafe"


@final
class DiffraxTree(_Diffrax):
    """With `VirtualBrownianTree`: noise that can be asked for at any time, as hwsim's can."""

    name, path = "diffrax, tree", "tree"

    @classmethod
    def serves(cls, job: Job) -> bool:
        return super().serves(job) and job.sigma > 0.0
