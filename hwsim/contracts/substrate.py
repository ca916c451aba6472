"""Physics (`Substrate`) and the part of it that a local rule may know (`Synapses`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

from jaxtyping import Float, Inexact

from .arrays import Array, namespace
from .parameters import Parameters
from .scale import Scale

_AT_A_TIME = 2**15
"""Entries of J that are held at a time where the diagonal is all that is wanted."""


class Synapses(ABC):
    """All that a local rule may know of the physics: how a synapse turns what it sees into its own update.

    States and signals may carry leading axes ([..., B, N], for example time); the inputs [B, M] are held constant over
    them. Sums run over every leading axis and over the batch.
    """

    @abstractmethod
    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        """`post^T dF/dtheta (z, x)`: the only road from a signal to a parameter gradient.

        Args:
            post: post-synaptic signal, one number per unit.
            z: state at the synapses.
            x: inputs.
            theta: parameters as the device read them back.
            per_sample: keep the batch axis: every block then has shape [B, ...].

        Returns:
            Parameters with the analog blocks of `theta` and no others. Cost: one outer product per coupling.
        """

    @abstractmethod
    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        """The immediate influence `dF_i/dtheta_ij = gain_i pre_j` in factored form, block -> (gain [B, N], pre [B, K]).

        For a block that holds one number per unit (a bias), `pre` is [B, 1] of ones. Blocks shared between units in
        another way (one conductance per pair), or that hold only some of the couplings, give the factors of the full
        [N, K] gradient; `credit` shares and picks. A block whose influence is no such product is missing.
        """

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        """`dE/dtheta` summed over the batch where the field is `F = -S^-1 dE/dz`, S the metric; None without an energy.

        In an electrical network E is the co-content (half the dissipated power where all is linear) and S holds the
        capacitances; where units are the same in all directions S = 1.
        """
        return None

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        """The positive diagonal S with `J^T = S J S^-1` of a reciprocal substrate; None where there is none.

        The transposed response to a signal c is then the natural response to `S^-1 c`, multiplied by S.
        """
        return None


class Substrate(Synapses):
    """A field `dz/dt = F(z, x; theta)` (time in time constants), with its first derivatives. Stateless.

    Written elementwise in array-API style, so that NumPy and torch run the same code. All functions take states with
    leading axes [..., B, N]; `tangent` and `cotangent` also take many signals [..., B, N] around one state [B, N].
    """

    units: int
    inputs: int

    @property
    def reciprocal(self) -> bool:
        """Whether `metric` is offered."""
        return False

    @property
    def unfactored(self) -> frozenset[str]:
        """The blocks that `influence` does not offer."""
        return frozenset()

    @property
    def holomorphic(self) -> bool:
        """Whether `field` also takes complex states (real inputs and parameters) and is analytic in them: F(z + h v) =
        F(z) + h J(z) v + O(h^2) for complex v as well, and F of the conjugate is the conjugate of F."""
        return False

    @property
    def scale(self) -> Scale | None:
        """What a dimensionless unit is worth, where the field is in volts and seconds; None where any scale will do."""
        return None

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every analog block."""

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Block -> (lowest, highest) value that makes sense physically; a missing block is unbounded."""
        return {}

    @property
    def rails(self) -> tuple[Float[Array, " N"], Float[Array, " N"]] | None:
        """(low, high), NumPy, between which every step leaves the state; None where nothing holds it in."""
        return None

    def linear_part(self, theta: Parameters) -> Float[Array, " N"] | Float[Array, "N N"] | None:
        """A constant M with `F = M z + (the rest)`, for exponential integration: a diagonal [N] or a matrix [N, N].

        What is linear should be in M as far as it is known; a linear substrate gives its whole J, and the step is then
        exact. None where there is no such part.
        """
        return None

    def diffusion(self, theta: Parameters) -> Float[Array, "N N"] | None:
        """B of the thermal noise `dz = F dt + sqrt(2 kT) B dW`, t in time constants, kT in joule.

        None where every unit is an isolated node, `B = 1 / sqrt(C)` with the scale's capacitance. Where resistors join
        nodes the noise belongs to the resistors and `B B^T` is not diagonal.
        """
        return None

    def unshared(self) -> Substrate:
        """The same physics with a parameter for each direction of a coupling that two units share; self if none do.

        What happens to the two directions separately on a chip (asymmetry, wires) is told in these parameters.
        """
        return self

    def unshare(self, theta: Parameters) -> Parameters:
        """Parameters of `unshared()` that make the same field."""
        return theta

    def share(self, gradients: Parameters) -> Parameters:
        """The adjoint of `unshare`: a gradient for the parameters of `unshared()` as one for this substrate's own."""
        return gradients

    @abstractmethod
    def field(self, z: Inexact[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters) -> Inexact[Array, "*T B N"]:
        """`F(z, x; theta)`, state units per time constant; z may be complex where `holomorphic`."""

    @abstractmethod
    def tangent(
        self, v: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        """`J(z) v` with `J = dF/dz`."""

    @abstractmethod
    def cotangent(
        self, a: Float[Array, "*T B N"], z: Float[Array, "*#T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        """`J(z)^T a`."""

    def jacobian(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Float[Array, "B N N"]:
        """`J(z) = dF/dz` as matrices, by N tangents; a substrate that can write it down does so instead.

        Cost: one tangent of a batch N times as large.
        """
        xp = namespace(z)
        basis = xp.eye(self.units, dtype=z.dtype, device=z.device)[:, None, :]
        columns = self.tangent(xp.broadcast_to(basis, (self.units, *z.shape)), z, x, theta)
        return xp.permute_dims(columns, (1, 2, 0))

    def jacobian_diagonal(
        self, z: Float[Array, "*T B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Float[Array, "*T B N"]:
        """`J_ii(z)`: what a unit does to itself.

        Cost: that of `jacobian` at every state, some of them at a time; a substrate that knows better, O(T B N).
        """
        xp, lead = namespace(z), z.shape[:-2]
        states = xp.reshape(z, (-1, self.units))
        inputs = xp.reshape(xp.broadcast_to(x, (*lead, *x.shape)), (-1, x.shape[-1]))
        some = max(1, _AT_A_TIME // self.units**2)
        found = [
            xp.linalg.diagonal(self.jacobian(states[i : i + some], inputs[i : i + some], theta))
            for i in range(0, len(states), some)
        ]
        return xp.reshape(xp.concat(found), z.shape)


@final
class LocalSynapses(Synapses):
    """A substrate seen through the slit that local rules look through: its synapse functions and nothing else."""

    def __init__(self, substrate: Synapses) -> None:
        self._substrate = substrate

    def credit(
        self,
        post: Float[Array, "*T B N"],
        z: Float[Array, "*T B N"],
        x: Float[Array, "B M"],
        theta: Parameters,
        *,
        per_sample: bool = False,
    ) -> Parameters:
        return self._substrate.credit(post, z, x, theta, per_sample=per_sample)

    def influence(
        self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters
    ) -> Mapping[str, tuple[Float[Array, "B N"], Float[Array, "B K"]]]:
        return self._substrate.influence(z, x, theta)

    def energy_credit(self, z: Float[Array, "B N"], x: Float[Array, "B M"], theta: Parameters) -> Parameters | None:
        return self._substrate.energy_credit(z, x, theta)

    def metric(self, z: Float[Array, "B N"], theta: Parameters) -> Float[Array, "B N"] | None:
        return self._substrate.metric(z, theta)
