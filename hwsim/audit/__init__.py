"""Where a rule's gradient goes wrong on a device, rung by rung, against BPTT on the drawn chip."""

from .ladder import DeviceLadder, DeviceRung
from .perfect import PerfectDevice
from .record import ANALOG, Audit, Floor, Rung, Share
from .run import FEEDBACK, NOMINAL, audit

__all__ = [
    "ANALOG",
    "FEEDBACK",
    "NOMINAL",
    "Audit",
    "DeviceLadder",
    "DeviceRung",
    "Floor",
    "PerfectDevice",
    "Rung",
    "Share",
    "audit",
]
