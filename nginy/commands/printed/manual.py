"""The manual page nginy(8): the text of --help and the page of --help-config, as man(7) wants them.

Only the signals, the exit status and the environment are written here; a test compares the signals
with the README's. The page has no date, so a version of nginy always makes the same page.

Sources: man-pages(7) for the order of the sections, groff_char(7) for the characters to escape.

Tested in tests/commands/printed/test_usage.py.
"""

import re
from collections.abc import Iterator
from typing import Final

from nginy.commands.printed.usage import Usage

SIGNALS: Final = {
    "TERM, INT": "nginy ends at once",
    "QUIT": "nginy stops accepting after `shutdown_grace`; it ends with the last session, or at "
    "`worker_shutdown_timeout`; a second QUIT, or TERM, ends it at once",
    "HUP": "nginy reads the file again and applies all of it, or nothing; the log says why, and "
    "`-s reload` waits for the outcome and prints it",
    "USR1": "nginy reopens its log files, after a rename; if it cannot open one, it keeps the old "
    "one, the error log says so, and `-s reopen` prints that and fails",
    "USR2": "nginy starts its program again, perhaps a newer version; the new process takes over "
    "the listening sockets and the live sessions, then the old one ends; sessions in which nginy "
    "speaks TLS stay in the old process until they end; `-s upgrade` waits, prints what moved and "
    "what did not, and fails if the new process does not serve",
}

EXIT_STATUS: Final = """\
0 if all went well, also after TERM, INT and QUIT. 1 if not: standard error says why, one sentence a
line, with the file, the line and the column if the configuration is wrong. The commands and options
above name any other status."""

ENVIRONMENT: Final = {
    "NOTIFY_SOCKET, WATCHDOG_USEC": "If a service manager sets them, nginy reports its state, "
    "and that it is not stuck.",
    "LISTEN_FDS": "How many listening sockets a service manager passes on. nginy recognizes them "
    "by their addresses.",
    "RUNTIME_DIRECTORY": "Where nginy keeps its pid file if the configuration has no `pid`.",
}

SEE_ALSO: Final = "systemd.service(5), systemd.socket(5), signal(7), tcp(7), udp(7)"


def render_manual(usage: Usage, reference: str, version: str) -> str:
    """Return the page; `reference` is that of --help-config, in Markdown."""
    return "\n".join(
        [
            f'.TH NGINY 8 "" "nginy {version}" "System Administration"',
            ".nh",
            ".ad l",
            ".SH NAME",
            f"nginy \\- {_text(usage.summary.removeprefix('nginy '))}",
            ".SH SYNOPSIS",
            *_synopsis(usage),
            ".SH DESCRIPTION",
            "nginy is a load balancer for TCP and UDP.",
            "It reads CONFIG, a YAML file, and serves until a signal ends it.",
            *_commands(usage),
            ".SH OPTIONS",
            *_options(usage),
            ".SH SIGNALS",
            *_items(SIGNALS),
            ".SH CONFIGURATION",
            *_reference(reference),
            ".SH EXIT STATUS",
            _text(" ".join(EXIT_STATUS.split())),
            ".SH ENVIRONMENT",
            *_items(ENVIRONMENT),
            ".SH SEE ALSO",
            re.sub(r"([\w.]+)(\(\d\))", r"\\fB\1\\fR\2", SEE_ALSO),
            "",
        ]
    )


def _synopsis(usage: Usage) -> Iterator[str]:
    for line in usage.lines:
        words = _escape(line)
        words = re.sub(r"\b([A-Z]{2,})\b", r"\\fI\1\\fR", words)
        words = re.sub(r"(?<!\w)((?:\\-)+[A-Za-z][\w\\-]*)", r"\\fB\1\\fR", words)
        yield re.sub(r"^nginy( [a-z][a-z\\-]*)?", r"\\fBnginy\1\\fR", words)
        yield ".br"


def _commands(usage: Usage) -> Iterator[str]:
    for command in usage.commands:
        if command.name:
            yield ".TP"
            yield f"\\fBnginy {command.name}\\fR {' '.join(map(_italic, command.arguments))}"
            yield _text(command.about[:1].upper() + command.about[1:])


def _options(usage: Usage) -> Iterator[str]:
    for option in usage.options:
        names = ", ".join(f"\\fB{_escape(name)}\\fR" for name in option.names)
        yield ".TP"
        yield f"{names} {_italic(option.value)}" if option.value else names
        yield _text(option.about)


def _items(items: dict[str, str]) -> Iterator[str]:
    for name, about in items.items():
        yield ".TP"
        yield f"\\fB{_escape(name)}\\fR"
        sentence = about if about.startswith("nginy") else about[:1].upper() + about[1:]
        yield _text(sentence.rstrip(".") + ".")


def _reference(markdown: str) -> Iterator[str]:
    """Yield the page of --help-config: headings, paragraphs, and items that begin with a name."""
    for block in re.split(r"\n\s*\n|\n(?=- )", markdown.strip()):
        item = re.match(r"- (`[^`]+`(?: \*)?): ", block)
        text = " ".join(block[item.end() :].split()) if item else " ".join(block.split())
        if block.startswith("# "):
            continue
        if block.startswith("## "):
            yield f".SS {_escape(text[3:])}"
        elif item:
            yield ".TP"
            yield _text(item[1])
            yield _text(text)
        else:
            yield ".PP"
            yield _text(text)


def _italic(word: str) -> str:
    return f"\\fI{_escape(word)}\\fR"


def _text(markdown: str) -> str:
    """Return a paragraph; text in backquotes becomes bold."""
    parts = [
        f"\\fB{_escape(part)}\\fR" if place % 2 else _escape(part)
        for place, part in enumerate(markdown.split("`"))
    ]
    text = "".join(parts)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _escape(text: str) -> str:
    r"""Escape a text: groff would show - as a hyphen, and ^ ~ ' as typographic characters."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return text.replace("^", "\\(ha").replace("~", "\\(ti").replace("'", "\\(aq")
