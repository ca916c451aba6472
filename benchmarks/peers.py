"""Which engines are installed here, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from .engines import Engine, Hwsim, Numpy

_PEERS = {
    "torch": ("torch_loop", "Torch"),
    "torch.compile": ("torch_loop", "TorchCompiled"),
    "jax scan": ("jax_loops", "JaxScan"),
    "diffrax, unsafe path": ("jax_loops", "DiffraxUnsafe"),
    "diffrax, tree": ("jax_loops", "DiffraxTree"),
    "torchsde": ("torchsde_loop", "TorchSDE"),
}
"""Name -> (module here, class in it)."""
NAMES = ("hwsim", "numpy", *_PEERS)


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Engines that can be timed, hwsim first.

    Args:
        kinds: their classes.
        missing: what is not here -> why.
    """

    kinds: tuple[type[Engine], ...]
    missing: dict[str, str]

    def note(self) -> str:
        """What is missing, in a line."""
        if not self.missing:
            return "All peers are installed."
        return "Not measured: " + "; ".join(f"{name} ({why})" for name, why in self.missing.items()) + "."


def installed(names: Sequence[str] = NAMES) -> Peers:
    """All engines of these names that can be imported."""
    found: dict[str, Callable[[], type[Engine]]] = {"hwsim": lambda: Hwsim, "numpy": lambda: Numpy}
    for name, (module, kind) in _PEERS.items():
        found[name] = lambda module=module, kind=kind: getattr(import_module(f".{module}", __package__), kind)
    kinds, missing = [], {}
    for name in names:
        try:
            kinds.append(found[name]())
        except ImportError as error:
            missing[name] = str(error)
    return Peers(kinds=tuple(kinds), missing=missing)
