import logging
from typing import Any

import pytest
from nginy.proxy.session import Reason

from kit.harness import Front, Harness
from kit.servers import EchoBackend, Server

SEMANTICS = {
    "--": {200},
    "CC": {400},
    "CD": {200},
    "cD": {200},
    "sC": {502},
    "SC": {502},
    "SD": {502},
    "sD": {200, 502},  # 502: the answers to datagrams are missing
    "PC": {503},
    "RC": {500},
    "KD": {200},
    "ID": {500},
}
"""Termination code -> statuses."""


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference to the end of a session."""
    return "epoll"


@pytest.fixture
def front(harness: Harness) -> Front:
    """A proxy with one session that is under way."""
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    client = front.connect()
    client.send(b"hello")
    harness.turn_until(lambda: client.received == b"hello")
    return front


@pytest.mark.parametrize(("code", "statuses"), SEMANTICS.items())
def test_each_termination_code_has_its_status(code: str, statuses: set[int]) -> None:
    assert {reason.status for reason in Reason if reason.code == code} == statuses


def test_only_what_is_somebodys_fault_is_logged_as_an_error() -> None:
    quiet = {reason for reason in Reason if reason.level < logging.WARNING}
    assert {reason.code[0] for reason in quiet if reason.code[1] != "-"} <= {*"CcsKLDP"}
    assert all(reason.level >= logging.ERROR for reason in Reason if reason.status == 502)


def test_only_the_first_reason_counts(harness: Harness, front: Front) -> None:
    (session,) = harness.sessions()
    session.kill()
    session.finalize(Reason.CLIENT_RESET)
    session.abort()
    assert front.terminations == ["KD"]
    assert session.reason == "closed because nginy stopped"
    assert front.handler.counters.terminations == {"KD": 1}


def test_status_code_and_sentence_follow_from_the_reason(harness: Harness, front: Front) -> None:
    (session,) = harness.sessions()
    assert (session.end, session.status, session.termination, session.reason) == (None, 0, "", "")
    session.kill()
    assert session.end is Reason.KILLED
    assert (session.status, session.termination) == (200, "KD")
    assert session.reason == "closed because nginy stopped"


def test_a_detail_takes_the_place_of_the_sentence(harness: Harness, front: Front) -> None:
    (session,) = harness.sessions()
    session.finalize(Reason.KILLED, "told to")
    assert front.ended[0].reason == "told to"


def test_the_error_log_says_what_while_doing_what_for_whom(
    harness: Harness, front: Front, expect_log: Any
) -> None:
    (session,) = harness.sessions()
    upstream = harness.pools[0].backends[0].name
    with expect_log("closed because", level=logging.INFO, count=1) as records:
        session.kill()
    assert records[0].getMessage() == (
        "closed because nginy stopped while proxying connection, "
        f"client: {session.client.addr_text}, listener: front, upstream: {upstream}, "
        "bytes from/to client:5/5, bytes from/to upstream:5/5"
    )
    assert records[0].number == session.context.number


def test_a_session_that_ends_well_is_not_in_the_error_log(
    harness: Harness, front: Front, expect_log: Any
) -> None:
    (session,) = harness.sessions()
    with expect_log("", level=logging.DEBUG, count=0):
        session.finalize(Reason.COMPLETED)


def test_a_session_shows_its_state(harness: Harness, front: Front) -> None:
    (session,) = harness.sessions()
    text = repr(session)
    assert text.startswith(f"<TcpSession {session.context.number} client=<Connection ")
    assert "upstream=<Connection " in text
    session.kill()
    assert repr(session).endswith("KD closed because nginy stopped>")


def test_a_session_knows_its_client_and_whom_it_asked(harness: Harness, front: Front) -> None:
    (session,) = harness.sessions()
    context = session.context
    assert (context.protocol, context.listener) == ("TCP", "front")
    assert (context.remote_addr, context.server_addr) == ("127.0.0.1", "127.0.0.1")
    assert context.remote_port == str(session.client.sockaddr[1])
    assert context.server_port == str(front.listener.address.port)
    assert (session.requests, session.responses) == (1, 1)


def test_sessions_are_numbered_from_one(harness: Harness) -> None:
    server = harness.add(Server())
    proxy = harness.proxy(harness.pool(server.name))
    for _ in range(3):
        proxy.connect()
    harness.turn_until(lambda: len(server.ends) == 3)
    assert sorted(session.context.number for session in harness.sessions()) == [1, 2, 3]
