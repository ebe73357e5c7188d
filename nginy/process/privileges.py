"""What the system lets this process do: whose it is, and how many files it may open.

Root binds the listeners, opens the logs and writes the pid file; then `drop_privileges` makes the
process the user's that the configuration names, for good. Files that have to be reopened or removed
later are given to that user first.

nginx: `ngx_worker_process_init` in `ngx_process_cycle.c`.
"""

import grp
import logging
import os
import pwd
import resource
from typing import Final, Protocol

from nginy.errors import NginyError
from nginy.event.pipe import PIPES_MAX
from nginy.log.levels import NOTICE

logger = logging.getLogger("nginy.server")

SPARE_DESCRIPTORS: Final = 64 + 2 * PIPES_MAX
"""Beside `worker_connections`: standard streams, logs, the selector, signals, listeners, pipes."""


class Belonging(Protocol):
    """Files of this process."""

    def give_to(self, uid: int, gid: int) -> None:
        """Make the files the property of a user."""


def give_away(user: str | None, *belongings: Belonging | None) -> None:
    """Give `belongings` to the user that workers become; raises NginyError if there is none."""
    if user is None or os.geteuid() != 0:
        return
    entry = _entry(user)
    for each in belongings:
        if each is not None:
            each.give_to(entry.pw_uid, entry.pw_gid)


def drop_privileges(user: str | None) -> None:
    """Go on as `user`; raises NginyError if there is no such user.

    Without root's rights a process stays whose it is, with a warning.
    """
    if user is None:
        return
    if os.geteuid() != 0:
        logger.warning('"user" has no effect: nginy was not started by root')
        return
    entry = _entry(user)
    group = grp.getgrgid(entry.pw_gid).gr_name
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    logger.log(NOTICE, "running as user %s, group %s", user, group)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise NginyError(f'user "{user}" does not exist') from None


def cap_descriptors(descriptors_max: int | None) -> None:
    """Have the system give no descriptor that the event method cannot watch; None: it has no limit.

    select() fails as a whole if it is given one too high, and takes the process with it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors_max is not None and not 0 <= soft <= descriptors_max:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, hard))


def raise_descriptor_limit(connections: int, descriptors_max: int | None) -> None:
    """Allow as many descriptors as `worker_connections` may need, as far as the system and the
    event method let us."""
    wanted = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if descriptors_max is not None:
        wanted = min(wanted, descriptors_max)
    if soft not in (resource.RLIM_INFINITY, wanted) and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < connections:
        logger.warning(
            "%d worker_connections exceed the limit of %d open files%s",
            connections,
            wanted,
            " (a limit of the event_method)" if wanted == descriptors_max else "",
        )
