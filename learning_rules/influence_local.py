"""Members that a synapse can do alone: a trace of its own past, and the unit's signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float

from hwsim.contracts.arrays import Array, namespace
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.rule import Kind

from .checks import positive
from .influence import Influence, Recording, backwards


@final
@dataclass(frozen=True, kw_only=True)
class RFLO(Influence):
    """Random-feedback local online learning: the unit's leak in place of its dynamics,

        M' = (1 - eps leak) M + eps F_theta,      for the leaky network  e_ij' = (1 - eps leak) e_ij + eps r(z_j)

    one low-pass trace per synapse (per pre-synaptic unit where the gain is constant), read by the unit's signal. All
    that couples the units is given up. The signal is the task's own dL/dz; the random feedback matrix of the paper is a
    matter of the signal, not of the trace.

    LOCAL: synapses and eps. Where the leak is a parameter (the diagonal of a Langevin machine's A, the conductances of
    a resistive network), `leak` is the decay of the trace, a choice.

    Args:
        leak: decay of a unit on its own, per time constant: 1 where F = -z + ...

    Raises:
        InputError: leak is not positive and finite.

    Source: Murray, eLife 8:e43299 (2019), equations 7 to 9. Cost: one decay per synapse and step on line; simulated,
    one credit of T B samples.
    """

    kind: ClassVar[Kind] = Kind.LOCAL
    finite: ClassVar[str] = "states as they were read"
    advice: ClassVar[str] = "read the states more finely"

    leak: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "leak", self.leak)

    @property
    def given_up(self) -> tuple[str, str]:
        return "what passes between units", "keep more of the influence: SnAp(order=2), UORO or KFRTRL"

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        keep = 1.0 - recording.step_size * self.leak
        return recording.credited(backwards(recording, lambda h, k: keep * h, recording.signals))


@final
@dataclass(frozen=True, kw_only=True)
class EProp(Influence):
    """Eligibility propagation: the unit's own dynamics, with what arrives through its synapses held fixed,

        M_i' = (1 + eps o_i) M_i + eps F_theta,i      o_i = dF_i/dz_i at fixed pre-synaptic quantities

    For `F_i = -leak z_i + gain_i(z_i) u_i`, u_i the inflow through the synapses, `o_i = -leak + gain_i'(z_i) u_i`. All
    of it is LOCAL: `gain_i u_i` is the measured step `(z_{k+1} - z_k) / eps` less the leak, and gain' is a central
    difference of the gain that the synapses state (relative error about 4e-11 in float64, 2e-5 in float32). Noise of a
    step therefore reaches the trace.

    Where it stands: with a constant gain, as in the leaky network and the Langevin machine, it *is* RFLO. In the energy
    network gain = r'(z) and o_i = -1 + r''(z_i) u_i, of which RFLO keeps -1. SnAp(order=1) also has the unit's coupling
    with itself, J_ii = o_i + gain_i W_ii dpre_i/dz_i, which e-prop takes for an explicit recurrent coupling and cuts.

    Args:
        leak: the leak, per time constant.

    Raises:
        InputError: leak is not positive and finite.
        CapabilityError: from `estimate`, blocks without factored influence, or whose gains differ and change.

    Source: Bellec et al., Nature Communications 11:3625 (2020), equations 13 and 14, with the unit as its hidden state
    and r(z) as what others see. Cost: one multiply-add per synapse and step on line; simulated, two more influences and
    one credit of T B samples.
    """

    kind: ClassVar[Kind] = Kind.LOCAL
    finite: ClassVar[str] = "slopes from measured steps and differences of gains"
    advice: ClassVar[str] = "read the states more finely, or lower the noise"
    factored: ClassVar[bool] = True

    leak: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "leak", self.leak)

    @property
    def given_up(self) -> tuple[str, str]:
        return "what passes between units", "keep more of the influence: SnAp(order=2), UORO or KFRTRL"

    def gradient(self, recording: Recording, noise: NoisePath) -> Parameters:
        keep = 1.0 + recording.step_size * self._own(recording)
        return recording.credited(backwards(recording, lambda h, k: keep[k] * h, recording.signals))

    def _own(self, recording: Recording) -> Float[Array, "T B N"]:
        """o_i along the recording."""
        recording.require_factors("EProp")
        states, xp = recording.states, namespace(recording.states)
        z = states[:-1]
        reach = xp.finfo(z.dtype).eps ** (1.0 / 3.0) * (1.0 + xp.abs(z))
        above, below = z + reach, z - reach
        raised, lowered = recording.factors_at(above), recording.factors_at(below)
        bends = {name: raised[name][0] - lowered[name][0] for name in recording.factors}
        own = xp.zeros_like(z) - self.leak
        if not any(bool(xp.any(bend != 0.0)) for bend in bends.values()):
            return own
        gains = {name: gain for name, (gain, _) in recording.factors.items()}
        first = next(iter(gains))
        if unlike := sorted(name for name, gain in gains.items() if not bool(xp.all(gain == gains[first]))):
            raise CapabilityError(
                f"EProp finds the inflow of a unit from its step where all its synapses have one gain; those of blocks "
                f"{unlike} differ from that of {first}. SnAp(order=1) asks the nominal model instead"
            )
        gain, inflow = gains[first], (states[1:] - z) / recording.step_size + self.leak * z  # gain times inflow
        dead = gain == 0.0  # nothing arrives through it
        bend = xp.where(dead, xp.zeros_like(gain), bends[first] / (above - below))
        return own + bend * inflow / xp.where(dead, xp.ones_like(gain), gain)
