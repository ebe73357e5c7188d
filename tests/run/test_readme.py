"""The README's console blocks: each command is run, and says what the README says it does.

Every block that begins with a prompt counts. Anyone can type a line after "$ ": the test runs it,
with an address of its own in place of 127.0.0.1. Root types a line after "# " on Debian: the test
checks that the files that it names exist, and that their paths agree with the service's.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kit.program import CHECKOUT, ENVIRONMENT, PATIENCE_S, Nginy, needs, own_host, run_once

pytestmark = pytest.mark.slow

README = (CHECKOUT / "README.md").read_text()
EXAMPLE = (CHECKOUT / "etc" / "nginy.yml").read_text()
LISTENERS = EXAMPLE.count("listen: 127.0.0.1:")
# The time and the process number of a line of the error log.
STAMP = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\[\w+\]) \d+#\d+: ", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One line after a prompt, and what follows it up to the next prompt."""

    prompt: str
    line: str
    output: str


def commands(markdown: str) -> Iterator[Command]:
    """The commands of all blocks that begin with a prompt."""
    for block in re.findall(r"^```\n([$#] .*?)^```$", markdown, re.MULTILINE | re.DOTALL):
        # A "#" after "$ cat file" is a comment of that file.
        for part in re.split(rf"^(?=[{block[0]}] )", block, flags=re.MULTILINE)[1:]:
            # A line that ends in a backslash goes on.
            line, output = re.split(r"(?<!\\)\n", part[2:], maxsplit=1)
            yield Command(part[0], line, output)


COMMANDS = list(commands(README))
TYPED = {command.line: command for command in COMMANDS if command.prompt == "$"}
ROOT = [command.line for command in COMMANDS if command.prompt == "#"]

# What each command is run for; a test below each.
STARTED = "bin/nginy etc/nginy.yml"
ASKED = {
    "for i in 1 2; do curl -s http://127.0.0.1:8080/; done": ("curl", "curl"),
    "curl -s http://127.0.0.1:9180/readyz": ("curl", "curl"),
    "curl -s 'http://127.0.0.1:9180/readyz?upstream=web&min=3'": ("curl", "curl"),
    "curl -s 'http://127.0.0.1:9180/api/v1/explain?listener=127.0.0.1:8080&client=10.1.2.3' \\\n"
    "    | grep ^choice": ("curl", "curl"),
    "curl -s 'http://127.0.0.1:9180/api/v1/backends?usable=true' | "
    """jq -r '.backends[] | "\\(.upstream)/\\(.address) \\(.state)"'""": ("jq", "jq"),
    "curl -s 'http://127.0.0.1:9180/api/v1/overview?fields=upstreams' | "
    "jq -c '.upstreams[] | [.name, .usable, .backends]'": ("jq", "jq"),
    "curl -s http://127.0.0.1:9180/api/v1/upstreams/wbe | jq -c .error": ("jq", "jq"),
    "for i in 1 2; do echo | nc -u -w1 127.0.0.1 8053; done": ("nc", "netcat-openbsd"),
}
SHOWN = "cat bad.yml"
STATUS = "nginy status nginy.yml"
PROBE = "nginy status -a 127.0.0.1:9180 --check"
# Numbers that differ each time.
OPERATED = (
    "nginy drain --wait 60s --reason 'deploy 42' nginy.yml web/127.0.0.1:9001",
    "nginy weight --for 30m nginy.yml web/127.0.0.1:9002 3",
    "nginy ready nginy.yml web/127.0.0.1:9001",
)
REQUESTED = [line for line in TYPED if line.startswith("curl -s --unix-socket nginy.pid.sock ")]
COUNT = re.compile(r"(?<=PID )\d+|(?<=up for )\w+|\d+(?= sessions| in all| of 16384)")
ANSWERED = {
    "nginy -t bad.yml": 1,
    "nginy plan -c nginy.yml new.yml": 0,
    "nginy explain nginy.yml 127.0.0.1:8080 10.1.2.3": 0,
}
# An import, the file that it reads, the one that it writes.
IMPORTED = {
    "nginy import -o sites.yml nginx.conf 2>&1 | grep -v ^exact": (
        "cat nginx.conf",
        "cat sites.yml",
    ),
    "nginy import -o shop.yml haproxy.cfg 2>&1 | grep -v ^exact": (
        "cat haproxy.cfg",
        "cat shop.yml",
    ),
}
COLLECTED = ("bin/test", "bin/test -q tests/tour")


def test_every_command_is_checked_and_stands_there_once() -> None:
    typed = [command.line for command in COMMANDS if command.prompt == "$"]
    imports = [line for each in IMPORTED.items() for line in (each[0], *each[1])]
    shown = [STARTED, *ASKED, SHOWN, STATUS, PROBE, *ANSWERED]
    assert sorted(typed) == sorted([*shown, *OPERATED, *REQUESTED, *imports, *COLLECTED])


def test_a_command_that_stands_there_twice_is_seen() -> None:
    twice = list(
        commands("```\n$ cat a\nb\n$ cat a\nb\n```\ntext\n```\n# c\n```\n```yaml\n# d\n```\n")
    )
    assert twice == [
        Command("$", "cat a", "b\n"),
        Command("$", "cat a", "b\n"),
        Command("#", "c", ""),
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The files that the commands name."""
    path = tmp_path_factory.mktemp("readme")
    (path / "bad.yml").write_text(TYPED[SHOWN].output)
    (path / "nginy.yml").write_text(EXAMPLE)
    new = EXAMPLE.replace("- 127.0.0.1:9002", "- 127.0.0.1:9003")
    (path / "new.yml").write_text(new.replace("  web: ", "  web:\n    balance: least_conn #"))
    return path


@pytest.mark.parametrize("line", ANSWERED)
def test_what_nginy_answers(line: str, directory: pathlib.Path) -> None:
    program, *arguments = shlex.split(line)
    assert program == "nginy"
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "bin" / "nginy"), *arguments],
        cwd=directory,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (ANSWERED[line], TYPED[line].output)


@pytest.mark.parametrize("line", IMPORTED)
def test_what_becomes_of_another_program_s_configuration(line: str, tmp_path: pathlib.Path) -> None:
    before, after = (TYPED[each] for each in IMPORTED[line])
    (tmp_path / before.line.removeprefix("cat ")).write_text(before.output)
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(CHECKOUT / 'bin' / 'nginy'))}"
    done = subprocess.run(
        ["sh", "-c", line.replace("nginy import", f"{program} import", 1)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == TYPED[line].output
    assert (tmp_path / after.line.removeprefix("cat ")).read_text() == after.output
    assert run_once("-t", str(tmp_path / after.line.removeprefix("cat ")))[0] == 0


@pytest.fixture(scope="module")
def demonstration(directory: pathlib.Path) -> Iterator[tuple[str, str]]:
    """The address of a running demonstration, and what it said at its start."""
    host = own_host()
    config = directory / "demonstration.yml"
    config.write_text(EXAMPLE.replace("127.0.0.1", host))
    with subprocess.Popen(
        [sys.executable, str(CHECKOUT / "bin" / "nginy"), str(config)],
        env=ENVIRONMENT,
        text=True,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            said = ""
            while "serving" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            yield host, said.replace(str(config), "etc/nginy.yml").replace(host, "127.0.0.1")
        finally:
            process.kill()


def test_what_the_demonstration_says_at_its_start(demonstration: tuple[str, str]) -> None:
    assert STAMP.sub(r"\1 ", demonstration[1]) == STAMP.sub(r"\1 ", TYPED[STARTED].output)


@pytest.mark.parametrize("line", ASKED)
def test_what_the_demonstration_answers(line: str, demonstration: tuple[str, str]) -> None:
    needs(*ASKED[line])
    host, _ = demonstration
    command = ["bash", "-c", line.replace("127.0.0.1", host)]
    said = subprocess.check_output(command, text=True, timeout=PATIENCE_S)
    assert said.replace(host, "127.0.0.1") == TYPED[line].output


def test_what_the_demonstration_says_of_itself(
    demonstration: tuple[str, str], directory: pathlib.Path
) -> None:
    config = str(directory / "demonstration.yml")
    _, said, _ = run_once("status", config)
    said = said.replace(config, "nginy.yml").replace(demonstration[0], "127.0.0.1")
    assert COUNT.sub("N", said) == COUNT.sub("N", TYPED[STATUS].output)
    words = shlex.split(PROBE.replace("127.0.0.1", demonstration[0]))[1:]
    assert run_once(*words) == (0, TYPED[PROBE].output, [])


def test_what_an_operator_does(tmp_path: pathlib.Path) -> None:
    host = own_host()
    with Nginy(
        tmp_path, EXAMPLE.replace("127.0.0.1", host).replace("\nadmin:", "\n# admin:")
    ) as nginy:
        for line in OPERATED:
            arguments = shlex.split(line.replace("127.0.0.1", host))[1:]
            words = [str(nginy.path) if word == "nginy.yml" else word for word in arguments]
            status, said, _ = run_once(*words)
            assert (status, said.replace(host, "127.0.0.1")) == (0, TYPED[line].output)
        nginy.stop()


def test_what_an_operator_requests(tmp_path: pathlib.Path) -> None:
    needs("curl", "curl")
    needs("jq", "jq")
    assert len(REQUESTED) == 2
    lines = EXAMPLE.replace("127.0.0.1", own_host()).replace("\nadmin:", "\n# admin:")
    with Nginy(tmp_path, lines) as nginy:
        for line in REQUESTED:
            said = subprocess.check_output(
                ["bash", "-c", line], cwd=tmp_path, text=True, timeout=PATIENCE_S
            )
            assert said == TYPED[line].output
        nginy.stop()


def test_the_tests_that_it_names_exist() -> None:
    for line in COLLECTED:
        program, *arguments = shlex.split(line)
        paths = [argument for argument in arguments if not argument.startswith("-")]
        assert all((CHECKOUT / path).exists() for path in (program, *paths))


def test_the_files_that_root_installs_exist() -> None:
    named = {word for line in ROOT for word in line.split() if word.startswith("etc/")}
    present = {f"etc/{name}" for name in os.listdir(CHECKOUT / "etc")}
    assert named < present
    assert {path for path in present - named if path not in README} == set()


def test_the_service_starts_the_command_that_root_has_made() -> None:
    unit = (CHECKOUT / "etc" / "nginy.service").read_text()
    [started] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, config = started.split()
    assert f"ExecReload={program} -s reload {config}\n" in unit
    assert all(line.split()[-1] == program for line in ROOT if line.startswith("ln "))
    assert any(f"PIPX_BIN_DIR={os.path.dirname(program)} " in line for line in ROOT)
    assert any(line.split()[-2:] == ["etc/nginy.yml", config] for line in ROOT)


def test_the_sockets_of_the_service_are_those_of_the_demonstration() -> None:
    unit = (CHECKOUT / "etc" / "nginy.socket").read_text()
    sockets = re.findall(r"^Listen(Stream|Datagram)=(.*)$", unit, re.MULTILINE)
    assert sockets == [("Stream", "127.0.0.1:8080"), ("Datagram", "127.0.0.1:8053")]
    assert all(f"listen: {address}" in EXAMPLE for _, address in sockets)
