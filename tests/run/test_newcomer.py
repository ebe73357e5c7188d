"""What the README promises a newcomer: etc/nginy.yml as it is, started, asked, stopped.

Only the address is another: one of 127.0.0.0/8 for each run, so that its fixed ports are free.
"""

import contextlib
import http.client
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kit.program import CHECKOUT, ENVIRONMENT, PATIENCE_S, own_host

EXAMPLE = CHECKOUT / "etc" / "nginy.yml"
pytestmark = pytest.mark.slow

LISTENERS = 4  # lines: neighboring ports share one


@pytest.fixture
def address() -> str:
    """An address of this machine that nobody else is likely to use."""
    return own_host()


@pytest.fixture
def running(address: str, tmp_path: pathlib.Path) -> Iterator["subprocess.Popen[str]"]:
    """bin/nginy with the example, listening on all its addresses."""
    config = tmp_path / "nginy.yml"
    config.write_text(EXAMPLE.read_text().replace("127.0.0.1", address))
    with subprocess.Popen(
        [sys.executable, str(CHECKOUT / "bin" / "nginy"), str(config)],
        cwd="/",
        env=ENVIRONMENT,
        text=True,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            said = [process.stderr.readline() for _ in range(LISTENERS)]
            assert all("listening on" in line for line in said), said
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def ask_http(address: str, port: int) -> str:
    """The answer to a browser or curl, which accept only valid answers."""
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (200, "text/plain")
        return response.read().decode()


def ask_udp(address: str, port: int) -> str:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect((address, port))
        client.send(b"\n")
        return client.recv(4096).decode()


ONE = "backend one says hello to {}\n"
TWO = "backend two says hello to {}\n"


def test_the_example_balances_connections(running: "subprocess.Popen[str]", address: str) -> None:
    answers = [ask_http(address, 8080) for _ in range(4)]
    # the backend sees nginy, which the kernel gives the address that it connects to
    assert answers == [text.format("127.0.0.1") for text in (ONE, TWO, ONE, TWO)]


def test_the_example_balances_datagrams(running: "subprocess.Popen[str]", address: str) -> None:
    answers = [ask_udp(address, 8053) for _ in range(4)]
    assert answers == [text.format("127.0.0.1") for text in (ONE, TWO, ONE, TWO)]


def test_ctrl_c_ends_it_with_success(running: "subprocess.Popen[str]", address: str) -> None:
    assert ask_http(address, 8080) == ONE.format("127.0.0.1")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0
    assert "Traceback" not in said


def test_the_example_passes_its_own_test() -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "bin" / "nginy"), "-T", "etc/nginy.yml"],
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout[:1]) == (0, "#")
    assert done.stderr.endswith("nginy: configuration file etc/nginy.yml test is successful\n")
