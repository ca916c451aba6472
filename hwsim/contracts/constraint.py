"""Hard constraints: parameters that stay in a set because of how they are made, not because they are pushed back."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .parameters import Parameters


class Constraint(ABC):
    """A map from free parameters phi, which an optimiser may move anywhere, to the parameters theta(phi) of a set.

    What is programmed is theta(phi). A gradient with respect to theta becomes one with respect to phi through the exact
    adjoint of the map, `g_phi = (d theta / d phi)^T g_theta`. The set holds for what is *asked* of a device; what it
    then holds differs by its write errors, so leave them a margin.

    Blocks that a constraint does not speak of, those of the readout among them, pass through, and frozen blocks stay
    frozen on both sides.
    """

    @abstractmethod
    def free(self, theta: Parameters) -> Parameters:
        """phi from which training starts: `theta(free(theta))` is theta where it lies in the set, else near it.

        Raises:
            InputError: theta lacks a block, or has one of another shape.
        """

    @abstractmethod
    def theta(self, phi: Parameters) -> Parameters:
        """The parameters that phi stands for, in the set up to rounding; phi is finite."""

    @abstractmethod
    def pull_back(self, phi: Parameters, gradients: Parameters) -> Parameters:
        """`(d theta / d phi)^T gradients` at phi: blocks of theta in, blocks of phi out.

        At a corner of the map, the derivative of one of its sides.
        """
