"""Texts with variables: log formats, keys and built-in answers, compiled when they are configured.

The one idea: a text becomes a single f-string when the configuration is built, so that a line of
the access log is one expression and not a call for each of its parts. The compiler puts it together
as a syntax tree, from the expressions of `proxy/variables.py` and the text's constants: Python
never reads anything in a configuration as code. (A line of the format `main` takes 1.6 µs this way;
a list of functions, called and joined, took 4.7.)

A session computes a variable of the configuration when it is first needed, and keeps the value. All
code that needs a value compiles a text that names the variable, so there is one way to ask.

The caller that compiles decides what to escape, and how: see `nginy/text/escape.py`.

Tested in tests/proxy/test_variables.py.
"""

import ast
from collections.abc import Callable, Mapping
from functools import partial

from nginy.event.clock import Clock
from nginy.proxy.lookups import Definition
from nginy.proxy.phases.arrival import Arrival
from nginy.proxy.session import Session
from nginy.proxy.variables import (
    FIXED,
    FUNCTIONS,
    NONE_DEFINED,
    NUMBERED,
    REFERENCE,
    TIMES,
    VARIABLES,
    Render,
    Variable,
    tlv,
)
from nginy.text.times import TimeText


class Variables:
    """Compiles texts with variables; holds the time of day they share.

    `definitions` are the configuration's own variables. They hold for what this object compiles: a
    reload makes another object, and sessions keep the variables they began with.
    """

    def __init__(self, clock: Clock, definitions: Mapping[str, Definition] = NONE_DEFINED) -> None:
        self._clock = clock
        self._now = partial(_now, TimeText(clock.wall_ms() // 1000), clock)
        self._definitions = definitions
        self._workers: dict[str, Render] = {}

    def compile(
        self, text: str, escape: Callable[[str], str] | None = None, empty: str = "-"
    ) -> Render:
        """Return what renders `text` for a session, foreign values passed through `escape`.

        An empty value shows as `empty` if there is an `escape`, by default as in nginx's logs.
        Raises KeyError for a name that is neither in `VARIABLES` nor defined, which the
        configuration has ruled out.
        """
        render: Render = self._compile(text, "s", escape, empty)
        return render

    def _compile(
        self, text: str, parameters: str, escape: Callable[[str], str] | None, empty: str
    ) -> Callable[..., str]:
        """Return the f-string that a text is, as a function of `s`, and of a match `m` if it is
        among the parameters."""
        parts: list[ast.expr] = []
        workers: dict[str, Render] = {}
        end = 0
        for match in REFERENCE.finditer(text):
            parts.append(ast.Constant(text[end : match.start()]))
            name = match[1] or match[2]
            variable = self._variable(name, has_match="m" in parameters)
            if name in self._definitions:
                workers[f"work_out_{name}"] = self._worker(name)
            parts.append(_formatted(variable, empty if escape is not None else None))
            end = match.end()
        parts.append(ast.Constant(text[end:]))
        tree = ast.parse(f"lambda {parameters}: None", mode="eval")
        assert isinstance(tree.body, ast.Lambda)
        tree.body.body = ast.JoinedStr(parts)
        names = {
            **FUNCTIONS,
            **workers,
            "escape": escape,
            "now": self._now,
            "value_of": _value_of,
            "wall_ms": self._clock.wall_ms,
        }
        code = compile(ast.fix_missing_locations(tree), "<text with variables>", "eval")
        render: Callable[..., str] = eval(code, names)
        return render

    def _variable(self, name: str, *, has_match: bool) -> Variable:
        if name in self._definitions:
            return Variable(f"value_of(s, {name!r}, work_out_{name})", is_foreign=True)
        number = NUMBERED.fullmatch(name)
        if number is not None:
            return tlv(repr(number[1]))
        if has_match and name not in VARIABLES:  # a group of the pattern
            return Variable(f"m[{int(name) if name.isdecimal() else name!r}] or ''")
        return FIXED[name] if name in FIXED else TIMES[name]

    # Variables of the configuration.

    def _worker(self, name: str) -> Render:
        """Return the function that computes a defined variable.

        It refers to the workers of the variables that it needs and not back to this object, so that
        nothing is left for the cyclic collector once no session needs it.
        """
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = self._make_worker(self._definitions[name])
        return worker

    def _make_worker(self, definition: Definition) -> Render:
        source = self.compile(definition.source)
        find = definition.lookup.find
        values = [self._value(text) for text in definition.values]

        def work_out(session: Session) -> str:
            number, match = find(source(session))
            value = values[number]
            return value if isinstance(value, str) else value(session, match)

        return work_out

    def _value(self, text: str) -> str | Callable[..., str]:
        """Return a value as it is, or a function that fills in its variables and a pattern's
        groups."""
        return self._compile(text, "s, m", None, "") if "$" in text else text


def _now(time_text: TimeText, clock: Clock) -> TimeText:
    time_text.update(clock.wall_ms() // 1000)
    return time_text


def _value_of(session: Session, name: str, work_out: Render) -> str:
    """Return the value of a defined variable, which a session computes once."""
    arrival = session.arrival
    if arrival is None:
        arrival = session.arrival = Arrival(session.client.sockaddr)
    if arrival.values is None:
        arrival.values = {}
    value = arrival.values.get(name)
    if value is None:
        value = arrival.values[name] = work_out(session)
    return value


def _formatted(variable: Variable, empty: str | None) -> ast.FormattedValue:
    """Return a variable's place in an f-string; with `empty` it is escaped and never empty."""
    expression = variable.expression
    if empty is not None and variable.is_foreign:
        expression = f"escape({expression})"
    if empty is not None and variable.may_be_empty:
        expression = f"({expression}) or {empty!r}"
    return ast.FormattedValue(ast.parse(expression, mode="eval").body, -1)
