"""The laws of a device: the text of `hwsim.contracts.device.Device`, as far as it can be decided from outside."""

from __future__ import annotations

from collections.abc import Callable

from hwsim.contracts.device import Device

from . import device_batch, device_capture, device_complex, device_program, device_settle, device_transpose
from .bench import Bench
from .laws import run_laws

_LAWS: tuple[Callable[[Bench], None], ...] = (
    device_program.the_spec,
    device_program.its_physics,
    device_program.the_read_back,
    device_batch.addresses,
    device_program.refused_parameters,
    device_program.nothing_programmed,
    device_program.absent_capabilities,
    device_program.refused_plans,
    device_settle.well_formed,
    device_settle.rest_and_loading,
    device_settle.force,
    device_settle.recording,
    device_settle.residual,
    device_settle.phases_back_to_back,
    device_settle.corrected,
    device_settle.the_model,
    device_settle.clamp,
    device_program.the_read_back_is_what_acts,
    device_transpose.well_formed_backwards,
    device_transpose.backwards_from_rest,
    device_transpose.linear,
    device_transpose.transposed,
    device_transpose.playback,
    device_transpose.the_model_backwards,
    device_transpose.feedback,
    device_program.no_start_is_ignored_backwards,
    device_complex.real_and_conjugate,
    device_complex.put_in,
    device_complex.analytic,
    device_complex.the_model_continued,
    device_complex.linear_backwards,
    device_batch.random_start,
    device_batch.twins,
    device_batch.batches,
    device_batch.carried,
    device_batch.saved,
    device_capture.formed_credit,
    device_program.physical_noise,
    device_program.physics_never_raises,
    device_program.closing,
)


def check_device(make_device: Callable[[], Device], *, seed: int = 0) -> None:
    """Hold a device to its contract, as far as its capabilities let that be decided:

        holding     what program reads back is what acts, programs to itself and keeps to the ranges; `readout.*`
                    passes; wrong blocks and shapes (InputError), values out of range (RangeError) and relaxing before
                    programming are refused
        settling    z <- z + eps (F + force): a force adds eps * force to its step, zero is none, a constant is a
                    waveform; phases join (quiet devices); displacing is starting elsewhere; with `model`, the Euler
                    steps of that model
        reading     recordings begin at z_0, end at z_T and thin out by slicing; residual = rms((z_T - z_{T-1}) / eps);
                    outcomes fit it; nothing that physics does raises
        backwards   linear in the stimulus, the transpose of one step forwards, and (`model`) steps of J^T a + force
        correction  the transposed response to first order (`correct` and `load_state`)
        complex     real where nothing is imaginary, conjugate for conjugates, analytic (Cauchy and Riemann), the steps
                    of the `model` continued (`complex`)
        feedback    blocks of a feedback array act backwards and not forwards, those that they mirror forwards alone;
                    where both hold the same the response is the transpose
        capture     credit formed on the device is that of the recordings (`capture_credit`)
        lanes       order and borders of a batch change nothing but rounding; Carry follows the last fresh plan; save
                    and restore give it back; random starts have their spread
        noise       the same address, the same bits (`replayable_noise`); another, other noise where there is any; twins
                    at zero separation stay together, to rounding (`twins`)
        refusing    every Phase field, start and method that needs an absent capability raises CapabilityError and
                    names it
        closing     idempotent, and lets errors through

    A device that states a `mismatch` is allowed that much where it says how a force arrives, and is not asked whether
    the response backwards is exactly the transpose; one without `exact_writes` may hold something else when it is
    programmed again.

    A law is put to a device only where its spec lets it be decided: what needs the same settling twice needs a device
    without noise or with `replayable_noise`. The error of reads is measured on a loaded or displaced state (else taken
    from `noise_floor`), and allowed for.

    Args:
        make_device: opens a device, always of the same kind; called once for each law. Stimuli have unit size in state
            units, parameters a spectral radius below one, if their ranges let them.
        seed: of everything drawn.

    Raises:
        AssertionError: the first law that is broken, what it demands and what was found.

    Cost: some 330 settlings of a few steps, and three of `horizon`.
    """
    run_laws("check_device", _LAWS, Bench.survey(make_device, seed))
