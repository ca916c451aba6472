"""When a nudged phase has gone on for long enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from hwsim.contracts.checks import whole
from hwsim.contracts.device import Capability
from hwsim.contracts.needs import Needs

from .checks import positive


@final
@dataclass(frozen=True, kw_only=True)
class Settling:
    """Go on in stretches of `every` steps until the adjoint has settled, sample by sample, by its mean residual

        |a_{k+m} - a_k| / (eps m |c|)  =  |mean over the stretch of (J^T a + c)| / |c|     m = every

    which is measured from what is read at the ends of a stretch. It is larger than the residual at the end of the
    stretch where a decays without swinging. Samples that are done are not run again. Each stretch starts at the states
    that were read (capability `load_state`), so that reading errors enter, and with noise processes afresh; its thermal
    noise has an address of its own. Noise keeps the residual above about its own size over eps m: give such a device a
    tolerance above that, or `most` decides.

    Args:
        tolerance: of the mean residual, relative to the signal.
        every: steps of a stretch.
        most: steps after which a sample is left as it is.

    Raises:
        InputError: a value out of range.
    """

    tolerance: float = 1e-2
    every: int = 10
    most: int = 400

    def __post_init__(self) -> None:
        positive(self, "tolerance", self.tolerance)
        whole("Settling", "every", self.every, least=1)
        whole("Settling", "most", self.most, least=self.every)

    @property
    def needs(self) -> Needs:
        """What it needs of a device."""
        return Needs(capabilities=frozenset({Capability.LOAD_STATE}))
