"""TLS: the directives ssl_… of a listener, and proxy_ssl_… towards its backends.

nginx's defaults that differ from nginy's are written out: `ciphers` for clients, and for backends
`verify: off`, `sni: off` and the name of the upstream, which nginx checks certificates against.

Tested in tests/commands/importing/nginx/test_table.py.
"""

import re
from collections.abc import Sequence
from typing import Final

from nginy.commands.importing.model import Block, Value, absolute
from nginy.commands.importing.nginx.ledger import CloseError, LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import Scope, argument
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.values import duration, flag
from nginy.config.node import quote
from nginy.config.tls import PROTOCOLS

CIPHERS: Final = "HIGH:!aNULL:!MD5"
"""nginx's default for clients."""
SCHEMES: Final = ("data:", "engine:", "store:")
VERIFY: Final = {"on": "required", "off": "off", "optional": "optional"}
TICKETS: Final = "nginy resumes sessions with tickets, or else only in the worker where they began"


def tls_of(reading: ConfReader, scope: Scope) -> Block:
    """Return the value of `tls`; raise LeftOutError without a certificate."""
    tls = Block()
    certificates, keys = scope.all("ssl_certificate"), scope.all("ssl_certificate_key")
    pairs: list[Value] = []
    for certificate, key in zip(certificates, keys, strict=False):
        with reading.ledger.judging(certificate):
            pair = Block({"certificate": _file(reading, certificate), "key": _file(reading, key)})
            password = scope.one("ssl_password_file")
            if password is not None:
                pair.set("password_file", _file(reading, password))
            pairs.append(pair)
    if not pairs:
        raise LeftOutError("it speaks TLS without a certificate that nginy can read")
    if len(pairs) > 1:
        text = "of several certificates for one name, nginy always shows the first"
        reading.ledger.close(certificates[1], text)
        tls.set("certificates", pairs)
    elif isinstance(pairs[0], Block):
        tls.values.update(pairs[0].values)
    _clients(reading, scope, tls)
    tls.set("ciphers", _ciphers(scope, "ssl_ciphers", CIPHERS))
    _protocols(scope, "ssl_protocols", tls)
    alpn = scope.one("ssl_alpn")
    if alpn is not None:
        tls.set("alpn", [*alpn.arguments])
    for name, key_of, read in (
        ("ssl_session_tickets", "session_tickets", flag),
        ("ssl_handshake_timeout", "handshake_timeout", duration),
        ("ssl_key_log", "key_log", lambda text: absolute(text, reading.files)),
    ):
        directive = scope.one(name)
        if directive is not None:
            with reading.ledger.judging(directive):
                tls.set(key_of, read(argument(directive)))
    for directive in scope.all(*_JUDGED):
        with reading.ledger.judging(directive):
            _judge(directive)
    return tls


_JUDGED: Final = (
    *("ssl_prefer_server_ciphers", "ssl_session_cache", "ssl_session_timeout", "ssl_stapling"),
    "ssl_reject_handshake",
)


def _judge(directive: Directive) -> None:
    """Judge directives of TLS that become nothing."""
    word = argument(directive)
    if directive.name == "ssl_session_cache" and word not in ("off", "none"):
        raise CloseError(TICKETS)
    if directive.name == "ssl_session_timeout":
        raise CloseError("OpenSSL decides how long a session can be resumed")
    if directive.name == "ssl_stapling" and word == "on":
        raise LeftOutError("nginy staples no OCSP answer; clients ask the authority themselves")
    if directive.name == "ssl_prefer_server_ciphers" and word == "off":
        raise CloseError("nginy's order of ciphers counts, and not the client's")
    if directive.name == "ssl_reject_handshake" and word == "on":
        raise LeftOutError("nginy shows clients of unknown names the certificate of this server")


def _file(reading: ConfReader, directive: Directive) -> str:
    """Return the path that a directive names."""
    text = argument(directive)
    if not text or "$" in text or text.startswith(SCHEMES):
        raise LeftOutError("nginy reads certificates and keys from files that its own file names")
    return absolute(text, reading.files)


def _clients(reading: ConfReader, scope: Scope, tls: Block) -> None:
    """Set whose client certificates are accepted."""
    verify = scope.one("ssl_verify_client")
    word = argument(verify) if verify is not None else "off"
    if word == "off" or verify is None:
        return
    if word not in VERIFY:
        text = "nginy asks for no certificate that it does not verify, so clients show none"
        reading.ledger.left_out(verify, text)
        return
    own, trusted = scope.one("ssl_client_certificate"), scope.one("ssl_trusted_certificate")
    source = own or trusted
    if source is None:
        reading.ledger.left_out(verify, "it names no authority, so clients show no certificate")
        return
    with reading.ledger.judging(source):
        tls.set("client_ca", _file(reading, source))
        tls.set("verify_client", VERIFY[word])
    if own is not None and trusted is not None:
        text = "nginy accepts only client certificates signed by ssl_client_certificate"
        reading.ledger.left_out(trusted, text)


def _protocols(scope: Scope, name: str, tls: Block) -> None:
    directive = scope.one(name)
    if directive is None:
        return
    known = [word for word in PROTOCOLS if word in directive.arguments]
    others = [word for word in directive.arguments if word not in PROTOCOLS]
    if not known:
        text = f"nginy speaks {' and '.join(PROTOCOLS)}; peers of older ones are refused"
        scope.ledger.left_out(directive, text)
        return
    tls.set("protocols", [*known])
    if others:
        text = f"nginy does not speak {', '.join(others)}; peers that know no newer one are refused"
        scope.ledger.close(directive, text)


def _ciphers(scope: Scope, name: str, default: str) -> str:
    directive = scope.one(name)
    if directive is None:
        return default
    text = argument(directive)
    if text.upper() == "DEFAULT":
        return "default"
    if not re.fullmatch(r"[\w.:!+@=-]+", text):
        scope.ledger.left_out(directive, f"{quote(text)} is not a list of ciphers")
        return default
    return text


def proxy_tls(reading: ConfReader, scope: Scope, listener: Block) -> None:
    """Set how a listener speaks TLS to its backends."""
    if not scope.is_on("proxy_ssl"):
        return
    settings = Block()
    verify, sni = scope.is_on("proxy_ssl_verify"), scope.is_on("proxy_ssl_server_name")
    settings.set("verify", "on" if verify else "off")
    authority = scope.one("proxy_ssl_trusted_certificate")
    if verify and authority is not None:
        with reading.ledger.judging(authority):
            settings.set("ca", _file(reading, authority))
    _name(reading, scope, listener, settings, is_used=verify or sni)
    settings.set("sni", "on" if sni else "off")
    own, key = scope.one("proxy_ssl_certificate"), scope.one("proxy_ssl_certificate_key")
    if own is not None and key is not None:
        with reading.ledger.judging(own):
            pair = [("certificate", _file(reading, own)), ("key", _file(reading, key))]
            password = scope.one("proxy_ssl_password_file")
            if password is not None:
                pair.append(("password_file", _file(reading, password)))
            settings.values.update(pair)
    alpn = scope.one("proxy_ssl_alpn")
    if alpn is not None:
        settings.set("alpn", [*alpn.arguments])
    _protocols(scope, "proxy_ssl_protocols", settings)
    settings.set("ciphers", _ciphers(scope, "proxy_ssl_ciphers", "default"))
    reuse = scope.one("proxy_ssl_session_reuse")
    if reuse is not None and argument(reuse) == "off":
        reading.ledger.left_out(reuse, "nginy resumes TLS sessions with backends where it can")
    listener.set("proxy_tls", settings)


def _name(
    reading: ConfReader, scope: Scope, listener: Block, settings: Block, *, is_used: bool
) -> None:
    """Set the name that backends are asked for, where nginx's is not the host of the address."""
    directive = scope.one("proxy_ssl_name")
    if directive is not None:
        with reading.ledger.judging(directive):
            if "$" in argument(directive):
                text = "nginy asks for one name, so the host of each backend's address counts"
                raise LeftOutError(text)
            settings.set("name", argument(directive))
        return
    names = _upstreams(listener)
    own = [name for name in names if name in reading.document.upstreams.values]
    if is_used and own:
        if len(names) > 1:
            directive = scope.one("proxy_ssl")
            if directive is not None:
                text = "nginx asks for the name of the upstream, nginy for the host of each backend"
                reading.ledger.close(directive, text)
        else:
            settings.set("name", own[0])


def _upstreams(listener: Block) -> Sequence[str]:
    routes = listener.values.get("routes", [])
    inner = routes if isinstance(routes, list) else []
    blocks = [listener, *(each for each in inner if isinstance(each, Block))]
    return list(dict.fromkeys(name for each in blocks if (name := each.text("proxy_pass"))))
