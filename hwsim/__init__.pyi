"""The names of the package; each is imported when it is first used."""

from .audit import Audit as Audit, DeviceLadder as DeviceLadder, DeviceRung as DeviceRung
from .calibration import (
    ProbePlan as ProbePlan,
    measure_noise_floor as measure_noise_floor,
    plan_probe as plan_probe,
    plan_separation as plan_separation,
)
from .contracts.constraint import Constraint as Constraint
from .contracts.device import Capability as Capability, Device as Device, DeviceSpec as DeviceSpec
from .contracts.noise import PHYSICAL as PHYSICAL, NoisePath as NoisePath
from .contracts.parameters import Parameters as Parameters, cosine as cosine
from .contracts.plan import (
    At as At,
    Carry as Carry,
    Outcome as Outcome,
    Phase as Phase,
    Plan as Plan,
    RandomStart as RandomStart,
    Relaxation as Relaxation,
    Rest as Rest,
)
from .contracts.rule import Estimate as Estimate, LearningRule as LearningRule, settle_free as settle_free
from .contracts.scale import Scale as Scale
from .contracts.substrate import Substrate as Substrate
from .contracts.task import Batch as Batch, Task as Task
from .devices import (
    PRESETS as PRESETS,
    Euler as Euler,
    Exponential as Exponential,
    Heun as Heun,
    Preset as Preset,
    Products as Products,
    Recordings as Recordings,
    SeparateFeedback as SeparateFeedback,
    SimulatedDevice as SimulatedDevice,
    TorchEngine as TorchEngine,
    audit_ladder as audit_ladder,
    discrete_board_12bit as discrete_board_12bit,
    ecram_crossbar as ecram_crossbar,
    ideal as ideal,
    pcm_crossbar as pcm_crossbar,
    reram_crossbar as reram_crossbar,
    subthreshold_cmos as subthreshold_cmos,
)
from .devices.board import SerialBoard as SerialBoard
from .devices.imperfections import (
    ADC as ADC,
    DAC as DAC,
    SARADC as SARADC,
    Asymmetry as Asymmetry,
    Crosstalk as Crosstalk,
    DeadUnits as DeadUnits,
    Drift as Drift,
    Endurance as Endurance,
    FlickerNoise as FlickerNoise,
    Imperfection as Imperfection,
    LineResistance as LineResistance,
    Mismatch as Mismatch,
    OneByOne as OneByOne,
    PulsedUpdate as PulsedUpdate,
    Quantise as Quantise,
    Rails as Rails,
    Range as Range,
    ReadNoise as ReadNoise,
    ReadoutNoise as ReadoutNoise,
    SampleSkew as SampleSkew,
    ShotNoise as ShotNoise,
    SlewRate as SlewRate,
    StuckAt as StuckAt,
    TelegraphNoise as TelegraphNoise,
    ThermalNoise as ThermalNoise,
    WriteVerify as WriteVerify,
)
from .diagnostics import (
    Norm as Norm,
    log_norm as log_norm,
    spectral_radius as spectral_radius,
    twin_exponent as twin_exponent,
)
from .learning_rules import (
    KFRTRL as KFRTRL,
    RFLO as RFLO,
    RTRL as RTRL,
    UORO as UORO,
    AdjointPlayback as AdjointPlayback,
    Blockwise as Blockwise,
    CapturedFiniteHorizonEP as CapturedFiniteHorizonEP,
    Centered as Centered,
    ContinualEP as ContinualEP,
    Contour as Contour,
    ContractionHomeostat as ContractionHomeostat,
    ContractionHomeostatJVP as ContractionHomeostatJVP,
    Corrected as Corrected,
    CoupledLearning as CoupledLearning,
    Decimated as Decimated,
    Eligibility as Eligibility,
    EProp as EProp,
    EquilibriumPropagation as EquilibriumPropagation,
    FiniteHorizonEP as FiniteHorizonEP,
    JacobianRegularisation as JacobianRegularisation,
    KolenPollack as KolenPollack,
    LowPass as LowPass,
    LowRank as LowRank,
    Natural as Natural,
    NodePerturbation as NodePerturbation,
    OneSided as OneSided,
    Probe as Probe,
    RandomDirections as RandomDirections,
    RandomSign as RandomSign,
    ResidualRegulariser as ResidualRegulariser,
    Settling as Settling,
    SnAp as SnAp,
    SymmetryHomeostasis as SymmetryHomeostasis,
    Transposed as Transposed,
    VectorField as VectorField,
    Whole as Whole,
)
from .spice import export_netlist as export_netlist
from .substrates import (
    GROUND as GROUND,
    Amplifier as Amplifier,
    Chip as Chip,
    Convolutional as Convolutional,
    Dense as Dense,
    Diode as Diode,
    EnergyNetwork as EnergyNetwork,
    FieldSubstrate as FieldSubstrate,
    Hard as Hard,
    IdealDiode as IdealDiode,
    Identity as Identity,
    Layered as Layered,
    LeakyNetwork as LeakyNetwork,
    LinearLangevin as LinearLangevin,
    Logistic as Logistic,
    Masked as Masked,
    OscillatorNetwork as OscillatorNetwork,
    Reciprocal as Reciprocal,
    ReLU as ReLU,
    ResistiveNetwork as ResistiveNetwork,
    Shockley as Shockley,
    Softplus as Softplus,
    Tanh as Tanh,
)
from .tasks import Digits as Digits, Iris as Iris, NextCharacter as NextCharacter, Windowed as Windowed
from .training import (
    SGD as SGD,
    Adam as Adam,
    ClippedReprogram as ClippedReprogram,
    MonotoneDEQ as MonotoneDEQ,
    OpenLoopPulses as OpenLoopPulses,
    Placed as Placed,
    Reprogram as Reprogram,
    RowBound as RowBound,
    SpectralBound as SpectralBound,
    SymmetricBound as SymmetricBound,
    Trainer as Trainer,
)

__version__: str
