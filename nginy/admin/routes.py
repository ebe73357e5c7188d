"""Routes: which path gets which answer.

A route is a path, a sentence and a function that makes the answer of a request, at once or in
slices. Adding an endpoint is adding a line to `ROUTES`.

Tested in tests/admin/test_server_live.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nginy.admin.answer import TEXT, Answer, Slices, encode
from nginy.admin.overview import ROWS_MAX, overview, unreadiness
from nginy.admin.subject import Subject
from nginy.wire.request import Request, RequestError

API: Final = "/api/v1/"
COUNT_MAX_DIGITS: Final = 9

Make: TypeAlias = Callable[[Subject, Request], Answer | Slices[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint."""

    path: str
    about: str
    make: Make
    access: str = "read"
    """What a listener must let its clients do: metrics, read or full."""


def _healthz(_subject: Subject, _request: Request) -> Answer:
    return Answer(200, b"ok\n", TEXT)


def _readyz(subject: Subject, request: Request) -> Slices[Answer]:
    text = request.query.get("min")
    if text is not None and not (
        text.isascii() and text.isdecimal() and len(text) <= COUNT_MAX_DIGITS
    ):
        raise RequestError(400, "bad_parameter", "min is not a whole number")
    minimum = None if text is None else int(text)
    reasons = yield from unreadiness(subject, request.query.get("upstream"), minimum)
    if reasons is None:
        raise RequestError(404, "upstream_not_found", "there is no upstream of this name")
    if not reasons:
        return Answer(200, b"ready\n", TEXT)
    more = len(reasons) - ROWS_MAX
    lines = [*reasons[:ROWS_MAX], *([f"and {more} more"] if more > 0 else [])]
    body = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    return Answer(503, body, TEXT, ("Retry-After: 1",))


def _overview(subject: Subject, request: Request) -> Slices[Answer]:
    members = yield from overview(subject)
    yield
    return (yield from _json(subject, request, members))


def _index(subject: Subject, request: Request) -> Slices[Answer]:
    endpoints: list[object] = [{"path": route.path, "about": route.about} for route in ROUTES]
    return _json(subject, request, {**subject.stamp(), "endpoints": endpoints})


def _json(subject: Subject, request: Request, members: dict[str, object]) -> Slices[Answer]:
    """Return an object as an answer, with the members that `fields` names if it is there."""
    wanted = request.query.get("fields")
    if wanted is not None:
        names = dict.fromkeys((*subject.stamp(), *wanted.split(",")))
        unknown = [name for name in names if name not in members]
        if unknown:
            raise RequestError(400, "unknown_field", f"fields are {', '.join(members)}")
        members = {name: members[name] for name in names}
    body = yield from encode(members, is_pretty="pretty" in request.query)
    return Answer(200, body)


ROUTES: Final = (
    Route("/healthz", "ok as long as the loop turns", _healthz, "metrics"),
    Route(
        "/readyz",
        "whether clients should come; upstream= and min= ask about one upstream",
        _readyz,
        "metrics",
    ),
    Route(f"{API}overview", "what is being served, by whom, and whether all is well", _overview),
    Route(API, "this list", _index),
    Route("/", "this list", _index),
)

BY_PATH: Final = {tuple(route.path[1:].split("/")): route for route in ROUTES}


def find(request: Request, access: str) -> Route:
    """Return the route of a request; raises RequestError."""
    route = BY_PATH.get(request.path)
    if route is None:
        raise RequestError(404, "not_found", f"nothing is here, {API} lists what there is")
    if request.method not in ("GET", "HEAD"):
        raise RequestError(405, "method_not_allowed", f"{route.path} takes GET and HEAD")
    if access == "metrics" and route.access != "metrics":
        raise RequestError(403, "metrics_only", "this listener has access metrics")
    return route
