"""Hints for people who write in the words of nginx, HAProxy or a shell.

Similar spelling is a poor guide to such words: `proxy_ssl` looks like `proxy_pass`. So the tables
of foreign.py come first. value_hint() also recognizes shapes: words after an address, a URL, a
semicolon, a variable of the shell.

All functions are pure: they take a key and the text that was typed, and return the end of a
message.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from nginy.config.words.foreign import (
    ABSENT,
    BACKEND_WORDS,
    BACKEND_WORDS_ABSENT,
    CONFIGURATION,
    LISTEN_WORDS,
    LISTENER,
    LOG_WORDS,
    NO_HTTP,
    NO_OPTIONS,
    PORTS_OF_SCHEMES,
    RENAMED,
    UPSTREAM,
    VALUES,
)
from nginy.config.words.haproxy_options import OPTIONS
from nginy.config.words.http import HTTP_WORDS
from nginy.config.words.others import ABSENT as ABSENT_ELSEWHERE
from nginy.config.words.others import RENAMED as RENAMED_ELSEWHERE
from nginy.config.words.others import SECTIONS, TLS_DIRECTIVES, TLS_PREFIXES, WHOLE_FILES

_URL = re.compile(r"([a-z][a-z0-9+]*)://([^/\s]*)(/\S*)?", re.IGNORECASE | re.ASCII)
_ADDRESS = re.compile(r"(?:\[[^\]]*\]:|[\w.*-]+:|:)?\d+(?:-\d+)?|unix:/\S+", re.ASCII)
_SYSLOG = re.compile(r"syslog:(?:server=)?(unix:[^,]*|[\w.-]+|\[[^\]]*\])(?::(\d+))?(?:,.*)?")
_PORTS: Final = {"dns": 53, "domain": 53, "http": 80, "https": 443, "ssh": 22}
_SHELL_VARIABLE = re.compile(r"\$([A-Z_][A-Z0-9_]*)", re.ASCII)


def renamed(noun: str, word: str) -> str | None:
    """Return nginy's key for the word `word` in the record `noun`; None if no table has it."""
    if noun == CONFIGURATION and " " in word:
        return None  # a section with its name, whose content is no value of the key
    return _found(RENAMED, noun, word) or _found(RENAMED_ELSEWHERE, noun, word)


def absent(noun: str, word: str) -> str | None:
    """Return the advice for a word that has no counterpart in the record; None if unknown."""
    is_outer = noun in (CONFIGURATION, LISTENER, UPSTREAM)
    first, *rest = word.lower().removeprefix("no ").split() or [""]
    if is_outer and first == "option" and rest:
        return OPTIONS.get(rest[0].replace("_", "-"), NO_OPTIONS)
    if noun == CONFIGURATION and rest:
        section = _section_hint(first, rest[0])
        if section is not None:
            return section
    advice = _found(ABSENT, noun, word)
    if advice is None and renamed(noun, word) is None:
        advice = _found(ABSENT_ELSEWHERE, noun, word)
    if advice is None and is_outer:
        advice = _tls_hint(first)
    is_http = is_outer and not HTTP_WORDS.isdisjoint(_spellings(word))
    return NO_HTTP if advice is None and is_http else advice


def stands_for(noun: str, word: str) -> str | None:
    """Return nginy's key that an unknown word of another program replaces; `absent` explains it."""
    first, *rest = word.split() or [""]
    if noun != CONFIGURATION:
        return None
    if not WHOLE_FILES.isdisjoint(_spellings(word)):
        return "listeners"
    return SECTIONS.get(first) if rest else None


def _section_hint(first: str, name: str) -> str | None:
    """Return what to write for a section of nginx or HAProxy with its name."""
    key = SECTIONS.get(first)
    if key == "upstreams":
        return f"expected upstreams: {{{name}: {{backends: [10.0.0.1:80]}}}}"
    return None if key is None else "expected listeners: [{listen: 0.0.0.0:80, proxy_pass: web}]"


def _tls_hint(word: str) -> str | None:
    """Return what to write for a directive of nginx that begins with ssl_ or proxy_ssl_."""
    known = TLS_DIRECTIVES.get(word)
    others = (advice for prefix, advice in TLS_PREFIXES if word.startswith(prefix))
    return known or next(others, None)


def _found(table: Mapping[str, Mapping[str, str]], noun: str, word: str) -> str | None:
    """Return what a table has for a word, in any of its spellings."""
    words = table.get(noun, {})
    return next((words[each] for each in _spellings(word) if each in words), None)


def _spellings(word: str) -> Iterator[str]:
    """Yield a word as others write it: HAProxy with dashes, nginx with underscores, others in
    camelCase.

    Of several words, such as "server s1", the first one counts if no table has them together.
    """
    small = word.lower()
    yield from (word, small, small.replace("-", "_"), snake(word))
    first, *rest = small.split() or [""]
    if rest:
        yield first.replace("-", "_")


def snake(word: str) -> str:
    """Return a word in camelCase as nginy would write it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).replace("-", "_").lower()


def value_hint(key: str, text: str) -> str | None:
    """Return a better message for a refused value of `key` than its kind has, or None.

    The answer continues a sentence that begins with the value in quotes.
    """
    known = VALUES.get(key, {}).get(text.strip().lower())
    if known is not None:
        return f"is not known: {known}"
    if text.endswith(";") and len(text) > 1:
        return f'ends in a ";", expected {text.rstrip("; ")}'
    if _SHELL_VARIABLE.search(text):
        meant = _SHELL_VARIABLE.sub(r"${\1}", text)
        return f"has a variable of the environment without braces, expected {meant}"
    answer = _ANSWERS.get(key)
    return answer(text) if answer is not None else None


def log_hint(text: str, option: str, words: frozenset[str]) -> str | None:
    """Return what to write for nginx's "/path main", and for a format or a level alone.

    `option` is the key of the log that takes `words`: format or level.
    """
    path, *rest = text.split() or [""]
    if not rest:
        answer = _syslog_hint(text) or LOG_WORDS[option].get(text.lower())
        if answer is not None:
            return answer
    if rest and path in words:
        return f"has the {option} before the path, expected {{path: {rest[0]}, {option}: {path}}}"
    if option == "format" and path == "combined" and not rest:
        return "is a format of HTTP and not a path, expected {path: stderr, format: main}"
    if not rest and path in words:
        return f"is a {option} and not a path, expected {{path: stderr, {option}: {path}}}"
    if not rest or "/" in rest[-1]:
        return None
    name, has_value, value = rest[0].rpartition("=")
    word = "main" if (option, rest[0]) == ("format", "combined") else rest[0]
    pair = f"{name}: {value}" if has_value else f"{option}: {word}"
    return f'has "{rest[0]}" after the path, expected {{path: {path}, {pair}}}'


def _syslog_hint(text: str) -> str | None:
    """Return the address of a syslog server that nginx's syslog:server=..., or a name, means."""
    match = _SYSLOG.fullmatch(text)
    if match is None:
        return None
    if match[1].startswith("unix:"):
        return "is not a server, expected syslog:127.0.0.1:514, as nginy sends syslog over UDP only"
    is_short = text == f"syslog:{match[1]}"
    what = "has no port" if is_short else "is in nginx's words"
    return f"{what}, expected syslog:{match[1]}:{match[2] or 514}"


def _url_hint(text: str, *, is_listen: bool) -> str | None:
    """Return what to write for a URL."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, host, path = match[1].lower(), match[2], match[3] or ""
    port = PORTS_OF_SCHEMES.get(scheme)
    if port is not None and not re.search(r":\d+$", host):
        host = f"{host}:{port}"
    if scheme == "unix":
        host = f"unix:{path}"
    also = ""
    if scheme == "udp":
        also = ", and protocol: udp" + ("" if is_listen else " in the listener")
    return f"is a URL, expected {host}{also}"


def _list_hint(text: str) -> str | None:
    """Return the list to write for several addresses in one text."""
    parts = re.split(r"[,\s]+", text.strip(", "))
    if len(parts) < 2 or not all(_ADDRESS.fullmatch(part) for part in parts):
        return None
    quoted = [f'"{part}"' if part.startswith(("[", "*")) else part for part in parts]
    return f"has several addresses, expected a list: [{', '.join(quoted)}]"


def _listen_hint(text: str) -> str | None:
    """Return what to write for an address followed by words of nginx or HAProxy."""
    _, *words = text.split() or [""]
    if not words or _list_hint(text) is not None:
        return _list_hint(text) or _url_hint(text, is_listen=True) or _port_hint(text)
    word, _, value = words[0].partition("=")
    answer = LISTEN_WORDS.get(word, "expected only the address, and keys beside it")
    answer = answer.replace("{value}", value or (words[1] if len(words) > 1 else "..."))
    return f'has "{words[0]}" after the address: {answer}'


def _backend_hint(text: str) -> str | None:
    """Return what to write for a backend followed by words of nginx or HAProxy."""
    address, *words = text.split() or [""]
    if not words or _list_hint(text) is not None:
        port = None if text.startswith(":") else _port_hint(text)
        return _list_hint(text) or _url_hint(text, is_listen=False) or port
    if not _ADDRESS.fullmatch(address) and _ADDRESS.fullmatch(words[0]) and ":" in words[0]:
        # HAProxy's "s1 10.0.0.1:80 check"
        name, (address, *words) = address, words
        answer = _backend_answer(address, words) if words else f"expected {address}"
        return f'has the name "{name}" before the address: {answer}'
    return f'has "{words[0]}" after the address: {_backend_answer(address, words)}'


def _target_hint(text: str) -> str | None:
    """Return the same for proxy_pass. In nginx's http, `http://web` may mean an upstream."""
    answer, match = _backend_hint(text), _URL.fullmatch(text)
    if answer is None or match is None or not re.fullmatch(r"[\w-]+", match[2]):
        return answer
    name = match[2]
    return answer.replace(f" {name}:", f" {name} for an upstream of that name, or {name}:", 1)


def _port_hint(text: str) -> str | None:
    """Return the address for one without a host, with a name for a port, or with a protocol."""
    match = re.fullmatch(r"(\S+)/(tcp|udp)|(tcp|udp)/(\S+)", text)
    if match is not None:
        address, protocol = match[1] or match[4], match[2] or match[3]
        return f"has a protocol, expected {_anywhere(address)}, and protocol: {protocol}"
    if re.fullmatch(r":\d+", text):
        return f"has no host, expected {_anywhere(text)} for all addresses"
    host, _, name = text.rpartition(":")
    if host and name in _PORTS:
        return f'has "{name}" for a port, expected {host}:{_PORTS[name]}'
    return None


def _anywhere(text: str) -> str:
    return f'"*{text}"' if text.startswith(":") else text


def _resolver_hint(text: str) -> str | None:
    """Return the mapping for nginx's "resolver 192.0.2.1 192.0.2.2 valid=30s"."""
    words = text.split()
    if len(words) < 2:
        return None
    servers = ", ".join(word for word in words if "=" not in word)
    options = dict(word.split("=", 1) for word in words if "=" in word)
    pairs = [f"nameservers: [{servers}]"]
    pairs += [f"{name}: {options[name]}" for name in ("valid", "ipv6") if name in options]
    return f"has words after the address, expected {{{', '.join(pairs)}}}"


def _bind_hint(text: str) -> str | None:
    """Return the mapping for nginx's "proxy_bind $remote_addr transparent"."""
    words = text.split()
    if words[1:] == ["transparent"]:
        return f"has a word after the address, expected {{address: {words[0]}, transparent: on}}"
    return "has words after the address, expected only the address" if words[1:] else None


def _check_hint(text: str) -> str | None:
    """Return the mapping for a request of HTTP, or a path, in the place of a check's type."""
    match = re.fullmatch(r"(?:GET|HEAD|OPTIONS)?\s*(/\S*)(?:\s+HTTP/\S+)?", text)
    return None if match is None else f"is a request, expected {{type: http, path: {match[1]}}}"


def _status_hint(text: str) -> str | None:
    """Return the statuses for 2xx, as others write them."""
    words = text.lower().replace(",", " ").split()
    if not words or not all(re.fullmatch(r"[1-5]xx|\d{3}", word) for word in words):
        return None
    meant = (f"{word[0]}00-{word[0]}99" if word.endswith("x") else word for word in words)
    return f"is not known, expected {', '.join(meant)}"


def _user_hint(text: str) -> str | None:
    words = text.split()
    if len(words) != 2:
        return None
    return f"has a group after the user, expected {words[0]}: nginy takes the group of that user"


def _backend_answer(address: str, words: list[str]) -> str:
    """Return the mapping that means what the words after a backend's address mean."""
    pairs = [f"address: {address}"]
    while words:
        word, has_value, value = words.pop(0).partition("=")
        if word in BACKEND_WORDS_ABSENT:
            return BACKEND_WORDS_ABSENT[word]
        if word not in BACKEND_WORDS:
            return f"expected {{address: {address}, ...}} with keys such as weight"
        key, default = BACKEND_WORDS[word]
        if not has_value and default != "on" and words:
            value = words.pop(0)  # HAProxy writes "weight 5"
        pairs.append(f"{key}: {value or default}")
    return f"expected {{{', '.join(pairs)}}}"


def _method_hint(text: str) -> str | None:
    """Return what to write for nginx's "hash $remote_addr consistent" and the like."""
    name, *words = text.split() or [""]
    if not words:
        return None
    if name in ("random", "least_time"):
        return f"has a word after the method, expected {{{name}: {words[0]}}}"
    if name in ("hash", "maglev", "rendezvous"):
        return f"has words after the method, expected {{{name}: {hash_options(words)}}}"
    return f"has words after the method, expected {name}"


def hash_options(words: list[str]) -> str:
    """Return the key and the options of a hash as nginx writes them, for a mapping."""
    keys = [word for word in words if word != "consistent"]
    key = keys[0] if keys else "$remote_addr"
    key = key if key.startswith("$") else f"${key}"
    return f"{key}, consistent: on" if "consistent" in words else key


_ANSWERS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "address": _backend_hint,
    "balance": _method_hint,
    "listen": _listen_hint,
    "nameservers": _resolver_hint,
    "proxy_bind": _bind_hint,
    "proxy_pass": _target_hint,
    "status": _status_hint,
    "type": _check_hint,
    "user": _user_hint,
}
