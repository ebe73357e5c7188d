"""The global section, and resolvers.

Source: HAProxy's configuration manual, 3 "Global section", 5.3.2 "The resolvers section".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Callable, Mapping
from typing import Final

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.sections import Line, Parsed
from nginy.commands.importing.haproxy.table_global import GLOBAL, RESOLVERS, TUNES
from nginy.commands.importing.haproxy.tls import TlsDefaults, default_options
from nginy.commands.importing.haproxy.values import (
    HostOrPath,
    duration,
    number,
    parse_place,
    time_ms,
    written,
)
from nginy.commands.importing.haproxy.world import Settings
from nginy.commands.importing.model import Block, Value, one_or_list, refuse
from nginy.commands.importing.report import Fate
from nginy.config.node import quote
from nginy.errors import InvalidValueError

WORKERS_MAX: Final = 512


class GlobalReader:
    """Reads all global sections."""

    def __init__(self, top: Block, ledger: Ledger) -> None:
        self.top = top
        self.ledger = ledger
        self.settings = Settings()
        self.lines: dict[str, Line] = {}
        self.logs: list[Line] = []

    def read(self, parsed: Parsed) -> Settings:
        """Write the keys at the top, and return what applies to proxies."""
        for section in parsed.of("global"):
            self.ledger.exact(section.head, self.top)
            for line in section.lines:
                self._take(line)
        self.settings.tls = self._tls()
        self.settings.logs = tuple(self.logs)
        self._resolvers(parsed)
        return self.settings

    def _take(self, line: Line) -> None:
        word = line.bare[0]
        row = GLOBAL.get(word)
        if row is None:
            self.ledger.left_out(line, TUNES)
            return
        self.lines[word] = line
        self.ledger.place(line, self.top)
        if not row.is_read:
            self.ledger.judge(line, row.fate, row.text)
            return
        write = _WRITERS.get(word)
        try:
            if write is not None:
                write(self, line)
            if not self.ledger.is_judged(line):
                self.ledger.judge(line, row.fate if word != "log" else Fate.EXACT, row.text)
        except InvalidValueError as error:
            text = f"{word} {quote(line.word(1))} {error.clause}"
            raise refuse(line.file, line.number, text) from None

    def connections(self, line: Line) -> None:
        """Write worker_connections, which counts both sides of a session."""
        sessions = number(line.word(1), 1, 10**8)
        self.settings.max_sessions = sessions
        self.top.set("worker_connections", str(2 * sessions))
        self.ledger.place(line, self.top, "worker_connections")
        self.ledger.close(line, "beyond it nginy refuses clients; in HAProxy they wait")

    def workers(self, line: Line) -> None:
        """Write workers."""
        count = min(number(line.word(1), 1, 4096), WORKERS_MAX)
        self.top.set("workers", str(count))
        self.ledger.place(line, self.top, "workers")
        text = "processes instead of threads: each has its own turns and counts limits on its own"
        self.ledger.close(line, text)

    def user(self, line: Line) -> None:
        """Write user."""
        self.top.set("user", line.word(1))

    def pid(self, line: Line) -> None:
        """Write pid."""
        self.top.set("pid", line.word(1))

    def stop(self, line: Line) -> None:
        """Write how long a graceful stop may take."""
        self.top.set("worker_shutdown_timeout", duration(line.word(1)))

    def spread(self, line: Line) -> None:
        """Note how far checks are spread."""
        self.settings.spread_percent = number(line.word(1), 0, 50)

    def log(self, line: Line) -> None:
        """Note where proxies with `log global` log to."""
        self.logs.append(line)

    def method(self, line: Line) -> None:
        """Write how nginy waits for events."""
        self.top.set("event_method", "poll" if "nopoll" not in self.lines else "select")
        del line

    def _tls(self) -> TlsDefaults:
        """Return the settings for TLS everywhere."""

        def word(name: str) -> str:
            return self.lines[name].word(1) if name in self.lines else ""

        line = self.lines.get("ssl-default-bind-options")
        bind = default_options(line, is_bind=True, ledger=self.ledger) if line else ()
        line = self.lines.get("ssl-default-server-options")
        server = default_options(line, is_bind=False, ledger=self.ledger) if line else ()
        return TlsDefaults(
            bind,
            server,
            word("ssl-default-bind-ciphers"),
            word("ssl-default-server-ciphers"),
            word("crt-base"),
            word("key-base"),
            word("ca-base"),
            word("ssl-server-verify") != "none",
        )

    def _resolvers(self, parsed: Parsed) -> None:
        """Write the resolver: that of the first section."""
        for index, section in enumerate(parsed.of("resolvers")):
            self.ledger.exact(section.head)
            block = Block()
            servers: list[Value] = []
            for line in section.lines:
                self.ledger.place(line, self.top)
                row = RESOLVERS.get(line.bare[0])
                if row is None:
                    self.ledger.left_out(line, "is not known")
                    continue
                self.ledger.judge(line, row.fate, row.text)
                _resolver(line, block, servers)
            if index:
                text = "nginy has one resolver, that of the first section"
                self.ledger.left_out(section.head, text)
                continue
            if servers:
                block.set("nameservers", one_or_list(servers))
            if block.values:
                self.top.set("resolver", block)
                self.ledger.place(section.head, self.top, "resolver")


def _resolver(line: Line, block: Block, servers: list[Value]) -> None:
    """Write one line of a resolvers section."""
    try:
        if line.word(0) == "nameserver":
            place = parse_place(line.word(2))
            _check_ip(place)
            port = f":{place.port}" if place.port not in ("", "53") else ""
            servers.append(f"{place.host_text}{port}" if port else place.host)
        elif line.words[:2] == ("timeout", "resolve"):
            block.set("timeout", duration(line.word(2)))
        elif line.words[:2] == ("hold", "valid"):
            seconds = max(1000, -(-time_ms(line.word(2)) // 1000) * 1000)
            block.set("valid", written(seconds))
        elif line.words[:2] == ("hold", "nx") and time_ms(line.word(2)):
            block.set("hold", duration(line.word(2)))
    except InvalidValueError as error:
        text = f"{line.word(0)} {quote(line.word(2))} {error.clause}"
        raise refuse(line.file, line.number, text) from None


def _check_ip(place: HostOrPath) -> None:
    if place.is_name or place.path or not place.host:
        raise InvalidValueError("is not an IP address")


_WRITERS: Final[Mapping[str, Callable[[GlobalReader, Line], None]]] = {
    "hard-stop-after": GlobalReader.stop,
    "log": GlobalReader.log,
    "maxconn": GlobalReader.connections,
    "nbproc": GlobalReader.workers,
    "nbthread": GlobalReader.workers,
    "noepoll": GlobalReader.method,
    "nopoll": GlobalReader.method,
    "pidfile": GlobalReader.pid,
    "spread-checks": GlobalReader.spread,
    "user": GlobalReader.user,
}
