"""Every rule by name, with its usual settings: what `hwsim` takes after --rule, and what entry points register.

A name here is a call without arguments that makes the rule; pyproject.toml registers it under the same name.
"""

from __future__ import annotations

from functools import partial

from .captured import CapturedFiniteHorizonEP
from .continual import ContinualEP
from .contrast import Contour, OneSided, RandomSign
from .coupled import CoupledLearning
from .eligibility import Eligibility
from .equilibrium import EquilibriumPropagation
from .finite_horizon import FiniteHorizonEP
from .homeostat import ContractionHomeostat, ContractionHomeostatJVP
from .influence_confined import RTRL, Blockwise, SnAp
from .influence_kronecker import KFRTRL, LowRank
from .influence_local import RFLO, EProp
from .influence_projected import UORO
from .kolen_pollack import KolenPollack
from .perturbation import NodePerturbation, RandomDirections
from .playback import AdjointPlayback
from .probes import Corrected, Natural, Transposed, VectorField
from .regularisers import JacobianRegularisation, ResidualRegulariser, SymmetryHomeostasis
from .transient import LowPass

# Equilibrium propagation: the gradient of L(z*) from nudged settlings.
ep = EquilibriumPropagation
ep_one_sided = partial(EquilibriumPropagation, contrast=OneSided())
ep_random_sign = partial(EquilibriumPropagation, contrast=RandomSign())
ep_continual = ContinualEP
ep_holomorphic = partial(EquilibriumPropagation, nudge=0.5, probe=Natural(), contrast=Contour(count=4))
ep_holomorphic_asymmetric = partial(EquilibriumPropagation, nudge=0.5, probe=Corrected(), contrast=Contour(count=4))
ep_vector_field = partial(EquilibriumPropagation, probe=VectorField())
ep_dyadic = partial(EquilibriumPropagation, probe=Transposed())
ep_reciprocal = partial(EquilibriumPropagation, probe=Natural())
kolen_pollack = KolenPollack
coupled = CoupledLearning

# The gradient of the deployed L(z_T) from a kick and a recorded transient.
finite_horizon_ep = FiniteHorizonEP
finite_horizon_ep_corrected = partial(FiniteHorizonEP, probe=Corrected())
finite_horizon_ep_reciprocal = partial(FiniteHorizonEP, probe=Natural())
finite_horizon_ep_traces = partial(FiniteHorizonEP, transient=LowPass())
finite_horizon_ep_captured = CapturedFiniteHorizonEP
adjoint_playback = AdjointPlayback

# The same, forward in time, from eligibility traces.
eligibility_rtrl = partial(Eligibility, influence=RTRL())
eligibility_snap1 = partial(Eligibility, influence=SnAp(order=1))
eligibility_snap2 = partial(Eligibility, influence=SnAp(order=2))
eligibility_rflo = partial(Eligibility, influence=RFLO())
eligibility_eprop = partial(Eligibility, influence=EProp())
eligibility_uoro = partial(Eligibility, influence=UORO())
eligibility_kf = partial(Eligibility, influence=KFRTRL())
eligibility_low_rank = partial(Eligibility, influence=LowRank(rank=4))
eligibility_blockwise = partial(Eligibility, influence=Blockwise())

# The same, from losses alone.
random_directions = RandomDirections
node_perturbation = NodePerturbation

# Regularisers: they know nothing of the loss.
homeostat = ContractionHomeostat
homeostat_jvp = ContractionHomeostatJVP
jacobian_regularisation = JacobianRegularisation
symmetry_homeostasis = SymmetryHomeostasis
residual_regulariser = ResidualRegulariser
