"""What the members of three-factor eligibility share: the recorded settling, and the influence `M_k = dz_k/dtheta`.

    M_{k+1} = D_k M_k + eps F_theta(z_k),   M_0 = 0,   D_k = 1 + eps J(z_k),      g = sum_k w_k c_k^T M_k

with c_k = dL/dz(z_k) and the task's weights w. Carried forward, M needs no memory of the past; it has N P numbers, and
every member here is a way to keep fewer.

All members are *defined* by a recursion forward in time. The sums over time that make up g are finite, and with the
states on record they may be summed in another order: a member whose M_k is linear in `F_theta(z_0) .. F_theta(z_{k-1})`
through the maps R_k (its stand-ins for D_k) delivers

    g = eps sum_k credit(h_{k+1}, z_k),     h_T = w_T c_T,   h_k = R_k^T h_{k+1} + w_k c_k

to rounding. Most members are simulated so, without a trace per synapse; hardware that keeps traces needs no recording.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float, Int

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.noise import NoisePath, Stream
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind
from hwsim.contracts.substrate import Substrate, Synapses

OWN_REPEAT = 1
"""Repeat of the signs that a member draws; the free phase had 0."""


@final
@dataclass(frozen=True, kw_only=True)
class Recording:
    """A free phase as a member of the family sees it.

    Args:
        synapses: what a synapse knows.
        physics: the nominal model; None for members that do without.
        theta: as the device read it back.
        inputs: [B, M].
        states: [T + 1, B, N] z_0 .. z_T as read.
        signals: [T + 1, B, N] w_k dL/dz(z_k); that of z_0, which no parameter moves, is never used.
        step_size: eps.
        ids: [B] sample ids, by which noise is addressed.
        silent: blocks of theta that do not act on the settling (a feedback array).
    """

    synapses: Synapses
    physics: Substrate | None
    theta: Parameters
    inputs: Float[Array, "B M"]
    states: Float[Array, "T1 B N"]
    signals: Float[Array, "T1 B N"]
    step_size: float
    ids: Int[Array, " B"]
    silent: frozenset[str] = frozenset()

    @property
    def steps(self) -> int:
        """T."""
        return int(self.states.shape[0]) - 1

    @property
    def model(self) -> Substrate:
        """The nominal model of a member that needs one."""
        assert self.physics is not None  # a member that looks here is model-assisted, and was given it
        return self.physics

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """The k >= 1 at which some sample has a signal; T where none has."""
        xp = namespace(self.signals)
        seen = tuple(k for k in range(1, self.steps + 1) if bool(xp.any(self.signals[k] != 0.0)))
        return seen or (self.steps,)

    def step(self, v: Float[Array, "*S B N"], k: int) -> Float[Array, "*S B N"]:
        """`D_k v`."""
        return v + self.step_size * self.model.tangent(v, self.states[k], self.inputs, self.theta)

    def step_back(self, a: Float[Array, "*S B N"], k: int) -> Float[Array, "*S B N"]:
        """`D_k^T a`."""
        return a + self.step_size * self.model.cotangent(a, self.states[k], self.inputs, self.theta)

    def free(self, k: int) -> Float[Array, "B N"] | float:
        """1 where z_k may move, 0 where a rail of the nominal model holds it."""
        if self.physics is None or self.physics.rails is None:
            return 1.0
        xp, z = namespace(self.states), self.states[k]
        low, high = (xp.asarray(np.asarray(rail), dtype=z.dtype, device=z.device) for rail in self.physics.rails)
        return xp.astype((z > low) & (z < high), z.dtype)

    def credited(self, posts: Float[Array, "T B N"]) -> Parameters:
        """`eps sum_k credit(posts_k, z_k)`: what a member delivers once its sum over time is turned round."""
        return self.synapses.credit(self.step_size * posts, self.states[:-1], self.inputs, self.theta)

    @cached_property
    def factors(self) -> Mapping[str, tuple[Float[Array, "T B N"], Float[Array, "T B K"]]]:
        """The factored immediate influence at z_0 .. z_{T-1}, block -> (gain, pre), of the blocks that have one."""
        return self.factors_at(self.states[:-1])

    def factors_at(
        self, states: Float[Array, "T B N"]
    ) -> Mapping[str, tuple[Float[Array, "T B N"], Float[Array, "T B K"]]]:
        """`factors` at states of one's own."""
        xp, (steps, lanes, units) = namespace(states), states.shape
        inputs = xp.broadcast_to(self.inputs, (steps, *self.inputs.shape))
        found = self.synapses.influence(
            xp.reshape(states, (steps * lanes, units)),
            xp.reshape(inputs, (steps * lanes, self.inputs.shape[1])),
            self.theta,
        )
        return {
            name: (xp.reshape(gain, (steps, lanes, units)), xp.reshape(pre, (steps, lanes, pre.shape[1])))
            for name, (gain, pre) in found.items()
            if name not in self.silent
        }

    @property
    def unfactored(self) -> list[str]:
        """Blocks whose influence is no product of a gain and a pre-synaptic quantity."""
        return sorted(self.theta.analog.keys() - self.factors.keys() - self.silent)

    def require_factors(self, member: str) -> None:
        """Raise CapabilityError where a block has no factored influence."""
        if self.unfactored:
            raise CapabilityError(
                f"{member} needs the influence of every block as gain x pre; this substrate gives none for "
                f"{self.unfactored}. Members that serve any substrate: RFLO, SnAp, Blockwise, UORO, RTRL"
            )

    def signs(self, noise: NoisePath, phase: int, *, units: int, steps: int) -> Float[Array, "steps B units"]:
        """Independent +1 and -1 for each sample, from stream PROBE: the sign of a normal deviate."""
        path = noise.repeated(OWN_REPEAT)
        drawn = path.normals(Stream.PROBE, np.asarray(self.ids), units=units, steps=steps, phase=phase)
        like = self.states
        return namespace(like).asarray(np.where(drawn < 0.0, -1.0, 1.0), dtype=like.dtype, device=like.device)


class Influence(ABC):
    """How much of the influence M is kept, and how."""

    kind: ClassVar[Kind]
    """LOCAL: synapses alone; MODEL_ASSISTED: the nominal model as well."""

    finite: ClassVar[str]
    """What is given up beyond the ideals."""

    advice: ClassVar[str]
    """What to do where that is much."""

    factored: ClassVar[bool] = False
    """Whether it needs the immediate influence of every block as a product, gain times presynaptic quantity."""

    @abstractmethod
    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        """`g = sum_k w_k c_k^T M_k`, analog blocks.

        Args:
            recording: the settling.
            noise: address of the signs that an unbiased member draws.
        """

    @property
    @abstractmethod
    def given_up(self) -> tuple[str, str] | None:
        """What its expectation gives up against BPTT, and what to do about it; None where it is unbiased."""


def backwards(
    recording: Recording,
    pull: Callable[[Array, int], Array],
    signals: Sequence[Array] | Array,
    show: Callable[[Array], Array] = lambda h: h,
) -> Float[Array, "T *W B N"]:
    """`show(h_1) .. show(h_T)` of `h_T = signals_T`, `h_k = pull(h_{k+1}, k) + signals_k`.

    h_k is zero for a unit that z_k shows at a rail, since it did not move.
    """
    h, shown = signals[recording.steps] * recording.free(recording.steps), []
    for k in reversed(range(1, recording.steps)):
        shown.append(show(h))
        h = (pull(h, k) + signals[k]) * recording.free(k)
    shown.append(show(h))
    return namespace(h).stack(shown[::-1])
