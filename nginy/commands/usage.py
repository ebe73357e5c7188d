"""The text of --help, taken apart: its command lines, commands and options.

docopt reads the text in order to parse a command line; this reads it for whatever else has to know
what can be typed: the manual page (`manual.py`) and what shells complete (`completion.py`). So an
option or a command that is in the text is everywhere.

The text is that of `cli.py`. Not here: what any of it does.
"""

import re
from dataclasses import dataclass
from typing import Final

_OPTION: Final = re.compile(r"^  (?=-)", re.MULTILINE)
_NAME: Final = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: -s SIGNAL, or -h --help."""

    names: tuple[str, ...]
    value: str
    """What follows it, such as SIGNAL; "" if nothing does."""
    about: str


@dataclass(frozen=True, slots=True)
class Command:
    """One way to start nginy: a command such as plan, or "" for a start without one."""

    name: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...]
    """What follows the name in this order, such as CONFIG."""
    about: str


@dataclass(frozen=True, slots=True)
class Usage:
    """All that a text says."""

    summary: str
    """What nginy is, without a full stop."""
    lines: tuple[str, ...]
    """The command lines, each beginning with nginy."""
    commands: tuple[Command, ...]
    """The start without a command is the first one."""
    options: tuple[Option, ...]


def parse_usage(text: str) -> Usage:
    """Take a text apart that docopt understands."""
    head, _, rest = text.partition("\n\nUsage:\n")
    body, _, option_text = rest.partition("\n\nOptions:\n")
    usage, _, prose = body.partition("\n\n")
    lines = tuple(line.strip() for line in usage.splitlines())
    options = tuple(_option(each) for each in _OPTION.split(option_text) if each)
    names = dict.fromkeys(["", *(_command_name(line) for line in lines)])
    commands = tuple(_command(name, lines, options, prose) for name in names)
    return Usage(head.rstrip("."), lines, commands, options)


def _option(text: str) -> Option:
    signature, _, about = text.partition("  ")
    words = signature.split()
    names = tuple(word for word in words if word.startswith("-"))
    value = next((word for word in words if not word.startswith("-")), "")
    return Option(names, value, " ".join(about.split()))


def _command_name(line: str) -> str:
    match = re.match(r"nginy ([a-z][a-z-]*)", line)
    return match[1] if match else ""


def _command(name: str, lines: tuple[str, ...], options: tuple[Option, ...], prose: str) -> Command:
    own = [line for line in lines if _command_name(line) == name]
    typed = {option for line in own for option in _NAME.findall(line)}
    # of the first line, which has no other way to name the file than the argument itself
    bare = re.sub(r"\[[^]]*-[^]]*\]|-\w [A-Z]+", "", own[0]) if own else ""
    about = re.search(rf"^nginy {name} (.*?)(?=^nginy |\Z)", prose, re.MULTILINE | re.DOTALL)
    return Command(
        name,
        tuple(option for option in options if typed & {*option.names}),
        tuple(re.findall(r"\b[A-Z]+\b", bare)),
        " ".join(about[1].split()) if name and about else "",
    )
