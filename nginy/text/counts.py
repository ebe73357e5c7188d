"""Counts in words, for sentences: "1 session", "2 sessions"."""

ES = ("s", "x", "ch", "sh")
"""Endings of nouns whose plural ends in "es"."""


def counted(number: int, noun: str) -> str:
    """Return a number and a noun, given in the singular: "3 processes"."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}es" if noun.endswith(ES) else f"{number} {noun}s"
