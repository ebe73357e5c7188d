"""The table of routes: the first that holds, whatever is looked up on the way."""

import random
from collections.abc import Sequence

from nginy.proxy.routing.conditions import (
    MORE,
    NO,
    YES,
    ClientFacts,
    Condition,
    IsTls,
    Ports,
    ServerName,
    StartsWith,
    knows,
)
from nginy.proxy.routing.routes import Route, RouteTable, RouteTarget
from nginy.wire.client_hello import NOT_TLS, Hello
from nginy.wire.expect import Verdict
from nginy.wire.starts import parse_starts


def table(*routes: Sequence[Condition]) -> RouteTable:
    return RouteTable(
        Route(number, tuple(conditions), RouteTarget(f"u{number}"))
        for number, conditions in enumerate(routes, 1)
    )


def facts(
    hello: Hello | None = None, head: bytes = b"", *, port: int = 443, done: bool = False
) -> ClientFacts:
    found = ClientFacts("10.1.2.3", port, str)
    knows(found, head, hello, is_complete=done)
    return found


def chosen(routes: RouteTable, known: ClientFacts) -> int | Verdict:
    found = routes.choose(known)
    return found.number if isinstance(found, Route) else found


def test_the_first_route_that_holds_decides_whatever_the_pattern() -> None:
    routes = table(
        [ServerName(["~^a"])], [ServerName(["b.example"])], [ServerName(["*.example"])],
        [ServerName(["a.example", "c.test"])], [IsTls(True)],
    )  # fmt: skip
    names = ("a.example", "b.example", "x.y.example", "c.test", "d.test", "")
    found = [chosen(routes, facts(Hello(True, name))) for name in names]
    assert found == [1, 2, 3, 4, 5, 5]
    assert chosen(routes, facts(NOT_TLS)) is NO


def test_all_conditions_have_to_hold() -> None:
    routes = table([ServerName(["a"]), Ports(((80, 80),))], [ServerName(["a"]), IsTls(True)])
    assert chosen(routes, facts(Hello(True, "a"))) == 2
    assert chosen(routes, facts(Hello(True, "a"), port=80)) == 1
    assert routes.routes[0].fails_at(facts(Hello(True, "b"))) is routes.routes[0].conditions[0]
    assert routes.routes[0].fails_at(facts(Hello(True, "a"), port=80)) is None


def test_an_undecided_route_holds_up_those_behind_it_and_no_others() -> None:
    routes = table([Ports(((80, 80),))], [StartsWith(parse_starts("SSH-"))], [])
    assert chosen(routes, facts(port=80)) == 1
    assert chosen(routes, facts()) is MORE
    assert chosen(routes, facts(None, b"SS")) is MORE
    assert chosen(routes, facts(None, b"X")) == 3
    assert chosen(routes, facts(done=True)) == 3


def test_a_condition_that_fails_decides_though_others_are_open() -> None:
    routes = table([IsTls(True), Ports(((80, 80),))], [])
    assert chosen(routes, facts()) == 2


def test_a_table_knows_whether_bytes_are_needed() -> None:
    assert not table([Ports(((80, 80),))], []).needs_bytes
    assert table([], [IsTls(True)]).needs_bytes


def test_a_port_leaves_out_the_routes_of_others() -> None:
    routes = table([Ports(((1, 5),))], [Ports(((5, 9),)), IsTls(True)], [])
    assert [route.number for route in routes.on_port(5).routes] == [1, 2, 3]
    assert [route.number for route in routes.on_port(3).routes] == [1, 3]
    assert [route.number for route in routes.on_port(0).routes] == [3]
    assert routes.on_port(5) is routes


def test_the_table_chooses_as_one_that_asks_every_route() -> None:
    seed = 6066
    print("seed", seed)
    rng = random.Random(seed)
    labels = ("a", "b", "c")

    def name() -> str:
        return ".".join(rng.choice(labels) for _ in range(rng.randint(1, 3)))

    def pattern() -> str:
        return rng.choice(("{}", "*.{}", "~^{}$", "~{}")).format(name())

    counts = {True: 0, False: 0}
    for _ in range(400):
        routes = table(
            *(
                [
                    *([ServerName([pattern() for _ in range(rng.randint(1, 3))])]
                      if rng.random() < 0.8 else [IsTls(rng.random() < 0.5)]),
                    *([Ports(((rng.randint(1, 3), 3),))] if rng.random() < 0.3 else []),
                ]
                for _ in range(rng.randint(1, 12))
            )
        )  # fmt: skip
        for _ in range(20):
            known = facts(Hello(True, name() if rng.random() < 0.9 else ""), port=rng.randint(1, 3))
            holding = (route.number for route in routes.routes if route.judge(known) is YES)
            expected: int | Verdict = next(holding, NO)
            assert chosen(routes, known) == expected
            counts[expected is NO] += 1
    assert min(counts.values()) > 500


def test_a_thousand_names_are_looked_up_and_not_searched() -> None:
    asked = []

    class Counted(ServerName):
        def judge(self, facts: ClientFacts) -> Verdict:
            asked.append(self)
            return super().judge(facts)

    routes = table(*([Counted([f"{number}.example"])] for number in range(1000)))
    assert chosen(routes, facts(Hello(True, "999.example"))) == 1000
    assert len(asked) == 1
    assert chosen(routes, facts(Hello(True, "none.example"))) is NO
    assert len(asked) == 1


def test_a_target_says_where_it_leads() -> None:
    assert [str(each) for each in (RouteTarget("web"), RouteTarget(answer="x"), RouteTarget())] == [
        "proxy_pass web",
        "return",
        "deny",
    ]


def test_a_table_that_certainly_waits_is_known() -> None:
    starts = StartsWith(parse_starts("x"))
    assert table([starts, IsTls(False)], []).waits
    assert not table([Ports(((80, 80),)), IsTls(True)], []).waits
    assert not table([], [IsTls(True)]).waits
    assert not table().waits
    for first in ([starts], [IsTls(True)], [ServerName(["a"])]):
        assert chosen(table(first, []), facts()) is MORE
