"""Normal deviates by address as tensors: those of `hwsim.contracts.noise`, drawn where the states are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch

from hwsim.contracts.noise import Stream, address_word, check_times
from hwsim.devices.engines import Stretch

_LOW = 0xFFFFFFFF
_M0, _M1, _W0, _W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
_UNIT = 2.0**-32
_HALF_WAY = 2**31
HOST_BLOCK = 2**16
"""Deviates that the host draws at once."""


def philox(counter: tuple[torch.Tensor, ...], key: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Philox4x32-10 on 32-bit words held in int64, whose products wrap as those of uint64 do.

    Args:
        counter: four words, of shapes that broadcast.
        key: [2], whose multiples of the Weyl constants make the keys of the ten rounds.
    """
    c0, c1, c2, c3 = counter
    for turn in range(10):
        k0, k1 = (key[0] + turn * _W0) & _LOW, (key[1] + turn * _W1) & _LOW
        product0, product1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _LOW) ^ c1 ^ k0,
            product1 & _LOW,
            ((product0 >> 32) & _LOW) ^ c3 ^ k1,
            product0 & _LOW,
        )
    return c0, c1, c2, c3


def box_muller(even: torch.Tensor, odd: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two deviates from two words: `r cos 2 pi t` and `r sin 2 pi t`.

    `u = (even + 1/2) 2^-32` rounds to 1 near the top in float32, where r is small; there `ln u = ln(1 - v)` with v from
    the complement of the word.
    """
    near_one = even >= _HALF_WAY
    u = (even.to(dtype) + 0.5) * _UNIT
    v = ((_LOW - even).to(dtype) + 0.5) * _UNIT
    logarithm = torch.where(near_one, torch.log1p(-v), torch.log(u))
    radius = torch.sqrt(-2.0 * logarithm)
    turn = torch.where(odd >= _HALF_WAY, odd - 2 * _HALF_WAY, odd).to(dtype) * (2.0 * math.pi * _UNIT)
    return radius * torch.cos(turn), radius * torch.sin(turn)


def deviates(
    time: torch.Tensor,
    blocks: torch.Tensor,
    ids: torch.Tensor,
    words: torch.Tensor,
    key: torch.Tensor,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, ...]:
    """The deviates of the four words of every block, [B, blocks] each."""
    x0, x1, x2, x3 = philox((time, blocks, ids, words), key)
    return (*box_muller(x0, x1, dtype), *box_muller(x2, x3, dtype))


class Draws(ABC):
    """The deviates of one phase, one step after another, in a tensor that stays where it is.

    Attributes:
        xi: [B, N] of the latest step.
    """

    xi: torch.Tensor

    @abstractmethod
    def begin(self, stretch: Stretch) -> None:
        """Take up the addresses of a phase."""

    @abstractmethod
    def prepare(self, step: int) -> None:
        """Before a step, outside of what is captured."""

    @abstractmethod
    def draw(self, clock: torch.Tensor) -> None:
        """Fill `xi` with the deviates of the step that the clock [1] shows, as part of what is captured."""


@final
class DeviceDraws(Draws):
    """In torch: the whole address is in tensors, so that a captured graph serves every phase of its shape.

    Cost: about 150 elementwise operations on [B, N / 4] words per step, one pass where `torch.compile` fuses them.
    """

    def __init__(
        self, lanes: int, units: int, coarse: int, dtype: torch.dtype, device: torch.device, *, fused: bool = False
    ) -> None:
        blocks = 8 * -(-units // 32)
        self._coarse, self._dtype = coarse, dtype
        self._deviates = torch.compile(deviates, dynamic=False) if fused else deviates
        self._wide = torch.zeros((lanes, blocks // 8, 4, 8), dtype=dtype, device=device)
        self.xi = self._wide.view(lanes, 4 * blocks)[:, :units]
        self._blocks = torch.arange(blocks, device=device)[None, :]
        self._ids, self._words = (torch.zeros((lanes, 1), dtype=torch.int64, device=device) for _ in range(2))
        self._key = torch.zeros(2, dtype=torch.int64, device=device)

    def begin(self, stretch: Stretch) -> None:
        ids, words = addresses(stretch)
        self._ids.copy_(torch.from_numpy(ids)[:, None])
        self._words.copy_(torch.from_numpy(words)[:, None])
        path = stretch.lanes.path
        self._key.copy_(torch.tensor([path.seed, path.step]))

    def prepare(self, step: int) -> None:
        pass

    def draw(self, clock: torch.Tensor) -> None:
        for fine in range(self._coarse):
            time = (clock * self._coarse + fine)[:, None]
            parts = self._deviates(time, self._blocks, self._ids, self._words, self._key, self._dtype)
            for word, part in enumerate(parts):
                place = self._wide[:, :, word]
                if fine:
                    place.add_(part.view_as(place))
                else:
                    place.copy_(part.view_as(place))
        if self._coarse > 1:
            self._wide.div_(math.sqrt(self._coarse))


@final
class HostDraws(Draws):
    """By the compiled kernel, for tensors in the memory of this machine: far faster than torch operations there."""

    def __init__(self, lanes: int, units: int, dtype: np.dtype[np.floating]) -> None:
        self._rows = max(1, min(256, HOST_BLOCK // max(1, lanes * units)))
        self._block = np.zeros((self._rows, lanes, units), dtype)
        self._steps = torch.from_numpy(self._block).unbind()
        self.xi = torch.zeros((lanes, units), dtype=self._steps[0].dtype)
        self._stretch: Stretch | None = None

    def begin(self, stretch: Stretch) -> None:
        addresses(stretch)
        self._stretch = stretch

    def prepare(self, step: int) -> None:
        from hwsim.kernels import fill_normals

        assert self._stretch is not None  # begun
        row = step % self._rows
        if row == 0:
            stretch = self._stretch
            noise = stretch.lanes.noise(Stream.THERMAL, stretch.index, first=step)
            fill_normals(self._block[: min(self._rows, stretch.steps - step)], noise)
        self.xi.copy_(self._steps[row])

    def draw(self, clock: torch.Tensor) -> None:
        pass


def addresses(stretch: Stretch) -> tuple[np.ndarray, np.ndarray]:
    """Counter words c2 and c3 of every lane, int64.

    Raises:
        InputError: a part of an address is out of range.
    """
    lanes = stretch.lanes
    check_times(0, stretch.steps, lanes.path.coarse)
    words = address_word(Stream.THERMAL, stretch.index, lanes.path.repeat, lanes.repeats)
    return lanes.ids.astype(np.int64), np.broadcast_to(words, lanes.ids.shape).astype(np.int64)
