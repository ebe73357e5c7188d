"""The text of --help, taken apart, and what is made of it: the manual page and completions."""

import os
import pathlib
import pty
import re
import select
import subprocess
import time

import pytest
from nginy import __version__
from nginy.cli import main
from nginy.cli_questions import SIGNALS_BY_NAME
from nginy.commands.importing.front import READERS
from nginy.commands.printed.completion import SHELLS, render_completion
from nginy.commands.printed.help import USAGE
from nginy.commands.printed.manual import SIGNALS, render_manual
from nginy.commands.printed.reference import VARIABLES_ABOUT, render_reference
from nginy.commands.printed.usage import Command, Option, Usage, parse_usage
from nginy.config.record import records_of
from nginy.config.schema import CONFIG

from kit.program import CHECKOUT, PATIENCE_S, needs

VALUES = {
    "SIGNAL": tuple(SIGNALS_BY_NAME),
    "SHELL": tuple(SHELLS),
    "PROGRAM": tuple(READERS),
}
TEXT = """nginy serves.

Usage:
  nginy [-t | -s SIGNAL] CONFIG
  nginy ask-for [-c FILE] CONFIG [NAME]
  nginy (-h | --long-one VALUE)

nginy ask-for prints what
NAME is.

Options:
  -t             Check, and exit.
  -s SIGNAL      Send SIGNAL
                 to it.
  -c FILE        The file.
  --long-one VALUE
                 Print VALUE.
  -h --help      Print this.
"""
T = Option(("-t",), "", "Check, and exit.")
S = Option(("-s",), "SIGNAL", "Send SIGNAL to it.")
C = Option(("-c",), "FILE", "The file.")
LONG = Option(("--long-one",), "VALUE", "Print VALUE.")
H = Option(("-h", "--help"), "", "Print this.")


def test_a_text_of_docopt_is_taken_apart() -> None:
    assert parse_usage(TEXT) == Usage(
        "nginy serves",
        ("nginy [-t | -s SIGNAL] CONFIG", "nginy ask-for [-c FILE] CONFIG [NAME]",
         "nginy (-h | --long-one VALUE)"),
        (
            Command("", (T, S, LONG, H), ("CONFIG",), ""),
            Command("ask-for", (C,), ("CONFIG", "NAME"), "prints what NAME is."),
        ),
        (T, S, C, LONG, H),
    )  # fmt: skip


def test_nothing_of_the_help_is_left_out() -> None:
    usage = parse_usage(USAGE)
    words = " ".join(word for option in usage.options for word in (*option.names, option.about))
    assert set(re.findall(r"(?m)^  (-\S+)", USAGE)) <= set(words.split())
    assert all(option.about.endswith((".", ")")) for option in usage.options)
    assert [command.name for command in usage.commands][:3] == ["", "plan", "explain"]
    assert all(command.about for command in usage.commands[1:])


# The manual page.


@pytest.fixture(scope="module")
def page() -> str:
    return render_manual(parse_usage(USAGE), render_reference(), __version__)


@pytest.fixture(scope="module")
def shown(page: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page as man shows it in a terminal, as words with one blank between them."""
    path = tmp_path_factory.mktemp("man") / "nginy.8"
    path.write_text(page)
    done = subprocess.run(
        [needs("man", "man-db"), "--warnings", "--encoding=utf8", "--local-file", str(path)],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return " ".join(re.sub(".\b", "", done.stdout).split())


def test_man_has_no_warning_and_shows_every_option(shown: str) -> None:
    for option in parse_usage(USAGE).options:
        names = ", ".join(option.names)
        value = f" {option.value}" if option.value else ""
        assert f" {names}{value} {option.about}" in shown


def test_man_shows_every_command_line(shown: str) -> None:
    for line in parse_usage(USAGE).lines:
        assert line in shown


def test_man_shows_every_key_and_every_variable(shown: str) -> None:
    for _, record in records_of(CONFIG):
        for name, row in record.keys.items():
            expected = " ".join(row.kind.expected.replace("`", "").split())
            assert f" {name} {expected}. " in shown
            assert " ".join(row.about.replace("`", "").split()) in shown
    for name in VARIABLES_ABOUT:
        assert f" ${name} " in shown


def test_the_signals_are_those_of_the_readme() -> None:
    table = (CHECKOUT / "README.md").read_text().partition("\n## Signals\n")[2]
    rows = re.findall(r"^\| ([A-Z][A-Z0-9, ]+) \|[^|]*\| (.*) \|$", table, re.MULTILINE)
    assert dict(rows[: len(SIGNALS)]) == SIGNALS


def test_text_that_man_would_take_for_its_own_is_shown(page: str) -> None:
    usage = Usage("nginy serves", (), (), (Option(("-x",), "", ".it's a \\n `^~-` 'x'"),))
    text = render_manual(usage, "# Keys\n\n'tis so\n\n- `a-b`: one. Two.", "1")
    assert "\n\\&.it\\(aqs a \\en \\fB\\(ha\\(ti\\-\\fR \\(aqx\\(aq\n" in text
    assert ".TP\n\\fBa\\-b\\fR\none. Two.\n" in text
    assert not [line for line in page.splitlines() if re.match(r"['.](?![A-Za-z]{2}\b)", line)]


def test_the_command_line_prints_the_page(capsys: pytest.CaptureFixture[str], page: str) -> None:
    assert main(["--man"]) == 0
    assert capsys.readouterr() == (page, "")


# Completion.


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    for shell in SHELLS:
        (tmp_path / f"_{shell}").write_text(render_completion(shell, parse_usage(USAGE), VALUES))
    for name in ("my file.yml", "site.yaml", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "conf.d").mkdir()
    return tmp_path


IN_BASH = """
source ./_bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nginy; printf '%s\\n' "${COMPREPLY[@]}"
"""
CONFIGS = {"my file.yml", "site.yaml", "conf.d"}


def bash(directory: pathlib.Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    done = subprocess.run(
        [needs("bash", "bash"), "--norc", "-c", IN_BASH, "-", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pl"], {"plan"}),
        (["ma"], {"maint"}),
        (["ready", "--f"], {"--for"}),
        (["weight", "-a", "unix:/a.sock", "si"], {"site.yaml"}),
        (["--man"], {"--man"}),
        (["--c"], {"--completion"}),
        (["status", "--"], {"--json", "--check"}),
        (["-s", ""], {"stop", "quit", "reload", "reopen", "upgrade"}),
        (["-s", "re"], {"reload", "reopen"}),
        (["-s", "reload", "si"], {"site.yaml"}),
        (["-t", "my"], {"my file.yml"}),
        (["-c", ""], CONFIGS),
        (["--completion", "z"], {"zsh"}),
        (["plan", ""], CONFIGS),
        (["plan", "-"], {"-c"}),
        (["plan", "-c", "my file.yml", ""], CONFIGS),
        (["plan", "-c", "my file.yml", "site.yaml", ""], set()),
        (["explain", "si"], {"site.yaml"}),
        (["explain", "site.yaml", ""], set()),
        (["import", "no"], {"notes.txt"}),
        (["import", "--from", "h"], {"haproxy"}),
        (["import", "-o", "si"], {"site.yaml"}),
    ],
)
def test_bash_offers_what_can_follow(
    directory: pathlib.Path, words: list[str], offered: set[str]
) -> None:
    assert bash(directory, "nginy", *words) == offered


def test_bash_offers_every_option_and_command(directory: pathlib.Path) -> None:
    usage = parse_usage(USAGE)
    names = [command.name for command in usage.commands]
    offered = set.union(*(bash(directory, *f"nginy {name} -".split()) for name in names))
    assert offered == {name for option in usage.options for name in option.names}
    assert bash(directory, "nginy", "") == CONFIGS | set(names) - {""}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "begin"),
    [
        (["bash", "--norc", "--noprofile", "-i"], "source ./_bash"),
        (["zsh", "-f", "-i"], "autoload -U compinit; compinit -D -u; compdef _nginy nginy"),
    ],
    ids=["bash", "zsh"],
)
def test_a_real_shell_completes_what_is_typed(
    directory: pathlib.Path, shell: list[str], begin: str
) -> None:
    needs(shell[0], shell[0])
    (directory / "_zsh").rename(directory / "_nginy")
    ready = "echo rea''dy"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(directory)
        environ = {"PATH": os.environ["PATH"], "TERM": "dumb", "FPATH": fpath(directory)}
        os.execvpe(shell[0], shell, environ)
    try:
        os.write(terminal, f"PS1='$ '; {begin}; {ready}\n".encode())
        read_until(terminal, "\nready")
        for typed, completed in (("expl", "explain"), ("-s relo", "-s reload"), ("my", "my\\ f")):
            os.write(terminal, f"nginy {typed}\t".encode())
            read_until(terminal, f"nginy {completed}")
            os.write(terminal, b"\x15")  # forgets the line
    finally:
        os.kill(pid, 9)
        os.close(terminal)
        os.waitpid(pid, 0)


def fpath(directory: pathlib.Path) -> str:
    """Where zsh looks for functions."""
    places = pathlib.Path("/usr/share/zsh").glob("functions*/**/")
    return ":".join([str(directory), *map(str, places)])


def read_until(terminal: int, wanted: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    text = ""
    while wanted not in text:
        assert time.monotonic() < deadline_s, (wanted, text)
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")


def test_fish_offers_what_can_follow(directory: pathlib.Path) -> None:
    fish = needs("fish", "fish")
    lines = ["nginy ex", "nginy -s rel", "nginy plan -", "nginy si"]
    asked = "; ".join(f'complete -C "{line}"' for line in lines)
    done = subprocess.run(
        [fish, "--no-config", "-c", f"source ./_fish; {asked}"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert offered == ["explain", "reload", "-c", "site.yaml"]


def test_the_command_line_prints_the_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert main(["--completion", shell]) == 0
        assert capsys.readouterr() == (render_completion(shell, parse_usage(USAGE), VALUES), "")
    assert main(["--completion", "ksh"]) == 1
    assert capsys.readouterr().err == (
        'nginy: [emerg] invalid option: "--completion ksh", expected bash, zsh, fish\n'
    )
