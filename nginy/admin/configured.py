"""What is configured: the answers of `/config`, of `/explain` and of a reload's dry run.

The subject's `Configuration` knows it. The package `process` provides that object, since it may
import `config`.

Tested in tests/run/test_admin_config.py.
"""

import re
from typing import Final

from nginy.admin.answer import JSON, TEXT, Answer, Facts, Slices
from nginy.admin.asked import Asked, bad, check_names, json_answer
from nginy.admin.facts.backends import BACKENDS, LIMIT
from nginy.admin.facts.source import known
from nginy.admin.subject import Configuration, Subject
from nginy.wire.request import RequestError

PLACED: Final = re.compile(r"(.+?):(\d+):(\d+): (.*)", re.DOTALL)
"""A problem in a file, as all of nginy prints it."""
FIRST: Final = ("sni", "alpn", "starts", "is_tls")
"""What a client may send first, as for `nginy explain`."""


def config(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the configuration that runs."""
    running = configuration(subject)
    if asked.word("format", ("yaml", "json")) == "json":
        text = yield from running.to_json()
        return Answer(200, text.encode(), JSON)
    text = yield from running.to_yaml()
    return Answer(200, text.encode("utf-8", "backslashreplace"), TEXT)


def config_file(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer where the configuration is from, and whether its file has changed since."""
    found = configuration(subject).file()
    return (yield from json_answer(asked, {**subject.stamp(), **found}))


def explain(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer which way a client would go now."""
    query = asked.request.query
    check_names(query, ("listener", "client", *FIRST), "unknown_parameter")
    if "listener" not in query or "client" not in query:
        raise bad("expected listener= and client=, as in listener=web&client=10.1.2.3")
    running, listings = configuration(subject), subject.book.listings()
    words = [query["listener"], query["client"]]
    words += [f"{name}={query[name]}" for name in FIRST if name in query]
    is_reader = asked.access != "full"
    rows: dict[str, list[Facts]] = {}

    def rows_of(upstream: str) -> list[Facts]:
        if subject.crew is None:  # this is a fork of the process that serves
            return _at_once(_all_backends(subject, upstream))
        return rows.get(upstream, [])

    found = yield from running.explain(words, rows_of, listings, is_reader=is_reader)
    if subject.crew is not None and found["upstreams"]:
        # Only the rules could tell which upstreams to ask the workers about.
        for name in found["upstreams"]:
            rows[name] = yield from _all_backends(subject, name)
        found = yield from running.explain(words, rows_of, listings, is_reader=is_reader)
    return Answer(200, found["text"].encode("utf-8", "backslashreplace"), TEXT)


def _at_once(work: Slices[list[Facts]]) -> list[Facts]:
    """Do work that waits for nobody, in one go."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            rows: list[Facts] = end.value
            return rows


def _all_backends(subject: Subject, upstream: str) -> Slices[list[Facts]]:
    rows: list[Facts] = []
    while True:
        wanted = {"upstream": upstream, "after": len(rows), "limit": LIMIT}
        facts = yield from known(subject, BACKENDS, wanted)
        rows += facts["backends"]
        if not facts["backends"] or len(rows) >= facts["matched"]:
            return [each for each in rows if not each["leaving"]]


def rehearsal(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer what a reload would do."""
    began_ms = subject.loop.clock.now_ms
    found = yield from configuration(subject).rehearse()
    is_refused = bool(found["problems"])
    told = {"dry_run": True, "result": "refused" if is_refused else "acceptable"}
    took = {"took_s": (subject.loop.clock.now_ms - began_ms) / 1000}
    problems = [problem_row(text) for text in found["problems"]]
    members = {**subject.stamp(), **told, **took, **found, "problems": problems}
    return (yield from json_answer(asked, members, 422 if is_refused else 200))


def problem_row(problem: str) -> Facts:
    """Return a problem with its place, if it has one, as members."""
    found = PLACED.fullmatch(problem)
    if found is None:
        return {"file": None, "line": None, "column": None, "text": problem}
    file, line, column, text = found.groups()
    return {"file": file, "line": int(line), "column": int(column), "text": text}


def configuration(subject: Subject) -> Configuration:
    """Return what knows the configuration; raises RequestError before there is one."""
    if subject.configuration is None:
        raise RequestError(503, "starting", "nginy has no configuration yet")
    return subject.configuration
