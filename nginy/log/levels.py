"""The names of levels: nginx's, of which logging lacks two.

A leaf that every module may import. `error_log` decides where lines go; `limit` keeps a repeating
message from filling the log.

Source: nginx ngx_log.h, the levels from NGX_LOG_EMERG to NGX_LOG_DEBUG.
"""

from __future__ import annotations

import logging
from typing import Final

NOTICE: Final = 25
"""Between info and warn: events that an operator wants to see on a normal day."""

EMERG: Final = 60
"""Above crit: nginy cannot start or go on."""

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": NOTICE,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "crit": logging.CRITICAL,
    "emerg": EMERG,
}
"""nginx's level names, as in the configuration and in each line, to logging's numbers."""


def level_name(level: int) -> str:
    """Return the name of `level`, or of the next lower level that has one."""
    name = "debug"
    for candidate, number in LEVELS.items():
        if number <= level:
            name = candidate
    return name
