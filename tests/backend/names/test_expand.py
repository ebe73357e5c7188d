"""From a name and its endpoints to backends: order, priorities, weights, and what is refused."""

import random

import pytest
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.health.states import State
from nginy.backend.names.answers import Endpoint
from nginy.backend.names.expand import expand, refusal
from nginy.text.address import parse_bind_address, parse_peer

NAME = "web.example"


def settings(text: str = f"{NAME}:80", **changes: object) -> BackendSettings:
    return BackendSettings(text, parse_peer(text), **changes)  # type: ignore[arg-type]


def test_a_name_without_places_is_one_backend_named_as_configured() -> None:
    unresolved = settings(weight=3)
    assert expand(unresolved, ()) == [unresolved]
    backend = Backend(unresolved)
    assert (backend.name, backend.down) == (f"{NAME}:80", True)
    assert backend.health.state is State.UNRESOLVED


def test_each_address_has_all_that_is_configured_for_the_name() -> None:
    places = [Endpoint(NAME, address, 80, 0, 0) for address in ("fd00::1", "10.0.0.2", "10.0.0.1")]
    expanded = expand(settings(weight=3, max_conns=7, backup=True), places)
    assert [str(one.address) for one in expanded] == ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]
    assert {(one.name, one.weight, one.max_conns, one.backup) for one in expanded} == {
        (f"{NAME}:80", 3, 7, True)
    }


def service(*places: Endpoint, **changes: object) -> list[tuple[str, str, int, bool]]:
    expanded = expand(settings(NAME, service="http", **changes), places)
    return [(one.name, str(one.address), one.weight, one.backup) for one in expanded]


def test_of_a_service_the_lowest_priority_serves_and_the_rest_are_backups() -> None:
    assert service(
        Endpoint("b.example", "10.0.0.2", 82, 20, 50),
        Endpoint("a.example", "10.0.0.1", 81, 10, 100),
        Endpoint("c.example", "10.0.0.3", 83, 10, 300),
    ) == [
        ("a.example:81", "10.0.0.1:81", 2, False),
        ("c.example:83", "10.0.0.3:83", 6, False),
        ("b.example:82", "10.0.0.2:82", 1, True),
    ]


def test_a_configured_weight_comes_before_those_of_the_records() -> None:
    places = (
        Endpoint("a.example", "10.0.0.1", 81, 1, 10),
        Endpoint("b.example", "10.0.0.2", 81, 1, 90),
    )
    assert [weight for _, _, weight, _ in service(*places, weight=5)] == [5, 5]


def test_huge_and_zero_weights_of_records_are_brought_down_and_up() -> None:
    places = (
        Endpoint("a.example", "10.0.0.1", 81, 1, 65535),
        Endpoint("b.example", "10.0.0.2", 81, 1, 0),
    )
    assert [weight for _, _, weight, _ in service(*places)] == [99, 1]


def test_one_address_that_two_targets_share_is_one_backend() -> None:
    places = (
        Endpoint("a.example", "10.0.0.1", 81, 2, 1),
        Endpoint("b.example", "10.0.0.1", 81, 1, 1),
    )
    assert service(*places) == [("b.example:81", "10.0.0.1:81", 1, False)]


def test_equal_targets_are_one_backend_with_their_weights_added_up() -> None:
    endpoints = [
        Endpoint("a.example", "10.0.0.1", 81, 1, 10),
        Endpoint("a.example", "10.0.0.1", 81, 1, 30),
        Endpoint("b.example", "10.0.0.2", 81, 1, 20),
        Endpoint("a.example", "10.0.0.1", 81, 2, 500),
    ]
    expected = [
        ("a.example:81", "10.0.0.1:81", 2, False),
        ("b.example:81", "10.0.0.2:81", 1, False),
    ]
    rng = random.Random(11)
    for _ in range(10):
        rng.shuffle(endpoints)
        assert service(*endpoints) == expected


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "239.1.2.3", "ff02::1", "255.255.255.255"],
)
def test_addresses_of_nobody_and_of_groups_are_refused(host: str) -> None:
    assert refusal(parse_bind_address(host)) != ""


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "169.254.1.1"])
def test_addresses_of_servers_are_not(host: str) -> None:
    assert refusal(parse_bind_address(host)) == ""
