"""Health checks: `check` of servers, and what `option ...-check` asks, as `health_check`.

HAProxy checks each server as its line says; nginy has one check for an upstream. The result has
HAProxy's defaults: a check every 2 s, which may take as long.

Not here: the rules of tcp-check (scripts.py) and of http-check (http_checks.py).

Source: HAProxy's configuration manual, 5.2 "check", "inter", "agent-check"; "timeout check";
"option httpchk" and the others.

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nginy.commands.importing.haproxy.acls import escaped
from nginy.commands.importing.haproxy.http_checks import http_check
from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.scripts import script
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.servers import Server, agreed
from nginy.commands.importing.haproxy.values import number, time_ms, written
from nginy.commands.importing.model import Block, refuse
from nginy.config.node import quote
from nginy.errors import InvalidValueError

INTER_MS: Final = 2000
"""How often HAProxy checks by default."""
KINDS: Final = (
    *("option tcp-check", "option httpchk", "option smtpchk", "option mysql-check"),
    *("option pgsql-check", "option redis-check", "option ldap-check", "option ssl-hello-chk"),
    *("option external-check", "option spop-check"),
)


class CheckReader:
    """Reads the checks of one proxy."""

    def __init__(self, proxy: Proxy, servers: Sequence[Server], ledger: Ledger) -> None:
        self.proxy = proxy
        self.servers = [server for server in servers if not server.has("disabled")]
        self.ledger = ledger
        self.checked = [server for server in self.servers if server.has("check")]

    def read(self, upstream: Block, spread_percent: int) -> None:
        """Write health_check and agent_check of an upstream."""
        self._agent(upstream)
        self._failures(upstream)
        if not self.checked:
            return
        for server in self.servers:
            if not server.has("check", "track"):
                text = "nginy checks this backend, too; HAProxy assumes that it is up"
                self.ledger.close(server.line, text)
        health = Block()
        self._kind(health)
        self._times(health, spread_percent)
        self._numbers(health)
        upstream.set("health_check", health)

    def _kind(self, health: Block) -> None:
        """Write what a check asks."""
        line = self._asked()
        is_tls = self._is_tls()
        if line is None:
            if is_tls:
                self._tls(health, "tls")
            return
        self.ledger.place(line, health)
        keyword = " ".join(line.bare[:2])
        if keyword == "option httpchk":
            http_check(self.proxy, line, health, self.ledger)
            if is_tls:
                self._tls(health, "https")
            return
        if keyword == "option tcp-check":
            script(self.proxy, health, self.ledger)
            if is_tls:
                self._tls(health, "tls")
            return
        _KINDS[keyword](self, line, health)

    def _asked(self) -> Line | None:
        """Return the option that says what a check asks: the last one."""
        found = None
        for line in self.proxy.lines:
            keyword = self.proxy.keyword.get(line)
            if keyword in KINDS:
                found = None if line.is_off and found is not None else line
        return None if found is None or found.is_off else found

    def _is_tls(self) -> bool:
        """Whether checks need a TLS of their own, as sessions have none."""
        first = self.checked[0]
        return first.has("check-ssl") and not first.has("ssl")

    def _tls(self, health: Block, kind: str) -> None:
        first = self.checked[0]
        health.set("type", kind)
        is_verifying = first.value("verify") != "none"
        if not is_verifying:
            health.set("verify", "off")
        name = first.value("check-sni")
        if name:
            health.set("name", name)
        if is_verifying:
            health.set("verify", "on")
            if first.value("ca-file").startswith("/"):
                health.set("ca", first.value("ca-file"))

    def _times(self, health: Block, spread_percent: int) -> None:
        """Write how often nginy checks, and how long a check may take."""
        every_ms = self._time("inter") or INTER_MS
        shortest_ms = every_ms
        health.set("interval", written(every_ms))
        for name, key in (("downinter", "interval_down"), ("fastinter", "interval_changing")):
            other_ms = self._time(name)
            if other_ms:
                health.set(key, written(other_ms))
                shortest_ms = min(shortest_ms, other_ms)
        line, connect = self.proxy.get("timeout check"), self.proxy.get("timeout connect")
        longest_ms = every_ms
        if line is not None and time_of(line):
            connect_ms = time_of(connect) or every_ms
            longest_ms = min(connect_ms, every_ms) + time_of(line)
        self.ledger.exact(line, health, "timeout")
        health.set("timeout", written(min(longest_ms, shortest_ms)))
        if spread_percent:
            jitter_ms = min(every_ms * spread_percent // 100, shortest_ms - 1)
            if jitter_ms > 0:
                health.set("jitter", written(jitter_ms))

    def _time(self, name: str) -> int:
        text = agreed(self.checked, name, self.ledger)
        line = self.checked[0].origin(name)
        return _read(line, name, text, time_ms) if text else 0

    def _numbers(self, health: Block) -> None:
        for name, key in (("fall", "fails"), ("rise", "passes")):
            text = agreed(self.checked, name, self.ledger)
            if text:
                health.set(key, str(_read(self.checked[0].origin(name), name, text, _positive)))
        port = agreed(self.checked, "port", self.ledger)
        if port and "port" not in health.values:
            line = self.checked[0].origin("port")
            health.set("port", str(_read(line, "port", port, _port)))
        state = agreed(self.checked, "init-state", self.ledger)
        if state in ("down", "fully-down"):
            health.set("initial", "down")
            if state == "fully-down":
                return
        if state == "fully-up":
            text = "init-state: the first failed check takes a backend down"
            self.ledger.close(self.checked[0].origin("init-state"), text)

    def _agent(self, upstream: Block) -> None:
        """Write agent_check."""
        asked = [server for server in self.servers if server.has("agent-check")]
        if not asked:
            return
        port = agreed(asked, "agent-port", self.ledger)
        line = asked[0].origin("agent-check")
        if not port:
            self.ledger.left_out(line, "agent-check: has no agent-port, and does nothing")
            return
        block = Block({"port": str(_read(line, "agent-port", port, _port))})
        every = agreed(asked, "agent-inter", self.ledger)
        every_ms = _read(line, "agent-inter", every, time_ms) if every else INTER_MS
        block.set("interval", written(every_ms))
        block.set("timeout", written(every_ms))
        text = agreed(asked, "agent-send", self.ledger)
        if text:
            block.set("send", escaped(text))
        for server in self.servers:
            if server not in asked:
                self.ledger.close(server.line, "nginy asks the agent of this backend, too")
        upstream.set("agent_check", block)

    def _failures(self, upstream: Block) -> None:
        """Write what failed sessions do: nothing in HAProxy, unless `observe` is set."""
        others = [server for server in self.servers if not server.is_backup]
        # Where the next backend is tried and checks find out, clients do not notice.
        is_silent = self.proxy.get("option redispatch") is not None
        for server in self.servers:
            if server.value("observe") == "layer4":
                server.block.set("max_fails", server.value("error-limit") or "10")
            elif len(others) > 1 and not server.is_off and not (is_silent and server.has("check")):
                server.block.set("max_fails", "0")
        action = agreed(self.servers, "on-marked-down", self.ledger)
        if action == "shutdown-sessions":
            upstream.set("on_down", "close")

    # One method for each kind of check; `_KINDS` has them by their option.

    def _simple(self, kind: str) -> Callable[[Line, Block], None]:
        def write(line: Line, health: Block) -> None:
            health.set("type", kind)
            self.ledger.exact(line)

        return write

    def named(self, line: Line, health: Block) -> None:
        """Write a check that has a type of its own name."""
        kinds = {"redis-check": "redis", "ldap-check": "ldap"}
        self._simple(kinds[line.bare[1]])(line, health)

    def mail(self, line: Line, health: Block) -> None:
        """Write a check of SMTP."""
        self._simple("smtp")(line, health)
        if len(line.words) > 2:
            self.ledger.close(line, "nginy greets with EHLO and the name of its host")

    def database(self, line: Line, health: Block) -> None:
        """Write a check of MySQL or PostgreSQL."""
        is_mysql = line.bare[1] == "mysql-check"
        self._simple("mysql" if is_mysql else "postgres")(line, health)
        words = line.bare[2:]
        if len(words) > 1 and words[0] == "user":
            health.set("user", words[1])
        if words[2:3] == ("pre-41",):
            self.ledger.close(line, "nginy speaks the protocol of MySQL 4.1 and later")
        if not is_mysql:
            text = "if the server asks for no password, the database must exist, too"
            self.ledger.close(line, text)

    def hello(self, line: Line, health: Block) -> None:
        """Write a check of TLS."""
        health.set("type", "tls")
        health.set("verify", "off")
        self.ledger.close(line, "a whole TLS 1.2 or 1.3 handshake instead of an SSLv3 hello")

    def program(self, line: Line, health: Block) -> None:
        """Write a check by a program."""
        command = self.proxy.get("external-check command")
        if command is None or not command.word(2).startswith("/"):
            text = "names no program with an absolute path; the check only connects"
            self.ledger.left_out(line, text)
            self.ledger.left_out(command, text)
            return
        health.set("type", "exec")
        path = command.word(2)
        health.set("command", [path] if " " in path else path)
        self.ledger.exact(line)
        self.ledger.place(command, health, "command")
        text = "the program finds the address in NGINY_HOST and NGINY_PORT, not in its arguments"
        self.ledger.close(command, text)

    def unknown(self, line: Line, health: Block) -> None:
        """Judge a check that nginy does not have."""
        del health
        self.ledger.left_out(line, "nginy has no SPOE; the check only connects")


_KINDS: Final[Mapping[str, Callable[[CheckReader, Line, Block], None]]] = {
    "option redis-check": CheckReader.named,
    "option ldap-check": CheckReader.named,
    "option smtpchk": CheckReader.mail,
    "option mysql-check": CheckReader.database,
    "option pgsql-check": CheckReader.database,
    "option ssl-hello-chk": CheckReader.hello,
    "option external-check": CheckReader.program,
    "option spop-check": CheckReader.unknown,
}


def time_of(line: Line | None) -> int:
    """Return the milliseconds of a `timeout` line; 0 for never. Raise ConfigError."""
    if line is None:
        return 0
    text = line.bare[2] if len(line.bare) > 2 else ""
    return _read(line, " ".join(line.bare[:2]), text, time_ms)


def _read(line: Line, name: str, text: str, make: Callable[[str], int]) -> int:
    try:
        return make(text)
    except InvalidValueError as error:
        raise refuse(line.file, line.number, f"{name} {quote(text)} {error.clause}") from None


def _positive(text: str) -> int:
    return number(text, 1)


def _port(text: str) -> int:
    return number(text, 1, 65535)
