"""The keys of TLS: what is wrong with a file is one sentence, with its place."""

import pathlib
import ssl
import time
from collections.abc import Callable

import pytest
from nginy.backend.checks.checker import ProbeSettings
from nginy.cli import main
from nginy.config.building.health import monitor_settings, tls_towards
from nginy.config.building.tls import TlsContexts, server_tls
from nginy.config.checking.surprises import surprises
from nginy.config.checking.targets import by_upstream
from nginy.config.checking.tls import check_tls, validities
from nginy.config.node import Findings
from nginy.config.schema import Config
from nginy.config.tls import Tls
from nginy.errors import ConfigError
from nginy.process.gradual import at_once

from kit.configs import loaded, refusals
from kit.tls import make_certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with certificates: good.pem, other.pem, locked.pem (password secret)."""
    directory = tmp_path_factory.mktemp("files")
    for name, options in (
        ("good", ()),
        ("other", ()),
        ("locked", ("-passout", "pass:secret")),
    ):
        made = make_certificate(directory, f"{name}.test", *options, days=100)
        made.rename(directory / f"{name}.pem")
    (directory / "secret").write_text("secret\n")
    (directory / "wrong").write_text("wrong\n")
    (directory / "text.pem").write_text("nothing of the kind\n")
    both = (directory / "good.pem").read_text()
    start = both.index("-----BEGIN CERTIFICATE")
    (directory / "key.pem").write_text(both[:start])
    (directory / "chain.pem").write_text(both[start:])
    (directory / "damaged.pem").write_text(both[start:].replace("M", "N"))
    return directory


GOOD = "certificate: DIR/good.pem, key: DIR/good.pem"

Load = Callable[[str], Config]


@pytest.fixture
def load(files: pathlib.Path, tmp_path: pathlib.Path) -> Load:
    """Loads a listener with these keys of tls; DIR is the directory of the files."""

    def load(keys: str) -> Config:
        keys = keys.replace("DIR", str(files))
        text = f'listeners: {{listen: 127.0.0.1:443, return: "x", tls: {{{keys}}}}}'
        return loaded(tmp_path, text)

    return load


def tls_of(config: Config) -> Tls:
    tls = config.listeners[0].tls
    assert tls is not None
    return tls


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("alpn: h2", 'tls: expected "certificates", or "certificate" and "key"'),
        ("certificate: DIR/good.pem", '"key" is missing beside certificate'),
        ("key: DIR/good.pem", '"certificate" is missing beside key'),
        (
            f"{GOOD}, certificates: {{{GOOD}}}",
            "certificates: a certificate stands beside it, expected one of the two",
        ),
        ("certificate: DIR/none.pem, key: DIR/good.pem", "cannot be read (No such file"),
        ("certificate: DIR, key: DIR/good.pem", "cannot be read (Is a directory)"),
        ("certificate: DIR/text.pem, key: DIR/good.pem", "holds no certificate, expected"),
        ("certificate: DIR/good.pem, key: DIR/chain.pem", "holds no key, expected"),
        (
            "certificate: DIR/good.pem, key: DIR/other.pem",
            'key: "DIR/other.pem" does not belong to the certificate "DIR/good.pem"',
        ),
        (
            "certificate: DIR/locked.pem, key: DIR/locked.pem",
            'key: "DIR/locked.pem" is encrypted, expected password_file',
        ),
        (
            "certificate: DIR/locked.pem, key: DIR/locked.pem, password_file: DIR/wrong",
            'password_file: the password in "DIR/wrong" does not open "DIR/locked.pem"',
        ),
        ("certificate: DIR/damaged.pem, key: DIR/key.pem", "cannot be used: its first certificate"),
        (
            f"{GOOD}, ciphers: NONE-OF-THESE",
            'ciphers: "NONE-OF-THESE" names no cipher that OpenSSL has',
        ),
        (
            f"{GOOD}, verify_client: required",
            "verify_client: expected client_ca beside it",
        ),
        (
            f"{GOOD}, client_ca: DIR/good.pem",
            "client_ca: nginy asks no client for a certificate, expected",
        ),
        (
            f"{GOOD}, protocols: [TLSv1.1]",
            '"TLSv1.1" is not known, expected TLSv1.2 or TLSv1.3',
        ),
    ],
)
def test_what_does_not_go_together_is_one_problem(
    load: Load, files: pathlib.Path, keys: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(keys)
    (found,) = caught.value.problems
    assert problem.replace("DIR", str(files)) in str(found)


def test_an_encrypted_key_opens_with_its_password(load: Load) -> None:
    keys = "certificate: DIR/locked.pem, key: DIR/locked.pem, password_file: DIR/secret"
    assert at_once(server_tls(tls_of(load(keys)))).by_name.keys() == {"locked.test"}


def test_settings_reach_openssl(load: Load) -> None:
    keys = (
        "certificates: [{certificate: DIR/chain.pem, key: DIR/key.pem},"
        " {certificate: DIR/other.pem, key: DIR/other.pem}], protocols: TLSv1.3,"
        " client_ca: DIR/other.pem, verify_client: optional, session_tickets: off,"
        " unknown_sni: reject, alpn: [h2, http/1.1], ragged_eof: on, handshake_timeout: 5s"
    )
    made = at_once(server_tls(tls_of(load(keys))))
    context = made.default
    assert context is made.by_name["good.test"] is not made.by_name["other.test"]
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert (context.verify_mode, context.num_tickets) == (ssl.CERT_OPTIONAL, 0)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert (made.rejects_unknown, made.is_ragged, made.timeout_ms) == (True, True, 5000)
    assert made.alpn == {"h2", "http/1.1"}
    assert made.context_for("unknown.test") is None


def test_a_reload_keeps_the_contexts_of_what_is_the_same(load: Load, files: pathlib.Path) -> None:
    keys = GOOD
    first, again = load(keys), load(keys)
    contexts = at_once(TlsContexts().prepare(first))
    assert at_once(contexts.prepare(again)).server(tls_of(again)) is contexts.server(tls_of(first))
    before = (files / "good.pem").read_text()
    try:
        # As certbot does: another file under the same path.
        (files / "good.pem").write_text((files / "other.pem").read_text())
        renewed = load(keys)
    finally:
        (files / "good.pem").write_text(before)
    made = at_once(contexts.prepare(renewed)).server(tls_of(renewed))
    assert made is not None
    assert made.by_name.keys() == {"other.test"}


def test_contexts_are_made_one_by_one_with_time_between_them(load: Load) -> None:
    other = "certificate: DIR/other.pem, key: DIR/other.pem"
    config = load(f"certificates: [{{{GOOD}}}, {{{other}}}]")
    contexts = at_once(TlsContexts().prepare(config))
    assert len(list(TlsContexts().prepare(config))) == 2
    assert not list(contexts.prepare(config))  # they are there


@pytest.mark.parametrize(
    ("days", "problem"),
    [(101, "expired at 2"), (-1, "is not valid before 2"), (50, "")],
)
def test_a_certificate_out_of_its_time_is_a_problem(load: Load, days: int, problem: str) -> None:
    config = load(GOOD)
    findings = Findings()
    check_tls(config, findings, lambda: time.time() + days * 86400)
    assert [problem in str(each) for each in findings.problems] == [True] * bool(problem)


def test_days_are_counted_and_the_last_ones_warned_of(
    load: Load, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(GOOD)
    assert surprises(config) == []
    (validity,) = validities(config, lambda: time.time() + 98 * 86400)
    assert validity.days == 1
    assert str(validity).endswith('good.pem" (good.test) is valid for 1 day more')
    soon = make_certificate(tmp_path, "soon.test", days=13)
    path = tmp_path / "soon.yml"
    path.write_text(
        f"listeners: {{listen: 'unix:{tmp_path}/s', return: x,"
        f" tls: {{certificate: {soon}, key: {soon}}}}}"
    )
    main(["-t", str(path)])
    said = capsys.readouterr().err
    sentence = f'certificate "{soon}" (soon.test) is valid for 12 days more'
    assert f"nginy: {sentence}\n" in said
    assert f"{sentence}, expected a renewed one" in said


def test_a_key_log_is_warned_of_and_not_written_by_a_test(
    load: Load, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "keys.log"
    config = load(f"{GOOD}, key_log: {path}")
    (warning,) = surprises(config)
    assert "key_log: ALL TLS KEYS of this listener go to" in warning
    assert not path.exists()
    assert at_once(server_tls(tls_of(config))).default.keylog_filename == str(path)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("key: DIR/key.pem", '"certificate" is missing beside key'),
        ("certificate: DIR/good.pem, key: DIR/other.pem", "does not belong to the certificate"),
        ("certificate: DIR/chain.pem", 'OpenSSL does not accept "DIR/chain.pem" with'),
        ("certificate: DIR/locked.pem", 'key: "DIR/locked.pem" is encrypted'),
        ("verify: off, ca: DIR/good.pem", "ca: nothing is verified, expected verify: on"),
        ("ca: DIR/damaged.pem", 'ca: "DIR/damaged.pem" holds a damaged certificate'),
        ("ca: DIR/good.pem, ciphers: NONE", "ciphers: NONE names no cipher that OpenSSL has"),
        ("verify: maybe", 'verify: "maybe" is not valid, expected on or off'),
    ],
)
def test_what_does_not_go_together_towards_backends_is_one_problem(
    tmp_path: pathlib.Path, files: pathlib.Path, keys: str, problem: str
) -> None:
    keys = keys.replace("DIR", str(files))
    (found,) = refusals(
        tmp_path,
        f"listeners: {{listen: 127.0.0.1:80, proxy_pass: 192.0.2.1:443, proxy_tls: {{{keys}}}}}",
    )
    assert problem.replace("DIR", str(files)) in found.replace("DIR", str(files))


def test_the_certificate_of_a_unix_socket_needs_a_name(tmp_path: pathlib.Path) -> None:
    text = "listeners: {{listen: 127.0.0.1:80, proxy_pass: 'unix:/x', proxy_tls: {}}}"
    (found,) = refusals(tmp_path, text.format("on"))
    assert "a backend is a unix socket, expected name, or verify: off" in found
    loaded(tmp_path, text.format("{name: x.test}"))
    loaded(tmp_path, text.format("{verify: off}"))


def test_settings_towards_backends_reach_openssl(
    tmp_path: pathlib.Path, files: pathlib.Path
) -> None:
    keys = (
        f"ca: {files}/good.pem, name: x.test, sni: off, certificate: {files}/locked.pem,"
        f" password_file: {files}/secret, alpn: h2, protocols: TLSv1.3"
    )
    text = f"listeners: {{listen: 127.0.0.1:80, proxy_pass: 192.0.2.1:443, proxy_tls: {{{keys}}}}}"
    config = loaded(tmp_path, text)
    made = at_once(TlsContexts().prepare(config)).client(config.listeners[0])
    assert made is not None
    assert (made.name, made.verifies, made.sends_name) == ("x.test", True, False)
    assert made.context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert (made.context.verify_mode, made.context.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert [str(each.pem.path) for each in validities(config)] == [f"{files}/locked.pem"]


def test_checks_speak_as_listeners_do(tmp_path: pathlib.Path, files: pathlib.Path) -> None:
    def probe(check: str, listener: str = "") -> ProbeSettings:
        proxy = f"{{ca: {files}/good.pem, name: x.test}}"
        text = f"""
        upstreams:
          web: {{backends: 192.0.2.1:443, health_check: {check}}}
        listeners:
          - {{listen: 127.0.0.1:80, proxy_pass: web, proxy_tls: {proxy}}}
          {listener}
        """
        config = loaded(tmp_path, text)
        towards = tls_towards(by_upstream(config.listeners)["web"])
        made = monitor_settings(config.upstreams["web"], "off", towards).probe
        assert made is not None
        return made

    for check in ("{type: tcp}", "{type: http}", "{type: tls}"):
        found = probe(check)
        assert found.name == "x.test"
        assert found.tls is not None
        assert (found.tls.verify, found.tls.authorities) == (
            True,
            (files / "good.pem").read_bytes(),
        )
    for check in ("{type: tcp, port: 80}", "{type: redis}", "{type: tls, name: y.test}"):
        assert probe(check).name != "x.test"
    assert probe("{type: tcp}", "- {listen: 127.0.0.1:81, proxy_pass: web}").tls is None
