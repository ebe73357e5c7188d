"""`log`, `log-format` and the options about logs as `access_log`.

HAProxy's log goes to syslog over UDP or a local socket, to stdout or to stderr; nginy has no local
socket. Its line of a TCP session has other fields than `option tcplog`, unless `log-format` says
which.

Source: HAProxy's configuration manual, "log", 8.2 "Log formats".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Sequence
from typing import Final

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.values import parse_place
from nginy.commands.importing.haproxy.variables import Variables
from nginy.commands.importing.model import Block, Document, Value, one_or_list
from nginy.errors import InvalidValueError

SYSLOG_PORT: Final = "514"
OWN_LINE: Final = "the line of a session has nginy's fields"
ALIASES: Final = {
    "ci": "$remote_addr",
    "cp": "$remote_port",
    "fi": "$server_addr",
    "fp": "$server_port",
    "f": "$listener",
    "ft": "$listener",
    "B": "$bytes_sent",
    "U": "$bytes_received",
    "H": "$hostname",
    "ID": "$session_id",
    "T": "$time_local",
    "Tl": "$time_local",
    "t": "$time_local",
    "Ts": "$msec",
    "Tc": "$upstream_connect_time",
    "Tt": "$session_time",
    "Td": "$session_time",
    "ts": "$termination",
    "tsc": "$termination",
    "pid": "$pid",
    "si": "$upstream_addr",
    "s": "$upstream_addr",
    "sslc": "$ssl_cipher",
    "sslv": "$ssl_protocol",
}
"""Aliases of a log format that a variable of nginy's has."""
FETCHES: Final = {
    "src": "$remote_addr",
    "src_port": "$remote_port",
    "dst": "$server_addr",
    "dst_port": "$server_port",
    "ssl_fc_sni": "$ssl_server_name",
    "ssl_fc_protocol": "$ssl_protocol",
    "ssl_fc_cipher": "$ssl_cipher",
    "ssl_fc_alpn": "$ssl_alpn_protocol",
    "req.ssl_sni": "$ssl_preread_server_name",
    "pid": "$pid",
    "hostname": "$hostname",
}
_ITEM: Final = re.compile(r"%(?:\{[^}]*\})?(?:\[(?P<fetch>[^]]*)\]|(?P<alias>[A-Za-z]+|%))")


class LogReader:
    """Writes the logs of listeners."""

    def __init__(
        self, document: Document, variables: Variables, shared: Sequence[Line], ledger: Ledger
    ) -> None:
        """`shared` has the `log` lines of the global section."""
        self._document = document
        self._variables = variables
        self._shared = shared
        self._ledger = ledger
        self._formats: dict[str, str] = {}

    def read(self, front: Proxy, listener: Block) -> None:
        """Write access_log of a listener."""
        lines: list[Line] = []
        for line in front.all("log"):
            if line.word(1) == "global":
                self._ledger.exact(line)
                lines += self._shared
            else:
                lines.append(line)
        made: list[Value] = []
        for line in lines:
            block = self._log(line)
            if block is not None and block.values not in [
                b.values for b in made if isinstance(b, Block)
            ]:
                made.append(block)
                self._options(front, block)
                self._ledger.place(line, listener, "access_log")
        if made:
            listener.set("access_log", one_or_list(made))
        for keyword in ("option tcplog", "log-format"):
            text = OWN_LINE if made else "there is nowhere to log to"
            if front.get(keyword) is not None and keyword not in self._formats:
                self._ledger.close(front.get(keyword), text if keyword == "option tcplog" else "")

    def _log(self, line: Line) -> Block | None:
        """Return where a `log` line goes; None, judged, if nginy cannot."""
        target = line.word(1)
        if target in ("stdout", "stderr", "fd@1", "fd@2"):
            path = {"fd@1": "stdout", "fd@2": "stderr"}.get(target, target)
            self._ledger.close(line, OWN_LINE)
            return Block({"path": path})
        try:
            place = parse_place(target.removeprefix("udp@"))
        except InvalidValueError as error:
            self._ledger.left_out(
                line, f"{target} {error.clause}, so sessions are not logged there"
            )
            return None
        if place.path or not place.host:
            text = "nginy's syslog is UDP; expected access_log: syslog:127.0.0.1:514, or a file"
            self._ledger.left_out(line, text)
            return None
        self._ledger.close(line, OWN_LINE)
        if place.is_name:
            self._ledger.left_out(line, "nginy sends its log only to an IP address")
            return None
        return Block({"path": f"syslog:{place.host_text}:{place.port or SYSLOG_PORT}"})

    def _options(self, front: Proxy, block: Block) -> None:
        """Write the format and the conditions of a log."""
        line = front.get("log-format")
        if line is not None:
            block.set("format", self._format(front, line))
        empty, normal = front.get("option dontlognull"), front.get("option dontlog-normal")
        if empty is not None:
            block.set("empty", "off")
            self._ledger.exact(empty)
        if normal is not None:
            block.set("if", self._variables.abnormal())
            self._ledger.exact(normal)

    def _format(self, front: Proxy, line: Line) -> str:
        """Return the name of a format with the variables of a log-format."""
        missing: list[str] = []

        def replace(match: re.Match[str]) -> str:
            if match["alias"] == "%":
                return "%"
            found = ALIASES.get(match["alias"] or "") or FETCHES.get(match["fetch"] or "")
            if found is None:
                missing.append(match[0])
            return found or "-"

        text = _ITEM.sub(replace, " ".join(line.words[1:]).replace("$", ""))
        if missing:
            what = ", ".join(dict.fromkeys(missing))
            self._ledger.close(line, f"a dash stands for {what}, which nginy does not have")
        self._ledger.close(line, "times are in seconds")
        if text not in self._formats:
            name = re.sub(r"\W", "_", front.name) or "format"
            formats = self._document.top.values.setdefault("log_formats", Block())
            assert isinstance(formats, Block)
            while name in (*formats.values, "main", "json"):
                name += "_"
            formats.set(name, text)
            self._formats[text] = name
            self._ledger.place(line, formats, name)
        return self._formats[text]
