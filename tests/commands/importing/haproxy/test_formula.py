"""A formula holds for exactly the clients for which its condition holds."""

import functools
import itertools
import random

import pytest
from nginy.commands.importing.haproxy.formula import (
    ALWAYS,
    NEVER,
    Atom,
    Formula,
    both,
    either,
    holds,
    negated,
)
from nginy.errors import InvalidValueError

NAMES = ("a", "b", "c", "d")


def is_true(formula: Formula, true: frozenset[str]) -> bool:
    """Whether a formula holds for a client for which these atoms are true."""
    return any(
        all(
            (_name(each.atom) in true) is (each.holds is not (each.atom.values == ("off",)))
            for each in term
        )
        for term in formula
    )


def _name(atom: Atom) -> str:
    return "d" if atom.kind == "is_tls" else atom.values[0]


def test_random_conditions_agree_with_their_truth_tables() -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    for _ in range(300):
        formulas = [holds("from", name) for name in "abc"] + [holds("is_tls", "on"), ALWAYS, NEVER]
        truths = [[name in true for true in _clients()] for name in NAMES]
        truths += [[True] * 16, [False] * 16]
        for _ in range(6):
            i, j = dice.randrange(len(formulas)), dice.randrange(len(formulas))
            one, other = formulas[i], formulas[j]
            kind = dice.choice(("and", "or", "not"))
            made = {"and": both, "or": either}.get(kind, lambda x, _: negated(x))(one, other)
            truth = [
                {"and": p and q, "or": p or q, "not": not p}[kind]
                for p, q in zip(truths[i], truths[j], strict=True)
            ]
            found = [is_true(made, true) for true in _clients()]
            assert found == truth, (seed, kind, one, other)
            formulas.append(made)
            truths.append(truth)


def _clients() -> list[frozenset[str]]:
    subsets = (itertools.combinations(NAMES, size) for size in range(len(NAMES) + 1))
    return [frozenset(each) for each in itertools.chain.from_iterable(subsets)]


def test_what_contradicts_itself_never_holds() -> None:
    tls = holds("is_tls", "on")
    assert both(tls, negated(tls)) == NEVER
    assert both(holds("sni", "a"), negated(holds("sni", "a"))) == NEVER


def test_a_condition_with_too_many_cases_is_refused() -> None:
    pairs = (either(holds("from", f"a{n}"), holds("sni", f"b{n}")) for n in range(20))
    with pytest.raises(InvalidValueError, match="has too many cases"):
        functools.reduce(both, pairs)
