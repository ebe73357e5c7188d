"""Mutated configurations: whatever is typed becomes a configuration, or one sentence with a place.

The seed is drawn anew each time and printed by a failure.
"""

import random
import re

import pytest
from nginy.commands.importing import nginx
from nginy.commands.importing.model import Texts
from nginy.commands.importing.report import render_report
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render
from nginy.config.node import Findings
from nginy.config.parse import parse
from nginy.errors import ConfigError

from commands.importing.nginx.test_table import CASES, OTHERS, WEB, parts_of

ROUNDS = 3000
PIECES = (
    *(
        "{",
        "}",
        ";",
        '"',
        "'",
        "\\",
        "#",
        "$",
        "${",
        "\n",
        " ",
        "~",
        "*",
        "",
        "\x00",
        "\udcff",
        "é",
    ),
    *("\x00", "\udcff", "é", "$n", "$remote_addr", "${n}x", "-1", "0", "999999999999", "off", "on"),
    *(
        "include a/*.map;",
        "[::1]:80",
        "unix:",
        "10.0.0.0/33",
        "default",
        "server",
        "~^(a+)+$",
        "1e9",
    ),
    *(
        "listen 80 udp;",
        "map $n $n {",
        "geo $n {",
        "return x;",
        "web",
        "hostnames;",
        "ssl",
        "a" * 300,
    ),
)


def mutated(text: str, dice: random.Random) -> str:
    words = re.findall(r"\s+|[{};]|[^\s{};]+", text)
    for _ in range(dice.randrange(1, 5)):
        place = dice.randrange(len(words))
        other = dice.choice(words) if dice.random() < 0.5 else dice.choice(PIECES)
        kind = dice.randrange(4)
        if kind == 0:
            words[place] = other
        elif kind == 1:
            words.insert(place, other)
        elif kind == 2 and len(words) > 1:
            del words[place]
        else:
            word = words[place]
            cut = dice.randrange(len(word) + 1)
            words[place] = word[:cut] + dice.choice(PIECES) + word[cut:]
    return "".join(words)


@pytest.mark.slow
def test_mutations_never_end_in_a_traceback() -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    texts = [parts_of(text, context) for text, context, _, _ in CASES]
    texts.append(f"events {{}} stream {{ {WEB} {' '.join(text for text, *_ in CASES[:40])} }}")
    refused = 0
    for number in range(ROUNDS):
        text = mutated(dice.choice(texts), dice)
        try:
            made = nginx.read("/etc/n.conf", Texts({"/etc/n.conf": text, **OTHERS}))
            result = render(tidy(made.document))
            report = render_report(made.entries)
        except ConfigError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError((seed, number, text)) from error
        else:
            assert all(line.isprintable() for line in report), (seed, number, text)
            parse(result, "x", Findings())
            continue
        refused += 1
        is_sentence = re.fullmatch(r"/etc/[\w./]+(:\d+:\d+)?: .+", said)
        assert is_sentence, (seed, number, text, said)
    assert 0 < refused < ROUNDS
