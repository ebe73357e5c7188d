"""How many there are of something, as a sentence says it: "1 session", "2 sessions"."""

ES = ("s", "x", "ch", "sh")
"""Endings of words whose plural has an e."""


def counted(number: int, noun: str) -> str:
    """Return the number and the noun, which is in the singular: "3 processes"."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}es" if noun.endswith(ES) else f"{number} {noun}s"
