"""Backends that operators add: read by the table of the configuration, checked like the file's."""

import pathlib
from collections.abc import Mapping

import pytest
from nginy.admin.changes.book import Newcomer
from nginy.backend.backend import BackendSettings
from nginy.backend.listing import Listing
from nginy.process.newcomers import newcomer
from nginy.text.address import parse_address

from kit.configs import loaded

NONE = Listing()
FILE = """
upstreams:
  web: {backends: ['10.0.0.1:80', '10.0.0.2:80']}
  keyed: {balance: {hash: $remote_addr}, backends: ['10.0.0.1:80']}
  ring:
    balance: {hash: $remote_addr, consistent: on}
    backends: ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']
  dns: {backends: ['10.0.0.1:53']}
listeners:
  - {listen: 127.0.0.1:8080, proxy_pass: web}
  - {listen: 127.0.0.1:8081, proxy_pass: keyed}
  - {listen: 127.0.0.1:8053, protocol: udp, proxy_pass: dns}
"""


def read(
    directory: pathlib.Path, upstream: str, keys: Mapping[str, object], listing: Listing = NONE
) -> Newcomer:
    return newcomer(loaded(directory, FILE), listing, upstream, keys)


def test_keys_are_those_of_the_file(tmp_path: pathlib.Path) -> None:
    keys = {"address": "[0::1]:80", "weight": 3, "backup": False, "fail_timeout": "5s"}
    found = read(tmp_path, "web", keys)
    assert found.settings == BackendSettings(
        "[0::1]:80", parse_address("[0::1]:80"), weight=3, fail_timeout_s=5
    )
    assert found.keys == {
        "address": "[0::1]:80",
        "weight": "3",
        "backup": "off",
        "fail_timeout": "5s",
    }
    assert found.moved_percent is None
    unix = read(tmp_path, "web", {"address": "unix:/run/app", "down": True})
    assert unix.settings is not None
    assert unix.settings.down


def test_a_hash_says_how_many_keys_move(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, "ring", {"address": "10.0.0.4:80"})
    assert found.moved_percent == pytest.approx(25, abs=8)
    # What was added or removed before counts as well.
    before = Listing((BackendSettings("10.0.0.9:80", parse_address("10.0.0.9:80")),))
    assert read(tmp_path, "ring", {"address": "10.0.0.4:80"}, before).moved_percent == (
        pytest.approx(20, abs=8)
    )


@pytest.mark.parametrize(
    ("upstream", "keys", "texts"),
    [
        ("web", {}, ['"address" is missing, expected an address and port such as']),
        ("web", {"address": "10.0.0.3"}, ['address: "10.0.0.3" has no port']),
        ("web", {"address": None}, ["address: no value"]),
        ("web", {"address": {"a": [{}]}}, ["address: a mapping"]),
        ("web", {"address": ["10.0.0.3:80"]}, ["address: a list"]),
        (
            "web",
            {"address": "10.0.0.3:80", "wieght": 2, "down": "maybe", "max_conns": -1},
            [
                'unknown key "wieght" in a backend (did you mean "weight"?)',
                'max_conns: "-1"',
                'down: "maybe"',
            ],
        ),
        ("web", {"address": "10.0.0.3:80", "weight": 1.5}, ['weight: "1.5"']),
        ("web", {"address": "10.0.0.2:80"}, ["address: 10.0.0.2:80 is a backend of this upstream"]),
        ("web", {"address": "web.internal:80"}, ['address: "web.internal:80" is a host name']),
        ("web", {"address": "127.0.0.1:8080"}, ["leads back to the listener at nginy.yml:"]),
        (
            "keyed",
            {"address": "10.0.0.3:80", "backup": True, "slow_start": "1s"},
            ["backup: a backend of balance", "slow_start: cannot be combined"],
        ),
        ("dns", {"address": "unix:/run/app"}, ["a backend is a unix socket"]),
        ("dns", {"address": "10.0.0.3:53", "proxy_protocol": "v1"}, ["is for streams"]),
        ("ring", {"address": "10.0.0.4:80", "weight": 65536}, ["weights add up to 65539"]),
    ],
)
def test_all_that_is_wrong_is_said(
    tmp_path: pathlib.Path, upstream: str, keys: Mapping[str, object], texts: list[str]
) -> None:
    found = read(tmp_path, upstream, keys)
    assert found.settings is None
    said = [str(problem["text"]).replace(f"{tmp_path}/", "") for problem in found.problems]
    assert len(said) == len(texts), said
    for text in texts:
        assert any(text in each for each in said), (text, said)


def test_what_was_removed_comes_back_by_undoing_that(tmp_path: pathlib.Path) -> None:
    listing = Listing((), frozenset({"10.0.0.2:80"}))
    [problem] = read(tmp_path, "web", {"address": "10.0.0.2:80"}, listing).problems
    assert "was removed by an operator" in str(problem["text"])
    assert problem["key"] == "address"
