"""What the system lets this process do: which user it runs as, and how many files it may open.

Root binds the listeners, opens the logs and writes the pid file. Then `drop_privileges` makes the
process run as the configured user, for good. That user first gets the files that nginy has to
reopen or remove later.

nginx: `ngx_worker_process_init` in `ngx_process_cycle.c`.

Tested in tests/run/test_start.py.
"""

import grp
import logging
import os
import pwd
import resource
import stat
from typing import Final, Protocol

from nginy.config import schema
from nginy.config.building.tls import files_of_tls
from nginy.errors import NginyError
from nginy.event.pipe import PIPES_MAX
from nginy.log.levels import NOTICE
from nginy.process.error_logs import paths_of as error_log_paths
from nginy.process.logs import access_logs

logger = logging.getLogger("nginy.server")

SPARE_DESCRIPTORS: Final = 64 + 24 + 2 * PIPES_MAX
"""In addition to `worker_connections`: standard streams, logs, the selector, signals, listeners,
clients of the admin interface, pipes."""


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

    A process without root's rights keeps its user, with a warning.
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


def rotation_warnings(config: schema.Config) -> list[str]:
    """Return which logs the user that nginy becomes cannot open again after a rotation.

    With several workers the supervisor, which stays root, does it for them.
    """
    entry = _successor_of_root(config)
    if entry is None:
        return []
    paths = {*(log.path for log in access_logs(config)), *error_log_paths(config)}
    directories = sorted({os.path.dirname(path) for path in paths if path.startswith("/")})
    return [
        f'user "{config.user}" cannot create files in "{directory}", so the logs there cannot be'
        " reopened after a rotation: give it the directory, or rotate with copytruncate"
        for directory in directories
        if not _may_write(entry, directory)
    ] + _state_warnings(config, entry)


def _state_warnings(config: schema.Config, entry: pwd.struct_passwd) -> list[str]:
    """Return whether the user cannot replace the file of changes by operators."""
    directory = os.path.dirname(config.admin_state or "")
    if not directory or _may_write(entry, directory):
        return []
    text = f'user "{config.user}" cannot create files in "{directory}", so admin_state cannot'
    return [f"{text} be written: give it the directory, or use two workers"]


def reading_warnings(config: schema.Config) -> list[str]:
    """Return which certificates and keys the user that nginy becomes cannot read at a reload.

    With several workers the supervisor, which stays root, reads them.
    """
    entry = _successor_of_root(config)
    if entry is None:
        return []
    return [
        f'user "{config.user}" cannot read "{path}", so a reload will be refused: let it read the'
        " file, or use two workers, whose supervisor stays root"
        for path in sorted({pem.path for pem in files_of_tls(config)})
        if not _may(entry, path, stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)
    ]


def _successor_of_root(config: schema.Config) -> pwd.struct_passwd | None:
    """Return the user that the only process becomes; None if it stays what it is, or cannot
    change.
    """
    if config.user is None or config.workers != 1 or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(config.user)
    except KeyError:  # which is another problem
        return None


def _may_write(entry: pwd.struct_passwd, directory: str) -> bool:
    """Whether a user may create files in a directory, by the directory's own mode."""
    return _may(
        entry,
        directory,
        stat.S_IWUSR | stat.S_IXUSR,
        stat.S_IWGRP | stat.S_IXGRP,
        stat.S_IWOTH | stat.S_IXOTH,
    )


def _may(entry: pwd.struct_passwd, path: str, owner: int, group: int, others: int) -> bool:
    """Whether the mode of a file grants a user the bits `owner`, `group` or `others`, as fits."""
    try:
        status = os.stat(path)
    except OSError:
        return True  # which is another problem
    if status.st_uid == entry.pw_uid:
        needed = owner
    elif status.st_gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        needed = group
    else:
        needed = others
    return entry.pw_uid == 0 or status.st_mode & needed == needed


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise NginyError(f'user "{user}" does not exist') from None


def cap_descriptors(descriptors_max: int | None) -> None:
    """Keep the system from giving descriptors that the event method cannot watch; None: no limit.

    A single descriptor that is too high makes select() fail altogether, and takes the process with
    it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors_max is not None and not 0 <= soft <= descriptors_max:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, hard))


def raise_descriptor_limit(
    connections: int, descriptors_max: int | None, *, is_worker: bool = False
) -> None:
    """Allow as many descriptors as `worker_connections` may need, as far as the system and the
    event method let us. Warn of the rest; with several workers, only the supervisor warns.
    """
    wanted = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if descriptors_max is not None:
        wanted = min(wanted, descriptors_max)
    if soft not in (resource.RLIM_INFINITY, wanted) and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < connections and not is_worker:
        logger.warning(
            "%d worker_connections exceed the limit of %d open files%s",
            connections,
            wanted,
            " (a limit of the event_method)" if wanted == descriptors_max else "",
        )
