"""Public conformance suites for devices, substrates and learning rules.

Call them from a test of your own, with a function that makes the thing:

    >>> from hwsim.devices import SimulatedDevice
    >>> from hwsim.substrates import LeakyNetwork
    >>> check_device(lambda: SimulatedDevice(LeakyNetwork.dense(8, 5), horizon=20))

Each raises AssertionError with a sentence that names the law that is broken, what it demands and what was found.
"""

from .device import check_device
from .limited import LimitedDevice, MeteredDevice
from .rule import check_rule
from .substrate import check_substrate
from .task import RandomClasses, RandomRegression

__all__ = [
    "LimitedDevice",
    "MeteredDevice",
    "RandomClasses",
    "RandomRegression",
    "check_device",
    "check_rule",
    "check_substrate",
]
