"""How a broken law is reported: one sentence with the law, what it demands and what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from hwsim.contracts.arrays import Array
from hwsim.contracts.parameters import Parameters

_Subject = TypeVar("_Subject")


def demand(holds: bool | np.bool_, law: str, expected: object, found: object) -> None:
    """Raise AssertionError "law: expected ..., found ..." unless `holds`."""
    if not holds:
        raise AssertionError(f"{law}: expected {expected}; found {found}")


def close(law: str, found: Array, expected: Array, tolerance: float = 0.0) -> None:
    """`|found - expected| <= tolerance` entry by entry, shapes equal; NaN and infinity must match.

    Args:
        law: that is broken where this fails.
        found, expected: arrays of any engine.
        tolerance: absolute, in the units of the entries; 0 asks for equal numbers.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    demand(found.shape == expected.shape, law, f"shape {list(expected.shape)}", f"shape {list(found.shape)}")
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(found - expected)
    off = np.where((found == expected) | (np.isnan(found) & np.isnan(expected)), 0.0, off)
    off = np.where(np.isnan(off), np.inf, off)
    if off.size and off.max() > tolerance:
        worst = np.unravel_index(int(np.argmax(off)), off.shape)
        place = f" at index {[int(i) for i in worst]}" if worst else ""
        raise AssertionError(
            f"{law}: expected {expected[worst]:.8g}{place}; found {found[worst]:.8g}, "
            f"off by {off[worst]:.3g} where {tolerance:.3g} is allowed"
        )


def blocks_close(law: str, found: Parameters, expected: Parameters, relative: float) -> None:
    """`|found - expected| <= relative max|expected|`, block by block; both sides must have the same blocks."""
    demand(found.keys() == expected.keys(), law, f"blocks {sorted(expected)}", f"blocks {sorted(found)}")
    for name, block in expected.items():
        close(f"{law}, block {name}", found[name], block, relative * largest(block))


def largest(*arrays: Array) -> float:
    """The largest finite magnitude in the arrays; 0 where there is none."""
    sizes = [np.abs(np.asarray(array, np.float64)) for array in arrays]
    return max((float(size[np.isfinite(size)].max(initial=0.0)) for size in sizes), default=0.0)


def refused(law: str, errors: type[Exception] | tuple[type[Exception], ...], action: Callable[[], object]) -> str:
    """Demand that `action` raises one of `errors`, and give its message."""
    kinds = errors if isinstance(errors, tuple) else (errors,)
    wanted = " or ".join(kind.__name__ for kind in kinds)
    try:
        answer = action()
    except kinds as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{law}: expected {wanted}; found {type(error).__name__}: {error}") from error
    raise AssertionError(f"{law}: expected {wanted}; found no error, and the answer {type(answer).__name__}")


def run_laws(suite: str, laws: Iterable[Callable[[_Subject], None]], subject: _Subject) -> None:
    """Hold `subject` to every law in turn; an error of its own is reported as the law that it broke.

    Raises:
        AssertionError: the first broken law.
    """
    for law in laws:
        try:
            law(subject)
        except AssertionError:
            raise
        except Exception as error:
            name = law.__name__.replace("_", " ")
            message = f"{suite}, {name}: expected an answer; found {type(error).__name__}: {error}"
            raise AssertionError(message) from error
