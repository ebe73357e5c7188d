"""What shells complete after `nginy`: a script for bash, zsh or fish, from the text of --help.

Each script offers the options that go with the command, the commands in the first place, the values
that an option takes, and files where a file belongs: YAML files and directories for CONFIG. It runs
no program, so it answers at once and never complains about files it cannot read.

The scripts are for the names `nginy` and `nginy.pyz`, and for any path to them.

Tested in tests/commands/printed/test_usage.py.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from nginy.commands.printed.usage import Command, Option, Usage

NAMES: Final = "nginy nginy.pyz"
FILES: Final = {"CONFIG", "FILE", "OUT"}
"""Values and arguments that are files."""

FOREIGN: Final = {("import", "FILE")}
"""Arguments that are files of other programs, with any ending."""
ANY_FILE: Final = "any file"

Values = Mapping[str, Sequence[str]]
"""The values that a word such as SIGNAL may have."""


def render_completion(shell: str, usage: Usage, values: Values) -> str:
    """Return the script for a shell, one of `SHELLS`."""
    return "\n".join([*SHELLS[shell](usage, values), ""])


def _names(options: Sequence[Option]) -> str:
    return " ".join(name for option in options for name in option.names)


def _with_value(usage: Usage) -> list[Option]:
    return [option for option in usage.options if option.value]


def _commands(usage: Usage) -> list[Command]:
    return [command for command in usage.commands if command.name]


def _kind(command: Command, argument: str) -> str:
    """Return what an argument is: its own name, or `ANY_FILE`."""
    return ANY_FILE if (command.name, argument) in FOREIGN else argument


def _first_sentence(text: str) -> str:
    """Return a text up to its first full stop or semicolon, for one line of a menu."""
    return re.split(r"\. |; |, and exit|\.$", text)[0]


# bash


def _bash(usage: Usage, values: Values) -> Iterator[str]:
    """Yield the lines of a function for bash's own `complete`; bash-completion is not needed."""
    names = "|".join(command.name for command in _commands(usage))
    valued = "|".join(name for option in _with_value(usage) for name in option.names)
    yield "# Completion for bash: source <(nginy --completion bash)"
    yield from _BASH_FILES
    yield "_nginy() {"
    yield "    local word=${COMP_WORDS[COMP_CWORD]} command= place=0 i"
    yield "    COMPREPLY=()"
    yield "    case ${COMP_WORDS[COMP_CWORD - 1]} in"
    for option in _with_value(usage):
        yield f"    {'|'.join(option.names)}) {_bash_value(option.value, values)}; return ;;"
    yield "    esac"
    yield "    ((COMP_CWORD > 1)) && case ${COMP_WORDS[1]} in"
    yield f"    {names}) command=${{COMP_WORDS[1]}} ;;"
    yield "    esac"
    yield "    for ((i = ${#command} ? 2 : 1; i < COMP_CWORD; i++)); do"
    yield "        case ${COMP_WORDS[i]} in"
    yield f"        {valued}) i=$((i + 1)) ;;"
    yield "        -*) ;;"
    yield "        *) place=$((place + 1)) ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$command:$word" in'
    for command in usage.commands:
        yield f'    {command.name}:-*) _nginy_words "{_names(command.options)}" ;;'
    yield "    *)"
    yield '        case "$command:$place" in'
    for command in usage.commands:
        for place, argument in enumerate(command.arguments):
            offer = _bash_value(_kind(command, argument), values)
            if not command.name and not place:
                offer = f'_nginy_words "{names.replace("|", " ")}"; {offer}'
            yield f"        {command.name}:{place}) {offer} ;;"
    yield from ("        esac ;;", "    esac", "}")
    yield f"complete -o filenames -F _nginy {NAMES}"


_BASH_FILES: Final = """\
_nginy_words() {
    while read -r; do COMPREPLY+=("$REPLY"); done < <(compgen -W "$1" -- "$word")
}
_nginy_file() {
    while read -r; do COMPREPLY+=("$REPLY"); done < <(compgen -f -- "$word")
}
_nginy_config() {
    while read -r; do COMPREPLY+=("$REPLY"); done < <(
        compgen -d -- "$word"
        compgen -f -X '!*.yml' -- "$word"
        compgen -f -X '!*.yaml' -- "$word"
    )
}""".splitlines()


def _bash_value(value: str, values: Values) -> str:
    if value == ANY_FILE:
        return "_nginy_file"
    if value in FILES:
        return "_nginy_config"
    return f'_nginy_words "{" ".join(values.get(value, ()))}"'


# zsh


def _zsh(usage: Usage, values: Values) -> Iterator[str]:
    """Yield a file for a directory of $fpath, named _nginy."""
    yield f"#compdef {NAMES}"
    yield "# Completion for zsh: nginy --completion zsh > _nginy, in a directory of $fpath"
    yield "_nginy_first() {"
    yield "    local -a commands=("
    for command in _commands(usage):
        yield f"        {_quoted(f'{command.name}:{_first_sentence(command.about)}')}"
    yield "    )"
    yield "    _describe command commands"
    yield f"    {_ZSH_FILES}"
    yield "}"
    yield "_nginy() {"
    yield "    case ${words[2]} in"
    for command in _commands(usage):
        yield f"    {command.name})"
        yield from _zsh_arguments(command, values)
        yield "        ;;"
    yield "    *)"
    yield from _zsh_arguments(usage.commands[0], values)
    yield "        ;;"
    yield "    esac"
    yield "}"
    yield '_nginy "$@"'


_ZSH_FILES: Final = '_files -g "*.(yml|yaml)"'


def _zsh_arguments(command: Command, values: Values) -> Iterator[str]:
    yield "        _arguments \\"
    for option in command.options:
        about = _first_sentence(option.about).replace("[", "\\[").replace("]", "\\]")
        for name in option.names:
            yield f"            {_quoted(f'{name}[{about}]{_zsh_value(option.value, values)}')} \\"
    places = ["command:", *map(str, command.arguments)] if command.name else command.arguments
    for place, argument in enumerate(places, 1):
        if not command.name and place == 1:
            action = ":command or CONFIG:_nginy_first"
        elif argument == "command:":
            action = f":command:({command.name})"
        else:
            action = _zsh_value(_kind(command, argument), values)
        yield f"            {_quoted(f'{place}{action}')} \\"
    yield "            && return"


def _zsh_value(value: str, values: Values) -> str:
    if not value:
        return ""
    if value == ANY_FILE:
        return ":FILE:_files"
    if value in FILES:
        return f":{value}:{_ZSH_FILES}"
    return f":{value}:({' '.join(values[value])})" if value in values else f":{value}: "


# fish


def _fish(usage: Usage, values: Values) -> Iterator[str]:
    """Yield lines for a file of ~/.config/fish/completions. Fish itself offers files."""
    names = " ".join(command.name for command in _commands(usage))
    yield "# Completion for fish: nginy --completion fish | source"
    yield f"for program in {NAMES}"
    first = "__fish_is_first_token"
    for command in _commands(usage):
        about = _quoted(_first_sentence(command.about))
        yield f"    complete -c $program -n {first} -a {command.name} -d {about}"
    for command in usage.commands:
        condition = f"__fish_seen_subcommand_from {command.name or names}"
        if not command.name:
            condition = f"not {condition}"
        for option in command.options:
            yield (
                f"    complete -c $program -n '{condition}' {_fish_names(option)}"
                f"{_fish_value(option.value, values)} -d {_quoted(_first_sentence(option.about))}"
            )
    yield "end"


def _fish_names(option: Option) -> str:
    return " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    )


def _fish_value(value: str, values: Values) -> str:
    if not value:
        return ""
    return " -r" if value in FILES else f" -x -a '{' '.join(values.get(value, ()))}'"


def _quoted(text: str) -> str:
    r"""Return a text in single quotes, which all three shells read as '\'' alike."""
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: Final[Mapping[str, Callable[[Usage, Values], Iterator[str]]]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
"""The shells, each with the function that yields the lines of its script."""
