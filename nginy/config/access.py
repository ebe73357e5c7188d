"""The value of `access`: rules with networks, and files of networks; and plain lists of networks.

This module reads the files with the configuration that names them: a bad line is a mistake of the
configuration, and a reload reads them again, in the process that reads (`process/reader.py`). The
result is ready for lookups, so a hundred thousand networks cost a reload no turn of the loop.

Not here: which rule decides (proxy/access.py).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    Node,
    RefusedError,
    ScalarNode,
    SequenceNode,
    closest,
    describe,
    did_you_mean,
    quote,
    quote_path,
)
from nginy.config.paths import FilePath
from nginy.config.types import Kind, Plain
from nginy.errors import InvalidValueError
from nginy.proxy.access import ALL, Access, Network, Rule, parse_network, parse_networks

NETWORK: Final = "a network such as 10.0.0.0/8, an address, all, unix: or {file: PATH}"
RULE: Final = f"{{allow: ...}} or {{deny: ...}} with {NETWORK}"
FILE_MAX_BYTES: Final = 64 << 20
BAD_LINES_MAX: Final = 20
"""At most this many bad lines of a file are reported: a file of another format has no good ones."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One rule as configured."""

    is_allowed: bool
    text: str = ""
    """The network, `all` or `unix:`; "" for a file."""
    file: str = ""
    """The absolute path of a file of networks."""
    digest: bytes = b""
    """A hash of the file's bytes: rules whose file has changed are different rules."""


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The rules of a listener, and the table that they make."""

    rules: tuple[AccessRule, ...]
    table: Access = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NetworkList:
    """Networks as configured, and the table that they make: all its rules allow."""

    texts: tuple[str, ...]
    table: Access = field(compare=False, repr=False)


class Networks(Kind[NetworkList]):
    """One network or several."""

    expected = "a network such as 10.0.0.0/8, an address, all, unix:, or a list of these"

    def read(self, node: Node, findings: Findings) -> NetworkList:
        """Return the networks."""
        items = node.items if isinstance(node, SequenceNode) else (node,)
        if not items:
            raise findings.refuse(node.mark, f"an empty list, expected {self.expected}")
        read = []
        for item in items:
            if not isinstance(item, ScalarNode) or item.is_missing:
                raise findings.refuse(item.mark, f"{describe(item)}, expected {self.expected}")
            networks = _networks(item, findings, self.expected)
            read.append((Rule(True, item.text, item.text in ("all", "unix:")), networks))
        table = Access(read)
        for number in table.idle():
            if read[number][1] or read[number][0].is_for_unix:
                text = f"{quote(table.rules[number].text)} is redundant: earlier entries contain it"
                findings.warn(items[number].mark, text)
        return NetworkList(tuple(rule.text for rule, _ in read), table)

    def write(self, value: NetworkList) -> Plain:
        """Return a list, even of one."""
        return list(value.texts)


class AccessKind(Kind[AccessRules | None]):
    """A rule or a list of rules, or `off` for none."""

    expected = f"off, or a list of {RULE}"

    def read(self, node: Node, findings: Findings) -> AccessRules | None:
        """Return the rules; warn about those that no client reaches."""
        if isinstance(node, ScalarNode) and node.text == "off":
            return None
        items = node.items if isinstance(node, SequenceNode) else (node,)
        if not items:
            raise findings.refuse(node.mark, f"an empty list, expected {self.expected}")
        before = findings.failures
        rules, read = [], []
        for item in items:
            try:
                rule, networks = self._rule(item, findings)
            except RefusedError:
                continue
            rules.append(rule)
            text = rule.text or rule.file
            read.append((Rule(rule.is_allowed, text, text in ("all", "unix:")), networks))
        if findings.failures > before:
            raise RefusedError
        table = Access(read)
        for number in table.idle():
            if read[number][1] or read[number][0].is_for_unix:
                text = f'"{table.rules[number]}" never decides: earlier rules take all its clients'
                findings.warn(items[number].mark, text)
        return AccessRules(tuple(rules), table)

    def write(self, value: AccessRules | None) -> Plain:
        """Return the rules as configured, files by their absolute paths."""
        if value is None:
            return "off"
        rules: list[Plain] = []
        for rule in value.rules:
            networks: Plain = {"file": rule.file} if rule.file else rule.text
            rules.append({"allow" if rule.is_allowed else "deny": networks})
        return rules

    def _rule(self, node: Node, findings: Findings) -> tuple[AccessRule, Sequence[Network]]:
        if not isinstance(node, MappingNode) or len(node.pairs) != 1:
            what = describe(node)
            if isinstance(node, MappingNode):
                what = f"a mapping of {len(node.pairs)} keys"
                if all(name.text in ("allow", "deny") for name, _ in node.pairs) and node.pairs:
                    rules = "[{allow: ...}, {deny: ...}]"
                    raise findings.refuse(node.mark, f"{what}, expected a list of rules: {rules}")
            text = node.text if isinstance(node, ScalarNode) else ""
            word, *rest = text.split() or [""]
            if word.rstrip(":") in ("allow", "deny") and len(rest) == 1:
                meant = f"{{{word.rstrip(':')}: {rest[0].rstrip(';')}}}"
                raise findings.refuse(node.mark, f"{what}, expected {meant}")
            raise findings.refuse(node.mark, f"{what}, expected {RULE}")
        (name, value), *_ = node.pairs
        if name.text not in ("allow", "deny"):
            hint = did_you_mean(closest(name.text, ("allow", "deny")))
            text = f"unknown key {quote(name.text)}{hint}, expected {RULE}"
            raise findings.refuse(name.mark, text)
        is_allowed = name.text == "allow"
        if isinstance(value, MappingNode):
            path = _path(value, findings)
            networks, digest = _read_file(path, value.mark, findings)
            return AccessRule(is_allowed, file=path, digest=digest), networks
        if not isinstance(value, ScalarNode) or value.is_missing:
            raise findings.refuse(value.mark, f"{describe(value)}, expected {NETWORK}")
        return AccessRule(is_allowed, value.text), _networks(value, findings, NETWORK)


def _networks(node: ScalarNode, findings: Findings, expected: str) -> Sequence[Network]:
    """Return the networks that a word or a network stands for."""
    if node.text == "all":
        return ALL
    if node.text == "unix:":
        return ()
    try:
        return (parse_network(node.text),)
    except InvalidValueError as error:
        hint = did_you_mean(error.hint or closest(node.text, ("all", "unix:")))
        text = f"{quote(node.text)} {error.clause}, expected {expected}{hint}"
        raise findings.refuse(node.mark, text) from None


def _path(node: MappingNode, findings: Findings) -> str:
    """Return the path in {file: PATH}."""
    (name, value), *others = node.pairs or ((ScalarNode(""), node),)
    if name.text != "file" or others:
        raise findings.refuse(node.mark, f"{describe(node)}, expected {{file: PATH}}")
    with_key = Findings()
    try:
        return FilePath().read(value, with_key)
    except RefusedError:
        raise findings.refuse(value.mark, f"file: {with_key.problems[0].text}") from None


def _read_file(path: str, mark: Mark, findings: Findings) -> tuple[Sequence[Network], bytes]:
    """Return the networks of a file, one a line, and the digest of its bytes."""
    lines, digest = read_lines(path, mark, findings)
    networks, wrong = parse_networks(lines)
    for bad in wrong[:BAD_LINES_MAX]:
        expected = "expected a network such as 10.0.0.0/8 or an address"
        text = f"{quote(bad.text)} {bad.error.clause}, {expected}{did_you_mean(bad.error.hint)}"
        findings.report(Mark(path, bad.number, 1), text)
    if len(wrong) > BAD_LINES_MAX:
        more = f"{len(wrong) - BAD_LINES_MAX} more lines of {quote_path(path)} are not networks"
        findings.report(mark, more)
    if not networks and not wrong:
        findings.warn(mark, f"{quote_path(path)} has no network, so its rule never applies")
    return networks, digest


def read_lines(path: str, mark: Mark, findings: Findings) -> tuple[list[str], bytes]:
    """Return the lines of a file of networks that `mark` names, and the digest of its bytes."""
    try:
        if not os.path.isfile(path) and os.path.exists(path):
            raise findings.refuse(mark, f"{quote_path(path)} is not a file, expected a file")
        with open(path, "rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        text = f"{quote_path(path)} cannot be read: {error.strerror}"
        raise findings.refuse(mark, text) from None
    if len(data) > FILE_MAX_BYTES:
        raise findings.refuse(mark, f"{quote_path(path)} is larger than 64m, expected networks")
    return data.decode("utf-8", "replace").splitlines(), hashlib.sha256(data).digest()
