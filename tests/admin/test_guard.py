"""Who may ask the admin interface: Host, tokens, and what pages of other sites may not do."""

import pytest
from nginy.admin.guard import FAILURES_PER_S, DoorSettings, TokenBrake, check, may_connect
from nginy.proxy.access import Table, parse_network
from nginy.text.address import Address, parse_address
from nginy.wire.request import RequestError, parse_request

TCP = parse_address("127.0.0.1:9180")
WILDCARD = parse_address("0.0.0.0:9180")
V6 = parse_address("[::1]:9180")
UNIX = parse_address("unix:/run/nginy.sock")
TOKEN = b"0123456789abcdef0123456789abcdef"
OPEN = DoorSettings()


def ask(
    *fields: str,
    method: str = "GET",
    host: str = "127.0.0.1:9180",
    settings: DoorSettings = OPEN,
    address: Address = TCP,
    brake: TokenBrake | None = None,
    now_ms: int = 0,
) -> tuple[int, str] | None:
    """Return how a request is refused; None if it may be answered."""
    length = "Content-Length: 0"
    lines = [f"{method} / HTTP/1.1", f"Host: {host}", length, *fields, "", ""]
    found = parse_request("\r\n".join(lines).encode())
    assert found is not None
    try:
        check(found[0], settings, address, brake or TokenBrake(), now_ms)
    except RequestError as error:
        return error.status, error.code
    return None


MISDIRECTED = (421, "misdirected_request")


@pytest.mark.parametrize(
    ("host", "address", "refusal"),
    [
        ("127.0.0.1:9180", TCP, None),
        ("localhost", TCP, None),
        ("LocalHost:9180", TCP, None),
        ("LB1.example.net", TCP, None),
        ("[::1]:9180", V6, None),
        ("192.0.2.1", WILDCARD, None),
        ("anything", UNIX, None),
        ("192.0.2.1", TCP, MISDIRECTED),
        ("evil.example", TCP, MISDIRECTED),
        ("evil.example", WILDCARD, MISDIRECTED),
        ("localhost.evil.example", TCP, MISDIRECTED),
    ],
)
def test_host_must_be_ours(host: str, address: Address, refusal: tuple[int, str] | None) -> None:
    settings = DoorSettings(hosts=frozenset({"lb1.example.net"}))
    assert ask(host=host, address=address, settings=settings) == refusal


def test_host_comes_before_the_token() -> None:
    assert ask(host="evil.example", settings=DoorSettings(token=TOKEN)) == MISDIRECTED


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ((f"Authorization: Bearer {TOKEN.decode()}",), None),
        ((f"Authorization: bearer {TOKEN.decode()}",), None),
        ((), (401, "token_missing")),
        (("Authorization: Bearer",), (401, "token_missing")),
        ((f"Authorization: Basic {TOKEN.decode()}",), (401, "token_wrong")),
        ((f"Authorization: Bearer {TOKEN.decode()}x",), (401, "token_wrong")),
        (("Authorization: Bearer \xe4",), (401, "token_wrong")),
    ],
)
def test_a_token_has_to_be_shown(fields: tuple[str, ...], refusal: object) -> None:
    assert ask(*fields, settings=DoorSettings(token=TOKEN)) == refusal


def test_after_some_wrong_tokens_none_is_looked_at_for_a_second() -> None:
    brake, settings = TokenBrake(), DoorSettings(token=TOKEN)
    good = f"Authorization: Bearer {TOKEN.decode()}"
    for _ in range(FAILURES_PER_S):
        assert ask("Authorization: Bearer no", settings=settings, brake=brake, now_ms=5000) == (
            401,
            "token_wrong",
        )
    braked = (429, "too_many_failures")
    assert ask(good, settings=settings, brake=brake, now_ms=5999) == braked
    assert ask(good, settings=settings, brake=brake, now_ms=6000) is None


JSON = "Content-Type: application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ((JSON,), None),
        ((JSON, "Origin: http://127.0.0.1:9180", "Sec-Fetch-Site: same-origin"), None),
        ((JSON, "Sec-Fetch-Site: none"), None),
        ((JSON, "Origin: http://evil.example"), (403, "foreign_origin")),
        ((JSON, "Origin: https://127.0.0.1:9180"), None),
        ((JSON, "Origin: https://evil.example"), (403, "foreign_origin")),
        ((JSON, "Origin: ftp://127.0.0.1:9180"), (403, "foreign_origin")),
        ((JSON, "Origin: 127.0.0.1:9180"), (403, "foreign_origin")),
        ((JSON, "Origin: null"), (403, "foreign_origin")),
        ((JSON, "Origin: http://127.0.0.1:80"), (403, "foreign_origin")),
        ((JSON, "Sec-Fetch-Site: cross-site"), (403, "foreign_site")),
        ((JSON, "Sec-Fetch-Site: same-site"), (403, "foreign_site")),
        (("Content-Type: text/plain",), (415, "json_expected")),
        ((), (415, "json_expected")),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_change_must_not_come_from_a_page_of_another_site(
    method: str, fields: tuple[str, ...], refusal: object
) -> None:
    assert ask(*fields, method=method, settings=DoorSettings(access="full")) == refusal


@pytest.mark.parametrize("access", ["read", "metrics"])
def test_a_change_needs_full_access(access: str) -> None:
    refusal = ask(JSON, method="PATCH", settings=DoorSettings(access=access))
    assert refusal == (403, "read_only")


def test_reading_is_not_asked_where_it_comes_from() -> None:
    assert ask("Origin: http://evil.example", "Sec-Fetch-Site: cross-site") is None


def test_only_the_networks_that_are_allowed_may_connect() -> None:
    table = Table((parse_network(text), 0) for text in ("127.0.0.0/8", "::1"))
    settings = DoorSettings(allow=table)
    assert may_connect(settings, "127.1.2.3")
    assert may_connect(settings, "::1")
    assert not may_connect(settings, "10.0.0.1")
    assert may_connect(OPEN, "10.0.0.1")
