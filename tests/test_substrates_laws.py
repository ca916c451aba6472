"""The suite bites: what a substrate says of sharing, energy, its linear part and its limits is held to the law."""

import numpy as np
import pytest

from hwsim.contracts.parameters import Parameters
from hwsim.substrates import EnergyNetwork, Identity, LeakyNetwork
from hwsim.testing import check_substrate

SYMMETRIC = LeakyNetwork.symmetric(5, 3)


def no_metric(monkeypatch):
    monkeypatch.setattr(EnergyNetwork, "reciprocal", False)
    monkeypatch.setattr(EnergyNetwork, "metric", lambda *_: None)


def bent(name, answer):
    return lambda monkeypatch: monkeypatch.setattr(LeakyNetwork, name, answer)


BROKEN = {
    "share that forgets to share": (bent("share", lambda _, g: g), SYMMETRIC, "share is the adjoint of unshare"),
    "unshare that does not": (bent("unshare", lambda _, theta: theta), SYMMETRIC, "unshared physics gives the same"),
    "unshare that loses a block": (
        bent("unshare", lambda _, theta: Parameters({"W": theta["W"], "b": theta["b"]})),
        SYMMETRIC,
        "unshare gives parameters of unshared",
    ),
    "unshared of another size": (
        bent("unshared", lambda self: LeakyNetwork.dense(2 * self.units, self.inputs)),
        LeakyNetwork.dense(5, 3),
        "unshare gives parameters of unshared",
    ),
    "an energy without a metric": (no_metric, EnergyNetwork.symmetric(5, 3), "an energy needs a metric"),
    "half of a linear network": (
        bent("linear_part", lambda self, _: -np.ones(self.units)),
        LeakyNetwork.dense(5, 3, Identity()),
        "linear_part of a linear substrate is its Jacobian",
    ),
    "a linear part for every lane": (
        bent("linear_part", lambda self, _: -np.ones((3, 1, self.units))),
        SYMMETRIC,
        "linear_part is a diagonal",
    ),
    "a diffusion without its other half": (
        bent("diffusion", lambda self, _: np.ones(self.units)),
        SYMMETRIC,
        r"diffusion is \[N, N\]",
    ),
    "an infinite diffusion": (bent("diffusion", lambda *_: np.full((5, 5), np.inf)), SYMMETRIC, "diffusion is finite"),
    "ranges of nothing": (bent("ranges", lambda _: {"Q": (0.0, 1.0)}), SYMMETRIC, "ranges speak of blocks"),
    "a range upside down": (bent("ranges", lambda _: {"W": (1.0, 0.0)}), SYMMETRIC, "range of block W is"),
    "rails upside down": (bent("rails", (np.ones(5), -np.ones(5))), SYMMETRIC, "rails are two .* expected low <= high"),
    "one rail for all": (bent("rails", (np.zeros(1), np.ones(1))), SYMMETRIC, "rails are two"),
    "a number for a scale": (bent("scale", 1e-6), SYMMETRIC, "scale is a Scale or None"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_law_is_named(what, monkeypatch):
    bend, substrate, law = BROKEN[what]
    check_substrate(lambda: substrate)
    bend(monkeypatch)
    with pytest.raises(AssertionError, match=law):
        check_substrate(lambda: substrate)


def test_parameters_are_drawn_inside_their_ranges(monkeypatch):
    seen = []
    field = LeakyNetwork.field

    def watched(self, z, x, theta):
        seen.append((theta["U"].min(), theta["U"].max(), float((z * z).mean()) ** 0.5))
        return field(self, z, x, theta)

    monkeypatch.setattr(LeakyNetwork, "ranges", lambda _: {"U": (0.2, np.inf)})
    monkeypatch.setattr(LeakyNetwork, "field", watched)
    check_substrate(lambda: SYMMETRIC, size=0.1)
    assert 0.2 < seen[0][0] < seen[0][1] < 0.5
    assert 0.05 < seen[0][2] < 0.2
