"""What `hwsim spice` simulates: the device that the options describe, or the circuit of a file."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.parameters import Parameters
from hwsim.contracts.scale import Scale
from hwsim.contracts.substrate import Substrate
from hwsim.devices import SimulatedDevice
from hwsim.devices.imperfections import Imperfection, Mismatch
from hwsim.substrates import (
    Dense,
    EnergyNetwork,
    Hard,
    Identity,
    LeakyNetwork,
    LinearLangevin,
    Logistic,
    Nonlinearity,
    OscillatorNetwork,
    ReLU,
    Softplus,
    Tanh,
)
from hwsim.substrates.resistive import ResistiveNetwork, Shockley

from .circuit_file import by_name, read_circuit

MOST_STEPS = 200_000
"""Of a settling: every one is kept, three times."""

SLOWEST = 10.0
"""Settling unless told, in the slowest time constants."""

_NONLINEARITY: Mapping[str, Nonlinearity] = {
    "identity": Identity(),
    "tanh": Tanh(),
    "logistic": Logistic(),
    "softplus": Softplus(),
    "relu": ReLU(),
    "hard": Hard(),
}


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """One settling.

    Args:
        device: with its die drawn.
        parameters: as the device holds them.
        inputs: [M].
        nodes: [N] names.
        steps: T.
    """

    device: SimulatedDevice
    parameters: Parameters
    inputs: Float[Array, " M"]
    nodes: tuple[str, ...]
    steps: int


def setting_of(options: argparse.Namespace) -> Setting:
    """Build what was asked for.

    Raises:
        InputError: options or a file that describe no device.
    """
    if options.circuit is None:
        substrate, parameters, x = _built_in(options)
        nodes = tuple(f"n{i}" for i in range(substrate.units))
        counts_in_its_own = True
    else:
        if given := [name for name in ("nonlinearity", "units", "inputs") if getattr(options, name) is not None]:
            raise InputError(f"--circuit says all about the device; leave out {', '.join(f'--{n}' for n in given)}")
        circuit = read_circuit(options.circuit)
        substrate, parameters, x, nodes = circuit.network, circuit.parameters, circuit.inputs, circuit.nodes
        counts_in_its_own = circuit.time_constant is None
    decay, second = SLOWEST, Scale().second
    if isinstance(substrate, ResistiveNetwork):
        try:
            rates = _rates(substrate, parameters, x)
        except InputError as error:
            raise InputError(f"{options.circuit or 'the network'}: {by_name(error, nodes)}") from None
        if counts_in_its_own:
            substrate = replace(substrate, time_constant=1.0 / float(rates.max()))
        second = substrate.time_constant
        decay = SLOWEST / float(rates.min()) / second
    steps = _steps(options, decay, second)
    device = SimulatedDevice(
        substrate,
        horizon=steps,
        step_size=options.step_size,
        imperfections=_die(options),
        die_seed=options.seed,
    )
    return Setting(device=device, parameters=device.program(parameters), inputs=x, nodes=nodes, steps=steps)


def _steps(options: argparse.Namespace, decay: float, second: float) -> int:
    """T: what was asked for, or enough for `decay` time constants."""
    duration = decay if options.time is None else options.time / second
    steps = options.horizon or max(1, math.ceil(duration / options.step_size - 1e-9))
    if steps > MOST_STEPS:
        raise InputError(
            f"a settling of {duration if options.horizon is None else steps * options.step_size:.6g} time constants "
            f"of {second:.3g} s takes {steps} steps of --step-size {options.step_size:g}; at most {MOST_STEPS} can be "
            f"run: give a smaller --horizon or --time, or a larger --step-size"
        )
    return steps


def _die(options: argparse.Namespace) -> tuple[Imperfection, ...]:
    if not (options.mismatch or options.time_constant_mismatch or options.offset):
        return ()
    return (
        Mismatch(
            gain=options.mismatch,
            time_constant=options.time_constant_mismatch,
            offset=options.offset,
            log_normal=True,
        ),
    )


def _rates(network: ResistiveNetwork, parameters: Parameters, x: Array) -> Float[np.ndarray, " N"]:
    """How fast it settles at its operating point, 1 / second."""
    v = network.operating_point(x[None], parameters)
    eigenvalues = np.linalg.eigvals(network.jacobian(v, x[None], parameters)[0]) / network.time_constant
    if (eigenvalues.real >= 0.0).any():
        raise InputError("the circuit does not settle: its operating point is unstable; look at amplifiers in a loop")
    return np.abs(eigenvalues)


def _built_in(options: argparse.Namespace) -> tuple[Substrate, Parameters, Float[np.ndarray, " M"]]:
    """A substrate of usual size with random parameters and inputs."""
    kind, units, inputs = options.substrate or "leaky", options.units or 8, options.inputs or 4
    if options.nonlinearity is not None and kind not in ("leaky", "energy"):
        raise InputError(f"--nonlinearity is of leaky and energy networks; leave it out with --substrate {kind}")
    nonlinearity = _NONLINEARITY[options.nonlinearity or "tanh"]
    numbers = np.random.default_rng([options.seed, 1])
    x = numbers.uniform(-1.0, 1.0, inputs)

    def normal(spread: float, *shape: int) -> Float[np.ndarray, "*shape"]:
        return spread * numbers.standard_normal(shape)

    driven = {"U": normal(1.0 / math.sqrt(inputs), units, inputs), "b": normal(0.1, units)}
    between = normal(0.8 / math.sqrt(units), units, units)
    match kind:
        case "leaky":
            leaky = LeakyNetwork.dense(units, inputs, nonlinearity)
            return leaky, Parameters({"W": between, **driven}), x
        case "energy":
            if math.isinf(nonlinearity.sharpest):
                raise InputError(
                    f"--nonlinearity {options.nonlinearity}: an energy network needs a slope that does not jump; "
                    f"choose identity, tanh, logistic or softplus"
                )
            energy = EnergyNetwork.symmetric(units, inputs, nonlinearity)
            return energy, Parameters({"W": between, **driven}), x
        case "langevin":
            langevin = LinearLangevin(units=units, inputs=inputs, coupling=Dense(units))
            return langevin, Parameters({"A": np.eye(units) + 0.5 * between, **driven}), x
        case "oscillator":
            oscillators = OscillatorNetwork(units=units, inputs=inputs, coupling=Dense(units), locking=0.2)
            blocks = {"K": np.abs(between), "H": driven["U"], "omega": driven["b"]}
            return oscillators, Parameters(blocks), math.pi * x
        case "resistive":
            hidden = max(1, 2 * units // 3)
            resistive = ResistiveNetwork.layered(
                (hidden, units - hidden) if units > 1 else (1,),
                inputs=inputs,
                capacitance=1e-12,
                diodes=Shockley(),
                amplification=2.0,
            )
            return resistive, resistive.initial(options.seed, low=1e-7, high=1e-5), x
        case unknown:
            raise InputError(f"--substrate {unknown} is not known")
