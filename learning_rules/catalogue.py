"""Every rule by name, with its usual settings: what `hwsim` takes after --rule, and what entry points register.

A name here is a call without arguments that makes the rule; pyproject.toml registers it under the same name.
"""

from __future__ import annotations

from functools import partial

from .coupled import CoupledLearning
from .equilibrium import EquilibriumPropagation
from .finite_horizon import FiniteHorizonEP
from .homeostat import ContractionHomeostat
from .probes import Corrected, Natural, Transposed

ep = EquilibriumPropagation
ep_dyadic = partial(EquilibriumPropagation, probe=Transposed())
ep_reciprocal = partial(EquilibriumPropagation, probe=Natural())
finite_horizon_ep = FiniteHorizonEP
finite_horizon_ep_corrected = partial(FiniteHorizonEP, probe=Corrected())
finite_horizon_ep_reciprocal = partial(FiniteHorizonEP, probe=Natural())
homeostat = ContractionHomeostat
coupled = CoupledLearning
