"""A session on its way to another process, as plain values."""

import json
from typing import Any

import pytest
from nginy.process.takeover.messages import MessageError, MessageMembers
from nginy.process.takeover.session_record import (
    ArrivalRecord,
    AttemptRecord,
    ConnectionRecord,
    EndRecord,
    Place,
    TcpRecord,
)
from nginy.wire.client_hello import Hello
from nginy.wire.proxy_protocol import Header

PLACE = Place("127.0.0.1:80", "web", "backend.internal:80", "10.0.0.1:80")
CLIENT = ConnectionRecord(("::1", 5000, 0, 2), 10, 20, 1000, 2000, 3, True, False, 0, 5, True)
SERVER = ConnectionRecord("/run/backend.sock", 20, 10, 1000, 2000, 0, False, True, 32, 7)
ATTEMPTS = [
    AttemptRecord("10.0.0.2:80", 900, None, None, 950, 111, 0, 0),
    AttemptRecord("10.0.0.1:80", 950, 960, 970),
]
HEADERS = [
    None,
    Header(1, 30),
    Header(2, 40, "TCP", ("1.2.3.4", 5), ("5.6.7.8", 9), ((1, b"h2"), (0xE0, b"\xff"))),
    Header(2, 232, "TCP", "/client", "", ()),
]


def there_and_back(record: TcpRecord) -> TcpRecord:
    return TcpRecord.parse(MessageMembers(json.loads(json.dumps(record.to_json()))))


@pytest.mark.parametrize("header", HEADERS)
def test_a_record_arrives_as_it_left(header: Header | None) -> None:
    hello = Hello(is_tls=True, server_name="a.example", alpn=("h2", "http/1.1"), version="TLSv1.3")
    arrival = ArrivalRecord(("10.9.8.7", 6), header, hello, "PASSED", [("zone", b"\x00key")])
    end = EndRecord("BACKEND_RESET", "why", is_reset=True, to_client=True)
    record = TcpRecord(17, PLACE, CLIENT, SERVER, ATTEMPTS, arrival, end)
    assert there_and_back(record) == record


def test_most_sessions_have_neither_an_arrival_nor_an_end() -> None:
    record = TcpRecord(1, PLACE, CLIENT, SERVER, ATTEMPTS)
    assert there_and_back(record) == record


def fields() -> dict[str, Any]:
    return json.loads(json.dumps(TcpRecord(1, PLACE, CLIENT, SERVER, ATTEMPTS).to_json()))


def test_what_a_newer_nginy_adds_is_ignored_and_what_an_older_one_lacks_has_a_default() -> None:
    members = fields()
    members["mood"] = "fine"
    members["client"]["mood"] = {"fine": True}
    del members["client"]["full_reads"], members["server"]["rest"], members["server"]["errno"]
    record = TcpRecord.parse(MessageMembers(members))
    assert (record.client.full_reads, record.server.rest, record.server.errno) == (0, 0, 0)
    assert record.place == PLACE


WRONG: list[tuple[tuple[str, ...], object]] = [
    (("number",), -1),
    (("number",), None),
    (("attempts",), []),
    (("attempts",), [1]),
    (("client",), None),
    (("client", "peer"), []),
    (("client", "peer"), ["::1", "80"]),
    (("client", "received"), -1),
    (("client", "sent"), "1"),
    (("client", "ended"), 1),
    (("place", "listener"), 80),
    (("arrival",), {"real": ["1.2.3.4", 5], "header": {"version": 2}}),
    (("arrival",), {"real": ["1.2.3.4", 5], "held": [{"zone": "z", "key": "no hex"}]}),
    (
        ("arrival",),
        {"real": ["1.2.3.4", 5], "header": {"version": 2, "size": 1, "source": [1, 2, 3]}},
    ),
    (("arrival",), {"real": ["1.2.3.4", 5], "header": {"version": 2, "size": 1, "tlvs": [1]}}),
    (
        ("arrival",),
        {"real": ["1.2.3.4", 5], "header": {"version": 2, "size": 1, "tlvs": [[1, "no hex"]]}},
    ),
    (("end",), {"reason": 1}),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_what_makes_no_session_is_refused(path: tuple[str, ...], value: object) -> None:
    members = fields()
    place = members
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(MessageError):
        TcpRecord.parse(MessageMembers(members))
