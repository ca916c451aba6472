"""A drawn chip: how one device differs from its drawing, for as long as it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar, final

import numpy as np
from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate

_Chip = TypeVar("_Chip", bound="Chip")

_UNITS = ("rate", "offset", "low", "high", "slew")
_BLOCKS = ("gain", "mixing", "backward", "stuck")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Chip:
    """What is fixed on one die. A value: can be looked at, saved and written out as a circuit.

        dz_i/dt = clip(rate_i (F_i(z, x; theta_real) + offset_i), -slew_i, slew_i),     low_i <= z_i <= high_i
        theta_real = (gain * theta) mixing + deviation        block by block, in the parameters of the unshared
                                                              substrate where `split`

    Args:
        rate: [N] time constant of the drawing over that of the unit, 1 as drawn.
        offset: [N] state units per time constant, 0 as drawn.
        low, high: [N] rails, state units; infinite as drawn. A dead unit has low = high.
        slew: [N] fastest change, state units per time constant; infinite as drawn.
        gain: block -> factor of every parameter; a missing block has 1.
        mixing: block -> [K, K] right factor over the block's last axis (crosstalk between the K lines that feed it).
        backward: block -> further factor when the couplings are driven backwards.
        stuck: block -> the value at which a parameter is stuck, NaN where it can be written. In the parameters as they
            are programmed.
        split: whether the two directions of a shared coupling differ.

    Raises:
        InputError: arrays of different lengths, a rate that is not positive, a negative slew rate, or low > high.
    """

    rate: Float[Array, " N"]
    offset: Float[Array, " N"]
    low: Float[Array, " N"]
    high: Float[Array, " N"]
    slew: Float[Array, " N"]
    gain: Mapping[str, Array] = field(default_factory=dict)
    mixing: Mapping[str, Array] = field(default_factory=dict)
    backward: Mapping[str, Array] = field(default_factory=dict)
    stuck: Mapping[str, Array] = field(default_factory=dict)
    split: bool = False

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _UNITS}
        if len(set(lengths.values())) > 1:
            raise InputError(f"a chip has one number per unit for each of {', '.join(_UNITS)}; found {lengths}")
        if not (self.rate > 0).all():
            raise InputError(f"the rate of a unit must be positive; found {self.rate.min():.6g}")
        if not (self.slew >= 0).all():
            raise InputError(f"the slew rate of a unit must not be negative; found {self.slew.min():.6g}")
        if not (self.low <= self.high).all():
            unit = int(np.argmin(self.low <= self.high))
            raise InputError(
                f"rails need low <= high; found {self.low[unit]:.6g} and {self.high[unit]:.6g}, unit {unit}"
            )

    @classmethod
    def as_drawn(cls, units: int) -> Chip:
        """A chip without faults."""
        unlimited = np.full(units, np.inf)
        return cls(rate=np.ones(units), offset=np.zeros(units), low=-unlimited, high=unlimited, slew=unlimited)

    @cached_property
    def railed(self) -> bool:
        """Whether any unit has a rail."""
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

    def arrays(self) -> dict[str, Array]:
        """Everything as plain arrays, `group/block` for what is kept per block: for files."""
        flat: dict[str, Array] = {name: getattr(self, name) for name in _UNITS}
        for group in _BLOCKS:
            flat |= {f"{group}/{block}": array for block, array in getattr(self, group).items()}
        return flat | {"split": np.array(self.split)}

    @classmethod
    def from_arrays(cls: type[_Chip], arrays: Mapping[str, Array]) -> _Chip:
        """The chip that `arrays` wrote down."""
        groups: dict[str, dict[str, Array]] = {group: {} for group in _BLOCKS}
        for name in arrays.keys() - {*_UNITS, "split"}:
            group, _, block = name.partition("/")
            if group not in groups:
                raise InputError(
                    f"a chip is written as {', '.join(_UNITS)}, split and {_BLOCKS} per block; found {name}"
                )
            groups[group][block] = arrays[name]
        return cls(**{name: arrays[name] for name in _UNITS}, **groups, split=bool(arrays["split"]))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnSubstrate(Substrate):
    """The physics of one chip: what a device with mismatch really settles by, and what its judge differentiates.

    The equation is that of `Chip`. Derivatives are exact, at fixed `deviation`: what drift, read noise and the
    resistance of wires added to the parameters is taken as it is now. Where a unit is limited by its slew rate its
    tangent is zero.

    Args:
        drawing: the substrate as designed.
        chip: how this die differs.
        deviation: added to the real parameters (those of `drawing.unshared()` where the chip is split); a missing
            block has none.
        driven_backwards: whether `chip.backward` applies.

    Raises:
        InputError: a chip of another size, or an array that does not fit its block.
    """

    drawing: Substrate
    chip: Chip
    deviation: Mapping[str, Array] = field(default_factory=dict)
    driven_backwards: bool = False

    def __post_init__(self) -> None:
        if len(self.chip.rate) != self.units:
            raise InputError(f"a drawing of {self.units} units needs as many on the chip; found {len(self.chip.rate)}")
        real, programmed = self.physics.shapes(), self.shapes()
        for group, blocks, shapes in (
            ("gain", self.chip.gain, real),
            ("mixing", self.chip.mixing, {name: 2 * shape[-1:] for name, shape in real.items()}),
            ("backward", self.chip.backward, real),
            ("stuck", self.chip.stuck, programmed),
            ("deviation", self.deviation, real),
        ):
            for name, array in blocks.items():
                if name not in shapes:
                    raise InputError(f"{group} names block {name}; the substrate has {sorted(shapes)}")
                if tuple(array.shape) != tuple(shapes[name]):
                    raise InputError(
                        f"{group} of block {name} must be {list(shapes[name])}; found {list(array.shape)}"
                        f"{' (one number for each direction, since the chip is split)' * self.chip.split}"
                    )

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.drawing.units

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.drawing.inputs

    @property
    def reciprocal(self) -> bool:
        return self.physics.reciprocal and not self._limited

    @property
    def unfactored(self) -> frozenset[str]:
        touched = {name for factors in (*self._factors(), self.chip.mixing) for name in factors}
        return self.physics.unfactored | touched

    @property
    def holomorphic(self) -> bool:
        return self.physics.holomorphic and self.rails is None and not self._limited

    @property
    def scale(self) -> Scale | None:
        return self.drawing.scale

    @property
    def rails(self) -> tuple[Float[Array, " N"], Float[Array, " N"]] | None:
        low, high = self.chip.low, self.chip.high
        if self.drawing.rails is not None:
            low, high = np.maximum(low, self.drawing.rails[0]), np.minimum(high, self.drawing.rails[1])
        elif not self.chip.railed:
            return None
        return low, high

    @cached_property
    def physics(self) -> Substrate:
        """The substrate whose parameters are real: `drawing`, or `drawing.unshared()`."""
        return self.drawing.unshared() if self.chip.split else self.drawing

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.drawing.shapes()

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        return self.drawing.ranges()

    def linear_map(self, theta: Parameters) -> Parameters:
        """The real parameters without their deviation: `(gain * theta) mixing`."""
        real = self.drawing.unshare(theta.analog) if self.chip.split else theta.analog
        factored = [factors for factors in self._factors() if factors]
        if not (factored or self.chip.mixing):
            return real
        xp = namespace(*real.values())
        for factors in factored:
            moved = {name: real[name] * _like(xp, array, real[name]) for name, array in factors.items()}
            real = real | moved
        mixed = {name: real[name] @ _like(xp, array, real[name]) for name, array in self.chip.mixing.items()}
        return real | mixed

    def real(self, theta: Parameters) -> Parameters:
        """The parameters by which the chip settles when it is programmed with `theta`."""
        real = self.linear_map(theta)
        if not self.deviation:
            return real
        xp = namespace(*real.values())
        return real | {name: real[name] + _like(xp, array, real[name]) for name, array in self.deviation.items()}

    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        flow = self._flow(z, x, theta)
        if not self._limited:
            return flow
        xp = namespace(z)
        slew = _like(xp, self.chip.slew, z)
        return xp.where(flow > slew, slew, xp.where(flow < -slew, -slew, flow))

    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self._speed(z, x, theta) * self.physics.tangent(v, z, x, self.real(theta))

    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self.physics.cotangent(self._speed(z, x, theta) * a, z, x, self.real(theta))

    def jacobian(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N N"]:
        speed = self._speed(z, x, theta)
        return speed[..., :, None] * self.physics.jacobian(z, x, self.real(theta))

    def jacobian_diagonal(
        self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        return self._speed(z, x, theta) * self.physics.jacobian_diagonal(z, x, self.real(theta))

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        post = self._speed(z, x, theta) * post
        return self._pulled_back(self.physics.credit(post, z, x, self.real(theta), per_sample=per_sample))

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        """That of the physics at the real parameters; a block with its own gain or mixing has no factored form."""
        speed = self._speed(z, x, theta)
        real = self.physics.influence(z, x, self.real(theta))
        return {name: (speed * gain, pre) for name, (gain, pre) in real.items() if name not in self.unfactored}

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        if not self.reciprocal:
            return None
        found = self.physics.energy_credit(z, x, self.real(theta))
        return None if found is None else self._pulled_back(found)

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        if not self.reciprocal:
            return None
        found = self.physics.metric(z, self.real(theta))
        return None if found is None else found / _like(namespace(z), self.chip.rate, z)

    def linear_part(self, theta: Parameters) -> Float[Array, " N"] | Float[Array, "N N"] | None:
        part = self.physics.linear_part(self.real(theta))
        if part is None:
            return None
        rate = _like(namespace(part), self.chip.rate, part)
        return rate * part if len(part.shape) == 1 else rate[:, None] * part

    def diffusion(self, theta: Parameters) -> Float[Array, "N N"] | None:
        found = self.physics.diffusion(self.real(theta))
        return None if found is None else _like(namespace(found), self.chip.rate, found)[:, None] * found

    @cached_property
    def _limited(self) -> bool:
        """Whether any unit has a slew limit."""
        return bool(np.isfinite(self.chip.slew).any())

    def _factors(self) -> tuple[Mapping[str, Array], ...]:
        return (self.chip.gain, self.chip.backward) if self.driven_backwards else (self.chip.gain,)

    def _flow(self, z: Array, x: Array, theta: Parameters) -> Array:
        xp = namespace(z)
        total = self.physics.field(z, x, self.real(theta)) + _like(xp, self.chip.offset, z)
        return _like(xp, self.chip.rate, z) * total

    def _speed(self, z: Array, x: Array, theta: Parameters) -> Array:
        """`rate`, and 0 where the slew rate holds a unit: what F is multiplied by."""
        xp = namespace(z)
        rate = _like(xp, self.chip.rate, z)
        if not self._limited:
            return rate
        flow = self._flow(z, x, theta)
        limited = xp.abs(flow) > _like(xp, self.chip.slew, z)
        return xp.where(limited, xp.zeros_like(flow), rate + xp.zeros_like(flow))

    def _pulled_back(self, gradients: Parameters) -> Parameters:
        """The adjoint of `linear_map`, also with a leading batch axis."""
        for name, mixing in self.chip.mixing.items():
            xp = namespace(gradients[name])
            gradients = gradients | {name: gradients[name] @ _like(xp, mixing, gradients[name]).mT}
        for factors in self._factors():
            if factors:
                xp = namespace(*gradients.values())
                moved = {name: gradients[name] * _like(xp, array, gradients[name]) for name, array in factors.items()}
                gradients = gradients | moved
        return self.drawing.share(gradients) if self.chip.split else gradients


def _like(xp: object, array: Array, like: Array) -> Array:
    """A NumPy array in the namespace, precision and place of another array."""
    if not isinstance(like, np.ndarray) and not array.flags.writeable:
        array = array.copy()  # torch cannot share an array that must not be written to
    return xp.asarray(array, dtype=like.dtype, device=like.device)  # type: ignore[attr-defined]
