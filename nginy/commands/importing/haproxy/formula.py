"""Conditions as formulas: what `if { src 10.0.0.0/8 } !is_tls or is_admin` tests.

An atom is one test of a nginy route: the client's network, the server that it asks for, and so on.
A formula is an OR of terms, each an AND of atoms that hold or do not; routes have the same form,
and the first match wins. Pure: this module reads no text of HAProxy.

The one idea: every condition, also `unless`, gets that form, and only then does `routes.py` look
for what nginy has for each term.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final, TypeAlias

from nginy.errors import InvalidValueError

TERMS_MAX: Final = 64
"""With more, nobody could read the configuration."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One test of a client.

    `kind` is from, server_addr, real_from, port, sni, alpn, is_tls, starts, share, or a limit:
    conns, rate. `values` are in nginy's form.
    """

    kind: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """An atom that has to hold, or must not."""

    atom: Atom
    holds: bool = True


Term: TypeAlias = frozenset[Literal]
Formula: TypeAlias = tuple[Term, ...]

ALWAYS: Final[Formula] = (frozenset(),)
NEVER: Final[Formula] = ()


def holds(kind: str, *values: str) -> Formula:
    """Return the formula of one atom."""
    return (frozenset({Literal(Atom(kind, values))}),)


def either(first: Formula, second: Formula) -> Formula:
    """Return the OR of two formulas."""
    return _short((*first, *second))


def both(first: Formula, second: Formula) -> Formula:
    """Return the AND of two formulas."""
    return _short(tuple(a | b for a, b in product(first, second) if not _contradicts(a | b)))


def negated(formula: Formula) -> Formula:
    """Return the formula that holds where this one does not."""
    result = ALWAYS
    for term in formula:
        result = both(result, tuple(frozenset({_opposite(each)}) for each in _sorted(term)))
    return result


def _opposite(literal: Literal) -> Literal:
    atom = literal.atom
    if atom.kind == "is_tls":
        return Literal(Atom("is_tls", ("off" if atom.values == ("on",) else "on",)))
    return Literal(atom, not literal.holds)


def _sorted(term: Term) -> list[Literal]:
    return sorted(term, key=lambda each: (each.atom.kind, each.atom.values, each.holds))


def _contradicts(term: Term) -> bool:
    tls = {literal.atom.values for literal in term if literal.atom.kind == "is_tls"}
    return len(tls) > 1 or any(_opposite(literal) in term for literal in term)


def _short(formula: Formula) -> Formula:
    """Drop terms that others contain; raise InvalidValueError if too many are left."""
    unique = list(dict.fromkeys(formula))
    if len(unique) > TERMS_MAX * TERMS_MAX:
        raise InvalidValueError("has too many cases")
    kept = [term for term in unique if not any(other < term for other in unique)]
    if len(kept) > TERMS_MAX:
        raise InvalidValueError("has too many cases")
    return tuple(kept)


def literals(formula: Formula) -> list[Literal]:
    """Return all literals, in order."""
    return [literal for term in formula for literal in _sorted(term)]


def ordered(term: Term) -> list[Literal]:
    """Return the literals of a term in a fixed order."""
    return _sorted(term)
