"""Open-loop updates: what signed pulses, sent without reading back, do to cells that are each a little different."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias, final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.scale import Scale
from hwsim.contracts.units import engineering

from .contract import Context, Imperfection, Realisation, Seeds, Update, WriteReport
from .write import concerns

Response: TypeAlias = Callable[[Array], tuple[Array, Array]]
"""w -> (f_up, f_down): the mean step there over the step at w = 0, at least 0."""


@final
@dataclass(frozen=True, kw_only=True)
class Cells:
    """What is fixed about the cells of one block; all arrays of its shape, in the units of the parameters.

    Args:
        up, down: a_up and a_down, mean size of a pulse at w = 0, >= 0.
        low, high: b_min <= 0 <= b_max, bounds.
        reference: what a reference cell subtracts: `held = w - reference`.
    """

    up: Float[Array, "*shape"]
    down: Float[Array, "*shape"]
    low: Float[Array, "*shape"]
    high: Float[Array, "*shape"]
    reference: Float[Array, "*shape"] | float = 0.0


class StepLaw(ABC):
    """How the step of a pulse depends on where the cell is."""

    @abstractmethod
    def response(self, cells: Cells, name: str, update: PulsedUpdate, at: Context) -> Response:
        """The law of these cells; `f_up` falls and `f_down` rises with w."""


@final
@dataclass(frozen=True, kw_only=True)
class SoftBounds(StepLaw):
    """`f_up = 1 - w / b_max`, `f_down = 1 - w / b_min`: each cell creeps up to its own bounds.

    Alternating pulses settle at `w* = (a_up - a_down) / (a_up / b_max - a_down / b_min)`.
    """

    def response(self, cells: Cells, name: str, update: PulsedUpdate, at: Context) -> Response:
        return lambda w: (np.maximum(1.0 - w / cells.high, 0.0), np.maximum(1.0 - w / cells.low, 0.0))


@final
@dataclass(frozen=True, kw_only=True)
class ConstantStep(StepLaw):
    """`f_up = f_down = 1` up to the bounds."""

    def response(self, cells: Cells, name: str, update: PulsedUpdate, at: Context) -> Response:
        return lambda w: (np.ones_like(w), np.ones_like(w))


@final
@dataclass(frozen=True, kw_only=True)
class LinearStep(StepLaw):
    """`f_up = 1 - gamma_up w / w_max`, `f_down = 1 - gamma_down w / w_min`, with the mean bounds, up to the cell's own.

    gamma = |mean + spread xi| for each cell. `SoftBounds` is gamma = 1 with the cell's own bounds.

    Args:
        gamma_up, gamma_down: by how much the step has fallen at the bound.
        gamma_spread: sd between cells, absolute.
    """

    gamma_up: float
    gamma_down: float
    gamma_spread: float = 0.0

    def __post_init__(self) -> None:
        _not_negative(self, "gamma_up", "gamma_down", "gamma_spread")

    def response(self, cells: Cells, name: str, update: PulsedUpdate, at: Context) -> Response:
        up, down = (
            np.abs(gamma + self.gamma_spread * at.fixed.normal(f"{name}/gamma {way}", cells.up.shape)) / bound
            for way, gamma, bound in (("up", self.gamma_up, update.w_max), ("down", self.gamma_down, update.w_min))
        )
        return lambda w: (np.maximum(1.0 - up * w, 0.0), np.maximum(1.0 - down * w, 0.0))


@final
@dataclass(frozen=True, kw_only=True)
class ExponentialStep(StepLaw):
    """`f_up = max(1 - A_up e^(gamma_up u), 0)`, `f_down = max(1 - A_down e^(-gamma_down u), 0)`,
    `u = 2 a w / (b_max - b_min) + b`.

    Args:
        A_up, A_down: amplitudes; below 0 the step is largest at one end instead of smallest.
        gamma_up, gamma_down: rates, >= 0.
        a, b: from w to u.
    """

    A_up: float
    A_down: float
    gamma_up: float
    gamma_down: float
    a: float
    b: float

    def __post_init__(self) -> None:
        _not_negative(self, "gamma_up", "gamma_down")

    def response(self, cells: Cells, name: str, update: PulsedUpdate, at: Context) -> Response:
        def law(w: Array) -> tuple[Array, Array]:
            u = 2.0 * self.a * w / (cells.high - cells.low) + self.b
            up, down = self.A_up * np.exp(self.gamma_up * u), self.A_down * np.exp(-self.gamma_down * u)
            return np.maximum(1.0 - up, 0.0), np.maximum(1.0 - down, 0.0)

        return law


@final
@dataclass(frozen=True, kw_only=True)
class PulsedUpdate(Update):
    """Each pulse moves a cell by a step of its own, with noise that no two pulses share, between bounds of its own:

        w <- clip(w + a_up   (f_up(w)   + s n xi), b_min, b_max)      up,     n = f(w), or 1 where `additive`
        w <- clip(w - a_down (f_down(w) + s n xi), b_min, b_max)      down

        a_up, a_down = dw_min |k -+ max(-+ up_down, 0) +- s_ud xi|,   k = 1 + s_dw xi, or exp(s_dw xi) if log_normal
        b_max = |w_max (1 + s_max xi)|,   b_min = -|w_min (1 + s_min xi)|

    Spreads between cells are fixed draws; xi of every pulse is a draw of the programming. What is held here is the
    cell's persistent state; the noise with which it shows itself after a write is `WriteNoise`.

    Args:
        law: f_up and f_down.
        dw_min: mean step at w = 0, in the units of the parameters.
        w_max, w_min: mean bounds, w_min < 0 < w_max.
        step_spread: s_dw, relative sd of the step between cells (of its logarithm where log_normal).
        log_normal: steps of cells are log-normal.
        up_down: above 0, the down step is smaller by this fraction; below 0, the up step.
        up_down_spread: s_ud, sd of the difference of both between cells, relative to dw_min.
        max_spread, min_spread: s_max, s_min, relative sd of the bounds between cells.
        cycle_noise: s, sd from pulse to pulse relative to the step.
        additive: that noise keeps its size where the step shrinks.
        reference_error: a reference cell is subtracted, held at the symmetry point of each cell up to a fixed normal
            error of this sd, in the units of the parameters; None subtracts nothing.
        blocks: where; all analog blocks unless told.

    Raises:
        InputError: values that make no cell; from `adjust` pulses that are no whole numbers, or for a block without
            pulsed cells.

    Cost: one draw for every parameter of the block and pulse of the largest count, which is at most 65536.

    Source: T. Gokmen, Y. Vlasov, Frontiers in Neuroscience 10:333 (2016); M. Rasch et al., A flexible and fast PyTorch
    toolkit for simulating training and inference on analog crossbar arrays, AICAS 2021.
    """

    law: StepLaw
    dw_min: float
    w_max: float
    w_min: float
    step_spread: float = 0.0
    log_normal: bool = False
    up_down: float = 0.0
    up_down_spread: float = 0.0
    max_spread: float = 0.0
    min_spread: float = 0.0
    cycle_noise: float = 0.0
    additive: bool = False
    reference_error: float | None = None
    blocks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.law, StepLaw):
            raise InputError(f"pulses need a law such as SoftBounds(); found {self.law!r}")
        if not 0 < self.dw_min < math.inf:
            raise InputError(f"a pulse needs dw_min > 0 and finite; found {self.dw_min}")
        if not -math.inf < self.w_min < 0 < self.w_max < math.inf:
            raise InputError(f"cells need bounds w_min < 0 < w_max, finite; found {self.w_min} and {self.w_max}")
        if not abs(self.up_down) < 1:
            raise InputError(f"up_down must be between -1 and 1; found {self.up_down}")
        _not_negative(self, "step_spread", "up_down_spread", "max_spread", "min_spread", "cycle_noise")
        if self.reference_error is not None:
            _not_negative(self, "reference_error")

    def cells(self, name: str, shape: tuple[int, ...], at: Context) -> Cells:
        """The cells of one block as this die has them."""
        cells = self._without_reference(name, shape, at)
        if self.reference_error is None:
            return cells
        middle = symmetry_point(cells, self.law.response(cells, name, self, at))
        error = self.reference_error * at.fixed.normal(f"{name}/reference", shape)
        return replace(cells, reference=middle + error)

    def adjust(
        self, name: str, held: Float[Array, "*shape"], pulses: Float[Array, "*shape"], at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        if not np.array_equal(pulses, np.round(pulses)):
            raise InputError(f"pulses for block {name} must be whole numbers; round them, or draw them at random")
        counts = np.abs(pulses)
        if not counts.any():
            return held, WriteReport()
        if not concerns(self.blocks, name):
            raise InputError(f"block {name} has no cells that pulses move; those of {self.blocks} have")
        cells = self.cells(name, held.shape, at)
        law = self.law.response(cells, name, self, at)
        rise = pulses > 0
        step = np.where(rise, cells.up, -cells.down)
        w = held + cells.reference
        for k in range(int(counts.max())):
            up, down = law(w)
            moved: Array = np.where(rise, up, down)
            if self.cycle_noise:
                size = np.ones_like(w) if self.additive else moved
                pulse = replace(at.program, path=at.program.path.repeated(k))
                moved = moved + self.cycle_noise * size * pulse.normal(f"{name}/pulse", w.shape)
            w = np.where(counts > k, np.clip(w + step * moved, cells.low, cells.high), w)
        return np.where(counts > 0, w - cells.reference, held), WriteReport(pulses=int(counts.sum()))

    def describe(self, scale: Scale) -> str:
        step, low, high = (engineering(w * scale.parameter_siemens, "S") for w in (self.dw_min, self.w_min, self.w_max))
        return (
            f"{type(self.law).__name__}: {step} a pulse between {low} and {high}, "
            f"spread {self.step_spread:.3g} between cells, {self.cycle_noise:.3g} from pulse to pulse"
        )

    def _without_reference(self, name: str, shape: tuple[int, ...], at: Context) -> Cells:
        def xi(what: str) -> Float[Array, "*shape"]:
            return at.fixed.normal(f"{name}/{what}", shape)

        step = np.exp(self.step_spread * xi("step")) if self.log_normal else 1.0 + self.step_spread * xi("step")
        apart = self.up_down_spread * xi("up - down")
        return Cells(
            up=self.dw_min * np.abs(step + min(self.up_down, 0.0) + apart),
            down=self.dw_min * np.abs(step - max(self.up_down, 0.0) - apart),
            high=np.abs(self.w_max * (1.0 + self.max_spread * xi("high"))),
            low=-np.abs(self.w_min * (1.0 + self.min_spread * xi("low"))),
        )


@final
@dataclass(frozen=True, kw_only=True)
class WriteNoise(Realisation):
    """After a write a cell shows itself as `w + sigma xi`, xi drawn at every programming or adjustment, the same for
    all settlings until the next. It does not add up: the cell's persistent state, on which pulses build, is without it.

    All cells of a block are redrawn together, also those that a write left alone.

    Args:
        sigma: in the units of the parameters.
        blocks: where; all analog blocks unless told.
    """

    sigma: float
    blocks: tuple[str, ...] | None = None
    seeds: ClassVar[Seeds] = Seeds.PROGRAM

    def __post_init__(self) -> None:
        _not_negative(self, "sigma")

    def realise(self, name: str, values: Float[Array, "*shape"], at: Context) -> Float[Array, "*shape"]:
        if not concerns(self.blocks, name):
            return values
        return values + self.sigma * at.program.normal(f"{name}/write", values.shape)

    def describe(self, scale: Scale) -> str:
        return f"sd {engineering(self.sigma * scale.parameter_siemens, 'S')} around the persistent state of a cell"


def symmetry_point(cells: Cells, response: Response) -> Float[Array, "*shape"]:
    """w* at which an up and a down pulse cancel, `a_up f_up(w*) = a_down f_down(w*)`.

    Where they cancel nowhere, the bound to which alternating pulses lead. Found by bisection, for any law, to the last
    bit: 60 evaluations.
    """
    low, high = cells.low, cells.high
    for _ in range(60):
        middle = (low + high) / 2.0
        up, down = response(middle)
        rises = cells.up * up > cells.down * down
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return (low + high) / 2.0


def reram_soft_bounds(*, blocks: tuple[str, ...] | None = None) -> tuple[Imperfection, ...]:
    """HfO2 ReRAM between soft bounds: steps of 0.002 in -0.75 .. 1.25, cycle noise 3.75, write noise 56 dw_min.

    Source: N. Gong et al., Nature Communications 9:2102 (2018), in the loose fit of aihwkit (ReRamSB).
    """
    update = PulsedUpdate(
        law=SoftBounds(),
        dw_min=0.002,
        w_max=1.25,
        w_min=-0.75,
        step_spread=0.3,
        up_down_spread=0.01,
        max_spread=0.3 / 1.25,
        min_spread=0.3 / 0.75,
        cycle_noise=3.75,
        additive=True,
        blocks=blocks,
    )
    return update, WriteNoise(sigma=56 * update.dw_min, blocks=blocks)


def reram_array(*, blocks: tuple[str, ...] | None = None) -> tuple[Imperfection, ...]:
    """Optimised-material ReRAM array: coarse steps of 0.0949, log-normal between cells, symmetry points subtracted.

    Source: N. Gong, M. Rasch et al., Deep learning acceleration in 14 nm CMOS compatible ReRAM array, IEDM 2022, in
    the fit of aihwkit (ReRamArrayOM). Of that array 13.5 % of the cells were stuck; add `StuckAt` for those.
    """
    update = PulsedUpdate(
        law=SoftBounds(),
        dw_min=0.0949,
        w_max=1.0,
        w_min=-1.0,
        step_spread=0.7829,
        log_normal=True,
        up_down_spread=0.01,
        max_spread=0.3499,
        min_spread=0.5695,
        cycle_noise=0.4158,
        additive=True,
        reference_error=0.05,
        blocks=blocks,
    )
    return update, WriteNoise(sigma=1.4113 * update.dw_min, blocks=blocks)


def ecram(*, blocks: tuple[str, ...] | None = None) -> tuple[Imperfection, ...]:
    """Lithium electrochemical memory: nearly linear steps of 0.002 in -0.8276 .. 1.1724.

    Source: J. Tang et al., ECRAM as scalable synaptic cell for high-speed, low-power neuromorphic computing, IEDM 2018,
    in the fit of aihwkit (EcRam).
    """
    law = LinearStep(gamma_up=0.1153, gamma_down=0.5085, gamma_spread=0.05)
    return (
        PulsedUpdate(
            law=law,
            dw_min=0.002,
            w_max=1.1724,
            w_min=-0.8276,
            step_spread=0.1,
            up_down_spread=0.01,
            max_spread=0.05,
            min_spread=0.05,
            cycle_noise=0.3,
            blocks=blocks,
        ),
    )


def idealised(*, blocks: tuple[str, ...] | None = None) -> tuple[Imperfection, ...]:
    """A symmetric cell of 10000 constant steps in -1 .. 1, with the spreads of a real one.

    Source: M. Rasch, T. Gokmen, W. Haensch, Training large-scale artificial neural networks on simulated resistive
    crossbar arrays, IEEE Design & Test 37:19 (2020), after Gokmen & Vlasov (2016).
    """
    return (
        PulsedUpdate(
            law=ConstantStep(),
            dw_min=0.0002,
            w_max=1.0,
            w_min=-1.0,
            step_spread=0.3,
            max_spread=0.3,
            min_spread=0.3,
            cycle_noise=0.3,
            blocks=blocks,
        ),
    )


def _not_negative(value: object, *names: str) -> None:
    for name in names:
        found = getattr(value, name)
        if not 0 <= found < math.inf:
            raise InputError(f"{type(value).__name__} needs {name} >= 0 and finite; found {found}")
