"""The engine on torch, on the processor or on a GPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, final

from jaxtyping import Float, Inexact

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.devices.arrays import Arrays
from hwsim.devices.engines import Deployment, Engine, Settled, Stretch
from hwsim.devices.integrators import Euler, Exponential, Heun
from hwsim.reference import Place

from .precision import Products

if TYPE_CHECKING:
    from .arrays import TorchArrays
    from .loop import Capture, Loop
    from .side import Side

FORMS = 8
"""Forms of phases (numbers of lanes, forces, rails, ...) whose tensors and graphs are kept in each direction."""


@final
class TorchEngine(Engine):
    """Tensors that stay where they are from one phase to the next, in torch on the processor or on a GPU.

    On a GPU the steps of a phase are captured in CUDA graphs, made once for every form of phase and replayed with other
    parameters, inputs, forces and noise. On the processor the same steps run one by one. Plans and parameters may be
    tensors, and then what is read back is; a rule on tensors never goes over the host. NumPy plans are copied here and
    their answers back, once per plan.

    Trajectories are those of the other engines to rounding, from the same addresses of noise. Results depend on the
    numbers of threads of torch, and on the GPU, to rounding. Substrates without a field of their own in `fields`,
    and corrected dynamics and responses of oscillators and resistive networks, run by the substrate's own code without
    a graph. Never run on a GPU by its authors (`docs/engines.md`).

    Args:
        place: torch on the processor or a GPU, `Place(torch="cuda")`.
        products: precision of products with the couplings.
        fused: let `torch.compile` make one pass of the noise where it is drawn in torch, that is on a GPU. Takes tens
            of seconds once for every form of phase, and needs a compiler (Triton on a GPU).
        draws_in_torch: draw noise in torch on the processor too, as on a GPU: for tests. Slower there.

    Raises:
        InputError: a place that is NumPy; and from `program`, products in less than float32 of a float64 device, or an
            integrator that it does not know.

    Memory: N^2 + B N numbers for every form of phase that is kept, T B N more for one with a waveform or a recording
    that is played back, and what is recorded. Cost: as `SimulatedDevice`.
    """

    def __init__(
        self,
        place: Place = Place(torch="cpu"),
        *,
        products: Products = Products.EXACT,
        fused: bool = False,
        draws_in_torch: bool = False,
    ) -> None:
        if place.torch is None:
            raise InputError(
                "TorchEngine runs in torch: place=Place(torch='cpu') or Place(torch='cuda'); found Place(), which is "
                "NumPy, where engine=Fused() is the fast one"
            )
        self._device, self._products, self._fused = place.torch, products, fused
        self._draws_in_torch = draws_in_torch
        self._known: TorchArrays | None = None
        self._sides: dict[bool, Side] = {}
        self._stale: set[bool] = set()
        self._loops: dict[bool, OrderedDict[Any, Loop]] = {False: OrderedDict(), True: OrderedDict()}

    @property
    def arrays(self) -> Arrays:
        return self._tensors

    def program(self, deployment: Deployment) -> None:
        if not isinstance(deployment.integrator, Euler | Heun | Exponential):
            raise InputError(
                f"TorchEngine steps with Euler, Heun or Exponential; found {type(deployment.integrator).__name__}: use "
                f"engine=Stepwise()"
            )
        if self._products is not Products.EXACT and deployment.dtype.itemsize != 4:
            raise InputError(
                f"{self._products} rounds the factors of a float32 device; found one of {deployment.dtype}: take "
                f"dtype=numpy.float32, or products=Products.EXACT"
            )
        self._deployment, self._stale = deployment, {False, True}

    def relax(self, z: Inexact[Array, "B N"], stretch: Stretch) -> Settled:
        return self._run(z, None, stretch, backwards=False)

    def relax_transpose(
        self, a: Inexact[Array, "B N"], at: Float[Array, "B N"] | Float[Array, "T1 B N"], stretch: Stretch
    ) -> Settled:
        # a recording is played backwards; its last state z_T gains nothing, since Phi is not applied to it
        return self._run(a, at if at.ndim == 2 else at[:-1].flip(0), stretch, backwards=True)

    def close(self) -> None:
        self._sides.clear()
        for loops in self._loops.values():
            loops.clear()
        self._stale = {False, True}

    @property
    def _tensors(self) -> TorchArrays:
        if self._known is None:
            import torch

            from .arrays import TorchArrays

            self._known = TorchArrays(torch.device(self._device))
        return self._known

    def _run(self, z: Array, at: Array | None, stretch: Stretch, *, backwards: bool) -> Settled:
        import torch

        here = self._tensors.device
        gpu = torch.cuda.device(here) if here.type == "cuda" else nullcontext()
        tensor_cores = self._products is Products.TF32 and here.type == "cuda"
        with torch.no_grad(), _matmul("high" if tensor_cores else "highest"), gpu:
            side = self._side(backwards)
            return self._loop(side, z, at, stretch, backwards).run(z, at, stretch)

    def _side(self, backwards: bool) -> Side:
        """This direction as it is programmed now."""
        from .side import Side

        side = self._sides.get(backwards)
        if side is None or (backwards in self._stale and not side.serves(self._deployment)):
            side = self._sides[backwards] = Side(
                self._deployment,
                self._tensors,
                backwards=backwards,
                products=self._products,
                fused=self._fused,
                draws_in_torch=self._draws_in_torch,
            )
            self._loops[backwards].clear()
            self._stale.add(backwards)
        if backwards in self._stale:
            side.load(self._deployment)
            self._stale.discard(backwards)
        return side

    def _loop(self, side: Side, z: Array, at: Array | None, stretch: Stretch, backwards: bool) -> Loop:
        """Room for this form of phase, the one used least recently given up where there are many."""
        from .loop import Form, Loop

        wave = stretch.force is not None and stretch.force.ndim == 3
        form = Form(
            lanes=len(z),
            states=z.dtype,
            still=stretch.force is not None and not wave,
            waves=stretch.steps if wave else 0,
            corrected=stretch.correct_at is not None,
            played=None if at is None else len(at) if at.ndim == 3 else 1,
            slewed=side.slew is not None,
            rails=0 if stretch.low is None else len(stretch.low),
            coarse=stretch.lanes.path.coarse if side.noisy else 0,
        )
        loops = self._loops[backwards]
        if form not in loops:
            loops[form] = Loop(side, form, self._capture())
        loops.move_to_end(form)
        if len(loops) > FORMS:
            loops.popitem(last=False)
        return loops[form]

    def _capture(self) -> Capture | None:
        from .loop import cuda_graph

        return cuda_graph if self._tensors.device.type == "cuda" else None


@contextmanager
def _matmul(wanted: str) -> Iterator[None]:
    """A context in which torch multiplies float32 matrices as asked for, whatever is set outside."""
    import torch

    before = torch.get_float32_matmul_precision()
    if before == wanted:
        yield
        return
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
