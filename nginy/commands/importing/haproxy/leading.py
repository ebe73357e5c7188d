"""How a listener leads to its backends: timeouts, retries, source address, TLS, keepalive.

These are keys of nginy's listeners, and HAProxy has them in its backends. The first backend, which
is the default one, decides; the report names those of others that differ.

In HAProxy, traffic of either side resets the idle timers of client and server, so the shorter one
becomes nginy's `proxy_timeout`; `timeout tunnel` replaces both.

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nginy.commands.importing.haproxy.checks import time_of
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.servers import Server
from nginy.commands.importing.haproxy.values import number, parse_place, written
from nginy.commands.importing.haproxy.world import Back, World
from nginy.commands.importing.model import Block, Value
from nginy.config.node import quote
from nginy.errors import InvalidValueError

RETRIES: Final = 3
"""How often HAProxy tries again by default."""
AGAIN: Final = "nginy does not try a backend again: HAProxy does, after a second"


class Leading:
    """Writes the settings of a listener that apply to all its backends."""

    def __init__(self, front: Proxy, backs: Sequence[Back], world: World) -> None:
        self.front = front
        self.backs = backs
        self.world = world
        self.ledger = world.ledger
        self.first = backs[0].proxy if backs else front

    def write(self, listener: Block) -> None:
        """Write the keys into a listener."""
        self._timeouts(listener)
        if self.backs:
            self._retries(listener)
            self._source(listener)
            self._tls(listener)
        option = self.first.get("option srvtcpka") or self.first.get("option tcpka")
        if option is not None:
            listener.set("proxy_socket_keepalive", "on")
            self.ledger.exact(option, listener, "proxy_socket_keepalive")

    def _timeouts(self, listener: Block) -> None:
        """Write timeouts; those that HAProxy does not have are off."""
        front, back = self.front, self.first
        for key, lines in (
            ("proxy_connect_timeout", [back.get("timeout connect")]),
            ("proxy_timeout", [front.get("timeout client"), back.get("timeout server")]),
            ("proxy_half_close_timeout", _fins(front, back)),
        ):
            self._time(listener, key, lines)
        tunnel = back.get("timeout tunnel")
        if time_of(tunnel):
            self._time(listener, "proxy_timeout", [tunnel])
        for keyword in ("timeout connect", "timeout server", "timeout tunnel"):
            self._judge_others(keyword, partial(_time_text, keyword))

    def _time(self, listener: Block, key: str, lines: Sequence[Line | None]) -> None:
        """Write the shortest of several timeouts, of those that are set."""
        times = [time_of(line) for line in lines if time_of(line)]
        listener.set(key, written(min(times, default=0)))
        for line in lines:
            self.ledger.exact(line, listener, key)

    def _judge_others(
        self, keyword: str, value: Callable[[Proxy], str], least_servers: int = 1
    ) -> None:
        """Judge backends with at least so many servers whose value differs from the first one's."""
        wanted = value(self.first)
        for back in self.backs[1:]:
            if len(back.servers) < least_servers:
                continue
            line = back.proxy.get(keyword)
            if value(back.proxy) != wanted:
                text = f"for clients of {self.front.name}, {keyword} of {self.first.name} applies"
                self.ledger.close(line or back.proxy.section.head, text)

    def _retries(self, listener: Block) -> None:
        """Write whether nginy tries another backend."""
        for back in self.backs:
            self._judge_retries(back)
        line = self.first.get("retries")
        tries = _retries(line) + 1
        others = [server for back in self.backs for server in back.servers if not server.is_off]
        if len(others) <= len(self.backs):
            return  # there is no other one to try
        if self.first.get("option redispatch") is None or tries == 1:
            listener.set("proxy_next_upstream", "off")
        elif len(self.backs[0].servers) > tries:
            listener.set("proxy_next_upstream", Block({"tries": str(tries)}))
        self.ledger.place(line, listener, "proxy_next_upstream")
        option = self.first.get("option redispatch")
        self.ledger.place(option, listener, "proxy_next_upstream")
        self._judge_others(
            "option redispatch",
            lambda proxy: str(proxy.get("option redispatch") is None),
            least_servers=2,
        )

    def _judge_retries(self, back: Back) -> None:
        """Judge `retries` and `option redispatch` of a backend, if it has several servers."""
        line, option = back.proxy.get("retries"), back.proxy.get("option redispatch")
        algorithm = back.proxy.get("balance")
        is_round = algorithm is None or algorithm.word(1) in ("roundrobin", "static-rr")
        self.ledger.exact(option)
        if option is not None and len(back.servers) > 1 and (not is_round or len(option.bare) > 2):
            self.ledger.close(option, "nginy tries the other backends at once, one after another")
        if line is not None and _retries(line):
            self.ledger.close(line, AGAIN)

    def _source(self, listener: Block) -> None:
        """Write from which address nginy connects."""
        lines = [(back.proxy.get("source"), back) for back in self.backs]
        values = [self._own_source(back) or _words(line) for line, back in lines]
        value = values[0]
        if value:
            self._bind(listener, value, self.first.get("source") or self.first.section.head)
        for (line, back), other in zip(lines, values, strict=True):
            if other != value:
                text = f"for clients of {self.front.name}, source of {self.first.name} applies"
                self.ledger.close(line or back.proxy.section.head, text)

    def _own_source(self, back: Back) -> tuple[str, ...]:
        """Return the source that the servers of a backend have, if they agree."""
        found = [server.options["source"] for server in back.servers if server.has("source")]
        if not found:
            return ()
        option, line = found[0]
        if len(found) < len(back.servers) or any(o.values != option.values for o, _ in found):
            self.ledger.close(
                line, f"source {option.value} applies to every backend of the listener"
            )
        return option.values

    def _bind(self, listener: Block, words: Sequence[str], line: Line) -> None:
        """Write proxy_bind."""
        try:
            host = parse_place(words[0]).host_text
        except InvalidValueError as error:
            self.ledger.left_out(line, f"source {quote(words[0])} {error.clause}")
            return
        value: Value = host if host not in ("", "0.0.0.0", "[::]") else ""
        if "usesrc" in words[:-1]:
            who = words[list(words).index("usesrc") + 1]
            text = {"clientip": "$remote_addr", "client": "[$remote_addr]:$remote_port"}.get(who)
            if text is None:
                self.ledger.left_out(line, f"source: nginy has no usesrc {who}")
                return
            value = Block({"address": text, "transparent": "on"})
        if "interface" in words:
            self.ledger.left_out(line, "source: nginy binds to addresses, not to interfaces")
        if value:
            listener.set("proxy_bind", value)
        self.ledger.exact(line, listener, "proxy_bind")

    def _tls(self, listener: Block) -> None:
        """Write proxy_tls, which holds for all backends of a listener."""
        servers = [server for back in self.backs for server in back.servers]
        blocks = [self.world.tls.backends(server) for server in servers]
        first = blocks[0]
        if first is not None:
            listener.set("proxy_tls", first if first.values else "on")
        for server, block in zip(servers, blocks, strict=True):
            if _plain(block) != _plain(first):
                text = f"ssl: for clients of {self.front.name}, that of {servers[0].name} applies"
                self._judge_tls(server, text, is_plain=(block is None) != (first is None))

    def _judge_tls(self, server: Server, text: str, *, is_plain: bool) -> None:
        if is_plain:
            self.ledger.left_out(server.line, f"{text}, so nginy cannot talk to this one")
        else:
            self.ledger.close(server.line, text)


def _time_text(keyword: str, proxy: Proxy) -> str:
    return str(time_of(proxy.get(keyword)))


def _fins(front: Proxy, back: Proxy) -> list[Line | None]:
    return [front.get("timeout client-fin"), back.get("timeout server-fin")]


def _retries(line: Line | None) -> int:
    if line is None:
        return RETRIES
    try:
        return number(line.word(1))
    except InvalidValueError:
        return RETRIES


def _words(line: Line | None) -> tuple[str, ...]:
    return line.words[1:] if line is not None else ()


def _plain(block: Block | None) -> object:
    return None if block is None else dict(block.values)
