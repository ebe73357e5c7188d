"""The text of --help, taken apart: its command lines, commands and options.

docopt reads the text to parse a command line; this module reads it for the manual page
(`manual.py`) and for shell completion (`completion.py`). So an option or a command in the text
appears everywhere. `mistake` says in one sentence what is wrong with a line that docopt refuses.

The text is in `help.py`. Not here: what any of it does.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.config.node import closest, did_you_mean, quote

WITH_VALUE: Final = "scdoa"
"""The options of one letter that take a value, which may follow without a blank."""

FOREIGN_OPTIONS: Final = {
    "--config": "-c",
    "--dump": "-T",
    "--reload": "-s",
    "--test": "-t",
    "-f": "-c",
}
"""Options of other programs, and those of nginy that do the same."""

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
    """Everything that a text of --help says."""

    summary: str
    """What nginy is, without a full stop."""
    lines: tuple[str, ...]
    """The command lines, each beginning with nginy."""
    commands: tuple[Command, ...]
    """The start without a command is the first one."""
    options: tuple[Option, ...]


def parse_usage(text: str) -> Usage:
    """Take apart a text that docopt understands."""
    head, _, rest = text.partition("\n\nUsage:\n")
    body, _, option_text = rest.partition("\n\nOptions:\n")
    usage, _, prose = body.partition("\n\n")
    lines = tuple(line.strip() for line in usage.splitlines())
    options = tuple(_option(each) for each in _OPTION.split(option_text) if each)
    single = [each for line in lines for each in _alternatives(line)]
    names = dict.fromkeys(["", *(_command_name(line) for line in single)])
    commands = tuple(_command(name, single, options, prose) for name in names)
    return Usage(head.rstrip("."), lines, commands, options)


def _alternatives(line: str) -> list[str]:
    """Return a line for each command of one such as "nginy (drain|ready) BACKEND"."""
    match = re.match(r"nginy \(([a-z]+(?:\|[a-z]+)+)\)(.*)", line)
    return [line] if match is None else [f"nginy {word}{match[2]}" for word in match[1].split("|")]


def _option(text: str) -> Option:
    signature, _, about = text.partition("  ")
    words = signature.split()
    names = tuple(word for word in words if word.startswith("-"))
    value = next((word for word in words if not word.startswith("-")), "")
    return Option(names, value, " ".join(about.split()))


def _command_name(line: str) -> str:
    match = re.match(r"nginy ([a-z][a-z-]*)", line)
    return match[1] if match else ""


def _command(name: str, lines: Sequence[str], options: tuple[Option, ...], prose: str) -> Command:
    own = [line for line in lines if _command_name(line) == name]
    typed = {option for line in own for option in _NAME.findall(line)}
    # The arguments are what the command's first line has beside its options.
    bare = re.sub(r"\[[^]]*-[^]]*\]|-\w [A-Z]+", "", own[0]) if own else ""
    about = re.search(rf"^nginy {name} (.*?)(?=^nginy |\Z)", prose, re.MULTILINE | re.DOTALL)
    return Command(
        name,
        tuple(option for option in options if typed & {*option.names}),
        tuple(dict.fromkeys(re.findall(r"\b[A-Z]+\b", bare))),
        " ".join(about[1].split()) if name and about else "",
    )


def mistake(text: str, typed: Sequence[str], signals: Collection[str]) -> str:
    """Return what is wrong with a command line that docopt refuses; `signals` are those of -s."""
    known = sorted(set(re.findall(r"(?m)^  (-\w)\b|(--[a-z-]+)", text)))
    options = [short or long for short, long in known]
    for word in typed:
        for option in _options_in(word):
            if option not in options:
                meant = FOREIGN_OPTIONS.get(option) or closest(option, options)
                hint = did_you_mean(meant)
                return f"unknown option {quote(option)}{hint}, expected {', '.join(options)}"
    given = [option for word in typed for option in _options_in(word)]
    exclusive = [option for option in ("-t", "-T", "-s") if option in given]
    if len(exclusive) > 1:
        return f"{' and '.join(exclusive)} cannot be combined"
    usage = parse_usage(text)
    needy = {name: each.value for each in usage.options if each.value for name in each.names}
    if typed and typed[-1] in needy:
        expected = ", ".join(signals) if typed[-1] == "-s" else needy[typed[-1]]
        return f"{typed[-1]} has no value, expected {expected}"
    words = [word for word in typed if not word.startswith("-")]
    if words and "-s" not in given and words[0] in signals:
        return f"unknown command {quote(words[0])}{did_you_mean(f'-s {words[0]}')}"
    if not words:
        return "no configuration file"
    return "missing or extra argument" if "-s" in given else _wrong_words(usage, words)


def _wrong_words(usage: Usage, words: Sequence[str]) -> str:
    """Return what is wrong with a command and its arguments."""
    names = [each.name for each in usage.commands if each.name]
    text = "missing or extra argument"
    if words[0] in names:
        single = [each for line in usage.lines for each in _alternatives(line)]
        lines = [line for line in single if _command_name(line) == words[0]]
        return f"{text}, expected {' or '.join(lines)}"
    meant = closest(words[0], names) if len(words) > 1 else None
    return f"unknown command {quote(words[0])}{did_you_mean(meant)}" if meant else text


def _options_in(word: str) -> list[str]:
    """Return the options in one word of the command line; -tc has two."""
    if word.startswith("--"):
        return [word.partition("=")[0]]
    if not word.startswith("-") or word == "-":
        return []
    found = []
    for letter in word[1:]:
        found.append(f"-{letter}")
        if letter in WITH_VALUE:
            break
    return found
