"""The whole influence, and members that confine it to some units: exact RTRL, SnAp-n, blockwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Float, Int

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.checks import whole
from hwsim.contracts.errors import InputError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind

from .influence import Influence, Recording, backwards

_MODEL = "the nominal model in place of the chip, and states as they were read"
_CALIBRATE = "calibrate the model, or read the states more finely"
_PATTERN_LANES = 8


@final
@dataclass(frozen=True, kw_only=True)
class RTRL(Influence):
    """Real-time recurrent learning: all of M, carried forward for every parameter of any substrate.

    Exact: BPTT's gradient along the recorded states, to rounding. The judge of the others, for small networks; this one
    is simulated forward as it is written, so that it shares nothing with BPTT.

    Source: Williams and Zipser, Neural Computation 1:270 (1989). Cost: O(T B N^2 P), memory B N P.
    """

    kind: ClassVar[Kind] = Kind.MODEL_ASSISTED
    finite: ClassVar[str] = _MODEL
    advice: ClassVar[str] = _CALIBRATE

    @property
    def given_up(self) -> None:
        return None

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        xp = namespace(recording.states)
        influence: dict[str, Array] = {}
        total = {name: xp.zeros_like(block) for name, block in recording.theta.analog.items()}
        for k in range(recording.steps):
            free = recording.free(k + 1)
            for name, fresh in self._immediate(recording, k).items():
                fresh = recording.step_size * fresh
                kept = fresh if k == 0 else recording.step(influence[name], k) + fresh
                influence[name] = kept * free
                if k + 1 in recording.looks:
                    found = xp.tensordot(influence[name], recording.signals[k + 1], axes=((1, 2), (0, 1)))
                    total[name] = total[name] + xp.reshape(found, total[name].shape)
        return Parameters(total)

    @staticmethod
    def _immediate(recording: Recording, k: int) -> dict[str, Float[Array, "P B N"]]:
        """`dF/dtheta_p` at z_k for every parameter: a credit of each unit, side by side as lanes."""
        xp, z = namespace(recording.states), recording.states[k]
        lanes, units = z.shape
        each = xp.eye(units, dtype=z.dtype, device=z.device)[:, None, :]
        posts, states = (xp.broadcast_to(array, (units, lanes, units)) for array in (each, z[None]))
        inputs = xp.broadcast_to(recording.inputs, (units, *recording.inputs.shape))
        found = recording.model.credit(
            xp.reshape(posts, (-1, units)),
            xp.reshape(states, (-1, units)),
            xp.reshape(inputs, (units * lanes, -1)),
            recording.theta,
            per_sample=True,
        )
        return {
            name: xp.permute_dims(xp.reshape(block, (units, lanes, -1)), (2, 1, 0)) for name, block in found.items()
        }


@final
@dataclass(frozen=True, kw_only=True)
class SnAp(Influence):
    """Sparse n-step approximation: the influence of a parameter is kept on the units that it reaches within n steps.

    The unit on which a parameter acts is its first step, the units coupled to that one are the second, and so on; a
    coupling counts if J has an entry there (found at random states with the theta that is held, so that couplings which
    are exactly zero do not count). With S_i the units that unit i reaches within n - 1 couplings, P_S the projection on
    them,

        M_p' = P_S (D M_p + eps F_theta_p),   S = S_i,      i the unit on which p acts

    A parameter that acts on several units (the one conductance of a pair, a kernel, a resistor) counts as one for each
    of them, whose gradients add. In particular

        n = 1    D is replaced by its diagonal, the unit's coupling with itself included
        dense W  every unit reaches every other in one coupling: n = 2 is exact RTRL already, and so is every n > 1

    so that orders above 1 are approximations for sparse couplings (grids, layers, kernels) only.

    Args:
        order: n, at least 1.

    Raises:
        InputError: order out of range.

    Source: Menick et al., arXiv:2006.07232, sections 3.1 and 3.2. Cost on line: P |S| numbers, O(B P |S|^2) a step
    (n = 1: O(B P)). Simulated: n = 1, the diagonal of J at every step and one credit of T B samples; else a cotangent a
    step for each of the different S_i.
    """

    kind: ClassVar[Kind] = Kind.MODEL_ASSISTED
    finite: ClassVar[str] = _MODEL
    advice: ClassVar[str] = _CALIBRATE

    order: int = 1

    def __post_init__(self) -> None:
        whole("SnAp", "order", self.order, least=1)

    @property
    def given_up(self) -> tuple[str, str]:
        what = "what passes between units" if self.order == 1 else f"influence beyond {self.order} steps of sparsity"
        return what, "raise the order, or take UORO or KFRTRL, which are unbiased"

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        if self.order == 1:
            slopes = recording.model.jacobian_diagonal(recording.states[:-1], recording.inputs, recording.theta)
            return recording.credited(
                backwards(recording, lambda h, k: h + recording.step_size * slopes[k] * h, recording.signals)
            )
        reached = _reached(recording, self.order - 1)
        kept, place = np.unique(reached, axis=0, return_inverse=True)
        return _confined(recording, kept, np.reshape(place, -1))


@final
@dataclass(frozen=True, kw_only=True)
class Blockwise(Influence):
    """Influence kept within groups of units: D is replaced by its diagonal blocks, `M_i' = sum_j D_ij M_j` over the j
    in the group of i, plus `eps F_theta,i`.

    Exact for couplings within groups; what passes from one group to another is given up, wherever a parameter acts. One
    group is RTRL, groups of one are SnAp(order=1).

    Args:
        groups: the size of consecutive groups (the last may be smaller), or the unit indices of each group, every unit
            once.

    Raises:
        InputError: a size below 1; and from `estimate`, groups that do not hold every unit once.

    Cost on line: O(B P s) numbers times operations a step for groups of s units; simulated, N / s cotangents a step.
    """

    kind: ClassVar[Kind] = Kind.MODEL_ASSISTED
    finite: ClassVar[str] = _MODEL
    advice: ClassVar[str] = _CALIBRATE

    groups: int | tuple[tuple[int, ...], ...] = 8

    def __post_init__(self) -> None:
        if not isinstance(self.groups, tuple):
            whole("Blockwise", "groups", self.groups, least=1)

    @property
    def given_up(self) -> tuple[str, str]:
        return "what passes between groups of units", "make the groups larger, or along the strong couplings"

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        place = self._places(int(recording.states.shape[2]))
        kept = place[None, :] == np.arange(place.max() + 1)[:, None]
        return _confined(recording, kept, place)

    def _places(self, units: int) -> Int[np.ndarray, " N"]:
        """The group of each unit."""
        if not isinstance(self.groups, tuple):
            return np.arange(units) // self.groups
        listed = [unit for group in self.groups for unit in group]
        if sorted(listed) != list(range(units)):
            raise InputError(f"Blockwise needs groups that hold every unit 0 .. {units - 1} once; found {self.groups}")
        place = np.empty(units, np.int64)
        for index, group in enumerate(group for group in self.groups if group):
            place[list(group)] = index
        return place


def _confined(recording: Recording, kept: Bool[np.ndarray, "G N"], place: Int[np.ndarray, " N"]) -> Parameters:
    """The gradient where what enters at unit i stays on the units `kept[place[i]]`.

    h^s_T = P_s w_T c_T,   h^s_k = P_s (D_k^T h^s_{k+1} + w_k c_k),   post_i = (h^{s(i)})_i
    """
    xp, like = namespace(recording.states), recording.states
    inside = xp.asarray(kept[:, None, :].astype(np.float64), dtype=like.dtype, device=like.device)
    enters = place[None, :] == np.arange(len(kept))[:, None]
    own = xp.asarray(enters[:, None, :].astype(np.float64), dtype=like.dtype, device=like.device)
    posts = backwards(
        recording,
        lambda h, k: inside * recording.step_back(h, k),
        [inside * signal for signal in recording.signals],
        lambda h: xp.sum(own * h, axis=0),
    )
    return recording.credited(posts)


def _reached(recording: Recording, couplings: int) -> Bool[np.ndarray, "N N"]:
    """[i, k]: whether unit i reaches unit k within so many couplings."""
    units, like = int(recording.states.shape[2]), recording.states
    draw, xp = np.random.default_rng(0), namespace(like)
    # the pattern is a matter of the network, not of the batch: where r is flat some of the random states are not
    z = xp.asarray(draw.standard_normal((_PATTERN_LANES, units)), dtype=like.dtype, device=like.device)
    x = draw.standard_normal((_PATTERN_LANES, recording.inputs.shape[1]))
    inputs = xp.asarray(x, dtype=recording.inputs.dtype, device=recording.inputs.device)
    found = recording.model.jacobian(z, inputs, recording.theta)
    coupled = xp.any(found != 0.0, axis=0).tolist()  # N^2 flags, once per estimate: which traces there are
    to = np.array(coupled, bool).T | np.eye(units, dtype=bool)
    reached = np.eye(units, dtype=bool)
    for _ in range(min(couplings, units)):
        reached = (reached.astype(np.float64) @ to) > 0.0
    return reached
