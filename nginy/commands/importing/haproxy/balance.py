"""`balance`, `hash-type` and `stick on` as `balance` of an upstream.

nginy hashes as nginx does, so a client of `balance source` always goes to the same backend, but not
to the one that HAProxy chooses. Where a method of nginy allows no backups, the result has
rendezvous hashing, which does.

Source: HAProxy's configuration manual, "balance", "hash-type", "hash-balance-factor", "stick on".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Sequence
from typing import Final

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.servers import Server
from nginy.commands.importing.haproxy.table import HTTP
from nginy.commands.importing.haproxy.values import number
from nginy.commands.importing.model import Block, Value, refuse
from nginy.config.node import quote
from nginy.errors import InvalidValueError

MOVED: Final = "each client keeps one backend, but not the same one as in HAProxy"
AS_ROUND: Final = "nginy uses round_robin instead"
OF_LOGS: Final = "is for mode log"
ABSENT: Final = {
    "first": "nginy does not fill one backend before the next",
    "rdp-cookie": "nginy does not read RDP cookies",
    **dict.fromkeys(("uri", "url_param", "hdr"), HTTP),
    **dict.fromkeys(("log-hash", "sticky"), OF_LOGS),
}
"""Algorithms without a counterpart, and why."""
KEYS: Final = {
    "src": "$remote_addr",
    "src_port": "$remote_port",
    "dst": "$server_addr",
    "dst_port": "$server_port",
}
"""Samples that are known when a session begins, and their variables."""


class BalanceReader:
    """Reads how a proxy chooses a server."""

    def __init__(self, proxy: Proxy, servers: Sequence[Server], ledger: Ledger) -> None:
        self.proxy = proxy
        self.ledger = ledger
        self.servers = servers
        self.has_backup = any(server.is_backup for server in servers)

    def read(self, upstream: Block) -> None:
        """Write balance of an upstream."""
        line = self.proxy.get("balance")
        self._hash_type(line)
        value = self._method(line) if line is not None else "round_robin"
        sticky = self._sticky(line)
        value = sticky if sticky is not None else value
        upstream.set("balance", value)
        self.ledger.place(line, upstream, "balance")
        self._slow_start(value)

    def _method(self, line: Line) -> Value:
        name, _, argument = line.word(1).partition("(")
        argument = argument.removesuffix(")")
        self.ledger.exact(line)
        if name in ("roundrobin", "static-rr"):
            self._weights(line)
            return "round_robin"
        if name == "leastconn":
            return "least_conn"
        if name == "source":
            return self._hash(line, "$remote_addr")
        if name == "hash":
            key = _key(" ".join(line.words[2:]))
            if key:
                return self._hash(line, key)
            self.ledger.left_out(line, f"nginy has no such hash key; {AS_ROUND}")
        elif name == "random":
            return self._random(line, argument)
        elif name in ABSENT:
            self.ledger.left_out(line, f"{ABSENT[name]}; {AS_ROUND}")
        else:
            text = f"balance {quote(line.word(1))}, expected roundrobin, leastconn, source, hash"
            raise refuse(line.file, line.number, f"{text} or random")
        return "round_robin"

    def _weights(self, line: Line) -> None:
        weights = {server.value("weight") or "1" for server in self.servers if not server.is_off}
        if len(weights) > 1:
            self.ledger.close(line, "the shares are the same, the order differs")

    def _random(self, line: Line, argument: str) -> Value:
        draws = argument or "2"
        if self.has_backup:
            self.ledger.close(line, "least_conn instead, because random allows no backups")
            return "least_conn"
        if draws not in ("1", "2"):
            self.ledger.close(line, f"nginy draws 2, not {draws}")
        return Block({"random": "two"}) if draws != "1" else "random"

    def _hash(self, line: Line, key: str) -> Value:
        """Return a hash by this key."""
        kind, factor = self._is_consistent(), self.proxy.get("hash-balance-factor")
        self.ledger.close(line, MOVED)
        if self.has_backup:
            self.ledger.close(line, "rendezvous, because nginy's other hashes allow no backups")
            return Block({"rendezvous": key})
        value = Block({"hash": key})
        if kind:
            value.set("consistent", "on")
        if factor is not None and kind and factor.word(1) != "0":
            value.set("bounded_load", _factor(factor))
            self.ledger.exact(factor)
        return value

    def _is_consistent(self) -> bool:
        line = self.proxy.get("hash-type")
        return line is not None and line.word(1) == "consistent"

    def _hash_type(self, balance: Line | None) -> None:
        line, factor = self.proxy.get("hash-type"), self.proxy.get("hash-balance-factor")
        is_hash = balance is not None and balance.word(1).partition("(")[0] in ("source", "hash")
        if line is not None and len(line.words) > 2:
            self.ledger.close(line, "nginy hashes with CRC32 only, as nginx does")
        self.ledger.exact(line)
        if factor is not None and factor.word(1) != "0" and not (is_hash and self._is_consistent()):
            self.ledger.left_out(factor, "nginy bounds the load only with consistent hashing")
        self.ledger.exact(factor)

    def _sticky(self, line: Line | None) -> "Value | None":
        """Return a hash in place of `stick on`; None if clients do not stick."""
        rules = self.proxy.all("stick on")
        for rule in rules:
            if rule.word(2) != "src" or "if" in rule.words or "unless" in rule.words:
                text = "nginy has no stick tables; balance alone distributes the clients"
                self.ledger.left_out(rule, text)
                continue
            text = "a hash, not a table: clients move when their backend comes or goes"
            self.ledger.close(rule, text)
            if self.has_backup:
                return Block({"rendezvous": "$remote_addr"})
            return Block({"hash": "$remote_addr", "consistent": "on"})
        return None

    def _slow_start(self, value: Value) -> None:
        """Drop slow_start where the table of a hash must not change."""
        is_hash = isinstance(value, Block) and "random" not in value.values
        for server in self.servers if is_hash else ():
            if server.block.values.pop("slow_start", None) is not None:
                text = "slowstart: hashing gives a recovered backend its clients at once"
                self.ledger.left_out(server.origin("slowstart"), text)


def _key(expression: str) -> str:
    """Return the text that nginy hashes; "" if a session does not begin with it."""
    return KEYS.get(re.sub(r"\s", "", expression).partition(",")[0], "")


def _factor(line: Line) -> str:
    """Return a percentage as a factor."""
    try:
        return f"{number(line.word(1), 100, 10_000) / 100:g}"
    except InvalidValueError as error:
        text = f"hash-balance-factor {quote(line.word(1))} {error.clause}"
        raise refuse(line.file, line.number, text) from None
