"""Laws of credit that a device forms by itself."""

from __future__ import annotations

from functools import partial

import numpy as np

from hwsim.contracts.capture import CreditProbe, Weighted
from hwsim.contracts.device import Capability
from hwsim.contracts.errors import CapabilityError
from hwsim.contracts.plan import Phase, Relaxation

from .bench import Bench
from .laws import close, refused


def formed_credit(bench: Bench) -> None:
    """The sums that come back are those of the recordings, paired as asked; without the capability it is refused."""
    kick, weights = 0.3 * bench.normal(40), bench.normal(41)
    every = int(bench.has(Capability.RECORD))
    free = bench.plan(Phase(steps=4, record=every))
    probe = bench.plan(Phase(steps=3, record=every, displace=kick if bench.has(Capability.DISPLACE) else None))

    def asked(settled: Relaxation, along: bool) -> CreditProbe:
        run = Weighted(plan=probe, weights=weights)
        return CreditProbe(runs=(run, run), scale=0.25, along=along)

    with bench.device() as (device, held):
        if not bench.has(Capability.CAPTURE_CREDIT):
            law = "without capability capture_credit form_credit is refused"
            form = partial(device.form_credit, free, partial(asked, along=False), noise=bench.noise)
            refused(law, CapabilityError, form)
            return
        if not every or not bench.repeatable or bench.read_error > 0:
            return  # what is kept on the device cannot be known from outside
        z = np.asarray(device.relax(free, noise=bench.noise)[0].recorded)
        post = 2.0 * weights * np.asarray(device.relax(probe, noise=bench.noise)[0].recorded)
        for along in (True, False):
            settled, credit = device.form_credit(free, partial(asked, along=along), noise=bench.noise)
            close("form_credit gives the free relaxation", settled.final, z[-1], bench.tolerance(z))
            signal, states = (post[::-1], z[:-1]) if along else (post[-1], z[-1])
            expected = device.synapses.credit(signal, states, free.inputs, held) * 0.25
            law = f"form_credit sums post x pre, {'along the transient backwards' if along else 'at the end alone'}"
            for name, block in expected.items():
                close(f"{law}, block {name}", credit[name], block, bench.tolerance(block, gain=10))
