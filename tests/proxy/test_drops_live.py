"""Refused connections, counted by reason; tests/proxy/udp has datagrams."""

from typing import Any

import pytest
from nginy.admin.facts.upstreams import listener_rows
from nginy.admin.subject import Front as Told
from nginy.proxy.access import ALL, Access, Rule
from nginy.proxy.phases.phase import AccessPhase
from nginy.proxy.routing.conditions import StartsWith
from nginy.wire.starts import parse_starts

from kit.admin import Made, done
from kit.harness import Front, Harness
from kit.routes import routed
from kit.servers import EchoBackend, RefusingPort

DENY_ALL = AccessPhase(Access([(Rule(False, "all", is_for_unix=True), ALL)]))


def refused(front: Front) -> dict[str, int]:
    return {reason: count for reason, count in front.handler.drops.items() if count}


def come(harness: Harness, front: Front, data: bytes = b"?") -> str:
    before = len(front.ended)
    client = front.connect()
    client.send(data)
    client.finish()
    harness.turn_until(lambda: len(front.ended) > before)
    return front.ended[-1].termination


@pytest.mark.parametrize("method", ["epoll"])
def test_connections_that_get_no_backend_are_counted_by_reason(
    harness: Harness, expect_log: Any
) -> None:
    backend = harness.add(EchoBackend())
    front = harness.proxy(harness.pool(backend.name))
    assert come(harness, front) == "--"
    assert refused(front) == {}
    front.handler.phases = (DENY_ALL,)
    assert [come(harness, front), come(harness, front)] == ["PR", "PR"]
    assert refused(front) == {"access": 2}
    down = harness.proxy(harness.pool(backend.name, down=True))
    with expect_log("no usable backend", count=1):
        assert come(harness, down) == "SC"
    assert refused(down) == {"no_backend": 1}
    # A backend that refuses has failed; nginy has refused nobody.
    failing = harness.proxy(harness.pool(harness.add(RefusingPort()).name))
    with expect_log("Connection refused", count=1):
        assert come(harness, failing) == "SC"
    assert refused(failing) == {}


@pytest.mark.parametrize("method", ["epoll"])
def test_a_listener_tells_what_all_its_targets_have_refused(
    harness: Harness, expect_log: Any
) -> None:
    down = harness.pool("127.0.0.1:9", down=True)
    front = routed(harness, [([StartsWith(parse_starts("a"))], down)])
    with expect_log("no usable backend", count=1):
        assert come(harness, front, b"a") == "SC"
    assert come(harness, front, b"b") == "PR"
    assert refused(front) == {"no_backend": 1, "access": 1}
    after = routed(harness, [], "no\n").handler
    after.take_over(front.handler)
    with Made() as subject:
        subject.fronts = lambda: [Told("127.0.0.1:80", after)]
        (row,), _ = done(listener_rows(subject))
    at_ms = front.handler.drops.lasts["access"]
    assert (row["drops"]["access"], row["drops"]["no_backend"]) == (1, 1)
    assert row["drop_times"]["access"] == {"first": at_ms, "last": at_ms}
