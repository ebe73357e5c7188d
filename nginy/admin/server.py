"""AdminServer: takes requests to their answers, a slice of work in a turn.

There is one for the process, and a `Door` for each of its listeners. The answers that take more
than one slice stand in a queue, and each turn does one slice of the first of them; then the next
one is first. So two answers share what one would take, and `/healthz`, which takes no slice at all,
waits for neither. What is asked for by `Loop.soon` runs in step 6 of a turn, after all handlers of
the data path.

nginx: none; HAProxy's applets yield as well (`applet_fl_test` in `src/applet.c`).
"""

import logging
from collections import deque
from functools import partial
from typing import Final

from nginy.admin.answer import Answer, Slices, refusal
from nginy.admin.client import AdminClient
from nginy.admin.guard import DoorSettings, TokenBrake, check, may_connect
from nginy.admin.routes import find
from nginy.admin.subject import Subject
from nginy.event.connection import Connection
from nginy.event.loop import Loop
from nginy.log.limit import RateLimited, similar
from nginy.text.address import Address
from nginy.wire.request import Request, RequestError

logger = logging.getLogger("nginy.admin")

CLIENTS_MAX: Final = 16
"""Of one listener. So many more may be told that there are too many; others are closed at once."""
HELD_MAX_BYTES: Final = 8 << 20
"""Of all answers that wait for their clients."""
REPORT_MS: Final = 10_000
"""How often wrong tokens are logged."""


class AdminServer:
    """Makes answers. Created by `process/admin.py`, one for its loop."""

    def __init__(self, loop: Loop, subject: Subject) -> None:
        self.loop = loop
        self.subject = subject
        self.held_bytes = 0
        self.limited = RateLimited(REPORT_MS)
        self._queue: deque[tuple[AdminClient, Slices[Answer]]] = deque()
        self._current: AdminClient | None = None

    def begin(self, client: AdminClient, request: Request, access: str) -> None:
        """Answer a request that may be answered, now or in the next turns; raises RequestError."""
        made = find(request, access).make(self.subject, request)
        if isinstance(made, Answer):
            client.answer(made)
            return
        if self.held_bytes >= HELD_MAX_BYTES:
            text = "too much waits for slow readers, try again in 1s"
            raise RequestError(503, "answers_held", text)
        crew = self.subject.crew
        if crew is None:
            self._enqueue(client, made)
        else:
            crew.ask(partial(self._enqueue, client, made))

    def _enqueue(self, client: AdminClient, slices: Slices[Answer]) -> None:
        self._queue.append((client, slices))
        self.loop.soon(self._work, self)

    def _work(self) -> None:
        """Do one slice."""
        if not self._queue:
            return
        client, slices = self._queue.popleft()
        self._current = client
        if client.is_open:
            try:
                next(slices)
            except StopIteration as end:
                client.answer(end.value)
            except RequestError as error:
                client.answer(refusal(error))
            else:
                self._queue.append((client, slices))
        self._current = None
        if self._queue:
            self.loop.soon(self._work, self)

    def abort(self) -> None:
        """End the client whose answer has a bug, and go on with the others."""
        client, self._current = self._current, None
        if client is not None:
            client.abort()
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
            check(request, self.settings, self._address, self._brake, now_ms)
            self._server.begin(client, request, self.settings.access)
        except RequestError as error:
            if error.code == "token_wrong":
                self._tell_failure(now_ms)
            client.answer(refusal(error))

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
