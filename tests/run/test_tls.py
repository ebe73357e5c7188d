"""TLS of the whole program: certificates that are renewed, refused and read before privileges go,
and clients that send anything."""

import contextlib
import os
import pathlib
import random
import signal
import socket
import ssl
from collections.abc import Iterator

import pytest

from kit.faults import Listening, Site, check, receive_all
from kit.program import PATIENCE_S, run_once
from kit.tls import make_certificate, trusting

MUTATIONS = 10_000
AT_ONCE = 100


@pytest.fixture
def backend() -> Iterator[Listening]:
    with contextlib.closing(Listening()) as made:
        yield made


def shake_hands(site: Site, certificate: pathlib.Path, name: str) -> ssl.SSLSocket:
    return trusting(certificate).wrap_socket(site.connect(), server_hostname=name)


def test_a_renewed_certificate_is_taken_while_sessions_go_on(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    first.mkdir()
    second.mkdir()
    old, new = (make_certificate(each, "example.test") for each in (first, second))
    # As certbot does it: the link is swapped, the configuration does not change.
    live = tmp_path / "live.pem"
    live.symlink_to(old)
    tls = {"certificate": str(live), "key": str(live)}
    nginy = site.start([backend.name], tls=tls)
    with shake_hands(site, old, "example.test") as before:
        upstream = backend.accept()
        check(before, upstream)
        link = tmp_path / "link"
        link.symlink_to(new)
        os.replace(link, live)
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        with shake_hands(site, new, "example.test") as after:
            check(after, backend.accept())
        check(before, upstream)
        live.unlink()
        nginy.send_signal(signal.SIGHUP)
        nginy.said(r"certificate: .* cannot be read \(No such file")
        nginy.said("configuration not changed")
        with shake_hands(site, new, "example.test") as again:
            check(again, backend.accept())
        check(before, upstream)
    nginy.stop()


def test_workers_terminate_tls(site: Site, backend: Listening, tmp_path: pathlib.Path) -> None:
    pem = make_certificate(tmp_path, "example.test")
    tls = {"certificates": [{"certificate": str(pem), "key": str(pem)}]}
    nginy = site.start([backend.name], "workers: 2", tls=tls)
    for _ in range(4):
        with shake_hands(site, pem, "example.test") as client:
            check(client, backend.accept())
    nginy.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_keys_are_read_before_nginy_becomes_another_user(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    tmp_path.chmod(0o755)
    pem = make_certificate(tmp_path, "example.test")
    pem.chmod(0o600)
    tls = {"certificate": str(pem), "key": str(pem)}
    nginy = site.start([backend.name], "user: nobody", tls=tls)
    nginy.said(rf'user "nobody" cannot read "{pem}", so a reload will be refused')
    with shake_hands(site, pem, "example.test") as client:
        check(client, backend.accept())
    nginy.stop()


def test_a_key_that_does_not_fit_ends_the_start_with_one_sentence(tmp_path: pathlib.Path) -> None:
    good, other = (make_certificate(tmp_path, name) for name in ("good.test", "other.test"))
    path = tmp_path / "nginy.yml"
    tls = f"{{certificate: {good}, key: {other}}}"
    path.write_text(f"listeners: {{listen: 127.0.0.1:80, return: x, tls: {tls}}}")
    for arguments in ((str(path),), ("-t", str(path))):
        status, output, errors = run_once(*arguments)
        assert (status, output) == (1, "")
        begin = f"nginy: [emerg] {path}:1:"
        text = f'key: "{other}" does not belong to the certificate "{good}"'
        assert errors[0].startswith(begin)
        assert errors[0].endswith(text)


def test_keys_are_logged_where_that_is_wanted_with_a_loud_warning(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    pem = make_certificate(tmp_path, "example.test")
    log = tmp_path / "keys.log"
    tls = {"certificate": str(pem), "key": str(pem), "key_log": str(log)}
    nginy = site.start([backend.name], tls=tls)
    nginy.said("ALL TLS KEYS of this listener go to")
    with shake_hands(site, pem, "example.test") as client:
        check(client, backend.accept())
        assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()
    nginy.stop()


def client_hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    made = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        made.do_handshake()
    return outgoing.read()


@pytest.mark.slow
def test_ten_thousand_mutated_hellos_do_no_harm(
    site: Site, backend: Listening, tmp_path: pathlib.Path
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    pem = make_certificate(tmp_path, "example.test")
    tls = {"certificate": str(pem), "key": str(pem), "alpn": ["h2", "http/1.1"]}
    nginy = site.start([backend.name], tls=tls, access_log="off")
    whole = client_hello("example.test")
    for _ in range(MUTATIONS // AT_ONCE):
        socks = []
        for _ in range(AT_ONCE):
            hello = bytearray(whole)
            for _ in range(rng.randrange(1, 6)):
                hello[rng.randrange(len(hello))] = rng.randrange(256)
            if rng.random() < 0.2:
                del hello[rng.randrange(len(hello)) :]
            if rng.random() < 0.2:
                place = rng.randrange(len(hello) + 1)
                hello[place:place] = rng.randbytes(rng.randrange(1, 40))
            sock = socket.create_connection((site.host, site.port), PATIENCE_S)
            sock.sendall(hello)
            sock.shutdown(socket.SHUT_WR)
            socks.append(sock)
        for sock in socks:
            # It ends, one way or the other.
            with contextlib.suppress(ConnectionError):
                receive_all(sock)
            sock.close()
    with shake_hands(site, pem, "example.test") as client:
        check(client, backend.accept())
    nginy.wait_idle()
    nginy.stop()
