"""What an imperfection is: a frozen value that acts at one place on the way of the data, from addressed draws.

Nine places, one verb each:

    plan ----- Schedule.pause ---> lanes one after another
    inputs --- Drive.drive ---> settling: Fabrication.fabricate (once per die), Realisation.realise (once per plan),
               Diffusion.variance and Process.advance (at every step) --- Readout.read ---> what the digital side sees
    program -- WriteStage.write ---> what the hardware holds        adjust -- Update.adjust ---> the same, in pulses
"""

from __future__ import annotations

import enum
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import numpy as np
from jaxtyping import Bool, Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.noise import NoisePath
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.substrates.chip import Chip

from .draws import normals


class Seeds(enum.Enum):
    """When the randomness of an imperfection is drawn; the four never share a draw."""

    FIXED = "once per die"
    PROGRAM = "at every programming"
    READ = "at every settling or read"
    TEMPORAL = "at every step of a settling"


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one imperfection draws from: an address, so that the same key is the same draw and nothing is consumed.

    Args:
        path: seed and event (the experiment step of the path).
        stream: what for.
        position: place of the imperfection in the list of its device.
        lane: sample id of the lane whose draws these are; -1 where all lanes of a plan have them in common.
    """

    path: NoisePath
    stream: int
    position: int
    lane: int = -1

    def normal(self, key: str, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
        """Standard normal deviates, float64, of any shape. The key names what they are for, such as "W/gain"."""
        key = key if self.lane < 0 else f"{key}@{self.lane}"
        rows = shape[0] if len(shape) > 1 else 1
        columns = int(np.prod(shape[1:] if len(shape) > 1 else shape, dtype=np.int64))
        drawn = normals(
            self.path,
            self.stream,
            np.arange(rows),
            units=columns,
            first=zlib.crc32(key.encode()) >> 1,
            phase=self.position,
        )
        return drawn[0].reshape(shape)

    def uniform(self, key: str, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
        """Uniform deviates in (0, 1), float64."""
        from scipy.special import ndtr

        return ndtr(self.normal(key, shape))


@final
@dataclass(frozen=True, kw_only=True)
class Context:
    """What an imperfection may know when it acts.

    Args:
        scale: of the device.
        fixed: draws of the die.
        program: draws of the latest programming.
        read: draws of this settling.
        elapsed: seconds since the latest programming.
        step_size: eps.
    """

    scale: Scale
    fixed: Source
    program: Source
    read: Source
    elapsed: float
    step_size: float


@dataclass(frozen=True)
class WriteReport:
    """What happened while parameters were written, summed over all writes.

    Args:
        written: parameter values written.
        clipped: values asked for beyond a clipping range and held at its border.
        stuck: writes to parameters that are stuck.
        attempts: write pulses or program-verify cycles.
        unverified: values that write-verify gave up on.
        pulses: open-loop pulses applied.
    """

    written: int = 0
    clipped: int = 0
    stuck: int = 0
    attempts: int = 0
    unverified: int = 0
    pulses: int = 0

    def __add__(self, other: WriteReport) -> WriteReport:
        return WriteReport(
            written=self.written + other.written,
            clipped=self.clipped + other.clipped,
            stuck=self.stuck + other.stuck,
            attempts=self.attempts + other.attempts,
            unverified=self.unverified + other.unverified,
            pulses=self.pulses + other.pulses,
        )


class Imperfection(ABC):
    """One way in which hardware differs from its equations."""

    seeds: ClassVar[Seeds]
    blocks: tuple[str, ...] | None = None
    """Names of the parameter blocks that it acts on; None for all that it can act on."""

    @abstractmethod
    def describe(self, scale: Scale) -> str:
        """Its size in physical units, in a line such as "sigma 64.3 uV (kT/C at 300 K, 1 pF)"."""


class Fabrication(Imperfection):
    """Something about the die itself."""

    seeds: ClassVar[Seeds] = Seeds.FIXED

    @abstractmethod
    def fabricate(self, chip: Chip, drawing: Substrate, at: Context) -> Chip:
        """The chip with this imperfection as well. Raises InputError where it names a block that `drawing` lacks."""


class WriteStage(Imperfection):
    """A stage between the value asked for and the value held."""

    seeds: ClassVar[Seeds] = Seeds.PROGRAM
    idempotent: ClassVar[bool] = False
    """Whether writing what it gave gives the same again."""
    by_pulses: ClassVar[bool] = False
    """Whether it acts on open-loop pulses as well."""

    def limits(self, name: str) -> tuple[float, float] | None:
        """The range of a block beyond which this stage raises RangeError; None where it does not."""
        return None

    def clips(self, name: str) -> bool:
        """Whether this stage brings any value of a block into its range, so that any may be asked for."""
        return False

    @abstractmethod
    def write(
        self, name: str, values: Float[Array, "*shape"], held: Float[Array, "*shape"] | None, at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        """One block, float64: the value that comes out of this stage, and what happened.

        Args:
            name: of the block.
            values: as they left the stage before.
            held: what the hardware held until now, None at the first programming.
            at: draws.

        Raises:
            RangeError: a value that the stage neither holds nor clips.
        """


class Update(Imperfection):
    """How open-loop pulses change what is held (capability `adjust`)."""

    seeds: ClassVar[Seeds] = Seeds.PROGRAM

    @abstractmethod
    def adjust(
        self, name: str, held: Float[Array, "*shape"], pulses: Float[Array, "*shape"], at: Context
    ) -> tuple[Float[Array, "*shape"], WriteReport]:
        """One block, float64: what is held after signed whole numbers of pulses."""


class Schedule(Imperfection):
    """In which order, and how far apart, the lanes of a plan run."""

    seeds: ClassVar[Seeds] = Seeds.READ

    @property
    @abstractmethod
    def pause(self) -> float:
        """Seconds from the end of one lane's plan to the beginning of the next one's."""


class Realisation(Imperfection):
    """Something between what is held and what acts in a settling: drift, read noise of cells, resistance of wires."""

    seeds: ClassVar[Seeds] = Seeds.READ
    splits: ClassVar[bool] = False
    """Whether it treats the two directions of a shared coupling differently."""

    @abstractmethod
    def realise(self, name: str, values: Float[Array, "*shape"], at: Context) -> Float[Array, "*shape"]:
        """One block, float64 (of `drawing.unshared()` where the chip is split)."""


class Diffusion(Imperfection):
    """White noise while settling."""

    seeds: ClassVar[Seeds] = Seeds.TEMPORAL
    thermal: ClassVar[bool] = False
    """Whether it is kT noise, which goes through the substrate's own `diffusion` where it has one."""

    @abstractmethod
    def variance(self, scale: Scale) -> float:
        """sigma^2 of an isolated unit in state units: `dz = F dt + sqrt(2) sigma dW`, t in time constants."""


Deviates: TypeAlias = Callable[[int, int], Float[Array, "steps B N"]]
"""(component below 16, steps) -> standard normal deviates, float64: those of the steps that come next."""


class Process(Imperfection):
    """Noise with a memory while settling: a current into every unit, a process in time."""

    seeds: ClassVar[Seeds] = Seeds.TEMPORAL

    @abstractmethod
    def begin(self, deviates: Deviates, scale: Scale) -> Float[Array, "K B N"]:
        """Its state at the first step of a plan, in its stationary distribution (deviates of one step)."""

    @abstractmethod
    def advance(
        self, state: Float[Array, "K B N"], steps: int, dt: float, deviates: Deviates, scale: Scale
    ) -> tuple[Float[Array, "steps B N"], Float[Array, "K B N"]]:
        """The current over the next steps of dt seconds, in state units per time constant, and the state after them."""


class Drive(Imperfection):
    """Something between the digital value of an input and the drive that arrives."""

    seeds: ClassVar[Seeds] = Seeds.FIXED

    @abstractmethod
    def drive(self, x: Float[Array, "B M"], at: Context) -> tuple[Float[Array, "B M"], Bool[Array, "B M"]]:
        """The inputs that arrive, and where they clipped."""


class Readout(Imperfection):
    """Something between the analog state and the number that is read."""

    seeds: ClassVar[Seeds] = Seeds.READ
    looks_back: ClassVar[bool] = False
    """Whether it needs the state one step earlier."""

    @property
    @abstractmethod
    def error(self) -> float:
        """rms error that it adds to a read within its range, state units."""

    @abstractmethod
    def read(
        self,
        z: Float[Array, "K B N"],
        before: Float[Array, "K B N"],
        deviates: Deviates,
        at: Context,
    ) -> tuple[Float[Array, "K B N"], Bool[Array, "K B N"]]:
        """K states of one phase as they are read, and where the read clipped. NaN passes through.

        Args:
            z: the values of the stage before (the analog state, for the first).
            before: the analog states one step earlier.
            deviates: component 0 .. 15, K "steps": one draw per state, lane and unit.
            at: fixed draws of the converter.
        """
