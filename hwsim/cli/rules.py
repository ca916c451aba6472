"""Rules by name, as they are asked for on the command line: `ep`, `finite_horizon_ep + 10 * homeostat`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from hwsim.contracts.errors import InputError
from hwsim.contracts.rule import LearningRule, registered_rules


@final
@dataclass(frozen=True, kw_only=True)
class Term:
    """One rule of a sum.

    Args:
        name: as it was asked for.
        rule: without its weight.
        weight: None where none was asked for.
    """

    name: str
    rule: LearningRule
    weight: float | None


def rule_named(text: str) -> LearningRule:
    """The rule that `text` asks for: registered names, each with an optional weight, joined by +.

        rule    term { + term }
        term    [ weight * ] name

    Args:
        text: what was asked.

    Raises:
        InputError: a name that is not registered, or a weight that is no number.
    """
    parts = [term.rule if term.weight is None else term.weight * term.rule for term in terms_named(text)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def terms_named(text: str, also: Mapping[str, LearningRule] | None = None) -> tuple[Term, ...]:
    """The terms of the sum that `text` asks for, see `rule_named`; `also` holds further rules by name."""
    known, terms = {**registered_rules(), **(also or {})}, []
    for part in text.split("+"):
        weight, star, name = part.rpartition("*")
        name = name.strip()
        if name not in known:
            raise InputError(f"there is no rule {name!r}; choose from {', '.join(known)}")
        terms.append(Term(name=name, rule=known[name], weight=_weight(weight, text) if star else None))
    return tuple(terms)


def _weight(text: str, asked: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise InputError(
            f"a rule is weighted by a finite number, as in 10*homeostat; found {text.strip()!r} in {asked!r}"
        )
    return weight
