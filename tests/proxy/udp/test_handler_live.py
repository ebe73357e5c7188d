"""UDP sessions over real sockets, one promise a test, by every way to wait."""

import random
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from nginy.backend.health.eject import EjectSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.hashing import Hash
from nginy.event.datagram import RECEIVE_QUOTA
from nginy.text.address import Address
from nginy.wire.agent import Mode

from conftest import ExpectLog
from kit.datagrams import (
    UdpBackend,
    UdpClient,
    UdpFront,
    end_sessions,
    set_down,
    udp_proxy,
    udp_reply,
)
from kit.harness import Ended, Harness, descriptor_count
from kit.leaks import alive, no_garbage
from kit.program import own_host
from kit.servers import RefusingPort

LARGEST_V4 = 65535 - 20 - 8
LARGEST_V6 = 65535 - 8
NO_WAY = "255.255.255.255:9"
"""Where connect() fails at once: broadcasts are for sockets that have asked for them."""


def silent(_data: bytes) -> list[bytes]:
    return []


def backends(
    harness: Harness, count: int = 2, **settings: Any
) -> tuple[list[UdpBackend], BackendPool]:
    made = [harness.add(UdpBackend()) for _ in range(count)]
    return made, harness.pool(*(b.name for b in made), **settings)


def ask(harness: Harness, client: UdpClient, data: bytes = b"?") -> bytes:
    """Send a datagram and return the answer to it."""
    before = len(client.received)
    client.send(data)
    harness.turn_until(lambda: len(client.received) > before)
    return client.received[-1]


def dropped(front: UdpFront) -> dict[str, int]:
    return {reason: count for reason, count in front.handler.drops.items() if count}


class TestDatagrams:
    @pytest.mark.parametrize("size", [0, 1, 1472, 1473, 16384, LARGEST_V4])
    def test_datagrams_of_any_size_go_through_whole_both_ways(
        self, harness: Harness, size: int
    ) -> None:
        (backend,), pool = backends(harness, 1)
        client = udp_proxy(harness, pool).client()
        data = bytes(i % 251 for i in range(size))
        assert ask(harness, client, data) == data
        assert backend.received == [data]

    def test_the_largest_of_ipv6_goes_through_whole(self, harness: Harness) -> None:
        backend = harness.add(UdpBackend(sockaddr=("::1", 0)))
        front = udp_proxy(harness, harness.pool(backend.name), Address(socket.AF_INET6, "::1"))
        data = b"6" * LARGEST_V6
        assert ask(harness, front.client(), data) == data

    def test_one_that_the_way_on_cannot_carry_is_dropped_and_not_cut(
        self, harness: Harness
    ) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool, Address(socket.AF_INET6, "::1"))
        client = front.client()
        client.send(b"6" * LARGEST_V6)
        assert ask(harness, client, b"short") == b"short"
        assert backend.received == [b"short"]
        assert dropped(front) == {"truncated": 1}

    def test_an_empty_datagram_does_not_end_the_session(self, harness: Harness) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool)
        client = front.client()
        assert [ask(harness, client, data) for data in (b"", b"a", b"")] == [b"", b"a", b""]
        assert front.handler.sessions == 1

    def test_more_datagrams_than_a_budget_all_go_through_in_order(self, harness: Harness) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool)
        client = front.client()
        sent = [b"%d" % i for i in range(2 * RECEIVE_QUOTA + 1)]
        for data in sent:
            client.send(data)
        harness.turn_until(lambda: len(client.received) == len(sent))
        assert backend.received == client.received == sent

    def test_a_crowd_of_answers_does_not_keep_other_clients_waiting(self, harness: Harness) -> None:
        talker = harness.add(UdpBackend(lambda data: [data] * 100))
        front = udp_proxy(harness, harness.pool(talker.name))
        client = front.client()
        client.send(b"go")
        harness.turn_until(lambda: client.received)
        # A turn has but one for each session.
        assert len(client.received) == 1
        harness.turn_until(lambda: len(client.received) == 100)


@pytest.mark.parametrize("udp_offload", [True, False])
class TestFloods:
    """More datagrams than an event's budget: then runs of one length are sent together."""

    def test_datagrams_of_any_length_arrive_whole_and_in_order(
        self, harness: Harness, udp_offload: bool
    ) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool, udp_offload=udp_offload)
        clients = [front.client() for _ in range(3)]
        rng = random.Random(5)
        sent: list[list[bytes]] = [[] for _ in clients]
        for number in range(300):
            size = rng.choice([0, 64, 64, 64, 64, 64, 64, 200, 1400, 1401])
            which = rng.randrange(3)
            data = b"%d/%d:" % (which, number)
            data = data.ljust(size, b".") if size else b""
            clients[which].send(data)
            sent[which].append(data)
        harness.turn_until(lambda: [c.received for c in clients] == sent)
        assert len(backend.received) == 300
        assert {session.requests for session in front.handler.table.values()} == set(map(len, sent))
        assert {session.responses for session in front.handler.table.values()} == set(
            map(len, sent)
        )
        assert dropped(front) == {}

    def test_a_refusal_at_the_beginning_of_a_flood_loses_nothing(
        self, harness: Harness, udp_offload: bool, expect_log: ExpectLog
    ) -> None:
        refusing, backend = harness.add(RefusingPort(own_host())), harness.add(UdpBackend())
        front = udp_proxy(
            harness, harness.pool(refusing.name, backend.name), udp_offload=udp_offload
        )
        client = front.client()
        sent = [b"%03d" % i for i in range(3 * RECEIVE_QUOTA)]
        for data in sent:
            client.send(data)
        with expect_log(r"(send|recv)\(\) failed \(111: Connection refused\)", count=1):
            harness.turn_until(lambda: len(client.received) == len(sent))
        assert client.received == backend.received == sent
        assert front.terminations == []
        (session,) = front.handler.table.values()
        assert (session.requests, session.bytes_received) == (len(sent), 3 * len(sent))

    def test_a_refusal_loses_only_what_was_sent_before_it_was_heard_of(
        self, harness: Harness, udp_offload: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        refusing, backend = harness.add(RefusingPort(own_host())), harness.add(UdpBackend())
        pool = harness.pool(refusing.name, backend.name)
        front = udp_proxy(harness, pool, udp_offload=udp_offload, next_upstream=False)
        client = front.client()
        sent = [b"%03d" % i for i in range(3 * RECEIVE_QUOTA)]
        for data in sent:
            client.send(data)
        harness.turn_until(lambda: sent[-1] in client.received)
        harness.settle()
        # The first one was refused; with runs, so may be those that left together with another.
        assert client.received == backend.received == sent[-len(client.received) :]
        assert len(client.received) >= len(sent) - 1 - RECEIVE_QUOTA
        assert front.terminations == ["SD"]

    def test_a_bug_while_datagrams_are_put_off_sends_no_stale_bytes(
        self, harness: Harness, udp_offload: bool, expect_log: ExpectLog
    ) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool, udp_offload=udp_offload)
        known, strange = front.client(), front.client()
        ask(harness, known, b"hello")
        sent = [b"%03d" % i for i in range(3 * RECEIVE_QUOTA)]
        front.handler.hash_key = lambda _session: str(1 / 0)
        for number, data in enumerate(sent):
            known.send(data)
            if number == RECEIVE_QUOTA + 5:
                strange.send(b"bug")
        with expect_log("bug in nginy", count=1), expect_log("internal error", count=1):
            harness.turn_until(lambda: sent[-1] in known.received)
        harness.settle()
        heard = backend.received[1:]
        assert known.received[1:] == heard == [data for data in sent if data in heard]
        assert len(set(heard)) == len(heard)
        assert ask(harness, known, b"still") == b"still"


class TestSessions:
    def test_a_client_stays_with_its_backend(self, harness: Harness) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        for _ in range(5):
            ask(harness, client)
        assert sorted(len(b.received) for b in made) == [0, 5]
        assert front.handler.sessions == len(front.handler.table) == 1

    def test_clients_that_differ_only_by_port_have_sessions_of_their_own(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        clients = [front.client() for _ in range(4)]
        assert [ask(harness, c, b"%d" % i) for i, c in enumerate(clients)] == [
            b"0",
            b"1",
            b"2",
            b"3",
        ]
        assert [len(c.received) for c in clients] == [1, 1, 1, 1]
        assert [len(b.received) for b in made] == [2, 2]
        assert front.handler.sessions == 4

    def test_hash_of_remote_addr_keeps_the_ports_of_a_client_together(
        self, harness: Harness
    ) -> None:
        made = [harness.add(UdpBackend()) for _ in range(4)]
        pool = harness.pool(*(b.name for b in made), make_balancer=Hash)
        front = udp_proxy(harness, pool)
        front.handler.hash_key = lambda session: session.context.remote_addr
        for _ in range(8):
            ask(harness, front.client())
        assert sorted(len(b.received) for b in made) == [0, 0, 0, 8]

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
    def test_a_wildcard_listener_replies_from_the_address_asked(
        self, harness: Harness, host: str
    ) -> None:
        _, pool = backends(harness, 1)
        is_ipv6 = ":" in host
        wildcard = Address(socket.AF_INET6, "::") if is_ipv6 else Address(socket.AF_INET, "0.0.0.0")
        front = udp_proxy(harness, pool, wildcard)
        port = front.listener.address.port
        target = (host, port, 0, 0) if is_ipv6 else (host, port)
        client = front.client_of(target)
        ask(harness, client)
        assert client.senders == [target]
        (session,) = front.handler.table.values()
        assert session.context.server_addr == host
        assert session.context.server_port == str(port)

    def test_one_client_port_that_asks_two_addresses_has_two_sessions(
        self, harness: Harness
    ) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, Address(socket.AF_INET, "0.0.0.0"))
        port = front.listener.address.port
        client = front.client_of(("127.0.0.1", port))
        ask(harness, client)
        client.target = ("127.0.0.2", port)
        ask(harness, client)
        assert client.senders == [("127.0.0.1", port), ("127.0.0.2", port)]
        assert front.handler.sessions == 2

    def test_an_ended_session_says_what_it_was(self, harness: Harness) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool)
        lines: list[tuple[object, ...]] = []
        front.handler.log_session = lambda s: lines.append(
            (s.context.protocol, s.requests, s.responses, s.bytes_received, s.bytes_sent)
        )
        backend.answers = lambda data: [data, data]
        client = front.client()
        client.send(b"12345")
        harness.turn_until(lambda: len(client.received) == 2)
        harness.advance(60_000)
        assert lines == [("UDP", 1, 2, 5, 10)]


class TestEnds:
    def test_idle_without_a_limit_of_responses_is_a_normal_end(self, harness: Harness) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, timeout_ms=10_000)
        ask(harness, front.client())
        harness.advance(9_990)
        assert front.handler.sessions == 1
        harness.advance(10)
        ended = front.only()
        assert (ended.termination, ended.status) == ("--", 200)
        assert pool.backends[0].fails == 0

    @pytest.mark.parametrize("who", ["client", "backend"])
    def test_a_datagram_from_either_side_puts_the_timeout_off(
        self, harness: Harness, who: str
    ) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool, timeout_ms=10_000)
        client = front.client()
        ask(harness, client)
        harness.advance(6_000)
        if who == "client":
            backend.answers = silent
            client.send(b"more")
            harness.turn_until(lambda: len(backend.received) == 2)
        else:
            backend.send_to(b"more", backend.senders[0])
            harness.turn_until(lambda: len(client.received) == 2)
        harness.advance(6_000)
        assert front.handler.sessions == 1
        harness.advance(4_000)
        assert front.terminations == ["--"]

    def test_off_means_that_a_session_never_expires(self, harness: Harness) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, timeout_ms=None)
        ask(harness, front.client())
        harness.advance(86_400_000)
        assert front.handler.sessions == 1
        end_sessions(front.handler)
        assert front.terminations == ["KD"]

    def test_missing_answers_are_a_failure_of_the_backend(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        made, pool = backends(harness, max_fails=1)
        for backend in made:
            backend.answers = silent
        front = udp_proxy(harness, pool, responses=1)
        front.client().send(b"?")
        harness.turn_until(lambda: front.handler.sessions)
        with expect_log("backend has left datagrams unanswered while proxying datagrams, client: "):
            harness.advance(60_000)
        ended = front.only()
        assert (ended.termination, ended.status) == ("sD", 502)
        assert [b.fails for b in pool.backends] == [1, 0]

    def test_the_session_ends_well_with_the_last_answer_expected(self, harness: Harness) -> None:
        (backend,), pool = backends(harness, 1)
        backend.answers = lambda data: [data] * 2
        front = udp_proxy(harness, pool, responses=2)
        client = front.client()
        ask(harness, client)
        ended = front.only()
        assert (ended.termination, ended.status, ended.bytes_sent) == ("--", 200, 2)
        harness.turn_until(lambda: client.received == [b"?", b"?"])

    def test_answers_are_expected_for_each_request(self, harness: Harness) -> None:
        (backend,), pool = backends(harness, 1)
        backend.answers = silent
        front = udp_proxy(harness, pool, responses=1)
        client = front.client()
        client.send(b"1")
        client.send(b"2")
        harness.turn_until(lambda: len(backend.received) == 2)
        backend.send_to(b"1", backend.senders[0])
        harness.turn_until(lambda: client.received)
        assert front.handler.sessions == 1
        backend.send_to(b"2", backend.senders[0])
        assert front.only().termination == "--"

    def test_with_no_answers_expected_a_session_ends_with_its_request(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool, responses=0)
        client = front.client()
        for _ in range(4):
            client.send(b"log line")
        harness.turn_until(lambda: len(front.ended) == 4)
        harness.settle()
        assert [len(b.received) for b in made] == [2, 2]
        assert client.received == []
        assert front.handler.table == {}

    def test_after_the_last_request_the_next_datagram_is_balanced_anew(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool, requests=2)
        client = front.client()
        for _ in range(8):
            ask(harness, client)
        assert [len(b.received) for b in made] == [4, 4]
        assert front.handler.sessions == 4
        assert front.handler.table == {}

    def test_a_session_whose_key_was_let_go_may_still_get_answers(self, harness: Harness) -> None:
        made, pool = backends(harness)
        for backend in made:
            backend.answers = silent
        front = udp_proxy(harness, pool, requests=1)
        client = front.client()
        client.send(b"1")
        client.send(b"2")
        harness.turn_until(lambda: all(b.received for b in made))
        for backend in reversed(made):
            backend.send_to(b"late " + backend.received[0], backend.senders[0])
        harness.turn_until(lambda: len(client.received) == 2)
        assert sorted(client.received) == [b"late 1", b"late 2"]

    def test_answers_do_not_end_a_session_that_still_holds_its_key_for_requests(
        self, harness: Harness
    ) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, requests=2, responses=1)
        client = front.client()
        ask(harness, client)
        assert front.handler.sessions == 1
        ask(harness, client)
        assert front.only().termination == "--"

    def test_a_session_that_ended_leaves_nothing_behind(self, harness: Harness) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, responses=1)
        client = front.client()
        ask(harness, client)
        before, descriptors = alive(), descriptor_count()
        with no_garbage():
            for _ in range(20):
                ask(harness, client)
        assert alive() - before == {}
        assert descriptor_count() == descriptors


class TestWithoutAnAnswer:
    def test_a_session_that_got_no_answer_says_so(self, harness: Harness) -> None:
        backend = harness.add(UdpBackend(silent))
        pool = harness.pool(backend.name)
        pool.backends[0].fails = 1
        front = udp_proxy(harness, pool, timeout_ms=1000)
        front.client().send(b"a line for the log")
        harness.turn_until(lambda: backend.received)
        harness.advance(1010)
        assert front.only() == Ended("--", 200, "no answer", 18, 0, (backend.name,))
        assert pool.backends[0].fails == 1  # nothing was heard that would speak for it

    def test_a_session_that_expects_no_answer_is_complete(self, harness: Harness) -> None:
        (backend,), pool = backends(harness, 1)
        front = udp_proxy(harness, pool, responses=0)
        front.client().send(b"a line for the log")
        assert front.only() == Ended("--", 200, "completed", 18, 0, (backend.name,))


class TestBackendFailure:
    def test_a_refused_datagram_ends_the_session_and_the_next_one_goes_elsewhere(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        refusing = harness.add(RefusingPort(own_host()))
        backend = harness.add(UdpBackend())
        pool = harness.pool(refusing.name, backend.name)
        front = udp_proxy(harness, pool, next_upstream=False)
        client = front.client()
        with expect_log(r"recv\(\) failed \(111: Connection refused\) while proxying datagrams"):
            client.send(b"lost")
            ended = front.only()
        assert (ended.termination, ended.status) == ("SD", 502)
        assert front.handler.table == {}
        assert pool.backends[0].fails == 1
        assert ask(harness, client, b"found") == b"found"
        assert backend.received == [b"found"]

    def test_a_first_datagram_that_is_refused_goes_to_the_next_backend(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        refusing = [harness.add(RefusingPort(own_host())) for _ in range(2)]
        backend = harness.add(UdpBackend())
        pool = harness.pool(*(port.name for port in refusing), backend.name)
        front = udp_proxy(harness, pool, responses=1)
        client = front.client()
        with expect_log(r"recv\(\) failed \(111: Connection refused\)", count=1):
            assert ask(harness, client, b"hello") == b"hello"
        assert backend.received == [b"hello"]
        assert front.only() == Ended(
            "--", 200, "completed", 5, 5, (*(port.name for port in refusing), backend.name)
        )
        assert [each.fails for each in pool.backends] == [1, 1, 0]
        assert pool.retries == 2
        assert front.handler.firsts == {}
        assert dropped(front) == {}

    def test_a_first_datagram_that_all_backends_refuse_is_the_end(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        refusing = [harness.add(RefusingPort(own_host())) for _ in range(2)]
        pool = harness.pool(*(port.name for port in refusing))
        front = udp_proxy(harness, pool)
        with expect_log(r"recv\(\) failed \(111: Connection refused\)", count=1):
            front.client().send(b"hello")
            assert front.only().termination == "SD"
        assert pool.retries == 1
        assert front.handler.firsts == {}

    def test_a_further_attempt_for_which_no_backend_is_left_is_not_counted(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        refusing = [harness.add(RefusingPort(own_host())) for _ in range(2)]
        pool = harness.pool(*(port.name for port in refusing))
        front = udp_proxy(harness, pool, next_upstream_tries=5)
        with expect_log(r"recv\(\) failed \(111: Connection refused\)", count=1):
            front.client().send(b"hello")
            assert len(front.only().upstreams) == 2
        assert pool.retries == 1

    def test_a_backend_to_which_there_is_no_way_is_passed_over(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        backend = harness.add(UdpBackend())
        pool = harness.pool(NO_WAY, backend.name)
        front = udp_proxy(harness, pool)
        with expect_log(r"connect\(\) failed", count=1):
            assert ask(harness, front.client(), b"hello") == b"hello"
        assert [each.fails for each in pool.backends] == [1, 0]
        assert dropped(front) == {}

    def test_only_so_many_backends_are_tried_as_the_configuration_says(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        backend = harness.add(UdpBackend())
        front = udp_proxy(
            harness, harness.pool(NO_WAY, NO_WAY, backend.name), next_upstream_tries=2
        )
        with expect_log(r"connect\(\) failed", count=1):
            front.client().send(b"hello")
            assert front.only().termination == "SC"
        assert dropped(front) == {"send_error": 1}

    def test_a_later_datagram_that_is_refused_is_not_sent_again(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        (first, second), pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"hello")
        first.close()
        with expect_log(r"recv\(\) failed \(111: Connection refused\)", count=1):
            client.send(b"lost")
            assert front.only().termination == "SD"
        assert second.received == []

    def test_a_datagram_that_brings_the_refusal_to_light_is_not_lost(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        refusing = harness.add(RefusingPort(own_host()))
        backend = harness.add(UdpBackend())
        pool = harness.pool(refusing.name, backend.name)
        front = udp_proxy(harness, pool, next_upstream=False)
        client = front.client()
        client.send(b"lost")
        client.send(b"found")  # in the same event, so that its send() hears of the refusal
        with expect_log(r"(send|recv)\(\) failed \(111: Connection refused\)"):
            harness.turn_until(lambda: client.received)
        harness.settle()
        assert client.received == backend.received == [b"found"]
        assert front.terminations == ["SD"]

    def test_a_client_leaves_a_backend_that_went_down_with_its_next_datagram(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"1")
        set_down(pool.backends[0])
        ask(harness, client, b"2")
        assert [b.received for b in made] == [[b"1"], [b"2"]]
        assert front.terminations == ["DD"]

    def test_a_client_stays_with_a_backend_that_only_drains(self, harness: Harness) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"1")
        pool.backends[0].health.set_mode(Mode.DRAIN, "by the test", 0)
        pool.backends[0].down = True
        ask(harness, client, b"2")
        assert made[0].received == [b"1", b"2"]

    def test_a_client_stays_with_a_backend_that_a_reload_has_removed(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"1")
        pool.replace(pool.backends[1:])
        ask(harness, client, b"2")
        assert made[0].received == [b"1", b"2"]

    def test_a_client_leaves_a_backend_that_others_found_to_fail(self, harness: Harness) -> None:
        made, pool = backends(harness, max_fails=1, fail_timeout_s=10)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"1")
        pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        ask(harness, client, b"2")
        assert [b.received for b in made] == [[b"1"], [b"2"]]

    def test_the_probe_of_a_failed_backend_may_have_more_than_one_datagram(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness, max_fails=1, fail_timeout_s=10)
        pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        set_down(pool.backends[1])
        harness.advance(11_000)
        front = udp_proxy(harness, pool)
        client = front.client()
        made[0].answers = silent
        client.send(b"1")
        client.send(b"2")
        harness.turn_until(lambda: len(made[0].received) == 2)
        made[0].send_to(b"here again", made[0].senders[0])
        harness.turn_until(lambda: client.received)
        assert pool.backends[0].fails == 0

    def test_a_client_stays_with_a_failed_backend_while_no_other_is_usable(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"1")
        for backend in pool.backends:
            pool.failed(backend, harness.clock.now_ms // 1000)
        ask(harness, client, b"2")
        assert made[0].received == [b"1", b"2"]
        assert made[0].senders[0] == made[0].senders[1]

    def test_the_probe_of_a_failed_backend_goes_on_though_others_are_usable(
        self, harness: Harness
    ) -> None:
        made, pool = backends(harness)
        made[0].answers = silent
        pool.failed(pool.backends[0], harness.clock.now_ms // 1000)
        harness.advance(11_000)
        front = udp_proxy(harness, pool)
        clients = [front.client() for _ in range(2)]
        for number in range(1, 4):
            for client in clients:
                client.send(b"?")
            harness.turn_until(lambda: len(made[0].received) == number)  # noqa: B023
            harness.settle()
        assert len(set(made[0].senders)) == 1

    def test_an_ejected_backend_keeps_the_client_that_tries_it(self, harness: Harness) -> None:
        made, pool = backends(harness)
        made[0].answers = silent
        for backend in pool.backends:
            pool.failed(backend, harness.clock.now_ms // 1000)
            backend.health.eject(EjectSettings(30_000, 60_000, 100), 0, 2, "failed", 0)
            backend.fails, backend.down = 0, True
        harness.advance(2000)
        front = udp_proxy(harness, pool)
        client = front.client()
        for number in range(1, 4):
            client.send(b"?")
            harness.turn_until(lambda: len(made[0].received) == number)  # noqa: B023
        assert len(set(made[0].senders)) == 1
        assert front.handler.sessions == 1

    def test_a_missing_answer_counts_if_the_backend_answers_nobody(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        made, pool = backends(harness)
        made[0].answers = silent
        front = udp_proxy(harness, pool, responses=1, timeout_ms=1000)
        front.client().send(b"?")
        harness.turn_until(lambda: made[0].received)
        with expect_log("backend has left datagrams unanswered"):
            harness.advance(1100)
        assert [b.fails for b in pool.backends] == [1, 0]

    @pytest.mark.parametrize("asks_later", [True, False])
    def test_a_missing_answer_counts_only_if_nobody_was_answered_since(
        self, harness: Harness, expect_log: ExpectLog, asks_later: bool
    ) -> None:
        backend = harness.add(UdpBackend(lambda data: [] if data == b"junk" else [data]))
        pool = harness.pool(backend.name, "127.0.0.1:9")
        set_down(pool.backends[1])
        front = udp_proxy(harness, pool, responses=1, timeout_ms=1000)
        asking, junk = front.client(), front.client()
        if not asks_later:
            ask(harness, asking)
            harness.advance(100)
        junk.send(b"junk")
        harness.turn_until(lambda: b"junk" in backend.received)
        if asks_later:
            harness.advance(100)
            ask(harness, asking)
        set_down(pool.backends[1], False)
        with expect_log("backend has left datagrams unanswered"):
            harness.advance(1100)
            harness.settle()
        assert pool.backends[0].fails == (not asks_later)

    def test_a_check_that_passes_outweighs_missing_answers(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        made, pool = backends(harness)
        made[0].answers = silent
        pool.backends[0].health.is_passing = True
        front = udp_proxy(harness, pool, responses=1, timeout_ms=1000)
        front.client().send(b"?")
        harness.turn_until(lambda: made[0].received)
        with expect_log("backend has left datagrams unanswered"):
            harness.advance(1100)
        assert pool.backends[0].fails == 0

    def test_an_icmp_error_counts_whoever_else_was_answered(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        refusing = harness.add(RefusingPort(own_host()))
        pool = harness.pool(refusing.name, harness.add(UdpBackend()).name)
        front = udp_proxy(harness, pool, next_upstream=False)
        pool.backends[0].answered_at_ms = harness.clock.now_ms
        pool.backends[0].health.is_passing = True
        front.client().send(b"?")
        with expect_log(r"\(\) failed \(111: Connection refused\)"):
            harness.turn_until(lambda: front.ended)
        assert pool.backends[0].fails == 1

    def test_two_datagrams_that_nobody_answers_stop_the_service_for_nobody(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        made = [
            harness.add(UdpBackend(lambda data: [] if data == b"junk" else [data]))
            for _ in range(2)
        ]
        pool = harness.pool(*(backend.name for backend in made))
        front = udp_proxy(harness, pool, responses=1, timeout_ms=1000)
        for _ in range(2):
            front.client().send(b"junk")
        harness.turn_until(lambda: all(backend.received for backend in made))
        with expect_log("backend has left datagrams unanswered"):
            harness.advance(1100)
        assert [backend.fails for backend in pool.backends] == [1, 1]
        assert [ask(harness, front.client()) for _ in range(6)] == [b"?"] * 6

    def test_with_no_usable_backend_the_datagram_is_dropped_and_counted(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        _, pool = backends(harness, 1)
        set_down(pool.backends[0])
        front = udp_proxy(harness, pool)
        client = front.client()
        text = 'no usable backend in upstream "backends": 1 of 1 in maintenance while'
        with expect_log(text, count=1):
            for _ in range(3):
                client.send(b"?")
            harness.turn_until(lambda: dropped(front) == {"no_backend": 3})
        assert front.terminations == ["SC"] * 3
        set_down(pool.backends[0], False)
        assert ask(harness, client) == b"?"


class TestLimits:
    def test_max_sessions_sheds_new_clients_only(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, max_sessions=2)
        known = [front.client() for _ in range(2)]
        for client in known:
            ask(harness, client)
        late = front.client()
        with expect_log(r"max_sessions \(2\) are used up, client: 127.0.0.1:", count=1):
            late.send(b"1")
            late.send(b"2")
            harness.turn_until(lambda: dropped(front) == {"shed": 2})
        for client in known:
            assert ask(harness, client, b"still") == b"still"
        assert front.handler.sessions == 2

    def test_worker_connections_limit_new_clients_only(
        self, clock: object, expect_log: ExpectLog
    ) -> None:
        with Harness(max_connections=2) as harness:
            _, pool = backends(harness, 1)
            front = udp_proxy(harness, pool)
            first = front.client()
            ask(harness, first)
            with expect_log("worker_connections are used up, client: ", count=1):
                front.client().send(b"?")
                harness.turn_until(lambda: dropped(front) == {"limit": 1})
            assert ask(harness, first) == b"?"

    def test_out_of_descriptors_the_datagram_is_dropped_and_the_loop_goes_on(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool)
        known, late = front.client(), front.client()
        ask(harness, known)
        with (
            expect_log(r"socket\(\) failed \(24: Too many open files\)", count=1),
            few_descriptors(),
        ):
            for _ in range(3):
                late.send(b"?")
            harness.turn_until(lambda: dropped(front) == {"limit": 3})
            assert ask(harness, known) == b"?"
        assert front.terminations == ["RC"] * 3
        assert pool.backends[0].fails == 0
        assert ask(harness, late) == b"?"

    def test_while_tcp_clients_wait_for_descriptors_new_clients_get_none(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool)
        known, late = front.client(), front.client()
        ask(harness, known)
        reserve = harness.loop.reserve
        reserve.promise()
        reserve.promise()
        with expect_log("descriptors are used up, client: ", count=1), few_descriptors():
            reserve.promise()  # for which there is none
            late.send(b"?")
            harness.turn_until(lambda: dropped(front) == {"limit": 1})
            assert ask(harness, known) == b"?"
        assert front.terminations == []
        for _ in range(3):
            reserve.redeem()
        assert ask(harness, late) == b"?"

    def test_without_a_port_towards_one_backend_another_is_tried(self, harness: Harness) -> None:
        """The local port is taken; the second backend is of a family that is not bound to it."""
        near, far = harness.add(UdpBackend()), harness.add(UdpBackend(sockaddr=("::1", 0)))
        pool = harness.pool(near.name, far.name)
        host = own_host()
        with socket.socket(type=socket.SOCK_DGRAM) as taken:
            taken.bind((host, 0))
            bind = Address(socket.AF_INET, host, taken.getsockname()[1])
            front = udp_proxy(harness, pool, bind=bind)
            assert ask(harness, front.client(), b"hello") == b"hello"
        assert [b.fails for b in pool.backends] == [0, 0]
        assert dropped(front) == {}

    def test_the_error_log_gets_a_line_a_second_and_the_number_of_those_left_out(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        _, pool = backends(harness, 1)
        set_down(pool.backends[0])
        front = udp_proxy(harness, pool)
        client = front.client()
        with expect_log("no usable backend") as records:
            for _ in range(4):
                client.send(b"?")
            harness.turn_until(lambda: dropped(front) == {"no_backend": 4})
            harness.advance(1000)
            client.send(b"?")
            harness.turn_until(lambda: dropped(front) == {"no_backend": 5})
        assert len(records) == 2
        assert "(3 similar messages suppressed)" in records[1].getMessage()


class TestOperation:
    def test_sessions_survive_a_reload(self, harness: Harness) -> None:
        made, pool = backends(harness)
        front = udp_proxy(harness, pool)
        client = front.client()
        ask(harness, client, b"1")
        other = harness.pool(made[1].name)
        front.reload(other)
        ask(harness, client, b"2")
        assert made[0].received == [b"1", b"2"]
        ask(harness, front.client(), b"3")
        assert made[1].received == [b"3"]

    def test_a_draining_listener_serves_known_clients_only(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool)
        known, late = front.client(), front.client()
        ask(harness, known)
        front.handler.is_draining = True
        with expect_log("the listener takes no new clients"):
            late.send(b"?")
            harness.turn_until(lambda: dropped(front) == {"shed": 1})
        assert ask(harness, known) == b"?"

    def test_closing_the_sessions_ends_those_without_a_key_as_well(self, harness: Harness) -> None:
        _, pool = backends(harness, 1)
        front = udp_proxy(harness, pool, requests=1)
        client = front.client()
        ask(harness, client)
        ask(harness, client)
        assert (front.handler.sessions, front.handler.table) == (2, {})
        end_sessions(front.handler)
        assert front.terminations == ["KD", "KD"]
        assert front.handler.sessions == 0

    def test_built_in_answers_work_for_datagrams(self, harness: Harness) -> None:
        front = udp_reply(harness, b"hello")
        client = front.client()
        assert [ask(harness, client, data) for data in (b"", b"who?")] == [b"hello"] * 2
        assert [(e.termination, e.bytes_received, e.bytes_sent) for e in front.ended] == [
            ("--", 0, 5),
            ("--", 4, 5),
        ]

    def test_a_bug_in_serving_one_datagram_is_not_the_listeners_end(
        self, harness: Harness, expect_log: ExpectLog
    ) -> None:
        front = udp_reply(harness, b"hello")
        handler: Any = front.handler
        answer = handler.text
        handler.text = lambda session: answer(session) if session.bytes_received else 1 / 0
        client = front.client()
        with (
            expect_log("bug in nginy", count=1),
            expect_log("internal error while returning text", count=1),
        ):
            client.send(b"")
            client.send(b"1")
            harness.turn_until(lambda: client.received == [b"hello"])
        assert front.terminations == ["ID", "--"]


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Use up the descriptors of the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = socket.socket()
    lowest = probe.fileno()
    probe.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
