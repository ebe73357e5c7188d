"""poll() for more descriptors than the process may have at the moment.

poll(2) fails with EINVAL if it is given more descriptors than RLIMIT_NOFILE allows. An operator may
lower that limit below what is open already (prlimit(1)); then every call would fail, and end the
loop. The selector here asks about the descriptors in portions until there are few enough again.
"""

import errno
import resource
import select
import selectors
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Final

PORTION_WAIT_MS: Final = 20
"""How long to wait for one portion, which delays the others by as much."""


class PollSelector(selectors.PollSelector):
    """The standard library's, with a way out when poll() takes no more."""

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait at most `timeout` seconds (None: for ever); return what is ready."""
        try:
            return super().select(timeout)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        portion, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        keys = list(self.get_map().values())
        portions = [keys[at : at + portion] for at in range(0, len(keys), max(portion, 1))]
        ready = [each for part in portions for each in self._ready(part, 0)]
        if ready or timeout == 0:
            return ready
        return [each for part in portions for each in self._ready(part, PORTION_WAIT_MS)]

    @staticmethod
    def _ready(keys: list[SelectorKey], wait_ms: int) -> list[tuple[SelectorKey, int]]:
        poll = select.poll()
        for key in keys:
            read = select.POLLIN if key.events & EVENT_READ else 0
            poll.register(key.fd, read | (select.POLLOUT if key.events & EVENT_WRITE else 0))
        by_fd = {key.fd: key for key in keys}
        found = []
        for fd, mask in poll.poll(wait_ms):
            # As the standard library has it: errors and hang-ups are both.
            events = (EVENT_READ if mask & ~select.POLLOUT else 0) | (
                EVENT_WRITE if mask & ~select.POLLIN else 0
            )
            found.append((by_fd[fd], events & by_fd[fd].events))
        return found
