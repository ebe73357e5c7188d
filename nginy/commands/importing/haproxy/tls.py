"""`ssl` of bind lines as `tls`, and of servers as `proxy_tls`.

HAProxy takes a stream that ends without close_notify for complete, so `ragged_eof` is written out,
and `proxy_tls` verifies as HAProxy does.

Source: HAProxy's configuration manual, 5.1 and 5.2, "ssl-default-bind-options".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.options import BIND, SERVER, Option, parse_options
from nginy.commands.importing.haproxy.sections import Line
from nginy.commands.importing.haproxy.servers import Server
from nginy.commands.importing.model import Block, Files, Value, absolute, one_or_list
from nginy.errors import InvalidValueError

VERSIONS: Final = ("SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
MODERN: Final = VERSIONS[3:]
RESERVED: Final = (".key", ".issuer", ".ocsp", ".sctl")
FROM_CLIENT: Final = "proxy_tls has one name for all clients; nginy sends none"


@dataclass(frozen=True, slots=True)
class TlsDefaults:
    """What the global section says about TLS."""

    bind_options: tuple[Option, ...] = ()
    server_options: tuple[Option, ...] = ()
    bind_ciphers: str = ""
    server_ciphers: str = ""
    crt_base: str = ""
    key_base: str = ""
    ca_base: str = ""
    is_verifying: bool = True


def default_options(line: Line, *, is_bind: bool, ledger: Ledger) -> tuple[Option, ...]:
    """Return the options of ssl-default-bind-options and ssl-default-server-options."""
    try:
        found = tuple(parse_options(line.words[1:], BIND if is_bind else SERVER))
    except InvalidValueError as error:
        ledger.left_out(line, error.clause)
        return ()
    for option in found:
        row = (BIND if is_bind else SERVER).get(option.name)
        if row is None:
            ledger.left_out(line, f"{option.name} is not known")
        elif not row.is_read:
            ledger.judge(line, row.fate, f"{option.name}: {row.text}")
    ledger.exact(line)
    return found


class TlsReader:
    """Makes blocks from what a line says about TLS."""

    def __init__(self, defaults: TlsDefaults, files: Files, ledger: Ledger) -> None:
        self.defaults = defaults
        self._files = files
        self._ledger = ledger

    def listener(self, line: Line, options: Mapping[str, Sequence[Option]]) -> Block:
        """Return `tls` of a bind line."""
        block = Block()
        pairs = [pair for option in options.get("crt", ()) for pair in self._pairs(option, line)]
        firsts = [p for option in options.get("default-crt", ()) for p in self._pairs(option, line)]
        pairs = firsts + pairs
        if len(pairs) == 1:
            for key, path in pairs[0].values.items():
                block.set(key, path)
        elif pairs:
            block.set("certificates", list[Value](pairs))
        else:
            self._ledger.left_out(line, "ssl has no crt, so nginy has no certificate to show")
        self._clients(block, line, options)
        flags = [*self.defaults.bind_options, *(o for each in options.values() for o in each)]
        self._versions(block, flags, line)
        ciphers = _last(options, "ciphers") or self.defaults.bind_ciphers
        if ciphers:
            block.set("ciphers", ciphers)
        names = [option.name for option in flags]
        if "strict-sni" in names and "no-strict-sni" not in names:
            block.set("unknown_sni", "reject")
            text = "strict-sni: a client that names no server gets the first certificate"
            self._ledger.close(line, text)
        if "no-tls-tickets" in names and "tls-tickets" not in options:
            block.set("session_tickets", "off")
        alpn = _last(options, "alpn")
        if alpn and "no-alpn" not in options:
            block.set("alpn", one_or_list(alpn.split(",")))
            text = "alpn: a client that offers none of these protocols is refused"
            self._ledger.close(line, text)
        block.set("ragged_eof", "on")
        return block

    def _clients(self, block: Block, line: Line, options: Mapping[str, Sequence[Option]]) -> None:
        """Write which authorities may sign client certificates."""
        verify, authorities = _last(options, "verify"), _last(options, "ca-file")
        if authorities:
            if authorities.startswith("@"):
                self._ledger.left_out(line, f"ca-file: nginy has no {authorities} for clients")
                return
            block.set("client_ca", self._path(authorities, self.defaults.ca_base, line))
        if verify in ("optional", "required"):
            block.set("verify_client", verify)

    def _pairs(self, option: Option, line: Line) -> list[Block]:
        """Return the certificates of a `crt`: a file with its key, or a directory of them."""
        path = self._path(option.value, self.defaults.crt_base, line)
        inside = self._files.match(f"{path.rstrip('/')}/*")
        if inside:
            text = f"{option.name}: lists the directory as it is now; add new ones here"
            self._ledger.close(line, text)
            names = [each for each in inside if not each.endswith(RESERVED)]
            return [self._pair(each) for each in names]
        return [self._pair(path)]

    def _pair(self, path: str) -> Block:
        """Return a certificate with the file that has its key."""
        try:
            text = self._files.read(path)
        except InvalidValueError:
            text = "PRIVATE KEY"  # HAProxy's habit is one file for both
        key = path if "PRIVATE KEY" in text else f"{path}.key"
        return Block({"certificate": path, "key": key})

    def _path(self, path: str, base: str, line: Line) -> str:
        return absolute(posixpath.join(base, path), self._files)

    def _versions(self, block: Block, options: Sequence[Option], line: Line) -> None:
        """Write the versions of TLS that are left."""
        low, high = 0, len(VERSIONS) - 1
        denied = set()
        for option in options:
            version = _version(option)
            if option.name == "ssl-min-ver" and version in VERSIONS:
                low = VERSIONS.index(version)
            elif option.name == "ssl-max-ver" and version in VERSIONS:
                high = VERSIONS.index(version)
            elif option.name.startswith("force-") and version in VERSIONS:
                low = high = VERSIONS.index(version)
            elif option.name.startswith("no-") and version in VERSIONS:
                denied.add(version)
        wanted = [each for each in VERSIONS[low : high + 1] if each not in denied]
        spoken = [each for each in MODERN if each in wanted]
        if not spoken:
            self._ledger.left_out(line, "nginy speaks TLS 1.2 and 1.3 only, and this is older")
        elif len(spoken) < len(MODERN):
            block.set("protocols", spoken[0])
        if low and any(option.name == "ssl-min-ver" for option in options) and low < 3:
            self._ledger.close(line, "nginy speaks TLS 1.2 and 1.3 only: older peers are refused")

    # Towards servers.

    def backends(self, server: Server) -> Block | None:
        """Return `proxy_tls` for a server; None if it speaks no TLS."""
        if not server.has("ssl"):
            return None
        block, line = Block(), server.line
        is_verifying = (server.value("verify") or "required") != "none"
        if not server.value("verify"):
            is_verifying = self.defaults.is_verifying
        if not is_verifying:
            block.set("verify", "off")
        authorities = server.value("ca-file")
        if authorities and not authorities.startswith("@") and is_verifying:
            block.set("ca", self._path(authorities, self.defaults.ca_base, line))
        self._name(block, server, is_verifying=is_verifying)
        if server.value("crt"):
            pair = self._pair(self._path(server.value("crt"), self.defaults.crt_base, line))
            for key, path in pair.values.items():
                block.set(key, path)
        options = [*self.defaults.server_options, *(each for each, _ in server.options.values())]
        self._versions(block, options, line)
        ciphers = server.value("ciphers") or self.defaults.server_ciphers
        if ciphers:
            block.set("ciphers", ciphers)
        if server.value("alpn"):
            block.set("alpn", one_or_list(server.value("alpn").split(",")))
        return block

    def _name(self, block: Block, server: Server, *, is_verifying: bool) -> None:
        """Write the name that is sent, and that the certificate must have."""
        sni, host = server.value("sni"), server.value("verifyhost")
        name = sni.removeprefix("str(").removesuffix(")") if sni.startswith("str(") else ""
        if sni and not name:
            self._ledger.left_out(server.origin("sni"), f"sni {sni}: {FROM_CLIENT}")
        if name or host:
            block.set("name", name or host)
        if not name:
            block.set("sni", "off")
        if is_verifying and not name and not host:
            text = "ssl: nginy also requires the backend's name or address in the certificate"
            self._ledger.close(server.line, text)


def _last(options: Mapping[str, Sequence[Option]], name: str) -> str:
    found = options.get(name)
    return found[-1].value if found else ""


def _version(option: Option) -> str:
    """Return the version that an option speaks of, as in VERSIONS; "" if none."""
    if option.name in ("ssl-min-ver", "ssl-max-ver"):
        return option.value
    _, _, name = option.name.partition("-")
    return {
        "sslv3": "SSLv3",
        "tlsv10": "TLSv1.0",
        "tlsv11": "TLSv1.1",
        "tlsv12": "TLSv1.2",
        "tlsv13": "TLSv1.3",
    }.get(name, "")
