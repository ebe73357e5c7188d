"""Routes: which method on which path gets which answer.

A route is a method, a path, a sentence and a function that makes the answer of a request, at once
or in slices. A segment in capital letters stands for a name. To add an endpoint, add a line to
`ROUTES`; the functions are in `reading.py` and `changes/changing.py`.

Tested in tests/admin/test_server_live.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nginy.admin import configured, lines, looking, reading, watching
from nginy.admin.answer import Answer, Slices
from nginy.admin.asked import Asked, check_names, closest, json_answer
from nginy.admin.changes import adding, changing, zeroing
from nginy.admin.loop import page as loop_page
from nginy.admin.loop import tracing
from nginy.admin.loop import view as loop_view
from nginy.admin.metrics.scraping import metrics
from nginy.admin.page import front
from nginy.admin.subject import Subject
from nginy.wire.request import Request, RequestError

API: Final = "/api/v1/"

Make: TypeAlias = Callable[[Subject, Asked], Answer | Slices[Answer]]


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """An endpoint."""

    method: str
    path: str
    about: str
    make: Make
    access: str = "read"
    """What a listener must let its clients do: metrics, read or full."""


def _index(subject: Subject, asked: Asked) -> Slices[Answer]:
    endpoints = [{"method": r.method, "path": r.path, "about": r.about} for r in ROUTES]
    return json_answer(asked, {**subject.stamp(), "endpoints": endpoints})


def _root(subject: Subject, asked: Asked) -> Slices[Answer]:
    return (front.page if front.wants_page(asked) else _index)(subject, asked)


def _get(path: str, about: str, make: Make, access: str = "read") -> AdminRoute:
    return AdminRoute("GET", path, about, make, access)


ONE: Final = f"{API}upstreams/U/backends/B"

ROUTES: Final = (
    _get(
        "/healthz",
        "ok as long as the loop turns; worker=all asks all workers",
        reading.healthz,
        "metrics",
    ),
    _get(
        "/readyz",
        "whether clients should come; upstream= and min= ask about one upstream",
        reading.readyz,
        "metrics",
    ),
    _get(
        f"{API}overview",
        "what is served, by which backends, and whether all is well",
        reading.overview_answer,
    ),
    _get("/metrics", "for Prometheus; scope= and upstream= choose", metrics, "metrics"),
    _get(f"{API}listeners", "every listener, with its counts", reading.listeners),
    _get(f"{API}listeners/L", "one of them", reading.listeners),
    _get(
        f"{API}drops",
        "what listeners have refused, by reason, and when first and last",
        reading.drops,
    ),
    _get(f"{API}upstreams", "every upstream, with its counts", reading.upstreams),
    _get(f"{API}upstreams/U", "one of them", reading.upstreams),
    _get(
        f"{API}upstreams/U/backends",
        "its backends; state=, usable=, name= and match= choose, after= and limit= page",
        reading.backends,
    ),
    _get(f"{API}backends", "those of all upstreams, chosen and paged alike", reading.backends),
    _get(ONE, "one of them; wait=idle or wait=usable, with timeout=, waits", reading.backend),
    _get(f"{ONE}/health", "what each cause says, the last checks and changes", reading.health),
    _get(
        f"{API}sessions",
        "sessions; listener=, client=, state= and more choose, after= pages, top= and by= sort",
        looking.sessions,
    ),
    _get(f"{API}sessions/ID", "one of them, with its attempts and timers", looking.session),
    AdminRoute("DELETE", f"{API}sessions/ID", "end it; ?reset", looking.kill_one, "full"),
    AdminRoute("POST", f"{API}sessions/kill", "end those of a filter", looking.kill, "full"),
    _get(f"{API}events", "what has happened; after= a number, wait= for more", watching.events),
    _get(f"{API}changes", "what operators have set; format=yaml for the file", reading.changes),
    _get(f"{API}log", "the last lines of the error log; level=, last=", lines.log),
    AdminRoute(
        "PATCH", f"{API}log", "another level for a while; level, for", lines.set_level, "full"
    ),
    _get(f"{API}config", "the running configuration; format=json", configured.config),
    _get(f"{API}config/file", "its file, and whether it has changed since", configured.config_file),
    _get(
        f"{API}explain",
        "which way a client would go now; listener= and client=",
        configured.explain,
    ),
    _get(f"{API}reload", "the outcome of the last reload", reading.last_reload),
    AdminRoute(
        "PATCH",
        f"{API}upstreams/U/backends",
        "set values of all addresses of name=",
        changing.backend,
        "full",
    ),
    AdminRoute(
        "PATCH",
        ONE,
        "set state, weight or max_conns, with reason and for",
        changing.backend,
        "full",
    ),
    AdminRoute(
        "POST",
        f"{API}upstreams/U/backends",
        "add a backend, with keys as in the file",
        adding.add,
        "full",
    ),
    AdminRoute("DELETE", ONE, "remove it; sessions=close ends its sessions", adding.remove, "full"),
    AdminRoute("DELETE", f"{API}changes", "undo what operators have set", changing.undo, "full"),
    AdminRoute("DELETE", f"{API}changes/N", "undo one change", changing.undo, "full"),
    _get(
        f"{API}loop",
        "the last turns of the event loop; turns=, after= and worker=",
        loop_view.loop_answer,
    ),
    AdminRoute(
        "POST",
        f"{API}trace",
        "record all turns of the loop; for=, max_events= and anonymous",
        tracing.begin,
        "full",
    ),
    _get(f"{API}trace/ID", "the trace, when it is complete, for Perfetto", tracing.trace),
    AdminRoute(
        "POST", f"{API}reload", "read the configuration again; dry_run", changing.reload, "full"
    ),
    AdminRoute("POST", f"{API}counters/reset", "count from now on", zeroing.reset, "full"),
    AdminRoute("POST", f"{API}reopen", "open the logs again", changing.reopen, "full"),
    AdminRoute("POST", f"{API}quit", "end when sessions have ended", changing.quit_, "full"),
    AdminRoute("POST", f"{API}stop", "end at once", changing.stop, "full"),
    _get(API, "this list", _index),
    _get("/", "the page, for browsers; else this list", _root),
    _get("/page.css", "its style", front.style),
    _get("/page.js", "its script", front.script),
    _get("/loop", "the event loop as a picture", loop_page.page),
    _get("/loop.css", "its style", loop_page.style),
    _get("/loop.js", "its script", loop_page.script),
)

CHANGE_PARAMETERS: Final = ("name", "sessions", "reset", "fields", "pretty")
"""Parameters of the routes that change something."""

SEGMENTS: Final = [(tuple(route.path[1:].split("/")), route) for route in ROUTES]


LOCKED: Final = frozenset(
    {("",), ("page.css",), ("page.js",), ("loop",), ("loop.css",), ("loop.js",)}
)
"""Paths that a browser may ask for without the token: they show nothing until it has one."""


def find(request: Request, access: str) -> tuple[AdminRoute, dict[str, str]]:
    """Return the route of a request, and the names in its path; raises RequestError."""
    found = [
        (route, names)
        for segments, route in SEGMENTS
        if (names := _match(segments, request.path)) is not None
    ]
    if not found:
        meant = closest("/" + "/".join(request.path), [route.path for route in ROUTES])
        hint = f"did you mean {meant}?" if meant else f"{API} lists what there is"
        raise RequestError(404, "not_found", "there is nothing here", hint)
    method = "GET" if request.method == "HEAD" else request.method
    for route, names in found:
        if route.method == method:
            if access == "metrics" and route.access != "metrics":
                raise RequestError(403, "metrics_only", "this listener has access metrics")
            if route.access == "full":
                # Of what changes something, each word counts: `?session=close` would keep them.
                check_names(request.query, CHANGE_PARAMETERS, "unknown_parameter")
            return route, names
    methods = ", ".join(dict.fromkeys(route.method for route, _ in found)).replace(
        "GET", "GET, HEAD"
    )
    text = f"{found[0][0].path} takes {methods}"
    raise RequestError(405, "method_not_allowed", text, allowed=methods)


def _match(segments: tuple[str, ...], path: tuple[str, ...]) -> dict[str, str] | None:
    """Return the names that a path has in place of capital letters; None if it does not fit."""
    if len(segments) != len(path):
        return None
    names = {}
    for wanted, given in zip(segments, path, strict=True):
        if wanted.isupper():
            names[wanted] = given
        elif wanted != given:
            return None
    return names
