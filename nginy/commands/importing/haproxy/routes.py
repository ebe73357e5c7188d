"""`acl`, `tcp-request` and `use_backend` of a frontend, as access rules, limits and routes.

HAProxy applies rules in this order: those of the connection, of the session, of the contents, then
use_backend, then the content rules of the backend. The first reject ends a session, the first
accept ends its kind of rules. So a reject becomes a route with `deny` for the clients that no
earlier accept has let through; connection rules that test networks only become `access`.

Not here: where routes lead (fronts.py), and single conditions (acls.py).

Source: HAProxy's configuration manual, "tcp-request connection", "tcp-request content",
"use_backend", 4.3 "Actions keywords matrix".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nginy.commands.importing.haproxy.acls import FILE, Conditions
from nginy.commands.importing.haproxy.formula import (
    ALWAYS,
    NEVER,
    Atom,
    Formula,
    Literal,
    Term,
    both,
    either,
    literals,
    negated,
    ordered,
)
from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.table import UNNOTICED
from nginy.commands.importing.haproxy.values import number
from nginy.commands.importing.haproxy.variables import INSIDE, OUTSIDE, Variables
from nginy.commands.importing.model import Block, Value, one_or_list
from nginy.errors import InvalidValueError

NEEDS_BYTES: Final = frozenset({"sni", "alpn", "is_tls", "starts"})
LIMITS: Final = frozenset({"conn_cur", "conn_rate"})
NOTHING: Final = f"does nothing to the stream; {UNNOTICED}"
MARKS: Final = "nginy marks no packets; the network may treat them differently"
ACTIONS: Final = {
    "attach-srv": "nginy has no reverse HTTP",
    "capture": f"nginy's log has its own variables; {UNNOTICED}",
    "do-log": f"nginy logs a session when it ends; {UNNOTICED}",
    "do-resolve": "nginy resolves the names of backends only",
    "expect-netscaler-cip": "nginy does not read this header; the stream has it",
    "send-spoe-group": "nginy has no SPOE",
    "set-bandwidth-limit": "expected proxy_upload_rate and proxy_download_rate",
    "set-dst": "the destination is the backend's",
    "set-dst-port": "the destination is the backend's",
    "set-log-level": "nginy logs all sessions at one level",
    "set-nice": NOTHING,
    "set-retries": "nginy tries each backend once",
    "set-src": "the client's address does not change",
    "set-src-port": "the client's port does not change",
    "switch-mode": "nginy does not read HTTP; these clients are passed on as they come",
    "use-service": "nginy has no services",
    **dict.fromkeys(("set-bc-mark", "set-bc-tos", "set-fc-mark", "set-fc-tos"), MARKS),
    **dict.fromkeys(("set-mark", "set-tos"), MARKS),
    **dict.fromkeys(("set-var", "set-var-fmt", "unset-var"), NOTHING),
    **dict.fromkeys(("set-priority-class", "set-priority-offset"), "a queue has one order"),
    **dict.fromkeys(
        ("sc-add-gpc", "sc-inc-gpc", "sc-inc-gpc0", "sc-inc-gpc1", "sc-set-gpt", "sc-set-gpt0"),
        "nginy has no stick tables",
    ),
}
"""Actions without a counterpart, and what that means."""


@dataclass(slots=True)
class Rule:
    """A rule that rejects a client, or lets it through."""

    line: Line
    action: str
    formula: Formula


@dataclass(slots=True)
class Ways:
    """The result of a frontend's rules; `fronts.py` puts it into each of its listeners."""

    access: list[Block] = field(default_factory=list)
    limits: list[tuple[str, Block]] = field(default_factory=list)
    """Each with its key: limit_conn or limit_conn_rate."""
    routes: list[tuple[Block, Line]] = field(default_factory=list)
    needs_bytes: bool = False
    proxies: list[str] | None = None
    """Clients that send a PROXY header, from `expect-proxy`."""
    access_line: Line | None = None


class RuleReader:
    """Reads the rules of one frontend."""

    def __init__(
        self,
        conditions: Conditions,
        variables: Variables,
        ledger: Ledger,
        period: Callable[[str], int],
    ) -> None:
        """`period` tells the seconds of conn_rate of a stick table, by its name."""
        self.conditions = conditions
        self.variables = variables
        self.ledger = ledger
        self.period = period
        self.ways = Ways()

    # Rules of the connection.

    def connection(self, front: Proxy, *, is_announced: bool) -> None:
        """Read rules of the connection, which see the peer itself even if it announces another."""
        for keyword in ("tcp-request connection", "tcp-request session"):
            rules = self._rules(front.all(keyword))
            rules = self._without_limits(rules)
            is_real = is_announced and keyword == "tcp-request connection"
            if not is_real and not self.ways.access and self._as_access(rules):
                continue
            for rule in rules if is_real else ():
                rule.formula = _seen_as_peer(rule.formula)
            self._denials(rules, ALWAYS)

    def contents(self, proxy: Proxy, reached: Formula = ALWAYS) -> None:
        """Read rules of the contents, for the clients that reach the proxy."""
        self._denials(self._rules(proxy.all("tcp-request content")), reached)

    def _rules(self, lines: Sequence[Line]) -> list[Rule]:
        """Return the rules that decide; judge all others."""
        rules = []
        for line in lines:
            action = line.word(2).partition("(")[0]
            words = line.words[3:]
            at = next((i for i, word in enumerate(words) if word in ("if", "unless")), len(words))
            try:
                if action in ("accept", "reject", "silent-drop", "close"):
                    rules.append(Rule(line, action, self.conditions.of(words[at:])))
                    self.ledger.exact(line)
                elif action == "expect-proxy":
                    self._expect(self.conditions.of(words[at:]), line)
                elif action.startswith("track-sc"):
                    self._track(line, words[:at])
                else:
                    text = ACTIONS.get(action, f'nginy has no action "{action}"')
                    self.ledger.left_out(line, text)
            except InvalidValueError as error:
                self._give_up(line, error, action)
            if action == "silent-drop":
                self.ledger.close(line, "nginy closes the connection instead of keeping silent")
        return rules

    def _give_up(self, line: Line, error: InvalidValueError, action: str) -> None:
        """Judge a rule that nginy does not have."""
        meaning = "clients that it would reject get through"
        if action == "accept":
            meaning = "the other rules decide about clients that it would let through"
        self.ledger.left_out(line, f"it {error.clause}; {meaning}")

    def _expect(self, formula: Formula, line: Line) -> None:
        terms = [list(term) for term in formula]
        if formula == ALWAYS:
            self.ways.proxies = ["all"]
        elif all(len(term) == 1 and _is_from(term[0]) for term in terms):
            values = [value for term in terms for value in term[0].atom.values]
            self.ways.proxies = self.conditions.networks(values)
        else:
            raise InvalidValueError("expects PROXY headers by another condition than networks")
        self.ledger.exact(line)

    def _track(self, line: Line, words: Sequence[str]) -> None:
        if list(words[:1]) != ["src"]:
            self.ledger.left_out(line, "nginy counts sessions only by the client's address")
        else:
            self.ledger.close(line, "counts only where a limit needs it")

    def _without_limits(self, rules: list[Rule]) -> list[Rule]:
        """Turn rejects of too many clients into limits; return the other rules."""
        others: list[Rule] = []
        for rule in rules:
            found = literals(rule.formula)
            if not any(each.atom.kind in LIMITS for each in found):
                others.append(rule)
                continue
            try:
                self._limit(rule, found, others)
            except InvalidValueError as error:
                self._give_up(rule.line, error, rule.action)
        return others

    def _limit(self, rule: Rule, found: list[Literal], before: list[Rule]) -> None:
        if len(found) != 1 or not found[0].holds or rule.action == "accept":
            raise InvalidValueError("combines a limit with other conditions")
        key, atom = "$remote_addr", found[0].atom
        accepted = [each for each in before if each.action == "accept"]
        if accepted:
            terms = [list(term) for each in accepted for term in each.formula]
            if not all(len(term) == 1 and _is_from(term[0]) for term in terms):
                raise InvalidValueError("is for clients that other rules have not let through")
            values = [value for term in terms for value in term[0].atom.values]
            key = self.variables.exempt(self.conditions.networks(values))
        most = number(atom.values[0], 1)
        if atom.kind == "conn_cur":
            block = Block({"key": key, "max": str(most)})
            self.ways.limits.append(("limit_conn", block))
            self.ledger.exact(rule.line, block)
            return
        seconds = self.period(atom.values[1])
        rate = max(1, round(most / seconds))
        block = Block({"key": key, "rate": str(rate), "burst": str(most)})
        self.ways.limits.append(("limit_conn_rate", block))
        self.ledger.place(rule.line, block)
        text = f"{most} at once and {rate} a second on average, instead of {most} in {seconds} s"
        self.ledger.close(rule.line, text)

    def _as_access(self, rules: list[Rule]) -> bool:
        """Turn these into access rules, if they test networks only."""
        found: list[Block] = []
        for index, rule in enumerate(rules):
            word = "allow" if rule.action == "accept" else "deny"
            negative = _outside(rule.formula)
            if rule.formula == ALWAYS:
                found.append(Block({word: "all"}))
                break
            if _is_by_network(rule.formula):
                found += [Block({word: each}) for each in _networks(literals(rule.formula))]
            elif negative and word == "deny" and _are_denials(rules[index + 1 :]):
                for later in rules[index + 1 :]:
                    found += [Block({word: each}) for each in _networks(literals(later.formula))]
                found += [Block({"allow": each}) for each in _networks(negative)]
                found.append(Block({"deny": "all"}))
                break
            else:
                return False
        self.ways.access += found
        if rules and found:
            self.ways.access_line = rules[0].line
            for rule in rules:
                self.ledger.place(rule.line, found[0])
        return True

    # Routes.

    def _denials(self, rules: Sequence[Rule], reached: Formula) -> None:
        """Turn rejects into routes that deny, for clients that no accept has let through."""
        accepted = NEVER
        for rule in rules:
            try:
                if rule.action == "accept":
                    accepted = either(accepted, rule.formula)
                    self._needs(rule.formula)
                    continue
                formula = both(both(reached, rule.formula), negated(accepted))
                self.route(formula, rule.line, "deny", "on")
            except InvalidValueError as error:
                self._give_up(rule.line, error, rule.action)

    def _needs(self, formula: Formula) -> None:
        """Note that HAProxy waits for bytes here; a route does so by itself."""

    def route(self, formula: Formula, line: Line, key: str, target: Value) -> None:
        """Add a route for each term of a formula."""
        blocks = [self._route(term) for term in formula]
        for block in blocks:
            block.set(key, target)
            self.ways.routes.append((block, line))
            self.ledger.place(line, block)
        if any(each.atom.kind in NEEDS_BYTES for each in literals(formula)):
            self.ways.needs_bytes = True

    def _route(self, term: Term) -> Block:
        """Return the conditions of a route."""
        block = Block()
        when = Block()
        for literal in ordered(term):
            atom = literal.atom
            if atom.kind == "from":
                atom = Atom("from", tuple(self.conditions.networks(atom.values)))
            is_plain = literal.holds and atom.kind not in block.values
            if atom.kind == "port":
                self._ports(block, literal)
            elif atom.kind == "share" and is_plain:
                block.set("share", atom.values[0])
            elif is_plain and atom.kind in ("from", "sni", "alpn", "is_tls", "starts"):
                block.set(atom.kind, one_or_list(atom.values))
            else:
                wanted = INSIDE if literal.holds else OUTSIDE
                when.set(self.variables.of(atom), wanted)
        if "sni" in block.values and "is_tls" in block.values:
            del block.values["is_tls"]  # a client that asks for a server speaks TLS
        if when.values:
            block.set("when", when)
        if not block.values:
            block.set("from", ["all", "unix:"])
        return block

    def _ports(self, block: Block, literal: Literal) -> None:
        """Add ports, or all others."""
        if "port" in block.values:
            raise InvalidValueError("asks for two ports at once")
        ranges = list(literal.atom.values)
        block.set("port", one_or_list(ranges if literal.holds else _others(ranges)))


def _others(ranges: Sequence[str]) -> list[str]:
    """Return the ports that are in none of these ranges."""
    found, low = [], 1
    spans = sorted((int(a), int(b or a)) for a, _, b in (text.partition("-") for text in ranges))
    for first, last in [*spans, (65536, 65536)]:
        if low < first:
            found.append(f"{low}-{first - 1}" if low < first - 1 else str(low))
        low = max(low, last + 1)
    return found or ["65535"]


def _is_from(literal: Literal) -> bool:
    return literal.holds and literal.atom.kind == "from"


def _is_by_network(formula: Formula) -> bool:
    """Whether a formula tests only networks that a client is in."""
    return bool(formula) and all(len(term) == 1 and _is_from(next(iter(term))) for term in formula)


def _outside(formula: Formula) -> list[Literal]:
    """Return the networks that a client must not be in, if a formula tests only that."""
    if len(formula) != 1 or not formula[0]:
        return []
    found = ordered(formula[0])
    return found if all(not each.holds and each.atom.kind == "from" for each in found) else []


def _are_denials(rules: Sequence[Rule]) -> bool:
    return all(rule.action != "accept" and _is_by_network(rule.formula) for rule in rules)


def _networks(found: Sequence[Literal]) -> list[Value]:
    """Return what access rules name: networks, and files of them."""
    values = [value for each in found for value in each.atom.values]
    return [
        Block({"file": value.removeprefix(FILE)}) if value.startswith(FILE) else value
        for value in values
    ]


def _seen_as_peer(formula: Formula) -> Formula:
    """Return a formula that tests the peer's address, not the one that it announces."""
    return tuple(
        frozenset(
            Literal(Atom("real_from", each.atom.values), each.holds)
            if each.atom.kind == "from"
            else each
            for each in term
        )
        for term in formula
    )
