"""TLS with programs that others have written: clients, and servers behind nginy.

A program that is not installed skips its test, naming Debian's package.
"""

import os
import pathlib
import pwd
import re
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from kit.faults import Site
from kit.others import output_of, running_nginx, serving
from kit.program import Nginy, free_port, needs, own_host
from kit.tls import Authority

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

Address = tuple[str, int]

NGINX_CONF = """
daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;
    uwsgi_temp_path t; scgi_temp_path t;
    server {{ listen {0}; root {1}; location = /hello {{ return 200 "hello\\n"; }} }}
    server {{
        listen {2} ssl; ssl_certificate {3}; ssl_certificate_key {3};
        location / {{ return 200 "$ssl_protocol $ssl_server_name $ssl_client_verify\\n"; }}
        ssl_client_certificate {4}; ssl_verify_client optional;
    }}
}}
"""


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def pem(site: Site, authority: Authority) -> pathlib.Path:
    """A key and a certificate for example.test and nginy's address."""
    return authority.issue(f"DNS:example.test,DNS:localhost,IP:{site.host}")


@pytest.fixture
def addresses() -> list[Address]:
    """Addresses for servers."""
    host = own_host()
    return [(host, free_port(host)) for _ in range(3)]


def keys(pem: pathlib.Path, **more: object) -> dict[str, object]:
    return {"certificate": str(pem), "key": str(pem), **more}


@pytest.fixture
def web(
    site: Site,
    addresses: list[Address],
    tmp_path: pathlib.Path,
    pem: pathlib.Path,
    authority: Authority,
) -> Iterator[list[str]]:
    """nginx as a web server; the address without TLS, and the one with it."""
    plain, secure = ("{}:{}".format(*address) for address in addresses[:2])
    (tmp_path / "page.html").write_text("<title>t</title><p id=p>it works</p>\n")
    (tmp_path / "large").write_bytes(b"0123456789abcdef" * (1 << 17))
    text = NGINX_CONF.format(plain, tmp_path, secure, pem, authority.certificate)
    with running_nginx(text, addresses[1], tmp_path):
        yield [plain, secure]


def test_curl_comes_in_and_is_told_of_plain_http(
    site: Site, web: list[str], pem: pathlib.Path, authority: Authority
) -> None:
    site.start([web[0]], tls=keys(pem, alpn=["h2", "http/1.1"]))
    curl = needs("curl", "curl")
    trusted = ("--cacert", str(authority.certificate))
    url = f"https://{site.address}"
    assert output_of(curl, "-sS", "--http1.1", *trusted, f"{url}/hello") == "hello\n"
    for version in ("1.2", "1.3"):
        options = (f"--tlsv{version}", "--tls-max", version, "--http1.1")
        assert output_of(curl, "-sS", *options, *trusted, f"{url}/hello") == "hello\n"
    large = output_of(curl, "-sS", "--http1.1", *trusted, f"{url}/large")
    assert large == "0123456789abcdef" * (1 << 17)
    said = output_of(curl, "-sS", "-i", f"http://{site.address}/hello")
    assert said.startswith("HTTP/1.1 400 Bad Request")
    assert "This port speaks TLS" in said


def test_curl_with_and_without_a_client_certificate(
    site: Site, web: list[str], pem: pathlib.Path, authority: Authority
) -> None:
    client_ca = str(authority.certificate)
    # A colon in the path begins a password, for curl.
    own = authority.issue("DNS:client.test").rename(authority.directory / "client.pem")
    nginy = site.start([web[0]], tls=keys(pem, client_ca=client_ca, verify_client="required"))
    curl = needs("curl", "curl")
    common = (curl, "-sS", "--cacert", client_ca, f"https://{site.address}/hello")
    assert output_of(*common, "--cert", str(own), "--key", str(own)) == "hello\n"
    done = subprocess.run(common, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    reasons = [str(session["reason"]) for session in nginy.sessions(2)]
    assert reasons[1] == "TLS handshake failed: certificate required, none came"


def test_wrk_finds_no_error_over_https(site: Site, web: list[str], pem: pathlib.Path) -> None:
    nginy = site.start([web[0]], tls=keys(pem))
    said = output_of(needs("wrk", "wrk"), "-t1", "-c32", "-d1s", f"https://{site.address}/hello")
    requests = re.search(r"(\d+) requests in", said)
    assert requests is not None
    assert int(requests[1]) > 100
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    nginy.wait_idle()
    nginy.stop()


def test_openssl_s_client_comes_in_and_comes_back(
    site: Site, web: list[str], pem: pathlib.Path, authority: Authority, tmp_path: pathlib.Path
) -> None:
    site.start([web[0]], tls=keys(pem))
    openssl = needs("openssl", "openssl")
    session = str(tmp_path / "session.pem")
    common = (
        *(openssl, "s_client", "-connect", site.address, "-servername", "example.test"),
        *("-CAfile", str(authority.certificate), "-verify_return_error", "-ign_eof"),
    )
    request = "GET /hello HTTP/1.0\r\n\r\n"
    first = output_of(*common, "-sess_out", session, given=request)
    assert "hello" in first
    assert "Verify return code: 0 (ok)" in first
    again = output_of(*common, "-sess_in", session, given=request)
    assert "hello" in again
    assert "Reused, TLSv1.3" in again


def test_backends_that_are_nginx_and_openssl_s_server(
    site: Site,
    web: list[str],
    addresses: list[Address],
    authority: Authority,
    pem: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    own = authority.issue("DNS:nginy.test")
    address = "{}:{}".format(*addresses[2])
    server = (
        *(needs("openssl", "openssl"), "s_server", "-accept", address, "-WWW"),
        *("-cert", str(pem), "-key", str(pem)),
    )
    proxy_tls = keys(own, ca=str(authority.certificate), name="example.test")
    curl = needs("curl", "curl")
    site.start([web[1]], proxy_tls=proxy_tls)
    assert output_of(curl, "-sS", f"http://{site.address}/") == "TLSv1.2 example.test SUCCESS\n"
    site.nginy.close()
    with serving(server, addresses[2], tmp_path):
        site.start([address], proxy_tls=proxy_tls)
        said = output_of(curl, "-sS", "--http1.0", f"http://{site.address}/large")
        assert said == "0123456789abcdef" * (1 << 17)


def test_chromium_shows_a_page(
    site: Site, web: list[str], pem: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    nginy = site.start([web[0]], tls=keys(pem, alpn=["http/1.1"]))
    said = output_of(
        *(needs("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
        *("--ignore-certificate-errors", f"--user-data-dir={tmp_path}/profile", "--dump-dom"),
        f"https://{site.address}/page.html",
        patience_s=60,
    )
    assert "it works" in said
    nginy.stop()


def test_redis_speaks_tls_on_both_sides(
    site: Site,
    addresses: list[Address],
    authority: Authority,
    pem: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    host, port = addresses[0]
    ca = str(authority.certificate)
    server = (
        *(needs("redis-server", "redis-server"), "--bind", host, "--port", "0"),
        *("--tls-port", str(port), "--tls-cert-file", str(pem), "--tls-key-file", str(pem)),
        *("--tls-ca-cert-file", ca, "--tls-auth-clients", "no", "--save", ""),
    )
    cli = needs("redis-cli", "redis-tools")
    with serving(server, addresses[0], tmp_path) as name:
        proxy_tls = {"ca": ca, "name": "example.test"}
        site.start([name], tls=keys(pem), proxy_tls=proxy_tls)
        via = (cli, "-h", site.host, "-p", str(site.port), "--tls", "--cacert", ca)
        assert output_of(*via, "SET", "key", "x" * 100_000) == "OK\n"
        assert output_of(*via, "GET", "key") == "x" * 100_000 + "\n"
        load = ("-n", "2000", "-c", "10", "-t", "set,get", "--csv", "--tls", "--cacert", ca)
        where = ("-h", site.host, "-p", str(site.port))
        said = output_of(needs("redis-benchmark", "redis-tools"), *where, *load)
        assert '"SET"' in said
        assert "rror" not in said
        site.nginy.wait_idle()
        site.nginy.stop()


@pytest.fixture
def postgres(authority: Authority, pem: pathlib.Path) -> Iterator[str]:
    """A database with TLS of its own; the address."""
    initdb = needs("initdb", "postgresql")
    host = own_host()
    port = free_port(host)
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        key = directory / "server.pem"
        key.write_bytes(pem.read_bytes())
        key.chmod(0o600)
        user: list[str] = []
        if os.geteuid() == 0:
            entry = pwd.getpwnam("nobody")
            for path in (directory, key):
                os.chown(path, entry.pw_uid, entry.pw_gid)
            user = [needs("setpriv", "util-linux"), f"--reuid={entry.pw_uid}", "--clear-groups"]
        data = directory / "data"
        output_of(*user, initdb, "-D", str(data), "-U", "nginy", "-A", "trust", patience_s=60)
        server = (
            *(*user, needs("postgres", "postgresql"), "-D", str(data), "-h", host),
            *("-p", str(port), "-k", "", "-c", "ssl=on", "-c", f"ssl_cert_file={key}"),
            *("-c", f"ssl_key_file={key}"),
        )
        with serving(server, (host, port), directory):
            yield f"{host}:{port}"


def test_postgresql_asks_for_tls_itself_and_it_goes_through(
    site: Site, postgres: str, authority: Authority
) -> None:
    """Its clients ask in plain text first, so TLS is the server's; nginy passes it on."""
    nginy: Nginy = site.start([postgres])
    said = output_of(
        *(needs("psql", "postgresql-client"), "-At", "-c"),
        "select version from pg_stat_ssl where pid = pg_backend_pid()",
        f"host={site.host} port={site.port} user=nginy dbname=postgres sslmode=require",
    )
    assert said == "TLSv1.3\n"
    nginy.stop()
