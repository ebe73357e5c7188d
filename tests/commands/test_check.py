"""`nginy check`: each backend is asked once, and a line says how it has answered."""

import contextlib
import pathlib
import re
import socket
from collections.abc import Iterator

import pytest
from nginy.cli import main
from nginy.commands.check import HEX_MAX_BYTES, MAX_AT_ONCE, check, render_checks
from nginy.errors import NginyError

from kit.configs import loaded, write
from kit.servers import RefusingPort

Capture = pytest.CaptureFixture[str]
LISTENERS = "listeners: [{listen: 127.0.0.1:80, proxy_pass: web}]\n"


@pytest.fixture
def backend() -> Iterator[str]:
    """The address of a socket whose connections nobody accepts: the kernel does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(200)
        yield "{}:{}".format(*sock.getsockname())


def upstreams(**texts: str) -> str:
    lines = "".join(f"  {name}: {{{text}}}\n" for name, text in texts.items())
    return f"upstreams:\n{lines}{LISTENERS}"


def rendered(directory: pathlib.Path, text: str, *, is_verbose: bool = False) -> list[str]:
    """What is printed, without the times."""
    asked = check(loaded(directory, text), None)
    printed = render_checks(asked, is_verbose=is_verbose)
    return [re.sub(r" +\d+ ms", " N ms", line) for line in printed.splitlines()]


def test_each_backend_has_a_line(tmp_path: pathlib.Path, backend: str) -> None:
    with contextlib.closing(RefusingPort()) as port:
        text = upstreams(
            web=f"health_check: tcp, backends: [{backend}, {port.name}]",
            off=f"backends: [{backend}]",
            other=f"health_check: tcp, backends: [{{address: {port.name}, down: on}}, {backend}]",
        )
        width = max(len(backend), len(port.name))
        good, bad = backend.ljust(width), port.name.ljust(width)
        lines = rendered(tmp_path, text)
    assert lines == [
        f"web    {good}  passed N ms",
        f"web    {bad}  failed N ms  connect() failed (111: Connection refused)",
        f"other  {bad}  not asked  down in the configuration",
        f"other  {good}  passed N ms",
    ]


def test_the_status_says_whether_all_have_passed(
    tmp_path: pathlib.Path, backend: str, capsys: Capture
) -> None:
    down = "{address: 127.0.0.1:1, down: on}"
    good = upstreams(web=f"health_check: tcp, backends: [{backend}, {down}]")
    bad = upstreams(web=f"health_check: tcp, backends: [{backend}, 'unix:{tmp_path}/no']")
    assert main(["check", write(tmp_path, good, "good.yml")]) == 0
    assert main(["check", write(tmp_path, bad, "bad.yml")]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 4
    assert err == ""


def test_one_upstream_may_be_named(tmp_path: pathlib.Path, backend: str) -> None:
    text = upstreams(
        web=f"health_check: tcp, backends: [{backend}]",
        other=f"health_check: tcp, backends: [{backend}]",
        off=f"backends: [{backend}]",
    )
    config = loaded(tmp_path, text)
    assert [each.upstream for each in check(config, "other")] == ["other"]
    with pytest.raises(NginyError, match='upstream "off" has no health_check'):
        check(config, "off")
    with pytest.raises(NginyError, match=r'no upstream "othr" \(did you mean "other"\?\)'):
        check(config, "othr")


def test_without_any_health_check_there_is_nothing_to_ask(
    tmp_path: pathlib.Path, backend: str
) -> None:
    config = loaded(tmp_path, upstreams(web=f"backends: [{backend}]"))
    with pytest.raises(NginyError, match="no upstream has a health_check"):
        check(config, None)


def test_a_name_stands_for_its_addresses(tmp_path: pathlib.Path, backend: str) -> None:
    port = backend.rpartition(":")[2]
    text = "resolver: {ipv6: off}\n" + upstreams(
        web=f"health_check: tcp, backends: ['localhost:{port}']"
    )
    (line,) = rendered(tmp_path, text)
    assert line == f"web  localhost:{port} ({backend})  passed N ms"


def test_a_service_that_cannot_be_asked_for_is_said(tmp_path: pathlib.Path) -> None:
    # Nobody answers on the discard port.
    text = "resolver: {nameservers: ['127.0.0.1:9'], timeout: 50ms}\n" + upstreams(
        web="health_check: tcp, backends: [{address: 'a.test', service: http, resolve: on}]"
    )
    (line,) = rendered(tmp_path, text)
    assert re.match(r"web  a\.test\S*  not asked  has no address \(.+\)$", line)


def test_more_backends_than_are_asked_at_once(tmp_path: pathlib.Path, backend: str) -> None:
    backends = ", ".join([backend] * (MAX_AT_ONCE + 50))
    text = upstreams(web=f"health_check: tcp, backends: [{backends}]")
    asked = check(loaded(tmp_path, text), None)
    assert len(asked) == MAX_AT_ONCE + 50
    assert all(each.is_fine for each in asked)


def test_silence_that_passes_is_said(tmp_path: pathlib.Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        name = "{}:{}".format(*sock.getsockname())
        check_keys = "{type: udp, timeout: 30ms}"
        text = upstreams(web=f"health_check: {check_keys}, backends: [{name}]")
        assert rendered(tmp_path, text) == [f"web  {name}  passed N ms  no answer"]


def test_v_prints_what_was_said(tmp_path: pathlib.Path, backend: str) -> None:
    send = "x" * (HEX_MAX_BYTES + 1)
    check_keys = rf"{{type: redis, timeout: 30ms, user: joe, password_file: {tmp_path}/secret.txt}}"
    (tmp_path / "secret.txt").write_text(send)
    text = upstreams(web=f"health_check: {check_keys}, backends: [{backend}]")
    lines = rendered(tmp_path, text, is_verbose=True)
    assert "redis: timed out while waiting for the answer" in lines[0]
    assert lines[1] == "  > 2a 33 0d 0a 24 34 0d 0a 41 55 54 48 0d 0a 24 33  *3..$4..AUTH..$3"
    assert re.fullmatch(r"  > \.\.\. \d+ more bytes", lines[-1])
    assert "****" in lines[-2]
    assert not any("xxx" in line or "78 78 78" in line for line in lines)


def test_a_program_is_run_as_by_the_service(tmp_path: pathlib.Path) -> None:
    keys = "{type: exec, command: [/bin/sh, -c, 'exit 3']}"
    text = upstreams(web=f"health_check: {keys}, backends: [127.0.0.1:1]")
    assert rendered(tmp_path, text) == ["web  127.0.0.1:1  failed N ms  exit status 3"]
