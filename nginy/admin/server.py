"""AdminServer: makes the answers to requests, one slice of work in a turn.

There is one for the process, and a `Door` for each of its listeners. Answers that take more than
one slice wait in a queue. Each turn does one slice of the first one, which then goes to the end. So
two answers take turns, and `/healthz`, which takes no slice at all, waits for neither. Calls by
`Loop.soon` run in step 6 of a turn, after all handlers of the data path.

An answer that waits for workers, or for something to happen, leaves the queue meanwhile: its job
has a timer, or the crew calls when the workers have answered.

nginx: none; HAProxy's applets yield as well (`applet_fl_test` in `src/applet.c`).
"""

import logging
import time
from collections import deque
from dataclasses import replace
from typing import Final

from nginy.admin.answer import Answer, Chunk, Pause, Poll, Replies, Slices, refusal
from nginy.admin.asked import Asked
from nginy.admin.client import AdminClient
from nginy.admin.guard import DoorSettings, TokenBrake, check, may_connect
from nginy.admin.routes import LOCKED, find
from nginy.admin.subject import Subject
from nginy.event.connection import Connection
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.limit import RateLimited, similar
from nginy.text.address import Address
from nginy.wire.request import Request, RequestError

logger = logging.getLogger("nginy.admin")

CLIENTS_MAX: Final = 16
"""Clients of one listener. As many again are told that there are too many; others are closed at
once."""
HELD_MAX_BYTES: Final = 8 << 20
"""Bytes of all answers that wait for their clients. Operators, who have full access, get as much
again, and a change is answered in any case: it has been made by then."""
REPORT_MS: Final = 10_000
"""How often wrong tokens are logged."""


class Job:
    """An answer on its way."""

    __slots__ = ("_server", "_timer", "client", "replies", "slices")

    def __init__(self, server: "AdminServer", client: AdminClient, slices: Slices[Answer]) -> None:
        self._server = server
        self._timer: Timer | None = None
        self.client = client
        self.slices = slices
        self.replies: Replies | None = None
        """What it has waited for, to be sent to it."""

    def pause(self, duration_ms: int) -> None:
        """Go on after a while; its client may wait for longer than for other answers."""
        loop = self._server.loop
        if self._timer is None:
            self._timer = Timer(self._timer_handler, self)
        self.client.wait_on(duration_ms)
        loop.timers.start(self._timer, loop.clock.now_ms + duration_ms)

    def _timer_handler(self, _timer: Timer) -> None:
        self._server.enqueue(self)

    def answered(self, replies: Replies) -> None:
        """Go on with what workers have answered."""
        self.replies = replies
        self._server.enqueue(self)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "an answer that waits"

    def abort(self) -> None:
        """End, after a bug."""
        self.client.abort()


class AdminServer:
    """Makes answers. Created by `process/admin.py`, one for its loop."""

    def __init__(self, loop: Loop, subject: Subject) -> None:
        self.loop = loop
        self.subject = subject
        self.held_bytes = 0
        self.limited = RateLimited(REPORT_MS)
        self._queue: deque[Job] = deque()
        self._current: Job | None = None

    def begin(self, client: AdminClient, request: Request, access: str) -> None:
        """Answer a request that has passed the guard, now or in the next turns; raises
        RequestError.
        """
        route, names = find(request, access)
        asked = Asked(request, names, access, client.sender)
        made = route.make(self.subject, asked)
        if isinstance(made, Answer):
            client.answer(made)
            return
        held_max_bytes = 2 * HELD_MAX_BYTES if access == "full" else HELD_MAX_BYTES
        if self.held_bytes >= held_max_bytes and request.method in ("GET", "HEAD"):
            text = "too many answers wait for slow readers, try again in 1s"
            raise RequestError(503, "answers_held", text)
        self.enqueue(Job(self, client, made))

    def enqueue(self, job: Job) -> None:
        """Put an answer into the queue, for its next slice in one of the next turns."""
        self._queue.append(job)
        self.loop.soon(self._work, self)

    def _work(self) -> None:
        """Do one slice."""
        if not self._queue:
            return
        job = self._current = self._queue.popleft()
        if job.client.is_open:
            self._advance(job)
        else:
            job.slices.close()
        self._current = None
        if self._queue:
            self.loop.soon(self._work, self)

    def _advance(self, job: Job) -> None:
        replies, job.replies = job.replies, None
        began_ns = time.perf_counter_ns()
        try:
            wanted = job.slices.send(replies)
        except StopIteration as end:
            job.client.answer(end.value)
        except RequestError as error:
            job.client.answer(refusal(error))
        else:
            if isinstance(wanted, Pause):
                job.pause(wanted.duration_ms)
            elif isinstance(wanted, Poll) and self.subject.crew is not None:
                self.subject.crew.ask(wanted, job.answered)
            else:
                if isinstance(wanted, Chunk):
                    job.client.push(wanted.data)
                self._queue.append(job)
        self.subject.admin_ns += time.perf_counter_ns() - began_ns

    def abort(self) -> None:
        """End the client whose answer has a bug, and go on with the others."""
        job, self._current = self._current, None
        if job is not None:
            job.abort()
        if self._queue:
            self.loop.soon(self._work, self)


class Door:
    """One listener of the admin interface, and the clients that came through it."""

    def __init__(self, server: AdminServer, address: Address, settings: DoorSettings) -> None:
        self._server = server
        self._address = address
        self.settings = settings
        """A reload puts others here."""
        self._brake = TokenBrake()
        self._clients: set[AdminClient] = set()

    def accept_handler(self, c: Connection) -> None:
        """Take a client that was just accepted, or send it away."""
        host = c.sockaddr[0] if isinstance(c.sockaddr, tuple) else ""
        is_denied = bool(host) and not may_connect(self.settings, host)
        if is_denied or len(self._clients) >= 2 * CLIENTS_MAX:
            c.close()
            return
        client = AdminClient(self, c)
        self._clients.add(client)
        if len(self._clients) > CLIENTS_MAX:
            text = f"{CLIENTS_MAX} clients are connected already"
            client.refuse(RequestError(503, "too_many_clients", text))
        else:
            client.start()

    def requested(self, client: AdminClient, request: Request) -> None:
        """Answer a request, or refuse it."""
        now_ms = self._server.loop.clock.now_ms
        try:
            settings, access = self.settings, self.settings.access
            if self._is_locked(request):
                settings, access = replace(settings, token=b""), "locked"
            check(request, settings, self._address, self._brake, now_ms)
            self._server.begin(client, request, access)
        except RequestError as error:
            if error.code == "token_wrong":
                self._tell_failure(now_ms)
            client.answer(refusal(error))

    def _is_locked(self, request: Request) -> bool:
        """Whether to send a page without contents: a browser has no token to begin with."""
        return (
            bool(self.settings.token)
            and request.method in ("GET", "HEAD")
            and request.path in LOCKED
            and "authorization" not in request.fields
            and (request.path != ("",) or "text/html" in request.fields.get("accept", ""))
        )

    def _tell_failure(self, now_ms: int) -> None:
        suppressed = self._server.limited.admit(self._address, now_ms)
        if suppressed is not None:
            text = "wrong token for the admin interface on %s%s"
            logger.warning(text, self._address, similar(suppressed))

    def hold(self, count: int) -> None:
        """Note bytes of an answer that begin to wait; a negative count ends that."""
        self._server.held_bytes += count

    def left(self, client: AdminClient) -> None:
        """Forget a client that is closed."""
        self._clients.discard(client)

    def close(self) -> None:
        """Close all clients."""
        for client in list(self._clients):
            client.close()
