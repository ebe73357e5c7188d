"""Spoilt requests: for the parser, and for a running nginy."""

import random
from collections.abc import Sequence

PIECES = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"%",
    b"/",
    b"HTTP/1.1",
    b"Host: b",
)


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the requests with up to four changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data[place : place + 1] = bytes((rng.randrange(256),))
        elif kind == 1:
            del data[place : place + rng.randint(1, 9)]
        elif kind == 2:
            data[place:place] = rng.choice(PIECES)
        else:
            data[place:place] = data[: rng.randint(0, 20)]
    return bytes(data)
