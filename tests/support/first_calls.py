"""The type checker of the tests: every annotated function is checked at its first calls in each test.

A check costs as much as many a function that it checks, and a settling calls the same ones thousands of times: checking
all of them makes the tests that settle step by step ten times slower. Counted by calls, so that the same calls are
checked on every machine.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

CALLS = 50
"""Calls of a function that are checked in one test."""

_typed = beartype(conf=BeartypeConf(is_pep484_tower=True))
_checked: Counter[str] = Counter()
_let_go: list[Any] = []


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype` for the first calls of a function; an int will do for a float, as it does for mypy.

    jaxtyping asks twice for each function, once for the arguments and once for the result. It passes a function by that
    has the mark `__no_type_check__`, which is what ends the checking of one that a name leads to; functions inside of
    functions are always checked.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:  # here and not above: most functions of a package are called in few test files
            checked = _typed(function)
        _checked[name] += 1
        if _checked[name] == 2 * CALLS:
            _let_go_of(function.__module__, function.__qualname__)
        return checked(*args, **kwargs)

    return counted


def start() -> None:
    """Check everything again."""
    _checked.clear()
    for function in _let_go:
        del function.__no_type_check__
    _let_go.clear()


def _let_go_of(module: str, name: str) -> None:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = inspect.getattr_static(found, part, None)
    parts = (found.fget, found.fset) if isinstance(found, property) else (getattr(found, "__func__", found),)
    for function in parts:
        if inspect.isfunction(function) and "__no_type_check__" not in vars(function):
            function.__no_type_check__ = True
            _let_go.append(function)
