"""Noise as an address: the same address is the same normal deviate, in any order, on any engine and batch.

FROZEN.  The layout below maps an address to bits.  A change would silently alter every result ever computed from a
seed, so it is never changed: a second layout would get a new name.

    generator   Philox4x32-10
    key         (k0, k1) = (seed, experiment step)
    counter     (c0, c1, c2, c3) = (time step, unit block, sample id, stream << 24 | phase << 16 | repeat)
    unit u      group g = u // 32, word w = (u // 8) % 4, lane l = u % 8; its block is c1 = 8 g + l
    words       x0, x1, x2, x3 of the block; words (0, 1) make one Box-Muller pair, words (2, 3) another
                    r = sqrt(-2 ln((x_even + 1/2) 2^-32)),   turn = int32(x_odd) 2^-32 in [-1/2, 1/2)
                    w even: r cos(2 pi turn),   w odd: r sin(2 pi turn)

Eight neighbouring units share a word index and differ by lane, so that a vector machine computes eight blocks at once
and stores its results side by side.  Deviates reach +-6.76 (about one in 7e10 normal deviates lies beyond).

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC'11, and the known-answer
vectors of their library Random123; G. Box, M. Muller, A note on the generation of random normal deviates (1958).
"""

from __future__ import annotations

import enum
import operator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer, UInt32

from .errors import InputError

BRANCH_REPEATS = 256
"""Repeats that one term of a sum of rules has to itself, see `NoisePath.branch`."""
BRANCHES = 2**16 // BRANCH_REPEATS
"""Branches that an address holds."""


class Stream(enum.IntEnum):
    """What a deviate is used for; two streams never share one.

    From PROCESS on, 16 streams for each of seven noise processes of a device, then from READOUT on 16 for each of eight
    stages of its readout.
    """

    THERMAL = 0
    READ = 1
    START = 2
    PROBE = 3
    PROGRAM = 4
    FIXED = 5
    CELL = 6
    UPDATE = 7
    PROCESS = 16
    READOUT = 128


class PhysicalNoise(enum.Enum):
    """The device makes its own noise; nobody can replay it."""

    PHYSICAL = "physical"


PHYSICAL = PhysicalNoise.PHYSICAL


def philox(counter: UInt32[np.ndarray, "4 ..."], key: tuple[int, int]) -> UInt32[np.ndarray, "4 ..."]:
    """Philox4x32-10: ten rounds that turn a counter of four 32-bit words and a key of two into four random words.

    One round, with (high, low) the halves of a 64-bit product:
        (c0, c1, c2, c3) <- (high(M1 c2) ^ c1 ^ k0, low(M1 c2), high(M0 c0) ^ c3 ^ k1, low(M0 c0)),  then k_i += W_i.

    Source: Salmon et al., SC'11, section 3.3.  Cost: 20 multiplications for four words.
    """
    c0, c1, c2, c3 = counter.astype(np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for turn in range(10):
        k0 = np.uint64((key[0] + turn * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + turn * 0xBB67AE85) & 0xFFFFFFFF)
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (product1 >> half) ^ c1 ^ k0, product1 & low, (product0 >> half) ^ c3 ^ k1, product0 & low
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


@dataclass(frozen=True, kw_only=True)
class NoisePath:
    """The part of a noise address that a whole relaxation shares.  A value: nothing is consumed by drawing from it.

    Args:
        seed: of the experiment, below 2^32.
        step: of the experiment (the optimiser's step), below 2^32.
        repeat: distinguishes relaxations of the same sample at the same step, below 2^16.
        coarse: time steps of the finest path that one step of this one spans, see `coarsen`.

    Raises:
        InputError: a field is out of range.
    """

    seed: int
    step: int = 0
    repeat: int = 0
    coarse: int = 1

    def __post_init__(self) -> None:
        _check("seed", self.seed, 1 << 32)
        _check("step", self.step, 1 << 32)
        _check("repeat", self.repeat, 1 << 16)
        if self.coarse < 1:
            raise InputError(f"a noise path needs coarse >= 1 fine time steps per step; found {self.coarse}")

    def at_step(self, step: int) -> NoisePath:
        """The path of another experiment step."""
        return NoisePath(seed=self.seed, step=step, repeat=self.repeat, coarse=self.coarse)

    def repeated(self, k: int) -> NoisePath:
        """The path `k` repeats further on: independent noise for the same samples."""
        return replace(self, repeat=self.repeat + k)

    def branch(self, i: int) -> NoisePath:
        """The path of term `i` of a sum of rules: each term has 256 repeats to itself."""
        return self.repeated(BRANCH_REPEATS * i)

    def coarsen(self, m: int) -> NoisePath:
        """The same Brownian path seen in steps `m` times as long.  Only the thermal stream is a path in time.

        The deviate of coarse step k is sum_{j=0}^{m-1} xi_{k m + j} / sqrt(m): summed increments, renormalised.  A step
        size m eps with this path and one of eps with the fine path see the same noise, which convergence tests need.
        """
        return replace(self, coarse=self.coarse * m)

    def normals(
        self,
        stream: Stream | int,
        sample_ids: Integer[np.ndarray, " B"],
        *,
        units: int,
        steps: int = 1,
        first: int = 0,
        phase: int = 0,
        repeats: Integer[np.ndarray, " B"] | None = None,
    ) -> Float[np.ndarray, "steps B units"]:
        """Standard normal deviates, float64.  The reference that every engine agrees with.

        Args:
            stream: what they are used for, below 2^8.
            sample_ids: [B], each below 2^32.
            units: N.
            steps: time steps.
            first: the first of them, in steps of this path.
            phase: position in the plan, below 2^8.
            repeats: [B] added to this path's own repeat; None adds none.

        Raises:
            InputError: a part of the address is out of range.

        Cost: about 60 ns per deviate and fine step; `hwsim.kernels.fill_normals` draws the same ones faster.
        """
        word = address_word(stream, phase, self.repeat, repeats)
        coarse = self.coarse if stream == Stream.THERMAL else 1
        check_times(first, steps, coarse)
        ids = check_ids(sample_ids)
        blocks = 8 * -(-units // 32)
        shape = (steps, len(ids), blocks)
        times = np.arange(first, first + steps, dtype=np.uint64) * np.uint64(coarse)
        total = np.zeros((steps, len(ids), 4 * blocks))
        for fine in range(coarse):
            axes = (
                (times + np.uint64(fine))[:, None, None],
                np.arange(blocks, dtype=np.uint64)[None, None, :],
                ids[None, :, None],
                np.broadcast_to(word, ids.shape)[None, :, None],
            )
            counter = np.stack([np.broadcast_to(axis, shape).astype(np.uint32) for axis in axes])
            total += _box_muller(philox(counter, (self.seed, self.step)))
        return np.ascontiguousarray(total[:, :, :units]) / np.sqrt(coarse)


def address_word(
    stream: int, phase: int, repeat: int, repeats: Integer[np.ndarray, " B"] | None = None
) -> UInt32[np.ndarray, " B"]:
    """Counter word c3 = stream << 24 | phase << 16 | repeat for each lane ([1] without `repeats`).

    Raises:
        InputError: a part does not fit its bits.
    """
    _check("stream", stream, 1 << 8)
    _check("phase", phase, 1 << 8)
    extra = np.zeros(1, np.uint32) if repeats is None else check_repeats(repeats)
    _check("largest repeat of a lane", repeat + int(np.maximum.reduce(extra, initial=0)), 1 << 16)
    return extra + np.uint32(stream << 24 | phase << 16 | repeat)


def check_ids(sample_ids: Integer[np.ndarray, " B"]) -> UInt32[np.ndarray, " B"]:
    """Sample ids as 32-bit words.

    Raises:
        InputError: they are not whole numbers, or one does not fit.
    """
    return _words("sample ids", "sample id", sample_ids, 1 << 32)


def check_repeats(repeats: Integer[np.ndarray, " B"]) -> UInt32[np.ndarray, " B"]:
    """Repeats of lanes as words.

    Raises:
        InputError: they are not whole numbers, or one does not fit.
    """
    return _words("repeats", "repeat of a lane", repeats, 1 << 16)


def check_times(first: int, steps: int, coarse: int) -> None:
    """Raise InputError where a time step does not fit counter word c0."""
    _check("first time step", first, 1 << 32)
    _check("last fine time step", (first + steps) * coarse - 1 if steps else 0, 1 << 32)


def _box_muller(words: UInt32[np.ndarray, "4 T B blocks"]) -> Float[np.ndarray, "T B units"]:
    """Random words [4, T, B, blocks] -> deviates [T, B, 4 blocks] in the order of their units."""
    radius = np.sqrt(-2 * np.log((words[::2].astype(np.float64) + 0.5) * 2.0**-32))
    angle = 2 * np.pi * (words[1::2].view(np.int32) * 2.0**-32)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)  # [pair, cos|sin, T, B, blocks]
    steps, lanes, blocks = words.shape[1:]
    by_word = pairs.reshape(4, steps, lanes, blocks // 8, 8)
    return by_word.transpose(1, 2, 3, 0, 4).reshape(steps, lanes, 4 * blocks)


def _words(names: str, name: str, values: Integer[np.ndarray, " B"], limit: int) -> UInt32[np.ndarray, " B"]:
    """Values from 0 to below `limit` as 32-bit words."""
    given = np.asarray(values)
    if given.dtype.kind not in "iu":
        raise InputError(f"{names} must be whole numbers; found {given.dtype}")
    if given.dtype == np.uint32 and limit == 1 << 32:
        return given
    # what is negative is larger than any limit here
    if given.size and int(np.maximum.reduce(given.astype(np.uint64))) >= limit:
        _check(f"smallest {name}", int(given.min()), limit)
        _check(f"largest {name}", int(given.max()), limit)
    return given.astype(np.uint32)


def _check(name: str, value: int, limit: int) -> None:
    if not 0 <= operator.index(value) < limit:
        raise InputError(f"asked for noise with {name} = {value}; it must be at least 0 and below {limit}")
