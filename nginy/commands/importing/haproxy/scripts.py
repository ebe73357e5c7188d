r"""`tcp-check` rules as the steps of a check.

HAProxy's `expect string` searches the whole answer, so it becomes a regular expression here; an
answer must begin with nginy's literals. A check of nginy has one connection.

Source: HAProxy's configuration manual, "tcp-check connect", "tcp-check expect", "tcp-check send".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Sequence
from typing import Final

from nginy.commands.importing.haproxy.acls import binary, escaped
from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.values import check_port
from nginy.commands.importing.model import Block
from nginy.errors import InvalidValueError
from nginy.wire.errors import WireError
from nginy.wire.expect import parse_expect

RULES: Final = tuple(
    f"tcp-check {word}"
    for word in (
        *("comment", "connect", "expect", "send", "send-lf", "send-binary", "send-binary-lf"),
        *("set-var", "set-var-fmt", "unset-var"),
    )
)
WITH_VALUE: Final = frozenset(
    {
        *("comment", "min-recv", "ok-status", "error-status", "tout-status", "on-success"),
        *("on-error", "status-code", "port", "addr", "sni", "alpn", "proto"),
    }
)
HARMLESS: Final = frozenset(
    {
        "comment",
        "linger",
        "default",
        "ok-status",
        "error-status",
        "tout-status",
        "on-success",
        "on-error",
        "status-code",
    }
)


class _Script:
    """The steps so far."""

    def __init__(self, health: Block, ledger: Ledger) -> None:
        self.health = health
        self.ledger = ledger
        self.steps: list[Block] = []
        self.label = ""
        self.is_connected = False
        self.is_over = False

    def take(self, line: Line) -> None:
        """Take one rule."""
        rule, words = line.bare[1].partition("(")[0], line.bare[2:]
        if self.is_over:
            text = "comes after a second connection, and nginy's check has only one"
            self.ledger.left_out(line, text)
        elif rule == "comment":
            self.label = " ".join(words)
            self.ledger.exact(line)
        elif rule == "connect":
            self._connect(line, words)
        elif rule.startswith("send"):
            self._send(line, rule, words)
        elif rule == "expect":
            self._expect(line, words)
        else:
            self.ledger.left_out(line, "check steps have no variables")

    def _connect(self, line: Line, words: Sequence[str]) -> None:
        if self.is_connected or self.steps:
            self.is_over = True
            self.ledger.left_out(line, "nginy's check has only the first connection")
            return
        self.is_connected = True
        options, _ = _options(words)
        for name, value in options.items():
            if name == "port" and value.isdecimal():
                self.health.set("port", check_port(value))
            elif name == "ssl":
                self.health.set("type", "tls")
                self.health.set("verify", "off")
            elif name == "sni":
                self.health.set("name", value)
            elif name not in HARMLESS:
                self.ledger.left_out(line, f"{name}: the check connects without it")
        self.ledger.exact(line)

    def _send(self, line: Line, rule: str, words: Sequence[str]) -> None:
        if not words:
            raise InvalidValueError("sends nothing")
        if "-lf" in rule and "%" in words[0].replace("%%", ""):
            text = "what it sends depends on HAProxy's variables; the check omits it"
            self.ledger.left_out(line, text)
            return
        text = words[0].replace("%%", "%") if "-lf" in rule else words[0]
        sent = binary(text) if "binary" in rule else escaped(text)
        step = self._step("expect", _options(words[1:])[0])
        step.set("send", step.text("send") + sent)
        self._done(line, step, "send")

    def _expect(self, line: Line, words: Sequence[str]) -> None:
        options, rest = _options(words)
        if rest[:1] == ["!"] or (rest and rest[0].startswith("!")):
            text = "nginy cannot expect that a text does not come"
            self.ledger.left_out(line, text)
            return
        if len(rest) < 2:
            raise InvalidValueError("expects nothing")
        kind, pattern = rest[0], rest[1]
        make = {
            "string": lambda: f"~{pattern_of(pattern)}",
            "binary": lambda: f"~{_bytes(pattern)}",
            "rstring": lambda: f"~{pattern}",
        }.get(kind)
        if make is None:
            self.ledger.left_out(line, f"nginy has no expect {kind}; any answer will do")
            return
        expect = make()
        try:
            parse_expect(expect)
        except WireError as error:
            self.ledger.left_out(line, f"{error}; any answer will do")
            return
        step = self._step("expect", options)
        step.set("expect", expect)
        if options.get("min-recv", "-1") not in ("-1", "0"):
            self.ledger.close(line, "min-recv: nginy waits until the answer matches")
        self._done(line, step, "expect")

    def _step(self, ended_by: str, options: dict[str, str]) -> Block:
        """Return the step to add to: the last one unless it is complete."""
        if not self.steps or ended_by in self.steps[-1].values:
            self.steps.append(Block())
        label = options.get("comment", self.label)
        self.label = ""
        if label and '"' not in label:
            self.steps[-1].set("label", label)
        return self.steps[-1]

    def _done(self, line: Line, step: Block, key: str) -> None:
        self.ledger.exact(line, step, key)

    def write(self) -> None:
        """Write the steps; one alone needs no list."""
        if len(self.steps) == 1 and "label" not in self.steps[0].values:
            (step,) = self.steps
            for key, value in step.values.items():
                self.health.set(key, value)
        elif self.steps:
            self.health.set("steps", list(self.steps))


def script(proxy: Proxy, health: Block, ledger: Ledger) -> None:
    """Write the tcp-check rules of a proxy; without rules, connecting is enough."""
    made = _Script(health, ledger)
    for line in proxy.own_or_inherited(*RULES):
        try:
            made.take(line)
        except InvalidValueError as error:
            ledger.left_out(line, f"{error.clause}; the check omits it")
    made.write()


def _options(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options ahead of a pattern, and the rest."""
    options: dict[str, str] = {}
    rest = list(words)
    flags = ("default", "send-proxy", "via-socks4", "ssl", "linger")
    while rest and (rest[0] in WITH_VALUE or rest[0] in flags):
        name = rest.pop(0)
        options[name] = rest.pop(0) if name in WITH_VALUE and rest else ""
    return options, rest


def pattern_of(text: str) -> str:
    """Return a regular expression that finds a text."""
    return "".join(_escape(letter) for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    elif letter.isalnum() or letter in " _-/:;,=<>@!'\"%&~" or code > 0x7F:
        return letter
    if code < 0x20 or code >= 0x7F:
        return f"\\x{code:02x}"
    return re.escape(letter)


def _bytes(text: str) -> str:
    binary(text)  # refuses what is not hexadecimal
    return pattern_of("".join(chr(c) if c < 0x80 else chr(0xDC00 + c) for c in bytes.fromhex(text)))
