"""What goes wrong, as types. Each message says what was asked, what was found and what to change.

HwsimError
├── InputError        a value from outside (option, file, argument) cannot be used
├── CapabilityError   a plan or a rule asks a device for what it cannot do
├── RangeError        a parameter lies outside what the hardware can hold
├── ResumeError       a saved run does not fit what is asked to continue it
└── SpiceError        ngspice is missing, or did not do what it was asked

Physics never raises: a settling that fails is an `Outcome`.
"""


class HwsimError(Exception):
    """Base of every error that hwsim raises on purpose."""


class InputError(HwsimError, ValueError):
    """A value from outside cannot be used."""


class CapabilityError(HwsimError):
    """A device was asked for something that its spec does not list."""


class RangeError(HwsimError, ValueError):
    """A parameter lies outside what the hardware can hold."""


class ResumeError(HwsimError):
    """A saved run does not fit the run that was asked for."""


class SpiceError(HwsimError):
    """ngspice is missing, or did not do what it was asked; holds its own words."""
