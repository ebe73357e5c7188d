"""The admin interface behind -a: what may be typed, and what a configuration adds to it."""

import os
import pathlib
import socket
import threading

import pytest
from nginy.cli import main
from nginy.commands.running.asking import Message, ask_json
from nginy.commands.running.interface import Interface, interface_at
from nginy.errors import NginyError

from kit.configs import LISTENER, loaded

Capture = pytest.CaptureFixture[str]
EXPECTED = "expected unix:PATH or HOST:PORT"


def address_of(interface: Interface) -> str:
    return str(interface.place(is_change=False)[1])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("unix:/run/nginy.sock", "unix:/run/nginy.sock"),
        ("unix:a/../b.sock", f"unix:{os.getcwd()}/b.sock"),
        ("127.0.0.1:9180", "127.0.0.1:9180"),
        ("[::1]:9180", "[::1]:9180"),
        ("0.0.0.0:9180", "0.0.0.0:9180"),
    ],
)
def test_an_address_is_a_unix_socket_or_a_port(typed: str, meant: str) -> None:
    interface = interface_at(typed, None)
    assert (address_of(interface), interface.name) == (meant, typed)
    # Nobody has said what clients may do there: it is as without a configuration.
    assert interface.may_change is typed.startswith("unix:")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", f'-a "" has no port, {EXPECTED}'),
        ("unix:", f'-a "unix:" is not an absolute path, {EXPECTED}'),
        ("127.0.0.1", f'-a "127.0.0.1" has no port, {EXPECTED}'),
        ("localhost", f'-a "localhost" has no port, {EXPECTED}'),
        ("127.0.0.1:+0", f'-a "127.0.0.1:+0" has no port, {EXPECTED}'),
        ("/run/n.sock", '(did you mean "unix:/run/n.sock"?), '),
        ("n.sock", '(did you mean "unix:n.sock"?), '),
        ("http://127.0.0.1:9180/api", '(did you mean "127.0.0.1:9180"?), '),
        ("127.0.0.1:99999", f"{EXPECTED}"),
        ("1.2.3.4.5:80", f"{EXPECTED}"),
        (f"unix:/{'a' * 200}", f"{EXPECTED}"),
    ],
)
def test_anything_else_gets_one_sentence(capsys: Capture, typed: str, said: str) -> None:
    assert main(["status", "-a", typed]) == 1
    out, errors = capsys.readouterr()
    assert out == ""
    [line] = errors.splitlines()
    assert line.startswith("nginy: [emerg] ")
    assert said in line
    assert '""' not in line.replace('-a ""', "")


@pytest.mark.parametrize(
    "words",
    [
        "status --json",
        "status --check",
        "drain web/1:1",
        "maint --for 1m web/1:1",
        "ready --wait 1s web/1:1",
        "weight web/1:1 3",
        "sessions",
        "sessions --kill client=10.0.0.0/8",
        "sessions --top bytes state=queued min_age=1m",
        "reload",
        "reload --dry-run",
        "top -d 1",
        "trace --for 1s",
        "log --last 3",
        "log --set debug",
    ],
)
def test_every_command_asks_there(capsys: Capture, words: str) -> None:
    assert main([*words.split(), "-a", "unix:/no/where.sock"]) == 1
    said = "no answer from unix:/no/where.sock (2: No such file or directory); is nginy running?"
    assert capsys.readouterr() == ("", f"nginy: [emerg] {said}\n")


def test_commands_that_ask_nobody_do_not_know_it(capsys: Capture) -> None:
    for words in ("plan a.yml", "explain a.yml web 10.1.2.3", "check a.yml", "a.yml", "-t a.yml"):
        assert main([*words.split(), "-a", "unix:/no/where.sock"]) == 1
        assert "missing or extra argument" in capsys.readouterr().err


def test_a_configuration_adds_the_token_and_what_may_be_done(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef" * 2)
    (tmp_path / "token").chmod(0o600)
    text = (
        "admin:\n"
        f"- {{listen: 'unix:{tmp_path}/a.sock', access: read}}\n"
        "- {listen: '127.0.0.1:9180', token_file: ./token, access: full}\n"
        "- {listen: '0.0.0.0:9181', token_file: ./token}\n"
    )
    config = loaded(tmp_path, f"{text}{LISTENER}")
    for typed, has_token, may_change in (
        (f"unix:{tmp_path}/a.sock", False, False),
        (f"unix:{tmp_path}/b.sock", False, True),
        ("127.0.0.1:9180", True, True),
        ("10.0.0.1:9181", True, False),
        ("10.0.0.1:9180", False, False),
        ("[::1]:9181", False, False),
    ):
        interface = interface_at(typed, config)
        entry, _ = interface.place(is_change=True)
        assert (address_of(interface), interface.config) == (typed, config)
        assert (entry.token_file is not None, interface.may_change) == (has_token, may_change)


def test_a_name_stands_for_its_address_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert address_of(interface_at(f"localhost:{port}", None)) == f"127.0.0.1:{port}"
    with pytest.raises(
        NginyError, match=rf"no answer from localhost:{port} \(Connection refused\)"
    ):
        interface_at(f"localhost:{port}", None)


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        ("200 OK", "hello", "127.0.0.1:[0-9]+ does not answer like nginy"),
        ("200 OK", "[]", "127.0.0.1:[0-9]+ does not answer like nginy"),
        ("200 OK", '{"sessions": []}', "127.0.0.1:[0-9]+ does not answer like nginy"),
        ("404 Not Found", "hello", "the answer 404 is not nginy's; does something else listen"),
    ],
)
def test_what_answers_otherwise_is_not_nginy(head: str, body: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        interface = interface_at(f"127.0.0.1:{server.getsockname()[1]}", None)

        def answer() -> None:
            c, _ = server.accept()
            with c:
                c.recv(65536)
                c.sendall(f"HTTP/1.0 {head}\r\n\r\n{body}".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NginyError, match=said):
            ask_json(interface, Message("GET", "/api/v1/overview"))
        thread.join()
