"""Access rules of a whole nginy: their files are read again at a reload."""

import pathlib
import signal
import socket

from kit.program import PATIENCE_S, Nginy, free_port, own_host


def ask(host: str, port: int) -> bytes:
    """What a silent client gets."""
    with socket.create_connection((host, port), PATIENCE_S) as sock:
        return sock.recv(100)


def test_a_file_of_networks_is_read_again_at_a_reload(tmp_path: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host)
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("192.0.2.0/24\n")
    config = f"""
        listeners:
        - {{listen: "{host}:{port}", return: hello, access: {{deny: {{file: blocked.txt}}}}}}
    """
    with Nginy(tmp_path, config) as nginy:
        assert ask(host, port) == b"hello"
        blocked.write_text("192.0.2.0/24\n127.0.0.1\n")
        nginy.send_signal(signal.SIGHUP)
        (line,) = nginy.said("a file that it names has changed")
        assert "access" in line
        nginy.said("configuration reloaded")
        assert ask(host, port) == b""
        blocked.write_text("everybody\n")
        nginy.send_signal(signal.SIGHUP)
        (line,) = nginy.said("blocked.txt:1:1")
        assert '"everybody" is neither an IP address nor a network' in line
        nginy.said("not changed")
        assert ask(host, port) == b""
        assert nginy.stop()
    ended = nginy.sessions(3)
    assert [each["status"] for each in ended] == ["200", "403", "403"]
    assert ended[1]["termination"] == "PR"
