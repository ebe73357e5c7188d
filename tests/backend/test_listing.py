"""What an operator has added to a list or removed, beside what the file has."""

import json

import pytest
from nginy.backend.backend import BackendSettings
from nginy.backend.listing import Listing, parse_listing
from nginy.text.address import parse_address


def settings(address: str, weight: int = 1) -> BackendSettings:
    return BackendSettings(address, parse_address(address), weight)


A, B, C = (settings(f"10.0.0.{n}:80") for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("listing", "configured", "expected"),
    [
        (Listing(), (A, B), (A, B)),
        (Listing((C,)), (A, B), (A, B, C)),
        (Listing((), frozenset({A.name})), (A, B), (B,)),
        # What the file has counts, whatever was added; what it no longer has cannot be removed.
        (Listing((settings(B.name, 7),)), (A, B), (A, B)),
        (Listing((C,), frozenset({A.name})), (B,), (B, C)),
    ],
)
def test_the_list_is_a_function_of_the_file_and_of_operators(
    listing: Listing, configured: tuple[BackendSettings, ...], expected: tuple[BackendSettings, ...]
) -> None:
    assert listing.applied_to(configured) == expected


def test_it_arrives_as_it_left() -> None:
    unix = BackendSettings(
        "unix:/run/app", parse_address("unix:/run/app"), max_conns=3, backup=True
    )
    listing = Listing((A, unix), frozenset({B.name}))
    assert parse_listing(json.loads(json.dumps(listing.to_json()))) == listing


@pytest.mark.parametrize("members", [{"added": []}, {"added": [{"name": "?"}], "removed": []}])
def test_what_is_none_is_refused(members: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse_listing(members)
