r"""ACLs and conditions of HAProxy: `acl NAME FETCH FLAGS VALUES`, `if A !B or { FETCH VALUES }`.

`Conditions` has the ACLs of one proxy, and turns a condition into a formula. A test that nginy
does not have raises InvalidValueError, whose clause names it.

Source: HAProxy's configuration manual, 7.1 "ACL basics", 7.2 "Using ACLs to form conditions", 7.4
"Pre-defined ACLs".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.haproxy.formula import (
    ALWAYS,
    NEVER,
    Formula,
    both,
    either,
    holds,
    negated,
)
from nginy.commands.importing.haproxy.sections import Line
from nginy.commands.importing.haproxy.values import network, number
from nginy.commands.importing.model import Files
from nginy.errors import InvalidValueError
from nginy.proxy.lookups import parse_pattern

METHODS: Final = ("str", "beg", "end", "sub", "reg", "dom", "dir", "bin", "ip", "int", "found")
OPERATORS: Final = ("eq", "ge", "gt", "le", "lt")
SNI: Final = ("req.ssl_sni", "req_ssl_sni", "ssl_fc_sni", "req.ssl_sni,lower")
HELLO: Final = ("req.ssl_hello_type", "req_ssl_hello_type", "req.ssl_ver", "req_ssl_ver")
LENGTH: Final = ("req.len", "req_len")
HTTP_REQUEST: Final = r"~[!-~]+ [!-~]+ HTTP/1\.[01]\r?\n"
ANY_BYTE: Final = r"~(?s:.)"
FILE: Final = "file:"
"""The beginning of a value that is the path of a file of networks."""
PREDEFINED: Final[Mapping[str, Formula]] = {
    "TRUE": ALWAYS,
    "FALSE": NEVER,
    "LOCALHOST": holds("from", "127.0.0.0/8", "::1"),
    "WAIT_END": ALWAYS,
    "REQ_CONTENT": holds("starts", ANY_BYTE),
    "HTTP": holds("starts", HTTP_REQUEST),
}
_FETCH: Final = re.compile(r"([\w.]+)(?:\(([^)]*)\))?((?:,[\w.]+(?:\([^)]*\))?)*)")
_PORTS: Final = re.compile(r"([0-9]{0,5})(?::([0-9]{0,5}))?")


@dataclass(slots=True)
class Test:
    """What an ACL asks: a sample, how it is compared, and with what."""

    fetch: str
    argument: str
    converters: str
    method: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sample as written."""
        return self.fetch + (f"({self.argument})" if self.argument else "") + self.converters


class Conditions:
    """The ACLs of a proxy, by name, in order."""

    def __init__(self, acls: Iterable[Line], files: Files, at: Callable[[str], str]) -> None:
        """`at` makes a path absolute."""
        self._files = files
        self._at = at
        self.acls: dict[str, list[Line]] = {}
        for line in acls:
            self.acls.setdefault(line.word(1), []).append(line)
        self.used: set[Line] = set()
        """Lines of the ACLs that conditions have named."""

    def of(self, words: Sequence[str]) -> Formula:
        """Return the formula of `if ...` or `unless ...`; no words always hold."""
        if not words:
            return ALWAYS
        if words[0] not in ("if", "unless") or len(words) == 1:
            raise InvalidValueError(f'has "{words[0]}" where a condition belongs')
        formula = self._any(list(words[1:]))
        return formula if words[0] == "if" else negated(formula)

    def _any(self, words: list[str]) -> Formula:
        """Read an OR of ANDs."""
        result, term, is_empty = NEVER, ALWAYS, True
        while words:
            word = words.pop(0)
            if word in ("or", "||"):
                result, term, is_empty = either(result, term), ALWAYS, True
                continue
            is_empty = False
            is_wanted = True
            while word.startswith("!"):
                is_wanted = not is_wanted
                word = word[1:] or (words.pop(0) if words else "")
            formula = self._anonymous(words) if word == "{" else self._named(word)
            term = both(term, formula if is_wanted else negated(formula))
        if is_empty:
            raise InvalidValueError("has a condition without its end")
        return either(result, term)

    def _anonymous(self, words: list[str]) -> Formula:
        if "}" not in words:
            raise InvalidValueError('has a "{" without "}"')
        end = words.index("}")
        inner = words[:end]
        del words[: end + 1]
        return self.test(inner)

    def _named(self, name: str) -> Formula:
        lines = self.acls.get(name)
        if lines is None:
            if name in PREDEFINED:
                return PREDEFINED[name]
            raise InvalidValueError(f'asks for "{name}", which nginy does not know about a client')
        self.used.update(lines)
        result = NEVER
        for line in lines:
            result = either(result, self.test(line.words[2:]))
        return result

    def test(self, words: Sequence[str]) -> Formula:
        """Return the formula of `FETCH FLAGS VALUES`."""
        test = self._parse(list(words))
        if test.fetch in ("always_true", "always_false"):
            return ALWAYS if test.fetch == "always_true" else NEVER
        if test.fetch == "wait_end":
            return ALWAYS
        if test.fetch + test.converters in SNI or (
            test.fetch in SNI and test.converters == ",lower"
        ):
            return holds("sni", *_names(test))
        read = _FETCHES.get(test.fetch)
        if read is None or test.converters:
            raise InvalidValueError(f'asks for "{test.text}", which nginy routes cannot test')
        return read(test)

    def _parse(self, words: list[str]) -> Test:
        match = _FETCH.fullmatch(words[0]) if words else None
        if match is None:
            raise InvalidValueError("has no test that nginy understands")
        fetch, argument, converters = match[1], match[2] or "", match[3]
        stem, _, suffix = fetch.rpartition("_")
        method = suffix if suffix in METHODS and stem in (*SNI, "src") else ""
        fetch = stem if method else fetch
        values: list[str] = []
        rest = words[1:]
        while rest:
            word = rest.pop(0)
            if word == "--":
                values, rest = values + rest, []
            elif not word.startswith("-") or word[1:].isdigit():
                values.append(word)
            elif word == "-m":
                method = rest.pop(0) if rest else ""
            elif word == "-f":
                path = rest.pop(0) if rest else ""
                # A file of networks may stay one, in access.
                values += [FILE + self._at(path)] if fetch == "src" else self.patterns(path)
            elif word == "-u":
                del rest[:1]
            elif word not in ("-i", "-n"):
                raise InvalidValueError(f'has the flag "{word}"')
        return Test(fetch, argument, converters, method, tuple(values))

    def networks(self, values: Iterable[str]) -> list[str]:
        """Return networks, with the contents of files instead of the files."""
        found: list[str] = []
        for value in values:
            if value.startswith(FILE):
                found.extend(map(network, self.patterns(value.removeprefix(FILE))))
            else:
                found.append(value)
        return found

    def patterns(self, path: str) -> list[str]:
        """Return the patterns in a file, one a line."""
        try:
            text = self._files.read(self._at(path))
        except InvalidValueError as error:
            raise InvalidValueError(f"needs {path}, which {error.clause}") from None
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def _names(test: Test) -> list[str]:
    """Return patterns of server names as routes have them."""
    if test.method == "found":
        return ["~."]
    if not test.values:
        raise InvalidValueError(f'compares "{test.text}" with nothing')
    make = NAME_PATTERNS.get(test.method or "str")
    if make is None:
        raise InvalidValueError(f'compares "{test.text}" by -m {test.method}')
    return [make(value) for value in test.values]


def _end(value: str) -> str:
    # A dot in front makes it every name below, as nginy's *.suffix does.
    if value.startswith("."):
        return f"*{value.lower()}"
    return f"~{re.escape(value)}$"


def _expression(value: str) -> str:
    """Return a regular expression. Raise InvalidValueError if nginy does not take it."""
    parse_pattern(f"~{value}")
    return f"~{value}"


NAME_PATTERNS: Final[Mapping[str, Callable[[str], str]]] = {
    "str": lambda value: value.lower().rstrip(".") or value,
    "beg": lambda value: f"~^{re.escape(value)}",
    "end": _end,
    "sub": lambda value: f"~{re.escape(value)}",
    "dom": lambda value: rf"~(^|\.){re.escape(value.strip('.'))}(\.|$)",
    "reg": _expression,
}


def _src(test: Test) -> Formula:
    if test.method not in ("", "ip"):
        raise InvalidValueError(f'compares "{test.text}" by -m {test.method}')
    files = [value for value in test.values if value.startswith(FILE)]
    values = [value for value in test.values if not value.startswith(FILE)]
    return holds("from", *map(network, values), *files)


def _dst(test: Test) -> Formula:
    return holds("server_addr", *map(network, test.values))


def _ports(test: Test) -> Formula:
    """Return ports and ranges, also of `ge 1024` and the like."""
    operator, *values = (
        test.values
        if test.values[:1] and test.values[0] in OPERATORS
        else (
            "eq",
            *test.values,
        )
    )
    if not values:
        raise InvalidValueError(f'compares "{test.text}" with nothing')
    if operator == "eq":
        return holds("port", *map(_range, values))
    port = number(values[0], 0, 65535)
    low, high = {
        "ge": (port, 65535),
        "gt": (port + 1, 65535),
        "le": (1, port),
        "lt": (1, port - 1),
    }[operator]
    return holds("port", f"{low}-{high}") if low <= high else NEVER


def _range(text: str) -> str:
    match = _PORTS.fullmatch(text)
    if match is None or not text.strip(":"):
        raise InvalidValueError(f'has "{text}" for a port')
    low = number(match[1] or "1", 1, 65535)
    if match[2] is None:
        return str(low)
    return f"{low}-{number(match[2] or '65535', low, 65535)}"


def _hello(test: Test) -> Formula:
    """Return whether a ClientHello has come; that is why people test types and versions."""
    if test.fetch.endswith("ver") and test.method != "found":
        raise InvalidValueError(f'asks for "{test.text}", which nginy routes cannot test')
    if test.method == "found" or test.values in (("1",), ("eq", "1"), ("gt", "0"), ("ge", "1")):
        return holds("is_tls", "on")
    if test.values in (("0",), ("eq", "0")):
        return holds("is_tls", "off")
    raise InvalidValueError(f'asks for "{test.text} {" ".join(test.values)}"')


def _length(test: Test) -> Formula:
    """Return whether the client has sent anything."""
    if test.method == "found":
        return ALWAYS
    if test.values in (("gt", "0"), ("ge", "1")):
        return holds("starts", ANY_BYTE)
    raise InvalidValueError("counts the client's first bytes, which nginy routes cannot do")


def _payload(test: Test) -> Formula:
    """Return the first bytes as `starts`."""
    offset, _, length = test.argument.partition(",")
    if offset.strip() != "0" or not test.values:
        raise InvalidValueError(f'asks for "{test.text}", which is not how a stream starts')
    texts = []
    for value in test.values:
        if test.method == "bin":
            texts.append(binary(value))
        elif test.method in ("str", "beg"):
            texts.append(escaped(value))
        elif test.method == "reg" and value.startswith("^"):
            texts.append(_expression(value[1:]))
        else:
            raise InvalidValueError(f'compares "{test.text}" by -m {test.method}')
    if not length.strip().isdigit():
        raise InvalidValueError(f'asks for "{test.text}", which is not how a stream starts')
    result = NEVER
    for text in texts:
        result = either(result, holds("starts", text))
    return result


def _alpn(test: Test) -> Formula:
    if test.method not in ("", "str") or not test.values:
        raise InvalidValueError(f'compares "{test.text}" by -m {test.method}')
    return holds("alpn", *test.values)


def _share(test: Test) -> Formula:
    """Return a share of all clients of `rand(100) lt 5`."""
    total = number(test.argument or "0", 1, 1 << 30)
    if len(test.values) != 2 or test.values[0] not in ("lt", "le"):
        raise InvalidValueError("compares rand with another operator than lt")
    part = number(test.values[1], 0, total) + (test.values[0] == "le")
    return holds("share", f"{100 * part / total:.2f}".rstrip("0").rstrip(".") + "%")


def _limit(kind: str) -> Callable[[Test], Formula]:
    """Return the limit in `src_conn_cur gt 10`: more than that many."""

    def read(test: Test) -> Formula:
        if len(test.values) != 2 or test.values[0] not in ("gt", "ge"):
            raise InvalidValueError(f'compares "{test.text}" with another operator than gt')
        most = number(test.values[1]) - (test.values[0] == "ge")
        return holds(kind, str(most), test.argument.rpartition(",")[2].strip())

    return read


_FETCHES: Final[Mapping[str, Callable[[Test], Formula]]] = {
    "src": _src,
    "dst": _dst,
    "dst_port": _ports,
    **dict.fromkeys(HELLO, _hello),
    **dict.fromkeys(LENGTH, _length),
    "req.payload": _payload,
    "payload": _payload,
    "req.ssl_alpn": _alpn,
    "rand": _share,
    "req.proto_http": lambda _: PREDEFINED["HTTP"],
    "req_proto_http": lambda _: PREDEFINED["HTTP"],
    **{
        name: _limit(kind)
        for kind in ("conn_cur", "conn_rate")
        for name in (f"src_{kind}", f"sc_{kind}", *(f"sc{each}_{kind}" for each in range(3)))
    },
}


def escaped(text: str) -> str:
    r"""Return a literal with the escapes that nginy's `send`, `expect` and `starts` have."""
    # A tilde at the start would make it a regular expression.
    head, text = (r"\x7e", text[1:]) if text.startswith("~") else ("", text)
    return head + "".join(map(_escaped_one, text))


def _escaped_one(letter: str) -> str:
    if letter in "\r\n\t":
        return letter
    if letter == "\\":
        return r"\\"
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F or letter == "$" else letter


def binary(text: str) -> str:
    r"""Return hexadecimal digits as a literal: 0x41 as A, and \x00 for other bytes than letters."""
    if len(text) % 2 or not re.fullmatch(r"[0-9A-Fa-f]*", text):
        raise InvalidValueError(f'has "{text}", which is not hexadecimal')
    return escaped(
        "".join(chr(code) if code < 0x80 else chr(0xDC00 + code) for code in bytes.fromhex(text))
    )
