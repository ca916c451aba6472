"""Rules by name, as they are asked for on the command line: `ep`, `finite_horizon_ep + 10 * homeostat`."""

from __future__ import annotations

from hwsim.contracts.errors import InputError
from hwsim.contracts.rule import LearningRule, registered_rules


def rule_named(text: str) -> LearningRule:
    """The rule that `text` asks for: registered names, each with an optional weight, joined by +.

        rule    term { + term }
        term    [ weight * ] name

    Raises:
        InputError: a name that is not registered, or a weight that is no number.
    """
    known, terms = registered_rules(), []
    for part in text.split("+"):
        weight, star, name = part.rpartition("*")
        name = name.strip()
        if name not in known:
            raise InputError(f"there is no rule {name!r}; choose from {', '.join(known)}")
        terms.append(_weight(weight, text) * known[name] if star else known[name])
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _weight(text: str, asked: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"a rule is weighted by a number, as in 10*homeostat; found {text.strip()!r} in {asked!r}"
        ) from None
