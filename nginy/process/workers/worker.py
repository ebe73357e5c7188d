"""Worker: one of several, a server whose supervisor tells it what to serve.

A worker binds nothing and reads no file. It gets its sockets and its configuration from the
supervisor, the first ones by inheriting them at the fork, later ones through its `Channel`, and it
has its own loop, its own logs and its own sessions.

A reload is a vote (two-phase commit). At `reload` the worker opens what it needs, and answers
`ready` or `refused`; then comes `commit`, which it answers with `done`, or `abort`. So either all
workers change, or none.

| from the supervisor | | from the worker | |
|---|---|---|---|
| sockets, with descriptors | what to listen on next | serving | the start has succeeded |
| reload N, with a descriptor | a configuration (parcel) | ready N, refused N TEXT | can, cannot |
| commit N, abort N | do it, or forget it | done N | it is done |
| ping | are you there? | pong | yes |
| lead | ask the backends, for all | found TEXT | what checks have found |
| found TEXT | what another one's checks have found | | |
| recite | tell all findings again | | |
| reopen N | open your logs again | reopened N TEXT | which could not be opened |
| report N, with a descriptor | answer the question there, or do it | reported N | it is written |
| | | event TEXT | what has happened to a backend |
| | | totals TEXT | what has been counted since the last time |
| succeeded | QUIT; a successor has the sockets | draining N | N sessions are left |
| give, with a descriptor | hand over to a new program | gave TALLY | how many have moved |
| keep | hand over no more | | |
| retire | end with what has not moved | | |
| take | all serve: take over from the old program | | |

If the supervisor is gone, the worker ends at once: the next nginy needs the addresses.

nginx: `ngx_worker_process_cycle`, `ngx_channel_handler`. Read next: `supervisor.py`.

Tested in tests/run/test_workers.py and tests/process/workers/test_worker.py.
"""

import io
import json
import logging
import os
import signal
import socket
from _socket import socket as c_socket
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from nginy.admin.changes.book import Book
from nginy.admin.subject import Subject
from nginy.backend.checks.news import BackendEvent
from nginy.backend.shared import WorkerCounts
from nginy.config import schema
from nginy.config.parcel import read_parcel, write_parcel
from nginy.errors import NginyError
from nginy.event.child import reap_children
from nginy.event.signals import SignalReceiver
from nginy.log.levels import NOTICE
from nginy.process.admin import serves
from nginy.process.collector import pause_collector, resume_collector
from nginy.process.gradual import Gradual, Steps
from nginy.process.inherited import adopt
from nginy.process.privileges import drop_privileges
from nginy.process.server import Prepared, Server
from nginy.process.takeover.estate import Estate
from nginy.process.takeover.giving import Giver
from nginy.process.takeover.taking import Takers
from nginy.process.takeover.tally import Moved
from nginy.process.workers.channel import DESCRIPTORS_MAX, Channel
from nginy.process.workers.reports import Reporter
from nginy.process.workers.totals import Teller

logger = logging.getLogger("nginy.server")


WORKER_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
"""The signals that a worker obeys; the supervisor sends them."""


class Ends(NamedTuple):
    """The sockets that a worker has from its fork on."""

    channel: socket.socket
    """Orders come from here."""
    sockets: Sequence[c_socket]
    """What to listen on."""
    lanes: Sequence[socket.socket]
    """Sessions come from here, from the workers that this one takes over from."""


class Worker:
    """A server, and the channel that it takes orders from. Created and run by `serve`."""

    def __init__(
        self,
        config: schema.Config,
        ends: "Ends",
        counts: WorkerCounts,
        is_leading: bool,
    ) -> None:
        """Open nothing but the loop; `ends` are of the supervisor, who has forked this process."""
        self.server = Server(config.event_method, counts)
        self.server.services.inherited.add(ends.sockets)
        self._prepared: Prepared | None = None
        self._reload = Gradual(self.server.loop, self)
        self._is_committing = False
        self._is_ending = self._is_retired = False
        loop = self.server.loop
        self._estate = Estate(self.server)
        self._giver: Giver | None = None
        self._takers = Takers(self._estate)
        self._takers.begin(ends.lanes)
        self.server.before_serving = self._takers.await_known
        signals = (*WORKER_SIGNALS, signal.SIGCHLD)
        self._signals = SignalReceiver(loop, signals, self._signal_received)
        self.channel = Channel(
            loop, ends.channel, self._receive_order, self._supervisor_gone, DESCRIPTORS_MAX
        )
        subject = Subject(loop, pid=os.getpid(), worker=str(counts.worker))
        serves(subject, self.server)
        subject.ring.attach()
        self._ring = subject.ring
        self.server.pools.listener = self._tell_event
        self._reporter = Reporter(subject, self.channel.send)
        self._teller = Teller(subject, self.channel)
        self._relay = self.server.pools.relay
        self._relay.lead(is_leading)
        self._relay.send = partial(self.channel.send, "found")

    def run(self, config: schema.Config) -> None:
        """Serve as `config` says until the end; raises NginyError if it cannot begin."""
        self.server.apply(config)
        self.server.run(self._started)

    def _started(self) -> None:
        drop_privileges(self.server.config.user)
        self.server.services.inherited.warn_and_close()
        self.channel.send("serving")

    def close(self) -> None:
        """End every session with KD and close everything."""
        self._ring.detach()
        self._reporter.close()
        self._reload.close()
        self._takers.close()
        if self._giver is not None:
            self._giver.close()
        self._teller.ends()
        self.server.services.close()
        self._teller.close()
        self.channel.close()
        self._signals.close()
        logger.log(NOTICE, "exit")
        self.server.close()

    def _tell_event(self, event: BackendEvent) -> None:
        self.channel.send("event", json.dumps(event.to_json()))

    def _signal_received(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            reap_children(self.server.loop)
            return
        logger.log(NOTICE, "signal %d (%s) received", number, number.name)
        if number == signal.SIGUSR1:
            self.server.logs.reopen()
        elif number == signal.SIGQUIT:
            self._quit(has_successor=False)
        else:
            self._end_reload()
            self.server.stop()

    def _quit(self, *, has_successor: bool) -> None:
        if (self.server.services or self._is_retired) and not self._is_ending:
            self._is_ending = True
            self._teller.ends()
            self._end_reload()
            status = self.server.quit(has_successor=has_successor)
            logger.log(NOTICE, "%s", status)
            self.channel.send("draining", str(self.server.sessions))
        else:
            self.server.stop()

    # Orders.

    def _receive_order(self, word: str, number: str, fds: list[int]) -> None:
        if word in ("ping", "lead", "recite", "found", "reopen"):
            self._answer(word, number)
        elif word == "succeeded":
            self._quit(has_successor=True)
        elif word in ("give", "keep", "retire", "take"):
            self._move(word, fds)
        elif word == "sockets":
            self.server.services.inherited.add(adopt(fds))
        elif word == "report":
            self._reporter.begin(number, fds)
        elif word == "reload":
            self._reload.start(self._prepare(number, fds))
        elif word == "commit" and self._prepared is not None:
            self._reload.start(self._commit(number, self._prepared))
        elif word == "abort":
            self._reload.close()
            if self._prepared is not None:
                self.server.undo(self._prepared)
            self._forget()

    def _answer(self, word: str, text: str) -> None:
        """Obey an order that leaves the services as they are."""
        if word == "ping":
            self.channel.send("pong")
            self._teller.pinged()
        elif word == "lead":
            self._relay.lead(True)
        elif word == "recite":
            self._relay.recite()
        elif word == "reopen":
            problems = "\n".join(self.server.logs.reopen())
            self.channel.send("reopened", f"{text} {problems}")
        else:
            self._relay.receive(text)

    def _move(self, word: str, fds: list[int]) -> None:
        """Obey an order about sessions that move to another process, or to this one."""
        if word == "give" and fds:
            lane = socket.socket(fileno=fds[0])
            try:
                self._giver = Giver(self._estate, lane, self._gave)
            except OSError as error:
                lane.close()
                self._gave(Moved(is_final=True, problem=f"no lane: {error.strerror}"))
        elif word == "give":
            self._gave(Moved(is_final=True, problem="no lane: out of descriptors"))
        elif word == "keep" and self._giver is not None:
            self._giver.take_back()
        elif word == "take":
            self._takers.ready()
        elif word == "retire":
            self._is_retired = True
            self._teller.ends()
            self._end_reload()
            logger.log(NOTICE, "%s", self.server.retire())
            self.channel.send("draining", str(self.server.sessions))

    def _gave(self, tally: Moved) -> None:
        self.channel.send("gave", tally.to_json())

    def _prepare(self, number: str, fds: list[int]) -> Steps[None]:
        pause_collector()
        try:
            config = yield from read_config(fds)
            self._prepared = yield from self.server.prepare(config)
        except NginyError as error:
            self.server.services.inherited.close()
            resume_collector()
            self.channel.send("refused", f"{number} {error}")
        else:
            self.channel.send("ready", number)

    def _commit(self, number: str, prepared: Prepared) -> Steps[None]:
        self._is_committing = True
        yield from self.server.commit(prepared)
        self._is_committing = False
        self._forget()
        self.channel.send("done", number)

    def _end_reload(self) -> None:
        """Leave a reload that is under way, or finish it now if it is too late for that."""
        if self._is_committing:
            self._reload.finish()
        self._reload.close()

    def abort(self) -> None:
        """End after a bug in a reload: the supervisor starts a worker with what was decided."""
        self.server.stop()

    def _forget(self) -> None:
        self._prepared = None
        # Whatever is left is a second copy of a UDP socket, not closed yet.
        self.server.services.inherited.close()
        resume_collector()

    def _supervisor_gone(self) -> None:
        logger.critical("the supervisor is gone, so this worker ends")
        self.server.stop()


def serve(
    config: schema.Config, ends: Ends, counts: WorkerCounts, is_leading: bool, book: Book
) -> int:
    """Be a worker until the end, and return the exit status; the changes in `book` hold from the
    first client on.
    """
    worker = Worker(config, ends, counts, is_leading)
    try:
        worker.server.pools.override(book.overrides(), book.listings())
        worker.run(config)
    except NginyError as error:
        worker.channel.send("refused", f"0 {error}")
        return 1
    finally:
        worker.close()
    return 0


def write_config(config: schema.Config) -> int:
    """Return a descriptor of a nameless file with the configuration; raises OSError.

    The worker may be unable to read the files it comes from.
    """
    fd = os.memfd_create("nginy-config")
    with open(fd, "wb", closefd=False) as file:
        write_parcel(config, file)
    return fd


def read_config(fds: Sequence[int]) -> Steps[schema.Config]:
    """Return what `write_config` has written, and close the descriptor; raises NginyError."""
    if len(fds) != 1:
        raise NginyError("out of descriptors")
    with open(fds[0], "rb"):
        # Not file.read(): all workers share one position in the file.
        data = os.pread(fds[0], os.fstat(fds[0]).st_size, 0)
    return (yield from read_parcel(io.BytesIO(data)))
