"""SingleProcess: nginy with one worker, a `Server` and the `Control` in front of it.

This is all there is with `workers: 1`; `workers/supervisor.py` takes its place with more.

nginx: `ngx_single_process_cycle` in `ngx_process_cycle.c`.

Tested in tests/run/test_reload.py.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence

from nginy.admin.facts.totals import tell_all
from nginy.config import schema
from nginy.config.dump import dump
from nginy.errors import NginyError
from nginy.event.listener import Listener
from nginy.log.levels import NOTICE
from nginy.process.admin import AdminSet, serves
from nginy.process.control import Control
from nginy.process.gradual import Gradual, Steps, at_once
from nginy.process.privileges import drop_privileges, give_away
from nginy.process.report import ReloadOutcome
from nginy.process.server import Server, ends_in_ms
from nginy.process.takeover.estate import Estate
from nginy.process.takeover.giving import Giver
from nginy.process.takeover.link import link_pair
from nginy.process.takeover.taking import Takers
from nginy.process.takeover.tally import Moved

logger = logging.getLogger("nginy.server")


class SingleProcess:
    """One process that serves and obeys a control. Created and run by `run`."""

    def __init__(self, path: str, environ: Mapping[str, str], event_method: str = "auto") -> None:
        """Open nothing but the loop; `path` is the configuration file that a reload reads."""
        self.server = Server(event_method)
        self.control = Control(self.server.loop, self, path, environ)
        self.admin = AdminSet(self.server.loop, path)
        serves(self.admin.subject, self.server)
        self.admin.controlled_by(self.control)
        self.server.pools.listener = self.admin.note
        self._text = ""
        self._estate = Estate(self.server)
        self._takers = Takers(self._estate)
        self._giver: Giver | None = None
        self._reload = Gradual(self.server.loop, self)
        self._is_committing = False
        """Whether it is too late to call off the reload that is under way."""

    def start(self, config: schema.Config) -> None:
        """Begin to listen as `config` says, or raise NginyError."""
        self._takers.begin(self.control.predecessor.await_lanes())
        self.admin.changes.succeed(self.control.predecessor)
        self.admin.subject.gone.add(self.control.predecessor.totals)
        self.server.before_serving = self._takers.await_known
        prepared = at_once(self.server.prepare(config))
        # This comes before the wait for backends' names: meanwhile the interface reports that nginy
        # is starting.
        self.admin.commit(self.admin.prepare(config, self.server.services.inherited))
        at_once(self.server.commit(prepared))
        self._text = dump(config) if config.pid is not None else ""

    def run(self) -> None:
        """Serve until a signal says to stop; NginyError: the pid file cannot be written."""
        if not self.control.is_ending:
            self.server.run(self._started)

    def _started(self) -> None:
        server = self.server
        self.control.open_pid_file(server.config, self._text)
        give_away(server.config.user, server.logs, server.services, self.control, self.admin)
        drop_privileges(server.config.user)
        server.services.inherited.warn_and_close()
        self.admin.serving()
        self.control.ready(workers=1)
        self._takers.ready()

    # What the control asks for.

    def listeners(self) -> Sequence[Listener]:
        """Return the listeners of clients, and those of the admin interface."""
        return [*self.server.services.listeners(), *self.admin.listeners()]

    def change_to(self, config: schema.Config, text: str) -> None:
        """Begin to go over to `config`, or report what is wrong and go on as before."""
        self._reload.start(self._change_to(config, text))

    def _change_to(self, config: schema.Config, text: str) -> Steps[None]:
        server, admin = self.server, self.admin
        try:
            with contextlib.ExitStack() as undo:
                prepared = yield from server.prepare(config)
                undo.callback(server.undo, prepared)
                doors = admin.prepare(config, server.services.inherited)
                undo.callback(admin.undo, doors)
                self.control.prepare(config, text)
                undo.pop_all()
        except NginyError as error:
            self.control.refused(*str(error).splitlines())
            return
        self._is_committing = True
        yield
        yield from server.commit(prepared)
        yield
        admin.commit(doors)
        self.control.commit(text)
        self._is_committing = False
        self.control.reloaded(config)

    def _end_reload(self) -> None:
        """Call off a reload that is under way, or finish it now if it is too late for that."""
        if self._is_committing:
            self._reload.finish()
        self._reload.close()

    def abort(self) -> None:
        """Go on after a bug in a reload, or without the memory for it."""
        self._is_committing = False
        self.control.refused(
            "the reload failed, as the line before says; some of it may be in effect"
        )

    def reopen_logs(self) -> None:
        """Open all logs anew."""
        self.control.reopened(self.server.logs.reopen())

    def quit(self, *, has_successor: bool) -> str:
        """Begin to end gracefully, and return what that waits for."""
        self._end_reload()
        status = self.server.quit(has_successor=has_successor)
        ends_ms = ends_in_ms(self.server.config)
        self.admin.draining(status, ends_ms, has_successor=has_successor)
        return status

    def keep(self) -> None:
        """Write down what operators have set, for a successor."""
        self.admin.changes.keep()

    def give(self, report: Callable[[Moved], None]) -> Sequence[socket.socket]:
        """Begin to hand over all that this process has, on one lane; raises OSError."""
        ours, theirs = link_pair()
        try:
            self._giver = Giver(self._estate, ours, report)
        except OSError:
            ours.close()
            theirs.close()
            raise
        return [theirs]

    def take_back(self) -> None:
        """Keep what is not handed over, and accept clients again."""
        if self._giver is not None:
            self._giver.take_back()

    def book(self) -> bytes:
        """Return what operators have set, for a successor."""
        return self.admin.changes.book()

    def totals(self) -> Iterator[str]:
        """Yield what dead workers have counted, for a successor."""
        return tell_all(self.admin.subject.gone)

    def retire(self) -> None:
        """Take no new clients, and end with the last session."""
        self._end_reload()
        status = self.server.retire()
        logger.log(NOTICE, "%s", status)
        self.admin.draining(status, None, has_successor=True)

    def reload_ended(self, outcome: ReloadOutcome) -> None:
        """Tell the admin interface the outcome of a reload."""
        self.admin.reload_ended(outcome)

    def stop(self) -> None:
        """End after this turn."""
        self._end_reload()
        self.server.stop()

    def close(self) -> None:
        """End every session with KD and close everything."""
        self._reload.close()
        self._takers.close()
        if self._giver is not None:
            self._giver.close()
        self.server.services.close()
        self.admin.close()
        self.control.close()
        self.server.close()


def run(config: schema.Config, path: str) -> int:
    """Serve as `config`, which was read from `path`, says; return the exit status.

    Raises NginyError if it cannot begin.
    """
    process = SingleProcess(path, os.environ, config.event_method)
    try:
        process.control.listen(os.environ, process.server.services.inherited)
        process.start(config)
        process.run()
    except NginyError as error:
        process.control.predecessor.failed(str(error).splitlines())
        raise
    finally:
        process.close()
    return 0
