"""Substrates as tensors that stay where they are: the field of one step, written into room that is there already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, final

import torch
from torch.overrides import TorchFunctionMode

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.circuit import Branches, like
from hwsim.substrates.energy import EnergyNetwork
from hwsim.substrates.langevin import LinearLangevin
from hwsim.substrates.leaky import LeakyNetwork
from hwsim.substrates.nonlinearity import Hard, Identity, Logistic, Nonlinearity, ReLU, Softplus, Tanh
from hwsim.substrates.oscillator import OscillatorNetwork
from hwsim.substrates.resistive import ResistiveNetwork

from .products import Product, Products


class Terms(ABC):
    """What the lanes of one phase add to a field: constants of the phase and room to compute in.

    Attributes:
        steady: whether it computes with what is captured alone, without arrays of the host.
    """

    steady: bool = True

    @abstractmethod
    def begin(self, x: torch.Tensor, at: torch.Tensor | None) -> None:
        """Take up the inputs, and the point of the corrected dynamics or the states of a response, in playing order."""

    @abstractmethod
    def flow(self, z: torch.Tensor, clock: torch.Tensor, out: torch.Tensor) -> None:
        """The field at z, corrected or transposed as the terms are, written to `out`."""


class Field(ABC):
    """A substrate with its real parameters on a device.

    Args:
        physics: of the chip.
        dtype, device: of all tensors.
        products: how products with the couplings are taken.
    """

    def __init__(self, physics: Any, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        self.physics, self.dtype, self.device, self.products = physics, dtype, device, products

    @abstractmethod
    def load(self, theta: Parameters) -> None:
        """Take up real parameters, into the tensors of those before."""

    @abstractmethod
    def terms(self, lanes: int, *, corrected: bool, played: int | None) -> Terms:
        """Room for some lanes.

        Args:
            lanes: B.
            corrected: under the asymmetric-EP dynamics.
            played: None for the field itself, else the number of states along which the transposed response runs.
        """


@final
class NetworkField(Field):
    """`-leak z + W r(z) + drive`, or rolling downhill `-leak z + r'(z) (W r(z) + drive)`."""

    def __init__(self, physics: Any, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        super().__init__(physics, dtype, device, products)
        linear = isinstance(physics, LinearLangevin)
        self.nonlinearity: Nonlinearity = Identity() if linear else physics.nonlinearity
        self.leak = 0.0 if linear else 1.0
        self.gradient = isinstance(physics, EnergyNetwork)
        self._sign = -1.0 if linear else 1.0
        self.weights = Product(physics.units, dtype, device, products)
        self.theta = Parameters({})

    def load(self, theta: Parameters) -> None:
        block = theta[self.physics.between]
        self.weights.load(self._sign * self.physics.coupling.matrix(block))
        self.theta = theta

    def terms(self, lanes: int, *, corrected: bool, played: int | None) -> Terms:
        if played is not None:
            return NetworkResponse(self, lanes, played)
        return NetworkTerms(self, lanes, corrected)


@final
class NetworkTerms(Terms):
    """See `NetworkField`; corrected, `- (J - J^T)(z - at)` is added with the slopes at `at`."""

    def __init__(self, field: NetworkField, lanes: int, corrected: bool) -> None:
        self._field, shape = field, (lanes, field.physics.units)
        self._drive, self._rates, self._slopes = (_room(field, shape) for _ in range(3))
        self._around: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        if corrected:  # the point, the slopes there, and room
            self._around = _room(field, shape), _room(field, shape), _room(field, shape)

    def begin(self, x: torch.Tensor, at: torch.Tensor | None) -> None:
        self._drive.copy_(self._field.physics.drive(x, self._field.theta))
        if at is not None and self._around is not None:
            self._around[0].copy_(at)
            self._around[1].copy_(self._field.nonlinearity.slope(at))

    def flow(self, z: torch.Tensor, clock: torch.Tensor, out: torch.Tensor) -> None:
        field, W = self._field, self._field.weights
        rates = rate(field.nonlinearity, z, self._rates)
        W.apply(rates, self._drive, out)
        if field.gradient:
            slope(field.nonlinearity, z, rates, self._slopes)
            out.mul_(self._slopes)
        if field.leak:
            out.sub_(z)
        if self._around is None:
            return
        # J = -leak + [S] W S with the slopes at the point: what is symmetric in it cancels
        (at, gain, moved), back, forth = self._around, self._slopes, self._rates
        torch.sub(z, at, out=moved)
        if field.gradient:
            moved.mul_(gain)
            W.back(moved, None, back)
            W.apply(moved, None, forth)
            back.sub_(forth).mul_(gain)
            out.add_(back)
            return
        W.back(moved, None, back)
        out.addcmul_(back, gain)
        moved.mul_(gain)
        W.apply(moved, None, back)
        out.sub_(back)


@final
class NetworkResponse(Terms):
    """`J(at)^T a = S W^T [S] a + diag a` along a recording, or around one state."""

    def __init__(self, field: NetworkField, lanes: int, played: int) -> None:
        self._field, shape = field, (lanes, field.physics.units)
        self._slopes, self._slope = _room(field, (played, *shape)), _room(field, (1, *shape))
        self._own: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        if field.gradient:  # diagonals of J, the one of now, and room
            self._own = _room(field, (played, *shape)), _room(field, (1, *shape)), _room(field, shape)

    def begin(self, x: torch.Tensor, at: torch.Tensor | None) -> None:
        field = self._field
        assert at is not None  # a response is one to something
        states = at if at.ndim == 3 else at[None]
        self._slopes.copy_(field.nonlinearity.slope(states))
        _now(self._slopes, None, self._slope)
        if self._own is not None:
            diagonals, diagonal, _ = self._own
            inflow = field.physics.coupling.apply(field.theta["W"], field.nonlinearity(states))
            inflow = inflow + field.physics.drive(x, field.theta)
            diagonals.copy_(field.nonlinearity.curvature(states) * inflow - 1.0)
            _now(diagonals, None, diagonal)

    def flow(self, z: torch.Tensor, clock: torch.Tensor, out: torch.Tensor) -> None:
        field = self._field
        if len(self._slopes) > 1:
            _now(self._slopes, clock, self._slope)
        if self._own is None:
            field.weights.back(z, None, out)
            out.mul_(self._slope[0])
            if field.leak:
                out.sub_(z)
            return
        diagonals, diagonal, seen = self._own
        if len(diagonals) > 1:
            _now(diagonals, clock, diagonal)
        torch.mul(z, self._slope[0], out=seen)
        field.weights.back(seen, None, out)
        out.mul_(self._slope[0]).addcmul_(z, diagonal[0])


@final
class PhaseField(Field):
    """Coupled oscillators, see `OscillatorNetwork`."""

    def __init__(self, physics: Any, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        super().__init__(physics, dtype, device, products)
        self.weights = Product(physics.units, dtype, device, products)
        self.omega = torch.zeros((1, physics.units), dtype=dtype, device=device)
        self.theta = Parameters({})

    def load(self, theta: Parameters) -> None:
        self.weights.load(self.physics.coupling.matrix(theta["K"]))
        self.omega.copy_(theta["omega"][None])
        self.theta = theta

    def terms(self, lanes: int, *, corrected: bool, played: int | None) -> Terms:
        if corrected or played is not None:
            return AnyTerms(self, self.theta_now, lanes, corrected=corrected, played=played)
        return PhaseTerms(self, lanes)

    def theta_now(self) -> Parameters:
        """The parameters that were loaded last."""
        return self.theta


@final
class PhaseTerms(Terms):
    """`omega + c (K s + H sin x) - s (K c + H cos x) + 2 locking s c` with c, s = cos z, sin z."""

    def __init__(self, field: PhaseField, lanes: int) -> None:
        self._field, shape = field, (lanes, field.physics.units)
        self._c, self._s, self._along, self._from_cos, self._from_sin = (_room(field, shape) for _ in range(5))

    def begin(self, x: torch.Tensor, at: torch.Tensor | None) -> None:
        H_t = self._field.theta["H"].T
        self._from_sin.copy_(torch.sin(x) @ H_t)
        self._from_cos.copy_(torch.cos(x) @ H_t)

    def flow(self, z: torch.Tensor, clock: torch.Tensor, out: torch.Tensor) -> None:
        c, s, along, W = self._c, self._s, self._along, self._field.weights
        torch.cos(z, out=c)
        torch.sin(z, out=s)
        W.apply(s, self._from_sin, out)
        W.apply(c, self._from_cos, along)
        out.mul_(c).addcmul_(s, along, value=-1.0).add_(self._field.omega)
        if self._field.physics.locking:
            out.addcmul_(s, c, value=2.0 * self._field.physics.locking)


@final
class NodeField(Field):
    """A resistive network: its linear part as a matrix, its diodes law by law."""

    def __init__(self, physics: Any, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        super().__init__(physics, dtype, device, products)
        self.weights = Product(physics.units, dtype, device, products)
        self.linear = replace(physics, diodes=())
        here = torch.zeros(1, dtype=dtype, device=device)
        self.junctions = []
        for law in dict.fromkeys(diode.law for diode in physics.diodes):
            ends = tuple((diode.anode, diode.cathode) for diode in physics.diodes if diode.law == law)
            branches = Branches.between(ends, physics.units, physics.inputs, physics.amplifiers)
            nodes, into = like(branches.nodes, here).T.contiguous(), -physics.force(like(branches.returns, here))
            self.junctions.append((nodes, into, branches, law))
        self.theta = Parameters({})

    def load(self, theta: Parameters) -> None:
        self.weights.load(self.physics.linear_part(theta))
        self.theta = theta

    def terms(self, lanes: int, *, corrected: bool, played: int | None) -> Terms:
        if corrected or played is not None:
            return AnyTerms(self, self.theta_now, lanes, corrected=corrected, played=played)
        return NodeTerms(self, lanes)

    def theta_now(self) -> Parameters:
        """The parameters that were loaded last."""
        return self.theta


@final
class NodeTerms(Terms):
    """`-tau C^-1 Q^T I(P v + X x)`; the currents of diodes are computed in new tensors."""

    def __init__(self, field: NodeField, lanes: int) -> None:
        self._field = field
        self._sources = _room(field, (lanes, field.physics.units))
        self._biases = [_room(field, (lanes, nodes.shape[1])) for nodes, _, _, _ in field.junctions]

    def begin(self, x: torch.Tensor, at: torch.Tensor | None) -> None:
        field = self._field
        self._sources.copy_(field.linear.field(torch.zeros_like(self._sources), x, field.theta))
        for bias, (_, _, branches, _) in zip(self._biases, field.junctions, strict=True):
            bias.copy_(branches.driven(x, bias))

    def flow(self, z: torch.Tensor, clock: torch.Tensor, out: torch.Tensor) -> None:
        self._field.weights.apply(z, self._sources, out)
        for bias, (nodes, into, _, law) in zip(self._biases, self._field.junctions, strict=True):
            out.addmm_(law.current(torch.addmm(bias, z, nodes)), into)


@final
class AnyField(Field):
    """Any substrate, by its own functions, in new tensors at every step; products are those of its own code."""

    def __init__(self, physics: Any, dtype: torch.dtype, device: torch.device, products: Products) -> None:
        super().__init__(physics, dtype, device, products)
        self._theta = Parameters({})

    def load(self, theta: Parameters) -> None:
        self._theta = theta

    def terms(self, lanes: int, *, corrected: bool, played: int | None) -> Terms:
        return AnyTerms(self, lambda: self._theta, lanes, corrected=corrected, played=played)


@final
class AnyTerms(Terms):
    """See `AnyField`. J is taken at real states and acts on the parts of complex ones apart."""

    steady = False

    def __init__(self, field: Field, theta: Any, lanes: int, *, corrected: bool, played: int | None) -> None:
        self._field, self._theta, self._corrected, self._played = field, theta, corrected, played
        self._x = self._at = torch.zeros(0)

    def begin(self, x: torch.Tensor, at: torch.Tensor | None) -> None:
        self._x = x
        if at is not None:
            self._at = at

    def flow(self, z: torch.Tensor, clock: torch.Tensor, out: torch.Tensor) -> None:
        physics, theta, x = self._field.physics, self._theta(), self._x
        if self._played is not None:
            at = torch.index_select(self._at, 0, clock)[0] if self._at.ndim == 3 else self._at
            out.copy_(by_parts(physics.cotangent, z, at, x, theta))
            return
        with MixedProducts() if z.is_complex() else nullcontext():
            total = physics.field(z, x, theta)
        if self._corrected:
            rest = (self._at, x, theta)
            total = total - by_parts(physics.tangent, z - self._at, *rest)
            total = total + by_parts(physics.cotangent, z - self._at, *rest)
        out.copy_(total)


class MixedProducts(TorchFunctionMode):
    """A context in which a product of a real and a complex matrix is one of complex ones, which torch refuses."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in PRODUCTS and args[0].is_complex() != args[1].is_complex():
            wide = args[0].dtype if args[0].is_complex() else args[1].dtype
            args = tuple(factor.to(wide) for factor in args)
        return function(*args, **(kwargs or {}))


PRODUCTS = {torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__}
"""What `@` may be."""


def by_parts(product: Any, v: torch.Tensor, *rest: Any) -> Array:
    """A real linear map of v, complex or not."""
    if not v.is_complex():
        return product(v, *rest)
    return torch.complex(product(v.real, *rest), product(v.imag, *rest))


def rate(nonlinearity: Nonlinearity, z: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """`r(z)`, in `out` unless it is z itself."""
    match nonlinearity:
        case Identity():
            return z
        case Tanh():
            torch.tanh(z, out=out)
        case Logistic():
            torch.sigmoid(z, out=out)
        case Softplus():
            torch.logaddexp(z, torch.zeros((), dtype=z.dtype, device=z.device), out=out)
        case ReLU():
            torch.clamp(z, min=0.0, out=out)
        case Hard():
            torch.clamp(z, 0.0, 1.0, out=out)
        case _:
            out.copy_(nonlinearity(z))
    return out


def slope(nonlinearity: Nonlinearity, z: torch.Tensor, rates: torch.Tensor, out: torch.Tensor) -> None:
    """`r'(z)`, in `out`, where r(z) is known."""
    match nonlinearity:
        case Identity():
            out.fill_(1.0)
        case Tanh():
            torch.mul(rates, rates, out=out)
            out.neg_().add_(1.0)
        case Softplus():
            torch.sigmoid(z, out=out)
        case _:
            out.copy_(nonlinearity.slope(z))


def _room(field: Field, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(shape, dtype=field.dtype, device=field.device)


def _now(rows: torch.Tensor, clock: torch.Tensor | None, out: torch.Tensor) -> None:
    """The row that the clock shows, or the first."""
    if clock is None:
        out.copy_(rows[:1])
    else:
        torch.index_select(rows, 0, clock, out=out)


FIELDS: dict[type[Substrate], type[Field]] = {
    LeakyNetwork: NetworkField,
    EnergyNetwork: NetworkField,
    LinearLangevin: NetworkField,
    OscillatorNetwork: PhaseField,
    ResistiveNetwork: NodeField,
}
"""Substrate -> the field that runs it in place; any other runs as `AnyField`."""
