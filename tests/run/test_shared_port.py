"""One port on all addresses, and another service on one of them: the whole program."""

import os
import pathlib
import signal
import socket
import tempfile

import pytest
from nginy.wire.proxy_protocol import build_v2

from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once


def asked(kind: socket.SocketKind, host: str, port: int) -> bytes:
    """What the listener at an address answers."""
    with socket.socket(type=kind) as client:
        client.settimeout(15)
        client.connect((host, port))
        client.send(b"x")
        return client.recv(100)


def config(protocol: str, port: int, hosts: list[str], workers: int) -> str:
    lines = [
        f"  - {{listen: '{host}:{port}', protocol: {protocol}, return: 'at {host}'}}\n"
        for host in hosts
    ]
    return f"workers: {workers}\nlisteners:\n{''.join(lines)}"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_specific_address_is_served_first(
    tmp_path: pathlib.Path, protocol: str, workers: int
) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    host, other = own_host(), "127.0.0.1"
    port = free_port("0.0.0.0", kind)
    both = config(protocol, port, [host, "0.0.0.0"], workers)
    with Nginy(tmp_path, both) as nginy:
        for _ in range(4):
            assert asked(kind, host, port) == f"at {host}".encode()
            assert asked(kind, other, port) == b"at 0.0.0.0"
        nginy.write(config(protocol, port, ["0.0.0.0"], workers))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        assert asked(kind, host, port) == b"at 0.0.0.0"
        nginy.write(both)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded", 2)
        assert asked(kind, host, port) == f"at {host}".encode()
        assert asked(kind, other, port) == b"at 0.0.0.0"
        nginy.write(config(protocol, port, [host], workers))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded", 3)
        assert asked(kind, host, port) == f"at {host}".encode()
        nginy.write(both)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded", 4)
        assert asked(kind, host, port) == f"at {host}".encode()
        assert asked(kind, other, port) == b"at 0.0.0.0"
        copy = tmp_path / "copy.yml"
        copy.write_text(both)
        status, _, lines = run_once(str(copy))
        assert status == 1
        assert "Address already in use" in lines[-1]


def test_new_clients_of_a_removed_udp_address_reach_the_wildcard_at_once(
    tmp_path: pathlib.Path,
) -> None:
    host = own_host()
    port = free_port("0.0.0.0", socket.SOCK_DGRAM)
    wildcard = f"  - {{listen: '*:{port}', protocol: udp, return: at the wildcard}}\n"
    with (
        socket.socket(type=socket.SOCK_DGRAM) as backend,
        socket.socket(type=socket.SOCK_DGRAM) as old,
    ):
        backend.bind((host, 0))
        backend.settimeout(PATIENCE_S)
        old.settimeout(PATIENCE_S)
        old.connect((host, port))
        to = "{}:{}".format(*backend.getsockname())
        specific = f"  - {{listen: '{host}:{port}', protocol: udp, proxy_pass: u}}\n"
        upstream = f"upstreams: {{u: {{backends: '{to}'}}}}\n"
        with Nginy(tmp_path, f"{upstream}listeners:\n{specific}{wildcard}") as nginy:

            def exchange() -> bytes:
                old.send(b"request")
                _, sender = backend.recvfrom(100)
                backend.sendto(b"response", sender)
                return old.recv(100)

            assert exchange() == b"response"
            nginy.write(f"listeners:\n{wildcard}")
            nginy.send_signal(signal.SIGHUP)
            nginy.said("configuration reloaded")
            for _ in range(3):
                assert asked(socket.SOCK_DGRAM, host, port) == b"at the wildcard"
            assert exchange() == b"response"
            nginy.write(f"{upstream}listeners:\n{specific}{wildcard}")
            nginy.send_signal(signal.SIGHUP)
            nginy.said("configuration reloaded", 2)
            assert exchange() == b"response"
            nginy.stop()


def test_announced_clients_of_a_removed_udp_address_reach_the_wildcard_at_once(
    tmp_path: pathlib.Path,
) -> None:
    host = own_host()
    port = free_port("0.0.0.0", socket.SOCK_DGRAM)
    more = "protocol: udp, accept_proxy_protocol: {from: 0.0.0.0/0, standalone: on}"

    def announcing(address: str) -> bytes:
        return build_v2((address, 4711), ("198.51.100.2", 53), is_udp=True)

    with (
        socket.socket(type=socket.SOCK_DGRAM) as backend,
        socket.socket(type=socket.SOCK_DGRAM) as new_backend,
        socket.socket(type=socket.SOCK_DGRAM) as proxy,
        socket.socket(type=socket.SOCK_DGRAM) as other_proxy,
    ):
        backend.bind((host, 0))
        new_backend.bind((host, 0))
        for sock in (backend, new_backend, proxy, other_proxy):
            sock.settimeout(PATIENCE_S)
        proxy.connect((host, port))
        other_proxy.connect((host, port))
        old, new = ("{}:{}".format(*each.getsockname()) for each in (backend, new_backend))
        wildcard = f"  - {{listen: '*:{port}', {more}, proxy_pass: '{new}'}}\n"
        specific = f"  - {{listen: '{host}:{port}', {more}, proxy_pass: '{old}'}}\n"
        with Nginy(tmp_path, f"listeners:\n{specific}{wildcard}") as nginy:

            def exchange(sender: socket.socket, text: bytes, behind: socket.socket) -> bytes:
                sender.send(text)
                payload, session = behind.recvfrom(100)
                behind.sendto(b"response to " + payload, session)
                return sender.recv(100)

            known = announcing("192.0.2.7") + b"old"
            assert exchange(proxy, known, backend) == b"response to old"
            nginy.write(f"listeners:\n{wildcard}")
            nginy.send_signal(signal.SIGHUP)
            nginy.said("configuration reloaded")
            text = announcing("192.0.2.8") + b"new"
            assert exchange(proxy, text, new_backend) == b"response to new"
            other_proxy.send(announcing("192.0.2.9"))
            assert exchange(other_proxy, b"later", new_backend) == b"response to later"
            assert exchange(proxy, known, backend) == b"response to old"
            nginy.write(f"listeners:\n{wildcard.replace(more, 'protocol: udp')}")
            nginy.send_signal(signal.SIGHUP)
            nginy.said("configuration reloaded", 2)
            text = b"no header"
            assert exchange(other_proxy, text, new_backend) == b"response to no header"
            assert exchange(proxy, known, backend) == b"response to old"
            nginy.stop()


@pytest.mark.slow
def test_what_was_announced_to_an_address_is_known_to_its_wildcard_and_the_other_way_round(
    tmp_path: pathlib.Path,
) -> None:
    """No session keeps the old socket, so nobody is left to ask."""
    host, port = own_host(), free_port("0.0.0.0", socket.SOCK_DGRAM)
    more = "protocol: udp, proxy_requests: 1, proxy_responses: 1"
    more += ", accept_proxy_protocol: {from: 0.0.0.0/0, standalone: on}"
    with (
        socket.socket(type=socket.SOCK_DGRAM) as backend,
        socket.socket(type=socket.SOCK_DGRAM) as proxy,
    ):
        for sock in (backend, proxy):
            sock.bind((host, 0))
            sock.settimeout(PATIENCE_S)
        to = "{}:{}".format(*backend.getsockname())

        def listening(*addresses: str) -> str:
            each = (
                f"  - {{listen: '{a}:{port}', {more}, proxy_pass: '{to}'}}\n" for a in addresses
            )
            return f"access_log: {{path: access.log, format: main}}\nlisteners:\n{''.join(each)}"

        with Nginy(tmp_path, listening(host)) as nginy:
            proxy.connect((host, port))
            proxy.send(build_v2(("192.0.2.7", 4711), ("198.51.100.2", 53), is_udp=True))
            steps = [(host,), ("*",), (host,), (host, "*"), ("*",), (host, "*")]
            for number, addresses in enumerate(steps):
                if number:
                    nginy.write(listening(*addresses))
                    nginy.send_signal(signal.SIGHUP)
                    nginy.said("configuration reloaded", number)
                proxy.send(b"request")
                _, session = backend.recvfrom(100)
                backend.sendto(b"response", session)
                assert proxy.recv(100) == b"response"
            nginy.stop()
        lines = (tmp_path / "access.log").read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["192.0.2.7:4711"] * len(steps)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_reload_binds_beside_a_wildcard_of_root() -> None:
    host, port = own_host(), free_port("0.0.0.0")
    head = "user: nobody\n"
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)  # the user reads the configuration again
        reload_as_user(directory, head, host, port)


def reload_as_user(directory: pathlib.Path, head: str, host: str, port: int) -> None:
    with Nginy(directory, head + config("tcp", port, ["0.0.0.0"], 1)) as nginy:
        nginy.write(head + config("tcp", port, ["0.0.0.0", host], 1))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        assert asked(socket.SOCK_STREAM, host, port) == f"at {host}".encode()
