"""What a board says of itself: the CBOR descriptor, checked key by key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from hwsim.contracts.device import Capability

from .codes import Bit
from .errors import VersionMismatch


@final
@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """The descriptor of a board; keys that this host does not know are left out.

    Args:
        firmware, uid, backend, topology, nonlinearity, safe_state, calibration: texts.
        units, inputs: N, M.
        dt, time_constant: seconds.
        horizon, tolerance: as in `DeviceSpec`.
        noise, read_noise: state units; None where they are not known.
        ranges: `W`, `U`, `b`, `x`, `force`, `displace`, `state` -> (lowest, highest).
        levels: of a cell, 0 for continuous.
        adc_bits, adc_lo, adc_hi: of the readout; 0 bits for continuous.
        bits: capabilities.
        lanes, parallel: most in one RUN, and how many run at the same time.
        network, data, result, tape: bytes of the slots.
        phases, steps, reads: limits.
        power: watt; None where it is not known.
        raw: all of it.
    """

    firmware: str
    uid: str
    backend: str
    topology: str
    nonlinearity: str
    safe_state: str
    calibration: str
    units: int
    inputs: int
    dt: float
    time_constant: float
    horizon: int
    tolerance: float
    noise: float | None
    read_noise: float | None
    ranges: Mapping[str, tuple[float, float]]
    levels: int
    adc_bits: int
    adc_lo: float
    adc_hi: float
    bits: Bit
    lanes: int
    parallel: int
    network: int
    data: int
    result: int
    tape: int
    phases: int
    steps: int
    reads: int
    power: float | None
    raw: Mapping[str, Any]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the contract."""
        return frozenset(each for each in Capability if each.name in Bit.__members__ and Bit[each.name] & self.bits)

    @property
    def quiet(self) -> bool:
        """Whether two settlings with the same addresses are the same: noise is off, or can be replayed."""
        return bool(Bit.REPLAYABLE_NOISE & self.bits) or (self.noise == 0.0 and self.read_noise == 0.0)

    @property
    def read_error(self) -> float | None:
        """Rms error of one read, `sqrt(read_noise^2 + lsb^2 / 12)`, state units; None where it is not known or 0."""
        if self.read_noise is None:
            return None
        lsb = (self.adc_hi - self.adc_lo) / 2**self.adc_bits if self.adc_bits else 0.0
        error = math.sqrt(self.read_noise**2 + lsb**2 / 12.0)
        return error or None

    @staticmethod
    def of_cbor(data: bytes) -> Descriptor:
        """Read a descriptor.

        Raises:
            VersionMismatch: it lacks a key, or holds something else there than it should.
        """
        import cbor2

        try:
            raw = cbor2.loads(data)
        except Exception as error:  # cbor2 raises many kinds, all of which mean the same
            raise VersionMismatch(f"the board's descriptor is no CBOR ({error}); update its firmware") from None
        read = _Keys(raw if isinstance(raw, dict) else {})
        adc, lanes, memory, limits = (read.map(key) for key in ("adc", "lanes", "memory", "limits"))
        ranges = read.map("ranges")
        return Descriptor(
            firmware=read.text("firmware"),
            uid=read.text("uid"),
            backend=read.text("backend"),
            topology=read.text("topology"),
            nonlinearity=read.text("nonlinearity"),
            safe_state=read.text("safe_state"),
            calibration=read.text("calibration"),
            units=read.count("units"),
            inputs=read.count("inputs"),
            dt=read.size("dt"),
            time_constant=read.size("time_constant"),
            horizon=read.count("horizon"),
            tolerance=read.size("tolerance"),
            noise=read.known("noise"),
            read_noise=read.known("read_noise"),
            ranges={name: ranges.pair(name) for name in ("W", "U", "b", "x", "force", "displace", "state")},
            levels=read.map("weights").natural("levels"),
            adc_bits=adc.natural("bits"),
            adc_lo=adc.number("lo"),
            adc_hi=adc.number("hi"),
            bits=Bit(read.natural("capabilities") & sum(Bit)),
            lanes=lanes.count("most"),
            parallel=lanes.count("parallel"),
            network=memory.count("network"),
            data=memory.count("data"),
            result=memory.count("result"),
            tape=memory.natural("tape"),
            phases=limits.count("phases"),
            steps=limits.count("steps"),
            reads=limits.count("reads"),
            power=read.known("power"),
            raw=read.raw,
        )


@final
class _Keys:
    """A map whose values are taken out by kind."""

    def __init__(self, raw: dict[Any, Any], where: str = "") -> None:
        self.raw, self._where = raw, where

    def map(self, key: str) -> _Keys:
        return _Keys(self._of(key, dict, "a map"), f"{self._where}{key}.")

    def text(self, key: str) -> str:
        return str(self._of(key, str, "text"))

    def natural(self, key: str) -> int:
        value = self._of(key, int, "a whole number of at least 0")
        return int(value) if value >= 0 else self._wrong(key, "a whole number of at least 0")

    def count(self, key: str) -> int:
        return self.natural(key) or self._wrong(key, "a whole number of at least 1")

    def number(self, key: str) -> float:
        value = float(self._of(key, (int, float), "a number"))
        return value if math.isfinite(value) else self._wrong(key, "a finite number")

    def size(self, key: str) -> float:
        value = self.number(key)
        return value if value > 0 else self._wrong(key, "a number above 0")

    def known(self, key: str) -> float | None:
        if self.raw.get(key, "") is None:
            return None
        value = self.number(key)
        return value if value >= 0 else self._wrong(key, "a number of at least 0, or null")

    def pair(self, key: str) -> tuple[float, float]:
        value = self._of(key, list, "[lowest, highest]")
        if len(value) != 2 or not all(isinstance(each, int | float) for each in value) or not value[0] <= value[1]:
            return self._wrong(key, "[lowest, highest]")
        return float(value[0]), float(value[1])

    def _of(self, key: str, kind: type | tuple[type, ...], words: str) -> Any:
        value = self.raw.get(key)
        return value if isinstance(value, kind) and not isinstance(value, bool) else self._wrong(key, words)

    def _wrong(self, key: str, words: str) -> Any:
        raise VersionMismatch(
            f"the board's descriptor should hold {words} under {self._where}{key}; found {self.raw.get(key)!r}: update "
            "its firmware"
        )
