"""A frontend, or the front of a `listen` section, as listeners.

In HAProxy timeouts towards servers, retries and TLS belong to the backend; in nginy they belong to
the listener. So a listener has those of its default backend, and the report says where another
backend of it has different ones.

Not here: access rules, limits and routes (routes.py), addresses (binds.py).

Source: HAProxy's configuration manual, "timeout client", "timeout tunnel", "retries", "source".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import copy
from typing import Final

from nginy.commands.importing.haproxy.acls import Conditions
from nginy.commands.importing.haproxy.binds import Bind, proxies, read_binds
from nginy.commands.importing.haproxy.formula import ALWAYS, Formula
from nginy.commands.importing.haproxy.leading import Leading
from nginy.commands.importing.haproxy.logs import LogReader
from nginy.commands.importing.haproxy.maps import lookup
from nginy.commands.importing.haproxy.routes import RuleReader, Ways
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.values import duration, in_seconds, number, time_ms
from nginy.commands.importing.haproxy.world import Back, World
from nginy.commands.importing.model import Block, Value, absolute, one_or_list, refuse
from nginy.config.node import closest, did_you_mean, quote
from nginy.errors import InvalidValueError

REFUSES: Final = "nginy refuses further clients (503); in HAProxy they wait in the system's queue"
NO_DELAY: Final = "HAProxy decides at once, often before the first bytes; nginy waits for them"
KEYS: Final = (
    *("name", "listen", "backlog", "freebind", "so_keepalive", "accept_proxy_protocol", "access"),
    *("limit_conn", "limit_conn_rate", "tls", "preread", "routes", "proxy_pass"),
    *("proxy_connect_timeout", "proxy_timeout", "proxy_half_close_timeout"),
    *("proxy_next_upstream", "proxy_bind", "proxy_socket_keepalive", "proxy_tls", "access_log"),
)


class FrontReader:
    """Reads one frontend."""

    def __init__(self, front: Proxy, world: World, logs: LogReader) -> None:
        self.front = front
        self.world = world
        self.ledger = world.ledger
        self.logs = logs
        self.conditions = Conditions(
            front.all("acl"), world.files, lambda path: absolute(path, world.files)
        )
        self.rules = RuleReader(self.conditions, world.variables, world.ledger, self._period)
        self.backs: list[Back] = []
        """The backends that clients can reach, the default one first."""

    def read(self) -> None:
        """Add the listeners to the document."""
        binds = read_binds(self.front, self.ledger)
        if not binds:
            text = "has no address that nginy can listen on"
            self.ledger.left_out(self.front.section.head, text)
            return
        self.rules.connection(self.front, is_announced=proxies(binds) or self._expects())
        self.rules.contents(self.front)
        target = self._default()
        self._use_backends()
        self._default_contents(target)
        self._acls()
        for index, bind in enumerate(binds):
            listener = self._listener(bind, index, len(binds), target)
            order = [key for key in KEYS if key in listener.values]
            listener.values = {key: listener.values[key] for key in order}
            self.world.document.listeners.append(listener)

    def _expects(self) -> bool:
        lines = self.front.all("tcp-request connection")
        return any(line.word(2) == "expect-proxy" for line in lines)

    # Where clients go.

    def _default(self) -> str:
        """Return the name of the default upstream; "" if there is none."""
        line = self.front.get("default_backend")
        name = line.word(1) if line is not None else ""
        if line is None and self.front.is_back:
            name = self.front.name
        self.ledger.exact(line)
        back = self._back(name, line) if name else None
        return name if back is not None else ""

    def _back(self, name: str, line: Line | None) -> Back | None:
        """Return a backend that clients can reach, and note it; judge it and return None if not."""
        back = self.world.backs.get(name)
        if back is None and name not in self.world.others and line is not None:
            hint = did_you_mean(closest(name, self.world.backs))
            text = f"there is no backend {quote(name)}{hint}"
            raise refuse(line.file, line.number, f"{line.word(0)}: {text}")
        if back is None:
            text = f"{name} is not in mode tcp; nginy turns its clients away"
            self.ledger.left_out(line, text)
            return None
        if back.upstream is None:
            return None
        if back not in self.backs:
            self.backs.append(back)
        return back

    def _use_backends(self) -> None:
        """Make routes of use_backend."""
        for line in self.front.all("use_backend"):
            name = line.word(1)
            back = self._back(name, line) if "%" not in name else None
            try:
                formula = self.conditions.of(line.words[2:])
                if "%" in name:
                    self._dynamic(line, formula)
                    continue
                if back is None:
                    self.rules.route(formula, line, "deny", "on")
                    self.ledger.exact(line)
                    continue
                self.rules.contents(back.proxy, formula)
                self.rules.route(formula, line, "proxy_pass", name)
                self.ledger.exact(line)
                self._judge_wait(formula, line)
            except InvalidValueError as error:
                text = f"it {error.clause}; its clients go where the next rules send them"
                self.ledger.left_out(line, text)

    def _dynamic(self, line: Line, formula: Formula) -> None:
        """Make a route of a name that is looked up in a map."""
        other = self.front.get("default_backend")
        default = other.word(1) if other is not None else self.front.name

        def choose(name: str) -> str:
            back = self.world.backs.get(name)
            is_known = back is not None and self._back(name, line) is not None
            return name if is_known else default

        back = self._back(default, other)
        if back is None:
            raise InvalidValueError("has no default_backend for names that the map lacks")
        block = lookup(line.word(1), self.conditions, choose, default)
        variable = self.world.variables.add("backend", block)
        self.rules.route(formula, line, "proxy_pass", variable)
        self.rules.ways.needs_bytes |= "map" in block.values
        self.ledger.exact(line)
        self._judge_wait(formula, line)

    def _judge_wait(self, formula: Formula, line: Line) -> None:
        del formula
        if self.rules.ways.needs_bytes and self._delay() is None:
            self.ledger.close(line, NO_DELAY)

    def _default_contents(self, target: str) -> None:
        """Make routes of the rules of the default backend; without one, turn clients away."""
        back = self.world.backs.get(target)
        if back is not None and back.proxy is not self.front:
            self.rules.contents(back.proxy)
        if not target:
            head = self.front.section.head
            self.rules.route(ALWAYS, head, "deny", "on")

    def _acls(self) -> None:
        """Judge ACLs: one that a rule could use has become part of that rule."""
        for line in self.front.all("acl"):
            try:
                self.conditions.test(line.words[2:])
                self.ledger.exact(line)
            except InvalidValueError as error:
                self.ledger.left_out(line, f"it {error.clause}")
            if self.rules.ways.routes:
                self.ledger.place(line, self.rules.ways.routes[0][0])

    # Listeners.

    def _listener(self, bind: Bind, index: int, count: int, target: str) -> Block:
        listener = Block()
        name = self.front.name if index == 0 else bind.value("name")
        listener.set("name", name or f"{self.front.name}_{index + 1}")
        listener.set("listen", one_or_list(bind.addresses))
        self.ledger.place(self.front.section.head, listener)
        for line in bind.lines:
            self.ledger.place(line, listener, "listen")
        self._socket(listener, bind)
        self._limits(listener, bind, count)
        self._ways(listener, index)
        if target:
            listener.set("proxy_pass", target)
        Leading(self.front, self.backs, self.world).write(listener)
        self._tls(listener, bind)
        self.logs.read(self.front, listener)
        return listener

    def _socket(self, listener: Block, bind: Bind) -> None:
        backlog = self.front.get("backlog")
        text = bind.value("backlog") or (backlog.word(1) if backlog is not None else "")
        if text and text != "0":
            listener.set("backlog", text)
            self.ledger.exact(backlog, listener, "backlog")
        if "transparent" in bind.options:
            listener.set("freebind", "on")
        if "accept-proxy" in bind.options or self.rules.ways.proxies is not None:
            self._announced(listener, bind)
        listener.set("so_keepalive", self._keepalive(listener))

    def _announced(self, listener: Block, bind: Bind) -> None:
        """Write which clients send PROXY headers."""
        block = Block()
        if "accept-proxy" in bind.options:
            has_unix = any(each.startswith("unix:") for each in bind.addresses)
            block.set("from", ["all", "unix:"] if has_unix else "all")
        else:
            block.set("from", one_or_list(self.rules.ways.proxies or ["all"]))
            block.set("others", "plain")
        line = self.front.get("timeout client-hs") or self.front.get("timeout client")
        if line is not None and self._time(line):
            block.set("timeout", duration(line.bare[2]))
        listener.set("accept_proxy_protocol", block)

    def _keepalive(self, listener: Block) -> Value:
        """Return so_keepalive: HAProxy sends no probes by default."""
        option = self.front.get("option clitcpka") or self.front.get("option tcpka")
        values = Block()
        for word, key in (("idle", "idle"), ("intvl", "interval"), ("cnt", "count")):
            line = self.front.get(f"clitcpka-{word}")
            if line is None:
                continue
            if option is not None:
                text = line.word(1)
                values.set(key, text if word == "cnt" else _seconds(line))
            self.ledger.exact(line, listener, "so_keepalive")
        self.ledger.exact(option, listener, "so_keepalive")
        if option is None:
            return "off"
        return values if values.values else "on"

    def _limits(self, listener: Block, bind: Bind, count: int) -> None:
        """Write limits of the frontend, of the address, and of clients."""
        conns: list[Value] = []
        line = self.front.get("maxconn")
        if line is not None and line.word(1) not in ("0", ""):
            block = Block({"key": "$listener", "max": _number(line, 1)})
            if count > 1:
                block = Block({"key": self.front.name, "max": _number(line, 1)})
                block.set("zone", self.front.name)
            conns.append(block)
            self.ledger.place(line, listener, "limit_conn")
            self.ledger.close(line, REFUSES)
        if bind.value("maxconn"):
            conns.append(Block({"key": "$server_addr", "max": bind.value("maxconn")}))
            self.ledger.close(bind.lines[0], f"maxconn: {REFUSES}")
        ways = self.rules.ways
        conns += [copy.deepcopy(block) for key, block in ways.limits if key == "limit_conn"]
        if conns:
            listener.set("limit_conn", one_or_list(conns))
        rates = [copy.deepcopy(block) for key, block in ways.limits if key == "limit_conn_rate"]
        line = self.front.get("rate-limit sessions")
        if line is not None and line.word(2) not in ("0", ""):
            rate = _number(line, 2)
            rates.append(Block({"key": "$listener", "rate": rate, "burst": rate}))
            self.ledger.place(line, listener, "limit_conn_rate")
            self.ledger.close(line, REFUSES)
        if rates:
            listener.set("limit_conn_rate", rates[0])
            if len(rates) > 1 and line is not None:
                self.ledger.left_out(line, "a listener has only one limit_conn_rate")

    def _ways(self, listener: Block, index: int) -> None:
        """Write access rules and routes."""
        ways: Ways = self.rules.ways if index == 0 else copy.deepcopy(self.rules.ways)
        if ways.access:
            listener.set("access", list[Value](ways.access))
        if ways.routes:
            listener.set("routes", list[Value](block for block, _ in ways.routes))
        delay = self._delay()
        if delay is None:
            return
        if not ways.needs_bytes:
            text = "no route needs the client's first bytes, so nginy connects at once"
            self.ledger.close(delay, text)
        elif self._time(delay):
            listener.set("preread", Block({"timeout": duration(delay.bare[2])}))
            self.ledger.exact(delay, listener, "preread")

    def _delay(self) -> Line | None:
        """Return how long to wait for the first bytes."""
        places = [self.front, *(back.proxy for back in self.backs)]
        found = (each.get("tcp-request inspect-delay") for each in places)
        return next((line for line in found if line is not None), None)

    def _tls(self, listener: Block, bind: Bind) -> None:
        """Write tls, and how long a handshake may take."""
        if "ssl" not in bind.options:
            return
        tls = self.world.tls.listener(bind.lines[0], bind.options)
        hello = self.front.get("timeout client-hs")
        line = hello or self.front.get("timeout client")
        if line is not None and self._time(line):
            tls.set("handshake_timeout", duration(line.bare[2]))
        self.ledger.exact(hello, tls, "handshake_timeout")
        if tls.values.keys() & {"certificate", "certificates"}:
            listener.set("tls", tls)

    def _time(self, line: Line) -> int:
        try:
            return time_ms(line.bare[2] if len(line.bare) > 2 else "")
        except InvalidValueError as error:
            text = f"{' '.join(line.bare[:2])} {quote(' '.join(line.bare[2:]))} {error.clause}"
            raise refuse(line.file, line.number, text) from None

    def _period(self, name: str) -> int:
        """Return the seconds in which a stick table counts connections."""
        line = self.world.tables.get(name or self.front.name)
        words = " ".join(line.words) if line is not None else ""
        _, found, rest = words.partition("conn_rate(")
        if not found:
            raise InvalidValueError("asks for a rate that no stick table counts")
        return max(1, time_ms(rest.partition(")")[0]) // 1000)


def _number(line: Line, index: int) -> str:
    try:
        return str(number(line.word(index), 1))
    except InvalidValueError as error:
        text = f"{line.word(0)} {quote(line.word(index))} {error.clause}"
        raise refuse(line.file, line.number, text) from None


def _seconds(line: Line) -> str:
    try:
        return in_seconds(line.word(1))
    except InvalidValueError as error:
        text = f"{line.word(0)} {quote(line.word(1))} {error.clause}"
        raise refuse(line.file, line.number, text) from None
